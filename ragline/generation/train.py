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

from ragline import inference, training
from ragline.generation import fid
from ragline.generation.fid import Reader, collate
from ragline.io import file_digest
from ragline.progress import track
from ragline.training import CurvePoint, Schedule, arguments, run

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
        self.answers = targets(reader, lessons)

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"packed": self.packed[row], "answer": self.answers[row]}


def targets(reader: Reader, lessons: Sequence[Lesson]) -> list[Tensor]:
    """What is to be written of each lesson: tokens, (n,) int64, the end mark last."""
    end, limit = reader.tokenizer.sep_token_id, reader.config.max_answer_tokens
    answers = reader.tokenizer([x.answer for x in lessons], add_special_tokens=False, truncation=False)["input_ids"]
    return [torch.tensor([*tokens[: limit - 1], end], dtype=torch.long) for tokens in answers]


def batch(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Encoded lessons as the reader's `forward` takes them; the label is -100 where an answer has ended."""
    states, ids, mask = collate([row["packed"] for row in rows])
    labels = torch.nn.utils.rnn.pad_sequence([row["answer"] for row in rows], batch_first=True, padding_value=-100)
    return {"states": states.float(), "source_ids": ids, "source_mask": mask, "labels": labels}


def fit(
    reader: Reader, train: Sequence[Lesson], dev: Sequence[Lesson], schedule: Schedule, checkpoints: Path
) -> list[CurvePoint]:
    """Encode the lessons, and train as `fit_encoded` does."""
    return fit_encoded(
        reader,
        _Packed(reader, train, "reading the training passages"),
        _Packed(reader, dev, "reading the dev passages"),
        schedule,
        checkpoints,
        "training the reader",
    )


def fit_encoded(
    reader: Reader,
    train: Dataset[dict[str, Any]],
    dev: Dataset[dict[str, Any]],
    schedule: Schedule,
    checkpoints: Path,
    what: str,
) -> list[CurvePoint]:
    """Train the reader in place and leave it at its lowest dev loss.

    A killed training goes on from its last checkpoint, and ends in the same weights.

    Args:
        train: rows as `batch` takes them.
        dev: likewise.
        checkpoints: folder for this very training; the caller keys it by everything that decides the result.
        what: is being done, for the lines of progress.

    Returns:
        The loss every few steps and the dev loss at every evaluation.
    """
    settings = TrainingArguments(
        lr_scheduler_type="cosine",
        max_grad_norm=1.0,
        remove_unused_columns=False,
        label_names=["labels"],
        prediction_loss_only=True,
        **arguments(schedule, len(train), checkpoints, "eval_loss"),  # type: ignore[arg-type]
    )
    trainer = Trainer(model=reader.model, args=settings, train_dataset=train, eval_dataset=dev, data_collator=batch)
    points = run(trainer, what, checkpoints, "eval_loss")
    reader.model.eval()
    return points
