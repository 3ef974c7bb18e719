"""Clustered intervals and paired tests: known answers, defined edges, and honest coverage."""

import math

import numpy as np
import pytest

from ragline.errors import ConfigError, DataError
from ragline.evaluation import significance


def one_each(values):
    """Every question is its own cluster."""
    return {question: question for question in values}


def test_mean_weighs_clusters_by_their_questions():
    # Cluster x: 1, 1, 1; cluster y: 0. Mean over questions 3 / 4, not the mean 1 / 2 of the cluster means.
    found = significance.interval(
        {"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.0}, {"a": "x", "b": "x", "c": "x", "d": "y"}, resamples=200, seed=1
    )
    assert (found.mean, found.n, found.n_clusters) == (0.75, 4, 2)


def test_large_sample_gives_the_normal_interval():
    # 2,500 single questions, half right: standard error 0.5 / 50 = 0.01, so 0.5 -+ 1.96 * 0.01.
    values = {f"q{i:04d}": float(i % 2) for i in range(2500)}
    found = significance.interval(values, one_each(values), resamples=4000, seed=1)
    assert found.low == pytest.approx(0.5 - 0.0196, abs=0.0012)
    assert found.high == pytest.approx(0.5 + 0.0196, abs=0.0012)


def test_identical_questions_in_a_cluster_tell_nothing_new():
    # The same 2,500 in clusters of four alike: 625 draws, standard error 0.5 / 25 = 0.02.
    values = {f"q{i:04d}": float(i // 4 % 2) for i in range(2500)}
    clusters = {question: f"c{i // 4}" for i, question in enumerate(values)}
    found = significance.interval(values, clusters, resamples=4000, seed=1)
    assert found.n_clusters == 625
    assert found.high - found.low == pytest.approx(2 * 0.0392, rel=0.06)


def test_level_widens_the_interval():
    # 1.645 and 2.576 standard errors of 0.01 on each side.
    values = {f"q{i:04d}": float(i % 2) for i in range(2500)}
    widths = []
    for level in (0.9, 0.99):
        found = significance.interval(values, one_each(values), resamples=4000, seed=1, level=level)
        widths.append(found.high - found.low)
    assert widths == pytest.approx([0.0329, 0.0515], rel=0.08)


def test_perfect_score_leaves_room_for_the_unseen():
    # 60 clusters, all 1: a share q of failing clusters stays unseen with (1 - q)^60 = 0.025, so low = 0.025^(1/60).
    values = {f"q{i}": 1.0 for i in range(60)}
    found = significance.interval(values, one_each(values), resamples=500, seed=1)
    assert (found.mean, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 60))
    assert found.low == pytest.approx(0.9404, abs=1e-4)


@pytest.mark.parametrize("values", [{"a": 1.0}, {"a": 1.0, "b": 0.5, "c": 0.0}])
def test_one_cluster_knows_nothing(values):
    found = significance.interval(values, dict.fromkeys(values, "x"), resamples=100, seed=1)
    assert (found.low, found.high, found.n_clusters) == (0.0, 1.0, 1)
    assert found.mean == sum(values.values()) / len(values)


def test_one_cluster_compared():
    found = significance.paired({"a": 1.0}, {"a": 0.0}, {"a": "x"}, resamples=100, seed=1)
    assert (found.difference, found.low, found.high, found.p) == (1.0, -1.0, 1.0, 1.0)


def test_resamples_without_variation_do_not_blow_up_the_interval():
    # One failure in 60: a third of the resamples miss it and have no standard error. Poisson bounds for one event in
    # 60 are 0.03 and 5.6 failures; the interval must be of that order, not [0, 1].
    values = {f"q{i}": float(i > 0) for i in range(60)}
    found = significance.interval(values, one_each(values), resamples=2000, seed=1)
    assert 0.85 < found.low < 0.95
    assert found.high > 59 / 60


def test_same_seed_same_interval_other_seed_nearly():
    values = {f"q{i}": float(i % 3 == 0) for i in range(300)}
    first, again, other = (significance.interval(values, one_each(values), 1000, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first.low == pytest.approx(other.low, abs=0.02)


def test_blocks_do_not_change_the_number_of_resamples(monkeypatch):
    sums = np.array([1.0, 0.0, 1.0, 0.0, 1.0])
    residuals = sums - sums.mean()
    monkeypatch.setattr(significance, "BLOCK_ENTRIES", 15)  # three resamples a block
    t = significance._studentized(residuals, np.ones(5), 0.1, 10_000, np.random.default_rng(1))
    # Only resamples of one value alone are passed over: (3/5)^5 + (2/5)^5 = 0.088.
    assert len(t) / 10_000 == pytest.approx(1 - 0.088, abs=0.01)


def test_studentized_is_the_ratio_of_each_resample(monkeypatch):
    # Against the long way: draw the same clusters, take mean and standard error of each resample by its definition.
    rng = np.random.default_rng(3)
    sizes = rng.integers(1, 6, 12).astype(float)
    sums = rng.binomial(sizes.astype(int), 0.6).astype(float)
    mean = sums.sum() / sizes.sum()
    t = significance._studentized(sums - mean * sizes, sizes, 0.1, 50, np.random.default_rng(7))
    expected = []
    for row in np.random.default_rng(7).integers(0, 12, size=(50, 12)):
        s, n = sums[row], sizes[row]
        ratio = s.sum() / n.sum()
        error = math.sqrt(12 / 11 * ((s - ratio * n) ** 2).sum()) / n.sum()
        expected.append((ratio - mean) / error)
    assert t == pytest.approx(np.array(expected))


def test_paired_counts_and_difference():
    first = {"a": 1.0, "b": 0.5, "c": 0.0, "d": 1.0}
    second = {"a": 0.0, "b": 0.5, "c": 0.5, "d": 0.5}
    found = significance.paired(first, second, one_each(first), resamples=500, seed=1)
    # (1 + 0 - 0.5 + 0.5) / 4
    assert found.difference == 0.25
    assert (found.wins, found.losses, found.ties, found.n, found.n_clusters) == (2, 1, 1, 4, 4)


@pytest.mark.parametrize(("decided", "p"), [(3, 2 / 8), (6, 2 / 64)])
def test_sign_flip_by_hand(decided, p):
    # k clusters all won, the rest tied: only the two flips that keep or turn every sign reach the observed sum.
    first = {f"q{i}": float(i < decided) for i in range(20)}
    second = dict.fromkeys(first, 0.0)
    found = significance.paired(first, second, one_each(first), resamples=20_000, seed=1)
    assert found.p == pytest.approx(p, abs=0.01)


def test_sign_flip_turns_whole_clusters():
    # Thirty wins in three clusters are three signs, not thirty: p = 2 / 8.
    first = {f"q{i}": 1.0 for i in range(30)}
    clusters = {question: f"c{i % 3}" for i, question in enumerate(first)}
    found = significance.paired(first, dict.fromkeys(first, 0.0), clusters, resamples=20_000, seed=1)
    assert found.p == pytest.approx(0.25, abs=0.01)


def test_system_against_itself():
    values = {f"q{i}": i / 100 for i in range(100)}
    found = significance.paired(values, values, one_each(values), resamples=500, seed=1)
    # No difference seen in 100 clusters; a share of 1 - 0.025^(1/100) = 0.036 could still differ.
    assert (found.difference, found.p, found.ties) == (0.0, 1.0, 100)
    assert (found.low, found.high) == pytest.approx((-0.0362, 0.0362), abs=1e-4)


def test_clear_gain_is_seen():
    first = {f"q{i}": float(i % 10 > 1) for i in range(300)}
    second = {f"q{i}": float(i % 10 > 3) for i in range(300)}  # loses two in ten
    found = significance.paired(first, second, one_each(first), resamples=2000, seed=1)
    assert 0.14 < found.low < found.difference < found.high < 0.27
    assert found.p == pytest.approx(1 / 2001)


def test_detectable_difference_by_hand():
    # 2,500 differences of 0 or 1 in turn: standard error 0.01; (1.960 + 0.842) of them.
    first = {f"q{i:04d}": float(i % 2) for i in range(2500)}
    second = dict.fromkeys(first, 0.0)
    found = significance.paired(first, second, one_each(first), resamples=100, seed=1)
    assert found.detectable == pytest.approx(0.0280, abs=1e-4)
    # Without any difference seen, what 100 clusters may hide: 1 - 0.025^(1/100).
    same = {f"q{i}": 1.0 for i in range(100)}
    found = significance.paired(same, same, one_each(same), resamples=100, seed=1)
    assert found.detectable == pytest.approx(0.0362, abs=1e-4)
    assert significance.paired({"a": 1.0}, {"a": 0.0}, {"a": "x"}, resamples=100, seed=1).detectable == 1.0


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04: times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.04; none below its predecessor.
    assert significance.holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert significance.holm([0.4, 0.9]) == [0.8, 0.9]
    assert significance.holm([0.6, 0.6]) == [1.0, 1.0]
    assert significance.holm([]) == []
    with pytest.raises(DataError, match=r"expected p within \[0, 1\], got nan"):
        significance.holm([0.1, math.nan])


def test_coverage_of_clustered_data():
    # 400 data sets, 60 clusters of 1 to about 20 questions, correlation 0.3; nominal 95 %, standard error 1.1 %.
    # Drawing questions instead of clusters gives 69 to 79 %, plain percentiles 86 to 88 % where the mean is 0.95.
    rng = np.random.default_rng(11)
    for truth in (0.7, 0.95):
        held = 0
        for seed in range(400):
            values, clusters = {}, {}
            for c in range(60):
                right = rng.beta(truth * 7 / 3, (1 - truth) * 7 / 3)  # correlation 1 / (1 + 7/3) = 0.3
                for i in range(rng.geometric(0.2)):
                    values[f"{c}-{i}"] = float(rng.random() < right)
                    clusters[f"{c}-{i}"] = str(c)
            found = significance.interval(values, clusters, resamples=300, seed=seed)
            held += found.low <= truth <= found.high
        assert held / 400 > 0.925


def test_p_is_level_without_a_difference():
    # 400 comparisons of two alike systems, 40 clusters: 5 % below 0.05, give or take 2.3 standard errors of 1.1 %.
    # A seed for each, or all would share the same few flips and fall together.
    rng = np.random.default_rng(12)
    low = 0
    for seed in range(400):
        tilt = np.repeat(rng.normal(0, 0.2, 40), 4)  # a cluster favours one system or the other
        first = {f"q{i}": float(v) for i, v in enumerate(np.clip(0.5 + tilt + rng.normal(0, 0.1, 160), 0, 1))}
        second = dict.fromkeys(first, 0.5)
        clusters = {f"q{i}": str(i // 4) for i in range(160)}
        low += significance.paired(first, second, clusters, resamples=200, seed=seed).p <= 0.05
    assert 0.02 < low / 400 < 0.075


@pytest.mark.parametrize(
    ("values", "clusters", "message"),
    [
        ({}, {}, "no question, expected at least one"),
        ({"a": 1.0, "b": 0.0}, {"a": "x"}, r"1 of 2 questions have no cluster, first \['b'\]"),
        ({"a": 1.5}, {"a": "x"}, r"'a' scores 1.5, expected a value in \[0, 1\]"),
        ({"a": math.nan}, {"a": "x"}, "'a' scores nan"),
    ],
)
def test_bad_values(values, clusters, message):
    with pytest.raises(DataError, match=message):
        significance.interval(values, clusters, resamples=10, seed=1)


def test_different_questions():
    with pytest.raises(DataError, match=r"2 questions \(first \['a', 'b'\]\) are scored for one system only"):
        significance.paired({"a": 1.0}, {"b": 1.0}, {"a": "x", "b": "x"}, resamples=10, seed=1)


def test_bad_settings():
    with pytest.raises(ConfigError, match="resamples must be at least 1, got 0"):
        significance.interval({"a": 1.0}, {"a": "x"}, resamples=0, seed=1)
    with pytest.raises(ConfigError, match="between 0 and 1, got 95"):
        significance.interval({"a": 1.0}, {"a": "x"}, resamples=10, seed=1, level=95)
