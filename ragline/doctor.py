"""Is this installation fit to run tonight? One finding for each thing that has to hold."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import httpx

from ragline.artifacts import PARAMS
from ragline.errors import ConfigError, RaglineError
from ragline.llm import calls
from ragline.retention.disk import over, taken, total
from ragline.retention.rules import rules
from ragline.runtime.environment import prefect_credentials
from ragline.runtime.params import read_params

SUPPORTED = ((3, 11), (3, 13))
PINS = Path("constraints.txt")
DISK_GB = 5.0
"""Free space below which a build may not end."""
TIMEOUT_S = 5.0
PREFECT = "http://127.0.0.1:4200/api"
"""Where Prefect's server is unless PREFECT_API_URL says otherwise."""

Mark = Literal["ok", "bad", "-"]
"""It holds; it does not; there was nothing to look at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    mark: Mark
    text: str

    @property
    def line(self) -> str:
        return f"{self.mark:<4}{self.subject:<10}{self.text}"


def examine(root: Path, environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Look at everything; nothing is changed, and nothing is asked but the servers that are configured."""
    with httpx.Client(timeout=TIMEOUT_S) as client:
        return [
            interpreter(sys.version_info[:2]),
            packages(root / PINS),
            params(root),
            disk(shutil.disk_usage(root).free),
            space(root),
            pipeline(root),
            *prefect(client, environment.get("PREFECT_API_URL")),
            *endpoints(client, root, environment),
        ]


def interpreter(found: tuple[int, int]) -> Finding:
    """Python's version."""
    low, high = SUPPORTED
    shown = f"{found[0]}.{found[1]}"
    if low <= found < high:
        return Finding("python", "ok", shown)
    return Finding("python", "bad", f"expected 3.11 or 3.12, got {shown}; make setup with another PYTHON")


def packages(pins: Path, installed: Callable[[str], str] = version) -> Finding:
    """Whether what is installed has the tested versions."""
    if not pins.is_file():
        return Finding("packages", "-", f"{pins}: not there, so nothing to compare with")
    seen, differ = 0, []
    for line in pins.read_text(encoding="utf-8").splitlines():
        name, _, pinned = line.partition("==")
        if not pinned or line.startswith("#"):
            continue
        try:
            found = installed(name)
        except PackageNotFoundError:
            continue  # an extra that is not installed
        seen += 1
        if found.partition("+")[0] != pinned:
            differ.append(f"{name} {found} instead of {pinned}")
    if differ:
        shown = ", ".join(differ[:5])
        return Finding("packages", "bad", f"{len(differ)} of {seen} differ from {pins.name}: {shown}; install with -c")
    return Finding("packages", "ok", f"{seen} as {pins.name} has them")


def params(root: Path) -> Finding:
    """Whether params.yaml can be read."""
    try:
        return Finding("params", "ok", f"{len(read_params(root / PARAMS))} sections")
    except RaglineError as error:
        return Finding("params", "bad", str(error))


def disk(free_bytes: int) -> Finding:
    """Room for outputs, caches and checkpoints."""
    free_gb = free_bytes / 2**30
    if free_gb >= DISK_GB:
        return Finding("disk", "ok", f"{free_gb:.1f} GB free")
    return Finding("disk", "bad", f"expected {DISK_GB:g} GB free, got {free_gb:.1f}; `ragline clean` makes room")


def space(root: Path) -> Finding:
    """What the project takes of its budget, by kind."""
    found = taken(root)
    try:
        passed = over(found, rules(root).disk_gb)
    except RaglineError as error:
        return Finding("space", "bad", str(error))
    return Finding("space", "bad" if passed else "ok", passed or total(found))


def pipeline(root: Path) -> Finding:
    """What DVC says; stages that are out of date are no fault, a state that it cannot read is."""
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    asked = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if asked.returncode:
        last = (asked.stderr.strip().splitlines() or ["no message"])[-1]
        return Finding("dvc", "bad", f"{last}; `python -m ragline.runtime.locks` mends locks of a killed run")
    stale = sorted(name.partition(":")[2] or name for name in json.loads(asked.stdout))
    return Finding("dvc", "ok", f"out of date: {', '.join(stale)}" if stale else "everything is up to date")


