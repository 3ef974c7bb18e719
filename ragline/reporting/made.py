"""How the models and the data were made, and at what cost."""

from collections.abc import Mapping, Sequence

from ragline.reporting import charts, tables
from ragline.reporting.charts import Axis, Bar, Part, Series, Told
from ragline.reporting.comparisons import colour
from ragline.reporting.formats import count, fixed, listed, memory, percent, plural, seconds, sentence
from ragline.reporting.inputs import Inputs, Json
from ragline.reporting.sections import Block, Figure, Section
from ragline.reporting.tables import Cell, Column, Row, Table

SPLITS = ("train", "dev", "test")
DEV_LEAST = 0.1
"""A dev metric that moves by less is drawn as nearly flat."""
FAINT_POINTS = 300
"""A longer curve is thinned to about so many."""


def training(inputs: Inputs) -> Section:
    """What both models learnt from, and how it went."""
    return Section((), (_retriever_block(inputs), _generator_block(inputs)))


def _retriever_block(inputs: Inputs) -> Block:
    r = inputs.retriever
    one_side = r["towers"] == "question"
    sides = "the questions' side alone" if one_side else "questions and passages in one encoder"
    words = (
        f"{r['base_model']}, method {r['method']}, {sides}: {count(r['pairs'])} question–passage pairs in "
        f"{plural(r['steps'], 'step')}, {count(r['negatives']['mined'])} hard negatives mined. {sentence(r['reason'])}"
    )
    dev = tables.curve(inputs.retriever_curve, "dev_mrr@10")
    figures = _loss_figure("Retriever", "tuned", tables.curve(inputs.retriever_curve, "loss"), ())
    if dev:
        figures += (_dev_figure(r, dev, one_side),)
    both = tables.levels("Both encoders on dev, whole corpus", r["dev"]["n"], _dev_levels(r), {})
    excluded = r["negatives"]["excluded"]
    folded = (
        (
            f"{count(sum(excluded.values()))} passages passed over as negatives, by reason",
            tables.counted("Passages passed over as negatives", "reason", excluded),
        ),
    )
    return Block(
        "Retriever",
        (words, *_astray(inputs.retriever_curve, "dev_mrr@10")),
        figures,
        (both,),
        folded if any(excluded.values()) else (),
    )


def _dev_levels(retriever: Json) -> dict[str, Json]:
    return {name: retriever["dev"][name] for name in ("base", "tuned")}


def _dev_figure(retriever: Json, dev: Sequence[tuple[float, float]], one_side: bool) -> Figure:
    points = tuple(dev)
    measured = "over a pool of candidate passages: for the trend, not to compare with the table"
    if one_side:
        measured = f"all {count(retriever['dev']['n'])} dev questions over the whole corpus"
        if points[0][0] > 0:
            points = ((0.0, retriever["dev"]["base"]["mrr@10"]), *points)
    best = max(points, key=lambda point: point[1])
    told = ", ".join(f"step {count(step)}: {fixed(value)}" for step, value in points)
    chart = charts.line_chart(
        [Series("tuned", points, colour("tuned"), dots=True)],
        Told("Retriever: dev mrr@10 by step", told),
        Axis("step", low=0, high=points[-1][0]),
        Axis("mrr@10 (0 to 1)", least=DEV_LEAST, limits=(0, 1)),
    )
    return Figure(f"Dev mrr@10 is best at step {count(best[0])}: {fixed(best[1])}", f"{sentence(measured)}", chart)


