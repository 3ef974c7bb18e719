"""TriviaQA's reading comprehension: qa/*.json beside evidence/{wikipedia,web}/*.txt; the answers have no positions.

The evidence was gathered by search, so only a document that holds one of the answers is taken as gold.
"""

import json
import re
import string
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ragline import io
from ragline.errors import ConfigError, DataError
from ragline.questions.convert import fields
from ragline.questions.convert.neutral import (
    DOCUMENT_IDS,
    DOCUMENTS,
    GOLDS,
    SOURCES,
    SPANS,
    SPLITS,
    UNANSWERABLE,
    Gold,
    Loss,
    PlainDocument,
    PlainQuestion,
    QuestionSet,
    by_split,
    count_extras,
    documents_named,
    gold_ids,
    refuse_repeated_questions,
    refuse_repeats,
    unique,
)
from ragline.types import Split

NO_FILE = "evidence files that are not there"
NO_ANSWER = "evidence that does not hold the answer"
KINDS = {"EntityPages": "wikipedia", "SearchResults": "web"}
_OURS = re.compile(r"(wikipedia|web)/(\d{1,9}/)?[^/\x00]{1,60}\.txt")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class Evidence:
    """The documents that a file names, read anew each time."""

    folder: Path
    entries: dict[str, tuple[str, str]]
    """doc_id, the path under the folder → title, source."""

    def __iter__(self) -> Iterator[PlainDocument]:
        for doc_id, (title, source) in self.entries.items():
            yield PlainDocument(doc_id, title, self.text(doc_id), source)

    def text(self, doc_id: str) -> str:
        """The text of one document, to the byte."""
        path = self.folder / doc_id
        try:
            return path.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: expected UTF-8, got byte {error.start}: {error.reason}; convert it") from None


