"""Hand-written gold sets: read, check, and locate their evidence in the corpus."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ragline import io, spans
from ragline.errors import DataError
from ragline.types import Document, Passage, QAExample, Span


class GoldQuestion(BaseModel):
    """One line of a gold set."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    id: str
    question: str
    gold_names: tuple[str, ...]
    """Documents any of which answers it, by canonical name or alias."""
    evidence: str
    """A verbatim span of the first one."""
    answers: tuple[str, ...]
    kind: str
    answerable: bool

    @model_validator(mode="after")
    def _complete(self) -> "GoldQuestion":
        if self.answerable and not (self.gold_names and self.evidence and self.answers):
            raise ValueError("an answerable question needs gold_names, evidence and answers")
        if not self.answerable and (self.gold_names or self.evidence or self.answers):
            raise ValueError("an unanswerable question has no gold_names, evidence or answers")
        return self


@dataclass(frozen=True)
class GoldSet:
    """A gold set mapped onto the present passages."""

    questions: tuple[QAExample, ...]
    """`gold_passage_ids` are those that overlap the evidence in any named document."""
    document_qrels: dict[str, frozenset[str]]
    """question_id → all passages of the named documents."""


def read(path: Path, documents: Sequence[Document], passages: Sequence[Passage]) -> GoldSet:
    """Read a gold set and find its evidence.

    Raises:
        MissingArtifact: no such file.
        DataError: names the line, and what is wrong: a field, a name the corpus lacks, evidence not in its document.
    """
    named = {name: d for d in documents for name in (*d.aliases, d.doc_id)}
    of_document: dict[str, list[Passage]] = {}
    for passage in passages:
        of_document.setdefault(passage.doc_id, []).append(passage)
    questions: dict[str, QAExample] = {}
    document_qrels = {}
    for number, row in io.read_jsonl(path):
        where = f"{path}:{number}"
        gold = _parse(row, where)
        if gold.id in questions:
            raise DataError(f"{where}: expected ids to be unique, got {gold.id!r} again; rename one")
        homes = [_home(name, named, where) for name in gold.gold_names]
        questions[gold.id] = _locate(gold, homes, of_document, where)
        if gold.answerable:
            document_qrels[gold.id] = frozenset(p.passage_id for d in homes for p in of_document[d.doc_id])
    if not questions:
        raise DataError(f"{path}: expected one question a line, got none; write some or take the file from gold_sets")
    return GoldSet(tuple(questions.values()), document_qrels)


def _parse(row: dict[str, object], where: str) -> GoldQuestion:
    try:
        return GoldQuestion.model_validate(row)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, f['loc'])) or 'row'}: {f['msg']}" for f in error.errors())
        raise DataError(f"{where}: not a gold question: {faults}") from None


def _home(name: str, named: dict[str, Document], where: str) -> Document:
    if name not in named:
        raise DataError(
            f"{where}: expected gold_names of the corpus, got {name!r}; "
            "mend it, or take the file from evaluate.gold_sets"
        )
    return named[name]


def _locate(
    gold: GoldQuestion, homes: Sequence[Document], of_document: dict[str, list[Passage]], where: str
) -> QAExample:
    found: list[str] = []
    first = Span(0, 0)
    for place, document in enumerate(homes):
        start = document.text.find(gold.evidence)
        if start < 0:
            if place == 0:
                raise DataError(
                    f"{where}: evidence does not stand in {document.doc_id}: {gold.evidence[:60]!r}; quote it"
                )
            continue
        span = Span(start, start + len(gold.evidence))
        first = span if place == 0 else first
        found += [p.passage_id for p in of_document[document.doc_id] if spans.overlap(p.span, span)]
    return QAExample(
        question_id=gold.id,
        question=gold.question,
        answers=gold.answers,
        doc_id=homes[0].doc_id if homes else "",
        start=first.start,
        end=first.end,
        gold_passage_ids=tuple(found),
        kind=gold.kind,
        split=homes[0].split if homes else "test",
        cluster=homes[0].cluster if homes else f"unanswerable {gold.id}",
        answerable=gold.answerable,
    )
