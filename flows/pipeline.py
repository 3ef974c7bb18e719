"""The pipeline as a Prefect flow, a task for each DVC stage: `python -m flows.pipeline`.

The graph is read from DVC, and DVC alone decides what runs; `dvc repro` needs none of this.
"""

import argparse
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect import State, flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, wait
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import Task

from flows.claimed import claim
from flows.dvc_stages import (
    Outcome,
    Stage,
    StageFailed,
    check_names,
    read_mended,
    reproduce,
)
from flows.killed import close_killed
from flows.processes import Processes
from flows.room import Room, free_megabytes, last_peak
from ragline.runtime.locks import heal, only_run

MESSAGES: dict[Outcome, str] = {
    "Completed": "its command ran",
    "Restored": "its outputs came from DVC's cache",
    "Unchanged": "inputs, params, code and outputs match dvc.lock",
}


@dataclass(frozen=True, slots=True)
class Built:
    """How a stage ended."""

    outcome: Outcome
    seconds: float
    """Of the attempt that succeeded, waiting for memory left out."""


def stage_task(
    stage: Stage, force: bool, processes: Processes, room: Room
) -> Task[[Mapping[str, Built]], State[Built]]:
    """A stage as a task, with the description, retries and tags that dvc.yaml gives it."""

    @task(
        name=stage.name,
        task_run_name=stage.name,
        description=stage.description,
        tags=stage.orders.tags,
        retries=stage.orders.retries,
        retry_delay_seconds=stage.orders.retry_delay,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def bring_up_to_date(upstream: Mapping[str, Built]) -> State[Built]:
        """Ends as Completed, Restored, Unchanged or Failed; known to be unchanged, it starts no process."""
        if not (stage.stale or force) and all(built.outcome == "Unchanged" for built in upstream.values()):
            built = Built("Unchanged", 0.0)
        else:
            with room.take(last_peak(stage.name)):
                started = time.monotonic()
                try:
                    outcome = reproduce(stage, force, get_run_logger().info, processes)
                except StageFailed as error:  # as a state: the log speaks for itself, our traceback would bury it
                    return Failed(message=str(error))
                built = Built(outcome, time.monotonic() - started)
        return Completed(name=built.outcome, message=MESSAGES[built.outcome], data=built)

    return bring_up_to_date


@flow(name="ragline", task_runner=ThreadPoolTaskRunner())
def pipeline(force: list[str] | None = None, only: list[str] | None = None) -> dict[str, str] | State[Any]:
    """Bring every stage up to date, side by side where the graph and memory allow.

    Args:
        force: stages whose command runs even when nothing changed.
        only: touch these stages alone and take what they read as it lies there; all when empty.

    Returns:
        How each stage ended, by name; a Failed state that names those which were not built.

    Raises:
        ConfigError: a name that no stage has.
        ServiceError: another run of this project is under way.
    """
    claim()
    close_killed()
    with only_run():
        warn = get_run_logger().warning
        if mended := heal():
            warn(mended)
        return _build(read_mended(warn), force or [], only or [])


def _build(stages: list[Stage], force: list[str], only: list[str]) -> dict[str, str] | State[Any]:
    check_names("force", force, stages)
    check_names("only", only, stages)
    processes, room = Processes(), Room(free_megabytes())
    futures: dict[str, PrefectFuture[State[Built]]] = {}
    try:
        for stage in stages:
            if not only or stage.name in only:
                upstream = {name: futures[name] for name in stage.upstream if name in futures}
                build = stage_task(stage, stage.name in force, processes, room)
                futures[stage.name] = build.submit(upstream)
        wait(list(futures.values()))
    finally:
        processes.stop()

    ended = {name: str(future.state.name) for name, future in futures.items()}
    built = {name: future.result() for name, future in futures.items() if future.state.is_completed()}
    seconds = {name: found.seconds for name, found in built.items()}
    create_markdown_artifact(key="stages", markdown=table(ended, seconds), description="How each stage ended")
    if failed := {name: future.state for name, future in futures.items() if name not in built}:
        names = ", ".join(f"{name} ({state.name})" for name, state in failed.items())
        why = [str(state.message) for state in failed.values() if state.is_failed()]
        return Failed(message="\n".join([f"not built: {names}", *why]))
    return ended


def table(ended: Mapping[str, str], seconds: Mapping[str, float]) -> str:
    """Stages, how they ended and what they took, as Markdown."""
    rows = [f"| {name} | {state} | {_shown(seconds.get(name))} |" for name, state in ended.items()]
    return "\n".join(["| stage | ended | seconds |", "|---|---|---:|", *rows])


def _shown(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f}"


def main() -> int:
    """Run the flow with Prefect's own temporary server, or the one PREFECT_API_URL names."""
    parser = argparse.ArgumentParser(prog="python -m flows.pipeline", description="Run the pipeline under Prefect.")
    parser.add_argument("--force", nargs="+", metavar="STAGE", help="run these even when nothing changed")
    parser.add_argument("--only", nargs="+", metavar="STAGE", help="touch these stages alone")
    options = parser.parse_args()
    try:
        state = pipeline(force=options.force, only=options.only, return_state=True)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    sys.exit(main())
