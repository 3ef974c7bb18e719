"""`make` sets itself up: with interpreters and tools that only note how they are called."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ragline.runtime.environment import QUIET
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

# Stands for any interpreter. It says that it is the version named in FAKE_VERSION, makes "virtual environments" that
# hold itself, and notes its other calls in $CALLS.
FAKE_PYTHON = r"""#!/bin/sh
case "$1 $2" in
  "-c import sys; sys.exit"*) case "$FAKE_VERSION" in 3.11.*|3.12.*) exit 0;; *) exit 1;; esac;;
  "-c "*) echo "$FAKE_VERSION"; exit 0;;
esac
echo "${0##*/} $*" >> "$CALLS"
if [ "$1 $2" = "-m venv" ]; then
  mkdir -p "$3/bin"
  for name in python pip ragline pytest; do cp "$0" "$3/bin/$name"; done
fi
if [ "$1 $2 $3" = "-m pip $FAIL" ]; then exit 1; fi
"""


class Make:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls_file = root / "calls"
        self.python = root / "python-under-test"
        self.python.write_text(FAKE_PYTHON)
        self.python.chmod(0o755)
        (root / ".git").mkdir()
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, root / name)

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if name not in (*QUIET, "MAKEFLAGS", "MAKELEVEL")}
        settings = {"FAKE_VERSION": "3.11.2", "FAIL": "nothing", "CALLS": str(self.calls_file), **environment}
        command = ["make", *arguments, f"PYTHON={self.python}"]
        return subprocess.run(command, cwd=self.root, env=clean | settings, capture_output=True, text=True, timeout=60)

    def calls(self) -> list[str]:
        """What was called since the last look."""
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        self.calls_file.unlink(missing_ok=True)
        return lines


@pytest.fixture
def make(tmp_path):
    return Make(tmp_path)


VENV_CALL = "python-under-test -m venv .venv"
PIP_CALL = "python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e "
HEAL_CALL = "python -m ragline.runtime.locks"
RUN_CALLS = [HEAL_CALL, "python -m dvc repro", "ragline summary"]


def test_without_a_target_it_lists_them(make):
    listed = make().stdout
    targets = [line.split()[1] for line in listed.splitlines()]
    assert targets == "help run ask flow sweep nightly night doctor mlflow check test deps clean".split()
    assert make.calls() == []


def test_run_sets_up_once(make):
    assert make("run").returncode == 0
    assert make.calls() == [VENV_CALL, PIP_CALL + ".", *RUN_CALLS]
    assert make("run").returncode == 0
    assert make.calls() == RUN_CALLS


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_dependencies_are_installed(make, name):
    make("run")
    make.calls()
    stamp = make.root / ".venv" / ".ragline-base"
    os.utime(make.root / name, (stamp.stat().st_mtime + 1,) * 2)
    make("run")
    assert make.calls() == [PIP_CALL + ".", *RUN_CALLS]


def test_a_wider_set_up_serves_the_narrower_targets(make):
    make("test")
    assert make.calls() == [
        VENV_CALL,
        PIP_CALL + ".[flows,dev]",
        "pytest -q -n 2 --dist loadscope --no-loadscope-reorder",
    ]
    make("run", "flow")
    assert make.calls() == [*RUN_CALLS, HEAL_CALL, "python -m flows.pipeline"]


def test_without_git_dvc_is_told_so(make):
    (make.root / ".git").rmdir()
    make("run")
    assert make.calls()[2:] == ["python -m dvc config --local core.no_scm true", *RUN_CALLS]


def test_a_failed_installation_is_tried_again(make):
    assert make("run", FAIL="install").returncode != 0
    make.calls()
    assert make("run").returncode == 0
    assert make.calls() == [PIP_CALL + ".", *RUN_CALLS]


def test_venv_elsewhere(make, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "venv"
    assert make("run", f"VENV={elsewhere}").returncode == 0
    assert make.calls()[0] == f"python-under-test -m venv {elsewhere}"
    assert (elsewhere / ".ragline-base").exists() and not (make.root / ".venv").exists()


@pytest.mark.parametrize("version", ["3.9.2", "3.13.0", "2.7.18"])
def test_wrong_python_is_one_line(make, version):
    ended = make("run", FAKE_VERSION=version)
    assert ended.returncode != 0 and make.calls() == []
    first, *_ = ended.stderr.splitlines()
    assert first == (
        f"Makefile: Python 3.11 or 3.12 needed, {make.python} is {version}; "
        "name another with `make run PYTHON=python3.11`"
    )


def test_no_such_python_is_one_line(make):
    make.python = "no-such-python"
    ended = make("flow")
    assert ended.returncode != 0
    assert "Python 3.11 or 3.12 needed, no-such-python is not there" in ended.stderr.splitlines()[0]


def test_ask_without_a_question(make):
    ended = make("ask")
    assert ended.returncode != 0 and make.calls() == []
    assert ended.stderr.splitlines()[0] == 'Makefile: no question; ask one with `make ask Q="…"`'


def test_a_question_arrives_as_typed(make):
    question = """What's "$HOME" $(shell date), `date` & $x; cost in $?"""
    assert make("ask", f"Q={question}").returncode == 0
    assert make.calls()[-1] == f"ragline ask {question}"


def test_nobody_is_told_and_nothing_is_kept_elsewhere(make):
    printing = make("--eval=show: ; @env", "show").stdout.splitlines()
    exported = dict(line.split("=", 1) for line in printing if "=" in line)
    switches = ("DO_NOT_TRACK", "DVC_NO_ANALYTICS", "HF_HUB_DISABLE_TELEMETRY", "PREFECT_SERVER_ANALYTICS_ENABLED")
    assert {name: exported[name] for name in switches} == {name: QUIET[name] for name in switches}
    assert exported["PREFECT_HOME"] == str(make.root / ".prefect")
    assert exported["PATH"].startswith(str(make.root / ".venv" / "bin"))
    assert "PREFECT_API_URL" not in exported


def test_clean_keeps_outputs(make):
    for name in (".cache/checkpoints", ".prefect", "ragline/__pycache__", "data", ".venv/lib/__pycache__"):
        (make.root / name).mkdir(parents=True)
    assert make("clean").returncode == 0
    left = {path.relative_to(make.root).as_posix() for path in make.root.rglob("*") if path.is_dir()}
    assert left == {".git", "ragline", "data", ".venv", ".venv/lib", ".venv/lib/__pycache__"}
