"""Markdown and plain-text files under a folder."""

import os
from collections.abc import Sequence
from pathlib import Path

from ragline.corpus.sections import headings
from ragline.errors import ConfigError, DataError
from ragline.types import Document, Drop

MARKDOWN = (".md", ".markdown")


def read_files(path: str, include: Sequence[str], root: Path = Path()) -> tuple[list[Document], list[Drop]]:
    """Read every file under `path` that a pattern matches.

    Line ends become `\\n` and a byte-order mark is taken off, so that offsets count what a reader sees.

    Args:
        path: a folder, absolute or relative to `root`.
        include: glob patterns relative to the folder, e.g. `**/*.md`.

    Returns:
        documents: sorted by doc_id, the posix path relative to the folder; the title is a Markdown
            file's first heading, otherwise the file's name.
        drops: files without text, and files in hidden folders.

    Raises:
        ConfigError: the folder is missing, is none, or may not be read.
        DataError: a file is binary or not UTF-8; names the byte.
    """
    folder = root / path
    if not folder.is_dir():
        raise ConfigError(f"{path}: expected a folder, got {_kind(folder)}; mend ingest.sources in params.yaml")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise ConfigError(f"{path}: may not be read; grant access or mend ingest.sources in params.yaml")
    documents, drops = [], []
    for file in _matching(folder, include):
        name = file.relative_to(folder).as_posix()
        source = (Path(path) / name).as_posix()
        if any(part.startswith(".") for part in name.split("/")):
            drops.append(Drop("ingest", source, "hidden file"))
        elif (text := _text(file, source)).strip():
            documents.append(_document(name, source, text))
        else:
            drops.append(Drop("ingest", source, "empty"))
    return sorted(documents, key=lambda d: d.doc_id), drops


def _matching(folder: Path, include: Sequence[str]) -> list[Path]:
    try:
        return sorted({file for pattern in include for file in folder.glob(pattern) if file.is_file()})
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(
            f"ingest.sources: include: expected patterns such as **/*.md, got {list(include)}: {error}"
        ) from None


def _document(doc_id: str, source: str, text: str) -> Document:
    file_name = doc_id.rsplit("/", 1)[-1]
    if not doc_id.lower().endswith(MARKDOWN):
        return Document(doc_id, source, file_name, text, "text")
    title = next((heading.title for heading in headings(text, "markdown") if heading.title), file_name)
    return Document(doc_id, source, title, text, "markdown")


def _text(file: Path, shown: str) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{shown}: cannot be read: {error.strerror}; grant access or narrow `include` in params.yaml"
        ) from None
    if (at := content.find(b"\0")) >= 0:
        raise DataError(
            f"{shown}: byte {at}: expected UTF-8 text, got binary (a NUL byte); "
            "convert the file or leave it out with `include` in params.yaml"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # offsets count from after the byte-order mark, where there is one
        start = error.start + (len(content) - len(error.object))
        raise DataError(
            f"{shown}: byte {start}: expected UTF-8 text, got {content[start : start + 4]!r}; "
            "convert the file to UTF-8 or leave it out with `include` in params.yaml"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _kind(path: Path) -> str:
    return "a file" if path.exists() else "nothing"
