"""The call ledger: every paid answer of a language model, kept so that nothing is paid for twice.

A content-addressed store beside DVC. It makes a run cheaper, never different: the key covers everything that determines
the answer, and deleting the file changes no output but for what the endpoint would answer anew.
"""

import os
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ragline.errors import DataError

WAIT_S = 60.0
"""How long a writer waits for another process to finish its own short transaction."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, answer TEXT NOT NULL, finish TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, answer_tokens INTEGER NOT NULL, expected_prompt_tokens INTEGER NOT NULL,
    seconds REAL NOT NULL, form TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (
    key TEXT PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL
) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Reply:
    """What an endpoint answered, and what it counted."""

    answer: str
    finish: str
    """Why the model stopped: stop, length, content_filter, refusal."""
    prompt_tokens: int
    answer_tokens: int


@dataclass(frozen=True, slots=True)
class History:
    """What past calls of a model say about future ones."""

    calls: int
    prompt_ratio: float
    """Prompt tokens that the endpoint counted for each that we had expected."""
    answer_tokens: float
    """Mean of a call."""
    seconds: float
    """Mean of a call, retries included."""
    by_form: Mapping[str, float]
    """Answer tokens of a call by what kind of answer was asked for."""


class Ledger:
    """Paid calls in one SQLite file, safe under kill -9 and among concurrent runs.

    Each call is committed, with its answer, before anybody uses it. Whoever is about to pay claims the key first;
    another run waits for that claim to be answered, given back, or to run out.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.owner = f"{socket.gethostname()}:{os.getpid()}"
        try:
            self._connection = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")  # a paid answer survives a power cut, too
            self._connection.executescript(_SCHEMA)
            if "form" not in {row[1] for row in self._connection.execute("PRAGMA table_info(calls)")}:
                self._connection.execute("ALTER TABLE calls ADD COLUMN form TEXT NOT NULL DEFAULT ''")
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"{path}: not a ledger of calls: {error}; move it away: what it holds would be paid for again"
            ) from None

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __len__(self) -> int:
        (count,) = self._connection.execute("SELECT count(*) FROM calls").fetchone()
        return int(count)

    def get(self, key: str) -> Reply | None:
        """The answer that was paid for, if there is one."""
        row = self._connection.execute(
            "SELECT answer, finish, prompt_tokens, answer_tokens FROM calls WHERE key = ?", (key,)
        ).fetchone()
        return Reply(*row) if row else None

    def claim(self, key: str, seconds: float) -> bool:
        """Try to become the one who pays for `key` during the next seconds; False while another run is, or has."""
        now = time.time()
        with self._transaction():
            if self.get(key):
                return False
            held = self._connection.execute("SELECT owner, until FROM claims WHERE key = ?", (key,)).fetchone()
            if held and held[0] != self.owner and now < held[1] and not _dead(held[0]):
                return False
            self._connection.execute("INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", (key, self.owner, now + seconds))
            return True

    def release(self, key: str) -> None:
        """Give a claim back without an answer."""
        with self._transaction():
            self._connection.execute("DELETE FROM claims WHERE key = ? AND owner = ?", (key, self.owner))

    def put(
        self, key: str, model: str, reply: Reply, expected_prompt_tokens: int, seconds: float, form: str = ""
    ) -> None:
        """Keep a paid answer and end the claim, both or neither.

        Args:
            form: what kind of answer was asked for; `history` tells them apart.
        """
        with self._transaction():
            self._connection.execute(
                "INSERT OR IGNORE INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    key,
                    model,
                    reply.answer,
                    reply.finish,
                    reply.prompt_tokens,
                    reply.answer_tokens,
                    expected_prompt_tokens,
                    seconds,
                    form,
                ),
            )
            self._connection.execute("DELETE FROM claims WHERE key = ?", (key,))

    def history(self, model: str) -> History | None:
        """Figures over all calls of a model; None before the first."""
        calls, ours, theirs, answers, seconds = self._connection.execute(
            "SELECT count(*), total(expected_prompt_tokens), total(prompt_tokens), total(answer_tokens), "
            "total(seconds) "
            "FROM calls WHERE model = ? AND prompt_tokens > 0",
            (model,),
        ).fetchone()
        if not calls:
            return None
        by_form = dict(
            self._connection.execute(
                "SELECT form, avg(answer_tokens) FROM calls WHERE model = ? AND prompt_tokens > 0 GROUP BY form",
                (model,),
            )
        )
        return History(calls, theirs / max(ours, 1), answers / calls, seconds / calls, by_form)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def _dead(owner: str) -> bool:
    """Whether the run that made a claim was on this machine and is gone."""
    host, _, pid = owner.rpartition(":")
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
