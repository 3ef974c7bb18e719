"""Commands of a run: their lines as they come, their end in time, and none of them left behind."""

import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flows import supervise
from ragline.errors import RaglineError

LOG_TAIL_LINES = 30


class RunStopped(RaglineError):
    """Nothing is started any more: the run was stopped."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that is over."""

    code: int
    """Its exit code; 128 + n when signal n ended it."""
    late: bool
    """Whether it was stopped for passing its time."""
    tail: tuple[str, ...]
    """The last lines of its log."""
    seconds: float


class Processes:
    """The commands that run now, each under a supervisor, so that all can be stopped together.

    A supervisor (`flows/supervise.py`) stops its command when the pipe from here closes, which the kernel sees to even
    when this process is killed.
    """

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        """`variables`: of the environment, which the commands get beside ours."""
        self._variables = dict(variables or {})
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False
        self._lock = threading.Lock()

    def follow(self, command: list[str], on_line: Callable[[str], object], timeout_s: float | None = None) -> Ended:
        """Run a command to its end.

        Args:
            on_line: takes each line of its log, stderr among them, as it comes; empty ones are left out.
            timeout_s: seconds after which it is stopped with all its descendants.

        Raises:
            RunStopped: `stop` was called before.
        """
        started = time.monotonic()
        process = self._start(command)
        late = threading.Event()

        def cut_off() -> None:
            late.set()
            _let_go(process)

        timer = threading.Timer(timeout_s, cut_off) if timeout_s else None
        tail: deque[str] = deque(maxlen=LOG_TAIL_LINES)
        assert process.stdout is not None
        try:
            if timer:
                timer.start()
            for line in filter(None, map(str.rstrip, process.stdout)):
                tail.append(line)
                on_line(line)
            code = process.wait()
        finally:
            if timer:
                timer.cancel()
            _let_go(process)
            process.wait()
            process.stdout.close()
            with self._lock:
                self._running.discard(process)
        return Ended(code, late.is_set(), tuple(tail), time.monotonic() - started)

    def stop(self) -> None:
        """Stop all of them and let no other start; returns when they are gone."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            _let_go(process)
        for process in running:
            process.wait()

    def _start(self, command: list[str]) -> subprocess.Popen[str]:
        with self._lock:
            if self._stopped:
                raise RunStopped("not started: the run was stopped")
            process = subprocess.Popen(
                [sys.executable, supervise.__file__, *command],
                env={**_environment(), **self._variables},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            self._running.add(process)
            return process


def _let_go(process: subprocess.Popen[str]) -> None:
    """Close the lifeline: the supervisor ends the command."""
    assert process.stdin is not None
    process.stdin.close()


def _environment() -> dict[str, str]:
    """The caller's, with this interpreter's programs first: a scheduler's PATH may not hold them."""
    here = Path(sys.executable).parent
    path = os.pathsep.join([str(here), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", "SHELL": "/bin/sh"}
