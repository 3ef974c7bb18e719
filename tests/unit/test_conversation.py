"""Conversations: what is remembered, what guards do to a turn, what a terminal shows."""

from dataclasses import dataclass, field, replace

import pytest

from ragline import cli, conversation, qa, terminal
from ragline.conversation import Assistant, Conversation, Reply
from ragline.errors import ConfigError, ServiceError
from ragline.generation.followups import ByRule, Standalone, Turn
from ragline.generation.generator import Written
from ragline.guardrails import ALLOW, Guard, Verdict, grounded
from ragline.types import Hit
from tests.fixtures.pump import TEXTS, pump_system

STOPS, CLEANS = TEXTS[1].strip(), TEXTS[2]
STOP = "When does the pump stop by itself?"


@pytest.fixture(scope="module")
def system() -> qa.System:
    return pump_system()


@dataclass(frozen=True)
class Writer:
    """A generator that writes the first sentence it is shown, in words, and remembers what it was asked."""

    asked: list[str] = field(default_factory=list)
    breaks_at: str = ""
    reads: int = 5

    def answer(self, questions, retrieved):
        return [written for q, hits in zip(questions, retrieved, strict=True) for *_, written in [self.stream(q, hits)]]

    def stream(self, question, hits):
        self.asked.append(question)
        text = hits[0].passage.text.strip()
        for place, word in enumerate(text.split()):
            if self.breaks_at and self.breaks_at in question and place == 2:
                yield Written("", (), "the answer ended halfway")
                return
            yield f" {word}" if place else word
        yield Written(text, tuple(hits[:1]))


def writing(system, writer):
    return replace(system, generator=writer, settings=replace(system.settings, answerer="generator"))


def no_moon(text):
    return Verdict("block", "nothing about the moon") if "moon" in text else ALLOW


def unnamed(text):
    return Verdict("change", "a name was taken out", text.replace("Ann", "N"))


def careless(subject):
    raise RuntimeError("secret")


def heard(stream):
    *pieces, reply = stream
    assert isinstance(reply, Reply) and "".join(pieces) == reply.answer.text
    return pieces, reply


# --- what is remembered --------------------------------------------------------------------------------------------


def test_a_turn_is_remembered_once_in_the_user_s_own_words(system):
    writer = Writer()
    talk = Conversation(Assistant(writing(system, writer), ByRule()))
    _, first = heard(talk.stream(STOP))
    assert talk.turns == [first.turn] == [Turn(STOP, STOP, first.answer.text)]
    _, second = heard(talk.stream("And why?"))
    assert len(talk.turns) == 2 and talk.turns[1] is second.turn
    assert second.turn.asked == "And why?"
    assert second.turn.standalone == writer.asked[1] == "pump stop itself: And why?"


def test_a_batch_of_first_questions_and_follow_ups(system):
    assistant = Assistant(system, ByRule())
    history = (Turn("How do I clean the filter?", "How do I clean the filter?", CLEANS),)
    questions, histories = [STOP, "How often?", STOP], [(), history, history]
    together = assistant.ask(questions, histories)
    assert [reply.turn.standalone for reply in together] == [STOP, "clean filter: How often?", STOP]
    assert [reply.answer.text for reply in together] == [STOPS, CLEANS, STOPS]
    alone = [assistant.ask([q], [h])[0] for q, h in zip(questions, histories, strict=True)]
    assert [reply.turn for reply in together] == [reply.turn for reply in alone]
    assert history == (Turn("How do I clean the filter?", "How do I clean the filter?", CLEANS),)


def test_a_stream_is_what_asking_gives(system):
    assistant = Assistant(system, ByRule())
    history = (Turn(STOP, STOP, STOPS),)
    assert heard(assistant.stream("And why?", history))[1] == assistant.ask(["And why?"], [history])[0]


def test_an_answer_that_fails_or_is_not_waited_for_leaves_no_turn(system):
    talk = Conversation(Assistant(writing(system, Writer(breaks_at="clean")), ByRule()))
    with pytest.raises(ServiceError, match="ended halfway"):
        list(talk.stream("How do I clean the filter?"))
    stream = talk.stream(STOP)
    next(stream)
    stream.close()
    assert talk.turns == []


# --- guards --------------------------------------------------------------------------------------------------------


