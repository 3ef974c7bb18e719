"""Exact search over vectors that need not fit in memory; its answer does not depend on the size of its blocks.

Vectors may be kept as float16; what is computed with them is computed in float32 or float64.
"""

import math

import numpy as np
import numpy.typing as npt
import torch

from ragline.errors import DataError, ModelError
from ragline.io import Vectors

Scores = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

PASSAGE_BLOCK = 16_384
QUESTION_BLOCK = 256
"""Scores of one block of questions and one of passages take 16 MB."""


def as_float32(vectors: Vectors) -> Vectors:
    """The same numbers (n, d) in memory as float32; by torch, as numpy takes six times as long over float16."""
    if vectors.dtype == np.float32:
        return np.ascontiguousarray(vectors)
    # Memory of numpy's: what torch allocates for itself leaves gaps, 240 MB of them after ten searches.
    found = np.empty(vectors.shape, dtype=np.float32)
    torch.from_numpy(found).copy_(torch.from_numpy(np.array(vectors)))  # a copy, as torch warns of read-only ones
    return found


def cosines(vector: Vectors, others: Vectors) -> Scores:
    """Inner products of one vector with each row of others, summed in float64 and each on its own.

    A matrix product rounds a row in one way or another by how many rows stand beside it; this does not.

    Args:
        vector: (d,) float32.
        others: (n, d) float32 or float16.

    Returns:
        (n,) float64.
    """
    products: Scores = np.vecdot(others.astype(np.float64), vector.astype(np.float64))
    return products


def nearest(
    asked: Vectors,
    vectors: Vectors,
    k: int,
    rows: Rows | None = None,
    question_block: int = QUESTION_BLOCK,
    passage_block: int = PASSAGE_BLOCK,
) -> tuple[Scores, Rows]:
    """Find the k passages closest to each question by inner product, ties by row.

    Every block of passages is read once. A float32 product finds what may be among the best, with a margin for its
    rounding; only that is scored again in float64 and ranked.

    Args:
        asked: (n_questions, d) float32, rows of unit length.
        vectors: (n_passages, d) float32 or float16, rows of unit length; may be memory-mapped.
        k: passages per question, at least 1.
        rows: rows of `vectors` to look at, rising; all where it is not given.

    Returns:
        scores: (n_questions, k) float64, falling along each row; -inf where there is no passage.
        rows: (n_questions, k) int64, places in `vectors`; -1 where there is no passage.

    Raises:
        DataError: a passage's vector is not finite.
    """
    best_scores = np.full((len(asked), k), -np.inf)
    best_rows = np.full((len(asked), k), -1, dtype=np.int64)
    # |float32 product - true one| <= d · 2^-24 · |q| · |p| (Higham, Accuracy and Stability, section 3.1), lengths ~ 1
    slack = 1.01 * asked.shape[1] * 2.0**-24
    size = len(vectors) if rows is None else len(rows)
    for start in range(0, size, passage_block):
        stop = min(start + passage_block, size)
        places = np.arange(start, stop) if rows is None else rows[start:stop]
        block = as_float32(vectors[start:stop] if rows is None else vectors[places])
        for first in range(0, len(asked), question_block):
            questions = range(first, min(first + question_block, len(asked)))
            rough = asked[first : questions.stop] @ block.T  # (question_block, passage_block)
            if not math.isfinite(rough.sum()):
                check_finite(vectors, places)
            floors = np.maximum(best_scores[first : questions.stop, -1] - slack, _kth(rough, k) - 2 * slack)
            found, columns = np.nonzero(rough >= floors[:, None])
            ends = np.searchsorted(found, np.arange(len(questions) + 1))
            for number, begin, end in zip(questions, ends, ends[1:], strict=False):
                if begin == end:
                    continue
                chosen = columns[begin:end]
                scores = np.concatenate([best_scores[number], cosines(asked[number], block[chosen])])
                candidates = np.concatenate([best_rows[number], places[chosen]])
                order = np.lexsort((candidates, -scores))[:k]
                best_scores[number], best_rows[number] = scores[order], candidates[order]
    return best_scores, best_rows


def check_finite(vectors: Vectors, rows: Rows) -> None:
    """Make sure that no row is damaged: NaN would win or lose every comparison unseen.

    Raises:
        DataError: one is not finite.
    """
    wrong = rows[~np.isfinite(vectors[rows]).all(axis=1)]
    if wrong.size:
        raise DataError(
            f"{getattr(vectors, 'filename', 'vectors')}: vector {wrong[0]}: expected finite numbers, got NaN or "
            "infinite ones; delete it and run `dvc repro`"
        )


def check_unit(vectors: Vectors) -> None:
    """Make sure that all rows (n, d) have unit length, but for the rounding of float16.

    Raises:
        ModelError: one has not.
    """
    for start in range(0, len(vectors), PASSAGE_BLOCK):
        block = as_float32(vectors[start : start + PASSAGE_BLOCK])
        lengths = np.sqrt(np.vecdot(block, block))
        wrong = np.flatnonzero(~(np.abs(lengths - 1) < 0.01))  # so written, NaN is wrong, too
        if wrong.size:
            raise ModelError(
                f"index: vector {start + wrong[0]}: expected unit length, got {lengths[wrong[0]]:.4g}; "
                "the encoder gives NaN or zeros, or does not normalise: use another"
            )


def _kth(scores: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.float32]:
    """The k-th best of each row; (n,), -inf where a row is shorter."""
    if scores.shape[1] < k:
        return np.full(len(scores), -np.inf, dtype=np.float32)
    kth: npt.NDArray[np.float32] = np.partition(scores, -k, axis=1)[:, -k]
    return kth
