"""The flow on a small pipeline of shell commands: what runs, how it ends, and that nothing outlives it."""

import os
import threading
import time
from pathlib import Path

import psutil
import pytest
from dvc.repo.index import Index
from dvc.utils.strictyaml import YAMLSyntaxError

from flows import dvc_stages
from flows.dvc_stages import StageFailed, check_names, mend_lock_file, read_mended, read_stages, reproduce
from flows.processes import Processes
from ragline.errors import ConfigError, ServiceError
from ragline.runtime.locks import heal, only_run
from tests.conftest import dvc, ran

NAMES = ["copy", "initial", "shout"]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def stage(name: str) -> dvc_stages.Stage:
    return next(stage for stage in read_stages() if stage.name == name)


def build(name: str, force: bool = False) -> str:
    return reproduce(stage(name), force, lambda line: None, Processes())


# --- the stages as DVC sees them, without Prefect --------------------------------------------------


@pytest.mark.pipeline
def test_stages_come_in_order_with_their_orders(shell_project):
    copy, initial, shout = read_stages()
    assert [copy.name, initial.name, shout.name] == NAMES
    assert [copy.upstream, initial.upstream, shout.upstream] == [(), ("copy",), ("initial",)]
    assert copy.description == "read the source" and copy.stale
    assert (copy.orders.retries, copy.orders.timeout, copy.orders.tags) == (1, 60, ("cpu",))
    assert (initial.orders.retries, initial.orders.timeout, initial.orders.tags) == (0, None, ())


@pytest.mark.pipeline
def test_wrong_orders_are_named_all_at_once(shell_project):
    edit(shell_project / "dvc.yaml", "retries: 1, retry_delay: 0", "retries: -1, retry: 0")
    with pytest.raises(ConfigError, match=r"dvc.yaml: copy.meta.prefect: retries: .*got -1; retry: .*not permitted"):
        read_stages()


def test_no_pipeline_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no dvc\.yaml here; run this in the project's root"):
        read_stages()


@pytest.mark.pipeline
def test_unknown_names_are_refused(shell_project):
    check_names("force", NAMES, read_stages())
    with pytest.raises(ConfigError, match="force: no stage 'copi'; expected some of copy, initial, shout"):
        check_names("force", ["copi", "shout"], read_stages())


@pytest.mark.pipeline
def test_outcomes_of_one_stage(shell_project):
    assert build("copy") == "Completed"
    assert build("copy") == "Unchanged"
    assert build("copy", force=True) == "Completed"
    (shell_project / "copied.txt").unlink()
    assert build("copy") == "Restored"
    assert (shell_project / "copied.txt").read_text() == "apple"


@pytest.mark.pipeline
def test_failure_ends_with_the_log(shell_project):
    edit(shell_project / "dvc.yaml", "echo copying &&", "echo no such luck && false &&")
    with pytest.raises(StageFailed, match=r"(?s)copy: exit \d+; the end of its log:.*\nno such luck\n"):
        build("copy")


def assert_nothing_is_left(project: Path) -> None:
    """No child sleeps on, and no lock keeps the stage from being built."""
    assert not [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "61.5"]]
    edit(project / "dvc.yaml", "sleep 61.5 &&", "")
    edit(project / "dvc.yaml", "timeout: ", "timeout: 60")
    heal()
    assert build("copy") == "Completed"


@pytest.mark.pipeline
def test_timeout_stops_the_whole_group(shell_project):
    edit(shell_project / "dvc.yaml", "echo copying &&", "sleep 61.5 &&")
    edit(shell_project / "dvc.yaml", "timeout: 60", "timeout: 3")
    started = time.monotonic()
    with pytest.raises(StageFailed, match="copy: stopped after its 3 s"):
        build("copy")
    assert time.monotonic() - started < 20
    assert_nothing_is_left(shell_project)


