"""The evidence of the report: what its sections say of small files made by hand, and of files that lack something."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

import pytest
from jinja2 import Environment, PackageLoader, StrictUndefined

from ragline.evaluation import outcomes
from ragline.reporting import answered, evidence, failures, formats
from ragline.reporting.inputs import Inputs
from ragline.reporting.sections import Block, Section
from ragline.reporting.tables import Table
from tests.fixtures.parsed_page import Page

HOSTILE = '<img src=x onerror=alert(1)> \u202e\u0007 "&'
SPREAD = {"low": 0.1, "high": 0.9, "n_clusters": 3}
SECTIONS = ("retrieval", "answers", "abstention", "slices", "judge", "training", "data", "cost")


def question(number: int, rank: int, position: int, confidence: float, **changes: Any) -> dict[str, Any]:
    """An answerable question whose passage hybrid search brought at a rank and showed at a place; 0 for neither."""
    return {
        "set": "gold", "question_id": f"q{number}", "kind": "howto", "answerable": True, "confidence": confidence,
        "rank_bm25": 0, "rank_hybrid": rank, "retrieved_gold": [place == position for place in (1, 2)],
        "extractive_f1": 1.0 if position else 0.0, "generator_f1": 0.25, **changes,
    }  # fmt: skip


def slice_(value: str, difference: float, worse: bool, **changes: Any) -> dict[str, Any]:
    """The slice of a kind, against a rest of 0.8."""
    return {
        "by": "kind", "value": value, "metric": "recall@5", "n": 12, "n_clusters": 9, "mean": 0.8 + difference,
        "low": 0.1, "high": 0.9, "rest": 0.8, "difference": difference, "difference_low": difference - 0.1,
        "difference_high": difference + 0.1, "p_holm": 0.01 if worse else 0.5, "worse": worse, **changes,
    }  # fmt: skip


COMPARISONS: dict[str, Any] = {
    "level": 0.95,
    "method": "bootstrap",
    "intervals": {
        "gold": {
            "retrieval": {"hybrid": {"recall@1": {"mean": 0.5, "n": 4, **SPREAD}}},
            "answers": {"generator": {"answer_f1": {"mean": 0.25, "n": 3, **SPREAD}}},
        }
    },
    "paired": [
        {
            "set": "gold", "family": "retrieval", "metric": "recall@5", "a": "hybrid", "b": "bm25", "difference": 0.75,
            "low": 0.3, "high": 0.9, "n": 4, "n_clusters": 3, "wins": 3, "losses": 0, "ties": 1, "p": 0.01,
            "p_holm": 0.02, "decisive": True, "detectable": 0.4,
        }
    ],
    "outcomes": {
        "gold": {
            "extractive": {"correct": 3, "ranked_low": 2, "failed": 0},
            "generator": {"correct": 0, "wrong_answer": 4, "ranked_low": 1},
        }
    },
    "sensitivity": {"gold": {"extractive": {"0": {"n": 1, "mean": 0.0, "low": 0.0, "high": 0.8},
                                            "2": {"n": 3, "mean": 0.7, "low": 0.4, "high": 0.9}}}},
    "risk_coverage": {"gold": {"extractive": [[0.1, 0.0], [0.5, 0.2], [1.0, 0.4]]}},
    "slices": {"gold": [slice_("howto", 0.05, False), slice_("error", -0.4, True), slice_("value", -0.2, True)]},
    "slices_too_small": {"gold": {"document": 7, "language": 0}},
    "judge": None,
    "details": {"gold": {}},
}  # fmt: skip


def inputs(**changes: Any) -> Inputs:
    """Four answerable questions and one without an answer."""
    whole = Inputs(
        title="t",
        params_text="",
        ingest={
            "documents": 30, "characters": 900, "aliases": 1, "clusters": 28, "largest_cluster": 2,
            "splits": {"train": 20, "dev": 6, "test": 4}, "dropped": {"empty": 9, "private": 1},
        },
        chunk={"passages": 60, "tokens_mean": 100.2, "tokens_max": 200, "passages_per_document_mean": 2.0},
        questions={
            "candidates": 100, "train": 30, "dev": 6, "test": 4, "kinds": {"howto": 40},
            "dropped": {"over the cap": 50, "duplicate": 10},
        },
        retriever={
            "base_model": "base", "method": "ctl", "towers": "question", "pairs": 30, "steps": 20, "kept": "tuned",
            "reason": "kept", "negatives": {"mined": 90, "excluded": {"gold": 3}},
            "dev": {"n": 6, "base": {"mrr@10": 0.5}, "tuned": {"mrr@10": 0.502}},
        },
        retriever_curve=[
            {"step": "10", "loss": "2.31", "dev_mrr@10": "0.501"},
            {"step": "20", "loss": "2.30", "dev_mrr@10": "0.502"},
        ],
        generator={
            "base_model": "reader", "method": "fid", "passages": 2, "examples": 9, "steps": 4, "dev_loss": 1.5,
            "parameters": 1000, "trained_parameters": 10,
        },
        generator_curve=[{"step": "1", "loss": "2", "dev_loss": ""}, {"step": "4", "loss": "1", "dev_loss": "1.5"}],
        answering={"hybrid_weight": 0.5, "abstain_below": 0.3, "answerer": "extractive", "reranker": None},
        metrics={
            "gold": {
                "n": 50, "n_answerable": 4,
                "retrieval": {
                    "bm25": {"recall@1": 0.0, "recall@2": 0.0},
                    "hybrid": {"recall@1": 0.5, "recall@2": 0.75},
                },
                "answers": {"extractive": {"answer_f1": 0.75}, "generator": {"answer_f1": 0.25}},
                "selective": {"extractive": {"coverage": 0.9, "risk": 0.35}},
                "abstention": {
                    "n_answerable": 4, "n_unanswerable": 1, "answered_answerable": 1.0, "refused_unanswerable": 0.0,
                    "balanced_accuracy": 0.5,
                },
            }
        },
        comparisons=COMPARISONS,
        predictions=[
            question(1, 1, 1, 0.6), question(2, 1, 1, 0.7), question(3, 2, 2, 0.2), question(4, 0, 0, 0.4),
            question(5, 0, 0, 0.5, answerable=False),
        ],
        failures=[], explored=[], passages={}, runs=[], not_compared={},
        timings={
            "ingest": {"seconds": 30.0, "peak_mb": 200}, "chunk": {"seconds": 90.0, "peak_mb": 100}, "report": None,
        },
        python="", versions={},
    )  # fmt: skip
    return replace(whole, **changes)


def rendered(given: Inputs) -> str:
    """All sections as HTML."""
    environment = Environment(
        loader=PackageLoader("ragline.reporting"), autoescape=True, undefined=StrictUndefined, finalize=formats.clean
    )
    calls = "".join(f"{{{{ evidence.{name}(view) }}}}" for name in SECTIONS)
    template = environment.from_string('{% import "evidence.html.j2" as evidence with context %}' + calls)
    return template.render(view=evidence.view(given))


def section(given: Inputs, name: str) -> Section:
    found = evidence.view(given)[name]
    assert found is not None
    return found


def only(blocks: tuple[Block, ...], heading: str) -> Block:
    (found,) = [block for block in blocks if block.heading.startswith(heading)]
    return found


def table(block: Block, caption: str) -> dict[str, list[tuple[str, str]]]:
    """Row name → text and small text of its cells."""
    (found,) = [t for t in (*block.tables, *(t for _, t in block.folded)) if t.caption.startswith(caption)]
    return {row.name: [(cell.text, cell.small) for cell in row.cells] for row in found.rows}


def told(figure: Any) -> tuple[str, str]:
    """What a chart says to those who cannot see it."""
    picture = ET.fromstring(figure.chart)
    return picture.findtext("title", ""), picture.findtext("desc", "")


# --- sections --------------------------------------------------------------------------------------


def test_retrieval_shows_levels_differences_and_recall_by_k() -> None:
    block = only(section(inputs(), "retrieval").blocks, "Retrieval on the gold set")
    assert table(
        block, "A passage that holds the answer, gold set. n\u00a0=\u00a04 questions from 3 document clusters"
    ) == {
        "recall@1": [("0.000", ""), ("0.500", "0.100–0.900")],
        "recall@2": [("0.000", ""), ("0.750", "")],
    }
    ((name, cells),) = table(block, "Paired differences").items()
    assert name == "recall@5"
    assert cells[1:3] == [("+0.750", "+0.300 to +0.900"), ("hybrid is better with n\u00a0=\u00a04", "")]
    assert cells[-1] == ("3 · 1 · 0", "")
    # Ranks 1, 1, 2, none of four answerable questions: 0.5 at k = 1, 0.75 at 2.
    assert told(block.figures[0])[1].endswith("hybrid 0.500 at 1, 0.750 at 2, 0.750 at 2")
    assert block.figures[0].title == "Hybrid finds 75.0\u202f% within 2 passages"


def test_answers_show_outcomes_and_places() -> None:
    block = only(section(inputs(), "answers").blocks, "Answers to the gold set")
    became, places = block.figures
    # Two of the five extractive answers went wrong, both as ranked low.
    assert became.title.endswith("passage ranked too low, 2 of 5")
    assert "extractive, n\u00a0=\u00a05: correct 3, passage ranked too low 2" in told(became)[1]
    widths = [float(rect.get("width", "")) for rect in ET.fromstring(became.chart).iter("rect")]
    # 320 wide with gaps of 1.5: 3 of 5, 2 of 5; 4 of 5, 1 of 5.
    assert widths == pytest.approx([190.5, 126.5, 254.5, 62.5])
    rows = table(block, "What became of each question")
    assert list(rows) == ["correct", "wrong answer", "passage ranked too low"]
    assert rows["wrong answer"] == [("0", "0.0\u202f%"), ("4", "80.0\u202f%")]
    assert told(places)[1] == "extractive: 2 0.700 (n 3), none 0.000 (n 1)"
    # BLEU aside, a value of fewer questions than the table's says so.
    assert [c.n for row in block.tables[1].rows for c in row.cells] == ["", "n\u00a0=\u00a03"]


def test_every_outcome_has_a_name_and_a_meaning() -> None:
    assert set(answered.MEANINGS) == set(failures.OUTCOMES) == set(outcomes.OUTCOMES)


def test_abstention_draws_no_risk_of_few_answers() -> None:
    risk, confidence = section(inputs(), "abstention").blocks
    # Coverage 0.1 of 50 questions is 5 answers, fewer than ten: the curve begins at 0.5.
    assert told(risk.figures[0])[1] == (
        "extractive: risk 0.200 at coverage 0.500, 0.400 at 1.000, the system stands at coverage 0.900, risk 0.350"
    )
    assert table(risk, "Abstention")["balanced accuracy"][0] == ("0.500", "")
    notes = {figure.title: figure.note for figure in confidence.figures}
    assert notes["Answerable, passage found"] == "n\u00a0=\u00a03; 1 of 3 below the threshold."
    assert notes["Not answerable"] == "n\u00a0=\u00a01; 0 of 1 below the threshold."


def test_what_was_promised_and_what_came_of_it() -> None:
    promise = {
        "target": 0.35, "level": 0.95, "unanswerable": 0.1, "bound": 0.34, "n": 382, "n_clusters": 191,
        "coverage": 0.8, "risk": 0.28,
    }  # fmt: skip
    rule = {"confidence": {"intercept": 0.0, "weights": {}}, "answer_from": 0.45, "promise": promise}
    interval = {"mean": 0.6, "low": 0.5, "high": 0.7, "n": 40, "n_clusters": 30}
    level = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 30, "n_clusters": 30}
    distracted = {"extractive": {"0": level, "1": level, "2": level}, "generator": {"0": level, "1": level}}
    given = inputs(
        answering={**inputs().answering, "rule": rule},
        comparisons=COMPARISONS | {"risk": {"gold": interval}, "distractors": {"gold": distracted}},
    )
    found = section(given, "abstention")
    assert "the F1 to be expected, learned on dev. Below 0.450" in found.words[0]
    assert "the risk is 0.280 at coverage 0.800, and at most 0.340 at level 95.0" in found.words[1]
    unmet = {**rule, "promise": {**promise, "bound": None}}
    words = section(replace(given, answering={**given.answering, "rule": unmet}), "abstention").words
    assert "no threshold promises that" in words[1]
    assert table(found.blocks[0], "Risk with")["mean loss of the answers given"][0][0] == "0.600"
    (block,) = section(given, "answers").blocks
    ((_, numbers),) = [fold for fold in block.folded if fold[0] == "Answer F1 by number of distractors"]
    assert [row.name for _, rows in numbers.groups for row in rows] == ["0", "1", "2"]


def test_slices_name_the_worst() -> None:
    found = section(inputs(), "slices")
    assert found.words[0] == (
        "On the gold set, recall@5: worst is “kind: error” with 0.400 (n\u00a0=\u00a012) against 0.800, −0.400 "
        "(−0.500 to −0.300). 1 further slice also."
    )
    assert found.words[1].endswith("7 slices had too few questions to be compared: 7 by document.")
    rows = table(found.blocks[0], "recall@5 by slice")
    assert [(name, cells[-1][0]) for name, cells in rows.items()] == [
        ("kind: error", "worse than the rest"),
        ("kind: value", "worse than the rest"),
        ("kind: howto", "not decisive"),
    ]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([slice_("a", -0.1, False), slice_("b", 0.1, False)], "no slice is decisively worse than the rest; lowest is"),
        ([slice_("a", 0.1, False)], "no slice lies below the rest."),
    ],
)  # fmt: skip
def test_slices_that_decide_nothing(rows: list[dict[str, Any]], words: str) -> None:
    found = section(inputs(comparisons=COMPARISONS | {"slices": {"gold": rows}}), "slices")
    assert words in found.words[0]


def test_many_slices_fold_away() -> None:
    rows = [slice_(f"k{n:02d}", n / 100, False) for n in range(20)]
    block = section(inputs(comparisons=COMPARISONS | {"slices": {"gold": rows}}), "slices").blocks[0]
    assert block.tables[0].caption == "recall@5 by slice, gold set: the lowest 8 of 20"
    assert len(block.tables[0].rows) == 8
    assert [summary for summary, _ in block.folded] == ["20 slices, recall@5", "1 kind of question, the rare ones too"]


def test_a_curve_that_hardly_moves_looks_flat() -> None:
    retriever = only(section(inputs(), "training").blocks, "Retriever")
    for figure in retriever.figures:
        (line,) = [p for p in ET.fromstring(figure.chart).iter("polyline") if "faint" not in p.get("class", "")]
        heights = [float(point.split(",")[1]) for point in line.get("points", "").split()]
        assert max(heights) - min(heights) < 4
    # The untuned encoder is where dev starts: all dev questions over the whole corpus, as in the table.
    assert told(retriever.figures[1])[1] == "step 0: 0.500, step 10: 0.501, step 20: 0.502"


def test_data_counts_what_was_left_out() -> None:
    found = section(inputs(), "data")
    # 30 kept + 10 left out; 40 questions kept of 100.
    assert "40 documents seen, 30 kept" in found.words[0]
    assert "The commonest reason to leave one out: “over the cap”, 50 of 60." in found.words[0]
    block = found.blocks[0]
    assert "Documents seen: kept 30, left out 10" in told(block.figures[0])[1]
    assert table(block, "Candidate questions left out")["duplicate"][:2] == [("10", ""), ("16.7\u202f%", "")]
    assert table(block, "Splits")["train"] == [("20", ""), ("30", "")]


def test_cost_adds_up() -> None:
    found = section(inputs(), "cost")
    # 30 s + 90 s; the report itself was not measured.
    assert found.words[0].startswith("2 stages took 2\u202fmin 00\u202fs together")
    rows = table(found.blocks[0], "Time and peak memory")
    assert [cells[0][0] for cells in rows.values()] == [
        "30.0\u202fs",
        "1\u202fmin 30\u202fs",
        "—",
        "2\u202fmin 00\u202fs",
    ]
    assert list(rows)[-1] == "total of 2 measured"


# --- the judge -------------------------------------------------------------------------------------

VERDICTS = {
    "n": 40, "failed": 2, "mean": 0.5, "low": 0.4, "high": 0.6, "if_all_failed_bad": 0.48, "if_all_failed_good": 0.52,
    "corrected": {"mean": 0.45, "low": 0.3, "high": 0.6, "n_labels": 20},
}  # fmt: skip
FAILED = {
    "n": 0, "failed": 9, "mean": None, "low": 0.0, "high": 1.0, "if_all_failed_bad": 0.0, "if_all_failed_good": 1.0,
    "corrected": None,
}  # fmt: skip
PREFERENCE = {
    "a": "extractive", "b": "generator", "n": 40, "failed": 1, "wins_a": 9, "wins_b": 21, "ties": 10,
    "inconsistent": 6, "preference": 0.35, "low": 0.2, "high": 0.45, "if_all_failed_a": 0.366, "if_all_failed_b": 0.341,
}  # fmt: skip


def judged(**changes: Any) -> Inputs:
    values = {
        "answers": {"extractive": {"correct": VERDICTS}, "generator": {"correct": FAILED}}, "pairwise": PREFERENCE,
        "repeats": {"extractive": {"n": 9, "failed": 2, "times": 3, "agreement": 0.9, "variance": 0.01}},
        "length_slope": {"extractive": {"slope": 0.02, "low": 0.01, "high": 0.03}, "generator": None},
        "agreement": {"n": 20, "kappa": 0.6, "low": 0.4, "high": 0.8}, **changes,
    }  # fmt: skip
    judge = {"model": "m", "warning": "of one family", "calls": 80, "usd": 1.5, "sets": {"gold": values}}
    return inputs(comparisons=COMPARISONS | {"judge": judge})


def test_judge_shows_what_its_failures_could_change() -> None:
    found = section(judged(), "judge")
    assert found.words[0] == "Warning: of one family."
    block = found.blocks[0]
    rows = table(block, "The judge's verdicts")
    assert rows["extractive"][1:] == [
        ("0.500", "0.400–0.600"), ("40", ""), ("2", "0.480–0.520"), ("0.450", "0.300–0.600"),
    ]  # fmt: skip
    assert rows["generator"][1] == ("—", "0.000–1.000")
    assert "κ = 0.600 (0.400–0.800), n\u00a0=\u00a020" in block.words[-1]
    assert "The judge was called 80 times, for $1.50." in section(judged(), "cost").words


@pytest.mark.parametrize(
    ("low", "high", "title"),
    [
        (0.2, 0.45, "prefers generator"),
        (0.2, 0.55, "prefers neither for sure"),
        (0.6, 0.9, "prefers extractive"),
    ],
)
def test_judge_prefers_only_where_the_interval_says_so(low: float, high: float, title: str) -> None:
    (block,) = section(judged(pairwise=PREFERENCE | {"low": low, "high": high}), "judge").blocks
    assert title in block.figures[0].title


def test_judge_shows_what_failed_comparisons_could_change() -> None:
    (block,) = section(judged(), "judge").blocks
    assert (
        "1 failed: the preference would lie between 0.341 and 0.366 if all were for generator or for extractive"
        in block.figures[0].note
    )
    assert "(n\u00a0=\u00a09, 2 failed)" in block.words[0]
    whole = PREFERENCE | {"failed": 0, "if_all_failed_a": 0.35, "if_all_failed_b": 0.35}
    (block,) = section(judged(pairwise=whole), "judge").blocks
    assert block.figures[0].note.endswith("changed the verdict. 0 failed.")


def test_judge_whose_comparisons_all_failed() -> None:
    nothing = dict.fromkeys(("n", "wins_a", "wins_b", "ties", "inconsistent"), 0) | {"failed": 41, "preference": None}
    bounds = {"low": 0.0, "high": 1.0, "if_all_failed_a": 1.0, "if_all_failed_b": 0.1}
    failed = {"n": 0, "failed": 5, "times": 3, "agreement": None, "variance": None}
    (block,) = section(judged(pairwise=PREFERENCE | nothing | bounds, repeats={"extractive": failed}), "judge").blocks
    assert not block.figures
    assert block.words[0] == "Asked 3 times about the same extractive answers, it failed at least once on all 5."
    assert block.words[-1] == (
        "Of extractive against generator it compared nothing: 41 failed: the preference would lie between 0.100 and "
        "1.000 if all were for generator or for extractive."
    )


def test_judge_without_people_says_so() -> None:
    (block,) = section(judged(agreement=None, pairwise=None, repeats=None, length_slope={}), "judge").blocks
    assert block.words == ("No labels of people: how far the judge can be trusted here is not known.",)
    assert not block.figures


def test_steps_without_a_number_are_counted_and_not_drawn() -> None:
    curve = [
        {"step": "10", "loss": "2.31", "dev_mrr@10": "0.501"},
        {"step": "20", "loss": "nan", "dev_mrr@10": "nan"},
        {"step": "30", "loss": "inf", "dev_mrr@10": ""},
    ]
    block = only(section(inputs(retriever_curve=curve), "training").blocks, "Retriever")
    assert block.words[1] == "Not a finite number, so not drawn: loss at 2 steps and dev_mrr@10 at 1 step."
    assert told(block.figures[1])[1] == "step 0: 0.500, step 10: 0.501"
    lost = [{"step": "0", "loss": "nan", "dev_mrr@10": "0.5"}]
    assert rendered(inputs(retriever_curve=lost))  # a curve of one step, which is 0


def test_places_are_those_that_each_answerer_read() -> None:
    level = {"mean": 0.5, "low": 0.4, "high": 0.6}
    read = {
        "extractive": {"0": {"n": 1, **level}, "3": {"n": 2, **level}},
        "generator": {"0": {"n": 3, **level}},
    }
    given = inputs(comparisons=COMPARISONS | {"sensitivity": {"gold": read}})
    block = only(section(given, "answers").blocks, "Answers to the gold set")
    assert told(block.figures[1])[1] == "extractive: 3 0.500 (n 2), none 0.500 (n 1); generator: none 0.500 (n 3)"
    rows = table(block, "Answer F1 by place of the first gold passage")
    assert rows == {
        "3": [("0.500", "0.400–0.600"), ("—", "")],
        "none read": [("0.500", "0.400–0.600"), ("0.500", "0.400–0.600")],
    }


# --- what is missing -------------------------------------------------------------------------------


def test_nothing_measured_yet() -> None:
    empty = inputs(
        timings={"ingest": None},
        retriever_curve=[],
        generator_curve=[],
        ingest=inputs().ingest | {"dropped": {}},
        questions=inputs().questions | {"dropped": {}, "kinds": {}},
        generator={"base_model": "m", "method": "endpoint", "steps": 0},
        predictions=[],
    )
    page = Page(rendered(empty))
    assert not page.open
    assert "nothing is trained" in page.text


# --- the page --------------------------------------------------------------------------------------


def test_words_of_others_stay_words() -> None:
    hostile = judged()
    hostile = replace(
        hostile,
        comparisons=hostile.comparisons
        | {"slices": {"gold": [slice_(HOSTILE, -0.5, True)]}}
        | {"judge": hostile.comparisons["judge"] | {"model": HOSTILE}},
        ingest=hostile.ingest | {"dropped": {HOSTILE: 3}},
        questions=hostile.questions | {"dropped": {HOSTILE: 60}, "kinds": {HOSTILE: 40}},
        predictions=[question(1, 1, 1, 0.5, kind=HOSTILE)],
        retriever=hostile.retriever | {"base_model": HOSTILE, "reason": HOSTILE},
    )
    html = rendered(hostile)
    assert "<img" not in html
    assert not re.search("[\u202e\u0007]", html)
    assert html.count("&lt;img src=x onerror=alert(1)&gt;") >= 8


def test_every_chart_has_a_name_a_description_and_a_number_of_questions() -> None:
    view = evidence.view(judged())
    blocks = [(name, block) for name, found in view.items() if found for block in found.blocks]
    for name, block in blocks:
        for figure in block.figures:
            title, description = told(figure)
            assert title
            assert re.search(r"\d", description), title
            if name not in ("training", "data"):
                words = [figure.note, description, *ET.fromstring(figure.chart).itertext()]
                assert any("n\u00a0=" in text or text == "n" for text in words), title


def test_tables_have_as_many_cells_as_heads() -> None:
    view = evidence.view(judged())
    found: list[Table] = [
        t for s in view.values() if s for b in s.blocks for t in (*b.tables, *(folded for _, folded in b.folded))
    ]
    assert len(found) >= 15
    for one in found:
        assert {len(row.cells) for row in one.rows} <= {len(one.columns) - 1}, one.caption
    captions = [one.caption for one in found]
    assert len(set(captions)) == len(captions)


def test_same_files_same_page() -> None:
    assert rendered(judged()) == rendered(judged())
