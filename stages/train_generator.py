"""train_generator: teach a generator to answer from what the tuned retriever finds."""

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from ragline import io, repro
from ragline.answer_params import EndpointParams
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
from ragline.builtin import model_folder, shipped_weights
from ragline.errors import ConfigError
from ragline.generation import endpoint, fid, fusion, language_model, lessons, sft, train
from ragline.reading import Reading
from ragline.retrieval import encoder, exact, index, mine, search
from ragline.runtime.params import Section
from ragline.runtime.stage import run_stage
from ragline.training import CurvePoint, Schedule, answerable, evenly, leads
from ragline.types import Passage, QAExample

READS = (PASSAGES, QUESTIONS_TRAIN, QUESTIONS_DEV, RETRIEVER, TUNED_VECTORS, TUNED_FINGERPRINT)
WRITES = OUTPUTS["train_generator"]
MAX_DEV = 64
"""Dev questions that the dev loss is taken on."""
SEARCHED = 20
"""Passages found for a question; those that share a parent are read once."""
FID_READS = 512
"""Tokens that the built-in reader's encoder has places for."""
WEIGHED = 30
"""Nearest passages of a question among which its distractors are."""

Teach = Callable[[Sequence[QAExample]], list[train.Lesson]]
"""Questions to what a generator is shown of them."""

log = logging.getLogger(__name__)


class LoraParams(Section):
    """Adapters to train in place of all weights."""

    r: PositiveInt
    """Rank of the update."""
    alpha: PositiveInt
    """The update counts `alpha / r` times."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    targets: Annotated[list[str], Field(min_length=1)]
    """Linear layers that get one, such as `q_proj` and `v_proj`; [all-linear]: all but the output layer."""


class DistractorParams(Section):
    """With method `swr`: what stands around the gold passage."""

    without_gold: Annotated[float, Field(ge=0, le=1)]
    """Share of the questions shown distractors alone, whose answer is that the documents do not hold one."""
    margin: Annotated[float, Field(gt=0, le=1)]
    """A distractor scores at most this share of the best gold passage."""


class TrainGeneratorParams(Section):
    """Section `train_generator`."""

    base_model: str
    """builtin:minilm-reader, or a language model by folder or hub id: with `fid` an encoder-decoder such as T5, with
    `sft` and `swr` a causal one, too. With `endpoint` the model's name there."""
    method: Literal["fid", "sft", "swr", "endpoint"]
    """`fid`: fusion-in-decoder over the passages found. `sft`: on gold passages alone. `swr`: on gold among distractors
    that the frozen retriever finds, and on these alone. `endpoint`: nothing is trained, a served model answers."""
    max_examples: PositiveInt
    """Training questions used, taken evenly."""
    epochs: PositiveInt
    batch_size: PositiveInt
    """Questions per step, those of all processes under torchrun."""
    learning_rate: PositiveFloat
    passages: Annotated[int, Field(ge=1, le=20)]
    """Passages read per question."""
    max_input_tokens: Annotated[int, Field(ge=32, le=131072)]
    """Question and passages (with `fid` each passage) together; passages are cut, never the question."""
    max_answer_tokens: Annotated[int, Field(ge=4, le=4096)]
    """Longer answers are not learnt from (with builtin:minilm-reader: cut)."""
    evaluations: PositiveInt
    """Dev losses taken while training; the best checkpoint is kept."""
    seed: int
    swr: DistractorParams | None = None
    """For `swr`."""
    lora: LoraParams | None = None
    """For a language model; null: all weights are trained."""
    quantize: language_model.Quantize | None = None
    """For a language model with `lora`: its frozen weights are rounded to 4 bits, NF4; null: they stay as they are."""
    patience: PositiveInt | None = None
    """For a language model: dev losses in a row without a better one after which training ends; null: it goes on."""
    gradient_checkpointing: bool | None = None
    """For a language model: activations computed twice rather than kept: less memory, a third more time."""
    endpoint: EndpointParams | None = None
    """For `endpoint`."""


@dataclass(frozen=True)
class Outcome:
    """What a method made, to be written by the process that leads."""

    save: Callable[[Path], None]
    points: Sequence[CurvePoint]
    facts: dict[str, Any]
    """For the summary."""


@dataclass(frozen=True)
class Corpus:
    """The passages, and the tuned retriever over them."""

    passages: Sequence[Passage]
    reading: Reading
    retriever: encoder.Encoder
    vectors: io.Vectors


