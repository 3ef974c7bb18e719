"""The dense index: FAISS over unit vectors, and a fingerprint that says whose they are."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
import numpy.typing as npt

from ragline import io
from ragline.errors import DataError, ModelError
from ragline.io import Vectors
from ragline.types import Passage

Ann = Literal["flat", "hnsw"]
Scores = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

HNSW_LINKS = 32
HNSW_EF = 128
MEND = "run `dvc repro build_index rebuild_index`"


@dataclass(frozen=True)
class Fingerprint:
    """Whose vectors an index holds."""

    encoder: str
    passages: str
    """sha256 over ids and encoded texts, in order."""
    n: int
    dim: int
    ann: str


def passages_digest(passages: Sequence[Passage]) -> str:
    """sha256 over ids and encoded texts, in order."""
    return io.digest(*(part for p in passages for part in (p.passage_id, p.encoded_text)))


def build(vectors: Vectors, ann: Ann) -> faiss.Index:
    """Build a FAISS index for inner product.

    Args:
        vectors: (n, d) float32, rows of unit length.

    Raises:
        DataError: there are no vectors.
    """
    n, dim = vectors.shape
    if n == 0:
        raise DataError("index: expected at least one passage, got none; check the sources in params.yaml")
    if ann == "flat":
        index: faiss.Index = faiss.IndexFlatIP(dim)
    else:
        graph = faiss.IndexHNSWFlat(dim, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = HNSW_EF
        graph.hnsw.efSearch = HNSW_EF
        index = graph
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # the order of insertion decides the graph, so only one thread may insert
    try:
        index.add(np.ascontiguousarray(vectors))
    finally:
        faiss.omp_set_num_threads(threads)
    return index


def search(index: faiss.Index, vectors: Vectors, k: int) -> tuple[Scores, Rows]:
    """Find the k passages closest to each question by inner product.

    Args:
        vectors: (n_questions, d) float32, rows of unit length.
        k: passages per question, at least 1; cut to the size of the index.

    Returns:
        scores: (n_questions, k) float32 in [-1, 1], falling along each row.
        rows: (n_questions, k) int64; -1 where there is no passage.

    Raises:
        ModelError: `d` differs from the index.
    """
    if vectors.shape[1] != index.d:
        raise ModelError(
            f"index: expected vectors of {index.d} numbers, got {vectors.shape[1]}; "
            "another encoder made it: run `dvc repro rebuild_index`"
        )
    scores, rows = index.search(np.ascontiguousarray(vectors), min(k, index.ntotal))
    return scores, rows


def write(index: faiss.Index, mark: Fingerprint, ann_path: Path, mark_path: Path) -> None:
    """Write the index and its fingerprint."""
    with io.whole_file(ann_path) as part:
        part.write_bytes(faiss.serialize_index(index).tobytes())
    io.write_json(asdict(mark), mark_path)


def check(mark_path: Path, encoder: str, passages: Sequence[Passage]) -> Fingerprint:
    """Make sure that an index belongs to this encoder and these passages.

    Raises:
        MissingArtifact: no index there.
        ModelError: it was made by another encoder or over other passages.
    """
    mark = _mark(io.read_json(mark_path), mark_path)
    if mark.encoder != encoder:
        raise ModelError(
            f"{mark_path}: index of another encoder: expected {encoder[:12]}, got {mark.encoder[:12]}; {MEND}"
        )
    if mark.passages != passages_digest(passages):
        raise ModelError(
            f"{mark_path}: index over other passages: expected these {len(passages)}, got {mark.n}; {MEND}"
        )
    return mark


def read(ann_path: Path, mark_path: Path, encoder: str, passages: Sequence[Passage]) -> faiss.Index:
    """Read an index after `check`.

    Raises:
        MissingArtifact, ModelError: as `check`; also when the file is damaged.
    """
    mark = check(mark_path, encoder, passages)
    try:
        index = faiss.deserialize_index(np.fromfile(io.require_made(ann_path), dtype=np.uint8))
    except RuntimeError:
        raise ModelError(f"{ann_path}: damaged index: expected a FAISS file; {MEND}") from None
    if index.ntotal != mark.n:
        raise ModelError(f"{ann_path}: expected {mark.n} vectors, got {index.ntotal}; {MEND}")
    return index


def _mark(value: Any, path: Path) -> Fingerprint:
    try:
        return Fingerprint(**value)
    except TypeError:
        raise ModelError(f"{path}: not an index fingerprint; {MEND}") from None
