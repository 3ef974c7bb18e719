"""Files are whole or absent, reads undo writes, and a wrong line is named."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ragline import io
from ragline.artifacts import OUTPUTS, made_by
from ragline.errors import DataError, MissingArtifact, ServiceError
from ragline.types import Document, Drop, Passage, QAExample
from tests.conftest import ROOT

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)  # no lone surrogates: UTF-8 has none
name = text.filter(lambda value: bool(value.strip()))
splits = st.sampled_from(["train", "dev", "test"])
texts = st.lists(text, max_size=3).map(tuple)
place = st.integers(0, 10**9)

ROWS = {
    Document: st.builds(
        Document, name, text, text, text, st.sampled_from(["markdown", "text", "numpydoc"]), texts, text, splits
    ),
    Passage: st.builds(Passage, name, name, text, text, text, place, place, place, text),
    QAExample: st.builds(
        QAExample, name, text, texts, name, place, place, texts, text, splits, text, st.booleans(), texts
    ),
    Drop: st.builds(Drop, name, text, text, text),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("io")


# --- what is written is read back ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ROWS, ids=lambda kind: kind.__name__)
def test_tables(kind, folder):
    path = folder / f"{kind.__name__}.parquet"

    @settings(max_examples=20, deadline=None)
    @given(st.lists(ROWS[kind], max_size=5))
    def reads_what_was_written(rows):
        io.write_table(rows, kind, path)
        assert io.read_table(kind, path) == rows

    reads_what_was_written()


def test_a_table_of_many_groups_streams(folder):
    rows = [Drop("chunk", str(number), "too short") for number in range(2500)]
    io.write_table(iter(rows), Drop, folder / "many.parquet")
    assert list(io.iter_table(Drop, folder / "many.parquet")) == rows
    groups = pq.ParquetFile(folder / "many.parquet").metadata
    assert [groups.row_group(i).num_rows for i in range(3)] == [1000, 1000, 500]


scores = st.dictionaries(name, st.floats(-10, 10).map(lambda value: round(value, 6)), min_size=1, max_size=4)


@settings(max_examples=50, deadline=None)
@given(run=st.dictionaries(name, scores, max_size=3))
def test_runs(run, folder):
    io.write_run(run, folder / "a.trec", "test")
    assert io.read_run(folder / "a.trec") == run


def test_run_is_ranked_with_ties_by_passage(folder):
    io.write_run({"q1": {"b": 0.5, "a": 0.5, "c c": 2.0}}, folder / "b.trec", "bm25")
    assert (folder / "b.trec").read_text() == (
        "q1 Q0 c%20c 1 2.000000 bm25\nq1 Q0 a 2 0.500000 bm25\nq1 Q0 b 3 0.500000 bm25\n"
    )


@settings(max_examples=30, deadline=None)
@given(
    vectors=npst.arrays(
        np.float32, st.tuples(st.integers(0, 4), st.integers(1, 5)), elements=st.floats(-1, 1, width=32)
    )
)
def test_vectors(vectors, folder):
    for dtype in (np.float32, np.float16):
        kept = vectors.astype(dtype)
        io.write_vectors(kept, folder / "v.npy")
        read = io.read_vectors(folder / "v.npy")
        assert read.dtype == dtype and read.shape == vectors.shape and np.array_equal(read, kept)
        assert isinstance(read, np.memmap) or read.size == 0


def test_vectors_of_any_other_type_are_written_as_float32(folder):
    io.write_vectors(np.ones((2, 3)), folder / "v.npy")
    assert io.read_vectors(folder / "v.npy").dtype == np.float32


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(value=values, rows=st.lists(st.dictionaries(text, values, max_size=3), max_size=4))
def test_json_and_jsonl(value, rows, folder):
    io.write_json(value, folder / "v.json")
    assert io.read_json(folder / "v.json") == value
    io.write_jsonl(rows, folder / "v.jsonl")
    assert list(io.read_jsonl(folder / "v.jsonl")) == list(enumerate(rows, start=1))


def test_json_refuses_what_json_has_not(folder):
    with pytest.raises(ValueError, match="not JSON compliant"):
        io.write_json({"loss": math.nan}, folder / "nan.json")
    assert not (folder / "nan.json").exists()


def test_curves(folder):
    io.write_csv(["step", "loss"], [(1, 0.5), (2, 0.25)], folder / "curve.csv")
    assert io.read_csv(folder / "curve.csv") == [{"step": "1", "loss": "0.5"}, {"step": "2", "loss": "0.25"}]


def test_frames(folder):
    io.write_frame({"question_id": ["q1", "q2"], "f1": [0.5, 1.0]}, folder / "frame.parquet")
    assert io.read_frame(folder / "frame.parquet") == [
        {"question_id": "q1", "f1": 0.5},
        {"question_id": "q2", "f1": 1.0},
    ]


def test_frames_written_block_by_block(folder):
    columns = {"name": str, "score": float, "rank": int, "kept": bool}
    blocks = [{"name": ["a", "b"], "score": [0.5, 1.0], "rank": [1, 2], "kept": [True, False]}]
    blocks.append({"name": ["c"], "score": [2.0], "rank": [3], "kept": [True]})
    with io.write_frames(columns, folder / "frames.parquet") as add:
        for block in blocks:
            add(block)
            assert not (folder / "frames.parquet").exists()
    rows = io.read_frame(folder / "frames.parquet")
    assert rows == [dict(zip(block, row, strict=True)) for block in blocks for row in zip(*block.values(), strict=True)]
    assert list(rows[0]) == list(columns)
    (folder / "frames.parquet").unlink()


def test_a_table_of_no_blocks_still_has_its_columns(folder):
    with io.write_frames({"name": str, "score": float}, folder / "none.parquet"):
        pass
    table = pq.read_table(folder / "none.parquet")
    assert table.num_rows == 0 and table.schema.types == [pa.string(), pa.float64()]


def test_equal_input_gives_equal_bytes(folder):
    rows = [Drop("chunk", "a", "too short")]
    for copy in ("one", "two"):
        io.write_table(rows, Drop, folder / copy / "drops.parquet")
    assert io.file_digest(folder / "one/drops.parquet") == io.file_digest(folder / "two/drops.parquet")


# --- digests ---------------------------------------------------------------------------------------


def test_digest_keeps_its_parts_apart():
    assert io.digest("ab", "c") != io.digest("a", "bc") != io.digest("abc")
    assert io.digest("é") == io.digest("é".encode())


def test_file_digest_is_that_of_the_bytes(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    # sha256 of nothing, as any sha256sum prints it
    assert io.file_digest(tmp_path / "empty").startswith("e3b0c44298fc1c14")


# --- whole or absent -------------------------------------------------------------------------------


def contents(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): p.read_text() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize("before", [{}, {"a.txt": "old"}], ids=["absent", "old"])
def test_a_fault_while_writing_a_file_leaves_what_was_there(tmp_path, before):
    for file, old in before.items():
        (tmp_path / file).write_text(old)
    with pytest.raises(ZeroDivisionError), io.whole_file(tmp_path / "a.txt") as part:
        part.write_text("half")
        raise ZeroDivisionError
    assert contents(tmp_path) == before


def test_a_fault_in_the_rows_leaves_the_old_table(tmp_path):
    path = tmp_path / "drops.parquet"
    old = [Drop("chunk", "a", "too short")]
    io.write_table(old, Drop, path)

    def rows():
        yield from old * 1500
        raise DataError("row 1501 is wrong")

    with pytest.raises(DataError, match="row 1501"):
        io.write_table(rows(), Drop, path)
    assert io.read_table(Drop, path) == old
    assert [p.name for p in tmp_path.iterdir()] == ["drops.parquet"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "model"
    with io.whole_folder(target) as part:
        (part / "config.json").write_text("1")
        (part / "old.bin").write_text("1")
    with pytest.raises(ZeroDivisionError), io.whole_folder(target) as part:
        (part / "config.json").write_text("2")
        raise ZeroDivisionError
    assert contents(tmp_path) == {"model/config.json": "1", "model/old.bin": "1"}
    with io.whole_folder(target) as part:
        (part / "config.json").write_text("3")
    assert contents(tmp_path) == {"model/config.json": "3"}


FULL_DISK = """
    import resource, signal, sys
    from pathlib import Path
    from ragline import io
    from ragline.errors import ServiceError
    from ragline.types import Drop

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write then fails with an error, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    path = Path(sys.argv[1])
    lines = [f"{number:04d} " + "x" * 60 for number in range(4000)]
    write = {
        ".parquet": lambda: io.write_table((Drop("chunk", line, line) for line in lines), Drop, path),
        ".jsonl": lambda: io.write_jsonl(({"text": line} for line in lines), path),
        ".json": lambda: io.write_json(lines, path),
        ".npy": lambda: io.write_vectors(__import__("numpy").ones((4000, 4)), path),
    }[path.suffix]
    try:
        write()
    except ServiceError as error:
        sys.exit(str(error))
