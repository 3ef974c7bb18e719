"""The versions that are or were served: a folder each, whole or absent, with a digest of every file.

A version mirrors the project's paths, so whatever reads a project reads a version: `qa.load(serving(root), root)`.
Which one is the champion stands in champion.json alone; replacing that file is the whole of a promotion or a rollback.
Nothing in a version is ever written again, and nothing a stage does reaches it: its files are copies, or hard links to
those of the version before.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ragline import io
from ragline.artifacts import ANSWERING, BUNDLES, JUDGED_BY, LANGUAGE_MODEL, LOCK, PARAMS, REPORT, SERVED
from ragline.errors import ConfigError, DataError, MissingArtifact, ModelError, ServiceError
from ragline.promotion.lock import exclusive

MANIFEST = Path("manifest.json")
CHAMPION = Path("champion.json")
RECORDS = (*JUDGED_BY, PARAMS, LOCK, REPORT)
"""How it was made and what it is worth: no answer hangs on them."""
BUNDLED = (*SERVED, *RECORDS)
"""What travels together, and the folders of models in the project that answers need besides."""


@dataclass(frozen=True)
class Manifest:
    """What a version consists of."""

    files: dict[str, str]
    """Path inside the version → sha256, by path."""

    @property
    def digest(self) -> str:
        """Of what is served; versions of one digest answer alike."""
        served = (pair for pair in sorted(self.files.items()) if Path(pair[0]) not in RECORDS)
        return io.digest(*(part for pair in served for part in pair))


@dataclass(frozen=True)
class Standing:
    """Who is champion, and who was."""

    line: tuple[str, ...]
    """Versions that were champion, the present one last; those rolled back are not in it."""
    reason: str
    """Why the present one is."""
    withdrawn: dict[str, str] = field(default_factory=dict)
    """Versions that were rolled back → digest: the gate does not promote them again."""

    @property
    def version(self) -> str:
        return self.line[-1]


def locked(root: Path) -> AbstractContextManager[None]:
    """Keep every other gate out.

    Raises:
        ServiceError: another one is at work.
    """
    return exclusive(root / BUNDLES / "lock", wait=False)


def standing(root: Path) -> Standing | None:
    """Who is champion; None before the first promotion.

    Raises:
        ModelError: the file is damaged.
    """
    path = root / BUNDLES / CHAMPION
    if not path.exists():
        return None
    try:
        content = io.read_json(path)
        return Standing(tuple(map(str, content["line"])), str(content["reason"]), dict(content["withdrawn"]))
    except (DataError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path}: not a record of champions: {error}; restore it, or delete it and run `ragline promote`"
        ) from None


def folder(root: Path, version: str) -> Path:
    """Where a version lies."""
    return root / BUNDLES / version


def folders(root: Path) -> list[Path]:
    """Where the versions lie whose files are kept, whole ones alone."""
    return sorted(place.parent for place in (root / BUNDLES).glob(f"v*/{MANIFEST}"))


def crowned(root: Path) -> Standing:
    """Who is champion.

    Raises:
        MissingArtifact: there is none.
        ModelError: the record is damaged.
    """
    now = standing(root)
    if now is None:
        raise MissingArtifact(f"{BUNDLES}: no champion yet; run `ragline promote`")
    return now


def serving(root: Path) -> Path:
    """The champion's folder, every file in it verified.

    Raises:
        MissingArtifact: there is no champion.
        ModelError: it is damaged.
    """
    place = folder(root, crowned(root).version)
    verify(place)
    return place


def verify(place: Path) -> Manifest:
    """Read a version in full and compare it with its manifest.

    Raises:
        ModelError: a file is missing, altered, or not the manifest's.
    """
    mend = "run `ragline rollback`, or `ragline promote` for a new version"
    try:
        noted = Manifest(dict(io.read_json(place / MANIFEST)["files"]))
        found = survey(place)
    except (DataError, KeyError, TypeError, ValueError, OSError) as error:
        raise ModelError(f"{place}: not a whole version: {error}; {mend}") from None
    if odd := sorted({path for path, _ in noted.files.items() ^ found.files.items()}):
        raise ModelError(
            f"{place}: damaged: {len(odd)} files are not those it was written with, first {odd[0]}; {mend}"
        )
    return noted


def survey(place: Path) -> Manifest:
    """The files of a version and their digests, without its manifest."""
    names = sorted(f.relative_to(place).as_posix() for f in place.rglob("*") if f.is_file())
    return Manifest({name: io.file_digest(place / name) for name in names if name != str(MANIFEST)})


@contextmanager
def candidate(root: Path) -> Iterator[Path]:
    """A copy of what the pipeline has made, to be judged, and then admitted or dropped; needs the lock.

    What the champion has as well is a hard link to its file.

    Raises:
        MissingArtifact: the pipeline has not made all of it.
        ConfigError: answers need a model that could not travel.
        ServiceError: the disk refused.
    """
    place = root / BUNDLES / ".candidate"
    now = standing(root)
    before = folder(root, now.version) if now else None
    try:
        with _writing(place):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            for name in (*BUNDLED, *_own_models(root)):
                source = io.require(name, root)
                files = sorted(f for f in source.rglob("*") if f.is_file()) if source.is_dir() else [source]
                for file in files:
                    inside = file.relative_to(root)
                    _take(file, place / inside, before / inside if before else None)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def admit(root: Path, place: Path, manifest: Manifest, reason: str) -> str:
    """Make a candidate the champion; needs the lock.

    Killed at any moment, either the old champion stands or the new one does: the version is complete before
    champion.json names it.

    Returns:
        Its version.
    """
    now = standing(root) or Standing((), "")
    version = f"v{1 + max([0, *map(_number, (*now.line, *now.withdrawn))]):04d}"
    io.write_json({"files": manifest.files}, place / MANIFEST)
    target = folder(root, version)
    with _writing(target):
        if target.exists():  # complete, but the process ended before champion.json named it
            shutil.rmtree(target)
        place.replace(target)
    _crown(root, Standing((*now.line, version), reason, now.withdrawn))
    return version


def rollback(root: Path) -> Standing:
    """Make the champion before this one champion again, after verifying it.

    The version that is left is noted as withdrawn, so that the next night does not bring it back.

    Raises:
        ConfigError: there is no earlier one.
        ModelError: the earlier one is damaged.
    """
    with locked(root):
        now = standing(root)
        if now is None or len(now.line) < 2 or not folder(root, now.line[-2]).is_dir():
            raise ConfigError(
                f"{BUNDLES}: no earlier champion to go back to, only {now.version if now else 'none at all'}; "
                f"mend the project and run `ragline promote`"
            )
        *line, left = now.line
        verify(folder(root, line[-1]))
        withdrawn = {**now.withdrawn, left: _noted_digest(folder(root, left))}
        back = Standing(tuple(line), f"rolled back from {left}", withdrawn)
        _crown(root, back)
        return back


def prune(root: Path, keep: int) -> list[str]:
    """Delete all versions but the last `keep` champions; needs the lock.

    Returns:
        What was deleted.
    """
    now = standing(root)
    kept = set(now.line[-max(keep, 1) :]) if now else set()
    hidden = root / BUNDLES / ".deleted"
    gone = sorted(p for p in (root / BUNDLES).glob("v*") if p.is_dir() and p.name not in kept)
    for place in gone:
        with _writing(place):
            shutil.rmtree(hidden, ignore_errors=True)
            place.replace(hidden)  # so that a version is whole or absent in this direction, too
            shutil.rmtree(hidden)
    return [place.name for place in gone]


def _own_models(root: Path) -> list[Path]:
    """Folders in the project of the reranker and of the base of the generator's adapters, where answers need them.

    Others, by hub id or absolute path, are found by name anywhere.

    Raises:
        ConfigError: a relative path leads out of the project, so that no version could find it.
    """
    named = {"evaluate.reranker": io.read_json(io.require(ANSWERING, root)).get("reranker")}
    if (root / LANGUAGE_MODEL).is_file():
        base = io.read_json(root / LANGUAGE_MODEL).get("base")
        named["train_generator.base_model"] = base["name"] if base else None
    found = []
    for key, name in named.items():
        path = Path(name or "/")
        if path.is_absolute() or not (root / path).is_dir():
            continue
        if ".." in path.parts:
            raise ConfigError(
                f"{PARAMS}: {key}: expected a folder inside the project, a hub id or an absolute path, got {name}; "
                "move the model into the project, and run `dvc repro`"
            )
        found.append(path)
    return sorted(set(found))


def _crown(root: Path, now: Standing) -> None:
    io.write_json(asdict(now), root / BUNDLES / CHAMPION)


def _noted_digest(place: Path) -> str:
    """By the manifest alone: what is rolled back may be damaged."""
    try:
        noted: Mapping[str, Any] = io.read_json(place / MANIFEST)
        return Manifest(dict(noted["files"])).digest
    except (DataError, KeyError, TypeError, ValueError):
        return ""


def _number(version: str) -> int:
    return int(version.removeprefix("v"))


def _take(file: Path, target: Path, twin: Path | None) -> None:
    """Put a file into a version; as a link to its twin in the version before, if that has the same bytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if twin and twin.is_file() and io.file_digest(twin) == io.file_digest(file):
        with suppress(OSError):  # not every file system has links, and some only so many
            os.link(twin, target)
            return
    shutil.copyfile(file, target)
    target.chmod(0o444)
    with target.open("rb") as written:
        os.fsync(written.fileno())


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ServiceError(
            f"{path}: cannot write: {reason}; the champion stays as it was: make room or access, and run again"
        ) from error
