"""Runs of real git and DVC compared: commits, experiments, what the cache or a remote has, and inside a stage."""

import json
import shutil
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest

from ragline import builds, cli, comparing
from ragline.errors import MissingArtifact
from ragline.runtime import lock_file
from tests.conftest import dvc, under_dvc

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

STAGES = """
stages:
  evaluate:
    cmd: python make.py
    deps: [make.py, data/raw]
    params: [evaluate]
    outs: [models/answering.json, data/predictions.parquet]
    metrics:
      - reports/metrics.json: {cache: false}
  report:
    cmd: python report.py
    deps: [report.py, data/predictions.parquet]
    outs: [reports/compared.json]
"""
MAKE = """
from pathlib import Path
from ruamel.yaml import YAML
from ragline import io
from tests.fixtures.promotable import row

good = YAML(typ="safe").load(Path("params.yaml"))["evaluate"]["good"]
rows = [row(number, 1 if number < good else 9, 0.5) for number in range(40)]
for folder in ("models", "reports"):
    Path(folder).mkdir(exist_ok=True)
io.write_frame({name: [one[name] for one in rows] for name in rows[0]}, Path("data/predictions.parquet"))
io.write_json({"answerer": "extractive", "reranker": None}, Path("models/answering.json"))
io.write_json({"test": {"recall@5": good / 40}}, Path("reports/metrics.json"))
"""
REPORT = """
from pathlib import Path
from ragline import comparing, io

found = comparing.for_report().comparisons
io.write_json([[one.name, one.a, len(one.won), len(one.lost)] for one in found], Path("reports/compared.json"))
"""


def git(*arguments: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def run(good: int) -> None:
    Path("params.yaml").write_text(f"evaluate: {{good: {good}}}\n")
    dvc("repro")


def commit(message: str) -> str:
    git("add", ".")
    git("commit", "-q", "-m", message)
    return git("rev-parse", "HEAD")


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """Forty questions of which 10, then 30 are found; two commits, one on top that changed nothing for them."""
    folder = tmp_path_factory.mktemp("history")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        under_dvc(folder)
        dvc("remote", "add", "--default", "store", str(folder.with_name("store")))
        for path in ("data/raw", "reports"):
            Path(path).mkdir(parents=True)
        Path("data/raw/a.txt").write_text("a")
        for path, text in (("dvc.yaml", dedent(STAGES)), ("make.py", MAKE), ("report.py", REPORT)):
            Path(path).write_text(text)
        Path(".gitignore").write_text("/data/*.parquet\n/models\n/reports/compared.json\n")
        run(10)
        commits = [commit("ten")]
        git("tag", "-a", "v1", "-m", "ten")
        run(30)
        commits.append(commit("thirty"))
        Path("make.py").write_text(MAKE + "# a comment\n")
        dvc("repro")
        commits.append(commit("a comment"))
    return folder, commits


@pytest.fixture
def project(history, tmp_path, monkeypatch):
    folder, commits = history
    shutil.copytree(folder, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return commits


def row(comparison: comparing.Comparison, metric: str) -> comparing.Paired:
    return next(row for row in comparison.paired if row.metric == metric)


def test_commits_tags_and_folders_name_the_same_builds(project, tmp_path):
    root = Path()
    first, _, last = project
    git("clone", "-q", ".", str(tmp_path / "clone"))
    for path in ("data/predictions.parquet", "models/answering.json"):
        (tmp_path / "clone" / path).parent.mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "clone" / path)
    for a, label in ((first, first[:7]), (first[:9], first[:7]), ("HEAD~2", f"HEAD~2 ({first[:7]})")):
        for b in ("workspace", last, str(tmp_path / "clone")):
            found = comparing.compare("", builds.named(root, a), builds.named(root, b))
            assert found.a == label
            assert (row(found, "recall@5").before, row(found, "recall@5").after) == (0.25, 0.75)
            assert (row(found, "recall@5").wins, len(found.lost), row(found, "recall@5").verdict) == (20, 0, "better")
            assert [(one.name, one.before, one.after) for one in found.params] == [("evaluate.good", 10, 30)]
            assert [(one.name, one.before, one.after) for one in found.metrics] == [("test.recall@5", 0.25, 0.75)]
            assert (found.data, found.code) == ([], [])
    assert builds.named(root, "v1").values == builds.named(root, first).values


def test_the_previous_run_is_the_last_commit_with_other_predictions(project, capsys):
    cli.main(["compare"])
    assert capsys.readouterr().out.startswith(f"before  {project[0][:7]}\nafter   this run\n")
    run(20)
    cli.main(["compare", "--json", "found.json"])
    assert json.loads(Path("found.json").read_text())["a"] == project[2][:7]  # now that one differs


def test_an_experiment_by_its_name(project):
    dvc("exp", "run", "--set-param", "evaluate.good=35", "--name", "try-35")
    git("checkout", "-q", "--", ".")
    dvc("checkout")
    found = comparing.compare("", builds.named(Path(), "workspace"), builds.named(Path(), "try-35"))
    assert found.b.startswith("try-35 (")
    assert row(found, "recall@1").after == 0.875


def test_what_the_cache_lacks_comes_from_the_remote_or_is_one_line(project, history):
    root, first = Path(), project[0]
    dvc("push", "--all-commits")
    shutil.rmtree(".dvc/cache/files")
    before = builds.named(root, first)
    assert before.values[("test", "recall@5")] == builds.named(root, "v1").values[("test", "recall@5")]
    reason = (
        f"{first[:7]}: data/predictions.parquet: neither in git nor in DVC's cache; run `dvc repro` there, or compare"
    )
    found = comparing.for_report(root)  # asks no remote
    assert found.comparisons == []
    assert found.reasons == {"previous commit": f"{reason} with another commit"}
    shutil.rmtree(history[0].with_name("store"))
    wanted = (
        rf"^{first[:7]}: data/predictions\.parquet: neither in git nor in DVC's cache, and DVC's remote does not .*"
    )
    with pytest.raises(MissingArtifact, match=wanted) as refused:
        builds.named(root, first)
    assert "\n" not in str(refused.value)
    dvc("remote", "remove", "store")
    with pytest.raises(MissingArtifact, match=rf"^{reason} with another commit$"):
        builds.named(root, first)


def test_the_previous_run_is_the_last_one_that_can_be_had(project):
    dvc("remote", "remove", "store")
    for good in (20, 25):
        run(good)
        commit(str(good))
    gone = lock_file.outputs(lock_file.read_lock(Path()))["data/predictions.parquet"]
    run(15)
    Path(".dvc/cache/files/md5", gone[:2], gone[2:]).unlink()
    before = builds.previous(Path(), builds.last(Path()))
    assert before.label == git("rev-parse", "--short=7", "HEAD~1")
    assert before.metrics["test.recall@5"] == 0.5


def test_a_stage_compares_while_dvc_runs_it(project):
    run(25)
    assert json.loads(Path("reports/compared.json").read_text()) == [["previous commit", project[2][:7], 0, 5]]
