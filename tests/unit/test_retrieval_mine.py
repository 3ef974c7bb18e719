"""Hard negatives: near the question, and safely not gold."""

import numpy as np
import pytest

from ragline.errors import DataError
from ragline.retrieval import lexical, mine
from ragline.retrieval.train import line_up
from tests.fixtures.small import passage, question

# Cosines with the question (1, 0): gold 0.9, twin 0.88, close 0.87, far 0.5, opposite -1.
PASSAGES = [
    passage("gold#0000", doc_id="gold", cluster="g"),
    passage("twin#0000", doc_id="twin", cluster="g"),
    passage("close#0000", doc_id="close"),
    passage("far#0000", doc_id="far"),
    passage("opposite#0000", doc_id="opposite"),
]
COSINES = np.array([0.9, 0.88, 0.87, 0.5, -1.0])
VECTORS = np.stack([COSINES, np.sqrt(1 - COSINES**2)], axis=1).astype(np.float32)
QUESTION = question("q", "gold#0000", cluster="g")


def run(margin: float, per_question: int = 4):
    asked = np.array([[1.0, 0.0]], dtype=np.float32)
    return mine.mine([QUESTION], asked, PASSAGES, VECTORS, lexical.build(PASSAGES), per_question, margin)


def test_what_is_excluded_and_why():
    # 0.95 of 0.9 is 0.855: `close` at 0.87 is above it, `far` is not.
    negatives, excluded = run(0.95)
    assert [n.passage_id for n in negatives] == ["far#0000", "opposite#0000"]
    assert excluded == {
        "own gold passage": 1,
        "near-duplicate document": 1,
        "scores too close to the gold passage": 1,
    }


def test_a_wider_margin_lets_the_closer_one_in_first():
    negatives, _ = run(1.0, per_question=1)
    assert [n.passage_id for n in negatives] == ["close#0000"]
    assert negatives[0].score == pytest.approx(0.87)
    assert negatives[0].positive_score == pytest.approx(0.9)


def test_line_up_puts_gold_first_and_leaves_out_what_lacks_negatives():
    negatives, _ = run(0.95)
    lonely = question("lonely", "close#0000")
    kept, rows = line_up([QUESTION, lonely], PASSAGES, negatives, 2)
    assert kept == [QUESTION]
    assert [[p.passage_id for p in column] for column in rows.columns] == [
        ["gold#0000"],
        ["far#0000"],
        ["opposite#0000"],
    ]


def test_no_question_with_negatives():
    with pytest.raises(DataError, match="expected training questions with 3 hard negatives, got none of 1"):
        line_up([QUESTION], PASSAGES, [], 3)
