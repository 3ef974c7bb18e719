"""Puts the page together."""

import base64
import hashlib

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ragline.reporting import evidence, explorer, failures, formats, summary, tables
from ragline.reporting.comparisons import label, read_pairs, read_runs, served_label, set_label
from ragline.reporting.inputs import Inputs

Facts = dict[str, str]
"""Rows of a card: what, and its value."""


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
        p_value=formats.p_value,
        plural=formats.plural,
        clip=formats.clip,
        capital=formats.capital,
        label=label,
        set_label=set_label,
        served_label=served_label,
        outcome_label=failures.outcome_label,
    )
    # As it is, without the template engine: the policy names its digest, so not a byte may differ.
    script = PackageLoader("ragline.reporting").get_source(environment, "explorer.js")[0]
    pairs = read_pairs(inputs.comparisons["paired"])
    served = inputs.answering["answerer"]
    search = failures.served_search(inputs.systems)
    runs = read_runs(inputs.runs)
    missing = summary.not_compared(inputs.not_compared)
    view = {
        "script": Markup(script),
        "script_digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "verdict": summary.verdict(runs, missing),
        "runs": runs,
        "since": summary.since_all(runs),
        "nothing_new": not any(run.moved for run in runs),
        "figures": summary.figures(inputs.metrics, inputs.comparisons["intervals"], search, served),
        "failing": summary.failing(inputs.predictions, inputs.comparisons, served),
        "warnings": missing
        + summary.warnings(inputs.ingest, inputs.questions, inputs.metrics, inputs.comparisons, pairs),
        "findings": summary.findings(
            inputs.ingest, inputs.chunk, inputs.questions, inputs.retriever, inputs.metrics, pairs
        ),
        "evidence": evidence.view(inputs),
        "explorer": explorer.view(inputs.explored, inputs.passages, inputs.systems, served),
        "failures": failures.groups(inputs.failures, inputs.predictions, inputs.passages, served, inputs.systems),
        "cards": {
            "Retriever": retriever_card(inputs),
            "Generator": generator_card(inputs),
            "Search and answers": answering_card(inputs),
        },
    }
    return environment.get_template("page.html.j2").render(inputs=inputs, view=view)


def retriever_card(inputs: Inputs) -> Facts:
    """What the encoder is, what it learnt from, and what dev said of it."""
    facts = inputs.retriever
    towers = "questions alone" if facts["towers"] == "question" else "questions and passages"
    return {
        "Base": facts["base_model"],
        "Method": f"{facts['method']}, tuned for {towers}",
        "Trained on": f"{formats.plural(facts['pairs'], 'pair')} of question and passage, "
        f"{formats.plural(facts['steps'], 'step')}, {formats.plural(facts['negatives']['mined'], 'hard negative')}",
        "Kept": facts["kept"],
        "Verdict of dev": formats.sentence(facts["reason"]),
    }


def generator_card(inputs: Inputs) -> Facts:
    """What the generator is and what it learnt from; one behind an endpoint learns nothing."""
    facts = inputs.generator
    card = {
        "Base": facts["base_model"],
        "Method": facts["method"],
        "Reads": formats.plural(facts["passages"], "passage"),
    }
    if not facts["steps"]:
        return card
    return card | {
        "Trained on": f"{formats.plural(facts['examples'], 'example')}, {formats.plural(facts['steps'], 'step')}",
        "Parameters": f"{formats.count(facts['parameters'])}, {formats.count(facts['trained_parameters'])} tuned",
        "Best dev loss": formats.fixed(facts["dev_loss"]),
    }


def answering_card(inputs: Inputs) -> Facts:
    """How a question is answered by default; all of it chosen on dev."""
    facts = inputs.answering
    weight = facts["hybrid_weight"]
    mixed = "by rank" if weight is None else f"{formats.fixed(weight, 2)} and {formats.fixed(1 - weight, 2)}"
    card = {"Hybrid search": f"vectors and BM25, {mixed}"}
    if facts["reranker"]:
        card["Reranker"] = f"{facts['reranker']}, reads the first {formats.count(facts['rerank_depth'])}"
    return card | {
        "Answers": facts["answerer"],
        "Declines": f"where confidence is below {formats.fixed(tables.answer_from(facts))}",
    }
