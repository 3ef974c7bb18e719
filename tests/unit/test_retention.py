"""What cleaning deletes and what it leaves: real DVC, hand-made ages."""

import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent

import httpx
import pytest
from dvc.repo import Repo

from ragline import io
from ragline.artifacts import BUNDLES, CHECKPOINTS, LEDGER, PARAMS, PASSAGES, RETRIEVER, VECTOR_STORE
from ragline.errors import ConfigError, ServiceError
from ragline.promotion import bundles
from ragline.retention import disk, dvc_cache, leftovers, prefect_history
from ragline.retention.clean import clean
from ragline.retention.rules import RetentionParams, rules
from ragline.runtime.locks import only_run, workplaces
from tests.conftest import ROOT, dvc, under_dvc

DAY = 86_400.0
NOW = datetime(2030, 1, 31, tzinfo=UTC).timestamp()
RULES = "retention: {commits: 2, days: 7, tracked_runs: 1, flow_days: 7, disk_gb: 1}\n"


def age(path: Path, days: float) -> Path:
    """Make a file, or a folder and what is in it, so many days old."""
    for place in [*path.rglob("*"), path]:
        os.utime(place, (NOW - days * DAY, NOW - days * DAY))
    return path


def touch(path: Path, days: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    return age(path, days)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A source, a folder made of it, and a file made of that; the working directory."""
    (tmp_path / "dvc.yaml").write_text(
        dedent("""
        stages:
          split:
            cmd: mkdir -p parts && cp source.txt parts/copy && echo same > parts/same
            deps: [source.txt]
            outs: [parts]
          join:
            cmd: cat parts/copy parts/same > joined.txt
            deps: [parts]
            outs: [joined.txt]
        """)
    )
    (tmp_path / PARAMS).write_text(RULES)
    under_dvc(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def build(project: Path, content: str, days: float = 0.0) -> None:
    """Bring the project up to date with this source; what was run for it was run so many days ago."""
    before = set(notes(project))
    (project / "source.txt").write_text(content)
    with Repo() as repo:
        repo.reproduce()
    for note in set(notes(project)) - before:
        age(note, days)


def notes(project: Path) -> list[Path]:
    return [path for path in (project / ".dvc/cache/runs").glob("*/*/*")]


def kept(project: Path) -> set[str]:
    """The sources whose copies the cache still holds."""
    found = {path.read_text() for path in (project / ".dvc/cache/files/md5").glob("*/*")}
    return {text for text in found if text.startswith("fruit ") and "same" not in text}


def commit(project: Path) -> None:
    git("add", "dvc.yaml", "dvc.lock", "source.txt", "params.yaml", ".dvc/config")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a state")


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, capture_output=True)


def cleaned(project: Path, dry: bool = False) -> dict[str, int]:
    parts = clean(project, dry, None, datetime.fromtimestamp(NOW, UTC))
    return {part.kind: part.count for part in parts if part.count}


def assert_whole(project: Path, content: str) -> None:
    """The present state comes back from the cache."""
    shutil.rmtree(project / "parts")
    (project / "joined.txt").unlink()
    with Repo() as repo:
        repo.checkout()
        assert repo.status() == {}
    assert (project / "joined.txt").read_text() == f"{content}same\n"


# --- DVC's cache -----------------------------------------------------------------------------------


@pytest.mark.pipeline
def test_runs_of_long_ago_go_with_all_they_left(project):
    build(project, "fruit apple", days=9)
    build(project, "fruit banana", days=8)
    build(project, "fruit cherry", days=10)
    # of each old run: the list of parts, the copy, the joined file; parts/same is in use
    assert cleaned(project) == {"dvc cache": 6, "run cache": 4}
    assert kept(project) == {"fruit cherry"}
    assert len(list((project / ".dvc/cache/runs").rglob("*"))) == 6  # two notes, each in a folder of a folder
    assert_whole(project, "fruit cherry")
    assert cleaned(project) == {}


@pytest.mark.pipeline
def test_what_was_run_lately_comes_back_without_running(project):
    build(project, "fruit apple", days=6)
    build(project, "fruit banana", days=1)
    assert cleaned(project) == {}
    (project / "source.txt").write_text("fruit apple")
    with Repo() as repo:
        repo.reproduce(run_cache=True, dry=False, pull=False)
    assert (project / "joined.txt").read_text() == "fruit applesame\n"
    assert len(notes(project)) == 4  # nothing ran anew


@pytest.mark.pipeline
def test_the_last_commits_of_every_branch_and_tags_stay(project):
    for number, fruit in enumerate(("fruit apple", "fruit banana", "fruit cherry", "fruit date")):
        build(project, fruit, days=20)
        commit(project)
        if number == 0:
            git("tag", "release")
        if number == 2:
            git("branch", "aside")
    build(project, "fruit elderberry", days=20)
    # two commits of the branch: date, cherry; of aside: cherry, banana; the tag: apple; the workspace
    assert cleaned(project) == {}
    git("tag", "-d", "release")
    git("branch", "-D", "aside")
    cleaned(project)
    assert kept(project) == {"fruit cherry", "fruit date", "fruit elderberry"}


@pytest.mark.pipeline
def test_a_detached_head_keeps_its_commits(project):
    for fruit in ("fruit apple", "fruit banana"):
        build(project, fruit, days=20)
        commit(project)
    git("checkout", "-q", "--detach")
    build(project, "fruit cherry", days=20)
    commit(project)
    build(project, "fruit date", days=20)
    assert cleaned(project) == {}
    assert len(kept(project)) == 4


@pytest.mark.pipeline
def test_a_version_can_still_be_built_on(project):
    build(project, "fruit apple", days=20)
    version = project / BUNDLES / "v0001"
    version.mkdir(parents=True)
    shutil.copy(project / "dvc.lock", version)
    (version / bundles.MANIFEST).write_text("{}")
    build(project, "fruit banana", days=20)
    assert cleaned(project) == {}
    shutil.rmtree(version)
    cleaned(project)
    assert kept(project) == {"fruit banana"}


@pytest.mark.pipeline
@pytest.mark.parametrize(
    ("sabotage", "why"),
    [
        (lambda p: queue(p), "experiments are queued"),
        (lambda p: (p / "dvc.lock").write_text("schema: '2.0'\nsta"), "not what DVC writes"),
        (lambda p: (p / "dvc.lock").unlink(), "dvc.lock: not found"),
        (lambda p: move_cache(p), "outside the project"),
    ],
)
def test_a_cache_that_others_may_need_is_left(project, sabotage, why):
    build(project, "fruit apple", days=20)
    build(project, "fruit banana", days=20)
    sabotage(project)
    parts = {part.kind: part for part in clean(project, False, None, datetime.fromtimestamp(NOW, UTC))}
    assert why in parts["dvc cache"].line and parts["dvc cache"].count == parts["run cache"].count == 0


@pytest.mark.pipeline
def test_an_experiment_that_is_over_leaves_the_cache_to_be_cleaned(project):
    build(project, "fruit apple", days=20)
    build(project, "fruit banana", days=20)
    commit(project)
    dvc("exp", "run", "--temp", "--set-param", "retention.disk_gb=2")
    assert list((project / ".dvc/tmp/exps/run").glob("*/*.run"))  # DVC's note of it stays, and would for ever
    assert cleaned(project)["dvc cache"] == 3
    assert kept(project) == {"fruit banana"}


@pytest.mark.pipeline
def test_a_variant_at_work_and_its_copy_once_it_was_killed(project):
    build(project, "fruit apple", days=20)
    build(project, "fruit banana", days=20)
    commit(project)
    (project / "dvc.yaml").write_text((project / "dvc.yaml").read_text().replace("cmd: cat", "cmd: sleep 61.5; cat"))
    started = subprocess.Popen(
        [sys.executable, "-m", "dvc", "exp", "run", "--temp"], start_new_session=True, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 120
        while not (work := [place for place in workplaces() if place.is_relative_to(project / ".dvc")]):
            assert time.monotonic() < deadline and started.poll() is None
            time.sleep(0.1)
        parts = {part.kind: part for part in clean(project, False, None, datetime.fromtimestamp(NOW, UTC))}
        assert "experiments run now" in parts["dvc cache"].line and parts["experiments"].count == 0
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()
    until = time.monotonic() + 20  # the stage's command is not its child
    while set(work) & workplaces() and time.monotonic() < until:
        time.sleep(0.1)
    (copy,) = (project / ".dvc/tmp/exps/standalone").glob("tmp*")
    assert leftovers.copies(project, copy.stat().st_mtime + DAY / 2) == []
    assert cleaned(project) == {"dvc cache": 3, "run cache": 2, "experiments": 1}
    assert not copy.exists() and kept(project) == {"fruit banana"}


def queue(project: Path) -> None:
    commit(project)
    git("update-ref", "refs/exps/celery/stash", "HEAD")


def move_cache(project: Path) -> None:
    elsewhere = project.with_name(f"{project.name}-cache")
    shutil.move(project / ".dvc/cache", elsewhere)
    with (project / ".dvc/config").open("a") as config:
        config.write(f"[cache]\n    dir = {elsewhere}\n")


@pytest.mark.pipeline
def test_killed_at_any_moment_the_present_state_is_whole(project):
    build(project, "fruit apple", days=20)
    build(project, "fruit banana", days=20)
    with Repo() as repo:
        objects, old = dvc_cache.unneeded(repo, dvc_cache.Needs(2, NOW - 7 * DAY, []))
    assert [path.suffix for path in objects] == [".dir", "", ""]  # a list before what it names
    for place in [*objects, *old]:
        place.unlink()
        assert_whole(project, "fruit banana")
    assert cleaned(project) == {}


# --- who is at work --------------------------------------------------------------------------------


@pytest.mark.pipeline
def test_nothing_goes_while_a_run_holds_the_project(project):
    build(project, "fruit apple", days=20)
    with only_run(project), pytest.raises(ServiceError, match="runs this project now"):
        cleaned(project)


@pytest.mark.pipeline
def test_nothing_goes_while_dvc_works_by_hand(project):
    build(project, "fruit apple", days=20)
    words = Path(f"/proc/{os.getpid()}/cmdline").read_text().split("\0")
    holder = f'{{"pid": {os.getpid()}, "cmd": "{" ".join(words[1:-1])}"}}'
    (project / ".dvc/tmp/rwlock").write_text(f'{{"write": {{"parts": {holder}}}, "read": {{}}}}')
    with pytest.raises(ServiceError, match=f"process {os.getpid()} works with DVC here"):
        cleaned(project)


# --- what killed processes left --------------------------------------------------------------------


def test_interrupted_trainings(tmp_path):
    old, new = (age(touch(tmp_path / CHECKPOINTS / name / "w", 0).parent, days) for name, days in [("a", 8), ("b", 2)])
    today = age(touch(tmp_path / CHECKPOINTS / "c" / "w", 0).parent, 0.5)
    assert leftovers.checkpoints(tmp_path, trained=False, now=NOW, days=7) == [old]
    assert leftovers.checkpoints(tmp_path, trained=True, now=NOW, days=7) == [old, new]
    touch(new / "later", 0.1)  # somebody is writing
    assert leftovers.checkpoints(tmp_path, trained=True, now=NOW, days=7) == [old] and today.is_dir()


def test_shelves_by_the_one_used_last(tmp_path):
    base, old = (
        age(touch(tmp_path / VECTOR_STORE / name / "v.npy", 0).parent, days) for name, days in [("a", 40), ("b", 48)]
    )
    assert leftovers.shelves(tmp_path, days=7) == [old] and base.is_dir()
    assert leftovers.shelves(tmp_path, days=9) == []


def test_files_that_were_never_finished(tmp_path):
    torn = touch(tmp_path / "dvc.lock.torn", 2)
    with pytest.raises(KeyboardInterrupt), io.whole_file(tmp_path / PASSAGES) as file:
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), io.whole_folder(tmp_path / RETRIEVER) as folder:
        raise KeyboardInterrupt
    touch(folder / "weights", 2)
    gone = [touch(file, 2), age(folder, 2), touch(tmp_path / ".dvc/cache/files/md5/ab/.xyz.tmp", 2)]
    touch(tmp_path / "data/.documents.parquet.part", 0.5)
    for name in (".mine.part", ".mine.tmp", "data/.mine.part", "models/.mine.tmp", "data/passages.parquet"):
        touch(tmp_path / name, 2)
    assert leftovers.unfinished(tmp_path, NOW) == sorted(gone)
    touch(tmp_path / "dvc.lock", 0)
    assert leftovers.unfinished(tmp_path, NOW) == sorted([*gone, torn])


@pytest.mark.pipeline
def test_a_dry_run_says_the_same_and_deletes_nothing(project):
    build(project, "fruit apple", days=20)
    build(project, "fruit banana", days=20)
    age(touch(project / CHECKPOINTS / "a" / "w", 0).parent, 9)
    touch(project / "dvc.lock.torn", 9)
    touch(project / LEDGER, 400)
    before = {path: path.stat().st_size for path in project.rglob("*") if path.is_file() and "tmp" not in path.parts}
    foreseen = cleaned(project, dry=True)
    assert {path: path.stat().st_size for path in before if path.is_file()} == before
    assert foreseen == {"dvc cache": 3, "run cache": 2, "checkpoints": 1, "unfinished": 1} == cleaned(project)
    assert (project / LEDGER).is_file() and list((project / CHECKPOINTS).iterdir()) == []


def test_a_server_that_is_none_of_prefects_is_an_error():
    stranger = httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(404, json={"detail": "no"})))
    with stranger, pytest.raises(ServiceError, match=r"http://here/api/flow_runs/filter: HTTPStatusError: .*404"):
        prefect_history.old(stranger, "http://here/api", "ragline-0", datetime.fromtimestamp(NOW, UTC), days=7)


class Guarded(http.server.BaseHTTPRequestHandler):
    """As much of Prefect's API as has no old flow runs, and tells it to one caller alone."""

    def do_POST(self):
        known = self.headers["Authorization"] == self.server.expected
        self.send_response(200 if known else 401)
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PREFECT_API_KEY", "pnu_secret", "Bearer pnu_secret"),
        ("PREFECT_API_AUTH_STRING", "admin:secret", "Basic YWRtaW46c2VjcmV0"),  # base64 of it
    ],
)
def test_prefect_is_told_who_asks_and_may_refuse(tmp_path, monkeypatch, name, value, expected):
    (tmp_path / PARAMS).write_text(RULES)
    under_dvc(tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        server.expected = expected
        threading.Thread(target=server.serve_forever, daemon=True).start()
        api = f"http://127.0.0.1:{server.server_port}"
        refused = clean(tmp_path, False, api)[-1].line
        monkeypatch.setenv(name, value)
        assert clean(tmp_path, False, api)[-1].line.split() == ["prefect", "0", "flow", "runs"]
        server.shutdown()
    assert refused.startswith("prefect     http://127.0.0.1") and "401 Unauthorized" in refused and "\n" not in refused


# --- disk ------------------------------------------------------------------------------------------


def test_a_file_with_two_names_counts_once(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "big").write_bytes(bytes(1_000_000))
    alone = disk.taken(tmp_path)
    (tmp_path / ".dvc/cache/files").mkdir(parents=True)
    os.link(tmp_path / "data" / "big", tmp_path / ".dvc/cache/files/big")
    both = disk.taken(tmp_path)
    assert next(iter(both)) == "outputs" and both["outputs"] == alone["outputs"] >= 1_000_000
    assert both["dvc cache"] < 100_000  # the folders


def test_a_folder_that_goes_meanwhile(tmp_path, monkeypatch):
    going, stays = tmp_path / "data" / "going", touch(tmp_path / "data" / "stays" / "file", 2)
    going.mkdir()
    scandir = os.scandir

    def deleting(path):
        if Path(path) == going and going.is_dir():
            going.rmdir()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deleting)
    assert disk.taken(tmp_path)["outputs"] >= disk.size(stays) > 0 and not going.exists()


