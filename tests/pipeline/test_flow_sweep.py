"""A sweep on a small project of real git, DVC and Prefect: what is chosen, what stays, what a stop leaves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ragline.errors import ConfigError
from tests.conftest import ROOT, dvc, under_dvc

pytest.importorskip("prefect", reason="needs the flows extra: pip install -e '.[flows]'")

from flows.dvc_stages import deps_outside_git, expand
from flows.sweep import did, standing, unjudged, why_not

STAGES = """
stages:
  prepare:
    cmd: cat data/raw/own.txt > prepared.txt
    deps: [data/raw]
    outs: [prepared.txt]
  evaluate:
    cmd: python make.py
    deps: [make.py, prepared.txt]
    params: [evaluate]
    outs: [models/answering.json, data/predictions.parquet]
    metrics:
      - reports/metrics.json: {cache: false}
  report:
    cmd: cat reports/metrics.json > report.txt
    deps: [reports/metrics.json]
    outs: [report.txt]
"""
MAKE = """
import time
from pathlib import Path
from ruamel.yaml import YAML
from ragline import io
from tests.fixtures.promotable import row

params = YAML(typ="safe").load(Path("params.yaml"))["evaluate"]
time.sleep(params["seconds"])
assert params["good"] >= 0, "less than nothing"
assert (params["judge"] is None) == (params["split"] == "dev"), "a judge is paid for verdicts that nobody reads"
rows = [row(n, 1 if n < params["good"] else 9, 0.5) | {"set": params["split"]} for n in range(40)]
for folder in ("models", "reports"):
    Path(folder).mkdir(exist_ok=True)
