"""Filters over what is known of a passage: which documents, titles, headings and pages a search may look at."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import translate

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
    """The filterable fields of a corpus, 16 bytes a passage beside the different values."""

    doc_id: _Column
    title: _Column
    heading: _Column
    page: npt.NDArray[np.int32]

    def mask(self, where: Where) -> Mask:
        """(n_passages,): True where a passage may be found."""
        allowed = np.ones(len(self.page), dtype=np.bool_)
        for column, pattern in (
            (self.doc_id, where.doc_id),
            (self.title, where.title),
            (self.heading, where.heading),
        ):
            if pattern != ANY:
                allowed &= column.like(pattern)
        if where.pages is not None:
            allowed &= (self.page >= where.pages[0]) & (self.page <= where.pages[1])
        return allowed


def fields_of(passages: Sequence[Passage]) -> Fields:
    """Read the filterable fields of a corpus once, for any number of filters."""
    return Fields(
        _column(p.doc_id for p in passages),
        _column(p.title for p in passages),
        _column(p.heading for p in passages),
        np.fromiter((p.page for p in passages), np.int32, len(passages)),
    )
