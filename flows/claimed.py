"""Flow runs of this project, told apart from those of others on the same server."""

from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext

from ragline.retention.prefect_history import tag


def claim() -> None:
    """Give the flow run that calls this the project's tag, by which cleaning knows what it may delete."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    own = tag(Path())
    if run is not None and own not in run.tags:  # runs of a deployment that we serve have it from the start
        with get_client(sync_client=True) as client:
            client.update_flow_run(run.id, tags=sorted({*run.tags, own}))
