"""Numbers and untrusted text as the page shows them."""

import re
from collections.abc import Sequence

from markupsafe import Markup

NONE = "—"
MINUS = "\u2212"
THIN = "\u202f"
NO_BREAK = "\u00a0"
REPLACEMENT = "\ufffd"

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but for line ends and tabs, lone surrogates, and what makes text read in another order than it
has; the page's own <bdi> isolates every text anyway."""


def fixed(value: float | None, digits: int = 3) -> str:
    """`0.784`; a dash where there is no number."""
    return NONE if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """`+0.068`, `−0.012`; the sign is the number's own, even where the digits round to zero."""
    if value is None:
        return NONE
    sign = MINUS if value < 0 else "+" if value > 0 else ""
    return f"{sign}{abs(value):.{digits}f}"


def span(low: float | None, high: float | None) -> str:
    """An interval of levels: `0.741–0.825`."""
    return "" if low is None or high is None else f"{fixed(low)}–{fixed(high)}"


def signed_span(low: float | None, high: float | None) -> str:
    """An interval of differences: `+0.041 to +0.095`."""
    return NONE if low is None or high is None else f"{signed(low)} to {signed(high)}"


def count(value: float | None) -> str:
    """`1,290`."""
    return NONE if value is None else f"{value:,.0f}"


def percent(share: float | None) -> str:
    """`78.4 %` of a share in [0, 1]; `< 0.1 %` of one that rounds to zero and is none."""
    if share is None:
        return NONE
    return f"<{THIN}0.1{THIN}%" if 0 < share < 0.0005 else f"{100 * share:.1f}{THIN}%"


def p_value(p: float | None) -> str:
    """`0.032`, and `< 0.001` below that."""
    return NONE if p is None else f"<{THIN}0.001" if p < 0.001 else fixed(p)


def seconds(value: float | None) -> str:
    """`41.2 s`, `3 min 07 s`, `1 h 05 min`."""
    if value is None:
        return NONE
    if value < 60:
        return f"{value:.1f}{THIN}s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}{THIN}min {rest:02d}{THIN}s"
    return f"{minutes // 60}{THIN}h {minutes % 60:02d}{THIN}min"


def memory(megabytes: float | None) -> str:
    """`812 MB`, `1.9 GB`."""
    if megabytes is None:
        return NONE
    return f"{megabytes:.0f}{THIN}MB" if megabytes < 1000 else f"{megabytes / 1000:.1f}{THIN}GB"


def plural(number: int, noun: str) -> str:
    """`1 passage`, `4,105 passages`."""
    return f"{count(number)} {noun}" if number == 1 else f"{count(number)} {noun}s"


def listed(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = parts or [""]
    return f"{', '.join(first)} and {last}" if first else last


def capital(text: str) -> str:
    """A capital in front; all else as it is, as in a name."""
    return f"{text[:1].upper()}{text[1:]}"


def sentence(text: str) -> str:
    """A capital in front, a full stop behind."""
    return f"{capital(text).rstrip('.')}."


def clean(value: object) -> object:
    """What the template prints: control characters of a text become visible; markup of our own stays as it is."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _UNSEEN.sub(REPLACEMENT, value)


def clip(text: str, limit: int) -> str:
    """At most `limit` characters, cut before a word where one is near, with an ellipsis."""
    if len(text) <= limit:
        return text
    head = text[: limit - 1]
    space = head.rfind(" ")
    return (head[:space] if space > limit * 3 // 4 else head[:-1]).rstrip() + " …"
