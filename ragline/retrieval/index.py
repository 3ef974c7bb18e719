"""The dense index: exact vectors on disk, a FAISS structure that proposes rows of them, and whose they are.

A structure only proposes. What it proposes is ranked again by the exact vectors, so that a passage has the same score
whatever the structure: thresholds and weights chosen on scores hold for all of them.
"""

import contextlib
import functools
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import faiss
import numpy as np
import numpy.typing as npt

from ragline import io
from ragline.artifacts import BASE_VECTORS
from ragline.errors import ConfigError, DataError, ModelError
from ragline.io import Vectors
from ragline.retrieval import exact
from ragline.types import Passage

log = logging.getLogger(__name__)

Kind = Literal["flat", "hnsw", "ivfpq"]
Ann = Literal["flat", "hnsw", "ivfpq", "auto"]
Scores = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Parsed = TypeVar("Parsed")

BLOCK = 16_384
"""Vectors handled at a time: 25 MB at 384 numbers."""
HNSW_LINKS = 32
HNSW_BUILD_EFFORT = 128
LEARN_PER_LIST = 40
"""Vectors that k-means learns each list from; FAISS wants 39 at least."""
MIN_LEARNED = 1000
"""Passages below which lists and codes cannot be learnt."""
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
SPEED_QUERIES = 50
MEND = "run `dvc repro build_index rebuild_index`"


@dataclass(frozen=True)
class Fingerprint:
    """Whose vectors these are. It says nothing of the structure: training hangs on this, and not on that."""

    encoder: str
    passages: str
    """sha256 over ids and encoded texts, in order."""
    n: int
    dim: int


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


@dataclass(frozen=True)
class Index:
    """Vectors, and what finds the nearest of them."""

    vectors: Vectors
    """(n, d) float32 or float16, rows of unit length; may be memory-mapped."""
    structure: Any
    """A trained faiss.Index over the same rows; empty where `settings.ann` is flat."""
    settings: Settings


@dataclass(frozen=True)
class _Card(Settings):
    """What `ann.json` holds: the settings, and what the structure belongs to."""

    vectors: str
    """sha256 over the fingerprint of the vectors."""
    size: int
    """Bytes of the structure's file."""


EXACT = Settings("flat", effort=0, factor=0, recall=1.0, queries=0)


def passages_digest(passages: Sequence[Passage]) -> str:
    """sha256 over ids and encoded texts, in order."""
    return io.digest(*(io.digest(p.passage_id, p.encoded_text) for p in passages))


def fingerprint(encoder: str, passages: Sequence[Passage], vectors: Vectors) -> Fingerprint:
    """The fingerprint of the vectors that this encoder gave these passages."""
    return Fingerprint(encoder, passages_digest(passages), *vectors.shape)


# --- build -----------------------------------------------------------------------------------------


def build(vectors: Vectors, ann: Ann, recall: float = 0.99, latency_ms: float = 20.0) -> Index:
    """Build the structure and choose how it is searched, on one thread, so that the bytes do not hang on their number.

    `auto` takes the smallest structure that reaches `recall` within `latency_ms`. Recall is measured; the time is an
    estimate from the work a query costs (`estimate_ms`), as a clock would choose otherwise on another day.

    Args:
        vectors: (n, d) float32 or float16, rows of unit length; may be memory-mapped, and is read in blocks.
        recall: recall@10 that `hnsw`, `ivfpq` and `auto` must reach.
        latency_ms: for `auto`: what one query may cost on one core.

    Raises:
        DataError: there are no vectors.
        ModelError: a vector is not of unit length.
        ConfigError: too few passages to learn from; the recall is out of reach.
    """
    if len(vectors) == 0:
        raise DataError("index: expected at least one passage, got none; check the sources in params.yaml")
    _check_unit(vectors)
    with _one_thread():
        if ann == "auto":
            return _smallest(vectors, recall, latency_ms)
        if ann == "ivfpq" and len(vectors) < MIN_LEARNED:
            raise ConfigError(
                f"build_index.ann: ivfpq learns its codes from at least {MIN_LEARNED} passages, got {len(vectors)}; "
                "set it to flat or auto"
            )
        index = _calibrated(vectors, ann, recall)
    if index.settings.recall < recall:
        raise ConfigError(
            f"build_index.recall: expected recall@{CUT} of at least {recall}, got {index.settings.recall:.4f} at most "
            f"with {ann} over {len(vectors)} passages; lower it, or set build_index.ann to auto or flat"
        )
    return index


def _smallest(vectors: Vectors, recall: float, latency_ms: float) -> Index:
    """The first structure by size that meets both targets."""
    tried = []
    for kind in BY_SIZE:
        if kind == "ivfpq" and len(vectors) < MIN_LEARNED:
            continue
        index = _calibrated(vectors, kind, recall)
        cost = estimate_ms(vectors.shape, index.settings)
        if index.settings.recall >= recall and cost <= latency_ms:
            return index
        tried.append(f"{kind} {index.settings.recall:.4f} at {cost:.1f} ms")
    raise ConfigError(
        f"build_index: expected recall@{CUT} of {recall} within {latency_ms} ms a query over {len(vectors)} passages, "
        f"got {', '.join(tried)}; raise build_index.latency_ms or lower build_index.recall"
    )


