"""What a night costs, and what is left of one that is cut.

    python -m bench.nights --work scratch --moments 20 --seed 0 --out nights.json

The small project of `tests.pipeline.tiny` is served as `make nightly` serves it: Prefect's server, deployment, DVC,
stages and gate are real. First come a cold night, one with nothing to do, and one after a document has changed. The
third is then repeated from the same start and cut at random moments of its length, in six ways by turns; each cut is
followed by another night, every fourth time after a `dvc repro` by hand. For up to five minutes after a kill Prefect
refuses that night, until the lease of the killed one is over: these minutes are not waited for, the lease is dated
back. Progress stays in `--work`: an interrupted bench goes on. Seconds are those of the flow, from Prefect.
"""

import argparse
import asyncio
import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
from prefect.server.concurrency.lease_storage.filesystem import ConcurrencyLeaseStorage

from bench import kept
from ragline import io
from ragline.artifacts import LOCK, REPORT
from ragline.errors import RaglineError
from ragline.promotion import bundles
from ragline.runtime import lock_file, locks
from tests.conftest import ROOT
from tests.pipeline.tiny import file_name, write_project

SERVED = ("flows", "prefect.yaml", "pyproject.toml")
"""What nights need besides what `dvc repro` needs."""
SERVER, NIGHTS = "prefect server start", "flows.nightly --serve"
"""What the two processes of `flows.serve` have in their command lines."""
PATIENCE_S = 3600.0
"""For a night, and for a server to come up."""
GONE_S = 90.0
"""After a cut, until every process of the night has to be gone."""
SLOT_S = 120.0
"""Until Prefect has to let a night begin: it looks for leases that are over every 15 s."""


@dataclass(frozen=True)
class Night:
    """One that ran to its end."""

    label: str
    ended: str
    seconds: float
    stages: dict[str, str]
    """Stage → state."""
    encoded: int
    """Passages."""
    lock_written: bool


@dataclass(frozen=True)
class Nights:
    """The nights before any cut."""

    rows: list[Night]
    outputs: dict[str, str]
    """Path → md5 after the last one; without the report, which shows seconds."""


@dataclass(frozen=True)
class Cut:
    """A night that was cut, and the one after it."""

    kind: str
    at_s: float
    state: str
    """What Prefect calls the night that was cut, when the next one is over."""
    orphans: list[str]
    """Command lines of what still ran after `GONE_S`."""
    champion_whole: bool
    """It was that of before the night or after it, with every file as its manifest has it."""
    by_hand: bool | None
    """Whether `dvc repro` by hand succeeded; None where nobody tried."""
    next: str
    """State of the next night."""
    equal: bool
    """Outputs are those of a night without a cut."""


# --- one served project ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where the bench works."""

    work: Path
    port: int

    @property
    def project(self) -> Path:
        return self.work / "project"

    @property
    def start(self) -> Path:
        """The project as it is before each night that is cut."""
        return self.work / "start"

    @property
    def home(self) -> Path:
        """Prefect's."""
        return self.work / "prefect"

    @property
    def log(self) -> Path:
        return self.work / "serve.log"

    def ask(self, path: str, **body: Any) -> Any:
        """POST to Prefect's API, GET where there is no body; retried while the server starts."""
        address = f"http://127.0.0.1:{self.port}/api/{path}"
        answer = httpx.post(address, json=body, timeout=300) if body else httpx.get(address, timeout=300)
        return answer.raise_for_status().json()

    def processes(self) -> list[psutil.Process]:
        """All that work in the project."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.cwd() == str(self.project) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def named(self, words: str) -> list[psutil.Process]:
        """Those with these words in their command line, their supervisors left out."""
        return [p for p in self.processes() if words in " ".join(p.cmdline()) and "supervise.py" not in p.cmdline()[1]]

    def flow(self) -> psutil.Process:
        """The process in which the night runs."""
        (nights,) = self.named(NIGHTS)
        return next(p for p in nights.children() if "resource_tracker" not in " ".join(p.cmdline()))

    def outputs(self) -> dict[str, str]:
        found = lock_file.outputs(lock_file.read_lock(self.project)) if (self.project / LOCK).is_file() else {}
        return {path: md5 for path, md5 in found.items() if path != str(REPORT)}


def until(happened: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    """What `happened` returns, once that is true; errors of a server that is not there yet count as false."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError, psutil.Error):
            if found := happened():
                return found
        time.sleep(0.2)
    raise TimeoutError(f"{happened}: not in {seconds:g} s")


