"""Where the sections of a document begin, by the headings of its format."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ragline.types import Span

FIELD_SECTIONS = frozenset(
    {
        "Parameters",
        "Other Parameters",
        "Returns",
        "Yields",
        "Receives",
        "Raises",
        "Warns",
        "See Also",
        "Attributes",
        "Methods",
    }
)
"""numpydoc sections made of entries: a line that names something, then indented lines about it."""

EXAMPLES = "Examples"
"""The numpydoc section where prose introduces code."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading line of a document."""

    start: int
    """Offset of its first character."""
    end: int
    """Offset of the character after it, underline and line end included."""
    title: str
    level: int
    """1 is outermost."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Part of a numpydoc section that reads by itself: a named field, or an example with its introduction."""

    start: int
    """Offset in the document."""
    name: str = ""
    """What a field entry is about."""


@dataclass(frozen=True, slots=True)
class Table:
    """A Markdown table."""

    rows: Span
    """Where its rows stand, without the header."""
    header: str
    """The header row and the line of dashes under it."""


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of a document from one heading to the next."""

    span: Span
    path: tuple[str, ...]
    """Headings it stands under, outermost first; empty before the first heading."""
    entries: tuple[Entry, ...] = ()
    """In order; the first may start after the heading, and there may be none."""


_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))??[ \t]*(?:[ \t]#+[ \t]*)?$")
_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})(.*)$")
_UNDERLINE = re.compile(r"([=\-~^\"*+#])\1{2,}[ \t]*$")
_DASHES = re.compile(r" {0,3}(?=.*\|)\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")
_COLON = re.compile(r"\s*:(?:\s|$)")
_NOT_A_TITLE = (">", "|", "- ", "* ", "+ ")  # quotes, doctests, tables, lists
_SETEXT_LEVELS = {"=": 1, "-": 2}


def headings(text: str, format: str) -> list[Heading]:
    """Headings in document order.

    Markdown: `#` lines and lines underlined with `=` or `-`, outside fenced code and front matter.
    numpydoc: unindented lines underlined with dashes, all of one level. text: reStructuredText titles,
    their levels in order of appearance; the underline must be about as long as the title, so that tables
    and rulers are not taken for one.
    """
    lines = list(_lines(text))
    return list(_markdown(lines) if format == "markdown" else _underlined(lines, format))


def sections(text: str, format: str) -> list[Section]:
    """Cut a text at its headings.

    The sections cover the text without gap or overlap; none is empty, nor is any white space only,
    unless the whole text is.
    """
    found = headings(text, format)
    starts = [*(heading.start for heading in found), len(text)]
    cut: list[Section] = []
    first = starts[0]
    if not found or text[:first].strip():
        cut = [Section(Span(0, first), ())] if text else []
    else:
        first = 0  # blank lines before the first heading belong to it
    stack: list[Heading] = []
    for heading, end in zip(found, starts[1:], strict=True):
        stack = [*(above for above in stack if above.level < heading.level), heading]
        path = tuple(above.title for above in stack if above.title)
        entries = _entries(text, heading, end) if format == "numpydoc" else ()
        cut.append(Section(Span(first, end), path, entries))
        first = end
    return cut


def tables(text: str, format: str) -> list[Table]:
    """Markdown tables outside fenced code, in document order; other formats have none."""
    if format != "markdown" or "|" not in text:
        return []
    lines = list(_lines(text))
    found: list[Table] = []
    for number in _outside_fences(lines, 0):
        if number == 0 or "|" not in lines[number - 1][1] or not _DASHES.match(lines[number][1]):
            continue
        last = number
        while last + 1 < len(lines) and _goes_on(lines[last + 1][1]):
            last += 1
        rows = Span(_end(lines, number), _end(lines, last))
        found.append(Table(rows, text[lines[number - 1][0] : rows.start]))
    return found


def _goes_on(line: str) -> bool:
    """Whether a line is one more row: a table ends at a blank line, and where something else begins."""
    return bool(line.strip()) and not (_ATX.match(line) or _FENCE.match(line) or line.lstrip().startswith(">"))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """(offset, line without its end) for each line."""
    start = 0
    for line in text.split("\n"):
        yield start, line
        start += len(line) + 1


def _end(lines: list[tuple[int, str]], number: int) -> int:
    start, line = lines[number]
    return start + len(line) + (number + 1 < len(lines))  # the last line has no end to count


def _markdown(lines: list[tuple[int, str]]) -> Iterator[Heading]:
    first = _after_front_matter([line for _, line in lines])
    for number in _outside_fences(lines, first):
        start, line = lines[number]
        if atx := _ATX.match(line):
            yield Heading(start, _end(lines, number), (atx[2] or "").strip(), len(atx[1]))
        elif level := _SETEXT_LEVELS.get(_title_underline(lines, number, first, "markdown")):
            yield Heading(start, _end(lines, number + 1), line.strip(), level)


def _outside_fences(lines: list[tuple[int, str]], first: int) -> Iterator[int]:
    """Numbers of the lines from `first` on that are neither fenced code nor a fence."""
    fence = ""
    for number in range(first, len(lines)):
        if mark := _FENCE.match(lines[number][1]):
            if not fence:
                fence = mark[1]
            elif mark[1].startswith(fence) and not mark[2].strip():
                fence = ""
        elif not fence:
            yield number


def _after_front_matter(lines: list[str]) -> int:
    """Number of the first line after a `---` block at the top; 0 where there is none."""
    if lines[0].rstrip() != "---":
        return 0
    return next((n + 1 for n, line in enumerate(lines[1:], start=1) if line.rstrip() in ("---", "...")), 0)


def _underlined(lines: list[tuple[int, str]], format: str) -> Iterator[Heading]:
    levels: list[str] = []
    for number, (start, line) in enumerate(lines):
        if underline := _title_underline(lines, number, 0, format):
            if underline not in levels:
                levels.append(underline)
            level = 1 if format == "numpydoc" else levels.index(underline) + 1
            yield Heading(start, _end(lines, number + 1), line.strip(), level)


def _title_underline(lines: list[tuple[int, str]], number: int, first: int, format: str) -> str:
    """The character that underlines a line as a title; empty where it is none."""
    line = lines[number][1]
    title = line.strip()
    if number + 1 == len(lines) or not any(c.isalpha() for c in title):
        return ""
    if line[0].isspace() or line.startswith(_NOT_A_TITLE):
        return ""
    if number > first and lines[number - 1][1].strip():  # the last line of a paragraph
        return ""
    underline = _UNDERLINE.match(lines[number + 1][1])
    if not underline:
        return ""
    length = len(underline[0].rstrip())
    if format == "markdown":
        return underline[1]
    if format == "numpydoc":
        return underline[1] if underline[1] in "-=" and abs(length - len(title)) <= 3 else ""
    return underline[1] if len(title) <= length <= len(title) + 3 else ""


def _entries(text: str, heading: Heading, end: int) -> tuple[Entry, ...]:
    lines = [(heading.end + start, line) for start, line in _lines(text[heading.end : end])]
    if heading.title in FIELD_SECTIONS:
        return tuple(
            Entry(start, _COLON.split(line, maxsplit=1)[0]) for start, line in lines if line and not line[0].isspace()
        )
    return tuple(_examples(lines)) if heading.title == EXAMPLES else ()


def _examples(lines: list[tuple[int, str]]) -> Iterator[Entry]:
    """An example starts with the paragraph of prose that comes first, or after code."""
    after_blank, after_code = True, True
    for start, line in lines:
        if after_blank and line.strip():
            prose = not line[0].isspace() and not line.startswith((">>>", ".. "))
            if prose and after_code:
                yield Entry(start)
            after_code = not prose
        after_blank = not line.strip()
