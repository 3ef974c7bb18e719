"""The ledger of paid calls: nothing lost, nothing paid for twice."""

import os
import sqlite3
import subprocess
import sys
import time

import pytest

from ragline.errors import DataError
from ragline.llm.ledger import Ledger, Reply
from tests.conftest import ROOT

REPLY = Reply('{"question": "é?"}', "stop", 120, 30)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "calls.sqlite"


def another(path, code: str) -> str:
    """Run code in another process, with `ledger` open there."""
    script = f"import os, signal\nfrom pathlib import Path\nfrom ragline.llm.ledger import Ledger, Reply\n\
ledger = Ledger(Path({str(path)!r}))\n{code}"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True).stdout


def test_an_answer_is_kept(path):
    ledger = Ledger(path)
    assert ledger.get("k") is None
    ledger.put("k", "m", REPLY, 100, 0.5)
    ledger.close()
    assert Ledger(path).get("k") == REPLY


def test_the_first_answer_stays(path):
    ledger = Ledger(path)
    ledger.put("k", "m", REPLY, 100, 0.5)
    ledger.put("k", "m", Reply("another", "stop", 1, 1), 100, 0.5)
    assert ledger.get("k") == REPLY and len(ledger) == 1


def test_an_answer_survives_a_kill_right_after_it(path):
    another(path, "ledger.put('k', 'm', Reply('x', 'stop', 1, 2), 1, 0.1); os.kill(os.getpid(), signal.SIGKILL)")
    assert Ledger(path).get("k") == Reply("x", "stop", 1, 2)


def test_one_of_two_runs_pays(path):
    ledger = Ledger(path)
    assert ledger.claim("k", 60)
    assert ledger.claim("k", 60)  # its own claim again
    assert another(path, "print(ledger.claim('k', 60))").strip() == "False"
    ledger.release("k")
    assert another(path, "print(ledger.claim('k', 60))").strip() == "True"


def test_what_is_answered_cannot_be_claimed(path):
    ledger = Ledger(path)
    ledger.put("k", "m", REPLY, 100, 0.5)
    assert not ledger.claim("k", 60)


def test_the_claim_of_a_killed_run_ends_with_it(path):
    another(path, "ledger.claim('k', 3600); os.kill(os.getpid(), signal.SIGKILL)")
    assert Ledger(path).claim("k", 60)


def test_a_claim_from_elsewhere_runs_out(path):
    ledger = Ledger(path)
    ledger.owner = "another-host:1"
    assert ledger.claim("k", 0.2)
    ledger.owner = "this-host:1"
    assert not ledger.claim("k", 60)
    time.sleep(0.25)
    assert ledger.claim("k", 60)


def test_history_by_hand(path):
    ledger = Ledger(path)
    assert ledger.history("m") is None
    ledger.put("a", "m", Reply("", "stop", 110, 20), 100, 1.0)
    ledger.put("b", "m", Reply("", "stop", 220, 40), 200, 4.0)
    ledger.put("c", "other", Reply("", "stop", 900, 900), 1, 9.0)
    found = ledger.history("m")
    assert (found.calls, found.prompt_ratio, found.answer_tokens) == (2, pytest.approx(330 / 300), 30)
    assert found.seconds == 2.5


def test_a_file_that_is_no_ledger(path):
    path.parent.mkdir()
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 40)
    with pytest.raises(DataError, match=r"calls\.sqlite: not a ledger of calls: .*; move it away"):
        Ledger(path)


def test_writers_at_once_lose_nothing(path):
    Ledger(path).close()
    code = "for n in range(50): ledger.put(f'{os.getpid()}-{n}', 'm', Reply('x', 'stop', 1, 1), 1, 0.1)"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = f"import os\nfrom pathlib import Path\nfrom ragline.llm.ledger import Ledger, Reply\n\
ledger = Ledger(Path({str(path)!r}))\n{code}"
    running = [subprocess.Popen([sys.executable, "-c", script], env=env) for _ in range(4)]
    assert [process.wait() for process in running] == [0] * 4
    assert len(Ledger(path)) == 200
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