@pytest.mark.pipeline
def test_stopping_ends_what_runs_and_lets_nothing_start(shell_project):
    edit(shell_project / "dvc.yaml", "echo copying &&", "echo copying && sleep 61.5 &&")
    processes, begun, failures = Processes(), threading.Event(), []

    def run() -> None:
        try:
            reproduce(copy, False, lambda line: begun.set() if line == "copying" else None, processes)
        except StageFailed as error:
            failures.append(str(error))

    copy = stage("copy")
    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(30)
    processes.stop()
    thread.join(20)
    assert not thread.is_alive() and len(failures) == 1
    assert_nothing_is_left(shell_project)
    with pytest.raises(StageFailed, match="not started: the run was stopped"):
        reproduce(copy, False, print, processes)


@pytest.mark.pipeline
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_a_torn_dvc_lock_costs_nothing_but_a_restore(shell_project, share):
    dvc("repro")
    lock = shell_project / "dvc.lock"
    whole = lock.read_text()
    assert mend_lock_file() is None
    lock.write_text(whole[: int(share * len(whole))])
    mended = mend_lock_file()
    assert mended is None or "dvc.lock.torn" in mended
    assert ran(dvc("repro").stdout) == []
    assert lock.read_text() == whole


@pytest.mark.pipeline
def test_a_torn_dvc_lock_is_put_aside_before_the_stages_are_read(shell_project):
    dvc("repro")
    lock, said = shell_project / "dvc.lock", []
    whole = lock.read_text()
    assert not any(stage.stale for stage in read_mended(said.append)) and said == []
    lock.write_text(whole[: whole.rindex("md5: ")] + "md")  # cut inside a key: no YAML any more
    assert all(stage.stale for stage in read_mended(said.append))
    assert len(said) == 1 and "dvc.lock.torn" in said[0]
    edit(shell_project / "dvc.yaml", "stages:", "stages: [")
    with pytest.raises(YAMLSyntaxError):
        read_mended(said.append)


@pytest.mark.pipeline
def test_the_graph_is_read_once(shell_project, monkeypatch):
    """Half of the time of a night with nothing to do goes into parsing dvc.yaml and dvc.lock."""
    read, times = Index.from_repo, []
    monkeypatch.setattr(Index, "from_repo", lambda *arguments: times.append(1) or read(*arguments))
    read_stages()
    assert len(times) == 1


@pytest.mark.pipeline
def test_one_run_at_a_time(shell_project):
    busy = f"process {os.getpid()} runs this project now; wait for it or cancel it"
    with only_run(), pytest.raises(ServiceError, match=busy), only_run():
        pass
    with only_run():
        pass


# --- the flow --------------------------------------------------------------------------------------


@pytest.fixture
def pipeline(prefect_server, shell_project):
    from flows.pipeline import pipeline

    return pipeline


