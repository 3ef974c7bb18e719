"""Inline SVG: pure functions from numbers to markup. Colours come from the page's style sheet by class.

Charts are drawn 340 units wide, so that their labels stay readable on a phone.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

WIDTH, HEIGHT = 340, 236
LEFT, RIGHT, TOP, BOTTOM = 42, 62, 26, 38
BAR_WIDTH, BAR_HEIGHT = 180, 22
LABEL_GAP = 14


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    points: tuple[tuple[float, float], ...]
    colour: int
    """Index of the style class, c0 to c6."""
    faint: bool = False
    """Drawn thin and unlabelled, behind the others."""


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) within [low, high]."""
    if _flat(low, high):
        return [low]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def smooth(points: Sequence[tuple[float, float]], window: int) -> tuple[tuple[float, float], ...]:
    """Centred moving mean over at most `window` points, fewer at the ends."""
    half = window // 2
    found = []
    for at, (x, _) in enumerate(points):
        near = [y for _, y in points[max(0, at - half) : at + half + 1]]
        found.append((x, sum(near) / len(near)))
    return tuple(found)


def line_chart(series: Sequence[Series], title: str, x_label: str, y_label: str) -> Markup:
    """Lines over a common scale, each named at its right end; `title` is read out instead of the picture."""
    xs = [x for line in series for x, _ in line.points]
    ys = [y for line in series for _, y in line.points]
    x_low, x_high = min(xs), max(xs)
    y_low, y_high = _room(min(ys), max(ys))
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return _scale(x, x_low, x_high, LEFT, right), _scale(y, y_low, y_high, bottom, TOP)

    parts = []
    for y in ticks(y_low, y_high):
        height = place(x_low, y)[1]
        parts.append(_line("grid", LEFT, height, right, height))
        parts.append(_text("tick end", LEFT - 6, height + 4, _tick(y)))
    for x in ticks(x_low, x_high):
        parts.append(_text("tick middle", place(x, y_low)[0], bottom + 16, _tick(x)))
    parts.append(_line("axis", LEFT, bottom, right, bottom))
    parts.append(_text("label middle", (LEFT + right) / 2, HEIGHT - 6, x_label))
    parts.append(_text("label", 0, 11, y_label))
    for line in series:
        path = " ".join(f"{_n(a)},{_n(b)}" for a, b in (place(x, y) for x, y in line.points))
        look = "line faint" if line.faint else "line"
        parts.append(Markup('<polyline class="{} c{}" points="{}"/>').format(look, line.colour, path))
        if len(line.points) == 1:
            parts.append(_dot(line.colour, *place(*line.points[0])))
    named = [line for line in series if not line.faint]
    heights = _apart([place(*line.points[-1])[1] for line in named])
    for line, height in zip(named, heights, strict=True):
        end = place(*line.points[-1])
        parts.append(_dot(line.colour, *end))
        parts.append(_text(f"name c{line.colour}", right + 8, height + 4, line.name))
    return _svg(WIDTH, HEIGHT, title, parts)


def histogram(
    values: Sequence[float], domain: tuple[float, float], tallest: float, threshold: float, title: str, bins: int = 20
) -> Markup:
    """Shares of the values by bin over `domain`, with a line at the threshold.

    Args:
        tallest: the largest share any of the neighbouring charts shows, so that they share one scale.
    """
    width, height, bottom, left, right = WIDTH, 132, 100, 36, WIDTH - 12
    low, high = domain
    parts = []
    for share in (0.0, tallest):
        at = _scale(share, 0, tallest, bottom, 16)
        parts.append(_line("grid", left, at, right, at))
        parts.append(_text("tick end", left - 6, at + 4, f"{100 * share:.0f} %"))
    for number, share in enumerate(shares(values, domain, bins)):
        if share:
            x0, x1 = (_scale(edge, 0, bins, left, right) for edge in (number, number + 1))
            top = _scale(share, 0, tallest, bottom, 16)
            size = (_n(x0 + 0.5), _n(top), _n(x1 - x0 - 1), _n(bottom - top))
            parts.append(Markup('<rect class="bar" x="{}" y="{}" width="{}" height="{}"/>').format(*size))
    parts.append(_line("axis", left, bottom, right, bottom))
    for tick in ticks(low, high):
        parts.append(_text("tick middle", _scale(tick, low, high, left, right), bottom + 16, _tick(tick)))
    parts.append(_text("label middle", (left + right) / 2, height - 2, "confidence"))
    at = _scale(threshold, low, high, left, right)
    parts.append(_line("threshold", at, 6, at, bottom))
    return _svg(width, height, title, parts)


