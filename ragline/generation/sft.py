"""Supervised tuning of a language model: loss on the answer's tokens alone.

Whether the passages are the gold ones or gold among distractors is the lessons' affair.
"""

import importlib
import importlib.util
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import EarlyStoppingCallback, Trainer, TrainingArguments

from ragline import repro, training
from ragline.errors import ConfigError, DataError
from ragline.generation import fusion, generator, language_model, prompts, train
from ragline.generation.language_model import LanguageModel, padded
from ragline.generation.train import Lesson
from ragline.io import file_digest
from ragline.training import CurvePoint, arguments, run

IGNORED = -100
"""Label of a token that counts for nothing."""
QUESTION_TOO_LONG, ANSWER_TOO_LONG = "question too long", "answer too long"
ZERO = Path(__file__).parent / "deepspeed"


@dataclass(frozen=True)
class Lora:
    """Shape of the adapters; Hu et al., LoRA, ICLR 2022."""

    r: int
    """Rank of the update."""
    alpha: int
    """The update counts `alpha / r` times."""
    dropout: float
    targets: tuple[str, ...]
    """Names of the linear layers that get one; `all-linear` alone for all but the output layer."""


@dataclass(frozen=True)
class Schedule(training.Schedule):
    """How long and how hard to train, and what."""

    lora: Lora | None
    """None: all weights."""
    patience: int | None
    """Dev losses in a row without a better one after which training ends; None: it goes on to the end."""
    gradient_checkpointing: bool
    """Compute activations twice rather than keep them: less memory, a third more time, the same result."""


@dataclass(frozen=True)
class Trained:
    """What came of a training."""

    model: LanguageModel
    """With its adapters, where there are some."""
    weights: Mapping[str, Tensor]
    """State of the model, gathered from all processes; empty in those that do not lead."""
    points: list[CurvePoint]
    steps: int
    parameters: int
    trained_parameters: int


@dataclass(frozen=True)
class Encoded:
    """A lesson as tokens."""

    prompt: tuple[tuple[int, ...], ...]
    """As `language_model.Prompt`."""
    answer: tuple[int, ...]


def code() -> tuple[str, ...]:
    """Digests of the modules that decide how training goes on, for the key of its checkpoints."""
    modules = (prompts, generator, language_model, fusion, train, training)
    return (file_digest(Path(__file__)), *(file_digest(Path(str(module.__file__))) for module in modules))


def encode(reader: LanguageModel, lessons: Sequence[Lesson]) -> tuple[list[Encoded], Counter[str]]:
    """Lessons as tokens, and why others were left out: a cut answer would teach to stop halfway."""
    kept: list[Encoded] = []
    left_out: Counter[str] = Counter()
    wording, limits = reader.wording, reader.limits
    for lesson in lessons:
        answer = wording.answer_tokens(lesson.answer)
        if len(answer) > limits.max_answer_tokens:
            left_out[ANSWER_TOO_LONG] += 1
            continue
        try:
            asked = reader.prompt(lesson.question, lesson.passages)
        except DataError:
            left_out[QUESTION_TOO_LONG] += 1
            continue
        kept.append(Encoded(tuple(map(tuple, asked)), tuple(answer)))
    return kept, left_out


def fit(
    reader: LanguageModel, taught: Sequence[Encoded], dev: Sequence[Encoded], schedule: Schedule, checkpoints: Path
) -> Trained:
    """Train the model in place and leave it at its lowest dev loss.

    A killed training goes on from its last checkpoint, and ends in the same weights. Under torchrun the processes share
    each batch. RAGLINE_DEEPSPEED names a file of DeepSpeed settings, or `zero2` or `zero3` for ours.

    Args:
        checkpoints: folder for this very training; the caller keys it by everything that decides the result.

    Raises:
        ConfigError: the batch cannot be shared evenly, there are no layers for the adapters, or ZeRO-3 would have to
            cut up quantized weights.
        DataError: no lesson is left.
    """
    if not taught or not dev:
        raise DataError(
            f"train_generator: expected lessons to learn from and for dev, got {len(taught)} and {len(dev)} that fit "
            "max_input_tokens and max_answer_tokens; raise them, or make more questions"
        )
    deepspeed = _deepspeed()
    if deepspeed and language_model.is_quantized(reader.model) and _zero_stage(deepspeed) == 3:
        raise ConfigError(
            "RAGLINE_DEEPSPEED: expected zero2 or none with train_generator.quantize, got ZeRO-3, which cuts up "
            "weights that stand two in a byte; use zero2, or set quantize: null"
        )
    model: Any = with_adapters(reader.model, schedule.lora) if schedule.lora else reader.model
    model.config.use_cache = False
    trainer = _Trainer(
        model=model,
        args=_arguments(schedule, len(taught), checkpoints, deepspeed),
        train_dataset=_Lessons(taught),
        eval_dataset=_Lessons(dev),
        data_collator=_Collator(reader),
        compute_loss_func=AnswerLoss(shifted=not reader.wording.seq2seq),
        callbacks=[EarlyStoppingCallback(schedule.patience)] if schedule.patience else [],
    )
    trained = sum(_size(p) for p in model.parameters() if p.requires_grad)
    points = run(trainer, "training the generator", checkpoints, "eval_loss")
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    model.config.use_cache = True
    model.eval()
    return Trained(
        replace(reader, model=model),
        dict(weights or {}),
        points,
        trainer.state.global_step,
        sum(_size(p) for p in model.parameters()),
        trained,
    )


