"""generate_qa: questions with gold answers, by rule, by a language model or from LocalRQA's files."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from ragline import authoring, io, vetting
from ragline.artifacts import (
    DOCUMENTS,
    LOCALRQA_DEV,
    LOCALRQA_TEST,
    LOCALRQA_TRAIN,
    OUTPUTS,
    PASSAGES,
    QUESTION_AUDIT,
    QUESTION_COUNTS,
    QUESTION_DROPS,
    QUESTIONS,
    QUESTIONS_CONTRACT,
    QUESTIONS_DEV,
    QUESTIONS_TEST,
    QUESTIONS_TRAIN,
    RAW,
)
from ragline.contracts.gate import hold
from ragline.errors import DataError
from ragline.questions.counts import counts, refuse_empty
from ragline.questions.human import human_questions
from ragline.questions.localrqa import Corpus, export_rows, import_questions
from ragline.questions.rules import generate
from ragline.runtime.params import Section, Watched
from ragline.runtime.stage import run_stage
from ragline.types import SPLITS, Document, Drop, Passage, QAExample, Split

log = logging.getLogger(__name__)

READS = (RAW, DOCUMENTS, PASSAGES)
WRITES = OUTPUTS["generate_qa"]

FEW = 30

TABLES = {"train": QUESTIONS_TRAIN, "dev": QUESTIONS_DEV, "test": QUESTIONS_TEST}
EXPORTS = {"train": LOCALRQA_TRAIN, "dev": LOCALRQA_DEV, "test": LOCALRQA_TEST}


class ImportFiles(Section):
    """LocalRQA's JSONL files under data/raw; the list they stand in is their split."""

    train: tuple[Watched, ...] = ()
    dev: tuple[Watched, ...] = ()
    test: tuple[Watched, ...] = ()

    def of(self, split: Split) -> tuple[str, ...]:
        """The files of one split."""
        files: tuple[str, ...] = getattr(self, split)
        return files


class GenerateQaParams(Section):
    """Section `generate_qa` of params.yaml."""

    borrows: ClassVar = {"language": "build_index.language"}

    language: str
    """What BM25 takes the documents for, where a filter searches them."""
    method: Literal["rules", "llm", "import"]
    """Ask by rule what the documents answer, let a language model ask, or take questions as they are."""
    llm: authoring.LlmParams | None = None
    """For `method: llm`, and only for it."""
    files: ImportFiles | None = Field(default=None, alias="import")
    """For `method: import`, and only for it."""
    max_per_document: PositiveInt
    """Rules: questions kept of one document."""
    max_per_passage: PositiveInt | None = None
    """Rules: questions kept with the same first gold passage; no such cap where it is not given."""
    filters: tuple[str, ...]
    """What every question has to pass, whoever made it; see docs/question_filters.md."""
    leaks: Literal["drop", "stop", "report"]
    """What becomes of dev and test questions that training gives away."""
    human: tuple[Watched, ...] | None = None
    """Questions that people wrote, JSONL or CSV under data/raw; they join whatever else there is."""
    seed: int
    """Rules: varies the wording, and the choice within the caps. The model's, too."""

    @model_validator(mode="after")
    def _files_with_import(self) -> Self:
        given = self.files is not None and any(map(self.files.of, SPLITS))
        if given != (self.method == "import"):
            raise ValueError("expected `import: {train: [...], dev: [...], test: [...]}` with `method: import` only")
        if (self.llm is not None) != (self.method == "llm"):
            raise ValueError("expected `llm: {model: ..., ...}` with `method: llm` only")
        return self


def main(params: GenerateQaParams, root: Path = Path()) -> None:
    """Write the questions of each split, as tables and in LocalRQA's format, with what was dropped and the counts."""
    documents = io.read_table(Document, io.require(DOCUMENTS, root))
    passages = io.read_table(Passage, io.require(PASSAGES, root))
    if params.llm is not None:
        examples, drops = authoring.write(params.llm, params.seed, documents, passages, root)
    elif params.files is None:
        examples, drops = generate(documents, passages, params.max_per_document, params.max_per_passage, params.seed)
    else:
        examples, drops = _import(params.files, Corpus(documents, passages), root)
    for file in params.human or ():
        found, left_out = _by_people(file, documents, Corpus(documents, passages), root)
        examples, drops = examples + found, drops + left_out
    vetted = vetting.vet(
        examples, documents, passages, params.filters, params.language, drop_leaks=params.leaks == "drop"
    )
    examples, drops = vetted.examples, drops + vetted.drops
    if params.leaks == "stop" and not vetted.clean:
        raise DataError("\n".join(["generate_qa.leaks: questions of dev or test leak from train:", *vetted.lines]))
    refuse_empty(SPLITS, examples, documents)
    if (dev := sum(q.split == "dev" for q in examples)) < FEW:
        log.warning("only %d dev questions: what is chosen on them is chosen by chance; add documents", dev)
    by_id = {document.doc_id: document for document in documents}
    pieces = {passage.passage_id: passage for passage in passages}
    for split in SPLITS:
        rows = [example for example in examples if example.split == split]
        io.write_table(rows, QAExample, root / TABLES[split])
        io.write_jsonl(export_rows(rows, by_id, pieces), root / EXPORTS[split])
    io.write_table(drops, Drop, root / QUESTION_DROPS)
    summary = counts(examples, drops)
    io.write_json(summary, root / QUESTION_COUNTS)
    io.write_json(vetted.audit, root / QUESTION_AUDIT)
    hold(root / QUESTIONS, "questions", root / QUESTIONS_CONTRACT)
    log.info("%(candidates)d candidates: %(train)d train, %(dev)d dev, %(test)d test; dropped %(dropped)s", summary)


def _by_people(
    file: str, documents: Sequence[Document], corpus: Corpus, root: Path
) -> tuple[list[QAExample], list[Drop]]:
    rows, drops = human_questions(root / file, documents)
    examples: list[QAExample] = []
    for split, found in rows.items():
        asked, left_out = import_questions(found, file, split, corpus)
        examples += [replace(q, kind="human") for q in asked]
        drops += left_out
    log.info("%s: %d questions by people, %d dropped", file, len(examples), len(drops))
    return examples, drops


def _import(files: ImportFiles, corpus: Corpus, root: Path) -> tuple[list[QAExample], list[Drop]]:
    examples: list[QAExample] = []
    drops: list[Drop] = []
    for split in SPLITS:
        for file in files.of(split):
            found, left_out = import_questions(io.read_jsonl(root / file), file, split, corpus)
            log.info("%s: %d questions for %s, %d dropped", file, len(found), split, len(left_out))
            examples += found
            drops += left_out
    return examples, drops


if __name__ == "__main__":
    run_stage("generate_qa", main, GenerateQaParams)
