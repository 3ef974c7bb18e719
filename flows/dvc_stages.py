"""The stages as DVC sees them, and one stage brought up to date. Works in the project's root; knows no Prefect."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import networkx
from dvc.repo import Repo
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, ValidationError

from ragline.errors import ConfigError, RaglineError
from ragline.runtime.params import Section

Outcome = Literal["Completed", "Restored", "Unchanged"]
"""It ran; its outputs came from DVC's cache; there was nothing to do."""

LOG_TAIL_LINES = 30
GRACE_S = 15.0

SAID_BY_DVC: dict[str, Outcome] = {
    "didn't change, skipping": "Unchanged",
    "is cached - skipping run": "Restored",
}


class StageFailed(RaglineError):
    """A stage's command failed; the message ends with the last lines of its log."""


class Orders(Section):
    """How Prefect treats a stage: `meta: {prefect: …}` in dvc.yaml. Changing it makes nothing stale."""

    retries: NonNegativeInt = 0
    """Further attempts after a failure."""
    retry_delay: NonNegativeFloat = 0
    """Seconds before each further attempt."""
    timeout: PositiveFloat | None = None
    """Seconds after which an attempt is stopped and counts as failed."""
    tags: tuple[str, ...] = ()
    """Prefect's tags, for filters and concurrency limits."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of dvc.yaml."""

    name: str
    description: str | None
    upstream: tuple[str, ...]
    """Stages whose outputs it reads."""
    orders: Orders
    stale: bool
    """Whether its own inputs, params, code or outputs differ from dvc.lock."""


def read_stages() -> list[Stage]:
    """All stages of dvc.yaml, each after those it reads from.

    The only use of DVC's Python interface, and read-only: one process and one lock instead of one for each stage.

    Raises:
        ConfigError: no pipeline here, or `meta.prefect` of a stage is wrong.
    """
    if not Path("dvc.yaml").is_file():
        raise ConfigError(f"{Path.cwd()}: no dvc.yaml here; run this in the project's root")
    with Repo(_wait_for_lock=True) as repo:
        graph = repo.index.graph  # edges run from a stage to what it reads from
        stale = set(repo.status())
        return [
            Stage(
                name=stage.name,
                description=stage.desc,
                upstream=tuple(sorted(other.name for other in graph.successors(stage) if other.cmd)),
                orders=_orders(stage.name, (stage.meta or {}).get("prefect", {})),
                stale=stage.name in stale,
            )
            for stage in networkx.dfs_postorder_nodes(graph)
            if stage.cmd
        ]


def _orders(stage: str, values: object) -> Orders:
    try:
        return Orders.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}, got {fault['input']!r}" for fault in error.errors()
        )
        raise ConfigError(f"dvc.yaml: {stage}.meta.prefect: {faults}") from None


def check_names(what: str, names: Collection[str], stages: Collection[Stage]) -> None:
    """Refuse names that no stage has.

    Raises:
        ConfigError: names them, and those that there are.
    """
    known = [stage.name for stage in stages]
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"{what}: no stage {', '.join(map(repr, unknown))}; expected some of {', '.join(known)}")


class Processes:
    """The stages that run now, each with its children, so that they can all be stopped together."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False
        self._lock = threading.Lock()

    def start(self, command: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
        """Start a command in a process group of its own; refused after `stop`.

        Raises:
            StageFailed: the run was stopped.
        """
        with self._lock:
            if self._stopped:
                raise StageFailed("not started: the run was stopped")
            process = subprocess.Popen(
                command,
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            self._running.add(process)
            return process

    def ended(self, process: subprocess.Popen[str]) -> None:
        """Forget a process that is over."""
        with self._lock:
            self._running.discard(process)

    def stop(self) -> None:
        """Stop all of them and let no other start."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            stop_group(process)


def stop_group(process: subprocess.Popen[str], grace_s: float = GRACE_S) -> None:
    """End a process and its children: SIGINT first, so that DVC gives its locks back, then harder."""
    with contextlib.suppress(ProcessLookupError):  # everybody is gone
        for sign in (signal.SIGINT, signal.SIGTERM):
            os.killpg(process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace_s)
                break
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def reproduce(stage: Stage, force: bool, on_line: Callable[[str], object], processes: Processes) -> Outcome:
    """Bring one stage up to date through DVC's command line; what it reads must be there already.

    Args:
        force: run its command even when nothing changed.
        on_line: takes each line of the log as it comes.

    Raises:
        StageFailed: the command failed, or ran past its timeout.
    """
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage.name]
    process = processes.start([*command, "--force"] if force else command, _environment())
    timeout_s, started = stage.orders.timeout, time.monotonic()
    timer = threading.Timer(timeout_s, stop_group, [process]) if timeout_s else None
    tail: deque[str] = deque(maxlen=LOG_TAIL_LINES)
    outcome: Outcome = "Completed"
    assert process.stdout is not None
    try:
        if timer:
            timer.start()
        for line in filter(None, map(str.rstrip, process.stdout)):
            outcome = next((said for words, said in SAID_BY_DVC.items() if words in line), outcome)
            tail.append(line)
            on_line(line)
        code = process.wait()
    finally:
        if timer:
            timer.cancel()
        if process.poll() is None:
            stop_group(process)
        processes.ended(process)
    if code:
        late = timeout_s is not None and time.monotonic() - started >= timeout_s
        reason = f"stopped after its {timeout_s:g} s" if late else f"exit {code}"
        raise StageFailed("\n".join([f"{stage.name}: {reason}; the end of its log:", *tail]))
    return outcome


def _environment() -> dict[str, str]:
    """The caller's, with this interpreter's programs first: a scheduler's PATH may not hold them."""
    here = Path(sys.executable).parent
    path = os.pathsep.join([str(here), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", "SHELL": "/bin/sh"}