io.write_frame({name: [one[name] for one in rows] for name in rows[0]}, Path("data/predictions.parquet"))
io.write_json({"answerer": "extractive", "reranker": None}, Path("models/answering.json"))
io.write_json({params["split"]: {"recall@5": params["good"] / 40}}, Path("reports/metrics.json"))
"""
PARAMS = "evaluate: {good: 10, seconds: 0, split: test, gold_sets: [], judge: {model: some}}\n"
IDENTITY = ("-c", "user.name=A", "-c", "user.email=a@example.org")


def git(*arguments: str) -> str:
    return subprocess.run(["git", *IDENTITY, *arguments], check=True, capture_output=True, text=True).stdout


def files() -> dict[str, bytes]:
    """All that stands in the project, DVC's and git's own folders left out."""
    found = (path for path in Path().rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in found if path.parts[0] not in (".git", ".dvc")}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Forty questions of which ten are found, committed after a run; the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    under_dvc(tmp_path)
    (tmp_path / "data" / "raw").mkdir(parents=True)
    (tmp_path / "data" / "raw" / ".gitkeep").touch()
    (tmp_path / "data" / "raw" / "own.txt").write_text("not in git")
    (tmp_path / ".gitignore").write_text("/data/raw/*\n!/data/raw/.gitkeep\n")
    for name, text in {"dvc.yaml": STAGES, "make.py": MAKE, "params.yaml": PARAMS}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "models").mkdir()
    (tmp_path / "reports").mkdir()
    dvc("repro")
    git("add", ".")
    git("commit", "-qm", "ten are found")
    return tmp_path


def test_overrides_become_variants():
    assert expand(["a.x=1,2", "a.y=3"], each=False) == [("a.x=1", "a.y=3"), ("a.x=2", "a.y=3")]
    assert expand(["a.x=1 a.y=3", "a.x=2,4"], each=True) == [("a.x=1", "a.y=3"), ("a.x=2",), ("a.x=4",)]
    assert expand(["other.yaml:a.x=1,2"], each=False) == [("other.yaml:a.x=1",), ("other.yaml:a.x=2",)]
    with pytest.raises(ConfigError, match="nonsense: expected PARAM=VALUE,VALUE"):
        expand(["nonsense"], each=False)


def test_why_a_variant_failed():
    of_a_stage = [
        "> python make.py",
        "evaluate: ConfigError: no",
        "ERROR: failed to reproduce 'evaluate': exited with 3",
    ]
    assert why_not(of_a_stage) == "evaluate: ConfigError: no"
    assert why_not(["Reading", "ERROR: unable to read: 'params.yaml'", "  line 11"]) == (
        "ERROR: unable to read: 'params.yaml' line 11"
    )
    assert why_not([]) == ""


def test_what_the_stages_did():
    assert did({"a": "unchanged", "b": "ran", "c": "restored", "d": "ran"}) == "ran: b, d; restored: c; unchanged: a"
    assert did({}) == "nothing"


def test_a_judge_is_spared_where_there_is_one():
    assert unjudged({"evaluate": {"judge": {"model": "some"}}}) == ("evaluate.judge=null",)
    assert unjudged({"evaluate": {"split": "test"}}) == unjudged({}) == ()


@pytest.mark.pipeline
def test_a_sweep_starts_from_a_commit(project):
    assert standing() == git("rev-parse", "HEAD").strip()
    assert deps_outside_git() == ["data/raw/own.txt"]
    Path("params.yaml").write_text(PARAMS + "\n")
    with pytest.raises(ConfigError, match=r"params\.yaml: changed since the last commit.*git checkout params\.yaml"):
        standing()
    (project / "empty").mkdir()
    os.chdir(project / "empty")
    git("init", "-q")
    with pytest.raises(ConfigError, match="no commit of git here"):
        standing()


@pytest.mark.prefect
@pytest.mark.slow
def test_the_best_on_dev_is_read_on_test_once(prefect_server, project):
    from prefect.artifacts import Artifact

    from flows.sweep import sweep

    before = files()
    # Thirty are found instead of ten; less than none is a failure of its own.
    state = sweep(["evaluate.good=30,-1"], return_state=True)
    assert state.name == "Chosen", state.message
    rows = [line for line in state.message.splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0] for row in rows] == ["| base", *(f"| evaluate.good={n}" for n in (30, -1))]
    # Of 40, (30 - 10) more are at rank 1 instead of 9: a gain of 20/40 · (1 - 1/9).
    assert (
        "| +0.444 | " in rows[1] and "ran: evaluate; unchanged: prepare" in rows[1] and "less than nothing" in rows[2]
    )
    assert "chosen on dev among 3 variants, of which 1 failed: evaluate.good=30" in state.message
    assert "mrr@10 on test: base 0.333, chosen 0.778, change +0.444" in state.message
    assert state.message in str(Artifact.get("sweep").data)
    assert files() == before and git("status", "--porcelain") == "" and git("stash", "list") == ""

    name = state.message.splitlines()[-1].split()[-1]
    assert set(git("for-each-ref", "--format=%(refname:lstrip=4)", "refs/exps/").split()) > {name}
    dvc("exp", "apply", name)
    assert "good: 30" in Path("params.yaml").read_text() and "split: test" in Path("params.yaml").read_text()
    assert "up to date" in dvc("repro").stdout


@pytest.mark.prefect
@pytest.mark.slow
@pytest.mark.parametrize(
    ("meanwhile", "why"),
    [
        (lambda: Path("params.yaml").write_text(PARAMS + "# mine\n"), "params.yaml: changed since the last commit"),
        (lambda: git("commit", "--allow-empty", "-qm", "mine"), "HEAD: expected "),
    ],
)
def test_work_during_a_sweep_ends_it(prefect_server, project, monkeypatch, meanwhile, why):
    from flows import sweep

    tried, attempt = [], sweep.attempt

    def interrupted(trial, *arguments, **options):
        tried.append(trial)
        state = attempt(trial, *arguments, **options)
        meanwhile()
        return state

    monkeypatch.setattr(sweep, "attempt", interrupted)
    state = sweep.sweep(["evaluate.good=30,20"], return_state=True)
    assert state.is_failed() and why in state.message
    assert [trial.overrides for trial in tried] == [()]


@pytest.mark.prefect
@pytest.mark.slow
def test_nothing_else_runs_where_the_base_fails(prefect_server, project, monkeypatch):
    from flows import sweep

    tried, command = [], sweep.command
    monkeypatch.setattr(sweep, "command", lambda trial, *rest: tried.append(trial) or command(trial, *rest))
    Path("params.yaml").write_text(PARAMS.replace("good: 10", "good: -1"))
    git("commit", "-qam", "less than nothing")
    state = sweep.sweep(["evaluate.good=30,20"], return_state=True)
    assert state.is_failed() and "the base itself, expected to run" in state.message
    assert [trial.overrides for trial in tried] == [()]


@pytest.mark.prefect
@pytest.mark.slow
def test_a_stopped_sweep_leaves_nothing_and_goes_on(prefect_server, project):
    from prefect.settings import get_current_settings

    from flows.sweep import sweep

    before = files()
    environment = {**os.environ, "PREFECT_API_URL": str(get_current_settings().api.url)}
    started = subprocess.Popen([sys.executable, "-m", "flows.sweep", "evaluate.seconds=91"], env=environment)
    try:
        deadline = time.monotonic() + 120
        while not (second := copies(project)) or "seconds: 91" not in (second[0] / "params.yaml").read_text():
            assert time.monotonic() < deadline and started.poll() is None
            time.sleep(0.05)
        started.send_signal(signal.SIGTERM)
        assert started.wait(60) != 0
    finally:
        started.kill()
    assert not copies(project)
    assert files() == before and git("status", "--porcelain") == "" and git("stash", "list") == ""
    state = sweep(["evaluate.good=9"], return_state=True)
    assert state.name == "BaseStays" and "Test was not read." in state.message


def copies(project: Path) -> list[Path]:
    """Folders in which a variant is at work."""
    found = set()
    for process in psutil.process_iter():
        try:
            found.add(Path(process.cwd()))
        except psutil.Error:
            continue
    return sorted(path for path in found if path.is_relative_to(project / ".dvc") and (path / "params.yaml").is_file())
