"""What FAISS builds over vectors: structures that propose rows which may be nearest, and no more.

They are learnt from and filled with float32 blocks of vectors that may be memory-mapped, float16 ones, too.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any, Literal

import faiss
import numpy as np
import numpy.typing as npt

from ragline.io import Vectors
from ragline.retrieval.exact import as_float32

Kind = Literal["flat", "hnsw", "ivfpq"]
Rows = npt.NDArray[np.int64]

BLOCK = 16_384
"""Vectors handled at a time: 25 MB at 384 numbers."""
HNSW_LINKS = 32
HNSW_BUILD_EFFORT = 128
LEARN_PER_LIST = 40
"""Vectors that k-means learns each list from; FAISS wants 39 at least."""
MIN_LEARNED = 1000
"""Passages below which lists and codes cannot be learnt."""


def hnsw(vectors: Vectors) -> faiss.Index:
    """A graph over 8-bit vectors (Malkov and Yashunin, arXiv 1603.09320); insertion order decides it."""
    graph: Any = faiss.index_factory(vectors.shape[1], f"HNSW{HNSW_LINKS}_SQ8", faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = HNSW_BUILD_EFFORT
    graph.train(take(vectors, spread(len(vectors), 4 * BLOCK)))
    return _filled(graph, vectors)


def ivfpq(vectors: Vectors) -> faiss.Index:
    """Lists around k-means centres, and in them 4-bit codes of what is left, one for two numbers.

    Source: Jégou et al., Product quantization for nearest neighbor search, 2011; codes in registers as in André et al.,
    Quicker ADC, arXiv 1812.09162. They are learnt in a fraction of the time that the usual 8 bits take, and the exact
    ranking of the proposals makes up for what they lose.
    """
    n, dim = vectors.shape
    lists = lists_of(n)
    spec = f"IVF{lists},PQ{dim // math.gcd(dim, 2)}x4fsr"
    structure: Any = faiss.index_factory(dim, spec, faiss.METRIC_INNER_PRODUCT)
    structure.cp.max_points_per_centroid = LEARN_PER_LIST
    structure.train(take(vectors, spread(n, LEARN_PER_LIST * lists)))
    return _filled(structure, vectors)


def lists_of(n: int) -> int:
    """Lists of `ivfpq` over n passages: a power of two up to 4 √n that leaves enough to learn each from."""
    most = min(4 * math.sqrt(n), n / LEARN_PER_LIST)
    return 1 << max(0, math.floor(math.log2(most)))


def _filled(structure: faiss.Index, vectors: Vectors) -> faiss.Index:
    for start in range(0, len(vectors), BLOCK):
        structure.add(take(vectors, slice(start, start + BLOCK)))
    return structure


def propose(structure: faiss.Index, kind: Kind, asked: Vectors, effort: int, pool: int) -> Rows:
    """Rows that may be nearest, best first, -1 where there are fewer.

    Returns:
        (n_questions, at most pool) int64.
    """
    how: Any
    if kind == "hnsw":
        how = faiss.SearchParametersHNSW()  # type: ignore[attr-defined]  # missing from FAISS's stubs
        how.efSearch = effort
        pool = min(pool, effort)  # FAISS would silently keep more candidates than `effort`
    else:
        how = faiss.SearchParametersIVF()
        how.nprobe = effort
    rows: Rows = structure.search(asked, pool, params=how)[1]
    return rows


def take(vectors: Vectors, rows: Rows | slice) -> Vectors:
    """Some rows, (m, d), in memory and float32."""
    return as_float32(vectors[rows])


def spread(n: int, wanted: int) -> Rows:
    """At most `wanted` of n rows, evenly apart, rising."""
    size = min(n, wanted)
    return np.arange(size, dtype=np.int64) * n // size


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """FAISS on one thread, its matrix products too: the order of insertion, and of sums, decides the bytes."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
