"""Contracts: what they let through, what they stop, and what they say."""

import json
import logging
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

pytest.importorskip("great_expectations", reason="needs Great Expectations")

from ragline import io
from ragline.contracts.check import check, enforce
from ragline.contracts.derive import DERIVED
from ragline.contracts.suite import KINDS, SUITES, load_suite
from ragline.errors import ConfigError, DataError, MissingArtifact
from ragline.types import Document, Passage
from tests.conftest import ROOT
from tests.fixtures.parsed_page import Page
from tests.fixtures.planted_defects import DEFECTS, FILES, Defect, arrow, clean, write

DATA = ROOT / "data"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The clean tables on disk."""
    return write(tmp_path, {name: arrow(name, rows) for name, rows in clean().items()})


def spoil(folder: Path, defect: Defect) -> Path:
    """Plant a defect; the path of the spoilt table."""
    table = defect.plant(arrow(defect.suite, clean()[defect.suite]))
    return write(folder, {defect.suite: table}) / FILES[defect.suite]


@pytest.mark.parametrize("suite", KINDS)
def test_clean_tables_pass_without_a_remark(project, suite):
    verdict = check(project / FILES[suite], suite)
    assert verdict.lines() == ()
    assert verdict.unchecked == ()
    assert len(verdict.held) == len(json.loads((SUITES / f"{suite}.json").read_text())["expectations"])


QUICK = ("title and text swapped", "shifted offsets", "unknown gold")
"""Great Expectations takes half a second of CPU for a suite, so most defects are for the long run."""


@pytest.mark.parametrize(
    "defect",
    [pytest.param(defect, marks=() if defect.name in QUICK else pytest.mark.slow) for defect in DEFECTS],
    ids=lambda defect: f"{defect.suite}: {defect.name}",
)
def test_defect_is_named_with_its_row_and_what_to_do(project, defect):
    table = spoil(project, defect)
    verdict = check(table, defect.suite)
    lines = verdict.lines(defect.severity)
    where = f"{table}: {defect.column}: expected "
    said = [line for line in lines if line.startswith(where) and f"'{defect.row_id}' (" in line and defect.says in line]
    assert said, "\n".join(lines)
    assert re.search(r", got [\d,]+ of [\d,]+ rows otherwise: .*\); \S", said[0])
    assert "\n" not in said[0]


@pytest.mark.slow
def test_a_defect_brings_no_line_about_a_sound_column(project):
    table = spoil(project, next(defect for defect in DEFECTS if defect.name == "blank title"))
    assert len(check(table, "documents").lines()) == 2  # blank, and a control character in it: the tab


@pytest.mark.slow
def test_counts_and_examples_are_those_of_the_table(project):
    rows = clean()["documents"]
    for row in rows[:4]:
        row["title"] = " "
    (broken,) = check(write(project, {"documents": arrow("documents", rows)}) / FILES["documents"], "documents").broken
    assert (broken.count, broken.rows, broken.column) == (4, 10, "title")
    assert [example.row_id for example in broken.examples] == ["kettle", "ladder", "pump"]


@pytest.mark.slow
def test_texts_read_in_batches_give_the_same_counts_and_examples(project, monkeypatch):
    rows = clean()["documents"]
    for row in rows[1:8:2]:
        row["text"] += "\x1b[0m"
    rows[9]["text"] = None
    table = write(project, {"documents": arrow("documents", rows)}) / FILES["documents"]
    whole = check(table, "documents")
    monkeypatch.setattr("ragline.contracts.results._BATCH_CHARACTERS", sum(len(row["text"] or "") for row in rows) // 3)
    assert check(table, "documents") == whole
    (broken,) = [broken for broken in whole.broken if broken.expectation == "no control characters in the text"]
    assert (broken.count, broken.rows) == (4, 10)
    assert [example.row_id for example in broken.examples] == [row["doc_id"] for row in rows[1:7:2]]


@pytest.mark.slow
def test_columns_with_a_fault_leave_their_expectations_unchecked_and_the_others_held(project):
    table = spoil(project, next(defect for defect in DEFECTS if defect.name == "missing column"))
    verdict = check(table, "documents")
    # null, in_set and the cluster's one split need `split`
    assert [held.column for held in verdict.unchecked] == ["split", "split", "cluster"]
    assert verdict.broken == ()
    suite = load_suite(SUITES / "documents.json")
    assert len(verdict.held) + len(verdict.unchecked) == len(suite.rules)


@pytest.mark.slow
@pytest.mark.parametrize("suite", KINDS)
def test_missing_value_is_found_in_any_column(project, suite):
    rows = clean()[suite]
    names = io.SCHEMAS[KINDS[suite]].names
    for number, name in enumerate(names):
        rows[number % len(rows)][name] = None
    verdict = check(write(project, {suite: arrow(suite, rows)}) / FILES[suite], suite)
    missing = [broken for broken in verdict.broken if broken.expectation == "no missing value"]
    assert [(broken.column, broken.count) for broken in missing] == [(name, 1) for name in names]


@pytest.mark.slow
def test_document_without_a_passage_is_missed(project):
    rows = [row for row in clean()["passages"] if row["doc_id"] != "meter"]
    table = write(project, {"passages": arrow("passages", rows)}) / FILES["passages"]
    (line,) = check(table, "passages").lines("critical")
    assert "expected a passage for every document, got 1 of 10 rows otherwise: 'meter' (no passage)" in line


@pytest.mark.slow
def test_empty_table_is_no_corpus(project):
    table = write(project, {"documents": arrow("documents", [])}) / FILES["documents"]
    assert check(table, "documents").lines() == (
        f"{table}: expected at least one document, got 0; add a source to ingest.sources in params.yaml",
    )


@pytest.mark.slow
def test_limit_of_tokens_is_the_callers(project):
    assert check(project / FILES["passages"], "passages", parameters={"max_passage_tokens": 12}).lines() == ()
    (line,) = check(project / FILES["passages"], "passages", parameters={"max_passage_tokens": 11}).lines()
    assert "got 20 of 20 rows otherwise: 'kettle#0000' (12)" in line
    with pytest.raises(ConfigError, match=r"no parameter 'max_token'; expected one of .*max_passage_tokens"):
        check(project / FILES["passages"], "passages", parameters={"max_token": 11})


@pytest.mark.slow
def test_imported_answers_may_be_worded_freely(project):
    rows = clean()["questions"]
    rows[0] |= {"kind": "imported", "answers": ["Hold down the switch for 2 seconds and it will start."]}
    table = write(project, {"questions": arrow("questions", rows)}) / FILES["questions"]
    # hold, down, and, it, will are not in the document; the, switch, for, 2, seconds, start are: 6 of 11
    assert check(table, "questions").lines() == ()


@pytest.mark.slow
def test_unanswerable_questions_need_no_document(project):
    rows = clean()["questions"]
    rows[0] |= {
        "answerable": False, "answers": [], "doc_id": "", "start": 0, "end": 0, "gold_passage_ids": [], "cluster": ""
    }  # fmt: skip
    table = write(project, {"questions": arrow("questions", rows)}) / FILES["questions"]
    assert check(table, "questions").lines() == ()


def test_folder_of_splits_is_one_table(project):
    rows = clean()["questions"]
    folder = project / "questions"
    folder.mkdir()
    for split in ("train", "dev", "test"):
        part = [row for row in rows if row["split"] == split]
        io.write_table([KINDS["questions"](**row) for row in part], KINDS["questions"], folder / f"{split}.parquet")
    verdict = check(folder, "questions")
    assert (verdict.rows, verdict.lines()) == (10, ())
    (folder / "test.parquet").rename(folder / "dev.parquet")
    (line,) = check(folder, "questions").lines("critical")
    assert "got 2 of 8 rows otherwise: 'q-sensor' (split 'test' in dev.parquet)" in line


def test_tables_to_compare_with_may_be_elsewhere(project, tmp_path):
    away = tmp_path / "a" / "b" / "c"
    away.mkdir(parents=True)
    table = (project / FILES["passages"]).rename(away / "passages.parquet")
    with pytest.raises(MissingArtifact, match=r"documents\.parquet: not found"):
        check(table, "passages")
    assert check(table, "passages", beside={"documents": project / FILES["documents"]}).lines() == ()


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(MissingArtifact, match="not found"):
        check(tmp_path / "documents.parquet", "documents")
    with pytest.raises(MissingArtifact, match="expected Parquet files, found none"):
        check(tmp_path, "documents")
    (tmp_path / "documents.parquet").write_text("no")
    with pytest.raises(DataError, match=r"documents\.parquet: expected a Parquet file, got"):
        check(tmp_path / "documents.parquet", "documents")
    with pytest.raises(ConfigError, match="suite 'answers': expected one of documents, passages, questions"):
        check(tmp_path / "documents.parquet", "answers")


# --- suites ----------------------------------------------------------------------------------------


def edited(folder: Path, **changes: object) -> Path:
    """The documents' suite with its fifth expectation changed."""
    spec = json.loads((SUITES / "documents.json").read_text())
    spec["expectations"][4] |= changes
    path = folder / "documents.json"
    path.write_text(json.dumps(spec))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "expect_column_values_to_not_be_nul"}, r"\[4\]: Great Expectations .* has no 'expect_.*_be_nul'"),
        ({"kwargs": {"column": "text", "mostly": 1.5}}, r"\[4\]: expect_column_values_to_not_be_null: .*mostly"),
        ({"kwargs": {"colum": "text"}}, r"\[4\]: expect_column_values_to_not_be_null: .*column"),
        ({"kwargs": {"column": "texts"}}, r"\[4\]: .*no column 'texts'; expected one of .*text"),
        (
            {"kwargs": {"column": "text", "mostly": 0.5}},
            r"\[4\]: .*_null: 'text' is read in batches, of which this cannot",
        ),
        ({"severity": "criticl"}, r"\[4\]: severity: expected critical, warning, info, got 'criticl'"),
        ({"meta": {"says": "a text"}}, r"\[4\]: expected type, kwargs, severity, meta.says and meta.do; mend 'do'"),
    ],
)
def test_suite_that_would_not_be_checked_whole_is_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        load_suite(edited(tmp_path, **changes))


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "answers", "meta": {"parameters": {}}, "expectations": []}'])
def test_file_that_is_no_suite_is_refused(tmp_path, text):
    path = tmp_path / "suite.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"suite\.json: not a suite"):
        load_suite(path)


