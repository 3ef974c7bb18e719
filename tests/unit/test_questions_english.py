import random

import pytest

from ragline.questions.asking import MAX_QUESTION_WORDS, ask, is_whole, keywords, shorten
from ragline.questions.english import (
    VERBS,
    base_form,
    content_words,
    gerund,
    imperative,
    invert,
    is_third_person,
    lower_first,
    third_person,
    to_first_person,
    with_article,
)
from ragline.questions.wording import another_verb, in_everyday_words
from ragline.types import Span


@pytest.mark.parametrize(
    ("verb", "third", "ing"),
    [
        ("add", "adds", "adding"),
        ("apply", "applies", "applying"),
        ("display", "displays", "displaying"),
        ("drop", "drops", "dropping"),
        ("fix", "fixes", "fixing"),
        ("index", "indexes", "indexing"),
        ("join", "joins", "joining"),
        ("merge", "merges", "merging"),
        ("set", "sets", "setting"),
        ("swap", "swaps", "swapping"),
        ("tie", "ties", "tying"),
    ],
)
def test_forms_of_a_verb(verb, third, ing):
    assert (third_person(verb), gerund(verb)) == (third, ing)


def test_base_form_undoes_the_gerund_of_every_verb():
    assert {base_form(gerund(verb)) for verb in VERBS} == VERBS
    assert base_form("Passing") == "pass"
    assert base_form("string") is None


def test_imperative():
    assert imperative("Convert a to b") == ("convert", "a to b")
    assert imperative("Applies a function") == ("apply", "a function")
    assert imperative("Lazily iterate over rows") == ("iterate", "over rows")
    assert imperative("Apply a function") == ("apply", "a function")


@pytest.mark.parametrize(
    "text",
    [
        "Number of rows",
        "Return",
        "Format string for dates",
        "Name(s) to set",
        "Index labels to drop",
        "Increment to use",
        "Fill value to use",
        "Flag telling which is which",
        "Flags that apply to all",
        "",
    ],
)
def test_nouns_are_no_imperatives(text):
    assert imperative(text) is None


def test_third_persons_are_those_of_known_verbs():
    assert is_third_person("Adds")
    assert not is_third_person("keys")


@pytest.mark.parametrize(
    ("statement", "question"),
    [
        ("Duplicates are not allowed.", "are duplicates allowed"),
        ("The index cannot be changed.", "can the index be changed"),
        ("Both columns must be sorted.", "do both columns have to be sorted"),
        ("A label must be unique.", "does a label have to be unique"),
        ("NaN is ignored", "is NaN ignored"),
        ("The arguments a and b must be small.", "do the arguments a and b have to be small"),
        ("A status must be set.", "does a status have to be set"),
    ],
)
def test_statements_are_inverted(statement, question):
    assert invert(statement) == question


@pytest.mark.parametrize(
    "statement",
    [
        "It is sorted.",
        "If a is b, c is d.",
        "What you pass is kept.",
        "No verb here.",
        "The default is {1: 2}.",
        "Do not do it.",
        "Please do not report it here.",
        "All other limits must be checked.",
        "The remaining rows are dropped.",
        "Setting it to 1 will stop it.",
        "Flag indicating whether codes are sorted.",
        "Options are 'a', 'b', 'c'.",
        "The result is that the rows are sorted.",
        "A missing time does not exist.",
        "Scalars will be kept, and lists will be cut.",
    ],
)
def test_what_is_not_simple_is_left_alone(statement):
    assert invert(statement) is None


def test_small_changes():
    assert to_first_person("you want your data, you're told") == "I want my data, I am told"
    assert lower_first("Return it") == "return it"
    assert lower_first("DataFrame rows") == "DataFrame rows"
    assert with_article("number of rows") == "the number of rows"
    assert with_article("a row") == "a row"
    assert with_article("rows") == "rows"
    assert with_article("axis of the plot") == "the axis of the plot"
    assert content_words("What is the meaning of DataFrame.sum?") == ["meaning", "data", "frame", "sum"]


def test_shorten_drops_asides_and_cuts_at_clauses():
    assert shorten("the values (see below) of a column.") == "the values of a column"
    # five words before the first comma, nine in all
    assert shorten("one two three four five, six seven eight nine", max_words=6) == "one two three four five"
    assert shorten("one two three four five six seven", max_words=6) == ""


@pytest.mark.parametrize(
    ("phrase", "short"),
    [
        ("the values are unique, else False", "the values are unique"),
        ("the file lines at a time, returns an iterator", "the file lines at a time"),
        ("the last valid label or None", "the last valid label"),
        ("the file if necessary", "the file"),
        ("the date back only if it is late", "the date back"),
        ("the columns, e.g. a and b", "the columns"),
        ("the cells: one, two", "the cells"),
        ("the input data, only relevant for lists", "the input data"),
        ("the rows of a table, sorted by key", "the rows of a table, sorted by key"),
    ],
)
def test_shorten_leaves_out_what_follows_the_statement(phrase, short):
    assert shorten(phrase.replace("file if", "file, if")) == short


