"""The folder of Hugging Face's rag-end2end-retriever: {train,val,test}.source and .target line by line, and one
knowledge base of title, tab, text.

Questions and documents are not connected there. A document is called `title/1`, `title/2`, …, a question `train/1`.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ragline import io
from ragline.errors import ConfigError, DataError
from ragline.questions.convert import fields
from ragline.questions.convert.neutral import (
    DOCUMENT_IDS,
    FURTHER_ANSWERS,
    GOLDS,
    QUESTION_IDS,
    SOURCES,
    SPLITS,
    TEXTS,
    UNANSWERABLE,
    UNANSWERED,
    Loss,
    Numbers,
    PlainDocument,
    PlainQuestion,
    QuestionSet,
    count_extras,
    one_line,
)
from ragline.types import Split

KNOWLEDGE_BASE = "my_knowledge_dataset.csv"
"""The name that the project's own documentation uses."""
FILES: dict[str, Split] = {"train": "train", "val": "dev", "test": "test"}


@dataclass(frozen=True)
class KnowledgeBase:
    """The documents of a knowledge base, read anew each time."""

    path: Path

    def __iter__(self) -> Iterator[PlainDocument]:
        numbers = Numbers()
        for number, row in fields.cells(self.path, "\t"):
            if len(row) != 2:
                raise DataError(f"{self.path}:{number}: expected title, tab, text, got {len(row)} cells; mend the row")
            title, text = row
            doc_id = numbers.next(title)
            yield PlainDocument(doc_id, title, text, doc_id)


def read(path: Path) -> QuestionSet:
    """Read a folder; the knowledge base, its one .csv or .tsv, stays on the disk.

    Raises:
        ConfigError: no questions, or two knowledge bases.
        DataError: names the line that is blank or of another shape, or the files of different length.
    """
    fields.require_input(path)
    bases = sorted(file for file in path.glob("*") if file.suffix in (".csv", ".tsv"))
    if len(bases) > 1:
        raise ConfigError(f"{path}: expected one .csv or .tsv, got {', '.join(base.name for base in bases)}; keep one")
    documents = KnowledgeBase(bases[0]) if bases else ()
    for _ in documents:  # so that a fault shows before anything is made of it
        pass
    questions: list[PlainQuestion] = []
    for name, split in FILES.items():
        if (path / f"{name}.source").is_file():
            questions += _questions(path, name, split)
    if not questions:
        raise ConfigError(f"{path}: expected train.source and train.target, or val or test, got none; mend the path")
    return QuestionSet(documents, tuple(questions))


def _questions(folder: Path, name: str, split: Split) -> list[PlainQuestion]:
    source, target = folder / f"{name}.source", folder / f"{name}.target"
    asked, answered = list(fields.text_lines(source)), list(fields.text_lines(target))
    if len(asked) != len(answered):
        raise DataError(f"{target}: expected {len(asked)} lines as in {source.name}, got {len(answered)}; align them")
    questions = []
    for (number, question), (_, answer) in zip(asked, answered, strict=True):
        for file, line in ((source, question), (target, answer)):
            if not line.strip():
                raise DataError(f"{file}:{number}: expected text, got a blank line; remove it from both files")
        text = fields.checked(question, f"{source}:{number}")
        questions.append(PlainQuestion(f"{name}/{number}", text, (answer,), split=split))
    return questions


def write(found: QuestionSet, path: Path) -> Loss:
    """Write a folder; questions without a split go to train, documents pass through one at a time.

    Raises:
        ServiceError: the disk refused.
    """
    loss = Loss()
    lines: dict[str, list[tuple[str, str]]] = {name: [] for name in FILES}
    names = {split: name for name, split in FILES.items()}
    for question in found.questions:
        if not question.answerable:
            loss[UNANSWERABLE] += 1
        elif not question.answers:
            loss[UNANSWERED] += 1
        else:
            pair = one_line(question.question), one_line(question.answers[0])
            name = names[question.split or "train"]
            lines[name].append(pair)
            loss[SPLITS] += question.split is None
            loss[TEXTS] += (pair[0] != question.question) + (pair[1] != question.answers[0])
            loss[QUESTION_IDS] += question.question_id != f"{name}/{len(lines[name])}"
            loss[FURTHER_ANSWERS] += len(question.answers) - 1
            loss[GOLDS] += len(question.golds)
            count_extras(question, loss, keeps=frozenset([SPLITS]))
    with io.whole_folder(path) as folder:
        for name, pairs in lines.items():
            for ending, side in (("source", 0), ("target", 1)):
                body = "".join(pair[side] + "\n" for pair in pairs)
                (folder / f"{name}.{ending}").write_text(body, encoding="utf-8", newline="\n")
        _write_documents(found, folder / KNOWLEDGE_BASE, loss)
    return +loss


def _write_documents(found: QuestionSet, path: Path, loss: Loss) -> None:
    numbers = Numbers()
    with path.open("w", encoding="utf-8", newline="") as out:
        plain = csv.writer(out, delimiter="\t", lineterminator="\n")
        quoted = csv.writer(out, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_ALL)
        for document in found.documents:
            row = document.title, document.text
            odd = "\r" in "".join(row) or not all(row)  # what the plain writer leaves bare and readers take amiss
            (quoted if odd else plain).writerow(row)
            doc_id = numbers.next(document.title)
            loss[DOCUMENT_IDS] += doc_id != document.doc_id
            loss[SOURCES] += document.source not in (document.doc_id, doc_id)
