"""What all formats have in common: documents, questions, and what of them got lost on the way.

A reader fills `QuestionSet.lost` with what the file holds and this middle does not; a writer returns what the middle
holds and its format does not. Both count, so that nothing disappears unseen.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field

import numpy as np

from ragline.errors import DataError
from ragline.io import digest
from ragline.types import Span, Split

Loss = Counter[str]
"""What → how often it could not be kept."""

ANSWERS = "answers"
FURTHER_ANSWERS = "answers after the first"
POSITIONS = "answer positions looked up, not given"
DOCUMENT_IDS = "document ids"
DOCUMENTS = "documents without a question"
GOLDS = "gold documents"
HISTORIES = "chat histories"
METADATA = "metadata entries"
NEGATIVES = "hard negatives"
QUESTION_IDS = "question ids"
REPEATED = "repeated documents"
SOURCES = "document sources"
SPANS = "gold spans"
SPLITS = "splits"
TEXTS = "texts whose white space changed"
TITLES = "document titles"
UNANSWERABLE = "questions left out: not answerable"
UNANSWERED = "questions left out: no answer"
UNPLACED = "questions left out: no document"
UNFOUND = "questions left out: the answer is not in the text"


@dataclass(frozen=True, slots=True)
class PlainDocument:
    """A document, or the passage that a format treats as one."""

    doc_id: str
    title: str
    text: str
    source: str
    """Where it came from; the id where the format does not say."""


@dataclass(frozen=True, slots=True)
class Gold:
    """Where the answer stands; for a question without an answer, the document that it was asked about."""

    doc_id: str
    span: Span | None = None
    """None is the whole document."""


@dataclass(frozen=True, slots=True)
class PlainQuestion:
    """A question with everything that any of the formats says of it."""

    question_id: str
    question: str
    answers: tuple[str, ...] = ()
    """Alternatives, best first; none of them blank, none twice."""
    golds: tuple[Gold, ...] = ()
    """Alternatives, best first; none twice."""
    answerable: bool = True
    chat_history: tuple[str, ...] = ()
    hard_negatives: tuple[str, ...] = ()
    """Texts that look as if they held the answer."""
    split: Split | None = None


@dataclass(frozen=True)
class QuestionSet:
    """Documents and the questions on them."""

    documents: Iterable[PlainDocument]
    """Can be gone through any number of times; large ones are read from their file anew each time."""
    questions: tuple[PlainQuestion, ...]
    lost: Mapping[str, int] = field(default_factory=dict)
    """What the file that they came from says beyond this."""

    def loaded(self) -> "QuestionSet":
        """The same, with all documents in memory."""
        return QuestionSet(tuple(self.documents), self.questions, self.lost)


class Names:
    """Ids for documents that have none: the base for its first text, `base#2` for the second, and so on."""

    def __init__(self) -> None:
        self._of: dict[str, str] = {}
        self._used: set[str] = set()

    def name(self, base: str, text: str) -> str:
        """The same id for the same base and text, another one for anything else."""
        key = digest(base, text)
        if key not in self._of:
            found, number = base, 1
            while found in self._used:
                number += 1
                found = f"{base}#{number}"
            self._used.add(found)
            self._of[key] = found
        return self._of[key]


class Numbers:
    """Ids for the paragraphs of a file: `title/1`, `title/2`, … for each title."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def next(self, title: str) -> str:
        """The id of the next paragraph under this title."""
        base = one_line(title) or "untitled"
        self._counts[base] += 1
        return f"{base}/{self._counts[base]}"


def one_line(text: str) -> str:
    """Every run of white space as one blank, none at the ends."""
    return " ".join(text.split())


def unique(items: Iterable[str]) -> tuple[str, ...]:
    """Each non-blank text once, in the order given."""
    return tuple(dict.fromkeys(item for item in items if item.strip()))


def documents_named(documents: Iterable[PlainDocument], wanted: set[str], where: str) -> dict[str, PlainDocument]:
    """The wanted documents by id; the others pass by.

    Raises:
        DataError: one is not there.
    """
    found = {document.doc_id: document for document in documents if document.doc_id in wanted}
    if missing := sorted(wanted - found.keys()):
        raise DataError(
            f"{where}: expected every gold document among the documents, got {len(missing)} unknown ids, "
            f"first {missing[0]!r}; add the documents or drop the questions"
        )
    return found


