"""What answers cite and rest on, by hand."""

from dataclasses import replace

import pytest

from ragline.errors import DataError
from ragline.evaluation import citations
from ragline.evaluation.citations import Place
from ragline.types import Span
from tests.fixtures.small import passage, question


def part(doc_id, start, end):
    return replace(passage(f"{doc_id}#{start:04d}"), doc_id=doc_id, start=start, end=end)


GOLD = {"q": (Place("d", Span(10, 20)),)}


@pytest.mark.parametrize(
    ("cited", "share"),
    [
        ([], 0.0),
        ([part("d", 0, 30)], 1.0),
        ([part("d", 0, 15)], 0.5),
        ([part("d", 20, 30)], 0.0),  # next to it
        ([part("other", 0, 30)], 0.0),
        ([part("d", 0, 14), part("d", 12, 17)], 0.7),  # 10 to 17; 12 to 14 once
        ([part("d", 18, 25), part("d", 0, 12)], 0.4),  # both ends
        ([part("d", 10, 20), part("d", 11, 12)], 1.0),  # one within the other
    ],
)
def test_recall_is_the_share_of_the_span_that_is_cited(cited, share):
    assert citations.recall({"q": cited}, GOLD) == {"q": pytest.approx(share)}


def test_one_of_several_places_is_enough():
    gold = {"q": (Place("d", Span(10, 20)), Place("e", Span(0, 4)))}
    assert citations.recall({"q": [part("e", 0, 3), part("d", 0, 15)]}, gold) == {"q": 0.75}


def test_question_without_citations_has_no_recall():
    assert citations.recall({}, GOLD) == {"q": 0.0}


def test_gold_places_are_the_span_and_gold_passages_of_other_documents():
    asked = replace(question("q", "d#0000"), gold_passage_ids=("d#0000", "e#0003"))  # its span: 0 to 5 of d
    by_id = {"d#0000": part("d", 0, 30), "e#0003": part("e", 40, 60)}
    assert citations.gold_places(asked, by_id) == (Place("d", Span(0, 5)), Place("e", Span(40, 60)))


def test_recall_refuses_what_it_cannot_judge():
    with pytest.raises(DataError, match=r"1 questions \(first \['odd'\]\) have no gold place"):
        citations.recall({"odd": []}, GOLD)
    for places in ((), (Place("d", Span(3, 3)),)):
        with pytest.raises(DataError, match=r"first \['q'\]\) have an empty gold place"):
            citations.recall({}, {"q": places})


@pytest.mark.parametrize(
    ("answer", "cited", "share"),
    [
        ("Rows are sorted.", ["The rows are sorted by value."], 1.0),
        ("Rows are deleted.", ["The rows are sorted by value."], 2 / 3),
        ("cat cat", ["cat"], 0.5),  # said twice, found once
        ("cat dog", ["cat", "dog"], 1.0),  # the passages together
        ("cat", [], 0.0),
    ],
)
def test_groundedness_by_hand(answer, cited, share):
    assert citations.groundedness({"q": answer}, {"q": cited}) == {"q": pytest.approx(share)}


def test_an_answer_without_words_claims_nothing():
    assert citations.groundedness({"a": "", "b": "The ...", "c": "cat"}, {}) == {"c": 0.0}
