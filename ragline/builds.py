"""What one run of the pipeline was worth, wherever its files are: in a folder, a version that was served, a commit."""

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragline import io, revisions
from ragline.artifacts import ANSWERING, LOCK, METRICS, PREDICTIONS
from ragline.errors import DataError, MissingArtifact
from ragline.promotion import bundles, scores
from ragline.runtime import lock_file
from ragline.runtime.lock_file import StageLock

HEADLINE = ("recall@1", "recall@5", "mrr@10", "answer_em", "answer_f1", "declined")
"""Of the served search, and of the served answerer's answers as people get them; see `promotion.scores`."""
FILES = (METRICS, PREDICTIONS, ANSWERING)
THIS_RUN = "this run"
LOOK_BACK = 100
"""Commits among which the previous run is looked for."""

_DATA = ("data/raw", "data/gold", "data/documents.parquet", "data/passages.parquet", "data/questions/")
_CODE = ("ragline/", "stages/")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that was put to a build."""

    set: str
    question_id: str
    question: str
    cluster: str
    """Of its document."""


@dataclass(frozen=True, slots=True)
class Build:
    """One run's figures, question by question, and what it was made of."""

    label: str
    metrics: Mapping[str, float]
    """Name with dots, as in `test.retrieval.hybrid.recall@5` → value."""
    asked: Mapping[str, Asked]
    """Key of a question, see `promotion.scores.key` → the question."""
    values: Mapping[tuple[str, str], Mapping[str, float]]
    """Set and metric → key → value in [0, 1]."""
    stages: Mapping[str, StageLock]
    """dvc.lock."""

    @property
    def predictions(self) -> str | None:
        """Digest of what was found and answered; builds with the same one do not differ for those who ask."""
        return lock_file.outputs(self.stages).get(str(PREDICTIONS))


# --- where a build is ------------------------------------------------------------------------------


def named(root: Path, name: str, metrics: Sequence[str] = HEADLINE) -> Build:
    """The build that a person names.

    Args:
        name: `workspace`, `champion`, a folder with a dvc.lock, a git revision, or an experiment of `dvc exp`.

    Raises:
        ConfigError: there is nothing of this name.
        DataError: its files are damaged, not of one run, or nowhere to be had (MissingArtifact).
    """
    if name == "workspace":
        return whole(root, THIS_RUN, metrics)
    if name == "champion":
        return champion(root, metrics)
    if (Path(name) / LOCK).is_file():
        return whole(Path(name), name, metrics)
    commit = revisions.resolve(root, name)
    label = commit[:7] if commit.startswith(name) else f"{name} ({commit[:7]})"
    return of_commit(root, commit, label, metrics)


def champion(root: Path, metrics: Sequence[str] = HEADLINE) -> Build:
    """What is served.

    Raises:
        MissingArtifact: there is no champion.
    """
    version = bundles.crowned(root).version
    return whole(bundles.folder(root, version), f"champion {version}", metrics)


def previous(root: Path, build: Build, metrics: Sequence[str] = HEADLINE, remote: bool = True) -> Build:
    """Of the newest commit whose predictions differ from this build's, and are to be had.

    Raises:
        MissingArtifact: there is no such commit; the reason tells of the newest that differs.
    """
    gone: MissingArtifact | None = None
    for commit, text in revisions.locks(root, LOOK_BACK):
        if str(PREDICTIONS) in text and (build.predictions or "") not in text:
            try:
                return of_commit(root, commit, commit[:7], metrics, remote)
            except MissingArtifact as error:
                gone = gone or error
    raise gone or MissingArtifact(
        f"{LOCK}: no commit, among the last {LOOK_BACK} that changed it, has other predictions than {build.label}; "
        f"name what to compare with: `ragline compare A B`"
    )


def of_commit(root: Path, commit: str, label: str, metrics: Sequence[str] = HEADLINE, remote: bool = True) -> Build:
    """As a commit has it.

    Args:
        remote: ask DVC's remote for what its cache lacks.

    Raises:
        MissingArtifact: a file is neither in git nor where DVC keeps data.
    """
    with tempfile.TemporaryDirectory(prefix="ragline-") as folder:
        revisions.export(root, commit, FILES, Path(folder), remote)
        return read(Path(folder), label, metrics)


