"""Ragas' evaluation sets, .jsonl or .csv: user_input, reference, reference_contexts with their ids.

A CSV holds lists the way Ragas writes them, as Python literals; JSON is read, too. Conversations are read, single turns
are written. A context is a document; without an id of its own it is called by a digest of its text.
"""

import ast
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragline import io
from ragline.errors import ConfigError, DataError
from ragline.io import digest
from ragline.questions.convert import fields
from ragline.questions.convert.neutral import (
    DOCUMENT_IDS,
    DOCUMENTS,
    FURTHER_ANSWERS,
    QUESTION_IDS,
    SOURCES,
    SPANS,
    TITLES,
    UNANSWERABLE,
    Gold,
    Loss,
    Names,
    PlainDocument,
    PlainQuestion,
    QuestionSet,
    count_extras,
    documents_named,
    gold_ids,
)

COLUMNS = ("user_input", "reference_contexts", "reference_context_ids", "reference")
RETRIEVED = "retrieved contexts, kept as documents alone"
TOOLS = "messages of tools"
_LISTS = ("reference_contexts", "reference_context_ids", "retrieved_contexts", "retrieved_context_ids")
_KNOWN = {*COLUMNS, "retrieved_contexts", "retrieved_context_ids"}


def read(path: Path) -> QuestionSet:
    """Read a file; questions are called by the number of their row.

    Raises:
        ConfigError: no such file, or neither .jsonl nor .csv.
        DataError: names the line of another shape.
    """
    loss, names = Loss(), Names()
    documents: dict[str, PlainDocument] = {}
    questions = []
    for number, (place, row) in enumerate(_rows(path), start=1):
        golds = _documents(row, "reference", place, names, documents)
        loss[RETRIEVED] += len(_documents(row, "retrieved", place, names, documents))
        for column in sorted(row.keys() - _KNOWN):
            loss[f"column {column}"] += row[column] not in (None, "")
        question, history = _asked(row, place, loss)
        answer = fields.text(row, "reference", place, "")
        questions.append(
            PlainQuestion(
                question_id=str(number),
                question=question,
                answers=(answer,) if answer.strip() else (),
                golds=tuple(Gold(doc_id) for doc_id in dict.fromkeys(golds)),
                chat_history=history,
            )
        )
    if not questions:
        raise DataError(f"{path}: expected one question a row, got none")
    return QuestionSet(tuple(documents.values()), tuple(questions), dict(+loss))


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if _is_csv(path):
        rows = fields.cells(path, ",")
        _, header = next(rows, (1, []))
        if "user_input" not in header:
            raise DataError(f"{path}:1: expected a column user_input, got {header[:8]!r:.80}; is this Ragas' CSV?")
        for number, cells in rows:
            if len(cells) != len(header):
                raise DataError(f"{path}:{number}: expected {len(header)} cells, got {len(cells)}; mend the row")
            row: dict[str, Any] = dict(zip(header, cells, strict=True))
            for column in _LISTS:
                if column in row:
                    row[column] = _literal(row[column], f"{path}:{number}: {column!r}")
            if row["user_input"].startswith("[{"):
                row["user_input"] = _literal(row["user_input"], f"{path}:{number}: 'user_input'")
            yield f"{path}:{number}", row
    else:
        for number, row in fields.objects(path):
            yield f"{path}:{number}", row


def _is_csv(path: Path) -> bool:
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise ConfigError(
            f"{path}: expected a name that ends in .jsonl or .csv, got {path.suffix or 'none'!r}; rename it"
        )
    return path.suffix.lower() == ".csv"


def _literal(cell: str, place: str) -> Any:
    """A list in a cell; it is parsed, never run."""
    if not cell.strip():
        return None
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise DataError(f"{place}: expected a list such as ['a', 'b'], got {cell[:60]!r}; mend it") from None


def _documents(
    row: dict[str, Any], kind: str, place: str, names: Names, documents: dict[str, PlainDocument]
) -> list[str]:
    texts = fields.texts(row, f"{kind}_contexts", place)
    ids = fields.items(row, f"{kind}_context_ids", place)
    if ids and len(ids) != len(texts):
        raise DataError(
            f"{place}: expected an id for each of {len(texts)} {kind}_contexts, got {len(ids)}; mend the row"
        )
    found = []
    for number, text in enumerate(texts):
        base = f"context-{digest(text)[:12]}"
        if ids:
            base = fields.identifier({"id": ids[number]}, "id", f"{place}: {kind}_context_ids[{number}]")
        doc_id = names.name(base, text)
        documents.setdefault(doc_id, PlainDocument(doc_id, "", text, doc_id))
        found.append(doc_id)
    return found


def _asked(row: dict[str, Any], place: str, loss: Loss) -> tuple[str, tuple[str, ...]]:
    """The question, and what was said before it."""
    if not isinstance(row.get("user_input"), list):
        return fields.filled(row, "user_input", place), ()
    said: list[tuple[str, str]] = []
    for number, message in enumerate(fields.records(row, "user_input", place)):
        spot = f"{place}: 'user_input'[{number}]"
        said.append((fields.text(message, "type", spot), fields.text(message, "content", spot)))
    last = max((number for number, (kind, _) in enumerate(said) if kind == "human"), default=-1)
    if last < 0 or not said[last][1].strip():
        raise DataError(f"{place}: 'user_input': expected a message of type human, got none; remove the row")
    loss[TOOLS] += sum(kind == "tool" for kind, _ in said)
    loss["messages after the last question"] += sum(kind == "ai" for kind, _ in said[last + 1 :])
    return said[last][1], tuple(text for kind, text in said[:last] if kind != "tool")


def write(found: QuestionSet, path: Path) -> Loss:
    """Write .jsonl or .csv, by the name; a reference context is the whole text of a gold document.

    Raises:
        ConfigError: another ending.
        DataError: a gold document is not among the documents.
        ServiceError: the disk refused.
    """
    loss, names = Loss(), Names()
    as_csv = _is_csv(path)
    kept = [question for question in found.questions if question.answerable]
    loss[UNANSWERABLE] += len(found.questions) - len(kept)
    homes = documents_named(found.documents, gold_ids(kept), str(path))
    loss[DOCUMENTS] += sum(document.doc_id not in homes for document in found.documents)
    for home in homes.values():
        loss[TITLES] += home.title != ""
        loss[SOURCES] += home.source != home.doc_id
    with io.whole_file(path) as part, part.open("w", encoding="utf-8", newline="") as out:
        table = csv.DictWriter(out, COLUMNS, restval="", quoting=csv.QUOTE_ALL, lineterminator="\n")
        if as_csv:
            table.writeheader()
        for number, question in enumerate(kept, start=1):
            row = _row(question, homes)
            for doc_id in row.get("reference_context_ids", []):
                loss[DOCUMENT_IDS] += names.name(doc_id, homes[doc_id].text) != doc_id
            loss[QUESTION_IDS] += question.question_id != str(number)
            loss[FURTHER_ANSWERS] += len(question.answers[1:])
            loss[SPANS] += sum(gold.span is not None for gold in question.golds)
            count_extras(question, loss)
            if as_csv:
                table.writerow(row)
            else:
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
    return +loss


def _row(question: PlainQuestion, homes: dict[str, PlainDocument]) -> dict[str, Any]:
    row: dict[str, Any] = {"user_input": question.question}
    if ids := list(dict.fromkeys(gold.doc_id for gold in question.golds)):
        row |= {"reference_contexts": [homes[doc_id].text for doc_id in ids], "reference_context_ids": ids}
    if question.answers:
        row["reference"] = question.answers[0]
    return row
