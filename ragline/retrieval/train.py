"""Contrastive fine-tuning of a bi-encoder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ragline import training
from ragline.errors import ConfigError, DataError
from ragline.io import Vectors, file_digest
from ragline.retrieval import adapters, contrast, losses
from ragline.retrieval.adapters import Lora
from ragline.retrieval.losses import (
    BatchLoss,
    Candidates,
    LocalRQALoss,
    MaskedContrastiveLoss,
    Rows,
    VectorLoss,
    distinct,
)
from ragline.retrieval.mine import Negative
from ragline.training import CurvePoint, run
from ragline.types import Passage, QAExample

WEIGHTS = "trained.safetensors"
ROWS = "candidates.npy"

Mine = Callable[[SentenceTransformer], Rows]
"""A half-trained encoder of questions to new candidates, as `Candidates.rows`."""

MakeLoss = Callable[[SentenceTransformer, Candidates, Vectors | None], VectorLoss]
"""The loss of a model with these candidates; vectors as `fit` takes them."""


def code() -> tuple[str, ...]:
    """Digests of the modules that decide how training goes on, for the key of its checkpoints."""
    modules = (__file__, training.__file__, losses.__file__, contrast.__file__, adapters.__file__)
    return tuple(file_digest(Path(module)) for module in modules)


@dataclass(frozen=True)
class Schedule(training.Schedule):
    """How long and how hard to train, and towards what; a batch is of questions."""

    temperature: float
    max_passage_tokens: int
    """Longer passages are cut while training; search still encodes them whole."""
    mini_batch_size: int | None = None
    """Texts of which the activations are held at a time; all of a batch's where None."""
    symmetric: bool = False
    """Whether each positive is also weighed over all questions of the batch."""
    matryoshka: tuple[int, ...] = ()
    """First numbers of a vector that must do alone; none, only whole vectors count."""
    compat: Literal["localrqa"] | None = None
    """Another tool's loss in place of ours."""
    lora: Lora | None = None
    """Adapters to train; all weights are trained where None."""


def line_up(
    questions: Sequence[QAExample], passages: Sequence[Passage], negatives: Sequence[Negative], hard: int
) -> tuple[list[QAExample], Candidates]:
    """Put every question beside its best gold passage and `hard` negatives.

    A question with fewer negatives is left out, as every row of a batch needs the same columns.

    Raises:
        DataError: none is left.
    """
    row_of = {p.passage_id: row for row, p in enumerate(passages)}
    mined = _by_question(negatives)
    kept = [q for q in questions if len(mined.get(q.question_id, ())) >= hard]
    if not kept:
        raise DataError(
            f"train_retriever: expected training questions with {hard} hard negatives, got none of {len(questions)}; "
            "lower hard_negatives or raise negative_margin"
        )
    rows = [[row_of[p] for p in (q.gold_passage_ids[0], *mined.get(q.question_id, [])[:hard])] for q in kept]
    return kept, Candidates(passages, np.array(rows, dtype=np.int64))


def renew(examples: Sequence[QAExample], candidates: Candidates, negatives: Sequence[Negative]) -> Rows:
    """Put newly mined negatives in the place of the old ones; a question with too few keeps what it had.

    Returns:
        (n_examples, n_columns), as `candidates.rows`.
    """
    row_of = {p.passage_id: row for row, p in enumerate(candidates.passages)}
    mined = _by_question(negatives)
    rows = candidates.rows.copy()
    hard = rows.shape[1] - 1
    for number, question in enumerate(examples):
        found = mined.get(question.question_id, [])[:hard]
        if len(found) == hard:
            rows[number, 1:] = [row_of[p] for p in found]
    return rows


def _by_question(negatives: Sequence[Negative]) -> dict[str, list[str]]:
    mined: dict[str, list[str]] = {}
    for negative in negatives:
        mined.setdefault(negative.question_id, []).append(negative.passage_id)
    return mined