def test_a_blocked_question_is_neither_searched_nor_remembered(system):
    writer = Writer()
    assistant = Assistant(writing(system, writer), ByRule(), (Guard("moon", no_moon, "closed"),))
    talk = Conversation(assistant)
    pieces, reply = heard(talk.stream("How far is the moon?"))
    assert pieces == ["This question was not let through: nothing about the moon."]
    assert (reply.blocked, reply.turn, reply.answer.retrieved) == ("nothing about the moon", None, ())
    assert writer.asked == talk.turns == []
    mixed = assistant.ask(["the moon?", STOP, "a moon?"], [(), (), ()])
    assert [bool(reply.blocked) for reply in mixed] == [True, False, True]
    assert writer.asked == [STOP]
    assert [bool(reply.blocked) for reply in assistant.ask(["the moon?"], [()])] == [True]


def test_what_a_guard_takes_out_of_a_question_goes_nowhere(system):
    writer = Writer()
    talk = Conversation(Assistant(writing(system, writer), ByRule(), (Guard("names", unnamed, "closed"),)))
    _, reply = heard(talk.stream("When does Ann see the pump stop?"))
    assert writer.asked == ["When does N see the pump stop?"] == [talk.turns[0].asked]
    assert reply.notes == ("a name was taken out",)


def test_an_answer_that_may_be_blocked_is_not_shown_before(system):
    assistant = Assistant(
        writing(system, Writer()), ByRule(), on_answers=(Guard("moon", lambda c: no_moon(c.text), "open"),)
    )
    pieces, _ = heard(assistant.stream(STOP, ()))
    assert len(pieces) == 1
    strict = replace(assistant, on_answers=(Guard("all", lambda claim: Verdict("block", "not today"), "open"),))
    pieces, reply = heard(strict.stream(STOP, ()))
    assert pieces == ["The answer was held back: not today."]
    assert reply.answer.citations == () and reply.turn.answered == "" and reply.answer.retrieved


def test_a_note_about_an_answer_lets_it_stream(system):
    cited = Hit(replace(system.retriever.passages[0], text="nothing of it", title=""), 0.5)

    class Loose(Writer):
        def stream(self, question, hits):
            *pieces, written = super().stream(question, hits)
            yield from [*pieces, replace(written, cited=(cited,))]

    assistant = Assistant(writing(system, Loose()), ByRule(), on_answers=(grounded(0.5, "note", "closed"),))
    pieces, reply = heard(assistant.stream(STOP, ()))
    assert len(pieces) > 3
    assert reply.notes[0].endswith("of its words stand in the passages that it cites, less than 50%")
    assert not reply.blocked and reply.turn.answered == reply.answer.text


@pytest.mark.parametrize(("on_error", "blocked"), [("open", False), ("closed", True)])
def test_a_guard_that_fails(system, on_error, blocked, caplog):
    asked = Assistant(system, ByRule(), (Guard("in", careless, on_error),))
    said = Assistant(system, ByRule(), on_answers=(Guard("out", careless, on_error),))
    for assistant in (asked, said):
        _, reply = heard(assistant.stream(STOP, ()))
        assert bool(reply.blocked) == blocked
        assert "secret" not in reply.answer.text + caplog.text


def test_a_refusal_needs_no_guard(system):
    quiet = replace(system, settings=replace(system.settings, abstain_below=0.99))
    strict = Assistant(quiet, ByRule(), on_answers=(grounded(1.0, "block", "closed"), Guard("out", careless, "closed")))
    _, reply = heard(strict.stream(STOP, ()))
    assert (reply.answer.text, reply.blocked) == (qa.ABSTENTION, "")


# --- settings ------------------------------------------------------------------------------------------------------

SECTION = """\
qa:
  history_tokens: 100
  guards:
    - {kind: hook, looks_at: question, call: "tests.unit.test_conversation:no_moon", on_error: closed}
    - {kind: grounded, at_least: 0.5, then: block, on_error: open}
    - {kind: hook, looks_at: answer, call: "tests.unit.test_conversation:careless", on_error: open}
"""


def test_guards_are_those_of_the_project(system, tmp_path, monkeypatch):
    monkeypatch.setattr(qa, "load", lambda root, project: system)
    (tmp_path / "params.yaml").write_text(SECTION)
    assistant = conversation.load(tmp_path / "served", tmp_path)
    assert [(guard.name, guard.on_error) for guard in assistant.on_questions] == [
        ("tests.unit.test_conversation:no_moon", "closed")
    ]
    assert [(guard.name.split(":")[-1], guard.holds) for guard in assistant.on_answers] == [
        ("grounded", True),
        ("careless", True),
    ]
    assert assistant.ask(["the moon?"], [()])[0].blocked == "nothing about the moon"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("promotion: {}", "section 'qa' is missing or empty; expected keys history_tokens, guards"),
        ("qa: {history_tokens: -1, guards: []}", "qa.history_tokens: Input should be greater than or equal to 0"),
        ("qa: {history_tokens: 1, guards: [{kind: magic}]}", "qa.guards.0: Input tag 'magic'"),
        ("qa: {history_tokens: 1, guards: [{kind: grounded, at_least: 2, then: note, on_error: open}]}", "at_least"),
    ],
)
def test_wrong_settings_are_named(system, tmp_path, monkeypatch, section, message):
    monkeypatch.setattr(qa, "load", lambda root, project: system)
    (tmp_path / "params.yaml").write_text(section)
    with pytest.raises(ConfigError, match=message):
        conversation.load(tmp_path)


