"""What a section of the page is made of."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ragline.reporting import tables
from ragline.reporting.comparisons import Pair
from ragline.reporting.formats import plural
from ragline.reporting.inputs import Inputs
from ragline.reporting.tables import Table


@dataclass(frozen=True)
class Figure:
    """A chart, its title and how to read it."""

    title: str
    note: str
    chart: Markup


@dataclass(frozen=True)
class Block:
    """What stands under one heading: words, then figures, tables, and tables that fold away."""

    heading: str
    words: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[tuple[str, Table], ...] = ()
    """The line that unfolds it, and the table."""


@dataclass(frozen=True)
class Section:
    """One section of the page, without its heading."""

    words: tuple[str, ...]
    blocks: tuple[Block, ...]
    note: str = ""


def compared(
    what: str, pairs: Sequence[Pair], name: str, family: str, level: str
) -> tuple[tuple[Table, ...], tuple[tuple[str, Table], ...]]:
    """The headline comparisons in the open, the others folded away."""
    found = tables.forests(what, pairs, name, family, level)
    folded = tuple((f"The other metrics: {plural(len(table.rows), 'comparison')}", table) for table in found[1:])
    return tuple(found[:1]), folded


def level(inputs: Inputs) -> str:
    """`95 %`: how sure the intervals are."""
    return f"{round(100 * inputs.comparisons['level'])} %"
