"""Stages side by side, as far as memory reaches."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from ragline.artifacts import TIMINGS


class Room:
    """Lets a stage in while its memory and that of those inside fit; one alone always may.

    Args:
        megabytes: what there is for all of them.
    """

    def __init__(self, megabytes: float) -> None:
        self._megabytes = megabytes
        self._inside: list[float] = []
        self._changed = threading.Condition()

    @contextmanager
    def take(self, megabytes: float | None) -> Iterator[None]:
        """Wait for a place, and hold it meanwhile.

        Args:
            megabytes: the stage's peak; None when nobody knows it: then it runs alone.
        """
        needed = self._megabytes if megabytes is None else megabytes
        with self._changed:
            self._changed.wait_for(lambda: not self._inside or sum(self._inside) + needed <= self._megabytes)
            self._inside.append(needed)
        try:
            yield
        finally:
            with self._changed:
                self._inside.remove(needed)
                self._changed.notify_all()


def free_megabytes() -> float:
    """What the machine can give now without swapping."""
    return float(psutil.virtual_memory().available) / 2**20


def last_peak(stage: str, root: Path = Path()) -> float | None:
    """Megabytes that a stage took at most when it last ran here; None when it has not."""
    try:
        return float(json.loads((root / TIMINGS / f"{stage}.json").read_bytes())["peak_mb"])
    except (OSError, ValueError, KeyError):
        return None
