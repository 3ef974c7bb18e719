"""Holds a table against its suite, and says in one line each what is broken."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ragline import io
from ragline.contracts.derive import DERIVED, Columns, Derived
from ragline.contracts.page import page
from ragline.contracts.results import as_held, outcomes
from ragline.contracts.suite import KINDS, SUITES, TEXT, load_suite
from ragline.contracts.tables import Filled, columns_of, neighbour, read
from ragline.contracts.verdict import EXAMPLES, SEVERITIES, Broken, Example, Held, Verdict
from ragline.errors import ConfigError, DataError

log = logging.getLogger(__name__)


class BrokenContract(DataError):
    """A table that breaks a critical expectation."""


def check(
    table: Path,
    suite: str,
    *,
    beside: Mapping[str, Path] | None = None,
    parameters: Mapping[str, float] | None = None,
) -> Verdict:
    """Hold a table against its suite.

    Args:
        table: a Parquet file, or a folder of them that make one table.
        suite: `documents`, `passages` or `questions`.
        beside: where the tables `documents` and `passages` are, for what a suite compares with them; those left out are
            looked for beside `table`, then one folder up.
        parameters: values for the suite's own, such as `max_passage_tokens`.

    Raises:
        MissingArtifact: the table, or one that it is compared with, is not there.
        DataError: it is no Parquet file, or a table that it is compared with lacks a column.
        ConfigError: no such suite or parameter, or the suite's file is wrong.
    """
    if suite not in KINDS:
        raise ConfigError(f"suite {suite!r}: expected one of {', '.join(KINDS)}")
    contract = load_suite(SUITES / f"{suite}.json")
    if strange := sorted(set(parameters or ()) - contract.parameters.keys()):
        raise ConfigError(f"suite {suite}: no parameter {strange[0]!r}; expected one of {sorted(contract.parameters)}")
    values = {**contract.parameters, **(parameters or {})}
    contract = replace(contract, rules=tuple(replace(rule, says=rule.says.format(**values)) for rule in contract.rules))
    frame, texts, faults = read(table, suite)
    columns = {**columns_of(frame), **({TEXT: Filled(texts)} if texts is not None else {})}
    names = sorted({name for derived in DERIVED[suite].values() for name in derived.beside})
    neighbours = {name: neighbour(table, name, beside or {}) for name in names}
    sound = frame.drop(columns=[fault.column for fault in faults if fault.column in frame])
    present = set(sound.columns) | ({TEXT} if texts is not None else set())
    for name, derived in DERIVED[suite].items():
        if set(derived.needs) <= present:
            sound[name] = _derived_column(derived, columns, neighbours)
            present.add(name)
    found = outcomes([rule for rule in contract.rules if rule.columns <= present], suite, sound, texts, values)
    lost = _lost_documents(columns, neighbours["documents"]) if suite == "passages" and "doc_id" in sound else ()
    broken = (*lost, *(outcome for outcome in found if isinstance(outcome, Broken)))
    return Verdict(
        suite,
        table,
        len(frame),
        faults,
        tuple(sorted(broken, key=lambda b: SEVERITIES.index(b.severity))),
        tuple(outcome for outcome in found if isinstance(outcome, Held)),
        tuple(as_held(rule) for rule in contract.rules if not rule.columns <= present),
    )


def enforce(
    table: Path,
    suite: str,
    page_path: Path,
    *,
    beside: Mapping[str, Path] | None = None,
    parameters: Mapping[str, float] | None = None,
) -> Verdict:
    """`check`, then write the verdict as a page and, beside it, as JSON, and stop where a critical one is broken.

    Raises:
        BrokenContract: a critical expectation is broken; a line for each. Page and JSON are written before.
        MissingArtifact, ConfigError: as `check`.
    """
    verdict = check(table, suite, beside=beside, parameters=parameters)
    record = _record(verdict)
    io.write_json(record, page_path.with_suffix(".json"))
    with io.whole_file(page_path) as part:
        part.write_text(page(record), encoding="utf-8")
    for line in verdict.lines("info"):
        log.info("%s", line)
    for line in verdict.lines("warning"):
        log.warning("%s", line)
    if critical := verdict.lines("critical"):
        raise BrokenContract("\n".join(critical))
    log.info("%s: %d rows meet the contract", table, verdict.rows)
    return verdict


def _record(verdict: Verdict) -> dict[str, Any]:
    """The verdict as plain data, for the page and its JSON."""
    broken = (*verdict.schema, *verdict.broken)
    return {
        "suite": verdict.suite,
        "table": verdict.table.as_posix(),
        "rows": verdict.rows,
        "broken": [{**asdict(b), "line": b.line(verdict.table)} for b in broken],
        "held": [asdict(held) for held in verdict.held],
        "unchecked": [asdict(held) for held in verdict.unchecked],
    }


def _derived_column(derived: Derived, columns: Columns, neighbours: Mapping[str, Columns]) -> Any:
    import pandas as pd

    values = derived.make(columns, neighbours)
    number = any(isinstance(value, float) for value in values)
    return pd.Series(values, dtype="float64" if number else "str")


def _lost_documents(passages: Columns, documents: Columns) -> tuple[Broken, ...]:
    """Documents without a passage: no row of the table can say so, and neither can an expectation about its rows."""
    cut = set(passages["doc_id"])
    lost = [name for name in documents["doc_id"] if name not in cut]
    examples = tuple(Example(name, "no passage") for name in lost[:EXAMPLES])
    do = "the passages are older than the documents: run `dvc repro chunk`"
    says = "a passage for every document"
    return (Broken("critical", says, "doc_id", len(lost), len(documents["doc_id"]), examples, do),) if lost else ()
