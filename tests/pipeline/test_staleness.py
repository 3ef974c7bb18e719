"""The real pipeline on a small corpus: it builds, builds nothing twice, and builds again what changed, no more."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from ragline.artifacts import CHECKPOINTS, METRICS, OUTPUTS, PASSAGES, REPORT, STAGES
from ragline.runtime.locks import heal
from tests.conftest import dvc, ran
from tests.pipeline.tiny import file_name, write_project

pytestmark = [pytest.mark.pipeline, pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The small project after its first `dvc repro`, and what that said."""
    folder = tmp_path_factory.mktemp("tiny")
    write_project(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, dvc("repro").stdout


@pytest.fixture
def project(built, monkeypatch):
    """The built project, as the working directory; a test leaves it as it was."""
    folder, _ = built
    monkeypatch.chdir(folder)
    assert stale() == set()
    return folder


def stale() -> set[str]:
    """Stages whose own inputs, params, code or outputs differ from dvc.lock: `dvc status` without the start of DVC."""
    with Repo() as repo:
        return set(repo.status())


class Edited:
    """A file changed for the length of a block."""

    def __init__(self, path: str | Path, change) -> None:
        self.path, self.change = Path(path), change

    def __enter__(self) -> None:
        self.before = self.path.read_text(encoding="utf-8")
        after = self.change(self.before)
        assert after != self.before
        self.path.write_text(after, encoding="utf-8")

    def __exit__(self, *exception: object) -> None:
        self.path.write_text(self.before, encoding="utf-8")


def param(section: str, key: str, value: object) -> Edited:
    def change(text: str) -> str:
        content = YAML(typ="safe").load(text)
        assert content[section][key] != value
        content[section][key] = value
        return json.dumps(content)  # JSON is YAML

    return Edited("params.yaml", change)


def comment(path: str) -> Edited:
    return Edited(path, lambda text: text + "# a comment\n")


def outputs(folder: Path) -> dict[str, str]:
    """Digest of every output, as dvc.lock has it."""
    stages = YAML(typ="safe").load(folder / "dvc.lock")["stages"]
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}


def test_every_stage_runs_in_order_and_leaves_its_outputs(built):
    folder, said = built
    assert sorted(ran(said), key=STAGES.index) == list(STAGES) == sorted(STAGES, key=ran(said).index)
    for path in (path for paths in OUTPUTS.values() for path in paths):
        assert (folder / path).exists(), path
    metrics = json.loads((folder / METRICS).read_text())
    assert {"test", "gold"} <= metrics.keys()
    assert "Quern" in (folder / REPORT).read_text(encoding="utf-8")


def test_a_second_run_does_nothing_and_is_quick(project):
    assert json.loads(dvc("status", "--json").stdout) == {}
    started = time.monotonic()
    said = dvc("repro").stdout
    assert ran(said) == [] and "Data and pipelines are up to date" in said
    assert time.monotonic() - started < 10


PARAMS = [
    ("ingest", "seed", 14, {"ingest", "report"}),
    ("chunk", "max_tokens", 56, {"chunk", "report"}),
    ("generate_qa", "max_per_document", 1, {"generate_qa", "report"}),
    ("build_index", "ann", "hnsw", {"build_index", "rebuild_index", "report"}),
    ("train_retriever", "temperature", 0.06, {"train_retriever", "report"}),
    ("train_generator", "max_answer_tokens", 9, {"train_generator", "report"}),
    ("evaluate", "resamples", 101, {"evaluate", "report"}),
    ("report", "title", "Querns", {"report"}),
]


@pytest.mark.parametrize(("section", "key", "value", "expected"), PARAMS, ids=[case[0] for case in PARAMS])
def test_a_param_makes_its_stage_stale(project, section, key, value, expected):
    """The report shows params.yaml as it is, so every change reaches it."""
    with param(section, key, value):
        assert stale() == expected


