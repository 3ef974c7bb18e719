"""Runs whose processes were killed with everything that could have told Prefect: they would be Running for ever."""

from typing import Any

from prefect import State, get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas import FlowRun
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext
from prefect.states import Cancelled, Crashed

UNDER_WAY = [StateType.RUNNING, StateType.CANCELLING]


def close_killed() -> None:
    """Mark as Crashed what earlier runs of this deployment left under way; as Cancelled where that was asked for.

    The deployment's limit lets one run at a time begin: while this one runs, no other lives. A run without a
    deployment closes nothing.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None:
        return
    with get_client(sync_client=True) as client:
        deployment = FlowRunFilterDeploymentId(any_=[run.deployment_id])
        for left in _under_way(client, FlowRunFilter(deployment_id=deployment)):
            if left.id != run.id:
                asked = left.state is not None and left.state.is_cancelling()
                message = "its process was killed; found by a later run"
                state: State[Any] = Cancelled(message=message) if asked else Crashed(message=message)
                get_run_logger().warning("%s: its process was killed; the run is closed as %s", left.name, state.name)
                _close(client, left, state)


def _under_way(client: SyncPrefectClient, which: FlowRunFilter) -> list[FlowRun]:
    which.state = FlowRunFilterState(type=FlowRunFilterStateType(any_=UNDER_WAY))
    return client.read_flow_runs(flow_run_filter=which)


def _close(client: SyncPrefectClient, run: FlowRun, state: State[Any]) -> None:
    """The run after all that runs in it."""
    for inner in _under_way(client, FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id]))):
        _close(client, inner, state)
    tasks = client.read_task_runs(
        task_run_filter=TaskRunFilter(
            flow_run_id=TaskRunFilterFlowRunId(any_=[run.id]),
            state=TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.PENDING, *UNDER_WAY])),
        )
    )
    for task in tasks:
        client.set_task_run_state(task.id, state, force=True)
    client.set_flow_run_state(run.id, state, force=True)