def served(root: Path) -> Build | None:
    """The champion; the last build where there is no champion yet; None where nothing has been evaluated either.

    Raises:
        DataError: a file is damaged, or lacks a column.
    """
    now = bundles.standing(root)
    place, label = (bundles.folder(root, now.version), f"champion {now.version}") if now else (root, "the last run")
    return read(place, label) if _evaluated(place) else None


def last(root: Path) -> Build | None:
    """What the pipeline has made; None where nothing has been evaluated."""
    return read(root, THIS_RUN) if _evaluated(root) else None


def _evaluated(place: Path) -> bool:
    return all((place / path).is_file() for path in (*FILES, LOCK))


def whole(place: Path, label: str, metrics: Sequence[str] = HEADLINE) -> Build:
    """Of a folder whose predictions are those of its dvc.lock.

    Raises:
        MissingArtifact, DataError: a file is missing, damaged, or of another run.
    """
    build = read(place, label, metrics)
    if build.predictions is None or lock_file.differing({str(PREDICTIONS): build.predictions}, place):
        raise DataError(
            f"{place / PREDICTIONS}: not what {LOCK} says; expected both of one run; wait for a run at work to end, "
            f"or run `dvc repro`"
        )
    return build


# --- reading one -----------------------------------------------------------------------------------


def read(place: Path, label: str, metrics: Sequence[str] = HEADLINE) -> Build:
    """Of a folder.

    Args:
        metrics: values to keep of every question, as `promotion.scores` names them.

    Raises:
        MissingArtifact, DataError: a file is missing or damaged, or lacks a column.
    """
    stages = lock_file.read_lock(place)
    rows = io.read_frame(io.require(PREDICTIONS, place))
    settings, figures = io.read_json(io.require(ANSWERING, place)), io.read_json(io.require(METRICS, place))
    try:
        system = scores.served(settings)
        asked = {scores.key(q): Asked(q["set"], q["question_id"], q["question"], q["cluster"]) for q in rows}
    except KeyError as missing:
        raise DataError(
            f"{label}: {PREDICTIONS} or {ANSWERING} lacks {missing}; expected what evaluate writes today; "
            f"run `dvc repro` there, or compare with another run"
        ) from None
    sets = sorted({question.set for question in asked.values()})
    values = {(name, metric): scores.values(rows, name, metric, system) for name in sets for metric in metrics}
    return Build(label, dict(numbers(figures)), asked, values, stages)


def leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings, dotted; a list is a leaf, and so is an empty mapping within another."""
    if isinstance(value, Mapping) and (value or not prefix):
        for name, inner in value.items():
            yield from leaves(inner, f"{prefix}{name}.")
    else:
        yield prefix.removesuffix("."), value


def numbers(value: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """The leaves that are finite numbers."""
    for name, leaf in leaves(value, prefix):
        if isinstance(leaf, int | float) and not isinstance(leaf, bool) and math.isfinite(leaf):
            yield name, float(leaf)


# --- what it was made of ---------------------------------------------------------------------------


def params(stages: Mapping[str, StageLock]) -> dict[str, Any]:
    """What the stages behind the predictions ran with: dotted name → value."""
    return dict(leaves({name: value for stage in _behind(stages) for name, value in stage.params.items()}))


def data(stages: Mapping[str, StageLock]) -> dict[str, str]:
    """Sources, documents, passages and questions: path → md5."""
    md5s = {path: md5 for stage in stages.values() for path, md5 in stage.deps.items()} | lock_file.outputs(stages)
    return {path: md5s[path] for path in sorted(md5s) if path.startswith(_DATA) and not path.endswith(".jsonl")}


def code(stages: Mapping[str, StageLock]) -> dict[str, str]:
    """Modules that the stages behind the predictions ran: path → md5."""
    return {path: md5 for stage in _behind(stages) for path, md5 in stage.deps.items() if path.startswith(_CODE)}


def _behind(stages: Mapping[str, StageLock]) -> list[StageLock]:
    """All but the report, which only shows what the others made; while it runs, dvc.lock has its entry of before."""
    return [stage for name, stage in stages.items() if name != "report"]
