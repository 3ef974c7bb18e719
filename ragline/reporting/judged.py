"""What a language model says of the answers, and how far it can be trusted."""

from collections.abc import Mapping

from markupsafe import Markup

from ragline.reporting import charts
from ragline.reporting.charts import Bar, Part, Told
from ragline.reporting.comparisons import label, set_label
from ragline.reporting.formats import NONE, count, fixed, percent, signed, signed_span, span
from ragline.reporting.inputs import Inputs, Json
from ragline.reporting.sections import Block, Figure, Section, level
from ragline.reporting.tables import NO_PICTURE, Cell, Column, Row, Table, n_of, swatch


def judge(inputs: Inputs) -> Section | None:
    """Its verdicts with their intervals and what its failures could change; None where nobody judged."""
    judged = inputs.comparisons.get("judge")
    if not judged:
        return None
    words = [
        f"{judged['model']} read questions, references, passages and answers and gave each criterion a value from 0 to "
        "1. A judge is a measuring instrument with faults of its own: its failures, its agreement with itself and with "
        "people stand beside what it says."
    ]
    if judged["warning"]:
        words.insert(0, f"Warning: {judged['warning']}.")
    blocks = tuple(_judge_block(inputs, name, values) for name, values in judged["sets"].items())
    note = (
        "The thin line reaches from the mean if all failed verdicts had been 0 to the mean if all had been 1. "
        "“Corrected” joins the judge's values with those of people (prediction-powered inference)."
    )
    return Section(tuple(words), blocks, note)


def _judge_block(inputs: Inputs, name: str, values: Json) -> Block:
    words = []
    for who, at in (values.get("repeats") or {}).items():
        words.append(_repeated(who, at))
    for who, at in (values.get("length_slope") or {}).items():
        if at:
            words.append(
                f"Ten more words change its verdict on {label(who)} answers of equal F1 by {signed(at['slope'])} "
                f"({signed_span(at['low'], at['high'])})."
            )
    people = values.get("agreement")
    words.append(
        f"Agreement with people: κ = {fixed(people['kappa'])} ({span(people['low'], people['high'])}), "
        f"{n_of(people['n'])}."
        if people
        else "No labels of people: how far the judge can be trusted here is not known."
    )
    pairwise = values.get("pairwise")
    figures = (_pairwise_figure(inputs, name, pairwise),) if pairwise and pairwise["n"] else ()
    if pairwise and not pairwise["n"]:
        a, b = label(pairwise["a"]), label(pairwise["b"])
        words.append(f"Of {a} against {b} it compared nothing: {_failed_pairs(pairwise)}")
    table = _judge_table(inputs, name, values["answers"])
    return Block(f"Judged answers to the {set_label(name)}", tuple(words), figures, (table,))


def _repeated(who: str, at: Json) -> str:
    asked = f"Asked {at['times']} times about the same {label(who)} answers"
    if not at["n"]:
        return f"{asked}, it failed at least once on all {count(at['failed'])}."
    failed = f", {count(at['failed'])} failed" if at["failed"] else ""
    return (
        f"{asked} ({n_of(at['n'])}{failed}), it agreed with itself in {percent(at['agreement'])}; "
        f"variance {fixed(at['variance'])}."
    )


def _judge_table(inputs: Inputs, name: str, answers: Mapping[str, Mapping[str, Json]]) -> Table:
    groups: dict[str, list[Row]] = {}
    for who, criteria in answers.items():
        for criterion, at in criteria.items():
            bounds = at["if_all_failed_bad"], at["if_all_failed_good"]
            corrected = at.get("corrected")
            cells = (
                Cell("", picture=_judged_bar(at, bounds, swatch(who))),
                Cell(fixed(at["mean"]), span(at["low"], at["high"])),
                Cell(count(at["n"])),
                Cell(count(at["failed"]), span(*bounds) if at["failed"] else ""),
                Cell(fixed(corrected["mean"]), span(corrected["low"], corrected["high"]), n_of(corrected["n_labels"]))
                if corrected
                else Cell(NONE),
            )
            groups.setdefault(criterion, []).append(Row(label(who), cells, swatch(who)))
    columns = (
        Column("answerer"),
        Column("interval", picture=charts.interval_axis((0.0, 1.0))),
        Column("mean"),
        Column("n"),
        Column("failed"),
        Column("corrected"),
    )
    caption = f"The judge's verdicts, {set_label(name)}, with {level(inputs)} intervals"
    return Table(caption, columns, tuple((criterion, tuple(rows)) for criterion, rows in groups.items()))


def _judged_bar(at: Json, bounds: tuple[float, float], look: str) -> Markup:
    """Nothing where every verdict failed."""
    return NO_PICTURE if at["mean"] is None else charts.level_bar((at["mean"], at["low"], at["high"]), bounds, look)


def _pairwise_figure(inputs: Inputs, name: str, at: Json) -> Figure:
    a, b = at["a"], at["b"]
    parts = (
        Part(f"{label(a)} wins", at["wins_a"], swatch(a)),
        Part("tie", at["ties"], "o-tie"),
        Part(f"{label(b)} wins", at["wins_b"], swatch(b)),
    )
    told = ", ".join(f"{part.name} {count(part.size)}" for part in parts)
    note = (
        f"Pairwise, {set_label(name)}, {n_of(at['n'])}: {told}. Preference for {label(a)}, a tie counting half: "
        f"{fixed(at['preference'])} ({level(inputs)} interval {span(at['low'], at['high'])}). "
        f"{count(at['inconsistent'])} of the ties: the order shown changed the verdict. {_failed_pairs(at)}"
    )
    chart = charts.bars(
        [Bar(f"{label(a)} against {label(b)}", n_of(at["n"]), parts)],
        Told(f"Preferences of the judge, {set_label(name)}", told),
    )
    preferred = label(a) if at["low"] > 0.5 else label(b) if at["high"] < 0.5 else "neither for sure"
    return Figure(f"The judge prefers {preferred}", note, chart)


def _failed_pairs(at: Json) -> str:
    if not at["failed"]:
        return "0 failed."
    return (
        f"{count(at['failed'])} failed: the preference would lie between {fixed(at['if_all_failed_b'])} and "
        f"{fixed(at['if_all_failed_a'])} if all were for {label(at['b'])} or for {label(at['a'])}."
    )
