"""The vector store: single vectors by the text they belong to, for whoever would compute them again.

A *shelf* is a folder for all that decides a vector but its text: encoder, prompt, way of computing. It holds
*segments*, files that never change and are named by the sha256 of their bytes. So a torn or altered file betrays
itself, two processes may write side by side, and no lock is needed: what is amiss makes a vector missing, never wrong.
"""

import hashlib
import io
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ragline.errors import ServiceError
from ragline.io import Vectors

log = logging.getLogger(__name__)

Keys = npt.NDArray[np.bytes_]
"""(n,) of 32 bytes each: the sha256 of a text."""

SEGMENT_ROWS = 4096
"""Rows from which a merged segment is written (6 MB at 384 dimensions); one segment at a time is in memory."""
SPARE_ROWS = 100_000
"""Rows that a shelf may always hold, those of the present corpus included, for corpora that change places."""
KEPT_BYTES = 8_000_000_000
"""All shelves together; those not used for longest go first."""
ABANDONED_S = 86_400.0
"""Age from which an unfinished file belongs to a process that was killed."""


@dataclass(frozen=True)
class Shelf:
    """Vectors of one encoder, run in one way."""

    folder: Path
    dim: int

    @property
    def _row(self) -> np.dtype[Any]:
        return np.dtype([("key", "S32"), ("vector", "<f4", (self.dim,))])

    def segments(self) -> Iterator[tuple[Keys, Vectors]]:
        """Every segment that is whole, one in memory at a time; damaged ones are deleted, and a log line says so."""
        damaged = 0
        for path in sorted(self.folder.glob("*.npy")):
            try:
                rows = self._read(path)
            except FileNotFoundError:  # another process has put the shelf in order meanwhile
                continue
            except ValueError:
                damaged += 1
                path.unlink(missing_ok=True)
                continue
            yield rows["key"], rows["vector"]
        if damaged:
            log.warning("vector store: %d damaged files deleted; what they held is encoded again", damaged)

    def _read(self, path: Path) -> npt.NDArray[Any]:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != path.stem:
            raise ValueError(path)
        rows: npt.NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
        if rows.dtype != self._row:
            raise ValueError(path)
        return rows

    def add(self, keys: Keys, vectors: Vectors) -> Path:
        """Keep the vectors (n, dim) of n texts in a new segment.

        Raises:
            ServiceError: the disk refused.
        """
        rows = np.empty(len(keys), dtype=self._row)
        rows["key"], rows["vector"] = keys, vectors
        data = _npy(rows)
        path = self.folder / f"{hashlib.sha256(data).hexdigest()}.npy"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Under a name of its own, as another process may be writing the same; without fsync, as the digest tells.
            with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".part", delete=False) as part:
                part.write(data)
            Path(part.name).replace(path)
        except OSError as error:
            reason = error.strerror or error
            raise ServiceError(f"{self.folder}: cannot write: {reason}; make room or access, and run again") from error
        return path

    def tidy(self, live: Keys) -> None:
        """Write the shelf anew without dead rows, once it holds twice the corpus and more than `SPARE_ROWS`.

        Args:
            live: (n,) keys of the present corpus, sorted, each once, n at least 1.
        """
        old = list(self.folder.glob("*.npy"))
        header = len(_npy(np.empty(0, dtype=self._row)))
        rows = sum(_size(path) - header for path in old) // self._row.itemsize
        if rows < max(2 * len(live), SPARE_ROWS):
            return
        new = {self.add(keys, vectors) for keys, vectors in _merged(self._living(live))}
        for path in set(old) - new:  # last, so that a kill leaves some rows twice and none absent
            path.unlink(missing_ok=True)

    def _living(self, live: Keys) -> Iterator[tuple[Keys, Vectors]]:
        seen = np.zeros(len(live), dtype=bool)
        for keys, vectors in self.segments():
            at = np.minimum(np.searchsorted(live, keys), len(live) - 1)
            wanted = (live[at] == keys) & ~seen[at]
            seen[at[wanted]] = True
            yield keys[wanted], vectors[wanted]


def _npy(rows: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, rows, allow_pickle=False)
    return buffer.getvalue()


def _merged(pieces: Iterable[tuple[Keys, Vectors]]) -> Iterator[tuple[Keys, Vectors]]:
    """Small pieces put together until they have `SEGMENT_ROWS` rows."""
    waiting: list[tuple[Keys, Vectors]] = []
    rows = 0
    for piece in pieces:
        waiting.append(piece)
        rows += len(piece[0])
        if rows >= SEGMENT_ROWS:
            yield _joined(waiting)
            waiting, rows = [], 0
    if rows:
        yield _joined(waiting)


def _joined(pieces: Sequence[tuple[Keys, Vectors]]) -> tuple[Keys, Vectors]:
    return np.concatenate([keys for keys, _ in pieces]), np.concatenate([vectors for _, vectors in pieces])


class Rows:
    """Which rows of a corpus a key belongs to; equal texts share one."""

    def __init__(self, keys: Keys) -> None:
        self._order = np.argsort(keys, kind="stable")
        self._ranked = keys[self._order]

    @property
    def firsts(self) -> tuple[Keys, npt.NDArray[np.int64]]:
        """Every key once, sorted, and the first row of each."""
        new = np.ones(len(self._ranked), dtype=bool)
        new[1:] = self._ranked[1:] != self._ranked[:-1]
        return self._ranked[new], self._order[new]

    def of(self, keys: Keys) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Pairs (position in `keys`, row of the corpus), two arrays of equal length; a foreign key has none."""
        left, right = (np.searchsorted(self._ranked, keys, side) for side in ("left", "right"))
        counts = right - left
        before = np.cumsum(counts) - counts
        ranks = np.arange(counts.sum()) + np.repeat(left - before, counts)
        return np.repeat(np.arange(len(keys)), counts), self._order[ranks]


def text_keys(texts: Iterable[str]) -> Keys:
    """(n,) keys of n texts."""
    digests = bytearray()
    for text in texts:
        digests += hashlib.sha256(text.encode("utf-8")).digest()
    return np.frombuffer(bytes(digests), dtype="S32")


def shelf(store: Path, name: str, dim: int) -> Shelf:
    """The shelf of that name, marked as just used; what the store need not hold any longer is deleted.

    Raises:
        ServiceError: the disk refused.
    """
    folder = store / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
    except OSError as error:
        raise ServiceError(f"{folder}: cannot write: {error.strerror or error}; make room or access") from error
    _retire(store, folder)
    return Shelf(folder, dim)


def _retire(store: Path, present: Path) -> None:
    """Delete what killed processes left, and the shelves used least recently while there is too much."""
    for part in store.glob("*/*.part"):
        if time.time() - _used(part) > ABANDONED_S:
            part.unlink(missing_ok=True)
    kept = 0
    folders = (path for path in store.iterdir() if path.is_dir())
    for folder in sorted(folders, key=lambda path: (path != present, -_used(path), path.name)):
        kept += sum(map(_size, folder.glob("*.npy")))
        if kept > KEPT_BYTES and folder != present:
            shutil.rmtree(folder, ignore_errors=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # another process was quicker
        return 0


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
