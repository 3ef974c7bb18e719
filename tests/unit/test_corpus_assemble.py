"""One corpus out of many sources: duplicates, near-duplicates, splits, counts."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragline.corpus import assemble, near_duplicates
from ragline.corpus.near_duplicates import (
    MISS,
    PERMUTATIONS,
    _banding,
    _least_agreement,
    jaccard,
    shingles,
    signatures,
)
from ragline.corpus.split import assign
from ragline.corpus.spool import spooled
from ragline.errors import DataError
from ragline.types import Document, Drop

SHARES = {"train": 0.7, "dev": 0.15, "test": 0.15}


def doc(doc_id: str, text: str, source: str = "", aliases: tuple[str, ...] = ()) -> Document:
    return Document(doc_id, source or f"from {doc_id}", doc_id, text, "text", aliases)


def assembled(folder: Path, documents: Sequence[Document], threshold: float) -> tuple[list[Document], list[Drop]]:
    with spooled(folder) as spool:
        for document in documents:
            spool.add(document)
        merged, drops = assemble.merge(spool)
        return list(assemble.cluster_and_split(spool, merged, threshold, SHARES, 13)), drops


def clusters(texts: Mapping[str, str], threshold: float) -> dict[str, str]:
    """doc_id → id of its cluster, the texts in order of their ids."""
    names = sorted(texts)
    firsts = near_duplicates.clusters([texts[name] for name in names], threshold)
    return {name: names[first] for name, first in zip(names, firsts, strict=True)}


def compared_pair_by_pair(texts: Mapping[str, str], threshold: float) -> dict[str, str]:
    """The same by definition: connected components of the pairs that are similar enough."""
    cluster = {name: name for name in sorted(texts)}
    for one, other in combinations(sorted(texts), 2):
        if jaccard(shingles(texts[one]), shingles(texts[other])) >= threshold:
            kept, gone = sorted((cluster[one], cluster[other]))
            cluster = {name: kept if first == gone else first for name, first in cluster.items()}
    return cluster


class Counted(Sequence[str]):
    """Texts that count how often one is read alone: two reads for a comparison, at most."""

    def __init__(self, texts: Sequence[str]):
        self.texts, self.reads = texts, 0

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, place):
        self.reads += not isinstance(place, slice)
        return self.texts[place]


# --- merge


def test_identical_text_becomes_an_alias_of_the_first_id(tmp_path: Path):
    given = [doc("c", "same", aliases=("a", "d")), doc("a", "same"), doc("b", "other", aliases=("z", "y"))]
    documents, drops = assembled(tmp_path, given, 1.0)

    assert [(d.doc_id, d.aliases) for d in documents] == [("a", ("c", "d")), ("b", ("z", "y"))]
    assert drops == [Drop("ingest", "c", "duplicate text", "same text as a")]


def test_the_order_of_the_sources_makes_no_difference(tmp_path: Path):
    given = [doc("c", "same"), doc("a", "same"), doc("d", "same", aliases=("e",)), doc("b", "other")]
    assert assembled(tmp_path, given, 0.7) == assembled(tmp_path, given[::-1], 0.7)


def test_one_id_twice_names_both_sources(tmp_path: Path):
    with pytest.raises(DataError, match=r"'a': two documents with this id, from docs\.jsonl:4 and docs/a; give one"):
        assembled(tmp_path, [doc("a", "two", "docs/a"), doc("b", "x"), doc("a", "one", "docs.jsonl:4")], 1.0)


def test_no_documents_at_all(tmp_path: Path):
    with pytest.raises(DataError, match=r"ingest\.sources: no documents; expected at least one"):
        assembled(tmp_path, [], 1.0)


# --- near-duplicates


def test_similarity_of_word_five_grams():
    # 7 words give 3 five-grams, with one word more 4; the first 3 are shared: 3 / 4
    assert jaccard(shingles("a b c d e f g"), shingles("A, b. c d e f g h!")) == 0.75


def test_short_texts_are_one_shingle():
    assert shingles("Number of levels.") == {"number of levels"}
    assert shingles("-- !!") == {"-- !!"}


def test_clusters_join_at_the_threshold_and_through_others():
    texts = {
        "c": "a b c d e f g h i",  # 5 shingles, shares 4 with b: 4 / 5
        "b": "a b c d e f g h",  # 4 shingles, shares 3 with a: 3 / 4
        "a": "a b c d e f g",  # with c only 3 / 5
        "z": "something else that has nothing in common with them",
    }
    assert clusters(texts, 0.75) == {"a": "a", "b": "a", "c": "a", "z": "z"}
    assert clusters(texts, 0.76) == {"a": "a", "b": "b", "c": "b", "z": "z"}
    assert clusters(texts, 1.0) == {name: name for name in texts}


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.8])
def test_clusters_are_those_of_all_pairs_compared(threshold: float):
    # sentences that share long beginnings, so that many pairs lie just below and just above a threshold
    words = [f"w{n}" for n in range(60)]
    texts = {
        f"d{start:02d}{length:02d}": " ".join(words[start : start + length])
        for start in range(0, 20, 2)
        for length in (20, 22, 26, 34)
    }
    found = clusters(texts, threshold)

    assert found == compared_pair_by_pair(texts, threshold)
    assert len(set(found.values())) < len(texts)


@settings(max_examples=50)
@given(
    st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=12).map(" ".join), min_size=1, max_size=12),
    st.sampled_from([0.3, 0.5, 0.7, 1.0]),
)
def test_short_texts_too_are_in_the_clusters_of_all_pairs(texts: list[str], threshold: float):
    named = {f"{number:02d}": text for number, text in enumerate(texts)}
    assert clusters(named, threshold) == compared_pair_by_pair(named, threshold)


def test_columns_agree_as_often_as_texts_are_similar():
    words = [f"w{n}" for n in range(400)]
    one, other = " ".join(words[:300]), " ".join(words[100:])
    similarity = jaccard(shingles(one), shingles(other))
    agreeing = (signatures([one])[0] == signatures([other])[0]).mean()
    # the standard deviation over 128 columns is sqrt(J (1 - J) / 128) = 0.044 at a J of 0.49; three of them
    assert similarity == pytest.approx(196 / 396)
    assert agreeing == pytest.approx(similarity, abs=0.132)


@given(st.floats(0.11, 1.0))
def test_a_pair_at_the_threshold_is_hardly_ever_missed(threshold: float):
    bands, rows = _banding(threshold)
    assert bands >= 2
    assert bands * rows <= PERMUTATIONS
    assert (1 - threshold**rows) ** bands <= MISS
    # Hoeffding: the chance to agree in a share of the columns that is d below the mean is at most exp(-2 d² 128)
    assert _least_agreement(threshold) / PERMUTATIONS >= threshold - np.sqrt(np.log(1 / MISS) / 2 / PERMUTATIONS) - 0.01


@settings(deadline=None, max_examples=20)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=2), st.text("ab c", max_size=30), min_size=1))
def test_clusters_do_not_depend_on_the_order(texts: dict[str, str]):
    assert clusters(texts, 0.7) == clusters(dict(reversed(texts.items())), 0.7)


PAGE = " ".join(f"p{n}" for n in range(200))


def test_many_variants_of_one_page_take_a_comparison_each():
    # 196 five-grams of the page in each, and 5 of its own: 196 / 206 = 0.95 between any two
    texts = Counted([f"{PAGE} a{n} b{n} c{n} d{n} e{n}" for n in range(1000)])

    assert set(near_duplicates.clusters(texts, 0.7)) == {0}
    assert texts.reads < 2 * len(texts)  # 499,500 pairs


def test_variants_of_a_page_and_others_that_share_half_of_it():
    # J of an own 160-word page with a variant: 96 shared five-grams; the union is 201 + 158 - 96 = 263: 0.37
    half = " ".join(PAGE.split()[:100])
    others = [f"{half} " + " ".join(f"o{n}w{k}" for k in range(60)) for n in range(60)]
    variants = [f"{PAGE} a{n} b{n} c{n} d{n} e{n}" for n in range(300)]
    texts = Counted([*others, *variants])

    found = near_duplicates.clusters(texts, 0.5)
    assert set(found[60:]) == {60}
    assert list(found[:60]) == list(range(60))
    assert texts.reads < 60 * 300 / 2  # fewer than pairs of another and a variant


def test_texts_that_share_much_but_not_enough_stay_apart():
    # every pair shares 46 five-grams of 50 + 60: the bands collide, the comparison says no: 46 / (106 + 60) = 0.28
    head = " ".join(f"p{n}" for n in range(50))
    texts = Counted([f"{head} " + " ".join(f"t{n}w{k}" for k in range(60)) for n in range(300)])

    assert list(near_duplicates.clusters(texts, 0.7)) == list(range(300))
    assert texts.reads < len(texts)  # the signatures alone tell nearly all of 44,850 pairs apart


@pytest.mark.slow
def test_several_processes_find_the_same(monkeypatch: pytest.MonkeyPatch):
    texts = [f"{PAGE[: 40 * (n % 20)]} tail {n // 3} of this text" for n in range(200)]
    alone = near_duplicates.clusters(texts, 0.6)
    monkeypatch.setattr(near_duplicates, "MANY_TEXTS", 100)
    monkeypatch.setattr(near_duplicates, "BATCH", 30)
    monkeypatch.setattr(near_duplicates, "cores", lambda: 2)
    assert list(near_duplicates.clusters(texts, 0.6)) == list(alone)


# --- splits


@given(st.sets(st.integers(0, 10_000), min_size=3).map(lambda ids: sorted(map(str, ids))), st.integers(0, 99))
def test_no_split_is_empty_where_there_are_clusters_enough(names: list[str], seed: int):
    placed = assign(names, SHARES, seed)

    assert list(placed) == sorted(names)
    assert set(placed.values()) == {"train", "dev", "test"}


def test_documents_that_are_added_move_no_other():
    before = assign((f"c{n}" for n in range(200)), SHARES, 13)
    after = assign((f"c{n}" for n in range(400)), SHARES, 13)

    assert {name: after[name] for name in before} == before


def test_shares_are_met():
    placed = list(assign((f"c{n}" for n in range(10_000)), SHARES, 13).values())
    # the standard deviation of a share of 0.15 over 10,000 draws is 0.0036; three of them
    assert placed.count("dev") / 10_000 == pytest.approx(0.15, abs=0.011)
    assert placed.count("test") / 10_000 == pytest.approx(0.15, abs=0.011)


def test_another_seed_is_another_split():
    names = [f"c{n}" for n in range(50)]
    assert assign(names, SHARES, 1) != assign(names, SHARES, 2)


def test_a_share_of_zero_gets_nothing():
    placed = assign((f"c{n}" for n in range(300)), {"train": 0.5, "dev": 0.5, "test": 0.0}, 13)
    assert set(placed.values()) == {"train", "dev"}


def test_filling_an_empty_split_does_not_take_the_square_of_the_clusters():
    placed = assign((f"c{n}" for n in range(20_000)), {"train": 1 - 2e-12, "dev": 1e-12, "test": 1e-12}, 13)
    assert sorted(list(placed.values()).count(name) for name in SHARES) == [1, 1, 19_998]


def test_too_few_clusters_leave_a_split_empty():
    assert len(assign(["only"], SHARES, 13)) == 1


# --- both, and the counts


def test_near_duplicates_share_cluster_and_split(tmp_path: Path):
    texts = {f"d{n:02d}": f"one two three four five six seven eight nine ten number {n}" for n in range(30)}
    texts |= {f"e{n:02d}": " ".join(f"{n}{letter}" for letter in "abcdefgh") for n in range(30)}
    corpus, _ = assembled(tmp_path, [doc(*item) for item in texts.items()], 0.6)

    # the d documents share 7 of 8 five-grams with each other: 7 / 9; the e documents share none
    assert {d.cluster for d in corpus if d.doc_id[0] == "d"} == {"d00"}
    assert len({d.split for d in corpus if d.doc_id[0] == "d"}) == 1
    assert all(d.cluster == d.doc_id for d in corpus if d.doc_id[0] == "e")


def test_counts():
    documents = [
        Document("a", "s", "a", "12345", "text", ("x", "y"), "a", "train"),
        Document("b", "s", "b", "678", "text", (), "a", "train"),
        Document("c", "s", "c", "9", "text", ("z",), "c", "test"),
    ]
    drops = [Drop("ingest", "q", "empty"), Drop("ingest", "p", "duplicate text"), Drop("ingest", "r", "empty")]

    assert assemble.counts(documents, drops) == {
        "documents": 3,
        "characters": 9,
        "aliases": 3,
        "clusters": 2,
        "largest_cluster": 2,
        "splits": {"train": 2, "dev": 0, "test": 1},
        "dropped": {"duplicate text": 1, "empty": 2},
    }
