"""PDF to text, page by page; its bookmarks become headings where their words stand on the page."""

import re
from collections import defaultdict
from collections.abc import Iterable
from io import BytesIO
from typing import Any

from ragline.corpus.format_markdown import MAX_CHARACTERS, Loaded, one_line, paged, prose
from ragline.corpus.format_text import LEAVE_OUT
from ragline.errors import DataError

_HYPHENATED = re.compile(r"(?<=[a-zß-ÿ])[-\u00ad]\n(?=[a-zß-ÿ])")
_NUMBERING = re.compile(
    r"^(?:(?:chapter|section|appendix|part)\s+)?(?:[\dA-Z]+(?:\.\d+)*\.?|[ivxlc]+\.)\s+", re.IGNORECASE
)
_NOT_A_TITLE = re.compile(r"^(?:untitled|microsoft word\b.*|.*\.(?:docx?|pdf|tex|dvi|indd|pptx?|rtf))?$", re.IGNORECASE)


def document(content: bytes, name: str, shown: str) -> Loaded:
    """Text of every page in order; a word hyphenated at a line's end is put together.

    Returns:
        Markdown if bookmarks were found on their pages, else text. The title is the file's own, unless it is
        a file name, else the file's name. Pages without a text layer are empty.

    Raises:
        DataError: password-protected, cut short, or unpacks to more than any document has.
    """
    from pypdf import PdfReader
    from pypdf.errors import FileNotDecryptedError, PdfReadError

    try:
        reader = PdfReader(BytesIO(content))
        texts: list[str] = []
        length = 0
        for page in reader.pages:
            texts.append(_tidied(page.extract_text()))
            length += len(texts[-1])
            if length > MAX_CHARACTERS:
                raise OverflowError(f"more than {MAX_CHARACTERS:,} characters")
        bookmarks = _bookmarks(reader)
        title = one_line((reader.metadata.title if reader.metadata else "") or "")
    except FileNotDecryptedError:
        raise DataError(
            f"{shown}: expected a PDF that opens without a password, got a protected one; save it without {LEAVE_OUT}"
        ) from None
    except (PdfReadError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise DataError(
            f"{shown}: expected a whole PDF, got {type(error).__name__}: {one_line(str(error))[:200]}; "
            f"save it anew {LEAVE_OUT}"
        ) from None
    marked = [_with_headings(text, bookmarks.get(number, ())) for number, text in enumerate(texts)]
    placed = sum(found for _, found in marked)
    joined, starts = paged([page for page, _ in marked] if placed else texts)
    clean = joined.encode("utf-8", "replace").decode("utf-8")  # lone surrogates, one character each as before
    return Loaded(name if _NOT_A_TITLE.match(title) else title, clean, "markdown" if placed else "text", starts)


def _tidied(text: str) -> str:
    lines = (line.rstrip() for line in text.replace("\0", "").replace("\r", "\n").split("\n"))
    return _HYPHENATED.sub("", "\n".join(lines))


def _bookmarks(reader: Any) -> dict[int, list[tuple[int, str]]]:
    """Page number from 0 → (level, title) of the bookmarks that point to it."""
    found: dict[int, list[tuple[int, str]]] = defaultdict(list)

    def visit(entries: Iterable[Any], level: int) -> None:
        for entry in entries:
            if isinstance(entry, list):
                visit(entry, level + 1)
            elif (page := reader.get_destination_page_number(entry)) is not None and (title := entry.title):
                found[page].append((min(level, 6), one_line(str(title))))

    visit(reader.outline, 1)
    return found


def _with_headings(text: str, bookmarks: Iterable[tuple[int, str]]) -> tuple[str, int]:
    """The page with `#` before each line that is a bookmark's title, and how many there were."""
    lines = text.split("\n")
    levels: dict[int, int] = {}
    for level, title in bookmarks:
        at = next((n for n, line in enumerate(lines) if n not in levels and _same(line, title)), None)
        if at is not None:
            levels[at] = level
    marked = (f"\n{'#' * levels[n]} {line.strip()}\n" if n in levels else prose(line) for n, line in enumerate(lines))
    return "\n".join(marked).strip("\n"), len(levels)


def _same(line: str, title: str) -> bool:
    return bool(line.strip()) and _bare(line) == _bare(title)


def _bare(text: str) -> str:
    return re.sub(r"\W+", "", _NUMBERING.sub("", one_line(text))).lower()
