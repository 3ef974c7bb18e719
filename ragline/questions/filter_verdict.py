"""What a filter is given, and what it says."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ragline.errors import ConfigError, DataError
from ragline.types import QAExample

T = TypeVar("T")

Rank = Callable[[Sequence[str]], list[list[str]]]
"""Questions → for each the ids of the passages that a retriever finds for it, best first."""
ClosedBook = Callable[[Sequence[QAExample]], list[str | None]]
"""Questions → what a model answers to each without any passage; empty for no idea, None where it was not reached."""
Judge = Callable[[Sequence[QAExample]], list[frozenset[str] | None]]
"""Questions → ids of the passages, of those that a retriever finds, that answer each; None as above."""
Critic = Callable[[Sequence[QAExample]], list[tuple[float, str] | None]]
"""Questions with their answers → how good each pair is, in [0, 1], and why; None as above."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a filter says of one question."""

    kept: bool
    score: float
    """In [0, 1]; higher is better, whatever the filter measures."""
    detail: str = ""
    """Why, for a reader of the ledger."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where the filters draw their lines. How the values were found: docs/question_filters.md."""

    min_question_words: int = 2
    max_question_words: int = 60
    max_answer_words: int = 400
    min_support: float = 0.5
    """Grounding: share of an answer's own words that the gold passages must hold."""
    round_trip_k: int = 20
    """Passages among which the question must find its own."""
    max_similarity: float = 0.85
    """Near-duplicates: Jaccard similarity of the words of two questions on one passage from which they are one."""
    unanswerable_k: int = 10
    """Passages that are looked through for an answer there should not be."""
    max_guess_f1: float = 0.7
    """Guessable: overlap of a closed-book answer with a reference from which the passage was not needed."""
    min_critic_score: float = 0.5


@dataclass(frozen=True, slots=True)
class Context:
    """What surrounds the questions. A callable that is None belongs to filters that are not switched on."""

    passages: Mapping[str, str]
    """passage_id → title, headings and text, as the encoder sees them."""
    documents: Mapping[str, str]
    """doc_id → text."""
    rank: Rank | None = None
    judge: Judge | None = None
    answer_closed_book: ClosedBook | None = None
    critic: Critic | None = None
    thresholds: Thresholds = Thresholds()
    earlier: Mapping[str, Sequence[QAExample]] = field(default_factory=dict)
    """Near-duplicates: the questions kept so far, under each of their `filter_retrieval.keys`."""


Filter = Callable[[QAExample, Context], Verdict]

NOT_ASKED = Verdict(True, 1.0, "does not apply")
UNREACHED = Verdict(False, 0.0, "the model gave no usable answer, so nothing was checked")


def gold_text(example: QAExample, context: Context) -> str:
    """All that the gold label points at: the gold passages, and the labelled span should chunking have split it.

    Raises:
        DataError: a gold passage or the document is not in the context.
    """
    texts = []
    for passage_id in example.gold_passage_ids:
        if passage_id not in context.passages:
            raise DataError(
                f"question {example.question_id}: gold passage {passage_id!r}: expected one of the "
                f"{len(context.passages)} passages, got none of that id; run `dvc repro generate_qa`"
            )
        texts.append(context.passages[passage_id])
    if example.doc_id:
        if example.doc_id not in context.documents:
            raise DataError(
                f"question {example.question_id}: document {example.doc_id!r}: expected one of the "
                f"{len(context.documents)} documents, got none of that id; run `dvc repro generate_qa`"
            )
        texts.append(context.documents[example.doc_id][example.start : example.end])
    return "\n".join(texts)


def needed(call: T | None, name: str, filter_name: str) -> T:
    """The callable, after making sure that there is one.

    Raises:
        ConfigError: names the filter that cannot do without.
    """
    if call is None:
        raise ConfigError(
            f"filter {filter_name}: expected a callable `{name}`, got none; pass one in or switch the filter off"
        )
    return call
