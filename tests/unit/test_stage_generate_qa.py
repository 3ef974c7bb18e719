"""Stage generate_qa: documents and passages in, questions out."""

import dataclasses
import json
from pathlib import Path

import pytest

from ragline import io
from ragline.artifacts import (
    DOCUMENTS,
    LOCALRQA_DEV,
    LOCALRQA_TEST,
    LOCALRQA_TRAIN,
    OUTPUTS,
    PASSAGES,
    QUESTION_AUDIT,
    QUESTION_COUNTS,
    QUESTION_DROPS,
    QUESTIONS_DEV,
    QUESTIONS_TEST,
    QUESTIONS_TRAIN,
    RAW,
)
from ragline.errors import ConfigError, DataError, MissingArtifact
from ragline.question_params import QuestionParams
from ragline.runtime.params import load_section
from ragline.types import SPLITS, Document, Drop, Passage, QAExample
from stages.generate_qa import READS, WRITES, main

RULES = QuestionParams(
    method="rules", max_per_document=2, max_per_passage=1, filters=(), leaks="report", language="english", seed=13
)
TEXTS = (
    "Join columns of several tables by key.\n\nRows that have no key are kept at the end.",
    "Convert columns of text to whole numbers.\n\nIf a number is too large, the row is dropped.",
    "Draw bars for every group of the table.",
)


def write(root: Path, splits: tuple[str, ...] = SPLITS) -> list[Document]:
    (root / "data/raw").mkdir(parents=True, exist_ok=True)
    documents = [
        Document(f"lib.tool{i}", f"lib: tool{i}", f"lib.tool{i}", text, "numpydoc", (), f"lib.tool{i}", split)
        for i, (text, split) in enumerate(zip(TEXTS, splits, strict=True))
    ]
    passages = [
        Passage(f"{d.doc_id}#0000", d.doc_id, d.title, "", d.text, 0, len(d.text), 9, d.cluster) for d in documents
    ]
    io.write_table(documents, Document, root / DOCUMENTS)
    io.write_table(passages, Passage, root / PASSAGES)
    return documents


def importing(**files: list[str]) -> QuestionParams:
    rest = {"max_per_document": 2, "filters": (), "leaks": "report", "language": "english", "seed": 13}
    return QuestionParams.model_validate({"method": "import", "import": files, **rest})


def test_reads_and_writes_what_it_says():
    assert READS == (RAW, DOCUMENTS, PASSAGES)
    assert OUTPUTS["generate_qa"] == WRITES


def test_every_split_gets_its_questions_in_both_formats(tmp_path):
    write(tmp_path)
    main(RULES, tmp_path)
    (question,) = io.read_table(QAExample, tmp_path / QUESTIONS_TEST)
    ((_, line),) = io.read_jsonl(tmp_path / LOCALRQA_TEST)
    assert (question.doc_id, question.split) == ("lib.tool2", "test")
    assert (line["question"], line["gold_answer"]) == (question.question, TEXTS[2])
    counts = json.loads((tmp_path / QUESTION_COUNTS).read_text())
    drops = io.read_table(Drop, tmp_path / QUESTION_DROPS)
    # one passage a document, so one question of each; what else was thought of is dropped
    assert (counts["train"], counts["dev"], counts["test"]) == (1, 1, 1)
    assert counts["candidates"] == 3 + len(drops)
    assert counts["dropped"] == {"over the cap": len(drops)}


def test_two_runs_give_equal_bytes(tmp_path):
    write(tmp_path)
    main(RULES, tmp_path)
    first = [(tmp_path / path).read_bytes() for path in WRITES]
    main(RULES, tmp_path)
    assert [(tmp_path / path).read_bytes() for path in WRITES] == first


def test_what_was_exported_can_be_imported(tmp_path):
    write(tmp_path)
    main(RULES, tmp_path)
    tables = (QUESTIONS_TRAIN, QUESTIONS_DEV, QUESTIONS_TEST)
    ruled = [io.read_table(QAExample, tmp_path / table) for table in tables]
    exports = dict(zip(SPLITS, (LOCALRQA_TRAIN, LOCALRQA_DEV, LOCALRQA_TEST), strict=True))
    for split, path in exports.items():
        (tmp_path / path).rename(tmp_path / f"data/raw/{split}.jsonl")
    main(importing(**{split: [f"data/raw/{split}.jsonl"] for split in SPLITS}), tmp_path)
    again = [io.read_table(QAExample, tmp_path / table) for table in tables]
    assert again == [[dataclasses.replace(example, kind="imported") for example in rows] for rows in ruled]


