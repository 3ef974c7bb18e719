"""Clusters of near-duplicate documents, so that no text stands in two splits in slightly other words.

Source: A. Broder, On the resemblance and containment of documents, 1997 (shingles, MinHash);
J. Leskovec, A. Rajaraman, J. Ullman, Mining of Massive Datasets, chapter 3 (banding);
P. Li, A. König, b-Bit Minwise Hashing, 2010 (a few bits of each minimum are enough).
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from pandas.util import hash_array

from ragline.parallel import cores, in_processes

SHINGLE_WORDS = 5
PERMUTATIONS = 128
MISS = 1e-6
"""Largest chance, at each of the two sieves, that a pair just at the threshold is never compared."""
MANY_TEXTS = 8192
"""With more of them than this, starting other processes (about two seconds) pays."""
BATCH = 512

Rows = npt.NDArray[np.int64]
Signatures = npt.NDArray[np.uint16]

_WORD = re.compile(r"\w+")
_REMEMBERED_SHINGLES = 256
_REMEMBERED_PAIRS = 1 << 16
_ROWS_AT_ONCE, _SHINGLES_AT_ONCE = 1 << 16, 1 << 12
"""What bounds the size of intermediate arrays."""

_permutations = np.random.default_rng(1).integers(0, 1 << 32, (2, PERMUTATIONS, 1), dtype=np.uint32)
_FACTORS, _ADDENDS = _permutations[0] | np.uint32(1), _permutations[1]  # an odd factor makes x → ax + b a permutation


def clusters(texts: Sequence[str], threshold: float) -> Rows:
    """Join texts whose sets of word 5-grams have a Jaccard similarity of at least `threshold`.

    Similarity is joined through: if a ~ b and b ~ c, all three are one cluster, for otherwise two
    near-duplicates could fall into different splits. MinHash finds the candidates, with a chance of
    at most twice `MISS` to overlook a pair (more below a threshold of 0.11); each is then compared exactly.

    Args:
        texts: read again and again, one or a batch at a time, so they may stand on disk. A text of fewer than five
            words is one shingle, one without words its own.
        threshold: above 0, at most 1.

    Returns:
        (n,) the number of the first text in each text's cluster.

    Raises:
        ServiceError: a process that reads texts was killed, as when memory runs out.
    """
    return _Joining(texts, threshold).run(_signatures(texts))


def shingles(text: str) -> frozenset[str]:
    """Word 5-grams in lower case; never empty."""
    words = _WORD.findall(text.lower())
    if not words:
        return frozenset({text})
    size = min(SHINGLE_WORDS, len(words))
    return frozenset(" ".join(words[start : start + size]) for start in range(len(words) - size + 1))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Size of the intersection over size of the union, in [0, 1]."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


# --- signatures ------------------------------------------------------------------------------------


def signatures(texts: Sequence[str]) -> Signatures:
    """(n, PERMUTATIONS): the last 16 bits of the smallest shingle under each permutation.

    Two texts agree in a column with a chance of their Jaccard similarity.
    """
    return np.stack([_signature(text) for text in texts])


def _signature(text: str) -> Signatures:
    grams = np.array(list(shingles(text)), dtype=object)
    hashes = hash_array(grams, categorize=False).astype(np.uint32)  # (shingles,)
    blocks = (hashes[start : start + _SHINGLES_AT_ONCE] for start in range(0, len(hashes), _SHINGLES_AT_ONCE))
    minima = [(_FACTORS * block + _ADDENDS).min(axis=1) for block in blocks]
    smallest: Signatures = np.min(minima, axis=0).astype(np.uint16)
    return smallest


def _signatures(texts: Sequence[str]) -> Signatures:
    """`signatures` of all, by as many processes as there are cores where that pays."""
    starts = range(0, len(texts), BATCH)
    batches = (texts[start : start + BATCH] for start in starts)
    made = np.empty((len(texts), PERMUTATIONS), dtype=np.uint16)
    found: Iterable[Signatures]
    if len(texts) > MANY_TEXTS and cores() > 1:
        found = in_processes(signatures, batches, lambda batch: repr(batch[0][:40]))
    else:
        found = map(signatures, batches)
    for start, some in zip(starts, found, strict=True):
        made[start : start + BATCH] = some
    return made


def _banding(threshold: float) -> tuple[int, int]:
    """(bands, rows): as many rows as keep the chance of a miss, (1 - threshold^rows)^bands, below `MISS`."""
    rows_tried = range(PERMUTATIONS // 2, 0, -1)
    fitting = (rows for rows in rows_tried if (1 - threshold**rows) ** (PERMUTATIONS // rows) <= MISS)
    rows = next(fitting, 1)
    return PERMUTATIONS // rows, rows


def _least_agreement(threshold: float) -> int:
    """Columns in which a pair at the threshold agrees, but for a chance of at most `MISS`."""
    chance = 0.0
    for columns in range(PERMUTATIONS + 1):
        chance += math.comb(PERMUTATIONS, columns) * threshold**columns * (1 - threshold) ** (PERMUTATIONS - columns)
        if chance > MISS:
            return columns
    return PERMUTATIONS


# --- joining ---------------------------------------------------------------------------------------


class _Joining:
    """Clusters as they grow.

    Every text has a leader in its cluster, at first itself, and a known distance (1 - similarity) to it. Distance
    obeys the triangle inequality, so two texts far from each other's leaders need no comparison of their own: many
    variants of one page cost as much as they are many, not as they have pairs.
    """

    def __init__(self, texts: Sequence[str], threshold: float):
        self._texts, self._threshold = texts, threshold
        self._cluster = np.arange(len(texts))  # (n,) some text of the cluster, the same one for all in it
        self._members: dict[int, list[int]] = {}  # of clusters of two and more
        self._leader = np.arange(len(texts))
        self._to_leader = np.zeros(len(texts))
        self._shingles = lru_cache(_REMEMBERED_SHINGLES)(lambda row: shingles(texts[row]))
        self._similarity = lru_cache(_REMEMBERED_PAIRS)(lambda a, b: jaccard(self._shingles(a), self._shingles(b)))

    def run(self, made: Signatures) -> Rows:
        """The first text of every text's cluster."""
        bands, rows = _banding(self._threshold)
        least = _least_agreement(self._threshold)
        for band in range(bands):
            before, here = made[:, : band * rows], made[:, band * rows : (band + 1) * rows]
            for run in self._runs(here):
                while len(run) > 1:
                    row, run = run[0], run[1:]
                    if (self._cluster[run] == self._cluster[row]).all():
                        break
                    for start in range(0, len(run), _ROWS_AT_ONCE):
                        others = run[start : start + _ROWS_AT_ONCE]
                        others = others[self._cluster[others] != self._cluster[row]]
                        others = others[(made[others] == made[row]).sum(axis=1) >= least]
                        again = (before[others] == before[row]).reshape(len(others), band, rows).all(axis=2).any(axis=1)
                        self._join_similar(int(row), others[~again].tolist())
        _, first, cluster_of = np.unique(self._cluster, return_index=True, return_inverse=True)
        return first[cluster_of]

    def _runs(self, here: Signatures) -> Iterator[Rows]:
        """Rows, ascending, that agree in a band and are not all in one cluster.

        Args:
            here: (n, rows) the band's columns of the signatures.
        """
        key = np.zeros(len(here), dtype=np.uint64)
        for column in here.T:
            key = key * np.uint64(0x9E3779B97F4A7C15) + column  # texts that collide only here fail the comparison
        order = np.argsort(key, kind="stable")
        starts = np.flatnonzero(np.diff(key[order], prepend=~key[order[:1]]))
        cluster = self._cluster[order]
        mixed = np.minimum.reduceat(cluster, starts) != np.maximum.reduceat(cluster, starts)
        ends = np.append(starts[1:], len(order))
        for start, end in zip(starts[mixed].tolist(), ends[mixed].tolist(), strict=True):
            yield order[start:end]

    def _join_similar(self, row: int, others: Sequence[int]) -> None:
        for other in others:
            if self._cluster[row] != self._cluster[other] and self._similar(row, other):
                self._join(row, other)

    def _similar(self, row: int, other: int) -> bool:
        leaders = sorted((int(self._leader[row]), int(self._leader[other])))
        if leaders != sorted((row, other)):
            least_distance = 1 - self._similarity(*leaders) - self._to_leader[row] - self._to_leader[other]
            if least_distance > 1 - self._threshold + 1e-9:  # beyond what rounding can do
                return False
        return bool(self._similarity(*sorted((row, other))) >= self._threshold)

    def _join(self, row: int, other: int) -> None:
        if self._leader[row] == row and self._leader[other] == other:
            self._leader[other] = row
            self._to_leader[other] = 1 - self._similarity(*sorted((row, other)))
        into, gone = sorted((int(self._cluster[row]), int(self._cluster[other])), key=self._size, reverse=True)
        moved = self._members.pop(gone, [gone])
        self._cluster[moved] = into
        self._members.setdefault(into, [into]).extend(moved)

    def _size(self, cluster: int) -> int:
        return len(self._members.get(cluster, (cluster,)))
