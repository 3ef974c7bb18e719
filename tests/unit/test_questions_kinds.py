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
    doc = document("Join columns of two files.\n\nMore.")
    assert asked(ask_summary, doc) == [
        ("howto", "How do I join columns of two files on a Table?", "Join columns of two files."),
        ("keywords", "join columns of two files table", "Join columns of two files."),
    ]


def questions(summary: str, name: str = "tool.Table.join") -> list[str]:
    return [question for _, question, _ in asked(ask_summary, document(summary, name))]


@pytest.mark.parametrize(
    ("summary", "question"),
    [
        ("Join columns of two tables.", "How do I join columns of two tables?"),  # the owner is named
        ("Return a shallow copy of this table.", "How do I get a shallow copy of a Table?"),
        ("Return the largest value of the object.", "How do I get the largest value of a Table?"),
        ("Convert to a list of dicts.", "How do I convert a Table to a list of dicts?"),
        ("Write object to a csv file.", "How do I write a Table to a csv file?"),
        ("Create a Stamp object from a number of seconds.", "How do I create a Stamp object from a number of seconds?"),
        ("Get the display settings of this whole object.", "How do I get the display settings of a Table?"),
        ("Append to several files.", "How do I append to several files in a Table?"),
        ("Aggregate using one or more operations.", "How do I aggregate a Table using one or more operations?"),
        ("Attempt to make this type from a text.", "How do I make a Table from a text?"),
        ("Return value at the given share.", "How do I get the value at the given share of a Table?"),
        ("Number each row of its group.", "How do I number each row of its group on a Table?"),
        ("Cut rows between two labels, return a new one.", "How do I cut rows between two labels on a Table?"),
        ("Provide resampling within each group.", "What provides resampling within each group for a Table?"),
        ("Return True if the keys are unique, else False.", "How do I check whether the keys are unique for a Table?"),
        ("Return whether this table has doubled keys.", "How do I check whether a Table has doubled keys?"),
        ("Remove missing rows.", "How do I remove missing rows in a Table?"),
        ("Compute the sum of rows.", "How do I compute the sum of rows for a Table?"),
        ("Compute sum of rows.", "how to compute sum of rows for a Table"),  # no article: as typed in a search box
    ],
)
def test_a_summary_asks_with_its_subject_named(summary, question):
    assert questions(summary)[0].lower() == question.lower()


@pytest.mark.parametrize(
    "summary",
    [
        "Return item and drops from table.",
        "Return an instance of our own type of table.",
        "How to behave when writing to a sheet that is there.",
        "Similar to equals, but checks types.",
        "Alias for the number of rows BQ->Q etc.",
        "The month as January=1, December=12.",
        "Columns of 'string[c]' in all tables.",
        "Create rows with target's values.",
        "The column whose name is the indicated name.",
    ],
)
def test_what_is_no_thing_to_get_is_asked_by_name(summary):
    assert questions(summary) == ["What does tool.Table.join do?"]


def test_a_title_or_a_namespace_is_asked_by_name():
    assert questions("Public testing functions.", "tool.testing") == ["What does tool.testing do?"]
    docs = [document("Functions for drawing of all kinds.", "tool.plot"), document("Draw it.", "tool.plot.bar")]
    subject = subjects(docs)["tool.plot"]
    assert [c.question for c in ask_summary(docs[0], subject, lambda span: First())] == ["What does tool.plot do?"]


def test_a_summary_that_reads_badly_gives_nothing():
    assert questions("Shift each group by periods observations.") == []


def test_what_bears_the_last_word_of_the_owner_may_be_another_thing():
    assert questions("Return the week of the month.", "tool.WeekOfMonth.week") == [
        "How do I get the week of the month of a WeekOfMonth?",
        "week of month weekofmonth",
    ]


def test_a_base_class_is_asked_for_as_one():
    assert questions("Base class for all kinds of calendar offsets.", "tool.Offset") == [
        "What is tool.Offset?",
        "Which class is the base class for all kinds of calendar offsets?",
    ]