def prefect(client: httpx.Client, address: str | None) -> list[Finding]:
    """Whether the server answers, and whether every active schedule has runs planned.

    A server may be well and plan nothing, and then no night ever comes; so the planned runs themselves are asked for.
    """
    api = (address or PREFECT).rstrip("/")
    try:
        client.get(f"{api}/health").raise_for_status()
        deployments = _read(client, f"{api}/deployments/filter", {})
        planned = _read(client, f"{api}/flow_runs/filter", PLANNED)
    except httpx.HTTPError as error:
        if address is None:
            return [Finding("prefect", "-", f"no server at {api}; `make nightly` starts one")]
        return [Finding("prefect", "bad", f"{api}: {_why(error)}")]
    answers = Finding("prefect", "ok", f"{api} answers, {len(deployments)} deployments")
    return [answers, *(_schedule(d, planned) for d in deployments if d["schedules"])]


def reachable(address: str | None) -> str | None:
    """The API of the configured server; of the one here, if it answers, where none is configured."""
    if address:
        return address.rstrip("/")
    try:
        httpx.get(f"{PREFECT}/health", timeout=TIMEOUT_S).raise_for_status()
    except httpx.HTTPError:
        return None
    return PREFECT


PLANNED = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}, "sort": "EXPECTED_START_TIME_ASC", "limit": 200}


def _read(client: httpx.Client, address: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    reply = client.post(address, json=body, headers=prefect_credentials())
    reply.raise_for_status()
    rows: list[dict[str, Any]] = reply.json()
    return rows


def _schedule(deployment: Mapping[str, Any], planned: list[dict[str, Any]]) -> Finding:
    name = deployment["name"]
    if deployment["paused"] or not any(schedule["active"] for schedule in deployment["schedules"]):
        return Finding("schedule", "bad", f"{name}: paused; start `make nightly`, or resume it in Prefect")
    starts = [run["expected_start_time"] for run in planned if run["deployment_id"] == deployment["id"]]
    if not starts:
        return Finding("schedule", "bad", f"{name}: active, but no run is planned; see the log of Prefect's server")
    return Finding("schedule", "ok", f"{name}: {len(starts)} runs planned, the next one at {starts[0]}")


def endpoints(client: httpx.Client, root: Path, environment: Mapping[str, str]) -> list[Finding]:
    """Whether every endpoint that params.yaml makes use of is set, answers and takes its key; costs nothing."""
    try:
        wanted = asked(read_params(root / PARAMS))
    except ConfigError:
        return [Finding("endpoint", "-", f"{PARAMS} does not say which")]
    if not wanted:
        return [Finding("endpoint", "-", f"{PARAMS} asks no language model")]
    findings: list[Finding] = []
    uses: dict[calls.Endpoint, list[str]] = {}
    for use, prefixes in wanted.items():
        try:
            uses.setdefault(calls.endpoint(*prefixes, environment=environment), []).append(use)
        except ConfigError as error:
            findings.append(Finding("endpoint", "bad", f"{use}: {error}"))
    return findings + [endpoint(client, where, ", ".join(found)) for where, found in uses.items()]


def asked(content: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """What asks a language model behind an endpoint, to the prefixes of the variables that say where.

    Args:
        content: of params.yaml, as it was read.
    """

    def given(section: str, key: str) -> Any:
        values = content.get(section)
        return values.get(key) if isinstance(values, dict) else None

    wanted = {
        "generate_qa.llm": (given("generate_qa", "method") == "llm", calls.AUTHOR),
        "generate_qa.filter_model": (given("generate_qa", "filter_model") is not None, calls.FILTER),
        "train_generator.endpoint": (given("train_generator", "method") == "endpoint", calls.AUTHOR),
        "evaluate.judge": (given("evaluate", "judge") is not None, calls.JUDGE),
    }
    return {use: prefixes for use, (is_used, prefixes) in wanted.items() if is_used}


def endpoint(client: httpx.Client, where: calls.Endpoint, uses: str) -> Finding:
    """Whether an endpoint answers and takes its key."""
    shown = f"{uses}: {where.address}"
    try:
        client.get(f"{where.base_url.rstrip('/')}/models", headers=where.authorization).raise_for_status()
    except httpx.HTTPError as error:
        return Finding("endpoint", "bad", f"{shown}, as {where.prefix}_BASE_URL says: {_why(error)}")
    return Finding("endpoint", "ok", f"{shown} answers")


def _why(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"status {error.response.status_code}"
    return f"{type(error).__name__}: {error}"
