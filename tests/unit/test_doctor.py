"""What the doctor says of healthy and of sick installations."""

from importlib.metadata import PackageNotFoundError

import httpx
import pytest
import yaml

from ragline import doctor
from ragline.llm.calls import Endpoint
from tests.conftest import dvc

API = "http://prefect.test/api"


def client(answers: dict[str, object]) -> httpx.Client:
    """A client to whom a path answers with JSON, or with a status where a number stands; others refuse to connect."""

    def reply(request: httpx.Request) -> httpx.Response:
        answer = answers.get(request.url.path)
        if answer is None:
            raise httpx.ConnectError("refused")
        return httpx.Response(answer) if isinstance(answer, int) else httpx.Response(200, json=answer)

    return httpx.Client(transport=httpx.MockTransport(reply))


def deployment(**changes):
    return {"id": "d1", "name": "nightly", "paused": False, "schedules": [{"active": True}], **changes}


def prefect(deployments, runs, address=API):
    return doctor.prefect(
        client(
            {"/api/health": {}, "/api/deployments/filter": deployments, "/api/flow_runs/filter": runs},
        ),
        address,
    )


RUN = {"deployment_id": "d1", "expected_start_time": "2030-01-02T02:00:00Z"}


def test_a_planned_night():
    server, schedule = prefect([deployment()], [RUN, RUN])
    assert (server.mark, schedule.mark) == ("ok", "ok")
    assert schedule.text == "nightly: 2 runs planned, the next one at 2030-01-02T02:00:00Z"


@pytest.mark.parametrize(
    ("changed", "says"),
    [({}, "no run is planned"), ({"paused": True}, "paused"), ({"schedules": [{"active": False}]}, "paused")],
)
def test_a_night_that_never_comes(changed, says):
    _, schedule = prefect([deployment(**changed)], [{**RUN, "deployment_id": "another"}])
    assert schedule.mark == "bad" and says in schedule.text


def test_a_deployment_without_schedule_plans_nothing():
    assert len(prefect([deployment(schedules=[])], [])) == 1


def test_a_server_that_is_gone():
    (found,) = doctor.prefect(client({}), API)
    assert found.mark == "bad" and found.text == f"{API}: ConnectError: refused"
    (found,) = doctor.prefect(client({}), None)  # nobody said that there is one
    assert found.mark == "-"


JUDGED = {"evaluate": {"judge": {"model": "m"}}}
FILTERED = {"generate_qa": {"method": "rules", "filter_model": {"model": "m"}}}
WRITTEN = {"train_generator": {"method": "endpoint"}}


def endpoints(folder, content, environment, answers):
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    return [(found.mark, found.text) for found in doctor.endpoints(client(answers), folder, environment)]


def test_endpoint():
    where = Endpoint("RAGLINE_JUDGE", "http://ann:pass@llm.test/v1/", "secret")
    assert doctor.endpoint(client({"/v1/models": {}}), where, "evaluate.judge").mark == "ok"
    found = doctor.endpoint(client({"/v1/models": 401}), where, "evaluate.judge")
    assert (found.mark, found.text) == (
        "bad",
        "evaluate.judge: http://llm.test/v1, as RAGLINE_JUDGE_BASE_URL says: status 401",
    )


def test_what_nobody_asks_is_not_looked_at(tmp_path):
    quiet = {"generate_qa": {"method": "rules"}, "train_generator": {"method": "fid"}, "evaluate": {"judge": None}}
    environment = {"OPENAI_BASE_URL": "http://gone.test/v1"}
    assert endpoints(tmp_path, quiet, environment, {}) == [("-", "params.yaml asks no language model")]
    assert endpoints(tmp_path, {"evaluate": None}, environment, {})[0][0] == "-"
    (tmp_path / "params.yaml").write_text("{")
    assert [found.mark for found in doctor.endpoints(client({}), tmp_path, environment)] == ["-"]


@pytest.mark.parametrize(
    ("content", "use", "variable"),
    [
        (JUDGED, "evaluate.judge", "RAGLINE_JUDGE_BASE_URL or OPENAI_BASE_URL"),
        (FILTERED, "generate_qa.filter_model", "RAGLINE_FILTER_BASE_URL or OPENAI_BASE_URL"),
        (WRITTEN, "train_generator.endpoint", "OPENAI_BASE_URL"),
        ({"generate_qa": {"method": "llm"}}, "generate_qa.llm", "OPENAI_BASE_URL"),
    ],
)
def test_an_endpoint_that_is_used_has_to_be_set(tmp_path, content, use, variable):
    ((mark, text),) = endpoints(tmp_path, content, {}, {})
    assert mark == "bad" and text.startswith(f"{use}: endpoint: expected {variable} (and ")


def test_every_endpoint_is_asked_once(tmp_path):
    environment = {"OPENAI_BASE_URL": "http://llm.test/v1", "RAGLINE_JUDGE_BASE_URL": "http://judge.test/v2"}
    found = endpoints(tmp_path, JUDGED | FILTERED | WRITTEN, environment, {"/v1/models": {}, "/v2/models": 404})
    assert found == [
        ("ok", "generate_qa.filter_model, train_generator.endpoint: http://llm.test/v1 answers"),
        ("bad", "evaluate.judge: http://judge.test/v2, as RAGLINE_JUDGE_BASE_URL says: status 404"),
    ]


def test_packages(tmp_path):
    pins = tmp_path / "constraints.txt"
    pins.write_text("# tested\none==1.0\ntwo==2.0\ntorch==2.13.0\nextra==1\n")
    found = {"one": "1.0", "two": "2.0", "torch": "2.13.0+cpu"}

    def installed(name: str) -> str:
        if name not in found:
            raise PackageNotFoundError(name)
        return found[name]

    assert doctor.packages(pins, installed).text == "3 as constraints.txt has them"
    found["two"] = "2.1"
    sick = doctor.packages(pins, installed)
    assert sick.mark == "bad" and sick.text.startswith("1 of 3 differ from constraints.txt: two 2.1 instead of 2.0;")
    assert doctor.packages(tmp_path / "none.txt").mark == "-"


@pytest.mark.parametrize(("version", "mark"), [((3, 10), "bad"), ((3, 11), "ok"), ((3, 12), "ok"), ((3, 13), "bad")])
def test_interpreter(version, mark):
    assert doctor.interpreter(version).mark == mark


def test_disk_and_params(tmp_path):
    assert doctor.disk(6 * 2**30).mark == "ok"
    assert doctor.disk(2**30).text.startswith("expected 5 GB free, got 1.0;")
    assert doctor.params(tmp_path).mark == "bad"


@pytest.mark.pipeline
def test_pipeline(shell_project):
    assert doctor.pipeline(shell_project).text == "out of date: copy, initial, shout"
    dvc("repro")
    assert doctor.pipeline(shell_project).text == "everything is up to date"
    (shell_project / "dvc.lock").write_text("schema: '2.0'\nstages:\n  copy:\n")
    assert doctor.pipeline(shell_project).mark == "bad"
