"""The page says what the files say, and what others wrote stays text."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from ragline import artifacts, builds, comparing, io
from ragline.errors import DataError
from ragline.reporting import failures, formats, summary
from ragline.reporting.comparisons import Pair, Run, RunPair, find, read_pairs, read_runs, served_label
from ragline.reporting.page import render as render_page
from stages import report
from tests.fixtures.parsed_page import Page
from tests.fixtures.report_inputs import HOSTILE, HUGE, edit_json, write_inputs

PAIR = Pair(
    "test", "retrieval", "recall@5", "tuned", "base", 0.05, 0.01, 0.09, 400, 90, 40, 20, 340, 0.01, 0.03, True, 0.06
)
PARAMS = report.ReportParams(title="Ragline")


def make(root: Path, **options: Any) -> Page:
    write_inputs(root, **options)
    return render(root)


def render(root: Path) -> Page:
    report.main(PARAMS, root)
    return Page((root / artifacts.REPORT).read_text(encoding="utf-8"))


def shown(value: float, sign: str = "") -> str:
    return f"{value:{sign}.3f}".replace("-", "−")


def plain(text: str) -> str:
    return text.replace(formats.NO_BREAK, " ").replace(formats.THIN, " ")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def page(root: Path) -> Page:
    return make(root, hostile=True)


@pytest.fixture(scope="module")
def html(root: Path, page: Page) -> str:
    return (root / artifacts.REPORT).read_text(encoding="utf-8")


# --- numbers ---------------------------------------------------------------------------------------


def test_figures_are_what_is_served_with_interval_and_n(root: Path, page: Page) -> None:
    text = plain(page.text)
    intervals = io.read_json(root / artifacts.COMPARISONS)["intervals"]
    for family, system, metric, name in (
        ("retrieval", "hybrid", "recall@5", "recall@5, hybrid"),
        ("answers", "extractive", "answer_f1", "answer_f1, extractive"),
    ):
        for part, label in (("test", "test questions"), ("gold", "gold set")):
            at = intervals[part][family][system][metric]
            spread = f"{shown(at['low'])}–{shown(at['high'])} · n = {at['n']}"
            assert f"{name}, {label}{shown(at['mean'])}{spread}" in text


def test_summary_agrees_with_the_intervals(root: Path, page: Page) -> None:
    text = plain(page.text)
    metrics = io.read_json(root / artifacts.METRICS)
    pairs = read_pairs(io.read_json(root / artifacts.COMPARISONS)["paired"])
    for name, label in (("test", "test questions"), ("gold", "gold set")):
        pair = find(pairs, name, "recall@5", "tuned", "base")
        assert pair is not None
        before, after = (shown(metrics[name]["retrieval"][system]["recall@5"]) for system in ("base", "tuned"))
        difference = f"{shown(pair.difference, '+')} ({shown(pair.low, '+')} to {shown(pair.high, '+')})"
        assert f"On the {label} recall@5 is {before} with base, {after} with tuned: {difference}. " in text
        assert f"{difference}. {plain(pair.verdict)}" in text
    figures = metrics["gold"]["abstention"]
    n = figures["n_unanswerable"]
    assert f"it rightly declines {round(figures['refused_unanswerable'] * n)} of {n} (" in text


def test_where_it_fails_agrees_with_the_predictions(root: Path, page: Page) -> None:
    rows = [row for row in io.read_frame(root / artifacts.PREDICTIONS) if row["set"] == "gold"]
    counts = failures.tally(rows, "extractive")
    wrong = {outcome: n for outcome, n in counts.items() if outcome not in failures.FINE}
    most = max(wrong, key=lambda outcome: wrong[outcome])
    share = f"{sum(wrong.values())} of {len(rows)} ({100 * sum(wrong.values()) / len(rows):.1f} %)"
    assert f"Gold set: {share} go wrong, most often “{failures.OUTCOMES[most]}” ({wrong[most]})." in plain(page.text)


def test_explorer_holds_every_question_with_its_numbers(root: Path, html: str) -> None:
    (text,) = re.findall(r'<script type="application/json" id="explorer-data">(.*?)</script>', html, re.S)
    data = json.loads(text)
    found = {(q[0], q[1]): dict(zip(data["fields"], q, strict=True)) for q in data["questions"]}
    rows = io.read_frame(root / artifacts.PREDICTIONS)
    assert found.keys() == {(row["set"], row["question_id"]) for row in rows}
    for row in rows:
        q = found[row["set"], row["question_id"]]
        assert q["ranks"] == [row[f"rank_{name}"] for name, _ in data["systems"]]
        assert [f"{answer['f1']:.3f}" for answer in q["answers"]] == [
            f"{row[f'{who}_f1']:.3f}" for who in ("extractive", "generator")
        ]
        assert [answer["outcome"] for answer in q["answers"]] == [row["extractive_outcome"], row["generator_outcome"]]
        assert [data["passages"][at]["id"] for at, _, _ in q["shown"]] == row["retrieved_ids"]


def test_worst_failures_stand_on_the_page_without_script(root: Path, page: Page) -> None:
    inputs = report.gather(PARAMS, root)
    assert len(inputs.failures) == report.WORST
    text = page.text
    for failure in inputs.failures:
        if failure.prediction["question"] != HOSTILE:
            assert failure.prediction["question"] in text
    assert "of 400 shown" not in text


# --- against earlier runs --------------------------------------------------------------------------

UNDECIDED = "not decisive with n = 400"
SAME = {"difference": 0.0, "wins": 0, "losses": 0, "ties": 400}
ROW = {"p_holm": 0.01, "p": 0.01, "n": 400, "n_clusters": 90, "wins": 40, "losses": 20, "ties": 340}


def run_pair(metric: str, verdict: str, **changes: Any) -> RunPair:
    values = {"set": "test", "before": 0.7, "after": 0.75, "difference": 0.05, "low": 0.01, "high": 0.09, **ROW}
    return RunPair(
        **{name: v for name, v in {**values, **changes}.items() if name != "p"}, metric=metric, verdict=verdict
    )


def run(*paired: RunPair, **changes: Any) -> Run:
    nothing: dict[str, Any] = dict.fromkeys(("metrics", "won", "lost", "params", "data", "code"), ())
    return Run(**{"name": "previous commit", "a": "5b8bdfe", "anchor": "run-1", "paired": paired, "only_a": 0,
                  "only_b": 0, **nothing, **changes})  # fmt: skip


@pytest.mark.parametrize(
    ("paired", "look", "text"),
    [
        ([run_pair("recall@5", "better"), run_pair("mrr@10", "better"), run_pair("recall@5", "better", set="gold")],
         "better", "Better than 5b8bdfe in recall@5 and mrr@10 (test questions), recall@5 (gold set)."),
        ([run_pair("recall@5", "better"), run_pair("declined", "worse")],
         "worse", "Better than 5b8bdfe in recall@5 (test questions); worse in declined (test questions)."),
        ([run_pair("answer_f1", "worse")], "worse", "Worse than 5b8bdfe in answer_f1 as served (test questions)."),
        ([run_pair("recall@5", UNDECIDED)], "open", "No decisive change since 5b8bdfe."),
        ([run_pair("recall@5", UNDECIDED, **SAME)], "open", "The same scores as 5b8bdfe, question by question."),
        ([], "open", "Not comparable with 5b8bdfe: no question in common."),
    ],
)  # fmt: skip
def test_verdict_of_a_run(paired: list[RunPair], look: str, text: str) -> None:
    line = summary.verdict([run(*paired)], [])
    assert (line.look, line.text) == (look, text)


def test_the_first_run_and_one_whose_forerunner_cannot_be_read() -> None:
    assert summary.verdict([], []).text.startswith("A first run")
    missing = summary.not_compared({"previous commit": "5b8bdfe: neither in git nor in DVC's cache"})
    text = "Not compared with the previous commit: 5b8bdfe: neither in git nor in DVC's cache."
    assert [line.text for line in missing] == [text]
    assert summary.verdict([], missing).text.startswith("Not compared with an earlier run")
    assert "5b8bdfe" in summary.verdict([run()], missing).text


def test_runs_that_score_the_same_say_so_in_short() -> None:
    pairs = [run_pair("recall@5", UNDECIDED, **SAME), run_pair("declined", UNDECIDED, **SAME)]
    (line,) = summary.since(run(*pairs, code=["a.py"])).lines
    assert line.text == "1 code file changed."
    assert plain(pairs[0].words) == "the same with n = 400"
    shared = summary.standing(run(*pairs, only_b=3)).text
    assert shared == "The same scores as 5b8bdfe, question by question of those that both were asked."


def test_a_mean_that_did_not_move_is_not_the_same_scores() -> None:
    evens_out = run_pair("mrr@10", UNDECIDED, difference=0.0, wins=4, losses=4, ties=392)
    assert summary.standing(run(evens_out)).text == "No decisive change since 5b8bdfe."


def test_runs_without_a_question_in_common_are_told_apart() -> None:
    (line,) = summary.since(run(only_a=3, only_b=4, code=["a.py"])).lines
    assert line.text == "1 code file changed."


def test_why_there_is_no_comparison_stands_on_the_page(root: Path, page: Page) -> None:
    inputs = replace(report.gather(PARAMS, root), not_compared={"previous commit": "5b8bdfe: gone", "champion": "odd"})
    text = Page(render_page(inputs)).text
    assert "Not compared with the previous commit: 5b8bdfe: gone." in text
    assert "Not compared with the champion: odd." in text
    assert "A first run" not in text
    assert "A first run" in page.text


def test_since_tells_decisive_metrics_first_and_counts_what_differs() -> None:
    paired = [
        run_pair("recall@1", "not decisive with n = 400"),
        run_pair("mrr@10", "worse"),
        run_pair("recall@5", "better"),
    ]
    won = [{"set": "test", "question_id": n, "metric": "recall@5"} for n in "ab"]
    found = summary.since(run(*paired, won=won, params=[{}], code=["a.py", "b.py"]))
    assert found.subject == "Against the previous commit, 5b8bdfe"
    *metrics, last = found.lines
    assert [line.text.split(",")[0] for line in metrics] == ["recall@5", "mrr@10", "recall@1"]
    assert plain(metrics[0].verdict) == "better with n = 400"
    assert metrics[0].text == "recall@5, test questions: 0.700 → 0.750, +0.050 (+0.010 to +0.090)."
    assert last.text == "2 questions better served, 0 worse; 1 setting and 2 code files changed."


def test_page_shows_the_comparison_with_another_run(tmp_path: Path) -> None:
    write_inputs(tmp_path / "now", n_test=80, n_gold=30)
    write_inputs(tmp_path / "then", n_test=80, n_gold=30, gain=0.2)
    for place in ("now", "then"):
        (tmp_path / place / artifacts.LOCK).write_text("schema: '2.0'\nstages: {}\n", encoding="utf-8")
    then, now = builds.read(tmp_path / "then", "5b8bdfe"), builds.read(tmp_path / "now", "this run")
    # The fixture scores only search differently.
    found = comparing.compare("previous commit", then, now)
    inputs = replace(report.gather(PARAMS, tmp_path / "now"), runs=[asdict(found)])
    page = Page(render_page(inputs))
    table = page.table("Same questions in pairs, against the previous commit, 5b8bdfe")
    cells = {(row[0], row[1], row[2], row[7]) for row in table[1:] if len(row) > 1}
    assert cells == {
        (served_label(p.metric), shown(p.before), shown(p.after), f"{p.wins} · {p.ties} · {p.losses}")
        for p in found.paired
    }
    assert summary.verdict(read_runs([asdict(found)]), []).text in page.text
    links = [value for _, name, value in page.attributes if name == "href" and value.startswith("#q=")]
    assert len(links) == min(20, len(found.won)) + min(20, len(found.lost))


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
    assert plain(pair.verdict) == verdict


def test_find_turns_a_comparison_round() -> None:
    found = find([PAIR], "test", "recall@5", "base", "tuned")
    assert found is not None
    assert (found.a, found.difference, found.low, found.high, found.wins) == ("base", -0.05, -0.09, -0.01, 20)
    assert found.verdict == PAIR.verdict
    assert find([PAIR], "gold", "recall@5", "tuned", "base") is None


def test_summary_of_equal_encoders_claims_nothing() -> None:
    same = replace(PAIR, difference=0.0, low=0.0, high=0.0, wins=0, losses=0, ties=400, decisive=False)
    scores = {"recall@5": 0.7}
    metrics = {"test": {"retrieval": {"base": scores, "tuned": scores}}}
    finding = summary.retrieval("", "tuned", ["base"], metrics, [same])
    (line,) = finding.lines
    assert line.text.endswith("with base and with tuned, question by question the same.")
    assert line.verdict == ""


SLICE = {
    "by": "kind", "value": "returns", "metric": "answer_f1", "n": 29, "mean": 0.2, "rest": 0.7, "difference": -0.5,
    "difference_low": -0.6, "difference_high": -0.4, "worse": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("slices", "text", "href"),
    [
        ([SLICE, {**SLICE, "value": "note", "difference": -0.1}],
         "Furthest behind, gold set: kind returns, answer_f1 as served 0.200 against 0.700 for the rest, "
         "−0.500 (−0.600 to −0.400), n = 29.", "#set=gold&kind=returns"),
        ([{**SLICE, "by": "gold_position", "value": "3"}],
         "Furthest behind, gold set: first gold passage read at place 3, answer_f1 as served 0.200 against 0.700 "
         "for the rest, −0.500 (−0.600 to −0.400), n = 29.", "#slices"),
        ([{**SLICE, "by": "gold_position", "value": "0"}],
         "Furthest behind, gold set: no gold passage read, answer_f1 as served 0.200 against 0.700 for the rest, "
         "−0.500 (−0.600 to −0.400), n = 29.", "#slices"),
        ([{**SLICE, "worse": False}], "No kind of question is decisively worse than the rest.", "#slices"),
    ],
)  # fmt: skip
def test_worst_slice_is_named(slices: list[dict[str, Any]], text: str, href: str) -> None:
    (line,) = summary.failing([], {"slices": {"gold": slices}}, "extractive")
    assert (plain(line.text), line.href) == (text, href)


def test_warnings_name_what_weakens_the_numbers() -> None:
    ingest = {"documents": 10, "dropped": {"too short": 90, "private": 10}}
    questions = {"candidates": 100, "dropped": {"over the cap": 80, "duplicate": 20}}
    metrics = {"test": {"n_answerable": 40, "abstention": {"n_unanswerable": 12}}}
    comparisons = {
        "outcomes": {"test": {"generator": {"failed": 3}, "extractive": {"failed": 0}}},
        "judge": {"warning": "judge and generator are of one family"},
    }
    lines = summary.warnings(ingest, questions, metrics, comparisons, [PAIR])
    assert [plain(line.text) for line in lines] == [
        "Only 40 answerable questions (test questions); a difference in recall@5 below 0.060 mostly stays unseen.",
        "Abstention on the test questions rests on 12 questions without an answer.",
        "Dropped as “too short”: 90 of 110 (81.8 %) documents.",
        "No reply to 3 questions (test questions, generator answers).",
        "Judge and generator are of one family.",
    ]
    assert (
        summary.warnings(
            {"documents": 10, "dropped": {}},
            questions,
            {"test": {"n_answerable": 400}},
            {"outcomes": {}, "judge": None},
            [],
        )
        == []
    )


def test_no_gold_set(tmp_path: Path) -> None:
    page = make(tmp_path, n_test=60, n_gold=0)
    assert "gold set" not in page.text
    assert "Not measured: no set has questions without an answer." in page.text


def test_a_passage_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_inputs(tmp_path, n_test=20, n_gold=0)
    io.write_table([], report.Passage, tmp_path / artifacts.PASSAGES)
    with pytest.raises(DataError, match=r"are not here, first 'quarry\..*run `dvc repro evaluate`"):
        render(tmp_path)


def test_predictions_of_an_older_run_are_refused(tmp_path: Path) -> None:
    write_inputs(tmp_path, n_test=20, n_gold=0)
    rows = io.read_frame(tmp_path / artifacts.PREDICTIONS)
    columns = {name: [row[name] for row in rows] for name in rows[0] if name != "generator_outcome"}
    io.write_frame(columns, tmp_path / artifacts.PREDICTIONS)
    with pytest.raises(DataError, match=r"expected a column 'generator_outcome', got none; run `dvc repro evaluate`"):
        render(tmp_path)


@pytest.mark.parametrize("name", report.TOLD)
def test_comparisons_of_an_older_run_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / artifacts.COMPARISONS
    io.write_json({key: None for key in report.TOLD if key != name}, path)
    with pytest.raises(DataError, match=rf"expected '{name}', got none; run `dvc repro evaluate`"):
        report.comparisons(path)


def test_a_set_keeps_its_name() -> None:
    rows = [{"set": "HR_FAQ", "extractive_outcome": "correct"}]
    (line,) = summary.failing(rows, {"slices": {}}, "extractive")
    assert plain(line.text) == "Gold set HR_FAQ: nothing goes wrong, n = 1."


def test_an_endpoint_is_a_model_without_training(tmp_path: Path) -> None:
    write_inputs(tmp_path, n_test=60, n_gold=0)
    nothing = {"examples": 0, "steps": 0, "dev_loss": None, "parameters": 0, "trained_parameters": 0}
    edit_json(tmp_path / artifacts.GENERATOR_SUMMARY, base_model="some/model", method="endpoint", **nothing)
    (tmp_path / artifacts.GENERATOR_CURVE).write_text("step,loss,dev_loss\n", encoding="utf-8")
    assert "Best dev loss" not in render(tmp_path).text


# --- text of others --------------------------------------------------------------------------------


def test_hostile_text_is_text(page: Page, html: str) -> None:
    tags = {tag for tag, _, _ in page.attributes}
    assert not tags & {"img", "iframe", "object"}
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    shown_text = "".join("\ufffd" if char in "\u202e\u0000\u0007" else char for char in HOSTILE)
    # The question, a reference, and a passage's title, heading and text.
    assert page.text.count(shown_text) >= 5
    assert "<b>kind</b>" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", html)
    assert HUGE[:2000] not in html


def test_only_our_own_script_may_run(html: str) -> None:
    scripts = re.findall(r"<script([^>]*)>", html)
    assert scripts == ["", ' type="application/json" id="explorer-data"']
    source = (Path(summary.__file__).parent / "templates" / "explorer.js").read_text(encoding="utf-8")
    assert f"<script>{source}</script>" in html
    assert "script-src 'sha256-" in html


def test_page_refers_to_nothing_outside(page: Page) -> None:
    links = [value for _, name, value in page.attributes if name in ("href", "src", "xlink:href", "action")]
    assert links
    assert all(link.startswith("#") or link == "data:," for link in links)
    ids = {value for _, name, value in page.attributes if name == "id"}
    assert {link[1:] for link in links if link.startswith("#") and "=" not in link} <= ids
    assert any(tag == "meta" and value.startswith("default-src 'none'") for tag, _, value in page.attributes)


def test_tags_are_balanced(page: Page) -> None:
    assert page.open == []


@pytest.mark.slow
def test_page_of_many_questions_is_small_and_says_so(tmp_path: Path) -> None:
    page = make(tmp_path, n_test=1500, n_gold=300)
    assert (tmp_path / artifacts.REPORT).stat().st_size < 3_000_000
    assert "1,000 of 1,800 questions, an even sample of every set and outcome" in page.text


def test_two_renderings_are_equal(tmp_path: Path) -> None:
    make(tmp_path, n_test=60, n_gold=30)
    first = (tmp_path / artifacts.REPORT).read_bytes()
    render(tmp_path)
    assert (tmp_path / artifacts.REPORT).read_bytes() == first