def settled(params: TrainGeneratorParams) -> None:
    """Make sure that settings and method go together.

    Raises:
        ConfigError: they do not.
    """
    for name in ("swr", "endpoint"):
        given, fits = getattr(params, name) is not None, params.method == name
        if given and not fits:
            raise ConfigError(f"train_generator.{name}: expected null with method {params.method}; mend params.yaml")
        if fits and not given:
            raise ConfigError(f"train_generator.{name}: expected settings with method {name}, got null; give them")
    builtin = _builtin(params)
    what = params.base_model if builtin else f"method {params.method}"
    for name in ("lora", "quantize", "patience", "gradient_checkpointing"):
        if getattr(params, name) is not None and (builtin or params.method == "endpoint"):
            raise ConfigError(f"train_generator.{name}: expected null with {what}; mend params.yaml")
    if params.quantize and not params.lora:
        raise ConfigError(
            f"train_generator.quantize: expected null without lora, as rounded weights cannot be trained, got "
            f"{params.quantize}; give lora, or set it to null"
        )
    if builtin and params.max_input_tokens > FID_READS:
        raise ConfigError(
            f"train_generator.max_input_tokens: expected at most {FID_READS} with {what}, "
            f"got {params.max_input_tokens}; lower it"
        )


def main(params: TrainGeneratorParams, root: Path = Path()) -> None:
    """Find passages for the questions, read them, learn to write the answers."""
    settled(params)
    repro.seed_everything(params.seed)
    make = by_endpoint if params.method == "endpoint" else by_reader if _builtin(params) else by_language_model
    made = make(params, root)
    if not leads():
        return
    made.save(root / GENERATOR)
    summary = {"base_model": params.base_model, "method": params.method, "passages": params.passages, **made.facts}
    io.write_json(summary, root / GENERATOR_SUMMARY)
    io.write_csv(("step", "loss", "dev_loss"), map(astuple, made.points), root / GENERATOR_CURVE)


def _builtin(params: TrainGeneratorParams) -> bool:
    return params.method != "endpoint" and params.base_model in fid.ENCODERS


def corpus(root: Path) -> Corpus:
    """Read passages, retriever and vectors, and make sure that they belong together."""
    passages = io.read_table(Passage, root / PASSAGES)
    retriever = encoder.load(str(RETRIEVER), root)
    index.check(root / TUNED_FINGERPRINT, retriever.fingerprint, passages)
    return Corpus(passages, Reading(passages), retriever, io.read_vectors(root / TUNED_VECTORS))


def questions(params: TrainGeneratorParams, root: Path) -> tuple[list[QAExample], list[QAExample]]:
    """Those to learn from, and those for dev."""
    taught, dev = (answerable(io.read_table(QAExample, root / path)) for path in (QUESTIONS_TRAIN, QUESTIONS_DEV))
    return evenly(taught, params.max_examples), evenly(dev, MAX_DEV)


def teaching(params: TrainGeneratorParams, ground: Corpus, cites: bool) -> Teach:
    """What the method shows of each question.

    Args:
        cites: whether the answers end with the numbers of their passages; with `fid` they never do.
    """
    if params.method == "fid":
        return _found_lessons(params, ground)
    rng = random.Random(params.seed)

    def shown(asked: Sequence[QAExample]) -> list[train.Lesson]:
        material = materials(asked, ground, params.swr.margin if params.swr else None)
        if params.swr:
            return lessons.among_distractors(material, params.passages, params.swr.without_gold, rng, cites)
        return lessons.supervised(material, params.passages, cites)

    return shown


def _found_lessons(params: TrainGeneratorParams, ground: Corpus) -> Teach:
    """Lessons on what the tuned retriever finds, in shuffled order."""
    reading = ground.reading
    ann = index.build(ground.vectors, "flat")
    rng = random.Random(params.seed)

    def shown(asked: Sequence[QAExample]) -> list[train.Lesson]:
        texts = {q.question_id: q.question for q in asked}
        found = search.dense_run(texts, ground.retriever, ann, ground.passages, SEARCHED)
        chosen = [
            train.choose_passages(
                reading.places(found[q.question_id]), reading.places(q.gold_passage_ids), params.passages, rng
            )
            for q in asked
        ]
        return [
            train.Lesson(q.question, tuple(reading.passage(p).encoded_text for p in ids), q.answers[0])
            for q, ids in zip(asked, chosen, strict=True)
        ]

    return shown


def by_reader(params: TrainGeneratorParams, root: Path) -> Outcome:
    """The small reader of this project, which cites nothing itself."""
    teach = teaching(params, corpus(root), cites=False)
    taught, dev = ([one for one in teach(asked) if one.passages] for asked in questions(params, root))
    config = fid.ReaderConfig(
        fid.ENCODERS[params.base_model], params.passages, params.max_input_tokens, params.max_answer_tokens
    )
    reader = fid.warm_start(params.base_model, config, root)
    schedule = Schedule(**_schedule(params))
    shipped = shipped_weights(params.base_model, root)
    origin = io.file_digest(shipped) if shipped else ""
    key = io.digest(params.model_dump_json(), origin, repr(taught), repr(dev), *train.code())
    points = train.fit(reader, taught, dev, schedule, root / CHECKPOINTS / key)
    facts = {
        "examples": len(taught),
        "steps": points[-1].step,
        "dev_loss": best(points),
        "parameters": sum(p.numel() for p in reader.model.parameters()),
        "trained_parameters": sum(p.numel() for p in reader.model.state_dict().values()),
    }
    return Outcome(lambda folder: fid.save(reader, folder), points, facts)


