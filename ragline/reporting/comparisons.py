"""Paired comparisons, within this run and with earlier ones, and when one of them decides anything."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from ragline.reporting.formats import NO_BREAK

SET_LABELS = {"test": "test questions", "dev": "dev questions", "gold": "gold set"}
NAME_LABELS = {"bm25": "BM25"}
UNSEEN = "-unseen"
"""Ends the name of the part of a set whose documents training never saw."""
COLOURS = {"bm25": 0, "base": 1, "tuned": 2, "hybrid": 3, "extractive": 4, "generator": 5, "reranked": 6}
"""Style class of a system or answerer: it has one colour on the whole page."""


@dataclass(frozen=True)
class Pair:
    """`a` against `b` on the same questions: the mean of a − b with its interval."""

    set: str
    family: str
    metric: str
    a: str
    b: str
    difference: float
    low: float
    high: float
    n: int
    n_clusters: int
    wins: int
    """Questions on which `a` scores higher."""
    losses: int
    ties: int
    p: float | None
    p_holm: float | None
    """p for all comparisons on these questions together."""
    decisive: bool
    """Whether it says anything once all comparisons on these questions are counted."""
    detectable: float
    """A true difference below it mostly stays unseen with so many questions."""

    @property
    def verdict(self) -> str:
        """`tuned is better with n = 400`, or `not decisive with n = 114`."""
        found = f"{label(self.a if self.difference > 0 else self.b)} is better" if self.decisive else "not decisive"
        return f"{found} with n{NO_BREAK}={NO_BREAK}{self.n:,}"

    def turned(self) -> "Pair":
        """The same comparison as b − a."""
        return replace(
            self,
            a=self.b,
            b=self.a,
            difference=-self.difference,
            low=-self.high,
            high=-self.low,
            wins=self.losses,
            losses=self.wins,
        )


def label(name: str) -> str:
    """A system or answerer as the page names it."""
    return NAME_LABELS.get(name, name)


def colour(name: str) -> int:
    """The style class of a system or answerer."""
    return COLOURS.get(name, 0)


def set_label(name: str) -> str:
    """A question set as the page names it."""
    if name.endswith(UNSEEN):
        return f"{set_label(name.removesuffix(UNSEEN))}'s questions on documents that training never saw"
    return SET_LABELS.get(name, f"gold set {name}")


def served_label(metric: str) -> str:
    """A metric by what is served: of answers as people get them, where one that is held back counts 0."""
    return f"{metric} as served" if metric.startswith("answer_") else metric


def read_pairs(rows: Sequence[Mapping[str, Any]]) -> list[Pair]:
    """The `paired` rows of the comparisons file."""
    return [Pair(**{field.name: row[field.name] for field in fields(Pair)}) for row in rows]


def find(pairs: Sequence[Pair], set_name: str, metric: str, a: str, b: str) -> Pair | None:
    """The comparison a − b, whichever way round it was recorded; None where nobody made it."""
    for pair in pairs:
        if (pair.set, pair.metric) == (set_name, metric) and {pair.a, pair.b} == {a, b}:
            return pair if pair.a == a else pair.turned()
    return None


@dataclass(frozen=True)
class RunPair:
    """One metric of the served system, of two runs on the same questions."""

    set: str
    metric: str
    n: int
    n_clusters: int
    before: float
    after: float
    difference: float
    low: float
    high: float
    p_holm: float | None
    wins: int
    losses: int
    ties: int
    verdict: str
    """`better`, `worse`, or that it is not decisive."""

    @property
    def decisive(self) -> bool:
        """Whether it says anything once all comparisons of the two runs are counted."""
        return self.verdict in ("better", "worse")

    @property
    def look(self) -> str:
        """Style class: better, worse or open."""
        return self.verdict if self.decisive else "open"

    @property
    def words(self) -> str:
        """`better with n = 400`, `the same with n = 400`, or `not decisive with n = 75`."""
        found = self.verdict if self.decisive else "the same" if self.same else "not decisive"
        return f"{found} with n{NO_BREAK}={NO_BREAK}{self.n:,}"

    @property
    def same(self) -> bool:
        """Whether no question scores otherwise than before."""
        return self.wins == self.losses == 0


@dataclass(frozen=True)
class Run:
    """An earlier run, and what is different now."""

    name: str
    """`previous commit`, `champion`, or what else it was asked for as."""
    a: str
    """The earlier run: `5b8bdfe`."""
    anchor: str
    metrics: Sequence[Mapping[str, Any]]
    paired: tuple[RunPair, ...]
    won: Sequence[Mapping[str, Any]]
    lost: Sequence[Mapping[str, Any]]
    only_a: int
    only_b: int
    params: Sequence[Mapping[str, Any]]
    data: Sequence[Mapping[str, Any]]
    code: Sequence[str]

    @property
    def same(self) -> bool:
        """Whether every question that both were asked scores as before."""
        return bool(self.paired) and all(pair.same for pair in self.paired) and not (self.won or self.lost)

    @property
    def moved(self) -> bool:
        """Whether there is a difference in scores to tell."""
        return bool(self.paired) and not self.same

    @property
    def other(self) -> str:
        """The earlier run in a sentence: `the previous commit, 5b8bdfe`, `champion 3`."""
        return self.a if self.a.startswith(self.name) else f"the {self.name}, {self.a}"


def read_runs(rows: Iterable[Mapping[str, Any]]) -> list[Run]:
    """The comparisons with earlier runs, as `ragline compare` gives them."""
    names = [field.name for field in fields(RunPair)]
    return [
        Run(
            anchor=f"run-{number}",
            paired=tuple(RunPair(**{name: pair[name] for name in names}) for pair in row["paired"]),
            **{field.name: row[field.name] for field in fields(Run) if field.name not in ("anchor", "paired")},
        )
        for number, row in enumerate(rows, start=1)
    ]
