"""Where calls go, and what goes with them: nothing that is meant for one endpoint reaches another."""

import asyncio

import pytest

from ragline.errors import ConfigError, ServiceError
from ragline.llm import calls
from ragline.llm.calls import Caller, Message, Prompt
from ragline.llm.ledger import Ledger
from tests.fixtures import authors
from tests.fixtures.endpoint import Endpoint

GENERATOR = {"OPENAI_BASE_URL": "http://generator.test/v1", "OPENAI_API_KEY": "of-the-generator"}


class Listening(Endpoint):
    """Keeps the headers of every request, names in small letters."""

    def handle(self, request) -> None:
        self.sent = {name.lower(): value for name, value in request.headers.items()}
        super().handle(request)


@pytest.fixture
def server():
    with Listening(lambda asked: "yes") as listening:
        yield listening


def ask(folder, environment: tuple[str, ...]) -> str:
    ledger = Ledger(folder / "calls.sqlite")
    caller: Caller = authors.caller(ledger, retries=0)
    caller.environment = environment

    async def once() -> str:
        async with caller:
            return (await caller.ask(Prompt((Message("user", "Well?"),)))).answer

    try:
        return asyncio.run(once())
    finally:
        ledger.close()


@pytest.mark.parametrize("prefixes", [calls.JUDGE, calls.FILTER])
def test_a_key_without_an_address_goes_nowhere(prefixes):
    own = prefixes[0]
    with pytest.raises(ConfigError, match=rf"expected {own}_BASE_URL beside {own}_API_KEY .*, got the key alone; set"):
        calls.endpoint(*prefixes, environment=GENERATOR | {f"{own}_API_KEY": "own"})


def test_an_address_without_a_key_gets_no_other_key():
    found = calls.endpoint(*calls.JUDGE, environment=GENERATOR | {"RAGLINE_JUDGE_BASE_URL": "http://judge.test/v1"})
    assert (found.prefix, found.address) == ("RAGLINE_JUDGE", "http://judge.test/v1")
    assert found.authorization == {"Authorization": "Bearer none"}


def test_the_first_prefix_that_is_set_counts():
    both = GENERATOR | {"RAGLINE_JUDGE_BASE_URL": "http://judge.test/v1", "RAGLINE_JUDGE_API_KEY": "own"}
    assert calls.endpoint(*calls.JUDGE, environment=both) == calls.Endpoint(
        "RAGLINE_JUDGE", "http://judge.test/v1", "own"
    )
    assert calls.endpoint(*calls.JUDGE, environment=GENERATOR).prefix == "OPENAI"
    with pytest.raises(ConfigError, match=r"expected RAGLINE_JUDGE_BASE_URL or OPENAI_BASE_URL \(and RAGLINE_JUDGE_"):
        calls.endpoint(*calls.JUDGE, environment={})


def test_openais_key_alone_is_for_openai():
    environment = {"OPENAI_BASE_URL": "", "OPENAI_API_KEY": "k"}  # a container sets what its host leaves out to nothing
    assert calls.endpoint("OPENAI", environment=environment).base_url == "https://api.openai.com/v1"


def test_a_key_is_not_shown():
    assert "own" not in repr(calls.Endpoint("RAGLINE_JUDGE", "http://judge.test/v1", "own"))


@pytest.fixture
def meant_for_the_generator(monkeypatch):
    """All that the client library takes from the environment by itself."""
    for name, value in GENERATOR.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-the-generator")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-the-generator")
    custom = (
        "x-gateway: of-the-generator\nauthorization: Bearer of-the-generator\nno header\nContent-Type : the-generator"
    )
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", custom)


def test_another_host_learns_nothing_of_the_generators(server, tmp_path, monkeypatch, meant_for_the_generator):
    monkeypatch.setenv("RAGLINE_JUDGE_BASE_URL", server.url)
    monkeypatch.setenv("RAGLINE_JUDGE_API_KEY", "own")
    assert ask(tmp_path, calls.JUDGE) == "yes"
    assert server.sent["authorization"] == "Bearer own"
    assert not [name for name, value in server.sent.items() if "the-generator" in value]
    assert not {"openai-organization", "openai-project", "x-gateway"} & server.sent.keys()


def test_the_generators_host_gets_its_own(server, tmp_path, monkeypatch, meant_for_the_generator):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-gateway: of-the-generator")
    assert ask(tmp_path, calls.JUDGE) == "yes"
    found = [server.sent[name] for name in ("authorization", "openai-organization", "openai-project", "x-gateway")]
    assert found == [
        "Bearer of-the-generator",
        "org-of-the-generator",
        "project-of-the-generator",
        "of-the-generator",
    ]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("401", r"set RAGLINE_FILTER_API_KEY to a valid one for http://127\.0\.0\.1"),
        ("404", r"or RAGLINE_FILTER_BASE_URL, which is http://127\.0\.0\.1"),
    ],
)
def test_a_fault_names_the_variable_that_was_read(server, tmp_path, monkeypatch, fault, message):
    server.faults = lambda name, times: fault
    monkeypatch.setenv("RAGLINE_FILTER_BASE_URL", server.url)
    with pytest.raises(ServiceError, match=message):
        ask(tmp_path, calls.FILTER)
