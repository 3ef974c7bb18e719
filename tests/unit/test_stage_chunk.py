"""Stage chunk: documents in, passages out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ragline import io
from ragline.artifacts import CHUNK_COUNTS, DOCUMENTS, OUTPUTS, PASSAGES, PASSAGES_CONTRACT
from ragline.errors import ConfigError, MissingArtifact, ModelError
from ragline.runtime.params import load_section
from ragline.types import Document, Passage
from stages.chunk import READS, WRITES, ChunkParams, main

PARAMS = ChunkParams(method="structure", max_tokens=16, overlap_tokens=4, tokenizer="builtin:minilm")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    documents = [
        Document("a", "s", "a", "One short text.", "text", cluster="a"),
        Document(
            "b",
            "s",
            "b",
            "# Top\n\n" + " ".join(f"Sentence {n} of five words." for n in range(8)),
            "markdown",
            cluster="b",
        ),
    ]
    io.write_table(documents, Document, tmp_path / DOCUMENTS)
    return tmp_path


def test_reads_and_writes_what_it_says():
    assert READS == (DOCUMENTS,)
    assert WRITES == OUTPUTS["chunk"] == (PASSAGES, CHUNK_COUNTS, PASSAGES_CONTRACT)


def test_documents_become_passages(project: Path):
    main(PARAMS, project)
    passages = io.read_table(Passage, project / PASSAGES)
    counts = json.loads((project / CHUNK_COUNTS).read_text())

    assert passages[0] == Passage("a#0000", "a", "a", "", "One short text.", 0, 15, 4, "a")
    assert [p.passage_id for p in passages[1:3]] == ["b#0000", "b#0001"]
    assert passages[1].heading == "Top"
    assert max(p.tokens for p in passages) <= 16
    assert counts == {
        "passages": len(passages),
        "tokens_mean": round(sum(p.tokens for p in passages) / len(passages), 2),
        "tokens_max": max(p.tokens for p in passages),
        "passages_per_document_mean": len(passages) / 2,
    }


def test_two_runs_give_equal_bytes(project: Path):
    main(PARAMS, project)
    first = [(project / path).read_bytes() for path in WRITES]
    main(PARAMS, project)
    assert [(project / path).read_bytes() for path in WRITES] == first


def test_needs_the_documents(tmp_path: Path):
    with pytest.raises(MissingArtifact, match=r"documents\.parquet: not found; run `dvc repro ingest`"):
        main(PARAMS, tmp_path)
    assert not (tmp_path / PASSAGES).exists()


def test_needs_a_tokenizer(project: Path):
    with pytest.raises(ModelError, match=r"models/none: no tokenizer here; expected one of builtin:minilm or a folder"):
        main(PARAMS.model_copy(update={"tokenizer": "models/none"}), project)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("{max_tokens: 32, overlap_tokens: 32", r"chunk: .*overlap_tokens below max_tokens \(32\), got 32"),
        ("{max_tokens: 8, overlap_tokens: 0", r"chunk\.max_tokens: .*greater than or equal to 16, got 8"),
        ("{max_tokens: 32, overlap_tokens: -1", r"chunk\.overlap_tokens: .*greater than or equal to 0, got -1"),
        ("{max_tokens: 32, overlap_tokens: 0, parent_tokens: 64", r"`parent_tokens` with `method: parent_child` only"),
    ],
)
def test_wrong_params(tmp_path: Path, lines: str, message: str):
    path = tmp_path / "params.yaml"
    path.write_text(f"chunk: {lines}, method: structure, tokenizer: builtin:minilm}}\n")
    with pytest.raises(ConfigError, match=message):
        load_section("chunk", ChunkParams, path)


def test_parents_are_larger_than_their_children():
    with pytest.raises(ValueError, match=r"parent_tokens above max_tokens \(16\), got 16"):
        ChunkParams(
            method="parent_child", max_tokens=16, overlap_tokens=0, parent_tokens=16, tokenizer="builtin:minilm"
        )


def test_children_know_their_parents(project: Path):
    settings = {"method": "parent_child", "max_tokens": 16, "overlap_tokens": 0, "parent_tokens": 40}
    main(ChunkParams(tokenizer="builtin:minilm", **settings), project)
    found = io.read_table(Passage, project / PASSAGES)
    assert [p.parent for p in found][:3] == ["a#0000", "b#0000", "b#0000"]


def test_loads_no_deep_learning_library():
    code = "import sys, stages.chunk, stages.ingest; print({'torch', 'transformers'} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