def with_adapters(model: nn.Module, lora: Lora) -> nn.Module:
    """Put adapters into a model, and freeze everything else.

    Raises:
        ConfigError: it has no layers of these names.
    """
    if language_model.is_quantized(model):
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)  # type: ignore[no-untyped-call]
    targets: Any = "all-linear" if lora.targets == ("all-linear",) else list(lora.targets)
    config = LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, bias="none")
    linear = sorted({n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, nn.Linear)})
    try:
        adapted: nn.Module = get_peft_model(model, config)
    except ValueError:
        raise ConfigError(
            f"train_generator.lora.targets: expected some of {', '.join(linear)}, or all-linear alone, "
            f"got {', '.join(lora.targets)}"
        ) from None
    return adapted


@dataclass(frozen=True)
class AnswerLoss:
    """Mean negative log-likelihood of the tokens whose label is not -100, over the whole batch of all processes."""

    shifted: bool
    """Whether the logits at a token stand for the next one, as in a causal model."""

    def __call__(self, outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Scalar loss of logits (batch, t, vocabulary) and labels (batch, t) int64.

        Args:
            num_items_in_batch: answer tokens of the step, all processes and micro-batches together.
        """
        logits = outputs.logits
        if self.shifted:
            logits, labels = logits[:, :-1], labels[:, 1:]
        counted = labels != IGNORED
        total = nn.functional.cross_entropy(logits[counted].float(), labels[counted], reduction="sum")
        return total / (counted.sum() if num_items_in_batch is None else num_items_in_batch)


@dataclass(frozen=True)
class _Collator:
    """Rows to a padded batch, its labels -100 wherever no answer stands."""

    reader: LanguageModel

    def __call__(self, rows: Sequence[Encoded]) -> dict[str, Tensor]:
        filler = language_model.pad(self.reader.tokenizer)
        answers = [row.answer for row in rows]
        if self.reader.wording.seq2seq:
            labels, _ = padded(answers, IGNORED)
            start = language_model.start_mark(self.reader.model)
            written = [(start, *answer[:-1]) for answer in answers if start is not None]
            decoder_ids, decoder_mask = padded(written, filler)
            return {
                **self.reader.inputs([row.prompt for row in rows]),
                "decoder_input_ids": decoder_ids,
                "decoder_attention_mask": decoder_mask,
                "labels": labels,
            }
        asked = [row.prompt[0] for row in rows]  # a causal model reads one text
        ids, mask = padded([prompt + answer for prompt, answer in zip(asked, answers, strict=True)], filler)
        hidden = [(IGNORED,) * len(prompt) + answer for prompt, answer in zip(asked, answers, strict=True)]
        labels, _ = padded(hidden, IGNORED)
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}


class _Lessons(Dataset[Encoded]):
    def __init__(self, rows: Sequence[Encoded]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Encoded:
        return self.rows[row]


class _Trainer(Trainer):
    """Where processes share each batch, an epoch's odd lessons are left out, but those for dev never are.

    The dev loss is the mean over lessons of the mean over a lesson's tokens, the same for any number of processes.
    """

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """As `Trainer.compute_loss`; it would divide a dev lesson's loss by the tokens of all processes' lessons."""
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch if model.training else None)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """As `Trainer.get_eval_dataloader`."""
        drops, self.args.dataloader_drop_last = self.args.dataloader_drop_last, False
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.args.dataloader_drop_last = drops


def _arguments(schedule: Schedule, examples: int, checkpoints: Path, deepspeed: str | None) -> TrainingArguments:
    processes = int(os.environ.get("WORLD_SIZE", "1"))  # DeepSpeed insists on being the first to connect them
    if schedule.batch_size % processes:
        raise ConfigError(
            f"train_generator.batch_size: expected a multiple of the {processes} processes, got {schedule.batch_size}"
        )
    return TrainingArguments(
        lr_scheduler_type="cosine",
        max_grad_norm=1.0,
        activation_checkpointing=schedule.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        remove_unused_columns=False,
        label_names=["labels"],
        prediction_loss_only=True,
        dataloader_drop_last=processes > 1,
        restore_callback_states_from_checkpoint=True,
        deepspeed=deepspeed,
        **arguments(schedule, examples, checkpoints, "eval_loss", processes) | {"per_device_eval_batch_size": 1},
    )


def _deepspeed() -> str | None:
    """The file that RAGLINE_DEEPSPEED names.

    Raises:
        ConfigError: there is none.
    """
    name = os.environ.get("RAGLINE_DEEPSPEED", "")
    if not name:
        return None
    path = ZERO / f"{name}.json" if name in ("zero2", "zero3") else Path(name)
    if not path.is_file():
        raise ConfigError(f"RAGLINE_DEEPSPEED: expected zero2, zero3 or a file of settings, got {name!r}")
    if "WORLD_SIZE" not in os.environ or importlib.util.find_spec("deepspeed") is None:
        raise ConfigError(
            f"RAGLINE_DEEPSPEED={name}: expected DeepSpeed to be installed, and a start by "
            "`torchrun --nproc_per_node N -m stages.train_generator`; do both, or unset it"
        )
    if repro.device().type == "cpu":  # gloo does, and nothing has to be compiled for minutes
        importlib.import_module("deepspeed.ops").__compatible_ops__["deepspeed_shm_comm"] = False
    return str(path)


def _zero_stage(settings: str) -> int:
    return int(json.loads(Path(settings).read_text(encoding="utf-8")).get("zero_optimization", {}).get("stage", 0))


def _size(parameter: Any) -> int:
    """Numbers in a parameter, even where ZeRO-3 keeps it elsewhere, or two of them stand in a byte."""
    packed = getattr(parameter, "quant_state", None)
    return int(packed.shape.numel() if packed else getattr(parameter, "ds_numel", parameter.numel()))