# --- the terminal --------------------------------------------------------------------------------------------------


def screen(system, lines, **changes):
    said = []
    talk = Conversation(replace(Assistant(system, ByRule()), **changes))
    terminal.chat(talk, iter(lines), said.append, k=2)
    return "".join(said), talk


def test_a_conversation_on_the_screen(system):
    said, talk = screen(system, [f"{STOP}\n", "", "And why?", "/sources", "/help", "/reset", "/sources", "/what"])
    assert said.startswith(f"{STOPS}\n[1] Pump  (manuals/pump.md)\n\n")
    assert "*[1] " in said and "* the answer rests on this passage\n(no" not in said
    assert said.count("Ctrl-D ends the conversation.") == 2
    assert said.index("(the conversation is forgotten)") < said.index("(no answer yet)")
    assert talk.turns == []


def test_what_a_follow_up_was_searched_for_is_said_below_its_answer(system):
    said, talk = screen(system, [STOP, "And why?"])
    first, second = (turn.standalone for turn in talk.turns)
    assert first == STOP and second != "And why?"
    assert said.count("(searched for: ") == 1
    assert f"\n(searched for: {second})\n" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "ragline: MissingArtifact: models/answering.json: not found; run `dvc repro evaluate`\n"),
        (["--where", "author=me"], "ragline: DataError: where: expected doc_id, source, title, heading or pages, "),
    ],
)
def test_what_keeps_a_conversation_from_starting_is_one_line(tmp_path, capsys, words, message):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--root", str(tmp_path), "chat", *words])
    said = capsys.readouterr()
    assert (stopped.value.code, said.out) == (3, "")
    assert said.err.startswith(message) and said.err.count("\n") == 1


def test_what_fails_is_said_and_the_conversation_goes_on(system):
    failing = writing(system, Writer(breaks_at="clean"))
    said, talk = screen(failing, ["x" * 3000, "How do I clean the filter?", STOP])
    assert "(no answer: question: expected at most 2000 characters, got 3000; " in said
    assert "(no answer: generator: no answer: the answer ended halfway; ask again)" in said
    assert [turn.asked for turn in talk.turns] == [STOP]


def test_an_answer_can_be_stopped(system):
    class Stopped(Writer):
        def stream(self, question, hits):
            yield "It"
            raise KeyboardInterrupt

    said, talk = screen(writing(system, Stopped()), [STOP])
    assert said == "It\n(stopped)\n\n" and talk.turns == []


def test_a_follow_up_that_is_searched_as_typed_says_so(system):
    class Lost:
        def standalone(self, questions, histories):
            return [Standalone(question, "no reply: HTTP 500") for question in questions]

    assert "\n(searched as it was typed: no reply: HTTP 500)\n" in screen(system, [STOP], rewriter=Lost())[0]


@pytest.mark.parametrize(
    ("weight", "rerank", "label"),
    [
        (0.5, None, "score of both searches together (0 to 1 within this list)"),
        (None, None, "score of both searches' ranks"),
        (0.5, lambda questions, hits: hits, "reranker's score (0 to 1; less than 0: not read by it)"),
    ],
)
def test_scores_say_what_they_are(system, weight, rerank, label):
    changed = replace(
        system,
        retriever=replace(system.retriever, rerank=rerank),
        settings=replace(system.settings, hybrid_weight=weight),
    )
    assert terminal.scored_by(changed) == label


def test_lists_and_code_keep_their_lines():
    code = "    df = a.merge(b, on='a long name')\n```\nx  =  1 # and a long line\n```\n"
    text = f"Do this:\n- sort the very long frame\n- merge\n\n{code}Done, {'word ' * 5}"
    assert terminal.wrapped(text, 20) == [
        "Do this:",
        "- sort the very long",
        "frame",
        "- merge",
        "",
        "    df = a.merge(b, on='a long name')",
        "```",
        "x  =  1 # and a long line",
        "```",
        "Done, word word word",
        "word word",
    ]
