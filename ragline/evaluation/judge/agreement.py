"""What a judge is worth: its agreement with people, means corrected by their labels, and its taste for length.

Every interval is a bootstrap-t over document clusters, as in `significance`: clusters are drawn with replacement, and
each resample's error is divided by its own standard error, which follows from each cluster's influence on the
statistic. Where the statistic has limits, what so few clusters cannot rule out widens it (`power.unseen_share`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from ragline import io
from ragline.errors import DataError
from ragline.evaluation import power

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], tuple[Floats, Floats]]
"""How often each cluster was drawn, (rows, n_clusters) → the statistic, (rows,), NaN where it has no value, and the
influence of one more of each cluster, (rows, n_clusters)."""
Answer = tuple[str, str, str]
"""Set, question_id, and the answer's words with single blanks between them."""

GRADES = (0.0, 0.5, 1.0)
"""Values of a verdict, and of a label: no, partly, yes."""
WORDS = 10
"""Unit of the length slope."""
FEW_CLUSTERS = 10
"""Clusters below which nothing is said of a slope."""
BLOCK_ENTRIES = 2**20
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and where the true one may lie."""

    value: float
    low: float
    high: float
    n: int
    """Items with a label, or with a verdict where there are no labels."""


class Label(BaseModel):
    """One line of a file of labels: what a person thinks of an answer, whoever gave it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    set: str
    """Of questions: `test`, `gold`, or the name of another gold set."""
    question_id: str
    answer: str
    """The answer that was read; the label says nothing of any other."""
    correct: float
    """1: correct, 0: not, 0.5: partly."""

    @field_validator("correct")
    @classmethod
    def _a_grade(cls, value: float) -> float:
        if value not in GRADES:
            raise ValueError(f"expected one of 0, 0.5, 1, got {value:g}")
        return value


def words_of(answer: str) -> str:
    """The answer as labels are matched by: its words, single blanks between them."""
    return " ".join(answer.split())


def read_labels(path: Path, sets: Sequence[str]) -> dict[Answer, float]:
    """Read what people think of answers, JSONL with the keys of `Label`.

    Args:
        sets: names that a label's `set` may have.

    Raises:
        MissingArtifact: no such file.
        DataError: names the line, and what is wrong: a key, a value, a set that is not there, an answer labelled
            differently before.
    """
    labels: dict[Answer, float] = {}
    for number, row in io.read_jsonl(path):
        where = f"{path}:{number}"
        label = _parsed(row, where)
        if label.set not in sets:
            raise DataError(f"{where}: expected a set among {', '.join(sets)}, got {label.set!r}; mend `set`")
        key = (label.set, label.question_id, words_of(label.answer))
        if labels.setdefault(key, label.correct) != label.correct:
            raise DataError(
                f"{where}: expected one label an answer, got {label.correct:g} after {labels[key]:g} for "
                f"{label.question_id!r}; settle it, keep one line"
            )
    if not labels:
        raise DataError(f"{path}: expected one label a line, got none; write some or set evaluate.judge.labels to null")
    return labels


def _parsed(row: dict[str, object], where: str) -> Label:
    try:
        return Label.model_validate(row)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'row'}: {fault['msg']}" for fault in error.errors())
        raise DataError(f"{where}: not a label: {faults}; expected {', '.join(Label.model_fields)}") from None


def kappa(
    judged: Sequence[float], human: Sequence[float], clusters: Sequence[str], resamples: int, seed: int
) -> Estimate | None:
    """Cohen's kappa of judge and people, 1 for full agreement, 0 for what chance would give.

    Half a grade apart counts half (linear weights); without halves that is the plain kappa.

    Args:
        judged: (n,) values among `GRADES`, as `human` and in its order.
        clusters: (n,) document cluster of each item.

    Returns:
        None where kappa is not defined: nothing labelled, or both give one grade, the same, to all.

    Source: Cohen 1968.
    """
    if not judged:
        return None
    apart = np.abs(np.subtract.outer(GRADES, GRADES))  # (3, 3)
    members, n_clusters = _members(clusters)
    tables = np.zeros((n_clusters, len(GRADES), len(GRADES)))
    judge_at, people_at = (np.array([GRADES.index(value) for value in values]) for values in (judged, human))
    np.add.at(tables, (members, judge_at, people_at), 1)

    def statistic(drawn: Floats) -> tuple[Floats, Floats]:
        table = np.einsum("rg,gij->rij", drawn, tables)
        n, people, judge = (table.sum(axes) for axes in ((1, 2), 1, 2))
        n = n[:, None, None]
        found = (apart * table).sum((1, 2))[:, None, None]
        chance = np.einsum("ij,ri,rj->r", apart, judge, people)[:, None, None]  # n times what chance would give
        by_cell = (people @ apart)[:, :, None] + (judge @ apart)[:, None, :]  # derivative of chance, (rows, 3, 3)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = 1 - n * found / chance
            slopes = n * found * by_cell / chance**2 - (found + n * apart) / chance
        return value[:, 0, 0], np.einsum("rij,gij->rg", slopes, tables)

    return _estimate(statistic, n_clusters, len(judged), resamples, seed, (-1.0, 1.0), n_clusters)


