"""Documents on disk while a corpus is put together; memory holds an id, a digest and an offset of each."""

import contextlib
import hashlib
import json
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any, overload

import numpy as np
import numpy.typing as npt

from ragline.errors import DataError, ServiceError
from ragline.types import Document

Rows = npt.NDArray[np.int64]

_FIELDS = tuple(field.name for field in fields(Document))
_DIGEST_BYTES = 16


class Spool:
    """An append-only file of documents, read back by row: the number in order of adding."""

    def __init__(self, file: IO[bytes], folder: Path):
        self._file, self._folder = file, folder
        self._ends = array("Q", [0])
        self._digests = bytearray()
        self.doc_ids: list[str] = []

    def __len__(self) -> int:
        return len(self.doc_ids)

    def add(self, document: Document) -> None:
        """Append a document.

        Raises:
            DataError: it cannot be written as UTF-8.
            ServiceError: the disk refused.
        """
        try:
            line = json.dumps([getattr(document, name) for name in _FIELDS], ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise _not_utf8(document) from None
        try:
            if self._file.tell() != self._ends[-1]:  # something was read; to seek each time would write each line alone
                self._file.seek(self._ends[-1])
            self._file.write(line)
        except OSError as error:
            raise _refused(self._folder, error) from None
        self.doc_ids.append(document.doc_id)
        self._digests += hashlib.blake2b(document.text.encode("utf-8"), digest_size=_DIGEST_BYTES).digest()
        self._ends.append(self._ends[-1] + len(line))

    def __getitem__(self, row: int) -> Document:
        """The document as it was added.

        Raises:
            ServiceError: the disk refused.
        """
        try:
            self._file.seek(self._ends[row])
            line = self._file.read(self._ends[row + 1] - self._ends[row])
        except OSError as error:  # the rest of what was added is written only now
            raise _refused(self._folder, error) from None
        values: list[Any] = [tuple(value) if isinstance(value, list) else value for value in json.loads(line)]
        return Document(*values)

    @property
    def text_digests(self) -> npt.NDArray[np.void]:
        """(n,) 16 bytes each; two texts with one digest are the same text."""
        return np.frombuffer(bytes(self._digests), dtype=f"V{_DIGEST_BYTES}")


@dataclass(frozen=True, slots=True)
class Texts(Sequence[str]):
    """The texts of some rows of a spool, read when they are looked at."""

    spool: Spool
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self.spool[row].text for row in self.rows[place].tolist()]
        return self.spool[int(self.rows[place])].text


@contextlib.contextmanager
def spooled(folder: Path) -> Iterator[Spool]:
    """A spool on the disk of `folder`, in a file without a name: whatever happens, nothing stays.

    Raises:
        ServiceError: the disk refused.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
    except OSError as error:
        raise _refused(folder, error) from None
    try:
        yield Spool(file, folder)
    finally:
        with contextlib.suppress(OSError):  # a full disk refuses the rest once more
            file.close()


def _refused(folder: Path, error: OSError) -> ServiceError:
    return ServiceError(f"{folder}: cannot write: {error.strerror}; make room or access, and run again")


def _not_utf8(document: Document) -> DataError:
    for field in ("doc_id", "source", "title", "text", "aliases"):
        value = "".join(getattr(document, field))
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            return DataError(
                f"{document.source!a}: {field}: expected text that UTF-8 can hold, got {value[error.start]!a} "
                f"at character {error.start}; mend the text, or rename the file"
            )
    raise AssertionError("called for a document that UTF-8 can hold")
