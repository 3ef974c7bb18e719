"""SQuAD v1.1 and v2.0: one JSON file, answers as character offsets into their paragraph.

A paragraph is a document, called `title/1`, `title/2`, … Both versions are read alike.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from ragline import io
from ragline.errors import DataError
from ragline.questions.convert import fields
from ragline.questions.convert.neutral import (
    ANSWERS,
    DOCUMENT_IDS,
    GOLDS,
    POSITIONS,
    SOURCES,
    SPANS,
    UNANSWERABLE,
    UNFOUND,
    UNPLACED,
    Gold,
    Loss,
    Numbers,
    PlainDocument,
    PlainQuestion,
    QuestionSet,
    count_extras,
    documents_named,
    gold_ids,
    look_up,
    placed,
    refuse_repeated_questions,
)
from ragline.types import Span

REPEATED_ANSWERS = "answers given by several annotators"
PLAUSIBLE = "plausible answers"


def read(path: Path) -> QuestionSet:
    """Read either version.

    Raises:
        ConfigError: no such file.
        DataError: names the entry of another shape, or the answer that does not stand where it is said to.
    """
    loss, numbers = Loss(), Numbers()
    documents, questions = [], []
    for a, article in enumerate(fields.records(fields.json_object(path), "data", str(path))):
        title = fields.text(article, "title", f"{path}: data[{a}]", "")
        for p, paragraph in enumerate(fields.records(article, "paragraphs", f"{path}: data[{a}]")):
            place = f"{path}: data[{a}].paragraphs[{p}]"
            doc_id = numbers.next(title)
            document = PlainDocument(doc_id, title, fields.text(paragraph, "context", place), doc_id)
            documents.append(document)
            for q, row in enumerate(fields.records(paragraph, "qas", place)):
                questions.append(_question(row, document, f"{place}.qas[{q}]", loss))
    if not documents:
        raise DataError(f"{path}: expected data[].paragraphs[], got no paragraph; is this SQuAD's JSON?")
    refuse_repeated_questions(questions, str(path))
    return QuestionSet(tuple(documents), tuple(questions), dict(+loss))


def _question(row: dict[str, Any], document: PlainDocument, place: str, loss: Loss) -> PlainQuestion:
    impossible = fields.flag(row, "is_impossible", place, False)
    loss[PLAUSIBLE] += len(fields.records(row, "plausible_answers", place))
    rows = fields.records(row, "answers", place)
    if impossible and rows:
        raise DataError(f"{place}: expected no answers with is_impossible, got {len(rows)}; mend one of the two")
    answers, golds = [], []
    for number, answer in enumerate(rows):
        spot = f"{place}.answers[{number}]"
        text, start = fields.filled(answer, "text", spot), fields.whole_number(answer, "answer_start", spot)
        there = document.text[start : start + len(text)] if start >= 0 else ""
        if there != text:
            raise DataError(f"{spot}: expected {text[:60]!r} at {start} of the context, got {there[:60]!r}; mend it")
        answers.append(text)
        golds.append(Gold(document.doc_id, Span(start, start + len(text))))
    loss[REPEATED_ANSWERS] += len(golds) - len(set(golds))
    return PlainQuestion(
        question_id=fields.identifier(row, "id", place),
        question=fields.filled(row, "question", place),
        answers=tuple(dict.fromkeys(answers)),
        golds=tuple(dict.fromkeys(golds)) or (Gold(document.doc_id),),
        answerable=not impossible,
    )


def write(found: QuestionSet, path: Path, impossible: bool) -> Loss:
    """Write v2.0 where `impossible` questions are wanted, v1.1 where not; documents pass through one at a time.

    Raises:
        DataError: a gold document is not among the documents.
        ServiceError: the disk refused.
    """
    loss = Loss()
    homes = documents_named(found.documents, gold_ids(found.questions), str(path))
    asked: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for question in found.questions:
        if not question.golds:
            loss[UNPLACED] += 1
        elif not question.answerable and not impossible:
            loss[UNANSWERABLE] += 1
        elif row := _row(question, homes[question.golds[0].doc_id], impossible, loss):
            asked[question.golds[0].doc_id].append(row)
    with io.whole_file(path) as part, part.open("w", encoding="utf-8") as out:
        out.write(f'{{"version": "{"v2.0" if impossible else "1.1"}", "data": [')
        for number, article in enumerate(_articles(found, asked, loss)):
            out.write(("" if number == 0 else ",") + "\n" + article)
        out.write("\n]}\n")
    return +loss


def _articles(found: QuestionSet, asked: dict[str, list[dict[str, Any]]], loss: Loss) -> Iterator[str]:
    numbers = Numbers()
    for title, documents in groupby(found.documents, key=lambda document: document.title):
        paragraphs = []
        for document in documents:
            doc_id = numbers.next(title)
            loss[DOCUMENT_IDS] += doc_id != document.doc_id
            loss[SOURCES] += document.source not in (document.doc_id, doc_id)
            paragraphs.append({"qas": asked.get(document.doc_id, []), "context": document.text})
        yield json.dumps({"title": title, "paragraphs": paragraphs}, ensure_ascii=False)


def _row(question: PlainQuestion, home: PlainDocument, impossible: bool, loss: Loss) -> dict[str, Any] | None:
    elsewhere = sum(gold.doc_id != home.doc_id for gold in question.golds)
    row: dict[str, Any] = {"question": question.question, "id": question.question_id, "answers": []}
    if impossible:
        row["is_impossible"] = not question.answerable
    if question.answerable and question.answers:
        places = placed(question, home)
        looked_up = look_up(places.unplaced, places.wide, home)
        spans = [*places.exact, *looked_up.values()]
        if not spans:
            loss[UNFOUND] += 1
            return None
        row["answers"] = [{"text": home.text[s.start : s.end], "answer_start": s.start} for s in spans]
        loss[POSITIONS] += len(looked_up)
        loss[ANSWERS] += len(places.unplaced) - len(looked_up)
        loss[SPANS] += len(places.wide) if places.exact else sum(gold.span is not None for gold in places.wide)
    else:
        loss[ANSWERS] += len(question.answers)
        here = [gold for gold in question.golds if gold.doc_id == home.doc_id]
        loss[SPANS] += sum(gold.span is not None for gold in here)
    loss[GOLDS] += elsewhere
    count_extras(question, loss)
    return row
