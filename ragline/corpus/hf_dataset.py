"""Documents from a Hugging Face dataset saved on disk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragline.errors import ConfigError, DataError
from ragline.types import Document, Drop


def read_dataset(
    path: str,
    text_column: str,
    title_column: str | None = None,
    id_column: str | None = None,
    root: Path = Path(),
) -> Iterator[Document | Drop]:
    """Yield a document for each row that `Dataset.save_to_disk` wrote; nothing is fetched and no loading script is run.

    Args:
        path: the folder, absolute or relative to `root`; of a DatasetDict, every split is read, by name.
        text_column: column of strings that holds the text.
        title_column: column of titles; without one, or where it is blank, the id is the title.
        id_column: column of ids, text or whole numbers; without one an id is `folder name:row`, with the split's
            name between them for a DatasetDict.

    The source is `path:row`, rows counted from 0. A row whose text is blank or missing is a drop.

    Raises:
        ConfigError: no such folder, not a saved dataset, or without a column that was named.
        DataError: names the row whose value is of another type, or whose id is blank.
    """
    folder = root / path
    if not folder.is_dir():
        raise ConfigError(f"{path}: expected a folder, got nothing; mend ingest.sources in params.yaml")
    columns = [name for name in (text_column, title_column, id_column) if name is not None]
    for split, table in _splits(folder, path):
        if missing := [name for name in columns if name not in table.column_names]:
            raise ConfigError(
                f"{path}: expected the columns {columns}, got {table.column_names} without {missing}; "
                "mend ingest.sources in params.yaml"
            )
        place = f"{path}/{split}" if split else path
        for number, row in enumerate(table.select_columns(list(dict.fromkeys(columns)))):
            source = f"{place}:{number}"
            text = _string(row, text_column, source)
            if not text.strip():
                yield Drop("ingest", source, "empty")
                continue
            default = ":".join(part for part in (folder.name, split, str(number)) if part)
            doc_id = _string(row, id_column, source) if id_column is not None else default
            if not doc_id.strip():
                raise DataError(f"{source}: {id_column!r}: expected an id, got {doc_id!r}; mend that row")
            title = _string(row, title_column, source).strip() if title_column is not None else ""
            yield Document(doc_id, source, title or doc_id, text, "text")


def _splits(folder: Path, shown: str) -> list[tuple[str, Any]]:
    import datasets

    try:
        found = datasets.load_from_disk(str(folder))
    except Exception as error:  # the library raises what its readers raise on a broken folder
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{shown}: expected a dataset written by save_to_disk, got {type(error).__name__}: {reason}; "
            "save it anew or mend ingest.sources in params.yaml"
        ) from None
    return sorted(found.items()) if isinstance(found, datasets.DatasetDict) else [("", found)]


def _string(row: dict[str, Any], column: str, source: str) -> str:
    value = row[column]
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{source}: {column!r}: expected text, got {value!r:.60}; name another column or mend that row")
    return str(value).replace("\r\n", "\n").replace("\r", "\n")
