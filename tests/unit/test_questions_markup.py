from ragline.questions.markup import fields, is_item, parse_docstring, plain, prose, sections
from ragline.types import Span


def text_of(text, span):
    return text[span.start : span.end]


def test_plain_leaves_the_words():
    assert (
        plain("Use :meth:`~pandas.DataFrame.loc` or :class:`Series`\n  with ``x=1``.") == "Use loc or Series with x=1."
    )
    assert (
        plain("see `the guide <http://x>`__ and [this](http://y) *soon*, __now__") == "see the guide and this soon, now"
    )
    assert plain("a_b_c and 2*3*4 [![badge](u)](v) it’s") == "a_b_c and 2*3*4 it's"


DOCSTRING = """\
Summary of it.

Longer text.

Parameters
----------
how : {'a', 'b'},
    default 'a'
    What it does.

    More of it.
*args
    Rest.
key: str
left, right : int

Returns
-------
int
    The number.

See Also
--------
other : Another.
"""


def test_a_docstring_is_cut_at_its_sections():
    parsed = parse_docstring(DOCSTRING)
    assert text_of(DOCSTRING, parsed.opening).strip() == "Summary of it.\n\nLonger text."
    assert list(parsed.sections) == ["Parameters", "Returns", "See Also"]
    assert text_of(DOCSTRING, parsed.sections["Returns"]).strip() == "int\n    The number."


def test_fields_with_wrapped_types_stars_and_no_text():
    parsed = parse_docstring(DOCSTRING)
    found = fields(DOCSTRING, parsed.sections["Parameters"])
    assert [(f.name, f.type) for f in found] == [
        ("how", "{'a', 'b'}, default 'a'"),
        ("args", ""),
        ("key", "str"),
        ("left, right", "int"),
    ]
    assert text_of(DOCSTRING, found[0].head) == "how : {'a', 'b'},\n    default 'a'"
    assert text_of(DOCSTRING, found[0].body).strip() == "What it does.\n\n    More of it."
    assert found[3].body.length == 0


def test_a_text_without_sections_is_all_opening():
    assert parse_docstring("Just text.").opening == Span(0, 10)
    assert parse_docstring("Just text.").sections == {}
    assert fields("", Span(0, 0)) == []


def test_prose_is_what_is_neither_code_nor_table_nor_directive():
    text = """\
First one. Second one.

.. versionadded:: 2.0
   Not this.

.. warning::

    But this warning.

>>> code()
out

Like this::

    indented code

```python
more code
```

| a | b |

- item text

![image](x.png) Last.
"""
    found = prose(text, Span(0, len(text)))
    words = [text_of(text, span) for span in found]
    assert words == ["First one.", "Second one.", "But this warning.", "Like this", "item text", "Last."]
    assert [is_item(text, span) for span in found] == [False, False, False, False, True, False]


def test_prose_keeps_to_its_span():
    text = "Not here. Here. Not here."
    assert [text_of(text, s) for s in prose(text, Span(10, 15))] == ["Here."]


def test_sections_of_markdown_and_of_text():
    text = "Intro.\n# One ##\nBody one.\n\nHow is it done?\nBody two.\n```\n# no heading\n```\n"
    found = [(s.heading, text_of(text, s.body).strip()) for s in sections(text)]
    assert found == [
        ("", "Intro."),
        ("One", "Body one."),
        ("How is it done?", "Body two.\n```\n# no heading\n```"),
    ]
    assert [s.heading for s in sections("")] == [""]
