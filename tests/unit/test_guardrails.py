"""Guards: allow, change, block; and what a guard that fails lets through."""

import sys

import pytest

from ragline import guardrails
from ragline.errors import ConfigError
from ragline.guardrails import ALLOW, Claim, Guard, Passed, Verdict
from ragline.types import Hit
from tests.fixtures.small import passage

CITED = (Hit(passage("a#0", "Merge joins two frames."), 0.9), Hit(passage("b#0", "by their keys"), 0.5))


def shout(text):
    return Verdict("change", text=text.upper())


def no_moon(text):
    return Verdict("block", "nothing about the moon") if "moon" in text.lower() else ALLOW


def careless(text):
    raise RuntimeError(f"could not send {text!r} to http://user:secret@host")


def mumble(text):
    return "fine"


def ask(text, *checks, on_error="closed"):
    return guardrails.ask_all([Guard(check.__name__, check, on_error) for check in checks], text, lambda text: text)


def test_each_guard_sees_what_the_one_before_left_and_the_first_that_blocks_ends_it():
    assert ask("why?", shout, no_moon) == Passed("WHY?")
    assert ask("the moon", shout, no_moon, careless) == Passed("", "nothing about the moon")
    assert ask("why?") == Passed("why?")


def test_notes_go_beside():
    noted = lambda text: Verdict("allow", f"{len(text)} characters")  # noqa: E731
    assert ask("why?", noted, noted) == Passed("why?", notes=("4 characters", "4 characters"))


@pytest.mark.parametrize("check", [careless, mumble])
def test_a_guard_that_fails_is_open_or_closed_and_tells_nothing(check, caplog):
    assert ask("my password", check, on_error="open") == Passed("my password")
    closed = ask("my password", check)
    assert closed == Passed("", f"guard {check.__name__} could not check it")
    assert "secret" not in caplog.text and "my password" not in caplog.text
    assert caplog.text.count(f"guard {check.__name__} failed") == 2


def test_a_guard_that_said_it_never_holds_an_answer_back_may_not():
    late = Guard("late", no_moon, "open", holds=False)
    assert guardrails.ask_all([late], "the moon", lambda text: text) == Passed("the moon")


# merge, joins, by, their and keys stand in the passages, cats does not: 5 of 6; merge and joins in the first: 2 of 6
HALF = "Merge joins cats by their keys"


@pytest.mark.parametrize(
    ("text", "at_least", "cited", "share"),
    [
        ("Merge joins frames by their keys", 1.0, CITED, None),
        (HALF, 0.8, CITED, None),  # 5 of 6 words
        (HALF, 0.9, CITED, "83% of its words stand in the passages that it cites, less than 90%"),
        (HALF, 0.5, CITED[:1], "33% of its words stand in the passages that it cites, less than 50%"),
        (HALF, 0.5, (), "0% of its words stand in the passages that it cites, less than 50%"),
    ],
)
def test_groundedness(text, at_least, cited, share):
    claim = Claim("q?", text, cited)
    noted = guardrails.grounded(at_least, "note", "closed")
    blocking = guardrails.grounded(at_least, "block", "closed")
    assert (noted.holds, blocking.holds) == (False, True)
    assert noted.check(claim) == (Verdict("allow", share) if share else ALLOW)
    assert blocking.check(claim) == (Verdict("block", share) if share else ALLOW)


def test_a_function_of_one_s_own():
    guard = guardrails.hook("tests.unit.test_guardrails:no_moon", "open")
    assert guardrails.ask_all([guard], "the moon", lambda text: text).blocked == "nothing about the moon"


@pytest.mark.parametrize("code", ["def check(:", "raise RuntimeError('secret')"])
def test_a_module_that_cannot_be_imported_is_one_line(tmp_path, monkeypatch, code):
    (tmp_path / "broken_policy.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "broken_policy", raising=False)
    with pytest.raises(
        ConfigError, match=r"expected a module that can be imported, got (Syntax|Runtime)Error; mend it"
    ):
        guardrails.hook("broken_policy:check", "open")


@pytest.mark.parametrize("call", ["nowhere.to_be:found", "tests.unit.test_guardrails:gone", "not a name", "os:sep"])
def test_a_function_that_is_none(call):
    with pytest.raises(ConfigError, match=r"qa\.guards: expected a function"):
        guardrails.hook(call, "open")
