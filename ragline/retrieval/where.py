"""Filters over what is known of a passage: which documents, titles, headings and pages a search may look at."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import translate
from itertools import groupby
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from ragline.errors import DataError
from ragline.types import Passage

Mask = npt.NDArray[np.bool_]

ANY = "*"


@dataclass(frozen=True, slots=True)
class Where:
    """What a passage has to be; every part has to hold.

    Patterns are those of the shell, letter case counting: `*` any characters, `?` one, `[ab]` one of these; so
    `pandas.Series.*` is a prefix.
    """

    doc_id: str = ANY
    source: str = ANY
    """Of the document's source: a path, an address, whatever the loader gave."""
    title: str = ANY
    heading: str = ANY
    """Of the headings as they stand in the passage: outermost first, joined by ' > '."""
    pages: tuple[int, int] | None = None
    """First and last page on which a passage may begin; passages of documents without pages are then left out."""

    def __post_init__(self) -> None:
        if self.pages is not None and not 1 <= self.pages[0] <= self.pages[1]:
            raise DataError(
                f"where.pages: expected first and last page, from 1, got {self.pages}; give the smaller one first"
            )


PATTERNS = ("doc_id", "source", "title", "heading")
_PART = re.compile(rf",(?=(?:{'|'.join((*PATTERNS, 'pages'))})=)")
_PAGES = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


def parse(parts: Sequence[str]) -> Where | None:
    """A filter as a person types it: `title=*Guide*,pages=3-7`, in one part or several; None where there are none.

    A comma followed by a field's name and `=` begins the next field; any other belongs to the pattern.

    Raises:
        DataError: no such field, one twice, or pages that are no numbers.
    """
    found: dict[str, str] = {}
    for field in [field for part in parts for field in _PART.split(part)]:
        name, equals, value = field.partition("=")
        if not equals or name not in (*PATTERNS, "pages"):
            raise DataError(f"where: expected {', '.join(PATTERNS)} or pages, then = and a value, got {field!r}")
        if name in found:
            raise DataError(f"where: expected {name} once, got it again: {field!r}; join both into one pattern")
        found[name] = value
    if not found:
        return None
    pages = _pages(found.pop("pages")) if "pages" in found else None
    doc_id, source, title, heading = (found.get(name, ANY) for name in PATTERNS)
    return Where(doc_id, source, title, heading, pages)


def _pages(text: str) -> tuple[int, int]:
    numbers = _PAGES.fullmatch(text)
    if numbers is None:
        raise DataError(f"where.pages: expected a page or two, such as 3 or 3-7, got {text!r}")
    return int(numbers[1]), int(numbers[2] or numbers[1])


@dataclass(frozen=True, slots=True)
class _Column:
    """One field of every passage: its different values, and which of them each passage has."""

    values: tuple[str, ...]
    codes: npt.NDArray[np.int32]
    """(n_passages,)."""

    def like(self, pattern: str) -> Mask:
        """(n_passages,): where the value matches."""
        matches = re.compile(translate(pattern)).match
        fits = np.fromiter((matches(value) is not None for value in self.values), np.bool_, len(self.values))
        return fits[self.codes]


def _column(values: Iterable[str]) -> _Column:
    numbers: dict[str, int] = {}
    codes = [numbers.setdefault(value, len(numbers)) for value in values]
    return _Column(tuple(numbers), np.array(codes, dtype=np.int32))


@dataclass(frozen=True, slots=True)
class Fields:
    """The filterable fields of a corpus, 20 bytes a passage beside the different values."""

    doc_id: _Column
    source: _Column | None
    """None where no sources are known."""
    title: _Column
    heading: _Column
    page: npt.NDArray[np.int32]

    def mask(self, where: Where) -> Mask:
        """(n_passages,): True where a passage may be found.

        Raises:
            DataError: the filter asks for sources, of which none are known.
        """
        allowed = np.ones(len(self.page), dtype=np.bool_)
        for column, pattern in (
            (self.doc_id, where.doc_id),
            (self.source, where.source),
            (self.title, where.title),
            (self.heading, where.heading),
        ):
            if pattern != ANY:
                if column is None:
                    raise DataError("where.source: the sources of these documents are not known; filter by doc_id")
                allowed &= column.like(pattern)
        if where.pages is not None:
            allowed &= (self.page >= where.pages[0]) & (self.page <= where.pages[1])
        return allowed


def fields_of(passages: Sequence[Passage], sources: Mapping[str, str] = MappingProxyType({})) -> Fields:
    """Read the filterable fields of a corpus once, for any number of filters.

    Args:
        sources: doc_id → source; none where they are not known.
    """
    return Fields(
        _column(p.doc_id for p in passages),
        _column(sources.get(p.doc_id, "") for p in passages) if sources else None,
        _column(p.title for p in passages),
        _column(p.heading for p in passages),
        np.fromiter((p.page for p in passages), np.int32, len(passages)),
    )


def allowed_neighbours(passages: Sequence[Passage], where: Where, sources: Mapping[str, str]) -> list[Passage]:
    """The passages that a filter lets through, joined with no other: each stretch of neighbours is a parent by itself.

    Args:
        passages: those of one parent one after another, in document order.
        sources: doc_id → source; none where they are not known.

    Raises:
        DataError: the filter asks for sources, of which none are known.
    """
    mask = fields_of(passages, sources).mask(where).tolist()
    kept: list[Passage] = []
    for (parent, allowed), stretch in groupby(zip(passages, mask, strict=True), lambda pair: (pair[0].parent, pair[1])):
        members = [passage for passage, _ in stretch]
        if allowed:
            kept += [replace(p, parent=members[0].passage_id) for p in members] if parent else members
    return kept
