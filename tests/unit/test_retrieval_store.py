"""The vector store gives back what was put in, whoever is killed, and nothing else."""

import hashlib
import io
import logging
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragline.errors import ServiceError
from ragline.retrieval import store

DIM = 3


def vectors_of(texts):
    """A vector that tells its text: length, number of vowels, first character."""
    rows = [(len(t), sum(c in "aeiou" for c in t), ord(t[0])) for t in texts]
    return np.array(rows, dtype=np.float32).reshape(-1, DIM)


def put(shelf, *texts):
    return shelf.add(store.text_keys(texts), vectors_of(texts))


def held(shelf):
    """Text keys, as bytes, to vectors."""
    return {k.tobytes(): v.tolist() for keys, found in shelf.segments() for k, v in zip(keys, found, strict=True)}


def expected(*texts):
    keys = store.text_keys(texts)
    return {k.tobytes(): v for k, v in zip(keys, vectors_of(texts).tolist(), strict=True)}


@pytest.fixture
def shelf(tmp_path):
    return store.shelf(tmp_path / "vectors", "encoder-a", DIM)


def test_what_is_added_comes_back(shelf):
    put(shelf, "apple", "pear")
    put(shelf, "plum")
    assert held(shelf) == expected("apple", "pear", "plum")


def test_the_same_segment_twice_is_one_file(shelf):
    assert put(shelf, "apple") == put(shelf, "apple")
    assert len(list(shelf.folder.iterdir())) == 1


def test_shelves_do_not_mix(shelf, tmp_path):
    put(shelf, "apple")
    assert held(store.shelf(tmp_path / "vectors", "encoder-b", DIM)) == {}


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "foreign"])
def test_a_damaged_segment_is_thrown_away_with_one_line(shelf, caplog, damage):
    put(shelf, "apple")
    first, second = put(shelf, "pear"), put(shelf, "plum")
    for path in (first, second):
        data = path.read_bytes()
        altered = bytes([data[-1] ^ 1])
        new = {"cut": data[:-7], "flipped": data[:-1] + altered, "emptied": b"", "foreign": b"something else"}
        path.write_bytes(new[damage])
    with caplog.at_level(logging.WARNING):
        assert held(shelf) == expected("apple")
    assert [r.message for r in caplog.records] == [
        "vector store: 2 damaged files deleted; what they held is encoded again"
    ]
    assert not first.exists() and not second.exists()


def test_a_segment_of_another_width_is_damaged(shelf, tmp_path):
    put(shelf, "apple")
    assert held(store.Shelf(shelf.folder, DIM + 1)) == {}


def test_pickles_are_never_read(shelf):
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    path = shelf.folder / f"{hashlib.sha256(buffer.getvalue()).hexdigest()}.npy"
    path.write_bytes(buffer.getvalue())
    assert held(shelf) == {} and not path.exists()


# --- rows of a corpus ------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.lists(st.sampled_from("abcdef"), min_size=1), st.lists(st.sampled_from("abcdefgh"), unique=True))
def test_every_row_of_every_text_is_found(corpus, asked):
    rows = store.Rows(store.text_keys(corpus))
    positions, places = rows.of(store.text_keys(asked))
    found = sorted(zip(positions.tolist(), places.tolist(), strict=True))
    assert found == sorted((p, r) for p, text in enumerate(asked) for r, other in enumerate(corpus) if text == other)


def test_first_rows():
    keys, firsts = store.Rows(store.text_keys(["b", "a", "b", "a"])).firsts
    assert sorted(firsts.tolist()) == [0, 1]
    assert set(keys.tolist()) == set(store.text_keys(["a", "b"]).tolist())


# --- what is kept ----------------------------------------------------------------------------------


def test_dead_rows_go_once_they_outnumber_the_corpus(shelf, monkeypatch):
    monkeypatch.setattr(store, "SPARE_ROWS", 0)
    put(shelf, "apple", "old one")
    put(shelf, "pear", "old two")
    live = np.unique(store.text_keys(["apple", "pear", "plum"]))
    shelf.tidy(live)  # four rows are fewer than twice three
    assert held(shelf) == expected("apple", "old one", "pear", "old two")
    put(shelf, "plum", "old three")
    shelf.tidy(live)  # six are not
    assert held(shelf) == expected("apple", "pear", "plum")
    assert len(list(shelf.folder.iterdir())) == 1


def test_a_shelf_of_few_rows_is_left_alone(shelf):
    put(shelf, "apple", "old one", "old two", "old three")
    shelf.tidy(store.text_keys(["apple"]))
    assert len(held(shelf)) == 4


def test_the_least_recently_used_shelves_go(tmp_path, monkeypatch):
    paths = {}
    for age, name in enumerate("abc"):
        shelf = store.shelf(tmp_path, name, DIM)
        paths[name] = put(shelf, "apple")
        os.utime(shelf.folder, (1_000_000 - age, 1_000_000 - age))  # `a` was used last
    monkeypatch.setattr(store, "KEPT_BYTES", 2 * paths["a"].stat().st_size)
    store.shelf(tmp_path, "c", DIM)  # and now `c`
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "c"]


def test_the_present_shelf_stays_however_large(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "KEPT_BYTES", 0)
    put(store.shelf(tmp_path, "a", DIM), "apple")
    assert held(store.shelf(tmp_path, "a", DIM)) == expected("apple")


def test_what_a_killed_process_left_is_swept_a_day_later(shelf, tmp_path):
    old, new = shelf.folder / "x.part", shelf.folder / "y.part"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    store.shelf(tmp_path / "vectors", "encoder-a", DIM)
    assert not old.exists() and new.exists()


def test_a_disk_that_refuses_is_one_line(tmp_path):
    (tmp_path / "vectors").write_text("a file stands where the folder should be")
    with pytest.raises(ServiceError, match=r"cannot write: .*; make room or access"):
        store.shelf(tmp_path / "vectors", "a", DIM)


# --- kills and company -----------------------------------------------------------------------------


def _write_for_ever(folder: Path, start: int) -> None:
    shelf = store.Shelf(folder, DIM)
    number = start
    while True:
        put(shelf, *(f"text {number + i}" for i in range(200)))
        number += 200


def test_two_writers_killed_in_the_middle_leave_nothing_wrong(shelf, caplog):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_for_ever, args=(shelf.folder, 0)) for _ in range(2)]
    for writer in writers:
        writer.start()
    while len(list(shelf.folder.glob("*.npy"))) < 5:
        pass
    for writer in writers:
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    found = held(shelf)
    assert found == expected(*(f"text {i}" for i in range(len(found))))
    assert not caplog.records
