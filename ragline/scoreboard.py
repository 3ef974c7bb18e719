"""What metrics.json and comparisons.json hold of the questions that `assessment` has scored."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ragline import qa
from ragline.assessment import Assessed
from ragline.evaluation import answers, gate, goldset, outcomes, retrieval, scorecard, slices
from ragline.types import Qrels, Run

log = logging.getLogger(__name__)

RETRIEVAL_PAIRS = (("tuned", "base"), ("tuned", "bm25"), ("hybrid", "tuned"), ("hybrid", "bm25"))
RERANKED_PAIRS = (("reranked", "hybrid"), ("reranked", "tuned"))
UNSEEN_PAIR = ("tuned", "base")
RETRIEVAL_METRICS = ("recall@1", "recall@5", "mrr@10", "ndcg@10")
CURVE_DEPTH = 20
"""The last k of a recall curve."""
HEADLINE = {
    "retrieval": ("recall@1", "recall@5", "mrr@10"),
    "answers": ("answer_em", "answer_f1", "rouge_l", "groundedness"),
    "selective": ("coverage", "risk"),
}
"""What `dvc metrics diff` shows of each set, on one screen; all of it is in comparisons.json."""
TOLD = ("outcomes", "slices", "slices_too_small", "sensitivity", "risk_coverage", "risk")
"""Where and how a set goes wrong."""


def recall_curves(result: Assessed) -> dict[str, list[float]]:
    """system → mean recall@k over the answerable questions, k = 1 … 20.

    Raises:
        DataError: no question is answerable.
    """
    gold = gate.qrels([q for q in result.questions if q.answerable])
    return {
        system: retrieval.recall_curve(_judged(run, gold), gold, CURVE_DEPTH) for system, run in result.runs.items()
    }


def metrics(result: Assessed) -> dict[str, Any]:
    """Flat means of one set, for metrics.json."""
    tables = {
        "retrieval": scorecard.means(result.retrieval),
        "answers": scorecard.means(result.answers),
        "selective": result.details["selective"],
    }
    counted = {"n": len(result.questions), "n_answerable": sum(q.answerable for q in result.questions)}
    return counted | {
        family: {who: {m: row[m] for m in HEADLINE[family] if m in row} for who, row in table.items()}
        for family, table in tables.items()
    }


def beside(result: Assessed) -> dict[str, Any]:
    """What is too much for metrics.json: figures by kind of question, and other ways to count a hit."""
    return {**result.details, "bleu": {who: round(value, 6) for who, value in result.bleu.items()}}


def abstention(result: Assessed) -> dict[str, float]:
    """How well the system tells what it can answer; {} where all questions can be."""
    if all(q.answerable for q in result.questions):
        return {}
    found = answers.abstention(
        {row["question_id"]: row["abstained"] for row in result.predictions},
        {q.question_id: q.answerable for q in result.questions},
    )
    return {name: round(value, 6) for name, value in found.items()}


def by_document(result: Assessed, gold: goldset.GoldSet) -> dict[str, dict[str, float]]:
    """system → metric → mean, where any passage of a document that answers the question counts."""
    relevant = gold.document_qrels
    return scorecard.means(
        {system: retrieval.score(_judged(run, relevant), relevant) for system, run in result.runs.items()}
    )


def outcome_counts(result: Assessed) -> dict[str, dict[str, int]]:
    """answerer → how a question ended → questions."""
    return {who: outcomes.counts(row[f"{who}_outcome"] for row in result.predictions) for who in result.answers}


def sensitivity(result: Assessed, how: scorecard.Bootstrap) -> dict[str, dict[str, dict[str, Any]]]:
    """answerer → place of the first gold passage among those it read, 0 for none → n, mean, low, high of F1 as written.

    Source: Liu et al. 2023 (arXiv 2307.03172), who found answers worse where the gold passage is in the middle.
    """

    def places(who: str) -> dict[str, str]:
        return {row["question_id"]: str(row[f"{who}_gold_position"]) for row in result.predictions}

    return {
        who: slices.levels(places(who), scores["answer_f1"], result.clusters, how)
        for who, scores in result.answers.items()
    }


def risk(result: Assessed, settings: qa.Settings, how: scorecard.Bootstrap) -> dict[str, Any]:
    """Mean loss of the answers that the system gives, with its interval; {} where it gives none.

    A loss is 1 less F1, and 1 where the corpus has no answer.
    """
    f1 = result.answers[settings.answerer]["answer_f1"]
    given = [row["question_id"] for row in result.predictions if not row["abstained"]]
    losses = {question: 1 - f1.get(question, 0.0) for question in given}
    found = scorecard.intervals({"given": {"risk": losses}}, result.clusters, how)
    return found["given"].get("risk", {})


def sliced(result: Assessed, settings: qa.Settings) -> list[slices.Cut]:
    """The cuts of a set, for search and answers as they are served."""
    place = f"{settings.answerer}_gold_position"
    return slices.cuts(
        [row | {"gold_position": row[place]} for row in result.predictions],
        result.retrieval[result.served]["recall@5"],
        result.answers[settings.answerer]["answer_f1"],
    )


def unseen(name: str, result: Assessed, how: scorecard.Bootstrap) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Retrieval on the questions about documents that training never saw, where a set also asks about others.

    Returns:
        Means with n, and the tuned encoder against its base; both empty where there is nothing to tell apart.
    """
    new = {q.question_id for q in result.questions if q.answerable and q.split != "train"}
    if not new or all(q.split != "train" for q in result.questions):
        return {}, []
    scores = {
        system: {metric: {q: v for q, v in values.items() if q in new} for metric, values in found.items()}
        for system, found in result.retrieval.items()
    }
    pairs = scorecard.comparisons(
        scores,
        [UNSEEN_PAIR],
        ["recall@5", "mrr@10"],
        result.clusters,
        how,
        set=f"{name}-unseen",
        family="retrieval",
    )
    return {"n_answerable": len(new), "retrieval": scorecard.means(scores)}, pairs


