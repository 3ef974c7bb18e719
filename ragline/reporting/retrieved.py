"""What search brings: levels, differences, and recall by the number of passages."""

from collections.abc import Sequence

from ragline.reporting import charts, tables
from ragline.reporting.charts import Axis, Told
from ragline.reporting.comparisons import UNSEEN, Pair, read_pairs, set_label
from ragline.reporting.formats import count, fixed, percent, sentence
from ragline.reporting.inputs import Inputs, Json
from ragline.reporting.sections import Block, Figure, Section, compared, level
from ragline.reporting.tables import n_of


def retrieval(inputs: Inputs) -> Section:
    """Every set of questions, then those of it on documents that training never saw."""
    pairs = read_pairs(inputs.comparisons["paired"])
    blocks = []
    for name, values in inputs.figures.items():
        blocks.append(_retrieval_block(inputs, name, values, pairs))
        if "unseen" in values:
            blocks.append(_unseen_block(inputs, f"{name}{UNSEEN}", values["unseen"], pairs))
    decisive = sum(pair.decisive for pair in pairs)
    note = (
        f"{count(decisive)} of the {count(len(pairs))} comparisons of systems and answerers are decisive. p-values are "
        "corrected for all comparisons on the same questions (Holm), intervals are not. “Detectable” is the true "
        "difference from which a comparison of so many questions mostly becomes decisive by itself."
    )
    return Section((_systems(inputs),), tuple(blocks), note)


def _systems(inputs: Inputs) -> str:
    answering = inputs.answering
    weight = answering["hybrid_weight"]
    mixed = "by their ranks" if weight is None else f"{fixed(weight, 2)} to {fixed(1 - weight, 2)}"
    towers = inputs.retriever["towers"] == "question"
    sides = ", which changed how questions are encoded and left the passages' vectors as they were" if towers else ""
    again = answering["reranker"]
    reranked = (
        f"; reranked is the same list, of which {again} read the first {answering['rerank_depth']} again"
        if again
        else ""
    )
    return (
        f"BM25 matches words; base and tuned compare vectors of the encoder before and after training{sides}; hybrid "
        f"mixes vectors and BM25, {mixed}{reranked}. The highest value of a row is bold, which alone decides nothing: "
        "the comparisons below do."
    )


def _retrieval_block(inputs: Inputs, name: str, values: Json, pairs: Sequence[Pair]) -> Block:
    where = set_label(name)
    intervals = inputs.comparisons["intervals"].get(name, {})
    made = [
        tables.levels(f"{what}, {where}", values["n_answerable"], values[key], intervals.get(key, {}))
        for key, what in (
            ("retrieval", "A passage that holds the answer"),
            ("retrieval_document", "Any passage of a document that answers"),
        )
        if key in values
    ]
    shown, folded = compared(f"Paired differences in retrieval, {where}", pairs, name, "retrieval", level(inputs))
    return Block(
        heading=f"Retrieval on the {where}",
        figures=_recall_figure(inputs, name, values, intervals.get("retrieval", {})),
        tables=(*made, *shown),
        folded=folded,
    )


def _recall_figure(inputs: Inputs, name: str, values: Json, intervals: Json) -> tuple[Figure, ...]:
    rows = [row for row in inputs.predictions if row["set"] == name]
    systems = list(values["retrieval"])
    depth = max(int(metric.split("@")[1]) for metric in values["retrieval"][systems[-1]] if "recall@" in metric)
    lines = tables.recall_lines(rows, systems, depth, intervals)
    if not lines:
        return ()
    at = min(5, depth)
    told = "; ".join(
        f"{line.name} {fixed(line.points[0][1])} at 1, {fixed(line.points[at - 1][1])} at {at}, "
        f"{fixed(line.points[-1][1])} at {depth}"
        for line in lines
    )
    served = lines[-1]
    title = f"{sentence(served.name)[:-1]} finds {percent(served.points[at - 1][1])} within {at} passages"
    note = f"Recall by number of passages, {set_label(name)}, {n_of(sum(row['answerable'] for row in rows))}"
    if served.spread:
        note += f". Bars: {level(inputs)} intervals of {served.name}"
    chart = charts.line_chart(
        lines,
        Told(f"Recall by number of passages, {set_label(name)}", told),
        Axis("passages, k", low=1, high=depth),
        Axis("recall@k (share of the questions)", least=0.5, limits=(0, 1)),
    )
    return (Figure(title, f"{note}.", chart),)


def _unseen_block(inputs: Inputs, name: str, values: Json, pairs: Sequence[Pair]) -> Block:
    where, n = set_label(name), values["n_answerable"]
    levels = tables.levels(f"A passage that holds the answer, {where}", n, values["retrieval"], {})
    shown, folded = compared(f"Paired differences in retrieval, {where}", pairs, name, "retrieval", level(inputs))
    return Block(f"Retrieval on the {where}", tables=shown, folded=((f"All systems, {n_of(n)}", levels), *folded))
