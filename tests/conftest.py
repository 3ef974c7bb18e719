"""Small projects under DVC, and Prefect's server, for the tests that need them."""

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import settings

from ragline.runtime.environment import apply_defaults

ROOT = Path(__file__).parents[1]

settings.register_profile("steady", derandomize=True, deadline=None)  # the same examples on every machine
settings.load_profile("steady")
apply_defaults()
os.environ["RAGLINE_PRECISION"] = "float32"  # tolerances are float32's, also where the CPU has bfloat16
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # two workers' threads on two cores: none may spin while it waits
os.environ.pop("PREFECT_API_URL", None)  # never somebody's real server
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # DVC runs `python`


def pytest_collection_finish() -> None:
    """Let no collection of garbage go through the libraries that the tests import: a second, many times over."""
    gc.collect()
    gc.freeze()


def dvc(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run DVC's command line here; its lines, stderr among them, are in `stdout`."""
    command = [sys.executable, "-m", "dvc", *arguments]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert not check or ended.returncode == 0, ended.stdout
    return ended


def ran(output: str) -> list[str]:
    """The stages whose command DVC ran, in order."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")]


def under_dvc(folder: Path) -> None:
    """Make a folder a git repository with the project's own DVC settings."""
    (folder / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
    shutil.copy(ROOT / ".dvcignore", folder / ".dvcignore")
    subprocess.run(["git", "init", "-q", folder], check=True)


@pytest.fixture
def shell_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three stages in a row, copy → initial → shout, made of shell commands; the working directory."""
    (tmp_path / "source.txt").write_text("apple")
    (tmp_path / "dvc.yaml").write_text(
        dedent("""
        stages:
          copy:
            desc: read the source
            cmd: echo copying && cat source.txt > copied.txt
            deps: [source.txt]
            outs: [copied.txt]
            meta: {prefect: {retries: 1, retry_delay: 0, timeout: 60, tags: [cpu]}}
          initial:
            cmd: head -c 1 copied.txt > initial.txt
            deps: [copied.txt]
            outs: [initial.txt]
          shout:
            cmd: tr a-z A-Z < initial.txt > shouted.txt
            deps: [initial.txt]
            outs: [shouted.txt]
        """)
    )
    under_dvc(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """One server with a database of its own for the whole session."""
    pytest.importorskip("prefect", reason="needs the flows extra: pip install -e '.[flows]'")
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=90):
        yield
