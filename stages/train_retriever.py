"""train_retriever: tune the base encoder on training questions; keep it only if dev shows it better."""

import logging
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from ragline import io, repro
from ragline.artifacts import (
    BASE_FINGERPRINT,
    BASE_VECTORS,
    CHECKPOINTS,
    LEXICAL_INDEX,
    NEGATIVES,
    NEGATIVES_LEDGER,
    OUTPUTS,
    PASSAGES,
    QUESTIONS_DEV,
    QUESTIONS_TRAIN,
    RETRIEVER,
    RETRIEVER_CURVE,
    RETRIEVER_SUMMARY,
    VECTOR_STORE,
)
from ragline.distillation import ReaderLessons, Teaching, distil_into
from ragline.errors import ConfigError
from ragline.evaluation import gate
from ragline.generation.relevance import Limits, Signal
from ragline.retrieval import encoder, index, lexical, mine, train
from ragline.retrieval.adapters import Lora
from ragline.retrieval.train import Schedule
from ragline.retrieval.tune import Folders, Ground, Recipe, tune
from ragline.runtime.params import Section
from ragline.runtime.stage import run_stage
from ragline.training import answerable, evenly, leads, processes
from ragline.types import Passage, QAExample, Run

READS = (PASSAGES, QUESTIONS_TRAIN, QUESTIONS_DEV, BASE_VECTORS, BASE_FINGERPRINT, LEXICAL_INDEX)
WRITES = OUTPUTS["train_retriever"]
METRIC = "mrr@10"

log = logging.getLogger(__name__)


class LoraParams(Section):
    """Adapters to train in place of all weights; added in before the encoder is saved."""

    r: PositiveInt
    """Rank of the update."""
    alpha: PositiveInt
    """The update counts `alpha / r` times."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    targets: Annotated[list[str], Field(min_length=1)]
    """Linear layers that get one, such as `query` and `value`."""


class ReaderParams(Section):
    """How a built-in reader, which comes without a trained decoder, is trained before it judges passages."""

    max_examples: PositiveInt
    """Training questions used, taken evenly."""
    passages: Annotated[int, Field(ge=1, le=20)]
    """Passages read per question."""
    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat


class DistilParams(Section):
    """With methods `dca` and `rpg`: whose verdicts on passages the retriever learns."""

    scorer: str
    """builtin:minilm-reader, the folder of a trained reader, or a language model by folder or hub id; for `dca` one
    with an encoder. Not `models/generator`, which is trained later, on what this stage makes."""
    candidates: Annotated[int, Field(ge=2, le=100)]
    """Passages judged per question: the nearest ones, a gold one among them."""
    temperature: PositiveFloat
    """The scores are divided by it: the lower, the more the best passage gets."""
    kl: Literal["forward", "reverse"]
    """`forward`: KL(scorer ‖ retriever), as DCA has it; `reverse`: KL(retriever ‖ scorer), as REPLUG has it."""
    iterations: PositiveInt
    """Times that passages are found, a built-in reader is trained on them, and the retriever by it."""
    max_input_tokens: Annotated[int, Field(ge=32, le=4096)]
    """Prompt, question and passage together; the passage is cut."""
    max_answer_tokens: Annotated[int, Field(ge=4, le=256)]
    per_token: bool | None = None
    """With `rpg`: whether the log-probability of an answer is the mean over its tokens; null: their sum."""
    reader: ReaderParams | None = None
    """Null: the scorer is ready for use."""


SIGNALS: dict[str, Signal] = {"dca": "attention", "rpg": "likelihood"}


class TrainRetrieverParams(Section):
    """Section `train_retriever`."""

    base_model: str
    """Encoder to start from: builtin:minilm, a folder, or a hub id."""
    method: Literal["ctl", "dca", "rpg"]
    """`ctl`: contrastive, in-batch and hard negatives. `dca`: learn a reader's attention on the passages. `rpg`: learn
    how probable each passage makes the answer to a language model. The last two take no negatives."""
    towers: Literal["question", "both"]
    """What is tuned. `question`: passages keep the vectors that they have, so that no retraining ever encodes the
    corpus again. `both`: one shared encoder, and every passage is encoded anew."""
    max_pairs: PositiveInt
    """Training questions used, taken evenly; more cost seconds in proportion."""
    epochs: PositiveInt
    batch_size: Annotated[int, Field(ge=2)]
    """Questions per step, those of all processes under torchrun; each sees the others' passages as negatives."""
    learning_rate: PositiveFloat
    temperature: PositiveFloat
    """Cosines are divided by it."""
    max_passage_tokens: Annotated[int, Field(ge=16, le=512)]
    """With towers `both`: longer texts are cut while training; search encodes them whole."""
    hard_negatives: Annotated[int, Field(ge=0, le=30)]
    """Mined passages per question."""
    evaluations: PositiveInt
    """Dev scores taken while training; the best checkpoint is kept."""
    negative_margin: Annotated[float, Field(gt=0, le=1)]
    """A hard negative scores at most this share of its positive."""
    seed: int
    mini_batch_size: PositiveInt | None = None
    """Texts of which the activations are held at a time (gradient caching): same gradients, less memory, about a third
    more time. Null: all of a batch's."""
    symmetric: bool | None = None
    """Whether each positive is also weighed over all questions of the batch."""
    matryoshka: Annotated[list[PositiveInt], Field(min_length=1)] | None = None
    """First numbers of a vector that must do alone, such as [384, 128]; null: only whole vectors count."""
    compat: Literal["localrqa"] | None = None
    """`localrqa`: its loss in place of ours, for comparison; towers must be `both`."""
    lora: LoraParams | None = None
    """Null: all weights are trained."""
    remine: bool | None = None
    """Whether every epoch after the first mines its negatives anew with the encoder as it then is; with towers `both`
    the corpus is encoded for it."""
    similar_from: Annotated[float, Field(gt=0, le=1)] | None = None
    """Jaccard similarity of word 5-grams from which a passage counts as a copy of a gold one, and is no hard negative;
    null: only equal texts do."""
    interpolation: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)] | None = None
    """Shares of the way from base to tuned weights, such as [0.25, 0.5, 0.75, 1.0], from which dev chooses; null: 1."""
    distil: DistilParams | None = None
    """For `dca` and `rpg`."""