def by_language_model(params: TrainGeneratorParams, root: Path) -> Outcome:
    """A causal or encoder-decoder model of transformers; with `fid` it reads its passages one by one."""
    base = language_model.load_base(params.base_model, _limits(params), root, params.quantize)
    if params.method == "fid":
        base = fusion.fused(base)
    teach = teaching(params, corpus(root), cites=True)

    def encoded(asked: Sequence[QAExample]) -> tuple[list[sft.Encoded], dict[str, int]]:
        shown = teach(asked)
        kept, left_out = sft.encode(base, shown)
        if left_out:
            log.warning("%d of %d questions left out: %s", left_out.total(), len(shown), dict(left_out))
        return kept, dict(sorted(left_out.items()))

    (taught, left_out), (dev, left_out_dev) = (encoded(asked) for asked in questions(params, root))
    schedule = sft.Schedule(
        **_schedule(params),
        lora=sft.Lora(**params.lora.model_dump() | {"targets": tuple(params.lora.targets)}) if params.lora else None,
        patience=params.patience,
        gradient_checkpointing=bool(params.gradient_checkpointing),
    )
    weights = language_model.fingerprint(model_folder(params.base_model, root))
    key = io.digest(params.model_dump_json(), weights, repr(taught), repr(dev), *sft.code())
    tuned = sft.fit(base, taught, dev, schedule, root / CHECKPOINTS / key)
    facts = {
        "examples": len(taught),
        "left_out": left_out,
        "left_out_dev": left_out_dev,
        "steps": tuned.steps,
        "dev_loss": best(tuned.points),
        "parameters": tuned.parameters,
        "trained_parameters": tuned.trained_parameters,
    }
    adapter_of = params.base_model if params.lora else None
    return Outcome(
        lambda folder: language_model.save(tuned.model, tuned.weights, adapter_of, folder, root), tuned.points, facts
    )


def materials(asked: Sequence[QAExample], ground: Corpus, margin: float | None) -> list[lessons.Material]:
    """The gold passages of every question and, where a margin is given, its distractors, as a generator reads them.

    Distractors are what the retriever finds over the whole corpus, less what may answer the question, too. Of passages
    that are read together all are looked at, as one that is not safe makes the whole unsafe.
    """
    reading = ground.reading
    near: dict[str, list[str]] = {q.question_id: [] for q in asked}
    unsafe: dict[str, set[str]] = {q.question_id: set(reading.places(q.gold_passage_ids)) for q in asked}
    if margin is not None and asked:
        row = {p.passage_id: number for number, p in enumerate(ground.passages)}
        vectors = encoder.encode_questions(ground.retriever, [q.question for q in asked])
        _, nearest = exact.nearest(vectors, ground.vectors, WEIGHED)
        siblings = [
            tuple(
                row[child.passage_id]
                for place in reading.places(ground.passages[number].passage_id for number in found if number >= 0)
                for child in reading.children.get(place, ())
            )
            for found in nearest
        ]
        miner = mine.Miner(
            questions=asked,
            passages=ground.passages,
            rules=mine.Rules(per_question=WEIGHED, margin=margin, depth=WEIGHED),
            gold_rows=[tuple(row[p] for p in q.gold_passage_ids) for q in asked],
            by_words=siblings,
        )
        for block in miner.candidates(vectors, ground.vectors):
            for negative in mine.negatives(block):
                near[negative.question_id].append(negative.passage_id)
            for candidate in block:
                if candidate.status == "excluded":
                    unsafe[candidate.question_id].add(reading.place(candidate.passage_id))

    def texts(places: Sequence[str]) -> tuple[str, ...]:
        return tuple(reading.passage(place).encoded_text for place in places)

    found = []
    for q in asked:
        gold = reading.places(q.gold_passage_ids)
        others = [place for place in reading.places(near[q.question_id]) if place not in unsafe[q.question_id]]
        found.append(lessons.Material(q.question, q.answers[0], texts(gold), texts(others)))
    return found


def by_endpoint(params: TrainGeneratorParams, root: Path) -> Outcome:
    """Nothing to learn: whom to ask is written down."""
    cost = params.endpoint
    assert cost is not None, "settled"
    terms = cost.terms(params.base_model, params.seed)
    facts = {"examples": 0, "steps": 0, "dev_loss": None, "parameters": 0, "trained_parameters": 0}
    return Outcome(lambda folder: endpoint.save(terms, _limits(params), folder), [], facts)


def best(points: Sequence[CurvePoint]) -> float:
    """The lowest dev loss."""
    return min(p.dev for p in points if p.dev is not None)


def _limits(params: TrainGeneratorParams) -> language_model.Limits:
    return language_model.Limits(
        params.passages, params.max_input_tokens, params.max_answer_tokens, fusion=params.method == "fid"
    )


def _schedule(params: TrainGeneratorParams) -> dict[str, Any]:
    return params.model_dump(include={"epochs", "batch_size", "learning_rate", "evaluations", "seed"})


if __name__ == "__main__":
    run_stage("train_generator", main, TrainGeneratorParams)
