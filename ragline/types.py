"""The nouns of the pipeline. All are frozen; all are plain data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")

Qrels = Mapping[str, frozenset[str]]
"""question_id → passage_ids that hold the answer; any one of them is enough."""

Run = Mapping[str, Mapping[str, float]]
"""question_id → passage_id → score, higher is better."""


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` (exclusive) of a document's text."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Document:
    """One document as it was read, before any cutting."""

    doc_id: str
    """Stable and readable: the object's name, the file's path, or the row's own id."""
    source: str
    """Where it came from, as a reader would look it up."""
    title: str
    text: str
    format: Literal["markdown", "text", "numpydoc"]
    """Tells the chunker and the question rules which structure to expect."""
    aliases: tuple[str, ...] = ()
    """Other names of the same text."""
    cluster: str = ""
    """Id of the near-duplicate cluster: the doc_id of its first member."""
    split: Split = "train"
    """Decided by the cluster, so that near-duplicates never straddle two splits."""
    page_starts: tuple[int, ...] = ()
    """Where in the text each page begins; empty where there are no pages."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document small enough for the encoder."""

    passage_id: str
    """`doc_id#ordinal`, the ordinal with four digits."""
    doc_id: str
    title: str
    heading: str
    """Headings above the passage, outermost first, joined by ' > '; may be empty."""
    text: str
    start: int
    end: int
    """`document.text[start:end] == text`."""
    tokens: int
    """Length of `text` for the encoder's tokenizer, without special tokens."""
    cluster: str
    """Near-duplicate cluster of the document."""
    page: int = 0
    """Page on which it begins, from 1; 0 where the document has none."""
    context: str = ""
    """Header of the table in whose rows it begins."""
    parent: str = ""
    """passage_id of the first one of the neighbours with which an answerer reads it; empty where it is read alone."""

    @property
    def span(self) -> Span:
        return Span(self.start, self.end)

    @property
    def encoded_text(self) -> str:
        """What an encoder sees: where the passage stands, then its text."""
        header = f"{self.title} > {self.heading}" if self.heading else self.title
        return f"{header}\n{self.context}{self.text}"


@dataclass(frozen=True, slots=True)
class QAExample:
    """A question with its gold answer and where the answer stands."""

    question_id: str
    question: str
    answers: tuple[str, ...]
    """Reference answers, best first; empty when the corpus holds none."""
    doc_id: str
    start: int
    end: int
    """The gold label: a span of the document, which survives every re-chunking."""
    gold_passage_ids: tuple[str, ...]
    """Passages that hold the span under the present chunking."""
    kind: str
    """howto, parameter, default, returns, raises, definition, note, heading, imported …"""
    split: Split
    cluster: str
    answerable: bool = True
    chat_history: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Drop:
    """Something that was left out, and why: nothing disappears unseen."""

    stage: str
    item: str
    """Id or place of what was dropped."""
    reason: str
    detail: str = ""
    score: float | None = None
    """What a filter that measures has measured, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One retrieved passage; hits come best first."""

    passage: Passage
    score: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What the system says, on what grounds."""

    text: str
    citations: tuple[Hit, ...]
    """Passages that the answer rests on, best first."""
    retrieved: tuple[Hit, ...]
    confidence: float
    """How sure the system is, in [0, 1]: the F1 that such answers had on dev, estimated from what search and answerer
    tell. Where evaluation learned no such estimate, and of the answerer that is not served, the cosine of question and
    closest passage."""
    abstained: bool
    """True when the corpus does not seem to hold the answer."""
    needed: float = -1.0
    """Confidence from which on an answer is given."""
