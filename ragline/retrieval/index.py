"""The dense index: exact vectors on disk, a FAISS structure that proposes rows of them, and whose they are.

A structure only proposes. What it proposes is ranked again by the exact vectors, so that a passage has the same score
whatever the structure: thresholds and weights chosen on scores hold for all of them.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import faiss
import numpy as np
import numpy.typing as npt

from ragline import io
from ragline.artifacts import BASE_VECTORS
from ragline.errors import DataError, ModelError
from ragline.io import Vectors
from ragline.retrieval import calibrate, exact, structures
from ragline.retrieval.calibrate import CUT, Ann, Settings
from ragline.retrieval.structures import propose, spread, take
from ragline.types import Passage

log = logging.getLogger(__name__)

Scores = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Parsed = TypeVar("Parsed")

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
    dtype: str
    """float32 or float16: training reads the vectors, so it hangs on that, too."""


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


def passages_digest(passages: Sequence[Passage]) -> str:
    """sha256 over ids and encoded texts, in order."""
    return io.digest(*(io.digest(p.passage_id, p.encoded_text) for p in passages))


def fingerprint(encoder: str, passages: Sequence[Passage], vectors: Vectors) -> Fingerprint:
    """The fingerprint of the vectors that this encoder gave these passages."""
    n, dim = vectors.shape
    return Fingerprint(encoder, passages_digest(passages), n, dim, vectors.dtype.name)


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
    exact.check_unit(vectors)
    with structures.one_thread():
        return Index(vectors, *calibrate.chosen(vectors, ann, recall, latency_ms))


# --- search ----------------------------------------------------------------------------------------


def search(index: Index, vectors: Vectors, k: int) -> tuple[Scores, Rows]:
    """Find the k passages closest to each question by inner product, ties by row.

    Args:
        vectors: (n_questions, d) float32, rows of unit length.
        k: passages per question, at least 1; cut to the size of the index.

    Returns:
        scores: (n_questions, k) float32 in [-1, 1] but for rounding (5e-4 with float16 vectors), falling along each
            row; -inf where there is no passage.
        rows: (n_questions, k) int64; -1 where there is no passage.

    Raises:
        ModelError: `d` differs from the index; a question's vector is zero or not finite.
        DataError: a passage's vector is not finite.
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
    proposed = propose(index.structure, kind, asked, effort, pool)
    for i, candidates in enumerate(proposed):
        present = np.sort(candidates[candidates >= 0])  # FAISS pads with -1; rising, so that a stable sort ties by row
        products = exact.cosines(asked[i], index.vectors[present])
        if not np.isfinite(products).all():
            exact.check_finite(index.vectors, present)
        order = np.argsort(-products, kind="stable")[:k]
        scores[i, : len(order)], rows[i, : len(order)] = products[order], present[order]
    return scores, rows


def log_speed(index: Index) -> None:
    """Log how long one query takes now, one after the other; figures of a clock belong in no output."""
    times = []
    for row in spread(len(index.vectors), SPEED_QUERIES):
        started = time.perf_counter()
        search(index, take(index.vectors, slice(row, row + 1)), CUT)
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
    got = f"{' × '.join(map(str, vectors.shape))} {vectors.dtype}"
    if got != (wanted := f"{mark.n} × {mark.dim} {mark.dtype}") or mark.n == 0:
        raise ModelError(f"{mark_path}: expected {wanted} vectors, got {got}; {MEND}")
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
