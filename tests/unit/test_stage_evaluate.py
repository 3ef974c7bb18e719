"""Stage evaluate: every set is scored on what can be answered; the rest counts for abstention alone."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from bench import evaluation as bench
from ragline import io
from ragline.artifacts import (
    ANSWERING,
    BASE_ANN,
    BASE_FINGERPRINT,
    COMPARISONS,
    DOCUMENTS,
    GENERATOR,
    GOLD,
    LEXICAL_INDEX,
    METRICS,
    OUTPUTS,
    PASSAGES,
    PREDICTIONS,
    QUESTIONS_DEV,
    QUESTIONS_TEST,
    RECALL_CURVE,
    RETRIEVER,
    RISK_COVERAGE,
    RUNS,
    TUNED_ANN,
    TUNED_FINGERPRINT,
)
from ragline.errors import DataError
from ragline.evaluation import outcomes, scorecard
from ragline.generation import fid
from ragline.retrieval import encoder, index, lexical
from ragline.types import Document, Passage, QAExample
from stages.evaluate import WRITES, EvaluateParams, main
from tests.fixtures.encoders import write_tiny_encoder
from tests.fixtures.small import passage, question, random_reader

THINGS = ("apple", "anchor", "basket", "beacon", "candle", "carpet")
PARAMS = EvaluateParams(
    base_model=str(RETRIEVER),
    split="test",
    gold_sets=[],
    depth=20,
    fusion="convex",
    rerank_depth=1,
    resamples=100,
    seed=3,
)
ASKED = [
    question(thing, f"{thing}#0000", f"Where is the {thing}?", answer=f"shelf {n}") for n, thing in enumerate(THINGS)
]
UNANSWERABLE = replace(
    ASKED[0], question_id="nobody", question="Who is it?", answers=(), gold_passage_ids=(), answerable=False
)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A page on each thing, a tiny encoder that was not tuned, and a tiny reader that was not trained."""
    folder = tmp_path_factory.mktemp("project")
    write_tiny_encoder(folder / "models").rename(folder / RETRIEVER)
    tuned = encoder.load(str(RETRIEVER), folder)
    passages = [passage(f"{thing}#0000", f"The {thing} stands on shelf {n}.") for n, thing in enumerate(THINGS)]
    vectors = encoder.encode_passages(tuned, [p.encoded_text for p in passages])
    mark = index.fingerprint(tuned.fingerprint, passages, vectors)
    for ann_path, mark_path in ((BASE_ANN, BASE_FINGERPRINT), (TUNED_ANN, TUNED_FINGERPRINT)):
        io.write_vectors(vectors, folder / ann_path.with_name("vectors.npy"))
        index.write(index.build(vectors, "flat"), mark, folder / ann_path, folder / mark_path)
    lexical.write(lexical.build(passages), folder / LEXICAL_INDEX)
    reader = random_reader()
    for part in (reader.model.encoder, reader.tokenizer):
        part.save_pretrained(folder / "models" / "read")
    fid.save(replace(reader, config=replace(reader.config, encoder="models/read")), folder / GENERATOR)
    documents = [Document(p.doc_id, p.doc_id, p.doc_id, p.text, "text", cluster=p.cluster) for p in passages]
    io.write_table(documents, Document, folder / DOCUMENTS)
    io.write_table(passages, Passage, folder / PASSAGES)
    io.write_table(ASKED[:4], QAExample, folder / QUESTIONS_DEV)
    return folder


def run(root: Path, test: list[QAExample], **changes) -> dict:
    io.write_table(test, QAExample, root / QUESTIONS_TEST)
    main(PARAMS.model_copy(update=changes), root)
    return io.read_json(root / METRICS)


def test_writes_what_it_says():
    assert OUTPUTS["evaluate"] == WRITES


