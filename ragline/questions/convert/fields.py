"""Files into typed values; a value of another shape is one DataError that says where it stands."""

import csv
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragline import io
from ragline.errors import ConfigError, DataError

_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


def require_input(path: Path) -> Path:
    """The path, after making sure that something is there.

    Raises:
        ConfigError: nothing is.
    """
    if not path.exists():
        raise ConfigError(f"{path}: no such file or folder; mend the path")
    return path


def objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a JSONL file.

    Raises:
        ConfigError, DataError: not there; names the line that is no JSON object.
    """
    number = 0
    try:
        for number, row in io.read_jsonl(require_input(path)):
            yield number, row
    except RecursionError:
        raise DataError(f"{path}:{number + 1}: expected a JSON object, got brackets nested too deeply") from None


def json_object(path: Path) -> dict[str, Any]:
    """Read a file that is one JSON object.

    Raises:
        ConfigError, DataError: not there; says where it stops being one.
    """
    try:
        found = json.loads(require_input(path).read_bytes().decode("utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: expected JSON, got column {error.colno}: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8, got byte {error.start}: {error.reason}; convert the file") from None
    except RecursionError:
        raise DataError(f"{path}: expected a JSON object, got brackets nested too deeply") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(found).__name__}")
    return found


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, line without its end) of a UTF-8 file; only a line feed ends a line.

    Raises:
        ConfigError, DataError: not there; names the line that is not UTF-8.
    """
    with require_input(path).open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield number, line.decode("utf-8").removesuffix("\n").removesuffix("\r")
            except UnicodeDecodeError as error:
                raise DataError(f"{path}:{number}: expected UTF-8, got {line[:60]!r}: {error.reason}") from None


def cells(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of the last line, cells) for each row of a delimited file, quoted the way spreadsheets do.

    Raises:
        ConfigError, DataError: not there; names the line with a stray quote or other bytes than UTF-8.
    """
    csv.field_size_limit(sys.maxsize)  # the default of 128 KiB is less than a long document
    with require_input(path).open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            for row in rows:
                if row:
                    yield rows.line_num, row
        except csv.Error as error:
            raise DataError(f"{path}:{rows.line_num}: expected quotes in pairs, got: {error}; mend the row") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{path}:{rows.line_num + 1}: expected UTF-8, got {error.reason} near there") from None


def text(row: dict[str, Any], key: str, place: str, default: str | None = None) -> str:
    """A text; the default where the key is missing or null.

    Raises:
        DataError: missing without a default, no text, or text that no file can hold.
    """
    value = row.get(key)
    if value is None:
        if default is None:
            raise DataError(f"{place}: expected the key {key!r}, got {sorted(row)[:8]}; add it or remove the entry")
        return default
    return checked(value, f"{place}: {key!r}")


def checked(value: Any, place: str) -> str:
    """The value, after making sure that it is text that UTF-8 can hold.

    Raises:
        DataError: it is not.
    """
    if not isinstance(value, str):
        raise DataError(f"{place}: expected text, got {type(value).__name__}; mend it")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{place}: expected text, got half a surrogate pair at {error.start}; mend it") from None
    return value


def filled(row: dict[str, Any], key: str, place: str) -> str:
    """A text that is not blank.

    Raises:
        DataError: it is missing, blank, or no text.
    """
    value = text(row, key, place)
    if not value.strip():
        raise DataError(f"{place}: {key!r}: expected text, got a blank; fill it in or remove the entry")
    return value


def identifier(row: dict[str, Any], key: str, place: str) -> str:
    """An id: a text in one line, or a whole number.

    Raises:
        DataError: missing, blank, of several lines, or something else.
    """
    value = row.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return checked_id(filled(row, key, place), f"{place}: {key!r}")


def checked_id(value: str, place: str) -> str:
    """The value, after making sure that it can be an id.

    Raises:
        DataError: it is blank, or holds a tab or a line break.
    """
    if not value.strip() or _CONTROL.search(value):
        raise DataError(f"{place}: expected an id without tabs or line breaks, got {value[:60]!r}; rename it")
    return value


def texts(row: dict[str, Any], key: str, place: str) -> tuple[str, ...]:
    """A list of texts; empty where the key is missing or null.

    Raises:
        DataError: something else.
    """
    values = items(row, key, place)
    return tuple(checked(value, f"{place}: {key!r}[{number}]") for number, value in enumerate(values))


def records(row: dict[str, Any], key: str, place: str) -> list[dict[str, Any]]:
    """A list of objects; empty where the key is missing or null.

    Raises:
        DataError: something else.
    """
    values = items(row, key, place)
    for number, value in enumerate(values):
        if not isinstance(value, dict):
            raise DataError(f"{place}: {key!r}[{number}]: expected an object, got {type(value).__name__}; mend it")
    return values


def items(row: dict[str, Any], key: str, place: str) -> list[Any]:
    """A list of anything; empty where the key is missing or null.

    Raises:
        DataError: something else.
    """
    value = row.get(key)
    if value is not None and not isinstance(value, list):
        raise DataError(f"{place}: {key!r}: expected a list, got {type(value).__name__}; mend it")
    return value or []


def record(row: dict[str, Any], key: str, place: str) -> dict[str, Any]:
    """An object; empty where the key is missing or null.

    Raises:
        DataError: something else.
    """
    value = row.get(key)
    if value is not None and not isinstance(value, dict):
        raise DataError(f"{place}: {key!r}: expected an object, got {type(value).__name__}; mend it")
    return value or {}


def flag(row: dict[str, Any], key: str, place: str, default: bool) -> bool:
    """True or false; the default where the key is missing or null.

    Raises:
        DataError: something else.
    """
    value = row.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise DataError(f"{place}: {key!r}: expected true or false, got {value!r:.60}; mend it")
    return value


def whole_number(row: dict[str, Any], key: str, place: str) -> int:
    """A whole number.

    Raises:
        DataError: missing, or something else.
    """
    value = row.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(f"{place}: {key!r}: expected a whole number, got {value!r:.60}; mend it")
    return value