@contextlib.contextmanager
def served(place: Place) -> Iterator[str]:
    """The project as `make nightly` serves it, unless it is served already; yields the deployment's id."""
    environment = {
        **os.environ,
        "PREFECT_HOME": str(place.home),
        "PREFECT_SERVER_API_PORT": str(place.port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("PREFECT_API_URL", None)
    with place.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.serve"], cwd=place.project, env=environment, stdout=log, stderr=log
        )
    try:
        until(lambda: place.named(NIGHTS))
        yield until(lambda: place.ask("deployments/name/nightly/nightly"))["id"]
    finally:
        process.terminate()
        process.wait()


def begin(place: Place, deployment: str) -> str:
    """Ask for a night now, anew while Prefect refuses it; returns its id once it runs, or is over."""

    def begun() -> str | None:
        night = str(place.ask(f"deployments/{deployment}/create_flow_run", state={"type": "SCHEDULED"})["id"])
        until(lambda: state(place, night)["type"] not in ("SCHEDULED", "PENDING"))
        return None if state(place, night)["type"] == "CANCELLED" else night

    return str(until(begun, SLOT_S))


def end_leases(home: Path) -> None:
    """Let the time pass for which Prefect keeps the slots of runs that were killed."""
    storage = ConcurrencyLeaseStorage(home / "concurrency_leases")
    for lease in asyncio.run(storage.read_active_lease_ids()):
        asyncio.run(storage.renew_lease(lease, timedelta()))


def state(place: Place, night: str) -> dict[str, Any]:
    """A night's state, as Prefect has it now."""
    found: dict[str, Any] = place.ask(f"flow_runs/{night}")["state"]
    return found


def end(place: Place, deployment: str) -> str:
    """Run a night to its end; returns its id."""
    night = begin(place, deployment)
    until(lambda: state(place, night)["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"))
    return night


def whole_night(place: Place, deployment: str, label: str) -> Night:
    """One that nobody cuts."""
    lock, said = place.project / LOCK, place.log.stat().st_size
    before = lock.stat().st_mtime_ns if lock.is_file() else 0
    night = end(place, deployment)
    runs = place.ask("flow_runs/filter", flow_runs={"parent_flow_run_id": {"any_": [night]}})
    ids = [run["id"] for run in runs if run["name"]]
    tasks = place.ask("task_runs/filter", task_runs={"flow_run_id": {"any_": ids}}, sort="END_TIME_DESC")
    with place.log.open("rb") as log:
        log.seek(said)
        encoded = sum(map(int, re.findall(rb"from the store, (\d+) encoded", log.read())))
    ran = place.ask(f"flow_runs/{night}")
    return Night(
        label=label,
        ended=ran["state"]["name"],
        seconds=round(ran["total_run_time"], 1),
        stages={task["name"]: task["state"]["name"] for task in reversed(tasks)},
        encoded=encoded,
        lock_written=lock.stat().st_mtime_ns != before,
    )


# --- nights ----------------------------------------------------------------------------------------


def nights(place: Place) -> Nights:
    """Cold, with nothing to do, and after a changed document; leaves the start of the third in `place.start`."""
    for folder in (place.project, place.start):
        shutil.rmtree(folder, ignore_errors=True)
    place.project.mkdir(parents=True)
    write_project(place.project)
    for name in SERVED:
        source = ROOT / name
        copy: Callable[..., Any] = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, place.project / name)
    with served(place) as deployment:
        rows = [whole_night(place, deployment, label) for label in ("cold", "nothing to do")]
    page = place.project / "data" / "raw" / file_name(4)  # no gold question asks about it
    page.write_text(page.read_text(encoding="utf-8").replace("The default is 9 seconds", "The default is 11 seconds"))
    _copy(place.project, place.start)
    with served(place) as deployment:
        rows.append(whole_night(place, deployment, "one document changed"))
    return Nights(rows, place.outputs())


def _copy(source: Path, target: Path) -> None:
    """With times and hard links."""
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)


# --- cuts ------------------------------------------------------------------------------------------


def _kill_all(processes: list[psutil.Process]) -> None:
    """At once: nobody sees another die."""
    for sign in (signal.SIGSTOP, signal.SIGKILL):
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(sign)


KINDS: dict[str, Callable[[Place, str], object]] = {
    "SIGINT": lambda place, night: place.flow().send_signal(signal.SIGINT),
    "SIGTERM": lambda place, night: place.flow().send_signal(signal.SIGTERM),
    "cancelled": lambda place, night: place.ask(f"flow_runs/{night}/set_state", state={"type": "CANCELLING"}),
    "worker killed": lambda place, night: _kill_all(place.named(NIGHTS)),
    "server killed": lambda place, night: _kill_all(place.named(SERVER)),
    "machine cut": lambda place, night: _kill_all(place.processes()),
}
ALL_END = ("worker killed", "server killed", "machine cut")
"""After these the process of `flows.serve` ends, too."""


