"""evaluate: the ways to search and the ways to answer, on held-out questions and the gold sets."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from ragline import abstention, assessment, io, judging, repro, scoreboard
from ragline.artifacts import (
    ANSWERING,
    BASE_ANN,
    BASE_ANN_SETTINGS,
    BASE_FINGERPRINT,
    BASE_VECTORS,
    COMPARISONS,
    DOCUMENTS,
    GENERATOR,
    GOLD,
    LEXICAL_INDEX,
    METRICS,
    OUTPUTS,
    PASSAGES,
    PREDICTIONS,
    QUESTIONS_DEV,
    QUESTIONS_TEST,
    RECALL_CURVE,
    RETRIEVER,
    RISK_COVERAGE,
    RUNS,
    TUNED_ANN,
    TUNED_ANN_SETTINGS,
    TUNED_FINGERPRINT,
    TUNED_VECTORS,
)
from ragline.errors import DataError
from ragline.evaluation import gate, goldset, ranking, scorecard, trec
from ragline.generation import backends
from ragline.reading import Reading
from ragline.retrieval import encoder, index, lexical, rerank
from ragline.runtime.params import Section
from ragline.runtime.stage import run_stage
from ragline.training import answerable
from ragline.types import Document, Passage, QAExample

READS = (
    DOCUMENTS,
    PASSAGES,
    QUESTIONS_DEV,
    QUESTIONS_TEST,
    LEXICAL_INDEX,
    BASE_VECTORS,
    BASE_ANN,
    BASE_ANN_SETTINGS,
    BASE_FINGERPRINT,
    RETRIEVER,
    TUNED_VECTORS,
    TUNED_ANN,
    TUNED_ANN_SETTINGS,
    TUNED_FINGERPRINT,
    GENERATOR,
    GOLD,
)
WRITES = OUTPUTS["evaluate"]
HELD_OUT = {"dev": QUESTIONS_DEV, "test": QUESTIONS_TEST}

log = logging.getLogger(__name__)


class AbstentionParams(Section):
    """Part `evaluate.abstention`: what is asked of the answers that are given."""

    risk: Annotated[float, Field(gt=0, lt=1)]
    """Mean of 1 - F1 that they may have, an answer to what the corpus cannot answer counting 1."""
    level: Annotated[float, Field(gt=0, lt=1)]
    """Probability with which they keep to it."""
    unanswerable: Annotated[float, Field(gt=0, lt=1)]
    """Share of the questions that the corpus is taken not to answer; dev questions with their gold hidden stand in."""
    questions: Annotated[int, Field(ge=abstention.FEW)]
    """Dev questions, one of a document, that the better answerer answers to find out, and as many with their gold
    hidden."""


class EvaluateParams(Section):
    """Section `evaluate`."""

    borrows: ClassVar = {"base_model": "train_retriever.base_model", "generator": "train_generator.base_model"}

    base_model: str
    """The encoder before tuning."""
    generator: str | None = None
    """The generator before tuning: a judge should be of another family."""
    split: Literal["dev", "test"]
    """Whose questions are scored: test; or dev, to choose among variants while test stays unread."""
    gold_sets: list[Path]
    """Hand-written questions, JSONL files under data/gold, which DVC watches; may be empty."""
    depth: Annotated[int, Field(ge=20, le=1000)]
    """Passages that every search brings."""
    fusion: assessment.Fusion
    """How hybrid search puts dense and lexical scores together: `convex`, its weight tuned on dev, or `rrf`."""
    reranker: str | None = None
    """Cross-encoder that reads the best passages of hybrid search again: a folder, which DVC does not watch, or a hub
    id, best with its revision."""
    rerank_depth: Annotated[int, Field(ge=1)]
    """Passages that it reads, at most `depth`."""
    abstention: AbstentionParams | None = None
    """Answers are given where their risk is bounded; None: where the best cosine is one of answerable questions."""
    resamples: Annotated[int, Field(ge=100)]
    """Of the bootstrap behind every interval."""
    judge: judging.JudgeParams | None = None
    """A language model that judges the answers, behind an endpoint; None: nobody does, and nothing is paid for."""
    seed: int

    @model_validator(mode="after")
    def _deep_enough(self) -> Self:
        if self.rerank_depth > self.depth:
            raise ValueError(f"rerank_depth: expected at most depth, {self.depth}, got {self.rerank_depth}")
        return self

    @field_validator("gold_sets")
    @classmethod
    def _watched(cls, paths: list[Path]) -> list[Path]:
        for path in paths:
            if path.parent != GOLD:
                raise ValueError(f"gold sets must stand in {GOLD}, where DVC sees them change; move {path} there")
        names = ["gold", *(path.stem for path in paths[1:])]
        if len({*names, *HELD_OUT}) < len(names) + len(HELD_OUT):
            taken = ", ".join(HELD_OUT)
            raise ValueError(
                f"gold sets are told apart by file name, the first is `gold`, none {taken}; rename {names}"
            )
        return paths


def main(params: EvaluateParams, root: Path = Path()) -> None:
    """Choose on dev, then score held-out and gold questions once."""
    repro.seed_everything(params.seed)
    passages = io.read_table(Passage, root / PASSAGES)
    gold = gold_sets(params, passages, root)
    split: str = params.split
    sets = {split: io.read_table(QAExample, root / HELD_OUT[split])}
    sets |= {name: list(found.questions) for name, found in gold.items()}
    check(sets, params)
    if params.judge is not None:
        judging.check(params.judge, list(sets), root)
    engines = search_engines(params, passages, root)
    generator = backends.load(root / GENERATOR, root)
    dev = io.read_table(QAExample, root / QUESTIONS_DEV)
    target = abstention.Target(**params.abstention.model_dump()) if params.abstention else None
    settings = assessment.choose(engines, generator, dev, assessment.MAX_DEV, params.fusion, target)
    log.info("chosen on dev: %s", settings)
    results = {
        name: assessment.assess(name, questions, engines, generator, settings) for name, questions in sets.items()
    }
    how = scorecard.Bootstrap(params.resamples, params.seed)
    metrics, comparisons = scoreboard.tables(results, gold, settings, how)
    held_out = results[split]
    distracted = assessment.distracted(held_out, engines, generator, assessment.MAX_DISTRACTED, params.seed)
    distractors = {split: scorecard.intervals(distracted, held_out.clusters, how)}
    rows, verdict = judged(params, results, engines.reading, root)
    for name, table in metrics.items():
        log.info("%s: %s", name, {system: means["recall@5"] for system, means in table["retrieval"].items()})
    io.write_json(asdict(settings), root / ANSWERING)
    io.write_json(metrics, root / METRICS)
    io.write_json({**comparisons, "distractors": distractors, "judge": verdict}, root / COMPARISONS)
    write(results, rows, root)
    write_curves(held_out, settings.answerer, root)


def names(params: EvaluateParams) -> list[str]:
    """What the gold sets are called."""
    return ["gold", *(path.stem for path in params.gold_sets[1:])][: len(params.gold_sets)]


def gold_sets(params: EvaluateParams, passages: Sequence[Passage], root: Path) -> dict[str, goldset.GoldSet]:
    """The gold sets, by name."""
    documents = io.read_table(Document, root / DOCUMENTS)
    return {
        name: goldset.read(root / path, documents, passages)
        for name, path in zip(names(params), params.gold_sets, strict=True)
    }


def check(sets: Mapping[str, Sequence[QAExample]], params: EvaluateParams) -> None:
    """Refuse a set in which nothing can be answered."""
    files = {**HELD_OUT, **dict(zip(names(params), params.gold_sets, strict=True))}
    for name, questions in sets.items():
        if not answerable(questions):
            raise DataError(
                f"{files[name]}: expected questions that the documents answer, got none among {len(questions)}; "
                "add documents, change ingest.splits, or take a gold set from gold_sets"
            )


def search_engines(params: EvaluateParams, passages: Sequence[Passage], root: Path) -> assessment.Engines:
    """Everything that can search, as the stages before have made it."""
    base, tuned = encoder.load(params.base_model, root), encoder.load(str(RETRIEVER), root)
    return assessment.Engines(
        passages,
        lexical.read(root / LEXICAL_INDEX),
        (base, index.read(root / BASE_ANN, root / BASE_FINGERPRINT, base.fingerprint, passages)),
        (tuned, index.read(root / TUNED_ANN, root / TUNED_FINGERPRINT, tuned.fingerprint, passages)),
        params.depth,
        reranking(params, root),
    )


def judged(
    params: EvaluateParams, results: Mapping[str, assessment.Assessed], reading: Reading, root: Path
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The rows of all questions; where there is a judge with its columns, and what they come to."""
    rows = [row for result in results.values() for row in result.predictions]
    if params.judge is None:
        return rows, None
    answers = judging.Answers(rows, reading, judging.ANSWERERS)
    how = scorecard.Bootstrap(params.resamples, params.seed)
    found = judging.run(answers, params.generator or "", params.judge, how, root)
    return [row | columns for row, columns in zip(rows, found.columns, strict=True)], found.summary


