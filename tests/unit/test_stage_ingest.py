"""Stage ingest: three kinds of sources in, one corpus out."""

import json
from pathlib import Path

import pytest

from ragline import io
from ragline.artifacts import DOCUMENTS, DOCUMENTS_CONTRACT, INGEST_COUNTS, INGEST_DROPS, OUTPUTS, RAW
from ragline.errors import ConfigError, DataError
from ragline.runtime.params import load_section
from ragline.types import Document, Drop
from stages.ingest import READS, WRITES, IngestParams, main

PARAMS = {
    "sources": [
        {"kind": "files", "path": "data/raw"},
        {"kind": "jsonl", "path": "data/raw/more.jsonl"},
        {"kind": "python_api", "package": "json"},
    ],
    "near_duplicate_threshold": 0.7,
    "splits": {"train": 0.5, "dev": 0.25, "test": 0.25},
    "seed": 13,
}


def params(**changes: object) -> IngestParams:
    return IngestParams.model_validate(PARAMS | changes)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    raw = tmp_path / "data/raw"
    raw.mkdir(parents=True)
    (raw / "a.md").write_text("# Alpha\n\nThe quick brown fox jumps over the lazy dog today.\n")
    (raw / "b.txt").write_text("The quick brown fox jumps over the lazy dog.\n")
    (raw / "empty.txt").touch()
    (raw / "more.jsonl").write_text(
        '{"text": "The quick brown fox jumps over the lazy dog.\\n", "id": "z"}\n{"text": "Quite another text."}\n'
    )
    return tmp_path


def test_writes_what_it_says():
    assert WRITES == OUTPUTS["ingest"] == (DOCUMENTS, INGEST_DROPS, INGEST_COUNTS, DOCUMENTS_CONTRACT)
    assert READS == (RAW,)


def test_sources_become_one_corpus(project: Path):
    main(params(), project)
    documents = {d.doc_id: d for d in io.iter_table(Document, project / DOCUMENTS)}
    drops = io.read_table(Drop, project / INGEST_DROPS)
    counts = json.loads((project / INGEST_COUNTS).read_text())

    assert list(documents) == sorted(documents)
    assert {"a.md", "b.txt", "more.jsonl:2", "json.dumps"} <= documents.keys()
    assert documents["b.txt"].aliases == ("z",)
    # a.md adds "alpha" and "today": 7 five-grams, b.txt has 5 of them: 5 / 7 = 0.71
    assert documents["a.md"].cluster == documents["b.txt"].cluster == "a.md"
    assert documents["a.md"].split == documents["b.txt"].split
    assert [(d.item, d.reason) for d in drops if "json." not in d.item] == [
        ("data/raw/empty.txt", "empty"),
        ("z", "duplicate text"),
    ]
    assert counts["documents"] == len(documents)
    assert counts["splits"] == {s: sum(d.split == s for d in documents.values()) for s in ("train", "dev", "test")}
    assert all(counts["splits"].values())
    assert counts["dropped"]["empty"] == counts["dropped"]["duplicate text"] == 1
    assert sum(counts["dropped"].values()) == len(drops)
    assert counts["largest_cluster"] == 2


def test_two_runs_give_equal_bytes(project: Path):
    main(params(), project)
    first = [(project / path).read_bytes() for path in WRITES]
    main(params(sources=PARAMS["sources"][::-1]), project)
    assert [(project / path).read_bytes() for path in WRITES] == first


def lines(*documents: tuple[str, str]) -> str:
    return "".join(json.dumps({"id": doc_id, "text": text}) + "\n" for doc_id, text in documents)


def test_one_changed_document_leaves_the_rows_of_all_others(project: Path):
    documents = [(f"d{n:03d}", f"text {n} " + " ".join(f"w{n}x{k}" for k in range(9 + n % 3))) for n in range(60)]
    documents += [(f"{doc_id}-near", f"{text} more") for doc_id, text in documents[:10]]
    source = [{"kind": "jsonl", "path": "data/raw/more.jsonl"}]
    tables = []
    for change in ({}, {"d030": "quite another text than before"}, {"d030": documents[40][1]}):
        changed = [(doc_id, change.get(doc_id, text)) for doc_id, text in documents]
        (project / "data/raw/more.jsonl").write_text(lines(*changed))
        main(params(sources=source), project)
        tables.append({d.doc_id: d for d in io.iter_table(Document, project / DOCUMENTS) if d.doc_id != "d030"})

    before, after, copied = tables
    assert after == before
    # now d030 has the text of d040 and comes first, so d040 is its alias; nothing else moves
    assert copied == {doc_id: document for doc_id, document in before.items() if doc_id != "d040"}


def test_nothing_is_left_beside_the_outputs(project: Path):
    main(params(), project)
    assert sorted(path.name for path in (project / "data").iterdir()) == ["documents.parquet", "drops", "raw"]


def test_one_id_in_two_sources(project: Path):
    (project / "data" / "raw" / "more.jsonl").write_text('{"text": "x", "id": "a.md"}\n')
    with pytest.raises(
        DataError, match=r"'a\.md': two documents with this id, from data/raw/a\.md and data/raw/more\.jsonl:1"
    ):
        main(params(), project)
    assert [path.name for path in (project / "data").iterdir()] == ["raw"]


def test_empty_corpus(tmp_path: Path):
    (tmp_path / "data/raw").mkdir(parents=True)
    with pytest.raises(DataError, match=r"ingest\.sources: no documents"):
        main(params(sources=[{"kind": "files", "path": "data/raw"}]), tmp_path)


def test_a_corpus_too_small_for_three_splits_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "data/raw" / "a.md").write_text("only one")
    main(params(sources=[{"kind": "files", "path": "data/raw"}]), tmp_path)
    assert len([r for r in caplog.records if "is empty: 1 clusters are too few" in r.getMessage()]) == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("splits: {train: 0.5, dev: 0.2, test: 0.2}", r"ingest\.splits: .*shares that sum to 1, they sum to 0\.9"),
        ("splits: {train: 1.2, dev: -0.2, test: 0}", r"ingest\.splits\.dev: .*greater than or equal to 0, got -0\.2"),
        ("near_duplicate_threshold: 0", r"near_duplicate_threshold: Input should be greater than 0, got 0"),
        ("near_duplicate_threshold: 1.1", r"near_duplicate_threshold: .*less than or equal to 1, got 1\.1"),
        ("sources: []", r"ingest\.sources: .*at least 1 item"),
        ("sources: [{kind: web, url: x}]", r"ingest\.sources\.0: Input tag 'web' found using 'kind' does not match"),
        ("sources: [{kind: files, path: data/raw/x, glob: y}]", r"ingest\.sources\.0\.files\.glob: Extra inputs"),
        ("sources: [{kind: python_api, package: 'rm -rf'}]", r"package: String should match pattern .*, got 'rm -rf'"),
    ],
)
def test_wrong_params(tmp_path: Path, lines: str, message: str):
    good = {
        "sources": "sources: [{kind: python_api, package: json}]",
        "near_duplicate_threshold": "near_duplicate_threshold: 0.7",
        "splits": "splits: {train: 0.7, dev: 0.15, test: 0.15}",
        "seed": "seed: 13",
    }
    section = good | {lines.split(":")[0]: lines}
    path = tmp_path / "params.yaml"
    path.write_text("ingest:\n" + "".join(f"  {line}\n" for line in section.values()))
    with pytest.raises(ConfigError, match=message):
        load_section("ingest", IngestParams, path)
