"""Lessons with their passages encoded once, since the encoder is frozen: on disk, for memory cannot hold them.

A token takes 768 bytes and a lesson about 300 tokens, so 40,000 lessons take about 9 GB. A shard is written whole or
not at all, so a killed run encodes at most one of them again.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ragline import inference, io
from ragline.generation.fid import Reader
from ragline.generation.train import Lesson, targets
from ragline.progress import track

SHARD = 128
"""Lessons of a shard: about 40 MB."""
STATES, IDS, ENDS = "states.npy", "ids.npy", "ends.npy"


@dataclass(frozen=True)
class Shards(Dataset[dict[str, Any]]):
    """Encoded lessons, memory-mapped: reading one touches its own bytes alone."""

    states: tuple[np.memmap[Any, Any], ...]
    """One (tokens, d) float16 a shard, lessons one after the other."""
    ids: tuple[np.memmap[Any, Any], ...]
    """(tokens,) int32, the tokens behind the states."""
    ends: tuple[np.memmap[Any, Any], ...]
    """(lessons,) int64, rising: where each lesson's tokens end."""
    firsts: tuple[int, ...]
    """Number of each shard's first lesson."""
    answers: tuple[Tensor, ...]
    """Tokens to write, the end mark last."""

    def __len__(self) -> int:
        return len(self.answers)

    def __getitem__(self, row: int) -> dict[str, Any]:
        shard = bisect_right(self.firsts, row) - 1
        place = row - self.firsts[shard]
        start, end = int(self.ends[shard][place - 1]) if place else 0, int(self.ends[shard][place])
        states = torch.from_numpy(np.array(self.states[shard][start:end]))
        ids = torch.from_numpy(np.array(self.ids[shard][start:end], dtype=np.int64))
        return {"packed": (states, ids), "answer": self.answers[row]}


def encode(reader: Reader, lessons: Sequence[Lesson], folder: Path, what: str) -> Shards:
    """Encode what is not encoded yet, and open all of it.

    Args:
        folder: for these very lessons and this encoder; the caller keys it.
    """
    fast = inference.pays(sum(len(lesson.passages) for lesson in lessons))
    firsts = range(0, len(lessons), SHARD)
    folders = [folder / f"{number:05d}" for number in range(len(firsts))]
    todo = [(place, first) for place, first in zip(folders, firsts, strict=True) if not place.exists()]
    for place, first in track(todo, len(todo), f"{what} ({SHARD} lessons a step)"):
        _write(reader, lessons[first : first + SHARD], place, fast)

    def mapped(name: str) -> tuple[np.memmap[Any, Any], ...]:
        return tuple(np.load(place / name, mmap_mode="r") for place in folders)

    return Shards(mapped(STATES), mapped(IDS), mapped(ENDS), tuple(firsts), tuple(targets(reader, lessons)))


def _write(reader: Reader, lessons: Sequence[Lesson], place: Path, fast: bool) -> None:
    packed = reader.pack([x.question for x in lessons], [x.passages for x in lessons], fast)
    with io.whole_folder(place) as part:
        np.save(part / STATES, torch.cat([states for states, _ in packed]).half().numpy())
        np.save(part / IDS, torch.cat([ids for _, ids in packed]).int().numpy())
        np.save(part / ENDS, np.cumsum([len(ids) for _, ids in packed], dtype=np.int64))
