"""One progress bar in a terminal, plain lines with a time estimate everywhere else."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
log = logging.getLogger(__name__)

LINE_EVERY_S = 10.0


def remaining(done: int, total: int, seconds: float) -> str:
    """`mm:ss` left at the pace so far; '?' before anything is done."""
    if not done:
        return "?"
    left = round(seconds / done * (total - done))
    return f"{left // 60:02d}:{left % 60:02d}"


def track(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield the items; say how far it is and how long it will take."""
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=what, unit="", dynamic_ncols=True, leave=False)
        return
    started = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= LINE_EVERY_S:
            last = now
            log.info("%s: %d of %d, %s left", what, done, total, remaining(done, total, now - started))
