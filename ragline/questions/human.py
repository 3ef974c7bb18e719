"""Questions that people wrote, as JSONL or as a table from a spreadsheet, into LocalRQA's rows.

Columns: question, answer or answers, document (its id, source or another name of it), and where known evidence (words
of the document), id, split, answerable. In a table several answers stand in one cell between bars:
`5 days | five days`.
"""

import csv
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ragline import io
from ragline.errors import ConfigError, DataError
from ragline.questions.localrqa import Corpus
from ragline.types import SPLITS, Document, Drop, Split

COLUMNS = ("question", "answer", "answers", "document", "evidence", "id", "split", "answerable")
_STAGE = "generate_qa"
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_BAR = re.compile(r"\s*\|\s*")

Rows = list[tuple[int, dict[str, Any]]]
"""(line number, object): what `localrqa.import_questions` reads."""


def human_questions(
    path: Path, documents: Iterable[Document], split: Split | None = None
) -> tuple[dict[Split, Rows], list[Drop]]:
    """Read a file of hand-written questions and find what they rest on.

    The gold is the evidence where it is given, else the first answer that stands in the document exactly once, else
    the whole document.

    Args:
        path: .jsonl, .csv or .tsv.
        documents: where evidence is looked for.
        split: of questions that name none; their document's own where it is None, and test without a document.

    Returns:
        For each split its rows, ready for `import_questions`; and the questions whose document or evidence was not
        found, or that are blank.

    Raises:
        ConfigError: no such file, or another ending.
        DataError: names the line of another shape.
    """
    known = list(documents)
    corpus = Corpus(known, ())
    texts = {name: document for document in reversed(_sorted(known)) for name in _names(document)}
    rows: defaultdict[Split, Rows] = defaultdict(list)
    drops: list[Drop] = []
    for number, row in _read(path):
        place = f"{path.name}:{number}"
        made = _row(row, corpus, texts, f"{path}:{number}", place)
        if isinstance(made, Drop):
            drops.append(made)
        else:
            home = texts.get(_cell(row, "document", f"{path}:{number}"))
            default = split or (home.split if home else "test")
            rows[_split(row, default, f"{path}:{number}")].append((number, made))
    return dict(rows), drops


def _sorted(documents: list[Document]) -> list[Document]:
    return sorted(documents, key=lambda document: document.doc_id)


def _names(document: Document) -> tuple[str, ...]:
    return document.doc_id, document.source, *document.aliases


def _row(
    row: dict[str, Any], corpus: Corpus, texts: dict[str, Document], where: str, place: str
) -> dict[str, Any] | Drop:
    question, name, evidence = (_cell(row, key, where) for key in ("question", "document", "evidence"))
    answers = _answers(row, where)
    answerable = _answerable(row, where)
    if not question:
        return Drop(_STAGE, place, "empty question")
    made: dict[str, Any] = {
        "chat_history": [],
        "question": question,
        "gold_docs": [],
        "gold_answer": answers[0] if answers else "",
        "gold_answers": list(answers),
        "answerable": answerable,
        "hard_neg_docs": [],
    }
    if given := _cell(row, "id", where):
        made["id"] = given
    if not name and not answerable:
        return made
    if not name:
        return Drop(_STAGE, place, "no document", question)
    if not corpus.knows(name):
        return Drop(_STAGE, place, "source not found", name)
    if evidence:
        gold = corpus.locate(name, evidence)
        if gold is None:
            return Drop(_STAGE, place, "gold not located", evidence)
        made["gold_docs"] = [_doc(gold.document, gold.span.start, gold.span.end)]
    else:
        made["gold_docs"] = [_doc(texts[name], *_only_place(texts[name].text, answers))]
    return made


def _only_place(text: str, answers: tuple[str, ...]) -> tuple[int, int]:
    """Where an answer stands as whole words, if it does so once; else the whole text: a guess may be wrong."""
    for answer in answers:
        places = [match.span() for match in re.finditer(rf"(?<!\w){re.escape(answer)}(?!\w)", text)]
        if len(places) == 1:
            return places[0]
    return 0, len(text)


def _doc(document: Document, start: int, end: int) -> dict[str, Any]:
    text = document.text[start:end]
    content = f"Source: {document.source}\nTitle: {document.title}\nContent:\n{text}"
    metadata = {"source": document.source, "title": document.title, "doc_id": document.doc_id, "start": start}
    return {"page_content": text, "fmt_content": content, "metadata": metadata}


def _cell(row: dict[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{where}: {key!r}: expected text, got {type(value).__name__}: {value!r:.60}; mend the line")
    return value.strip()


def _answers(row: dict[str, Any], where: str) -> tuple[str, ...]:
    found: list[str] = []
    for key in ("answer", "answers"):
        value = row.get(key)
        if isinstance(value, list):
            found += [_cell({key: item}, key, where) for item in value]
        else:
            found.append(_cell(row, key, where))
    return tuple(dict.fromkeys(answer for answer in found if answer))


def _answerable(row: dict[str, Any], where: str) -> bool:
    value = row.get("answerable")
    if value is None or value == "" or isinstance(value, bool):
        return value is not False
    if str(value).strip().lower() not in _TRUTH:
        raise DataError(f"{where}: 'answerable': expected yes or no, got {value!r:.40}; mend the line")
    return _TRUTH[str(value).strip().lower()]


def _split(row: dict[str, Any], default: Split, where: str) -> Split:
    name = _cell(row, "split", where).lower()
    for split in SPLITS:
        if (name or default) == split:
            return split
    raise DataError(f"{where}: 'split': expected {', '.join(SPLITS)}, got {name!r:.40}; mend the line")


def _read(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; mend the path")
    match path.suffix.lower():
        case ".jsonl":
            rows = io.read_jsonl(path)
        case ".csv" | ".tsv":
            rows = _table(path)
        case ending:
            raise ConfigError(f"{path}: expected a name that ends in .jsonl, .csv or .tsv, got {ending!r}; rename it")
    for number, row in rows:
        keys = {str(key).strip().lower(): value for key, value in row.items()}
        if "question" not in keys:
            raise DataError(
                f"{path}:{number}: expected a column 'question', got {sorted(keys)!r:.80}; name the columns"
            )
        if unknown := sorted(keys.keys() - set(COLUMNS)):
            raise DataError(f"{path}:{number}: expected columns among {', '.join(COLUMNS)}, got {unknown}; rename them")
        yield number, keys


def _table(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(sys.maxsize)  # the default of 128 KiB is less than a long document
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            first = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=first.count)  # spreadsheets of some countries write semicolons
            lines = csv.reader(file, delimiter=delimiter, strict=True)
            header = [name.strip() for name in next(lines, [])]
            for cells in lines:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(header):
                    raise DataError(
                        f"{path}:{lines.line_num}: expected {len(header)} cells, got {len(cells)}; "
                        "put quotes around cells with separators"
                    )
                row: dict[str, Any] = dict(zip(header, cells, strict=True))
                for key in header:
                    if key.lower() in ("answer", "answers"):
                        row[key] = _BAR.split(row[key])
                yield lines.line_num, row
        except (csv.Error, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"{path}: expected UTF-8 with quotes in pairs, got: {reason}; save it as UTF-8 CSV"
            ) from None