def _generator_block(inputs: Inputs) -> Block:
    g = inputs.generator
    if not g["steps"]:
        return Block("Generator", (f"{g['base_model']}, method {g['method']}: nothing is trained.",))
    words = (
        f"{g['base_model']}, method {g['method']}: {plural(g['examples'], 'example')} in {plural(g['steps'], 'step')}, "
        f"{plural(g['passages'], 'passage')} each; {count(g['trained_parameters'])} of {count(g['parameters'])} "
        f"parameters trained. Best dev loss: {fixed(g['dev_loss'])}."
    )
    dev = tables.curve(inputs.generator_curve, "dev_loss")
    figures = _loss_figure("Generator", "generator", tables.curve(inputs.generator_curve, "loss"), dev)
    return Block("Generator", (words, *_astray(inputs.generator_curve, "dev_loss")), figures)


def _astray(rows: Sequence[Mapping[str, str]], dev: str) -> tuple[str, ...]:
    """A sentence on what the curves cannot show."""
    numbers = {column: tables.not_finite(rows, column) for column in ("loss", dev)}
    told = [f"{column} at {plural(n, 'step')}" for column, n in numbers.items() if n]
    return (f"Not a finite number, so not drawn: {listed(told)}.",) if told else ()


def _loss_figure(
    name: str, who: str, points: Sequence[tuple[float, float]], dev: tuple[tuple[float, float], ...]
) -> tuple[Figure, ...]:
    """A loss as measured, faint, its moving mean, and dev; from zero, so that a flat curve looks flat."""
    series, told, title = [], [], f"{name}: loss by step"
    note = "From zero."
    if points:
        thin = tuple(points[:: 1 + len(points) // FAINT_POINTS])
        window = max(1, len(thin) // 8)
        mean = charts.smooth(thin, window)
        series += [Series("", thin, colour(who), faint=True), Series("train", mean, colour(who))]
        note = f"Faint: as measured, at {count(len(points))} steps; bold: moving mean of {window}. From zero."
        title = f"{name}: loss goes from {fixed(mean[0][1], 2)} to {fixed(mean[-1][1], 2)}"
        told.append(f"training loss from {fixed(mean[0][1])} at step {count(mean[0][0])} to {fixed(mean[-1][1])}")
    if dev:
        series.append(Series("dev", dev, 0, dots=True))
        told.append("dev " + ", ".join(f"step {count(step)}: {fixed(value)}" for step, value in dev))
    if not series:
        return ()
    chart = charts.line_chart(
        series,
        Told(f"{name}: loss by step", "; ".join(told)),
        Axis("step", low=0, high=max(line.points[-1][0] for line in series)),
        Axis("loss (nats, mean of a batch)", low=0),
    )
    return (Figure(title, note, chart),)


# --- data and cost ---------------------------------------------------------------------------------


def data(inputs: Inputs) -> Section:
    """From documents to questions, with what was left out on the way and why."""
    i, c, q = inputs.ingest, inputs.chunk, inputs.questions
    left, out = sum(i["dropped"].values()), sum(q["dropped"].values())
    made = {split: q[split] for split in SPLITS}
    words = (
        f"{plural(i['documents'] + left, 'document')} seen, {count(i['documents'])} kept, in "
        f"{plural(i['clusters'], 'cluster')} of near-duplicates (the largest of {count(i['largest_cluster'])}), with "
        f"{count(i['characters'])} characters and {plural(i['aliases'], 'further name')}. Cut into "
        f"{plural(c['passages'], 'passage')}, {fixed(c['passages_per_document_mean'], 1)} a document, of "
        f"{fixed(c['tokens_mean'], 0)} tokens on average and at most {count(c['tokens_max'])}. Of "
        f"{plural(q['candidates'], 'candidate question')} {count(sum(made.values()))} were kept."
    )
    if out:
        reason, number = max(q["dropped"].items(), key=lambda item: item[1])
        words += f" The commonest reason to leave one out: “{reason}”, {count(number)} of {count(out)}."
    splits = tuple(Part(split, i["splits"].get(split, 0), f"p{at}") for at, split in enumerate(SPLITS))
    parts = tuple(Part(split, number, f"p{at}") for at, (split, number) in enumerate(made.items()))
    rows = [
        _kept("Documents seen", i["documents"], left),
        Bar("Documents kept: train, dev, test", count(i["documents"]), splits),
        _kept("Candidate questions", sum(made.values()), out),
        Bar("Questions kept: train, dev, test", count(sum(made.values())), parts),
    ]
    drawn = [row for row in rows if any(part.size for part in row.parts)]
    told = "; ".join(f"{row.name}: {', '.join(f'{p.name} {count(p.size)}' for p in row.parts)}" for row in drawn)
    figure = Figure(
        "From documents to questions",
        f"Each bar is the whole of its row: documents and questions are counted apart. {count(c['passages'])} passages "
        "stand between them.",
        charts.bars(drawn, Told("From documents to questions", told)),
    )
    split_table = Table(
        "Splits: a document and its near-duplicates fall into one",
        (Column("split"), Column("documents"), Column("questions")),
        (
            (
                "",
                tuple(Row(s, (Cell(count(i["splits"].get(s, 0))), Cell(count(q[s])))) for s in SPLITS),
            ),
        ),
    )
    reasons = [
        tables.counted(caption, noun, numbers)
        for caption, noun, numbers in (
            ("Documents left out", "reason", i["dropped"]),
            ("Candidate questions left out", "reason", q["dropped"]),
            ("Questions kept, by kind", "kind", q["kinds"]),
        )
        if any(numbers.values())
    ]
    return Section((words,), (Block("", (), (figure,), (split_table, *reasons)),))


def _kept(name: str, kept: int, out: int) -> Bar:
    share = percent(kept / (kept + out)) if kept + out else ""
    return Bar(name, f"{count(kept + out)}, {share} kept", (Part("kept", kept, "p0"), Part("left out", out, "out")))


def cost(inputs: Inputs) -> Section:
    """Time and memory of the stages, and what was paid."""
    timed = {stage: at for stage, at in inputs.timings.items() if at}
    words = []
    if timed:
        slowest = max(timed, key=lambda stage: timed[stage]["seconds"])
        largest = max(timed, key=lambda stage: timed[stage]["peak_mb"])
        total = sum(at["seconds"] for at in timed.values())
        words.append(
            f"{plural(len(timed), 'stage')} took {seconds(total)} together when each last ran; longest {slowest} with "
            f"{seconds(timed[slowest]['seconds'])}; most memory {largest} with {memory(timed[largest]['peak_mb'])}."
        )
    judged = inputs.comparisons["judge"]
    if judged:
        words.append(f"The judge was called {plural(judged['calls'], 'time')}, for ${judged['usd']:,.2f}.")
    return Section(tuple(words), (Block("", tables=(_timings(inputs.timings, timed),)),))


def _timings(timings: Mapping[str, Json | None], timed: Mapping[str, Json]) -> Table:
    longest = max((at["seconds"] for at in timed.values()), default=0) or 1
    largest = max((at["peak_mb"] for at in timed.values()), default=0) or 1
    rows = []
    for stage, at in timings.items():
        spent, peak = (at["seconds"], at["peak_mb"]) if at else (None, None)
        cells = (
            Cell(seconds(spent)),
            Cell("", picture=charts.share_bar((spent or 0) / longest, "p0")),
            Cell(memory(peak)),
            Cell("", picture=charts.share_bar((peak or 0) / largest, "p1")),
        )
        rows.append(Row(stage, cells))
    of = f" of {len(timed)} measured" if len(timed) < len(timings) else ""
    sums = sum(at["seconds"] for at in timed.values()) if timed else None
    most = max((at["peak_mb"] for at in timed.values()), default=None)
    total = Cell(seconds(sums), strong=True), Cell(""), Cell(memory(most), strong=True), Cell("")
    rows.append(Row(f"total{of}", total))
    columns = Column("stage"), Column("time"), Column(""), Column("peak memory"), Column("")
    return Table("Time and peak memory of each stage when it last ran", columns, (("", tuple(rows)),))
