"""Hybrid scores by hand, and laws of fusion."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragline.retrieval import fuse

DENSE = {"q": {"a": 0.9, "b": 0.5, "c": 0.1}}
LEXICAL = {"q": {"c": 8.0, "d": 4.0}}

scores = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 20).map(float), max_size=8)
weights = st.integers(0, 20).map(lambda step: step / 20)


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


def test_a_question_without_dense_hits_is_ranked_by_the_lexical_scores():
    assert list(fuse.convex({}, LEXICAL, 0.3, 3)["q"]) == ["c", "d"]


def test_equal_scores_become_one():
    assert fuse.normalise({"a": 2.0, "b": 2.0}) == {"a": 1.0, "b": 1.0}


def test_reciprocal_rank_fusion():
    # c is 3rd and 1st: 1/63 + 1/61. a is 1st: 1/61. b and d are 2nd of one: 1/62 each, so b before d.
    fused = fuse.reciprocal_rank([DENSE, LEXICAL], 4)["q"]
    assert fused == pytest.approx({"c": 1 / 63 + 1 / 61, "a": 1 / 61, "b": 1 / 62, "d": 1 / 62})
    assert list(fused) == ["c", "a", "b", "d"]


def test_without_a_weight_ranks_decide():
    assert fuse.fuse(DENSE, LEXICAL, None, 2) == fuse.reciprocal_rank([DENSE, LEXICAL], 2)
    assert fuse.fuse(DENSE, LEXICAL, 0.6, 2) == fuse.convex(DENSE, LEXICAL, 0.6, 2)


@given(scores, scores, weights, st.integers(1, 10))
def test_every_fusion_ranks_what_was_found_and_no_more(dense, lexical, weight, k):
    found = dense.keys() | lexical.keys()
    for fused in (
        fuse.convex({"q": dense}, {"q": lexical}, weight, k)["q"],
        fuse.reciprocal_rank([{"q": dense}, {"q": lexical}], k)["q"],
    ):
        assert len(fused) == min(k, len(found)) and fused.keys() <= found
        assert list(fused.items()) == sorted(fused.items(), key=lambda item: (-item[1], item[0]))


@given(scores, scores, weights, st.integers(1, 5))
def test_a_longer_list_begins_with_the_shorter_one(dense, lexical, weight, k):
    for how in (weight, None):
        short, whole = (list(fuse.fuse({"q": dense}, {"q": lexical}, how, size)["q"]) for size in (k, 10))
        assert short == whole[:k]


@given(scores, scores, st.integers(1, 8).map(float), st.integers(-9, 9).map(float))
def test_scale_and_offset_of_a_list_do_not_matter(dense, lexical, scale, offset):
    moved = {passage: scale * score + offset for passage, score in dense.items()}
    wanted = fuse.convex({"q": dense}, {"q": lexical}, 0.5, 8)["q"]
    assert fuse.convex({"q": moved}, {"q": lexical}, 0.5, 8)["q"] == pytest.approx(wanted)
    ranks = [fuse.reciprocal_rank([{"q": one}, {"q": lexical}], 8) for one in (dense, moved)]
    assert ranks[0] == ranks[1]


@given(scores, scores, st.sampled_from("abcdefgh"))
@settings(max_examples=50)
def test_a_better_rank_never_hurts(dense, lexical, passage):
    better = dense | {passage: 99.0}
    before, after = (fuse.reciprocal_rank([{"q": one}, {"q": lexical}], 8)["q"] for one in (dense, better))
    assert after[passage] >= before.get(passage, 0.0)


@given(scores, scores, weights)
def test_scores_stay_between_nought_and_one(dense, lexical, weight):
    assert all(0 <= score <= 1 + 1e-9 for score in fuse.convex({"q": dense}, {"q": lexical}, weight, 8)["q"].values())


def test_tuning_takes_the_best_weight_and_among_equals_the_middle():
    wanted = fuse.tune(DENSE, LEXICAL, 4, lambda run: float(next(iter(run["q"])) == "c"))
    # c leads while 1 - w > w; at 0.5 a ties with c and comes first, so the nearest of the grid is 0.45.
    assert wanted == pytest.approx(0.45)
    assert fuse.tune(DENSE, LEXICAL, 4, lambda run: 1.0) == 0.5
