"""The tables and small multiples of the page, as rows of ready-made text."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ragline.reporting import charts
from ragline.reporting.comparisons import Pair, colour, label
from ragline.reporting.failures import Prediction, found
from ragline.reporting.formats import NONE, count, fixed, p_value, signed, signed_span, span

HEADLINE = ("recall@5", "mrr@10", "answer_f1", "answer_em", "rouge_l")
"""Compared in the open; the other metrics fold away."""
SMALL_N = 10

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """A number, its interval, and whether no other row of the column is higher."""

    value: str
    span: str
    n: str
    """Said where it differs from the table's n."""
    best: bool


@dataclass(frozen=True)
class Levels:
    """Systems or answerers by metric."""

    metrics: tuple[str, ...]
    rows: tuple[tuple[str, int, tuple[Cell, ...]], ...]
    """Name, colour, cells."""
    n: int | None
    n_clusters: int | None


@dataclass(frozen=True)
class Compared:
    """One row of a forest plot."""

    name: str
    bar: Markup
    difference: str
    span: str
    wins: int
    losses: int
    ties: int
    detectable: str
    p: str
    verdict: str
    decisive: bool


@dataclass(frozen=True)
class Forest:
    """Comparisons in groups over one scale."""

    axis: Markup
    groups: tuple[tuple[str, tuple[Compared, ...]], ...]
    n_rows: int


@dataclass(frozen=True)
class KindRow:
    """One question kind: how well it is found and answered."""

    kind: str
    n: int
    recall: str
    bar: Markup
    extractive: str
    generator: str
    small: bool


@dataclass(frozen=True)
class Distribution:
    """One group of questions and the histogram of its confidence."""

    name: str
    n: int
    below: int
    """How many the threshold declines."""
    chart: Markup


def levels(values: Mapping[str, Mapping[str, float]], intervals: Mapping[str, Mapping[str, Json]]) -> Levels:
    """Every metric of every system with its interval; a metric without one (BLEU) stands alone."""
    metrics = tuple(dict.fromkeys(metric for row in values.values() for metric in row))
    top = {m: max((row[m] for row in values.values() if row.get(m) is not None), default=None) for m in metrics}
    first: Json = next((at for row in intervals.values() for at in row.values()), {})
    rows = []
    for name, row in values.items():
        cells = []
        for metric in metrics:
            at = intervals.get(name, {}).get(metric, {})
            best = len(values) > 1 and row.get(metric) is not None and row[metric] == top[metric]
            n = "" if at.get("n") == first.get("n") or not at else f"n = {count(at['n'])}"
            cells.append(Cell(fixed(row.get(metric)), span(at.get("low"), at.get("high")), n, best))
        rows.append((name, colour(name), tuple(cells)))
    return Levels(metrics, tuple(rows), first.get("n"), first.get("n_clusters"))


def forest(pairs: Sequence[Pair]) -> Forest:
    """Comparisons as rows with interval bars over their common scale, in the order given.

    Grouped by metric, or by pair where there are fewer pairs than metrics.
    """
    domain = charts.common_domain((pair.low, pair.high) for pair in pairs)
    by_metric = len({pair.metric for pair in pairs}) < len({(pair.a, pair.b) for pair in pairs})
    groups: dict[str, list[Compared]] = {}
    for pair in pairs:
        names = pair.metric, f"{label(pair.a)} − {label(pair.b)}"
        group, name = names if by_metric else names[::-1]
        row = Compared(
            name=name,
            bar=charts.interval_bar(pair.difference, pair.low, pair.high, domain),
            difference=signed(pair.difference),
            span=signed_span(pair.low, pair.high),
            wins=pair.wins,
            losses=pair.losses,
            ties=pair.ties,
            detectable=fixed(pair.detectable),
            p=p_value(pair.p_holm),
            verdict=pair.verdict,
            decisive=pair.decisive,
        )
        groups.setdefault(group, []).append(row)
    return Forest(charts.interval_axis(domain), tuple((name, tuple(rows)) for name, rows in groups.items()), len(pairs))