class DevScore(BaseEvaluator):
    """Lets a trainer call our own dev score of the model that it trains."""

    def __init__(self, score: Callable[[Any], float]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.score = score

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """The score of the model as it is used, without dropout."""
        training = model.training
        model.eval()
        try:
            return {"dev": self.score(model)}
        finally:
            model.train(training)


class _Remine(TrainerCallback):
    """New negatives at the start of every epoch but the first."""

    def __init__(self, loss: BatchLoss, model: SentenceTransformer, mine: Mine) -> None:
        self.loss, self.model, self.mine = loss, model, mine

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Mine, unless training goes on within an epoch: its candidates then came with the checkpoint."""
        steps = state.max_steps // int(args.num_train_epochs)
        if state.global_step and state.global_step % steps == 0:
            training = self.model.training
            self.model.eval()
            self.loss.candidates = replace(self.loss.candidates, rows=self.mine(self.model))
            self.model.train(training)


def fit(
    model: SentenceTransformer,
    examples: Sequence[QAExample],
    candidates: Candidates,
    schedule: Schedule,
    dev_score: Callable[[SentenceTransformer], float],
    checkpoints: Path,
    vectors: Vectors | None = None,
    remine: Mine | None = None,
    make_loss: MakeLoss | None = None,
) -> list[CurvePoint]:
    """Train `model` in place and leave it at its best dev score.

    A killed training goes on from its last checkpoint, and ends in the same weights. Under torchrun the processes share
    each batch.

    Args:
        vectors: (n_passages, d) float32 of the whole corpus, when passages keep the vectors that they have: `model`
            then learns to encode questions alone, its word embeddings frozen, and no passage is ever encoded.
        checkpoints: folder for this very training; the caller keys it by everything that decides the result.
        remine: gives the candidates of every epoch after the first.
        make_loss: what is learnt from the candidates; the schedule's contrastive loss where None.

    Returns:
        The loss every few steps and the dev score at every evaluation.

    Raises:
        ConfigError: the batch cannot be shared evenly, there are no layers for the adapters, or more numbers of a
            vector are asked for than it has.
    """
    check(schedule, model.get_embedding_dimension() or 0, training.processes(), shared=vectors is None)
    if schedule.compat is None:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # an epoch or two gain nothing by it, and without it attention takes its fast path
    adapted = adapters.add(model, schedule.lora) if schedule.lora else None
    if vectors is not None:
        transformer: Any = model[0]
        transformer.model.get_input_embeddings().requires_grad_(False)
    if make_loss is None:
        loss: VectorLoss | LocalRQALoss = _contrastive(model, examples, candidates, schedule, vectors)
    else:
        loss = make_loss(model, candidates, vectors)
    trainer = _Trainer(
        model=model,
        args=_arguments(schedule, len(examples), checkpoints),
        train_dataset=Dataset.from_dict({"question": [q.question for q in examples], "label": range(len(examples))}),
        loss=loss,
        evaluator=DevScore(dev_score),
        data_collator=_Collator(
            preprocess_fn=model.preprocess,
            prompts={"question": prompt} if (prompt := model.prompts.get("query")) else None,
            loss=loss if vectors is None else None,
            document_prompt=model.prompts.get("document") or None,
            max_passage_tokens=schedule.max_passage_tokens,
        ),
        callbacks=[_Remine(loss, model, remine)] if remine else [],
    )
    points = run(trainer, "training the retriever", checkpoints, "eval_dev")
    if adapted is not None:
        adapters.merge(model, adapted)
    model.eval()
    return points


def check(schedule: Schedule, dim: int, processes: int, shared: bool) -> None:
    """Make sure that a schedule fits the encoder, the number of processes and itself.

    Args:
        shared: whether one encoder is trained for questions and passages.

    Raises:
        ConfigError: it does not.
    """
    if schedule.batch_size % processes:
        raise ConfigError(
            f"train_retriever.batch_size: expected a multiple of the {processes} processes, got {schedule.batch_size}"
        )
    if schedule.matryoshka and max(schedule.matryoshka) > dim:
        raise ConfigError(
            f"train_retriever.matryoshka: expected at most the encoder's {dim} numbers, got {max(schedule.matryoshka)}"
        )
    ours = {
        "mini_batch_size": schedule.mini_batch_size,
        "symmetric": schedule.symmetric,
        "matryoshka": schedule.matryoshka,
    }
    if schedule.compat and (set_too := [name for name, value in ours.items() if value]):
        raise ConfigError(
            f"train_retriever.compat: {schedule.compat} has no {', '.join(set_too)}; set one or the other to null"
        )
    if schedule.compat and not shared:
        raise ConfigError(f"train_retriever.compat: {schedule.compat} trains one shared encoder; set towers: both")


def _contrastive(
    model: SentenceTransformer,
    examples: Sequence[QAExample],
    candidates: Candidates,
    schedule: Schedule,
    vectors: Vectors | None,
) -> MaskedContrastiveLoss | LocalRQALoss:
    if schedule.compat == "localrqa":
        return LocalRQALoss(model, candidates, schedule.temperature, schedule.seed)
    return MaskedContrastiveLoss(
        model,
        examples,
        candidates,
        schedule.temperature,
        vectors,
        symmetric=schedule.symmetric,
        matryoshka=schedule.matryoshka,
        mini_batch_size=schedule.mini_batch_size,
    )


def _arguments(schedule: Schedule, examples: int, checkpoints: Path) -> SentenceTransformerTrainingArguments:
    return SentenceTransformerTrainingArguments(
        lr_scheduler_type="linear",
        ddp_broadcast_buffers=False,  # it waits for the others at every forward pass, of which each has its own number
        **training.arguments(schedule, examples, checkpoints, "eval_dev", training.processes()),
    )


@dataclass
class _Collator(SentenceTransformerDataCollator):
    """Tokenises the questions of a batch, and the passages beside them once each."""

    loss: BatchLoss | None = None
    """Says which passages; None where none is encoded."""
    document_prompt: str | None = None
    max_passage_tokens: int = 0

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().__call__(features)
        if self.loss is None:
            return batch
        passages = self.loss.candidates.passages
        rows, _ = distinct(self.loss.rows(batch["label"].tolist()), passages)
        texts = [passages[row].encoded_text for row in rows]
        tokens = self.preprocess_fn(texts, prompt=self.document_prompt, max_length=self.max_passage_tokens)
        return batch | {f"passage_{name}": values for name, values in tokens.items()}


class _Trainer(SentenceTransformerTrainer):
    """Saves what is trained and nothing else; no model card, which would hold a clock and random examples."""

    loss: Any

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Add nothing."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: p.detach().contiguous() for name, p in self._trained()}, folder / WEIGHTS)
        np.save(folder / ROWS, self.loss.candidates.rows)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        folder = Path(resume_from_checkpoint)
        saved = load_file(folder / WEIGHTS)
        with torch.no_grad():
            for name, parameter in self._trained():
                parameter.copy_(saved[name])
        rows = np.load(folder / ROWS, allow_pickle=False)
        self.loss.candidates = replace(self.loss.candidates, rows=rows)

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(str(self.state.best_model_checkpoint))

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        model: Any = self.model
        return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
