"""The gate: the pipeline's present outputs against the champion, then promotion or not, with the reason.

It knows the settings, and stands beside `assessment`; `ragline promote` and the nightly flow go through it.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ragline import io
from ragline.artifacts import ANSWERING, DOCUMENTS, LOCK, PARAMS, PREDICTIONS
from ragline.errors import ConfigError, DataError, RaglineError
from ragline.promotion import bundles, scores
from ragline.promotion.bundles import Manifest, Standing
from ragline.promotion.verdict import Decision, Measure, Rules, Scored, decide, unusable
from ragline.runtime import lock_file
from ragline.runtime.params import Section, load_section, read_params

log = logging.getLogger(__name__)


def _known(metric: str) -> str:
    try:
        return scores.check(metric)
    except ConfigError as error:
        raise ValueError(str(error)) from None


class MeasureParams(Section):
    """What the gate looks at."""

    set: str
    """`test`, `gold`, or the file name of another gold set."""
    metric: Annotated[str, AfterValidator(_known)]
    """Of the system as it is served: recall@K, mrr@K, answer_em, answer_f1 or declined."""
    margin: Annotated[float, Field(gt=0, lt=1)]
    """Largest regression that is accepted, in units of the metric."""


class PromotionParams(Section):
    """Section `promotion`."""

    target: MeasureParams
    """Has to gain."""
    guards: list[MeasureParams]
    """None of these may lose."""
    min_questions: Annotated[int, Field(ge=1)]
    """Questions that challenger and champion have in common, for every measure."""
    new_documents: Literal["gain", "no_loss"]
    """What a challenger over other documents than the champion's has to show: a gain as always, or only no loss."""
    level: Annotated[float, Field(gt=0.5, lt=1)]
    """Of the intervals, two-sided."""
    resamples: Annotated[int, Field(ge=100)]
    """Of the bootstrap behind the intervals."""
    keep: Annotated[int, Field(ge=2)]
    """Champions whose files are kept, the present one among them."""
    seed: int


def gate(root: Path = Path(), anyway: bool = False) -> Decision:
    """Weigh what the pipeline has made against the champion; promote it if it is better.

    The first challenger becomes champion without a comparison. What is weighed is a copy, compared with dvc.lock, and
    that copy is what will be served.

    Args:
        anyway: promote without weighing; somebody has looked.

    Raises:
        ConfigError: the section `promotion` is wrong, or names a set that was not asked.
        DataError: the pipeline's outputs are missing, or not those of dvc.lock and params.yaml.
        ServiceError: another gate is at work, or the disk refused. In all these cases the champion stays.
    """
    params = load_section("promotion", PromotionParams, root / PARAMS)
    with bundles.locked(root):
        now = bundles.standing(root)
        if now and not anyway and _same_lock(root, bundles.folder(root, now.version)):
            return Decision(False, f"kept: nothing has changed since {now.version}", version=now.version)
        with bundles.candidate(root) as place:
            check_whole(place)
            manifest = bundles.survey(place)
            decision = _by_hand() if anyway else _judge(place, manifest, root, now, params)
            if not decision.promoted:
                return replace(decision, version=now.version if now else "")
            version = bundles.admit(root, place, manifest, decision.reason)
        for gone in bundles.prune(root, params.keep):
            log.info("%s: deleted, %d champions are kept", gone, params.keep)
        return replace(decision, version=version)


def check_whole(place: Path) -> None:
    """Make sure that files and params in a folder belong to the dvc.lock in it.

    Raises:
        DataError: names what differs.
    """
    stages = lock_file.read_lock(place)
    made = {path: md5 for path, md5 in lock_file.outputs(stages).items() if Path(path) in bundles.BUNDLED}
    if odd := lock_file.differing(made, place):
        raise DataError(
            f"{', '.join(odd[:3])}: {len(odd)} outputs are not what {LOCK} says; expected those of one whole run; "
            f"wait for a run at work to end, or run `dvc repro`"
        )
    content = read_params(place / PARAMS)
    ran_with = {name: value for stage in stages.values() for name, value in stage.params.items()}
    if changed := [name for name, value in sorted(ran_with.items()) if _value(content, name) != value]:
        raise DataError(
            f"{PARAMS}: {', '.join(changed[:3])}: {len(changed)} sections or keys are not what the stages ran with; "
            f"run `dvc repro`, or take the change back"
        )


def _value(content: Mapping[str, Any], name: str) -> Any:
    """A section, or `section.key` in it."""
    value: Any = content
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _same_lock(root: Path, champion: Path) -> bool:
    mine, its = root / LOCK, champion / LOCK
    return mine.is_file() and its.is_file() and mine.read_bytes() == its.read_bytes()


def _by_hand() -> Decision:
    return Decision(True, "promoted: by hand, without a comparison")


def _judge(place: Path, manifest: Manifest, root: Path, now: Standing | None, params: PromotionParams) -> Decision:
    measures = [Measure(m.set, m.metric, m.margin) for m in (params.target, *params.guards)]
    rows = io.read_frame(place / PREDICTIONS)
    asked = sorted({row["set"] for row in rows})
    if unknown := [m.set for m in measures if m.set not in asked]:
        raise ConfigError(f"{PARAMS}: promotion: no set {unknown[0]!r} was asked; expected one of {', '.join(asked)}")
    mine = _values(place, measures)
    if now is None:
        faults = (f"{m.name}: {fault}" for m, v in zip(measures, mine, strict=True) if (fault := unusable(v)))
        if fault := next(faults, ""):
            return Decision(False, f"kept: {fault}; run `dvc repro evaluate`")
        return Decision(True, "promoted: the first; there is no champion to compare with")
    if known := [v for v, digest in now.withdrawn.items() if digest == manifest.digest]:
        return Decision(
            False, f"kept: the same as {known[0]}, which was rolled back; `ragline promote --anyway` insists"
        )
    champion = bundles.folder(root, now.version)
    try:
        its_manifest = bundles.verify(champion)
        its = _values(champion, measures)
    except RaglineError as error:
        return Decision(False, f"kept: the champion cannot be compared with: {error}")
    if its_manifest.digest == manifest.digest:
        return Decision(False, f"kept: the same files as {now.version}")
    other_documents = manifest.files[str(DOCUMENTS)] != its_manifest.files[str(DOCUMENTS)]
    rules = Rules(
        min_questions=params.min_questions,
        level=params.level,
        resamples=params.resamples,
        seed=params.seed,
        gain_asked=not other_documents or params.new_documents == "gain",
    )
    scored = [Scored(*three) for three in zip(measures, mine, its, strict=True)]
    return decide(scored, scores.clusters(rows), rules)


def _values(place: Path, measures: Sequence[Measure]) -> list[dict[str, float]]:
    """Of each measure, what the system in a folder got on every question."""
    rows, system = io.read_frame(place / PREDICTIONS), scores.served(io.read_json(place / ANSWERING))
    return [scores.values(rows, m.set, m.metric, system) for m in measures]
