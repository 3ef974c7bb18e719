"""What became of the questions: outcomes, agreement with the references, and knowing when to decline."""

from collections.abc import Mapping, Sequence

from ragline.reporting import charts, tables
from ragline.reporting.charts import Axis, Bar, Part, Series, Told
from ragline.reporting.comparisons import Pair, colour, label, read_pairs, set_label
from ragline.reporting.failures import FINE, OUTCOMES, Prediction
from ragline.reporting.formats import count, fixed, percent, span
from ragline.reporting.inputs import Inputs, Json
from ragline.reporting.sections import Block, Figure, Section, compared, level
from ragline.reporting.tables import Cell, Column, Row, Table, n_of, swatch

FEW = 10
"""Answers below which a risk is not drawn."""
BINS = 20
MEANINGS = {
    "correct": "answered, with an F1 of at least 0.5",
    "rightly_declined": "the corpus has no answer, and none was given",
    "wrong_answer": "a cited gold passage holds the answer, F1 is below 0.5",
    "unsupported": "a gold passage was read; the answer cites none, or one that says less than half of it",
    "ignored": "a gold passage was read, the answer rests on others",
    "ranked_low": "the search brought a gold passage, but not among those it read",
    "retrieval_miss": "the search brought no gold passage",
    "wrong_abstention": "a gold passage was read, yet no answer was given",
    "undue_answer": "answered, though the corpus has no answer",
    "failed": "no answer though one was asked for",
}
"""What each outcome means, in the order of the bar: what went well, then faults."""


def answers(inputs: Inputs) -> Section:
    """Outcomes, agreement with the references, and what the place of the gold passage does to it."""
    search = "reranked" if inputs.answering["reranker"] else "hybrid"
    words = (
        "Extractive answers quote sentences of the retrieved passages; the generator writes its own. Both get the "
        f"same passages, those of the {search} search, the best first; how many each reads is its own. On dev the "
        f"{inputs.answering['answerer']} answers were the better ones, so the system gives those."
    )
    pairs = read_pairs(inputs.comparisons["paired"])
    blocks = tuple(_answers_block(inputs, name, values, pairs) for name, values in inputs.figures.items())
    return Section((words,), blocks, "BLEU belongs to a whole set of answers: it has no interval by question.")


def _answers_block(inputs: Inputs, name: str, values: Json, pairs: Sequence[Pair]) -> Block:
    where = set_label(name)
    intervals = inputs.comparisons["intervals"][name]["answers"]
    levels = tables.levels(
        f"Agreement with the references, {where}", values["n_answerable"], values["answers"], intervals
    )
    shown, folded = compared(f"Paired differences in answers, {where}", pairs, name, "answers", level(inputs))
    outcomes = inputs.comparisons["outcomes"][name]
    places = inputs.comparisons["sensitivity"][name]
    figures, extra = [], []
    if any(outcomes.values()):
        figures.append(_outcome_figure(inputs, name, outcomes))
        extra.append(_outcome_table(name, outcomes))
    if any(places.values()):
        figures.append(_sensitivity_figure(inputs, name, places))
        folded = (*folded, ("Answer F1 by place of the gold passage, in numbers", _sensitivity_table(name, places)))
    if distracted := inputs.comparisons.get("distractors", {}).get(name):
        folded = (*folded, ("Answer F1 by number of distractors", _distractors_table(name, distracted)))
    return Block(f"Answers to the {where}", (), tuple(figures), (*extra, levels, *shown), folded)


def _outcome_figure(inputs: Inputs, name: str, outcomes: Mapping[str, Mapping[str, int]]) -> Figure:
    rows = [
        Bar(
            label(who),
            n_of(sum(counts.values())),
            tuple(Part(OUTCOMES[outcome], counts.get(outcome, 0), f"o-{outcome}") for outcome in MEANINGS),
        )
        for who, counts in outcomes.items()
    ]
    told = "; ".join(
        f"{row.name}, {row.value}: " + ", ".join(f"{part.name} {count(part.size)}" for part in row.parts if part.size)
        for row in rows
    )
    who = inputs.answering["answerer"]
    counts = outcomes[who]
    whole = sum(counts.values())
    bad = {outcome: counts[outcome] for outcome in MEANINGS if counts.get(outcome) and outcome not in FINE}
    title = "What became of each question"
    if bad:
        worst = max(bad, key=lambda outcome: bad[outcome])
        title = f"Commonest fault of {label(who)} answers: {OUTCOMES[worst]}, {count(bad[worst])} of {count(whole)}"
    note = f"Outcomes, {set_label(name)}: number of questions; the table names the colours in the same order."
    return Figure(title, note, charts.bars(rows, Told(f"Outcomes, {set_label(name)}", told)))


