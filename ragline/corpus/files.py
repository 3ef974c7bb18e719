"""Files of any usual format under a folder."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from ragline.artifacts import RAW
from ragline.corpus.format_markdown import Loaded
from ragline.corpus.format_text import LEAVE_OUT
from ragline.corpus.formats import HEAVY, load
from ragline.errors import ConfigError, DataError
from ragline.parallel import cores, in_processes
from ragline.types import Document, Drop

MANY_HEAVY_FILES = 64
"""With more of them than this, starting other processes (about a second) pays."""


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    name: str
    """Path relative to the source's folder."""
    source: str


def read_files(
    path: str,
    include: Sequence[str],
    root: Path = Path(),
    on_error: Literal["stop", "skip"] = "stop",
    max_megabytes: float = 50,
) -> Iterator[Document | Drop]:
    """Yield a document for every file under `path` that a pattern matches, by the format of its suffix (`load`).

    Line ends become `\\n` and a byte-order mark is taken off, so that offsets count what a reader sees. Many
    PDF, Office and HTML files are read by as many processes as there are cores; the result is the same. The doc_id is
    the posix path relative to the folder. Files without text, files in hidden folders and, with `skip`, unreadable ones
    with the reason are drops.

    Args:
        path: a folder, absolute or relative to `root`.
        include: glob patterns relative to the folder, e.g. `**/*.md`.
        on_error: whether a file that cannot be read stops the reading or becomes a drop.
        max_megabytes: a larger file counts as one that cannot be read.

    Raises:
        ConfigError: the folder is missing, is none, holds a linked folder, or may not be read; with `stop`, a file may
            not be read.
        DataError: with `stop`, the first file that cannot be read.
        ServiceError: a reading process was killed, as when memory runs out.
    """
    folder = root / path
    if not folder.is_dir():
        raise ConfigError(f"{path}: expected a folder, got {_kind(folder)}; mend ingest.sources in params.yaml")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise ConfigError(f"{path}: may not be read; grant access or mend ingest.sources in params.yaml")
    for linked in sorted(place for place in (folder, *folder.rglob("*")) if place.is_symlink() and place.is_dir()):
        if linked.relative_to(root) != RAW:
            raise ConfigError(
                f"{linked.relative_to(root)}: expected a folder, got a link to one, where DVC sees no change; copy it "
                f"there, or make {RAW} itself the link"
            )
    files: list[_File] = []
    for file in _matching(folder, include):
        name = file.relative_to(folder).as_posix()
        source = (Path(path) / name).as_posix()
        if any(part.startswith(".") for part in name.split("/")):
            yield Drop("ingest", source, "hidden file")
        else:
            files.append(_File(file, name, source))
    read = partial(_read, on_error=on_error, max_megabytes=max_megabytes)
    heavy = sum(file.path.suffix.lower() in HEAVY for file in files)
    if heavy > MANY_HEAVY_FILES and cores() > 1:
        yield from in_processes(read, files, lambda file: file.source, f", lower max_megabytes {LEAVE_OUT}")
    else:
        yield from map(read, files)


def _matching(folder: Path, include: Sequence[str]) -> list[Path]:
    try:
        return sorted({file for pattern in include for file in folder.glob(pattern) if file.is_file()})
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(
            f"ingest.sources: include: expected patterns such as **/*.md, got {list(include)}: {error}"
        ) from None


def _read(file: _File, on_error: Literal["stop", "skip"], max_megabytes: float) -> Document | Drop:
    try:
        content = _content(file, max_megabytes)
        if not content.strip():
            return Drop("ingest", file.source, "empty")
        return _document(file, load(content, file.path.name, file.source))
    except (ConfigError, DataError) as error:
        if on_error == "stop":
            raise
        return Drop("ingest", file.source, "unreadable", str(error))


def _document(file: _File, loaded: Loaded) -> Document | Drop:
    if not loaded.text.strip():
        pages = len(loaded.page_starts)
        return Drop("ingest", file.source, "empty", f"{pages} pages without text; scans need OCR" if pages else "")
    title = loaded.title.encode("utf-8", "replace").decode("utf-8")
    return Document(file.name, file.source, title, loaded.text, loaded.format, page_starts=loaded.page_starts)


def _content(file: _File, max_megabytes: float) -> bytes:
    try:
        size = file.path.stat().st_size
        if size > max_megabytes * 1e6:
            raise DataError(
                f"{file.source}: expected at most {max_megabytes:g} MB, got {size / 1e6:.1f} MB; "
                f"split it, raise max_megabytes {LEAVE_OUT}"
            )
        return file.path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{file.source}: cannot be read: {error.strerror}; grant access or narrow `include` in params.yaml"
        ) from None


def _kind(path: Path) -> str:
    return "a file" if path.exists() else "nothing"
