"""Sentences and words: the two units that rules, answers and metrics share."""

import re

from ragline.types import Span

_ABBREVIATIONS = frozenset(
    "approx cf ch dr e.g eg eq esp fig i.e ie incl mr mrs ms nos pp prof resp sec st vs viz".split()
)
_BLANK = re.compile(r"\n(?:[^\S\n]*\n)+")
_STOP = re.compile(r"[.!?]+[\"'”’)\]*_`]*(?=\s)")
_NEXT_OPENS = re.compile(r"\s+[\"'“‘(\[*_`:<{~]*[^\W_a-zß-öø-ÿ]")
_LAST_WORD = re.compile(r"[\w.]*$")
_MARKER = re.compile(r"\s*(?:[-*+•]|\d{1,3}[.)])\s+")
_TITLE = re.compile(r"\s*#{1,6}\s|\s*>>>\s")
_RULE = re.compile(r"\s*([-=~^\"'#*+_])\1{2,}\s*$")
_FIELD = re.compile(r"\s*\*{0,2}[\w.,]+(?: [\w.]+)?(?: ?: .*|:)?\s*$")
_ENTRY = re.compile(r"\s*\*{0,2}[\w.]+ : ")
_CAPITAL = re.compile(r"\s*[`\"'(*]*[A-Z0-9]")
_GOES_ON = re.compile(r"(?:\b(?:a|an|and|as|by|for|in|of|on|or|the|to|with)|[^\w)\]\"'`?!])$")
_SHORT_LINE = 45
"""Text wrapped at some width has no shorter line before its end: such a line is a title or a paragraph of its own."""

_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def sentences(text: str) -> list[Span]:
    """Offsets of the sentences in prose, without the white space around them.

    A sentence ends at a full stop before white space and a capital (not after `e.g.`, in `3.0` or `pandas.merge`),
    at a blank line, before a list item, after a short line without a stop, and where a heading or a field such as
    `how : str` gives way to its text.
    What has no letter or digit is left out; everything else stands in exactly one sentence.
    """
    found = []
    for block in _blocks(text):
        start = block.start
        for stop in _STOP.finditer(text, block.start, block.end):
            if _NEXT_OPENS.match(text, stop.end(), block.end) and not _is_abbreviation(text, start, stop.start()):
                found.append(_trim(text, start, stop.end()))
                start = stop.end()
        found.append(_trim(text, start, block.end))
    return [span for span in found if _WORD.search(text, span.start, span.end)]


def word_tokens(text: str) -> list[str]:
    """Lower-cased words; `groupby_sum`, `Series.dt` and `DataFrame` give two each."""
    return [part.lower() for word in _WORD.findall(text) for part in _HUMP.split(word)]


def _blocks(text: str) -> list[Span]:
    """Runs of lines that may hold more than one sentence but never share one."""
    blocks = []
    start = 0
    for end, resume in [*(gap.span() for gap in _BLANK.finditer(text)), (len(text), len(text))]:
        position, previous = start, ""
        for line in text[start:end].splitlines(keepends=True):
            if previous and _starts_block(previous, line):
                blocks.append(Span(start, position))
                start = position
            position += len(line)
            previous = line
        blocks.append(Span(start, end))
        start = resume
    return blocks


def _starts_block(previous: str, line: str) -> bool:
    if any(mark.match(line) for mark in (_MARKER, _TITLE, _RULE, _ENTRY)):
        return True
    if _TITLE.match(previous) or _RULE.match(previous):
        return True
    above = previous.rstrip()
    if len(above) < _SHORT_LINE and _CAPITAL.match(line) and not _GOES_ON.search(above):
        return True
    deeper = _indent(line) - _indent(previous)
    return deeper < 0 or (deeper > 0 and bool(_FIELD.match(previous) and _CAPITAL.match(line)))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _is_abbreviation(text: str, start: int, stop: int) -> bool:
    """Whether the full stop at `stop` belongs to `e.g.`, to an initial, or to the number of a list item."""
    match = _LAST_WORD.search(text, start, stop)
    word = match.group().strip(".") if match else ""
    if text[stop] != ".":
        return False
    if _MARKER.fullmatch(text[start : stop + 1] + " "):
        return True
    return word.lower() in _ABBREVIATIONS or (len(word) == 1 and word.isupper() and word != "I")


def _trim(text: str, start: int, end: int) -> Span:
    piece = text[start:end]
    return Span(start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip()))
