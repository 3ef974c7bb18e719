"""Word, PowerPoint and Excel files to Markdown, after a look at what their ZIP archive would unpack to."""

import re
import zipfile
import zlib
from collections.abc import Iterator
from datetime import datetime, time
from io import BytesIO
from itertools import chain
from typing import Any

from ragline.corpus.format_markdown import MAX_CHARACTERS, Loaded, joined, one_line, paged, prose, table
from ragline.corpus.format_text import LEAVE_OUT
from ragline.errors import DataError

MAIN_PARTS = {
    ".docx": b"wordprocessingml.document.main+xml",
    ".pptx": b"presentationml.presentation.main+xml",
    ".xlsx": b"spreadsheetml.sheet.main+xml",
}
"""Content type of the main part, by suffix."""

MAX_XML_BYTES = 50_000_000
"""Unpacked XML of one file; at this size parsing was measured to take 0.8 GB."""

MAX_UNPACKED_BYTES = 400_000_000
"""Everything in the archive, pictures too."""

MAX_CELLS = 2_000_000
"""Cells visited in a workbook, empty ones too: one cell in the last row and column claims 17 billion."""

_BLOCK_BYTES = 1 << 16
_DOCTYPE = re.compile(rb"<\0?!\0?D\0?O\0?C\0?T\0?Y\0?P\0?E|<\0?!\0?E\0?N\0?T\0?I\0?T\0?Y", re.IGNORECASE)
_HEADING = re.compile(r"heading ([1-9])$", re.IGNORECASE)
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_NOT_SAID = frozenset(f"{_W}{tag}" for tag in ("pPr", "rPr", "del", "moveFrom", "instrText"))
"""Besides these, the Fallback of an AlternateContent repeats what its preferred form says."""


# --- the archive -----------------------------------------------------------------------------------


def check_archive(content: bytes, suffix: str, shown: str) -> None:
    """Unpack every member once, in blocks that are thrown away, before anything parses them.

    Archives inside the archive are counted as bytes and never opened. A document type is refused: Office
    files have none, and entities that multiply need one.

    Raises:
        DataError: cut short, another kind of file, encrypted, unpacks to too much, or with a document type.
    """
    kind = suffix[1:].upper()
    total = xml = 0
    types = b""
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            for member in archive.infolist():
                is_xml = member.filename.lower().endswith((".xml", ".rels"))
                before = b""
                with archive.open(member) as stream:
                    while block := stream.read(_BLOCK_BYTES):
                        total += len(block)
                        xml += len(block) * is_xml
                        if total > MAX_UNPACKED_BYTES or xml > MAX_XML_BYTES:
                            raise DataError(
                                f"{shown}: expected at most {MAX_XML_BYTES // 10**6} MB of XML and "
                                f"{MAX_UNPACKED_BYTES // 10**6} MB in all when unpacked, got more "
                                f"from {len(content):,} bytes; split the file {LEAVE_OUT}"
                            )
                        if is_xml and _DOCTYPE.search(before + block):
                            raise DataError(
                                f"{shown}: {member.filename}: expected plain XML, got a document type or an entity; "
                                f"save the file anew {LEAVE_OUT}"
                            )
                        before = block[-32:]
                        if member.filename == "[Content_Types].xml":
                            types += block
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DataError(
            f"{shown}: expected a whole {kind} file, got an archive that does not unpack: {one_line(str(error))}; "
            f"copy or save the file anew {LEAVE_OUT}"
        ) from None
    if MAIN_PARTS[suffix] not in types:
        other = next((s[1:].upper() for s, mark in MAIN_PARTS.items() if mark in types), "another ZIP archive")
        raise DataError(f"{shown}: expected a {kind} file, got {other}; mend its suffix {LEAVE_OUT}")


# --- Word ------------------------------------------------------------------------------------------


def word(content: bytes, name: str) -> Loaded:
    """Headings, paragraphs, lists and tables in order, also inside content controls and insertions.

    python-docx opens the file; its own walk would leave out both of those. Deleted text, field codes,
    headers and footers stay out.

    Returns:
        The title is the file's own, else its Title paragraph or first heading, else its name.
    """
    from docx import Document

    document = Document(BytesIO(content))
    styles = {style.style_id: str(style.name) for style in document.styles}
    blocks = list(_word_blocks(document.element.body, styles))
    heading = next((text.lstrip("# ") for text in blocks if re.match("#+ ", text)), "")
    own = one_line(document.core_properties.title or "")
    return Loaded(
        (own if own.lower() != "word document" else "") or heading or name, joined(_tight(blocks)), "markdown"
    )


def _word_blocks(parent: Any, styles: dict[str, str]) -> Iterator[str]:
    for child in parent:
        if child.tag == f"{_W}p":
            yield _word_paragraph(child, styles)
        elif child.tag == f"{_W}tbl":
            yield table(_word_rows(child))
        elif isinstance(child.tag, str) and child.tag != f"{_W}del":
            yield from _word_blocks(child, styles)


