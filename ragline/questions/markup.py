"""Structure of documents as spans: numpydoc sections and fields, Markdown headings and the prose below them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ragline.text import sentences
from ragline.types import Span

_ROLE = re.compile(r":[\w:+-]+:`(?:([^`<]+?)\s*<[^`>]*>|(~?)!?([^`]+))`")
_IMAGE = r"\[?!\[[^\[\]]*\]\([^()]*\)(?:\]\([^)]*\))?"
_LINK = re.compile(_IMAGE + r"|`([^`<]+?)\s*<[^`>]*>`_{1,2}|\[([^\[\]]+)\](?:\([^()]*\)|\[[^\[\]]*\])")
_TICKS = re.compile(r"`+([^`]*)`+_{0,2}")
_STRONG = re.compile(r"(?<![\w*])\*{1,2}(?=\S)([^*]+?)(?<=\S)\*{1,2}(?![\w*])|(?<![^\s(])__?(?=\S)([^_]+?)__?(?![\w{])")


def plain(text: str) -> str:
    """The words alone: no reStructuredText or Markdown marks, white space collapsed."""
    text = _ROLE.sub(lambda m: m[1] or (m[3].rpartition(".")[2] if m[2] else m[3]), text)
    text = _LINK.sub(lambda m: m[1] or m[2] or "", text)
    text = _TICKS.sub(r"\1", text)
    text = _STRONG.sub(lambda m: m[1] or m[2], text)
    return " ".join(text.replace("’", "'").split())


# --- numpydoc --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Field:
    """One entry of a section such as Parameters: `name : type`, then an indented description."""

    name: str
    """Empty for a return value that has none."""
    type: str
    head: Span
    """The line `name : type`; more lines where the type is wrapped."""
    body: Span
    """The description; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Docstring:
    """A docstring in numpydoc style."""

    opening: Span
    """Summary and extended summary: what stands above the first section."""
    sections: dict[str, Span]
    """Body of each section, by its title."""


_SECTION = re.compile(r"^[^\S\n]*([A-Z][A-Za-z ]+?)[^\S\n]*\n[^\S\n]*-{3,}[^\S\n]*(?:\n|\Z)", re.MULTILINE)


def parse_docstring(text: str) -> Docstring:
    """Cut a docstring at its underlined section titles."""
    titles = list(_SECTION.finditer(text))
    ends = [*(title.start() for title in titles), len(text)]
    sections = {title[1]: Span(title.end(), end) for title, end in zip(titles, ends[1:], strict=True)}
    return Docstring(Span(0, ends[0]), sections)


def fields(text: str, section: Span) -> list[Field]:
    """Entries of a section; lines that belong to none are passed over."""
    lines = _lines(text, section)
    margin = min((_indent(text, line) for line in lines), default=0)
    heads = [i for i, line in enumerate(lines) if _indent(text, line) == margin]
    found = []
    for first, after in zip(heads, [*heads[1:], len(lines)], strict=False):
        last = _last_head_line(text, lines[first:after]) + first
        head = Span(lines[first].start + margin, lines[last].end)
        body = Span(lines[last + 1].start, lines[after - 1].end) if last + 1 < after else Span(head.end, head.end)
        name, colon, kind = text[head.start : head.end].partition(":")
        spaced = bool(colon) and (name.endswith(" ") or not kind.strip() or kind.startswith(" "))
        name, kind = (name, kind) if spaced else (text[head.start : head.end], "")
        found.append(Field(plain(name).lstrip("*"), " ".join(kind.split()), head, body))
    return found


def _last_head_line(text: str, lines: list[Span]) -> int:
    """Index of the line that ends a wrapped type: brackets closed, no comma at the end."""
    depth = 0
    for i, line in enumerate(lines):
        piece = text[line.start : line.end].rstrip()
        depth += len(re.findall(r"[\[({]", piece)) - len(re.findall(r"[\])}]", piece))
        goes_on = i + 1 < len(lines) and text[lines[i + 1].start : lines[i + 1].end].lstrip().startswith("default")
        if not goes_on and (depth <= 0 and not piece.endswith(",")):
            return i
    return 0


