"""The night: what it promotes, what it leaves alone, whom it tells. Stages are shell commands, the gate a stand-in."""

import http.server
import json
import logging
import shutil
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import httpx
import pytest
import yaml

from ragline import io
from ragline.artifacts import ANSWERING, DOCUMENTS, METRICS, PASSAGES, PREDICTIONS
from ragline.errors import ServiceError
from ragline.promotion.bundles import Standing
from ragline.promotion.verdict import Decision
from ragline.types import Document, Passage
from stages import generate_qa
from tests.conftest import ROOT, dvc, ran
from tests.fixtures import authors, promotable
from tests.fixtures.endpoint import Endpoint

pytestmark = [pytest.mark.prefect]


@pytest.fixture
def heard(monkeypatch):
    """What a web hook was told, in order."""
    told: list[dict[str, str]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("RAGLINE_NOTIFY", f"json://127.0.0.1:{server.server_port}/")
    yield told
    server.shutdown()
    server.server_close()


@pytest.fixture
def night(prefect_server, shell_project, monkeypatch):
    """Runs a night whose gate says what it is told to; returns its state."""
    from flows import nightly

    (shell_project / "params.yaml").write_text(RULES)
    for task in (nightly.publish, nightly.push):
        monkeypatch.setattr(task, "retry_delay_seconds", 0)

    def run(decision=None, **parameters):
        def gate(root):
            if decision is None:
                pytest.fail("the gate was asked")
            return decision

        monkeypatch.setattr(nightly, "gate", gate)
        return nightly.nightly(**parameters, return_state=True)

    return run


@pytest.fixture
def no_upkeep(monkeypatch):
    """For tests that look at something else: what is built is not published and not cleaned up after."""
    from prefect.states import Completed

    from flows import nightly

    monkeypatch.setattr(nightly, "keep", lambda *_: [])
    monkeypatch.setattr(nightly, "clean", lambda **_: Completed())


RULES = "retention: {commits: 1, days: 7, tracked_runs: 1, flow_days: 7, disk_gb: 1}\n"
KEPT = Decision(False, "kept: no gain", "| metric | difference |\n|---|---|")


def test_nights_that_end_well(night, heard, shell_project):
    from prefect.artifacts import Artifact

    state = night(Decision(True, "promoted: the first"))
    assert (state.name, state.message) == ("Promoted", "promoted: the first")
    written = (shell_project / "dvc.lock").stat().st_mtime_ns
    assert night(KEPT).name == "Unchanged"
    assert (shell_project / "dvc.lock").stat().st_mtime_ns == written
    (shell_project / "source.txt").write_text("banana")
    assert night(KEPT).name == "Kept"
    assert [word["title"] for word in heard] == [f"Ragline: night {e}" for e in ("Promoted", "Unchanged", "Kept")]
    assert [word["type"] for word in heard] == ["success", "info", "info"]
    assert "nothing was built" in heard[1]["message"]
    assert "kept: no gain" in heard[-1]["message"] and "reports/index.html" in heard[-1]["message"]
    assert KEPT.table in str(Artifact.get("verdict").data)
    assert "| shout | Completed |" in str(Artifact.get("stages").data)


def test_the_night_counts_what_differs_and_what_turned_bad(night, heard, no_upkeep, shell_project, monkeypatch):
    from prefect.artifacts import Artifact

    from flows import nightly

    def evaluated(rank):
        rows = [promotable.row(number, rank, 0.5) for number in range(4)]
        io.write_frame({name: [one[name] for one in rows] for name in rows[0]}, PREDICTIONS)
        io.write_json({"answerer": "extractive"}, ANSWERING)
        io.write_json({"test": {"mrr@10": 1 / rank}}, METRICS)

    def gate(root):  # the pipeline has run when the gate is asked
        evaluated(20)
        return KEPT

    assert night(KEPT).name == "Kept"
    assert "nothing to compare with" in heard[0]["message"]
    for path in (PREDICTIONS, ANSWERING, METRICS):
        path.parent.mkdir(exist_ok=True)
    evaluated(2)
    (shell_project / "source.txt").write_text("banana")
    monkeypatch.setattr(nightly, "gate", gate)
    nightly.nightly(return_state=True)
    assert "1 metrics differ from the champion's, 4 questions turned bad" in heard[1]["message"]
    assert "test.mrr@10" in str(Artifact.get("metrics").data) and "question 3" in str(Artifact.get("turned-bad").data)


def test_a_failed_stage_never_reaches_the_gate(night, heard, shell_project):
    text = (shell_project / "dvc.yaml").read_text()
    (shell_project / "dvc.yaml").write_text(text.replace("head -c 1", "echo broken tool && false"))
    state = night()
    assert state.is_failed() and "not built: initial (Failed), shout (NotReady)" in state.message
    (word,) = heard
    assert word["type"] == "failure" and word["title"] == "Ragline: night Failed"
    assert "broken tool" in word["message"] and "Nothing has been promoted yet." in word["message"]


def test_a_gate_that_cannot_decide_fails_the_night(prefect_server, shell_project, heard):
    from flows.nightly import nightly

    (shell_project / "params.yaml").write_text(RULES)
    state = nightly(return_state=True)  # the real gate, in a project without its section of params.yaml
    assert state.is_failed() and "section 'promotion' is missing" in heard[0]["message"]


def test_what_could_not_be_kept_is_kept_the_next_night(night, heard, shell_project, monkeypatch):
    asked, forgotten = [], []
    monkeypatch.setattr("flows.nightly.prefect_history.forget", lambda *_: forgotten.append(len(heard)) or 0)

    def command(module, name, *_, failed, variables=None):
        asked.append(name)
        if asked.count("publish") <= 2 and name == "publish":  # the task tries twice
            raise ServiceError(failed)

    monkeypatch.setattr("flows.nightly._python", command)
    assert night(KEPT).name == "Kept"
    assert night(KEPT).name == "Unchanged"
    assert night(KEPT).name == "Unchanged"
    assert asked == ["publish", "publish", "clean", "publish", "clean"]
    assert forgotten == [2]  # Prefect keeps nights with nothing to do, too
    assert ["warning: MLflow was not told" in word["message"] for word in heard] == [True, False, False]


def test_a_night_that_fails_cleans(night, shell_project, monkeypatch):
    """The disk may have been full."""
    asked = []
    monkeypatch.setattr("flows.nightly._python", lambda module, name, *_, **__: asked.append(name))
    (shell_project / "source.txt").unlink()
    assert night().is_failed() and asked == ["clean"]


def test_a_champion_that_cannot_be_read_fails_no_night(night, heard, no_upkeep, monkeypatch):
    monkeypatch.setattr("flows.nightly.bundles.standing", lambda root: Standing(("v0007",), "promoted: by hand"))
    assert night(KEPT).name == "Kept"
    assert "warning: not compared with v0007: dvc.lock: not found" in heard[0]["message"]


def test_a_site_that_is_gone_keeps_its_pages(night, heard, no_upkeep, shell_project):
    sites = [{"name": "manual", "addresses": ["http://127.0.0.1:9/sitemap.xml"], "pages": 1, "delay_s": 0.0}]
    assert night(KEPT, sites=sites).name == "Kept"
    assert "warning: " in heard[0]["message"] and "manual: not refreshed, exit 5" in heard[0]["message"]


def test_a_deaf_recipient_fails_nothing(night, no_upkeep, monkeypatch):
    from flows.nightly import tell

    monkeypatch.setenv("RAGLINE_NOTIFY", "json://127.0.0.1:9/")
    monkeypatch.setattr(tell, "retry_delay_seconds", 0)
    assert night(KEPT).name == "Kept"


def test_a_wrong_address_shows_before_anything_is_built(night, monkeypatch, shell_project):
    monkeypatch.setenv("RAGLINE_NOTIFY", "json://127.0.0.1:9/ nonsense://secret")
    state = night()
    assert state.is_failed() and "RAGLINE_NOTIFY: address 2 is none" in state.message
    assert "secret" not in state.message and not (shell_project / "dvc.lock").exists()


def git(*arguments):
    subprocess.run(["git", *arguments], check=True, capture_output=True)


def test_what_a_night_leaves_is_recorded_pushed_and_the_same_in_another_clone(night, heard, shell_project):
    (shell_project / ".gitignore").write_text("/*.txt\n/params.yaml\n")
    remote, clone = (shell_project.with_name(f"{shell_project.name}-{name}") for name in ("remote", "clone"))
    dvc("remote", "add", "--default", "shelf", str(remote))
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first")
    assert night(KEPT, recorded=True).name == "Kept"
    assert "not pushed" not in heard[0]["message"] and "not cleaned" not in heard[0]["message"]
    assert "on disk" in heard[0]["message"]
    git("clone", "-q", "--branch", "nightly", str(shell_project), str(clone))
    dvc("--cd", str(clone), "pull")
    for name in ("copied.txt", "initial.txt", "shouted.txt"):
        assert (clone / name).read_bytes() == (shell_project / name).read_bytes()
    assert (clone / "dvc.lock").read_bytes() == (shell_project / "dvc.lock").read_bytes()

    shutil.rmtree(remote)
    remote.write_text("no folder")
    (shell_project / "source.txt").write_text("banana")
    assert night(KEPT).name == "Kept"
    assert "outputs were not pushed, exit 255" in heard[1]["message"]


def test_old_nights_leave_prefects_database(night, shell_project):
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.context import FlowRunContext

    from ragline.retention import prefect_history

    @flow(name="nightly")
    def strangers():
        """Of another project on the same server."""
        return FlowRunContext.get().flow_run.id

    night(KEPT)
    stranger = strangers()
    later, own = datetime.now(UTC) + timedelta(days=3), prefect_history.tag(shell_project)
    with get_client(sync_client=True) as client, httpx.Client(timeout=30) as plain:
        api = str(client.api_url).rstrip("/")
        runs = prefect_history.old(plain, api, own, later, days=2)
        # the night, and the pipeline in it
        assert len(runs) == 2 and prefect_history.old(plain, api, own, later, days=4) == []
        prefect_history.delete(plain, api, runs)
        assert prefect_history.old(plain, api, own, later, days=2) == []
        assert client.read_flow_run(stranger).name
        kept = [run for run in client.read_artifacts() if str(run.flow_run_id) in runs]
        assert kept == []


# --- what a night lacks ----------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path_factory):
    """Mounts 64 KB over a folder; the test may give it more. Only root may, and only where the system lets it."""
    mounted = []

    def mount(folder):
        folder.mkdir(parents=True, exist_ok=True)
        ended = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True)
        if ended.returncode:
            pytest.skip("may not mount a small disk here")
        mounted.append(folder)
        return lambda: subprocess.run(["mount", "-o", "remount,size=16m", folder], check=True)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("folder", ["results", ".dvc/cache"])
