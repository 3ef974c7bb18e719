"""Questions by a language model, against a real server on loopback that answers well and badly."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from ragline.errors import ConfigError, ServiceError
from ragline.llm import calls
from ragline.llm.calls import Decoding, Message, Prompt
from ragline.llm.ledger import Ledger
from ragline.questions import llm
from ragline.questions.plan import KINDS, plan
from ragline.types import Span
from tests.conftest import ROOT
from tests.fixtures.authors import WEIGHTS, author, caller, corpus
from tests.fixtures.endpoint import Endpoint, at_random

KEY = "sk-very-secret-0123456789"
KILLS = int(os.environ.get("RAGLINE_TEST_KILLS", "4"))
CHAOS = {"429": 0.15, "500": 0.1, "cut": 0.1, "garbage": 0.1, "refusal": 0.05}


@pytest.fixture
def serve(monkeypatch):
    """Start an endpoint and name it in the environment."""
    started = []

    def start(*arguments, **options) -> Endpoint:
        endpoint = Endpoint(*arguments, **options).__enter__()
        started.append(endpoint)
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        return endpoint

    yield start
    for endpoint in started:
        endpoint.__exit__(None, None, None)


def run(ledger_path, count=40, examples=(), max_failed=0.0, attempts=2, **options):
    documents, passages = corpus(count)
    items = plan(documents, passages, WEIGHTS, count)
    ledger = Ledger(ledger_path)
    asks = caller(ledger, **options)
    try:
        found = llm.generate(items, documents, llm.load_prompts(), examples, attempts, max_failed, asks)
    finally:
        ledger.close()
    return items, *found, asks


def test_every_kind_becomes_what_it_should(serve, tmp_path):
    serve(author)
    items, kept, drops, _ = run(tmp_path / "calls.sqlite")
    documents = {d.doc_id: d for d in corpus(40)[0]}
    assert drops == [] and len(kept) == 40
    assert {q.kind for q in kept} == {kind for kind in WEIGHTS}
    for item, q in zip(items, kept, strict=True):
        first = item.passages[0]
        assert (q.split, q.cluster, q.kind) == (documents[q.doc_id].split, first.cluster, item.kind)
        if q.kind == "unanswerable":
            assert (q.answers, q.gold_passage_ids, q.answerable) == ((), (), False)
        else:
            n = int(first.doc_id[1:])
            assert q.answers == (f"{n * 7 + 3} {('bolts', 'plates', 'rings', 'cups')[n % 4]} an hour.",)
            assert first.text[q.start : q.end].startswith("The machine with number") and q.answerable
        assert bool(q.chat_history) == (q.kind == "multi_turn")


@pytest.mark.slow
def test_chaos_loses_nothing_and_doubles_nothing(serve, tmp_path):
    endpoint = serve(author, faults=at_random(CHAOS))
    items, kept, drops, asks = run(tmp_path / "calls.sqlite", 60)
    assert len(kept) + len(drops) == len(items) == 60
    assert {drop.reason for drop in drops} <= {"refused by the model", "malformed answer"} and drops
    assert len({q.question_id for q in kept}) == len(kept) > 40
    assert set(endpoint.answered.values()) == {1}  # no whole answer was paid for twice
    assert asks.paid == len(endpoint.answered)
    again = run(tmp_path / "calls.sqlite", 60)
    assert again[1:3] == (kept, drops) and again[3].paid == 0


def test_no_more_calls_at_once_than_allowed(serve, tmp_path):
    endpoint = serve(author, latency_s=0.02)
    run(tmp_path / "calls.sqlite", concurrency=3)
    assert endpoint.most_at_once == 3


def test_a_budget_stops_and_the_next_run_goes_on(serve, tmp_path):
    endpoint = serve(author)
    stopped = r"budget_usd: .*left of \$0\.02 .* items done; questions by the model\); what was paid for is kept"
    with pytest.raises(ServiceError, match=stopped):
        run(tmp_path / "calls.sqlite", budget_usd=0.02)
    first = len(endpoint.answered)
    assert 0 < first < 80
    assert sum(endpoint.answered.values()) == first
    _, kept, _, asks = run(tmp_path / "calls.sqlite")
    assert len(kept) == 40 and asks.paid == 80 - first
    assert set(endpoint.answered.values()) == {1}


def test_no_run_spends_more_than_its_budget(serve, tmp_path):
    serve(author, latency_s=0.01)
    documents, passages = corpus(40)
    items = plan(documents, passages, WEIGHTS, 40)
    ledger = Ledger(tmp_path / "calls.sqlite")
    for budget in (0.003, 0.005, 0.01):
        asks = caller(ledger, budget_usd=budget)
        with pytest.raises(ServiceError):
            llm.generate(items, documents, llm.load_prompts(), (), 2, 0.0, asks)
        assert asks.spent_usd <= budget


def test_two_runs_at_once_pay_once(serve, tmp_path):
    endpoint = serve(author, latency_s=0.01)
    found = {}
    threads = [threading.Thread(target=lambda n=n: found.update({n: run(tmp_path / "calls.sqlite")})) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0][1] == found[1][1] and len(found[0][1]) == 40
    # both threads share a process, and with it the owner of claims: only the ledger's own answers are shared for sure
    assert max(endpoint.answered.values()) <= 2


@pytest.mark.slow
def test_two_processes_at_once_pay_once(serve, tmp_path):
    endpoint = serve(author, latency_s=0.01)
    running = [subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path), "40"], env=environment()) for _ in "ab"]
    assert [process.wait(60) for process in running] == [0, 0]
    assert set(endpoint.answered.values()) == {1} and len(endpoint.answered) == 80


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("401", r"endpoint: 401: the key is not accepted; set OPENAI_API_KEY"),
        ("404", r"endpoint: 404: no model 'model-a' there; mend the model's name"),
        ("500", r"endpoint: \d+ items of 40 got no answer, 0 did \(last: HTTP 500 after 1 retries; questions by"),
        ("cut", r"endpoint: \d+ items of 40 got no answer, 0 did \(last: APIConnectionError after 1 retries;"),
        ("slow", r"endpoint: \d+ items of 40 got no answer, 0 did \(last: APITimeoutError after 1 retries;"),
    ],
)
def test_an_endpoint_that_never_answers(serve, tmp_path, fault, message):
    endpoint = serve(author, faults=lambda name, times: fault)
    with pytest.raises(ServiceError, match=message) as raised:
        run(tmp_path / "calls.sqlite", retries=1, concurrency=2, timeout_s=0.4)
    assert KEY not in str(raised.value) and KEY not in repr(raised.value.__cause__)
    assert endpoint.asked.total() < 40  # it gives up long before it has asked for everything


def test_refused_requests_are_dropped_with_the_reason(serve, tmp_path):
    serve(author, faults=lambda name, times: "400" if int(name[:2], 16) < 40 else None)
    items, kept, drops, _ = run(tmp_path / "calls.sqlite")
    assert {drop.reason for drop in drops} == {"refused by the endpoint"}
    assert len(kept) + len(drops) == len(items)


def test_a_few_failures_may_be_allowed(serve, tmp_path):
    serve(author, faults=lambda name, times: "500" if int(name[:2], 16) < 10 else None)
    items, kept, drops, _ = run(tmp_path / "calls.sqlite", retries=1, max_failed=0.5)
    assert {drop.reason for drop in drops} == {"endpoint failed"} and len(kept) + len(drops) == len(items)


def test_an_endpoint_that_is_gone_ends_the_run_however_much_may_fail(serve, tmp_path):
    endpoint = serve(author, faults=lambda name, times: "500")
    with pytest.raises(ServiceError, match=r"\d items of 40 got no answer, 0 did .*: run again"):
        run(tmp_path / "calls.sqlite", retries=1, concurrency=2, max_failed=0.9)
    assert endpoint.asked.total() < 40


def test_no_endpoint(monkeypatch, tmp_path):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"expected OPENAI_BASE_URL .*, got neither"):
        run(tmp_path / "calls.sqlite")


SCRIPT = """
import sys
from pathlib import Path
from ragline.types import QAExample, Drop
from ragline import io
from tests.unit.test_questions_llm import run
folder = Path(sys.argv[1])
_, kept, drops, _ = run(folder / "calls.sqlite", int(sys.argv[2]), concurrency=4)
io.write_table(kept, QAExample, folder / "kept.parquet")
io.write_table(drops, Drop, folder / "drops.parquet")
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.slow
def test_kills_change_no_byte_and_pay_only_for_what_was_in_flight(serve, tmp_path):
    count = 150
    failing = at_random({"429": 0.05, "500": 0.05})
    # what it answers hangs on the request alone, when it answers at all: as with a model that decodes greedily
    endpoint = serve(
        author, faults=lambda name, n: failing(name, n) or ("garbage" if name < "0d" else None), latency_s=0.02
    )
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    subprocess.run([sys.executable, "-c", SCRIPT, str(whole), str(count)], env=environment(), check=True)
    needed, paid_once = len(endpoint.answered), endpoint.answered.total()
    assert paid_once == needed
    rng = random.Random(5)
    kills = 0
    while kills < KILLS:
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(killed), str(count)], env=environment())
        before = endpoint.answered.total()
        while process.poll() is None and endpoint.answered.total() - before < 1:
            time.sleep(0.01)
        time.sleep(rng.random() * 0.12)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills >= KILLS // 2
    subprocess.run([sys.executable, "-c", SCRIPT, str(killed), str(count)], env=environment(), check=True)
    for name in ("kept.parquet", "drops.parquet"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes()
    again = endpoint.answered.total() - paid_once
    assert needed <= again <= needed + 4 * kills  # four were in flight at each kill


@pytest.mark.slow
def test_an_edit_of_one_document_in_a_thousand_costs_next_to_nothing(serve, tmp_path):
    serve(author)
    documents, passages = corpus(1000)

    def generate():
        ledger = Ledger(tmp_path / "calls.sqlite")
        asks = caller(ledger)
        llm.generate(plan(documents, passages, WEIGHTS, 600), documents, llm.load_prompts(), (), 2, 0.0, asks)
        ledger.close()
        return asks

    first = generate()
    text = passages[500].text.replace("presses", "now presses as many as")
    passages[500] = replace(passages[500], text=text, end=len(text))
    documents[500] = replace(documents[500], text=text)
    second = generate()
    assert first.paid == 1200
    assert second.paid / first.paid < 0.005


def test_an_estimate_after_a_few_calls_is_within_fifteen_percent(serve, tmp_path):
    endpoint = serve(author)
    documents, passages = corpus(150)
    prompts = llm.load_prompts()
    ledger = Ledger(tmp_path / "calls.sqlite")
    items = plan(documents, passages, WEIGHTS, 150)
    blind = llm.estimate(items, prompts, (), 2, caller(ledger))
    assert (blind.calls, blind.cached, blind.history) == (300, 0, 0)
    llm.generate(items[:12], documents, prompts, (), 2, 0.0, caller(ledger))
    looked_ahead = llm.estimate(items, prompts, (), 2, caller(ledger))
    assert endpoint.answered.total() == 24  # looking ahead asks nobody
    asks = caller(ledger)
    llm.generate(items, documents, prompts, (), 2, 0.0, asks)
    assert (looked_ahead.calls, looked_ahead.cached) == (asks.paid, 24)
    assert looked_ahead.usd == pytest.approx(asks.spent_usd, rel=0.15)
    assert llm.estimate(items, prompts, (), 2, caller(ledger)).usd == 0


# --- without a server ------------------------------------------------------------------------------


def test_a_plan_hangs_on_each_passage_alone():
    documents, passages = corpus(300)
    items = plan(documents, passages, WEIGHTS, 60)
    assert plan(documents, passages[::-1], WEIGHTS, 60) == items
    assert len({item.passages[0].doc_id for item in items}) == 60
    split_of = {d.doc_id: d.split for d in documents}
    for item in items:
        assert item.kind in KINDS and len({split_of[p.doc_id] for p in item.passages}) == 1
        assert (len(item.passages) == 2) == (item.kind in ("comparison", "multi_hop"))
        assert len({p.passage_id for p in item.passages}) == len(item.passages)


def test_a_second_passage_of_a_document_comes_after_every_document_s_first():
    documents, passages = corpus(20)
    more = [replace(p, passage_id=f"{p.doc_id}#0001", text=p.text + " It is loud.") for p in passages]
    chosen = plan(documents, passages + more, {"factoid": 1}, 20)
    assert len({item.passages[0].doc_id for item in chosen}) == 20
    assert len(plan(documents, passages + more, {"factoid": 1}, 100)) == 40


@pytest.mark.parametrize(
    ("quote", "span"),
    [
        ("lever 3", Span(5, 12)),
        ("  lever   3\n", Span(5, 12)),
        ("LEVER 3 to", Span(5, 16)),
        ("lever 4", None),
        ("", None),
        ("(a+", None),
    ],
)
def test_locate(quote, span):
    assert llm.locate(quote, "turn lever 3\n to the left") == span


def test_what_stands_in_a_passage_is_no_place_to_fill():
    documents, passages = corpus(1)
    odd = replace(passages[0], text="Write {{task}} and {{question}} as they are.")
    (item,) = plan(documents, [replace(odd, text=odd.text * 4)], {"factoid": 1}, 1)
    content = llm.question_prompt(llm.load_prompts(), item, ["How loud is it?"]).messages[0].content
    assert "Write {{task}} and {{question}} as they are." in content and "- How loud is it?\n" in content
    assert not re.search(r"\{\{(passages|examples)\}\}", content)


def test_own_prompts_need_their_places():
    assert llm.load_prompts(question="{{passages}} {{task}} {{examples}}").answer.startswith("Answer a question")
    with pytest.raises(ConfigError, match=r"prompts\.answer: expected the places .*, \{\{question\}\} is missing"):
        llm.load_prompts(answer="{{passages}}")


def test_the_key_holds_everything_that_determines_the_answer():
    how = Decoding("m", 0.0, 100, 1, "none")
    prompt = Prompt((Message("user", "hi"),), "{}", 0)
    others = [
        (replace(prompt, messages=(Message("user", "ho"),)), how),
        (replace(prompt, messages=(Message("system", "hi"),)), how),
        (replace(prompt, schema=""), how),
        (replace(prompt, attempt=1), how),
        *((prompt, replace(how, **{name: value})) for name, value in
          {"model": "n", "temperature": 0.5, "max_answer_tokens": 101, "seed": 2, "structured": "json_object"}.items()),
    ]  # fmt: skip
    keys = {calls.key(*pair) for pair in [(prompt, how), *others]}
    assert len(keys) == 1 + len(others)
    assert calls.key(prompt, how) == calls.key(Prompt((Message("user", "hi"),), "{}"), how)


@pytest.mark.parametrize("text", ["none", "0", "-1", ""])
def test_machine_settings_are_checked(text):
    with pytest.raises(ConfigError, match=f"RAGLINE_LLM_TIMEOUT_S: expected a positive number, got '{text}'"):
        calls.machine({"RAGLINE_LLM_TIMEOUT_S": text})
    assert calls.machine({}) == calls.Machine(8, 120.0, 6)
