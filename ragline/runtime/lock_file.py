"""dvc.lock: what each stage ran with, and which bytes it left."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ragline.artifacts import LOCK, PARAMS
from ragline.errors import DataError, MissingArtifact


@dataclass(frozen=True)
class StageLock:
    """One stage as DVC noted it."""

    params: dict[str, Any] = field(default_factory=dict)
    """`section` or `section.key` → value, of params.yaml."""
    deps: dict[str, str] = field(default_factory=dict)
    """Path → md5."""
    outs: dict[str, str] = field(default_factory=dict)
    """Path → md5, that of a folder ends in `.dir`."""


def read_lock(root: Path) -> dict[str, StageLock]:
    """Every stage in dvc.lock.

    Raises:
        MissingArtifact, DataError: not there; not what DVC writes.
    """
    path = root / LOCK
    try:
        content = YAML(typ="safe").load(path)  # of YAML 1.2, as DVC writes: 5e-05 is a number
        return {name: _stage(entry) for name, entry in content["stages"].items()}
    except FileNotFoundError:
        raise MissingArtifact(f"{LOCK}: not found; run `dvc repro`") from None
    except (YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(
            f"{path}: not what DVC writes: {reason}; restore it from git, or delete it and run `dvc repro`"
        ) from None


def read_run(path: Path) -> StageLock:
    """One note of DVC's run cache; a damaged one names nothing, as DVC itself drops it then."""
    try:
        return _stage(YAML(typ="safe").load(path))
    except (YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        return StageLock()


def _stage(entry: Mapping[str, Any]) -> StageLock:
    paths = {kind: {one["path"]: one["md5"] for one in entry.get(kind, ())} for kind in ("deps", "outs")}
    return StageLock(dict(entry.get("params", {}).get(str(PARAMS), {})), **paths)


def outputs(stages: Mapping[str, StageLock]) -> dict[str, str]:
    """Path → md5 of all that the stages wrote."""
    return {path: md5 for stage in stages.values() for path, md5 in stage.outs.items()}


def differing(paths: Mapping[str, str], root: Path) -> list[str]:
    """Which of these files and folders are missing or hold other bytes than noted; read in full.

    Args:
        paths: path below `root` → md5 as in dvc.lock.
    """
    return [path for path, md5 in paths.items() if not (root / path).exists() or dvc_md5(root / path) != md5]


def dvc_md5(path: Path) -> str:
    """The digest that DVC gives a file, or a folder: of the sorted list of its files' paths and digests."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    files = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
    listed = [{"md5": dvc_md5(file), "relpath": name} for name, file in files]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir"