def _word_paragraph(paragraph: Any, styles: dict[str, str]) -> str:
    text = _word_text(paragraph)
    line = one_line(text)
    properties = paragraph.find(f"{_W}pPr")
    if not line or properties is None:
        return prose(text.strip())
    style = styles.get(_value(properties.find(f"{_W}pStyle")), "")
    outline = _value(properties.find(f"{_W}outlineLvl"))
    if style.lower() == "title":
        return f"# {line}"
    if found := _HEADING.match(style):
        return f"{'#' * min(int(found[1]), 6)} {line}"
    if outline.isdigit() and int(outline) < 6:
        return f"{'#' * (int(outline) + 1)} {line}"
    numbering = properties.find(f"{_W}numPr")
    if numbering is None and not style.lower().startswith("list"):
        return prose(text.strip())
    level = _value(numbering.find(f"{_W}ilvl")) if numbering is not None else ""
    return "  " * min(int(level) if level.isdigit() else 0, 8) + f"- {line}"


def _word_text(element: Any) -> str:
    parts: list[str] = []
    for child in element:
        if child.tag == f"{_W}t":
            parts.append(child.text or "")
        elif child.tag == f"{_W}tab":
            parts.append("\t")
        elif child.tag in (f"{_W}br", f"{_W}cr"):
            parts.append("\n")
        elif child.tag == f"{_W}noBreakHyphen":
            parts.append("-")
        elif isinstance(child.tag, str) and child.tag not in _NOT_SAID and not child.tag.endswith("}Fallback"):
            parts.append(_word_text(child))
    return "".join(parts)


def _word_rows(element: Any) -> Iterator[list[str]]:
    for row in element.iterchildren(f"{_W}tr", f"{_W}sdt", f"{_W}ins"):
        if row.tag != f"{_W}tr":
            yield from _word_rows(next(iter(row.iterchildren(f"{_W}sdtContent")), row))
            continue
        cells: list[str] = []
        for cell in row.iter(f"{_W}tc"):
            if next(cell.iterancestors(f"{_W}tr")) is not row:
                continue  # of a table in a cell, whose text the cell holds already
            cells.append(" ".join(_word_text(p) for p in cell.iter(f"{_W}p")))
            span = cell.find(f"{_W}tcPr/{_W}gridSpan")
            wide = _value(span)
            cells += [""] * (min(int(wide), 50) - 1 if wide.isdigit() else 0)
        yield cells


def _value(element: Any) -> str:
    return "" if element is None else element.get(f"{_W}val", "")


def _tight(blocks: list[str]) -> Iterator[str]:
    """Neighbouring list items as one block."""
    run: list[str] = []
    for block in chain(blocks, [""]):
        if re.match(r" *- ", block):
            run.append(block)
            continue
        yield "\n".join(run)
        run = []
        yield block


# --- PowerPoint ------------------------------------------------------------------------------------


def slides(content: bytes, name: str) -> Loaded:
    """Each slide under its title, with text, tables and speaker's notes; a slide counts as a page."""
    from pptx import Presentation

    deck = Presentation(BytesIO(content))
    pages = [joined(_slide(slide)) for slide in deck.slides]
    text, starts = paged(pages)
    own = one_line(deck.core_properties.title or "")
    first = next((line.lstrip("# ") for page in pages for line in page.split("\n") if line.startswith("#")), "")
    return Loaded((own if own.lower() != "powerpoint presentation" else "") or first or name, text, "markdown", starts)


def _slide(slide: Any) -> Iterator[str]:
    title = slide.shapes.title
    if title is not None and (line := one_line(title.text_frame.text)):
        yield f"## {line}"
    for shape in slide.shapes:
        if title is None or shape.shape_id != title.shape_id:
            yield from _shape(shape)
    frame = slide.notes_slide.notes_text_frame if slide.has_notes_slide else None
    if frame is not None and (notes := frame.text.strip()):
        yield "Notes: " + prose(notes)


def _shape(shape: Any) -> Iterator[str]:
    if hasattr(shape, "shapes"):  # a group
        for inner in shape.shapes:
            yield from _shape(inner)
    elif getattr(shape, "has_table", False):
        yield table([cell.text for cell in row.cells] for row in shape.table.rows)
    elif shape.has_text_frame:
        lines = [(p.level, one_line(p.text)) for p in shape.text_frame.paragraphs]
        said = [(level, line) for level, line in lines if line]
        if len(said) == 1:
            yield prose(said[0][1])
        else:
            yield "\n".join(f"{'  ' * level}- {line}" for level, line in said)


# --- Excel -----------------------------------------------------------------------------------------


def workbook(content: bytes, name: str, shown: str) -> Loaded:
    """Each sheet under its name, as one table whose header is its first row; stored values, not formulas.

    Raises:
        DataError: more cells, or longer text, than any document for people has.
    """
    from openpyxl import load_workbook

    book = load_workbook(BytesIO(content), read_only=True, data_only=True, keep_links=False)
    blocks: list[str] = []
    visited = characters = 0
    for sheet in book.worksheets:
        rows: list[list[str]] = []
        for row in sheet.iter_rows(values_only=True):
            visited += 1 + len(row)
            cells = [_cell(value) for value in row]
            if any(cells):
                rows.append(cells)
                characters += sum(map(len, cells))
            if visited > MAX_CELLS or characters > MAX_CHARACTERS:
                raise DataError(
                    f"{shown}: sheet {sheet.title!r}: expected at most {MAX_CELLS:,} cells and {MAX_CHARACTERS:,} "
                    f"characters in a workbook, got more; split it, delete far-off cells {LEAVE_OUT}"
                )
        if found := table(rows):
            blocks += [f"## {one_line(sheet.title)}", found]
    own = one_line(book.properties.title or "")
    book.close()
    return Loaded(own or name, joined(blocks), "markdown")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.15g}"  # what Excel shows: 0.3, not 0.30000000000000004
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ")
    return str(value)