@pytest.mark.slow
def test_a_question_without_an_answer_changes_no_figure_of_search(root):
    alone = run(root, ASKED)["test"]
    curve = (root / RECALL_CURVE).read_bytes()
    found = run(root, [*ASKED, UNANSWERABLE])["test"]
    assert (found["n"], found["n_answerable"]) == (7, 6)
    assert (found["retrieval"], found["answers"]) == (alone["retrieval"], alone["answers"])
    assert (root / RECALL_CURVE).read_bytes() == curve
    assert [row["k"] for row in io.read_csv(root / RECALL_CURVE)] == [str(k) for k in range(1, 21)]
    assert "abstention" in found and "abstention" not in alone
    beside = io.read_json(root / COMPARISONS)
    assert beside["outcomes"]["test"]["extractive"]["undue_answer"] == 1
    assert beside["slices_too_small"]["test"]["document"] == 6
    assert beside["sensitivity"]["test"].keys() == beside["risk_coverage"]["test"].keys() == {"extractive", "generator"}
    points = beside["risk_coverage"]["test"][io.read_json(root / ANSWERING)["answerer"]]
    plotted = [[float(row["coverage"]), float(row["risk"])] for row in io.read_csv(root / RISK_COVERAGE)]
    assert plotted == [pytest.approx(point, abs=1e-5) for point in points]
    assert [row["question_id"] for row in io.read_frame(root / PREDICTIONS)] == [*THINGS, "nobody"]
    assert all((root / path).exists() for path in WRITES)


@pytest.mark.slow
def test_two_runs_give_equal_bytes(root):
    def outputs() -> list[bytes]:
        run(root, [*ASKED, UNANSWERABLE])
        single = [
            (root / path).read_bytes()
            for path in (ANSWERING, METRICS, COMPARISONS, RECALL_CURVE, RISK_COVERAGE, PREDICTIONS)
        ]
        return single + [path.read_bytes() for path in sorted((root / RUNS).iterdir())]

    assert outputs() == outputs()


def test_dev_is_scored_instead_of_test(root):
    """Four of the six things are asked about in dev; test, which is wrong here, is not even read."""
    found = run(root, [], split="dev")
    assert found.keys() == {"dev"} and found["dev"]["n"] == 4
    assert [row["set"] for row in io.read_frame(root / PREDICTIONS)] == ["dev"] * 4
    assert (root / RUNS / "dev.hybrid.trec").is_file() and not (root / RUNS / "test.hybrid.trec").exists()
    assert [row["k"] for row in io.read_csv(root / RECALL_CURVE)] == [str(k) for k in range(1, 21)]


def test_no_judge_may_be_said_in_so_many_words():
    """As a sweep sets it on dev."""
    assert EvaluateParams.model_validate(PARAMS.model_dump() | {"judge": None}) == PARAMS


@pytest.mark.parametrize("name", ["dev", "test"])
def test_a_gold_set_is_not_called_like_a_split(name):
    values = PARAMS.model_dump() | {"gold_sets": [GOLD / "ours.jsonl", GOLD / f"{name}.jsonl"]}
    with pytest.raises(ValueError, match="none dev, test; rename"):
        EvaluateParams.model_validate(values)


@pytest.mark.parametrize("asked", [[], [UNANSWERABLE]])
def test_a_test_set_that_nothing_answers(root, asked):
    message = rf"data/questions/test\.parquet: expected questions that .* got none among {len(asked)}; add documents"
    with pytest.raises(DataError, match=message):
        run(root, asked)


def test_what_follows_the_models_on_generated_questions(tmp_path):
    made = bench.make(120)
    result = bench.run(made, scorecard.Bootstrap(100, 0), tmp_path)
    rows = io.read_frame(tmp_path / PREDICTIONS)
    assert len(rows) == 120 and {row["generator_outcome"] for row in rows} <= set(outcomes.OUTCOMES)
    assert io.read_run(tmp_path / RUNS / "test.hybrid.trec").keys() == {row["question_id"] for row in rows}
    assert bench.run(bench.make(120), scorecard.Bootstrap(100, 0), tmp_path) == result


@pytest.mark.slow
def test_two_thousand_questions_in_seconds(tmp_path):
    """10,000 take 41 s of CPU time, of which 2,000 are to take a fifth, and as much again on a busy machine."""
    made = bench.make(2000)
    started = time.process_time()
    bench.run(made, scorecard.Bootstrap(2000, 0), tmp_path)
    assert time.process_time() - started < 24


def test_a_gold_set_that_nothing_answers(root):
    row = {"id": "g", "question": "Who?", "gold_names": [], "evidence": "", "answers": [], "kind": "fact"}
    io.write_jsonl([{**row, "answerable": False}], root / GOLD / "nobody.jsonl")
    with pytest.raises(DataError, match=r"data/gold/nobody\.jsonl: expected questions that .* got none among 1; add"):
        run(root, ASKED, gold_sets=[GOLD / "nobody.jsonl"])
