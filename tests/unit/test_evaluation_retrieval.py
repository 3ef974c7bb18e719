"""Ranking metrics against numbers worked out by hand, and against ranx."""

import math
import random

import pytest

from ragline.errors import ConfigError, DataError
from ragline.evaluation import retrieval

QRELS = {"q1": frozenset({"a"}), "q2": frozenset({"b", "c"}), "q3": frozenset({"d"})}
RUN = {
    "q1": {"x": 0.9, "y": 0.8, "a": 0.7},  # a at rank 3
    "q2": {"c": 0.9, "x": 0.8, "b": 0.1},  # c at rank 1, b at rank 3
}  # q3 is not there


def test_scores_by_hand():
    # First gold ranks: 3, 1, none.
    scores = retrieval.score(RUN, QRELS, depths=(1, 3))
    assert scores == {
        "recall@1": {"q1": 0.0, "q2": 1.0, "q3": 0.0},
        "recall@3": {"q1": 1.0, "q2": 1.0, "q3": 0.0},
        "mrr@10": {"q1": pytest.approx(1 / 3), "q2": 1.0, "q3": 0.0},
        "ndcg@10": {"q1": 0.5, "q2": 1.0, "q3": 0.0},  # 1 / log2(1 + 3) = 1 / 2
    }


def test_default_depths():
    assert list(retrieval.score(RUN, QRELS)) == [
        "recall@1", "recall@5", "recall@10", "recall@20", "mrr@10", "ndcg@10",
    ]  # fmt: skip


def test_no_recall_asked_for():
    assert list(retrieval.score(RUN, QRELS, depths=())) == ["mrr@10", "ndcg@10"]


def test_gold_passages_are_alternatives():
    # Both gold passages at ranks 1 and 2 are worth no more than one at rank 1.
    one = retrieval.score({"q": {"b": 2.0, "x": 1.0}}, {"q": frozenset({"b", "c"})})
    both = retrieval.score({"q": {"b": 2.0, "c": 1.0}}, {"q": frozenset({"b", "c"})})
    assert one == both
    assert {values["q"] for values in both.values()} == {1.0}


@pytest.mark.parametrize(("rank", "mrr", "ndcg"), [(10, 0.1, 1 / math.log2(11)), (11, 0.0, 0.0)])
def test_rank_ten_is_the_last_that_counts(rank, mrr, ndcg):
    run = {"q": {f"p{i:02d}": -float(i) for i in range(1, 21)}}
    scores = retrieval.score(run, {"q": frozenset({f"p{rank:02d}"})}, depths=(20,))
    assert scores == {"recall@20": {"q": 1.0}, "mrr@10": {"q": mrr}, "ndcg@10": {"q": ndcg}}


def test_equal_scores_rank_by_passage_id():
    # a, b, c tie: b is second, whatever the order of the dictionary.
    for order in ("abc", "cba", "bca"):
        assert retrieval.ranks({"q": dict.fromkeys(order, 1.0)}, {"q": frozenset("b")}, 3) == {"q": 2}


def test_higher_score_is_better_even_if_negative():
    assert retrieval.ranks({"q": {"a": -2.0, "b": -1.0}}, {"q": frozenset("a")}, 2) == {"q": 2}


def test_ranks_are_zero_below_the_depth():
    assert retrieval.ranks(RUN, QRELS, 3) == {"q1": 3, "q2": 1, "q3": 0}
    assert retrieval.ranks(RUN, QRELS, 2) == {"q1": 0, "q2": 1, "q3": 0}


TEXTS = {
    "gold": "Sort the rows by value.",
    "same": "sort the ROWS, by value",
    "more": "First: sort the rows by value. Then stop.",
    "gap": "Sort the rows quickly by value.",
    "part": "Sort the rows",
    "like": "Resort the rows by values",
    "short": "See also",
    "short too": "see also!",
    "short and more": "See also this",
    "blank": "...",
}


@pytest.mark.parametrize(("gold", "repeated"), [("gold", {"same", "more"}), ("short", {"short too"}), ("blank", set())])
def test_passages_that_repeat_the_gold_one(gold, repeated):
    run = {"q": dict.fromkeys(TEXTS, 1.0)}
    assert retrieval.with_repeats({"q": frozenset({gold})}, run, TEXTS.__getitem__) == {"q": repeated | {gold}}


def test_repeats_are_looked_for_in_the_run_alone():
    gold = {"q": frozenset({"gold"}), "unanswered": frozenset({"gold"})}
    assert retrieval.with_repeats(gold, {"q": {"part": 1.0}}, TEXTS.__getitem__) == gold


def test_recall_curve_by_hand():
    # Ranks 3, 1, none: a third is found at 1 and 2, two thirds from 3 on.
    assert retrieval.recall_curve(RUN, QRELS, 4) == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])


def test_inputs_stay_as_they_are():
    run = {"q1": {"x": 1.0, "a": 2.0}}
    retrieval.score(run, QRELS)
    assert run == {"q1": {"x": 1.0, "a": 2.0}}
    assert list(run["q1"]) == ["x", "a"]


def test_run_question_without_judgement():
    with pytest.raises(DataError, match=r"1 of 2 questions have no judgement, first \['odd'\]"):
        retrieval.score({"q1": {}, "odd": {"a": 1.0}}, QRELS)


def test_question_without_gold():
    with pytest.raises(DataError, match=r"1 of 1 questions have no gold passage, first \['q'\]"):
        retrieval.score({}, {"q": frozenset()})


def test_score_that_is_not_a_number():
    with pytest.raises(DataError, match="question 'q1' has a score that is NaN"):
        retrieval.score({"q1": {"a": math.nan, "b": 1.0}}, QRELS)


def test_depth_below_one():
    with pytest.raises(ConfigError, match=r"at least 1, got \[0, 5\]"):
        retrieval.score(RUN, QRELS, depths=(0, 5))
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        retrieval.recall_curve(RUN, QRELS, 0)


def test_nothing_judged():
    assert retrieval.score({}, {}, depths=(1,)) == {"recall@1": {}, "mrr@10": {}, "ndcg@10": {}}
    with pytest.raises(DataError, match="no judged question"):
        retrieval.recall_curve({}, {}, 5)


@pytest.mark.slow  # ranx brings in numba and compiles
def test_agrees_with_ranx_on_one_gold_passage_without_ties():
    ranx = pytest.importorskip("ranx")
    rng = random.Random(5)
    passages = [f"p{i:03d}" for i in range(200)]
    run, qrels = {}, {}
    for number in range(60):
        scores = rng.sample(range(10_000), 30)  # distinct: no ties
        run[f"q{number:02d}"] = dict(zip(rng.sample(passages, 30), map(float, scores), strict=True))
        qrels[f"q{number:02d}"] = frozenset({rng.choice(passages[:60])})
    ours = retrieval.score(run, qrels)
    names = {"recall@1": "recall@1", "recall@5": "recall@5", "recall@10": "recall@10", "recall@20": "recall@20",
             "mrr@10": "mrr@10", "ndcg@10": "ndcg@10"}  # fmt: skip
    judged = ranx.Qrels({q: dict.fromkeys(gold, 1) for q, gold in qrels.items()})
    found = ranx.Run(run)
    ranx.evaluate(judged, found, list(names.values()), make_comparable=True)
    assert 0 < sum(ours["recall@20"].values()) < 60
    for metric, name in names.items():
        theirs = found.scores[name]
        assert ours[metric] == pytest.approx(dict(theirs), abs=1e-9)
