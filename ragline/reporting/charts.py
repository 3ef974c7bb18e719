"""Inline SVG: pure functions from numbers to markup. Colours come from the style sheet by class.

Charts are drawn 320 units wide, so that on a phone they stand about one to one and their labels of 12 units stay
readable. Every chart has a title and a description for those who hear the page; the small pictures inside a table's
cells have none, as the cell beside them says the same.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ragline.reporting.formats import MINUS, clean

WIDTH = 320
HEIGHT = 224
FONT = 12
"""Height of a label; the style sheet sets the same."""
LINE = 15
"""From one line of labels to the next."""
BAR = 20
CELL_WIDTH, CELL_HEIGHT = 160, 20
"""Of a picture inside a table's cell."""
EDGE = 6
"""Room at the ends of such a picture, for the dot."""

# Reckoned after DejaVu Sans Bold, the widest of the usual sans-serifs.
NARROW, WIDE = frozenset("ijltfrI.,:;'|!()[] "), frozenset("mwMW@%ABCDGHKNOQRUVXYZ—…")


@dataclass(frozen=True)
class Told:
    """What a chart is called and what it shows, for those who cannot see it."""

    title: str
    text: str


@dataclass(frozen=True)
class Axis:
    """One direction of a chart."""

    label: str
    """What is measured, and its unit."""
    low: float | None = None
    """Where it must begin; None: at the data."""
    high: float | None = None
    """Where it must end."""
    least: float = 0.0
    """A range narrower than this is shown this wide, so that noise does not fill the chart."""
    limits: tuple[float, float] = (-math.inf, math.inf)
    """What the values can be at all."""


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    points: tuple[tuple[float, float], ...]
    colour: int
    """Index of the style class, s0 to s6."""
    faint: bool = False
    """Drawn thin and unlabelled, behind the others."""
    spread: tuple[tuple[float, float, float], ...] = ()
    """Intervals: x, low, high."""
    mark: tuple[float, float] | None = None
    """A point to be ringed."""
    dots: bool = False
    """Whether every point has a dot, as where there are few."""


@dataclass(frozen=True)
class Spread:
    """A mean with its interval, at one of the places of a chart."""

    place: int
    n: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Part:
    """A part of a bar."""

    name: str
    size: float
    look: str
    """Style class."""


@dataclass(frozen=True)
class Bar:
    """A bar with its parts, which fill it, and a line of words above it."""

    name: str
    value: str
    parts: tuple[Part, ...]


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) within [low, high]."""
    if _flat(low, high):
        return [low]
    step = _step(low, high, about)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def domain(values: Iterable[float], axis: Axis) -> tuple[float, float]:
    """The range an axis shows: round numbers around the data, at least `axis.least` wide, within its limits.

    A curve that hardly moves looks flat then, and does not fill the chart with its noise. The range is never empty.
    """
    found = list(values)
    low = min(found) if axis.low is None else axis.low
    high = max(found) if axis.high is None else axis.high
    least = axis.least or (max(1.0, 1e-3 * abs(low)) if _flat(low, high) else 0.0)
    missing = max(0.0, least - (high - low))
    if axis.low is None:
        low = max(axis.limits[0], low - (missing / 2 if axis.high is None else missing))
        low = min(low, max(axis.limits[1] - least, axis.limits[0]))
    if axis.high is None:
        high = min(axis.limits[1], max(high, low + least))
    if high <= low:  # both ends are given, or the data lie beyond the one that is: nothing to divide
        return low, low + 1.0
    step = _step(low, high)
    low = math.floor(low / step + 1e-9) * step if axis.low is None else low
    high = math.ceil(high / step - 1e-9) * step if axis.high is None else high
    return max(low, axis.limits[0]), min(high, axis.limits[1])


def smooth(points: Sequence[tuple[float, float]], window: int) -> tuple[tuple[float, float], ...]:
    """Centred moving mean over at most `window` points, fewer at the ends."""
    half = window // 2
    found = []
    for at, (x, _) in enumerate(points):
        near = [y for _, y in points[max(0, at - half) : at + half + 1]]
        found.append((x, sum(near) / len(near)))
    return tuple(found)


def apart(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move labels as little as can be (in squares) so that any two are `gap` apart and all lie in [low, high].

    Labels that have no room in [low, high] keep the gap and go beyond `high`.

    Source: Barlow and Brunk 1972, isotonic regression by pooling neighbours; bounds by clipping its solution.
    """
    order = sorted(range(len(heights)), key=lambda at: (heights[at], at))
    pools: list[list[float]] = []
    for rank, at in enumerate(order):
        pools.append([heights[at] - rank * gap])
        while len(pools) > 1 and _mean(pools[-2]) >= _mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    ceiling = max(low, high - (len(heights) - 1) * gap)
    settled = [min(max(_mean(pool), low), ceiling) for pool in pools for _ in pool]
    placed = [0.0] * len(heights)
    for rank, at in enumerate(order):
        placed[at] = settled[rank] + rank * gap
    return placed


