"""DVC's cache: which of its files something still needs.

As `dvc gc`, by DVC's own account of what revisions use, and beyond it by what the versions that were served and the
run cache name: a version can be built on, and what was computed lately comes back without being computed again.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo, lock_repo
from dvc.repo.experiments.refs import CELERY_STASH, WORKSPACE_STASH
from dvc.scm import NoSCM, NoSCMError
from scmrepo.exceptions import SCMError

from ragline.errors import DataError, ServiceError
from ragline.retention.leftovers import EXPERIMENTS
from ragline.runtime import lock_file
from ragline.runtime.locks import worker, workplaces

DIRECTORY = ".dir"
"""End of the name of a cached folder's list."""


@dataclass(frozen=True)
class Needs:
    """What is kept, beside what the present dvc.lock names."""

    commits: int
    """The last ones of every branch; tags and experiments always."""
    since: float
    """Runs of a stage that ended after this time, in seconds since 1970."""
    locks: Sequence[Path]
    """Folders with a dvc.lock each."""


@contextmanager
def held(root: Path) -> Iterator[Repo]:
    """The project's DVC, and no other process of DVC in it meanwhile.

    Raises:
        ServiceError: somebody is at work.
        DataError: DVC cannot read the project.
    """
    try:
        with Repo(str(root)) as repo, lock_repo(repo):
            if (pid := worker(root)) is not None:
                raise ServiceError(f"{root}: process {pid} works with DVC here now; wait for it, or stop it")
            yield repo
    except LockError:
        raise ServiceError(f"{root}: another process works with DVC here now; wait for it, or stop it") from None
    except DvcException as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{root}: DVC cannot read this project: {reason}; mend it, and clean again") from error


def untouchable(repo: Repo) -> str | None:
    """Why this cache is left as it is; None where it may be cleaned."""
    root = Path(repo.root_dir)
    cache = Path(repo.cache.local.path)
    if not cache.is_relative_to(root):
        return f"{cache}: outside the project, others may share it; `dvc gc --projects` knows them all"
    try:
        lock_file.read_lock(root)
    except DataError as error:
        return f"what the workspace needs is not known: {error}"
    if not isinstance(repo.scm, NoSCM) and any(repo.scm.get_ref(ref) for ref in (WORKSPACE_STASH, CELERY_STASH)):
        return "experiments are queued; run them with `dvc queue start`, or drop them with `dvc queue remove --all`"
    # By who works in the copies: DVC's note of a run in one stays for ever, and says that it is about to begin.
    if any(place.is_relative_to((root / EXPERIMENTS).resolve()) for place in workplaces()):
        return "experiments run now; wait for them"
    return None


def stale(repo: Repo) -> set[str]:
    """The stages whose own inputs, params, code or outputs differ from dvc.lock."""
    return set(repo.status())


def unneeded(repo: Repo, needs: Needs) -> tuple[list[Path], list[Path]]:
    """Files of the cache, and notes of the run cache, that may go, each list in the order in which it may.

    A folder's list goes before the files that it names. A note goes with any of its outputs, as it restores all of
    them or nothing.
    """
    notes = {note: _outputs(note) for note in sorted(_notes(repo))}
    used = _used(repo, needs)
    for note, outputs in notes.items():
        if note.stat().st_mtime > needs.since:
            used |= outputs
    used |= {inside for md5 in used if md5.endswith(DIRECTORY) for inside in _inside(repo, md5)}
    cached = set(repo.cache.local.all())
    gone = sorted(cached - used, key=lambda md5: (not md5.endswith(DIRECTORY), md5))
    left = cached & used
    return [_place(repo, md5) for md5 in gone], [note for note, outputs in notes.items() if not outputs <= left]


def drop_empty_folders(repo: Repo) -> None:
    """Delete what notes leave behind: two folders for each, which would add up for good."""
    runs = Path(repo.stage_cache.cache_dir)
    for folder in (*runs.glob("*/*"), *runs.glob("*")):
        with suppress(OSError):  # not empty
            folder.rmdir()


def _used(repo: Repo, needs: Needs) -> set[str]:
    """By the workspace, revisions, and folders with a dvc.lock; of these, figures that git keeps for revisions, too."""
    revisions: dict[str, Any] = {"all_branches": True, "all_tags": True, "all_experiments": True, "num": needs.commits}
    try:
        revisions["revs"] = [repo.scm.get_rev()]  # of no branch where the head is detached
    except (SCMError, NoSCMError):  # no commit yet, or no repository
        revisions = {}
    # A commit from before the first run has no outputs: a warning each, which would bury what is said here.
    logging.getLogger("dvc.output").setLevel(logging.ERROR)
    used = {one.value for found in repo.used_objs(force=True, **revisions).values() for one in found}
    locks = (lock_file.read_lock(place) for place in (Path(repo.root_dir), *needs.locks))
    return used | {md5 for stages in locks for md5 in lock_file.outputs(stages).values()}


def _inside(repo: Repo, md5: str) -> set[str]:
    try:
        return {entry["md5"] for entry in json.loads(_place(repo, md5).read_bytes())}
    except FileNotFoundError:  # never pulled
        return set()


def _place(repo: Repo, md5: str) -> Path:
    return Path(repo.cache.local.oid_to_path(md5))


def _notes(repo: Repo) -> Iterator[Path]:
    """One file for each run of a stage: what it read, what it left."""
    return (path for path in Path(repo.stage_cache.cache_dir).glob("*/*/*") if path.suffix != ".tmp")


def _outputs(note: Path) -> set[str]:
    return set(lock_file.read_run(note).outs.values())
