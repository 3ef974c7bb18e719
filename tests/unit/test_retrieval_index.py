"""The dense index knows whose it is, finds what exact search finds, and never makes up a passage."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragline import io
from ragline.errors import ConfigError, DataError, MissingArtifact, ModelError, ServiceError
from ragline.retrieval import calibrate, encoder, index, structures
from tests.conftest import ROOT
from tests.fixtures.small import passage

# Unit vectors in the plane: right, up, left.
VECTORS = np.array([[1, 0], [0, 1], [-1, 0]], dtype=np.float32)
PASSAGES = [passage(f"d{n}#0000") for n in range(3)]
KINDS = ("flat", "hnsw", "ivfpq")


def clustered(n: int, dim: int = 16, seed: int = 0) -> io.Vectors:
    """Unit vectors around one centre for every twenty of them."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n // 20, dim))
    vectors = centres[rng.integers(len(centres), size=n)] + 0.4 * rng.normal(size=(n, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


MANY = clustered(2000)


@pytest.fixture(scope="module")
def built() -> dict[str, index.Index]:
    return {kind: index.build(MANY, kind, recall=0.95) for kind in KINDS}


# --- search ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ann", ["flat", "hnsw", "auto"])
def test_nearest_first(ann):
    scores, rows = index.search(index.build(VECTORS, ann), np.array([[0.8, 0.6]], dtype=np.float32), 3)
    assert rows.tolist() == [[0, 1, 2]]
    assert scores[0] == pytest.approx([0.8, 0.6, -0.8])  # cosines by hand


@pytest.mark.parametrize("ann", ["flat", "hnsw"])
def test_k_beyond_the_corpus_gives_each_passage_once(ann):
    _, rows = index.search(index.build(VECTORS, ann), VECTORS[:1], 10)
    assert sorted(rows[0].tolist()) == [0, 1, 2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 10, 50])
def test_a_score_is_the_exact_cosine_whatever_the_structure(built, kind, k):
    scores, rows = index.search(built[kind], MANY[:40], k)
    assert rows.min() >= 0 and (np.diff(scores, axis=1) <= 0).all()
    for asked, found, values in zip(MANY, rows, scores, strict=False):
        assert len(set(found)) == k
        assert values == pytest.approx(MANY[found] @ asked, abs=1e-6)
    assert (rows[:, 0] == np.arange(40)).all()  # a vector's nearest is itself


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_recall_against_faiss_own_exact_search(built, kind):
    asked = calibrate.stand_ins(MANY)[::5]
    _, truth = faiss.knn(asked, MANY, 10, metric=faiss.METRIC_INNER_PRODUCT)
    _, rows = index.search(built[kind], asked, 10)
    shared = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(truth, rows, strict=True)])
    assert shared >= 0.9  # 0.95 was asked for on all 500; here are 100


def test_flat_agrees_with_faiss_flat():
    truth = faiss.IndexFlatIP(16)
    truth.add(MANY)
    assert index.search(index.build(MANY, "flat"), MANY[:50], 10)[1].tolist() == truth.search(MANY[:50], 10)[1].tolist()


def test_row_minus_one_stays_minus_one():
    """One list of sixteen is probed, so that 600 of 1000 cannot be proposed."""
    half = clustered(1000, dim=4)
    structure = index.build(half, "ivfpq", recall=0.01).structure
    narrow = index.Index(half, structure, index.Settings("ivfpq", effort=1, factor=2, recall=0.1, queries=1))
    scores, rows = index.search(narrow, half[:5], 600)
    assert (rows == -1).any(axis=1).all()
    assert (scores[rows == -1] == -np.inf).all() and np.isfinite(scores[rows != -1]).all()
    assert all((row[np.argmax(row == -1) :] == -1).all() for row in rows)  # at the end only


@pytest.mark.parametrize("kind", KINDS)
def test_one_question_alone_is_answered_as_in_a_batch(built, kind):
    together = index.search(built[kind], MANY[:20], 10)[1]
    alone = [index.search(built[kind], MANY[i : i + 1], 10)[1][0].tolist() for i in range(20)]
    assert together.tolist() == alone


def test_equal_vectors_rank_by_row():
    twins = np.repeat(MANY[:200], 10, axis=0)  # row r equals the nine others of r // 10
    for kind in KINDS:
        _, rows = index.search(index.build(twins, kind, recall=0.9), twins[:30], 10)
        assert (np.diff(rows, axis=1) > 0).all(), kind