def forests(pairs: Iterable[Pair], set_name: str, family: str) -> list[Forest]:
    """The headline comparisons of a set, then the others; what is empty is left out."""
    chosen = [pair for pair in pairs if pair.set == set_name and pair.family == family]
    parts = [p for p in chosen if p.metric in HEADLINE], [p for p in chosen if p.metric not in HEADLINE]
    return [forest(part) for part in parts if part]


def recall_lines(predictions: Iterable[Prediction], systems: Sequence[str], depth: int) -> list[charts.Series]:
    """Recall by number of passages, from the rank of each question's first gold passage."""
    rows = [row for row in predictions if row["answerable"]]
    lines = []
    for system in systems:
        ranks = [row[f"rank_{system}"] for row in rows]
        points = tuple((k, sum(0 < rank <= k for rank in ranks) / len(ranks)) for k in range(1, depth + 1))
        lines.append(charts.Series(label(system), points, colour(system)))
    return lines


def by_kind(predictions: Iterable[Prediction]) -> list[KindRow]:
    """Recall@5 of the hybrid and F1 of both answerers by kind, commonest kind first; answerable questions only."""
    groups: dict[str, list[Prediction]] = {}
    for row in predictions:
        if row["answerable"]:
            groups.setdefault(row["kind"], []).append(row)
    rows = []
    for kind, members in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        n = len(members)
        recall = sum(0 < row["rank_hybrid"] <= 5 for row in members) / n
        f1 = {who: sum(row[f"{who}_f1"] for row in members) / n for who in ("extractive", "generator")}
        shown = fixed(f1["extractive"]), fixed(f1["generator"])
        rows.append(KindRow(kind, n, fixed(recall), charts.share_bar(recall, colour("hybrid")), *shown, n < SMALL_N))
    return rows


def distributions(predictions: Sequence[Prediction], threshold: float) -> list[Distribution]:
    """Confidence of answerable questions whose passage was found, or missed, and of unanswerable ones."""
    groups = {
        "Answerable, passage found": [r["confidence"] for r in predictions if r["answerable"] and found(r)],
        "Answerable, passage missed": [r["confidence"] for r in predictions if r["answerable"] and not found(r)],
        "Not answerable": [r["confidence"] for r in predictions if not r["answerable"]],
    }
    everything = [value for values in groups.values() for value in values] + [threshold, 0.0, 1.0]
    domain = min(everything), max(everything)
    tallest = max(share for values in groups.values() for share in charts.shares(values, domain))
    return [
        Distribution(
            name,
            len(values),
            below := sum(value < threshold for value in values),
            charts.histogram(values, domain, tallest, threshold, _told(name, len(values), below, threshold)),
        )
        for name, values in groups.items()
        if values
    ]


def curve(rows: Sequence[Mapping[str, str]], column: str) -> tuple[tuple[float, float], ...]:
    """(step, value) of the rows that have a value."""
    return tuple((float(row["step"]), float(row[column])) for row in rows if row.get(column))


def training_chart(
    points: Sequence[tuple[float, float]], who: str, others: Sequence[charts.Series], title: str
) -> Markup | str:
    """A loss as it was, faint, and its moving mean, with other lines beside it; a dash where nothing was recorded."""
    series = list(others)
    if points:
        thin = tuple(points[:: 1 + len(points) // 300])
        mean = charts.smooth(thin, max(1, len(thin) // 8))
        series = [charts.Series("", thin, colour(who), faint=True), charts.Series("train", mean, colour(who)), *series]
    series = [line for line in series if line.points]
    return charts.line_chart(series, title, "step", "loss") if series else NONE


def _told(name: str, n: int, below: int, threshold: float) -> str:
    return f"Histogram of confidence, {name.lower()}: {below} of {n} below the threshold of {fixed(threshold)}"