def text_width(words: str) -> float:
    """About how wide a label is, rather too wide: what the layout and its tests reckon with."""
    return sum(FONT * (0.42 if c in NARROW else 0.9 if c in WIDE else 0.65 if c.isdigit() else 0.72) for c in words)


# --- charts ----------------------------------------------------------------------------------------


def line_chart(series: Sequence[Series], told: Told, x_axis: Axis, y_axis: Axis) -> Markup:
    """Lines over a common scale, each named at its right end.

    Args:
        series: at least one, each with at least one point.
    """
    x_low, x_high = domain((x for line in series for x, _ in line.points), x_axis)
    tall = [y for line in series for _, y in line.points]
    tall += [y for line in series for _, *both in line.spread for y in both]
    tall += [line.mark[1] for line in series if line.mark]
    y_low, y_high = domain(tall, y_axis)
    named = [line for line in series if not line.faint]
    marks = ticks(y_low, y_high)
    left = 8 + max(text_width(_tick(y)) for y in marks)
    right = WIDTH - 16 - max((text_width(line.name) for line in named), default=0)
    top, bottom = LINE + 12, HEIGHT - 2 * LINE - 6

    def place(x: float, y: float) -> tuple[float, float]:
        return _scale(x, x_low, x_high, left, right), _scale(y, y_low, y_high, bottom, top)

    parts = []
    for y in marks:
        height = place(x_low, y)[1]
        parts.append(_line("grid", left, height, right, height))
        parts.append(_text("end", left - 6, height + 4, _tick(y)))
    parts += _x_axis(x_low, x_high, left, right, bottom, x_axis.label)
    parts.append(_text("", 0, FONT, y_axis.label))
    for line in series:
        spots = [place(x, y) for x, y in line.points]
        look = f"line faint s{line.colour}" if line.faint else f"line s{line.colour}"
        path = " ".join(f"{_n(x)},{_n(y)}" for x, y in spots)
        parts.append(Markup('<polyline class="{}" points="{}"/>').format(look, path))
        if line.dots or len(spots) == 1:
            parts += [_dot(line.colour, *spot) for spot in spots]
        for x, low, high in line.spread:
            parts += _whisker(f"whisker s{line.colour}", place(x, low), place(x, high))
        if line.mark:
            parts.append(_ring(line.colour, *place(*line.mark)))
    ends = [place(*line.points[-1]) for line in named]
    heights = apart([y for _, y in ends], LINE, top, bottom - 4)
    for line, (x, y), height in zip(named, ends, heights, strict=True):
        parts.append(_line(f"leader s{line.colour}", x, y, right + 8, height))
        parts.append(_text(f"name s{line.colour}", right + 10, height + 4, line.name))
    return _chart(HEIGHT, told, parts)


