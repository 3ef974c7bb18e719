"""Files ↔ types. Writes are whole or absent; reads say which line is wrong."""

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError

from ragline.artifacts import made_by
from ragline.errors import DataError, MissingArtifact, ServiceError
from ragline.types import Document, Drop, Passage, QAExample, Run

Vectors = npt.NDArray[np.float32]
"""(n, d) numbers. Those that `read_vectors` gives may be float16: whoever computes with them takes them to float32, a
block at a time."""
VECTOR_TYPES = (np.float32, np.float16)
Row = TypeVar("Row", Document, Passage, QAExample, Drop)

_CODED = re.compile(r"[\s%]")
_TEXT, _INT = pa.string(), pa.int64()
_TEXTS = pa.list_(pa.string())
_ARROW: dict[type, pa.DataType] = {str: _TEXT, int: _INT, float: pa.float64(), bool: pa.bool_()}

SCHEMAS: dict[type, pa.Schema] = {
    Document: pa.schema(
        {
            "doc_id": _TEXT,
            "source": _TEXT,
            "title": _TEXT,
            "text": _TEXT,
            "format": _TEXT,
            "aliases": _TEXTS,
            "cluster": _TEXT,
            "split": _TEXT,
            "page_starts": pa.list_(_INT),
        }
    ),
    Passage: pa.schema(
        {
            "passage_id": _TEXT,
            "doc_id": _TEXT,
            "title": _TEXT,
            "heading": _TEXT,
            "text": _TEXT,
            "start": _INT,
            "end": _INT,
            "tokens": _INT,
            "cluster": _TEXT,
            "page": _INT,
            "context": _TEXT,
            "parent": _TEXT,
        }
    ),
    QAExample: pa.schema(
        {
            "question_id": _TEXT,
            "question": _TEXT,
            "answers": _TEXTS,
            "doc_id": _TEXT,
            "start": _INT,
            "end": _INT,
            "gold_passage_ids": _TEXTS,
            "kind": _TEXT,
            "split": _TEXT,
            "cluster": _TEXT,
            "answerable": pa.bool_(),
            "chat_history": _TEXTS,
        }
    ),
    Drop: pa.schema({"stage": _TEXT, "item": _TEXT, "reason": _TEXT, "detail": _TEXT}),
}