def _outcome_table(name: str, outcomes: Mapping[str, Mapping[str, int]]) -> Table:
    whole = {who: sum(counts.values()) for who, counts in outcomes.items()}
    rows = tuple(
        Row(
            OUTCOMES[outcome],
            tuple(
                Cell(count(counts.get(outcome, 0)), percent(counts.get(outcome, 0) / whole[who]) if whole[who] else "")
                for who, counts in outcomes.items()
            ),
            look=f"o-{outcome}",
            note=meaning,
        )
        for outcome, meaning in MEANINGS.items()
        if any(counts.get(outcome) for counts in outcomes.values())
    )
    columns = Column("outcome"), *(Column(label(who), swatch(who)) for who in outcomes)
    return Table(f"What became of each question, {set_label(name)}", columns, (("", rows),))


def _places(places: Mapping[str, Mapping[str, Json]]) -> list[str]:
    """The places that occur, first to last; 0, which is none, at the end."""
    found = {int(place) for values in places.values() for place in values}
    return [str(place) for place in sorted(found, key=lambda place: (place == 0, place))]


def _sensitivity_figure(inputs: Inputs, name: str, places: Mapping[str, Mapping[str, Json]]) -> Figure:
    order = _places(places)
    heads = ["none" if place == "0" else place for place in order]
    series = [
        (
            label(who),
            colour(who),
            [
                charts.Spread(at, values[place]["n"], *(values[place][key] for key in ("mean", "low", "high")))
                for at, place in enumerate(order)
                if place in values
            ],
        )
        for who, values in places.items()
    ]
    told = "; ".join(
        f"{who}: " + ", ".join(f"{heads[at.place]} {fixed(at.mean)} (n {count(at.n)})" for at in values)
        for who, _, values in series
    )
    return Figure(
        "Answers by the place of the gold passage",
        f"Mean F1 with {level(inputs)} intervals, {set_label(name)}; none: the answerer read no gold passage.",
        charts.interval_chart(
            heads,
            series,
            Told(f"Answer F1 by place of the gold passage, {set_label(name)}", told),
            "place of the first gold passage read",
            Axis("answer F1 (0 to 1)", low=0, high=1),
        ),
    )


def _sensitivity_table(name: str, places: Mapping[str, Mapping[str, Json]]) -> Table:
    rows = tuple(
        Row(
            "none read" if place == "0" else place,
            tuple(
                Cell(fixed(at.get("mean")), span(at.get("low"), at.get("high")), n_of(at["n"]) if at else "")
                for at in (values.get(place, {}) for values in places.values())
            ),
        )
        for place in _places(places)
    )
    columns = Column("place"), *(Column(label(who), swatch(who)) for who in places)
    return Table(f"Answer F1 by place of the first gold passage, {set_label(name)}", columns, (("", rows),))


def _distractors_table(name: str, distracted: Mapping[str, Mapping[str, Json]]) -> Table:
    """Answers from the gold passage beside the best passages found that do not hold the answer."""
    numbers = sorted({number for values in distracted.values() for number in values}, key=int)
    rows = tuple(
        Row(
            number,
            tuple(
                Cell(fixed(at.get("mean")), span(at.get("low"), at.get("high")), n_of(at["n"]) if at else "")
                for at in (values.get(number, {}) for values in distracted.values())
            ),
        )
        for number in numbers
    )
    columns = Column("distractors beside the gold passage"), *(Column(label(who), swatch(who)) for who in distracted)
    return Table(f"Answer F1 by number of distractors, {set_label(name)}", columns, (("", rows),))


# --- abstention ------------------------------------------------------------------------------------


def abstention(inputs: Inputs) -> Section:
    """What is risked by answering more, where the system stands, and what its confidence tells apart."""
    threshold = tables.answer_from(inputs.answering)
    declines = (
        f"Below {fixed(threshold)} (dashed) the system declines"
        if threshold > -1
        else "The system never declines on its account"
    )
    rule = inputs.answering.get("rule")
    meaning = "the cosine of question and best passage" if rule is None else "the F1 to be expected, learned on dev"
    words = (
        f"Confidence is {meaning}. {declines}; the further the groups lie apart, the better it can tell what it does "
        "not know.",
        *([] if rule is None else [_promised(rule["promise"])]),
    )
    blocks = []
    for name, values in inputs.figures.items():
        rows = [row for row in inputs.predictions if row["set"] == name]
        blocks.append(_risk_block(inputs, name, values))
        blocks.append(Block(f"Confidence: {set_label(name)}", figures=_distributions(inputs, rows, name)))
    return Section(words, tuple(block for block in blocks if block.figures or block.tables))


def _promised(promise: Json) -> str:
    """What is asked of the risk, and what dev showed."""
    asked = (
        f"Asked for: answers of a risk of at most {fixed(promise['target'])}, where {percent(promise['unanswerable'])} "
        "of the questions have no answer."
    )
    on_dev = f"{n_of(promise['n'])}, {count(promise['n_clusters'])} documents"
    if promise["bound"] is None:
        return f"{asked} On dev ({on_dev}) no threshold promises that, so only what is least sure is declined."
    return (
        f"{asked} On dev ({on_dev}) the risk is {fixed(promise['risk'])} at coverage {fixed(promise['coverage'])}, and "
        f"at most {fixed(promise['bound'])} at level {percent(promise['level'])}. That holds for questions like those "
        "of dev; how others came out stands below."
    )


