"""Hard negatives: passages that look like the answer and are not."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ragline.errors import DataError
from ragline.io import Vectors
from ragline.retrieval import exact, lexical
from ragline.spans import overlap
from ragline.types import Passage, QAExample, Span

TELLING_WORDS = 4
"""Shorter answers stand in many passages that do not answer the question."""
QUESTION_BLOCK = 2048
"""Questions for which the vectors of the corpus are read once."""

OWN_GOLD = "own gold passage"
OVERLAP = "overlaps the gold span"
NEAR_DUPLICATE = "near-duplicate document"
SAME_TEXT = "same text as a gold passage"
NEARLY_SAME_TEXT = "nearly the same text as a gold passage"
HOLDS_ANSWER = "holds an answer word for word"
TOO_CLOSE = "scores too close to the gold passage"
RELABELLED = "answers the question, says the relabelling"

Status = Literal["negative", "excluded", "spare"]
Relabel = Callable[[str, Sequence[str]], Sequence[float]]
"""(question, passages as an encoder sees them) → how surely each answers it: a cross-encoder, or a language model."""

GRAM_WORDS = 5

TAKEN = ("question_id", "passage_id", "score", "positive_score")
"""Columns of the table of mined negatives."""
LEDGER: Mapping[str, type] = {
    "question_id": str,
    "passage_id": str,
    "reason": str,
    "score": float,
    "positive_score": float,
}
"""Columns of the ledger of what mining left out, and why."""


@dataclass(frozen=True)
class Negative:
    """One mined negative of one question."""

    question_id: str
    passage_id: str
    score: float
    """Cosine of question and negative under the base encoder."""
    positive_score: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage that was looked at for a question, and what became of it."""

    question_id: str
    passage_id: str
    status: Status
    """`spare`: safe, but enough that are nearer were taken."""
    reason: str
    """Why it is excluded; empty otherwise."""
    score: float
    """Cosine of question and passage."""
    positive_score: float
    """Cosine of question and nearest gold passage."""


Note = Callable[[Sequence[Candidate]], None]
"""Told of a block of candidates."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Which candidates are looked at, and which of them are safe."""

    per_question: int
    """Negatives taken of each question, nearest first."""
    margin: float
    """A negative may score at most this share of its positive."""
    depth: int = 30
    """Candidates from each side: BM25 and vectors."""
    similar_from: float | None = None
    """Jaccard similarity of word 5-grams from which a passage counts as a copy of a gold one; None: not looked at."""
    answers_from: float = 0.5
    """Relabelling: score from which a passage is taken to answer the question."""


@dataclass(frozen=True)
class Miner:
    """Everything about a mining that stays when the encoder changes; made by `prepare`."""

    questions: Sequence[QAExample]
    passages: Sequence[Passage]
    rules: Rules
    gold_rows: Sequence[tuple[int, ...]]
    """For each question the places of its gold passages."""
    by_words: Sequence[tuple[int, ...]]
    """For each question the rows that BM25 finds."""

    def candidates(
        self,
        question_vectors: Vectors,
        vectors: Vectors,
        relabel: Relabel | None = None,
        question_block: int = QUESTION_BLOCK,
        passage_block: int = exact.PASSAGE_BLOCK,
    ) -> Iterator[list[Candidate]]:
        """Judge every candidate of every question; a list for each block of questions.

        Within a question they come nearest first, ties by row. Memory holds one block of questions and one of vectors;
        the result does not depend on the size of either.

        Args:
            question_vectors: (n_questions, d) float32, row-aligned with the questions.
            vectors: (n_passages, d) float32 or float16, row-aligned with the passages; may be memory-mapped.
            relabel: asked about what would be taken, so at least `per_question` passages of each question.
        """
        for start in range(0, len(self.questions), question_block):
            block = range(start, min(start + question_block, len(self.questions)))
            asked = question_vectors[start : block.stop]
            _, nearest = exact.nearest(asked, vectors, self.rules.depth, passage_block=passage_block)
            yield [
                candidate
                for number, vector, found in zip(block, asked, nearest, strict=True)
                for candidate in self._judged(number, vector, found, vectors, relabel)
            ]

    def _judged(
        self, number: int, vector: Vectors, nearest: exact.Rows, vectors: Vectors, relabel: Relabel | None
    ) -> list[Candidate]:
        question, gold_rows = self.questions[number], self.gold_rows[number]
        rows = np.array(sorted({*nearest[nearest >= 0].tolist(), *self.by_words[number]}), dtype=np.int64)
        scores = exact.cosines(vector, vectors[rows])
        positive = float(exact.cosines(vector, vectors[list(gold_rows)]).max())
        order = np.lexsort((rows, -scores))
        reason_for = _reasons(question, [self.passages[row] for row in gold_rows], self.rules.similar_from)
        ranked: list[tuple[Passage, float, str]] = []
        for row, score in zip(rows[order].tolist(), scores[order].tolist(), strict=True):
            passage = self.passages[row]
            too_close = TOO_CLOSE if score > self.rules.margin * positive else ""
            ranked.append((passage, score, reason_for(passage) or too_close))
        safe = [place for place, (_, _, reason) in enumerate(ranked) if not reason]
        taken, answering = _take(question.question, safe, ranked, relabel, self.rules)
        judged = []
        for place, (passage, score, reason) in enumerate(ranked):
            why = RELABELLED if place in answering else reason
            status: Status = "excluded" if why else "negative" if place in taken else "spare"
            judged.append(Candidate(question.question_id, passage.passage_id, status, why, score, positive))
        return judged