def gold_ids(questions: Iterable[PlainQuestion]) -> set[str]:
    """Ids of all documents that any of the questions names."""
    return {gold.doc_id for question in questions for gold in question.golds}


def refuse_repeats(documents: Iterable[PlainDocument], where: str) -> None:
    """Make sure that no two documents share an id.

    Raises:
        DataError: names the first id that stands twice.
    """
    known_ids(documents, frozenset(), where)


def known_ids(documents: Iterable[PlainDocument], wanted: Set[str], where: str) -> set[str]:
    """Go through the documents once, in eight bytes each, and tell which of the wanted ids are there.

    Raises:
        DataError: names the first id that stands twice.
    """
    known: set[str] = set()

    def hashes() -> Iterator[int]:
        for document in documents:
            if document.doc_id in wanted:
                known.add(document.doc_id)
            yield hash(document.doc_id)

    ordered = np.sort(np.fromiter(hashes(), dtype=np.int64))
    suspects = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    if not suspects:
        return known
    seen: set[str] = set()  # two ids may share a hash: only the ids themselves tell
    for document in documents:
        if hash(document.doc_id) in suspects:
            if document.doc_id in seen:
                raise DataError(f"{where}: expected each document id once, got {document.doc_id!r} again; rename one")
            seen.add(document.doc_id)
    return known


def refuse_repeated_questions(questions: Iterable[PlainQuestion], where: str) -> None:
    """Make sure that no two questions share an id.

    Raises:
        DataError: names the id.
    """
    counted = Counter(question.question_id for question in questions)
    for question_id, count in counted.most_common(1):
        if count > 1:
            raise DataError(f"{where}: expected each question id once, got {question_id!r} {count} times; rename them")


@dataclass(frozen=True, slots=True)
class Placed:
    """The answers of a question within one document."""

    exact: tuple[Span, ...]
    """Gold spans that are an answer, to the character; in the order of the golds where that keeps the order of the
    answers."""
    wide: tuple[Gold, ...]
    """Golds of this document that hold more than an answer, or something else."""
    unplaced: tuple[str, ...]
    """Answers that are no gold span."""


def placed(question: PlainQuestion, document: PlainDocument) -> Placed:
    """Sort the golds of a question in one document into answers and evidence."""
    here = [gold for gold in question.golds if gold.doc_id == document.doc_id]
    rank = {answer: number for number, answer in enumerate(question.answers)}
    exact = [gold.span for gold in here if gold.span and document.text[gold.span.start : gold.span.end] in rank]
    wide = tuple(gold for gold in here if gold.span not in exact)
    ranks = [rank[document.text[span.start : span.end]] for span in exact]
    firsts = list(dict.fromkeys(ranks))
    if firsts != sorted(firsts):
        exact = [span for _, span in sorted(zip(ranks, exact, strict=True), key=lambda pair: pair[0])]
    unplaced = tuple(answer for answer, number in rank.items() if number not in ranks)
    return Placed(tuple(exact), wide, unplaced)


def look_up(answers: Iterable[str], wide: Iterable[Gold], document: PlainDocument) -> dict[str, Span]:
    """Where each answer first stands, as whole words, inside the given evidence; those that do not are left out."""
    found = {}
    areas = [gold.span or Span(0, len(document.text)) for gold in wide]
    for answer in answers:
        words = re.compile(rf"(?<!\w){re.escape(answer)}(?!\w)")
        for area in areas:
            if match := words.search(document.text, area.start, area.end):
                found[answer] = Span(*match.span())
                break
    return found


def count_extras(question: PlainQuestion, loss: Loss, keeps: frozenset[str] = frozenset()) -> None:
    """Count what a question says beside question, answers and golds, where the format does not keep it."""
    for name, amount in (
        (HISTORIES, int(bool(question.chat_history))),
        (NEGATIVES, len(question.hard_negatives)),
        (SPLITS, int(question.split is not None)),
    ):
        if name not in keeps:
            loss[name] += amount


def by_split(questions: Iterable[PlainQuestion]) -> Iterator[tuple[Split | None, list[PlainQuestion]]]:
    """The questions of each split that has any; those of none come first."""
    grouped: dict[Split | None, list[PlainQuestion]] = {None: [], "train": [], "dev": [], "test": []}
    for question in questions:
        grouped[question.split].append(question)
    yield from ((split, group) for split, group in grouped.items() if group)