def _risk_block(inputs: Inputs, name: str, values: Json) -> Block:
    curves = inputs.comparisons["risk_coverage"][name]
    selective = values.get("selective", {})
    figures_of = values.get("abstention", {})
    points = {who: point for who, point in selective.items() if "coverage" in point}
    made = []
    if figures_of.get("n_unanswerable"):
        made.append(_declined_table(name, figures_of))
    if points:
        made.append(_operating_table(name, values["n"], points))
    if given := inputs.comparisons.get("risk", {}).get(name):
        made.append(_risk_table(inputs, name, given))
    figures = _risk_figure(name, values["n"], curves, selective)
    return Block(f"Answering and declining: {set_label(name)}", (), figures, tuple(made))


def _risk_figure(
    name: str, n: int, curves: Mapping[str, Sequence[Sequence[float]]], selective: Mapping[str, Json]
) -> tuple[Figure, ...]:
    lines = []
    for who, points in curves.items():
        sure = tuple((coverage, risk) for coverage, risk in points if coverage * n >= FEW)
        at = selective.get(who, {})
        if sure:
            mark = (at["coverage"], at["risk"]) if "risk" in at else None
            lines.append(Series(label(who), sure, colour(who), mark=mark))
    if not lines:
        return ()
    told = "; ".join(
        f"{line.name}: risk {fixed(line.points[0][1])} at coverage {fixed(line.points[0][0])}, "
        f"{fixed(line.points[-1][1])} at {fixed(line.points[-1][0])}"
        + (f", the system stands at coverage {fixed(line.mark[0])}, risk {fixed(line.mark[1])}" if line.mark else "")
        for line in lines
    )
    note = (
        f"Mean of 1 − F1 over the most confident answers, {set_label(name)}, {n_of(n)}; answering what the corpus "
        f"cannot answer counts 1. Ring: where the system stands. Fewer than {FEW} answers are not drawn."
    )
    chart = charts.line_chart(
        lines,
        Told(f"Risk by coverage, {set_label(name)}", told),
        Axis("coverage (share of the questions answered)", low=0, high=1),
        Axis("risk (mean loss, 0 to 1)", low=0, high=1),
    )
    return (Figure("What is risked by answering more", note, chart),)


def _distributions(inputs: Inputs, rows: Sequence[Prediction], name: str) -> tuple[Figure, ...]:
    threshold = tables.answer_from(inputs.answering)
    groups = tables.confidences(rows)
    everything = [value for values in groups.values() for value in values] + [0.0, 1.0]
    over = min(everything), max(everything)
    tallest = max((max(charts.shares(values, over, BINS)) for values in groups.values()), default=1.0)
    drawn = threshold if over[0] <= threshold <= over[1] else None
    made = []
    for group, values in groups.items():
        below = f"{count(sum(value < threshold for value in values))} of {count(len(values))} below the threshold"
        told = Told(
            f"Confidence, {group.lower()}, {set_label(name)}",
            f"{below} of {fixed(threshold)}; lowest {fixed(min(values))}, middle "
            f"{fixed(sorted(values)[len(values) // 2])}, highest {fixed(max(values))}",
        )
        chart = charts.histogram(values, over, tallest, drawn, told, BINS)
        made.append(Figure(group, f"{n_of(len(values))}; {below}.", chart))
    return tuple(made)


def _declined_table(name: str, figures: Json) -> Table:
    rows = (
        Row(
            "declines what the corpus cannot answer",
            (Cell(fixed(figures["refused_unanswerable"])), Cell(count(figures["n_unanswerable"]))),
        ),
        Row(
            "answers what it can",
            (Cell(fixed(figures["answered_answerable"])), Cell(count(figures["n_answerable"]))),
        ),
        Row("balanced accuracy", (Cell(fixed(figures["balanced_accuracy"]), strong=True), Cell(""))),
    )
    columns = Column("what should happen"), Column("share"), Column("n")
    return Table(f"Abstention, {set_label(name)}", columns, (("", rows),))


def _risk_table(inputs: Inputs, name: str, given: Json) -> Table:
    found = Cell(fixed(given["mean"]), span(given["low"], given["high"]), n_of(given["n"]))
    columns = Column("measure"), Column(label(inputs.answering["answerer"]))
    rows = (Row("mean loss of the answers given", (found,)),)
    return Table(f"Risk with its {level(inputs)} interval, {set_label(name)}", columns, (("", rows),))


def _operating_table(name: str, n: int, points: Mapping[str, Json]) -> Table:
    names = {
        "coverage": "coverage: questions answered",
        "risk": "risk: mean loss of the answers given",
        "aurc": "area under the risk–coverage curve",
        "excess_aurc": "the same, above the best order possible",
        "calibration_error": "calibration error of the confidence",
    }
    rows = tuple(
        Row(title, tuple(Cell(fixed(at.get(key))) for at in points.values()))
        for key, title in names.items()
        if any(key in at for at in points.values())
    )
    columns = Column("measure"), *(Column(label(who), swatch(who)) for who in points)
    return Table(f"Where the system stands, {set_label(name)}, {n_of(n)}", columns, (("", rows),))