def test_a_statement_is_no_class_to_look_for():
    assert questions("An invalid version was found, users should refer to the manual.", "tool.Invalid") == [
        "What is tool.Invalid?"
    ]
    assert questions("Helps style a report with colours and fonts.", "tool.Styler")[0] == (
        "how to help style a report with colours and fonts"
    )


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
        ("The label is a short text.", "definition", "What is the label in Table.join?"),
        ("The number w is an eigenvalue of it.", "definition", "What is the number w in Table.join?"),
        ("A lag plot is a scatter plot of a series.", "definition", "What is a lag plot?"),
        ("Duplicate keys are not allowed.", "yes_no", "Are duplicate keys allowed in Table.join?"),
        ("The columns must be sorted upwards.", "yes_no", "Do the columns have to be sorted upwards in Table.join?"),
        ("You can pass several of your keys.", "yes_no", "Can I pass several of my keys in Table.join?"),
    ],
)
def test_sentences_turned_round(sentence, kind, question):
    assert said(sentence.replace("``", "")) == [(kind, question)]


def test_a_need_is_no_result():
    kinds = [kind for kind, _ in said("An axis is only needed if a list of keys is given.")]
    assert kinds == ["yes_no"]


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
        "If left or right given as sequence, axis along which to cut.",  # no verb
        "Return a mask telling if the values are not missing.",  # an 'if' that is a 'whether'
        "If both keys are given and one is new the rest is dropped, otherwise they are kept.",
        "When the keys are also sorted, it is faster.",
        "Equivalent to other divided by table.",
        "If a key is given, and the table has it, whether to keep it.",
        "Specify an order of dates if the keys are text.",
        "Specify the name being shown, internally used to show a message.",
        "To use an executor you can provide the decorator.",
        "To ensure clean keys either set it to 1, or name the type.",
        "Use either label and axis to specify the axis.",
        "Since 0 is a bit weird, we suggest avoiding its use.",
        "Assume mask is a function that cuts rows.",
        "This method returns the number of rows.",
        "word " * 200 + "is sorted by the key.",
        "",
    ],
)
def test_sentences_that_need_another_one_give_nothing(sentence):
    assert said(sentence) == []


@pytest.mark.parametrize(
    "sentence",
    [
        "The values must either be True or False.",  # of another thing, named before
        "Unlike concat, keys are aligned.",
        "Equivalent to left & right.",
        "If 'first' puts them at the start, 'last' puts them at the end.",
    ],
)
def test_in_a_description_what_is_not_said_of_the_parameter_gives_nothing(sentence):
    assert said(sentence, "options") == []


def test_an_activity_may_stand_for_the_name():
    class Second(First):
        def random(self):
            return 0.34

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


@pytest.mark.parametrize(
    "heading",
    ["What it measures", "What to know", "Splits and leaks are counted", "Encoding goes through a library", "Notes"],
)
def test_headings_that_neither_ask_nor_name_a_task_give_nothing(heading):
    text = f"# Shop\n\n## {heading}\n\nBanks need up to five working days.\n"
    assert [row for row in asked(ask_prose, document(text, "Shop", "markdown")) if row[0] in ("heading", "topic")] == []


def test_a_heading_of_nouns_is_a_topic():
    for heading in ("Splits and leaks", "Training of the clerks"):
        text = f"# Shop\n\n## {heading}\n\nBanks need up to five working days.\n"
        assert [row[0] for row in asked(ask_prose, document(text, "Shop", "markdown"))] == ["topic"]


@pytest.mark.parametrize(
    "term", ["Each gives one line", "Eight is used", "What it costs", "Tried first", "With towers"]
)
def test_what_is_no_term_is_not_defined(term):
    doc = document(f"# Shop\n\n{term}: the cost of the whole month in advance.\n", "Shop", "markdown")
    assert not any(kind == "definition" for kind, *_ in asked(ask_prose, doc))


def test_in_plain_text_a_line_that_asks_is_a_heading():
    doc = document("Hello there.\nHow do I pay my order?\nBy card or by invoice.\n", "Paying", "text")
    assert ("heading", "How do I pay my order?", "By card or by invoice.") in asked(ask_prose, doc)