FILES = [
    (f"data/raw/{file_name(3)}", {"ingest", "generate_qa"}),
    ("data/gold/quern.jsonl", {"evaluate"}),
    ("ragline/corpus/chunk.py", {"chunk"}),
    ("ragline/questions/rules.py", {"generate_qa"}),
    ("ragline/retrieval/mine.py", {"train_retriever", "train_generator"}),
    ("ragline/generation/train.py", {"train_generator", "train_retriever"}),
    ("ragline/evaluation/scorecard.py", {"evaluate"}),
    ("ragline/evaluation/significance.py", {"train_retriever", "evaluate", "report"}),
    ("ragline/reporting/templates/style.css", {"report"}),
    ("stages/rebuild_index.py", {"rebuild_index"}),
    ("ragline/types.py", set(STAGES)),
    ("ragline/errors.py", set()),
    ("ragline/runtime/stage.py", set()),
    ("ragline/cli.py", set()),
]


@pytest.mark.parametrize(("path", "expected"), FILES, ids=[Path(case[0]).name for case in FILES])
def test_a_file_makes_the_stages_stale_that_use_it(project, path, expected):
    with Edited(path, lambda text: text + "\n"):
        assert stale() == expected


def test_a_change_without_effect_stops_at_its_stage(project):
    before = outputs(project)
    with comment("ragline/corpus/chunk.py"):
        assert ran(dvc("repro").stdout) == ["chunk"]
        assert outputs(project) == before
    said = dvc("repro").stdout
    assert ran(said) == [] and "Stage 'chunk' is cached" in said


def test_deleted_outputs_come_from_the_cache(project):
    shutil.rmtree("models/retriever")
    Path("data/passages.parquet").unlink()
    said = dvc("repro").stdout
    assert ran(said) == []
    assert Path("models/retriever").is_dir() and Path("data/passages.parquet").is_file()


def test_a_failed_stage_is_one_line_and_keeps_what_was_there(project):
    before = PASSAGES.read_bytes(), METRICS.read_bytes()
    with param("chunk", "max_tokens", 3):
        ended = dvc("repro", check=False)
    assert ended.returncode != 0
    assert "chunk: ConfigError: params.yaml: chunk.max_tokens: Input should be greater than or equal to 16, got 3" in (
        ended.stdout
    )
    assert "Traceback" not in ended.stdout
    assert ran(dvc("repro").stdout) == [] and (PASSAGES.read_bytes(), METRICS.read_bytes()) == before


@pytest.mark.parametrize("stage", ["train_retriever", "train_generator"])
def test_a_kill_in_a_stage_changes_no_output(project, stage):
    before = outputs(project)
    del before[str(REPORT)]  # it shows how long the stages took
    shutil.rmtree(".cache", ignore_errors=True)
    shutil.rmtree(".dvc/cache")  # or the outputs would come from there instead of a second run
    command = [sys.executable, "-m", "dvc", "repro", "--no-run-cache", "--force", "--single-item", stage]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while not list(Path(CHECKPOINTS).glob("*/checkpoint-*")) and process.poll() is None:
        time.sleep(0.02)  # until there is something to go on from
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    heal()
    # alone, as what it feeds is then the same and need not run
    assert ran(dvc("repro", "--no-run-cache", "--single-item", stage).stdout) == [stage]
    after = outputs(project)
    del after[str(REPORT)]
    assert after == before
    dvc("commit", "--force")  # fills the cache again: the next test wants a project with nothing to do


WITHOUT_DVC = """
import typing
from importlib import import_module
from ragline.artifacts import STAGES
from ragline.runtime.params import load_section

for name in STAGES:
    stage = import_module(f"stages.{name}")
    section = "build_index" if name == "rebuild_index" else name
    stage.main(load_section(section, typing.get_type_hints(stage.main)["params"]))
"""


def test_two_cold_runs_give_equal_bytes(built, tmp_path):
    """The second without DVC and in one process, so that nothing one stage leaves in memory may reach the next."""
    folder, _ = built
    write_project(tmp_path)
    subprocess.run([sys.executable, "-c", WITHOUT_DVC], cwd=tmp_path, check=True)  # imports the project's own copy
    files = written(folder)
    assert files == written(tmp_path)
    for file in files:
        assert (folder / file).read_bytes() == (tmp_path / file).read_bytes(), file


def written(folder: Path) -> list[Path]:
    """Every file that a stage wrote, but for the report, which shows how long the stages took."""
    outs = [folder / path for paths in OUTPUTS.values() for path in paths if path != REPORT]
    files = [file for out in outs for file in ([out] if out.is_file() else out.rglob("*")) if file.is_file()]
    return sorted(file.relative_to(folder) for file in files)
