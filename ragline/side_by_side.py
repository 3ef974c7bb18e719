"""A comparison as a person reads it: on one screen of a terminal, or as Markdown in a pull request."""

import html
import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from ragline.comparing import ChangedData, Comparison, Paired, Question

SHOWN = 20
"""Questions, half of them lost and half won where there are enough of both."""
SHOWN_CHANGES = 4
"""Params, files or modules of one kind."""
LONGEST_VALUE = 30
MOST = 20
"""Changes of one kind in Markdown."""
HEADER = ("set", "metric", "n", "before", "after", "change", "95 % interval", "p", "won", "lost", "verdict")


def lines(comparison: Comparison, width: int = 100) -> list[str]:
    """For a terminal of this many columns; the table is 100 wide at least."""
    table = [HEADER, *(_cells(row) for row in comparison.paired)]
    widths = [max(len(row[at]) for row in table) for at in range(len(HEADER))]
    return [
        f"before  {comparison.a}",
        f"after   {comparison.b}",
        "",
        *([] if _same(comparison) else [_aligned(row, widths) for row in table]),
        _grounds(comparison),
        "",
        *_changes(comparison, width),
        *_questions(comparison, width),
    ]


def markdown(comparison: Comparison) -> list[str]:
    """For a pull request: the table, what was changed, and the questions lost and won, folded."""
    rows = [
        f"**{_escaped(comparison.b)}** against **{_escaped(comparison.a)}**",
        "",
        *([] if _same(comparison) else _rows(comparison)),
        _grounds(comparison),
        "",
        *(
            f"- {kind}: {', '.join(map(_code, items[:MOST])) or 'none'}{_more(items, MOST)}"
            for kind, items in _kinds(comparison)
        ),
    ]
    lost, won = _shares(comparison)
    for title, all_of_them, shown in (("lost", comparison.lost, lost), ("won", comparison.won, won)):
        if not shown:
            continue
        rows += ["", f"<details><summary>{_counted(all_of_them)} {title}</summary>", ""]
        rows += [f"- {_code(q.question)} ({_escaped(q.set)}, {q.metric} {q.before:.2f} → {q.after:.2f})" for q in shown]
        rows += ["", "</details>"]
    return rows


def _same(comparison: Comparison) -> bool:
    """Whether there are questions in common, and all score as before."""
    return bool(comparison.paired) and all(row.wins == row.losses == 0 for row in comparison.paired)


def _rows(comparison: Comparison) -> list[str]:
    head = [_row(HEADER), _row("---" if name in ("set", "metric", "verdict") else "---:" for name in HEADER)]
    return [*head, *(_row(_cells(row)) for row in comparison.paired), ""]


def _cells(row: Paired) -> tuple[str, ...]:
    return (
        row.set,
        row.metric,
        f"{row.n:,}",
        f"{row.before:.3f}",
        f"{row.after:.3f}",
        f"{row.difference:+.3f}",
        f"[{row.low:+.3f}, {row.high:+.3f}]",
        f"{row.p_holm:.3f}",
        str(row.wins),
        str(row.losses),
        row.verdict,
    )


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Words to the left, numbers to the right."""
    left = (0, 1, len(cells) - 1)
    return "  ".join(
        cell.ljust(width) if at in left else cell.rjust(width)
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ).rstrip()


def _grounds(comparison: Comparison) -> str:
    """How the table came about, and what it leaves out."""
    if not comparison.paired:
        return f"no question in common: {comparison.only_a} were asked before alone, {comparison.only_b} after alone"
    rows = len(comparison.paired)
    grounds = "the same scores, question by question"
    if not _same(comparison):
        corrected = f"p corrected for {rows} {'row' if rows == 1 else 'rows'} (Holm)"
        grounds = f"intervals over documents; {corrected}; answers as served: one held back counts 0"
    if comparison.only_a or comparison.only_b:
        grounds += f"; left out: {comparison.only_a} questions asked before alone, {comparison.only_b} after alone"
    return grounds


def _changes(comparison: Comparison, width: int) -> list[str]:
    found = []
    for kind, items in _kinds(comparison):
        shown = list(items[:SHOWN_CHANGES]) or ["none"]
        shown[-1] += _more(items, SHOWN_CHANGES)
        found += [f"{head:<8}{_clipped(item, width - 8)}" for head, item in zip_longest((kind,), shown, fillvalue="")]
    return found


def _kinds(comparison: Comparison) -> list[tuple[str, list[str]]]:
    return [
        ("params", [f"{one.name}: {_value(one.before)} → {_value(one.after)}" for one in comparison.params]),
        ("data", [_told(one) for one in comparison.data]),
        ("code", list(comparison.code)),
    ]


def _told(one: ChangedData) -> str:
    return one.path + (" (new)" if one.before is None else " (gone)" if one.after is None else "")


def _questions(comparison: Comparison, width: int) -> list[str]:
    lost, won = _shares(comparison)
    found = []
    for title, all_of_them, shown in (("lost", comparison.lost, lost), ("won", comparison.won, won)):
        note = f", {len(shown)} of them shown" if len(shown) < len(all_of_them) else ""
        found += ["", f"{title:<8}{_counted(all_of_them)}{note}"]
        names = max((len(q.set) for q in shown), default=0)
        found += [
            _clipped(f"  {q.set:<{names}}  {q.metric:<9}  {q.before:.2f} → {q.after:.2f}  {q.question}", width)
            for q in shown
        ]
    return found


def _shares(comparison: Comparison) -> tuple[Sequence[Question], Sequence[Question]]:
    """The questions to show: half lost, half won, and more of one where the other has fewer."""
    lost, won = comparison.lost, comparison.won
    most_lost = max(SHOWN // 2, SHOWN - len(won))
    return lost[:most_lost], won[: SHOWN - len(lost[:most_lost])]


def _counted(questions: Sequence[Question]) -> str:
    return f"{len(questions):,} {'question' if len(questions) == 1 else 'questions'}"


def _value(value: Any) -> str:
    return "not set" if value is None else textwrap.shorten(str(value), LONGEST_VALUE, placeholder="…")


def _more(items: Sequence[Any], most: int) -> str:
    return f", and {len(items) - most} more" if len(items) > most else ""


def _clipped(text: str, width: int) -> str:
    """On one line of the terminal, without what would steer it."""
    seen = "".join(char if char.isprintable() else " " for char in text)
    return seen if len(seen) <= width else seen[: width - 1] + "…"


def _row(cells: Any) -> str:
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _code(text: str) -> str:
    """Text of others as code: no markup, and nobody is mentioned."""
    return f"`{' '.join(text.replace('`', chr(39)).split())}`"


def _escaped(text: str) -> str:
    """A name that must not become markup."""
    plain = html.escape(" ".join(text.split()), quote=False)
    return "".join(f"\\{char}" if char in r"\`*_[]|" else char for char in plain)
