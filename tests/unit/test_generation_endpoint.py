"""An endpoint as generator, against a real server that answers well and badly."""

import asyncio
from dataclasses import replace

import pytest

from ragline import cli, qa
from ragline.artifacts import LEDGER
from ragline.errors import DataError, ModelError, ServiceError
from ragline.generation import backends, endpoint, prompts
from ragline.generation.generator import Written
from ragline.generation.language_model import Limits
from ragline.llm.calls import Prices
from ragline.types import Hit
from tests.fixtures.endpoint import Endpoint
from tests.fixtures.small import passage

HITS = [Hit(passage("a#0", "Merge joins two frames."), 0.9), Hit(passage("b#0", "Concat stacks frames."), 0.5)]
TERMS = endpoint.Terms("served", Prices(1.0, 2.0), budget_usd=1.0, max_failed=0.5, seed=3)
LIMITS = Limits(passages=2, max_input_tokens=400, max_answer_tokens=50)
QUESTIONS = [f"how do I join {n} frames?" for n in range(6)]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    for name, value in (("CONCURRENCY", "2"), ("RETRIES", "1"), ("TIMEOUT_S", "0.3")):
        monkeypatch.setenv(f"RAGLINE_LLM_{name}", value)


def ask(server, monkeypatch, root, questions=QUESTIONS, terms=TERMS, limits=LIMITS):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    return endpoint.Endpoint(terms, limits, root).answer(questions, [HITS] * len(questions))


def test_answers_cite_what_they_were_shown_and_are_paid_for_once(tmp_path, monkeypatch):
    said = "Use merge [1]."
    with Endpoint(lambda request: said) as server:
        first = ask(server, monkeypatch, tmp_path)
        again = ask(server, monkeypatch, tmp_path)
    assert first == again == [Written("Use merge.", (HITS[0],))] * 6
    assert sum(server.answered.values()) == 6


def test_what_is_sent_is_the_prompt_of_training(tmp_path, monkeypatch):
    seen = []
    with Endpoint(lambda request: seen.append(request) or "x") as server:
        ask(server, monkeypatch, tmp_path, QUESTIONS[:1])
    texts = [hit.passage.encoded_text for hit in HITS]
    assert seen[0]["messages"] == [{"role": "user", "content": prompts.prompt(QUESTIONS[0], texts)}]
    assert (seen[0]["temperature"], seen[0]["max_completion_tokens"], seen[0]["model"]) == (0.0, 50, "served")


def test_no_call_without_passages_and_silence_where_the_model_declines(tmp_path, monkeypatch):
    with Endpoint(lambda request: prompts.ABSTENTION) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        found = endpoint.Endpoint(TERMS, LIMITS, tmp_path).answer(["a?", "b?"], [[], HITS])
    assert found == [Written("", ()), Written("", ())]
    assert sum(server.asked.values()) == 1


@pytest.mark.parametrize("fault", ["429", "500", "cut", "slow"])
def test_a_fault_that_passes_is_waited_out(tmp_path, monkeypatch, fault):
    with Endpoint(lambda request: "Use merge [1].", lambda name, times: fault if times == 0 else None) as server:
        found = ask(server, monkeypatch, tmp_path, QUESTIONS[:1])
    assert found == [Written("Use merge.", (HITS[0],))]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("400", "refused by the endpoint"),
        ("refusal", "refused by the model"),
        ("500", "endpoint failed"),
        ("cut", "endpoint failed"),
        ("slow", "endpoint failed"),
    ],
)
def test_a_fault_that_stays_is_a_counted_failure_and_no_answer(tmp_path, monkeypatch, caplog, fault, reason):
    bad = set()

    def faults(name, times):  # the first request that comes, and its repetitions
        bad.add(name) if not bad else None
        return fault if name in bad else None

    with Endpoint(lambda request: "Use merge [1].", faults) as server:
        found = ask(server, monkeypatch, tmp_path)
    failures = [one for one in found if one.failed]
    assert failures == [Written("", (), reason)]
    assert found.count(Written("Use merge.", (HITS[0],))) == 5
    assert "1 of 6 questions got none" in caplog.text


@pytest.mark.parametrize("useless", ["  ", "<think>on and on", "[1]"])
def test_a_useless_answer_is_a_counted_failure_and_never_a_declining_one(tmp_path, monkeypatch, useless):
    first = [QUESTIONS[0]]

    def say(request):
        return useless if QUESTIONS[0] in request["messages"][0]["content"] else "Use merge [1]."

    with Endpoint(say) as server:
        found = ask(server, monkeypatch, tmp_path)
        assert found == [Written("", (), "endpoint failed")] + [Written("Use merge.", (HITS[0],))] * 5
        assert sum(server.answered.values()) == 5 + endpoint.ATTEMPTS
        with pytest.raises(
            ServiceError, match=r"1 items of 1 got no answer, 0 did \(last: 4 empty answers, finish: stop"
        ):
            ask(server, monkeypatch, tmp_path, first)


