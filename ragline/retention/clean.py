"""Cleaning by the rules in params.yaml: what goes, kind by kind, and what is said of it.

The ledger of paid calls, the versions, experiments, sources and outputs are never touched: money, the gate, people and
the pipeline decide on those.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx

from ragline.artifacts import GENERATOR, RETRIEVER, TRACKED, made_by
from ragline.errors import ServiceError
from ragline.promotion import bundles
from ragline.retention import disk, dvc_cache, leftovers, prefect_history
from ragline.retention.dvc_cache import Needs
from ragline.retention.rules import RetentionParams, rules
from ragline.runtime.environment import prefect_credentials
from ragline.runtime.locks import only_run

TIMEOUT_S = 30.0
TRAINED = {made_by(RETRIEVER), made_by(GENERATOR)}
"""Stages that leave checkpoints when they are killed."""


@dataclass(frozen=True, slots=True)
class Part:
    """What was, or would be, deleted of one kind."""

    kind: str
    count: int
    what: str
    """That is counted."""
    bytes: int | None
    """On disk; None in a database, which writes into freed pages and does not shrink."""
    left: str = ""
    """Why all of it was left, if it was."""

    @property
    def line(self) -> str:
        """For a person."""
        freed = "" if self.bytes is None or self.left else f", {disk.gigabytes(self.bytes)}"
        return f"{self.kind:<12}{self.left or f'{self.count:,} {self.what}{freed}'}"


def clean(root: Path, dry: bool, prefect: str | None, now: datetime | None = None) -> list[Part]:
    """Delete what the rules do not keep; killed at any moment, everything that is left is whole.

    Args:
        dry: only say what would go.
        prefect: address of Prefect's API; None where none is running.
        now: the present, unless another is given.

    Raises:
        ConfigError: the rules are wrong.
        DataError: DVC cannot read the project, or a kept version is damaged.
        ServiceError: a run holds the project, nothing is deleted; or the disk or MLflow refused.
    """
    wanted, now = rules(root), now or datetime.now(UTC)
    with only_run(root):
        return [
            *_files(root, wanted, now.timestamp(), dry),
            _tracked(root, wanted, dry),
            _flow_runs(root, prefect, wanted, now, dry),
        ]


def _files(root: Path, wanted: RetentionParams, now: float, dry: bool) -> list[Part]:
    with dvc_cache.held(root) as repo:
        left = dvc_cache.untouchable(repo) or ""
        needs = Needs(wanted.commits, now - wanted.days * 86_400, bundles.folders(root))
        objects, notes = ([], []) if left else dvc_cache.unneeded(repo, needs)
        trained = not left and not TRAINED & dvc_cache.stale(repo)
        parts = [
            _part("dvc cache", "files", objects, dry, left),
            _part("run cache", "runs of a stage", notes, dry, left),
            _part("checkpoints", "trainings", leftovers.checkpoints(root, trained, now, wanted.days), dry),
            _part("vectors", "encoders", leftovers.shelves(root, wanted.days), dry),
            _part("experiments", "copies of killed variants", leftovers.copies(root, now), dry),
            _part("unfinished", "files of killed processes", leftovers.unfinished(root, now), dry),
        ]
        if not dry:
            dvc_cache.drop_empty_folders(repo)
        return parts


def _part(kind: str, what: str, places: Sequence[Path], dry: bool, left: str = "") -> Part:
    freed = sum(disk.size(file) for place in places for file in disk.everything(place))
    if not dry:
        for place in places:
            _remove(place)
    return Part(kind, len(places), what, freed, left)


def _remove(place: Path) -> None:
    try:
        if place.is_dir():
            gone = place.with_name(f".{place.name}.part")  # whole or absent, as a training may look for it
            shutil.rmtree(gone, ignore_errors=True)
            place.replace(gone)
            shutil.rmtree(gone)
        else:
            place.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ServiceError(f"{place}: cannot delete: {reason}; give access, and clean again") from error


def _tracked(root: Path, wanted: RetentionParams, dry: bool) -> Part:
    what = "runs of the pipeline"
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return Part("mlflow", 0, what, None, "on a server, where `mlflow gc` is its keeper's")
    if not (root / TRACKED).is_file():
        return Part("mlflow", 0, what, None)
    from ragline import tracking  # seconds, for projects that have something there

    return Part("mlflow", tracking.prune(root, wanted.tracked_runs, dry), what, None)


def _flow_runs(root: Path, api: str | None, wanted: RetentionParams, now: datetime, dry: bool) -> Part:
    if api is None:
        return Part("prefect", 0, "flow runs", None, "no server is running")
    try:
        with httpx.Client(timeout=TIMEOUT_S, headers=prefect_credentials()) as client:
            runs = prefect_history.old(client, api, prefect_history.tag(root), now, wanted.flow_days)
            if not dry:
                prefect_history.delete(client, api, runs)
    except ServiceError as error:  # of a server that others may keep: the rest has been cleaned all the same
        return Part("prefect", 0, "flow runs", None, str(error))
    return Part("prefect", len(runs), "flow runs", None)
