"""A border that a table passes, or is not there afterwards."""

from collections.abc import Mapping
from pathlib import Path

from ragline.contracts.check import BrokenContract, enforce


def hold(table: Path, suite: str, page_path: Path, *, parameters: Mapping[str, float] | None = None) -> None:
    """Hold a table, or a folder of them, against its suite; one that breaks a critical expectation is removed.

    The page that says why stays.

    Raises:
        BrokenContract: a line for each critical expectation that is broken.
    """
    try:
        enforce(table, suite, page_path, parameters=parameters)
    except BrokenContract:
        for file in sorted(table.glob("*.parquet")) if table.is_dir() else [table]:
            file.unlink(missing_ok=True)
        raise
