"""What an answerer reads around a hit."""

import pytest

from ragline.reading import Reading, joined
from ragline.types import Passage

TEXT = "one two three four five six"


def piece(number: int, start: int, end: int, parent: int | None = None) -> Passage:
    home = "" if parent is None else f"d#{parent:04d}"
    return Passage(f"d#{number:04d}", "d", "T", "", TEXT[start:end], start, end, 2, "d", parent=home)


ALONE = [piece(0, 0, 8), piece(1, 8, 19), piece(2, 19, 27)]
PAIRED = [piece(0, 0, 13, 0), piece(1, 8, 19, 0), piece(2, 19, 27, 2)]


def test_a_passage_without_a_parent_is_read_as_it_is():
    hits = Reading(ALONE).hits({"d#0001": 0.9, "d#0000": 0.5}, k=5)
    assert [(hit.passage, hit.score) for hit in hits] == [(ALONE[1], 0.9), (ALONE[0], 0.5)]


def test_children_are_read_as_their_parent_once_and_under_the_best_ones_id():
    hits = Reading(PAIRED).hits({"d#0001": 0.9, "d#0000": 0.5, "d#0002": 0.4}, k=5)
    assert [(hit.passage.passage_id, hit.passage.text, hit.score) for hit in hits] == [
        ("d#0001", "one two three four ", 0.9),
        ("d#0002", "five six", 0.4),
    ]
    assert TEXT[hits[0].passage.start : hits[0].passage.end] == hits[0].passage.text


@pytest.mark.parametrize("k", [1, 2])
def test_as_many_hits_as_asked_for_where_there_are(k: int):
    assert len(Reading(PAIRED).hits({"d#0001": 0.9, "d#0000": 0.5, "d#0002": 0.4}, k)) == k


def test_neighbours_are_joined_with_overlaps_taken_once():
    assert joined(PAIRED[:2]).text == TEXT[:19]
    assert joined(PAIRED).text == TEXT
    assert joined(PAIRED).tokens == 6
