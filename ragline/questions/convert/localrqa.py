"""LocalRQA's files: {train,eval,test}_w_qa.jsonl, and the documents as .jsonl or, for reading alone, as documents.pkl.

Everything but a second gold span has its place there. Pickles are never written: documents go into documents.jsonl,
an object of page_content, fmt_content and metadata a line.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ragline import io
from ragline.errors import ConfigError, DataError
from ragline.questions.convert import fields
from ragline.questions.convert.document_pickle import load_documents
from ragline.questions.convert.neutral import (
    METADATA,
    REPEATED,
    SPANS,
    Gold,
    Loss,
    Names,
    PlainDocument,
    PlainQuestion,
    QuestionSet,
    by_split,
    documents_named,
    gold_ids,
    one_line,
    refuse_repeated_questions,
    refuse_repeats,
    unique,
)
from ragline.types import Span, Split

QUESTIONS = "questions: this format is documents alone"
BLANK = "blank questions"
SPEAKERS = "speakers of the chat history"
NAMES: dict[str, Split | None] = {"train": "train", "eval": "dev", "dev": "dev", "test": "test", "all": None}
FILES: dict[Split | None, str] = {None: "all", "train": "train", "dev": "eval", "test": "test"}


class _Reading:
    """Documents as they come up, each once."""

    def __init__(self) -> None:
        self.documents: dict[str, PlainDocument] = {}
        self.loss = Loss()
        self._names = Names()

    def add(self, row: dict[str, Any], place: str) -> PlainDocument:
        """The document of a row of page_content and metadata."""
        text = fields.text(row, "page_content", place)
        metadata = fields.record(row, "metadata", place)
        source = fields.text(metadata, "source", place, "")
        given = fields.text(metadata, "doc_id", place, "")
        if "start" in metadata and (start := fields.whole_number(metadata, "start", place)):
            given = f"{given or one_line(source)}@{start}"  # a passage, which is the document here
        base = fields.checked_id(given, f"{place}: 'doc_id'") if given else one_line(source) or "document"
        doc_id = self._names.name(base, text)
        if doc_id not in self.documents:
            title = fields.text(metadata, "title", place, "")
            self.documents[doc_id] = PlainDocument(doc_id, title, text, fields.text(metadata, "source", place, doc_id))
            self.loss[METADATA] += len(metadata.keys() - {"source", "title", "doc_id", "start"})
        return self.documents[doc_id]

    def add_all(self, rows: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Add a whole collection, and count what stands in it twice."""
        for place, row in rows:
            before = len(self.documents)
            self.add(row, place)
            self.loss[REPEATED] += before == len(self.documents)


def read(path: Path) -> QuestionSet:
    """Read one file of questions, or a folder of them with its documents.jsonl or documents.pkl.

    Raises:
        ConfigError: nothing of this kind is there.
        DataError: names the line of another shape, or the pickle that holds anything but documents.
    """
    fields.require_input(path)
    reading, questions = _Reading(), list[PlainQuestion]()
    files = [path]
    if path.is_dir():
        for name in ("documents.jsonl", "documents.pkl"):
            if (path / name).is_file():
                reading.add_all(_document_rows(path / name))
                break
        files = [file for name in NAMES for file in _of_split(path, name)]
        if not files:
            raise ConfigError(f"{path}: expected train_w_qa.jsonl or eval or test, got none; mend the path")
    for file in files:
        for number, row in fields.objects(file):
            questions += _questions(row, file, number, reading)
    if not questions:
        raise DataError(f"{path}: expected one question a line, got none")
    refuse_repeated_questions(questions, str(path))
    return QuestionSet(tuple(reading.documents.values()), tuple(questions), dict(+reading.loss))


def _of_split(folder: Path, name: str) -> list[Path]:
    """The file with answers, or the one without where that is all there is."""
    return [file for ending in ("w_qa", "w_q") if (file := folder / f"{name}_{ending}.jsonl").is_file()][:1]


def _questions(row: dict[str, Any], file: Path, number: int, reading: _Reading) -> Iterator[PlainQuestion]:
    place = f"{file}:{number}"
    texts = fields.texts(row, "questions", place) if "questions" in row else (fields.text(row, "question", place),)
    docs = fields.records(row, "gold_docs", place)
    homes = [reading.add(doc, f"{place}: 'gold_docs'") for doc in docs]
    golds = [Gold(home.doc_id) for home in homes]
    if given := fields.items(row, "gold_span", place):
        match given:
            case [int(start), int(end)] if homes and 0 <= start < end <= len(homes[0].text):
                golds[0] = Gold(homes[0].doc_id, Span(start, end))
            case _:
                raise DataError(
                    f"{place}: 'gold_span': expected [start, end] inside the first gold document, got {given!r:.60}"
                )
    negatives = []
    for doc in fields.records(row, "hard_neg_docs", place):
        negatives.append(fields.text(doc, "page_content", f"{place}: 'hard_neg_docs'"))
        if fields.record(doc, "metadata", place).get("source"):
            reading.add(doc, f"{place}: 'hard_neg_docs'")
    answers = fields.texts(row, "gold_answers", place) or (fields.text(row, "gold_answer", place, ""),)
    stem = file.stem.split("_")[0]
    for count, text in enumerate(texts, start=1):
        if not text.strip():
            reading.loss[BLANK] += 1  # the published sets hold some
            continue
        question_id = f"{stem}/{number}" + (f".{count}" if count > 1 else "")
        if row.get("id") is not None:
            question_id = fields.identifier(row, "id", place) + (f".{count}" if count > 1 else "")
        yield PlainQuestion(
            question_id=question_id,
            question=text,
            answers=unique(answers),
            golds=tuple(dict.fromkeys(golds)),
            answerable=fields.flag(row, "answerable", place, True),
            chat_history=_history(row, place, reading.loss),
            hard_negatives=tuple(negatives),
            split=NAMES.get(stem),
        )


