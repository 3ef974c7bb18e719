"""Searching the corpus: questions in, runs and hits out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from sentence_transformers import SentenceTransformer

from ragline.errors import DataError, ModelError
from ragline.io import Vectors
from ragline.retrieval import exact, fuse, index, lexical
from ragline.retrieval.encoder import Encoder, encode_passages, encode_questions
from ragline.retrieval.signals import Signals, signals
from ragline.retrieval.where import Fields, Mask, Where, fields_of
from ragline.retrieval.words import analyser
from ragline.types import Hit, Passage, QAExample, Run

MAX_QUESTION_CHARACTERS = 2000

EXACT_ROWS = 50_000
"""A filter that leaves no more passages than these is searched exactly: a graph or lists would find few of them."""
OVERFETCH = 2
"""Times the hits that a filter should need on average."""

Rerank = Callable[[Sequence[str], Sequence[Sequence[Hit]]], list[list[Hit]]]
"""Questions and the hits of each to the same hits, best first, with scores in (0, 1): see `rerank.Reranker.rerank`."""


def dense_run(
    questions: Mapping[str, str],
    encoder: Encoder,
    ann: index.Index,
    passages: Sequence[Passage],
    k: int,
    allowed: Mask | None = None,
) -> dict[str, dict[str, float]]:
    """The k nearest passages of every question; scores are cosines.

    Args:
        allowed: (n_passages,): rows that may be found; all where it is not given.
    """
    if not questions:
        return {}
    asked = encode_questions(encoder, list(questions.values()))
    scores, rows = index.search(ann, asked, k) if allowed is None else filtered(ann, asked, k, allowed)
    return {
        question: {passages[row].passage_id: value for row, value in zip(found, values, strict=True) if row >= 0}
        for question, found, values in zip(questions, rows.tolist(), scores.tolist(), strict=True)
    }


def filtered(ann: index.Index, asked: Vectors, k: int, allowed: Mask) -> tuple[index.Scores, index.Rows]:
    """The k nearest of the allowed rows: k of them, if so many are allowed.

    Of a selective filter every row is compared. Where much is allowed, the index is asked for more than k, by the share
    that the filter leaves: if k allowed ones are among them, these are the best k; for a question for which they are
    not, every allowed row is compared.

    Args:
        asked: (n_questions, d) float32, rows of unit length.
        allowed: (n_passages,): rows that may be found.

    Returns:
        As `index.search`, at most as many columns as rows are allowed.

    Raises:
        ModelError: as `index.search`.
    """
    lengths, dim = np.vecdot(asked, asked), ann.vectors.shape[1]
    if asked.shape[1] != dim or not (np.isfinite(lengths) & (lengths > 0)).all():
        raise ModelError(
            f"search: expected question vectors of {dim} finite numbers, not all zero, got others; use another encoder"
        )
    rows = np.flatnonzero(allowed)
    k = min(k, len(rows))
    scores = np.full((len(asked), k), -np.inf, dtype=np.float32)
    found = np.full((len(asked), k), -1, dtype=np.int64)
    open_ones = np.arange(len(asked) if k else 0)
    if len(rows) > EXACT_ROWS and ann.settings.ann != "flat":
        wide_scores, wide_rows = index.search(ann, asked, OVERFETCH * k * len(allowed) // len(rows))
        fits = (wide_rows >= 0) & allowed[wide_rows]
        enough = fits.sum(axis=1) >= k
        for number in np.flatnonzero(enough):
            first = np.flatnonzero(fits[number])[:k]
            scores[number], found[number] = wide_scores[number, first], wide_rows[number, first]
        open_ones = np.flatnonzero(~enough)
    if len(open_ones):
        scores[open_ones], found[open_ones] = exact.nearest(asked[open_ones], ann.vectors, k, rows)
    return scores, found


def lexical_run(
    questions: Mapping[str, str],
    bm25: lexical.LexicalIndex,
    passages: Sequence[Passage],
    k: int,
    allowed: Mask | None = None,
) -> dict[str, dict[str, float]]:
    """The k best passages of every question by BM25; one that shares no word is left out.

    Args:
        bm25: an index of these passages; `lexical.check` makes sure of it, once for any number of searches.
        allowed: (n_passages,): rows that may be found; all where it is not given.
    """
    found = lexical.search(bm25, list(questions.values()), k, allowed)
    return {
        question: {passages[row].passage_id: score for row, score in hits}
        for question, hits in zip(questions, found, strict=True)
    }


def reranked_run(
    questions: Mapping[str, str], run: Run, passages: Callable[[str], Passage], rerank: Rerank, depth: int
) -> dict[str, dict[str, float]]:
    """A run whose first `depth` passages of each question were read again; the others follow in the order they had.

    Args:
        run: of these questions; scores at most 1, as of `fuse.fuse`.
        passages: the passage of an id.

    Returns:
        The same passages. Those that were read have the reranker's score, in (0, 1), the others their own less 1.
    """
    asked = list(questions)
    ranked = {key: list(run.get(key, {}).items()) for key in asked}
    read = [[Hit(passages(p), score) for p, score in ranked[key][:depth]] for key in asked]
    again = rerank([questions[key] for key in asked], read)
    return {
        key: {hit.passage.passage_id: hit.score for hit in hits} | {p: score - 1 for p, score in ranked[key][depth:]}
        for key, hits in zip(asked, again, strict=True)
    }


def pool(passages: Sequence[Passage], questions: Sequence[QAExample], run: Run, depth: int) -> list[Passage]:
    """Gold passages of the questions and the first `depth` found for each, in corpus order: a small corpus to rank."""
    wanted = {p for q in questions for p in [*q.gold_passage_ids, *list(run[q.question_id])[:depth]]}
    return [p for p in passages if p.passage_id in wanted]


def pool_run(
    questions: Sequence[QAExample], model: SentenceTransformer, passages: Sequence[Passage]
) -> dict[str, dict[str, float]]:
    """Rank a small corpus exactly with a model that is being trained."""
    encoder = Encoder(model, model, fingerprint="")
    vectors = encode_passages(encoder, [p.encoded_text for p in passages])
    asked = {q.question_id: q.question for q in questions}
    return dense_run(asked, encoder, index.build(vectors, "flat"), passages, k=10)


@dataclass(frozen=True)
class HybridRetriever:
    """Dense and lexical search over one corpus, fused, and ranked again where there is a reranker.

    Raises:
        ModelError: the lexical index is one of other passages.
    """

    encoder: Encoder
    ann: index.Index
    bm25: lexical.LexicalIndex
    passages: Sequence[Passage]
    weight: float | None
    """Share of the dense score, 0 to 1; None: reciprocal rank fusion."""
    depth: int
    """Passages that each side brings before they are fused."""
    rerank: Rerank | None = None
    rerank_depth: int = 20
    """Passages of the fused list that the reranker reads."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """doc_id → source, for filters on it."""

    def __post_init__(self) -> None:
        lexical.check(self.bm25, self.passages)

    def retrieve(self, questions: Sequence[str], k: int, where: Where | None = None) -> list[tuple[list[Hit], Signals]]:
        """For each question the k best passages, best first, and what the search says about its success.

        Args:
            where: which passages may be found; the k best of these are.

        Raises:
            DataError: a question is empty or longer than 2,000 characters; k is less than 1; the filter asks for
                sources, of which none are known.
            ModelError: an encoder or reranker gives numbers that are not finite.
        """
        for question in questions:
            check_question(question)
        if k < 1:
            raise DataError(f"search: expected to look for 1 passage or more, got k = {k}; raise k")
        allowed = None if where is None else self._fields.mask(where)
        asked = {str(number): question for number, question in enumerate(questions)}
        read = k if self.rerank is None else max(k, self.rerank_depth)
        depth = max(self.depth, read)
        dense = dense_run(asked, self.encoder, self.ann, self.passages, depth, allowed)
        sparse = lexical_run(asked, self.bm25, self.passages, depth, allowed)
        fused = fuse.fuse(dense, sparse, self.weight, read)
        if self.rerank is not None:
            fused = reranked_run(asked, fused, self._passage, self.rerank, self.rerank_depth)
        hits = [[Hit(self._passage(p), score) for p, score in list(fused[key].items())[:k]] for key in asked]
        analyse = analyser(self.bm25.language)
        told = [
            signals(asked[key], dense[key], sparse[key], fused[key], lambda p: self._passage(p).encoded_text, analyse)
            for key in asked
        ]
        return list(zip(hits, told, strict=True))

    def _passage(self, passage_id: str) -> Passage:
        return self.passages[self._rows[passage_id]]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {passage.passage_id: row for row, passage in enumerate(self.passages)}

    @cached_property
    def _fields(self) -> Fields:
        return fields_of(self.passages, self.sources)


def check_question(question: str) -> None:
    """Refuse what cannot be a question.

    Raises:
        DataError: it is empty or far too long.
    """
    if not question.strip():
        raise DataError("question: expected some words, got none; ask something")
    if len(question) > MAX_QUESTION_CHARACTERS:
        raise DataError(
            f"question: expected at most {MAX_QUESTION_CHARACTERS} characters, got {len(question)}; "
            "ask a shorter one, and add documents as sources instead"
        )
