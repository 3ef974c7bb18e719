"""Which structure is built, and how it is searched: the cheapest that reaches a recall, measured when it is built."""

import functools
from dataclasses import dataclass, replace
from typing import Literal

import faiss
import numpy as np

from ragline.errors import ConfigError
from ragline.io import Vectors
from ragline.retrieval import exact
from ragline.retrieval.structures import (
    HNSW_LINKS,
    MIN_LEARNED,
    Kind,
    Rows,
    hnsw,
    ivfpq,
    lists_of,
    propose,
    spread,
    take,
)

Ann = Literal["flat", "hnsw", "ivfpq", "auto"]

QUERIES = 500
"""Stand-ins for questions that a structure is calibrated on."""
CUT = 10
"""Recall is taken at this rank."""
FACTORS = (2, 4, 8, 16, 32, 64)
EFFORTS: dict[Kind, tuple[int, ...]] = {
    "hnsw": (32, 64, 128, 256, 512, 1024),
    "ivfpq": (1, 2, 4, 8, 16, 32, 64, 128, 256),
}
BY_SIZE: tuple[Kind, ...] = ("flat", "ivfpq", "hnsw")
"""Bytes beside the vectors, at 384 numbers: none, 110 a vector, 660."""
BYTES_PER_MS = 5e6
HOP_MS = 0.0003
RANK_MS = 0.002
"""Nominal speed of one core: bytes scanned, a vector compared in a graph, a proposal ranked again."""


@dataclass(frozen=True)
class Settings:
    """How a structure is searched."""

    ann: Kind
    effort: int
    """Lists probed (ivfpq) or candidates kept (hnsw); 0 where every vector is compared."""
    factor: int
    """Proposals per passage wanted (as for ten where fewer are), ranked again by the exact vectors; 0 where every
    vector is compared."""
    recall: float
    """recall@10 against exact search when it was built, see `calibrate`."""
    queries: int
    """Stand-ins for questions that this was measured on; 0 where it is 1 by construction."""


EXACT = Settings("flat", effort=0, factor=0, recall=1.0, queries=0)

Chosen = tuple[faiss.Index, Settings]


def chosen(vectors: Vectors, ann: Ann, recall: float, latency_ms: float) -> Chosen:
    """A structure, empty for `flat`, and the settings that reach the recall.

    Args:
        vectors: (n, d) float32 or float16, rows of unit length; may be memory-mapped, and is read in blocks.
        recall: recall@10 that `hnsw`, `ivfpq` and `auto` must reach.
        latency_ms: for `auto`: what one query may cost on one core by `estimate_ms`.

    Raises:
        ConfigError: too few passages to learn from; the recall is out of reach.
    """
    if ann == "auto":
        return _smallest(vectors, recall, latency_ms)
    if ann == "ivfpq" and len(vectors) < MIN_LEARNED:
        raise ConfigError(
            f"build_index.ann: ivfpq learns its codes from at least {MIN_LEARNED} passages, got {len(vectors)}; "
            "set it to flat or auto"
        )
    structure, settings = _calibrated(vectors, ann, recall)
    if settings.recall < recall:
        raise ConfigError(
            f"build_index.recall: expected recall@{CUT} of at least {recall}, got {settings.recall:.4f} at most "
            f"with {ann} over {len(vectors)} passages; lower it, or set build_index.ann to auto or flat"
        )
    return structure, settings


def _smallest(vectors: Vectors, recall: float, latency_ms: float) -> Chosen:
    """The first structure by size that meets both targets."""
    tried = []
    for kind in BY_SIZE:
        if kind == "ivfpq" and len(vectors) < MIN_LEARNED:
            continue
        structure, settings = _calibrated(vectors, kind, recall)
        cost = estimate_ms(vectors.shape, settings)
        if settings.recall >= recall and cost <= latency_ms:
            return structure, settings
        tried.append(f"{kind} {settings.recall:.4f} at {cost:.1f} ms")
    raise ConfigError(
        f"build_index: expected recall@{CUT} of {recall} within {latency_ms} ms a query over {len(vectors)} passages, "
        f"got {', '.join(tried)}; raise build_index.latency_ms or lower build_index.recall"
    )


