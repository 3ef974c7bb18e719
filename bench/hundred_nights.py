"""What a hundred nights leave on disk: `python -m bench.hundred_nights --work DIR --out FILE`.

The small corpus of the tests. Every night one document is edited, added or removed; every tenth night nothing changes.
A stand-in for the stages writes outputs of fixed sizes (16 MB of weights, 3 MB besides) with other bytes every night,
and commits them to DVC. All else that grows is real: DVC's cache and run cache, the gate with its versions (every third
night is promoted by hand), the publication to MLflow, the commit in git, cleaning. Every `--flows` nights, these are
steps of Prefect's flow on a server with a database of its own; in the other nights this process calls them. A night is
a day: what is kept by its age gets a day older before each.

A line a night goes to `--out`, and what Prefect logs to a file beside it; an interrupted bench goes on where it was.
"""

import argparse
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from dvc.repo import Repo

from ragline import builds, comparing, io, recording, tracking
from ragline.artifacts import (
    ANSWERING,
    CHECKPOINTS,
    GENERATOR,
    METRICS,
    OUTPUTS,
    PARAMS,
    PREDICTIONS,
    RAW,
    RETRIEVER,
    VECTOR_STORE,
)
from ragline.promotion.gate import gate
from ragline.retention import clean, disk
from tests.fixtures import promotable
from tests.pipeline.tiny import write_project

SHOWN = (1, 10, 30, 60, 100)
DAY = 86_400
QUIET = 10
"""Every so many nights nothing has changed."""
DATABASE = Path(".prefect/prefect.db")
SIZES = {RETRIEVER: 12_000_000, GENERATOR: 4_000_000}
"""Bytes of weights; every other output that is not written below has `SMALL`."""
SMALL = 100_000
QUESTIONS_ASKED = 60
FLOW_S = 900
"""Seconds that a flow gets; a minute is usual."""
SETTINGS = {
    # Prefect looks for old events once an hour, 24 times in a day; in a night of seconds it has to be quicker.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": "20",
    # The code here in every process: the project's copy is as old as its first night, and would come first.
    "PYTHONPATH": str(Path(__file__).parents[1]),
    "PYTHONSAFEPATH": "1",
}


def main() -> None:
    """Run the nights that are left, and print the table of all."""
    parser = argparse.ArgumentParser(prog="python -m bench.hundred_nights", description="Disk after many nights.")
    parser.add_argument("--work", type=Path, required=True, help="folder for the project")
    parser.add_argument("--out", type=Path, required=True, help="a line of JSON for each night")
    parser.add_argument("--nights", type=int, default=100)
    parser.add_argument("--flows", type=int, default=25, help="every so many nights are Prefect's (default: 25)")
    options = parser.parse_args()
    out = options.out.resolve()
    if not _rows(out):
        _project(options.work)
    os.chdir(options.work)
    for number in range(len(_rows(out)) + 1, options.nights + 1):
        started = time.process_time()
        flow = number % options.flows == 0
        ended = _night(number, out.with_suffix(".log") if flow else None)
        cpu_s = round(time.process_time() - started, 1)
        row = {"night": number, "ended": ended, "flow": flow, "cpu_s": cpu_s, **_taken()}
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    print("\n".join(table(_rows(out))))


def _rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] if out.is_file() else []


def _taken() -> dict[str, int]:
    return {**disk.taken(Path()), "git": sum(map(disk.size, Path(".git").rglob("*")))}


def _project(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_project(folder)
    params = folder / PARAMS
    params.write_text(params.read_text(encoding="utf-8").replace("{set: gold,", "{set: test,"), encoding="utf-8")
    ignored = "/.dvc/tmp\n/.dvc/cache\n.cache/\n.ragline/\n.prefect/\nmlruns/\nmlflow.db\n/data/\n/models/\n/reports/\n"
    (folder / ".gitignore").write_text(ignored, encoding="utf-8")
    subprocess.run(["git", "-C", folder, "add", "."], check=True)
    who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    subprocess.run(["git", "-C", folder, *who, "commit", "-qm", "the project"], check=True)


def _night(number: int, log: Path | None) -> str:
    """Returns how it ended; as a flow where there is a log for it."""
    _age()
    built = number % QUIET != 0
    if built:
        _edit(number)
        _stand_in(number)
    if log:
        return _flow(log)
    decision = gate(Path(), anyway=built and number % 3 == 0)
    if built:
        tracking.publish(Path())
        recording.record(Path(), f"night: {decision.reason}")
        clean.clean(Path(), dry=False, prefect=None)
    return "Promoted" if decision.promoted else "Kept"


def _flow(log: Path) -> str:
    """The night's steps as Prefect runs them, in a process of their own, with a server while they last."""
    command = [sys.executable, "-c", "from bench.hundred_nights import as_flow; as_flow()"]
    given = {**os.environ, **SETTINGS, "PREFECT_HOME": str(DATABASE.parent.resolve())}
    with log.open("a", encoding="utf-8") as lines:
        try:
            ended = subprocess.run(command, env=given, stdout=subprocess.PIPE, stderr=lines, text=True, timeout=FLOW_S)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"the flow was not over after {FLOW_S} s; see {log}") from None
    if ended.returncode:
        raise SystemExit(f"the flow ended with {ended.returncode}; see {log}")
    return ended.stdout.splitlines()[-1]


