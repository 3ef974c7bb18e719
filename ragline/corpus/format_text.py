"""Plain text, reStructuredText, notebooks and delimited tables; how bytes become characters."""

import codecs
import csv
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from io import StringIO
from itertools import islice
from typing import Any

from ragline.corpus.format_markdown import Loaded, fenced, joined, table
from ragline.corpus.sections import headings
from ragline.errors import DataError

LEAVE_OUT = "or leave it out with `include` in params.yaml"

_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)  # the little-endian one starts like UTF-16's
_DOUBLY_ENCODED = re.compile(
    "[ÂÃÐÑ][\u0080-\u00bf\u2013-\u203a\u20ac\u2122ŒœŠšŽžŸƒˆ˜]|â[\u0080-\u00bf€][\u0080-\u02dc\u2013-\u2122]"
)
_WESTERN = "àáâäãåæçèéêëìíîïñòóôöõøœùúûüýÿß"
_CENTRAL = {
    "Polish": "ąćęłńóśźż",
    "Czech": "áčďéěíňóřšťúůýž",
    "Slovak": "áäčďéíĺľňóôŕšťúýž",
    "Hungarian": "áéíóöőúüű",
    "Croatian": "čćđšž",
    "Slovene": "čšž",
}
"""Letters beyond ASCII of languages whose Windows code page is 1250; elsewhere in the west it is 1252."""

_MARKS_IN_WORDS = "’·\xa0"
_MARKS = "–—‘“”„«»…€£§°¿¡©®™×•½²³" + _MARKS_IN_WORDS
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_RST_MARKS = '=-~^"*+#'
_RST_LINE = re.compile(r"([!-/:-@\[-`{-~])\1{2,}[ \t]*$")


# --- characters ------------------------------------------------------------------------------------


def decode(content: bytes, shown: str, declared: str = "") -> str:
    """Characters of a text file, byte-order mark taken off, line ends `\\n`.

    UTF-8, UTF-16 with its mark, the encoding the file declares, then charset-normalizer's guess where its
    candidates leave no doubt.

    Args:
        declared: encoding named by the file itself, as an HTML page does.

    Raises:
        DataError: binary, in no encoding that is sure, or decoded wrongly before it was saved.
    """
    encoding = next((name for mark, name in _BOMS if content.startswith(mark) and not content.startswith(_UTF32)), "")
    if encoding != "utf-16" and (at := content.find(b"\0")) >= 0:
        raise DataError(
            f"{shown}: byte {at}: expected UTF-8 text, got binary (a NUL byte); convert the file {LEAVE_OUT}"
        )
    try:
        text = content.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        # offsets count from after the byte-order mark, where there is one
        start = error.start + (len(content) - len(error.object))
        guessed = "" if encoding else _declared(content, declared) or _guessed(content)
        if not guessed:
            wanted = "UTF-16" if encoding == "utf-16" else "UTF-8"
            raise DataError(
                f"{shown}: byte {start}: expected {wanted} text, got {content[start : start + 4]!r}; "
                f"convert the file to UTF-8 {LEAVE_OUT}"
            ) from None
        text = guessed
    _refuse_mojibake(text, shown)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _declared(content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding) if encoding else ""
    except (LookupError, UnicodeDecodeError):
        return ""


def _guessed(content: bytes) -> str:
    """The text in charset-normalizer's encoding where that is sure; else empty.

    It tells scripts and languages apart, but not the many code pages of Latin script, several of which read as
    well as the right one. There the language chooses Windows' own, and what comes out must be spelt like it.
    """
    from charset_normalizer import from_bytes

    matches = list(from_bytes(content[:100_000]))
    if not matches:
        return ""
    best = matches[0]
    several_bytes = best.multi_byte_usage > 0.2
    if best.chaos > 0.1 or (best.coherence < 0.4 and not several_bytes):
        return ""
    foreign = [char for char in str(best) if char.isalpha() and char > "\x7f"]
    if foreign and all(unicodedata.name(char, "").startswith("LATIN") for char in foreign):
        letters = _CENTRAL.get(best.language, "")
        text = _declared(content, "cp1250" if letters else "cp1252")
        return text if _is_spelt_with(text, letters or _WESTERN) else ""
    rivals = [match for match in matches if match.chaos <= 0.1 and match.coherence > best.coherence - 0.1]
    sure = several_bytes or len({str(match) for match in rivals}) == 1
    return _declared(content, best.encoding) if sure else ""


def _is_spelt_with(text: str, letters: str) -> bool:
    """Whether all beyond ASCII are these letters and usual marks, capitals and marks where they belong."""
    for before, char, after in zip(" " + text, text, text[1:] + " ", strict=False):
        if char <= "\x7f":
            continue
        if char.lower() in letters:
            if char.isupper() and before.islower():
                return False
        elif char not in _MARKS or (char not in _MARKS_IN_WORDS and before.isalpha() and after.isalpha()):
            return False
    return True


