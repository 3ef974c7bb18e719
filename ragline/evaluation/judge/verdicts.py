"""Which verdicts a judge is asked for, and what they come to; over rows of predictions, whoever judges.

What is judged is what answer F1 scores: every answer as it was written, to questions that the documents answer.

- An answerer that declined, or failed, gave no answer: it is neither correct nor relevant (0), nobody is asked, and
  whether it is grounded, or better than another, is no question.
- An answer that cites nothing is held against the passages that its answerer read; without any it is not grounded (0).
- Two answers of the same words are a tie; nobody is asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from ragline.evaluation.judge import agreement, tallies
from ragline.evaluation.judge.agreement import Answer, Estimate
from ragline.evaluation.judge.forms import CRITERIA
from ragline.evaluation.scorecard import Bootstrap
from ragline.io import digest

Row = Mapping[str, Any]
"""Of predictions: set, question_id, question, cluster, answerable, answers, gold_passage_ids, retrieved_ids, and by
answerer answer, cited and f1."""
Kind = Literal["correct", "grounded", "relevant", "pairwise"]

FEW_LABELS = 50
"""Labels of an answerer's answers below which no mean is corrected: with fewer, a judge's errors can stay unseen."""
UNJUDGED = 0.5
"""Stands for a failed verdict where labels correct the mean."""


@dataclass(frozen=True, slots=True)
class Task:
    """A verdict that is wanted."""

    kind: Kind
    row: int
    """Place among the rows."""
    answerer: str
    other: str = ""
    """Of two, the answerer whose answer comes second."""
    repeat: int = 0


Verdicts = Mapping[Task, float | None]
"""In [0, 1], None where judging failed; of a pair, how much the first answer is preferred."""


def said(row: Row, answerer: str) -> str:
    """The answer that was given, single blanks between its words; empty where there is none."""
    return agreement.words_of(row[f"{answerer}_answer"])


def read(row: Row, answerer: str) -> list[str]:
    """Ids of the passages that the answer rests on: those cited, else those that the answerer read."""
    return list(row[f"{answerer}_cited"]) or list(row["retrieved_ids"])[: row[f"{answerer}_reads"]]


def wanted(rows: Sequence[Row], answerers: Sequence[str], pairwise: bool, repeats: int, repeated: int) -> list[Task]:
    """Every verdict that takes a call, in the order of the rows.

    Args:
        pairwise: whether answerers are compared, in both orders.
        repeats: how often `correct` is wanted of some answers.
        repeated: how many these are at most, of every answerer in every set; the same ones while the questions are.
    """
    again = _sample(rows, answerers, repeated)
    tasks: list[Task] = []
    for at, row in enumerate(rows):
        given = [answerer for answerer in answerers if row["answerable"] and said(row, answerer)]
        for answerer in given:
            tasks += [Task(kind, at, answerer) for kind in CRITERIA if kind != "grounded" or read(row, answerer)]
            if (at, answerer) in again:
                tasks += [Task("correct", at, answerer, repeat=repeat) for repeat in range(1, repeats)]
        if pairwise:
            tasks += [task for a, b in _pairs(given) if said(row, a) != said(row, b) for task in _orders(at, a, b)]
    return tasks


def _sample(rows: Sequence[Row], answerers: Sequence[str], most: int) -> set[tuple[int, str]]:
    found: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for at, row in enumerate(rows):
        for answerer in answerers:
            if row["answerable"] and said(row, answerer):
                found.setdefault((row["set"], answerer), []).append((digest(row["question_id"]), at))
    return {(at, answerer) for (_, answerer), places in found.items() for _, at in sorted(places)[:most]}


def _pairs(answerers: Sequence[str]) -> list[tuple[str, str]]:
    return [(a, b) for place, a in enumerate(answerers) for b in answerers[place + 1 :]]


def _orders(row: int, a: str, b: str) -> tuple[Task, Task]:
    return Task("pairwise", row, a, b), Task("pairwise", row, b, a)


def columns(rows: Sequence[Row], answerers: Sequence[str], verdicts: Verdicts) -> list[dict[str, float | None]]:
    """For each row `{answerer}_judged_{criterion}`; None where judging failed, or there was nothing to judge."""
    return [
        {
            f"{answerer}_judged_{kind}": verdicts.get(Task(kind, at, answerer), 0.0)
            if _counts(row, kind, answerer)
            else None
            for answerer in answerers
            for kind in CRITERIA
        }
        for at, row in enumerate(rows)
    ]


def _counts(row: Row, kind: Kind, answerer: str) -> bool:
    """Whether a row has a part in a criterion: an answer that was not given is neither grounded nor not."""
    return bool(row["answerable"]) and (kind != "grounded" or bool(said(row, answerer)))


def figures(
    rows: Sequence[Row],
    answerers: Sequence[str],
    verdicts: Verdicts,
    labels: Mapping[Answer, float],
    how: Bootstrap,
) -> dict[str, dict[str, Any]]:
    """Set → answers, pairwise, repeats, length_slope and agreement; what cannot be said is None, or left out.

    Args:
        labels: what people think of some answers.
    """
    judged = columns(rows, answerers, verdicts)
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(row["set"] for row in rows):
        places = [at for at, row in enumerate(rows) if row["set"] == name and row["answerable"]]
        one = _Set({at: rows[at] for at in places}, {at: judged[at] for at in places}, verdicts, labels, how)
        slopes = {answerer: one.length_slope(answerer) for answerer in answerers}
        agreed = one.agreement(answerers)
        found[name] = {
            "answers": {answerer: one.criteria(answerer) for answerer in answerers},
            "pairwise": next((pair for a, b in _pairs(answerers) if (pair := one.pairwise(a, b))), None),
            "repeats": {a: repeats for a in answerers if (repeats := one.repeats(a))} or None,
            "length_slope": {a: _named("slope", slope) for a, slope in slopes.items() if slope},
            "agreement": {"n": agreed.n, **_named("kappa", agreed)} if agreed else None,
        }
    return found


def stale(rows: Sequence[Row], answerers: Sequence[str], labels: Mapping[Answer, float]) -> int:
    """Labels of answers that nobody gives now."""
    given = {_key(row, answerer) for row in rows if row["answerable"] for answerer in answerers}
    return len(labels.keys() - given)


def _key(row: Row, answerer: str) -> Answer:
    return row["set"], row["question_id"], said(row, answerer)


def _named(name: str, found: Estimate) -> dict[str, float]:
    return tallies.rounded({name: found.value, "low": found.low, "high": found.high})


@dataclass(frozen=True)
class _Set:
    """The answerable questions of one set, judged."""

    rows: Mapping[int, Row]
    columns: Mapping[int, Mapping[str, float | None]]
    verdicts: Verdicts
    labels: Mapping[Answer, float]
    how: Bootstrap

    @cached_property
    def clusters(self) -> dict[str, str]:
        """question_id → document cluster."""
        return {row["question_id"]: row["cluster"] for row in self.rows.values()}

    @property
    def resampling(self) -> tuple[int, int]:
        """Resamples and seed."""
        return self.how.resamples, self.how.seed

    def criteria(self, answerer: str) -> dict[str, Any]:
        """Criterion → tally, with the mean that labels correct; no criterion without answers."""
        found: dict[str, Any] = {}
        for kind in CRITERIA:
            values: dict[str, float | None] = {
                row["question_id"]: self.columns[at][f"{answerer}_judged_{kind}"]
                for at, row in self.rows.items()
                if _counts(row, kind, answerer)
            }
            if values:
                corrected = self._corrected(answerer, values) if kind == "correct" else None
                found[kind] = tallies.tally(values, self.clusters, *self.resampling) | {"corrected": corrected}
        return found

    def _corrected(self, answerer: str, values: Mapping[str, float | None]) -> dict[str, Any] | None:
        human = {self.rows[at]["question_id"]: label for at, label in self._labelled(answerer)}
        if len(human) < FEW_LABELS:
            return None
        judged = {question: UNJUDGED if value is None else value for question, value in values.items()}
        found = agreement.corrected(judged, human, self.clusters, *self.resampling)
        return {**_named("mean", found), "n_labels": found.n}

    def pairwise(self, a: str, b: str) -> dict[str, Any] | None:
        """a against b, where both answered; None where nobody was asked."""
        orders: dict[str, tuple[float | None, float | None]] = {}
        for at, row in self.rows.items():
            ahead, behind = _orders(at, a, b)
            if ahead in self.verdicts:
                of_b = self.verdicts[behind]
                orders[row["question_id"]] = (self.verdicts[ahead], None if of_b is None else 1 - of_b)
            elif said(row, a) and said(row, a) == said(row, b):
                orders[row["question_id"]] = (0.5, 0.5)
        asked = any(_orders(at, a, b)[0] in self.verdicts for at in self.rows)
        return tallies.pairwise(a, b, orders, self.clusters, *self.resampling) if asked else None

    def repeats(self, answerer: str) -> dict[str, Any] | None:
        """What was said, time after time, of the answers that the judge was asked about again."""
        found = []
        for at in self.rows:
            times: list[float | None] = []
            while (task := Task("correct", at, answerer, repeat=len(times))) in self.verdicts:
                times.append(self.verdicts[task])
            if len(times) > 1:
                found.append(times)
        return tallies.repeats(found)

    def length_slope(self, answerer: str) -> Estimate | None:
        """Of `correct` on the length of the answers given."""
        values = {
            at: value
            for at, row in self.rows.items()
            if said(row, answerer) and (value := self.columns[at][f"{answerer}_judged_correct"]) is not None
        }
        rows = [self.rows[at] for at in values]
        return agreement.length_slope(
            list(values.values()),
            [len(said(row, answerer).split()) for row in rows],
            [row[f"{answerer}_f1"] for row in rows],
            [row["cluster"] for row in rows],
            *self.resampling,
        )

    def agreement(self, answerers: Sequence[str]) -> Estimate | None:
        """Of judge and people, over all answers that both have judged, each once, whoever gave it."""
        pairs = {
            _key(self.rows[at], answerer): (value, label, self.rows[at]["cluster"])
            for answerer in answerers
            for at, label in self._labelled(answerer)
            if (value := self.columns[at][f"{answerer}_judged_correct"]) is not None
        }
        judged, human, clusters = zip(*pairs.values(), strict=True) if pairs else ((), (), ())
        return agreement.kappa(judged, human, clusters, *self.resampling)

    def _labelled(self, answerer: str) -> Iterator[tuple[int, float]]:
        """Rows whose answer a person has judged."""
        for at, row in self.rows.items():
            if (label := self.labels.get(_key(row, answerer))) is not None:
                yield at, label