@pytest.mark.parametrize("suite", KINDS)
def test_every_derived_column_is_looked_at(suite):
    used = {column for rule in load_suite(SUITES / f"{suite}.json").rules for column in rule.columns}
    assert DERIVED[suite].keys() <= used
    assert set(io.SCHEMAS[KINDS[suite]].names) <= used


@pytest.mark.parametrize(("suite", "column"), [("documents", "format"), ("documents", "split"), ("questions", "split")])
def test_values_allowed_are_those_of_the_types(suite, column):
    rules = [rule for rule in load_suite(SUITES / f"{suite}.json").rules if "value_set" in rule.kwargs]
    (allowed,) = [rule.kwargs["value_set"] for rule in rules if rule.kwargs["column"] == column]
    assert tuple(allowed) == get_args(get_type_hints(KINDS[suite])[column])


# --- enforcing -------------------------------------------------------------------------------------


def test_enforce_writes_page_and_json_and_stops_at_a_critical_one(project):
    defect = next(defect for defect in DEFECTS if defect.name == "title and text swapped")
    table = spoil(project, defect)
    page = project / "reports" / "documents.html"
    with pytest.raises(DataError, match="title and text seem swapped") as raised:
        enforce(table, "documents", page)
    record = json.loads(page.with_suffix(".json").read_text())
    critical = [entry["line"] for entry in record["broken"] if entry["severity"] == "critical"]
    assert str(raised.value).splitlines() == critical
    assert critical[0].startswith(f"{table}: title: expected a title shorter than a text and of one line, got 10 of 10")
    assert "Stops the pipeline" in page.read_text()


