"""Hard negatives: near the question, and safely not gold; what is left out stands in the ledger."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragline.errors import DataError
from ragline.retrieval import lexical, mine
from ragline.types import Passage
from tests.fixtures.small import passage, question

# Cosines with the question (1, 0): gold 0.9, twin 0.88, close 0.87, far 0.5, opposite -1.
PASSAGES = [
    passage("gold#0000", doc_id="gold", cluster="g"),
    passage("twin#0000", doc_id="twin", cluster="g"),
    passage("close#0000", doc_id="close"),
    passage("far#0000", doc_id="far"),
    passage("opposite#0000", doc_id="opposite"),
]
QUESTION = question("q", "gold#0000", cluster="g")
ASKED = np.array([[1.0, 0.0]], dtype=np.float32)


def at(*cosines: float) -> np.ndarray:
    """(n, 2) float32: unit vectors at these cosines to the question."""
    along = np.array(cosines)
    return np.stack([along, np.sqrt(1 - along**2)], axis=1).astype(np.float32)


VECTORS = at(0.9, 0.88, 0.87, 0.5, -1.0)


def run(margin: float, per_question: int = 4):
    miner = mine.prepare([QUESTION], PASSAGES, lexical.build(PASSAGES), mine.Rules(per_question, margin))
    return mine.mine(miner, ASKED, VECTORS)


def ledger(passages, vectors, rules, asked=QUESTION, relabel=None):
    miner = mine.prepare([asked], passages, lexical.build(passages), rules)
    (block,) = miner.candidates(ASKED, vectors, relabel)
    return {c.passage_id.split("#")[0]: (c.status, c.reason) for c in block}


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


def test_every_candidate_is_judged_nearest_first():
    miner = mine.prepare([QUESTION], PASSAGES, lexical.build(PASSAGES), mine.Rules(per_question=1, margin=0.95))
    (block,) = miner.candidates(ASKED, VECTORS)
    assert [(c.passage_id.split("#")[0], c.status, c.reason) for c in block] == [
        ("gold", "excluded", mine.OWN_GOLD),
        ("twin", "excluded", mine.NEAR_DUPLICATE),
        ("close", "excluded", mine.TOO_CLOSE),
        ("far", "negative", ""),
        ("opposite", "spare", ""),
    ]
    assert [c.score for c in block] == pytest.approx([0.9, 0.88, 0.87, 0.5, -1.0])
    assert {round(c.positive_score, 4) for c in block} == {0.9}
    assert mine.columns(block, ["status"]) == {"status": ["excluded"] * 3 + ["negative", "spare"]}
    assert mine.ledger(block) == {
        "question_id": ["q"] * 3,
        "passage_id": ["gold#0000", "twin#0000", "close#0000"],
        "reason": [mine.OWN_GOLD, mine.NEAR_DUPLICATE, mine.TOO_CLOSE],
        "score": [c.score for c in block[:3]],
        "positive_score": [block[0].score] * 3,
    }


def test_what_overlaps_the_gold_span_is_no_negative():
    # The answer stands at 40..60. `gold` covers it whole; the next chunk shares 5 of its 20 characters, too few to be
    # gold itself; the one after shares none.
    def chunk(number: int, start: int, end: int) -> Passage:
        text = f"chunk {number} " + "x" * (end - start - 8)
        return Passage(f"d#{number:04d}", "d", "d", "", text, start, end, 5, "d")

    passages = [chunk(0, 0, 60), chunk(1, 55, 110), chunk(2, 100, 160)]
    asked = replace(question("q", "d#0000"), start=40, end=60)
    miner = mine.prepare([asked], passages, lexical.build(passages), mine.Rules(per_question=3, margin=1.0))
    (block,) = miner.candidates(ASKED, at(0.9, 0.8, 0.7))
    assert [c.reason for c in block] == [mine.OWN_GOLD, mine.OVERLAP, ""]


def test_copies_of_the_gold_text_are_no_negatives():
    words = [f"word{n}" for n in range(24)]
    gold = passage("gold#0000", " ".join(words))
    same = passage("same#0000", " ".join(words))
    # One word of 24 differs: of 20 runs of five, 16 are shared; 16 / (20 + 20 - 16) = 0.67.
    near = passage("near#0000", " ".join([*words[:12], "other", *words[13:]]))
    corpus, vectors = [gold, same, near], at(0.9, 0.5, 0.4)
    rules = mine.Rules(per_question=3, margin=1.0)
    assert ledger(corpus, vectors, rules, question("q", "gold#0000")) == {
        "gold": ("excluded", mine.OWN_GOLD),
        "same": ("excluded", mine.SAME_TEXT),
        "near": ("negative", ""),
    }
    for similar_from, status in ((0.6, "excluded"), (0.7, "negative")):
        found = ledger(corpus, vectors, replace(rules, similar_from=similar_from), question("q", "gold#0000"))
        assert found["near"][0] == status


def test_what_holds_a_telling_answer_is_no_negative():
    corpus = [passage("gold#0000"), passage("also#0000", "so THEY  merge on\nboth keys here")]
    rules = mine.Rules(per_question=1, margin=1.0)
    for answer, status in (("they merge on both keys", "excluded"), ("both keys", "negative")):
        asked = question("q", "gold#0000", answer=answer)
        assert ledger(corpus, at(0.9, 0.5), rules, asked)["also"][0] == status


def test_relabelling_takes_out_what_answers_and_asks_no_further_than_needed():
    read: list[str] = []

    def relabel(asked: str, texts: list[str]) -> list[float]:
        assert asked == QUESTION.question
        read.extend(text.split("\n")[0] for text in texts)
        return [0.8 if text.startswith("close") else 0.1 for text in texts]

    found = ledger(PASSAGES, VECTORS, mine.Rules(per_question=1, margin=1.0), relabel=relabel)
    assert found["close"] == ("excluded", mine.RELABELLED)
    assert found["far"] == ("negative", "") and found["opposite"] == ("spare", "")
    assert read == ["close", "far"]


def test_mining_again_with_other_vectors_is_mining_anew():
    rules, index = mine.Rules(per_question=2, margin=0.95), lexical.build(PASSAGES)
    miner = mine.prepare([QUESTION], PASSAGES, index, rules)
    first, again = (mine.negatives(*miner.candidates(ASKED, v)) for v in (VECTORS, at(0.9, 0.1, 0.7, 0.2, 0.8)))
    assert [n.passage_id for n in first] == ["far#0000", "opposite#0000"]
    assert [n.passage_id for n in again] == ["opposite#0000", "close#0000"]


@settings(max_examples=30)
@given(st.integers(1, 8), st.integers(1, 40), st.integers(1, 12), st.integers(0, 99))
def test_the_size_of_blocks_does_not_matter(question_block, passage_block, depth, seed):
    rng = np.random.default_rng(seed)
    drawn = rng.standard_normal((36, 16)).astype(np.float32)
    vectors = np.concatenate([drawn[:30], drawn[:6]])  # some twice
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    passages = [passage(f"d{n}#0000", f"thing {n % 5} and {n % 7}") for n in range(36)]
    asked = [question(f"q{n}", f"d{n}#0000", f"which thing {n % 5}?") for n in range(6)]
    rules = mine.Rules(per_question=2, margin=0.95, depth=depth)
    miner = mine.prepare(asked, passages, lexical.build(passages), rules)
    whole = [c for block in miner.candidates(vectors[:6], vectors) for c in block]
    parts = [c for block in miner.candidates(vectors[:6], vectors, None, question_block, passage_block) for c in block]
    assert parts == whole


@pytest.mark.parametrize("gold", [(), ("gone#0000",)])
def test_a_question_without_a_gold_passage_in_the_corpus(gold):
    lost = replace(QUESTION, gold_passage_ids=gold)
    with pytest.raises(DataError, match=r"question q: expected gold passages of this corpus, got .* generate_qa"):
        mine.prepare([lost], PASSAGES, lexical.build(PASSAGES), mine.Rules(1, 0.95))


def test_columns_of_nothing():
    assert mine.columns([], mine.TAKEN) == {"question_id": [], "passage_id": [], "score": [], "positive_score": []}
    assert mine.ledger([]) == {name: [] for name in mine.LEDGER}


@settings(max_examples=20)
@given(st.integers(1, 7), st.integers(0, 99))
def test_the_blocks_told_hold_what_is_counted(question_block, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((20, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    passages = [passage(f"d{n}#0000", f"thing {n % 5}", cluster=str(n % 4)) for n in range(20)]
    asked = [question(f"q{n}", f"d{n}#0000", f"which thing {n % 5}?", cluster=str(n % 4)) for n in range(6)]
    miner = mine.prepare(asked, passages, lexical.build(passages), mine.Rules(per_question=2, margin=0.9))
    told: list[mine.Candidate] = []
    mined, excluded = mine.mine(miner, vectors[:6], vectors, told.extend)
    assert Counter(c.reason for c in told if c.status == "excluded") == excluded
    assert mine.negatives(told) == mined
    assert Counter(mine.ledger(told)["reason"]) == excluded
    blocks = [*miner.candidates(vectors[:6], vectors, question_block=question_block)]
    assert [c for block in blocks for c in block] == told
