"""Nights in git: on their own branch, and nobody else's work touched."""

import itertools
import subprocess
from hashlib import sha1
from pathlib import Path

import pytest

from ragline import recording
from ragline.artifacts import LOCK, METRICS
from ragline.errors import ServiceError


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A commit with a dvc.lock, and a night that left another one; the working directory."""
    monkeypatch.chdir(tmp_path)
    git("init", "-q", "-b", "main")
    git("config", "user.name", "a")
    git("config", "user.email", "a@example.org")
    (tmp_path / LOCK).write_text("old")
    (tmp_path / "params.yaml").write_text("seed: 1")
    git("add", ".")
    git("commit", "-qm", "first")
    (tmp_path / LOCK).write_text("night 1")
    (tmp_path / METRICS).parent.mkdir()
    (tmp_path / METRICS).write_text("{}")
    return tmp_path


def state() -> tuple[str, str, str]:
    """What people work on: the branch, the index, the files."""
    return git("rev-parse", "HEAD"), git("ls-files", "--stage"), git("status", "--porcelain")


def test_a_night_is_a_commit_and_the_working_tree_is_as_it_was(project):
    before = state()
    commit = recording.record(project, "night: kept")
    assert state() == before
    assert git("rev-parse", "nightly") == commit and git("rev-parse", "nightly~1") == before[0]
    assert git("show", "nightly:dvc.lock") == "night 1" and git("show", "nightly:reports/metrics.json") == "{}"
    assert git("show", "nightly:params.yaml") == "seed: 1"
    assert git("log", "-1", "--format=%an: %s", "nightly") == "ragline nightly: night: kept"
    assert recording.record(project, "again") is None
    (project / LOCK).write_text("night 2")
    recording.record(project, "the next")
    assert git("log", "--format=%s", "nightly").splitlines() == ["the next", "night: kept", "first"]


def test_other_peoples_changes_stay_out_and_are_named(project):
    (project / "params.yaml").write_text("seed: 2")
    (project / "new.txt").write_text("untracked")
    (project / "staged.txt").write_text("staged")
    git("add", "staged.txt")
    before = state()
    recording.record(project, "night")
    assert state() == before
    assert git("show", "nightly:params.yaml") == "seed: 1"
    assert git("ls-tree", "--name-only", "nightly").split() == ["dvc.lock", "params.yaml", "reports"]
    message = git("log", "-1", "--format=%b", "nightly")
    assert message.splitlines() == ["2 files differed from HEAD and are not in here:", "params.yaml", "staged.txt"]


def test_new_code_joins_the_branch(project):
    recording.record(project, "night 1")
    (project / "code.py").write_text("1")
    git("add", "code.py")
    git("commit", "-qm", "code")
    recording.record(project, "night 2")
    assert git("log", "-1", "--format=%P", "nightly").split() == [
        git("rev-parse", "nightly~1"),
        git("rev-parse", "main"),
    ]
    assert git("show", "nightly:code.py") == "1"
    assert recording.record(project, "again") is None


def test_a_detached_head(project):
    git("checkout", "-q", "--detach")
    before = state()
    assert recording.record(project, "night")
    assert state() == before


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda p: git("checkout", "-q", "-b", "nightly"), "nightly: checked out"),
        (lambda p: git("worktree", "add", "-q", "-b", "nightly", str(p / "tree")), "nightly: checked out"),
        (lambda p: git("update-ref", "-d", "HEAD"), "git rev-parse"),
        (lambda p: (p / ".git").rename(p / "git"), "not a git repository"),
    ],
)
def test_where_it_cannot_be_done_it_says_why(project, spoil, says, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    spoil(project)
    with pytest.raises(ServiceError, match=says):
        recording.record(project, "night")


def test_without_git(project, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServiceError, match="git: not installed"):
        recording.record(project, "night")


def test_no_hook_has_a_say(project):
    hook = project / ".git" / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    assert recording.record(project, "night") == git("rev-parse", "nightly")


def test_a_project_below_the_root_of_git(project):
    (project / "inner").mkdir()
    for name in (LOCK, "code.py"):
        (project / "inner" / name).write_text("old")
    git("add", "inner")
    git("commit", "-qm", "a project in a folder")
    for name in (LOCK, "code.py"):
        (project / "inner" / name).write_text("new")
    recording.record(project / "inner", "night")
    assert git("show", f"nightly:inner/{LOCK}") == "new"
    said = git("log", "-1", "--format=%b", "nightly").splitlines()
    assert said[-2:] == [str(LOCK), "inner/code.py"]  # the outer dvc.lock is nobody's night


def test_many_nights_are_packed(project):
    """By git's own measure, the number of loose objects whose name begins with 17."""
    git("config", "gc.auto", "1")
    texts = (str(number) for number in itertools.count())
    counted = (t for t in texts if sha1(f"blob {len(t)}\0{t}".encode()).hexdigest().startswith("17"))
    for text in itertools.islice(counted, 2):
        subprocess.run(["git", "hash-object", "-w", "--stdin"], input=text, text=True, check=True, capture_output=True)
    recording.record(project, "night")
    assert list((project / ".git/objects/pack").glob("*.pack"))
