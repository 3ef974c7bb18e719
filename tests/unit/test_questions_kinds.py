"""Each rule on a document made for it; the wording is fixed by dice that always show the first face."""

import random

import pytest

from ragline.questions.entries import ask_entries
from ragline.questions.markup import parse_docstring
from ragline.questions.prose_rules import ask_prose
from ragline.questions.statements import from_sentence
from ragline.questions.subjects import Subject, subjects
from ragline.questions.summaries import ask_summary
from ragline.types import Document, Span


class First(random.Random):
    """Chooses the first wording; no synonym, no dropped question mark, no slip of the finger."""

    def choice(self, options):
        return options[0]

    def random(self):
        return 0.99


def document(text: str, name: str = "tool.Table.join", format: str = "numpydoc") -> Document:
    return Document(name, name, name, text, format, (), name, "train")


def asked(rule, doc: Document, *more) -> list[tuple[str, str, str]]:
    subject = subjects([doc])[doc.doc_id]
    found = rule(doc, *more, subject, lambda span: First())
    return [(c.kind, c.question, doc.text[c.span.start : c.span.end]) for c in found]


def said(sentence: str, setting: str = "", subject: Subject | None = None) -> list[tuple[str, str]]:
    subject = subject or Subject(("Table.join",), False, "Table", None, True, "")
    return [(c.kind, c.question) for c in from_sentence(sentence, Span(0, 9), subject, setting, First())]


# --- summaries -------------------------------------------------------------------------------------


def test_an_imperative_summary_asks_how_to():
    doc = document("Join columns of two tables.\n\nMore.")
    assert asked(ask_summary, doc) == [
        ("howto", "How do I join columns of two tables on a Table?", "Join columns of two tables."),
        ("keywords", "join columns two tables table", "Join columns of two tables."),
    ]


def test_the_third_person_is_an_imperative_too():
    doc = document("Converts a csv file into a table of numbers.", "tool.read")
    assert asked(ask_summary, doc)[0][:2] == ("howto", "How do I convert a csv file into a table of numbers?")


def test_a_returned_thing_is_asked_for_with_its_owner():
    doc = document("Return the largest value.", "tool.Table.max")
    assert asked(ask_summary, doc) == [
        ("howto", "How do I get the largest value of a Table?", "Return the largest value."),
        ("keywords", "largest value table", "Return the largest value."),
    ]


def test_a_whether_is_checked():
    doc = document("Return whether the labels are sorted upwards.")
    assert asked(ask_summary, doc)[0][:2] == (
        "howto",
        "How do I check whether the labels are sorted upwards for a Table?",
    )


@pytest.mark.parametrize(
    "summary", ["Return a copy.", "Dict {group name -> labels}.", "Series.a is an alias for Series.b."]
)
def test_what_fits_many_documents_or_reads_badly_is_asked_by_name(summary):
    assert asked(ask_summary, document(summary)) == [("purpose", "What does tool.Table.join do?", summary)]


def test_a_class_is_asked_for_and_by_what_it_is():
    doc = document("Immutable sequence used for alignment of labels.", "tool.Index")
    assert asked(ask_summary, doc) == [
        ("definition", "What is tool.Index?", doc.text),
        ("reverse", "Which class is the immutable sequence used for alignment of labels?", doc.text),
    ]


def test_an_error_is_asked_for_and_by_its_cause():
    doc = document("Exception raised when merging tables without common columns.", "tool.errors.MergeError")
    assert asked(ask_summary, doc) == [
        ("error", "What does MergeError mean?", doc.text),
        ("reverse", "Which error do I get when merging tables without common columns?", doc.text),
    ]


def test_a_class_for_something_answers_the_need():
    doc = document("Helper for column specific aggregation with control over names.", "tool.NamedAgg")
    assert [row[:2] for row in asked(ask_summary, doc)] == [
        ("purpose", "What does tool.NamedAgg do?"),
        ("howto", "What can I use for column specific aggregation with control over names?"),
    ]


def test_internal_things_are_not_asked_about():
    assert asked(ask_summary, document("Internal helper for joining tables by labels.")) == []


# --- entries ---------------------------------------------------------------------------------------

ENTRIES = """\
Join columns of two tables.

Parameters
----------
how : {'left', 'right'}, default 'left'
    Type of join to be performed.

    * left: use only keys from the left table.
sort : bool, default False
    If True, sort the rows of the result by key.
copy : bool, default True
    Whether the values of both tables should be copied.
suffix : str
    Text added to column names that occur twice.
old : int
    Deprecated and without any effect on the result.
**kwargs
    Passed to the engine that does the work.

Returns
-------
Table
    A table of the two joined tables.

Raises
------
ValueError
    If a column occurs in both tables.
"""


