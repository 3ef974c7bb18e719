"""Searching the corpus: questions in, runs and hits out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import bm25s
import faiss
from sentence_transformers import SentenceTransformer

from ragline.errors import DataError
from ragline.retrieval import fuse, index, lexical
from ragline.retrieval.encoder import Encoder, encode_passages, encode_questions
from ragline.types import Hit, Passage, QAExample, Run

MAX_QUESTION_CHARACTERS = 2000


def dense_run(
    questions: Mapping[str, str], encoder: Encoder, ann: faiss.Index, passages: Sequence[Passage], k: int
) -> dict[str, dict[str, float]]:
    """The k nearest passages of every question; scores are cosines."""
    if not questions:
        return {}
    scores, rows = index.search(ann, encode_questions(encoder, list(questions.values())), k)  # both (n, k)
    return {
        question: {passages[row].passage_id: float(value) for row, value in zip(found, values, strict=True) if row >= 0}
        for question, found, values in zip(questions, rows, scores, strict=True)
    }


def lexical_run(
    questions: Mapping[str, str], bm25: bm25s.BM25, passages: Sequence[Passage], k: int
) -> dict[str, dict[str, float]]:
    """The k best passages of every question by BM25; one that shares no word is left out."""
    found = lexical.search(bm25, list(questions.values()), k)
    return {
        question: {passages[row].passage_id: score for row, score in hits}
        for question, hits in zip(questions, found, strict=True)
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
    """Dense and lexical search over one corpus, fused."""

    encoder: Encoder
    ann: faiss.Index
    bm25: bm25s.BM25
    passages: Sequence[Passage]
    weight: float
    """Share of the dense score, 0 to 1."""
    depth: int
    """Passages that each side brings before they are fused."""

    def retrieve(self, questions: Sequence[str], k: int) -> list[tuple[list[Hit], float]]:
        """For each question the k best passages, best first, and the best cosine found.

        Raises:
            DataError: a question is empty or longer than 2,000 characters.
        """
        for question in questions:
            check_question(question)
        by_id = {p.passage_id: p for p in self.passages}
        asked = {str(number): question for number, question in enumerate(questions)}
        dense = dense_run(asked, self.encoder, self.ann, self.passages, self.depth)
        sparse = lexical_run(asked, self.bm25, self.passages, self.depth)
        fused = fuse.convex(dense, sparse, self.weight, k)
        return [
            ([Hit(by_id[p], score) for p, score in fused[key].items()], max(dense[key].values(), default=0.0))
            for key in asked
        ]


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
