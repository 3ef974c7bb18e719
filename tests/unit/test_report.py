"""The page says what the files say, and what others wrote stays text."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ragline import artifacts, io
from ragline.errors import DataError
from ragline.reporting import formats, summary, tables
from ragline.reporting.comparisons import Pair, find, read_pairs
from stages import report
from tests.fixtures.parsed_page import Page
from tests.fixtures.report_inputs import HOSTILE, edit_json, write_inputs

PAIR = Pair(
    "test", "retrieval", "recall@5", "tuned", "base", 0.05, 0.01, 0.09, 400, 90, 40, 20, 340, 0.01, 0.03, True, 0.06
)


def make(root: Path, **options: Any) -> Page:
    write_inputs(root, **options)
    return render(root)


def render(root: Path) -> Page:
    report.main(report.ReportParams(title="Ragline"), root)
    return Page((root / artifacts.REPORT).read_text(encoding="utf-8"))


def shown(value: float, sign: str = "") -> str:
    return f"{value:{sign}.3f}".replace("-", "−")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def page(root: Path) -> Page:
    return make(root, hostile=True)


# --- numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "name", "caption"),
    [
        ("retrieval", "test", "A passage that holds the answer, test questions"),
        ("retrieval", "gold", "A passage that holds the answer, gold set"),
        ("retrieval_document", "gold", "Any passage of a document that answers, gold set"),
        ("answers", "test", "Agreement with the references, test questions"),
        ("answers", "gold", "Agreement with the references, gold set"),
    ],
)
def test_level_tables_equal_the_metrics_file(root: Path, page: Page, family: str, name: str, caption: str) -> None:
    values = io.read_json(root / artifacts.METRICS)[name][family]
    intervals = io.read_json(root / artifacts.COMPARISONS)["intervals"][name].get(family, {})
    head, *rows = page.table(caption)
    assert len(rows) == len(values)
    for (system, row), cells in zip(values.items(), rows, strict=True):
        assert cells[0].lower() == system
        for metric, cell in zip(head[1:], cells[1:], strict=True):
            at = intervals.get(system, {}).get(metric)
            spread = f" {shown(at['low'])}–{shown(at['high'])}" if at else ""
            assert cell == shown(row[metric]) + spread


@pytest.mark.parametrize(("name", "label"), [("test", "test questions"), ("gold", "gold set")])
def test_every_comparison_is_shown_once_with_its_numbers(root: Path, page: Page, name: str, label: str) -> None:
    expected = []
    for row in io.read_json(root / artifacts.COMPARISONS)["paired"]:
        if row["set"] == name:
            spread = f"{shown(row['low'], '+')} to {shown(row['high'], '+')}"
            wins = f"{row['wins']} · {row['ties']} · {row['losses']}"
            expected.append((signed_or_zero(row["difference"]), spread, wins))
    found = [
        (cells[2], cells[3], cells[7])
        for caption, rows in page.tables.items()
        if caption.startswith("Paired differences") and label in caption
        for cells in rows[1:]
        if len(cells) > 1
    ]
    assert sorted(found) == sorted(expected)


def signed_or_zero(value: float) -> str:
    return shown(value, "+") if value else "0.000"


def test_abstention_kinds_and_counts(root: Path, page: Page) -> None:
    figures = io.read_json(root / artifacts.METRICS)["gold"]["abstention"]
    cells = {row[0]: row[1] for row in page.table("Abstention, gold set")}
    assert cells["declines what the corpus cannot answer"] == shown(figures["refused_unanswerable"])
    assert cells["answers what it can"] == shown(figures["answered_answerable"])
    assert cells["balanced accuracy"] == shown(figures["balanced_accuracy"])
    dropped = io.read_json(root / artifacts.INGEST_COUNTS)["dropped"]
    assert page.table("Documents left out")[1:] == [[reason, f"{n:,}"] for reason, n in dropped.items()]
    n = [int(row[1]) for row in page.table("Test questions, answerable")[1:]]
    assert sum(n) == 400


def test_recall_lines_pass_through_the_metrics(root: Path) -> None:
    rows = [row for row in io.read_frame(root / artifacts.PREDICTIONS) if row["set"] == "gold"]
    metrics = io.read_json(root / artifacts.METRICS)["gold"]["retrieval"]
    for line, values in zip(tables.recall_lines(rows, list(metrics), 20), metrics.values(), strict=True):
        assert [line.points[k - 1][1] for k in (1, 5, 20)] == pytest.approx(
            [values["recall@1"], values["recall@5"], values["recall@20"]]
        )


def test_cell_says_n_where_fewer_questions_count() -> None:
    at = {"mean": 0.5, "low": 0.4, "high": 0.6, "n_clusters": 3}
    intervals = {"generator": {"answer_f1": {**at, "n": 40}, "citation_precision": {**at, "n": 31}}}
    table = tables.levels({"generator": {"answer_f1": 0.5, "citation_precision": 0.5}}, intervals)
    assert [cell.n for cell in table.rows[0][2]] == ["", "n = 31"]


def test_timings_that_are_missing_are_dashes(page: Page) -> None:
    rows = page.table("Time and peak memory")
    assert ["train_generator", "—", "—"] in rows
    # 9.4 + 6.1 + 11.8 + 62.3 + 171.0 + 58.9 = 319.5 s, rounded to even: 320 s
    assert rows[-1][:2] == ["total of 6 measured", "5\u202fmin 20\u202fs"]


# --- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("difference", "decisive", "verdict"),
    [
        (0.05, True, "tuned is better with n = 400"),
        (-0.05, True, "base is better with n = 400"),
        (0.05, False, "not decisive with n = 400"),
    ],
)
def test_verdict(difference: float, decisive: bool, verdict: str) -> None:
    pair = replace(PAIR, difference=difference, decisive=decisive)
    assert pair.verdict.replace(formats.NO_BREAK, " ") == verdict


def test_find_turns_a_comparison_round() -> None:
    found = find([PAIR], "test", "recall@5", "base", "tuned")
    assert found is not None
    assert (found.a, found.difference, found.low, found.high, found.wins) == ("base", -0.05, -0.09, -0.01, 20)
    assert found.verdict == PAIR.verdict
    assert find([PAIR], "gold", "recall@5", "tuned", "base") is None


def test_summary_agrees_with_the_intervals(root: Path, page: Page) -> None:
    text = page.text.replace(formats.NO_BREAK, " ").replace(formats.THIN, " ")
    metrics = io.read_json(root / artifacts.METRICS)
    pairs = read_pairs(io.read_json(root / artifacts.COMPARISONS)["paired"])
    for name, label in (("test", "test questions"), ("gold", "gold set")):
        pair = find(pairs, name, "recall@5", "tuned", "base")
        before, after = (100 * metrics[name]["retrieval"][system]["recall@5"] for system in ("base", "tuned"))
        spread = f"{100 * pair.low:+.1f} to {100 * pair.high:+.1f}".replace("-", "−")
        assert f"On the {label} recall@5 is {before:.1f} % with base, {after:.1f} % with tuned: " in text
        assert f"({spread}). {pair.verdict}".replace(formats.NO_BREAK, " ") in text
    figures = metrics["gold"]["abstention"]
    n = figures["n_unanswerable"]
    assert f"it rightly declines {round(figures['refused_unanswerable'] * n)} of {n} (" in text


def test_summary_of_equal_encoders_claims_nothing() -> None:
    same = replace(PAIR, difference=0.0, low=0.0, high=0.0, wins=0, losses=0, ties=400, decisive=False)
    scores = {"recall@5": 0.7}
    metrics = {"test": {"retrieval": {"base": scores, "tuned": scores}}}
    finding = summary.retrieval("", "tuned", ["base"], metrics, [same])
    (line,) = finding.lines
    assert line.text.endswith("with base and with tuned, question by question the same.")
    assert line.verdict == ""


def test_no_gold_set(tmp_path: Path) -> None:
    page = make(tmp_path, n_gold=0)
    assert "gold set" not in page.text
    assert "Not measured: no set has questions without an answer." in page.text
    assert len(page.table("A passage that holds the answer, test questions")) == 5


def test_two_gold_sets(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    metrics, comparisons = io.read_json(tmp_path / artifacts.METRICS), io.read_json(tmp_path / artifacts.COMPARISONS)
    edit_json(tmp_path / artifacts.METRICS, support=metrics["gold"])
    edit_json(
        tmp_path / artifacts.COMPARISONS,
        intervals={**comparisons["intervals"], "support": comparisons["intervals"]["gold"]},
        paired=comparisons["paired"] + [{**r, "set": "support"} for r in comparisons["paired"] if r["set"] == "gold"],
    )
    rows = io.read_frame(tmp_path / artifacts.PREDICTIONS)
    rows += [{**row, "set": "support"} for row in rows if row["set"] == "gold"]
    io.write_frame({name: [row[name] for row in rows] for name in rows[0]}, tmp_path / artifacts.PREDICTIONS)
    page = render(tmp_path)
    assert (
        page.table("A passage that holds the answer, gold set support")[1:]
        == page.table("A passage that holds the answer, gold set. n")[1:]
    )


def test_a_passage_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    io.write_table([], report.Passage, tmp_path / artifacts.PASSAGES)
    with pytest.raises(DataError, match=r"are not here, first 'quarry\..*run `dvc repro evaluate`"):
        render(tmp_path)


# --- text of others --------------------------------------------------------------------------------


def test_hostile_text_is_text(root: Path, page: Page) -> None:
    tags = {tag for tag, _, _ in page.attributes}
    assert not tags & {"script", "img", "iframe", "object"}
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    shown_text = "".join("\ufffd" if char in "\u202e\u0000\u0007" else char for char in HOSTILE)
    # The question, a reference, the generator's answer, and a passage's title, heading and text.
    assert page.text.count(shown_text) >= 6
    assert "<b>kind</b>" in page.text
    html = (root / artifacts.REPORT).read_text(encoding="utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", html)


def test_page_refers_to_nothing_outside(page: Page) -> None:
    links = [value for _, name, value in page.attributes if name in ("href", "src", "xlink:href", "action")]
    assert links
    assert all(link.startswith("#") or link == "data:," for link in links)
    ids = {value for _, name, value in page.attributes if name == "id"}
    assert {link[1:] for link in links if link.startswith("#")} <= ids
    assert any(tag == "meta" and value.startswith("default-src 'none'") for tag, _, value in page.attributes)


def test_tags_are_balanced_and_the_page_is_small(root: Path, page: Page) -> None:
    assert page.open == []
    assert (root / artifacts.REPORT).stat().st_size < 1_500_000


def test_two_renderings_are_equal(tmp_path: Path) -> None:
    make(tmp_path)
    first = (tmp_path / artifacts.REPORT).read_bytes()
    render(tmp_path)
    assert (tmp_path / artifacts.REPORT).read_bytes() == first
