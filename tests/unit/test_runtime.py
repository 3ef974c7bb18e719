"""Params are checked as a whole, a stage ends with one line, DVC's lock is healed, telemetry is off."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from ragline.errors import ConfigError, DataError
from ragline.runtime import locks
from ragline.runtime.environment import QUIET, apply_defaults
from ragline.runtime.params import Section, load_section
from ragline.runtime.stage import run_stage
from tests.conftest import ROOT, dvc, ran

# --- params ----------------------------------------------------------------------------------------


class ChunkParams(Section):
    max_tokens: int
    """Tokens a passage."""
    overlap_tokens: int
    """Tokens shared with the one before."""


class IndexParams(Section):
    ann: str
    """Kind of index."""
    max_tokens: int
    """Taken from the chunk section."""

    borrows: ClassVar = {"max_tokens": "chunk.max_tokens"}


@pytest.fixture
def params(tmp_path):
    def write(content: str) -> Path:
        path = tmp_path / "params.yaml"
        path.write_text(content, encoding="utf-8")
        return path

    return write


def test_a_section_is_typed_and_frozen(params):
    section = load_section("chunk", ChunkParams, params("chunk: {max_tokens: 200, overlap_tokens: 32}"))
    assert section == ChunkParams(max_tokens=200, overlap_tokens=32)
    with pytest.raises(ValueError, match="frozen"):
        section.max_tokens = 100


def test_every_fault_is_told_at_once(params):
    path = params("chunk: {max_tokens: many, overlap: 32}")
    with pytest.raises(ConfigError) as caught:
        load_section("chunk", ChunkParams, path)
    where, _, faults = str(caught.value).partition(": ")
    assert where == str(path)
    assert faults.split("; chunk.") == [
        "chunk.max_tokens: Input should be a valid integer, unable to parse string as an integer, got 'many'",
        "overlap_tokens: Field required",
        "overlap: unknown key; expected one of max_tokens, overlap_tokens",
    ]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("chunks: {max_tokens: 1}", r"no stage reads chunks; expected sections among ingest, chunk, "),
        ("ingest: {}", r"section 'chunk' is missing or empty; expected keys max_tokens, overlap_tokens$"),
        ("chunk:", r"section 'chunk' is missing or empty"),
        ("chunk: {max_tokens: 1", r"not readable as YAML: .*line 1, column 8"),
        ("chunk: !!python/object:os.system {}", r"not readable as YAML: could not determine a constructor"),
        ("- chunk", r"expected sections, one a stage, got list"),
        ("", r"expected sections, one a stage, got NoneType"),
    ],
)
def test_a_wrong_file_is_one_line(params, content, fault):
    with pytest.raises(ConfigError, match=fault) as caught:
        load_section("chunk", ChunkParams, params(content))
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(ConfigError, match=r"params\.yaml: not found; run this in the project's root"):
        load_section("chunk", ChunkParams, tmp_path / "params.yaml")


def test_a_file_that_is_not_text(tmp_path):
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not readable as YAML"):
        load_section("chunk", ChunkParams, tmp_path / "params.yaml")


def test_a_borrowed_key_stands_in_one_place(params):
    both = "build_index: {ann: flat}\nchunk: {max_tokens: 200, overlap_tokens: 32}"
    assert load_section("build_index", IndexParams, params(both)).max_tokens == 200
    with pytest.raises(ConfigError, match=r"chunk\.max_tokens is missing; stage build_index reads it, too"):
        load_section("build_index", IndexParams, params("build_index: {ann: flat}"))


def test_a_number_that_yaml_reads_as_text_is_a_number(params):
    class TrainParams(Section):
        learning_rate: float

    # PyYAML follows YAML 1.1, where 1e-5 lacks the dot that makes it a float.
    assert load_section("chunk", TrainParams, params("chunk: {learning_rate: 1e-5}")).learning_rate == 1e-5


# --- the stage runner ------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text("chunk: {max_tokens: 200, overlap_tokens: 32}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_stage_gets_its_params_and_its_time_is_noted(project):
    seen = []
    run_stage("chunk", seen.append, ChunkParams)
    assert seen == [ChunkParams(max_tokens=200, overlap_tokens=32)]
    timing = json.loads((project / ".cache/timings/chunk.json").read_text())
    assert timing["seconds"] >= 0 and timing["peak_mb"] > 1


def test_a_stage_whose_time_cannot_be_noted_has_succeeded(project, caplog):
    (project / ".cache").write_text("no folder")
    run_stage("chunk", lambda params: None, ChunkParams)
    assert "chunk.json: its seconds are not kept: " in caplog.text


def test_a_stage_may_read_another_section(project):
    seen = []
    run_stage("rebuild_index", seen.append, ChunkParams, section="chunk")
    assert seen[0].max_tokens == 200


def test_a_known_error_is_one_line_and_an_exit_code(project, caplog):
    def main(params):
        raise DataError("data/a.jsonl:3: expected a question, got nothing")

    with pytest.raises(SystemExit) as ended:
        run_stage("chunk", main, ChunkParams)
    assert ended.value.code == DataError.exit_code == 3
    assert caplog.messages == ["chunk: DataError: data/a.jsonl:3: expected a question, got nothing"]
    assert not (project / ".cache").exists()


def test_a_wrong_section_stops_before_the_work(project, caplog):
    (project / "params.yaml").write_text("chunk: {max_tokens: 200}")
    with pytest.raises(SystemExit) as ended:
        run_stage("chunk", lambda params: pytest.fail("it ran"), ChunkParams)
    assert ended.value.code == ConfigError.exit_code
    assert caplog.messages == ["chunk: ConfigError: params.yaml: chunk.overlap_tokens: Field required"]


def test_an_unknown_error_keeps_its_traceback(project):
    with pytest.raises(ZeroDivisionError):
        run_stage("chunk", lambda params: 1 // 0, ChunkParams)


# --- DVC's lock ------------------------------------------------------------------------------------


@pytest.fixture
def rwlock(tmp_path):
    path = tmp_path / ".dvc" / "tmp" / "rwlock"
    path.parent.mkdir(parents=True)
    return path


def holder(pid: int, cmd: str) -> str:
    info = {"pid": pid, "cmd": cmd}
    return json.dumps({"write": {"data/a": info}, "read": {"data/b": [info]}})


@pytest.fixture
def ended_pid():
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.mark.parametrize("content", ["", '{"write": {"data/a"', "[]", '{"read": {"data/a": 3}}', "\x00\x00"])
def test_a_torn_lock_is_removed(rwlock, tmp_path, content):
    rwlock.write_text(content)
    assert "torn by a killed run; removed" in locks.heal(tmp_path)
    assert not rwlock.exists()
    assert locks.heal(tmp_path) is None


def test_a_lock_of_the_dead_is_removed(rwlock, tmp_path, ended_pid):
    rwlock.write_text(holder(ended_pid, "dvc repro"))
    assert "left behind by a killed run; removed" in locks.heal(tmp_path)
    assert not rwlock.exists()


def test_a_lock_of_the_living_stays(rwlock, tmp_path):
    with subprocess.Popen(["cat", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(b"up\n")
        process.stdin.flush()
        process.stdout.readline()  # only now is it surely `cat`: between fork and exec it has no command line
        rwlock.write_text(holder(process.pid, "cat -"))
        assert locks.heal(tmp_path) is None and rwlock.exists()


def test_a_number_that_another_process_got_since_does_not_count(rwlock, tmp_path):
    rwlock.write_text(holder(os.getpid(), "/usr/bin/dvc repro --single-item chunk"))
    assert "removed" in locks.heal(tmp_path)


@pytest.mark.parametrize("content", ["{}", '{"write": {}, "read": {}}'])
def test_a_free_lock_stays(rwlock, tmp_path, content):
    rwlock.write_text(content)
    assert locks.heal(tmp_path) is None and rwlock.exists()


def test_no_lock_no_work(tmp_path):
    assert locks.heal(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def half_written(project):
    """What DVC leaves of a run's record when it is interrupted while it writes one."""
    (record,) = (project / ".dvc/cache/runs").glob("*/*/*")
    torn = record.with_name(".aBcD.tmp")
    torn.write_text("cmd: head\ndeps:\n- path: copied.txt\n")
    return torn