def interval_chart(
    places: Sequence[str],
    series: Sequence[tuple[str, int, Sequence[Spread]]],
    told: Told,
    x_label: str,
    y_axis: Axis,
) -> Markup:
    """Means with their intervals, side by side at each place.

    Args:
        places: their names.
        series: name, colour and values. n stands below each place, in a line of its own for every series where they
            differ.
    """
    y_low, y_high = domain((y for *_, values in series for at in values for y in (at.mean, at.low, at.high)), y_axis)
    marks = ticks(y_low, y_high)
    left, right = 8 + max(text_width(_tick(y)) for y in marks), WIDTH - 6
    sizes = [(f" name s{colour}", {at.place: at.n for at in values}) for _, colour, values in series]
    if all(numbers == sizes[0][1] for _, numbers in sizes):
        sizes = [("", sizes[0][1])]
    top, bottom = 2 * LINE + 12, HEIGHT - 3 * LINE - 6
    tall = HEIGHT + (len(sizes) - 1) * LINE
    wide = (right - left) / len(places)
    parts = [_text("", 0, FONT, y_axis.label)]
    for y in marks:
        height = _scale(y, y_low, y_high, bottom, top)
        parts.append(_line("grid", left, height, right, height))
        parts.append(_text("end", left - 6, height + 4, _tick(y)))
    parts.append(_text("end", left - 6, bottom + 2 * LINE, "n"))
    for place, name in enumerate(places):
        parts.append(_text("middle", left + (place + 0.5) * wide, bottom + LINE, name))
    for line, (look, numbers) in enumerate(sizes, start=2):
        for place, n in numbers.items():
            parts.append(_text(f"middle{look}", left + (place + 0.5) * wide, bottom + line * LINE, f"{n:,}"))
    parts.append(_line("axis", left, bottom, right, bottom))
    parts.append(_centred((left + right) / 2, tall - 4, x_label))
    start = left
    for number, (name, colour, values) in enumerate(series):
        parts.append(_dot(colour, start + 4, LINE + FONT - 4))
        parts.append(_text(f"name s{colour}", start + 12, LINE + FONT, name))
        start += text_width(name) + 30
        shift = (number - (len(series) - 1) / 2) * min(12.0, wide / (len(series) + 1))
        for at in values:
            x = left + (at.place + 0.5) * wide + shift
            y, foot, head = (_scale(value, y_low, y_high, bottom, top) for value in (at.mean, at.low, at.high))
            parts += _whisker(f"whisker s{colour}", (x, foot), (x, head))
            parts.append(_dot(colour, x, y))
    return _chart(tall, told, parts)


def histogram(
    values: Sequence[float], over: tuple[float, float], tallest: float, threshold: float | None, told: Told, bins: int
) -> Markup:
    """Shares of the values by bin, with a line at the threshold.

    Args:
        over: the range, common to neighbouring charts.
        tallest: the largest share any of those shows, so that they share one scale.
        threshold: within `over`; None where there is none.
    """
    height, top, bottom = 148, LINE + 10, 148 - 2 * LINE - 6
    y_low, y_high = domain([tallest], Axis("", low=0))
    marks = ticks(y_low, y_high, about=2)
    left, right = 8 + max(text_width(_tick(y)) for y in marks), WIDTH - 10.0
    parts = [_text("", 0, FONT, "share of the questions")]
    for share in marks:
        at = _scale(share, y_low, y_high, bottom, top)
        parts.append(_line("grid", left, at, right, at))
        parts.append(_text("end", left - 6, at + 4, _tick(share)))
    for number, share in enumerate(shares(values, over, bins)):
        if share:
            x0, x1 = (_scale(edge, 0, bins, left, right) for edge in (number, number + 1))
            y = _scale(share, y_low, y_high, bottom, top)
            parts.append(_rect("bar", x0 + 0.5, y, x1 - x0 - 1, bottom - y))
    parts += _x_axis(*over, left, right, bottom, "confidence (cosine)")
    if threshold is not None:
        at = _scale(threshold, *over, left, right)
        parts.append(_line("threshold", at, top - 4, at, bottom))
    return _chart(height, told, parts)


def shares(values: Sequence[float], over: tuple[float, float], bins: int) -> list[float]:
    """The share of the values in each of `bins` equal bins; the last bin holds its upper edge, too."""
    low, high = over
    counts = [0] * bins
    for value in values:
        counts[max(0, min(bins - 1, int((value - low) / (high - low) * bins)))] += 1
    return [number / len(values) for number in counts] if values else [0.0] * bins