def _lines(text: str, span: Span) -> list[Span]:
    """Lines that are not blank, without their newlines."""
    found = []
    position = span.start
    for line in text[span.start : span.end].splitlines(keepends=True):
        if line.strip():
            found.append(Span(position, position + len(line.rstrip())))
        position += len(line)
    return found


def _indent(text: str, line: Span) -> int:
    piece = text[line.start : line.end]
    return len(piece) - len(piece.lstrip())


# --- prose -----------------------------------------------------------------------------------------

_CODE = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|^[^\S\n]*>>>.*?(?:\n[^\S\n]*\n|\Z)", re.DOTALL | re.MULTILINE)
_INDENTED_CODE = re.compile(r"::[^\S\n]*\n(?:[^\S\n]*\n)*((?:[^\S\n]+\S.*(?:\n|\Z)|[^\S\n]*\n)+)")
_ADMONITIONS = r"(?:warning|note|tip|important|caution|attention)::"
_ADMONITION = re.compile(rf"^[^\S\n]*\.\.[^\S\n]{_ADMONITIONS}", re.MULTILINE)
_DIRECTIVE = re.compile(
    rf"^([^\S\n]*)\.\.[^\S\n](?!{_ADMONITIONS})[^\n]*"
    r"(?:\n(?:\1[^\S\n]+[^\n]*|[^\S\n]*(?=\n)))*",
    re.MULTILINE,
)
_ITEM = re.compile(r"(?:[-*+•]|\d{1,3}[.)])\s+")
_TABLE = re.compile(r"^[^\S\n]*(?:\|.*\||[=+-]{3,}[=+ -]*)[^\S\n]*$", re.MULTILINE)

_NOT_WORDS = re.compile(
    _IMAGE
    + r"|<!--.*?-->|(?<!`)</?(?:a|b|br|center|details|div|em|h\d|hr|i|img|p|picture|source|span|strong|sub|summary|"
    r"sup|table|tbody|td|th|thead|tr|ul|ol|li)\b[^<>]*>|^[^\S\n]*>(?!>)[^\S\n]?(?:\[!\w+\])?",
    re.DOTALL | re.MULTILINE,
)


def prose(text: str, span: Span) -> list[Span]:
    """Sentences of a stretch of text, without code, tables, list marks, and directives such as versionadded."""
    piece = text[span.start : span.end]
    for skipped in (_CODE, _DIRECTIVE, _ADMONITION, _INDENTED_CODE, _TABLE):
        piece = skipped.sub(_blank, piece)
    piece = _NOT_WORDS.sub(lambda match: " " * len(match[0]), piece)
    found = []
    for sentence in sentences(piece):
        mark = _ITEM.match(piece, sentence.start, sentence.end)
        found.append(Span(span.start + (mark.end() if mark else sentence.start), span.start + sentence.end))
    return found


def is_item(text: str, span: Span) -> bool:
    """Whether a sentence from `prose` opens a list item."""
    line = text[text.rfind("\n", 0, span.start) + 1 : span.start]
    return bool(_ITEM.fullmatch(line.lstrip()))


def _blank(match: re.Match[str]) -> str:
    """Line breaks in place of what is matched, of the same length, so that offsets stay and sentences end."""
    return "\n" * len(match[0])


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the span of the text directly below it, up to the next heading."""

    heading: str
    body: Span


_HEADING = re.compile(
    r"^[^\S\n]{0,3}(?:#{1,6}[^\S\n]+(?P<marked>\S[^\n]*?)(?:[^\S\n]+#+)?|(?P<asked>[A-Z][^\n]{5,100}\?))[^\S\n]*$",
    re.MULTILINE,
)


def sections(text: str) -> Iterator[Section]:
    """Headings of Markdown or text, where a line that asks a question is one too; the text above them has none."""
    blanked = _CODE.sub(_blank, text)
    heading, start = "", 0
    for match in _HEADING.finditer(blanked):
        if heading or text[start : match.start()].strip():
            yield Section(heading, Span(start, match.start()))
        heading, start = plain(match["marked"] or match["asked"]), match.end()
    yield Section(heading, Span(start, len(text)))
