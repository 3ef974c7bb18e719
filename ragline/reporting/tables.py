"""The tables of the page and what its charts are drawn from, as ready-made text and numbers."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ragline.reporting import charts
from ragline.reporting.comparisons import Pair, colour, label
from ragline.reporting.failures import Prediction
from ragline.reporting.formats import MINUS, NO_BREAK, count, fixed, p_value, percent, signed, signed_span, span

HEADLINE = ("recall@5", "mrr@10", "answer_f1", "answer_em", "rouge_l")
"""Compared in the open; the other metrics fold away."""
SMALL_N = 10
"""Fewer questions are an anecdote."""

Json = Mapping[str, Any]
NO_PICTURE = Markup("")


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table."""

    text: str
    small: str = ""
    """Below the text, as an interval."""
    n: str = ""
    """Below that, where it is not the table's n."""
    strong: bool = False
    picture: Markup = NO_PICTURE
    words: bool = False
    """Words stand left, numbers right."""
    verdict: str = ""
    """Style class of a verdict, `decisive` or `open`."""


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    name: str
    cells: tuple[Cell, ...]
    look: str = ""
    """Style class of its colour, where it has one."""
    quiet: bool = False
    """Too few questions to be read as more than an anecdote."""
    note: str = ""
    """Below the name."""


@dataclass(frozen=True)
class Column:
    """The head of a column."""

    name: str
    look: str = ""
    picture: Markup = NO_PICTURE
    words: bool = False


