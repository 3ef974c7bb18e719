"""generate_qa: questions with gold answers, by rule, by a language model or from LocalRQA's files."""

import logging
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from ragline import authoring, io
from ragline.artifacts import (
    DOCUMENTS,
    LOCALRQA_DEV,
    LOCALRQA_TEST,
    LOCALRQA_TRAIN,
    OUTPUTS,
    PASSAGES,
    QUESTION_COUNTS,
    QUESTION_DROPS,
    QUESTIONS_DEV,
    QUESTIONS_TEST,
    QUESTIONS_TRAIN,
    RAW,
)
from ragline.questions.counts import counts, refuse_empty, straddling_clusters
from ragline.questions.held_out import without_copies
from ragline.questions.localrqa import Corpus, export_rows, import_questions
from ragline.questions.rules import generate
from ragline.runtime.params import Section, Watched
from ragline.runtime.stage import run_stage
from ragline.types import SPLITS, Document, Drop, Passage, QAExample, Split

log = logging.getLogger(__name__)

READS = (RAW, DOCUMENTS, PASSAGES)
WRITES = OUTPUTS["generate_qa"]

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
        log.info("%d clusters of documents have questions in several splits", straddling_clusters(examples))
    if params.files is None:
        examples, given_away = without_copies(examples, passages, {d.doc_id: d.split for d in documents})
        drops += given_away
    refuse_empty(SPLITS, examples, documents)
    by_id = {document.doc_id: document for document in documents}
    pieces = {passage.passage_id: passage for passage in passages}
    for split in SPLITS:
        rows = [example for example in examples if example.split == split]
        io.write_table(rows, QAExample, root / TABLES[split])
        io.write_jsonl(export_rows(rows, by_id, pieces), root / EXPORTS[split])
    io.write_table(drops, Drop, root / QUESTION_DROPS)
    summary = counts(examples, drops)
    io.write_json(summary, root / QUESTION_COUNTS)
    log.info("%(candidates)d candidates: %(train)d train, %(dev)d dev, %(test)d test; dropped %(dropped)s", summary)


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
