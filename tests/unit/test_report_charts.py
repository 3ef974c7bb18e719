"""Charts of the report: scales, geometry, what is read out, and colours."""

import re
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup
from scipy.optimize import isotonic_regression

from ragline.reporting import answered, charts
from ragline.reporting.charts import Axis, Bar, Part, Series, Spread, Told

TOLD = Told('a "title" & more', "what <it> shows")
STYLES = Path(charts.__file__).parent / "templates"
names = st.text("aimnW<&é", min_size=1, max_size=10)
points = st.lists(st.tuples(st.integers(0, 10_000), st.floats(0, 10)), min_size=1, max_size=9).map(sorted).map(tuple)
shares_of_one = st.floats(0, 1)


def boxes(picture: ET.Element) -> list[tuple[str, float, float, float, float]]:
    """Words, left, right, top and bottom of every label."""
    found = []
    for text in picture.iter("text"):
        x, y, width = float(text.get("x", "")), float(text.get("y", "")), charts.text_width(text.text or "")
        look = text.get("class", "").split()
        left = x - width if "end" in look else x - width / 2 if "middle" in look else x
        found.append((text.text or "", left, left + width, y - 9.0, y + 3.0))
    return found


def parsed(markup: Markup) -> ET.Element:
    """The chart, after a look at what holds for every one."""
    picture = ET.fromstring(markup)
    assert picture.get("role") == "img"
    assert [picture.findtext("title"), picture.findtext("desc")] == [TOLD.title, TOLD.text]
    _, _, width, height = map(float, picture.get("viewBox", "").split())
    assert width == charts.WIDTH
    labels = boxes(picture)
    for words, left, right, top, bottom in labels:
        assert left >= -0.6, words
        assert right <= width + 0.6, words
        assert top >= 0, words
        assert bottom <= height, words
    for (one, left, right, top, bottom), (other, *there) in combinations(labels, 2):
        apart = right <= there[0] + 0.6 or there[1] <= left + 0.6 or bottom <= there[2] or there[3] <= top
        assert apart, (one, other)
    for line in picture.iter("polyline"):
        for x, y in (map(float, point.split(",")) for point in line.get("points", "").split()):
            assert 0 <= x <= width
            assert 0 <= y <= height
    return picture


# --- scales ----------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("values", "axis", "expected"),
    [
        # 0.60 to 0.61 is noise: 0.1 around the middle 0.605, so 0.555 to 0.655, out to steps of 0.02
        ([0.60, 0.61], Axis("", least=0.1, limits=(0, 1)), (0.54, 0.66)),
        # no room above 1: the range goes down from there
        ([0.99, 1.0], Axis("", least=0.1, limits=(0, 1)), (0.9, 1.0)),
        # a loss from zero: 2.31 and 2.30 are one line near the top; steps of 0.5
        ([2.31, 2.30], Axis("", low=0), (0, 2.5)),
        ([0.2, 0.4], Axis("", low=0, high=1), (0, 1)),
        ([0.2, 0.9], Axis(""), (0.2, 1.0)),
        ([3.0], Axis(""), (2.4, 3.6)),
        # the only step of a training is 0; a value below where the axis must begin; more digits than a step of 1 has
        ([0.0], Axis("", low=0, high=0), (0, 1)),
        ([-5.0], Axis("", low=0), (0, 1)),
        ([1e17], Axis(""), (0.9994e17, 1.0006e17)),
    ],
)
def test_domain_shows_no_noise(values: list[float], axis: Axis, expected: tuple[float, float]) -> None:
    assert charts.domain(values, axis) == pytest.approx(expected)


@given(st.lists(shares_of_one, min_size=1), st.floats(0.05, 1))
def test_domain_holds_the_data_and_is_wide_enough(values: list[float], least: float) -> None:
    low, high = charts.domain(values, Axis("", least=least, limits=(0, 1)))
    assert 0 <= low <= min(values) + 1e-9
    assert max(values) - 1e-9 <= high <= 1
    assert high - low >= least - 1e-9


def test_smooth_is_a_centred_mean() -> None:
    # Window 3 over 0, 3, 6: means of (0, 3), (0, 3, 6), (3, 6).
    assert charts.smooth([(0, 0.0), (1, 3.0), (2, 6.0)], 3) == ((0, 1.5), (1, 3.0), (2, 4.5))


def test_shares_count_edges_once() -> None:
    # Four bins of 0.25: 0.0 and 0.1 in the first, 0.25 in the second, 1.0 in the last.
    assert charts.shares([0.0, 0.1, 0.25, 1.0], (0.0, 1.0), 4) == [0.5, 0.25, 0.0, 0.25]
    assert charts.shares([], (0.0, 1.0), 2) == [0.0, 0.0]


def test_labels_move_apart_evenly() -> None:
    # 50 and 54 share their middle 52, 10 apart: 47 and 57; 90 stays.
    assert charts.apart([54, 90, 50], 10, 0, 100) == [57, 90, 47]
    # The last would leave [0, 100]: the two share what room there is.
    assert charts.apart([99, 98], 10, 0, 100) == [100, 90]


