"""Pretraining of the reader: pace, training with resume, and the file that is shipped."""

import copy
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import fmean

import torch
from safetensors.torch import load_file, save_file

from ragline import io, repro, training
from ragline.errors import ConfigError, ModelError
from ragline.generation.fid import Reader
from ragline.generation.train import Lesson, batch, fit_encoded
from ragline.training import CurvePoint
from tools.reader_pretraining.shards import Shards, encode

WARM_UP = 3
"""Batches that the pace is taken on; the first, which is slower, does not count."""


@dataclass(frozen=True)
class Schedule:
    """How long and how hard to train."""

    lessons: int
    """Different ones."""
    passes: int
    """Times that each is seen; encoding one costs about as much as seeing it once more."""
    batch_size: int
    learning_rate: float
    evaluations: int
    """Checkpoints, and dev losses, until the end."""
    seed: int

    @property
    def steps(self) -> int:
        return self.passes * -(-self.lessons // self.batch_size)


@dataclass(frozen=True)
class Pace:
    """Seconds that one lesson takes."""

    encoding: float
    seeing: float

    def lessons(self, minutes: float, passes: int, most: int) -> int:
        """How many different lessons fit into so many minutes, each seen `passes` times.

        Raises:
            ConfigError: not a single one.
        """
        fitting = int(60 * minutes / (self.encoding + passes * self.seeing))
        if fitting < 1:
            raise ConfigError(f"--minutes: expected time for a lesson, got {minutes:g}; give more")
        return min(fitting, most)


def pace(reader: Reader, lessons: Sequence[Lesson], batch_size: int, folder: Path) -> Pace:
    """Measure on a few lessons, with a copy of the decoder; the reader stays as it is.

    So few are encoded in torch, many through OpenVINO, which takes as long or less: the estimate is on the safe side.

    Args:
        folder: an empty place for what is encoded.
    """
    encode(reader, lessons[:2], folder / "first", "getting ready")
    started = time.perf_counter()
    encoded = encode(reader, lessons, folder / "rest", "measuring the pace")
    encoding = (time.perf_counter() - started) / len(lessons)
    model = copy.deepcopy(reader.model).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    device = next(model.parameters()).device
    seconds: list[float] = []
    for start in range(0, len(encoded), batch_size):
        started = time.perf_counter()
        rows = [encoded[row] for row in range(start, min(start + batch_size, len(encoded)))]
        with repro.half_precision():
            loss = model(**{name: tensor.to(device) for name, tensor in batch(rows).items()})["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append((time.perf_counter() - started) / len(rows))
    return Pace(encoding, fmean(seconds[1:] or seconds))


def fit(reader: Reader, train: Shards, dev: Shards, schedule: Schedule, folder: Path) -> list[CurvePoint]:
    """Train the reader in place and leave it at its lowest dev loss.

    A killed training goes on from its last checkpoint and ends in the same weights; a finished one is read back.

    Args:
        folder: for this very training; the caller keys it by everything that decides the result.

    Returns:
        The loss every few steps and the dev loss at every evaluation.
    """
    weights, curve, checkpoints = folder / "trained.safetensors", folder / "curve.json", folder / "checkpoints"
    if curve.is_file():
        reader.model.load_state_dict(load_file(weights))
        reader.model.eval()
        return [CurvePoint(*row) for row in io.read_json(curve)]
    course = training.Schedule(
        schedule.passes, schedule.batch_size, schedule.learning_rate, schedule.evaluations, schedule.seed
    )
    points = fit_encoded(reader, train, dev, course, checkpoints, "pretraining the reader")
    with io.whole_file(weights) as part:
        save_file({name: tensor.cpu().contiguous() for name, tensor in reader.model.state_dict().items()}, part)
    io.write_json([astuple(point) for point in points], curve)
    return points


def dev_loss(reader: Reader, dev: Shards, batch_size: int) -> float:
    """Mean loss of a dev batch, as the trainer takes it while it trains."""
    reader.model.eval()
    device = next(reader.model.parameters()).device
    total = 0.0
    with torch.inference_mode():
        for start in range(0, len(dev), batch_size):
            rows = [dev[row] for row in range(start, min(start + batch_size, len(dev)))]
            found = reader.model(**{name: tensor.to(device) for name, tensor in batch(rows).items()})
            total += found["loss"].item() * len(rows)
    return total / len(dev)


def write_weights(reader: Reader, path: Path, most: int) -> str:
    """Write what training changed in bfloat16, the frozen encoder left out; gives the file's sha256.

    Raises:
        ModelError: it takes more than `most` bytes.
    """
    weights = {name: tensor.cpu().bfloat16().contiguous() for name, tensor in reader.model.state_dict().items()}
    if (size := sum(tensor.nbytes for tensor in weights.values())) > most:
        raise ModelError(f"{path}: expected at most {most} bytes of weights, got {size}; train fewer of them")
    with io.whole_file(path) as part:
        save_file(weights, part)
    return io.file_digest(path)