def _refuse_mojibake(text: str, shown: str) -> None:
    lost = text.count("\ufffd")
    if lost >= 3 and lost * 1000 > len(text):
        raise DataError(
            f"{shown}: character {text.index(chr(0xFFFD))}: expected text, got {lost} replacement characters (U+FFFD) "
            f"in {len(text)}; export the file anew as UTF-8 {LEAVE_OUT}"
        )
    if text.isascii():
        return
    found = [match for match in _DOUBLY_ENCODED.finditer(text) if _is_doubly_encoded(match[0])]
    foreign = sum(1 for char in text if char > "\x7f")
    if len(found) >= 3 and 2 * sum(len(match[0]) for match in found) >= foreign:
        raise DataError(
            f"{shown}: character {found[0].start()}: expected text, got UTF-8 decoded as another encoding "
            f"({found[0][0]!a}); export the file anew as UTF-8 {LEAVE_OUT}"
        )


def _is_doubly_encoded(text: str) -> bool:
    for encoding in ("cp1252", "latin-1"):
        try:
            return len(text.encode(encoding).decode("utf-8")) == 1
        except UnicodeError:
            continue
    return False


# --- text and Markdown -----------------------------------------------------------------------------


def markdown(text: str, name: str) -> Loaded:
    """Markdown as it is; the title is its first heading, or the file's name."""
    return Loaded(first_heading(text, "markdown") or name, text, "markdown")


def first_heading(text: str, format: str) -> str:
    """Title of the first heading that has one; empty where there is none."""
    return next((heading.title for heading in headings(text, format) if heading.title), "")


def restructured(text: str, name: str) -> Loaded:
    """reStructuredText as text whose titles are underlined by level: `=`, `-`, `~` …, no overlines.

    Authors choose the marks, and an overlined mark is another level than the same mark alone. Nothing is
    included, run or fetched: directives stay as they were typed.
    """
    lines = text.split("\n")
    styles: list[str] = []
    out: list[str] = []
    at = 0
    while at < len(lines):
        over = _titled(lines, at)
        if over is None:
            out.append(lines[at])
            at += 1
            continue
        title, style = lines[at + over].strip(), lines[at + over + 1][0] + "o" * over
        if style not in styles:
            styles.append(style)
        mark = _RST_MARKS[min(styles.index(style), len(_RST_MARKS) - 1)]
        out += [title, mark * max(3, len(title))]
        at += over + 2
    clean = "\n".join(out)
    return Loaded(first_heading(clean, "text") or name, clean, "text")


def _titled(lines: list[str], at: int) -> int | None:
    """1 for a title with an overline at this line, 0 for one without, None for no title."""
    if at and lines[at - 1].strip():
        return None
    for over in (1, 0):
        if at + over + 1 >= len(lines):
            continue
        title, under = lines[at + over], lines[at + over + 1].rstrip()
        if not _RST_LINE.match(under) or not any(c.isalpha() for c in title) or len(under) < len(title.rstrip()):
            continue
        if over and lines[at].rstrip() == under:
            return 1
        if not over and not title[0].isspace():
            return 0
    return None


# --- notebooks -------------------------------------------------------------------------------------


def notebook(text: str, name: str, shown: str) -> Loaded:
    """A Jupyter notebook: Markdown cells as they are, code and its text outputs fenced; pictures left out.

    Raises:
        DataError: not JSON, or without cells.
    """
    try:
        content = json.loads(text)
        cells = content["cells"] if "cells" in content else [c for s in content["worksheets"] for c in s["cells"]]
        language = content.get("metadata", {}).get("language_info", {}).get("name", "python")
        blocks = [block for cell in cells for block in _cell(cell, language)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{shown}: expected a notebook (JSON with cells), got {type(error).__name__}: {error}; "
            f"save it anew {LEAVE_OUT}"
        ) from None
    return markdown(joined(blocks), name)


def _cell(cell: dict[str, Any], language: str) -> Iterator[str]:
    source = _lines(cell.get("source", cell.get("input", "")))
    kind = cell["cell_type"]
    if kind == "heading":  # until format 3
        yield f"{'#' * int(cell['level'])} {source}"
    elif kind != "code":
        yield source
    else:
        yield fenced(source, language)
        for output in cell.get("outputs", []):
            shown = output.get("text") or output.get("data", {}).get("text/plain", "")
            yield fenced(_ANSI.sub("", _lines(shown)), "text")


def _lines(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)


# --- delimited tables ------------------------------------------------------------------------------


def delimited(text: str, name: str, shown: str, delimiters: str = ",;\t|") -> Loaded:
    """A CSV or TSV file as one Markdown table under its header.

    Args:
        delimiters: what may separate cells; the one that gives the most even rows does.

    Raises:
        DataError: not readable as CSV.
    """
    limit = csv.field_size_limit(len(text) + 1)  # cells of 131,072 characters are legal
    try:
        shapes = {mark: _shape(text, mark) for mark in delimiters}
        best = max(delimiters, key=lambda mark: shapes[mark])
        rows = list(csv.reader(StringIO(text, newline=""), delimiter=best))
    except csv.Error as error:
        raise DataError(f"{shown}: expected CSV, got {error}; mend the file {LEAVE_OUT}") from None
    finally:
        csv.field_size_limit(limit)
    return Loaded(name, joined([table(rows)]), "markdown")


def _shape(text: str, delimiter: str) -> tuple[bool, float, int]:
    """(more than one column, share of rows with the usual number of cells, that number) of the first rows."""
    rows = [row for row in islice(csv.reader(StringIO(text, newline=""), delimiter=delimiter), 50) if row]
    if not rows:
        return (False, 0.0, 0)
    cells, count = Counter(map(len, rows)).most_common(1)[0]
    return (cells > 1, count / len(rows), cells)
