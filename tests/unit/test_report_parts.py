"""Failures, formats and colours of the report, each by itself."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from ragline.evaluation import outcomes
from ragline.reporting import failures, formats

COLOURS = re.compile(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);")


def prediction(question_id: str, outcome: str, **changes: Any) -> dict[str, Any]:
    """A question whose extractive answer is the one served."""
    return {
        "set": "test", "question_id": question_id, "rank_hybrid": 1, "extractive_f1": 0.0, "confidence": 0.5,
        "extractive_outcome": outcome, **changes,
    }  # fmt: skip


def test_failures_worst_first() -> None:
    rows = [
        prediction("a-good", "correct"),
        prediction("b-near", "ranked_low", rank_hybrid=6),
        prediction("c-deep", "ranked_low", rank_hybrid=19),
        prediction("d-gone", "retrieval_miss", rank_hybrid=0),
        prediction("e-poor", "wrong_answer", extractive_f1=0.4),
        prediction("f-poorer", "wrong_answer", extractive_f1=0.1),
        prediction("g-unsure", "undue_answer", confidence=0.2),
        prediction("h-sure", "undue_answer", confidence=0.9),
        prediction("i-declined", "rightly_declined"),
    ]
    found = {
        outcome: [f.prediction["question_id"] for f in some]
        for outcome, some in failures.sort_out(rows, "extractive", "hybrid").items()
        if some
    }
    assert found == {
        "retrieval_miss": ["d-gone"],
        "ranked_low": ["c-deep", "b-near"],
        "wrong_answer": ["f-poorer", "e-poor"],
        "undue_answer": ["h-sure", "g-unsure"],
    }


def test_every_outcome_has_a_name() -> None:
    assert set(failures.OUTCOMES) == set(outcomes.OUTCOMES)
    assert set(failures.FINE) == {"correct", "rightly_declined"}


def test_tally_puts_the_commonest_failure_first() -> None:
    some = ["correct"] * 5 + ["ignored"] * 2 + ["wrong_answer"] * 3 + ["ranked_low"] * 2
    rows = [prediction(str(n), outcome) for n, outcome in enumerate(some)]
    assert list(failures.tally(rows, "extractive").items()) == [
        ("wrong_answer", 3), ("ranked_low", 2), ("ignored", 2), ("correct", 5),
    ]  # fmt: skip


def test_failures_share_the_places() -> None:
    missed = [prediction(f"t{i}", "retrieval_miss", rank_hybrid=0) for i in range(9)]
    gold = [prediction(f"g{i}", "retrieval_miss", set="gold", rank_hybrid=0) for i in range(2)]
    poor = [prediction(f"p{i}", "wrong_answer") for i in range(3)]
    # Queues gold missed (2), test missed (9), test poor (3): two places each, the seventh goes to test missed.
    chosen = [f.prediction["question_id"] for f in failures.worst(missed + gold + poor, "extractive", "hybrid", 7)]
    assert chosen == ["g0", "g1", "t0", "t1", "t2", "p0", "p1"]


@given(st.text())
def test_clean_leaves_no_control_character_and_no_length(text: str) -> None:
    cleaned = str(formats.clean(text))
    assert len(cleaned) == len(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", cleaned)
    assert all(new in (old, "\ufffd") for old, new in zip(text, cleaned, strict=True))


def test_clean_passes_our_own_markup() -> None:
    assert formats.clean(Markup("<b>\u0007</b>")) == Markup("<b>\u0007</b>")
    assert formats.clean(3) == 3


@given(st.text(), st.integers(10, 80))
def test_clip_is_short_and_a_prefix(text: str, limit: int) -> None:
    clipped = formats.clip(text, limit)
    assert len(clipped) <= limit
    assert clipped == text or (clipped.endswith(" …") and text.startswith(clipped[:-2]))


# --- numbers -----------------------------------------------------------------------------------------


def test_number_formats() -> None:
    assert [formats.signed(x) for x in (0.0683, -0.0004, 0.0, None)] == ["+0.068", "−0.000", "0.000", "—"]
    assert formats.signed_span(-0.01, 0.2) == "−0.010 to +0.200"
    assert [formats.p_value(p) for p in (0.0004, 0.032, None)] == ["<\u202f0.001", "0.032", "—"]
    times = ["9.4\u202fs", "3\u202fmin 07\u202fs", "1\u202fh 05\u202fmin"]
    assert [formats.seconds(s) for s in (9.44, 187.0, 3900.0)] == times
    assert [formats.memory(m) for m in (812.0, 1900.0)] == ["812\u202fMB", "1.9\u202fGB"]
    assert [formats.plural(1, "document"), formats.plural(1290, "document")] == ["1 document", "1,290 documents"]


def test_a_capital_leaves_names_as_they_are() -> None:
    assert [formats.capital(text) for text in ("gold set HR_FAQ", "", "ähnlich")] == ["Gold set HR_FAQ", "", "Ähnlich"]
    assert formats.sentence("kept: DPR.") == "Kept: DPR."


def test_listed() -> None:
    assert [formats.listed(list("abc")[:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]


# --- looks -----------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """Relative luminance. Source: WCAG 2.2, definition of relative luminance."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_contrast_is_aa(scheme: int) -> None:
    style = (Path(formats.__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
    both = {name: (light, dark) for name, light, dark in COLOURS.findall(style)}
    colours = {name: values[scheme] for name, values in both.items()}
    texts = ["ink", "muted", "accent", "good", "bad", "s0", "s1", "s2", "s3", "s4", "s5", "s6"]
    pairs = [(name, "paper", 4.5) for name in texts]
    pairs += [("ink", "panel", 4.5), ("muted", "panel", 4.5), ("ink", "mark", 4.5), ("strong-rule", "paper", 3.0)]
    for front, back, least in pairs:
        low, high = sorted((luminance(colours[front]), luminance(colours[back])))
        assert (high + 0.05) / (low + 0.05) >= least, (front, back)