def shares(values: Sequence[float], domain: tuple[float, float], bins: int = 20) -> list[float]:
    """The share of the values in each of `bins` equal bins; the last bin holds its upper edge, too."""
    low, high = domain
    counts = [0] * bins
    for value in values:
        counts[max(0, min(bins - 1, int((value - low) / (high - low) * bins)))] += 1
    return [number / len(values) for number in counts] if values else [0.0] * bins


def interval_bar(mean: float, low: float, high: float, domain: tuple[float, float]) -> Markup:
    """One row of a forest plot: the interval as a bar, its mean as a dot, and the line of no difference."""
    middle = BAR_HEIGHT / 2
    x0, x1, dot, zero = (_scale(x, *domain, 4, BAR_WIDTH - 4) for x in (low, high, mean, 0.0))
    look = "plus" if low > 0 else "minus" if high < 0 else "open"
    parts = [
        _line("zero", zero, 0, zero, BAR_HEIGHT),
        _line(f"whisker {look}", x0, middle, x1, middle),
        _line(f"whisker {look}", x0, middle - 4, x0, middle + 4),
        _line(f"whisker {look}", x1, middle - 4, x1, middle + 4),
        Markup('<circle class="mean {}" cx="{}" cy="{}" r="4"/>').format(look, _n(dot), _n(middle)),
    ]
    return _svg(BAR_WIDTH, BAR_HEIGHT, "", parts)


def interval_axis(domain: tuple[float, float]) -> Markup:
    """The scale above a column of interval bars."""
    parts = [_line("axis", 4, BAR_HEIGHT - 3, BAR_WIDTH - 4, BAR_HEIGHT - 3)]
    for tick in ticks(*domain, about=4):
        x = _scale(tick, *domain, 4, BAR_WIDTH - 4)
        parts.append(_line("axis", x, BAR_HEIGHT - 6, x, BAR_HEIGHT))
        parts.append(_text("tick middle", max(14, min(BAR_WIDTH - 14, x)), 11, _tick(tick)))
    return _svg(BAR_WIDTH, BAR_HEIGHT, "", parts)


def share_bar(share: float, colour: int) -> Markup:
    """A bar in a table cell, from 0 to 1."""
    parts = [
        _line("grid", 0, 7, 72, 7),
        Markup('<rect class="fill c{}" x="0" y="2" width="{}" height="10"/>').format(colour, _n(72 * share)),
    ]
    return _svg(72, 14, "", parts)


def common_domain(intervals: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """A scale that holds every interval and zero, with a little room."""
    bounds = [bound for interval in intervals for bound in interval] + [0.0]
    low, high = min(bounds), max(bounds)
    room = 0.06 * (high - low) or 0.01
    return low - room, high + room


# --- small parts -----------------------------------------------------------------------------------


def _flat(low: float, high: float) -> bool:
    """Whether a range is too narrow to show anything, so that rounding would eat its ticks."""
    return math.isclose(low, high, rel_tol=1e-6, abs_tol=1e-6)


def _room(low: float, high: float) -> tuple[float, float]:
    """Widen to the round numbers around, so that the lines do not touch the frame."""
    if _flat(low, high):
        return low - 0.5, high + 0.5
    marks = ticks(low, high)
    step = marks[1] - marks[0] if len(marks) > 1 else high - low
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def _scale(value: float, low: float, high: float, start: float, end: float) -> float:
    return start if high == low else start + (value - low) / (high - low) * (end - start)


def _apart(heights: Sequence[float]) -> list[float]:
    """Move labels down, then the whole stack up, until none covers another."""
    order = sorted(range(len(heights)), key=lambda at: (heights[at], at))
    placed = list(heights)
    for before, at in pairwise(order):
        placed[at] = max(placed[at], placed[before] + LABEL_GAP)
    limit = float(HEIGHT - BOTTOM)
    for at in reversed(order):
        placed[at] = min(placed[at], limit)
        limit = placed[at] - LABEL_GAP
    return placed


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _tick(value: float) -> str:
    return f"{value:,g}".replace("-", "\u2212") if abs(value) < 1e6 else f"{value:.0e}"


def _line(look: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(look, _n(x1), _n(y1), _n(x2), _n(y2))


def _text(look: str, x: float, y: float, words: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(look, _n(x), _n(y), words)


def _dot(colour: int, x: float, y: float) -> Markup:
    return Markup('<circle class="dot c{}" cx="{}" cy="{}" r="3.2"/>').format(colour, _n(x), _n(y))


def _svg(width: int, height: int, title: str, parts: Iterable[Markup]) -> Markup:
    """A picture with a name, or one that screen readers pass over because the table beside it says the same."""
    role = Markup('role="img" aria-label="{}"').format(title) if title else Markup('aria-hidden="true"')
    return Markup('<svg viewBox="0 0 {} {}" width="{}" height="{}" {}>{}</svg>').format(
        width, height, width, height, role, Markup("").join(parts)
    )
