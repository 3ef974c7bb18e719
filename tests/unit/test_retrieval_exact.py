"""Exact search: the true neighbours, ties by row, whatever the size of the blocks."""

import subprocess
import sys
from textwrap import dedent
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragline.errors import DataError
from ragline.retrieval import exact
from tests.conftest import ROOT

# Unit vectors in the plane: right, up, left, right again.
PLANE = np.array([[1, 0], [0, 1], [-1, 0], [1, 0]], dtype=np.float32)
ASKED = np.array([[0.8, 0.6]], dtype=np.float32)


def unit(rows: int, dim: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((rows, dim), dtype=np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def test_nearest_first_and_ties_by_row():
    scores, rows = exact.nearest(ASKED, PLANE, 4)
    assert rows.tolist() == [[0, 3, 1, 2]]
    assert scores[0] == pytest.approx([0.8, 0.8, 0.6, -0.8])  # cosines by hand


def test_more_than_there_is_ends_in_no_row():
    scores, rows = exact.nearest(ASKED, PLANE[:2], 4)
    assert rows.tolist() == [[0, 1, -1, -1]]
    assert scores[0, 2:].tolist() == [-np.inf, -np.inf]


def test_only_some_rows():
    _, rows = exact.nearest(ASKED, PLANE, 2, rows=np.array([1, 2, 3]))
    assert rows.tolist() == [[3, 1]]


def test_nobody_asks():
    scores, rows = exact.nearest(ASKED[:0], PLANE, 2)
    assert scores.shape == rows.shape == (0, 2)


@settings(max_examples=40)
@given(
    passages=st.integers(1, 60),
    k=st.integers(1, 12),
    blocks=st.tuples(st.integers(1, 70), st.integers(1, 9)),
    copies=st.integers(1, 4),
    seed=st.integers(0, 999),
)
def test_the_same_as_sorting_everything_in_blocks_of_any_size(passages, k, blocks, copies, seed):
    vectors = np.repeat(unit(passages, 24, seed), copies, axis=0)  # equal vectors: ties everywhere
    asked = unit(7, 24, seed + 1)
    scores, rows = exact.nearest(asked, vectors, k, passage_block=blocks[0], question_block=blocks[1])
    for question, found, values in zip(asked, rows, scores, strict=True):
        cosines = exact.cosines(question, vectors)
        wanted = np.lexsort((np.arange(len(vectors)), -cosines))[:k]
        assert found[: len(wanted)].tolist() == wanted.tolist()
        assert values[: len(wanted)].tolist() == cosines[wanted].tolist()


def test_a_score_does_not_depend_on_its_neighbours():
    vectors, question = unit(50, 384, 0), unit(1, 384, 1)[0]
    together = exact.cosines(question, vectors)
    assert [exact.cosines(question, vectors[row : row + 1])[0] for row in range(50)] == together.tolist()


def test_vectors_of_half_precision():
    vectors = unit(40, 32, 3)
    _, rows = exact.nearest(vectors[:5], vectors.astype(np.float16), 1)
    assert rows[:, 0].tolist() == [0, 1, 2, 3, 4]


@settings(max_examples=20)
@given(rows=st.integers(1, 40), block=st.integers(1, 50), k=st.integers(1, 6), seed=st.integers(0, 99))
def test_float16_vectors_are_searched_as_the_float32_ones_of_the_same_numbers(rows, block, k, seed):
    halves = unit(rows, 24, seed).astype(np.float16)
    asked = unit(3, 24, seed + 1)
    found = exact.nearest(asked, halves, k, passage_block=block)
    for value, wanted in zip(found, exact.nearest(asked, halves.astype(np.float32), k), strict=True):
        assert np.array_equal(value, wanted)


class Watched(np.ndarray):
    """Vectors that remember how many of them were read at a time."""

    read: ClassVar[list[int]] = []

    def __getitem__(self, key):
        found = np.asarray(self).__getitem__(key)
        Watched.read.append(len(found))
        return found


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_no_more_than_a_block_is_read_at_a_time(dtype):
    vectors = unit(1000, 8, 0).astype(dtype).view(Watched)
    Watched.read.clear()
    exact.nearest(unit(300, 8, 1), vectors, 5, passage_block=128)
    assert Watched.read == [128] * 7 + [104]  # each once, whatever the number of questions


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_passage_that_is_not_finite_is_named(dtype, value):
    vectors = unit(50, 8, 0).astype(dtype)
    vectors[33, 2] = value
    with pytest.raises(
        DataError, match=r"^vectors: vector 33: expected finite numbers, got NaN or infinite ones; delete"
    ):
        exact.nearest(unit(2, 8, 1), vectors, 3, passage_block=16)
    exact.nearest(unit(2, 8, 1), vectors, 3, rows=np.arange(33))  # those that are looked at are sound


SEARCHES = """
    from pathlib import Path
    import numpy as np
    from ragline.retrieval import exact

    def held():
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1]) / 1000

    vectors = np.random.default_rng(0).standard_normal((40_000, 384), dtype=np.float32).astype(np.float16)

    def search(times):
        for row in range(times):
            exact.nearest(np.float32(vectors[row : row + 1]), vectors, 10)
        return held()

    settled = search(20)  # the allocator keeps some, more of it on some processors than on others
    print(search(40) - settled)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_searches_over_float16_leave_no_memory_behind():
    command = [sys.executable, "-c", dedent(SEARCHES)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(ended.stdout) < 50  # MB; one search converts 61
