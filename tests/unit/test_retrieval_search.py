"""Hybrid search over a small corpus: filters, fusion without a weight, reranking, a batch at once."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragline.errors import DataError
from ragline.retrieval import encoder, exact, index, lexical, search
from ragline.retrieval.where import Where
from ragline.types import Hit
from tests.fixtures.small import passage

TOPICS = ("merge two tables", "plot a line", "read a csv file", "drop missing values")
PASSAGES = [
    replace(passage(f"{home}{n}#0000", f"how to {topic}, part {n} of {home}"), page=n + 1)
    for home in ("guide", "notes")
    for n, topic in enumerate(TOPICS)
]


@pytest.fixture(scope="module")
def retriever() -> search.HybridRetriever:
    base = encoder.load("builtin:minilm")
    vectors = encoder.encode_passages(base, [p.encoded_text for p in PASSAGES])
    return search.HybridRetriever(base, index.build(vectors, "flat"), lexical.build(PASSAGES), PASSAGES, 0.5, depth=3)


def ids(found):
    return [[hit.passage.passage_id for hit in hits] for hits, _ in found]


def test_the_best_passages_come_first(retriever):
    (hits, told), _ = retriever.retrieve(["merge tables", "plot"], 2)
    assert {hit.passage.passage_id for hit in hits} == {"guide0#0000", "notes0#0000"}
    assert hits[0].score >= hits[1].score and 0.3 < told.cosine <= 1


def test_a_batch_is_its_questions_one_by_one(retriever):
    asked = ["merge tables", "how do I plot?", "csv", "???", "найти"]
    whole = retriever.retrieve(asked, 4)
    assert ids(whole) == [ids(retriever.retrieve([question], 4))[0] for question in asked]


def test_as_many_as_asked_for_though_depth_is_less(retriever):
    assert len(retriever.retrieve(["merge tables"], 8)[0][0]) == 8


@pytest.mark.parametrize("weight", [0.5, None])
@pytest.mark.parametrize(
    ("where", "allowed"),
    [
        (Where(doc_id="notes*"), {"notes0", "notes1", "notes2", "notes3"}),
        (Where(pages=(2, 3)), {"guide1", "guide2", "notes1", "notes2"}),
        (Where(doc_id="notes*", pages=(4, 4)), {"notes3"}),
        (Where(doc_id="nowhere"), set()),
    ],
)
def test_a_filter_gives_k_of_what_it_lets_through(retriever, where, allowed, weight):
    (found, told), _ = replace(retriever, weight=weight).retrieve(["merge tables", "plot"], 3, where)
    assert {hit.passage.doc_id for hit in found} <= allowed and len(found) == min(3, len(allowed))
    assert (told.cosine > 0) == bool(allowed)


def test_a_filter_that_lets_all_through_changes_nothing(retriever):
    asked = ["merge tables", "drop values"]
    assert retriever.retrieve(asked, 4, Where()) == retriever.retrieve(asked, 4)


def test_a_reranker_reads_more_than_it_gives_back(retriever):
    read = []

    def backwards(questions, hits):
        read.extend(map(len, hits))
        return [[Hit(hit.passage, n / 10) for n, hit in enumerate(found)][::-1] for found in hits]

    plain = retriever.retrieve(["merge tables"], 6)
    reranked = replace(retriever, rerank=backwards, rerank_depth=6).retrieve(["merge tables"], 2)
    assert read == [6]
    assert ids(reranked) == [ids(plain)[0][::-1][:2]]
    assert reranked[0][1].cosine == plain[0][1].cosine  # which reads no passage again


@pytest.mark.parametrize("question", ["", "  \n", "x" * 2001])
def test_what_cannot_be_a_question(retriever, question):
    with pytest.raises(DataError, match="question: expected"):
        retriever.retrieve([question], 3)


def test_nobody_asks(retriever):
    assert retriever.retrieve([], 3) == []


def unit(rows: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((rows, 16), dtype=np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def graph() -> index.Index:
    return index.build(unit(300, 0), "hnsw", recall=0.5)


@settings(max_examples=25)
@given(st.lists(st.booleans(), min_size=300, max_size=300), st.integers(1, 20), st.sampled_from([0, 10, 1000]))
def test_filtered_search_finds_the_best_of_what_is_allowed(graph, allowed, k, exact_rows):
    asked, mask = unit(3, 1), np.array(allowed)
    wanted = exact.nearest(asked, graph.vectors, k, np.flatnonzero(mask))[1][:, : mask.sum()]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(search, "EXACT_ROWS", exact_rows)
        scores, rows = search.filtered(graph, asked, k, mask)
    assert rows.shape == scores.shape == (3, min(k, mask.sum()))
    assert mask[rows].all() and (np.diff(scores, axis=1) <= 0).all()
    if exact_rows == 1000:
        assert rows.tolist() == wanted.tolist()
    else:  # the graph may miss some
        assert sum(len(set(a) & set(b)) for a, b in zip(rows.tolist(), wanted.tolist(), strict=True)) >= 0.8 * rows.size


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_a_filter_against_the_question_still_gives_k(kind, monkeypatch):
    """The index proposes what is nearest, and nothing of that is allowed: what is far off is compared then."""
    monkeypatch.setattr(search, "EXACT_ROWS", 10)
    vectors, asked = unit(300, 0), unit(1, 1)
    farthest = np.argsort(vectors @ asked[0])[:30]
    mask = np.isin(np.arange(300), farthest)
    _, rows = search.filtered(index.build(vectors, kind, recall=0.5), asked, 5, mask)
    assert rows.tolist() == exact.nearest(asked, vectors, 5, np.sort(farthest))[1].tolist()
