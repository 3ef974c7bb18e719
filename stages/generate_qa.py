"""generate_qa: questions with gold answers, by rule, by a language model or from LocalRQA's files."""

import logging
from pathlib import Path

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
from ragline.question_params import QuestionParams
from ragline.questions.counts import counts, refuse_empty
from ragline.questions.localrqa import export_rows
from ragline.runtime.stage import run_stage
from ragline.types import SPLITS, Document, Drop, Passage, QAExample

log = logging.getLogger(__name__)

READS = (RAW, DOCUMENTS, PASSAGES)
WRITES = OUTPUTS["generate_qa"]

FEW = 30

TABLES = {"train": QUESTIONS_TRAIN, "dev": QUESTIONS_DEV, "test": QUESTIONS_TEST}
EXPORTS = {"train": LOCALRQA_TRAIN, "dev": LOCALRQA_DEV, "test": LOCALRQA_TEST}


def main(params: QuestionParams, root: Path = Path()) -> None:
    """Write the questions of each split, as tables and in LocalRQA's format, with what was dropped and the counts."""
    documents = io.read_table(Document, io.require(DOCUMENTS, root))
    passages = io.read_table(Passage, io.require(PASSAGES, root))
    corpus = vetting.Corpus(documents, passages, params.language)
    with authoring.models(params, root) as models:
        examples, drops = authoring.candidates(params, corpus, models.author, root)
        vetted = vetting.vet(examples, corpus, params.filters, params.leaks, models.reader)
    examples, drops = vetted.examples, drops + vetted.drops
    io.write_table(drops, Drop, root / QUESTION_DROPS)
    refuse_empty(SPLITS, examples, documents)
    if (dev := sum(q.split == "dev" for q in examples)) < FEW:
        log.warning("only %d dev questions: what is chosen on them is chosen by chance; add documents", dev)
    by_id = {document.doc_id: document for document in documents}
    pieces = {passage.passage_id: passage for passage in passages}
    for split in SPLITS:
        rows = [example for example in examples if example.split == split]
        io.write_table(rows, QAExample, root / TABLES[split])
        io.write_jsonl(export_rows(rows, by_id, pieces), root / EXPORTS[split])
    summary = counts(examples, drops)
    io.write_json(summary, root / QUESTION_COUNTS)
    io.write_json(vetted.audit, root / QUESTION_AUDIT)
    hold(root / QUESTIONS, "questions", root / QUESTIONS_CONTRACT)
    log.info("%(candidates)d candidates: %(train)d train, %(dev)d dev, %(test)d test; dropped %(dropped)s", summary)


if __name__ == "__main__":
    run_stage("generate_qa", main, QuestionParams)
