"""The explorer's data: a fair sample, the right words marked, safe inside a page, never too large."""

import json
import math
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragline.reporting import explorer
from ragline.types import Passage

TEXTS = st.text(alphabet="ab \n.λ😀", max_size=300)


def passage(passage_id: str, text: str) -> Passage:
    return Passage(passage_id, "d", "d", "", text, 0, len(text), 1, "d")


def prediction(number: int, outcome: str = "correct", **changes: Any) -> dict[str, Any]:
    """A question whose gold passage `g` was shown first, before `o`."""
    answers = {
        f"{who}_{name}": value
        for who in ("extractive", "generator")
        for name, value in {
            "answer": "to stop early", "cited": ["g"], "failed": "", "em": 0.0, "f1": 0.0625, "grounded": 1.0,
            "outcome": outcome,
        }.items()
    }  # fmt: skip
    return {
        "set": "test", "question_id": f"{number:04d}", "question": "how?", "kind": "howto", "document": "d",
        "language": "en", "cluster": "d", "answerable": True, "answers": ["stop early"], "gold_passage_ids": ["g"],
        "rank_bm25": 0, "rank_hybrid": 1, "retrieved_ids": ["g", "o"], "retrieved_scores": [0.9, math.nan],
        "retrieved_gold": [True, False], "confidence": 0.5, "abstained": False, **answers, **changes,
    }  # fmt: skip


PASSAGES = {"g": passage("g", "Pass a limit to stop early."), "o": passage("o", "Something else.")}


def view(rows: list[dict[str, Any]], passages: dict[str, Passage] = PASSAGES) -> dict[str, Any]:
    return explorer.view(rows, passages, ["bm25", "hybrid"], "extractive")


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def read(text: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    data = json.loads(text)
    return data, [dict(zip(data["fields"], row, strict=True)) for row in data["questions"]]


# --- the sample ------------------------------------------------------------------------------------


def test_sample_keeps_every_outcome() -> None:
    rows = [prediction(n) for n in range(90)]
    rows += [prediction(n, "ignored") for n in range(90, 99)] + [prediction(99, "failed")]
    # Of ten places 9, 0.9 and 0.1 are due; 9, 1 and 1 with at least one each; the largest gives the eleventh back.
    chosen = explorer.sample(rows, "extractive", 10)
    found = [row["extractive_outcome"] for row in chosen]
    assert [found.count(outcome) for outcome in ("correct", "ignored", "failed")] == [8, 1, 1]
    # Eight of ninety lie 11.25 apart.
    assert [row["question_id"] for row in chosen[:4]] == ["0000", "0011", "0022", "0033"]


def test_sample_is_everything_where_it_fits() -> None:
    rows = [prediction(n) for n in (2, 0, 1)]
    assert [row["question_id"] for row in explorer.sample(rows, "extractive", 3)] == ["0000", "0001", "0002"]


@given(st.lists(st.sampled_from(["correct", "ignored", "failed"]), min_size=1, max_size=60), st.integers(3, 60))
def test_sample_fills_its_places_whatever_the_order(outcomes: list[str], limit: int) -> None:
    rows = [prediction(n, outcome) for n, outcome in enumerate(outcomes)]
    chosen = explorer.sample(rows, "extractive", limit)
    assert len(chosen) == min(limit, len(rows))
    assert len({row["question_id"] for row in chosen}) == len(chosen)
    assert {row["extractive_outcome"] for row in chosen} == set(outcomes)
    assert explorer.sample(rows[::-1], "extractive", limit) == chosen


# --- marks and pieces ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("stop early", ["stop early"]),  # shorter than four words: all of them
        ("PASS a\nlimit, to stop!", ["Pass a limit to stop"]),
        ("a limit to be or not", []),  # three words in a row say nothing
        ("", []),
        ("!", []),
    ],
)
def test_shared_runs(wanted: str, found: list[str]) -> None:
    text = "Pass a limit to stop early."
    assert [text[start:end] for start, end in explorer.shared_runs(text, wanted)] == found