def write(results: Mapping[str, assessment.Assessed], rows: Sequence[Mapping[str, Any]], root: Path) -> None:
    """Runs and qrels, and the rows of all questions."""
    with io.whole_folder(root / RUNS) as folder:
        for name, result in results.items():
            judged = gate.qrels(answerable(result.questions))
            trec.write_qrels(ranking.graded(judged), folder / f"{name}.qrels")
            for system, run in result.runs.items():
                io.write_run(run, folder / f"{name}.{system}.trec", system)
    io.write_frame({name: [row[name] for row in rows] for name in rows[0]}, root / PREDICTIONS)


def write_curves(held_out: assessment.Assessed, served: str, root: Path) -> None:
    """What DVC plots of the held-out questions: recall by passages, and risk by the share that is answered."""
    curves = scoreboard.recall_curves(held_out)
    io.write_csv(("k", *curves), recall_rows(curves), root / RECALL_CURVE)
    io.write_csv(("coverage", "risk"), held_out.risk_coverage[served], root / RISK_COVERAGE)


def recall_rows(curves: dict[str, list[float]]) -> list[tuple[float, ...]]:
    """One row for each k: k, then recall@k of every system."""
    return [(k, *values) for k, values in enumerate(zip(*curves.values(), strict=True), start=1)]


def reranking(params: EvaluateParams, root: Path) -> assessment.Reranking | None:
    """The reranker, where one is named."""
    name = params.reranker
    if name is None:
        return None
    model = rerank.load(name, root)
    return assessment.Reranking(name, rerank.fingerprint(name, root), model.rerank, params.rerank_depth)


if __name__ == "__main__":
    run_stage("evaluate", main, EvaluateParams)
