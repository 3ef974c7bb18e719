"""Tables of means, and comparisons judged together."""

import math

import pytest

from ragline.errors import DataError
from ragline.evaluation import scorecard

HOW = scorecard.Bootstrap(resamples=200, seed=1)


def row(**changes):
    return {"set": "test", "metric": "mrr@10", "a": "tuned", "b": "base", "difference": 0.1, "low": 0.02, "high": 0.2,
            "n": 75, "p": 0.01, "detectable": 0.1234, **changes}  # fmt: skip


def test_means():
    scores = {"base": {"recall@5": {"a": 1.0, "b": 0.0, "c": 0.0}, "none": {}}}
    assert scorecard.means(scores) == {"base": {"recall@5": 0.333333}}
    with pytest.raises(DataError, match="base: recall@5 of question 'a' is NaN"):
        scorecard.means({"base": {"recall@5": {"a": math.nan}}})


def test_correction_is_over_the_comparisons_of_one_set():
    rows = scorecard.corrected([row(p=0.02), row(p=0.01, b="bm25"), row(p=0.02, set="gold")])
    assert [r["p_holm"] for r in rows] == [0.02, 0.02, 0.02]  # 0.02 × 1, 0.01 × 2; gold stands alone


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "tuned is better with n = 75"),
        ({"difference": -0.1, "low": -0.2, "high": -0.02}, "base is better with n = 75"),
        ({"low": -0.01}, "not decisive with n = 75: a true difference below 0.123 mostly stays unseen"),
        ({"p": 0.06}, "not decisive with n = 75: the interval leaves out 0, but p is 0.060"),
    ],
)
def test_verdict(changes, verdict):
    (found,) = scorecard.corrected([row(**changes)])
    assert found["verdict"] == verdict
    assert found["decisive"] == (not verdict.startswith("not"))


def test_one_of_twenty_needs_more_than_one_alone():
    rows = [row(p=0.01), *(row(p=0.9, metric=f"m{i}") for i in range(19))]
    assert scorecard.corrected(rows[:1])[0]["decisive"]
    first, *others = scorecard.corrected(rows)
    assert not first["decisive"]  # p_holm is 20 × 0.01
    assert first["verdict"] == "not decisive with n = 75: clear by itself, not after correction for 20 comparisons"
    assert others[0]["verdict"] == "not decisive with n = 75: the interval leaves out 0, but p is 0.900"


def test_comparisons_can_be_judged():
    scores = {"a": {"m": {f"q{i}": 1.0 for i in range(40)}}, "b": {"m": {f"q{i}": float(i % 2) for i in range(40)}}}
    clusters = {f"q{i}": f"q{i}" for i in range(40)}
    rows = scorecard.corrected(scorecard.comparisons(scores, [("a", "b")], ["m"], clusters, HOW, set="test"))
    assert [(r["set"], r["difference"], r["verdict"]) for r in rows] == [("test", 0.5, "a is better with n = 40")]
    assert scorecard.corrected([]) == []
