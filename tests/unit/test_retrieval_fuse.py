"""Hybrid scores by hand."""

import pytest

from ragline.retrieval import fuse

DENSE = {"q": {"a": 0.9, "b": 0.5, "c": 0.1}}
LEXICAL = {"q": {"c": 8.0, "d": 4.0}}


def test_convex_combination():
    # Dense by min-max: a 1, b 0.5, c 0. Lexical: c 1, d 0. Weight 0.6: a 0.6, c 0.4, b 0.3, d 0.
    fused = fuse.convex(DENSE, LEXICAL, 0.6, 4)["q"]
    assert fused == pytest.approx({"a": 0.6, "c": 0.4, "b": 0.3, "d": 0.0})
    assert list(fused) == ["a", "c", "b", "d"]


def test_cut_to_k():
    assert list(fuse.convex(DENSE, LEXICAL, 0.6, 2)["q"]) == ["a", "c"]


@pytest.mark.parametrize(("weight", "run"), [(1.0, DENSE), (0.0, LEXICAL)])
def test_the_ends_are_the_parts(weight, run):
    assert list(fuse.convex(DENSE, LEXICAL, weight, 4)["q"])[: len(run["q"]) - 1] == list(run["q"])[:-1]


def test_a_question_without_lexical_hits_is_ranked_by_the_dense_scores():
    assert list(fuse.convex(DENSE, {}, 0.3, 3)["q"]) == ["a", "b", "c"]


def test_equal_scores_become_one():
    assert fuse.normalise({"a": 2.0, "b": 2.0}) == {"a": 1.0, "b": 1.0}


def test_tuning_takes_the_best_weight_and_among_equals_the_middle():
    wanted = fuse.tune(DENSE, LEXICAL, 4, lambda run: float(next(iter(run["q"])) == "c"))
    # c leads while 1 - w > w; at 0.5 a ties with c and comes first, so the nearest of the grid is 0.45.
    assert wanted == pytest.approx(0.45)
    assert fuse.tune(DENSE, LEXICAL, 4, lambda run: 1.0) == 0.5
