import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragline.text import sentences, word_tokens


def pieces(text: str) -> list[str]:
    return [text[span.start : span.end] for span in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        (
            "Use e.g. Paris, i.e. France. Dr. Who vs. Mr. X agrees.",
            ["Use e.g. Paris, i.e. France.", "Dr. Who vs. Mr. X agrees."],
        ),
        (
            "Needs Python 3.11. See pandas.merge. It is fine.",
            ["Needs Python 3.11.", "See pandas.merge.", "It is fine."],
        ),
        ("J. R. Tolkien wrote. I did. So", ["J. R. Tolkien wrote.", "I did.", "So"]),
        ('He said "stop." Then (see Fig. 3.) He left.', ['He said "stop."', "Then (see Fig. 3.)", "He left."]),
        ("version 2. lower goes on", ["version 2. lower goes on"]),
        ("Ends in É. École next. Öl.", ["Ends in É. École next.", "Öl."]),
    ],
)
def test_sentences_end_at_stops_but_not_at_abbreviations(text, expected):
    assert pieces(text) == expected


def test_wrapped_lines_stay_together_and_blank_lines_part():
    text = "A line that is wrapped somewhere in the middle\nof a sentence. And more\nhere.\n \nNew paragraph"
    assert pieces(text) == [
        "A line that is wrapped somewhere in the middle\nof a sentence.",
        "And more\nhere.",
        "New paragraph",
    ]


def test_list_items_headings_and_rules():
    text = "# Title\nIntro without stop\n1. First. Then.\n2. Second\n- item that\n  goes on\n* last\n----\n"
    assert pieces(text) == [
        "# Title",
        "Intro without stop",
        "1. First.",
        "Then.",
        "2. Second",
        "- item that\n  goes on",
        "* last",
    ]


def test_a_field_gives_way_to_its_text_and_to_the_next_field():
    text = "how : {'left', 'up'}, default 'left'\n    Type of merge\n    to do.\non : label\n    Key\nsort : bool\n"
    assert pieces(text) == [
        "how : {'left', 'up'}, default 'left'",
        "Type of merge\n    to do.",
        "on : label",
        "Key",
        "sort : bool",
    ]


def test_a_short_line_without_a_stop_is_a_paragraph_of_its_own():
    assert pieces("Net 60 terms\nOnly the owner can apply.") == ["Net 60 terms", "Only the owner can apply."]
    assert pieces("either the left or\nDataFrame on the right.") == ["either the left or\nDataFrame on the right."]


def test_doctest_lines_do_not_join_the_prose():
    assert pieces("Shown here:\n>>> df.sum()\n3\nMore.") == ["Shown here:", ">>> df.sum()", "3", "More."]


@given(st.text(alphabet="aB1 .!?\n-*#:>e.g", max_size=120))
def test_every_letter_stands_in_exactly_one_sentence_and_none_has_outer_space(text):
    spans = sentences(text)
    assert all(a.end <= b.start for a, b in itertools.pairwise(spans))
    assert all(text[span.start : span.end].strip() == text[span.start : span.end] != "" for span in spans)
    covered = {i for span in spans for i in range(span.start, span.end)}
    assert all(i in covered for i, character in enumerate(text) if character.isalnum())


def test_words_are_split_at_underscores_dots_and_humps():
    assert word_tokens("DataFrameGroupBy.value_counts") == ["data", "frame", "group", "by", "value", "counts"]
    assert word_tokens("HTTPServer is_int64, Don't") == ["http", "server", "is", "int64", "don", "t"]
    assert word_tokens("Straße – École!") == ["straße", "école"]
    assert word_tokens("__ --") == []
