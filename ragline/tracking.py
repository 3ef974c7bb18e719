"""What the pipeline made, told to MLflow: runs with their figures, models under the names challenger and champion.

Stages know nothing of it: a stage that DVC restored would have nothing to log. One publication reads dvc.lock,
params.yaml and the reports, and is keyed by the bytes of dvc.lock. Every step is found or made, so a publication that
was killed is completed by the next.

Serving does not ask MLflow. A model's entry points at a folder: the champion's at its version, which never changes, the
challenger's at the project, with the digest that it had. A server gets no weights, but a note of both.
"""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Metric, Param, Run, RunTag, ViewType
from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
from mlflow.exceptions import MlflowException

from ragline import builds, io
from ragline.artifacts import (
    BUNDLES,
    COMPARISONS,
    GENERATOR,
    LOCK,
    METRICS,
    PARAMS,
    REPORT,
    RETRIEVER,
    TIMINGS,
    TRACKED,
)
from ragline.errors import ServiceError
from ragline.promotion import bundles
from ragline.promotion.lock import exclusive
from ragline.runtime.lock_file import StageLock, outputs, read_lock
from ragline.runtime.params import read_params

EXPERIMENT = "ragline"
FILES = Path("mlruns")
MODELS = {"ragline-retriever": RETRIEVER, "ragline-generator": GENERATOR}
SHOWN = (REPORT, METRICS, COMPARISONS, PARAMS, LOCK)
"""Files that are copied beside the run."""

NOTE = "where.json"
"""On a server, what stands for a model: its folder and the digest that it had."""
KEY, STAGE, PARENT, BUNDLE, MD5 = "ragline.lock", "ragline.stage", "mlflow.parentRunId", "ragline.bundle", "ragline.md5"
AT_ONCE = 100
"""Params, or tags, that MLflow takes in one call."""
LONGEST = 500
"""Characters of a param's value."""
WAIT_S = 30.0
"""For another process that writes to the database."""


@dataclass(frozen=True)
class Published:
    """What MLflow holds now."""

    uri: str
    run_id: str
    new: bool
    """False where an earlier call had published this dvc.lock."""
    aliases: dict[str, str]
    """`model@alias` → version of the entry."""


def publish(root: Path = Path()) -> Published:
    """Log the last run of the pipeline, register its models as challenger, and the champion's, if any, as champion.

    MLFLOW_TRACKING_URI names the server; without it, mlflow.db in the project is written. A second call changes
    nothing.

    Raises:
        MissingArtifact, DataError: the pipeline has not run, or its files are damaged.
        ServiceError: MLflow refused, or the disk did.
    """
    for path in (*SHOWN, *MODELS.values()):
        io.require(path, root)  # before there is a database, or half a run in it
    own = f"sqlite:///{(root / TRACKED).resolve()}"
    uri = os.environ.get("MLFLOW_TRACKING_URI") or own
    with exclusive(root / BUNDLES / "publish", wait=True):
        try:
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            experiment = _experiment(client, (root / FILES).resolve().as_uri() if uri == own else None)
            run_id, new = _run(client, experiment, root)
            aliases = _register(client, root, run_id, "challenger", "")
            if now := bundles.standing(root):
                place = bundles.folder(root, now.version)
                aliases |= _register(client, place, _run(client, experiment, place)[0], "champion", now.version)
        except MlflowException as error:
            reason = " ".join(str(error).split())[:200]
            raise ServiceError(f"{uri}: MLflow refused: {reason}; mend it, and run `ragline publish` again") from error
    return Published(uri, run_id, new, aliases)


def prune(root: Path, keep: int, dry: bool) -> int:
    """Delete old runs of the pipeline from the project's own mlflow.db, and with them their stages, files and entries.

    Kept are the last `keep`, those that an alias points at, and those of the versions that can still be served. Runs
    that an interrupted publication or cleaning had marked go, too; others that somebody deleted are not ours.

    Args:
        dry: only count.

    Returns:
        How many runs of the pipeline, their stages not counted.

    Raises:
        ServiceError: MLflow refused.
    """
    own = f"sqlite:///{(root / TRACKED).resolve()}"
    with exclusive(root / BUNDLES / "publish", wait=True):
        try:
            client = MlflowClient(tracking_uri=own, registry_uri=own)
            found = client.get_experiment_by_name(EXPERIMENT)
            if found is None:
                return 0
            experiment = str(found.experiment_id)
            gone = _superseded(client, experiment, root, keep)
            if not dry:
                for run_id in gone:
                    _delete(client, experiment, run_id)
                _empty_bin(client, experiment, own)
                _drop_rows(root / TRACKED, experiment)
                _drop_empty_folders(root / FILES)
        except (MlflowException, sqlite3.Error) as error:
            reason = " ".join(str(error).split())[:200]
            raise ServiceError(f"{own}: MLflow refused: {reason}; mend it, and clean again") from error
    return len(gone)


