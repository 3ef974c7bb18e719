"""One corpus out of many sources: duplicates, near-duplicates, splits, counts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragline.corpus import assemble
from ragline.corpus.near_duplicates import MISS, PERMUTATIONS, _banding, clusters, jaccard, shingles
from ragline.corpus.split import assign
from ragline.errors import DataError
from ragline.types import Document, Drop

SHARES = {"train": 0.7, "dev": 0.15, "test": 0.15}


def doc(doc_id: str, text: str, source: str = "", aliases: tuple[str, ...] = ()) -> Document:
    return Document(doc_id, source or f"from {doc_id}", doc_id, text, "text", aliases)


# --- merge


def test_identical_text_becomes_an_alias_of_the_first_id():
    documents, drops = assemble.merge([doc("c", "same", aliases=("a", "d")), doc("a", "same"), doc("b", "other")])

    assert [(d.doc_id, d.aliases) for d in documents] == [("a", ("c", "d")), ("b", ())]
    assert drops == [Drop("ingest", "c", "duplicate text", "same text as a")]


def test_one_id_twice_names_both_sources():
    with pytest.raises(DataError, match=r"'a': two documents with this id, from docs\.jsonl:4 and docs/a; give one"):
        assemble.merge([doc("a", "one", "docs.jsonl:4"), doc("a", "two", "docs/a")])


def test_no_documents_at_all():
    with pytest.raises(DataError, match=r"ingest\.sources: no documents; expected at least one"):
        assemble.merge([])


def test_text_that_utf8_cannot_hold():
    with pytest.raises(
        DataError, match=r"'from a': text: expected text that UTF-8 can hold, got '\\ud800' at character 2"
    ):
        assemble.merge([doc("a", "xy\ud800")])


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


def test_no_near_duplicate_pair_is_overlooked():
    # sentences that share long beginnings, compared pair by pair without MinHash
    words = [f"w{n}" for n in range(60)]
    texts = {
        f"d{start:02d}{length:02d}": " ".join(words[start : start + length])
        for start in range(0, 20, 2)
        for length in (20, 22, 26, 34)
    }
    cluster = clusters(texts, 0.6)
    near = [
        (one, other)
        for one in texts
        for other in texts
        if one < other and jaccard(shingles(texts[one]), shingles(texts[other])) >= 0.6
    ]

    assert near
    assert all(cluster[one] == cluster[other] for one, other in near)
    assert all(cluster[name] == min(n for n in texts if cluster[n] == cluster[name]) for name in texts)


@given(st.floats(0.11, 1.0))
def test_a_pair_at_the_threshold_is_hardly_ever_missed(threshold: float):
    bands, rows = _banding(threshold)
    assert bands >= 2
    assert bands * rows <= PERMUTATIONS
    assert (1 - threshold**rows) ** bands <= MISS


@settings(deadline=None, max_examples=20)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=2), st.text("ab c", max_size=30), min_size=1))
def test_clusters_do_not_depend_on_the_order(texts: dict[str, str]):
    assert clusters(texts, 0.7) == clusters(dict(reversed(texts.items())), 0.7)


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


def test_too_few_clusters_leave_a_split_empty():
    assert len(assign(["only"], SHARES, 13)) == 1


# --- both, and the counts


def test_near_duplicates_share_cluster_and_split():
    texts = {f"d{n:02d}": f"one two three four five six seven eight nine ten number {n}" for n in range(30)}
    texts |= {f"e{n:02d}": " ".join(f"{n}{letter}" for letter in "abcdefgh") for n in range(30)}
    corpus = assemble.cluster_and_split([doc(*item) for item in texts.items()], 0.6, SHARES, 13)

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