@given(st.lists(st.floats(0, 200), min_size=1, max_size=7))
def test_labels_move_as_little_as_can_be(heights: list[float]) -> None:
    placed = charts.apart(heights, 15, -1e3, 1e3)
    order = sorted(range(len(heights)), key=lambda at: (heights[at], at))
    offsets = 15.0 * np.arange(len(heights))
    expected = isotonic_regression(np.array([heights[at] for at in order]) - offsets).x + offsets
    assert [placed[at] for at in order] == pytest.approx(expected.tolist())
    inside = sorted(charts.apart(heights, 15, 0, 200))
    assert all(b - a >= 15 - 1e-9 for a, b in pairwise(inside))
    assert inside[0] >= 0
    assert inside[-1] <= 200 + 1e-9


# --- geometry: `parsed` checks that labels are inside and none covers another ---------------------


@settings(max_examples=40)
@given(st.lists(st.tuples(names, points), min_size=1, max_size=7), st.sampled_from([0.0, 0.1]))
def test_line_chart(lines: list[tuple[str, tuple[tuple[float, float], ...]]], least: float) -> None:
    series = [Series(name, line, number % 7) for number, (name, line) in enumerate(lines)]
    picture = parsed(charts.line_chart(series, TOLD, Axis("step", low=0), Axis("loss (nats)", least=least)))
    labels = [text.text for text in picture.iter("text") if "name" in text.get("class", "").split()]
    assert labels == [name for name, _ in lines]


def test_line_chart_stands_where_the_numbers_are() -> None:
    line = Series("x", ((0, 0.0), (10, 1.0)), 3, spread=((10, 0.5, 1.0),), mark=(5, 0.5))
    picture = parsed(charts.line_chart([line], TOLD, Axis("k", low=0, high=10), Axis("share", low=0, high=1)))
    (x0, y0), (x1, y1) = (map(float, p.split(",")) for p in picture.find("polyline").get("points").split())
    ring = next(circle for circle in picture.iter("circle") if "ring" in circle.get("class"))
    middle = float(ring.get("cx")), float(ring.get("cy"))
    assert middle == pytest.approx(((x0 + x1) / 2, (y0 + y1) / 2), abs=0.1)
    whisker = next(line for line in picture.iter("line") if "whisker" in line.get("class"))
    assert float(whisker.get("y1")) == pytest.approx((y0 + y1) / 2, abs=0.1)


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 99_999), st.tuples(shares_of_one, shares_of_one, shares_of_one)),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 2),
)
def test_interval_chart(found: list[tuple[int, tuple[float, float, float]]], n_series: int) -> None:
    places = [str(at + 1) if at < 5 else "none" for at in range(len(found))]
    values = [Spread(at, n, sorted(three)[1], min(three), max(three)) for at, (n, three) in enumerate(found)]
    series = [(name, number, values) for number, name in enumerate(["extractive", "generator"][:n_series])]
    axis = Axis("answer F1 (0 to 1)", low=0, high=1)
    picture = parsed(charts.interval_chart(places, series, TOLD, "place of the first gold passage read", axis))
    dots = [circle for circle in picture.iter("circle") if "dot" in circle.get("class", "")]
    assert len(dots) == n_series * (len(found) + 1)  # and one in the legend


def test_interval_chart_has_a_line_of_n_for_each_series_where_they_differ() -> None:
    three, two = ([Spread(at, n, 0.5, 0.4, 0.6) for at, n in sizes] for sizes in (((0, 7), (1, 3)), ((0, 6),)))
    axis = Axis("F1", low=0, high=1)

    def below(*series: list[Spread]) -> list[tuple[str, float]]:
        named = [(name, number + 4, values) for number, (name, values) in enumerate(zip("ab", series, strict=False))]
        picture = parsed(charts.interval_chart(["1", "none"], named, TOLD, "place", axis))
        return [(words, top) for words, _, _, top, _ in boxes(picture) if words in ("7", "3", "6")]

    (seven, line), (three_of_them, same), (six, next_line) = below(three, two)
    assert (seven, three_of_them, six) == ("7", "3", "6")
    assert (same, next_line) == (line, line + charts.LINE)
    assert [words for words, _ in below(three, three)] == ["7", "3"]


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(0, 9_999), min_size=1, max_size=10).filter(any), min_size=1, max_size=4))
def test_bars_share_their_width(rows: list[list[int]]) -> None:
    bars = [
        Bar("Documents kept: train, dev, test", "12,186", tuple(Part("part", size, "o-correct") for size in row))
        for row in rows
    ]
    picture = parsed(charts.bars(bars, TOLD))
    assert len(list(picture.iter("rect"))) == sum(size > 0 for row in rows for size in row)
    for rect in picture.iter("rect"):
        assert 0 <= float(rect.get("x", "")) <= charts.WIDTH
        assert float(rect.get("x", "")) + float(rect.get("width", "")) <= charts.WIDTH + 1


