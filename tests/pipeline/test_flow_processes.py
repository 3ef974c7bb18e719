"""Commands under a supervisor, and stages side by side, without Prefect and DVC."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from flows import supervise
from flows.processes import Processes, RunStopped
from flows.room import Room, last_peak
from tests.conftest import ROOT

# Sleeps in the foreground, in the background, and in a session of its own; each is found by its odd number.
SLEEPERS = ["sh", "-c", "sleep 62.5 & setsid sleep 62.5 & echo begun; sleep 62.5"]


def sleepers() -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "62.5"]]


def until_gone() -> None:
    for _ in range(400):
        if not sleepers():
            return
        time.sleep(0.05)
    pytest.fail("somebody sleeps on")


def test_lines_and_code_come_through():
    lines: list[str] = []
    ended = Processes().follow(["sh", "-c", "echo one; echo; echo two >&2; exit 3"], lines.append)
    assert (ended.code, ended.late, lines, ended.tail) == (3, False, ["one", "two"], ("one", "two"))


def test_a_signal_is_128_and_its_number():
    assert Processes().follow(["sh", "-c", "kill -9 $$"], print).code == 128 + 9


def test_a_command_that_is_late_goes_with_all_its_descendants():
    ended = Processes().follow(SLEEPERS, print, timeout_s=0.5)
    assert ended.late and ended.tail == ("begun",)
    until_gone()


def test_what_a_finished_command_leaves_behind_is_ended():
    assert Processes().follow(["sh", "-c", "setsid sleep 62.5 & exit 0"], print).code == 0
    until_gone()


def test_sigint_is_heard_where_the_caller_ignores_it():
    """As under `nohup … &`, where a shell makes its children deaf to SIGINT."""
    code = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL))"
    started = time.monotonic()
    # Standard input is empty, so the lifeline is cut at once.
    command = [sys.executable, "-c", code, sys.executable, supervise.__file__, "sleep", "62.5"]
    ended = subprocess.run(
        command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN), start_new_session=True
    )
    assert ended.returncode == 128 + signal.SIGINT and time.monotonic() - started < supervise.GRACE_S
    until_gone()


def test_one_that_hears_no_polite_signal_is_killed(tmp_path):
    script = tmp_path / "deaf.py"
    script.write_text(
        f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from flows import supervise
supervise.GRACE_S = 0.3
sys.argv = ["supervise", "sh", "-c", "trap '' INT TERM; echo begun; sleep 62.5; sleep 62.5"]
sys.exit(supervise.main())
"""
    )
    with subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout and process.stdout.readline() == b"begun\n"
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 128 + signal.SIGKILL
    until_gone()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL], ids=lambda sign: sign.name)
def test_nothing_survives_its_starter(sign):
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from flows.processes import Processes
Processes().follow({SLEEPERS!r}, lambda line: print(line, flush=True))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as starter:
        assert starter.stdout and starter.stdout.readline() == b"begun\n"
        os.kill(starter.pid, sign)
    until_gone()


def test_after_a_stop_nothing_starts():
    processes = Processes()
    processes.stop()
    with pytest.raises(RunStopped, match="not started: the run was stopped"):
        processes.follow(["true"], print)


# --- room ------------------------------------------------------------------------------------------


def inside_together(needs: list[float | None], megabytes: float) -> int:
    """How many were in at once, at most, when all of them wanted in."""
    room, most, inside, lock = Room(megabytes), 0, 0, threading.Lock()

    def work(need: float | None) -> None:
        nonlocal most, inside
        with room.take(need):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.05)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=work, args=(need,)) for need in needs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    return most


@pytest.mark.parametrize(
    ("needs", "megabytes", "most"),
    [
        ([40, 40, 40], 100, 2),  # two fit
        ([40, 40, 40], 200, 3),
        ([None, None], 100, 1),  # nobody knows their size: one after the other
        ([300, 300], 100, 1),  # too large even alone: alone it may try
    ],
)
def test_as_many_as_fit(needs, megabytes, most):
    assert inside_together(needs, megabytes) == most


def test_a_place_is_given_back_after_a_fault():
    room = Room(100)
    with pytest.raises(ValueError, match="fault"), room.take(100):
        raise ValueError("fault")
    with room.take(100):
        pass


def test_last_peak(tmp_path):
    (tmp_path / ".cache" / "timings").mkdir(parents=True)
    (tmp_path / ".cache" / "timings" / "chunk.json").write_text('{"seconds": 1.5, "peak_mb": 250}')
    (tmp_path / ".cache" / "timings" / "torn.json").write_text('{"seconds": 1.')
    assert (last_peak("chunk", tmp_path), last_peak("torn", tmp_path), last_peak("ingest", tmp_path)) == (
        250,
        None,
        None,
    )
