"""Exact search: the true neighbours, ties by row, whatever the size of the blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragline.retrieval import exact

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