def _history(row: dict[str, Any], place: str, loss: Loss) -> tuple[str, ...]:
    turns = []
    for number, turn in enumerate(fields.items(row, "chat_history", place)):
        spot = f"{place}: 'chat_history'[{number}]"
        if isinstance(turn, dict):
            loss[SPEAKERS] += "speaker" in turn
            turn = fields.text(turn, "message", spot)
        turns.append(fields.checked(turn, spot))
    return tuple(turns)


def read_documents(path: Path) -> QuestionSet:
    """Read documents alone, from .jsonl or .pkl.

    Raises:
        ConfigError: no such file, or another ending.
        DataError: names the line of another shape, or the pickle that holds anything but documents.
    """
    reading = _Reading()
    reading.add_all(_document_rows(fields.require_input(path)))
    return QuestionSet(tuple(reading.documents.values()), (), dict(+reading.loss))


def _document_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.suffix == ".jsonl":
        for number, row in fields.objects(path):
            yield f"{path}:{number}", row
    elif path.suffix in (".pkl", ".pickle"):
        for number, row in enumerate(load_documents(path)):
            yield f"{path}: document {number}", row
    else:
        raise ConfigError(
            f"{path}: expected a name that ends in .jsonl or .pkl, got {path.suffix or 'none'!r}; rename it"
        )


def write(found: QuestionSet, path: Path) -> Loss:
    """Write a folder: a file of questions a split, and documents.jsonl.

    Raises:
        DataError: an id stands twice, or a gold document is not among the documents.
        ServiceError: the disk refused.
    """
    loss = Loss()
    refuse_repeated_questions(found.questions, str(path))
    refuse_repeats(found.documents, str(path))
    homes = documents_named(found.documents, gold_ids(found.questions), str(path))
    wanted = {text for question in found.questions for text in question.hard_negatives}
    negatives: dict[str, PlainDocument] = {}
    for document in found.documents:
        if document.text in wanted:
            negatives.setdefault(document.text, document)
    with io.whole_folder(path) as folder:
        _write_documents(found.documents, folder / "documents.jsonl")
        for split, questions in by_split(found.questions):
            with (folder / f"{FILES[split]}_w_qa.jsonl").open("w", encoding="utf-8") as out:
                for question in questions:
                    row = _row(question, homes, negatives, loss)
                    out.write(json.dumps(row, ensure_ascii=False) + "\n")
    return +loss


def write_documents(found: QuestionSet, path: Path) -> Loss:
    """Write the documents alone, as .jsonl.

    Raises:
        ConfigError: another ending.
        DataError: an id stands twice.
        ServiceError: the disk refused.
    """
    if path.suffix != ".jsonl":
        raise ConfigError(
            f"{path}: expected a name that ends in .jsonl, got {path.suffix or 'none'!r}; pickles are not written"
        )
    refuse_repeats(found.documents, str(path))
    with io.whole_file(path) as part:
        _write_documents(found.documents, part)
    return +Loss({QUESTIONS: len(found.questions)})


def _write_documents(documents: Iterable[PlainDocument], path: Path) -> None:
    with path.open("w", encoding="utf-8") as out:
        for document in documents:
            out.write(json.dumps(_doc(document), ensure_ascii=False) + "\n")


def _doc(document: PlainDocument) -> dict[str, Any]:
    content = f"Source: {document.source}\nTitle: {document.title}\nContent:\n{document.text}"
    metadata = {"source": document.source, "title": document.title, "doc_id": document.doc_id, "start": 0}
    return {"page_content": document.text, "fmt_content": content, "metadata": metadata}


def _row(
    question: PlainQuestion, homes: dict[str, PlainDocument], negatives: dict[str, PlainDocument], loss: Loss
) -> dict[str, Any]:
    nowhere = PlainDocument("", "", "", "")
    row = {
        "id": question.question_id,
        "chat_history": list(question.chat_history),
        "question": question.question,
        "gold_docs": [_doc(homes[doc_id]) for doc_id in dict.fromkeys(gold.doc_id for gold in question.golds)],
        "gold_answer": question.answers[0] if question.answers else "",
        "gold_answers": list(question.answers),
        "answerable": question.answerable,
        "hard_neg_docs": [
            _doc(negatives[text]) if text in negatives else {**_doc(nowhere), "page_content": text, "fmt_content": text}
            for text in question.hard_negatives
        ],
    }
    if question.golds and (span := question.golds[0].span):
        row["gold_span"] = [span.start, span.end]
    kept = {
        *question.golds[:1],
        *(Gold(gold.doc_id) for gold in question.golds if gold.doc_id != question.golds[0].doc_id),
    }
    loss[SPANS] += sum(gold not in kept for gold in question.golds)
    return row
