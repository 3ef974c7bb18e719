"""Where it does worse than elsewhere: slices of a set against its other questions."""

from collections.abc import Mapping, Sequence

from ragline.reporting import charts, tables
from ragline.reporting.comparisons import served_label, set_label
from ragline.reporting.failures import ANSWERERS
from ragline.reporting.formats import capital, count, fixed, plural, signed, signed_span, span
from ragline.reporting.inputs import Inputs, Json
from ragline.reporting.sections import Block, Section
from ragline.reporting.tables import Cell, Column, Row, Table, n_of

SHOWN_SLICES = 8
BY = {
    "kind": "kind",
    "document": "document",
    "answer_words": "words of the answer",
    "gold_position": "place of the first gold passage read",
    "answerable": "answerable",
    "language": "language",
}


def slices(inputs: Inputs) -> Section:
    """The worst slices named, then each set's slices by their difference to the rest of it."""
    found: Mapping[str, Sequence[Json]] = inputs.comparisons["slices"]
    words = [words for name in inputs.metrics for words in _worst(name, found[name], inputs.comparisons)]
    blocks = tuple(_slices_block(inputs, name, found[name]) for name in inputs.metrics)
    note = (
        "A difference is that of a slice's mean and the mean of the set's other questions, with its interval; a slice "
        "is worse where its p-value, corrected for all slices of the set (Holm), is at most "
        f"{round(100 * (1 - inputs.comparisons['level']))} %. Rows in grey have fewer than {tables.SMALL_N} questions: "
        "read them as anecdotes."
    )
    return Section(tuple(words), blocks, note)


def _worst(name: str, rows: Sequence[Json], comparisons: Json) -> list[str]:
    """A sentence for each metric: the slice furthest below the rest, and whether that is sure."""
    words = []
    for metric in dict.fromkeys(row["metric"] for row in rows):
        mine = sorted((row for row in rows if row["metric"] == metric), key=_slice_order)
        sure = [row for row in mine if row["worse"]]
        head = f"On the {set_label(name)}, {served_label(metric)}: "
        if sure:
            others = f" {plural(len(sure) - 1, 'further slice')} also." if len(sure) > 1 else ""
            words.append(f"{head}worst is {_slice_told(sure[0])}.{others}")
        elif mine[0]["difference"] < 0:
            words.append(f"{head}no slice is decisively worse than the rest; lowest is {_slice_told(mine[0])}.")
        else:
            words.append(f"{head}no slice lies below the rest.")
    small = comparisons["slices_too_small"][name]
    if left := sum(small.values()):
        by = ", ".join(f"{count(n)} by {BY[by]}" for by, n in sorted(small.items()) if n)
        words.append(f"On the {set_label(name)} {plural(left, 'slice')} had too few questions to be compared: {by}.")
    return words


def _slice_order(row: Json) -> tuple[bool, float, str, str]:
    return not row["worse"], row["difference"], str(row["by"]), str(row["value"])


def _slice_name(row: Json) -> str:
    value = "none read" if (row["by"], str(row["value"])) == ("gold_position", "0") else row["value"]
    return f"{BY[row['by']]}: {value}"


def _slice_told(row: Json) -> str:
    return (
        f"“{_slice_name(row)}” with {fixed(row['mean'])} ({n_of(row['n'])}) against {fixed(row['rest'])}, "
        f"{signed(row['difference'])} ({signed_span(row['difference_low'], row['difference_high'])})"
    )


def _slices_block(inputs: Inputs, name: str, rows: Sequence[Json]) -> Block:
    made, folded = [], []
    for metric in dict.fromkeys(row["metric"] for row in rows):
        mine = sorted((row for row in rows if row["metric"] == metric), key=_slice_order)
        what = f"{served_label(metric)} by slice, {set_label(name)}"
        more = len(mine) > SHOWN_SLICES
        caption = f"{what}: the lowest {SHOWN_SLICES} of {count(len(mine))}" if more else what
        made.append(_slice_table(caption, mine[:SHOWN_SLICES], inputs))
        if more:
            folded.append((f"{plural(len(mine), 'slice')}, {served_label(metric)}", _slice_table(what, mine, inputs)))
    systems = list(inputs.metrics[name]["retrieval"])
    predictions = [row for row in inputs.predictions if row["set"] == name]
    if any(row["answerable"] for row in predictions):
        caption = f"{capital(set_label(name))}, answerable questions by kind, also the rare ones"
        kinds = tables.by_kind(caption, predictions, systems[-1], ANSWERERS)
        folded.append((f"{plural(len(kinds.rows), 'kind')} of question, the rare ones too", kinds))
    return Block(f"Slices of the {set_label(name)}", tables=tuple(made), folded=tuple(folded))


def _slice_table(caption: str, rows: Sequence[Json], inputs: Inputs) -> Table:
    over = charts.common_domain((row["difference_low"], row["difference_high"]) for row in rows)
    made = []
    for row in rows:
        low, high = row["difference_low"], row["difference_high"]
        look = "minus" if row["worse"] else "plus" if _better(row, inputs) else "open"
        verdict = {"minus": "worse than the rest", "plus": "better than the rest", "open": "not decisive"}[look]
        cells = (
            Cell("", picture=charts.interval_bar(row["difference"], low, high, over, look)),
            Cell(signed(row["difference"]), signed_span(low, high)),
            Cell(fixed(row["mean"]), span(row["low"], row["high"])),
            Cell(fixed(row["rest"])),
            Cell(count(row["n"])),
            Cell(verdict, words=True, verdict="open" if look == "open" else "decisive"),
        )
        made.append(Row(_slice_name(row), cells, quiet=row["n"] < tables.SMALL_N))
    columns = (
        Column("slice"),
        Column("interval", picture=charts.interval_axis(over)),
        Column("difference"),
        Column("slice's mean"),
        Column("the rest"),
        Column("n"),
        Column("verdict", words=True),
    )
    return Table(caption, columns, (("", tuple(made)),))


def _better(row: Json, inputs: Inputs) -> bool:
    p = row["p_holm"]
    return p is not None and p <= 1 - inputs.comparisons["level"] and row["difference"] > 0
