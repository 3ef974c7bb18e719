"""What the project takes on disk, by kind."""

import os
from collections.abc import Iterator
from pathlib import Path

from ragline.artifacts import BUNDLES, CHECKPOINTS, LEDGER, TRACKED, VECTOR_STORE

KINDS: dict[str, tuple[Path, ...]] = {
    "outputs": (Path("data"), Path("models"), Path("reports")),
    "dvc cache": (Path(".dvc/cache/files"),),
    "run cache": (Path(".dvc/cache/runs"),),
    "experiments": (Path(".dvc/tmp/exps"),),
    "versions": (BUNDLES,),
    "checkpoints": (CHECKPOINTS,),
    "vectors": (VECTOR_STORE,),
    "ledger": (LEDGER, LEDGER.with_name(f"{LEDGER.name}-wal"), LEDGER.with_name(f"{LEDGER.name}-shm")),
    "mlflow": (TRACKED, Path("mlruns")),
    "prefect": (Path(".prefect"),),
}
"""Kind → where it lies. Sources stand under data, with the outputs made of them."""

REMEDIES = {
    "outputs": "they are what the last run made of its sources: fewer or smaller sources",
    "experiments": "`ragline clean`, once the copies of killed variants are a day old",
    "versions": "a smaller promotion.keep",
    "ledger": "nothing: it is what answers were paid for",
}
"""What makes a kind smaller that `retention` has no number for."""


def taken(root: Path) -> dict[str, int]:
    """Bytes on disk of each kind, the largest first; a file with several names counts once, for the first kind."""
    seen: set[tuple[int, int]] = set()
    found = {kind: sum(_bytes(root / path, seen) for path in paths) for kind, paths in KINDS.items()}
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def _bytes(path: Path, seen: set[tuple[int, int]]) -> int:
    return sum(size(file, seen) for file in everything(path))


def everything(place: Path) -> Iterator[Path]:
    """A file; or a folder and all that is in it, without what somebody at work deletes meanwhile."""
    yield place
    for folder, folders, files in os.walk(place):
        yield from (Path(folder, name) for name in (*folders, *files))


def size(path: Path, seen: set[tuple[int, int]] | None = None) -> int:
    """Bytes that a file takes on disk; 0 where there is none, or it was seen under another name."""
    try:
        about = path.lstat()
    except OSError:  # somebody at work has deleted it meanwhile
        return 0
    if seen is not None:
        if (about.st_dev, about.st_ino) in seen:
            return 0
        seen.add((about.st_dev, about.st_ino))
    return about.st_blocks * 512


def total(by_kind: dict[str, int]) -> str:
    """All kinds in one line, as in `1.4 GB on disk: dvc cache 0.9 GB, outputs 0.4 GB, …`; the small ones left out."""
    whole = sum(by_kind.values())
    shown = [f"{kind} {gigabytes(number)}" for kind, number in by_kind.items() if number >= 0.02 * whole > 0]
    return f"{gigabytes(whole)} on disk: {', '.join(shown)}" if shown else f"{gigabytes(whole)} on disk"


def over(by_kind: dict[str, int], budget_gb: float) -> str | None:
    """What to say where the budget is passed: by how much, the largest kind, and what makes it smaller."""
    whole = sum(by_kind.values())
    if whole <= budget_gb * 1e9:
        return None
    kind = next(iter(by_kind))
    remedy = REMEDIES.get(kind, "`ragline clean`, or smaller numbers in `retention`")
    return (
        f"the project takes {gigabytes(whole)}, retention.disk_gb allows {budget_gb:g} GB; "
        f"most of it is {kind}, {gigabytes(by_kind[kind])}; it gets smaller by {remedy}"
    )


def gigabytes(number: int) -> str:
    """As people read it."""
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"
