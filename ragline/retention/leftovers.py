"""What killed processes and earlier settings left behind: nothing here is an output, and none is made from it."""

from pathlib import Path

from ragline.artifacts import CHECKPOINTS, LOCK, OUTPUTS, VECTOR_STORE
from ragline.retention.disk import everything
from ragline.runtime.locks import workplaces

EXPERIMENTS = Path(".dvc/tmp/exps")
"""Where DVC makes the copies in which variants are tried."""

ABANDONED_S = 86_400.0
"""Age from which an unfinished file belongs to a process that was killed, whoever wrote it."""


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


def copies(root: Path, now: float) -> list[Path]:
    """Where variants were tried by processes that were killed; DVC removes the others itself, and never these."""
    found = (place for place in _children(root / EXPERIMENTS / "standalone") if "tmp" in place.name)
    old = [place for place in found if now - _written(place) > ABANDONED_S]
    busy = workplaces() if old else set()
    return [place for place in old if not any(work.is_relative_to(place.resolve()) for work in busy)]


def unfinished(root: Path, now: float) -> list[Path]:
    """Files that were never finished, and a torn dvc.lock that was put aside, once a whole one is there.

    By the names that `io.whole_file` and `io.whole_folder` give to outputs, and DVC to files of its cache: other hidden
    files are somebody's own.
    """
    outputs = (root / path for paths in OUTPUTS.values() for path in paths)
    found = {path.with_name(f".{path.name}.part") for path in outputs}
    found |= {file for file in everything(root / ".dvc" / "cache") if file.match(".*.tmp")}
    if (root / LOCK).is_file():
        found.add(root / f"{LOCK}.torn")
    return sorted(file for file in found if file.exists() and now - _written(file) > ABANDONED_S)


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _written(place: Path) -> float:
    """When anything in a folder was last written to."""
    return max(map(_time, everything(place)))


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