def prepare(
    questions: Sequence[QAExample], passages: Sequence[Passage], bm25: lexical.LexicalIndex, rules: Rules
) -> Miner:
    """Find what does not depend on vectors; mining again with other vectors then costs one search.

    Raises:
        DataError: a question has no gold passage, or one that is not among the passages.
        ModelError: the index is one of other passages.
    """
    lexical.check(bm25, passages)
    wanted = {passage_id for q in questions for passage_id in q.gold_passage_ids}
    row_of = {p.passage_id: row for row, p in enumerate(passages) if p.passage_id in wanted}
    for q in questions:
        if not q.gold_passage_ids or not row_of.keys() >= set(q.gold_passage_ids):
            raise DataError(
                f"question {q.question_id}: expected gold passages of this corpus, got {list(q.gold_passage_ids)}; "
                "run `dvc repro generate_qa`"
            )
    found = lexical.search(bm25, [q.question for q in questions], rules.depth)
    return Miner(
        questions,
        passages,
        rules,
        [tuple(row_of[p] for p in q.gold_passage_ids) for q in questions],
        [tuple(row for row, _ in hits) for hits in found],
    )


def mine(
    miner: Miner, question_vectors: Vectors, vectors: Vectors, note: Note | None = None
) -> tuple[list[Negative], Counter[str]]:
    """Take the nearest passages by BM25 and by an encoder that are safely not gold, and count the others by reason.

    Left out are the question's own gold passages, others that overlap its span or have the same text; passages that
    hold an answer of at least four words, word for word; passages of a near-duplicate document; and those that score
    above the margin times the best gold passage, which are probably unlabelled answers.

    Args:
        question_vectors: (n_questions, d) float32, row-aligned with the miner's questions.
        vectors: (n_passages, d) float32 or float16, row-aligned with its passages.
        note: told of every candidate, a block at a time, in the order of the questions.

    Source: positive-aware mining, Moreira et al., NV-Retriever, arXiv 2407.15831, section 3.
    """
    mined: list[Negative] = []
    excluded: Counter[str] = Counter()
    for block in miner.candidates(question_vectors, vectors):
        mined += negatives(block)
        excluded.update(candidate.reason for candidate in block if candidate.status == "excluded")
        if note is not None:
            note(block)
    return mined, excluded


def negatives(candidates: Iterable[Candidate]) -> list[Negative]:
    """Those that were taken."""
    return [
        Negative(c.question_id, c.passage_id, c.score, c.positive_score) for c in candidates if c.status == "negative"
    ]


def _reasons(question: QAExample, gold: Sequence[Passage], similar_from: float | None) -> Callable[[Passage], str]:
    """Why a passage is no safe negative of a question whatever it scores; empty where it may be one."""
    ids = {p.passage_id for p in gold}
    texts = {p.text for p in gold}
    grams = [] if similar_from is None else [_grams(text) for text in texts]
    answers = [answer for answer in map(_squeezed, question.answers) if answer.count(" ") + 1 >= TELLING_WORDS]
    span = Span(question.start, question.end)

    def reason(passage: Passage) -> str:
        if passage.passage_id in ids:
            return OWN_GOLD
        if passage.doc_id == question.doc_id and overlap(passage.span, span):
            return OVERLAP
        if passage.cluster == question.cluster and passage.doc_id != question.doc_id:
            return NEAR_DUPLICATE
        if passage.text in texts:
            return SAME_TEXT
        if answers and any(answer in _squeezed(passage.text) for answer in answers):
            return HOLDS_ANSWER
        if grams and max(_jaccard(_grams(passage.text), of_gold) for of_gold in grams) >= (similar_from or 0.0):
            return NEARLY_SAME_TEXT
        return ""

    return reason


def _take(
    question: str,
    safe: Sequence[int],
    ranked: Sequence[tuple[Passage, float, str]],
    relabel: Relabel | None,
    rules: Rules,
) -> tuple[set[int], set[int]]:
    """Places taken, and places that the relabelling finds to answer; it is asked no further than needed."""
    if relabel is None:
        return set(safe[: rules.per_question]), set()
    taken: list[int] = []
    answering: set[int] = set()
    waiting = list(safe)
    while waiting and len(taken) < rules.per_question:
        missing = rules.per_question - len(taken)
        batch, waiting = waiting[:missing], waiting[missing:]
        scores = relabel(question, [ranked[place][0].encoded_text for place in batch])
        for place, score in zip(batch, scores, strict=True):
            if score >= rules.answers_from:
                answering.add(place)
            else:
                taken.append(place)
    return set(taken), answering


def _squeezed(text: str) -> str:
    return " ".join(text.lower().split())


def _grams(text: str) -> frozenset[tuple[str, ...]]:
    """Runs of five words; of a shorter text the whole."""
    words = text.lower().split()
    return frozenset(tuple(words[at : at + GRAM_WORDS]) for at in range(max(1, len(words) - GRAM_WORDS + 1)))


def _jaccard(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> float:
    return len(a & b) / len(a | b)


def columns(rows: Sequence[Negative | Candidate], names: Iterable[str]) -> dict[str, list[Any]]:
    """Some fields of all rows, each as a column of a table."""
    return {name: [getattr(row, name) for row in rows] for name in names}


def ledger(candidates: Iterable[Candidate]) -> dict[str, list[Any]]:
    """The columns `LEDGER` of those that were excluded."""
    return columns([candidate for candidate in candidates if candidate.status == "excluded"], LEDGER)
