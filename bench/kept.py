"""Work that is done once, in a process of its own: its peak memory is its own, and an interrupted bench goes on."""

import json
import multiprocessing
import resource
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ragline import io


def once(kept: Path, work: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """The fields of what `work` returns, a dataclass; from the file where an earlier run has left it."""
    if not kept.is_file():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            io.write_json(asdict(pool.apply(work, arguments)), kept)
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    return found


def peak_mb() -> float:
    """Largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
