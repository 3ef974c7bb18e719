"""The pipeline as a Prefect flow, a task for each DVC stage: `python -m flows.pipeline`.

The graph is read from DVC, and DVC alone decides what runs; `dvc repro` needs none of this.
"""

import argparse
import sys
from typing import Any

from prefect import State, flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, wait
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import Task

from flows.dvc_stages import Outcome, Processes, Stage, StageFailed, check_names, read_stages, reproduce
from ragline.runtime.locks import heal

MESSAGES: dict[Outcome, str] = {
    "Completed": "its command ran",
    "Restored": "its outputs came from DVC's cache",
    "Unchanged": "inputs, params, code and outputs match dvc.lock",
}


def stage_task(stage: Stage, force: bool, processes: Processes) -> Task[[dict[str, Outcome]], State[Outcome]]:
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
    def bring_up_to_date(upstream: dict[str, Outcome]) -> State[Outcome]:
        """Ends as Completed, Restored, Unchanged or Failed; known to be unchanged, it starts no process."""
        if not (stage.stale or force) and set(upstream.values()) <= {"Unchanged"}:
            outcome: Outcome = "Unchanged"
        else:
            try:
                outcome = reproduce(stage, force, get_run_logger().info, processes)
            except StageFailed as error:  # as a state: the log speaks for itself, our traceback would bury it
                return Failed(message=str(error))
        return Completed(name=outcome, message=MESSAGES[outcome], data=outcome)

    return bring_up_to_date


@flow(name="ragline", task_runner=ThreadPoolTaskRunner())
def pipeline(force: list[str] | None = None, only: list[str] | None = None) -> dict[str, str] | State[Any]:
    """Bring every stage up to date.

    Args:
        force: stages whose command runs even when nothing changed.
        only: touch these stages alone and take what they read as it lies there; all when empty.

    Returns:
        How each stage ended, by name; a Failed state that names those which were not built.

    Raises:
        ConfigError: a name that no stage has.
    """
    if healed := heal():
        get_run_logger().warning(healed)
    stages = read_stages()
    check_names("force", force or [], stages)
    check_names("only", only or [], stages)

    processes = Processes()
    futures: dict[str, PrefectFuture[State[Outcome]]] = {}
    try:
        for stage in stages:
            if not only or stage.name in only:
                upstream = {name: futures[name] for name in stage.upstream if name in futures}
                build = stage_task(stage, stage.name in (force or []), processes)
                futures[stage.name] = build.submit(upstream)
        wait(list(futures.values()))
    finally:
        processes.stop()

    ended = {name: str(future.state.name) for name, future in futures.items()}
    create_markdown_artifact(key="stages", markdown=table(ended), description="How each stage ended")
    if failed := [f"{name} ({state})" for name, state in ended.items() if not futures[name].state.is_completed()]:
        return Failed(message=f"not built: {', '.join(failed)}; their logs say why")
    return ended


def table(ended: dict[str, str]) -> str:
    """Stages and how they ended, as Markdown."""
    return "\n".join(["| stage | ended |", "|---|---|", *(f"| {name} | {state} |" for name, state in ended.items())])


def main() -> int:
    """Run the flow with Prefect's own temporary server, or the one PREFECT_API_URL names."""
    parser = argparse.ArgumentParser(prog="python -m flows.pipeline", description="Run the pipeline under Prefect.")
    parser.add_argument("--force", nargs="+", metavar="STAGE", help="run these even when nothing changed")
    parser.add_argument("--only", nargs="+", metavar="STAGE", help="touch these stages alone")
    options = parser.parse_args()
    state = pipeline(force=options.force, only=options.only, return_state=True)
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    sys.exit(main())
