"""LocalRQA's JSONL, in and out: one question a line, with its gold documents in full.

Keys of a line: question (or questions, a list), gold_docs [{page_content, fmt_content, metadata {source, title}}],
gold_answer, chat_history, hard_neg_docs. Ours, all optional: id, gold_answers (several references), answerable,
gold_span ([start, end] of the answer's evidence in the first gold document), and in metadata doc_id and start (where
page_content begins in that document).
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ragline.errors import DataError
from ragline.io import digest
from ragline.spans import gold_passages
from ragline.types import Document, Drop, Passage, QAExample, Span, Split

_SPACE = re.compile(r"\s+")
NOT_FOUND = ("gold not located", "source not found")


@dataclass(frozen=True, slots=True)
class Gold:
    """A gold document as a place in the corpus."""

    document: Document
    span: Span
    exact: bool
    """False where the text was found only by ignoring white space."""


class Corpus:
    """Documents by every name they may be called by, with their passages."""

    def __init__(self, documents: Iterable[Document], passages: Iterable[Passage]) -> None:
        self._named: defaultdict[str, list[Document]] = defaultdict(list)
        for document in sorted(documents, key=lambda d: d.doc_id):
            for name in dict.fromkeys((document.doc_id, document.source, *document.aliases)):
                self._named[name].append(document)
        self._passages: defaultdict[str, list[Passage]] = defaultdict(list)
        for passage in passages:
            self._passages[passage.doc_id].append(passage)
        self._squeezed: dict[str, tuple[str, list[int]]] = {}

    def passages(self, document: Document) -> Sequence[Passage]:
        """The document's passages, in order."""
        return self._passages[document.doc_id]

    def knows(self, source: str) -> bool:
        """Whether any document has this source, id or alias."""
        return source in self._named

    def some_name(self) -> str:
        """A name to show as an example."""
        return min(self._named, default="nothing at all")

    def locate(self, source: str, text: str, hint: int = 0) -> Gold | None:
        """Where a document of that name holds the text: exactly, else ignoring white space; the first by doc_id.

        A text that a document holds several times is taken at `hint`, if it stands there.
        """
        documents = self._named.get(source, [])
        for document in documents:
            if text and document.text.startswith(text, hint):
                return Gold(document, Span(hint, hint + len(text)), exact=True)
        for document in documents:
            if text and (start := document.text.find(text)) >= 0:
                return Gold(document, Span(start, start + len(text)), exact=True)
        wanted = _SPACE.sub("", text)
        for document in documents:
            squeezed, places = self._squeeze(document)
            if wanted and (start := squeezed.find(wanted)) >= 0:
                span = Span(places[start], places[start + len(wanted) - 1] + 1)
                return Gold(document, span, exact=False)
        return None

    def _squeeze(self, document: Document) -> tuple[str, list[int]]:
        """The text without white space, and the place of each of its characters."""
        if document.doc_id not in self._squeezed:
            places = [i for i, character in enumerate(document.text) if not character.isspace()]
            self._squeezed[document.doc_id] = ("".join(document.text[i] for i in places), places)
        return self._squeezed[document.doc_id]


def import_questions(
    rows: Iterable[tuple[int, dict[str, Any]]], file: str, split: Split, corpus: Corpus
) -> tuple[list[QAExample], list[Drop]]:
    """Turn the lines of one file into questions on the corpus.

    Args:
        rows: (line number, object), as `io.read_jsonl` gives them.
        file: the file's name, for messages.
        split: the split that all of them belong to.
        corpus: where their gold documents are looked for.

    Returns:
        The questions in the order of the file, and what is empty, could not be located or occurs twice.

    Raises:
        DataError: a line has another shape, or the corpus holds nothing of the file.
    """
    examples: dict[str, QAExample] = {}
    drops: list[Drop] = []
    for number, row in rows:
        place = f"{file}:{number}"
        for question in _questions(row, place):
            example = _example(row, question, split, corpus, place)
            if isinstance(example, Drop):
                drops.append(example)
            elif example.question_id not in examples:
                examples[example.question_id] = example
            elif examples[example.question_id].question == question:
                drops.append(Drop("generate_qa", place, "duplicate", question))
            else:
                raise DataError(
                    f"{place}: id {example.question_id!r} stands for another question, too; give each its own"
                )
    if drops and not examples and all(drop.reason in NOT_FOUND for drop in drops):
        raise DataError(
            f"{file}: nothing of it is in the corpus: expected documents named by metadata.source that hold "
            f"page_content, got for the first question ({drops[0].item}) {drops[0].reason}: {drops[0].detail}; "
            f"the corpus has names such as {corpus.some_name()!r}: add the documents to ingest.sources or mend the file"
        )
    return list(examples.values()), drops


