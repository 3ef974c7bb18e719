"""The tables beside the headline figures, from two questions that can be answered and one that cannot."""

from dataclasses import replace

import pytest

from ragline.evaluation import details
from ragline.types import Hit
from tests.fixtures.small import passage, question

PASSAGES = {
    p.passage_id: p
    for p in (
        passage("d#0000", "the answer stands in this very passage"),
        passage("twin#0000", "The answer stands, in this very passage."),
        passage("e#0000", "something else entirely"),
    )
}
QUESTIONS = [
    replace(question("q1", "d#0000", answer="the answer"), end=10),
    replace(question("q2", "e#0000", answer="something"), kind="default", start=0, end=9),
    replace(question("q3", "d#0000"), answerable=False, answers=(), gold_passage_ids=()),
]
FIRST = {"q1": "twin#0000", "q2": "e#0000", "q3": "e#0000"}
RUN = {q: {first: 2.0, **{p: 1.0 for p in PASSAGES if p != first}} for q, first in FIRST.items()}
SAID = {
    "q1": ("the answer stands", (Hit(PASSAGES["d#0000"], 1.0),)),
    "q2": ("nothing", ()),
    "q3": ("else", (Hit(PASSAGES["e#0000"], 1.0),)),
}


def answered(questions=QUESTIONS):
    wanted = {q.question_id for q in questions}
    return details.Answered(
        questions,
        {"bm25": {q: RUN[q] for q in sorted(wanted)}},
        {"extractive": {q: SAID[q] for q in sorted(wanted)}},
        {"extractive": {q: {"q1": 0.9, "q2": 0.6, "q3": 0.2}[q] for q in sorted(wanted)}},
        {"extractive": {q: {"q1": False, "q2": False, "q3": True}[q] for q in sorted(wanted)}},
        {"extractive": {q: {"q1": 2 / 3, "q2": 0.0}[q] for q in sorted(wanted - {"q3"})}},
        passages=PASSAGES,
    )


def test_what_answers_rest_on_by_hand():
    # q1 cites the whole gold span, and "the answer stands" is in it; q2 cites nothing; q3 has no gold span, but says
    # what its passage says.
    assert details.citation_recall(answered()) == {"extractive": {"q1": 1.0, "q2": 0.0}}
    assert details.groundedness(answered()) == {"extractive": {"q1": 1.0, "q2": 0.0, "q3": 1.0}}


def test_retrieval_with_and_without_repeats():
    found = details.figures(answered())
    # q1: the twin stands first, the gold passage second; q2: first.
    assert found["kinds"] == {
        "default": {"n": 1, "retrieval": {"bm25": ones()}, "retrieval_repeats": {"bm25": ones()}},
        "howto": {
            "n": 1,
            "retrieval": {"bm25": {"recall@1": 0.0, "recall@5": 1.0, "mrr@10": 0.5}},
            "retrieval_repeats": {"bm25": ones()},
        },
    }
    assert found["retrieval_repeats"]["bm25"]["mrr@10"] == 1.0
    assert found["retrieval_all_gold"]["bm25"]["map"] == 0.75
    assert found["retrieval_all_gold"]["bm25"]["precision@5"] == 0.2


def ones():
    return {"recall@1": 1.0, "recall@5": 1.0, "mrr@10": 1.0}


def test_selective_figures_by_hand():
    found = details.figures(answered())
    # F1 of q1: "answer stands" against "answer": 2/3. Losses 1/3, 1, 1; q3 is refused.
    assert found["selective"]["extractive"] == pytest.approx(
        {"coverage": 2 / 3, "risk": 2 / 3, "wrong_abstention": 0.0, "wrong_answer": 0.0,
         "aurc": (1 / 3 + 2 / 3 + 7 / 9) / 3, "excess_aurc": 0.0,
         "calibration_error": (0.9 - 2 / 3 + 0.6 + 0.2) / 3}, abs=1e-6)  # fmt: skip
    assert found["answer_words"]["extractive"] == {"words_mean": 1.666667, "words_p50": 1.0, "empty": 0.0}


def test_an_answerer_that_declines_is_quiet_whatever_the_confidence():
    silent = replace(answered(), abstained={"extractive": {"q1": True, "q2": False, "q3": True}})
    found = details.figures(silent)["selective"]["extractive"]
    assert (found["coverage"], found["wrong_abstention"]) == (pytest.approx(1 / 3, abs=1e-6), 0.5)


def test_a_set_without_questions_or_without_answers():
    assert details.figures(answered([])) == {}
    found = details.figures(answered(QUESTIONS[2:]))
    assert (found["kinds"], found["retrieval_repeats"]) == ({}, {"bm25": {}})
    assert found["selective"]["extractive"]["coverage"] == 0.0
    assert details.citation_recall(answered(QUESTIONS[2:])) == {"extractive": {}}
    assert details.risk_coverage(answered([])) == {}


def test_risk_coverage_by_hand():
    # By falling confidence q1, q2, q3 with losses 1/3, 1, 1.
    assert details.risk_coverage(answered()) == {
        "extractive": [(0.333333, 0.333333), (0.666667, 0.666667), (1.0, 0.777778)]
    }


def test_a_curve_has_fifty_points_at_most():
    questions = [replace(QUESTIONS[0], question_id=f"q{n:03d}") for n in range(137)]
    ids = [q.question_id for q in questions]
    many = replace(
        answered(),
        questions=questions,
        said={"extractive": {q: SAID["q1"] for q in ids}},
        confidence={"extractive": {q: -n for n, q in enumerate(ids)}},
        f1={"extractive": {q: float(n < 50) for n, q in enumerate(ids)}},
    )
    (points,) = details.risk_coverage(many).values()
    assert len(points) == 50 and points[-1] == (1.0, round(87 / 137, 6))
    coverage = [share for share, _ in points]
    assert coverage == sorted(set(coverage)) and points[0] == (round(2 / 137, 6), 0.0)
