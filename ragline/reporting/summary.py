"""What the numbers say, in plain words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ragline.reporting.comparisons import UNSEEN, Pair, find, label, set_label
from ragline.reporting.formats import (
    NO_BREAK,
    count,
    fixed,
    percent,
    plural,
    points,
    sentence,
    signed,
    signed_span,
    span,
)

RETRIEVAL_METRIC = "recall@5"
ANSWER_METRIC = "answer_f1"


@dataclass(frozen=True)
class Line:
    """One sentence, and the verdict of the comparison in it, where there is one."""

    text: str
    verdict: str = ""
    decisive: bool = False


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


def corpus(
    ingest: Mapping[str, Any], chunk: Mapping[str, Any], questions: Mapping[str, Any], metrics: Mapping[str, Any]
) -> Finding:
    """How much there is of everything."""
    gold = {name: values for name, values in metrics.items() if name != "test"}
    made = questions["train"] + questions["dev"] + questions["test"]
    return Finding(
        "Corpus",
        (
            Line(
                f"{plural(ingest['documents'], 'document')} in {plural(ingest['clusters'], 'cluster')} of "
                f"near-duplicates, cut into {plural(chunk['passages'], 'passage')}."
            ),
            Line(
                f"{plural(made, 'question')} made from them: {count(questions['train'])} to train, "
                f"{count(questions['dev'])} to choose by, {count(questions['test'])} to test."
            ),
            *(
                Line(
                    f"{plural(values['n'], 'question')} in the {set_label(name)}, of which the corpus cannot answer "
                    f"{count(values['n'] - values['n_answerable'])}."
                )
                for name, values in gold.items()
            ),
        ),
    )


def retrieval(
    subject: str, a: str, others: Sequence[str], metrics: Mapping[str, Any], pairs: Sequence[Pair]
) -> Finding:
    """Recall@5 of system `a` against each other system, on every set."""
    lines = []
    unseen = {f"{name}{UNSEEN}": values["unseen"] for name, values in metrics.items() if "unseen" in values}
    for name, values in {**metrics, **unseen}.items():
        for b in others:
            pair = find(pairs, name, RETRIEVAL_METRIC, a, b)
            if pair:
                before, after = (percent(values["retrieval"][system][RETRIEVAL_METRIC]) for system in (b, a))
                where = f"On the {set_label(name)} {RETRIEVAL_METRIC} is {before} with"
                if pair.wins == pair.losses == 0:
                    lines.append(Line(f"{where} {label(b)} and with {label(a)}, question by question the same."))
                    continue
                text = f"{where} {label(b)}, {after} with {label(a)}: {points(pair.difference)} ({_in_points(pair)})."
                lines.append(Line(text, pair.verdict, pair.decisive))
    return Finding(subject, tuple(lines))


def answers(metrics: Mapping[str, Any], pairs: Sequence[Pair]) -> Finding:
    """Which answerer is better, and by how much."""
    lines = []
    for name, values in metrics.items():
        pair = find(pairs, name, ANSWER_METRIC, "generator", "extractive")
        if pair:
            level = {who: fixed(values["answers"][who][ANSWER_METRIC]) for who in ("generator", "extractive")}
            text = (
                f"On the {set_label(name)} F1 against the references is {level['extractive']} with extractive "
                f"answers, {level['generator']} with the generator: {signed(pair.difference)} "
                f"({signed_span(pair.low, pair.high)})."
            )
            lines.append(Line(text, pair.verdict, pair.decisive))
    return Finding("Answers", tuple(lines))


def abstention(metrics: Mapping[str, Any]) -> Finding:
    """How often the system rightly declines, and rightly does not."""
    lines = []
    for name, values in metrics.items():
        figures = values.get("abstention")
        if figures and figures["n_unanswerable"]:
            refused = figures["refused_unanswerable"]
            answered = figures["answered_answerable"]
            text = (
                f"On the {set_label(name)} it rightly declines {_of(refused, figures['n_unanswerable'])} questions "
                f"that the corpus cannot answer, and answers {_of(answered, figures['n_answerable'])} that it can."
            )
            lines.append(Line(text))
    return Finding("Abstention", tuple(lines or [Line("Not measured: no set has questions without an answer.")]))


def kept(retriever: Mapping[str, Any]) -> Finding:
    """Which encoder the pipeline went on with."""
    return Finding("Encoder kept", (Line(sentence(retriever["reason"])),))


def findings(
    ingest: Mapping[str, Any],
    chunk: Mapping[str, Any],
    questions: Mapping[str, Any],
    retriever: Mapping[str, Any],
    metrics: Mapping[str, Any],
    pairs: Sequence[Pair],
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


def figures(metrics: Mapping[str, Any], intervals: Mapping[str, Any]) -> list[Figure]:
    """The few numbers to take away, each with its interval and n."""
    found = []
    for name, values in metrics.items():
        at = intervals[name]["retrieval"]["hybrid"][RETRIEVAL_METRIC]
        found.append(
            Figure(
                f"{RETRIEVAL_METRIC}, hybrid, {set_label(name)}",
                fixed(values["retrieval"]["hybrid"][RETRIEVAL_METRIC]),
                f"{span(at['low'], at['high'])} · n{NO_BREAK}={NO_BREAK}{count(at['n'])}",
            )
        )
    for name, values in metrics.items():
        scores = {who: value[ANSWER_METRIC] for who, value in values["answers"].items()}
        who = max(scores, key=lambda answerer: scores[answerer])
        at = intervals[name]["answers"][who][ANSWER_METRIC]
        found.append(
            Figure(
                f"answer F1, {who}, {set_label(name)}",
                fixed(scores[who]),
                f"{span(at['low'], at['high'])} · n{NO_BREAK}={NO_BREAK}{count(at['n'])}",
            )
        )
    return found


def _in_points(pair: Pair) -> str:
    return f"{signed(100 * pair.low, 1)} to {signed(100 * pair.high, 1)}"


def _of(share: float | None, total: int) -> str:
    hits = 0 if share is None else round(share * total)
    return f"{count(hits)} of {count(total)} ({percent(share)})"