def test_asking_again_really_does(tmp_path, monkeypatch):
    # Each request has another seed, as another attempt: the first three of them bring nothing.
    with Endpoint(lambda request: " " if request["seed"] < TERMS.seed + 3 else "Use merge [1].") as server:
        with pytest.raises(ServiceError, match="last: 2 empty answers, finish: stop"):
            ask(server, monkeypatch, tmp_path, QUESTIONS[:1])
        assert ask(server, monkeypatch, tmp_path, QUESTIONS[:1]) == [Written("Use merge.", (HITS[0],))]
        assert ask(server, monkeypatch, tmp_path, QUESTIONS[:1]) == [Written("Use merge.", (HITS[0],))]
        assert sum(server.answered.values()) == 4


def test_refusals_of_most_questions_are_one_error(tmp_path, monkeypatch):
    with (
        Endpoint(lambda request: "x", lambda name, times: "refusal") as server,
        pytest.raises(ServiceError, match=r"6 items of 6 ended without a usable result \(last: refused by the model"),
    ):
        ask(server, monkeypatch, tmp_path)


def test_asking_the_champion_names_the_project_apart_from_the_version(tmp_path, monkeypatch):
    loaded = []

    def load(root, project):
        loaded.append((root, project))
        raise ModelError("enough seen")

    monkeypatch.setattr(cli, "_served", lambda root: root / "v0001")
    monkeypatch.setattr(qa, "load", load)
    with pytest.raises(SystemExit):
        cli.main(["--root", str(tmp_path), "ask", "--champion", "why?"])
    assert loaded == [(tmp_path / "v0001", tmp_path)]


def test_all_that_one_generator_is_asked_is_paid_from_one_purse(tmp_path, monkeypatch):
    # Two calls cost no more than is left at the start of the second: prompt about 130, answer at most 50 tokens.
    with Endpoint(lambda request: "Use merge [1].") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        loaded = endpoint.Endpoint(replace(TERMS, budget_usd=4e-4), LIMITS, tmp_path)
        loaded.answer(QUESTIONS[:1], [HITS])
        spent = loaded.purse.spent_usd
        assert 0 < spent < 4e-4
        with pytest.raises(ServiceError, match=r"train_generator\.endpoint\.budget_usd"):
            loaded.answer(QUESTIONS[1:], [HITS] * 5)
        assert spent < loaded.purse.spent_usd <= 4e-4


def test_in_a_notebook_a_loop_is_running_already(tmp_path, monkeypatch):
    async def cell(server):
        return ask(server, monkeypatch, tmp_path)

    with Endpoint(lambda request: "Use merge [1].") as server:
        assert asyncio.run(cell(server)) == [Written("Use merge.", (HITS[0],))] * 6


def test_the_calls_of_a_served_version_are_kept_in_the_project(tmp_path, monkeypatch):
    version = tmp_path / "bundles" / "v0001"
    endpoint.save(TERMS, LIMITS, version / "made")
    with Endpoint(lambda request: "Use merge [1].") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        served = backends.load(version / "made", version, tmp_path)
        assert served.answer(QUESTIONS[:1], [HITS]) == [Written("Use merge.", (HITS[0],))]
    assert (tmp_path / LEDGER).is_file()
    assert [p.name for p in version.rglob("*") if p.is_file()] == [endpoint.CONFIG]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("500", r"endpoint: \d items of 6 got no answer, 0 did \(last: HTTP 500 after 1 retries"),
        ("slow", r"endpoint: \d items of 6 got no answer, 0 did \(last: APITimeoutError"),
        ("401", r"endpoint: 401: the key is not accepted"),
        ("404", r"endpoint: 404: no model 'served' there"),
    ],
)
def test_an_endpoint_that_fails_throughout_is_one_error(tmp_path, monkeypatch, fault, message):
    with Endpoint(lambda request: "x", lambda name, times: fault) as server, pytest.raises(ServiceError, match=message):
        ask(server, monkeypatch, tmp_path)


def test_an_endpoint_that_is_down_is_one_error(tmp_path, monkeypatch):
    with Endpoint(lambda request: "x") as server:
        pass
    with pytest.raises(ServiceError, match=r"items of 6 got no answer, 0 did \(last: APIConnectionError"):
        ask(server, monkeypatch, tmp_path)


def test_the_budget_is_never_exceeded(tmp_path, monkeypatch):
    with (
        Endpoint(lambda request: "x") as server,
        pytest.raises(ServiceError, match=r"train_generator\.endpoint\.budget"),
    ):
        ask(server, monkeypatch, tmp_path, terms=endpoint.Terms("served", Prices(1.0, 2.0), 1e-6, 0.5, 3))
    assert not server.answered


def test_a_question_that_is_too_long_is_named(tmp_path, monkeypatch):
    with Endpoint(lambda request: "x") as server, pytest.raises(DataError, match=r"question 'why why .* in 60 tokens"):
        ask(server, monkeypatch, tmp_path, ["why " * 50], limits=Limits(2, 60, 50))


def test_it_is_written_and_read(tmp_path):
    endpoint.save(TERMS, LIMITS, tmp_path / "made")
    assert backends.load(tmp_path / "made", tmp_path) == endpoint.Endpoint(TERMS, LIMITS, tmp_path)
    (tmp_path / "made" / endpoint.CONFIG).write_text('{"terms": {"prices": {}}}')
    with pytest.raises(ModelError, match="not an endpoint"):
        backends.load(tmp_path / "made", tmp_path)
