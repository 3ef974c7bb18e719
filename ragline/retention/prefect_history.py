"""Flow runs in Prefect's database, asked for and deleted through its API.

Prefect 3.8 deletes old events by itself, and old flow runs only where a server of its own lives long enough and is told
so; a night on a temporary server is never such.
"""

import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx

from ragline.errors import ServiceError

AT_ONCE = 50
"""Flow runs that the API deletes in one call."""
PAUSES_S = (1, 2, 4, 8)
"""Before further attempts while the server's SQLite is busy, which it says by status 503."""


def tag(root: Path) -> str:
    """What all flow runs of a project carry, and those of another on the same server do not: a digest of its place."""
    return f"ragline-{sha256(bytes(root.resolve())).hexdigest()[:12]}"


def forget(client: httpx.Client, api: str, own: str, now: datetime, days: int) -> int:
    """Delete a project's flow runs that ended so many days ago; returns their number.

    Raises:
        ServiceError: the server refused, or is not there.
    """
    runs = old(client, api, own, now, days)
    delete(client, api, runs)
    return len(runs)


def old(client: httpx.Client, api: str, own: str, now: datetime, days: int) -> list[str]:
    """Ids of a project's flow runs that ended so many days ago; logs and task runs go with them.

    Args:
        own: the project's tag; runs without it are not ours to delete.

    Raises:
        ServiceError: the server refused, or is not there.
    """
    return [run["id"] for run in _rows(client, f"{api}/flow_runs/filter", _ended(own, now, days))]


def delete(client: httpx.Client, api: str, runs: list[str]) -> None:
    """Delete flow runs, and before them their artifacts, which the API leaves behind.

    Raises:
        ServiceError: the server refused, or is not there; a further call deletes what is left.
    """
    for start in range(0, len(runs), AT_ONCE):
        some = runs[start : start + AT_ONCE]
        for artifact in _rows(client, f"{api}/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": some}}}):
            _send(client, "DELETE", f"{api}/artifacts/{artifact['id']}")
        _send(client, "POST", f"{api}/flow_runs/bulk_delete", {"flow_runs": {"id": {"any_": some}}})


def _ended(own: str, now: datetime, days: int) -> dict[str, Any]:
    before = (now - timedelta(days=days)).isoformat()
    return {
        "flow_runs": {
            "tags": {"all_": [own]},
            "state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}},
            "end_time": {"before_": before},
        },
        "sort": "ID_DESC",
    }


def _rows(client: httpx.Client, address: str, wanted: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while page := _send(client, "POST", address, {**wanted, "limit": 200, "offset": len(rows)}).json():
        rows += page
    yield from rows


def _send(client: httpx.Client, method: str, address: str, content: Mapping[str, Any] | None = None) -> httpx.Response:
    try:
        reply = client.request(method, address, json=content)
        for pause_s in PAUSES_S:
            if reply.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(pause_s)
            reply = client.request(method, address, json=content)
        if method != "DELETE" or reply.status_code != httpx.codes.NOT_FOUND:  # another cleaning was quicker
            reply.raise_for_status()
    except httpx.HTTPError as error:
        reason = str(error).partition("\n")[0]
        raise ServiceError(f"{address}: {type(error).__name__}: {reason}; see the log of Prefect's server") from error
    return reply
