"""What killed processes and earlier settings left behind: nothing here is an output, and none is made from it."""

from collections.abc import Iterator
from pathlib import Path

from ragline.artifacts import CHECKPOINTS, LOCK, OUTPUTS, VECTOR_STORE

ABANDONED_S = 86_400.0
"""Age from which an unfinished file belongs to a process that was killed, whoever wrote it."""

UNFINISHED = (".*.part", ".*.tmp")
"""As ragline and DVC call a file until it is whole."""


def checkpoints(root: Path, trained: bool, now: float, days: int) -> list[Path]:
    """Trainings that nobody goes on with: of one that ended well, nothing is left.

    Args:
        trained: whether the models are those of dvc.lock, so that no training waits to be continued.
        now: seconds since 1970.
        days: after which an interrupted training goes all the same.
    """
    limit = ABANDONED_S if trained else max(ABANDONED_S, days * 86_400.0)
    return [place for place in _children(root / CHECKPOINTS) if now - _written(place) > limit]


def shelves(root: Path, days: int) -> list[Path]:
    """Vectors of encoders that were last used so many days before the one used last.

    By the store's own clock, as an encoder is not out of use because documents have not changed for a month.
    """
    used = {place: _time(place) for place in _children(root / VECTOR_STORE)}
    newest = max(used.values(), default=0.0)
    return [place for place, last in used.items() if newest - last > days * 86_400.0]


def unfinished(root: Path, now: float) -> list[Path]:
    """Files that were never finished, and a torn dvc.lock that was put aside, once a whole one is there."""
    parents = {(root / path).parent for outputs in OUTPUTS.values() for path in outputs}
    shallow = [root, *sorted(parents)]
    found = {file for folder in shallow for pattern in UNFINISHED for file in folder.glob(pattern)}
    found |= {file for pattern in UNFINISHED for file in (root / ".dvc" / "cache").rglob(pattern)}
    if (root / LOCK).is_file():
        found |= set(root.glob(f"{LOCK}.torn"))
    return sorted(file for file in found if now - _written(file) > ABANDONED_S)


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _written(place: Path) -> float:
    """When anything in a folder was last written to."""
    return max(map(_time, _all(place)), default=0.0)


def _all(place: Path) -> Iterator[Path]:
    yield place
    yield from place.rglob("*")


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
