"""Prompts: what is cut and what never is; answers: what is a citation and what is code."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ragline.errors import DataError
from ragline.generation import prompts
from ragline.generation.prompts import Said

words = st.text("ab ", max_size=40)


def by_word(text):
    """Every word is a token."""
    spans, start = [], 0
    for word in text.split():
        start = text.index(word, start)
        spans.append((start, start + len(word)))
        start += len(word)
    return spans


def fitted(question, passages, limit):
    return prompts.fitted(question, passages, limit, lambda content: content, by_word)


FIXED = len(prompts.prompt("why?", ["", ""]).split())  # the instruction, both numbers and the question


def test_passages_are_numbered_and_the_question_comes_last():
    assert prompts.prompt("why?", ["one", "two"]).endswith("Passages:\n[1] one\n\n[2] two\n\nQuestion: why?\nAnswer:")


def test_nothing_is_cut_where_there_is_room():
    assert fitted("why?", ["a b c", "d"], FIXED + 4) == prompts.prompt("why?", ["a b c", "d"])


def test_the_long_passage_is_cut_and_the_short_one_is_not():
    # Room for 4 words of 5: the second needs 1, the first gets the other 3.
    assert fitted("why?", ["a b c e", "d"], FIXED + 4) == prompts.prompt("why?", ["a b c", "d"])


def test_without_room_for_a_word_of_each_the_last_passage_is_left_out():
    # Without its number, which takes a token, there is room for two words of the first one.
    assert fitted("why?", ["a b c", "d"], FIXED + 1) == prompts.prompt("why?", ["a b"])
    assert fitted("why?", ["a"], FIXED - 2) == prompts.prompt("why?", [])
    assert fitted("why?", [], FIXED) == prompts.prompt("why?", [])


def test_a_question_without_room_is_refused():
    with pytest.raises(DataError, match=r"question 'why\?': expected it and the instruction in 9 tokens, got \d+; "):
        fitted("why?", ["a"], 9)


@given(words, st.lists(words, max_size=5), st.integers(0, 60))
def test_a_prompt_fits_and_holds_the_whole_question(question, passages, room):
    limit = len(prompts.prompt(question, []).split()) + room
    found = fitted(question, passages, limit)
    assert len(found.split()) <= limit
    assert found.endswith(f"Question: {question}\nAnswer:")


@given(words, st.lists(words, min_size=1, max_size=4), st.integers(0, 30))
def test_seams_that_cost_tokens_are_paid_for(question, passages, room):
    """A tokenizer may cut what a template puts around a text into more pieces than the parts alone."""
    limit = 2 * len(prompts.prompt(question, []).split()) + room

    def offsets(text):  # every word with a bracket before it somewhere is two tokens
        return [span for span in by_word(text) for _ in range(1 + ("[" in text))]

    found = prompts.fitted(question, passages, limit, lambda content: content, offsets)
    assert len(offsets(found)) <= limit


@given(st.lists(st.integers(0, 50), max_size=8), st.integers(0, 200))
def test_shares_are_max_min_fair(lengths, room):
    given_out = prompts.shares(lengths, room)
    assert all(0 <= got <= wanted for got, wanted in zip(given_out, lengths, strict=True))
    assert sum(given_out) == min(room, sum(lengths))
    cut = [got for got, wanted in zip(given_out, lengths, strict=True) if got < wanted]
    assert not cut or min(cut) + 1 >= max(given_out)  # who loses has as much as anyone, up to the odd token


texts = st.text(st.sampled_from("ab1290[],.: \\\n\x1c`'\")("), max_size=40) | st.text()


@given(texts)
@example("Use .loc for labels.")
@example("' , '")
@example("Pass a list such as [1].")
@example("Use frame[1].")
@example(r"A regex: \[1], \\[2] and [1]\[2] [99]")
@example("[1,\n2][3]")
def test_whatever_an_answer_holds_survives(answer):
    assert prompts.parse(prompts.target(answer, [0]), 1) == Said(answer.strip(), (0,))
    assert prompts.parse(prompts.target(answer, []), 99) == Said(answer.strip(), ())


@given(texts, st.integers(0, 3))
def test_all_that_a_citation_takes_along_is_the_blank_before_it(text, shown):
    said = prompts.parse(text, shown)
    assert all(0 <= place < shown for place in said.cited)
    if not said.cited and "\\" not in text:
        assert said.text == text.strip()


def test_a_long_blank_takes_no_long_time():
    assert prompts.parse("a" + " \\" * 100_000 + " " * 100_000 + "[1]", 1).cited == (0,)


def shown_while_written(pieces, shown):
    """What of an answer has been shown after each piece."""
    return [prompts.settled("".join(pieces[: n + 1]), shown) for n in range(len(pieces))]


REFUSED = "The documents do not seem"


@given(
    st.lists(st.sampled_from(["a", "word", "[1]", "[", "2", "]", ", ", ".", " ", "\n", "\\", '"', ")"]) | texts),
    st.integers(0, 3),
)
@example(list("Yes[1]. It is [2]."), 2)
@example(list("Yes[1]. It is."), 2)
@example(list("One.\n[1] Two."), 2)
@example(list(f"[1] {prompts.ABSTENTION}"), 2)
@example(list(f"{REFUSED} to care."), 2)
@example(list("<think>[1] </think> Yes [1]."), 1)
def test_what_is_shown_is_never_taken_back(pieces, shown):
    whole = prompts.parse("".join(pieces), shown).text
    seen = ["", *shown_while_written(pieces, shown), whole]
    assert all(later.startswith(earlier) for earlier, later in pairwise(seen))


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("Use merge", "Use merge"),
        ("Use merge [1], then", "Use merge, then"),
        ("Use merge [1", "Use merge"),  # may go on as a citation
        ("Use merge [1]", "Use merge"),  # or as `[1]x`
        ("Use df[1] and", "Use df[1] and"),
        ("Take rows[1]. And", "Take rows"),  # a citation, unless another follows
        ("Take rows[1]. And [2] so", "Take rows[1]. And so"),
        ("The documents do", ""),
        (f"{REFUSED} to", ""),
        (f"{REFUSED} helpful", f"{REFUSED} helpful"),
        (prompts.ABSTENTION, ""),
        ("<thi", ""),
        ("<think>hm", ""),
        ("<think>hm</think>\nYes", "Yes"),
    ],
)
def test_what_may_be_shown_so_far(text, seen):
    assert prompts.settled(text, 2) == seen


def test_target_and_parse_are_each_other_s_inverse():
    assert prompts.target("It joins frames.", [2, 0, 2]) == "It joins frames. [1][3]"
    assert prompts.parse("It joins frames. [1][3]", 3) == Said("It joins frames.", (0, 2))
    assert prompts.target("No idea", []) == "No idea"


@pytest.mark.parametrize(
    ("text", "shown", "said"),
    [
        ("Use merge [2], then sort [1].", 2, Said("Use merge, then sort.", (1, 0))),
        ("[1] Use merge.", 2, Said("Use merge.", (0,))),
        ("Twice [1] and again [1].", 1, Said("Twice and again.", (0,))),
        ("Use df[1] or [3].", 2, Said("Use df[1] or [3].", ())),  # code, and a passage that was not shown
        ("The default is [0, 1].", 2, Said("The default is [0, 1].", ())),
        ("<think>[1] or not?</think>Yes [2]", 2, Said("Yes", (1,))),
        ("<think>for ever and", 2, Said("", ())),
        ("Yes [1][9].", 2, Said("Yes.", (0,))),
        ("Yes [1], no [9].", 2, Said("Yes, no [9].", (0,))),
        ("Yes[1].", 2, Said("Yes.", (0,))),
        ("Yes [1, 2]", 2, Said("Yes", (0, 1))),
        ("Yes[1, 2], or[2]", 2, Said("Yes, or[2]", (0, 1))),  # `or` is as short as a name in code
        ("Take rows[1]. It is there [2].", 2, Said("Take rows[1]. It is there.", (1,))),
        ("Use .loc , or : [1]", 1, Said("Use .loc , or :", (0,))),
        (r"Pass \[1] or [2].", 2, Said("Pass [1] or.", (1,))),
        (r"Pass \[1].", 0, Said(r"Pass \[1].", ())),
        ("", 2, Said("", ())),
        ("  two\n lines ", 2, Said("two\n lines", ())),
        ("Do:\n- sort [1]\n- merge [2]\n", 2, Said("Do:\n- sort\n- merge", (0, 1))),
        ("So:\n\n    df[1]\n    df.T\n[1]\nDone.", 1, Said("So:\n\n    df[1]\n    df.T\nDone.", (0,))),
        ("One.\n[1] Two.", 1, Said("One.\nTwo.", (0,))),
        (prompts.ABSTENTION, 2, Said("", (), declined=True)),
        ("the documents do NOT seem to hold an answer to this [1]", 2, Said("", (), declined=True)),
    ],
)
def test_parse(text, shown, said):
    assert prompts.parse(text, shown) == said
