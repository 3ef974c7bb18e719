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
import os
import random
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import kept
from ragline import io
from ragline.artifacts import LOCK, REPORT
from ragline.errors import RaglineError
from ragline.promotion import bundles
from ragline.runtime import lock_file, locks
from tests.fixtures.served import (
    ALL_END,
    CUTS,
    OVER,
    Place,
    begin,
    copy_flows,
    end_leases,
    orphans,
    over,
    served,
    state,
)
from tests.pipeline.tiny import file_name, write_project


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
    """Command lines of what still ran long after it."""
    champion_whole: bool
    """It was that of before the night or after it, with every file as its manifest has it."""
    by_hand: bool | None
    """Whether `dvc repro` by hand succeeded; None where nobody tried."""
    next: str
    """State of the next night."""
    equal: bool
    """Outputs are those of a night without a cut."""
    differing: list[str]
    """Outputs that are not."""


# --- nights ----------------------------------------------------------------------------------------


def end(place: Place, deployment: str) -> str:
    """Run a night to its end; returns its id."""
    night = begin(place, deployment)
    over(place, night)
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


def nights(place: Place, start: Path) -> Nights:
    """Cold, with nothing to do, and after a changed document; leaves the start of the third in `start`."""
    for folder in (place.project, start):
        shutil.rmtree(folder, ignore_errors=True)
    place.project.mkdir(parents=True)
    write_project(place.project)
    copy_flows(place.project)
    with served(place) as deployment:
        rows = [whole_night(place, deployment, label) for label in ("cold", "nothing to do")]
    page = place.project / "data" / "raw" / file_name(4)  # no gold question asks about it
    page.write_text(page.read_text(encoding="utf-8").replace("The default is 9 seconds", "The default is 11 seconds"))
    _copy(place.project, start)
    with served(place) as deployment:
        rows.append(whole_night(place, deployment, "one document changed"))
    return Nights(rows, _outputs(place.project))


def _outputs(project: Path) -> dict[str, str]:
    found = lock_file.outputs(lock_file.read_lock(project)) if (project / LOCK).is_file() else {}
    return {path: md5 for path, md5 in found.items() if path != str(REPORT)}


def _copy(source: Path, target: Path) -> None:
    """With times and hard links."""
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)


# --- cuts ------------------------------------------------------------------------------------------


def cut(place: Place, start: Path, kind: str, at_s: float, by_hand: bool, reference: dict[str, str]) -> Cut:
    """Cut one night and let the next one mend it; half as late where the night was over by then."""
    _copy(start, place.project)
    with served(place) as deployment:
        standing = {process.pid for process in place.processes()}
        night = begin(place, deployment)
        time.sleep(at_s)
        in_time = state(place, night)["type"] not in OVER
        if in_time:
            CUTS[kind](place, night)
        left = orphans(place, set() if in_time and kind in ALL_END else standing)
    if not in_time:
        return cut(place, start, kind, at_s / 2, by_hand, reference)
    champion_whole = _champion_whole(place)
    repaired = _by_hand(place) if by_hand else None
    end_leases(place.home)
    with served(place) as deployment:
        found = state(place, end(place, deployment))["name"]
        told = state(place, night)["name"]
    now = _outputs(place.project)
    differing = sorted(path for path in now.keys() | reference.keys() if now.get(path) != reference.get(path))
    return Cut(kind, round(at_s, 1), told, left, champion_whole, repaired, found, not differing, differing)


def _champion_whole(place: Place) -> bool:
    try:
        now = bundles.standing(place.project)
        return now is not None and bool(bundles.verify(bundles.folder(place.project, now.version)))
    except RaglineError:
        return False


def _by_hand(place: Place) -> bool:
    """What `make run` does."""
    locks.heal(place.project)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # as the nights: sums in another order differ in the last bits
    repro = subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], cwd=place.project, env=environment)
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
    for kind in CUTS:
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
    place = Place(work / "project", work / "prefect", work / "serve.log", given.port)
    start = work / "start"
    before = kept.once(work / "kept" / "nights.json", nights, place, start)
    print(night_table(before["rows"]), flush=True)
    rng = random.Random(given.seed)
    kinds = [list(CUTS)[number % len(CUTS)] for number in range(given.moments)]
    moments = [rng.uniform(0, before["rows"][-1]["seconds"]) for _ in kinds]
    cuts = []
    for number, (kind, at_s) in enumerate(zip(kinds, moments, strict=True)):
        file = work / "kept" / f"cut-{given.seed}-{number:02d}.json"
        cuts.append(kept.once(file, cut, place, start, kind, at_s, number % 4 == 3, before["outputs"]))
        print(cuts[-1], flush=True)
    print(cut_table(cuts))
    io.write_json({"nights": before["rows"], "cuts": cuts}, given.out)


if __name__ == "__main__":
    main()
