"""The extractive answerer and citations."""

from dataclasses import replace

import numpy as np
import pytest

from ragline.generation import extractive, support
from ragline.types import Hit
from tests.fixtures.small import passage

HITS = [
    Hit(passage("a#0000", "Merge joins two frames. Short one. It returns a new frame with all keys."), 0.9),
    Hit(passage("b#0000", "Concat puts frames below each other."), 0.5),
]


def test_candidates_are_sentences_of_fit_length():
    assert [sentence for _, sentence in extractive.candidates(HITS)] == [
        "Merge joins two frames.",
        "It returns a new frame with all keys.",
        "Concat puts frames below each other.",
    ]


def test_a_heading_is_no_answer_and_a_comment_in_code_may_be():
    text = "## How to open a gate\n\n# The Gate Manual\n\nTurn the key twice.\n\n# open the west gate\n\nGates > Keys"
    under = replace(passage("m#0000", text), title="The Gate Manual", heading="Gates > How to open a gate")
    found = [sentence for _, sentence in extractive.candidates([Hit(under, 0.9)])]
    assert found == ["Turn the key twice.", "# open the west gate", "Gates > Keys"]


def test_the_closest_sentence_and_its_passage():
    def encode(texts):  # one dimension counts "below", the other is constant
        rows = np.array([[text.count("below"), 1.0] for text in texts], dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    (text, cited, cosine), nothing = extractive.answer(["what is below?", "x"], [HITS, []], encode, encode)
    assert (text, [hit.passage.passage_id for hit in cited]) == ("Concat puts frames below each other.", ["b#0000"])
    # "puts frames below" and "what is below?" are both (1, 1) / √2
    assert cosine == pytest.approx(1.0) and nothing == ("", (), None)


def test_sentences_that_share_words_are_weighed_in_their_order():
    choice = extractive.candidates(HITS)  # shared with the question: 1 (frames), 0, 2 (concat, frames)
    assert extractive.sharing_most("concat frames?", choice, 2) == [choice[0], choice[2]]
    assert extractive.sharing_most("nothing shared", choice, 2) == choice[:2]


def test_coverage_counts_repeats():
    assert support.coverage("frame frame keys", "one frame, all keys") == pytest.approx(2 / 3)
    assert support.coverage("", "anything") == 0


def test_the_best_covering_passage_is_cited_and_ties_go_to_the_better_rank():
    assert support.cite("puts frames below", HITS) == (HITS[1],)
    assert support.cite("frames", [HITS[1], HITS[1]]) == (HITS[1],)


def test_an_answer_that_no_passage_holds_cites_nothing():
    assert support.cite("quite another matter altogether", HITS) == ()
    assert support.cite("anything", []) == ()