def cut(place: Place, kind: str, at_s: float, by_hand: bool, reference: dict[str, str]) -> Cut:
    """Cut one night and let the next one mend it."""
    _copy(place.start, place.project)
    with served(place) as deployment:
        standing = {process.pid for process in place.processes()}
        night = begin(place, deployment)
        time.sleep(at_s)
        with contextlib.suppress(StopIteration, ValueError):  # the night was over already
            KINDS[kind](place, night)
        orphans = _left(place, set() if kind in ALL_END else standing)
    champion_whole = _champion_whole(place)
    repaired = _by_hand(place) if by_hand else None
    end_leases(place.home)
    with served(place) as deployment:
        found = state(place, end(place, deployment))["name"]
        told = state(place, night)["name"]
    equal = place.outputs() == reference
    return Cut(kind, round(at_s, 1), told, orphans, champion_whole, repaired, found, equal)


def _left(place: Place, standing: set[int]) -> list[str]:
    """Command lines of what runs, `standing` aside, when it should long be gone."""

    def left() -> list[str]:
        found = []
        for process in place.processes():
            with contextlib.suppress(psutil.Error):
                words = " ".join(process.cmdline())
                helper = (
                    "resource_tracker" in words and process.ppid() in standing
                )  # of the server, as it starts nights
                if process.pid not in standing and not helper:
                    found.append(words)
        return found

    with contextlib.suppress(TimeoutError):
        until(lambda: not left(), GONE_S)
    return left()


def _champion_whole(place: Place) -> bool:
    try:
        now = bundles.standing(place.project)
        return now is not None and bool(bundles.verify(bundles.folder(place.project, now.version)))
    except RaglineError:
        return False


def _by_hand(place: Place) -> bool:
    """What `make run` does."""
    locks.heal(place.project)
    repro = subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], cwd=place.project)
    return repro.returncode == 0


# --- tables ----------------------------------------------------------------------------------------


def night_table(rows: list[dict[str, Any]]) -> str:
    """`Night`s as Markdown."""
    lines = ["| night | ended | seconds in the flow | stages that ran | passages encoded | dvc.lock written |"]
    lines.append("|---|---|---:|---|---:|---|")
    for row in rows:
        ran = ", ".join(name for name, ended in row["stages"].items() if ended != "Unchanged") or "none"
        written = "yes" if row["lock_written"] else "no"
        lines.append(f"| {row['label']} | {row['ended']} | {row['seconds']} | {ran} | {row['encoded']} | {written} |")
    return "\n".join(lines)


def cut_table(cuts: list[dict[str, Any]]) -> str:
    """`Cut`s as Markdown, a row a kind."""
    lines = ["| cut | nights | with orphans | champion whole | next one completed | outputs equal |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    for kind in KINDS:
        if mine := [one for one in cuts if one["kind"] == kind]:
            counts = [
                len(mine),
                sum(bool(one["orphans"]) for one in mine),
                sum(one["champion_whole"] for one in mine),
                sum(one["next"] in ("Promoted", "Kept", "Unchanged") for one in mine),
                sum(one["equal"] for one in mine),
            ]
            lines.append(f"| {kind} | {' | '.join(map(str, counts))} |")
    by_hand = [one["by_hand"] for one in cuts if one["by_hand"] is not None]
    return "\n".join([*lines, "", f"`dvc repro` by hand after a cut: {sum(by_hand)} of {len(by_hand)} succeeded"])


def main() -> None:
    """Nights, then cuts; prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=4290)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    work = given.work.resolve()
    (work / "kept").mkdir(parents=True, exist_ok=True)
    place = Place(work, given.port)
    before = kept.once(work / "kept" / "nights.json", nights, place)
    print(night_table(before["rows"]), flush=True)
    rng = random.Random(given.seed)
    kinds = [list(KINDS)[number % len(KINDS)] for number in range(given.moments)]
    moments = [rng.uniform(0, before["rows"][-1]["seconds"]) for _ in kinds]
    cuts = []
    for number, (kind, at_s) in enumerate(zip(kinds, moments, strict=True)):
        file = work / "kept" / f"cut-{given.seed}-{number:02d}.json"
        cuts.append(kept.once(file, cut, place, kind, at_s, number % 4 == 3, before["outputs"]))
        print(cuts[-1], flush=True)
    print(cut_table(cuts))
    io.write_json({"nights": before["rows"], "cuts": cuts}, given.out)


if __name__ == "__main__":
    main()