# --- whole or absent -------------------------------------------------------------------------------


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the name only when the block ends well.

    Raises:
        ServiceError: the disk refused.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # a file may stand where the folder should be
            part.unlink()


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """The same for a folder; an older one of that name is replaced.

    Raises:
        ServiceError: the disk refused.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        if path.exists():
            shutil.rmtree(path)
        part.replace(path)
    except SafetensorError as error:  # what safetensors makes of the disk's refusal
        raise _refused(path, OSError(str(error))) from error
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _refused(path: Path, error: OSError) -> ServiceError:
    reason = error.strerror or str(error)
    return ServiceError(f"{path}: cannot write: {reason}; nothing was left behind: make room or access, and run again")


def require(path: Path, root: Path = Path()) -> Path:
    """`root / path`, after making sure that it is there.

    Raises:
        MissingArtifact: names the stage that makes the file.
    """
    full = root / path
    if not full.exists():
        stage = made_by(path)
        mend = f"run `dvc repro {stage}`" if stage else "put it there or mend its path in params.yaml"
        raise MissingArtifact(f"{path}: not found; {mend}")
    return full


# --- tables ----------------------------------------------------------------------------------------


def write_table(rows: Iterable[Row], kind: type[Row], path: Path) -> None:
    """Write dataclasses as Parquet under the schema of their type, a thousand rows a group."""
    schema = SCHEMAS[kind]
    with whole_file(path) as part, pq.ParquetWriter(part, schema) as writer:
        batch: list[Row] = []
        for row in rows:
            batch.append(row)
            if len(batch) == 1000:
                writer.write_table(_columns(batch, schema))
                batch = []
        writer.write_table(_columns(batch, schema))


def _columns(rows: Sequence[Any], schema: pa.Schema) -> pa.Table:
    return pa.table({name: [getattr(row, name) for row in rows] for name in schema.names}, schema=schema)


def iter_table(kind: type[Row], path: Path) -> Iterator[Row]:
    """Read what `write_table` wrote, a thousand rows in memory at a time.

    Raises:
        MissingArtifact: no such file.
        DataError: not Parquet, or another schema.
    """
    try:
        with pq.ParquetFile(require_made(path)) as file:
            if not file.schema_arrow.equals(SCHEMAS[kind]):
                raise DataError(
                    f"{path}: expected columns {', '.join(SCHEMAS[kind].names)}, "
                    f"got {', '.join(file.schema_arrow.names)}; delete it and run `dvc repro`"
                )
            for batch in file.iter_batches(batch_size=1000):
                for row in batch.to_pylist():
                    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
                    yield kind(**values)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a Parquet file: {error}; delete it and run `dvc repro`") from None


def count_rows(path: Path) -> int:
    """Rows of a table written by `write_table`.

    Raises:
        MissingArtifact, DataError: no such file; not Parquet.
    """
    try:
        rows: int = pq.read_metadata(require_made(path)).num_rows
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a Parquet file: {error}; delete it and run `dvc repro`") from None
    return rows


def read_table(kind: type[Row], path: Path) -> list[Row]:
    """All rows of a table at once."""
    return list(iter_table(kind, path))


def require_made(path: Path) -> Path:
    """Like `require`, for a path that already starts at some root."""
    if path.exists():
        return path
    parts = path.parts
    for start in range(len(parts)):
        tail = Path(*parts[start:])
        if made_by(tail):
            return require(tail, Path(*parts[:start]))
    return require(path)


def write_frame(columns: Mapping[str, Sequence[Any]], path: Path) -> None:
    """Write plain columns as Parquet, for tables that people and the report read."""
    with whole_file(path) as part:
        pq.write_table(pa.table(dict(columns)), part)


@contextlib.contextmanager
def write_frames(columns: Mapping[str, type], path: Path) -> Iterator[Callable[[Mapping[str, Sequence[Any]]], None]]:
    """The same a block of rows at a time, under declared columns: yield what adds a block. Memory holds one block.

    Args:
        columns: name → `str`, `int`, `float` or `bool`, in the order of the table.

    Raises:
        ServiceError: the disk refused.
    """
    schema = pa.schema([(name, _ARROW[kind]) for name, kind in columns.items()])
    with whole_file(path) as part, pq.ParquetWriter(part, schema) as writer:
        yield lambda block: writer.write_table(pa.table(dict(block), schema=schema))


def read_frame(path: Path) -> list[dict[str, Any]]:
    """Rows of a table written by `write_frame`.

    Raises:
        MissingArtifact, DataError: no such file; not Parquet.
    """
    try:
        rows: list[dict[str, Any]] = pq.read_table(require_made(path)).to_pylist()
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a Parquet file: {error}; delete it and run `dvc repro`") from None
    return rows


# --- JSON ------------------------------------------------------------------------------------------


def write_json(value: Any, path: Path) -> None:
    """Write one JSON value, keys in the order given, a newline at the end."""
    with whole_file(path) as part:
        part.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read one JSON value.

    Raises:
        MissingArtifact, DataError: not there, not JSON.
    """
    try:
        return json.loads(require_made(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}; delete it and run `dvc repro`") from None


def write_jsonl(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write one JSON object a line."""
    with whole_file(path) as part, part.open("w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object); blank lines are passed over.

    Raises:
        MissingArtifact: no such file.
        DataError: names the line that is not UTF-8, not JSON, or not an object.
    """
    with require_made(path).open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8"))
            except ValueError as error:  # UnicodeDecodeError is one, too
                raise DataError(f"{path}:{number}: expected a JSON object, got {line[:60]!r}: {error}") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}:{number}: expected a JSON object, got {type(row).__name__}: {line[:60]!r}")
            yield number, row


# --- vectors, runs, curves -------------------------------------------------------------------------


def write_vectors(vectors: Vectors, path: Path) -> None:
    """Write (n, d) as .npy, row i for the i-th passage; float16 as it is, all else as float32."""
    kept = vectors.dtype if vectors.dtype in VECTOR_TYPES else np.float32
    with whole_file(path) as part, part.open("wb") as out:
        np.save(out, np.ascontiguousarray(vectors, dtype=kept), allow_pickle=False)


def read_vectors(path: Path) -> Vectors:
    """Memory-map what `write_vectors` wrote; (n, d) float32 or float16, read-only.

    The numbers themselves are not read: search refuses those that are not finite when it comes to them.

    Raises:
        MissingArtifact, DataError: not there; cut short, longer than it says, or of another type.
    """
    try:
        vectors: Vectors = np.load(require_made(path), mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: not a vector file: {error}; delete it and run `dvc repro`") from None
    if vectors.ndim != 2 or vectors.dtype not in VECTOR_TYPES:
        raise DataError(
            f"{path}: expected (n, d) float32 or float16, got {vectors.shape} {vectors.dtype}; "
            "delete it and run `dvc repro`"
        )
    if isinstance(vectors, np.memmap) and vectors.offset + vectors.nbytes != (size := path.stat().st_size):
        raise DataError(
            f"{path}: not a vector file: expected {vectors.offset + vectors.nbytes} bytes, got {size}; "
            "delete it and run `dvc repro`"
        )
    return vectors


def write_run(run: Run, path: Path, tag: str) -> None:
    """Write a TREC run: `question Q0 passage rank score tag`, best first, ties by passage_id."""
    with whole_file(path) as part, part.open("w", encoding="utf-8") as out:
        for question_id, scores in run.items():
            ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
            for rank, (passage_id, score) in enumerate(ranked, start=1):
                out.write(f"{token(question_id)} Q0 {token(passage_id)} {rank} {score:.6f} {tag}\n")


def read_run(path: Path) -> dict[str, dict[str, float]]:
    """Read a TREC run.

    Raises:
        MissingArtifact, DataError: not there; names the line with other than six fields, a score that is no number,
            or a passage that was there before.
    """
    run: dict[str, dict[str, float]] = {}
    for number, line in enumerate(require_made(path).read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.split()
        if len(fields) != 6:
            raise DataError(f"{path}:{number}: expected 6 fields, got {len(fields)}: {line!r}")
        found = run.setdefault(unquote(fields[0]), {})
        passage, score = unquote(fields[2]), _score(fields[4])
        if score is None or passage in found:
            raise DataError(f"{path}:{number}: expected a finite score and each passage once, got {line!r}")
        found[passage] = score
    return run


def _score(text: str) -> float | None:
    try:
        return score if math.isfinite(score := float(text)) else None
    except ValueError:
        return None


def token(name: str) -> str:
    """TREC fields are separated by white space, so what there is of it in an id is percent-coded."""
    if not _CODED.search(name):
        return name
    return "".join(quote(char) if char.isspace() or char == "%" else char for char in name)


def write_csv(header: Sequence[str], rows: Iterable[Sequence[float | str | None]], path: Path) -> None:
    """Write a small table for plots; numbers with six significant digits, None as an empty cell."""
    with whole_file(path) as part, part.open("w", encoding="utf-8") as out:
        out.write(",".join(header) + "\n")
        for row in rows:
            out.write(",".join(_cell(cell) for cell in row) + "\n")


def _cell(value: float | str | None) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a table written by `write_csv`, cells as text."""
    header, *rows = (line.split(",") for line in require_made(path).read_text(encoding="utf-8").splitlines())
    return [dict(zip(header, row, strict=True)) for row in rows]


# --- digests ---------------------------------------------------------------------------------------


def digest(*parts: str | bytes) -> str:
    """sha256 over length-prefixed parts, so that ('ab', 'c') and ('a', 'bc') differ."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8") if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "big") + data)
    return state.hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
