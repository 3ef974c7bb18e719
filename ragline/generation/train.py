"""Training of the reader: loss on the answer's tokens alone, over passages in shuffled order."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from ragline import inference, repro, training
from ragline.generation import fid
from ragline.generation.fid import Reader, collate
from ragline.io import file_digest
from ragline.progress import track
from ragline.training import CurvePoint, cadence, run

BLOCK = 64
"""Questions encoded between two progress updates."""


def code() -> tuple[str, ...]:
    """Digests of the modules that decide how training goes on, for the key of its checkpoints."""
    modules = (fid.__file__, training.__file__, __file__)
    return tuple(file_digest(Path(module)) for module in modules)


@dataclass(frozen=True)
class Lesson:
    """One question, the passages to read, the answer to write."""

    question: str
    passages: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Schedule:
    """How long and how hard to train."""

    epochs: int
    batch_size: int
    learning_rate: float
    evaluations: int
    """Times the dev loss is taken, the last one at the end."""
    seed: int


def choose_passages(ranked: Sequence[str], gold: Sequence[str], count: int, rng: random.Random) -> list[str]:
    """The best `count` passages in random order, the best gold passage among them.

    Where the retriever missed it, gold takes the place of the last one, so that there is always something to learn;
    the order is shuffled, so that its place teaches nothing.
    """
    chosen = list(ranked[:count])
    if not set(chosen) & set(gold):
        chosen = [*chosen[: count - 1], gold[0]]
    rng.shuffle(chosen)
    return chosen


class _Packed(Dataset[dict[str, Any]]):
    """Lessons with their passages encoded once, since the encoder is frozen."""

    def __init__(self, reader: Reader, lessons: Sequence[Lesson], what: str) -> None:
        blocks = [lessons[start : start + BLOCK] for start in range(0, len(lessons), BLOCK)]
        fast = inference.pays(sum(len(x.passages) for x in lessons))
        self.packed: list[tuple[Tensor, Tensor]] = []
        for block in track(blocks, len(blocks), f"{what} ({BLOCK} a step)"):
            self.packed += reader.pack([x.question for x in block], [x.passages for x in block], fast)
        end, limit = reader.tokenizer.sep_token_id, reader.config.max_answer_tokens
        answers = reader.tokenizer([x.answer for x in lessons], add_special_tokens=False, truncation=False)["input_ids"]
        self.answers = [torch.tensor([*tokens[: limit - 1], end], dtype=torch.long) for tokens in answers]

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"packed": self.packed[row], "answer": self.answers[row]}


def _batch(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    states, ids, mask = collate([row["packed"] for row in rows])
    labels = torch.nn.utils.rnn.pad_sequence([row["answer"] for row in rows], batch_first=True, padding_value=-100)
    return {"states": states.float(), "source_ids": ids, "source_mask": mask, "labels": labels}


def fit(
    reader: Reader, train: Sequence[Lesson], dev: Sequence[Lesson], schedule: Schedule, checkpoints: Path
) -> list[CurvePoint]:
    """Train the reader in place and leave it at its lowest dev loss.

    A killed training goes on from its last checkpoint, and ends in the same weights.

    Args:
        checkpoints: folder for this very training; the caller keys it by everything that decides the result.

    Returns:
        The loss every few steps and the dev loss at every evaluation.
    """
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        learning_rate=schedule.learning_rate,
        lr_scheduler_type="cosine",
        weight_decay=0.01,
        max_grad_norm=1.0,
        seed=schedule.seed,
        data_seed=schedule.seed,
        bf16=repro.has_bfloat16(),
        use_cpu=repro.device().type == "cpu",
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        remove_unused_columns=False,
        label_names=["labels"],
        prediction_loss_only=True,
        **cadence(len(train), schedule.epochs, schedule.batch_size, schedule.evaluations),
    )
    trainer = Trainer(
        model=reader.model,
        args=arguments,
        train_dataset=_Packed(reader, train, "reading the training passages"),
        eval_dataset=_Packed(reader, dev, "reading the dev passages"),
        data_collator=_batch,
    )
    points = run(trainer, "training the reader", checkpoints, "eval_loss")
    reader.model.eval()
    return points
