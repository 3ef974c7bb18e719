"""Runs a stage: reads its params, times it, turns a known error into one line."""

import json
import logging
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ragline.artifacts import TIMINGS
from ragline.errors import RaglineError
from ragline.runtime.params import S, load_section

log = logging.getLogger("ragline")


def configure_logging() -> None:
    """Short lines on stderr; other libraries speak only when something is wrong."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: record.levelno >= logging.WARNING or _ours(record.name))


def _ours(logger: str) -> bool:
    """Some libraries turn up their own loggers, so levels alone do not keep them quiet."""
    return logger == "__main__" or logger.partition(".")[0] in ("ragline", "stages")


def run_stage(name: str, main: Callable[[S], None], schema: type[S], section: str = "") -> None:
    """Run `main` with the params section `section` (the stage's own unless named).

    Seconds and peak memory go to the log and to .cache/timings, never into an output.
    """
    configure_logging()
    started = time.perf_counter()
    try:
        main(load_section(section or name, schema))
    except RaglineError as error:
        log.error("%s: %s: %s", name, type(error).__name__, error)
        sys.exit(error.exit_code)
    seconds = time.perf_counter() - started
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    log.info("%s: done in %.1f s, peak memory %.0f MB", name, seconds, peak_mb)
    _record(name, seconds, peak_mb)


def _record(name: str, seconds: float, peak_mb: float) -> None:
    path = Path(TIMINGS) / f"{name}.json"
    part = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"seconds": round(seconds, 1), "peak_mb": round(peak_mb)}), encoding="utf-8")
        part.replace(path)
    except OSError as error:  # what the stage made is whole, and worth more than how long it took
        log.warning("%s: its seconds are not kept: %s", path, error.strerror or error)