def _example(row: dict[str, Any], question: str, split: Split, corpus: Corpus, place: str) -> QAExample | Drop:
    answerable = _typed(row, "answerable", bool, True, place)
    answers = _strings(row, "gold_answers", place) or tuple(
        answer for answer in [_typed(row, "gold_answer", str, "", place)] if answer.strip()
    )
    history = _strings(row, "chat_history", place)
    given_id = _typed(row, "id", str, "", place)
    docs = _typed(row, "gold_docs", list, [], place)
    if not question.strip():
        return Drop("generate_qa", place, "empty question")
    if answerable and not answers:
        return Drop("generate_qa", place, "no gold answer", question)
    if not docs:
        if answerable:
            return Drop("generate_qa", place, "no gold document", question)
        question_id = given_id or digest("", "0", question)[:12]
        return QAExample(question_id, question, answers, "", 0, 0, (), "imported", split, "", False, history)
    places = [_place(doc, corpus, place) for doc in docs]
    found = [gold for source, text, start in places if (gold := corpus.locate(source, text, start))]
    if not found:
        source = places[0][0]
        return Drop("generate_qa", place, "gold not located" if corpus.knows(source) else "source not found", source)
    first = found[0]
    span = _narrowed(row, first, place)
    gold_ids = list(_gold_ids(corpus, first.document, span))
    for gold in found[1:]:
        if span == first.span or gold.document != first.document:
            gold_ids += _gold_ids(corpus, gold.document, gold.span)
    return QAExample(
        question_id=given_id or digest(first.document.doc_id, str(span.start), question)[:12],
        question=question,
        answers=answers,
        doc_id=first.document.doc_id,
        start=span.start,
        end=span.end,
        gold_passage_ids=tuple(dict.fromkeys(gold_ids)),
        kind="imported",
        split=split,
        cluster=first.document.cluster,
        answerable=answerable,
        chat_history=history,
    )


def _gold_ids(corpus: Corpus, document: Document, span: Span) -> tuple[str, ...]:
    """Gold passages of a span; one that is the span itself is the only one."""
    passages = corpus.passages(document)
    same = tuple(passage.passage_id for passage in passages if passage.span == span)
    return same[:1] or gold_passages(passages, span)


def _narrowed(row: dict[str, Any], gold: Gold, place: str) -> Span:
    """The evidence inside the first gold document, where the line gives it."""
    given = _typed(row, "gold_span", list, [], place)
    if not given or not gold.exact:
        return gold.span
    match given:
        case [int(start), int(end)] if 0 <= start < end <= gold.span.length:
            return Span(gold.span.start + start, gold.span.start + end)
    raise DataError(
        f"{place}: 'gold_span': expected [start, end] inside the {gold.span.length} characters of page_content, "
        f"got {given}; mend or remove it"
    )


def _place(doc: Any, corpus: Corpus, place: str) -> tuple[str, str, int]:
    """Name, text and start of a gold document; the start is 0 where it is not given."""
    match doc:
        case {"page_content": str(text), "metadata": {"doc_id": str(doc_id), "start": int(start)}} if (
            start >= 0 and corpus.knows(doc_id)
        ):
            return doc_id, text, start
        case {"page_content": str(text), "metadata": {"source": str(source)}}:
            return source, text, 0
    raise DataError(f"{place}: 'gold_docs': expected page_content and metadata.source as text, got {doc!r:.80}")


def _questions(row: dict[str, Any], place: str) -> tuple[str, ...]:
    if "question" in row:
        return (_typed(row, "question", str, "", place),)
    if "questions" in row:
        return _strings(row, "questions", place)
    raise DataError(
        f"{place}: expected the key 'question' or 'questions', got {sorted(row)}; add it or remove the line"
    )


def _strings(row: dict[str, Any], key: str, place: str) -> tuple[str, ...]:
    values = _typed(row, key, list, [], place)
    if not all(isinstance(value, str) for value in values):
        raise DataError(f"{place}: {key!r}: expected a list of text, got {values!r:.80}; mend the line")
    return tuple(values)


def _typed(row: dict[str, Any], key: str, kind: type[Any], default: Any, place: str) -> Any:
    value = row.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise DataError(f"{place}: {key!r}: expected {kind.__name__}, got {type(value).__name__}: {value!r:.60}")
    return value


def export_rows(
    examples: Iterable[QAExample], documents: Mapping[str, Document], passages: Mapping[str, Passage]
) -> Iterator[dict[str, Any]]:
    """Lines for `io.write_jsonl`, from which `import_questions` makes the same questions again.

    Args:
        examples: questions, in the order of the file.
        documents: by doc_id.
        passages: by passage_id; the gold documents of a line are its gold passages.
    """
    for example in examples:
        gold = [passages[passage_id] for passage_id in example.gold_passage_ids]
        row = {
            "id": example.question_id,
            "chat_history": list(example.chat_history),
            "question": example.question,
            "gold_docs": [_gold_doc(documents[passage.doc_id], passage) for passage in gold],
            "gold_answer": example.answers[0] if example.answers else "",
            "gold_answers": list(example.answers),
            "answerable": example.answerable,
            "hard_neg_docs": [],
        }
        if gold and gold[0].doc_id == example.doc_id and gold[0].start <= example.start and example.end <= gold[0].end:
            row["gold_span"] = [example.start - gold[0].start, example.end - gold[0].start]
        yield row


def _gold_doc(document: Document, passage: Passage) -> dict[str, Any]:
    content = f"Source: {document.source}\nTitle: {document.title}\nContent:\n{passage.text}"
    metadata = {
        "source": document.source,
        "title": document.title,
        "doc_id": document.doc_id,
        "start": passage.start,
    }
    return {"page_content": passage.text, "fmt_content": content, "metadata": metadata}