def _superseded(client: MlflowClient, experiment: str, root: Path, keep: int) -> list[str]:
    served = {io.file_digest(place / LOCK) for place in bundles.folders(root)}
    models = [model for name in MODELS for model in client.search_registered_models(f"name = '{name}'")]
    aliased = {
        str(client.get_model_version(model.name, version).run_id)
        for model in models
        for version in model.aliases.values()
    }
    found = _all_runs(client, experiment, ViewType.ACTIVE_ONLY)
    runs = [run for run in found if KEY in run.data.tags]
    runs.sort(key=lambda run: (-run.info.start_time, run.info.run_id))
    late = runs[keep:]
    return [r.info.run_id for r in late if r.info.run_id not in aliased and r.data.tags[KEY] not in served]


def _delete(client: MlflowClient, experiment: str, run_id: str) -> None:
    """Mark a run, the models that it entered gone; its stages first, so that a kill leaves none without it."""
    for name in MODELS:
        for entry in client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'"):
            client.delete_model_version(name, entry.version)
    for child in client.search_runs([experiment], f"tags.`{PARENT}` = '{run_id}'", ViewType.ACTIVE_ONLY):
        client.delete_run(child.info.run_id)
    client.delete_run(run_id)


def _empty_bin(client: MlflowClient, experiment: str, uri: str) -> None:
    """Delete for good what is marked and ours: `mlflow gc` alone does that."""
    marked = [
        run.info.run_id
        for run in _all_runs(client, experiment, ViewType.DELETED_ONLY)
        if {KEY, STAGE} & run.data.tags.keys()
    ]
    for start in range(0, len(marked), 10 * AT_ONCE):
        ids = ",".join(marked[start : start + 10 * AT_ONCE])
        command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", uri, "--tracking-uri", uri]
        ended = subprocess.run([*command, "--run-ids", ids], capture_output=True, text=True)
        if ended.returncode:
            raise MlflowException((ended.stderr.strip().splitlines() or ["mlflow gc: no message"])[-1])


def _drop_rows(database: Path, experiment: str) -> None:
    """Delete what MLflow keeps of deleted entries and runs: it hides an entry, and forgets which data a run had."""
    with closing(sqlite3.connect(database, timeout=WAIT_S)) as connection, connection:
        for name in MODELS:
            hidden = "FROM model_versions WHERE name = ? AND current_stage = ?"
            which = (name, STAGE_DELETED_INTERNAL)
            tags = f"DELETE FROM model_version_tags WHERE name = ? AND version IN (SELECT version {hidden})"
            connection.execute(tags, (name, *which))
            connection.execute(f"DELETE {hidden}", which)
        runs = "destination_type = 'RUN' AND destination_id NOT IN (SELECT run_uuid FROM runs)"
        connection.execute(f"DELETE FROM inputs WHERE source_type = 'DATASET' AND {runs}")
        unused = "experiment_id = ? AND dataset_uuid NOT IN (SELECT source_id FROM inputs)"
        connection.execute(f"DELETE FROM datasets WHERE {unused}", (experiment,))


def _drop_empty_folders(files: Path) -> None:
    """Delete the folder of each run that `mlflow gc` emptied and left."""
    for folder in files.glob("*"):
        with suppress(OSError):  # not empty
            folder.rmdir()