def test_enforce_logs_a_warning_and_goes_on(project, caplog):
    table = spoil(project, next(defect for defect in DEFECTS if defect.name == "terminal colours"))
    with caplog.at_level(logging.WARNING, logger="ragline"):
        verdict = enforce(table, "documents", project / "documents.html")
    assert [record.getMessage() for record in caplog.records] == list(verdict.lines("warning"))
    assert "Holds, with remarks" in (project / "documents.html").read_text()


def test_page_loads_nothing_escapes_what_it_shows_and_is_the_same_twice(project):
    rows = clean()["documents"]
    rows[0]["doc_id"] = rows[0]["cluster"] = " <script>alert(1)</script>"
    table = write(project, {"documents": arrow("documents", rows)}) / FILES["documents"]
    texts = []
    for name in ("a.html", "b.html"):
        with pytest.raises(DataError):
            enforce(table, "documents", project / name)
        texts.append((project / name).read_text())
    assert texts[0] == texts[1]
    assert Page(texts[0]).open == []
    assert "<script" not in texts[0]
    assert "&lt;script&gt;alert(1)" in texts[0]
    assert not re.search(r"(?:src|href|url\(|@import|//[a-z])", texts[0])
    assert "prefers-color-scheme: dark" in texts[0]
    assert 'name="viewport"' in texts[0]


# --- real tables -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "suite"),
    [("documents.parquet", "documents"), ("passages.parquet", "passages"), ("questions", "questions")],
)
def test_the_pipelines_own_tables_meet_their_contracts(place, suite):
    table = DATA / place
    if missing := [
        path for path in (table, DATA / "documents.parquet", DATA / "passages.parquet") if not path.exists()
    ]:
        pytest.skip(f"{missing[0]} is not there: run `dvc repro`")
    assert check(table, suite).lines() == ()


@pytest.mark.slow
def test_a_hundred_thousand_rows_take_seconds(tmp_path):
    texts = ["The pump has a red switch on its left side. Press it for a while to start the pump.\n" * 6] * 100_000
    texts = [f"{text}It is number {number}." for number, text in enumerate(texts)]
    names = [f"d{number}" for number in range(len(texts))]
    documents = [Document(n, n, n, t, "text", cluster=n) for n, t in zip(names, texts, strict=True)]
    passages = [Passage(f"{n}#0000", n, n, "", t, 0, len(t), 150, n) for n, t in zip(names, texts, strict=True)]
    io.write_table(documents, Document, tmp_path / "documents.parquet")
    io.write_table([replace(passages[0], tokens=9000), *passages[1:]], Passage, tmp_path / "passages.parquet")
    for suite, broken in (("documents", 0), ("passages", 1)):
        started = time.process_time()  # not wall time, which depends on what else the machine does
        assert len(check(tmp_path / f"{suite}.parquet", suite).lines()) == broken
        assert time.process_time() - started < 40  # nothing may grow with the square
