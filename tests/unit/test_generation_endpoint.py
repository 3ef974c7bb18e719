"""An endpoint as generator, against a real server that answers well and badly."""

import asyncio
import time
from dataclasses import replace

import pytest

from ragline import cli, qa
from ragline.artifacts import LEDGER
from ragline.errors import DataError, ModelError, ServiceError
from ragline.generation import backends, endpoint, prompts
from ragline.generation.followups import Standalone, Turn
from ragline.generation.generator import Written
from ragline.generation.language_model import Limits
from ragline.llm.calls import Prices
from ragline.llm.ledger import Ledger
from ragline.types import Hit
from tests.fixtures.endpoint import STREAM_FAULTS, Endpoint, tokens
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
    with pytest.raises(ServiceError, match=r"items of 6 got no answer, 0 did \(last: APIConnectionError") as error:
        ask(server, monkeypatch, tmp_path)
    assert str(error.value).endswith(f"asked at {server.url}")


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


# --- streams -------------------------------------------------------------------------------------------------------

LONG = "Use merge for that [1]. It joins two frames by their keys."


def stream(server, monkeypatch, root, question=QUESTIONS[0], terms=TERMS):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    generator = endpoint.Endpoint(terms, LIMITS, root)
    *pieces, written = generator.stream(question, HITS)
    return pieces, written, generator


def test_a_stream_gives_what_the_whole_answer_gives(tmp_path, monkeypatch):
    with Endpoint(lambda request: LONG) as server:
        pieces, written, generator = stream(server, monkeypatch, tmp_path)
        assert written == Written("Use merge for that. It joins two frames by their keys.", (HITS[0],))
        assert "".join(pieces) == written.text and len(pieces) > 5
        assert generator.answer(QUESTIONS[:1], [HITS]) == [written]  # from the ledger: the same call
        assert stream(server, monkeypatch, tmp_path)[:2] == ([written.text], written)
    assert sum(server.answered.values()) == 1


def test_a_stream_costs_what_the_endpoint_counted(tmp_path, monkeypatch):
    with Endpoint(lambda request: LONG) as server:
        _, _, generator = stream(server, monkeypatch, tmp_path)
    told = prompts.prompt(QUESTIONS[0], [hit.passage.encoded_text for hit in HITS])
    # 1 dollar for a million tokens of the prompt, with 4 for the message around it, and 2 for the answer's
    assert generator.purse.spent_usd == pytest.approx((tokens(told) + 4 + 2 * tokens(LONG)) / 1e6)


def test_an_endpoint_that_does_not_count_a_stream_is_counted_for(tmp_path, monkeypatch):
    with Endpoint(lambda request: LONG, lambda name, times: "uncounted") as server:
        _, written, generator = stream(server, monkeypatch, tmp_path)
    assert written.text and generator.purse.spent_usd > 2 * len(LONG.split()) / 1e6


@pytest.mark.parametrize(
    "said", [prompts.ABSTENTION, f"[1] {prompts.ABSTENTION}", "<think>[1]? no</think>" + prompts.ABSTENTION]
)
def test_the_sentence_that_declines_is_never_shown(tmp_path, monkeypatch, said):
    with Endpoint(lambda request: said) as server:
        assert stream(server, monkeypatch, tmp_path)[:2] == ([], Written("", ()))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("half", "endpoint failed: the answer ended halfway"),
        ("stall", "endpoint failed: the answer stood still for 0.3 s"),
        ("nonsense", "endpoint failed: JSONDecodeError"),
        ("error", "endpoint failed: APIError"),
        ("other form", "endpoint failed: a piece in another form than OpenAI's"),
        ("flood", "endpoint failed: a piece that is no text, or no end of them"),
        ("cut", "endpoint failed: "),
        ("500", "endpoint failed: HTTP 500"),
        ("refusal", "refused by the model"),
    ],
)
def test_a_broken_stream_is_a_failure_and_no_answer(tmp_path, monkeypatch, fault, reason):
    with Endpoint(lambda request: LONG, lambda name, times: fault) as server:
        pieces, written, generator = stream(server, monkeypatch, tmp_path)
        assert (written.text, written.cited) == ("", ()) and written.failed.startswith(reason)
        assert "secret" not in written.failed
    if fault in STREAM_FAULTS:
        assert pieces and "Use merge for that. It".startswith("".join(pieces))
        assert generator.purse.spent_usd > 0  # what was written is paid for
        assert generator.purse.reserved_usd == 0
    ledger = Ledger(tmp_path / LEDGER)
    assert len(ledger) == (fault == "refusal")  # which is a whole answer


def test_a_broken_stream_can_be_asked_for_again(tmp_path, monkeypatch):
    with Endpoint(lambda request: LONG, lambda name, times: "half" if times == 0 else None) as server:
        assert stream(server, monkeypatch, tmp_path)[1].failed
        assert stream(server, monkeypatch, tmp_path)[1].text


def test_an_endpoint_that_does_not_stream_is_asked_for_the_whole(tmp_path, monkeypatch):
    with Endpoint(lambda request: LONG, lambda name, times: "no stream") as server:
        pieces, written, _ = stream(server, monkeypatch, tmp_path)
    assert pieces == [written.text] and written.text.startswith("Use merge for that.")