def _all_runs(client: MlflowClient, experiment: str, which: int) -> list[Run]:
    found: list[Run] = []
    token = None
    while True:
        page = client.search_runs([experiment], "", which, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _experiment(client: MlflowClient, files: str | None) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    return str(found.experiment_id) if found else str(client.create_experiment(EXPERIMENT, artifact_location=files))


# --- runs ------------------------------------------------------------------------------------------


def _run(client: MlflowClient, experiment: str, root: Path) -> tuple[str, bool]:
    """The run of the dvc.lock in a project or a version, and whether it is new; an unfinished one is made anew."""
    key = io.file_digest(io.require(LOCK, root))
    for found in client.search_runs([experiment], f"tags.`{KEY}` = '{key}'", ViewType.ACTIVE_ONLY):
        run_id = str(found.info.run_id)
        if found.info.status == "FINISHED":
            return run_id, False
        for child in client.search_runs([experiment], f"tags.`{PARENT}` = '{run_id}'", ViewType.ACTIVE_ONLY):
            client.delete_run(child.info.run_id)
        client.delete_run(run_id)
    stages = read_lock(root)
    parent = str(client.create_run(experiment, run_name=f"pipeline {key[:8]}", tags={KEY: key}).info.run_id)
    _log_params(client, parent, dict(builds.leaves(read_params(root / PARAMS))))
    _log_metrics(client, parent, dict(builds.numbers(io.read_json(root / METRICS))))
    client.log_inputs(parent, _datasets(stages))
    for name, stage in stages.items():
        child = client.create_run(experiment, run_name=name, tags={PARENT: parent, STAGE: name})
        _log_stage(client, str(child.info.run_id), name, stage, root)
        client.set_terminated(child.info.run_id)
    for path in SHOWN:
        client.log_artifact(parent, str(io.require(path, root)))
    client.set_terminated(parent)  # last: only now does the run count as published
    return parent, True


def _log_stage(client: MlflowClient, run_id: str, name: str, stage: StageLock, root: Path) -> None:
    _log_params(client, run_id, dict(builds.leaves(stage.params)))
    tags = [RunTag(f"dvc.out.{path}", md5) for path, md5 in stage.outs.items()]
    for start in range(0, len(tags), AT_ONCE):
        client.log_batch(run_id, tags=tags[start : start + AT_ONCE])
    reports = [root / path for path in stage.outs if path.startswith("reports/") and (root / path).is_file()]
    for path in reports:
        if path.suffix == ".json" and path != root / COMPARISONS:  # a thousand figures and more: the file is attached
            _log_metrics(client, run_id, dict(builds.numbers(io.read_json(path), f"{path.stem}.")))
        elif path.suffix == ".csv":
            _log_curve(client, run_id, path)
    if (took := root / TIMINGS / f"{name}.json").is_file():
        _log_metrics(client, run_id, dict(builds.numbers(io.read_json(took))))


def _log_params(client: MlflowClient, run_id: str, values: Mapping[str, Any]) -> None:
    params = [Param(_name(name), str(value)[:LONGEST]) for name, value in values.items()]
    for start in range(0, len(params), AT_ONCE):
        client.log_batch(run_id, params=params[start : start + AT_ONCE])


def _log_metrics(client: MlflowClient, run_id: str, values: Mapping[str, float]) -> None:
    now = _milliseconds()
    client.log_batch(run_id, metrics=[Metric(_name(name), value, now, 0) for name, value in values.items()])


def _log_curve(client: MlflowClient, run_id: str, path: Path) -> None:
    """A table whose first column is the step."""
    now, points = _milliseconds(), []
    for row in io.read_csv(path):
        (_, step), *cells = row.items()
        points += [Metric(_name(f"curve.{name}"), float(cell), now, int(float(step))) for name, cell in cells if cell]
    for start in range(0, len(points), 10 * AT_ONCE):
        client.log_batch(run_id, metrics=points[start : start + 10 * AT_ONCE])


def _milliseconds() -> int:
    return int(time.time() * 1000)


def _datasets(stages: Mapping[str, StageLock]) -> list[DatasetInput]:
    """What the run read and made of data, each with DVC's digest."""
    source = "local"
    return [
        DatasetInput(Dataset(path, md5, source, json.dumps({"uri": path}))) for path, md5 in builds.data(stages).items()
    ]


def _name(name: str) -> str:
    """As MLflow allows it: letters, digits and a few signs."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-. /") else "_" for c in name.replace("@", "_at_"))


# --- models ----------------------------------------------------------------------------------------


def _register(client: MlflowClient, place: Path, run_id: str, alias: str, bundle: str) -> dict[str, str]:
    """Enter the models of a project or a version, and give them the alias."""
    key, md5s = io.file_digest(place / LOCK), outputs(read_lock(place))
    aliases = {}
    for name, path in MODELS.items():
        tags = {KEY: key, BUNDLE: bundle, MD5: md5s[str(path)]}
        version = _entered(client, name, tags)
        if version is None:
            source = _source(client, run_id, io.require(path, place).resolve(), path, md5s[str(path)])
            version = str(client.create_model_version(name, source, run_id, tags=tags).version)
        client.set_registered_model_alias(name, alias, version)
        aliases[f"{name}@{alias}"] = version
    return aliases


def _source(client: MlflowClient, run_id: str, folder: Path, path: Path, md5: str) -> str:
    """Where an entry points: at the folder. A server refuses folders of other machines; there, at a note in the run."""
    if not client.tracking_uri.startswith(("http://", "https://")):
        return str(folder)
    client.log_dict(run_id, {"folder": str(folder), "md5": md5}, f"{path.as_posix()}/{NOTE}")
    return f"runs:/{run_id}/{path.as_posix()}"


def _entered(client: MlflowClient, name: str, tags: Mapping[str, str]) -> str | None:
    """The version with these tags, if there is one; the model itself is made where it is new."""
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    where = " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items() if value)
    found = client.search_model_versions(f"name = '{name}' and {where}")
    return next((str(entry.version) for entry in found if entry.tags.get(BUNDLE, "") == tags[BUNDLE]), None)
