"""BM25 equals its formula; identifiers are split into words."""

import math

import pytest

from ragline.errors import MissingArtifact
from ragline.retrieval import lexical
from tests.fixtures.small import passage

PASSAGES = [
    passage("a#0000", "merge two frames", doc_id="a"),
    passage("b#0000", "merge merge keys", doc_id="b"),
    passage("c#0000", "plot something", doc_id="c"),
]


def test_identifiers_become_words():
    assert lexical.words("pandas.DataFrame.read_csv(x1)") == "pandas Data Frame read csv x1"


def test_scores_equal_the_formula():
    # Every text starts with its title. Lengths in tokens: "a merge two frames" loses "a" to the stop words.
    # Document frequency of "merg" is 2 of 3: Lucene's idf = ln(1 + (3 - 2 + 0.5) / (2 + 0.5)).
    idf = math.log(1 + 1.5 / 2.5)
    lengths = {0: 3, 1: 4, 2: 3}  # "merg two frame", "b merg merg key", "c plot someth"
    mean = sum(lengths.values()) / 3

    def score(row: int, times: int) -> float:
        return idf * times / (times + lexical.K1 * (1 - lexical.B + lexical.B * lengths[row] / mean))

    found = dict(lexical.search(lexical.build(PASSAGES), ["merging"], 3)[0])
    assert found == pytest.approx({0: score(0, 1), 1: score(1, 2)}, rel=1e-5)


def test_a_passage_that_shares_no_word_is_left_out():
    assert lexical.search(lexical.build(PASSAGES), ["zebra", "", "plot"], 3)[:2] == [[], []]


def test_ties_go_to_the_earlier_row():
    twins = [passage(f"{n}#0000", "same words here", doc_id="x") for n in range(5)]
    assert [row for row, _ in lexical.search(lexical.build(twins), ["words"], 3)[0]] == [0, 1, 2]


def test_write_then_read(tmp_path):
    index = lexical.build(PASSAGES)
    lexical.write(index, tmp_path / "lexical")
    assert lexical.search(lexical.read(tmp_path / "lexical"), ["merge"], 3) == lexical.search(index, ["merge"], 3)


def test_missing_index(tmp_path):
    with pytest.raises(MissingArtifact, match="run `dvc repro build_index`"):
        lexical.read(tmp_path / "data/index/lexical")
