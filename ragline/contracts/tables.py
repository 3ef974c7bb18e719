"""Tables as contracts look at them: plain columns, the texts apart, and what is wrong with the columns."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragline import io
from ragline.artifacts import DOCUMENTS, PASSAGES
from ragline.contracts.derive import READ_BESIDE, Columns
from ragline.contracts.suite import FILE, KINDS, TEXT
from ragline.contracts.verdict import EXAMPLES, Broken, Example, shown
from ragline.errors import DataError, MissingArtifact
from ragline.types import Document, Passage

if TYPE_CHECKING:
    import pandas as pd

_BESIDE = {"documents": DOCUMENTS, "passages": PASSAGES}
_STREAMED: Mapping[str, Callable[[Path], Iterable[Document | Passage]]] = {
    "documents": partial(io.iter_table, Document),
    "passages": partial(io.iter_table, Passage),
}


@dataclass(frozen=True, slots=True)
class _Texts:
    """The `text` of every row, read from the table whenever it is gone through."""

    suite: str
    table: Path

    def __iter__(self) -> Iterator[str | None]:
        return (row.text for row in _STREAMED[self.suite](self.table))


@dataclass(frozen=True, slots=True)
class Filled:
    """Texts with empty ones for those that are missing."""

    texts: Iterable[str | None]

    def __iter__(self) -> Iterator[str]:
        return (text or "" for text in self.texts)


def read(table: Path, suite: str) -> tuple["pd.DataFrame", Iterable[str | None] | None, tuple[Broken, ...]]:
    """All rows with the stem of their file, their texts, and what is wrong with the columns.

    Returns:
        frame: every column but the texts.
        texts: None where the table has none, or others than texts.
        faults: about the columns.
    """
    if suite in _STREAMED and not table.is_dir() and _as_declared(table, suite):
        others = [name for name in io.SCHEMAS[KINDS[suite]].names if name != TEXT]
        return _plain(_parquet(table, others).assign(**{FILE: table.stem})), _Texts(suite, table), ()
    frame, faults = _read_whole(table, suite)
    texts = frame.pop(TEXT).tolist() if TEXT in frame and TEXT not in {fault.column for fault in faults} else None
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
    named = [part.assign(**{FILE: file.stem}) for file, part in zip(files, parts, strict=True)]
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
            ids = ids_of(part, schema.names[0]).head(EXAMPLES)
            values = [f"{got} {shown(value)}" for value in part[name].head(EXAMPLES)] if got else ["missing"] * len(ids)
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


def columns_of(frame: "pd.DataFrame") -> Columns:
    """Plain lists for `derive`; missing values become empty ones, for another expectation is about them."""
    return {name: _filled(frame[name]) for name in frame.columns}


def _filled(series: "pd.Series[Any]") -> list[Any]:
    values = series.tolist()
    gone = series.isna().to_numpy()
    if not gone.any():
        return values
    empty = type(next((value for value, missing in zip(values, gone, strict=True) if not missing), ""))()
    return [empty if missing else value for value, missing in zip(values, gone, strict=True)]


def neighbour(table: Path, name: str, beside: Mapping[str, Path]) -> Columns:
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
    return columns_of(_plain(frame))


def ids_of(frame: "pd.DataFrame", id_column: str) -> "pd.Series[str]":
    """What to call each row: its id, or its number where it has none."""
    import pandas as pd

    numbers = pd.Series([f"row {number}" for number in range(len(frame))], index=frame.index, dtype="str")
    if id_column not in frame:
        return numbers
    return frame[id_column].astype("str").replace("", None).fillna(numbers)
