"""Publication to a real MLflow store in SQLite: once, completed after a kill, consistent when two do it."""

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from ruamel.yaml import YAML

from ragline import io, tracking
from ragline.artifacts import (
    COMPARISONS,
    GENERATOR,
    GENERATOR_CURVE,
    GENERATOR_SUMMARY,
    LOCK,
    METRICS,
    REPORT,
    RETRIEVER,
    TRACKED,
)
from ragline.errors import MissingArtifact
from ragline.promotion import bundles
from ragline.promotion.gate import gate
from ragline.runtime.lock_file import dvc_md5
from tests.conftest import ROOT
from tests.fixtures import promotable

pytestmark = pytest.mark.slow  # the database alone takes seconds to make


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Path:
    """An empty store, made once."""
    path = tmp_path_factory.mktemp("mlflow") / TRACKED
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def root(tmp_path: Path, database: Path, monkeypatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(database, tmp_path / TRACKED)
    promotable.write(tmp_path)
    return tmp_path


def client(root: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{(root / TRACKED).resolve()}")


def runs(root: Path) -> list[Run]:
    """The active runs, parents last."""
    store = client(root)
    experiment = store.get_experiment_by_name(tracking.EXPERIMENT)
    return sorted(store.search_runs([experiment.experiment_id]), key=lambda run: run.info.run_name)


def folders(root: Path, alias: str) -> list[Path]:
    """Where the models of an alias lie."""
    store = client(root)
    return [Path(store.get_model_version_by_alias(name, alias).source) for name in tracking.MODELS]


def test_a_run_with_its_stages_models_and_data(root):
    done = tracking.publish(root)
    assert done.new
    child, parent = runs(root)
    assert parent.info.run_id == done.run_id
    assert parent.data.metrics == {"test.n": 100, "test.retrieval.hybrid.mrr_at_10": 0.5}
    assert parent.data.params["promotion.target.metric"] == "mrr@10"
    digests = {entry.dataset.name: entry.dataset.digest for entry in parent.inputs.dataset_inputs}
    assert digests["data/passages.parquet"] == dvc_md5(root / "data/passages.parquet")
    assert digests["data/raw"] == "0" * 32 + ".dir"
    assert (child.info.run_name, child.data.tags[tracking.PARENT]) == ("evaluate", done.run_id)
    assert child.data.tags["dvc.out.models/retriever"] == dvc_md5(root / RETRIEVER)
    assert child.data.params == {"evaluate.seed": "13"}
    assert {file.path for file in client(root).list_artifacts(done.run_id)} >= {"dvc.lock", "index.html"}
    assert folders(root, "challenger") == [root / RETRIEVER, root / GENERATOR]


def test_a_second_time_changes_nothing(root):
    first = tracking.publish(root)
    second = tracking.publish(root)
    assert (second.run_id, second.new, second.aliases) == (first.run_id, False, first.aliases)
    assert len(runs(root)) == 2
    assert len(client(root).search_model_versions()) == 2


def test_the_champion_is_the_one_that_is_served(root):
    gate(root)
    tracking.publish(root)
    promotable.retrain(root, "two")
    tracking.publish(root)
    one = bundles.folder(root, "v0001")
    assert folders(root, "champion") == [one / RETRIEVER, one / GENERATOR]
    gate(root, anyway=True)
    tracking.publish(root)
    two = bundles.folder(root, "v0002")
    assert folders(root, "champion") == [two / RETRIEVER, two / GENERATOR]
    bundles.rollback(root)
    done = tracking.publish(root)
    assert folders(root, "champion") == [one / RETRIEVER, one / GENERATOR]
    assert done.aliases["ragline-retriever@champion"] == "2"  # entered once, found again
    assert len(runs(root)) == 4


KILLED = """
import os, signal, sys
from pathlib import Path
from mlflow import MlflowClient
from ragline import tracking
if len(sys.argv) > 2:
    setattr(MlflowClient, sys.argv[2], lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL))
print(tracking.publish(Path(sys.argv[1])).new)
"""


def publishing(root: Path, *killed_at: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", KILLED, str(root), *killed_at]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@pytest.mark.parametrize("step", ["log_inputs", "set_terminated", "create_model_version", "set_registered_model_alias"])
def test_killed_at_any_step_it_is_completed_by_the_next(root, step):
    with publishing(root, step) as process:
        assert process.wait() == -signal.SIGKILL
    done = tracking.publish(root)
    assert {run.info.status for run in runs(root)} == {"FINISHED"}
    assert len(runs(root)) == 2
    assert set(done.aliases) == {"ragline-retriever@challenger", "ragline-generator@challenger"}
    assert len(client(root).search_model_versions()) == 2


def test_two_at_once_publish_it_once(root):
    with publishing(root) as first, publishing(root) as second:
        assert sorted(process.communicate()[0] for process in (first, second)) == ["False\n", "True\n"]
    assert len(runs(root)) == 2
    assert len(client(root).search_model_versions()) == 2


def test_a_curve_has_steps_and_the_comparisons_are_a_file(root):
    content = YAML(typ="safe").load(root / LOCK)
    made = (GENERATOR_CURVE, GENERATOR_SUMMARY, COMPARISONS)
    content["stages"]["evaluate"]["outs"] += [{"path": str(path), "md5": "0" * 32} for path in made]
    YAML(typ="safe").dump(content, root / LOCK)
    io.write_csv(("step", "loss", "dev_loss"), [(10, 3.5, None), (20, 2.5, 2.0)], root / GENERATOR_CURVE)
    io.write_json({"steps": 20, "method": "fid"}, root / GENERATOR_SUMMARY)
    io.write_json({"intervals": {"test": 0.5}}, root / COMPARISONS)
    done = tracking.publish(root)
    (child, _) = runs(root)
    assert child.data.metrics == {"curve.loss": 2.5, "curve.dev_loss": 2.0, "generator.steps": 20}
    points = client(root).get_metric_history(child.info.run_id, "curve.loss")
    assert sorted((point.step, point.value) for point in points) == [(10, 3.5), (20, 2.5)]
    assert "comparisons.json" in {file.path for file in client(root).list_artifacts(done.run_id)}


@pytest.mark.parametrize("path", [LOCK, REPORT, METRICS, RETRIEVER], ids=str)
def test_without_a_whole_run_it_is_one_line_and_nothing_is_made(root, path):
    (root / TRACKED).unlink()
    (root / path).rename(root / "elsewhere")
    with pytest.raises(MissingArtifact, match=rf"{path}: not found"):
        tracking.publish(root)
    assert not (root / TRACKED).exists() and not (root / tracking.FILES).exists()


@pytest.fixture
def server(database: Path, tmp_path: Path, monkeypatch) -> Iterator[str]:
    """MLflow's own server, as deploy/compose.yaml starts it but for the database."""
    shutil.copy(database, tmp_path / "server.db")
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    options = ("--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    stores = ("--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", f"{tmp_path}/sent")
    command = [sys.executable, "-m", "mlflow", "server", *options, *stores]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True) as run:
        try:
            for _ in range(600):
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{uri}/health").is_success:
                        break
                time.sleep(0.1)
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            yield uri
        finally:
            os.killpg(run.pid, signal.SIGTERM)


def test_a_server_gets_a_note_instead_of_a_folder(root, server):
    """It refuses a folder of another machine as a model's source, and weights are not sent to it."""
    gate(root)
    done = tracking.publish(root)
    assert tracking.publish(root) == replace(done, new=False)
    store = MlflowClient(server)
    for name, path in tracking.MODELS.items():
        entry = store.get_model_version_by_alias(name, "champion")
        assert entry.source == f"runs:/{done.run_id}/{path}"
        note = json.loads(
            Path(
                mlflow.artifacts.download_artifacts(f"models:/{name}@champion", tracking_uri=server), tracking.NOTE
            ).read_text()
        )
        place = bundles.serving(root) / path
        assert note == {"folder": str(place.resolve()), "md5": dvc_md5(place)} and place.is_dir()


# --- what goes -------------------------------------------------------------------------------------


def test_old_runs_go_with_their_stages_and_files_unless_they_are_served(root):
    locks = {}
    for content in ("one", "two", "three", "four"):
        promotable.retrain(root, content)
        if content == "one":
            gate(root)  # the first becomes champion
        locks[io.file_digest(root / LOCK)] = content
        tracking.publish(root)

    def parents() -> list[str]:
        return sorted(locks[run.data.tags[tracking.KEY]] for run in runs(root) if tracking.KEY in run.data.tags)

    assert tracking.prune(root, keep=1, dry=True) == 2
    assert parents() == ["four", "one", "three", "two"]
    assert tracking.prune(root, keep=1, dry=False) == 2
    assert parents() == ["four", "one"]
    assert len(runs(root)) == 4  # and one stage for each
    store = client(root)
    for name in tracking.MODELS:
        entries = store.search_model_versions(f"name = '{name}'")
        kept = {locks[entry.tags[tracking.KEY]] for entry in entries}
        assert kept == {"four", "one"}
        assert set(store.search_registered_models(f"name = '{name}'")[0].aliases) == {"champion", "challenger"}
    experiment = store.get_experiment_by_name(tracking.EXPERIMENT).experiment_id
    assert store.search_runs([experiment], "", ViewType.DELETED_ONLY) == []
    assert len(list((root / tracking.FILES).iterdir())) == 2
    assert tracking.prune(root, keep=1, dry=False) == 0


def test_a_database_that_is_pruned_does_not_grow(root):
    """In no table: a deleted run keeps the data it read, a deleted entry its tags, unless somebody deletes those."""
    seen = []
    for content in ("one", "two", "three", "four"):
        promotable.retrain(root, content)
        tracking.publish(root)
        tracking.prune(root, keep=1, dry=False)
        with contextlib.closing(sqlite3.connect(root / TRACKED)) as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            seen.append({t: database.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables})
    assert seen[-1] == seen[1] and seen[-1]["datasets"] > 0
    assert [entry.version for entry in client(root).search_model_versions()] == [4, 4]  # no number comes twice
