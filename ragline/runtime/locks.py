"""Who works in a project now: one run of the flow at a time, and what a killed DVC leaves in the way.

DVC notes in .dvc/tmp/rwlock which process reads or writes which path. It rewrites that file in place, so a process
killed meanwhile leaves it torn, and one killed later leaves its notes behind. Either can block every command until
somebody deletes the file by hand. And it takes the newest file of a stage in its run cache for a run, even one that
it was just writing when it was killed: `repro` of that stage then says `'outs'`, until somebody deletes the file.
This module is that somebody. Run it as `python -m ragline.runtime.locks`.
"""

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
from pydantic import BaseModel, ValidationError

from ragline.errors import ConfigError, ServiceError

log = logging.getLogger("ragline")


class _Holder(BaseModel):
    pid: int
    cmd: str
    """`sys.argv` of the process, joined by blanks."""

    def lives(self) -> bool:
        """Whether that process still runs; another one that got its number since does not count."""
        arguments = " ".join(self.cmd.split(" ")[1:])
        try:
            return " ".join(psutil.Process(self.pid).cmdline()).endswith(arguments)
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True


class _Locks(BaseModel):
    write: dict[str, _Holder] = {}
    read: dict[str, list[_Holder]] = {}

    def holders(self) -> Iterator[_Holder]:
        yield from self.write.values()
        for readers in self.read.values():
            yield from readers


def heal(root: Path = Path()) -> str | None:
    """Remove DVC's read-write lock when it is torn or no process that it names lives, and half-written runs.

    Where a process lives that reads or writes outputs through DVC, its files stay.

    Returns:
        What was removed and why; None when there was nothing to mend.
    """
    mended = [_heal_lock(root), _drop_half_written(root) if worker(root) is None else None]
    return "; ".join(filter(None, mended)) or None


def _drop_half_written(root: Path) -> str | None:
    runs = root / ".dvc" / "cache" / "runs"
    found = list(runs.glob("*/*/*.tmp"))
    for path in found:
        path.unlink(missing_ok=True)
    return f"{runs}: {len(found)} half-written by a killed run; removed" if found else None


def _heal_lock(root: Path) -> str | None:
    """DVC's own guard is held, so a file that a running DVC is just rewriting is never mistaken for a torn one."""
    path = root / ".dvc" / "tmp" / "rwlock"
    if not path.exists():
        return None
    with path.with_name("rwlock.lock").open("a") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        try:
            holders = list(_Locks.model_validate_json(path.read_bytes()).holders())
        except ValidationError:
            path.unlink()
            return f"{path}: torn by a killed run; removed"
        if holders and not any(holder.lives() for holder in holders):
            path.unlink()
            return f"{path}: left behind by a killed run; removed"
    return None


@contextlib.contextmanager
def only_run(root: Path = Path()) -> Iterator[None]:
    """Hold the project for one run of the flow, or one cleaning; the hold ends with its process, however that ends.

    Raises:
        ConfigError: no project here.
        ServiceError: another run holds it.
    """
    path = root / ".dvc" / "tmp" / "ragline-run"
    if not path.parent.parent.is_dir():
        raise ConfigError(f"{root.resolve()}: no DVC project here; run this in the project's root")
    path.parent.mkdir(exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip()
            raise ServiceError(f"{path}: process {holder} runs this project now; wait for it or cancel it") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def worker(root: Path = Path()) -> int | None:
    """The process, if one lives, that reads or writes outputs through DVC now: a `dvc repro` by hand, say."""
    try:
        locks = _Locks.model_validate_json((root / ".dvc" / "tmp" / "rwlock").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return next((holder.pid for holder in locks.holders() if holder.lives()), None)


def workplaces() -> set[Path]:
    """The working folders of all live processes that may be seen."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found.add(Path(process.cwd()))
    return found


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if healed := heal():
        log.info(healed)
