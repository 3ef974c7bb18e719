"""What verdicts come to: means with their failures, preferences, and how far a judge agrees with itself."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean, variance
from typing import Any

from ragline.evaluation import significance


def tally(values: Mapping[str, float | None], clusters: Mapping[str, str], resamples: int, seed: int) -> dict[str, Any]:
    """The mean over what was judged, and where it would be if every failure hid a bad answer, or a good one.

    Args:
        values: question_id → verdict in [0, 1], None where judging failed; at least one.

    Returns:
        n judged, failed, mean, low, high (over documents drawn anew), if_all_failed_bad, if_all_failed_good. Where
        everything failed the mean is None, and anything between 0 and 1 is possible.
    """
    judged = {question: value for question, value in values.items() if value is not None}
    failed, total = len(values) - len(judged), sum(judged.values())
    found: dict[str, Any] = {"n": len(judged), "failed": failed, "mean": None, "low": 0.0, "high": 1.0}
    if judged:
        interval = significance.interval(judged, clusters, resamples, seed)
        found |= rounded({"mean": interval.mean, "low": interval.low, "high": interval.high})
    bounds = {"if_all_failed_bad": total / len(values), "if_all_failed_good": (total + failed) / len(values)}
    return found | rounded(bounds)


def pairwise(
    a: str,
    b: str,
    orders: Mapping[str, tuple[float | None, float | None]],
    clusters: Mapping[str, str],
    resamples: int,
    seed: int,
) -> dict[str, Any] | None:
    """Which of two answerers is preferred, each question asked in both orders.

    Args:
        orders: question_id → how much a is preferred (1, 0.5 tie, 0) when it comes first, and when it comes second;
            None where judging failed.

    Returns:
        n judged in both orders, failed, wins_a, wins_b, ties; `inconsistent` of the ties are those where the order
        changed what was said, so inconsistent / n is the position bias. `preference` for a, a tie half, with its
        interval; if_all_failed_a and if_all_failed_b: what it would be over all questions, had every failed verdict
        been for a, or for b. Where no question was judged in both orders the preference is None, and any is possible.
        None where there is no question.
    """
    if not orders:
        return None
    judged = {question: (x, y) for question, (x, y) in orders.items() if x is not None and y is not None}
    values = {question: _preferred(x, y) for question, (x, y) in judged.items()}
    wins_a, wins_b = (sum(value == won for value in values.values()) for won in (1.0, 0.0))
    found: dict[str, Any] = {
        "a": a,
        "b": b,
        "n": len(judged),
        "failed": len(orders) - len(judged),
        "wins_a": wins_a,
        "wins_b": wins_b,
        "ties": len(judged) - wins_a - wins_b,
        "inconsistent": sum(x != y for x, y in judged.values()),
        **{"preference": None, "low": 0.0, "high": 1.0},
    }
    if judged:
        interval = significance.interval(values, clusters, resamples, seed)
        found |= rounded({"preference": interval.mean, "low": interval.low, "high": interval.high})
    bounds = {"if_all_failed_a": _had_failed_been(1.0, orders), "if_all_failed_b": _had_failed_been(0.0, orders)}
    return found | rounded(bounds)


def _preferred(ahead: float, behind: float) -> float:
    return ahead if ahead == behind else 0.5


def _had_failed_been(value: float, orders: Mapping[str, tuple[float | None, float | None]]) -> float:
    return fmean(_preferred(*(value if one is None else one for one in order)) for order in orders.values())


def repeats(verdicts: Sequence[Sequence[float | None]]) -> dict[str, Any] | None:
    """How far the judge agrees with itself.

    Args:
        verdicts: for each answer the verdicts on it, two or more and always as many; None where judging failed.

    Returns:
        n answers judged every time, failed, times; agreement: of two verdicts on one answer, how often they are the
        same; variance of the verdicts on one answer, the mean over answers; both None where no answer was judged every
        time. None where there is no answer.
    """
    if not verdicts:
        return None
    whole = [judged for one in verdicts if len(judged := [v for v in one if v is not None]) == len(one)]
    counts = {"n": len(whole), "failed": len(verdicts) - len(whole), "times": len(verdicts[0])}
    if not whole:
        return counts | {"agreement": None, "variance": None}
    same = fmean(fmean(x == y for x, y in combinations(one, 2)) for one in whole)
    spread = fmean(variance(one) for one in whole)
    return counts | rounded({"agreement": same, "variance": spread})


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Six decimals, as in every metrics file."""
    return {name: round(value, 6) for name, value in values.items()}
