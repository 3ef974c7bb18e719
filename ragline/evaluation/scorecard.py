"""From per-question scores to means, intervals and paired comparisons, in the shape of the metrics files."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ragline.errors import DataError
from ragline.evaluation import significance

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]
"""system → metric → question_id → value."""


LEVEL = 0.95
"""Of every interval; false alarms among the comparisons of one set stay below the rest."""
ALPHA = 1 - LEVEL


@dataclass(frozen=True)
class Bootstrap:
    """How uncertainty is estimated."""

    resamples: int
    seed: int


def means(scores: Scores) -> dict[str, dict[str, float]]:
    """system → metric → mean over the questions, six decimals; a metric that no question has is left out.

    Raises:
        DataError: a value that is NaN, which would make a figure that is not JSON.
    """
    for system, metrics in scores.items():
        for name, values in metrics.items():
            if odd := sorted(question for question, value in values.items() if math.isnan(value)):
                raise DataError(
                    f"{system}: {name} of question {odd[0]!r} is NaN, expected a number; see how it was scored"
                )
    return {
        system: {name: round(sum(v.values()) / len(v), 6) for name, v in metrics.items() if v}
        for system, metrics in scores.items()
    }


def intervals(scores: Scores, clusters: Mapping[str, str], how: Bootstrap) -> dict[str, dict[str, dict[str, Any]]]:
    """system → metric → mean, low, high, n, n_clusters."""
    return {
        system: {
            name: _rounded(significance.interval(v, clusters, resamples=how.resamples, seed=how.seed))
            for name, v in metrics.items()
            if v
        }
        for system, metrics in scores.items()
    }


def comparisons(
    scores: Scores,
    pairs: Iterable[tuple[str, str]],
    metrics: Iterable[str],
    clusters: Mapping[str, str],
    how: Bootstrap,
    **labels: str,
) -> list[dict[str, Any]]:
    """One row per pair and metric: a minus b on the same questions."""
    wanted = list(metrics)
    return [
        {
            **labels,
            "metric": metric,
            "a": a,
            "b": b,
            **_rounded(
                significance.paired(
                    scores[a][metric], scores[b][metric], clusters, resamples=how.resamples, seed=how.seed
                )
            ),
        }
        for a, b in pairs
        for metric in wanted
    ]


def corrected(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Comparisons with p corrected for all that were made on the same questions, and what they amount to in words.

    Adds p_holm (`significance.holm` over the rows of a set); decisive, which asks for an interval without zero and
    p_holm of at most 5 %; and verdict, a sentence.
    """
    given = list(rows)
    together: dict[str, list[int]] = {}
    for at, row in enumerate(given):
        together.setdefault(row["set"], []).append(at)
    p_holm = {
        at: p
        for members in together.values()
        for at, p in zip(members, significance.holm([given[at]["p"] for at in members]), strict=True)
    }
    return [_judged(row, round(p_holm[at], 6), len(together[row["set"]])) for at, row in enumerate(given)]


def _judged(row: Mapping[str, Any], p_holm: float, compared: int) -> dict[str, Any]:
    decisive = _without_zero(row) and p_holm <= ALPHA
    better = row["a"] if row["difference"] > 0 else row["b"]
    verdict = (
        f"{better} is better with n = {row['n']}"
        if decisive
        else f"not decisive with n = {row['n']}: {_obstacle(row, compared)}"
    )
    return {**row, "p_holm": p_holm, "decisive": decisive, "verdict": verdict}


def _obstacle(row: Mapping[str, Any], compared: int) -> str:
    if not _without_zero(row):
        return f"a true difference below {row['detectable']:.3f} mostly stays unseen"
    if row["p"] <= ALPHA:
        return f"clear by itself, not after correction for {compared} comparisons"
    return f"the interval leaves out 0, but p is {row['p']:.3f}"


def _without_zero(row: Mapping[str, Any]) -> bool:
    return bool(row["low"] > 0 or row["high"] < 0)


def _rounded(estimate: Any) -> dict[str, Any]:
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(estimate).items()}
