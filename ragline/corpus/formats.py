"""One file's bytes to text: by suffix, after a look at whether the bytes are what the suffix says."""

from pathlib import PurePosixPath

from ragline.corpus import format_html, format_office, format_pdf, format_text
from ragline.corpus.format_markdown import Loaded, one_line
from ragline.corpus.format_text import LEAVE_OUT
from ragline.errors import DataError

MARKDOWN = frozenset({".md", ".markdown"})
HTML = frozenset({".html", ".htm", ".xhtml"})
OFFICE = frozenset(format_office.MAIN_PARTS)
HEAVY = OFFICE | {".pdf"} | HTML
"""Suffixes of files that take long enough to be read by several processes."""

_SIGNS: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"%PDF-", "a PDF"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file, or one with a password"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\x89PNG\r\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"\x7fELF", "a program"),
    (b"{\\rtf", "an RTF file"),
)


def load(content: bytes, name: str, shown: str) -> Loaded:
    """Turn the bytes of one file into text. Nothing in it is run, nothing it names is fetched.

    Args:
        name: the file's name; its suffix, in any case, tells the format, and an unknown one means text.
        shown: the file as messages name it.

    Raises:
        DataError: the bytes are not what the suffix says, or cannot be read; names the file.
    """
    suffix = PurePosixPath(name).suffix.lower()
    _check_kind(content, suffix, shown)
    if suffix in OFFICE:
        format_office.check_archive(content, suffix, shown)
    try:
        return _loaded(content, name, suffix, shown)
    except DataError:
        raise
    except Exception as error:  # parsers of other people's formats may raise anything on a broken file
        raise DataError(
            f"{shown}: expected a {suffix[1:].upper()} file that can be read, got {type(error).__name__}: "
            f"{one_line(str(error))[:200]}; save it anew {LEAVE_OUT}"
        ) from None


def _loaded(content: bytes, name: str, suffix: str, shown: str) -> Loaded:
    if suffix == ".pdf":
        return format_pdf.document(content, name, shown)
    if suffix == ".docx":
        return format_office.word(content, name)
    if suffix == ".pptx":
        return format_office.slides(content, name)
    if suffix == ".xlsx":
        return format_office.workbook(content, name, shown)
    if suffix in HTML:
        text = format_text.decode(content, shown, format_html.declared_encoding(content))
        return format_html.page(text, name, shown)
    text = format_text.decode(content, shown)
    if suffix == ".ipynb":
        return format_text.notebook(text, name, shown)
    if suffix == ".csv":
        return format_text.delimited(text, name, shown)
    if suffix == ".tsv":
        return format_text.delimited(text, name, shown, "\t")
    if suffix == ".rst":
        return format_text.restructured(text, name)
    return format_text.markdown(text, name) if suffix in MARKDOWN else Loaded(name, text, "text")


def _check_kind(content: bytes, suffix: str, shown: str) -> None:
    found = next((kind for sign, kind in _SIGNS if content.startswith(sign)), "")
    if suffix in OFFICE:
        wanted, fits = f"a {suffix[1:].upper()} file", found == "a ZIP archive"
    elif suffix == ".pdf":
        wanted, fits = "a PDF", b"%PDF-" in content[:1024]  # other bytes may stand before it
    else:
        wanted, fits = "text", not found
    if not fits and content.strip():
        other = found or "something else"
        raise DataError(f"{shown}: expected {wanted}, got {other}; mend its suffix, convert it {LEAVE_OUT}")
