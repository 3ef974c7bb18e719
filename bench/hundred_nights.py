"""What a hundred nights leave on disk: `python -m bench.hundred_nights --work DIR [--nights 100] [--real 1]`.

The small corpus of the tests. Every night one document is edited, added or removed; every tenth night nothing changes.
The first `--real` nights are whole ones, every stage run by the flow. In the others a stand-in for the stages rewrites
their outputs in place, with bytes that differ and sizes that stay, and commits them to DVC in this process; everything
about the night that grows is real: Prefect's flow on a server with a database of its own, the gate with its versions,
the publication to MLflow, the record in git, cleaning. A night is a day: what is there ages by a day before each.

A row a night goes to `--out`; an interrupted bench goes on where it was.
"""

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ragline import builds, comparing, io
from ragline.artifacts import METRICS, OUTPUTS, PREDICTIONS, RAW
from ragline.retention import disk

SHOWN = (1, 10, 30, 60, 100)
DAY = 86_400
QUIET = 10
"""Every so many nights nothing has changed."""
BULKY = {".safetensors", ".parquet", ".npy", ".faiss", ".html", ".trec", ".bin"}
"""Files that a rebuild changes, and that nothing here reads."""
SETTINGS = {"PREFECT_LOGGING_LEVEL": "WARNING", "PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": "60"}
"""Prefect looks for old events once an hour, 24 times in a day: more often than once in a night of seconds, too."""


def main() -> None:
    """Run the nights that are left, and print the table of all."""
    parser = argparse.ArgumentParser(prog="python -m bench.hundred_nights", description="Disk after many nights.")
    parser.add_argument("--work", type=Path, required=True, help="folder for the project")
    parser.add_argument("--nights", type=int, default=100)
    parser.add_argument("--real", type=int, default=1, help="nights whose stages run (default: 1)")
    parser.add_argument("--out", type=Path, required=True, help="a line of JSON for each night")
    options = parser.parse_args()
    out = options.out.resolve()
    rows = _rows(out)
    if not rows:
        _project(options.work)
    os.chdir(options.work)
    with _server() as environment:
        for night in range(len(rows) + 1, options.nights + 1):
            started = time.monotonic()
            ended = _night(night, night <= options.real, environment)
            row = {"night": night, "ended": ended, "seconds": round(time.monotonic() - started, 1), **_taken()}
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    print("\n".join(table(_rows(out))))


def _rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] if out.is_file() else []


def _taken() -> dict[str, int]:
    return {**disk.taken(Path()), "git": sum(map(disk.size, Path(".git").rglob("*")))}


def _project(folder: Path) -> None:
    from tests.pipeline.tiny import write_project

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_project(folder)
    ignored = ".dvc/tmp\n.dvc/cache\n.cache/\n.ragline/\n.prefect/\nmlruns/\nmlflow.db\n/data/\n/models/\n/reports/\n"
    (folder / ".gitignore").write_text(ignored, encoding="utf-8")
    subprocess.run(["git", "-C", folder, "add", "."], check=True)
    who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    subprocess.run(["git", "-C", folder, *who, "commit", "-qm", "the project"], check=True)


@contextmanager
def _server() -> Iterator[dict[str, str]]:
    """Prefect's server over `.prefect` of the project, for all nights; yields what its flows need to know."""
    os.environ.update({**SETTINGS, "PREFECT_HOME": str(Path(".prefect").resolve())})
    from flows.serve import server

    with server(int(os.environ.get("PREFECT_SERVER_API_PORT", "4271"))) as api:
        yield {"PREFECT_API_URL": api}


def _night(number: int, real: bool, environment: dict[str, str]) -> str:
    """In a process of its own, as a scheduler starts it."""
    _age(Path(".prefect") / "prefect.db")
    changed = number % QUIET != 0
    if changed:
        _edit(number)
    stand_in = number if changed and not real else 0
    ended = subprocess.run(
        [sys.executable, "-c", f"from bench.hundred_nights import night; print(night({stand_in}))"],
        env={**os.environ, **environment, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    if ended.returncode:
        raise SystemExit(ended.stderr[-3000:])
    return ended.stdout.strip().splitlines()[-1]


def night(number: int) -> str:
    """One night in the project that this process works in; returns how it ended.

    Args:
        number: for the stand-in; 0 for a whole night, or one without a change.
    """
    from prefect import flow

    from flows import nightly

    if not number:
        state = nightly.nightly(recorded=True, return_state=True)
        if not state.is_completed():
            raise SystemExit(f"{state.name}: {state.message}")
        return str(state.name)

    @flow(name="nightly")
    def rest() -> str:
        """All of a night but the stages themselves."""
        before = builds.served(Path())
        _stand_in(number)
        nightly.pipeline(return_state=True)
        decision = nightly.judge()
        warnings = nightly.keep(decision.reason, recorded=True, pushed=False)
        after = builds.last(Path())
        nightly.show(comparing.compare("champion", before, after) if before and after else None, decision)
        return "; ".join(["Promoted" if decision.promoted else "Kept", *warnings])

    return rest()


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
    from dvc.repo import Repo

    rows = io.read_frame(PREDICTIONS)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    columns["extractive_f1"] = [min(1.0, value + 0.001 * number) for value in columns["extractive_f1"]]
    io.write_frame(columns, PREDICTIONS)
    figures = io.read_json(METRICS)
    figures["night"] = {"number": number}
    io.write_json(figures, METRICS)
    for path in (path for outputs in OUTPUTS.values() for path in outputs if path != PREDICTIONS):
        for file in path.rglob("*") if path.is_dir() else [path]:
            if file.suffix in BULKY:
                _alter(file, number)
    with Repo() as repo:
        repo.commit(force=True)


def _alter(file: Path, number: int) -> None:
    """Write other bytes over the last ones, in a new file, as DVC may have linked the old one."""
    part = file.with_name(f"{file.name}.new")
    shutil.copyfile(file, part)
    with part.open("r+b") as written:
        written.seek(max(0, part.stat().st_size - 8))
        written.write(number.to_bytes(8, "big")[-min(8, part.stat().st_size) :])
    part.replace(file)


def _age(database: Path) -> None:
    """Let a day pass for all that is kept by its age."""
    for folder in (Path(".dvc/cache/runs"), Path(".cache/checkpoints"), Path(".cache/vectors")):
        for path in [folder, *folder.rglob("*")]:
            if path.exists():
                seen = path.stat()
                os.utime(path, (seen.st_atime - DAY, seen.st_mtime - DAY))
    if database.is_file():
        with sqlite3.connect(database, timeout=60) as connection:
            for table, column in (("flow_run", "end_time"), ("events", "occurred"), ("event_resources", "occurred")):
                earlier = f"strftime('%Y-%m-%d %H:%M:%f000', {column}, '-1 day')"
                connection.execute(f"UPDATE {table} SET {column} = {earlier} WHERE {column} IS NOT NULL")
        connection.close()


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Megabytes by kind after some nights, and what the last half grew by per night (least squares)."""
    kinds = [name for name in rows[-1] if name not in ("night", "ended", "seconds")]
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
