"""BEIR: a folder of corpus.jsonl, queries.jsonl and qrels/{train,dev,test}.tsv.

Answers go into the metadata of a query and sources into that of a document, where BEIR's own loader passes over them.
"""

import csv
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ragline import io
from ragline.errors import DataError
from ragline.questions.convert import fields
from ragline.questions.convert.neutral import (
    METADATA,
    SPANS,
    SPLITS,
    UNANSWERABLE,
    Gold,
    Loss,
    PlainDocument,
    PlainQuestion,
    QuestionSet,
    count_extras,
    known_ids,
    refuse_repeated_questions,
    unique,
)
from ragline.types import SPLITS as ALL_SPLITS
from ragline.types import Split

STRAY_DOCUMENTS = "judgements of documents that are not there"
STRAY_QUESTIONS = "judgements of questions that are not there"
GRADES = "grades other than 1"
HEADER = ["query-id", "corpus-id", "score"]


@dataclass(frozen=True)
class Corpus:
    """The documents of a corpus.jsonl, read anew each time."""

    path: Path

    def __iter__(self) -> Iterator[PlainDocument]:
        return (document for document, _ in self.entries())

    def entries(self) -> Iterator[tuple[PlainDocument, int]]:
        """Yield each document with the number of its metadata entries beside `url`."""
        for number, row in fields.objects(self.path):
            place = f"{self.path}:{number}"
            doc_id, metadata = fields.identifier(row, "_id", place), fields.record(row, "metadata", place)
            title, text = fields.text(row, "title", place, ""), fields.text(row, "text", place)
            source = fields.text(metadata, "url", place, doc_id)
            yield PlainDocument(doc_id, title, text, source), len(metadata.keys() - {"url"})


class _Counting:
    """The same documents; after a pass, `further` is how many metadata entries passed by."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.further = 0

    def __iter__(self) -> Iterator[PlainDocument]:
        self.further = 0
        for document, further in self.corpus.entries():
            self.further += further
            yield document


def read(path: Path) -> QuestionSet:
    """Read a BEIR folder; the corpus stays on the disk.

    Raises:
        ConfigError: corpus.jsonl or queries.jsonl is not there.
        DataError: names the line of another shape, or the id that stands twice.
    """
    fields.require_input(path)
    documents, loss = Corpus(path / "corpus.jsonl"), Loss()
    fields.require_input(documents.path)
    rows = {}
    for number, row in fields.objects(path / "queries.jsonl"):
        place = f"{path / 'queries.jsonl'}:{number}"
        metadata = fields.record(row, "metadata", place)
        loss[METADATA] += len(metadata.keys() - {"answers"})
        question_id = fields.identifier(row, "_id", place)
        if question_id in rows:
            raise DataError(f"{place}: expected each _id once, got {question_id!r} again; rename one")
        rows[question_id] = (fields.filled(row, "text", place), unique(fields.texts(metadata, "answers", place)))
    judged: dict[str, tuple[Split, dict[str, None]]] = {}
    for split in ALL_SPLITS:
        if (qrels := path / "qrels" / f"{split}.tsv").is_file():
            _read_qrels(qrels, split, rows.keys(), judged, loss)
    counting = _Counting(documents)
    known = known_ids(counting, {doc_id for _, golds in judged.values() for doc_id in golds}, str(documents.path))
    loss[METADATA] += counting.further
    questions = []
    for question_id, (text, answers) in rows.items():
        split_of, golds = judged.get(question_id, (None, {}))
        there = tuple(Gold(doc_id) for doc_id in golds if doc_id in known)
        loss[STRAY_DOCUMENTS] += len(golds) - len(there)
        questions.append(PlainQuestion(question_id, text, answers, there, split=split_of if there else None))
    return QuestionSet(documents, tuple(questions), dict(+loss))


def _read_qrels(
    path: Path, split: Split, questions: Collection[str], judged: dict[str, tuple[Split, dict[str, None]]], loss: Loss
) -> None:
    for number, row in fields.cells(path, "\t"):
        if number == 1 and row[0] == HEADER[0]:
            continue
        match row:
            case [question_id, doc_id, score] if score.strip().lstrip("-").isdecimal():
                grade = int(score)
            case _:
                raise DataError(
                    f"{path}:{number}: expected query-id, corpus-id and score between tabs, got {row!r:.80}"
                )
        loss[GRADES] += grade != 1
        if question_id not in questions:
            loss[STRAY_QUESTIONS] += 1
        elif grade > 0:
            home, golds = judged.setdefault(question_id, (split, {}))
            if home != split:
                raise DataError(
                    f"{path}:{number}: expected each question in one split, got {question_id!r} in {home}, too; "
                    "take it out of one of them"
                )
            golds[doc_id] = None


def write(found: QuestionSet, path: Path) -> Loss:
    """Write a BEIR folder; documents pass through one at a time, questions without a split become test questions.

    Raises:
        ServiceError: the disk refused.
    """
    loss = Loss()
    refuse_repeated_questions(found.questions, str(path))
    kept = [question for question in found.questions if question.answerable]
    loss[UNANSWERABLE] += len(found.questions) - len(kept)
    with io.whole_folder(path) as folder:
        with (folder / "corpus.jsonl").open("w", encoding="utf-8") as out:
            for document in found.documents:
                metadata = {} if document.source == document.doc_id else {"url": document.source}
                row = {"_id": document.doc_id, "title": document.title, "text": document.text, "metadata": metadata}
                _line(out, row)
        with (folder / "queries.jsonl").open("w", encoding="utf-8") as out:
            for question in kept:
                answers = {"answers": list(question.answers)} if question.answers else {}
                _line(out, {"_id": question.question_id, "text": question.question, "metadata": answers})
        (folder / "qrels").mkdir()
        for split in ALL_SPLITS:
            rows = [q for q in kept if q.golds and (q.split or "test") == split]
            if rows:
                with (folder / "qrels" / f"{split}.tsv").open("w", encoding="utf-8", newline="") as out:
                    _write_qrels(out, rows)
    for question in kept:
        count_extras(question, loss, keeps=frozenset([SPLITS]))
        loss[SPLITS] += bool(question.golds) == (question.split is None)
        loss[SPANS] += sum(gold.span is not None for gold in question.golds)
    return +loss


def _line(out: TextIO, row: dict[str, Any]) -> None:
    out.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write_qrels(out: TextIO, questions: list[PlainQuestion]) -> None:
    writer = csv.writer(out, delimiter="\t", lineterminator="\n")
    writer.writerow(HEADER)
    for question in questions:
        for doc_id in dict.fromkeys(gold.doc_id for gold in question.golds):
            writer.writerow([question.question_id, doc_id, 1])