def test_bar_says_its_numbers_where_there_is_room() -> None:
    bar = Bar("a", "n = 200", (Part("much", 199, "p0"), Part("little", 1, "p1")))
    words = [words for words, *_ in boxes(parsed(charts.bars([bar], TOLD)))]
    assert words == ["a", "n = 200", "199"]


@settings(max_examples=40)
@given(st.lists(shares_of_one, min_size=1), shares_of_one)
def test_histogram(values: list[float], threshold: float) -> None:
    tallest = max(charts.shares(values, (0, 1), 20))
    picture = parsed(charts.histogram(values, (0.0, 1.0), tallest, threshold, TOLD, 20))
    (line,) = [line for line in picture.iter("line") if line.get("class") == "threshold"]
    assert 0 < float(line.get("x1", "")) < charts.WIDTH


def test_histogram_without_a_threshold() -> None:
    assert "threshold" not in charts.histogram([0.5], (0.0, 1.0), 1.0, None, TOLD, 20)


@given(st.floats(-1, 0), st.floats(0.001, 1))
def test_interval_axis_labels_do_not_meet(low: float, width: float) -> None:
    labels = sorted(boxes(ET.fromstring(charts.interval_axis((low, low + width)))), key=lambda box: box[1])
    assert all(a[2] <= b[1] for a, b in pairwise(labels))
    assert all(left >= -0.6 and right <= charts.CELL_WIDTH + 0.6 for _, left, right, *_ in labels)


def test_interval_bar_stands_where_the_numbers_are() -> None:
    # Over −0.1 to 0.1, 148 units from 6 to 154: 0 at 80, 0.05 at 117.
    picture = ET.fromstring(charts.interval_bar(0.05, -0.05, 0.1, (-0.1, 0.1)))
    assert [picture.find("line").get("x1"), picture.find("circle").get("cx")] == ["80", "117"]
    assert picture.find("circle").get("class") == "mean open"
    assert picture.get("aria-hidden") == "true"


def test_level_bar_reaches_to_what_failures_could_change() -> None:
    # [0, 1] lies on 6 to 154: 0.5 at 80, 0.25 at 43, 0.75 at 117.
    picture = ET.fromstring(charts.level_bar((0.5, 0.4, 0.6), (0.25, 0.75), "s4"))
    bound, _ = picture.iter("line")
    assert [bound.get("class"), bound.get("x1"), bound.get("x2")] == ["bound s4", "43", "117"]


def test_words_of_others_stay_words() -> None:
    line = Series("<b>\u202e\u0007", ((0, 0.0), (1, 1.0)), 0)
    markup = charts.line_chart([line], TOLD, Axis("x"), Axis("y"))
    assert "<b>" not in markup
    assert "&lt;b&gt;\ufffd\ufffd" in markup


# --- colours ---------------------------------------------------------------------------------------

# Linear RGB as seen without the long and without the medium cones.
# Source: Machado, Oliveira and Fernandes 2009, table 1.
PROTANOPIA = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
DEUTERANOPIA = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
SIGHTS = {"all cones": np.eye(3), "protanopia": np.array(PROTANOPIA), "deuteranopia": np.array(DEUTERANOPIA)}


def colours(file: str, scheme: int) -> dict[str, str]:
    """The variables of a style sheet in light (0) or dark (1)."""
    style = (STYLES / file).read_text(encoding="utf-8")
    return {m[1]: m[2 + scheme] for m in re.finditer(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\);", style)}


def linear(colour: str) -> np.ndarray:
    """Source: WCAG 2.2, definition of relative luminance."""
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    low, high = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear sRGB under D65. Source: CIE 15:2004, section 8.2.1."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb.clip(0, 1)
    x, y, z = (t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116 for t in xyz / [0.95047, 1, 1.08883])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(one: str, other: str, sight: str) -> float:
    return float(np.linalg.norm(lab(SIGHTS[sight] @ linear(one)) - lab(SIGHTS[sight] @ linear(other))))


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("sight", SIGHTS)
def test_outcomes_can_be_told_apart(scheme: int, sight: str) -> None:
    found = colours("evidence.css", scheme)
    order = [found[f"o-{outcome.replace('_', '-')}"] for outcome in answered.MEANINGS]
    for one, other in combinations(order, 2):
        assert distance(one, other, sight) >= 15, (one, other)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_numbers_in_bars_can_be_read(scheme: int) -> None:
    found = colours("evidence.css", scheme)
    style = (STYLES / "evidence.css").read_text(encoding="utf-8")
    pairs = re.findall(r"--own: var\(--(o-[\w-]+)\); --on: var\(--(on-\w+)\)", style)
    assert {own for own, _ in pairs} == {name for name in found if name.startswith("o-")}
    for own, on in pairs:
        assert contrast(found[own], found[on]) >= 4.5, own