def bars(rows: Sequence[Bar], told: Told) -> Markup:
    """Bars of full width, each divided into its parts; a part's size stands in it where there is room."""
    step = LINE + BAR + 12
    parts = []
    for number, row in enumerate(rows):
        top = number * step
        parts.append(_text("strong", 0, top + FONT, row.name))
        parts.append(_text("end", WIDTH, top + FONT, row.value))
        whole = sum(part.size for part in row.parts)
        done = 0.0
        for part in row.parts:
            x0, x1 = (_scale(size, 0, whole, 0, WIDTH) for size in (done, done + part.size))
            done += part.size
            if part.size:
                parts.append(_rect(f"part {part.look}", x0, top + LINE + 2, max(1.0, x1 - x0 - 1.5), BAR))
                size = f"{part.size:,.0f}"
                if text_width(size) + 4 <= x1 - x0:
                    parts.append(_text(f"inside middle {part.look}", (x0 + x1 - 1.5) / 2, top + LINE + 16, size))
    return _chart(len(rows) * step, told, parts)


# --- pictures in table cells -----------------------------------------------------------------------


def interval_bar(mean: float, low: float, high: float, over: tuple[float, float], look: str = "") -> Markup:
    """One row of a forest plot: the interval as a line, its mean as a dot, and the line of no difference.

    Args:
        look: style class; without one it is by where the interval lies: above zero, below, or both.
    """
    look = look or ("plus" if low > 0 else "minus" if high < 0 else "open")
    middle = CELL_HEIGHT / 2
    x0, x1, dot = (_scale(x, *over, EDGE, CELL_WIDTH - EDGE) for x in (low, high, mean))
    parts = []
    if over[0] <= 0 <= over[1]:
        zero = _scale(0, *over, EDGE, CELL_WIDTH - EDGE)
        parts.append(_line("zero", zero, 0, zero, CELL_HEIGHT))
    parts.append(_line(f"whisker {look}", x0, middle, x1, middle))
    parts.append(Markup('<circle class="mean {}" cx="{}" cy="{}" r="4"/>').format(look, _n(dot), _n(middle)))
    return _picture(CELL_WIDTH, CELL_HEIGHT, parts)


def level_bar(interval: tuple[float, float, float], bounds: tuple[float, float], look: str) -> Markup:
    """A mean in [0, 1] with its interval, and a thin line to what it could be at worst and at best.

    Args:
        interval: mean, low, high.
    """
    middle = CELL_HEIGHT / 2
    dot, x0, x1, least, most = (_scale(x, 0, 1, EDGE, CELL_WIDTH - EDGE) for x in (*interval, *bounds))
    parts = [
        _line(f"bound {look}", least, middle, most, middle),
        _line(f"whisker {look}", x0, middle, x1, middle),
        Markup('<circle class="dot {}" cx="{}" cy="{}" r="4"/>').format(look, _n(dot), _n(middle)),
    ]
    return _picture(CELL_WIDTH, CELL_HEIGHT, parts)


def interval_axis(over: tuple[float, float]) -> Markup:
    """The scale above a column of interval bars."""
    parts = [_line("axis", EDGE, CELL_HEIGHT - 3, CELL_WIDTH - EDGE, CELL_HEIGHT - 3)]
    taken = -math.inf
    for tick in ticks(*over, about=4):
        x, half = _scale(tick, *over, EDGE, CELL_WIDTH - EDGE), text_width(_tick(tick)) / 2
        parts.append(_line("axis", x, CELL_HEIGHT - 6, x, CELL_HEIGHT))
        middle = max(half, min(CELL_WIDTH - half, x))
        if middle - half > taken:
            parts.append(_text("middle", middle, FONT - 1, _tick(tick)))
            taken = middle + half + 4
    return _picture(CELL_WIDTH, CELL_HEIGHT, parts)


