"""Filters that ask a language model, from params to the ledger of drops, against a real server on loopback."""

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from ragline import authoring, io, vetting
from ragline.artifacts import (
    DOCUMENTS,
    LEDGER,
    PASSAGES,
    QUESTION_DROPS,
)
from ragline.cli import main as ragline
from ragline.errors import ConfigError, ServiceError
from ragline.question_params import QuestionParams
from ragline.questions.filters import PAID
from ragline.runtime.params import load_section
from ragline.types import Document, Drop, Passage, QAExample
from stages import generate_qa
from tests.fixtures.authors import LLM, author, corpus
from tests.fixtures.endpoint import Endpoint, at_random

ASKED = LLM | {"passages": 40, "temperature": 0.7}
CHECKER = {name: value for name, value in ASKED.items() if name not in ("passages", "kinds")} | {"model": "model-b"}
CHECKS = {"Answer this question": "guessable", "You check questions": "critic", "Which of these": "unanswerable_judged"}


def number(said: str) -> int:
    """Of the machine that a prompt's question names."""
    return int(re.search(r"Question: .*?Machine (\d+)", said, re.DOTALL).group(1))


def checker(asked) -> str:
    """Knows every tenth machine by heart, finds every seventh question bad, finds colours in every third passage."""
    said = asked["messages"][-1]["content"]
    if said.startswith("Answer this question"):
        n = number(said)
        known = f"{n * 7 + 3} {('bolts', 'plates', 'rings', 'cups')[n % 4]} an hour."
        return json.dumps({"answer": known if n % 10 == 0 else ""})
    if said.startswith("You check questions"):
        return json.dumps({"grounded": 5, "useful": 2 if number(said) % 7 == 0 else 4, "standalone": 5})
    if said.startswith("Which of these"):
        return json.dumps({"answered_by": [1] if number(said) % 3 == 0 else []})
    return author(asked)


def check_of(asked) -> str:
    said = asked["messages"][-1]["content"]
    return next((name for start, name in CHECKS.items() if said.startswith(start)), "author")


@pytest.fixture
def project(tmp_path, monkeypatch):
    documents, passages = corpus(60)
    io.write_table(documents, Document, tmp_path / DOCUMENTS)
    io.write_table(passages, Passage, tmp_path / PASSAGES)
    asked = []
    with Endpoint(lambda body: asked.append((check_of(body), body)) or checker(body)) as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
        monkeypatch.setenv("RAGLINE_LLM_RETRIES", "2")
        monkeypatch.chdir(tmp_path)
        yield tmp_path, endpoint, asked


def settings(filters=PAID, llm=None, **changed) -> QuestionParams:
    section = {"method": "llm", "max_per_document": 1, "filters": list(filters), "leaks": "report", "seed": 13}
    section |= changed
    if section["method"] == "llm":
        section["llm"] = ASKED | (llm or {})
    sections = {"generate_qa": section, "build_index": {"language": "english"}}
    Path("params.yaml").write_text(yaml.safe_dump(sections))
    return load_section("generate_qa", QuestionParams)


def run(params: QuestionParams, folder: Path) -> tuple[list[QAExample], list[Drop]]:
    """What the stage does before it writes."""
    corpus = world(folder, params)
    with authoring.models(params, folder) as models:
        examples, drops = authoring.candidates(params, corpus, models.author, folder)
        vetted = vetting.vet(examples, corpus, params.filters, "report", models.reader)
    return vetted.examples, drops + vetted.drops


def machines(drops: list[Drop]) -> dict[str, list[int]]:
    """Filter → machines of the questions that it dropped."""
    found: dict[str, list[int]] = {}
    for drop in drops:
        found.setdefault(drop.reason, []).append(int(re.search(r"Machine (\d+)", drop.detail).group(1)))
    return {name: sorted(numbers) for name, numbers in found.items()}


def test_each_filter_drops_what_the_model_says_and_nothing_else(project):
    folder, _, asked = project
    before, _ = run(settings(filters=[]), folder)
    asked.clear()
    after, drops = run(settings(), folder)
    answerable = {int(q.doc_id[1:]) for q in before if q.answerable}
    open_ones = {int(q.doc_id[1:]) for q in before if not q.answerable}
    expected = {
        "unanswerable_judged": sorted(n for n in open_ones if n % 3 == 0),
        "guessable": sorted(n for n in answerable if n % 10 == 0),
        "critic": sorted(n for n in answerable if n % 7 == 0 and n % 10),
    }
    assert machines(drops) == {name: numbers for name, numbers in expected.items() if numbers}
    assert len(after) == len(before) - sum(map(len, expected.values()))
    calls = [name for name, _ in asked]
    assert calls.count("unanswerable_judged") == len(open_ones)
    assert calls.count("guessable") == len(answerable)
    assert calls.count("critic") == len(answerable) - len(expected["guessable"])
    assert calls.count("author") == 0  # the ledger has what the first run paid for
    assert {body["temperature"] for _, body in asked} == {0.0}


