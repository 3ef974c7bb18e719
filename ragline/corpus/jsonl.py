"""Documents from a JSONL file, one object a line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from ragline.errors import ConfigError, DataError
from ragline.io import read_jsonl
from ragline.types import Document, Drop


def read_documents(path: str, root: Path = Path()) -> Iterator[Document | Drop]:
    """Yield a document for each line.

    Its keys are `text` (required) and `id`, `title`, `source`, `format` (optional); others are passed over. The doc_id
    is `id` or `file name:line`; the title defaults to the id, the source to `path:line`, the format to `text`;
    `markdown` is the other one. A line whose text is blank is a drop.

    Raises:
        ConfigError: no such file.
        DataError: names the line that is not a JSON object, lacks `text`, or holds a value that is no string, or a
            blank id, title or source.
    """
    file = root / path
    if not file.is_file():
        raise ConfigError(f"{path}: no such file; mend ingest.sources in params.yaml")
    for number, row in read_jsonl(file):
        place = f"{path}:{number}"
        if "text" not in row:
            raise DataError(f"{place}: expected the key 'text', got {sorted(row)}; add it or remove the line")
        if isinstance(row["text"], str) and not row["text"].strip():
            yield Drop("ingest", place, "empty")
            continue
        doc_id = _string(row, "id", f"{file.name}:{number}", place)
        yield Document(
            doc_id=doc_id,
            source=_string(row, "source", place, place),
            title=_string(row, "title", doc_id, place),
            text=_string(row, "text", "", place),
            format=_format(row, place),
        )


def _format(row: dict[str, Any], place: str) -> Literal["text", "markdown"]:
    match row.get("format", "text"):
        case "text":
            return "text"
        case "markdown":
            return "markdown"
        case other:
            raise DataError(f"{place}: 'format': expected 'text' or 'markdown', got {other!r:.60}; mend that line")


def _string(row: dict[str, Any], key: str, default: str, place: str) -> str:
    value = row.get(key, default)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{place}: {key!r}: expected a non-empty string, got {value!r:.60}; mend that line")
    return value