def test_float16_vectors_find_the_same():
    halves = MANY.astype(np.float16)
    for kind in ("flat", "ivfpq"):
        scores, rows = index.search(index.build(halves, kind, recall=0.9), MANY[:20], 5)
        assert (rows[:, 0] == np.arange(20)).all()
        assert scores[:, 0] == pytest.approx(1, abs=1e-3)  # eleven bits a number


@pytest.mark.slow
def test_float16_finds_what_float32_finds_of_real_texts():
    """Documentation of pandas under the packaged encoder; the first lines ask."""
    texts = sorted(
        {text for name in dir(pandas.DataFrame) if (text := inspect.getdoc(getattr(pandas.DataFrame, name)))}
    )
    assert len(texts) > 200
    base = encoder.load("builtin:minilm")
    asked = encoder.encode_questions(base, [text.split("\n")[0] for text in texts])
    vectors = encoder.encode_passages(base, texts)
    scores, rows = index.search(index.build(vectors, "flat"), asked, 10)
    near, found = index.search(index.build(vectors.astype(np.float16), "flat"), asked, 10)
    # Each number is off by 2^-11 of itself at most, so a product of unit vectors by 2^-11 = 0.0005.
    assert np.abs(near - scores).max() < 2**-11
    shared = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows, found, strict=True)])
    assert shared >= 0.99 and np.mean(rows[:, 0] == found[:, 0]) >= 0.99


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 30), k=st.integers(1, 40), ann=st.sampled_from(["flat", "hnsw", "auto"]))
def test_every_passage_once_at_any_size(n, k, ann):
    vectors = MANY[:n]
    scores, rows = index.search(index.build(vectors, ann, recall=0.5), MANY[50:53], k)
    assert rows.shape == scores.shape == (3, min(n, k))
    for found in rows:
        real = found[found >= 0]
        assert len(set(real)) == len(real) and (real < n).all()


# --- what is refused -------------------------------------------------------------------------------


def test_no_vectors():
    with pytest.raises(DataError, match="expected at least one passage, got none"):
        index.build(np.zeros((0, 2), dtype=np.float32), "flat")


def test_vectors_of_another_size():
    with pytest.raises(ModelError, match="expected vectors of 2 numbers, got 3"):
        index.search(index.build(VECTORS, "flat"), np.ones((1, 3), dtype=np.float32), 1)


@pytest.mark.parametrize(("value", "said"), [(np.nan, "nan"), (np.inf, "inf"), (0.0, "0")])
@pytest.mark.parametrize("ann", KINDS)
def test_a_vector_that_is_not_of_unit_length(ann, value, said):
    broken = MANY.copy()
    broken[1234] = value
    with pytest.raises(ModelError, match=rf"index: vector 1234: expected unit length, got {said}; the encoder"):
        index.build(broken, ann)


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_a_question_that_is_no_direction(value):
    with pytest.raises(ModelError, match="expected finite question vectors other than zero"):
        index.search(index.build(VECTORS, "flat"), np.full((1, 2), value, dtype=np.float32), 1)


def test_too_few_passages_to_learn_from():
    with pytest.raises(ConfigError, match=r"build_index\.ann: ivfpq learns .* at least 1000 passages, got 999; set it"):
        index.build(MANY[:999], "ivfpq")


def test_a_recall_out_of_reach(monkeypatch):
    monkeypatch.setitem(calibrate.EFFORTS, "ivfpq", (1,))
    monkeypatch.setattr(calibrate, "FACTORS", (2,))
    with pytest.raises(ConfigError, match=r"build_index\.recall: expected recall@10 of at least 0.99, got 0\.\d+ at m"):
        index.build(MANY, "ivfpq")


# --- auto ------------------------------------------------------------------------------------------


def test_auto_is_flat_while_that_is_quick():
    assert index.build(MANY, "auto").settings == calibrate.EXACT


def test_auto_takes_the_next_structure_where_flat_is_slow():
    # flat: 5000 vectors × 256 numbers × 4 bytes at 5 GB/s are 1.024 ms
    vectors = clustered(5000, dim=256)
    assert calibrate.estimate_ms(vectors.shape, calibrate.EXACT) == pytest.approx(1.024)
    chosen = index.build(vectors, "auto", recall=0.9, latency_ms=0.9).settings
    assert chosen.ann == "ivfpq" and chosen.recall >= 0.9
    assert calibrate.estimate_ms(vectors.shape, chosen) <= 0.9


def test_auto_says_what_each_structure_reached():
    with pytest.raises(ConfigError, match=r"within 0.001 ms .* got flat 1.0000 at 0.0 ms, ivfpq .*, hnsw .*; raise"):
        index.build(MANY, "auto", latency_ms=0.001)


