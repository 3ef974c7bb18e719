"""Files as a commit has them, without checking anything out: from git, or from DVC's cache or remote."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from ragline.artifacts import LOCK
from ragline.errors import ConfigError, MissingArtifact
from ragline.runtime import lock_file


def resolve(root: Path, name: str) -> str:
    """The commit of a branch, tag, revision such as `HEAD~3`, or experiment of `dvc exp`.

    Raises:
        ConfigError: there is none of this name, or no repository.
    """
    from dvc.exceptions import DvcException  # half a second: only for those who ask for a commit
    from dvc.repo import Repo
    from dvc.scm import NoSCM, resolve_rev

    wanted = "expected a folder with a dvc.lock, a git revision, an experiment, `workspace` or `champion`"
    try:
        with Repo(root) as repo:
            if isinstance(repo.scm, NoSCM):
                raise ConfigError(f"{name}: no such run: no git repository here; {wanted}")
            return str(resolve_rev(repo.scm, name))
    except DvcException:
        raise ConfigError(f"{name}: no such run; {wanted}; `git log --oneline` and `dvc exp list` name some") from None


def locks(root: Path, most: int) -> Iterator[tuple[str, str]]:
    """The commits that changed dvc.lock, newest first, each with the file's text.

    Nothing where git or a commit is missing.

    Args:
        most: commits to look at.
    """
    listed = _git(root, "log", f"--max-count={most}", "--format=%H", "--", f"./{LOCK}")
    for commit in listed.stdout.decode().split() if listed.returncode == 0 else ():
        found = _git(root, "show", f"{commit}:./{LOCK}")
        if found.returncode == 0:  # else the commit deleted it
            yield commit, found.stdout.decode(errors="replace")


def export(root: Path, commit: str, paths: Sequence[Path], folder: Path, remote: bool) -> None:
    """Write files of a commit below a folder, dvc.lock before all others.

    Args:
        remote: ask DVC's remote for what its cache lacks.

    Raises:
        MissingArtifact: a file is neither in git nor where DVC keeps data.
        DataError: the commit's dvc.lock is damaged.
    """
    if not _from_git(root, commit, LOCK, folder):
        raise MissingArtifact(f"{commit[:7]}: no {LOCK} in this commit; compare with one made after `dvc repro`")
    md5s = lock_file.outputs(lock_file.read_lock(folder))
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    others = [path for path in paths if not _from_git(root, commit, path, folder)]
    cached = _cached(root, [md5s.get(str(path), "") for path in others])
    for path, found in zip(others, cached, strict=True):
        if found.is_file():
            shutil.copyfile(found, folder / path)
        else:
            _from_remote(root, commit, path, folder, remote)


def _from_git(root: Path, commit: str, path: Path, folder: Path) -> bool:
    found = _git(root, "show", f"{commit}:./{path.as_posix()}")
    if found.returncode == 0:
        (folder / path).write_bytes(found.stdout)
    return found.returncode == 0


def _cached(root: Path, md5s: Sequence[str]) -> list[Path]:
    """Where DVC's cache has, or would have, a file of each digest.

    Raises:
        MissingArtifact: DVC does not know this folder.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(root) as repo:
            return [Path(repo.cache.local.oid_to_path(md5)) for md5 in md5s]
    except (DvcException, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise MissingArtifact(f"{root}: no cache of DVC here: {reason}; run this in the project's root") from None


def _from_remote(root: Path, commit: str, path: Path, folder: Path, remote: bool) -> None:
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    missing = f"{commit[:7]}: {path}: neither in git nor in DVC's cache"
    mend = "run `dvc repro` there, or compare with another commit"
    with Repo(root) as repo:
        asked = remote and bool(repo.config["remote"])
    if not asked:
        raise MissingArtifact(f"{missing}; {mend}")
    try:
        DVCFileSystem(str(root), rev=commit).get_file(path.as_posix(), str(folder / path))
    except (DvcException, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise MissingArtifact(f"{missing}, and DVC's remote does not give it: {reason}; {mend}") from None


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Git's answer; where git itself is missing, as if it had refused."""
    try:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        return subprocess.CompletedProcess(arguments, 127, b"", b"")