def read(path: Path) -> QuestionSet:
    """Read one qa/*.json, or all of a folder; the evidence stays on the disk.

    Raises:
        ConfigError: no such file, or no evidence folder.
        DataError: names the entry of another shape, or the path that leads out of the evidence folder.
    """
    fields.require_input(path)
    files = sorted((path / "qa").glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise ConfigError(f"{path}: expected qa/*.json, got none; mend the path")
    bases = [path] if path.is_dir() else [path.parent.parent, path.parent]
    folder = next((base / "evidence" for base in bases if (base / "evidence").is_dir()), None)
    if folder is None:
        raise ConfigError(f"{path}: expected a folder `evidence` beside `qa`, got none; put the documents there")
    loss = Loss()
    entries: dict[str, tuple[str, str]] = {}
    found: list[tuple[dict[str, Any], str, Split | None, list[str]]] = []
    for file in files:
        whole = fields.json_object(file)
        split = _split(whole, str(file))
        for number, row in enumerate(fields.records(whole, "Data", str(file))):
            place = f"{file}: Data[{number}]"
            found.append((row, place, split, _evidence(row, folder, place, entries, loss)))
    if found and not entries and loss[NO_FILE]:
        raise DataError(f"{folder}: expected the evidence of {files[0].name}, got none of its {loss[NO_FILE]} files")
    documents = Evidence(folder, entries)
    questions = [_question(row, place, split, names, documents, loss) for row, place, split, names in found]
    refuse_repeated_questions(questions, f"{path} (web and wikipedia share questions: read one file at a time)")
    return QuestionSet(documents, tuple(questions), dict(+loss))


def _split(whole: dict[str, Any], place: str) -> Split | None:
    match fields.text(whole, "Split", place, ""):
        case "train":
            return "train"
        case "dev":
            return "dev"
        case "test":
            return "test"
    return None


def _evidence(
    row: dict[str, Any], folder: Path, place: str, entries: dict[str, tuple[str, str]], loss: Loss
) -> list[str]:
    names = []
    for key, kind in KINDS.items():
        for number, entry in enumerate(fields.records(row, key, place)):
            spot = f"{place}.{key}[{number}]"
            name = fields.checked_id(fields.filled(entry, "Filename", spot), spot)
            parts = Path(name).parts
            if Path(name).is_absolute() or ".." in parts:
                raise DataError(f"{spot}: expected a file inside {kind}/, got {name!r:.80}; remove the entry")
            doc_id = f"{kind}/{name}"
            if not (folder / doc_id).is_file():
                loss[NO_FILE] += 1
                continue
            names.append(doc_id)
            title = fields.text(entry, "Title", spot, "")
            entries.setdefault(doc_id, (title, fields.text(entry, "Url", spot, doc_id)))
    return names


def _question(
    row: dict[str, Any], place: str, split: Split | None, names: list[str], documents: Evidence, loss: Loss
) -> PlainQuestion:
    answer = fields.record(row, "Answer", place)
    value = [fields.filled(answer, "Value", place)] if answer else []
    answers = unique([*value, *fields.texts(answer, "Aliases", place)])
    golds = [name for name in dict.fromkeys(names) if holds(documents.text(name), answers)]
    loss[NO_ANSWER] += len(set(names)) - len(golds)
    return PlainQuestion(
        question_id=fields.identifier(row, "QuestionId", place),
        question=fields.filled(row, "Question", place),
        answers=answers,
        golds=tuple(Gold(name) for name in golds),
        split=split,
    )


def holds(text: str, answers: tuple[str, ...]) -> bool:
    """Whether a text holds any of the answers as whole words, in whatever case."""
    folded = text.casefold()
    inside = (answer.casefold() for answer in answers if answer.casefold() in folded)  # the quick test first
    return any(re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", folded) for answer in inside)


def normalised(answer: str) -> str:
    """Lower case, no punctuation, no articles, single blanks: how TriviaQA compares answers."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def write(found: QuestionSet, path: Path) -> Loss:
    """Write a folder of qa/ and evidence/, with one file of questions a split.

    Raises:
        DataError: a gold document is not among the documents.
        ServiceError: the disk refused.
    """
    loss = Loss()
    refuse_repeated_questions(found.questions, str(path))
    refuse_repeats(found.documents, str(path))
    kept = [question for question in found.questions if question.answerable]
    loss[UNANSWERABLE] += len(found.questions) - len(kept)
    homes = documents_named(found.documents, gold_ids(kept), str(path))
    golds: defaultdict[str, list[PlainDocument]] = defaultdict(list)
    for question in kept:
        named = [homes[doc_id] for doc_id in dict.fromkeys(gold.doc_id for gold in question.golds)]
        golds[question.question_id] = [home for home in named if holds(home.text, question.answers)]
        loss[GOLDS] += len(named) - len(golds[question.question_id])
        loss[SPANS] += sum(gold.span is not None for gold in question.golds)
        count_extras(question, loss, keeps=frozenset([SPLITS]))
    used = {home.doc_id: home for homes_of in golds.values() for home in homes_of}
    files = _files(list(used.values()))
    loss[DOCUMENTS] += sum(document.doc_id not in used for document in found.documents)
    with io.whole_folder(path) as folder:
        (folder / "qa").mkdir()
        for kind in KINDS.values():
            (folder / "evidence" / kind).mkdir(parents=True)
        for doc_id, home in used.items():
            file = folder / "evidence" / files[doc_id]
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(home.text.encode("utf-8"))
            loss[DOCUMENT_IDS] += files[doc_id] != doc_id
            source = files[doc_id] if files[doc_id].startswith("wikipedia/") else home.source
            loss[SOURCES] += source != home.source and home.source != doc_id
        for split, questions in by_split(kept):
            rows = [_row(question, golds[question.question_id], files) for question in questions]
            whole = {"Data": rows, "Domain": "Wikipedia", "VerifiedEval": False, "Version": 1.0}
            whole |= {"Split": split} if split else {}
            file = folder / "qa" / f"wikipedia-{split or 'all'}.json"
            file.write_text(json.dumps(whole, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return +loss


def _files(documents: list[PlainDocument]) -> dict[str, str]:
    """A file name for each document: its id where that can be one, the id coded where not."""
    files = {document.doc_id: document.doc_id for document in documents if _is_path(document.doc_id)}
    used = set(files)
    for document in documents:
        if document.doc_id not in files:
            kind = "wikipedia" if document.source == document.doc_id else "web"
            coded = quote(document.doc_id, safe=" '(),")
            name = f"{kind}/{coded}.txt"
            if len(coded) > 50 or name in used:
                name = f"{kind}/{coded[:40]}-{io.digest(document.doc_id)[:12]}.txt"
            used.add(name)
            files[document.doc_id] = name
    return files


def _is_path(doc_id: str) -> bool:
    """Whether an id can be the path of an evidence file as it is."""
    return bool(_OURS.fullmatch(doc_id)) and ".." not in Path(doc_id).parts


def _row(question: PlainQuestion, homes: list[PlainDocument], files: dict[str, str]) -> dict[str, Any]:
    entries: dict[str, list[dict[str, Any]]] = {key: [] for key in KINDS}
    for home in homes:
        kind, _, name = files[home.doc_id].partition("/")
        entry = {"Filename": name, "Title": home.title}
        if kind == "web":
            entries["SearchResults"].append({**entry, "Url": home.source, "Rank": len(entries["SearchResults"])})
        else:
            entries["EntityPages"].append({**entry, "DocSource": "Search"})
    row: dict[str, Any] = {"QuestionId": question.question_id, "Question": question.question, **entries}
    if question.answers:
        row["Answer"] = {
            "Value": question.answers[0],
            "Aliases": list(question.answers),
            "NormalizedValue": normalised(question.answers[0]),
            "NormalizedAliases": [normalised(answer) for answer in question.answers],
            "Type": "FreeForm",
        }
    return row