@given(TEXTS, TEXTS)
def test_shared_runs_are_apart_and_shared(text: str, wanted: str) -> None:
    runs = explorer.shared_runs(text, wanted)
    assert all(0 <= start < end <= len(text) for start, end in runs)
    assert all(before[1] <= after[0] for before, after in pairwise(runs))
    said = f" {' '.join(words(wanted))} "
    assert all(f" {' '.join(words(text[start:end]))} " in said for start, end in runs)


@given(TEXTS, st.lists(st.tuples(st.integers(0, 250), st.integers(1, 40)), max_size=4), st.integers(1, 80))
def test_pieces_are_of_the_text_and_hold_what_matters(text: str, starts: list[tuple[int, int]], limit: int) -> None:
    ranges = [(start, min(len(text), start + size)) for start, size in starts if start < len(text)]
    found = explorer.pieces(text, ranges, limit)
    assert all(text[start : start + len(piece)] == piece for start, piece in found)
    assert all(start + len(piece) < after for (start, piece), (after, _) in pairwise(found))
    assert all(any(start <= at < start + len(piece) for start, piece in found) for at, _ in ranges)


def test_pieces_stand_around_the_range() -> None:
    # A limit of 100 leaves 100 − 4 characters for both sides: 48 each; the piece begins with a word.
    text = "word " * 100 + "GOLD" + " word" * 100
    ((start, piece),) = explorer.pieces(text, [(500, 504)], 100)
    assert (start, piece) == (455, text[455:552])


# --- the data --------------------------------------------------------------------------------------


def test_data_says_what_the_row_says() -> None:
    data, (question,) = read(
        view([prediction(1, extractive_judged_correct=None, extractive_judged_relevant=2 / 3)])["json"]
    )
    assert question["shown"] == [[0, 0.9, True], [1, None, False]]  # NaN is no number
    assert question["ranks"] == [0, 1]
    extractive, generator = question["answers"]
    assert extractive["judged"] == {"correct": None, "relevant": 0.667}
    assert "judged" not in generator
    assert extractive["f1"] == 0.062  # as Python rounds 0.0625, and as the tables show it
    text = data["passages"][0]["pieces"][0][1]
    # The reference `stop early`, then what either answer quotes.
    assert [(text[start:end], mark) for at, start, end, mark in question["marks"] if at == 0] == [
        ("stop early", 0), ("to stop early", 1), ("to stop early", 2),
    ]  # fmt: skip


def test_data_is_safe_inside_a_script() -> None:
    nasty = "</script><!-- <b> & \u2028\u2029 \u202e \x00 'x'"
    page = view([prediction(1, question=nasty, kind=nasty, answers=[nasty], question_id=nasty)])
    assert not set("<>&\u2028\u2029\u202e\x00") & set(page["json"])
    _, (question,) = read(page["json"])
    assert question["question"] == nasty.replace("\u202e", "\ufffd").replace("\x00", "\ufffd")
    assert page["keys"] == {("test", nasty)}


def test_passages_stand_once_and_are_cut() -> None:
    long = {**PASSAGES, "o": passage("o", "x" * 1_000_000)}
    data, _ = read(view([prediction(n) for n in range(50)], long)["json"])
    assert [p["id"] for p in data["passages"]] == ["g", "o"]
    assert data["passages"][1]["length"] == 1_000_000
    assert len(data["passages"][1]["pieces"][0][1]) <= explorer.STEPS[0][1]


def test_data_keeps_to_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "BUDGET_BYTES", 150_000)
    # 100 questions with ten passages of their own in letters of three bytes: 350 characters of each make 1 MB.
    rows, passages = [], {}
    for n in range(100):
        ids = [f"{n}-{i}" for i in range(10)]
        passages |= {name: passage(name, "漢字かな " * 200) for name in ids}
        seen = {"retrieved_ids": ids, "retrieved_scores": [0.5] * 10, "retrieved_gold": [False] * 10}
        rows.append(prediction(n, "ignored" if n % 10 else "failed", gold_passage_ids=[], answers=[], **seen))
    page = view(rows, passages)
    assert len(page["json"].encode()) <= 150_000
    assert page["n"] == len(page["keys"]) == 20  # all do not fit, nor do half of them, however short
    _, questions = read(page["json"])
    assert {question["answers"][0]["outcome"] for question in questions} == {"ignored", "failed"}
