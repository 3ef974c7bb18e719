"""The verdict on a tuned encoder asks for more where it is the best of several."""

import pytest

from ragline.evaluation import gate
from tests.fixtures.small import question

QUESTIONS = [question(f"q{n:02d}", f"d{n}#0000") for n in range(40)]
BASE = {q.question_id: {"other#0000": 1.0, q.gold_passage_ids[0]: 0.5} for q in QUESTIONS}  # every gold at rank 2


def tuned(better: int) -> dict[str, dict[str, float]]:
    """The gold passages of some questions at rank 1, where the base has them at rank 2."""
    first = {q.question_id: {q.gold_passage_ids[0]: 1.0} for q in QUESTIONS[:better]}
    return BASE | first


def test_figures_by_hand():
    verdict = gate.compare(tuned(20), BASE, QUESTIONS, "mrr@10", seed=1)
    assert verdict.base["mrr@10"] == 0.5 and verdict.tuned["mrr@10"] == 0.75  # 20 of 40 rise from 1/2 to 1
    assert verdict.better and verdict.level == 0.95
    assert verdict.reason.startswith("tuned encoder kept: mrr@10 +0.250 [") and verdict.reason.endswith("n = 40")


def test_the_best_of_several_is_weighed_at_a_higher_level():
    one, four = (gate.compare(tuned(20), BASE, QUESTIONS, "mrr@10", 1, chosen_of) for chosen_of in (1, 4))
    assert four.level == pytest.approx(0.9875)
    assert four.paired.difference == one.paired.difference
    assert four.paired.low < one.paired.low and one.paired.high < four.paired.high
    assert four.reason.endswith("n = 40, at 98.8% as it is the best of several")


def test_there_are_gains_that_only_a_single_candidate_may_claim():
    verdicts = {
        (better, offered): gate.compare(tuned(better), BASE, QUESTIONS, "mrr@10", 1, offered).better
        for better in range(41)
        for offered in (1, 4)
    }
    assert all(verdicts[better, 1] for better in range(41) if verdicts[better, 4])
    assert any(verdicts[better, 1] and not verdicts[better, 4] for better in range(41))


def test_no_difference_keeps_the_base():
    verdict = gate.compare(BASE, BASE, QUESTIONS, "mrr@10", seed=1)
    assert not verdict.better and verdict.summary()["kept"] == "base"
