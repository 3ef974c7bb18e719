"""Two builds on the same questions: what differs, how surely, for whom, and what was changed between them."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ragline import builds, revisions
from ragline.artifacts import PREDICTIONS
from ragline.builds import Build
from ragline.errors import MissingArtifact, RaglineError
from ragline.evaluation import significance

LEVEL = 0.95
RESAMPLES = 2000
SEED = 13
TOLD = ("recall@5", "answer_f1", "declined")
"""Metrics by which single questions are won or lost: one of search, one of answers, one of refusals."""
GOOD = 0.5
"""From here up an answer counts as good; a passage is found or not, a refusal made or not."""
DIGITS = 6
PREVIOUS, CHAMPION = "previous commit", "champion"
"""What the report compares with."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A metric or a param in both builds; None where it is not there."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class ChangedData:
    """A file of data in both builds, by its md5; None where it is not there."""

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Paired:
    """One metric of both builds, over the questions of a set that both were asked."""

    set: str
    metric: str
    n: int
    n_clusters: int
    before: float
    after: float
    difference: float
    """After minus before."""
    low: float
    """Of the 95 % interval over documents, not corrected for being one of several."""
    high: float
    p: float
    p_holm: float
    """p corrected for all rows of the comparison."""
    wins: int
    """Questions on which the later build scores higher."""
    losses: int
    ties: int
    verdict: str
    """`better`, `worse`, or `not decisive with n = 75`."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question that was served better, or worse, than before."""

    set: str
    question_id: str
    question: str
    metric: str
    before: float
    after: float

    @property
    def turned_bad(self) -> bool:
        """Whether it was served well before, and no longer."""
        return self.before >= GOOD > self.after


