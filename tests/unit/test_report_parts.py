"""Failures, formats, charts and colours of the report, each by itself."""

import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from ragline.reporting import charts, failures, formats


def prediction(question_id: str, **changes: Any) -> dict[str, Any]:
    """An answerable question whose gold passage was retrieved and answered well."""
    return {
        "set": "test", "question_id": question_id, "answerable": True, "gold_passage_ids": ["d#0001"],
        "retrieved_ids": ["d#0001"], "retrieved_gold": [True], "rank_hybrid": 1, "extractive_f1": 1.0,
        "generator_f1": 0.0,
        "confidence": 0.5, "abstained": False, **changes,
    }  # fmt: skip


def test_failures_worst_first() -> None:
    rows = [
        prediction("a-good"),
        prediction("b-near", rank_hybrid=6, retrieved_gold=[False]),
        prediction("c-deep", rank_hybrid=19, retrieved_gold=[False]),
        prediction("d-gone", rank_hybrid=0, retrieved_gold=[False]),
        prediction("e-poor", extractive_f1=0.4, generator_f1=0.1),
        prediction("f-poorer", extractive_f1=0.1, generator_f1=0.2),  # the better answer counts: 0.2
        prediction("g-undue", answerable=False, gold_passage_ids=[]),
        prediction("h-declined", answerable=False, gold_passage_ids=[], abstained=True),
    ]
    found = {why: [f.prediction["question_id"] for f in some] for why, some in failures.sort_out(rows).items()}
    assert found == {
        failures.MISSED: ["d-gone", "c-deep", "b-near"],
        failures.POOR: ["f-poorer", "e-poor"],
        failures.UNDUE: ["g-undue"],
    }


def test_failures_share_the_places() -> None:
    missed = [prediction(f"t{i}", rank_hybrid=0, retrieved_gold=[False]) for i in range(9)]
    gold = [prediction(f"g{i}", set="gold", rank_hybrid=0, retrieved_gold=[False]) for i in range(2)]
    poor = [prediction(f"p{i}", extractive_f1=0.1) for i in range(3)]
    # Queues gold missed (2), test missed (9), test poor (3): two places each, the seventh goes to test missed.
    chosen = [f.prediction["question_id"] for f in failures.worst(missed + gold + poor, 7)]
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


# --- numbers and pictures --------------------------------------------------------------------------


def test_number_formats() -> None:
    assert [formats.signed(x) for x in (0.0683, -0.0004, 0.0, None)] == ["+0.068", "−0.000", "0.000", "—"]
    assert formats.signed_span(-0.01, 0.2) == "−0.010 to +0.200"
    assert [formats.p_value(p) for p in (0.0004, 0.032, None)] == ["<\u202f0.001", "0.032", "—"]
    times = ["9.4\u202fs", "3\u202fmin 07\u202fs", "1\u202fh 05\u202fmin"]
    assert [formats.seconds(s) for s in (9.44, 187.0, 3900.0)] == times
    assert [formats.memory(m) for m in (812.0, 1900.0)] == ["812\u202fMB", "1.9\u202fGB"]
    assert [formats.plural(1, "document"), formats.plural(1290, "document")] == ["1 document", "1,290 documents"]


def test_ticks_are_round() -> None:
    assert charts.ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert charts.ticks(1, 20) == [5, 10, 15, 20]
    assert charts.ticks(3, 3) == [3]


@given(st.floats(-1e3, 1e3), st.floats(0.01, 1e6))
def test_ticks_lie_within(low: float, width: float) -> None:
    found = charts.ticks(low, low + width)
    assert found == sorted(set(found))
    assert 2 <= len(found) <= 12
    assert all(low - 1e-6 * width <= tick <= low + width * (1 + 1e-6) for tick in found)


def test_shares_count_edges_once() -> None:
    # Four bins of 0.25: 0.0 and 0.1 in the first, 0.25 in the second, 1.0 in the last.
    assert charts.shares([0.0, 0.1, 0.25, 1.0], (0.0, 1.0), 4) == [0.5, 0.25, 0.0, 0.25]
    assert charts.shares([], (0.0, 1.0), 2) == [0.0, 0.0]


def test_smooth_is_a_centred_mean() -> None:
    # Window 3 over 0, 3, 6: means of (0, 3), (0, 3, 6), (3, 6).
    assert charts.smooth([(0, 0.0), (1, 3.0), (2, 6.0)], 3) == ((0, 1.5), (1, 3.0), (2, 4.5))


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 100), st.floats(0, 10)), min_size=1, max_size=9), min_size=1, max_size=5)
)
def test_line_chart_is_well_formed_and_inside(lines: list[list[tuple[int, float]]]) -> None:
    series = [charts.Series(f"<{n}>", tuple(sorted(points)), n) for n, points in enumerate(lines)]
    picture = ET.fromstring(charts.line_chart(series, 'a "title" & more', "x", "y"))
    assert picture.get("aria-label") == 'a "title" & more'
    names = [text for text in picture.iter("text") if "name" in text.get("class", "")]
    assert sorted(text.text for text in names) == [f"<{n}>" for n in range(len(lines))]
    heights = sorted(float(text.get("y", "")) for text in names)
    assert all(b - a >= charts.LABEL_GAP - 0.2 for a, b in pairwise(heights))
    for line in picture.iter("polyline"):
        for point in line.get("points", "").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= charts.WIDTH
            assert 0 <= y <= charts.HEIGHT


def test_interval_bar_stands_where_the_numbers_are() -> None:
    # Over −0.1 to 0.1, 172 units from 4 to 176: 0 at 90, 0.05 at 133.
    picture = ET.fromstring(charts.interval_bar(0.05, -0.05, 0.1, (-0.1, 0.1)))
    assert [picture.find("line").get("x1"), picture.find("circle").get("cx")] == ["90", "133"]
    assert picture.find("circle").get("class") == "mean open"


# --- looks -----------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """Relative luminance. Source: WCAG 2.2, definition of relative luminance."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_contrast_is_aa(scheme: int) -> None:
    style = (Path(charts.__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", re.findall(r":root \{(.*?)\}", style, re.S)[scheme]))
    texts = ["ink", "soft", "link", "good", "bad", "c0", "c1", "c2", "c3", "c4", "c5"]
    pairs = [(name, "paper", 4.5) for name in texts]
    pairs += [("ink", "panel", 4.5), ("ink", "mark", 4.5), ("strong-rule", "paper", 3.0)]
    for front, back, least in pairs:
        low, high = sorted((luminance(colours[front]), luminance(colours[back])))
        assert (high + 0.05) / (low + 0.05) >= least, (front, back)