def test_who_stops_listening_stops_the_stream(tmp_path, monkeypatch):
    with Endpoint(lambda request: "word " * 5000) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        generator = endpoint.Endpoint(TERMS, LIMITS, tmp_path)
        listening = generator.stream(QUESTIONS[0], HITS)
        assert next(listening) == "word"
        listening.close()
        ended = time.monotonic() + 5
        while not generator.purse.spent_usd and time.monotonic() < ended:
            time.sleep(0.01)
        assert 0 < generator.purse.spent_usd < 2 * 5000 / 1e6
    assert not server.answered


@pytest.mark.parametrize(
    ("terms", "fault", "message"),
    [
        (
            replace(TERMS, budget_usd=1e-6),
            None,
            r"train_generator\.endpoint\.budget_usd: the next call could cost \$0\.0",
        ),
        (TERMS, "401", r"endpoint: 401: the key is not accepted; set OPENAI_API_KEY to a valid one for http://127"),
    ],
)
def test_a_stream_without_money_or_key_is_one_error(tmp_path, monkeypatch, terms, fault, message):
    with (
        Endpoint(lambda request: LONG, lambda name, times: fault) as server,
        pytest.raises(ServiceError, match=message),
    ):
        stream(server, monkeypatch, tmp_path, terms=terms)


def test_a_wrong_address_is_told_without_its_password(tmp_path, monkeypatch):
    with Endpoint(lambda request: "x", lambda name, times: "404") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url.replace("//", "//ann:pass@") + "?api-key=hidden")
        with pytest.raises(ServiceError, match=r"mend the model's name in params\.yaml, or OPENAI_BASE_URL") as error:
            endpoint.Endpoint(TERMS, LIMITS, tmp_path).answer(QUESTIONS[:1], [HITS])
    assert str(error.value).endswith(f"which is {server.url}")


# --- follow-ups ----------------------------------------------------------------------------------------------------

FIRST = Turn("How do I join two frames?", "How do I join two frames?", "Use merge.")


def rewrite(server, monkeypatch, root, questions, histories, terms=TERMS, limits=LIMITS):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    return backends.rewriter(endpoint.Endpoint(terms, limits, root), 100).standalone(questions, histories)


def test_a_model_makes_follow_ups_stand_alone_and_leaves_first_questions(tmp_path, monkeypatch):
    seen = []

    def say(request):
        seen.append(request["messages"][0]["content"])
        return '<think>it?</think>Standalone question: "How do I join two frames on an index?"'

    with Endpoint(say) as server:
        asked = ["How do I sort?", "And on an index?", "How do I plot?"]
        found = rewrite(server, monkeypatch, tmp_path, asked, [[], [FIRST], []])
        again = rewrite(server, monkeypatch, tmp_path, asked, [[], [FIRST], []])
    wanted = ["How do I sort?", "How do I join two frames on an index?", "How do I plot?"]
    assert found == again == [Standalone(text) for text in wanted]
    assert len(seen) == 1 and "User: How do I join two frames?\nAssistant: Use merge." in seen[0]


@pytest.mark.parametrize(
    ("said", "fault", "reason"),
    [
        ("", None, "the model's reply was no question"),
        ("Sure!\nHow do I join frames on an index?", None, "the model's reply was no question"),
        ("What is the weather?", None, "the model's reply was no question"),
        ("index " * 500, None, "the model's reply was no question"),
        (prompts.ABSTENTION, None, "the model's reply was no question"),
        ("x", "refusal", "the model's reply was no question"),
        ("x", "500", "no reply: HTTP 500 after 1 retries"),
    ],
)
def test_a_useless_rewrite_leaves_the_question_as_typed_and_says_so(tmp_path, monkeypatch, caplog, said, fault, reason):
    with Endpoint(lambda request: said, lambda name, times: fault) as server:
        found = rewrite(server, monkeypatch, tmp_path, ["And on an index?"], [[FIRST]])
    assert found == [Standalone("And on an index?", reason)]
    assert "1 of 1 are searched as they were typed" in caplog.text


def test_a_prompt_without_room_for_a_turn_asks_nobody(tmp_path, monkeypatch):
    with Endpoint(lambda request: "x") as server:
        found = rewrite(server, monkeypatch, tmp_path, ["And?"], [[FIRST]], limits=Limits(2, 60, 50))
    assert found == [Standalone("And?")] and not server.asked


def test_rewriting_and_answering_share_one_purse(tmp_path, monkeypatch):
    with Endpoint(lambda request: "How do I join on an index?") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        generator = endpoint.Endpoint(replace(TERMS, budget_usd=1e-6), LIMITS, tmp_path)
        with pytest.raises(ServiceError, match=r"train_generator\.endpoint\.budget_usd"):
            backends.rewriter(generator, 100).standalone(["And on an index?"], [[FIRST]])


def test_it_is_written_and_read(tmp_path):
    endpoint.save(TERMS, LIMITS, tmp_path / "made")
    assert backends.load(tmp_path / "made", tmp_path) == endpoint.Endpoint(TERMS, LIMITS, tmp_path)
    (tmp_path / "made" / endpoint.CONFIG).write_text('{"terms": {"prices": {}}}')
    with pytest.raises(ModelError, match="not an endpoint"):
        backends.load(tmp_path / "made", tmp_path)