@dataclass(frozen=True, slots=True)
class Comparison:
    """Build `b` against build `a`; `asdict` of it is plain data, ready for JSON."""

    name: str
    a: str
    b: str
    metrics: Sequence[Changed]
    """Of the metrics file, those that differ."""
    paired: Sequence[Paired]
    won: Sequence[Question]
    """Each once, by its greatest gain, the greatest first."""
    lost: Sequence[Question]
    """Each once, by its deepest fall, the deepest first. One that is found now but answered worse is in both."""
    only_a: int
    """Questions that `b` was not asked: another text or other references make another question."""
    only_b: int
    params: Sequence[Changed]
    """What the stages ran with, by dvc.lock."""
    data: Sequence[ChangedData]
    code: Sequence[str]
    """Modules that the stages ran and that differ, by dvc.lock."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """This run against runs before it, and what it could not be held against."""

    comparisons: Sequence[Comparison]
    reasons: Mapping[str, str]
    """Name of a run that cannot be read → why; nothing of one that never was."""


def compare(name: str, a: Build, b: Build) -> Comparison:
    """What build `b` changed against `a`, each by the search and answerer that it serves.

    Rows of a set and metric stand where both builds were asked questions in common. A row is decided by its interval
    without zero and p of at most 5 %, corrected for all rows (`significance.holm`).
    """
    moved = [question for metric in TOLD for question in _moved(a, b, metric)]
    return Comparison(
        name=name,
        a=a.label,
        b=b.label,
        metrics=[Changed(*one) for one in _differences(a.metrics, b.metrics)],
        paired=_corrected([row for place in sorted(b.values, key=_place) if (row := _paired(place, a, b))]),
        won=_once(q for q in moved if q.after > q.before),
        lost=_once(q for q in moved if q.after < q.before),
        only_a=len(a.asked.keys() - b.asked.keys()),
        only_b=len(b.asked.keys() - a.asked.keys()),
        params=[Changed(*one) for one in _differences(builds.params(a.stages), builds.params(b.stages))],
        data=[ChangedData(*one) for one in _differences(builds.data(a.stages), builds.data(b.stages))],
        code=[path for path, _, _ in _differences(builds.code(a.stages), builds.code(b.stages))],
    )


def for_report(root: Path = Path()) -> Earlier:
    """This run against the previous commit with other predictions, and against the champion.

    A champion with the same predictions is left out. No network: DVC's remote is not asked.
    """
    others: dict[str, Callable[[Build], Build]] = {
        PREVIOUS: lambda now: builds.previous(root, now, remote=False),
        CHAMPION: lambda now: builds.champion(root),
    }
    found, failed = [], {}
    try:
        now = builds.whole(root, builds.THIS_RUN)
    except RaglineError as error:
        return Earlier([], _reasons(root, {PREVIOUS: error}))
    for name, read in others.items():
        try:
            other = read(now)
            if other.predictions != now.predictions:
                found.append(compare(name, other, now))
        except RaglineError as error:
            failed[name] = error
    return Earlier(found, _reasons(root, failed))


def _reasons(root: Path, failed: Mapping[str, RaglineError]) -> dict[str, str]:
    return {name: str(error) for name, error in failed.items() if _ever_was(root, name, error)}


def _ever_was(root: Path, name: str, error: RaglineError) -> bool:
    """Whether there is such a run at all; where there is none, nothing is amiss."""
    if name == CHAMPION:
        return not isinstance(error, MissingArtifact)
    return any(str(PREDICTIONS) in text for _, text in revisions.locks(root, builds.LOOK_BACK))


def worse(comparison: Comparison, guarded: Collection[tuple[str, str]]) -> list[Paired]:
    """The rows that got worse, among these sets and metrics."""
    return [row for row in comparison.paired if row.verdict == "worse" and (row.set, row.metric) in guarded]


def _paired(place: tuple[str, str], a: Build, b: Build) -> Paired | None:
    """A row whose p is not corrected yet; None where the builds have no question in common."""
    before, after = a.values.get(place, {}), b.values[place]
    common = sorted(before.keys() & after.keys())
    if not common:
        return None
    first, second = ({key: values[key] for key in common} for values in (after, before))
    clusters = {key: b.asked[key].cluster for key in common}
    found = significance.paired(first, second, clusters, RESAMPLES, SEED, LEVEL)
    return Paired(
        *place,
        n=found.n,
        n_clusters=found.n_clusters,
        before=_mean(second),
        after=_mean(first),
        difference=round(found.difference, DIGITS),
        low=round(found.low, DIGITS),
        high=round(found.high, DIGITS),
        p=round(found.p, DIGITS),
        p_holm=1.0,
        wins=found.wins,
        losses=found.losses,
        ties=found.ties,
        verdict="",
    )


def _mean(values: Mapping[str, float]) -> float:
    return round(math.fsum(values.values()) / len(values), DIGITS)


def _corrected(rows: Sequence[Paired]) -> list[Paired]:
    p_holm = significance.holm([row.p for row in rows])
    return [
        replace(row, p_holm=round(p, DIGITS), verdict=_verdict(row, p)) for row, p in zip(rows, p_holm, strict=True)
    ]


def _verdict(row: Paired, p_holm: float) -> str:
    if p_holm > 1 - LEVEL or row.low <= 0 <= row.high:
        return f"not decisive with n = {row.n}"
    return "better" if row.difference > 0 else "worse"


def _moved(a: Build, b: Build, metric: str) -> list[Question]:
    """The questions in common that this metric scores otherwise than before."""
    return [
        Question(asked.set, asked.question_id, asked.question, metric, before, after)
        for place, values in b.values.items()
        if place[1] == metric
        for key, after in values.items()
        if (before := a.values.get(place, {}).get(key)) is not None and before != after
        for asked in [b.asked[key]]
    ]


def _once(questions: Iterable[Question]) -> list[Question]:
    """The greatest differences first, of each question the first."""
    found: dict[tuple[str, str], Question] = {}
    for question in sorted(questions, key=_depth):
        found.setdefault((question.set, question.question_id), question)
    return list(found.values())


def _depth(question: Question) -> tuple[float, int, str, str]:
    return (
        -abs(question.after - question.before),
        TOLD.index(question.metric),
        question.set,
        question.question_id,
    )


def _place(place: tuple[str, str]) -> tuple[str, int, str]:
    """Sets by name; metrics as the headline has them, others after them."""
    name, metric = place
    at = builds.HEADLINE.index(metric) if metric in builds.HEADLINE else len(builds.HEADLINE)
    return name, at, metric


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """What differs, by name; None stands for what is not there."""
    return [(name, a.get(name), b.get(name)) for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)]
