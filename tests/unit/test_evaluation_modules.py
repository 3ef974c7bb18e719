"""The `evaluate` library's interface to our metrics, without a hub."""

import socket

import pytest

from ragline.errors import DataError
from ragline.evaluation import answers

pytestmark = pytest.mark.slow  # `evaluate` takes seconds to import

SAID = ["the cat", "dog"]
GIVEN = [["a cat"], ["dog food", "bird"]]


@pytest.fixture
def modules(monkeypatch):
    def refuse(*_):
        raise AssertionError("nothing may be fetched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    from ragline.evaluation import modules

    return modules


def test_answers_at_once_and_one_by_one(modules):
    metric = modules.AnswerMetric()
    found = metric.compute(predictions=SAID, references=GIVEN)
    assert (found["answer_em"], found["answer_f1"]) == (0.5, pytest.approx((1 + 2 / 3) / 2))
    assert found["bleu"] == answers.corpus_bleu(SAID, GIVEN)
    for said, given in zip(SAID, GIVEN, strict=True):
        metric.add(prediction=said, reference=given)
    assert metric.compute() == found


def test_retrieval_takes_lists_best_first(modules):
    # Ranks 2 and none; an id that comes twice counts where it came first.
    found = modules.RetrievalMetric().compute(predictions=[["x", "a", "x"], []], references=[["a"], ["b"]])
    assert (found["recall@1"], found["recall@5"], found["mrr@10"]) == (0.0, 0.5, 0.25)


def test_nothing_to_score(modules):
    for metric in (modules.AnswerMetric(), modules.RetrievalMetric()):
        with pytest.raises(DataError, match="expected"):
            metric.compute(predictions=[], references=[])


def test_combined_with_others(modules):
    import evaluate

    both = evaluate.combine({"ours": modules.AnswerMetric(), "again": modules.AnswerMetric()})
    assert both.compute(predictions=SAID, references=GIVEN)["ours_answer_em"] == 0.5