def _calibrated(vectors: Vectors, kind: Kind, recall: float) -> Index:
    if kind == "flat":
        return Index(vectors, faiss.IndexFlatIP(vectors.shape[1]), EXACT)
    structure = _hnsw(vectors) if kind == "hnsw" else _ivfpq(vectors)
    return Index(vectors, structure, calibrate(structure, kind, vectors, recall))


def _hnsw(vectors: Vectors) -> faiss.Index:
    """A graph over 8-bit vectors (Malkov and Yashunin, arXiv 1603.09320); insertion order decides it."""
    graph: Any = faiss.index_factory(vectors.shape[1], f"HNSW{HNSW_LINKS}_SQ8", faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = HNSW_BUILD_EFFORT
    graph.train(_take(vectors, _spread(len(vectors), 4 * BLOCK)))
    return _filled(graph, vectors)


def _ivfpq(vectors: Vectors) -> faiss.Index:
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
    structure.train(_take(vectors, _spread(n, LEARN_PER_LIST * lists)))
    return _filled(structure, vectors)


def lists_of(n: int) -> int:
    """Lists of `ivfpq` over n passages: a power of two up to 4 √n that leaves enough to learn each from."""
    most = min(4 * math.sqrt(n), n / LEARN_PER_LIST)
    return 1 << max(0, math.floor(math.log2(most)))


def _filled(structure: faiss.Index, vectors: Vectors) -> faiss.Index:
    for start in range(0, len(vectors), BLOCK):
        structure.add(_take(vectors, slice(start, start + BLOCK)))
    return structure


def _take(vectors: Vectors, rows: Rows | slice) -> Vectors:
    return np.ascontiguousarray(vectors[rows], dtype=np.float32)


def _spread(n: int, wanted: int) -> Rows:
    """At most `wanted` of n rows, evenly apart, rising."""
    size = min(n, wanted)
    return np.arange(size, dtype=np.int64) * n // size


def _check_unit(vectors: Vectors) -> None:
    for start in range(0, len(vectors), BLOCK):
        block = _take(vectors, slice(start, start + BLOCK))
        lengths = np.sqrt(np.vecdot(block, block))
        wrong = np.flatnonzero(~(np.abs(lengths - 1) < 0.01))  # so written, NaN is wrong, too
        if wrong.size:
            raise ModelError(
                f"index: vector {start + wrong[0]}: expected unit length, got {lengths[wrong[0]]:.4g}; "
                "the encoder gives NaN or zeros, or does not normalise: use another"
            )


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """FAISS on one thread, its matrix products too: the order of insertion, and of sums, decides the bytes."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


# --- calibrate -------------------------------------------------------------------------------------


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
        for i, candidates in enumerate(_propose(structure, kind, asked, effort, pool)):
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
    rows = _spread(n, QUERIES)
    apart = _take(vectors, (rows + n // 3) % n) - _take(vectors, (rows + 2 * n // 3) % n)
    moved = _take(vectors, rows) + apart
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


# --- search ----------------------------------------------------------------------------------------


def search(index: Index, vectors: Vectors, k: int) -> tuple[Scores, Rows]:
    """Find the k passages closest to each question by inner product, ties by row.

    Args:
        vectors: (n_questions, d) float32, rows of unit length.
        k: passages per question, at least 1; cut to the size of the index.

    Returns:
        scores: (n_questions, k) float32 in [-1, 1], falling along each row; -inf where there is no passage.
        rows: (n_questions, k) int64; -1 where there is no passage.

    Raises:
        ModelError: `d` differs from the index; a question's vector is zero or not finite.
    """
    n, dim = index.vectors.shape
    if vectors.shape[1] != dim:
        raise ModelError(
            f"index: expected vectors of {dim} numbers, got {vectors.shape[1]}; "
            "another encoder made it: run `dvc repro rebuild_index`"
        )
    asked = np.ascontiguousarray(vectors, dtype=np.float32)
    lengths = np.vecdot(asked, asked)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise ModelError("index: expected finite question vectors other than zero, got others; use another encoder")
    k = min(k, n)
    if index.settings.ann == "flat":
        scores, rows = exact.nearest(asked, index.vectors, k)
        return scores.astype(np.float32), rows
    return _ranked(index, asked, k)


def _ranked(index: Index, asked: Vectors, k: int) -> tuple[Scores, Rows]:
    """Proposals of the structure, ranked by the exact vectors."""
    kind, pool = index.settings.ann, index.settings.factor * max(k, CUT)
    effort = max(index.settings.effort, pool) if kind == "hnsw" else index.settings.effort
    scores = np.full((len(asked), k), -np.inf, dtype=np.float32)
    rows = np.full((len(asked), k), -1, dtype=np.int64)
    proposed = _propose(index.structure, kind, asked, effort, pool)
    for i, candidates in enumerate(proposed):
        present = np.sort(candidates[candidates >= 0])  # FAISS pads with -1; rising, so that a stable sort ties by row
        products = exact.cosines(asked[i], index.vectors[present])
        order = np.argsort(-products, kind="stable")[:k]
        scores[i, : len(order)], rows[i, : len(order)] = products[order], present[order]
    return scores, rows


def _propose(structure: faiss.Index, kind: Kind, asked: Vectors, effort: int, pool: int) -> Rows:
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


def log_speed(index: Index) -> None:
    """Log how long one query takes now, one after the other; figures of a clock belong in no output."""
    times = []
    for row in _spread(len(index.vectors), SPEED_QUERIES):
        started = time.perf_counter()
        search(index, _take(index.vectors, slice(row, row + 1)), CUT)
        times.append(1000 * (time.perf_counter() - started))
    how = index.settings
    log.info(
        "index: %s over %d vectors, effort %d, factor %d, recall@%d %.4f (n = %d); "
        "a query takes %.1f ms, 95 %% at most %.1f ms (n = %d)",
        *(how.ann, len(index.vectors), how.effort, how.factor, CUT, how.recall, how.queries),
        *(float(np.percentile(times, 50)), float(np.percentile(times, 95)), len(times)),
    )


# --- files -----------------------------------------------------------------------------------------


def card_path(ann_path: Path) -> Path:
    """Where the settings of a structure stand: beside it."""
    return ann_path.with_suffix(".json")


def write(index: Index, mark: Fingerprint, ann_path: Path, mark_path: Path) -> None:
    """Write fingerprint, structure and settings; the vectors stand beside them already.

    Raises:
        ServiceError: the disk refused.
    """
    io.write_json(asdict(mark), mark_path)
    with io.whole_file(ann_path) as part:
        try:
            faiss.write_index(index.structure, str(part))
        except RuntimeError as error:
            raise OSError(" ".join(str(error).split())) from error
    card = _Card(**asdict(index.settings), vectors=_owner(mark), size=ann_path.stat().st_size)
    io.write_json(asdict(card), card_path(ann_path))


def _owner(mark: Fingerprint) -> str:
    return io.digest(*map(str, asdict(mark).values()))


def check(mark_path: Path, encoder: str, passages: Sequence[Passage]) -> Fingerprint:
    """Make sure that vectors belong to this encoder and these passages.

    Raises:
        MissingArtifact: none there.
        ModelError: they were made by another encoder or over other passages.
    """
    mark = _parsed(Fingerprint, mark_path, "an index fingerprint")
    if mark.encoder != encoder:
        raise ModelError(
            f"{mark_path}: index of another encoder: expected {encoder[:12]}, got {mark.encoder[:12]}; {MEND}"
        )
    if mark.passages != passages_digest(passages):
        raise ModelError(
            f"{mark_path}: index over other passages: expected these {len(passages)}, got {mark.n}; {MEND}"
        )
    return mark


def read(ann_path: Path, mark_path: Path, encoder: str, passages: Sequence[Passage]) -> Index:
    """Open an index after `check`.

    Raises:
        MissingArtifact, ModelError, DataError: as `check` and `load`.
    """
    return load(ann_path, mark_path, check(mark_path, encoder, passages))


def load(ann_path: Path, mark_path: Path, mark: Fingerprint) -> Index:
    """Open an index whose fingerprint is known to be right; what can be is memory-mapped, nothing is unpickled.

    Raises:
        MissingArtifact: a file is not there.
        ModelError: the files do not belong together, or one is damaged.
        DataError: the vectors are damaged.
    """
    vectors = io.read_vectors(mark_path.with_name(BASE_VECTORS.name))
    if vectors.shape != (mark.n, mark.dim) or mark.n == 0:
        raise ModelError(f"{mark_path}: expected {mark.n} × {mark.dim} vectors, got {vectors.shape}; {MEND}")
    io.require_made(ann_path)
    card = _parsed(_Card, card_path(ann_path), "the settings of an index")
    if card.vectors != _owner(mark):
        raise ModelError(f"{ann_path}: structure over other vectors than {mark_path} tells of; {MEND}")
    if ann_path.stat().st_size != card.size:
        raise ModelError(
            f"{ann_path}: damaged index: expected {card.size} bytes, got {ann_path.stat().st_size}; {MEND}"
        )
    try:
        structure = faiss.read_index(str(ann_path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError:
        raise ModelError(f"{ann_path}: damaged index: expected a FAISS file; {MEND}") from None
    held = 0 if card.ann == "flat" else mark.n
    if (structure.ntotal, structure.d) != (held, mark.dim):
        raise ModelError(
            f"{ann_path}: expected {held} vectors of {mark.dim} numbers, "
            f"got {structure.ntotal} of {structure.d}; {MEND}"
        )
    return Index(vectors, structure, Settings(card.ann, card.effort, card.factor, card.recall, card.queries))


def _parsed(kind: type[Parsed], path: Path, what: str) -> Parsed:
    try:
        return kind(**io.read_json(path))
    except TypeError:
        raise ModelError(f"{path}: not {what}; {MEND}") from None