@pytest.mark.pipeline
def test_dvc_stumbles_over_a_half_written_run_and_works_after_healing(shell_project):
    dvc("repro", "copy")
    torn = half_written(shell_project)
    (shell_project / "copied.txt").unlink()
    (shell_project / "dvc.lock").unlink()
    assert "failed to reproduce 'copy': 'outs'" in dvc("repro", "copy", check=False).stdout
    assert locks.heal().endswith("runs: 1 half-written by a killed run; removed")
    assert not torn.exists() and locks.heal() is None
    assert ran(dvc("repro", "copy").stdout) == []


@pytest.mark.pipeline
def test_what_a_living_run_writes_stays(shell_project):
    dvc("repro", "copy")
    torn = half_written(shell_project)
    with subprocess.Popen(["cat", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(b"up\n")
        process.stdin.flush()
        process.stdout.readline()
        (shell_project / ".dvc/tmp/rwlock").write_text(holder(process.pid, "cat -"))
        assert locks.heal() is None and torn.exists()


@pytest.mark.pipeline
def test_dvc_refuses_a_torn_lock_and_works_after_healing(shell_project):
    dvc("repro", "copy")
    (shell_project / ".dvc/tmp/rwlock").write_text("")
    (shell_project / "source.txt").write_text("banana")
    refused = dvc("repro", "copy", check=False)
    assert refused.returncode != 0 and "JSON structure is corrupted" in refused.stdout
    healed = subprocess.run(
        [sys.executable, "-m", "ragline.runtime.locks"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert healed.stderr == ".dvc/tmp/rwlock: torn by a killed run; removed\n"
    assert ran(dvc("repro", "copy").stdout) == ["copy"]


# --- the environment -------------------------------------------------------------------------------


def test_telemetry_is_off_unless_the_user_says_otherwise(monkeypatch):
    for switch in QUIET:
        monkeypatch.delenv(switch, raising=False)
    monkeypatch.setenv("GX_ANALYTICS_ENABLED", "true")
    apply_defaults()
    assert {switch: os.environ[switch] for switch in QUIET} == {**QUIET, "GX_ANALYTICS_ENABLED": "true"}


@pytest.mark.slow
def test_openvino_reports_to_nobody(tmp_path):
    program = (
        "import stages, openvino, torch; openvino.convert_model(torch.nn.Linear(2, 2), example_input=torch.ones(1, 2))"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=ROOT, check=True, capture_output=True)
    assert not (tmp_path / "intel").exists()  # where it keeps the number that it gives a user


@pytest.mark.prefect
def test_prefect_reads_its_switches_from_pyproject(tmp_path):
    pytest.importorskip("prefect")
    program = (
        "from prefect.settings import get_current_settings as now; s = now(); "
        "print(s.home, s.server.analytics_enabled, s.api.url, s.tasks.runner.thread_pool_max_workers)"
    )
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == [".prefect", "False", "None", "2"]
