"""A flow that is interrupted, terminated, killed or cancelled: nothing lives on, and the next run completes."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT, dvc, ran

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

PATIENCE_S = 90


@pytest.fixture
def start(prefect_server, shell_project):
    """Starts the flow as `make flow` does, as a process of its own."""
    from prefect.settings import get_current_settings

    api = str(get_current_settings().api.url)
    begun: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "flows.pipeline", *arguments]
        env = {**os.environ, "PREFECT_API_URL": api, "PYTHONPATH": str(ROOT)}
        log = (shell_project / "flow.log").open("w")
        begun.append(subprocess.Popen(command, cwd=shell_project, env=env, stdout=log, stderr=log, text=True))
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.wait()


def slow_down(project: Path) -> None:
    """The second stage takes long, in a grandchild that has left the process group."""
    text = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(
        text.replace("cmd: head", "cmd: setsid sleep 61.5 & touch begun && sleep 61.5 && head")
    )


def until(happened: Callable[[], object]) -> None:
    for _ in range(PATIENCE_S * 20):
        if happened():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen")


def living(project: Path) -> list[str]:
    """Command lines of the processes that work in the project."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(project) and process.pid != os.getpid() and process.status() != "zombie":
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def assert_next_run_completes(project: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    text = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(text.replace("setsid sleep 61.5 & touch begun && sleep 61.5 && ", ""))
    assert start().wait(PATIENCE_S) == 0, (project / "flow.log").read_text()
    assert (project / "shouted.txt").read_text() == "A"
    assert ran(dvc("repro").stdout) == []


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda sign: sign.name)
def test_a_signal_while_a_stage_runs(start, shell_project, sign):
    slow_down(shell_project)
    flow = start()
    until((shell_project / "begun").exists)
    flow.send_signal(sign)
    assert flow.wait(PATIENCE_S) != 0
    until(lambda: not living(shell_project))
    assert_next_run_completes(shell_project, start)


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_moment(start, shell_project, seed):
    flow = start()
    time.sleep(random.Random(seed).uniform(1, 12))
    flow.kill()
    flow.wait()
    until(lambda: not living(shell_project))
    assert_next_run_completes(shell_project, start)


def test_two_runs_at_once(start, shell_project):
    slow_down(shell_project)
    first = start()
    until((shell_project / "begun").exists)
    second = start()
    assert second.wait(PATIENCE_S) == 1
    assert f"process {first.pid} runs this project now; wait for it or cancel it" in (
        (shell_project / "flow.log").read_text()
    )
    first.terminate()
    first.wait(PATIENCE_S)


def test_dvc_by_hand_after_a_kill(start, shell_project):
    slow_down(shell_project)
    flow = start()
    until((shell_project / "begun").exists)
    flow.kill()
    until(lambda: not living(shell_project))
    text = (shell_project / "dvc.yaml").read_text()
    (shell_project / "dvc.yaml").write_text(text.replace("setsid sleep 61.5 & touch begun && sleep 61.5 && ", ""))
    assert ran(dvc("repro").stdout) == ["initial", "shout"]
