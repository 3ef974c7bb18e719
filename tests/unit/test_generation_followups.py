"""Follow-ups by rule: which questions point back, and what they get of the one before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragline.generation import followups
from ragline.generation.followups import ByRule, Standalone, Turn

CSV = "How do I read a csv file?"


def turn(asked, answered="an answer", standalone=None):
    return Turn(asked, standalone or asked, answered)


@pytest.mark.parametrize(
    ("question", "alone"),
    [
        ("And with a different separator?", "read csv file: And with a different separator?"),
        ("Why?", "read csv file: Why?"),
        ("What about Excel?", "Excel, Excel: read csv file"),
        ("and what about the FILE?", "the FILE, the FILE: read csv"),
        ("How do I write it back?", "read csv file: How do I write it back?"),
        ("Line by line?", "read csv file: Line by line?"),
        ("How do I do that?", "read csv file: How do I do that?"),
        ("And with another FILE?", "read csv: And with another FILE?"),
    ],
)
def test_a_follow_up_gets_the_words_that_it_lacks(question, alone):
    assert ByRule().standalone([question], [[turn(CSV)]]) == [Standalone(alone)]


@pytest.mark.parametrize(
    "question",
    [
        "How do I merge two tables?",
        "Is it possible to merge two tables?",
        "How do I read a file that has no header?",
        "Does it make sense to sort the index first?",
        "Also, how do I merge two tables on the columns that both have?",
        "merge tables on index",
        "What are these warnings about chained assignment with copy on write mode in the newest version?",
    ],
)
def test_a_question_that_stands_alone_stays_as_it_is(question):
    assert ByRule().standalone([question], [[turn(CSV)]]) == [Standalone(question)]


@pytest.mark.parametrize(
    "question",
    ["Und mit einem anderen Trennzeichen?", "How do I sort a DataFrame? I need it.", "The newest release?"],
)
def test_what_the_rule_cannot_know(question):
    """Another language, a pronoun that needs nothing of before, and something new in a few words without a verb."""
    taken = {"Und mit einem anderen Trennzeichen?": False}.get(question, True)
    assert followups.points_back(question) == taken


def test_a_first_question_and_a_follow_up_in_one_batch():
    asked = ["And with tabs?", "And with tabs?", "How do I plot?"]
    assert ByRule().standalone(asked, [[], [turn(CSV)], []]) == [
        Standalone("And with tabs?"),
        Standalone("read csv file: And with tabs?"),
        Standalone("How do I plot?"),
    ]


def test_what_was_searched_before_is_leaned_on_not_what_was_typed():
    before = turn("And with tabs?", standalone="read csv file: And with tabs?")
    (found,) = ByRule().standalone(["And without a header?"], [[turn(CSV), before]])
    assert found.text == "read csv file tabs: And without a header?"


def test_a_long_conversation_carries_no_more_than_a_few_words():
    alone = CSV
    for number in range(30):
        alone = followups.with_words_of(alone, f"And column{number}?")
        assert len(followups.content(alone)) <= followups.CARRIED + 1
    assert alone.startswith("column17 ") and alone.endswith("column28: And column29?")  # the newest twelve


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_words_typed_are_always_kept(before, question):
    assert followups.with_words_of(before, question).endswith(question)


def characters(text):
    return [(place, place + 1) for place in range(len(text))]


def test_the_newest_turns_are_kept_within_the_budget():
    turns = [turn("one?", "first"), turn("two?", "second")]
    # `User: two?` and `Assistant: `, with the line end between them: 10 + 1 + 11 characters, and the answer's 6
    assert followups.recent(turns, 28, characters) == turns[1:]
    assert followups.recent(turns, 26, characters) == [turn("two?", "seco")]
    assert followups.recent(turns, 21, characters) == []
    assert followups.recent(turns, 28 + 27, characters) == turns
    assert followups.recent(turns, -5, characters) == []


@given(st.lists(st.builds(Turn, st.text(max_size=9), st.text(max_size=9), st.text(max_size=30))), st.integers(-5, 200))
def test_kept_turns_fit_and_are_the_last_ones(turns, room):
    kept = followups.recent(turns, room, characters)
    whole = followups.prompt("q?", kept)
    assert len(whole) - len(followups.prompt("q?", [])) - len(kept) <= max(room, 0)
    assert [one.asked for one in kept] == [one.asked for one in turns][len(turns) - len(kept) :]


@pytest.mark.parametrize(
    ("reply", "question"),
    [
        ("How do I read a csv file with tabs?", "How do I read a csv file with tabs?"),
        ('Question: "How do I read tabs?"\n', "How do I read tabs?"),
        ("<think>tabs…\nhm</think>\nHow do I read tabs?", "How do I read tabs?"),
        ("", None),
        ("<think>tabs", None),
        ("How do I read a csv file?\nAnd more.", None),
        ("How do I read a csv file?", None),  # without the tabs that were asked about
        ("tabs " * 300, None),
    ],
)
def test_what_is_of_use_in_a_reply(reply, question):
    assert followups.rewritten(reply, "And with tabs?", [turn(CSV)]) == question


def test_a_question_without_words_of_its_own_has_to_keep_some_of_the_turns():
    assert followups.rewritten("Why does the csv file end?", "Why?", [turn(CSV)]) == "Why does the csv file end?"
    assert followups.rewritten("Why is the sky blue?", "Why?", [turn(CSV)]) is None
