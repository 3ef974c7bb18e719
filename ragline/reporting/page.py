"""Puts the page together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ragline.reporting import charts, failures, formats, summary, tables
from ragline.reporting.comparisons import Pair, colour, label, read_pairs, set_label
from ragline.types import Passage

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Inputs:
    """Everything the page is a function of: plain data, as the stages wrote it."""

    title: str
    params_text: str
    """params.yaml as it stands."""
    ingest: Json
    chunk: Json
    questions: Json
    """The counts of these three stages."""
    retriever: Json
    retriever_curve: Sequence[Mapping[str, str]]
    """Rows of step, loss, dev_mrr@10; cells may be empty."""
    generator: Json
    generator_curve: Sequence[Mapping[str, str]]
    """Rows of step, loss, dev_loss; cells may be empty."""
    answering: Json
    metrics: Json
    comparisons: Json
    predictions: Sequence[failures.Prediction]
    failures: Sequence[failures.Failure]
    passages: Mapping[str, Passage]
    """The passages that the failures name."""
    timings: Mapping[str, Json | None]
    """Stage → seconds and peak_mb, None where it was not measured."""
    python: str
    versions: Mapping[str, str]


def render(inputs: Inputs) -> str:
    """The whole page as HTML; it loads nothing and depends on nothing but `inputs`."""
    environment = Environment(
        loader=PackageLoader("ragline.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=formats.clean,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        fixed=formats.fixed,
        signed=formats.signed,
        signed_span=formats.signed_span,
        count=formats.count,
        seconds=formats.seconds,
        sentence=formats.sentence,
        memory=formats.memory,
        label=label,
        set_label=set_label,
    )
    pairs = read_pairs(inputs.comparisons["paired"])
    view = {
        "findings": summary.findings(
            inputs.ingest, inputs.chunk, inputs.questions, inputs.retriever, inputs.metrics, pairs
        ),
        "figures": summary.figures(inputs.metrics, inputs.comparisons["intervals"]),
        "sets": [_set_view(inputs, name, pairs) for name in inputs.metrics],
        "n_pairs": len(pairs),
        "n_decisive": sum(pair.decisive for pair in pairs),
        "training": _training(inputs),
        "failures": _failures(inputs),
        "seconds_total": sum(t["seconds"] for t in inputs.timings.values() if t),
        "peak_mb": max((t["peak_mb"] for t in inputs.timings.values() if t), default=None),
        "n_timed": sum(t is not None for t in inputs.timings.values()),
    }
    return environment.get_template("page.html.j2").render(inputs=inputs, **view)


def _set_view(inputs: Inputs, name: str, pairs: Sequence[Pair]) -> dict[str, Any]:
    metrics, intervals = inputs.metrics[name], inputs.comparisons["intervals"][name]
    rows = [row for row in inputs.predictions if row["set"] == name]
    systems = list(metrics["retrieval"])
    depth = max(int(metric.split("@")[1]) for metric in metrics["retrieval"][systems[0]] if "recall@" in metric)
    title = f"Recall by number of passages, {set_label(name)}"
    return {
        "name": name,
        "n": metrics["n"],
        "n_answerable": sum(row["answerable"] for row in rows),
        "retrieval": tables.levels(metrics["retrieval"], intervals["retrieval"]),
        "document": tables.levels(metrics["retrieval_document"], intervals.get("retrieval_document", {}))
        if "retrieval_document" in metrics
        else None,
        "retrieval_forests": tables.forests(pairs, name, "retrieval"),
        "recall_chart": charts.line_chart(tables.recall_lines(rows, systems, depth), title, "passages (k)", "recall@k"),
        "answers": tables.levels(metrics["answers"], intervals["answers"]),
        "answer_forests": tables.forests(pairs, name, "answers"),
        "abstention": metrics.get("abstention"),
        "kinds": tables.by_kind(rows),
        "distributions": tables.distributions(rows, inputs.answering["abstain_below"]),
    }


def _training(inputs: Inputs) -> dict[str, Any]:
    retriever, generator = inputs.retriever_curve, inputs.generator_curve
    dev = tables.curve(retriever, "dev_mrr@10")
    dev_loss = charts.Series("dev", tables.curve(generator, "dev_loss"), 0)
    return {
        "retriever_loss": tables.training_chart(
            tables.curve(retriever, "loss"), "tuned", [], "Retriever: loss by step"
        ),
        "retriever_dev": charts.line_chart(
            [charts.Series("tuned", dev, colour("tuned"))], "Retriever: dev mrr@10 by step", "step", "mrr@10"
        )
        if dev
        else formats.NONE,
        "generator_loss": tables.training_chart(
            tables.curve(generator, "loss"), "generator", [dev_loss], "Generator: loss by step, training and dev"
        ),
    }


def _failures(inputs: Inputs) -> list[dict[str, Any]]:
    """Groups of the chosen failures by set and reason, with how many there are in all."""
    groups: dict[tuple[str, str], list[failures.ShownFailure]] = {}
    for failure in inputs.failures:
        key = failure.prediction["set"], failure.why
        systems = list(inputs.metrics[key[0]]["retrieval"])
        groups.setdefault(key, []).append(failures.show(failure, inputs.passages, systems))
    totals = {
        name: failures.sort_out(row for row in inputs.predictions if row["set"] == name) for name in inputs.metrics
    }
    return [
        {"set": name, "why": why, "total": len(totals[name][why]), "shown": shown}
        for (name, why), shown in groups.items()
    ]