def test_the_stage_pays_for_a_check_once_and_gives_the_same_bytes(project):
    folder, endpoint, _ = project
    params = settings()
    generate_qa.main(params, folder)
    first = [(folder / path).read_bytes() for path in generate_qa.WRITES]
    paid_for = endpoint.answered.total()
    generate_qa.main(params, folder)
    assert endpoint.answered.total() == paid_for
    assert [(folder / path).read_bytes() for path in generate_qa.WRITES] == first
    assert {"guessable", "critic"} <= {drop.reason for drop in io.read_table(Drop, folder / QUESTION_DROPS)}


def test_a_model_of_its_own_checks_what_another_has_written(project):
    folder, _, asked = project
    run(settings(filters=["critic"], filter_model=CHECKER), folder)
    assert {body["model"] for name, body in asked if name == "critic"} == {"model-b"}
    assert {body["model"] for name, body in asked if name == "author"} == {"model-a"}


@pytest.mark.parametrize("pilot", [False, True])
def test_estimate_of_the_filters_is_what_they_cost(project, pilot):
    folder, _, _ = project
    if pilot:
        run(settings(llm={"passages": 15}), folder)
    params = settings()
    found = authoring.look_ahead(params, world(folder, params), folder)
    before = paid(folder)
    _, drops = run(params, folder)
    calls, prompt, answer = (after - earlier for after, earlier in zip(paid(folder), before, strict=True))
    assert found["questions"].calls + found["filters"].calls == pytest.approx(calls, rel=0.15)
    if pilot:
        usd = (prompt * 1.0 + answer * 4.0) / 1e6
        assert found["questions"].usd + found["filters"].usd == pytest.approx(usd, rel=0.15)
    again = authoring.look_ahead(params, world(folder, params), folder)
    not_reached = len(machines(drops)["guessable"])  # nobody asks the critic about what a filter before it dropped
    assert (again["questions"].calls, again["filters"].calls) == (0, not_reached)


def world(folder, params) -> vetting.Corpus:
    documents, passages = io.read_table(Document, folder / DOCUMENTS), io.read_table(Passage, folder / PASSAGES)
    return vetting.Corpus(documents, passages, params.language)


def paid(folder) -> tuple[int, int, int]:
    """Calls, prompt tokens and answer tokens in the ledger."""
    with closing(sqlite3.connect(folder / LEDGER)) as ledger:
        return ledger.execute("SELECT count(*), total(prompt_tokens), total(answer_tokens) FROM calls").fetchone()


def test_estimate_prints_both_parts(project, capsys):
    _, endpoint, _ = project
    settings(filter_model=CHECKER)
    ragline(["estimate"])
    said = capsys.readouterr().out
    assert "model       model-a" in said and "questions   40 to ask for" in said
    assert "model       model-b" in said and "filters     " in said
    assert endpoint.asked.total() == 0


def test_garbage_and_refusals_end_as_drops_with_their_reason(project):
    folder, endpoint, _ = project
    before, _ = run(settings(filters=[]), folder)
    endpoint.faults = at_random({"429": 0.1, "500": 0.05, "garbage": 0.15, "refusal": 0.05})
    after, drops = run(settings(filters=["critic"], llm={"attempts": 1, "max_failed": 0.5}), folder)
    unchecked = [drop for drop in drops if "nothing was checked" in drop.detail]
    assert 0 < len(unchecked) < len(before)
    assert {drop.reason for drop in unchecked} == {"critic: not checked"}
    assert len(after) + len(drops) == 40


def test_an_endpoint_that_is_gone_stops_the_stage_and_keeps_what_stood(project):
    folder, endpoint, _ = project
    generate_qa.main(settings(filters=[]), folder)
    stood = [(folder / path).read_bytes() for path in generate_qa.WRITES]
    endpoint.faults = lambda name, times: "500"
    gone = r"got no answer, 0 did \(last: HTTP 500 after 2 retries; the critic\); what was paid"
    with pytest.raises(ServiceError, match=gone):
        generate_qa.main(settings(filters=["critic"]), folder)
    assert [(folder / path).read_bytes() for path in generate_qa.WRITES] == stood


