"""How often the gate is wrong, and how often it sees a gain: simulated nights whose truth is known."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pytest

from ragline.promotion.verdict import Measure, Rules, Scored, decide

TARGET = Measure("test", "mrr@10", 0.025)
GUARDS = (Measure("test", "recall@5", 0.025), Measure("test", "answer_f1", 0.025))
RULES = Rules(min_questions=100, level=0.95, resamples=500, seed=13)
BASE_RATE = 0.8


@dataclass
class World:
    """Questions about documents; a question is solved where its latent ease, and luck, pass a threshold.

    Ease is shared by the questions of a document (0.4 of its variance), and by all systems that are asked. Luck is a
    training's own; `luck` is its standard deviation beside an ease of 1. With 0.1, 0.2 and 0.35 two equal systems
    differ on about 4, 7 and 10 % of the questions. The measures know nothing of each other, the hardest case for gains.
    """

    n: int
    luck: float
    seed: int

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        document = np.sort(self.rng.integers(0, self.n * 5 // 8, self.n))  # as in the default corpus: 172 for 274
        self.questions = [f"q{number:05d}" for number in range(self.n)]
        self.clusters = {q: f"d{d:05d}" for q, d in zip(self.questions, document, strict=True)}
        self.ease = [
            0.4**0.5 * self.rng.standard_normal(self.n)[document] + 0.6**0.5 * self.rng.standard_normal(self.n)
            for _ in (TARGET, *GUARDS)
        ]

    def night(self, *gains: float) -> list[dict[str, float]]:
        """A newly trained system: for each measure, question → 0 or 1, true mean 0.8 and what it gains."""
        found = []
        for ease, gain in zip(self.ease, gains, strict=True):
            latent = ease + self.luck * self.rng.standard_normal(self.n)
            found.append(
                dict(zip(self.questions, (latent > _threshold(BASE_RATE + gain, self.luck)) * 1.0, strict=True))
            )
        return found

    def promotes(self, challenger: list[dict[str, float]], champion: list[dict[str, float]]) -> bool:
        scored = [Scored(*three) for three in zip((TARGET, *GUARDS), challenger, champion, strict=True)]
        return decide(scored, self.clusters, RULES).promoted


def _threshold(rate: float, luck: float) -> float:
    """What a share `rate` of a normal variable of variance 1 + luck² passes."""
    return NormalDist(sigma=(1 + luck**2) ** 0.5).inv_cdf(1 - rate)


def promotions_without_change(nights: int, n: int, luck: float, seed: int) -> int:
    """Nights on which an equal challenger replaced the champion, who stays until then."""
    world = World(n, luck, seed)
    champion, promoted = world.night(0, 0, 0), 0
    for _ in range(nights):
        challenger = world.night(0, 0, 0)
        if world.promotes(challenger, champion):
            champion, promoted = challenger, promoted + 1
    return promoted


def promotions_of(gains: tuple[float, float, float], times: int, n: int, luck: float, seed: int) -> int:
    """Out of `times` worlds, those in which a challenger with these true gains replaced the champion."""
    worlds = (World(n, luck, seed + number) for number in range(times))
    return sum(world.promotes(world.night(*gains), world.night(0, 0, 0)) for world in worlds)


@pytest.mark.parametrize("luck", [0.2, 0.35])
def test_nights_without_change_promote_almost_nobody(luck):
    assert promotions_without_change(nights=30, n=300, luck=luck, seed=1) <= 1  # 5 %


def test_a_gain_of_five_points_is_seen():
    assert promotions_of((0.05, 0, 0), times=5, n=1000, luck=0.1, seed=2) >= 4  # 80 %


def test_a_loss_of_three_points_in_a_guarded_measure_is_stopped():
    assert promotions_of((0.05, 0, -0.03), times=8, n=1000, luck=0.2, seed=3) == 0