"""


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".json", ".npy"])
def test_no_space_left_is_one_line_and_keeps_the_old_file(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_text("old")
    ended = subprocess.run(
        [sys.executable, "-c", dedent(FULL_DISK), str(path)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert re.match(rf"{path}: cannot write: .+; nothing was left behind: make room or access", ended.stderr)
    assert contents(tmp_path) == {f"a{suffix}": "old"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_access_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ServiceError, match=r"cannot write: Permission denied; .*make room or access"):
        io.write_json(1, tmp_path / "a.json")


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(ServiceError, match=r"data/a\.json: cannot write: (Not a directory|File exists)"):
        io.write_json(1, tmp_path / "data" / "a.json")


# --- missing and damaged files ---------------------------------------------------------------------


@pytest.mark.parametrize(("stage", "path"), [(stage, path) for stage, paths in OUTPUTS.items() for path in paths])
def test_a_missing_artifact_names_its_stage(tmp_path, stage, path):
    assert made_by(path) == made_by(path / "inside") == stage
    with pytest.raises(MissingArtifact, match=rf"^{path}: not found; run `dvc repro {stage}`$"):
        io.require_made(tmp_path / path)


def test_a_missing_input_says_what_to_do(tmp_path):
    with pytest.raises(MissingArtifact, match=r"docs\.jsonl: not found; put it there or mend its path"):
        list(io.read_jsonl(tmp_path / "docs.jsonl"))


def test_what_is_there_is_passed_through(tmp_path):
    (tmp_path / "here").write_text("")
    assert io.require(Path("here"), tmp_path) == tmp_path / "here"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b'{"text": "cut', "Invalid control character"),
        (b"[1, 2]", "got list"),
        (b'{"text": "\xff"}', "utf-8"),
        (b"text", "Expecting value"),
    ],
    ids=["cut", "list", "bytes", "text"],
)
def test_a_broken_line_is_named(tmp_path, line, fault):
    path = tmp_path / "docs.jsonl"
    path.write_bytes(b'{"text": "fine"}\n\n' + line + b"\n")
    rows = io.read_jsonl(path)
    assert next(rows) == (1, {"text": "fine"})
    with pytest.raises(DataError, match=rf"docs\.jsonl:3: expected a JSON object.*{fault}"):
        next(rows)


@pytest.mark.parametrize("cut", [0, 4, 100])
def test_a_cut_table_is_one_line(tmp_path, cut):
    path = tmp_path / "drops.parquet"
    io.write_table([Drop("chunk", "a", "too short")], Drop, path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"^.*drops\.parquet: not a Parquet file: .*; delete it and run `dvc repro`$"):
        io.read_table(Drop, path)


def test_a_table_with_other_columns_is_refused(tmp_path):
    path = tmp_path / "drops.parquet"
    pq.write_table(pa.table({"stage": ["chunk"]}), path)
    with pytest.raises(DataError, match="expected columns stage, item, reason, detail, got stage; delete it"):
        io.read_table(Drop, path)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    "change", [lambda data: data[:-1], lambda data: data[:60], lambda data: b"", lambda data: data * 2]
)
def test_a_vector_file_that_is_cut_or_too_long_is_one_line(tmp_path, dtype, change):
    path = tmp_path / "a.npy"
    io.write_vectors(np.ones((4, 2), dtype), path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=r"^.*a\.npy: not a vector file: .*; delete it and run `dvc repro`$"):
        io.read_vectors(path)


@pytest.mark.parametrize(
    "values", [np.ones(4, np.float32), np.ones((2, 2)), np.ones((2, 2), np.int32), np.ones((2, 2), ">f4")]
)
def test_vectors_of_another_shape_or_type_are_refused(tmp_path, values):
    np.save(tmp_path / "b.npy", values)
    with pytest.raises(DataError, match=r"b\.npy: expected \(n, d\) float32 or float16, got \(.*; delete it and run"):
        io.read_vectors(tmp_path / "b.npy")


def test_damaged_json_and_runs(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError, match=r"a\.json: not JSON: "):
        io.read_json(tmp_path / "a.json")

    (tmp_path / "a.trec").write_text("q1 Q0 d1#0001 1 0.5 bm25\nq7 Q0 d2 0.71\n")
    with pytest.raises(DataError, match=r"a\.trec:2: expected 6 fields, got 4: 'q7 Q0 d2 0\.71'"):
        io.read_run(tmp_path / "a.trec")
