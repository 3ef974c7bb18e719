"""Knowing when one is wrong: what is risked by answering more, and what a confidence is worth.

A loss says how wrong an answer is: 0 for a right one, 1 for a wrong one, between for half right; answering what the
corpus cannot answer is a loss of 1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from ragline.errors import ConfigError, DataError

BINS = 10


@dataclass(frozen=True, slots=True)
class Point:
    """What is risked where the most confident answers are given and the rest is refused."""

    coverage: float
    """Share of the questions that are answered."""
    risk: float
    """Mean loss of those."""


def risk_coverage(confidence: Mapping[str, float], losses: Mapping[str, float]) -> list[Point]:
    """Mean loss of the k most confident answers, for k = 1 … n.

    Equal confidences have no order; each of them takes the group's mean loss, the mean over all of its orders.

    Args:
        confidence: question_id → any number, higher is surer.
        losses: the same questions → loss in [0, 1].

    Returns:
        n points of rising coverage, the last of them (1, mean loss).

    Raises:
        DataError: no question, other questions on one side than on the other, NaN, or a loss outside [0, 1].

    Source: El-Yaniv and Wiener 2010; Geifman and El-Yaniv 2017.
    """
    _check(confidence, losses)
    surest = sorted(confidence, key=lambda question: (-confidence[question], question))
    points: list[Point] = []
    total = 0.0
    for _, alike in groupby(surest, key=lambda question: confidence[question]):
        group = [losses[question] for question in alike]
        shared = sum(group) / len(group)
        for _ in group:
            total += shared
            given = len(points) + 1
            points.append(Point(given / len(surest), min(1.0, total / given)))
    return points


def weighted_aurc(confidence: Mapping[str, float], losses: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """`aurc` where a question counts for as many as its weight says; with equal weights it is `aurc`.

    Args:
        weights: the same questions → weight, above 0.

    Raises:
        DataError: as for `risk_coverage`.
    """
    _check(confidence, losses)
    surest = sorted(confidence, key=lambda question: (-confidence[question], question))
    area = lost = counted = 0.0
    for _, alike in groupby(surest, key=lambda question: confidence[question]):
        group = list(alike)
        weight = math.fsum(weights[question] for question in group)
        shared = math.fsum(weights[question] * losses[question] for question in group) / weight
        for question in group:
            lost += weights[question] * shared
            counted += weights[question]
            area += weights[question] * lost / counted
    return area / counted


def aurc(confidence: Mapping[str, float], losses: Mapping[str, float]) -> float:
    """Area under the risk-coverage curve: the mean of its n risks, in [0, 1]; lower is better.

    An order without information gives the mean loss; wrong answers ranked last give the least that there is.

    Raises:
        DataError: as for `risk_coverage`.

    Source: Geifman, Uziel and El-Yaniv 2019.
    """
    points = risk_coverage(confidence, losses)
    return sum(point.risk for point in points) / len(points)


def excess_aurc(confidence: Mapping[str, float], losses: Mapping[str, float]) -> float:
    """What of `aurc` is the confidence's fault: above the area when answers are ranked by their very losses.

    Raises:
        DataError: as for `risk_coverage`.

    Source: Geifman, Uziel and El-Yaniv 2019.
    """
    ideal = {question: -loss for question, loss in losses.items()}
    return max(0.0, aurc(confidence, losses) - aurc(ideal, losses))


def calibration_error(confidence: Mapping[str, float], losses: Mapping[str, float], bins: int = BINS) -> float:
    """Expected calibration error: how far confidence is from the share that is right, in [0, 1].

    Answers fall into `bins` equal parts of [0, 1], each open below (0 belongs to the first); the gaps between a part's
    mean confidence and its mean of 1 - loss are averaged by their numbers of answers.

    Args:
        confidence: question_id → value meant as a probability; below 0 it counts as 0, above 1 as 1, as a cosine may.
        losses: as for `risk_coverage`.

    Raises:
        ConfigError: `bins` below 1.
        DataError: as for `risk_coverage`.

    Source: Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017.
    """
    if bins < 1:
        raise ConfigError(f"calibration: bins must be at least 1, got {bins}; 10 are usual")
    _check(confidence, losses)
    gaps = [0.0] * bins
    for question in sorted(confidence):
        sure = min(1.0, max(0.0, confidence[question]))
        place = next(at for at in range(bins) if sure <= (at + 1) / bins)
        gaps[place] += sure - (1 - losses[question])
    return sum(map(abs, gaps)) / len(confidence)


def operating_point(
    abstained: Mapping[str, bool], answerable: Mapping[str, bool], losses: Mapping[str, float]
) -> dict[str, float]:
    """Both ways to be wrong where the system now stands: silence without need, and answers that are wrong.

    Args:
        abstained: question_id → whether the system kept quiet.
        answerable: the same questions → whether the corpus holds the answer.
        losses: the same questions → loss in [0, 1] of what was said or held back.

    Returns:
        coverage, the share of questions answered; risk, the mean loss of those; wrong_abstention, the share of
        answerable questions refused; wrong_answer, the share of questions not answerable that were answered. A share
        of nothing is not there: no risk where everything was refused.

    Raises:
        DataError: as for `risk_coverage`.
    """
    _check({question: float(quiet) for question, quiet in abstained.items()}, losses)
    _check({question: float(can) for question, can in answerable.items()}, losses)
    answered = [question for question, quiet in abstained.items() if not quiet]
    able = [question for question, can in answerable.items() if can]
    shares = {
        "risk": [losses[question] for question in answered],
        "wrong_abstention": [float(abstained[question]) for question in able],
        "wrong_answer": [float(not abstained[question]) for question, can in answerable.items() if not can],
    }
    found = {name: math.fsum(values) / len(values) for name, values in shares.items() if values}
    return {"coverage": len(answered) / len(losses), **found}


def _check(numbers: Mapping[str, float], losses: Mapping[str, float]) -> None:
    if not losses:
        raise DataError("calibration: no question, expected at least one; check the question files")
    if numbers.keys() != losses.keys():
        odd = sorted(numbers.keys() ^ losses.keys())
        raise DataError(
            f"calibration: {len(odd)} questions (first {odd[:3]}) are on one side only; expected the same on both"
        )
    if odd := sorted(question for question, value in numbers.items() if value != value):
        raise DataError(f"calibration: question {odd[0]!r} has confidence NaN, expected a number; run retrieval again")
    if odd := sorted(question for question, loss in losses.items() if not 0 <= loss <= 1):
        raise DataError(f"calibration: question {odd[0]!r} has loss {losses[odd[0]]}, expected a value in [0, 1]")