@pytest.mark.parametrize(
    "phrase",
    [
        "the column to view the data as",  # cut before what follows
        "in the format 'attribute",  # an open quotation mark
        "a list of (key, value",
        "a map of key -> value",
        "the dict of {key}",
        "a given data type data type",
        "the value to insert into self",
        "the keys of this table",
        "values of that axis",
        "a shift by periods observations",
        "the form of the",
        "else the rows",
        "",
    ],
)
def test_a_broken_phrase_is_not_whole(phrase):
    assert not is_whole(phrase)


@pytest.mark.parametrize(
    "phrase", ["the user's rows", "how is 'left'", "the users' rows", "rows (and columns) of a table"]
)
def test_a_whole_phrase(phrase):
    assert is_whole(phrase)


def test_ask_takes_only_wordings_whose_parts_are_whole():
    wordings = ("Which {thing}?", "{keys}")
    found = [ask("howto", Span(0, 1), random.Random(seed), wordings, thing="rows of the", keys="") for seed in range(4)]
    assert found == [[]] * 4
    found = [
        ask("howto", Span(0, 1), random.Random(seed), wordings, thing="rows of the", keys="r") for seed in range(4)
    ]
    assert {row[0].question for row in found} == {"r"}


def test_a_name_that_is_one_letter_keeps_it():
    asked = ask("raises", Span(0, 1), random.Random(1), ("What if the size of {condition}?",), condition="a is 0")
    assert asked[0].question.lower().startswith("what if the size of a is 0")


def test_keywords_are_the_words_that_matter():
    assert keywords("How do I join the columns of two DataFrames?") == "join columns of two dataframes"
    assert keywords("with all of the requested rows in") == "rows"


@pytest.mark.parametrize(
    "phrase",
    [
        "number each group, 0 to 1",
        "the column whose name is the indicated name",
        "b-c d e f g h i j k",
        "rows / columns of it",
    ],
)
def test_key_words_that_nobody_would_type_are_none(phrase):
    assert keywords(phrase) == ""


def test_everyday_words():
    always = random.Random(0)
    assert in_everyday_words("the delimiter", always, share=1.0) == "the separator"
    assert in_everyday_words("the delimiter", always, share=0.0) == "the delimiter"
    assert in_everyday_words("read_delimiter(x)", always, share=1.0) == "read_delimiter(x)"
    assert in_everyday_words("boolean-dtype", always, share=1.0) == "boolean-dtype"
    assert in_everyday_words("gaps, whether old or new", always, share=1.0) == "gaps, whether old or new"
    assert in_everyday_words("pattern/regex", always, share=1.0) == "pattern/regex"
    assert in_everyday_words("a Series of names", always, share=1.0) == "a Series of names"
    assert another_verb("obtain", "a row", always) == "get a row"
    assert another_verb("find", "out more", always) == "find out more"
    said = {another_verb("convert", "text to numbers", random.Random(seed)) for seed in range(40)}
    assert "turn text into numbers" in said
    assert "convert text to numbers" in said
    said = {another_verb("convert", "names to be short", random.Random(seed)) for seed in range(40)}
    assert not any(predicate.startswith("turn") for predicate in said)


def test_ask_fills_a_wording_and_refuses_long_questions():
    def asked(**parts):
        return [c.question for c in ask("howto", Span(0, 1), random.Random(3), ("Is it {what} ?",), **parts)]

    assert asked(what="a array")[0].lower().rstrip("?") == "is it an array"
    assert asked(what="x " * (MAX_QUESTION_WORDS - 3))
    assert asked(what="x " * MAX_QUESTION_WORDS) == []


def test_a_name_keeps_its_capital_in_a_hurry():
    typed = {
        ask("condition", Span(0, 1), random.Random(seed), ("Table.join: what if?",))[0].question for seed in range(40)
    }
    assert typed == {"Table.join: what if?", "Table.join: what if"}


def test_some_questions_look_typed_in_a_hurry():
    questions = [
        ask("howto", Span(0, 1), random.Random(seed), ("How do I sort columns?", "sort several columns"))[0].question
        for seed in range(400)
    ]
    assert {"How do I sort columns?", "how do I sort columns", "sort several columns"} < set(questions)
    slips = {q for q in questions if sorted(q) == sorted("sort several columns") and q != "sort several columns"}
    assert 0 < sum(q in slips for q in questions) < 0.1 * len(questions)