def corrected(
    judged: Mapping[str, float], human: Mapping[str, float], clusters: Mapping[str, str], resamples: int, seed: int
) -> Estimate:
    """The mean that people would give, from a judge's verdicts on all and people's labels on some.

    The judge's mean over the unlabelled, corrected by how it errs on the labelled: it holds however bad the judge is,
    if the labelled are a random part. Power tuning gives the judge the weight at which the variance over clusters is
    least, within [0, 1]; at 0 the labels stand alone.

    Share of 95 % intervals that held the truth, in settings of 200 simulated sets each (20 to 300 clusters, true means
    0.5 to 0.95, judges that are too kind and right in 70 to 98 %): with 60 or 120 labels 92 to 100 %, median 96 %, in
    54 settings; with 30 labels, among which a rare error may not show, 88 to 100 % in 27.

    Args:
        judged: item → verdict in [0, 1]; where the judge failed any value serves that is not chosen by the label.
        human: item → label in [0, 1], of some of these items.
        clusters: item → document cluster.

    Raises:
        DataError: no label, or a label of something that was not judged.

    Source: Angelopoulos et al. 2023 (arXiv 2301.09633); power tuning: Angelopoulos, Duchi and Zrnic 2023
    (arXiv 2311.01453), here with cluster sums in place of single items.
    """
    if not human or human.keys() - judged.keys():
        raise DataError(
            f"labels: expected some of the {len(judged)} items judged, got {len(human)}, "
            f"{len(human.keys() - judged.keys())} of others; label answers of these questions"
        )
    items = sorted(judged)
    members, n_clusters = _members([clusters[item] for item in items])
    labelled = np.array([item in human for item in items])
    verdicts = np.array([judged[item] for item in items], dtype=np.float64)
    labels = np.array([human.get(item, 0.0) for item in items], dtype=np.float64)

    def by_cluster(part: NDArray[np.bool_], values: Floats | float = 1.0) -> Floats:
        return np.bincount(members, np.where(part, values, 0.0), n_clusters).astype(np.float64)

    size, rest_size = by_cluster(labelled), by_cluster(~labelled)
    own = by_cluster(labelled, labels)
    same_judged, rest_judged = by_cluster(labelled, verdicts), by_cluster(~labelled, verdicts)

    def statistic(drawn: Floats) -> tuple[Floats, Floats]:
        people, by_label = _mean(drawn, own, size)
        if not rest_size.any():
            return people, by_label
        (rest, by_rest), (same, by_same) = _mean(drawn, rest_judged, rest_size), _mean(drawn, same_judged, size)
        by_judge = by_rest - by_same
        spread = (drawn * by_judge**2).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            tuned = -(drawn * by_label * by_judge).sum(axis=1) / spread
        weight = np.where(spread > 0, np.clip(tuned, 0.0, 1.0), 0.0)
        return people + weight * (rest - same), by_label + weight[:, None] * by_judge

    found = _estimate(statistic, n_clusters, len(human), resamples, seed, (0.0, 1.0), int(np.count_nonzero(size)))
    assert found is not None  # there is a label
    return found


def _mean(drawn: Floats, sums: Floats, sizes: Floats) -> tuple[Floats, Floats]:
    """Means (rows,) of sums by sizes, both (n_clusters,), and influences (rows, n_clusters)."""
    n = drawn @ sizes
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (drawn @ sums) / n
        return mean, (sums - mean[:, None] * sizes) / n[:, None]


