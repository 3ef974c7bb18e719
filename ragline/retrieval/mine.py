"""Hard negatives: passages that look like the answer and are not."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

import bm25s
import numpy as np

from ragline.io import Vectors
from ragline.retrieval import lexical
from ragline.types import Passage, QAExample

TELLING_WORDS = 4
"""Shorter answers stand in many passages that do not answer the question."""

_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class Negative:
    """One mined negative of one question."""

    question_id: str
    passage_id: str
    score: float
    """Cosine of question and negative under the base encoder."""
    positive_score: float


def mine(
    questions: Sequence[QAExample],
    question_vectors: Vectors,
    passages: Sequence[Passage],
    vectors: Vectors,
    bm25: bm25s.BM25,
    per_question: int,
    margin: float,
    depth: int = 30,
) -> tuple[list[Negative], Counter[str]]:
    """Take the nearest passages by BM25 and by the base encoder that are safely not gold.

    Left out, and counted by reason: the question's own gold passages, and others with the same text; passages that hold
    an answer of at least four words, word for word; passages of a near-duplicate document; and those that score above
    `margin` times the best gold passage, which are probably unlabelled answers.

    Args:
        question_vectors: (n_questions, d) float32, row-aligned with `questions`.
        vectors: (n_passages, d) float32, row-aligned with `passages`.
        margin: a negative may score at most this share of its positive.
        depth: candidates taken from each side.

    Source: positive-aware mining, Moreira et al., NV-Retriever, arXiv 2407.15831, section 3.
    """
    row_of = {p.passage_id: row for row, p in enumerate(passages)}
    by_words = lexical.search(bm25, [q.question for q in questions], depth)
    mined: list[Negative] = []
    excluded: Counter[str] = Counter()
    for question, vector, words in zip(questions, question_vectors, by_words, strict=True):
        cosines = vectors @ vector  # (n_passages,)
        nearest = np.argsort(-cosines, kind="stable")[:depth]
        gold = set(question.gold_passage_ids)
        gold_texts = {passages[row_of[p]].text for p in gold}
        answers = [answer for answer in map(_squeezed, question.answers) if answer.count(" ") + 1 >= TELLING_WORDS]
        positive = max(float(cosines[row_of[p]]) for p in question.gold_passage_ids)
        candidates = dict.fromkeys([int(row) for row in nearest] + [row for row, _ in words])
        kept: list[Negative] = []
        for row in sorted(candidates, key=lambda r: (-cosines[r], r)):
            passage, score = passages[row], float(cosines[row])
            if passage.passage_id in gold:
                excluded["own gold passage"] += 1
            elif passage.cluster == question.cluster and passage.doc_id != question.doc_id:
                excluded["near-duplicate document"] += 1
            elif passage.text in gold_texts:
                excluded["same text as a gold passage"] += 1
            elif any(answer in _squeezed(passage.text) for answer in answers):
                excluded["holds an answer word for word"] += 1
            elif score > margin * positive:
                excluded["scores too close to the gold passage"] += 1
            else:
                kept.append(Negative(question.question_id, passage.passage_id, score, positive))
        mined += kept[:per_question]
    return mined, excluded


def _squeezed(text: str) -> str:
    return _SPACE.sub(" ", text).strip().lower()


def columns(negatives: Sequence[Negative]) -> dict[str, list[str] | list[float]]:
    """The ledger as columns of a table."""
    return {field.name: [getattr(n, field.name) for n in negatives] for field in fields(Negative)}
