"""What a contract says of a table: the expectations that hold, those that do not, and the rows that break them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Severity = Literal["critical", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")
"""A critical one stops the pipeline, a warning is logged, an info is for the page."""
EXAMPLES = 3
"""Rows that are named of those that break an expectation."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row that breaks an expectation."""

    row_id: str
    """The row's own id; `row n`, counted from 0, in a table without ids."""
    value: str
    """What stands there, or what is wrong with it; shortened."""


@dataclass(frozen=True, slots=True)
class Broken:
    """An expectation that a table does not meet."""

    severity: Severity
    expectation: str
    """In plain words."""
    column: str
    """Empty where it is about the table as a whole."""
    count: int
    """Rows that break it; for the table as a whole, what was counted instead."""
    rows: int
    """Rows it was held against."""
    examples: tuple[Example, ...]
    """At most three."""
    do: str

    def line(self, table: Path) -> str:
        """Where: expected, got; what to do."""
        where = f"{table}: {self.column}" if self.column else str(table)
        got = f"{self.count:,} of {self.rows:,} rows otherwise" if self.examples else f"{self.count:,}"
        shown = ", ".join(f"{example.row_id!r} ({example.value})" for example in self.examples)
        return f"{where}: expected {self.expectation}, got {got}{shown and ': ' + shown}; {self.do}"


@dataclass(frozen=True, slots=True)
class Held:
    """An expectation that a table meets."""

    severity: Severity
    expectation: str
    column: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of every expectation of a suite."""

    suite: str
    table: Path
    rows: int
    schema: tuple[Broken, ...]
    """Columns that are missing, too many or of another type; all critical."""
    broken: tuple[Broken, ...]
    """Most severe first, then in the order of the suite."""
    held: tuple[Held, ...]
    unchecked: tuple[Held, ...]
    """Those that need a column with a fault in `schema`."""

    def lines(self, *severities: Severity) -> tuple[str, ...]:
        """One line for each broken expectation, most severe first; of these severities, or of all."""
        wanted = severities or SEVERITIES
        return tuple(b.line(self.table) for b in (*self.schema, *self.broken) if b.severity in wanted)


def shown(value: Any) -> str:
    """A value on one line, shortened; texts in quotes, so that white space and control characters show."""
    if isinstance(value, tuple):
        return " and ".join(shown(part) for part in value)
    if value is None or value != value:  # NaN differs from itself
        return "missing"
    return shortened(repr(value) if isinstance(value, str) else str(value))


def shortened(text: str) -> str:
    """At most a hundred characters."""
    return text if len(text) <= 100 else f"{text[:99]}…"