def test_a_full_disk(night, heard, no_upkeep, small_disk, shell_project, folder):
    """In a stage's folder the stage fails, in DVC's cache what it has made cannot be kept; a later night has both."""
    more = small_disk(shell_project / folder)
    text = (shell_project / "dvc.yaml").read_text()
    (shell_project / "dvc.yaml").write_text(
        text.replace("cat source.txt > copied.txt", "head -c 1M /dev/zero > results/big && cat source.txt > copied.txt")
        .replace("outs: [copied.txt]", "outs: [copied.txt, results/big]")
        .replace("retries: 1", "retries: 0")
    )
    (shell_project / "results").mkdir(exist_ok=True)
    assert night().is_failed()
    assert "not built: copy (Failed), initial (NotReady), shout (NotReady)" in heard[0]["message"]
    assert "No space left on device" in heard[0]["message"]
    more()
    assert night(KEPT).name == "Kept"
    assert (shell_project / "results" / "big").stat().st_size == 2**20
    assert ran(dvc("repro").stdout) == []


def test_an_endpoint_that_is_down(night, heard, no_upkeep, shell_project, monkeypatch):
    """From the start, then from the middle of the work on; the night after pays for the rest alone."""
    documents, passages = authors.corpus(60)
    io.write_table(documents, Document, shell_project / DOCUMENTS)
    io.write_table(passages, Passage, shell_project / PASSAGES)
    stage = {
        "cmd": "python -m stages.generate_qa",
        "deps": [str(DOCUMENTS), str(PASSAGES)],
        "params": ["generate_qa", "build_index.language"],
        "outs": [str(path) for path in generate_qa.WRITES],
    }
    (shell_project / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"generate_qa": stage}}))
    section = {"method": "llm", "max_per_document": 1, "filters": [], "leaks": "drop", "seed": 13, "llm": authors.LLM}
    settings = {**yaml.safe_load(RULES), "generate_qa": section, "build_index": {"language": "english"}}
    (shell_project / "params.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-test")
    monkeypatch.setenv("RAGLINE_LLM_RETRIES", "1")
    assert night().is_failed()
    assert "generate_qa (Failed)" in heard[0]["message"] and "127.0.0.1:9" in heard[0]["message"]
    with Endpoint(authors.author, lambda name, times: "500" if endpoint.answered.total() >= 20 else None) as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
        assert night().is_failed()
        paid = endpoint.answered.total()
        assert 20 <= paid < 60 and "500" in heard[1]["message"]
        endpoint.faults = lambda name, times: None
        assert night(KEPT).name == "Kept"
        assert endpoint.answered.total() == 60
    assert "sk-of-a-test" not in str(heard)