def uncertainty(name: str, result: Assessed, how: scorecard.Bootstrap) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Intervals of one set, and its paired comparisons."""
    clusters = result.clusters
    intervals = {
        "retrieval": scorecard.intervals(result.retrieval, clusters, how),
        "answers": scorecard.intervals(result.answers, clusters, how),
    }
    retrieval_pairs = RETRIEVAL_PAIRS + (RERANKED_PAIRS if "reranked" in result.retrieval else ())
    pairs = scorecard.comparisons(
        result.retrieval, retrieval_pairs, RETRIEVAL_METRICS, clusters, how, set=name, family="retrieval"
    ) + scorecard.comparisons(
        result.answers,
        [("generator", "extractive")],
        ["answer_em", "answer_f1", "rouge_l"],
        clusters,
        how,
        set=name,
        family="answers",
    )
    return intervals, pairs


def tables(
    results: Mapping[str, Assessed],
    gold: Mapping[str, goldset.GoldSet],
    settings: qa.Settings,
    how: scorecard.Bootstrap,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What metrics.json and comparisons.json hold: set → headline figures, and all that stands beside them.

    Args:
        results: set → its questions, scored.
        gold: those of the sets that were written by hand.
    """
    found: dict[str, Any] = {}
    more: dict[str, dict[str, Any]] = {family: {} for family in ("intervals", "details", *TOLD)}
    paired: list[dict[str, Any]] = []
    for name, result in results.items():
        found[name], more["details"][name] = metrics(result), beside(result)
        found[name] |= {"abstention": declined} if (declined := abstention(result)) else {}
        more["intervals"][name], compared = uncertainty(name, result, how)
        apart, held_out = unseen(name, result, how)
        if apart:
            found[name]["unseen"] = _headline_unseen(apart)
            more["details"][name]["unseen"] = apart
        if name in gold:
            more["details"][name]["retrieval_document"] = by_document(result, gold[name])
        paired += compared + held_out
        for family, table in _told(result, settings, how).items():
            more[family][name] = table
    method = f"bootstrap-t over document clusters, {how.resamples} resamples; p_holm over all of a set"
    beside_them = {"level": scorecard.LEVEL, "method": method, "intervals": more.pop("intervals")}
    promise = None if settings.rule is None else asdict(settings.rule.promise)
    return found, {**beside_them, "paired": scorecard.corrected(paired), "promise": promise, **more}


def _told(result: Assessed, settings: qa.Settings, how: scorecard.Bootstrap) -> dict[str, Any]:
    cuts = sliced(result, settings)
    found = slices.slices(cuts, result.clusters, how)
    if found and found[0].worse:
        log.info("worst slice: %s", found[0].sentence)
    return {
        "outcomes": outcome_counts(result),
        "slices": [slices.row(part) for part in found],
        "slices_too_small": slices.too_small(cuts),
        "sensitivity": sensitivity(result, how),
        "risk_coverage": result.risk_coverage,
        "risk": risk(result, settings, how),
    }


def _headline_unseen(apart: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "n_answerable": apart["n_answerable"],
        "retrieval": {who: {"recall@5": apart["retrieval"][who]["recall@5"]} for who in UNSEEN_PAIR},
    }


def _judged(run: Run, relevant: Qrels) -> Run:
    return {question: run[question] for question in relevant}