def as_flow() -> None:
    """All of a night but what the stand-in did before; prints how it ended, and what went wrong."""
    from prefect import flow
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows import nightly, serve
    from flows.claimed import claim
    from flows.pipeline import pipeline

    @flow(name="nightly")
    def night() -> str:
        claim()
        before = builds.served(Path())
        pipeline(return_state=True)
        decision = nightly.judge()
        warnings = nightly.keep(decision.reason, recorded=True, pushed=False)
        after = builds.last(Path())
        nightly.show(comparing.compare("champion", before, after) if before and after else None)
        return "; ".join(["Promoted" if decision.promoted else "Kept", *warnings])

    port = int(os.environ.get("PREFECT_SERVER_API_PORT", "4271"))
    with serve.server(port) as (api, _), temporary_settings({PREFECT_API_URL: api}):
        ended = night()
    print(ended)  # after all that the server prints


def _edit(number: int) -> None:
    """Change one document: in turns edited, added, edited, removed."""
    documents = sorted(RAW.glob("*.md"))
    added = RAW / "added.md"
    kind = number % 4
    if kind == 1:
        added.write_text(f"# Added page {number}\n\nThe page of night {number} says nothing new.\n", encoding="utf-8")
    elif kind == 3 and added.exists():
        added.unlink()
    else:
        document = documents[number % len(documents)]
        text = document.read_text(encoding="utf-8").partition("\n\nAs of night")[0]
        document.write_text(f"{text}\n\nAs of night {number}, nothing has changed.\n", encoding="utf-8")


def _stand_in(number: int) -> None:
    """Leave outputs as a rebuild would: other bytes, the same sizes; then DVC's lock, cache and run cache."""
    for path in (path for outputs in OUTPUTS.values() for path in outputs):
        file = path if path.suffix else path / "weights.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(np.random.default_rng([number, len(str(file))]).bytes(SIZES.get(path, SMALL)))
    rank = 1 + number % 7
    rows = [promotable.row(question, rank, 0.5) for question in range(QUESTIONS_ASKED)]
    io.write_frame({name: [row[name] for row in rows] for name in rows[0]}, PREDICTIONS)
    io.write_json({"answerer": "extractive", "reranker": None}, ANSWERING)
    io.write_json({"test": {"n": QUESTIONS_ASKED, "rank": rank}, "night": number}, METRICS)
    for path in (path for outputs in OUTPUTS.values() for path in outputs if path.suffix in (".json", ".csv")):
        if path not in (ANSWERING, METRICS):
            path.write_text(f"step,loss\n{number},0.5\n" if path.suffix == ".csv" else f'{{"night": {number}}}')
    with Repo() as repo:
        repo.commit(force=True)


def _age() -> None:
    """Let a day pass for all that is kept by its age."""
    for folder in (Path(".dvc/cache/runs"), CHECKPOINTS, VECTOR_STORE):
        for path in folder.rglob("*"):
            seen = path.stat()
            os.utime(path, (seen.st_atime - DAY, seen.st_mtime - DAY))
    if DATABASE.is_file():
        with contextlib.closing(sqlite3.connect(DATABASE, timeout=60)) as connection, connection:
            for table, column in (("flow_run", "end_time"), ("events", "occurred"), ("event_resources", "occurred")):
                earlier = f"strftime('%Y-%m-%d %H:%M:%f000', {column}, '-1 day')"
                connection.execute(f"UPDATE {table} SET {column} = {earlier} WHERE {column} IS NOT NULL")


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Megabytes by kind after some nights, and what the last half grew by per night (least squares)."""
    kinds = [name for name in rows[-1] if name not in ("night", "ended", "flow", "cpu_s")]
    some = [row for row in rows if row["night"] in SHOWN or row is rows[-1]]
    late = rows[len(rows) // 2 :]
    lines = [
        "| MB | " + " | ".join(f"night {row['night']}" for row in some) + " | a night, last half |",
        "|---|" + "---:|" * (len(some) + 1),
    ]
    for kind in [*kinds, "all"]:
        value = {row["night"]: sum(row[k] for k in kinds) if kind == "all" else row[kind] for row in rows}
        cells = [f"{value[row['night']] / 1e6:,.1f}" for row in some]
        lines.append(f"| {kind} | {' | '.join(cells)} | {_slope([value[row['night']] for row in late]) / 1e6:+.3f} |")
    return lines


def _slope(values: list[int]) -> float:
    centre = (len(values) - 1) / 2
    spread = sum((at - centre) ** 2 for at in range(len(values)))
    return sum((at - centre) * value for at, value in enumerate(values)) / spread if spread else 0.0


if __name__ == "__main__":
    main()
