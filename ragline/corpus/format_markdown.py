"""What every loader gives, and how it writes Markdown."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

MAX_CHARACTERS = 50_000_000
"""A document longer than this comes from a file made to fill the memory."""

_BLANK_LINES = re.compile(r"\n{3,}")
_TRAILING = re.compile(r"[ \t]+$", re.MULTILINE)
_SPACE = re.compile(r"\s+")
_READ_AS_MARKUP = re.compile(r"(?=#{1,6}(?:[ \t]|$)|(?:=+|-+)[ \t]*$|`{3,}|~{3,})", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file as text."""

    title: str
    text: str
    format: Literal["markdown", "text"]
    page_starts: tuple[int, ...] = ()
    """Offset in `text` of each page or slide, rising from 0; empty where the format has no pages."""


def one_line(text: str) -> str:
    """White space of every kind as single spaces."""
    return _SPACE.sub(" ", text).strip()


def prose(text: str) -> str:
    """Running text whose lines are not taken for headings or fences."""
    return _READ_AS_MARKUP.sub(r"\\", text)


def table(rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose first row is the header; empty rows and columns are left out.

    Returns:
        Lines `| cell | cell |` of equal length, line breaks in cells as spaces; empty where no cell has text.
    """
    cells = [[one_line(cell).replace("|", "\\|") for cell in row] for row in rows]
    cells = [row for row in cells if any(row)]
    width = max(map(len, cells), default=0)
    used = sorted({at for row in cells for at, cell in enumerate(row) if cell})
    if not used:
        return ""
    full = ([*row, *[""] * (width - len(row))] for row in cells)
    lines = ["| " + " | ".join(row[at] for at in used) + " |" for row in full]
    return "\n".join([lines[0], "|" + " --- |" * len(used), *lines[1:]])


def fenced(code: str, language: str = "") -> str:
    """A code block, its fence longer than any in the code; empty where there is no code."""
    body = code.strip("\n").rstrip()
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", body)), default=0))
    return f"{fence}{language}\n{body}\n{fence}" if body else ""


def joined(blocks: Iterable[str]) -> str:
    """Blocks with one empty line between them and a line end after the last; empty ones are left out."""
    text = "\n\n".join(block.strip("\n") for block in blocks if block.strip())
    return _BLANK_LINES.sub("\n\n", _TRAILING.sub("", text)) + "\n" if text else ""


def paged(pages: Iterable[str]) -> tuple[str, tuple[int, ...]]:
    """Pages as one text, an empty line after each, and the offset at which each begins.

    Raises:
        OverflowError: more than `MAX_CHARACTERS`.
    """
    parts: list[str] = []
    starts: list[int] = []
    length = 0
    for page in pages:
        starts.append(length)
        parts.append(page.strip("\n") + "\n\n" if page.strip() else "")
        length += len(parts[-1])
        if length > MAX_CHARACTERS:
            raise OverflowError(f"more than {MAX_CHARACTERS:,} characters")
    return "".join(parts), tuple(starts)