@given(n=st.integers(1000, 10_000_000))
def test_every_list_has_enough_to_learn_from(n):
    lists = structures.lists_of(n)
    assert lists & (lists - 1) == 0 and 16 <= lists <= 4 * n**0.5
    assert n / lists >= 39  # FAISS warns below


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_cheaper_settings_come_first(kind):
    costs = [calibrate.estimate_ms((10**6, 384), s) for s in calibrate._ladder(kind, (10**6, 384))]
    assert costs == sorted(costs) and len(costs) > 10


def test_more_recall_never_costs_less(built):
    structure = built["ivfpq"].structure
    costs = [
        calibrate.estimate_ms(MANY.shape, calibrate.calibrate(structure, "ivfpq", MANY, recall))
        for recall in (0.5, 0.8, 0.95)
    ]
    assert costs == sorted(costs)


# --- the same bytes --------------------------------------------------------------------------------

BUILD = """
import sys, pathlib, numpy as np
from ragline.retrieval import index
folder = pathlib.Path(sys.argv[1])
vectors = np.load(folder / "vectors.npy", mmap_mode="r")
mark = index.Fingerprint("encoder-a", "passages", *vectors.shape, vectors.dtype.name)
for kind in ("hnsw", "ivfpq"):
    built = index.build(vectors, kind, recall=0.9)
    index.write(built, mark, folder / f"{kind}.faiss", folder / "fingerprint.json")
"""