def length_slope(
    verdicts: Sequence[float],
    words: Sequence[int],
    f1: Sequence[float],
    clusters: Sequence[str],
    resamples: int,
    seed: int,
) -> Estimate | None:
    """What `WORDS` more words earn an answer that overlaps as much with its reference.

    Least squares of the verdict on the number of words and on F1. Without F1 a slope would also show that longer
    answers hold more; with it, a slope above 0 says that the judge likes length.

    Args:
        verdicts, words, f1, clusters: (n,) each, answers in one order.

    Returns:
        None where nothing can be said: fewer than ten clusters, or answers that do not differ in length but as F1 does.

    Source: length control as in Dubois et al. 2024 (arXiv 2404.04475).
    """
    members, n_clusters = _members(clusters)
    if n_clusters < FEW_CLUSTERS:
        return None
    design = np.column_stack([np.ones(len(words)), np.array(words) / WORDS, f1])  # (n, 3)
    design[:, 1:] -= design[:, 1:].mean(axis=0)
    varied = design if np.ptp(design[:, 2]) > 0 else design[:, :2]
    if np.linalg.matrix_rank(varied) < varied.shape[1]:
        return None
    squares = np.zeros((n_clusters, varied.shape[1], varied.shape[1]))
    products = np.zeros((n_clusters, varied.shape[1]))
    np.add.at(squares, members, varied[:, :, None] * varied[:, None, :])
    np.add.at(products, members, varied * np.asarray(verdicts, dtype=np.float64)[:, None])

    def statistic(drawn: Floats) -> tuple[Floats, Floats]:
        inverse = np.linalg.pinv(np.einsum("rg,gij->rij", drawn, squares), hermitian=True)
        found = np.einsum("rij,rj->ri", inverse, drawn @ products)
        residual = products[None] - np.einsum("gij,rj->rgi", squares, found)  # (rows, n_clusters, 3)
        return found[:, 1], np.einsum("ri,rgi->rg", inverse[:, 1], residual)

    return _estimate(statistic, n_clusters, len(words), resamples, seed, None, n_clusters)


def _members(clusters: Sequence[str]) -> tuple[NDArray[np.int64], int]:
    """Each item's cluster as a number, in order of the clusters' names, and how many there are."""
    names, members = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    return members.astype(np.int64), len(names)


def _estimate(
    statistic: Statistic,
    n_clusters: int,
    n: int,
    resamples: int,
    seed: int,
    limits: tuple[float, float] | None,
    seen: int,
) -> Estimate | None:
    """Value and interval; None where the statistic has no value.

    Args:
        limits: of the statistic; None: it has none, and at least two clusters.
        seen: clusters that the figure rests on, for what they cannot rule out.
    """
    value, influence = (found[0] for found in statistic(np.ones((1, n_clusters))))
    if np.isnan(value):
        return None
    low = high = float(value)
    if limits is not None:
        unseen = power.unseen_share(seen, LEVEL)
        low, high = low - (low - limits[0]) * unseen, high + (limits[1] - high) * unseen
    if n_clusters == 1:
        return Estimate(float(value), *(limits or (low, high)), n)
    scale = n_clusters / (n_clusters - 1)
    error = float(np.sqrt(scale * np.square(influence).sum()))
    t = _studentized(statistic, float(value), error, scale, n_clusters, resamples, seed)
    if t.size:
        t_low, t_high = np.quantile(t, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        low, high = min(low, value - t_high * error), max(high, value - t_low * error)
    if limits is not None:
        low, high = max(limits[0], low), min(limits[1], high)
    return Estimate(float(value), float(low), float(high), n)


def _studentized(
    statistic: Statistic, value: float, error: float, scale: float, n_clusters: int, resamples: int, seed: int
) -> Floats:
    """Each resample's error by its own standard error; at most (resamples,)."""
    rng = np.random.default_rng(seed)
    rows = max(1, BLOCK_ENTRIES // n_clusters)
    blocks = []
    for start in range(0, resamples, rows):
        chances = np.full(n_clusters, 1 / n_clusters)
        drawn = rng.multinomial(n_clusters, chances, size=min(rows, resamples - start)).astype(np.float64)
        values, influences = statistic(drawn)
        errors = np.sqrt(scale * (drawn * np.square(influences)).sum(axis=1))
        varies = errors > 1e-6 * error  # NaN, and what is rounding, are not
        blocks.append((values[varies] - value) / errors[varies])
    return np.concatenate(blocks)