def _calibrated(vectors: Vectors, kind: Kind, recall: float) -> Chosen:
    if kind == "flat":
        return faiss.IndexFlatIP(vectors.shape[1]), EXACT
    structure = hnsw(vectors) if kind == "hnsw" else ivfpq(vectors)
    return structure, calibrate(structure, kind, vectors, recall)


def calibrate(structure: faiss.Index, kind: Kind, vectors: Vectors, recall: float) -> Settings:
    """The cheapest settings that reach a recall@10; where none does, those that come closest.

    It is measured on 500 stand-ins for questions. A passage as near as the tenth counts as found, as duplicates are
    equals.
    """
    asked = stand_ins(vectors)
    k = min(CUT, len(vectors))
    floors = exact.nearest(asked, vectors, k)[0][:, -1]

    @functools.cache
    def found(effort: int) -> Rows:
        """(queries, pool): true neighbours among the first so many proposals."""
        pool = FACTORS[-1] * CUT
        hits = np.zeros((len(asked), pool), dtype=np.int64)
        for i, candidates in enumerate(propose(structure, kind, asked, effort, pool)):
            present = candidates[candidates >= 0]
            hits[i, : len(present)] = exact.cosines(asked[i], vectors[present]) >= floors[i]
        counts: Rows = np.minimum(hits.cumsum(axis=1), k)
        return counts

    best: Settings | None = None
    for settings in _ladder(kind, vectors.shape):
        share = float(found(settings.effort)[:, settings.factor * CUT - 1].mean()) / k
        measured = replace(settings, recall=share, queries=len(asked))
        if share >= recall:
            return measured
        if best is None or share > best.recall:
            best = measured
    assert best is not None
    return best


def stand_ins(vectors: Vectors) -> Vectors:
    """Vectors that lie to the passages about as questions do; the questions themselves are not known here.

    A passage is a poor one: it is nearer to its neighbours than a question is to any passage, and finds them too
    easily. So 500 passages, evenly spread, are moved by the difference between two others: off the passages, but along
    directions in which passages differ.

    Returns:
        (at most 500, d) float32, rows of unit length.
    """
    n = len(vectors)
    rows = spread(n, QUERIES)
    apart = take(vectors, (rows + n // 3) % n) - take(vectors, (rows + 2 * n // 3) % n)
    moved = take(vectors, rows) + apart
    asked: Vectors = moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return asked


def _ladder(kind: Kind, shape: tuple[int, ...]) -> list[Settings]:
    """Settings worth trying, cheapest first."""
    most = lists_of(shape[0]) if kind == "ivfpq" else EFFORTS[kind][-1]
    pairs = [(e, f) for e in EFFORTS[kind] for f in FACTORS if e <= most and (kind == "ivfpq" or f * CUT <= e)]
    ladder = [Settings(kind, effort, factor, recall=0.0, queries=0) for effort, factor in pairs]
    return sorted(ladder, key=lambda s: (estimate_ms(shape, s), s.effort, s.factor))


def estimate_ms(shape: tuple[int, ...], settings: Settings) -> float:
    """What one query for ten passages costs on one core, from the work it takes and nominal speeds: no clock.

    Args:
        shape: (n, d) of the vectors.
    """
    n, dim = shape
    if settings.ann == "flat":
        return n * dim * 4 / BYTES_PER_MS
    pool = settings.factor * CUT
    if settings.ann == "hnsw":
        return max(settings.effort, pool) * HNSW_LINKS * HOP_MS + pool * RANK_MS
    lists = lists_of(n)
    scanned = lists * dim * 4 + settings.effort * (n / lists) * dim / 4
    return scanned / BYTES_PER_MS + pool * RANK_MS
