"""What the numbers say, in plain words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from ragline.reporting.comparisons import UNSEEN, Pair, Run, RunPair, find, label, served_label, set_label
from ragline.reporting.failures import FINE, Prediction, outcome_label, tally
from ragline.reporting.formats import (
    NO_BREAK,
    capital,
    clip,
    count,
    fixed,
    listed,
    percent,
    plural,
    sentence,
    signed,
    signed_span,
    span,
)

RETRIEVAL_METRIC = "recall@5"
ANSWER_METRIC = "answer_f1"
MOST_SETS = 3
"""Sets whose figures stand on the first screen."""
MOST_CHANGES = 4
"""Compared metrics that it names of each earlier run."""
FEW_QUESTIONS = 100
FEW_UNANSWERABLE = 50
MUCH = 0.5
"""Share of the documents or candidate questions that one reason may drop without a warning."""
CAP = "over the cap"
"""This reason leaves out what is good: there is only enough of it."""
SLICE_WORDS = {
    "kind": "kind",
    "document": "document",
    "language": "language",
    "answerable": "answerable",
    "answer_words": "answer length",
    "gold_position": "first gold passage read at place",
}
SLICE_CHARACTERS = 60

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """One sentence, the verdict of the comparison in it where there is one, and where to read on."""

    text: str
    verdict: str = ""
    look: str = "open"
    """better, worse, decisive or open."""
    href: str = ""


@dataclass(frozen=True)
class Finding:
    """One row of the summary."""

    subject: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Figure:
    """A number that is shown large."""

    name: str
    value: str
    note: str


# --- against earlier runs --------------------------------------------------------------------------


def not_compared(reasons: Mapping[str, str]) -> list[Line]:
    """Which earlier runs could not be read, and why."""
    told = {name: reason.replace("`", "") for name, reason in reasons.items()}
    return [Line(sentence(f"Not compared with the {name}: {reason}")) for name, reason in told.items()]


def verdict(runs: Sequence[Run], missing: Sequence[Line]) -> Line:
    """Whether it is better than the run before it, in one sentence.

    Args:
        missing: what `not_compared` says.
    """
    if runs:
        return standing(runs[0])
    if missing:
        return Line("Not compared with an earlier run: none can be read on this machine.")
    return Line("A first run: there is no earlier commit to compare it with.")


def standing(run: Run) -> Line:
    """Whether it is better than one earlier run, in one sentence."""
    better, worse = ([p for p in run.paired if p.verdict == look] for look in ("better", "worse"))
    href = f"#{run.anchor}"
    if better and worse:
        return Line(f"Better than {run.a} in {_named(better)}; worse in {_named(worse)}.", look="worse", href=href)
    if worse:
        return Line(f"Worse than {run.a} in {_named(worse)}.", look="worse", href=href)
    if better:
        return Line(f"Better than {run.a} in {_named(better)}.", look="better", href=href)
    if not run.paired:
        return Line(f"Not comparable with {run.a}: no question in common.", href=href)
    if run.same:
        shared = " of those that both were asked" if run.only_a or run.only_b else ""
        return Line(f"The same scores as {run.a}, question by question{shared}.", href=href)
    return Line(f"No decisive change since {run.a}.", href=href)


def since_all(runs: Sequence[Run]) -> list[Finding]:
    """What is new since the first of the runs, and whether this one is better than the others."""
    return [
        *(since(run) for run in runs[:1]),
        *(Finding(f"Against {run.other}", (standing(run),)) for run in runs[1:]),
    ]


def since(run: Run) -> Finding:
    """The compared metrics that say most, where any moved, and how much else differs."""
    told = (
        []
        if run.same
        else sorted(run.paired, key=lambda p: (not p.decisive, p.metric not in (RETRIEVAL_METRIC, ANSWER_METRIC)))
    )
    lines = [Line(_change(pair), pair.words, pair.look) for pair in told[:MOST_CHANGES]]
    differs = [
        plural(len(rows), noun)
        for rows, noun in ((run.params, "setting"), (run.data, "input"), (run.code, "code file"))
        if rows
    ]
    questions = f"{plural(len(run.won), 'question')} better served, {count(len(run.lost))} worse; "
    changed = f"{listed(differs)} changed" if differs else "no setting, input or code changed"
    text = sentence(f"{questions if run.moved else ''}{changed}")
    return Finding(f"Against {run.other}", (*lines, Line(text, href=f"#{run.anchor}")))


def _change(pair: RunPair) -> str:
    return (
        f"{served_label(pair.metric)}, {set_label(pair.set)}: {fixed(pair.before)} → {fixed(pair.after)}, "
        f"{signed(pair.difference)} ({signed_span(pair.low, pair.high)})."
    )


def _named(pairs: Sequence[RunPair]) -> str:
    by_set = {
        name: [served_label(p.metric) for p in pairs if p.set == name] for name in dict.fromkeys(p.set for p in pairs)
    }
    return ", ".join(f"{listed(metrics)} ({set_label(name)})" for name, metrics in by_set.items())


# --- where it fails, and what to mind --------------------------------------------------------------


def failing(predictions: Sequence[Prediction], comparisons: Json, answerer: str) -> list[Line]:
    """The commonest failure of every set, and the slice that is furthest behind the rest."""
    lines = []
    for name in dict.fromkeys(row["set"] for row in predictions):
        rows = [row for row in predictions if row["set"] == name]
        wrong = {outcome: n for outcome, n in tally(rows, answerer).items() if outcome not in FINE}
        if not wrong:
            lines.append(Line(f"{capital(set_label(name))}: nothing goes wrong, n{NO_BREAK}={NO_BREAK}{len(rows)}."))
            continue
        most = next(iter(wrong))
        lines.append(
            Line(
                f"{capital(set_label(name))}: {_of(sum(wrong.values()), len(rows))} go wrong, most often "
                f"“{outcome_label(most)}” ({count(wrong[most])}).",
                href=_filtered(set=name, outcome=most),
            )
        )
    return [*lines, *_slices(comparisons["slices"])]


def _slices(slices: Mapping[str, Sequence[Json]]) -> list[Line]:
    """The slice that is furthest behind, where one decisively is."""
    if not any(slices.values()):
        return []
    behind = [(row["difference"], name, row) for name, rows in slices.items() for row in rows if row["worse"]]
    if not behind:
        return [Line("No kind of question is decisively worse than the rest.", href="#slices")]
    _, name, row = min(behind, key=lambda item: item[:2])
    where = f"{SLICE_WORDS[row['by']]} {clip(str(row['value']), SLICE_CHARACTERS)}"
    if (row["by"], row["value"]) == ("gold_position", "0"):
        where = "no gold passage read"
    filters = {row["by"]: row["value"]} if row["by"] in ("kind", "document", "language") else {}
    text = (
        f"Furthest behind, {set_label(name)}: {where}, {served_label(row['metric'])} "
        f"{fixed(row['mean'])} against {fixed(row['rest'])} for the rest, {signed(row['difference'])} "
        f"({signed_span(row['difference_low'], row['difference_high'])}), n{NO_BREAK}={NO_BREAK}{count(row['n'])}."
    )
    return [Line(text, href=_filtered(set=name, **filters) if filters else "#slices")]


def _filtered(**filters: str) -> str:
    return f"#{urlencode(filters)}"


def warnings(ingest: Json, questions: Json, metrics: Json, comparisons: Json, pairs: Sequence[Pair]) -> list[Line]:
    """What weakens the numbers of this run; empty where nothing does."""
    lines = []
    for name, values in metrics.items():
        if (n := values["n_answerable"]) < FEW_QUESTIONS:
            text = f"only {plural(n, 'answerable question')} ({set_label(name)})"
            if pair := next((p for p in pairs if p.set == name and p.metric == RETRIEVAL_METRIC), None):
                text += f"; a difference in {RETRIEVAL_METRIC} below {fixed(pair.detectable)} mostly stays unseen"
            lines.append(Line(sentence(text)))
        few = values.get("abstention", {}).get("n_unanswerable", 0)
        if 0 < few < FEW_UNANSWERABLE:
            lines.append(
                Line(f"Abstention on the {set_label(name)} rests on {plural(few, 'question')} without an answer.")
            )
    seen = ingest["documents"] + sum(ingest["dropped"].values())
    lines += _much(ingest["dropped"], seen, "documents")
    lines += _much(questions["dropped"], questions["candidates"], "candidate questions")
    for name, by_answerer in comparisons["outcomes"].items():
        for answerer, counts in by_answerer.items():
            if failed := counts.get("failed", 0):
                text = f"No reply to {plural(failed, 'question')} ({set_label(name)}, {answerer} answers)."
                lines.append(Line(text, href=_filtered(set=name, outcome="failed", answerer=answerer)))
    judge = comparisons["judge"]
    if judge and judge["warning"]:
        lines.append(Line(sentence(judge["warning"]), href="#judge"))
    return lines


def _much(dropped: Mapping[str, int], total: int, what: str) -> list[Line]:
    return [
        Line(f"Dropped as “{clip(reason, SLICE_CHARACTERS)}”: {_of(n, total)} {what}.", href="#data")
        for reason, n in dropped.items()
        if reason != CAP and n > MUCH * total
    ]


# --- within this run -------------------------------------------------------------------------------


def corpus(ingest: Json, chunk: Json, questions: Json, metrics: Json) -> Finding:
    """How much there is of everything."""
    gold = {name: values for name, values in metrics.items() if name not in ("test", "dev")}
    asked = questions["train"] + questions["dev"] + questions["test"]
    return Finding(
        "Corpus",
        (
            Line(
                f"{plural(ingest['documents'], 'document')} in {plural(ingest['clusters'], 'cluster')} of "
                f"near-duplicates, cut into {plural(chunk['passages'], 'passage')}."
            ),
            Line(
                f"{plural(asked, 'question')} on them: {count(questions['train'])} to train, "
                f"{count(questions['dev'])} to choose by, {count(questions['test'])} to test."
            ),
            *(
                Line(
                    f"{plural(values['n'], 'question')} in the {set_label(name)}, of which the documents cannot answer "
                    f"{count(values['n'] - values['n_answerable'])}."
                )
                for name, values in gold.items()
            ),
        ),
    )


def retrieval(subject: str, a: str, others: Sequence[str], metrics: Json, pairs: Sequence[Pair]) -> Finding:
    """Recall@5 of system `a` against each other system, on every set."""
    lines = []
    unseen = {f"{name}{UNSEEN}": values["unseen"] for name, values in metrics.items() if "unseen" in values}
    for name, values in {**metrics, **unseen}.items():
        for b in others:
            pair = find(pairs, name, RETRIEVAL_METRIC, a, b)
            if pair:
                before, after = (fixed(values["retrieval"][system][RETRIEVAL_METRIC]) for system in (b, a))
                where = f"On the {set_label(name)} {RETRIEVAL_METRIC} is {before} with"
                if pair.wins == pair.losses == 0:
                    lines.append(Line(f"{where} {label(b)} and with {label(a)}, question by question the same."))
                    continue
                text = f"{where} {label(b)}, {after} with {label(a)}: {_difference(pair)}."
                lines.append(Line(text, pair.verdict, "decisive" if pair.decisive else "open"))
    return Finding(subject, tuple(lines))


def answers(metrics: Json, pairs: Sequence[Pair]) -> Finding:
    """Which answerer is better, and by how much."""
    lines = []
    for name, values in metrics.items():
        pair = find(pairs, name, ANSWER_METRIC, "generator", "extractive")
        if pair:
            level = {who: fixed(values["answers"][who][ANSWER_METRIC]) for who in ("generator", "extractive")}
            text = (
                f"On the {set_label(name)} {ANSWER_METRIC} is {level['extractive']} with extractive answers, "
                f"{level['generator']} with the generator: {_difference(pair)}."
            )
            lines.append(Line(text, pair.verdict, "decisive" if pair.decisive else "open"))
    return Finding("Answers", tuple(lines))


def abstention(metrics: Json) -> Finding:
    """How often the system rightly declines, and rightly does not."""
    lines = []
    for name, values in metrics.items():
        figures = values.get("abstention")
        if figures and figures["n_unanswerable"]:
            declined = _of(_hits(figures["refused_unanswerable"], figures["n_unanswerable"]), figures["n_unanswerable"])
            answered = _of(_hits(figures["answered_answerable"], figures["n_answerable"]), figures["n_answerable"])
            text = (
                f"On the {set_label(name)} it rightly declines {declined} questions that the documents cannot answer, "
                f"and answers {answered} that they can."
            )
            lines.append(Line(text))
    return Finding("Abstention", tuple(lines or [Line("Not measured: no set has questions without an answer.")]))


def kept(retriever: Json) -> Finding:
    """Which encoder the pipeline went on with."""
    return Finding("Encoder kept", (Line(sentence(retriever["reason"])),))


def findings(
    ingest: Json, chunk: Json, questions: Json, retriever: Json, metrics: Json, pairs: Sequence[Pair]
) -> list[Finding]:
    """The summary, row by row; a row with nothing to say is left out."""
    rows = [
        corpus(ingest, chunk, questions, metrics),
        retrieval("Fine-tuning", "tuned", ["base"], metrics, pairs),
        kept(retriever),
        retrieval("Hybrid search", "hybrid", ["tuned", "bm25"], metrics, pairs),
        answers(metrics, pairs),
        abstention(metrics),
    ]
    return [row for row in rows if row.lines]


def figures(metrics: Json, intervals: Json, search: str, answerer: str) -> list[Figure]:
    """The few numbers to take away, each with its interval and n: of what is served, on the first sets."""
    shown = (
        ("retrieval", search, RETRIEVAL_METRIC, f"{RETRIEVAL_METRIC}, {label(search)}"),
        ("answers", answerer, ANSWER_METRIC, f"{ANSWER_METRIC}, {answerer}"),
    )
    return [
        _figure(f"{words}, {set_label(name)}", intervals[name][family][system][metric])
        for family, system, metric, words in shown
        for name in list(metrics)[:MOST_SETS]
    ]


def _figure(name: str, at: Json) -> Figure:
    note = f"{span(at['low'], at['high'])} · n{NO_BREAK}={NO_BREAK}{count(at['n'])}"
    return Figure(name, fixed(at["mean"]), note)


def _difference(pair: Pair) -> str:
    return f"{signed(pair.difference)} ({signed_span(pair.low, pair.high)})"


def _hits(share: float | None, total: int) -> int:
    return 0 if share is None else round(share * total)


def _of(hits: int, total: int) -> str:
    return f"{count(hits)} of {count(total)} ({percent(hits / total if total else None)})"
