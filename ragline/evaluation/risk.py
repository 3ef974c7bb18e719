"""From which confidence on to answer: a threshold, and a bound on the risk of the answers that are then given.

Risk is the mean loss of the answers that are given: Σ w·a·loss / Σ w·a over questions of weight w, of which a says
whether they are answered. The denominator changes with the threshold, so another mean is looked at: risk is at most R
where the mean of w·a·(loss − R) is at most 0. Questions about one document succeed and fail together, so clusters of
documents are what is drawn, and each brings the sum over its questions.

That mean is tested by betting. A capital of 1 stakes on every cluster's sum, one after the other, that it lies below
0, and more the less the sums seen before vary. If risk is above R, capital does not grow on average, so it reaches 1/p
with probability p at most (Markov's inequality). This holds for any bounded loss and any number of clusters; nothing is
taken to be normal. The mean of such capitals is one, too; over several orders of the clusters less depends on luck.

Thresholds are tried from a strict one to the most lenient, and a trial ends with the first that fails: in a sequence
fixed beforehand none needs a correction. One that answers few can prove nothing, so no trial begins at the very top.
One, with most of the error, begins where each answer is expected to lose no more than the target; another halfway
between that and certainty, for a confidence that is worth less than it says.

What it promises: with probability `level` over the draw of documents, risk on questions drawn as these is at most the
target. What it does not: that the next questions are drawn so. People may ask harder ones.

In simulation (losses of 0, 0.5 and 1; 60 or 200 clusters of one to eight questions, correlated by 0 to 0.9; confidence
that says nothing, something or much; targets of 0.2 to 0.5) at most 1 % of 200 draws a setting gave a threshold whose
true risk exceeded the target at level 0.95: the promise is kept with room to spare.

Source: Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, JRSS B 2024, section 4; Bates
et al., Distribution-free, risk-controlling prediction sets, JACM 2021; Angelopoulos et al., Learn then Test, 2021,
section 3 (fixed sequences from several starts); Geifman and El-Yaniv, Selective classification for deep neural
networks, NeurIPS 2017, who correct for every threshold tried, and take questions for independent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ragline.errors import DataError

Floats = NDArray[np.float64]

GRID = 50
"""Thresholds are multiples of 1 / 50."""
ORDERS = 20
"""Orders of the clusters over which capital is averaged."""
MOST_STAKED = 0.9
"""Of the stake at which the worst cluster would take all capital."""
FINE = 0.005
"""Steps in which a bound is told."""
SHARES = (0.8, 0.2)
"""Of the error: for the trial from the expected threshold, and for the stricter one."""


@dataclass(frozen=True)
class Sample:
    """Answers whose loss is known.

    Raises:
        DataError: no answer, or a loss outside [0, 1].
    """

    confidence: Floats
    """(n,) in [0, 1], higher is surer; below 0 where an answer is never given."""
    losses: Floats
    """(n,) in [0, 1]."""
    weights: Floats
    """(n,), above 0."""
    clusters: Sequence[str]
    """(n,)."""

    def __post_init__(self) -> None:
        if not len(self.losses):
            raise DataError("risk: no answer, expected at least one; check the dev questions")
        if not ((self.losses >= 0) & (self.losses <= 1)).all():
            raise DataError(f"risk: expected losses in [0, 1], got {self.losses.min()} to {self.losses.max()}")

    @cached_property
    def members(self) -> NDArray[np.intp]:
        """(n,): each one's cluster, numbers from 0."""
        return np.unique(np.asarray(self.clusters), return_inverse=True)[1]

    @cached_property
    def orders(self) -> NDArray[np.int64]:
        """(`ORDERS`, n_clusters): the same for the same number of clusters."""
        count = int(self.members.max()) + 1
        return np.array([np.random.default_rng(seed).permutation(count) for seed in range(ORDERS)])

    @cached_property
    def largest(self) -> float:
        """Weight of the largest cluster, which stands for the largest that there is."""
        return float(np.bincount(self.members, self.weights).max())

    def given(self, threshold: float) -> tuple[Floats, Floats]:
        """Weight of the answers given from a threshold on, and that weight times their loss, both (n_clusters,)."""
        kept = self.weights * (self.confidence >= threshold)
        weight, lost = (np.bincount(self.members, values) for values in (kept, kept * self.losses))
        return weight.astype(np.float64), lost.astype(np.float64)


@dataclass(frozen=True, slots=True)
class Bounded:
    """A threshold, and what is known of the risk of answering from there on."""

    threshold: float
    bound: float
    """Risk is at most this, at the level asked for."""
    risk: float
    """Of the sample itself."""
    coverage: float
    """Share of the sample, by weight, that is answered."""


def lowest(sample: Sample, target: float, level: float) -> Bounded | None:
    """The lowest threshold of a trial whose bound is at most the target; None where no trial gets anywhere.

    Args:
        target: within (0, 1).
        level: within (0, 1).
    """
    expected = math.ceil(round((1 - target) * GRID, 9))
    stricter = math.ceil((expected + GRID) / 2)
    for start, share in zip((expected, stricter), SHARES, strict=True):
        error = (1 - level) * share
        passed = _passed(sample, start, target, error)
        if passed is not None:
            weight, lost = (float(part.sum()) for part in sample.given(passed))
            bound = upper_bound(sample, passed, target, error)
            return Bounded(passed, bound, lost / weight, weight / float(sample.weights.sum()))
    return None


def _passed(sample: Sample, start: int, target: float, error: float) -> float | None:
    """The last threshold, going down the grid from a start, before one fails."""
    found = None
    for step in range(start, -1, -1):
        if capital(sample, step / GRID, target, error) < 1 / error:
            break
        found = step / GRID
    return found


def upper_bound(sample: Sample, threshold: float, target: float, error: float) -> float:
    """The least of target, target − 0.005, … that is still a bound, but for a probability of `error`."""
    bound = target
    while bound > FINE and capital(sample, threshold, bound - FINE, error) >= 1 / error:
        bound -= FINE
    return round(bound, 6)


def capital(sample: Sample, threshold: float, risk: float, error: float) -> float:
    """What 1 becomes if staked on answers from the threshold on losing less than `risk`; its mean is at most 1 if not.

    Args:
        error: the stakes are those that would do best where capital is to reach 1 / error at the last cluster.
    """
    weight, lost = sample.given(threshold)
    worst = (1 - risk) * sample.largest
    excess = (lost - risk * weight)[sample.orders]  # (orders, n_clusters)
    count = excess.shape[1]
    seen = np.arange(1, count + 1)
    means = np.cumsum(excess, axis=1) / (seen + 1)
    spread = ((worst / 2) ** 2 + np.cumsum((excess - means) ** 2, axis=1)) / (seen + 1)
    before = np.concatenate([np.full((len(excess), 1), (worst / 2) ** 2), spread[:, :-1]], axis=1)
    stakes = np.minimum(np.sqrt(2 * math.log(1 / error) / (count * before)), MOST_STAKED / worst)
    return float(np.exp(np.log1p(-stakes * excess).sum(axis=1)).mean())