def test_the_budget():
    found = {"dvc cache": 900_000_000, "outputs": 300_000_000, "mlflow": 1_000_000}
    assert disk.total(found) == "1.2 GB on disk: dvc cache 0.9 GB, outputs 0.3 GB"
    assert disk.over(found, 1.3) is None
    said = disk.over(found, 1.0) or ""
    assert "takes 1.2 GB, retention.disk_gb allows 1 GB; most of it is dvc cache, 0.9 GB" in said
    assert "`ragline clean`" in said
    assert "promotion.keep" in (disk.over({"versions": 2_000_000_000}, 1.0) or "")


# --- rules -----------------------------------------------------------------------------------------


def test_the_rules_that_are_shipped():
    assert rules(ROOT).commits >= 1
    assert all(field.is_required() and field.description for field in RetentionParams.model_fields.values())


@pytest.mark.pipeline
def test_rules_that_are_wrong_delete_nothing(project):
    build(project, "fruit apple", days=20)
    build(project, "fruit banana", days=20)
    (project / PARAMS).write_text(RULES.replace("days: 7, t", "days: 0, t"))
    with pytest.raises(ConfigError, match=r"retention\.days: .* greater than or equal to 1, got 0"):
        cleaned(project)
    assert kept(project) == {"fruit apple", "fruit banana"}