# --- runs that nobody ended ------------------------------------------------------------------------


def test_runs_that_nobody_ended_are_closed_by_the_next(prefect_server, monkeypatch):
    """Those of the same deployment, with what runs in them; the run itself, other deployments and ended runs stay."""
    from prefect import flow, states, task
    from prefect.client.orchestration import get_client
    from prefect.context import FlowRunContext

    from flows.killed import close_killed

    @flow
    def inner():
        return None

    @task
    def step():
        return None

    with get_client(sync_client=True) as client:
        flow_id = client.create_flow_from_name("killed")
        mine, other = (client.create_deployment(flow_id, name) for name in ("mine", "other"))

        def begun(deployment, state):
            run = client.create_flow_run_from_deployment(deployment)
            client.set_flow_run_state(run.id, state, force=True)
            return run.id

        crashed, cancelled = begun(mine, states.Running()), begun(mine, states.State(type="CANCELLING"))
        itself, done, others = (
            begun(mine, states.Running()),
            begun(mine, states.Completed()),
            begun(other, states.Running()),
        )
        place_of_inner = client.create_task_run(step, crashed, "0", state=states.Running())
        in_it = client.create_flow_run(inner, parent_task_run_id=place_of_inner.id, state=states.Running())
        in_that = client.create_task_run(step, in_it.id, "0", state=states.Pending())

        context = SimpleNamespace(flow=None, flow_run=client.read_flow_run(itself))
        monkeypatch.setattr(FlowRunContext, "get", lambda: context)
        monkeypatch.setattr("flows.killed.get_run_logger", lambda: logging.getLogger("ragline"))
        close_killed()
        ended = [client.read_flow_run(run).state.name for run in (crashed, cancelled, itself, done, others, in_it.id)]
        tasks = [client.read_task_run(run.id).state.name for run in (place_of_inner, in_that)]
    assert ended == ["Crashed", "Cancelled", "Running", "Completed", "Running", "Crashed"]
    assert tasks == ["Crashed", "Crashed"]
