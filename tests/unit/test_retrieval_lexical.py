"""BM25 equals its formula and its library; what is asked in other words finds nothing."""

import math
from dataclasses import replace

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragline.errors import ConfigError, MissingArtifact, ModelError
from ragline.retrieval import lexical, words
from tests.fixtures.small import passage

PASSAGES = [
    passage("a#0000", "merge two frames", doc_id="a"),
    passage("b#0000", "merge merge keys", doc_id="b"),
    passage("c#0000", "plot something", doc_id="c"),
]


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


texts = st.lists(st.lists(st.sampled_from("merge plot keys frame read table".split()), min_size=1), min_size=1)


@settings(max_examples=30)
@given(texts, st.integers(1, 7))
def test_the_arrays_are_those_of_bm25s(drawn, entries):
    passages = [passage(f"p{n}#0000", " ".join(text)) for n, text in enumerate(drawn)]
    tokens = [words.analyser("english")(p.encoded_text) for p in passages]
    vocabulary = {word: number for number, word in enumerate(sorted({word for row in tokens for word in row}))}
    wanted = bm25s.BM25(k1=lexical.K1, b=lexical.B)
    wanted.index(([[vocabulary[word] for word in row] for row in tokens], vocabulary), show_progress=False)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lexical, "ENTRIES", entries)
        built = lexical.build(iter(passages)).bm25
    for name in ("data", "indices", "indptr"):
        assert built.scores[name].dtype == wanted.scores[name].dtype
        assert np.array_equal(built.scores[name], wanted.scores[name])
    assert list(built.vocab_dict.items()) == [item for item in wanted.vocab_dict.items() if item[0]]


@pytest.mark.parametrize("asked", ["zebra", "", "the of and", "?!…", "объединить таблицы", "合并", "\u0301"])
def test_what_shares_no_word_finds_nothing(asked):
    nothing, something = lexical.search(lexical.build(PASSAGES), [asked, "plot"], 3)
    assert nothing == [] and [row for row, _ in something] == [2]


def test_a_corpus_without_any_word():
    index = lexical.build([passage("…#0000", "—", doc_id="…")])
    assert lexical.search(index, ["anything"], 3) == [[]]


def test_no_passages(tmp_path):
    lexical.write(lexical.build([]), tmp_path / "lexical")
    assert lexical.search(lexical.read(tmp_path / "lexical"), ["anything"], 3) == [[]]


def test_ties_go_to_the_earlier_row():
    twins = [passage(f"{n}#0000", "same words here", doc_id="x") for n in range(5)]
    assert [row for row, _ in lexical.search(lexical.build(twins), ["words"], 3)[0]] == [0, 1, 2]


@given(texts, st.data())
def test_a_filter_gives_the_best_of_what_it_lets_through(drawn, data):
    index = lexical.build([passage(f"p{n}#0000", " ".join(text)) for n, text in enumerate(drawn)])
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=len(drawn), max_size=len(drawn))))
    everything = lexical.search(index, ["merge the tables"], len(drawn))[0]
    assert lexical.search(index, ["merge the tables"], 2, allowed) == [
        [hit for hit in everything if allowed[hit[0]]][:2]
    ]


def test_a_passage_that_is_gone_is_not_found():
    assert [row for row, _ in lexical.search(lexical.build(PASSAGES[1:]), ["merge"], 3)[0]] == [0]
    assert lexical.search(lexical.build(PASSAGES[:2]), ["plot"], 3) == [[]]


def test_chinese_is_found_by_pairs_of_characters():
    passages = [passage("a#0000", "读取文件"), passage("b#0000", "合并表格"), passage("c#0000", "read a file")]
    index = lexical.build(passages, "none")
    assert [[row for row, _ in hits] for hits in lexical.search(index, ["如何合并两个表格?", "文件"], 3)] == [[1], [0]]


def test_write_then_read(tmp_path):
    index = lexical.build([passage("a#0000", "Häuser"), passage("b#0000", "Haus"), passage("c#0000", "Hof")], "german")
    lexical.write(index, tmp_path / "lexical")
    found = lexical.read(tmp_path / "lexical")
    assert found.language == "german" and found.size == 3
    assert lexical.search(found, ["Hauses"], 3) == lexical.search(index, ["Hauses"], 3)
    assert {row for row, _ in lexical.search(found, ["Hauses"], 3)[0]} == {0, 1}


def test_missing_index(tmp_path):
    with pytest.raises(MissingArtifact, match="run `dvc repro build_index`"):
        lexical.read(tmp_path / "data/index/lexical")


@pytest.mark.parametrize("said", [None, "[]", '{"language": "klingon", "passages": "f"}', '{"language": "english"}'])
def test_an_index_that_does_not_say_its_language(tmp_path, said):
    lexical.write(lexical.build(PASSAGES), tmp_path / "lexical")
    card = tmp_path / "lexical" / lexical.ANALYSIS
    card.unlink() if said is None else card.write_text(said)
    with pytest.raises(ModelError, match=r"expected analysis\.json with language and passages, .* run `dvc repro"):
        lexical.read(tmp_path / "lexical")


def test_a_damaged_index(tmp_path):
    lexical.write(lexical.build(PASSAGES), tmp_path / "lexical")
    (tmp_path / "lexical" / "data.csc.index.npy").write_bytes(b"no array")
    with pytest.raises(ModelError, match=r"lexical: damaged index: .* run `dvc repro build_index`"):
        lexical.read(tmp_path / "lexical")


def test_an_index_of_other_passages():
    with pytest.raises(ModelError, match="lexical index over other passages: expected these 2, got 3 others; run"):
        lexical.check(lexical.build(PASSAGES), PASSAGES[:2])
    lexical.check(lexical.build(PASSAGES), PASSAGES)


@pytest.mark.parametrize(
    "others",
    [
        [*PASSAGES[:-1], replace(PASSAGES[-1], text="other text")],
        [*PASSAGES[:-1], replace(PASSAGES[-1], passage_id="other#0000")],
        [*PASSAGES[::-1]],
    ],
)
def test_other_passages_of_the_same_number(others, tmp_path):
    lexical.write(lexical.build(PASSAGES), tmp_path / "lexical")
    with pytest.raises(ModelError, match="lexical index over other passages: expected these 3, got 3 others; run `dvc"):
        lexical.check(lexical.read(tmp_path / "lexical"), others)


def test_an_unknown_language():
    with pytest.raises(ConfigError, match="got 'klingon'"):
        lexical.build(PASSAGES, "klingon")