def test_one_question_in_two_splits_is_refused_and_leaves_no_table(tmp_path):
    write(tmp_path)
    main(RULES, tmp_path)
    (tmp_path / LOCALRQA_TRAIN).rename(tmp_path / "data/raw/mine.jsonl")
    files = ["data/raw/mine.jsonl"]
    with pytest.raises(DataError, match=r"question: expected a question in one split only, got 3 of 3 rows otherwise"):
        main(importing(train=files, dev=files, test=files), tmp_path)
    assert not (tmp_path / QUESTIONS_TRAIN).exists()


def test_leaks_stop_or_are_dropped_as_the_param_says(tmp_path):
    write(tmp_path)
    shared = [("train", "q1", "How are tables joined?"), ("test", "q2", "Which way can tables be joined?")]
    for split, name, asked in [*shared, ("dev", "q3", "What is too large a number?")]:
        doc = 0 if split != "dev" else 1
        gold = {"page_content": TEXTS[doc], "metadata": {"source": f"lib.tool{doc}", "title": ""}}
        row = {"id": name, "question": asked, "gold_docs": [gold], "gold_answer": "Join columns by key."}
        (tmp_path / f"data/raw/{split}.jsonl").write_text(json.dumps(row) + "\n")
    params = importing(**{split: [f"data/raw/{split}.jsonl"] for split in SPLITS})
    with pytest.raises(DataError, match=r"(?s)generate_qa.leaks: questions .* leak from train:.*LEAK +1 100.0%"):
        main(params.model_copy(update={"leaks": "stop"}), tmp_path)
    main(params, tmp_path)  # reports
    assert json.loads((tmp_path / QUESTION_AUDIT).read_text())["clean"] is False
    with pytest.raises(DataError, match="split test: expected questions, got none"):
        main(params.model_copy(update={"leaks": "drop"}), tmp_path)  # the only test question is given away


def test_a_split_without_a_question_stops_the_stage_with_nothing_but_the_ledger_of_drops(tmp_path):
    write(tmp_path, ("train", "train", "test"))
    with pytest.raises(DataError, match=r"split dev: .* 0 documents \(of 3\); add documents, or change ingest.splits"):
        main(RULES, tmp_path)
    assert [path for path in WRITES if (tmp_path / path).exists()] == [QUESTION_DROPS]


def test_an_imported_list_without_a_question_does_too(tmp_path):
    write(tmp_path)
    (tmp_path / "data/raw/empty.jsonl").write_text("")
    with pytest.raises(DataError, match="split train: expected questions, got none"):
        main(importing(train=["data/raw/empty.jsonl"]), tmp_path)
    with pytest.raises(MissingArtifact, match=r"gone.jsonl: not found; put it there or mend its path in params.yaml"):
        main(importing(train=["data/raw/gone.jsonl"]), tmp_path)


@pytest.mark.parametrize("missing", [DOCUMENTS, PASSAGES])
def test_needs_documents_and_passages(tmp_path, missing):
    write(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(MissingArtifact, match=rf"{missing}: not found; run `dvc repro (ingest|chunk)`"):
        main(RULES, tmp_path)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("method: rules", r"generate_qa.max_per_document: Field required.*generate_qa.seed: Field required"),
        (
            "method: import, max_per_document: 2, REST",
            r"expected `import: {train: \[...\].*with `method: import` only",
        ),
        ("method: import, import: {}, max_per_document: 2, REST", r"expected `import: "),
        (
            "method: rules, import: {train: [data/raw/a]}, max_per_document: 2, REST",
            r"expected `import: ",
        ),
        (
            "method: llama, max_per_document: 2, REST",
            r"generate_qa.method: Input should be 'rules', 'llm' or 'import', got 'llama'",
        ),
        (
            "method: rules, max_per_document: 0, REST",
            r"generate_qa.max_per_document: .* greater than 0, got 0",
        ),
        (
            "method: rules, files: {}, max_per_document: 2, REST",
            r"generate_qa.files: unknown key; .* method, llm, filter_model, import,",
        ),
        (
            "method: import, import: {valid: [a]}, max_per_document: 2, REST",
            r"generate_qa.import.valid: Extra inputs",
        ),
    ],
)
def test_wrong_settings_are_named(tmp_path, section, message):
    path = tmp_path / "params.yaml"
    own = section.replace("REST", "filters: [], leaks: drop, seed: 1")
    path.write_text(f"generate_qa: {{{own}}}\nbuild_index: {{language: english}}\n")
    with pytest.raises(ConfigError, match=message):
        load_section("generate_qa", QuestionParams, path)


def test_the_default_settings_are_valid():
    params = load_section("generate_qa", QuestionParams, Path(__file__).parents[2] / "params.yaml")
    assert params.method == "rules"
