"""A threshold whose risk is bounded: by hand where little is needed, and by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragline.errors import DataError
from ragline.evaluation import calibration, risk


def sample(confidence, losses, clusters=None, weights=None) -> risk.Sample:
    n = len(losses)
    return risk.Sample(
        np.asarray(confidence, dtype=float),
        np.asarray(losses, dtype=float),
        np.ones(n) if weights is None else np.asarray(weights, dtype=float),
        [str(row) for row in range(n)] if clusters is None else clusters,
    )


def test_the_first_stake_by_hand():
    # One answer, right, target 0.5: worst excess is 0.5, its spread before anything was seen 0.25². The stake is the
    # lesser of √(2 ln 20 / 0.0625) = 9.8 and 0.9 / 0.5 = 1.8; on an excess of −0.5 it wins 0.9.
    assert risk.capital(sample([0.9], [0.0]), 0.0, 0.5, 0.05) == pytest.approx(1.9)
    assert risk.capital(sample([0.9], [1.0]), 0.0, 0.5, 0.05) == pytest.approx(0.1)


def test_what_is_not_answered_wins_nothing():
    assert risk.capital(sample([0.1] * 50, [0.0] * 50), 0.5, 0.3, 0.05) == 1.0


def test_right_answers_are_let_through_and_wrong_ones_are_not():
    # 300 sure answers are right, 300 unsure ones wrong, and there is nothing between the two groups.
    found = risk.lowest(sample([0.9] * 300 + [0.1] * 300, [0.0] * 300 + [1.0] * 300), 0.2, 0.95)
    assert found is not None
    assert (found.threshold, found.risk, found.coverage) == (pytest.approx(0.12), 0.0, 0.5)
    assert 0 < found.bound <= 0.05


def test_wrong_answers_and_few_answers_promise_nothing():
    assert risk.lowest(sample([0.9] * 300, [1.0] * 300), 0.3, 0.95) is None
    assert risk.lowest(sample([0.9] * 3, [0.0] * 3), 0.3, 0.95) is None


def test_questions_of_one_document_count_as_one():
    apart = sample([0.9] * 60, [0.0] * 60)
    together = sample([0.9] * 60, [0.0] * 60, clusters=["d"] * 60)
    assert risk.lowest(apart, 0.3, 0.95) is not None
    assert risk.lowest(together, 0.3, 0.95) is None


@settings(max_examples=20)
@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=40))
def test_the_bound_lies_between_risk_and_target(rows):
    found = risk.lowest(sample([sure for sure, _ in rows] * 4, [loss for _, loss in rows] * 4), 0.5, 0.9)
    if found is not None:
        assert found.risk <= found.bound <= 0.5


def test_an_impossible_loss():
    with pytest.raises(DataError, match=r"risk: expected losses in \[0, 1\], got 0.0 to 2.0"):
        sample([0.5, 0.5], [0.0, 2.0])
    with pytest.raises(DataError, match="risk: no answer"):
        sample([], [])


def draw(rng, clusters, correlation, informative):
    """One to four questions a cluster, of one mood; losses of 0, 0.5 and 1, and a confidence that guesses them."""
    owner = np.repeat(np.arange(clusters), rng.integers(1, 5, clusters))
    own = rng.normal(size=len(owner))
    mood = correlation**0.5 * rng.normal(size=clusters)[owner] + (1 - correlation) ** 0.5 * own
    losses = np.select([mood < -0.1, mood < 0.4], [1.0, 0.5], 0.0)
    seen = informative * mood + (1 - informative**2) ** 0.5 * rng.normal(size=len(owner))
    return 1 / (1 + np.exp(-0.6 - 1.2 * seen)), losses, [str(one) for one in owner]


@pytest.mark.parametrize(("target", "informative"), [(0.55, 0.0), (0.45, 0.8)])
def test_the_promise_is_kept_where_clusters_are_correlated(target, informative):
    """Without information, risk is 0.557 at every threshold, so that any threshold chosen breaks a promise of 0.55."""
    sure, losses, _ = draw(np.random.default_rng(0), 40_000, 0.5, informative)
    broken, draws = 0, 40
    for seed in range(1, draws + 1):
        found = risk.lowest(sample(*draw(np.random.default_rng(seed), 100, 0.5, informative)), target, 0.95)
        broken += found is not None and losses[sure >= found.threshold].mean() > target
    assert broken <= 0.05 * draws


def test_weights_count_a_question_as_often_as_they_say():
    confidence, losses = {"a": 0.9, "b": 0.5, "c": 0.1}, {"a": 0.0, "b": 1.0, "c": 0.5}
    twice = {"a": 0.9, "b": 0.5, "b2": 0.5, "c": 0.1}
    # by falling confidence a; b twice, which share a rank; c: risks 0, 1/2, 2/3, 5/8
    assert calibration.weighted_aurc(confidence, losses, {"a": 1, "b": 1, "c": 1}) == pytest.approx(
        calibration.aurc(confidence, losses)
    )
    assert calibration.aurc(twice, {**losses, "b2": 1.0}) == pytest.approx((0 + 1 / 2 + 2 / 3 + 5 / 8) / 4)
    # b's weight comes at once: 0, then 2/3 for both of it, then 5/8
    weighted = calibration.weighted_aurc(confidence, losses, {"a": 1, "b": 2, "c": 1})
    assert weighted == pytest.approx((0 + 2 * (2 / 3) + 5 / 8) / 4)
