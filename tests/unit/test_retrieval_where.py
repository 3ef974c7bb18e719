"""Filters by what is known of a passage."""

from dataclasses import replace

import pytest

from ragline.errors import DataError
from ragline.retrieval.where import Where, fields_of
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


def test_no_passages():
    assert fields_of([]).mask(Where(doc_id="a*")).tolist() == []