def share_bar(share: float, look: str) -> Markup:
    """A bar in a table's cell, from 0 to 1."""
    parts = [_line("grid", 0, 8, 96, 8), _rect(f"part {look}", 0, 3, 96 * share, 10)]
    return _picture(96, 16, parts)


def common_domain(intervals: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """A scale that holds every interval and zero, with a little room."""
    bounds = [bound for interval in intervals for bound in interval] + [0.0]
    low, high = min(bounds), max(bounds)
    room = 0.04 * (high - low) or 0.01
    return low - room, high + room


# --- small parts -----------------------------------------------------------------------------------


def _flat(low: float, high: float) -> bool:
    """Whether a range is too narrow to show anything, so that rounding would eat its ticks."""
    return math.isclose(low, high, rel_tol=1e-6, abs_tol=1e-6)


def _step(low: float, high: float, about: int = 5) -> float:
    """1, 2 or 5 times a power of ten: about that many steps from `low` to `high`, which are not the same."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _scale(value: float, low: float, high: float, start: float, end: float) -> float:
    return start if high == low else start + (value - low) / (high - low) * (end - start)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _tick(value: float) -> str:
    return f"{value:,g}".replace("-", MINUS) if abs(value) < 1e6 else f"{value:.0e}"


def _x_axis(low: float, high: float, left: float, right: float, bottom: float, label: str) -> list[Markup]:
    parts = [_line("axis", left, bottom, right, bottom)]
    for tick in _fitting(low, high, right - left):
        x = _scale(tick, low, high, left, right)
        parts.append(_line("axis", x, bottom, x, bottom + 3))
        parts.append(_centred(x, bottom + LINE, _tick(tick)))
    return [*parts, _centred((left + right) / 2, bottom + 2 * LINE, label)]


def _fitting(low: float, high: float, width: float) -> list[float]:
    """As many ticks as have room for their labels side by side, five or so at most."""
    marks = []
    for about in (5, 3, 2, 1):
        marks = ticks(low, high, about)
        widest = max(text_width(_tick(mark)) for mark in marks)
        if len(marks) > 1 and (marks[1] - marks[0]) / (high - low) * width >= widest + 6:
            return marks
    return marks[:1]


def _line(look: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(look, _n(x1), _n(y1), _n(x2), _n(y2))


def _whisker(look: str, foot: tuple[float, float], head: tuple[float, float]) -> list[Markup]:
    """An upright interval with its caps."""
    (x, low), (_, high) = foot, head
    return [_line(look, x, low, x, high), *(_line(look, x - 3, y, x + 3, y) for y in (low, high))]


def _rect(look: str, x: float, y: float, width: float, height: float) -> Markup:
    size = (_n(x), _n(y), _n(width), _n(height))
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(look, *size)


def _text(look: str, x: float, y: float, words: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(look, _n(x), _n(y), clean(words))


def _centred(x: float, y: float, words: str) -> Markup:
    """A label around x, moved aside where it would leave the chart."""
    half = text_width(words) / 2
    return _text("middle", max(half, min(WIDTH - half, x)), y, words)


def _dot(colour: int, x: float, y: float) -> Markup:
    return Markup('<circle class="dot s{}" cx="{}" cy="{}" r="3.2"/>').format(colour, _n(x), _n(y))


def _ring(colour: int, x: float, y: float) -> Markup:
    return Markup('<circle class="ring s{}" cx="{}" cy="{}" r="6"/>').format(colour, _n(x), _n(y))


def _chart(height: float, told: Told, parts: Iterable[Markup]) -> Markup:
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img"><title>{}</title><desc>{}</desc>{}</svg>').format(
        WIDTH, _n(height), clean(told.title), clean(told.text), Markup("").join(parts)
    )


def _picture(width: float, height: float, parts: Iterable[Markup]) -> Markup:
    """A picture that screen readers pass over because the cell beside it says the same."""
    return Markup('<svg class="picture" viewBox="0 0 {} {}" width="{}" height="{}" aria-hidden="true">{}</svg>').format(
        _n(width), _n(height), _n(width), _n(height), Markup("").join(parts)
    )
