"""Holds a table against its suite, and says in one line each what is broken.

A suite is a JSON file of Great Expectations under `suites/`. The meta of each expectation says in plain words what is
expected (`says`), what to do where it is not so (`do`), and the column to name where it looks at a derived one.
"""

import gc
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ragline import io
from ragline.artifacts import DOCUMENTS, PASSAGES
from ragline.contracts.derive import DERIVED, READ_BESIDE, Columns, Derived
from ragline.contracts.page import page
from ragline.errors import ConfigError, DataError, MissingArtifact
from ragline.types import Document, Passage, QAExample

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

Severity = Literal["critical", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")
"""A critical one stops the pipeline, a warning is logged, an info is for the page."""
KINDS: Mapping[str, type] = {"documents": Document, "passages": Passage, "questions": QAExample}
SUITES = Path(__file__).parent / "suites"

_BESIDE = {"documents": DOCUMENTS, "passages": PASSAGES}
_FILE = "file"
"""A column added to every table: the stem of the file that a row is from."""
_TEXT = "text"
"""The column that is read a batch at a time, for it is as large as the corpus."""
_TEXT_RULES = frozenset(
    "expect_column_values_to_not_be_null expect_column_values_to_match_regex "
    "expect_column_values_to_not_match_regex expect_column_value_lengths_to_be_between".split()
)
"""What can be said of a batch by itself."""
_BATCH_CHARACTERS = 20_000_000
_STREAMED: Mapping[str, Callable[[Path], Iterable[Document | Passage]]] = {
    "documents": partial(io.iter_table, Document),
    "passages": partial(io.iter_table, Passage),
}
_EXAMPLES = 3


class BrokenContract(DataError):
    """A table that breaks a critical expectation."""


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


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One expectation of a suite, as its file has it."""

    type: str
    kwargs: Mapping[str, Any]
    severity: Severity
    says: str
    do: str
    column: str

    @property
    def columns(self) -> frozenset[str]:
        """Columns that Great Expectations looks at."""
        named = [self.kwargs.get(key) for key in ("column", "column_A", "column_B")]
        return frozenset([name for name in named if name] + self.kwargs.get("column_list", []))


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite that Great Expectations has accepted whole."""

    name: str
    parameters: Mapping[str, float]
    """Values for `$PARAMETER` in the file, where the caller gives none."""
    rules: tuple[Rule, ...]


# --- suites ----------------------------------------------------------------------------------------


def load_suite(path: Path) -> Suite:
    """Read a suite, and make sure that Great Expectations takes every expectation of it: it drops what it cannot read.

    Raises:
        MissingArtifact: no such file.
        ConfigError: not a suite of a known table; names the expectation that is misspelt, has wrong arguments, looks at
            a column that there is not, or lacks `severity`, `says` or `do`.
    """
    try:
        spec = io.read_json(path)
        name, entries = spec["name"], spec["expectations"]
        parameters = dict(spec["meta"]["parameters"])
        kind = KINDS[name]
    except (DataError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, MissingArtifact):
            raise
        raise ConfigError(
            f"{path}: not a suite: {error}; expected JSON with name ({', '.join(KINDS)}), meta.parameters, expectations"
        ) from None
    known = {*io.SCHEMAS[kind].names, *DERIVED[name], _FILE}
    rules = tuple(_rule(entry, known, f"{path}: expectations[{number}]") for number, entry in enumerate(entries))
    accepted = _suite(name, rules, path).expectations
    if [expectation.expectation_type for expectation in accepted] != [rule.type for rule in rules]:
        raise ConfigError(f"{path}: expected {len(rules)} expectations, Great Expectations kept {len(accepted)}")
    for number, rule in enumerate(rules):
        if _TEXT in rule.columns and (rule.type not in _TEXT_RULES or "mostly" in rule.kwargs or len(rule.columns) > 1):
            raise ConfigError(
                f"{path}: expectations[{number}]: {rule.type}: {_TEXT!r} is read in batches, of which this cannot be "
                "said; derive a column and look at that"
            )
    return Suite(name, parameters, rules)


def _rule(entry: Mapping[str, Any], known: set[str], place: str) -> Rule:
    try:
        meta = entry["meta"]
        rule = Rule(entry["type"], entry["kwargs"], entry["severity"], meta["says"], meta["do"], meta.get("column", ""))
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{place}: expected type, kwargs, severity, meta.says and meta.do; mend {error}") from None
    if rule.severity not in SEVERITIES:
        raise ConfigError(f"{place}: severity: expected {', '.join(SEVERITIES)}, got {rule.severity!r}")
    if strange := sorted(rule.columns - known):
        raise ConfigError(f"{place}: {rule.type}: no column {strange[0]!r}; expected one of {', '.join(sorted(known))}")
    return rule


def _suite(name: str, rules: Iterable[Rule], path: Path) -> Any:
    """Great Expectations' own suite; the place of a rule goes with it, for results come in another order."""
    import great_expectations as gx
    from great_expectations.exceptions.exceptions import GreatExpectationsError
    from great_expectations.expectations import registry

    suite = gx.ExpectationSuite(name=name)
    for number, rule in enumerate(rules):
        if rule.type not in registry.list_registered_expectation_implementations():
            raise ConfigError(
                f"{path}: expectations[{number}]: Great Expectations {gx.__version__} has no {rule.type!r}; "
                "mend its name"
            )
        entry = {"type": rule.type, "kwargs": dict(rule.kwargs), "severity": rule.severity, "meta": {"rule": number}}
        try:
            suite.expectations += gx.ExpectationSuite(name=name, expectations=[entry]).expectations
        except (GreatExpectationsError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"{path}: expectations[{number}]: {rule.type}: {reason}; mend its kwargs") from None
    return suite


# --- verdict ---------------------------------------------------------------------------------------


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
    frame, texts, faults = _read(table, suite)
    columns = {**_columns(frame), **({_TEXT: _Filled(texts)} if texts is not None else {})}
    names = sorted({name for derived in DERIVED[suite].values() for name in derived.beside})
    neighbours = {name: _neighbour(table, name, beside or {}) for name in names}
    sound = frame.drop(columns=[fault.column for fault in faults if fault.column in frame])
    present = set(sound.columns) | ({_TEXT} if texts is not None else set())
    for name, derived in DERIVED[suite].items():
        if set(derived.needs) <= present:
            sound[name] = _derived_column(derived, columns, neighbours)
            present.add(name)
    results = _results([rule for rule in contract.rules if rule.columns <= present], suite, sound, texts, values)
    lost = _lost_documents(columns, neighbours["documents"]) if suite == "passages" and "doc_id" in sound else ()
    broken = (*lost, *(outcome for outcome in results if isinstance(outcome, Broken)))
    return Verdict(
        suite,
        table,
        len(frame),
        faults,
        tuple(sorted(broken, key=lambda b: SEVERITIES.index(b.severity))),
        tuple(outcome for outcome in results if isinstance(outcome, Held)),
        tuple(_held(rule) for rule in contract.rules if not rule.columns <= present),
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


# --- tables ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Texts:
    """The `text` of every row, read from the table whenever it is gone through."""

    suite: str
    table: Path

    def __iter__(self) -> Iterator[str | None]:
        return (row.text for row in _STREAMED[self.suite](self.table))


@dataclass(frozen=True, slots=True)
class _Filled:
    """Texts with empty ones for those that are missing."""

    texts: Iterable[str | None]

    def __iter__(self) -> Iterator[str]:
        return (text or "" for text in self.texts)


def _read(table: Path, suite: str) -> tuple["pd.DataFrame", Iterable[str | None] | None, tuple[Broken, ...]]:
    """All rows with the stem of their file, their texts, and what is wrong with the columns.

    Returns:
        frame: every column but the texts.
        texts: None where the table has none, or others than texts.
        faults: about the columns.
    """
    if suite in _STREAMED and not table.is_dir() and _as_declared(table, suite):
        others = [name for name in io.SCHEMAS[KINDS[suite]].names if name != _TEXT]
        return _plain(_parquet(table, others).assign(**{_FILE: table.stem})), _Texts(suite, table), ()
    frame, faults = _read_whole(table, suite)
    texts = frame.pop(_TEXT).tolist() if _TEXT in frame and _TEXT not in {fault.column for fault in faults} else None
    return frame, texts, faults


def _as_declared(table: Path, suite: str) -> bool:
    try:
        next(iter(_STREAMED[suite](table)), None)
    except DataError:
        return False
    return True


def _read_whole(table: Path, suite: str) -> tuple["pd.DataFrame", tuple[Broken, ...]]:
    """All rows and columns at once, for small tables and for those with a fault in their columns."""
    import pandas as pd

    files = sorted(io.require_made(table).glob("*.parquet")) if table.is_dir() else [io.require_made(table)]
    if not files:
        raise MissingArtifact(f"{table}: expected Parquet files, found none; run the stage that writes them")
    parts = [_parquet(file) for file in files]
    schema = io.SCHEMAS[KINDS[suite]]
    faults = [
        fault
        for file, part in zip(files, parts, strict=True)
        for fault in _schema_faults(part, schema, f" in {file.name}" if table.is_dir() else "")
    ]
    named = [part.assign(**{_FILE: file.stem}) for file, part in zip(files, parts, strict=True)]
    whole = pd.concat(named, ignore_index=True) if len(named) > 1 else named[0]
    return _plain(whole), tuple(faults)


def _parquet(file: Path, columns: Sequence[str] | None = None) -> "pd.DataFrame":
    """A file with its Arrow types; of some columns, or of all."""
    import pandas as pd

    try:
        return pd.read_parquet(file, columns=list(columns) if columns else None, dtype_backend="pyarrow")
    except (ValueError, OSError) as error:  # ArrowInvalid is a ValueError
        wanted = f" with columns {', '.join(columns)}" if columns else ""
        reason = " ".join(str(error).split())
        raise DataError(f"{file}: expected a Parquet file{wanted}, got {reason}; run `dvc repro`") from None


def _schema_faults(part: "pd.DataFrame", schema: Any, where: str) -> list[Broken]:
    """Columns that the table's Arrow schema has not, or has otherwise."""
    do = "delete the table and run `dvc repro`"
    faults = []
    for name in [*schema.names, *(name for name in part.columns if name not in schema.names)]:
        wanted = schema.field(name).type if name in schema.names else None
        got = _arrow_type(part[name]) if name in part.columns else None
        if wanted != got:
            says = f"a column of type {wanted}{where}" if wanted else f"no such column{where}"
            ids = _ids(part, schema.names[0]).head(_EXAMPLES)
            values = (
                [f"{got} {_shown(value)}" for value in part[name].head(_EXAMPLES)] if got else ["missing"] * len(ids)
            )
            examples = tuple(Example(row_id, value) for row_id, value in zip(ids, values, strict=True))
            faults.append(Broken("critical", says, name, len(part), len(part), examples, do))
    return faults


def _arrow_type(series: "pd.Series[Any]") -> Any:
    dtype: Any = series.dtype
    return dtype.pyarrow_dtype


def _plain(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Arrow columns as pandas has them by default, so that Great Expectations finds nothing unusual."""
    import pandas as pd

    return pd.DataFrame({name: _plain_series(frame[name]) for name in frame.columns})


def _plain_series(series: "pd.Series[Any]") -> "pd.Series[Any]":
    import pandas as pd

    if pd.api.types.is_string_dtype(series.dtype):
        return series.astype("str")
    if series.isna().any() or not (pd.api.types.is_integer_dtype(series) or pd.api.types.is_bool_dtype(series)):
        values = [None if gone else value for value, gone in zip(series.tolist(), series.isna(), strict=True)]
        return pd.Series(values, index=series.index, dtype=object)
    return series.astype("bool" if pd.api.types.is_bool_dtype(series) else "int64")


def _columns(frame: "pd.DataFrame") -> Columns:
    """Plain lists for `derive`; missing values become empty ones, for another expectation is about them."""
    return {name: _filled(frame[name]) for name in frame.columns}


def _filled(series: "pd.Series[Any]") -> list[Any]:
    values = series.tolist()
    gone = series.isna().to_numpy()
    if not gone.any():
        return values
    empty = type(next((value for value, missing in zip(values, gone, strict=True) if not missing), ""))()
    return [empty if missing else value for value, missing in zip(values, gone, strict=True)]


def _neighbour(table: Path, name: str, beside: Mapping[str, Path]) -> Columns:
    """The columns that `derive` reads of a table to compare with.

    Raises:
        MissingArtifact, DataError: not there, or without a column that is needed.
    """
    file_name = _BESIDE[name].name
    around = [folder / file_name for folder in (table.parent, table.parent.parent)]
    likely = next((path for path in around if path.parent.name == _BESIDE[name].parent.name), around[0])
    path = beside.get(name) or next((path for path in around if path.is_file()), likely)
    schema = io.SCHEMAS[KINDS[name]]
    frame = _parquet(io.require_made(path), READ_BESIDE[name])
    for column in frame.columns:
        if (got := _arrow_type(frame[column])) != (wanted := schema.field(column).type):
            raise DataError(f"{path}: {column}: expected {wanted}, got {got}; delete the table and run `dvc repro`")
    return _columns(_plain(frame))


def _derived_column(derived: Derived, columns: Columns, neighbours: Mapping[str, Columns]) -> Any:
    import pandas as pd

    values = derived.make(columns, neighbours)
    number = any(isinstance(value, float) for value in values)
    return pd.Series(values, dtype="float64" if number else "str")


def _lost_documents(passages: Columns, documents: Columns) -> tuple[Broken, ...]:
    """Documents without a passage: no row of the table can say so, and neither can an expectation about its rows."""
    cut = set(passages["doc_id"])
    lost = [name for name in documents["doc_id"] if name not in cut]
    examples = tuple(Example(name, "no passage") for name in lost[:_EXAMPLES])
    do = "the passages are older than the documents: run `dvc repro chunk`"
    says = "a passage for every document"
    return (Broken("critical", says, "doc_id", len(lost), len(documents["doc_id"]), examples, do),) if lost else ()


# --- results ---------------------------------------------------------------------------------------


def _results(
    rules: Sequence[Rule],
    suite: str,
    frame: "pd.DataFrame",
    texts: Iterable[str | None] | None,
    parameters: Mapping[str, float],
) -> list[Broken | Held]:
    """One outcome for each rule, in their order."""
    ids = _ids(frame, io.SCHEMAS[KINDS[suite]].names[0])
    others = [rule for rule in rules if _TEXT not in rule.columns]
    seen = frame[sorted(frozenset[str]().union(*(rule.columns for rule in others)))]
    outcomes: dict[Rule, Broken | Held] = {}
    for rule, result in _validated(suite, others, seen, parameters):
        outcomes[rule] = _held(rule) if result.success else _broken(rule, result.result, ids)
    about_texts = [rule for rule in rules if _TEXT in rule.columns]
    start = 0
    for batch in _batches(texts or ()) if about_texts else ():
        here = ids[start : start + len(batch)].reset_index(drop=True)
        start += len(batch)
        for rule, result in _validated(suite, about_texts, batch, parameters):
            outcome = _held(rule) if result.success else _broken(rule, result.result, here)
            outcomes[rule] = _joined(outcomes.get(rule), outcome, len(ids))
        gc.collect()  # Great Expectations' objects hold each other, and the batch
    return [outcomes[rule] for rule in rules]


def _batches(texts: Iterable[str | None]) -> Iterator["pd.DataFrame"]:
    """The column of texts, piece by piece; one empty piece where there are none."""
    import pandas as pd

    batch: list[str | None] = []
    room = _BATCH_CHARACTERS
    for text in texts:
        batch.append(text)
        room -= len(text or "")
        if room < 0:
            yield pd.DataFrame({_TEXT: pd.Series(batch, dtype="str")})
            batch, room = [], _BATCH_CHARACTERS
    yield pd.DataFrame({_TEXT: pd.Series(batch, dtype="str")})


def _joined(before: Broken | Held | None, outcome: Broken | Held, rows: int) -> Broken | Held:
    """What two batches say together."""
    if isinstance(outcome, Held):
        return before or outcome
    if not isinstance(before, Broken):
        return replace(outcome, rows=rows)
    examples = (*before.examples, *outcome.examples)[:_EXAMPLES]
    return replace(before, count=before.count + outcome.count, examples=examples)


def _validated(
    name: str, rules: Sequence[Rule], frame: "pd.DataFrame", parameters: Mapping[str, float]
) -> Iterator[tuple[Rule, Any]]:
    """Each rule with what Great Expectations says of it."""
    import great_expectations as gx

    path = SUITES / f"{name}.json"
    context: Any = gx.get_context(mode="ephemeral")  # one for each frame, as it holds on to those it has seen
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    suite = context.suites.add(_suite(name, rules, path))
    asset = context.data_sources.add_pandas("tables").add_dataframe_asset(name)
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name=name, data=asset.add_batch_definition_whole_dataframe("all"), suite=suite)
    )
    results: list[Any] = definition.run(
        batch_parameters={"dataframe": frame},
        expectation_parameters=dict(parameters),
        result_format={"result_format": "SUMMARY", "partial_unexpected_count": _EXAMPLES},
    ).results
    if len(results) != len(rules):
        raise ConfigError(f"{path}: expected {len(rules)} results, Great Expectations gave {len(results)}")
    for result in results:
        rule = rules[result.expectation_config.meta["rule"]]
        if (result.exception_info or {}).get("raised_exception"):
            reason = " ".join(str(result.exception_info["exception_message"]).split())
            raise ConfigError(f"{path}: {rule.type}: {rule.says}: cannot be checked: {reason}; mend its kwargs")
        yield rule, result


def _held(rule: Rule) -> Held:
    return Held(rule.severity, rule.says, _about(rule))


def _about(rule: Rule) -> str:
    return rule.column or str(rule.kwargs.get("column", ""))


def _broken(rule: Rule, result: Mapping[str, Any], ids: "pd.Series[str]") -> Broken:
    if "unexpected_count" not in result:  # about the table as a whole
        return Broken(rule.severity, rule.says, _about(rule), int(result["observed_value"]), len(ids), (), rule.do)
    show: Callable[[Any], str] = _shown
    if rule.type == "expect_column_values_to_not_match_regex":
        show = partial(_matched, pattern=re.compile(rule.kwargs["regex"]))
    elif rule.type == "expect_column_values_to_be_null":
        show = _explained
    values, rows = result["partial_unexpected_list"], result["partial_unexpected_index_list"]
    examples = tuple(Example(ids[row], show(value)) for row, value in list(zip(rows, values, strict=False))[:_EXAMPLES])
    count, held_against = int(result["unexpected_count"]), int(result["element_count"])
    return Broken(rule.severity, rule.says, _about(rule), count, held_against, examples, rule.do)


def _ids(frame: "pd.DataFrame", id_column: str) -> "pd.Series[str]":
    """What to call each row: its id, or its number where it has none."""
    import pandas as pd

    numbers = pd.Series([f"row {number}" for number in range(len(frame))], index=frame.index, dtype="str")
    if id_column not in frame:
        return numbers
    return frame[id_column].astype("str").replace("", None).fillna(numbers)


def _shown(value: Any) -> str:
    """A value on one line, shortened; texts in quotes, so that white space and control characters show."""
    if isinstance(value, tuple):
        return " and ".join(_shown(part) for part in value)
    if value is None or value != value:  # NaN differs from itself
        return "missing"
    return _shortened(repr(value) if isinstance(value, str) else str(value))


def _explained(fault: str) -> str:
    """The text of a derived column, on one line."""
    return _shortened("".join(char if char.isprintable() else repr(char)[1:-1] for char in fault))


def _shortened(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:99]}…"


def _matched(text: str, pattern: re.Pattern[str]) -> str:
    """The place in a text where a pattern matches, with some of what stands around it."""
    found = pattern.search(text)
    start, end = found.span() if found else (0, 0)
    return _shown(text[max(start - 20, 0) : min(end, start + 40) + 20])