def task_runs(state):
    """The flow run's task runs by stage; one that never began carries a suffix after its name."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    this_run = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        return {run.name.split("-")[0]: run for run in client.read_task_runs(flow_run_filter=this_run)}


@pytest.mark.prefect
def test_states_follow_what_dvc_did(pipeline, shell_project, monkeypatch):
    assert pipeline() == dict.fromkeys(NAMES, "Completed")

    with monkeypatch.context() as patch:  # nothing stale: not one process is started
        patch.setattr(Processes, "follow", lambda *_: pytest.fail("started a process"))
        assert pipeline() == dict.fromkeys(NAMES, "Unchanged")

    # "apricot" has the initial of "apple", so the second stage's output is equal and the third has nothing to do.
    (shell_project / "source.txt").write_text("apricot")
    assert pipeline() == {"copy": "Completed", "initial": "Completed", "shout": "Unchanged"}
    (shell_project / "source.txt").write_text("apple")
    assert pipeline() == {"copy": "Restored", "initial": "Restored", "shout": "Unchanged"}
    assert ran(dvc("repro").stdout) == []


@pytest.mark.prefect
def test_failed_stage_keeps_others_waiting(pipeline, shell_project):
    edit(shell_project / "dvc.yaml", "head -c 1", "echo broken tool && false")
    state = pipeline(return_state=True)
    assert state.is_failed()
    assert "not built: initial (Failed), shout (NotReady)" in state.message
    runs = task_runs(state)
    assert {name: run.state.name for name, run in runs.items()} == {
        "copy": "Completed",
        "initial": "Failed",
        "shout": "NotReady",
    }
    assert "broken tool" in state.message
    assert "initial: exit " in runs["initial"].state.message and "broken tool" in runs["initial"].state.message
    assert "cpu" in runs["copy"].tags


@pytest.mark.prefect
def test_retries_as_ordered(pipeline, shell_project):
    # Each attempt leaves a mark; the third finds two of them: two retries are enough.
    edit(shell_project / "dvc.yaml", "retries: 1", "retries: 2")
    edit(shell_project / "dvc.yaml", "echo copying &&", "echo x >> marks && test $(wc -l < marks) -ge 3 &&")
    state = pipeline(return_state=True)
    assert state.is_completed()
    assert task_runs(state)["copy"].run_count == 3


@pytest.mark.prefect
def test_a_stage_that_is_late_fails_and_says_so(pipeline, shell_project):
    edit(shell_project / "dvc.yaml", "echo copying &&", "echo thinking && sleep 61.5 &&")
    edit(shell_project / "dvc.yaml", "retries: 1, retry_delay: 0, timeout: 60", "timeout: 4")
    state = pipeline(only=["copy"], return_state=True)
    assert state.is_failed()
    said = task_runs(state)["copy"].state.message
    assert said.startswith("copy: stopped after its 4 s; the end of its log:") and "thinking" in said
    assert_nothing_is_left(shell_project)


@pytest.mark.prefect
def test_stages_that_fit_run_side_by_side(pipeline, shell_project):
    """Each of two waits for a sign of the other, so one after the other they would never end."""
    timings = shell_project / ".cache" / "timings"
    timings.mkdir(parents=True)
    waiting = "for i in $(seq 300); do test -e {other}.sign && break; sleep 0.1; done; test -e {other}.sign && "
    with (shell_project / "dvc.yaml").open("a") as file:
        for name, other in (("left", "right"), ("right", "left")):
            (timings / f"{name}.json").write_text('{"seconds": 1, "peak_mb": 1}')
            command = f"touch {name}.sign; {waiting.format(other=other)}echo {name} > {name}.txt"
            file.write(f"  {name}:\n    cmd: {command}\n    outs: [{name}.txt]\n")
    assert pipeline(only=["left", "right"]) == {"left": "Completed", "right": "Completed"}
    pipeline()
    assert ran(dvc("repro").stdout) == []


@pytest.mark.prefect
def test_force_and_only(pipeline, shell_project):
    assert pipeline(only=["copy"]) == {"copy": "Completed"}
    assert pipeline() == {"copy": "Unchanged", "initial": "Completed", "shout": "Completed"}
    # Forced, `initial` writes the same byte again, and `shout` has nothing to do.
    assert pipeline(force=["initial"]) == {"copy": "Unchanged", "initial": "Completed", "shout": "Unchanged"}
    with pytest.raises(ConfigError, match="only: no stage 'whisper'; expected some of copy, initial, shout"):
        pipeline(only=["whisper"])


@pytest.mark.prefect
def test_a_torn_lock_is_healed_first(pipeline, shell_project):
    (shell_project / ".dvc" / "tmp").mkdir()
    (shell_project / ".dvc" / "tmp" / "rwlock").write_text("")
    assert pipeline(only=["copy"]) == {"copy": "Completed"}


@pytest.mark.prefect
def test_the_outcomes_are_an_artifact(pipeline):
    from prefect.artifacts import Artifact

    pipeline(only=["copy"])
    assert "| copy | Completed |" in str(Artifact.get("stages").data)