def recipe(params: TrainRetrieverParams) -> Recipe:
    """The params as the core takes them."""
    schedule = Schedule(
        epochs=params.epochs,
        batch_size=params.batch_size,
        learning_rate=params.learning_rate,
        temperature=params.temperature,
        max_passage_tokens=params.max_passage_tokens,
        evaluations=params.evaluations,
        seed=params.seed,
        mini_batch_size=params.mini_batch_size,
        symmetric=bool(params.symmetric),
        matryoshka=tuple(params.matryoshka or ()),
        compat=params.compat,
        lora=Lora(**params.lora.model_dump()) if params.lora else None,
    )
    shares = tuple(params.interpolation or (1.0,))
    return Recipe(
        towers=params.towers,
        hard_negatives=params.hard_negatives,
        negative_margin=params.negative_margin,
        schedule=schedule,
        remine=bool(params.remine),
        interpolation=shares,
        similar_from=params.similar_from,
    )


def teaching(params: TrainRetrieverParams) -> Teaching | None:
    """The same of a distillation; None where there is none.

    Raises:
        ConfigError: method and settings do not go together.
    """
    distil = params.distil
    if (distil is None) != (params.method == "ctl"):
        wanted = "null" if params.method == "ctl" else "settings"
        raise ConfigError(f"train_retriever.distil: expected {wanted} with method {params.method}; mend params.yaml")
    if distil is None:
        return None
    return Teaching(
        signal=SIGNALS[params.method],
        scorer=distil.scorer,
        limits=Limits(distil.max_input_tokens, distil.max_answer_tokens, bool(distil.per_token)),
        candidates=distil.candidates,
        temperature=distil.temperature,
        kl=distil.kl,
        iterations=distil.iterations,
        reader=ReaderLessons(**distil.reader.model_dump()) if distil.reader else None,
    )


def main(params: TrainRetrieverParams, root: Path = Path()) -> None:
    """Mine, train, compare on dev over the whole corpus, publish the better encoder."""
    repro.seed_everything(params.seed)
    how, lessons = recipe(params), teaching(params)
    base = encoder.load(params.base_model, root)
    train.check(how.schedule, base.dim, processes(), shared=how.towers == "both")
    passages = io.read_table(Passage, root / PASSAGES)
    index.check(root / BASE_FINGERPRINT, base.fingerprint, passages)
    questions = evenly(answerable(io.read_table(QAExample, root / QUESTIONS_TRAIN)), params.max_pairs)
    dev = answerable(io.read_table(QAExample, root / QUESTIONS_DEV))
    ground = Ground(base, passages, io.read_vectors(root / BASE_VECTORS), lexical.read(root / LEXICAL_INDEX))

    def score(run: Run, asked: Sequence[QAExample]) -> float:
        return gate.mean(run, asked, METRIC)

    folders = Folders(root / CHECKPOINTS, root / VECTOR_STORE)
    if lessons is None:
        found = tune(ground, questions, dev, how, score, folders, root / NEGATIVES_LEDGER if leads() else None)
    else:
        found = distil_into(ground, questions, dev, how, lessons, score, folders, root)
    verdict = gate.compare(found.run, found.base_run, dev, METRIC, params.seed, max(1, len(found.shares)))
    log.info("dev: %s", verdict.reason)
    if not leads():
        return

    # Loaded anew, as a tokenizer is saved with the lengths of its last use.
    encoder.save(found.encoder if verdict.better else encoder.load(params.base_model, root), root / RETRIEVER)
    summary = {
        "base_model": params.base_model,
        "method": params.method,
        "towers": params.towers,
        "pairs": found.pairs,
        "steps": found.points[-1].step,
        **verdict.summary(),
        "negatives": {"mined": len(found.negatives), "excluded": dict(sorted(found.excluded.items()))},
    }
    if found.shares:
        scores = {str(share): score for share, score in found.shares.items()}
        summary["interpolation"] = {"share": found.share, f"dev_{METRIC}": scores}
    io.write_json(summary, root / RETRIEVER_SUMMARY)
    io.write_csv(("step", "loss", f"dev_{METRIC}"), map(astuple, found.points), root / RETRIEVER_CURVE)
    io.write_frame(mine.columns(found.negatives, mine.TAKEN), root / NEGATIVES)
    if lessons is not None:  # nothing was mined
        with io.write_frames(mine.LEDGER, root / NEGATIVES_LEDGER):
            pass


if __name__ == "__main__":
    run_stage("train_retriever", main, TrainRetrieverParams)
