"""MS MARCO passage ranking: collection.tsv, queries[.train|.dev|.eval].tsv and qrels[...].tsv in a folder.

`eval` is the test split; `queries.dev.small.tsv` and the like are read as part of `dev`. The collection stays
on the disk.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ragline import io
from ragline.errors import ConfigError, DataError
from ragline.questions.convert import fields
from ragline.questions.convert.neutral import (
    ANSWERS,
    DOCUMENT_IDS,
    QUESTION_IDS,
    SOURCES,
    SPANS,
    SPLITS,
    TEXTS,
    TITLES,
    UNANSWERABLE,
    Gold,
    Loss,
    PlainDocument,
    PlainQuestion,
    QuestionSet,
    by_split,
    count_extras,
    known_ids,
    one_line,
    refuse_repeated_questions,
)
from ragline.types import Split

STRAY_DOCUMENTS = "judgements of documents that are not there"
STRAY_QUESTIONS = "judgements of questions that are not there"
GRADES = "grades other than 1"
NAMES: dict[str, Split] = {"train": "train", "dev": "dev", "eval": "test"}
ENDINGS: dict[Split | None, str] = {None: "", "train": ".train", "dev": ".dev", "test": ".eval"}


@dataclass(frozen=True)
class Collection:
    """The documents of a collection.tsv, read anew each time."""

    path: Path

    def __iter__(self) -> Iterator[PlainDocument]:
        for doc_id, text in _pairs(self.path):
            yield PlainDocument(doc_id, "", text, doc_id)


def read(path: Path) -> QuestionSet:
    """Read a folder.

    Raises:
        ConfigError: no collection.tsv, or no queries.
        DataError: names the line of another shape, or the id that stands twice.
    """
    fields.require_input(path)
    documents, loss = Collection(path / "collection.tsv"), Loss()
    fields.require_input(documents.path)
    texts: dict[str, tuple[str, Split | None]] = {}
    files = _files(path, "queries")
    if not files:
        raise ConfigError(f"{path}: expected queries.tsv or queries.train.tsv and the like, got none; mend the path")
    for split, file in files:
        for question_id, text in _pairs(file):
            if texts.setdefault(question_id, (text, split)) != (text, split):
                raise DataError(f"{file}: expected each query id once, got {question_id!r} for another text or split")
            if not text.strip():
                raise DataError(f"{file}: expected text for query {question_id!r}, got a blank; remove the line")
    judged: dict[str, dict[str, None]] = {question_id: {} for question_id in texts}
    for _, file in _files(path, "qrels"):
        _read_qrels(file, judged, loss)
    wanted = {doc_id for golds in judged.values() for doc_id in golds}
    known = known_ids(documents, wanted, str(documents.path))
    questions = []
    for question_id, (text, split) in texts.items():
        golds = tuple(Gold(doc_id) for doc_id in judged[question_id] if doc_id in known)
        loss[STRAY_DOCUMENTS] += len(judged[question_id]) - len(golds)
        questions.append(PlainQuestion(question_id, text, (), golds, split=split))
    return QuestionSet(documents, tuple(questions), dict(+loss))


def _files(folder: Path, kind: str) -> list[tuple[Split | None, Path]]:
    found: list[tuple[Split | None, Path]] = []
    for file in sorted(folder.glob(f"{kind}*.tsv")):
        middle = file.name.removeprefix(kind).removesuffix(".tsv")
        name = middle.removeprefix(".").split(".")[0]
        if name in NAMES:
            found.append((NAMES[name], file))
        elif not middle:
            found.append((None, file))
        else:
            raise ConfigError(f"{file}: expected {kind}.tsv or {kind}.train, .dev, .eval, got {name!r}; rename it")
    return found


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in fields.text_lines(path):
        name, tab, text = line.partition("\t")
        if not tab or "\t" in text:
            raise DataError(f"{path}:{number}: expected an id, a tab and a text, got {line[:60]!r}; mend the line")
        yield fields.checked_id(name, f"{path}:{number}"), text


def _read_qrels(path: Path, judged: dict[str, dict[str, None]], loss: Loss) -> None:
    for number, line in fields.text_lines(path):
        match line.split():
            case [question_id, _, doc_id, score] if score.lstrip("-").isdecimal():
                grade = int(score)
            case parts:
                raise DataError(
                    f"{path}:{number}: expected query, 0, passage and grade, got {len(parts)} fields: {line!r:.60}"
                )
        loss[GRADES] += grade != 1
        if question_id not in judged:
            loss[STRAY_QUESTIONS] += 1
        elif grade > 0:
            judged[question_id][doc_id] = None


def write(found: QuestionSet, path: Path) -> Loss:
    """Write a folder; documents pass through one at a time.

    Raises:
        DataError: two ids are the same once blanks are coded.
        ServiceError: the disk refused.
    """
    loss = Loss()
    refuse_repeated_questions(found.questions, str(path))
    kept = [question for question in found.questions if question.answerable]
    loss[UNANSWERABLE] += len(found.questions) - len(kept)
    names = [question.question_id for question in kept]
    _refuse_clash({_token(name) for name in names if _token(name) != name}, names, path)
    coded: set[str] = set()
    with io.whole_folder(path) as folder:
        with (folder / "collection.tsv").open("w", encoding="utf-8", newline="\n") as out:
            for document in found.documents:
                doc_id, line = _token(document.doc_id), one_line(document.text)
                out.write(f"{doc_id}\t{line}\n")
                if doc_id != document.doc_id:
                    loss[DOCUMENT_IDS] += 1
                    coded.add(doc_id)
                loss[TITLES] += document.title != ""
                loss[SOURCES] += document.source != document.doc_id
                loss[TEXTS] += line != document.text
        _refuse_clash(coded, (document.doc_id for document in found.documents) if coded else (), path)
        for split, questions in by_split(kept):
            _write_questions(questions, folder, ENDINGS[split], loss)
    return +loss


def _write_questions(questions: list[PlainQuestion], folder: Path, ending: str, loss: Loss) -> None:
    lines, judgements = [], []
    for question in questions:
        question_id, line = _token(question.question_id), one_line(question.question)
        lines.append(f"{question_id}\t{line}\n")
        for doc_id in dict.fromkeys(gold.doc_id for gold in question.golds):
            judgements.append(f"{question_id}\t0\t{_token(doc_id)}\t1\n")
        loss[QUESTION_IDS] += question_id != question.question_id
        loss[TEXTS] += line != question.question
        loss[ANSWERS] += len(question.answers)
        loss[SPANS] += sum(gold.span is not None for gold in question.golds)
        count_extras(question, loss, keeps=frozenset([SPLITS]))
    (folder / f"queries{ending}.tsv").write_text("".join(lines), encoding="utf-8", newline="\n")
    if judgements:
        (folder / f"qrels{ending}.tsv").write_text("".join(judgements), encoding="utf-8", newline="\n")


def _token(name: str) -> str:
    """The id as one word: its readers split lines at white space."""
    return "".join(quote(character) if character.isspace() else character for character in name)


def _refuse_clash(coded: set[str], names: Iterable[str], path: Path) -> None:
    for name in names:
        if name in coded:
            raise DataError(f"{path}: expected ids without blanks, got one that reads {name!r} once coded; rename one")
