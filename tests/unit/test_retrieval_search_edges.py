"""What every kind of search makes of odd questions and corpora: the right answer, or an error with a name."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from ragline.errors import DataError, ModelError
from ragline.retrieval import encoder, index, lexical, rerank, search
from ragline.retrieval.where import Where, fields_of
from tests.fixtures.cross_encoder import tiny
from tests.fixtures.small import passage

PASSAGES = [passage(f"{'guide' if n % 3 else 'notes'}{n}#0000", f"how to merge tables, part {n}") for n in range(1000)]
NOTES = Where(doc_id="notes*")
KINDS = ("flat", "hnsw", "ivfpq")
HYBRIDS = ("hybrid", "hybrid by rank", "hybrid in notes", "reranked", "reranked in notes")
SEARCHES = (*KINDS, *(f"{kind} in notes" for kind in KINDS), "lexical", "lexical in notes", *HYBRIDS)


@pytest.fixture(scope="module")
def retriever(tmp_path_factory) -> search.HybridRetriever:
    """Vectors at random, a reranker with random weights."""
    base, words = encoder.load("builtin:minilm"), lexical.build(PASSAGES)
    drawn = np.random.default_rng(0).standard_normal((len(PASSAGES), base.dim), dtype=np.float32)
    flat = index.build(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), "flat")
    model = rerank.load(tiny(tmp_path_factory.mktemp("tiny")))
    return search.HybridRetriever(base, flat, words, PASSAGES, 0.5, 20, model.rerank, rerank_depth=5)


@pytest.fixture(scope="module")
def indices(retriever) -> dict[str, index.Index]:
    return {kind: index.build(retriever.ann.vectors, kind, recall=0.3) for kind in KINDS}


def found(retriever, indices, name: str, question: str, k: int) -> list[tuple[str, float]]:
    """What one kind of search finds: ids and scores."""
    kind, _, part = name.partition(" in ")
    where = NOTES if part else None
    allowed = fields_of(PASSAGES).mask(where) if where else None
    if kind in KINDS:
        run = search.dense_run({"q": question}, retriever.encoder, indices[kind], PASSAGES, k, allowed)
        return list(run["q"].items())
    if kind == "lexical":
        return list(search.lexical_run({"q": question}, retriever.bm25, PASSAGES, k, allowed)["q"].items())
    changes = {"hybrid": {"rerank": None}, "hybrid by rank": {"rerank": None, "weight": None}, "reranked": {}}[kind]
    ((hits, _),) = replace(retriever, **changes).retrieve([question], k, where)
    return [(hit.passage.passage_id, hit.score) for hit in hits]


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize(
    ("question", "k", "most"),
    [
        ("merge", 5, 5),
        ("найти файл", 5, 5),  # in another script
        ("🤷", 5, 5),
        ("\x00", 5, 5),
        ("merge", 5000, 1000),  # more than there are
    ],
)
def test_as_many_as_there_are_best_first_each_once(retriever, indices, name, question, k, most):
    hits = found(retriever, indices, name, question, k)
    ids, scores = [one for one, _ in hits], [score for _, score in hits]
    allowed = [p.passage_id for p in PASSAGES if p.doc_id.startswith("notes") or not name.endswith("notes")]
    wanted = 0 if name.startswith("lexical") and question != "merge" else min(most, len(allowed))
    reached = name not in ("hnsw", "ivfpq") or k < 1000  # a graph or lists may not lead to every passage
    assert len(ids) == wanted if reached else 0 < len(ids) <= wanted
    assert len({*ids}) == len(ids) and {*ids} <= {*allowed}
    assert scores == sorted(scores, reverse=True) and np.isfinite(scores).all()


@pytest.mark.parametrize("name", [name for name in SEARCHES if not name.startswith("lexical")])
def test_an_encoder_that_gives_no_numbers(retriever, indices, name):
    broken = copy.deepcopy(retriever.encoder.questions)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    blind = replace(retriever, encoder=replace(retriever.encoder, questions=broken))
    with pytest.raises(ModelError, match="expected finite"):
        found(blind, indices, name, "merge", 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_vector_of_no_numbers(indices, kind, value):
    ann, asked = indices[kind], np.full((1, 384), value, dtype=np.float32)
    for ask in (lambda: index.search(ann, asked, 3), lambda: search.filtered(ann, asked, 3, np.ones(1000, bool))):
        with pytest.raises(ModelError, match=r"expected (finite question )?vectors|question vectors of 384 finite"):
            ask()


def test_a_reranker_that_gives_no_numbers(retriever, tmp_path):
    model = rerank.load(tiny(tmp_path))
    with torch.no_grad():
        next(model.model.parameters()).fill_(float("nan"))
    with pytest.raises(ModelError, match="reranker: expected finite scores, got NaN"):
        replace(retriever, rerank=model.rerank).retrieve(["merge"], 3)


@pytest.mark.parametrize("kind", KINDS)
def test_no_vectors(kind):
    with pytest.raises(DataError, match="index: expected at least one passage, got none"):
        index.build(np.empty((0, 384), dtype=np.float32), kind)


def test_no_words():
    assert search.lexical_run({"q": "merge"}, lexical.build([]), [], 3) == {"q": {}}


@pytest.mark.parametrize(
    ("question", "k", "message"),
    [("", 3, "question: expected some words"), ("why " * 600, 3, "at most 2000"), ("why?", 0, "got k = 0; raise k")],
)
def test_what_nobody_can_answer(retriever, question, k, message):
    with pytest.raises(DataError, match=message):
        retriever.retrieve([question], k)


def test_a_lexical_index_of_other_passages(retriever):
    with pytest.raises(ModelError, match="lexical index over other passages: expected these 1000, got 1000 others"):
        replace(retriever, passages=PASSAGES[::-1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exact_rows", [0, 50_000])
def test_a_filter_finds_the_nearest_of_what_it_allows(indices, kind, exact_rows, monkeypatch):
    """Recall 1, of what is proposed and of what is compared: to each question the best notes, by the exact vectors."""
    monkeypatch.setattr(search, "EXACT_ROWS", exact_rows)
    ann = indices[kind]
    mask = np.arange(1000) % 3 == 0
    asked = ann.vectors[500:520]
    exact = np.argsort(-(asked @ ann.vectors[mask].T), axis=1)[:, :1]
    _, rows = search.filtered(ann, asked, 1, mask)
    nearest = np.flatnonzero(mask)[exact]
    if exact_rows:
        assert rows.tolist() == nearest.tolist()
    else:  # what a structure proposes is right as often as the structure
        assert (rows == nearest).mean() >= 0.3 and mask[rows].all()
