"""Filters by what is known of a passage."""

import re
from dataclasses import replace

import pytest

from ragline.errors import DataError
from ragline.retrieval.where import Where, allowed_neighbours, fields_of, parse
from tests.fixtures.small import passage

PASSAGES = [
    replace(passage("guide/a.pdf#0000"), title="Guide", heading="Install", page=1),
    replace(passage("guide/a.pdf#0001"), title="Guide", heading="Install > Linux", page=7),
    replace(passage("guide/b.pdf#0000"), title="Other guide", page=7),
    replace(passage("notes[1].md#0000"), title="Notes", heading="Install"),
]


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        (Where(), [0, 1, 2, 3]),
        (Where(doc_id="guide/*"), [0, 1, 2]),
        (Where(doc_id="guide/a.pdf"), [0, 1]),
        (Where(doc_id="GUIDE/*"), []),
        (Where(doc_id="notes[[]1].md"), [3]),  # a bracket that means itself
        (Where(title="*uide"), [0, 1, 2]),
        (Where(heading="Install*"), [0, 1, 3]),
        (Where(heading=""), [2]),
        (Where(pages=(7, 7)), [1, 2]),
        (Where(pages=(1, 9)), [0, 1, 2]),  # the notes have no pages
        (Where(doc_id="guide/?.pdf", heading="Install*", pages=(2, 9)), [1]),
    ],
)
def test_what_may_be_found(where, rows):
    assert fields_of(PASSAGES).mask(where).nonzero()[0].tolist() == rows


@pytest.mark.parametrize("pages", [(7, 1), (0, 3)])
def test_pages_the_wrong_way_round(pages):
    with pytest.raises(DataError, match=r"where\.pages: expected first and last page, from 1, got \(\d, \d\)"):
        Where(pages=pages)


def test_sources_are_known_by_document():
    fields = fields_of(PASSAGES, {"guide/a.pdf": "https://a.org/a.pdf", "notes[1].md": "notes, old"})
    assert fields.mask(Where(source="https://*")).nonzero()[0].tolist() == [0, 1]
    assert fields.mask(Where(source="notes, old")).nonzero()[0].tolist() == [3]
    with pytest.raises(DataError, match=r"where\.source: the sources of these documents are not known"):
        fields_of(PASSAGES).mask(Where(source="notes*"))


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        ([], None),
        (["title=Guide"], Where(title="Guide")),
        (["title=Guide,pages=3-7", "doc_id=a,b*"], Where(title="Guide", pages=(3, 7), doc_id="a,b*")),
        (["source=a, b,heading=x=y"], Where(source="a, b", heading="x=y")),
        (["heading="], Where(heading="")),
        (["pages=4"], Where(pages=(4, 4))),
    ],
)
def test_as_a_person_types_it(parts, wanted):
    assert parse(parts) == wanted


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("author=me", "where: expected doc_id, source, title, heading or pages, then = and a value, got 'author=me'"),
        ("title", "then = and a value, got 'title'"),
        ("title=a,title=b", "where: expected title once, got it again: 'title=b'"),
        ("pages=two", "where.pages: expected a page or two, such as 3 or 3-7, got 'two'"),
        ("pages=7-3", "where.pages: expected first and last page, from 1, got (7, 3)"),
        ("pages=0", "where.pages: expected first and last page, from 1, got (0, 0)"),
    ],
)
def test_what_a_person_mistypes(part, message):
    with pytest.raises(DataError, match=re.escape(message)):
        parse([part])


def test_what_is_read_together_holds_no_passage_that_is_left_out():
    children = [
        replace(passage(f"d#000{n}"), parent=parent, page=page)
        for n, (parent, page) in enumerate(
            [("d#0000", 1), ("d#0000", 1), ("d#0000", 2), ("d#0000", 1), ("", 1), ("", 1)]
        )
    ]
    assert allowed_neighbours(children, Where(), {}) == children
    kept = allowed_neighbours(children, Where(pages=(1, 1)), {})
    assert [(p.passage_id, p.parent) for p in kept] == [
        ("d#0000", "d#0000"), ("d#0001", "d#0000"), ("d#0003", "d#0003"), ("d#0004", ""), ("d#0005", ""),
    ]  # fmt: skip


def test_no_passages():
    assert fields_of([]).mask(Where(doc_id="a*")).tolist() == []
