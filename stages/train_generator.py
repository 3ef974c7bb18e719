"""train_generator: teach the reader to answer from what the tuned retriever finds."""

import logging
import random
from dataclasses import astuple, fields
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from ragline import io, repro
from ragline.artifacts import (
    CHECKPOINTS,
    GENERATOR,
    GENERATOR_CURVE,
    GENERATOR_SUMMARY,
    OUTPUTS,
    PASSAGES,
    QUESTIONS_DEV,
    QUESTIONS_TRAIN,
    RETRIEVER,
    TUNED_FINGERPRINT,
    TUNED_VECTORS,
)
from ragline.generation import fid, train
from ragline.reading import Reading
from ragline.retrieval import encoder, index, search
from ragline.runtime.params import Section
from ragline.runtime.stage import run_stage
from ragline.training import answerable, evenly
from ragline.types import Passage, QAExample

READS = (PASSAGES, QUESTIONS_TRAIN, QUESTIONS_DEV, RETRIEVER, TUNED_VECTORS, TUNED_FINGERPRINT)
WRITES = OUTPUTS["train_generator"]
MAX_DEV = 64
"""Dev questions that the dev loss is taken on."""

SEARCHED = 20
"""Passages found for a question; those that share a parent are read once."""

log = logging.getLogger(__name__)


class TrainGeneratorParams(Section):
    """Section `train_generator`."""

    base_model: str
    """Reader to start from: builtin:minilm-reader."""
    method: Literal["fid"]
    """`fid`: fusion-in-decoder over the passages found."""
    max_examples: PositiveInt
    """Training questions used, taken evenly."""
    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    passages: Annotated[int, Field(ge=1, le=20)]
    """Passages read per question."""
    max_input_tokens: Annotated[int, Field(ge=32, le=512)]
    """Question and passage together; the passage is cut, never the question."""
    max_answer_tokens: Annotated[int, Field(ge=4, le=256)]
    evaluations: PositiveInt
    """Dev losses taken while training; the best checkpoint is kept."""
    seed: int


def main(params: TrainGeneratorParams, root: Path = Path()) -> None:
    """Find passages for the questions, read them, learn to write the answers."""
    repro.seed_everything(params.seed)
    passages = io.read_table(Passage, root / PASSAGES)
    reading = Reading(passages)
    retriever = encoder.load(str(RETRIEVER), root)
    index.check(root / TUNED_FINGERPRINT, retriever.fingerprint, passages)
    ann = index.build(io.read_vectors(root / TUNED_VECTORS), "flat")
    rng = random.Random(params.seed)

    def lessons(path: Path, most: int) -> list[train.Lesson]:
        questions = evenly(answerable(io.read_table(QAExample, root / path)), most)
        asked = {q.question_id: q.question for q in questions}
        found = search.dense_run(asked, retriever, ann, passages, SEARCHED)
        chosen = [
            train.choose_passages(
                reading.places(found[q.question_id]), reading.places(q.gold_passage_ids), params.passages, rng
            )
            for q in questions
        ]
        return [
            train.Lesson(q.question, tuple(reading.passage(p).encoded_text for p in ids), q.answers[0])
            for q, ids in zip(questions, chosen, strict=True)
        ]

    taught, dev = lessons(QUESTIONS_TRAIN, params.max_examples), lessons(QUESTIONS_DEV, MAX_DEV)
    config = fid.ReaderConfig(
        fid.ENCODERS.get(params.base_model, ""), params.passages, params.max_input_tokens, params.max_answer_tokens
    )
    reader = fid.warm_start(params.base_model, config, root)
    schedule = train.Schedule(**params.model_dump(include={f.name for f in fields(train.Schedule)}))
    key = io.digest(params.model_dump_json(), repr(taught), repr(dev), *train.code())
    points = train.fit(reader, taught, dev, schedule, root / CHECKPOINTS / key)
    fid.save(reader, root / GENERATOR)
    io.write_json(
        {
            "base_model": params.base_model,
            "method": params.method,
            "examples": len(taught),
            "steps": points[-1].step,
            "passages": params.passages,
            "dev_loss": min(p.dev for p in points if p.dev is not None),
            "parameters": sum(p.numel() for p in reader.model.parameters()),
            "trained_parameters": sum(p.numel() for p in reader.model.state_dict().values()),
        },
        root / GENERATOR_SUMMARY,
    )
    io.write_csv(("step", "loss", "dev_loss"), map(astuple, points), root / GENERATOR_CURVE)


if __name__ == "__main__":
    run_stage("train_generator", main, TrainGeneratorParams)