def test_entries():
    doc = document(ENTRIES)
    found = asked(ask_entries, doc, parse_docstring(ENTRIES))
    how, sort = "how : {'left', 'right'}, default 'left'", "sort : bool, default False"
    assert found == [
        ("parameter", "What does the how argument of tool.Table.join do?", "Type of join to be performed."),
        (
            "setting",
            "How do I specify the type of join to be performed in tool.Table.join?",
            how + "\n    Type of join to be performed.",
        ),
        ("default", "What is the default of how in tool.Table.join?", how),
        ("value", "What does how='left' mean in tool.Table.join?", "left: use only keys from the left table."),
        (
            "setting",
            "How do I make tool.Table.join use only keys from the left table?",
            "left: use only keys from the left table.",
        ),
        (
            "parameter",
            "What does the sort argument of tool.Table.join do?",
            "If True, sort the rows of the result by key.",
        ),
        (
            "setting",
            "How do I make tool.Table.join sort the rows of the result by key?",
            sort + "\n    If True, sort the rows of the result by key.",
        ),
        ("default", "What is the default of sort in tool.Table.join?", sort),
        (
            "parameter",
            "What does the copy argument of tool.Table.join do?",
            "Whether the values of both tables should be copied.",
        ),
        (
            "setting",
            "How do I control whether the values of both tables should be copied in tool.Table.join?",
            "copy : bool, default True\n    Whether the values of both tables should be copied.",
        ),
        ("default", "What is the default of copy in tool.Table.join?", "copy : bool, default True"),
        (
            "parameter",
            "What does the suffix argument of tool.Table.join do?",
            "Text added to column names that occur twice.",
        ),
        (
            "setting",
            "How do I specify the text added to column names that occur twice in tool.Table.join?",
            "suffix : str\n    Text added to column names that occur twice.",
        ),
        ("returns", "What does tool.Table.join return?", "Table\n    A table of the two joined tables."),
        ("raises", "When does tool.Table.join raise ValueError?", "ValueError\n    If a column occurs in both tables."),
        (
            "raises",
            "What happens if a column occurs in both tables in tool.Table.join?",
            "ValueError\n    If a column occurs in both tables.",
        ),
    ]


# --- sentences -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentence", "kind", "question"),
    [
        ("To keep all the rows, use an outer join.", "advice", "How do I keep all the rows in Table.join?"),
        ("If you want to keep your rows, pass keep.", "advice", "How do I keep my rows in Table.join?"),
        ("Use an outer join to keep unmatched rows.", "advice", "How do I keep unmatched rows in Table.join?"),
        ("A level can be used to select certain rows.", "advice", "How do I select certain rows in Table.join?"),
        ("For keeping unmatched rows, use outer.", "advice", "How do I keep unmatched rows in Table.join?"),
        (
            "If both tables are empty, the result is too.",
            "condition",
            "What happens if both tables are empty in Table.join?",
        ),
        ("The result is empty if no key matches.", "condition", "What happens if no key matches in Table.join?"),
        ("Unlike concat, this method aligns keys.", "difference", "How does Table.join differ from concat?"),
        ("Equivalent to ``left & right``.", "difference", "What is Table.join equivalent to?"),
        ("Passing two keys raises an error.", "condition", "What happens if I pass two keys in Table.join?"),
        ("This method does not support fuzzy keys.", "behaviour", "Does Table.join support fuzzy keys?"),
        ("A lag plot is a scatter plot of a series.", "definition", "What is a lag plot?"),
        ("Duplicate keys are not allowed.", "yes_no", "Are duplicate keys allowed in Table.join?"),
        ("The columns must be sorted upwards.", "yes_no", "Do the columns have to be sorted upwards in Table.join?"),
        ("You can pass several of your keys.", "yes_no", "Can I pass several of my keys in Table.join?"),
    ],
)
def test_sentences_turned_round(sentence, kind, question):
    assert said(sentence.replace("``", "")) == [(kind, question)]


def test_in_a_description_the_parameter_is_named():
    assert said("If None, all keys are used.", "on") == [("condition", "What happens if on is None in Table.join?")]
    assert said("This argument can be a list of labels.", "key") == [
        ("yes_no", "Can key be a list of labels in Table.join?")
    ]


@pytest.mark.parametrize(
    "sentence",
    [
        "See the user guide for all the details.",
        "If it is empty, these are used as the keys.",
        "The following keys are allowed:",
        "They are sorted by the key.",
        "Is it sorted by the key?",
        "word " * 200 + "is sorted by the key.",
        "",
    ],
)
def test_sentences_that_need_another_one_give_nothing(sentence):
    assert said(sentence) == []


def test_an_activity_may_stand_for_the_name():
    class Second(First):
        def random(self):
            return 0.39

    subject = Subject(("read_csv",), False, "", None, True, "reading a csv file")
    found = list(from_sentence("Duplicate keys are not allowed.", Span(0, 9), subject, "", Second()))
    assert found[0].question == "Are repeated keys allowed when reading a csv file?"


# --- Markdown and text -----------------------------------------------------------------------------

GUIDE = """\
# Returns

A shop takes goods back for 30 days.

## How long does a refund take?

Banks need up to five working days.

## Installing the app

Open the store and search for our name.

## Paying by invoice only

```
code is not prose
```

Invoices are due after ten days.

- Net terms: the days until an invoice has to be paid.
"""


def test_headings_terms_and_sentences_of_a_guide():
    doc = document(GUIDE, "Returns", "markdown")
    assert asked(ask_prose, doc) == [
        ("heading", "How long does a refund take?", "Banks need up to five working days."),
        ("heading", "How do I install the app?", "Open the store and search for our name."),
        ("heading", "How do I pay by invoice only?", "Invoices are due after ten days."),
        ("yes_no", "Are invoices due after ten days?", "Invoices are due after ten days."),
        ("definition", "What does Net terms mean?", "Net terms: the days until an invoice has to be paid."),
    ]


def test_a_heading_that_says_little_brings_its_title():
    doc = document("# Showroom\n\n## How does it work?\n\nBrands are picked by hand.\n", "Showroom", "markdown")
    assert asked(ask_prose, doc)[0][1] == "How does it work (Showroom)?"


def test_in_plain_text_a_line_that_asks_is_a_heading():
    doc = document("Hello there.\nHow do I pay my order?\nBy card or by invoice.\n", "Paying", "text")
    assert ("heading", "How do I pay my order?", "By card or by invoice.") in asked(ask_prose, doc)