@dataclass(frozen=True)
class Table:
    """A table with its heads and its rows, in groups with a heading each, or in one without."""

    caption: str
    columns: tuple[Column, ...]
    """The first is that of the rows' names."""
    groups: tuple[tuple[str, tuple[Row, ...]], ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of all groups."""
        return tuple(row for _, rows in self.groups for row in rows)


def n_of(number: float) -> str:
    """`n = 274`, never broken over two lines."""
    return f"n{NO_BREAK}={NO_BREAK}{count(number)}"


def swatch(name: str) -> str:
    """The style class of a system or answerer."""
    return f"s{colour(name)}"


def levels(
    caption: str, n: int, values: Mapping[str, Mapping[str, Any]], intervals: Mapping[str, Mapping[str, Json]]
) -> Table:
    """Every metric of every system with its interval; a metric without one (BLEU) stands alone.

    Metrics are the rows, as there may be many and a phone is narrow. n stands in the caption, and at a value where
    fewer questions count.
    """
    metrics = dict.fromkeys(metric for row in values.values() for metric in row)
    first: Json = next((at for row in intervals.values() for at in row.values()), {})
    rows = []
    for metric in metrics:
        top = max((row[metric] for row in values.values() if row.get(metric) is not None), default=None)
        cells = []
        for name, row in values.items():
            at = intervals.get(name, {}).get(metric, {})
            strong = len(values) > 1 and top is not None and row.get(metric) == top
            fewer = n_of(at["n"]) if at and at["n"] != n else ""
            cells.append(Cell(fixed(row.get(metric)), span(at.get("low"), at.get("high")), fewer, strong))
        rows.append(Row(metric, tuple(cells)))
    clusters = f" from {count(first['n_clusters'])} document clusters" if first.get("n") == n else ""
    columns = Column("metric"), *(Column(label(name), swatch(name)) for name in values)
    return Table(f"{caption}. {n_of(n)} questions{clusters}", columns, (("", tuple(rows)),))


def forest(caption: str, pairs: Sequence[Pair], level: str) -> Table:
    """Comparisons as rows with interval bars over their common scale, in the order given.

    Grouped by metric, or by pair where there are fewer pairs than metrics.

    Args:
        level: of the intervals, as `95 %`.
    """
    over = charts.common_domain((pair.low, pair.high) for pair in pairs)
    by_metric = len({pair.metric for pair in pairs}) < len({(pair.a, pair.b) for pair in pairs})
    groups: dict[str, list[Row]] = {}
    for pair in pairs:
        names = pair.metric, f"{label(pair.a)}{NO_BREAK}{MINUS}{NO_BREAK}{label(pair.b)}"
        group, name = names if by_metric else names[::-1]
        cells = (
            Cell("", picture=charts.interval_bar(pair.difference, pair.low, pair.high, over)),
            Cell(signed(pair.difference), signed_span(pair.low, pair.high)),
            Cell(pair.verdict, words=True, verdict="decisive" if pair.decisive else "open"),
            Cell(p_value(pair.p_holm)),
            Cell(fixed(pair.detectable)),
            Cell(f"{count(pair.wins)} · {count(pair.ties)} · {count(pair.losses)}"),
        )
        groups.setdefault(group, []).append(Row(name, cells))
    columns = (
        Column("a − b"),
        Column("interval", picture=charts.interval_axis(over)),
        Column(f"difference, {level} interval"),
        Column("verdict", words=True),
        Column("p"),
        Column("detectable"),
        Column("won · tied · lost".replace(" ", NO_BREAK)),
    )
    return Table(caption, columns, tuple((name, tuple(rows)) for name, rows in groups.items()))


def forests(what: str, pairs: Iterable[Pair], set_name: str, family: str, level: str) -> list[Table]:
    """The headline comparisons of a set, then the others; what is empty is left out."""
    chosen = [pair for pair in pairs if pair.set == set_name and pair.family == family]
    parts = {
        what: [pair for pair in chosen if pair.metric in HEADLINE],
        f"{what}, other metrics": [pair for pair in chosen if pair.metric not in HEADLINE],
    }
    return [forest(caption, part, level) for caption, part in parts.items() if part]


def recall_lines(
    predictions: Iterable[Prediction], systems: Sequence[str], depth: int, intervals: Mapping[str, Mapping[str, Json]]
) -> list[charts.Series]:
    """Recall by number of passages, from the rank of each question's first gold passage.

    The last system is what is served: it has its intervals where there are some, at the k of `recall@k`.
    """
    rows = [row for row in predictions if row["answerable"]]
    lines = []
    for system in systems if rows else ():
        ranks = [row[f"rank_{system}"] for row in rows]
        points = tuple((k, sum(0 < rank <= k for rank in ranks) / len(ranks)) for k in range(1, depth + 1))
        measured = intervals.get(system, {}) if system == systems[-1] else {}
        spread = tuple(
            (float(metric.removeprefix("recall@")), at["low"], at["high"])
            for metric, at in measured.items()
            if metric.startswith("recall@")
        )
        lines.append(charts.Series(label(system), points, colour(system), spread=spread))
    return lines


def by_kind(caption: str, predictions: Iterable[Prediction], served: str, answerers: Sequence[str]) -> Table:
    """Recall@5 of what is served and F1 of the answerers by kind, commonest kind first; answerable questions only."""
    groups: dict[str, list[Prediction]] = {}
    for row in predictions:
        if row["answerable"]:
            groups.setdefault(row["kind"], []).append(row)
    rows = []
    for kind, members in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        n = len(members)
        recall = sum(0 < row[f"rank_{served}"] <= 5 for row in members) / n
        f1 = [fixed(sum(row[f"{who}_f1"] for row in members) / n) for who in answerers]
        cells = Cell(count(n)), Cell(fixed(recall)), Cell("", picture=charts.share_bar(recall, swatch(served)))
        rows.append(Row(kind, (*cells, *(Cell(value) for value in f1)), quiet=n < SMALL_N))
    columns = Column("kind"), Column("n"), Column("recall@5"), Column(""), *(Column(f"{who} F1") for who in answerers)
    return Table(caption, columns, (("", tuple(rows)),))


def counted(caption: str, noun: str, numbers: Mapping[str, float]) -> Table:
    """Numbers by name, largest first, each with its share of all."""
    whole = sum(numbers.values())
    rows = []
    for name, number in sorted(numbers.items(), key=lambda item: (-item[1], item[0])):
        if number:
            share = number / whole
            cells = Cell(count(number)), Cell(percent(share)), Cell("", picture=charts.share_bar(share, ""))
            rows.append(Row(name, cells))
    return Table(caption, (Column(noun), Column("number"), Column("share"), Column("")), (("", tuple(rows)),))


def answer_from(answering: Json) -> float:
    """Confidence from which on the served answerer's answers are given."""
    rule = answering.get("rule")
    return float(answering["abstain_below"] if rule is None else rule["answer_from"])


def confidences(predictions: Iterable[Prediction]) -> dict[str, list[float]]:
    """Confidence of answerable questions whose passage was found, or missed, and of unanswerable ones."""
    groups: dict[str, list[float]] = {
        "Answerable, passage found": [],
        "Answerable, passage missed": [],
        "Not answerable": [],
    }
    for row in predictions:
        seen = "found" if any(row["retrieved_gold"]) else "missed"
        name = f"Answerable, passage {seen}" if row["answerable"] else "Not answerable"
        groups[name].append(row["confidence"])
    return {name: values for name, values in groups.items() if values}


def curve(rows: Sequence[Mapping[str, str]], column: str) -> tuple[tuple[float, float], ...]:
    """(step, value) of the rows that have a value; one that is not finite is left out, see `not_finite`."""
    return tuple((step, value) for step, value in _curve(rows, column) if math.isfinite(value))


def not_finite(rows: Sequence[Mapping[str, str]], column: str) -> int:
    """How many values cannot be drawn, as the loss of a training that went astray."""
    return sum(not math.isfinite(value) for _, value in _curve(rows, column))


def _curve(rows: Sequence[Mapping[str, str]], column: str) -> Iterator[tuple[float, float]]:
    return ((float(row["step"]), float(row[column])) for row in rows if row.get(column))
