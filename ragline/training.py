"""What both trainings share: progress, and checkpoints that a killed run goes on from."""

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from accelerate import PartialState  # type: ignore[import-untyped]
from tqdm import tqdm
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from ragline import repro
from ragline.progress import LINE_EVERY_S, log, remaining
from ragline.types import QAExample


class TrainingProgress(TrainerCallback):
    """A bar in a terminal; elsewhere a plain line every ten seconds with the loss and the time left."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.loss = float("nan")
        self.bar: tqdm[Any] | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the clock at the step that training starts from."""
        self.first = state.global_step
        self.started = self.last = time.monotonic()
        if sys.stderr.isatty():
            self.bar = tqdm(total=state.max_steps, initial=self.first, desc=self.what, dynamic_ncols=True, leave=False)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Advance by a step."""
        if self.bar is not None:
            self.bar.update(1)
            return
        now = time.monotonic()
        if now - self.last >= LINE_EVERY_S:
            self.last = now
            done, total = state.global_step - self.first, state.max_steps - self.first
            left = remaining(done, total, now - self.started)
            log.info(
                "%s: step %d of %d, loss %.3f, %s left", self.what, state.global_step, state.max_steps, self.loss, left
            )

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Remember the last loss."""
        self.loss = (logs or {}).get("loss", self.loss)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()


T = TypeVar("T")


def answerable(questions: Sequence[QAExample]) -> list[QAExample]:
    """Those that have a gold passage to find and an answer to write."""
    return [q for q in questions if q.answerable]


def evenly(questions: Sequence[T], most: int) -> list[T]:
    """At most `most` of them, evenly spaced over the whole list."""
    if len(questions) <= most:
        return list(questions)
    return [questions[row * len(questions) // most] for row in range(most)]


@dataclass(frozen=True)
class CurvePoint:
    """One row of a training curve; what was not measured at a step is None."""

    step: int
    loss: float | None
    dev: float | None


def processes() -> int:
    """Processes that train together, able to talk to each other from here on: one, unless torchrun started more."""
    return int(PartialState(cpu=repro.device().type == "cpu").num_processes)


def leads() -> bool:
    """Whether this is the process that writes the results; the others only lend a hand."""
    return bool(PartialState(cpu=repro.device().type == "cpu").is_main_process)


@dataclass(frozen=True)
class Schedule:
    """How long and how hard to train."""

    epochs: int
    batch_size: int
    """Of all processes together."""
    learning_rate: float
    evaluations: int
    """Times the dev figure is taken, the last one at the end."""
    seed: int


def arguments(schedule: Schedule, examples: int, checkpoints: Path, best: str, processes: int = 1) -> dict[str, Any]:
    """Settings that every trainer here gets.

    It logs about 30 times, evaluates and saves together as often as the schedule says, and ends with its best weights.

    Args:
        examples: that one epoch sees.
        checkpoints: folder for this very training.
        best: name of the dev figure in the trainer's log; the lower the better if it is a loss.
        processes: that share each batch; several leave the last, smaller batch of an epoch out.
    """
    odd = examples % schedule.batch_size if processes > 1 else 0
    steps = max(1, schedule.epochs * -(-(examples - odd) // schedule.batch_size))
    every = max(1, -(-steps // schedule.evaluations))
    each = schedule.batch_size // processes
    return {
        "output_dir": str(checkpoints),
        "num_train_epochs": schedule.epochs,
        "per_device_train_batch_size": each,
        "per_device_eval_batch_size": schedule.batch_size,
        "learning_rate": schedule.learning_rate,
        "weight_decay": 0.01,
        "warmup_steps": max(1, steps // 10),
        "seed": schedule.seed,
        "data_seed": schedule.seed,
        "bf16": repro.uses_bfloat16(),
        "use_cpu": repro.device().type == "cpu",
        "logging_steps": max(1, steps // 30),
        "eval_strategy": "steps",
        "eval_steps": every,
        "save_strategy": "steps",
        "save_steps": every,
        "save_total_limit": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": best,
        "greater_is_better": not best.endswith("loss"),
        "report_to": [],
        "disable_tqdm": True,
    }


def run(trainer: Trainer, what: str, checkpoints: Path, dev_key: str) -> list[CurvePoint]:
    """Train, or go on from the last checkpoint of a killed training, and leave the best weights in the model.

    Args:
        checkpoints: folder for this very training, removed at the end; the caller keys it by everything that decides
            the result.
        dev_key: name of the dev figure in the trainer's log.

    Returns:
        The loss every few steps and the dev figure at every evaluation.
    """
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if trainer.is_world_process_zero():
        trainer.add_callback(TrainingProgress(what))
    last = last_whole(checkpoints)
    if last:
        log.info("%s: going on from %s", what, last.name)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    trainer.accelerator.wait_for_everyone()  # the best weights come from a checkpoint, for every process
    shutil.rmtree(checkpoints, ignore_errors=True)
    return curve(trainer.state.log_history, dev_key)


def last_whole(checkpoints: Path) -> Path | None:
    """The newest checkpoint that was written to its end; one that a kill cut short is removed.

    The trainer writes `trainer_state.json` last.
    """
    for folder in sorted(checkpoints.glob("checkpoint-*"), key=lambda f: int(f.name.rpartition("-")[2]), reverse=True):
        try:
            json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(folder, ignore_errors=True)
        else:
            return folder
    return None


def curve(history: Sequence[Mapping[str, Any]], dev_key: str) -> list[CurvePoint]:
    """A trainer's log as points, in order of steps."""
    points: dict[int, CurvePoint] = {}
    for entry in history:
        step = int(entry["step"])
        old = points.get(step, CurvePoint(step, None, None))
        points[step] = CurvePoint(step, entry.get("loss", old.loss), entry.get(dev_key, old.dev))
    return [p for _, p in sorted(points.items()) if p.loss is not None or p.dev is not None]
