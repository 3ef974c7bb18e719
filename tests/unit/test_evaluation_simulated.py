"""Intervals, p and detectable differences on simulated sets whose truth is known; more in docs/experiments.md."""

import time
import tracemalloc

import numpy as np
import pytest

from ragline.evaluation import significance
from tests.fixtures import clustered

pytestmark = pytest.mark.slow

SETS, RESAMPLES = 300, 400
CORRELATION = 0.1
"""Of two questions of a cluster on which the systems differ."""


def compare(wins: float, differing: float, seed: int) -> list[significance.Paired]:
    """Comparisons on 300 sets of 1,000 questions, 250 clusters or so."""
    rng = np.random.default_rng(seed)
    drawn = [clustered.two_systems(rng, 1000, wins, differing, CORRELATION) for _ in range(SETS)]
    return [
        significance.paired(scored.first, scored.second, scored.clusters, RESAMPLES, seed)
        for seed, scored in enumerate(drawn)
    ]


def within(truth: float, found: list[significance.Paired]) -> float:
    return sum(pair.low <= truth <= pair.high for pair in found) / len(found)


def seen(found: list[significance.Paired]) -> float:
    """Share that counts as decided: an interval without zero and p of at most 5 %."""
    return sum((pair.low > 0 or pair.high < 0) and pair.p <= 0.05 for pair in found) / len(found)


@pytest.mark.parametrize(("mean", "correlation"), [(0.6, 0.1), (0.9, 0.3)])
def test_intervals_hold_the_mean_in_95_of_100(mean, correlation):
    # 300 sets: a standard error of 1.3 %.
    rng = np.random.default_rng(21)
    held = 0
    for seed in range(SETS):
        values, clusters = clustered.one_system(rng, 1000, mean, correlation)
        found = significance.interval(values, clusters, RESAMPLES, seed)
        held += found.low <= mean <= found.high
    assert 0.91 < held / SETS < 0.985


def test_two_alike_systems_are_seldom_told_apart():
    found = compare(wins=0.5, differing=0.25, seed=22)
    assert 0.91 < within(0.0, found) < 0.985
    assert seen(found) <= 0.05 + 0.025  # two standard errors


def test_five_points_are_found_with_a_thousand_questions():
    # A quarter of the questions differ, the first wins six in ten: 0.25 × (0.6 - 0.4) = 0.05.
    found = compare(wins=0.6, differing=0.25, seed=23)
    assert 0.91 < within(0.05, found) < 0.985
    assert seen(found) >= 0.8


def test_the_detectable_difference_is_found_in_four_of_five():
    detectable = float(np.mean([pair.detectable for pair in compare(wins=0.5, differing=0.25, seed=24)]))
    found = compare(wins=(detectable / 0.25 + 1) / 2, differing=0.25, seed=25)
    assert seen(found) == pytest.approx(0.8, abs=0.07)


def test_ten_thousand_clusters_in_seconds_and_little_memory():
    rng = np.random.default_rng(26)
    first, second = ({f"q{i:05d}": float(v) for i, v in enumerate(rng.random(10_000))} for _ in range(2))
    clusters = {question: question for question in first}
    started = time.process_time()
    significance.paired(first, second, clusters, resamples=10_000, seed=1)
    assert time.process_time() - started < 20  # two cores for ten seconds
    tracemalloc.start()
    significance.paired(first, second, clusters, resamples=500, seed=1)
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()