@pytest.mark.slow
def test_any_number_of_threads_gives_the_same_bytes(tmp_path):
    made = []
    for threads in ("1", "2", "3"):
        folder = tmp_path / threads
        folder.mkdir()
        np.save(folder / "vectors.npy", clustered(3000, dim=64))
        environment = {"OMP_NUM_THREADS": threads, "PYTHONPATH": str(ROOT), "PATH": ""}
        subprocess.run([sys.executable, "-c", BUILD, folder], check=True, env=environment)
        made.append({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
    assert made[0] == made[1] == made[2]
    assert {"hnsw.faiss", "hnsw.json", "ivfpq.faiss", "ivfpq.json"} < made[0].keys()


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_built_alike_twice(built, kind):
    again = index.build(MANY, kind, recall=0.95)
    assert again.settings == built[kind].settings
    assert faiss.serialize_index(again.structure).tobytes() == faiss.serialize_index(built[kind].structure).tobytes()


# --- files -----------------------------------------------------------------------------------------


def write(folder: Path, vectors: io.Vectors, made: index.Index, encoder: str = "encoder-a") -> tuple[Path, Path]:
    """Vectors, structure and fingerprint as the stages leave them."""
    paths = folder / "ann.faiss", folder / "fingerprint.json"
    io.write_vectors(vectors, folder / "vectors.npy")
    mark = index.fingerprint(encoder, PASSAGES, vectors)
    index.write(made, mark, *paths)
    return paths


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, Path]:
    return write(tmp_path, VECTORS, index.build(VECTORS, "hnsw"))


@pytest.mark.parametrize("kind", KINDS)
def test_write_then_read(tmp_path, built, kind):
    opened = index.read(*write(tmp_path, MANY, built[kind]), "encoder-a", PASSAGES)
    assert opened.settings == built[kind].settings
    assert isinstance(opened.vectors, np.memmap)
    for before, after in zip(
        index.search(built[kind], MANY[:20], 10), index.search(opened, MANY[:20], 10), strict=True
    ):
        assert np.array_equal(before, after)


def test_the_fingerprint_that_training_hangs_on_does_not_know_the_structure(tmp_path, built):
    marks = []
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        marks.append(write(tmp_path / kind, MANY, built[kind])[1].read_bytes())
    assert marks[0] == marks[1] == marks[2]


def test_settings_and_recall_stand_beside_the_structure(tmp_path, built):
    ann, _ = write(tmp_path, MANY, built["ivfpq"])
    card = json.loads((tmp_path / "ann.json").read_text())
    assert card["ann"] == "ivfpq" and card["recall"] >= 0.95 and card["queries"] == 500
    assert card["size"] == ann.stat().st_size


def test_flat_holds_no_second_copy_of_the_vectors(tmp_path, built):
    assert write(tmp_path, MANY, built["flat"])[0].stat().st_size < 100


def test_a_deleted_passage_is_gone(tmp_path, built):
    fewer = np.delete(MANY, 7, axis=0)
    opened = index.read(*write(tmp_path, fewer, index.build(fewer, "hnsw")), "encoder-a", PASSAGES)
    scores, rows = index.search(opened, MANY[7:8], len(fewer))
    assert rows.max() < len(fewer) and scores[0, 0] < 0.9999


def test_index_of_another_encoder(written):
    with pytest.raises(
        ModelError, match=r"index of another encoder: expected encoder-b, got encoder-a; run `dvc repro"
    ):
        index.read(*written, "encoder-b", PASSAGES)


def test_index_over_other_passages(written):
    with pytest.raises(ModelError, match=r"index over other passages: expected these 2, got 3"):
        index.read(*written, "encoder-a", PASSAGES[:2])


def test_structure_of_another_encoder_of_the_same_size(tmp_path, written):
    """Both have three vectors of two numbers; only the settings beside the structure tell them apart."""
    (tmp_path / "other").mkdir()
    other, _ = write(tmp_path / "other", VECTORS, index.build(VECTORS, "hnsw"), encoder="encoder-b")
    for name in ("ann.faiss", "ann.json"):
        (tmp_path / name).write_bytes(other.with_name(name).read_bytes())
    with pytest.raises(ModelError, match=r"ann\.faiss: structure over other vectors than .*fingerprint\.json tells of"):
        index.read(*written, "encoder-a", PASSAGES)


def test_vectors_kept_in_another_type(tmp_path, written):
    io.write_vectors(VECTORS.astype(np.float16), tmp_path / "vectors.npy")
    with pytest.raises(ModelError, match="expected 3 × 2 float32 vectors, got 3 × 2 float16; run `dvc"):
        index.read(*written, "encoder-a", PASSAGES)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_type_of_the_vectors_is_read_back(tmp_path, dtype):
    vectors = MANY.astype(dtype)
    opened = index.read(*write(tmp_path, vectors, index.build(vectors, "flat")), "encoder-a", PASSAGES)
    assert opened.vectors.dtype == dtype and isinstance(opened.vectors, np.memmap)
    # 2000 × 16 numbers after a header of 128 bytes
    assert (tmp_path / "vectors.npy").stat().st_size == 128 + 2000 * 16 * np.dtype(dtype).itemsize


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_a_vector_damaged_on_the_disk_is_named_when_search_comes_to_it(tmp_path, built, kind, value, dtype):
    whole = MANY.astype(dtype)
    paths = write(tmp_path, whole, index.Index(whole, built[kind].structure, built[kind].settings))
    broken = whole.copy()
    broken[7, 3] = value
    io.write_vectors(broken, tmp_path / "vectors.npy")
    opened = index.read(*paths, "encoder-a", PASSAGES)
    with pytest.raises(
        DataError, match=r"vectors\.npy: vector 7: expected finite numbers, got NaN .*; delete it and run"
    ):
        index.search(opened, MANY[7:8], 10)


def test_vectors_of_another_corpus(tmp_path, written):
    io.write_vectors(VECTORS[:2], tmp_path / "vectors.npy")
    with pytest.raises(ModelError, match="expected 3 × 2 float32 vectors, got 2 × 2 float32"):
        index.read(*written, "encoder-a", PASSAGES)


def test_truncated_structure(written):
    whole = written[0].read_bytes()
    written[0].write_bytes(whole[:-9])
    with pytest.raises(
        ModelError, match=rf"damaged index: expected {len(whole)} bytes, got {len(whole) - 9}; run `dvc"
    ):
        index.read(*written, "encoder-a", PASSAGES)


def test_truncated_vectors(tmp_path, written):
    path = tmp_path / "vectors.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match=r"vectors\.npy: not a vector file"):
        index.read(*written, "encoder-a", PASSAGES)


def test_damaged_structure_of_the_right_size(written):
    written[0].write_bytes(b"not an index".ljust(written[0].stat().st_size))
    with pytest.raises(ModelError, match=r"ann\.faiss: damaged index: expected a FAISS file"):
        index.read(*written, "encoder-a", PASSAGES)


@pytest.mark.parametrize("name", ["fingerprint.json", "ann.json"])
def test_settings_of_another_version(tmp_path, written, name):
    (tmp_path / name).write_text('{"kind": "flat"}')
    with pytest.raises(ModelError, match=rf"{name}: not .* index.*; run `dvc repro"):
        index.read(*written, "encoder-a", PASSAGES)


def test_missing_index(tmp_path):
    with pytest.raises(MissingArtifact, match=r"run `dvc repro rebuild_index`"):
        index.check(tmp_path / "data/index/tuned/fingerprint.json", "encoder-a", PASSAGES)


def test_a_disk_that_refuses_leaves_nothing(tmp_path):
    (tmp_path / ".ann.faiss.part").mkdir()  # FAISS cannot open a folder for writing
    with pytest.raises(ServiceError, match=r"ann\.faiss: cannot write"):
        write(tmp_path, VECTORS, index.build(VECTORS, "flat"))
    assert not (tmp_path / "ann.faiss").exists()
