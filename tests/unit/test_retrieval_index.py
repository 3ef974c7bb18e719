"""The dense index knows whose it is, and never makes up a passage."""

from pathlib import Path

import numpy as np
import pytest

from ragline.errors import DataError, MissingArtifact, ModelError
from ragline.retrieval import index
from tests.fixtures.small import passage

# Unit vectors in the plane: right, up, left.
VECTORS = np.array([[1, 0], [0, 1], [-1, 0]], dtype=np.float32)
PASSAGES = [passage(f"d{n}#0000") for n in range(3)]


@pytest.mark.parametrize("ann", ["flat", "hnsw"])
def test_nearest_first(ann):
    scores, rows = index.search(index.build(VECTORS, ann), np.array([[0.8, 0.6]], dtype=np.float32), 3)
    assert rows.tolist() == [[0, 1, 2]]
    assert scores[0] == pytest.approx([0.8, 0.6, -0.8])  # cosines by hand


def test_k_beyond_the_corpus_gives_each_passage_once():
    _, rows = index.search(index.build(VECTORS, "flat"), VECTORS[:1], 10)
    assert sorted(rows[0].tolist()) == [0, 1, 2]


def test_hnsw_is_built_alike_twice():
    vectors = np.random.default_rng(0).normal(size=(500, 16)).astype(np.float32)
    built = [index.faiss.serialize_index(index.build(vectors, "hnsw")).tobytes() for _ in range(2)]
    assert built[0] == built[1]


def test_no_vectors():
    with pytest.raises(DataError, match="expected at least one passage, got none"):
        index.build(np.zeros((0, 2), dtype=np.float32), "flat")


def test_vectors_of_another_size():
    with pytest.raises(ModelError, match="expected vectors of 2 numbers, got 3"):
        index.search(index.build(VECTORS, "flat"), np.ones((1, 3), dtype=np.float32), 1)


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "ann.faiss", tmp_path / "fingerprint.json"
    mark = index.Fingerprint("encoder-a", index.passages_digest(PASSAGES), 3, 2, "flat")
    index.write(index.build(VECTORS, "flat"), mark, *paths)
    return paths


def test_write_then_read(written):
    assert index.read(*written, "encoder-a", PASSAGES).ntotal == 3


def test_index_of_another_encoder(written):
    with pytest.raises(
        ModelError, match=r"index of another encoder: expected encoder-b, got encoder-a; run `dvc repro"
    ):
        index.read(*written, "encoder-b", PASSAGES)


def test_index_over_other_passages(written):
    with pytest.raises(ModelError, match=r"index over other passages: expected these 2, got 3"):
        index.read(*written, "encoder-a", PASSAGES[:2])


def test_damaged_index(written):
    written[0].write_bytes(b"not an index")
    with pytest.raises(ModelError, match=r"ann\.faiss: damaged index"):
        index.read(*written, "encoder-a", PASSAGES)


def test_missing_index(tmp_path):
    with pytest.raises(MissingArtifact, match=r"run `dvc repro rebuild_index`"):
        index.check(tmp_path / "data/index/tuned/fingerprint.json", "encoder-a", PASSAGES)
