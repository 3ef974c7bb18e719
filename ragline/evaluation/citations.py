"""What an answer rests on: whether it cites the right places, and whether these say what it says.

All of it is counting words and characters: no model is asked, so the figures are free, repeatable and blind to
paraphrase.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ragline import spans
from ragline.errors import DataError
from ragline.evaluation.answers import normalize
from ragline.types import Passage, QAExample, Span


@dataclass(frozen=True, slots=True)
class Place:
    """A stretch of a document."""

    doc_id: str
    span: Span


def gold_places(question: QAExample, by_id: Mapping[str, Passage]) -> tuple[Place, ...]:
    """Where the answer stands, each place enough: the gold span, and the gold passages of other documents."""
    own = Place(question.doc_id, Span(question.start, question.end))
    passages = [by_id[passage_id] for passage_id in question.gold_passage_ids]
    return (own, *(Place(p.doc_id, p.span) for p in passages if p.doc_id != question.doc_id))


def recall(cited: Mapping[str, Sequence[Passage]], gold: Mapping[str, Sequence[Place]]) -> dict[str, float]:
    """Share of the gold span's characters that the cited passages hold together, the best of the gold places.

    Every question of `gold` counts; one that cites nothing scores 0.

    Args:
        cited: question_id → passages that the answer cites.
        gold: question_id → places that hold the answer, at least one of at least one character.

    Raises:
        DataError: citations of a question that `gold` lacks, or a question without a place.
    """
    if stray := sorted(cited.keys() - gold.keys()):
        raise DataError(f"citations: {len(stray)} questions (first {stray[:3]}) have no gold place; expected one each")
    if bare := sorted(q for q, places in gold.items() if not places or not all(p.span.length > 0 for p in places)):
        raise DataError(f"citations: {len(bare)} questions (first {bare[:3]}) have an empty gold place; check the gold")
    return {
        question: max(_covered(place, cited.get(question, ())) / place.span.length for place in gold[question])
        for question in sorted(gold)
    }


def _covered(place: Place, passages: Sequence[Passage]) -> int:
    """Characters of a place that the passages hold, those in two of them once."""
    covered, reached = 0, place.span.start
    for passage in sorted((p for p in passages if p.doc_id == place.doc_id), key=lambda p: (p.start, p.end)):
        rest = Span(reached, max(reached, place.span.end))
        covered += spans.overlap(passage.span, rest)
        reached = max(reached, min(passage.end, place.span.end))
    return covered


def groundedness(answers: Mapping[str, str], cited: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Share of an answer's words that its cited passages say, words as SQuAD normalizes them, repeats counted.

    An answer without citations is supported by nothing: 0. One without words claims nothing and is left out: report
    the length of the result as n.

    Args:
        answers: question_id → answer.
        cited: question_id → texts of the passages that the answer cites; a question may be missing.

    Source: K-Precision of Adlakha et al. 2023 (arXiv 2307.16877), which of the lexical measures followed people's
    judgement of faithfulness best.
    """
    words = {question: Counter(normalize(text).split()) for question, text in sorted(answers.items())}
    said = {question: Counter(normalize("\n".join(cited.get(question, ()))).split()) for question in words}
    return {question: (own & said[question]).total() / own.total() for question, own in words.items() if own}