def test_the_budget_is_one_for_author_and_filters(project):
    folder, _, _ = project
    run(settings(filters=[]), folder)
    _, prompt, answer = paid(folder)
    (folder / LEDGER).unlink()
    budget = (prompt * 1.0 + answer * 4.0) / 1e6 * 1.2 + 0.002
    checking = r"generate_qa\.llm\.budget_usd: .* (closed-book answers|the critic|the judge)"
    with pytest.raises(ServiceError, match=checking):
        run(settings(llm={"budget_usd": budget}), folder)
    _, prompt, answer = paid(folder)
    assert (prompt * 1.0 + answer * 4.0) / 1e6 <= budget


def test_a_budget_that_ran_out_in_the_filters_is_gone_on_from(project):
    folder, endpoint, _ = project
    run(settings(filters=[]), folder)
    whole, drops = run(settings(), folder)
    calls, prompt, answer = paid(folder)
    (folder / LEDGER).unlink()
    endpoint.answered.clear()
    part = settings(llm={"budget_usd": (prompt * 1.0 + answer * 4.0) / 1e6 * 0.9})
    with pytest.raises(ServiceError):
        run(part, folder)
    assert 0 < paid(folder)[0] < calls
    assert run(settings(), folder) == (whole, drops)
    assert set(endpoint.answered.values()) == {1} and endpoint.answered.total() == calls


def test_the_budget_holds_where_the_endpoint_does_not_count(project):
    folder, endpoint, _ = project
    endpoint.faults = lambda name, times: "uncounted"
    with pytest.raises(ServiceError, match="budget_usd"):
        run(settings(llm={"budget_usd": 0.01}), folder)
    _, prompt, answer = paid(folder)
    assert 0 < (prompt * 1.0 + answer * 4.0) / 1e6 <= 0.01


@pytest.mark.parametrize("fault", ["400", "garbage"])
@pytest.mark.parametrize("name", PAID)
def test_a_model_that_is_of_no_use_stops_the_run(project, name, fault):
    folder, endpoint, _ = project
    run(settings(filters=[]), folder)
    endpoint.faults = lambda *_: fault
    useless = (
        r"endpoint: (\d+) items of \1 ended without a usable result \(last: (refused by the endpoint|malformed answer)"
    )
    with pytest.raises(ServiceError, match=useless):
        run(settings(filters=[name], llm={"max_failed": 0.9}), folder)


def lone(question: str, **more) -> QAExample:
    return QAExample("q", question, (), "m0002", 0, 0, (), "human", "train", "m0002", answerable=False, **more)


def vetted(example: QAExample, folder, **changed):
    params = settings(filters=["unanswerable_judged"], llm={"max_failed": 0.9}, **changed)
    with authoring.models(params, folder) as models:
        return vetting.vet([example], world(folder, params), params.filters, "report", models.reader)


def test_the_judge_sees_the_conversation_and_what_it_leads_to(project):
    folder, endpoint, asked = project
    endpoint.answer = lambda body: asked.append(("", body)) or '{"answered_by": []}'
    turns = ("Do you know Machine 2?", "Yes.")
    vetted(lone("Which colour does it have?", chat_history=turns), folder)
    said = asked[-1][1]["messages"][-1]["content"]
    assert "User: Do you know Machine 2?\nAssistant: Yes.\nQuestion: Which colour does it have?" in said
    assert "The machine with number 2 presses 17 rings an hour." in said


def test_nobody_is_asked_about_a_question_that_finds_nothing(project):
    folder, endpoint, _ = project
    assert vetted(lone("Wherefore zzyzx?"), folder).examples
    assert endpoint.asked.total() == 0


def test_a_judge_that_names_a_passage_it_was_not_shown_has_not_judged(project):
    folder, endpoint, _ = project
    endpoint.answer = lambda body: '{"answered_by": [99]}'
    with pytest.raises(ServiceError, match=r"malformed answer: stop: \{.answered_by.: \[99\]\}"):
        vetted(lone("Which colour does Machine 2 have?"), folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"filters": ["guesable"]}, r"generate_qa\.filters: no filter guesable; expected some of schema"),
        ({"filters": ["schema"], "filter_model": CHECKER}, r"filter_model: no filter asks it; switch on some of"),
        (
            {"filters": ["critic"], "method": "rules"},
            r"critic ask a language model: expected `filter_model: \{model: \.\.\., \.\.\.\}`",
        ),
    ],
)
def test_wrong_settings_are_named_before_anything_is_paid(project, changed, message):
    with pytest.raises(ConfigError, match=message):
        settings(**changed)
