"""The ways to search and the ways to answer, scored on the same questions.

Stands beside `qa`: it puts retrieval, generation and evaluation together.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ragline import qa
from ragline.errors import ConfigError
from ragline.evaluation import answers, details, gate, goldset, retrieval, scorecard
from ragline.generation.generator import Generator, Written
from ragline.reading import Reading
from ragline.retrieval import fuse, index, lexical, search
from ragline.retrieval.encoder import Encoder
from ragline.types import Hit, Passage, QAExample, Qrels, Run

Fusion = Literal["convex", "rrf"]

log = logging.getLogger(__name__)

ANSWERERS: tuple[qa.Answerer, ...] = ("extractive", "generator")
RETRIEVAL_PAIRS = (("tuned", "base"), ("tuned", "bm25"), ("hybrid", "tuned"), ("hybrid", "bm25"))
RERANKED_PAIRS = (("reranked", "hybrid"), ("reranked", "tuned"))
RETRIEVAL_METRICS = ("recall@1", "recall@5", "mrr@10", "ndcg@10")
TUNED_METRIC = "mrr@10"
REFUSED_ON_DEV = 0.01
"""Share of answerable dev questions that the abstention threshold gives up."""
FEW = 30
"""Dev questions below which no floor is set."""
NEVER = -1.0
"""No cosine is below: the system never declines."""
CURVE_DEPTH = 20
"""The last k of a recall curve."""
SHOWN = 5
"""Passages that a person and the answerers see."""


@dataclass(frozen=True)
class Reranking:
    """A cross-encoder that reads the best passages of hybrid search again."""

    name: str
    fingerprint: str
    rerank: search.Rerank
    depth: int
    """Passages that it reads."""


@dataclass(frozen=True)
class Engines:
    """Everything that can search this corpus.

    Raises:
        ModelError: the lexical index is one of other passages.
    """

    passages: Sequence[Passage]
    bm25: lexical.LexicalIndex
    base: tuple[Encoder, index.Index]
    tuned: tuple[Encoder, index.Index]
    depth: int
    """Passages that every search brings."""
    reranking: Reranking | None = None

    def __post_init__(self) -> None:
        lexical.check(self.bm25, self.passages)

    def runs(self, questions: Sequence[QAExample]) -> dict[str, Run]:
        """BM25, base and tuned search of every question."""
        asked = {q.question_id: q.question for q in questions}
        return {
            "bm25": search.lexical_run(asked, self.bm25, self.passages, self.depth),
            "base": search.dense_run(asked, *self.base, self.passages, self.depth),
            "tuned": search.dense_run(asked, *self.tuned, self.passages, self.depth),
        }

    def fused(self, questions: Sequence[QAExample], runs: Mapping[str, Run], weight: float | None) -> dict[str, Run]:
        """Hybrid search from those runs and, where there is a reranker, what it makes of it; what is served is last."""
        hybrid = fuse.fuse(runs["tuned"], runs["bm25"], weight, self.depth)
        if self.reranking is None:
            return {"hybrid": hybrid}
        asked = {q.question_id: q.question for q in questions}
        passages, again = self.reading.by_id, self.reranking
        return {
            "hybrid": hybrid,
            "reranked": search.reranked_run(asked, hybrid, passages.__getitem__, again.rerank, again.depth),
        }

    @property
    def served(self) -> str:
        """The search that people and answerers get."""
        return "hybrid" if self.reranking is None else "reranked"

    def hits(self, questions: Sequence[QAExample], run: Run) -> list[list[Hit]]:
        """The best passages of a run, for the answerers."""
        return [self.reading.hits(run[q.question_id], SHOWN) for q in questions]

    @cached_property
    def reading(self) -> Reading:
        """What the answerers read around each passage."""
        return Reading(self.passages)


def choose(
    engines: Engines, generator: Generator, dev: Sequence[QAExample], most: int, fusion: Fusion = "convex"
) -> qa.Settings:
    """Choose on dev questions that can be answered: the hybrid weight, the abstention threshold, the better answerer.

    The threshold is what all but 1 % of the answerable dev questions reach: the system refuses what looks unlike
    anything it was shown to answer, and seldom more. Without dev questions it never declines, and extracts.

    Args:
        most: dev questions that both answerers answer.
        fusion: `convex` has its weight chosen here; `rrf`, reciprocal rank fusion, has none.

    Raises:
        ConfigError: `convex`, and no dev questions.
    """
    if not dev:
        return _unchosen(engines, fusion)
    runs = engines.runs(dev)
    weight = None if fusion == "rrf" else _weight(runs, dev, engines.depth)
    threshold = floor([max(runs["tuned"][q.question_id].values(), default=0.0) for q in dev])
    sample = dev[:: max(1, -(-len(dev) // most))]
    hits = engines.hits(sample, engines.fused(sample, _of(runs, sample), weight)[engines.served])
    f1 = {
        name: sum(
            answers.token_f1(written.text, q.answers)
            for q, written in zip(sample, _answers(name, sample, hits, generator, engines), strict=True)
        )
        for name in ANSWERERS
    }
    better: qa.Answerer = "generator" if f1["generator"] > f1["extractive"] else "extractive"
    return _settings(engines, weight, threshold, better)


def floor(confidence: Sequence[float]) -> float:
    """The highest value, rounded down to four decimals, under which at most 1 % of the questions lie.

    Args:
        confidence: best cosine of each answerable dev question; of fewer than `FEW` nothing can be said, and no answer
            is held back.
    """
    if len(confidence) < FEW:
        return NEVER
    return math.floor(1e4 * float(np.quantile(confidence, REFUSED_ON_DEV, method="lower"))) / 1e4


def _weight(runs: Mapping[str, Run], dev: Sequence[QAExample], depth: int) -> float:
    return round(fuse.tune(runs["tuned"], runs["bm25"], depth, lambda run: gate.mean(run, dev, TUNED_METRIC)), 2)


def _of(runs: Mapping[str, Run], questions: Sequence[QAExample]) -> dict[str, Run]:
    """The same runs for some of their questions."""
    return {system: {q: run[q] for q in _ids(questions)} for system, run in runs.items()}


def _unchosen(engines: Engines, fusion: Fusion) -> qa.Settings:
    if fusion == "convex":
        raise ConfigError(
            "evaluate.fusion: convex takes its weight from dev questions that can be answered, got none; "
            "set it to rrf, or add dev questions"
        )
    log.warning("no dev questions that can be answered: the system never declines, and extracts answers")
    return _settings(engines, None, NEVER, "extractive")


def _settings(engines: Engines, weight: float | None, abstain_below: float, answerer: qa.Answerer) -> qa.Settings:
    chosen = qa.Settings(weight, engines.depth, abstain_below, answerer)
    again = engines.reranking
    if again is None:
        return chosen
    return replace(chosen, reranker=again.name, reranker_fingerprint=again.fingerprint, rerank_depth=again.depth)


def _answers(
    name: qa.Answerer,
    questions: Sequence[QAExample],
    hits: Sequence[Sequence[Hit]],
    generator: Generator,
    engines: Engines,
) -> list[Written]:
    return qa.write_answers(name, [q.question for q in questions], hits, generator, engines.tuned[0])


@dataclass(frozen=True)
class Assessed:
    """One set of questions, searched, answered and scored."""

    questions: Sequence[QAExample]
    runs: dict[str, Run]
    retrieval: dict[str, dict[str, dict[str, float]]]
    """system → metric → question_id → value, answerable questions alone."""
    answers: dict[str, dict[str, dict[str, float]]]
    """answerer → metric → question_id → value, answerable questions alone."""
    bleu: dict[str, float]
    predictions: list[dict[str, Any]]
    """One row a question, for the report; `abstained` where the answerer chosen on dev speaks."""
    details: dict[str, Any]
    """Tables beside the headline figures, as `evaluation.details` gives them."""

    @property
    def clusters(self) -> dict[str, str]:
        """question_id → document cluster."""
        return {q.question_id: q.cluster for q in self.questions}


def assess(
    name: str, questions: Sequence[QAExample], engines: Engines, generator: Generator, settings: qa.Settings
) -> Assessed:
    """Search and answer every question, score those that can be answered.

    Answers are scored as they are written, whether or not the system would have abstained.
    """
    runs = engines.runs(questions)
    runs |= engines.fused(questions, runs, settings.hybrid_weight)
    answerable = [q for q in questions if q.answerable]
    gold = gate.qrels(answerable)
    places = {question: frozenset(engines.reading.places(passages)) for question, passages in gold.items()}
    scores = {system: retrieval.score(_judged(run, gold), gold) for system, run in runs.items()}
    ranks = {system: retrieval.ranks(_judged(run, gold), gold, engines.depth) for system, run in runs.items()}
    hits = engines.hits(questions, runs[engines.served])
    said = {
        a: dict(zip(_ids(questions), _answers(a, questions, hits, generator, engines), strict=True)) for a in ANSWERERS
    }
    references = {q.question_id: q.answers for q in answerable}
    scored: dict[str, dict[str, dict[str, float]]] = {}
    bleu: dict[str, float] = {}
    for answerer, given in said.items():
        texts = {question: given[question].text for question in references}
        scored[answerer] = dict(answers.score(texts, references))
        cited = {
            question: engines.reading.places(hit.passage.passage_id for hit in given[question].cited)
            for question in references
        }
        scored[answerer]["citation_precision"] = answers.citation_precision(cited, places)
        bleu[answerer] = answers.corpus_bleu(list(texts.values()), list(references.values()))
    confidence = {q.question_id: max(runs["tuned"][q.question_id].values(), default=0.0) for q in questions}
    quiet = {
        str(answerer): {
            question: qa.abstains(written, confidence[question], settings.abstain_below)
            for question, written in given.items()
        }
        for answerer, given in said.items()
    }
    given_by = {
        str(answerer): {question: (written.text, written.cited) for question, written in given.items()}
        for answerer, given in said.items()
    }
    outcome = details.Outcome(questions, runs, given_by, confidence, quiet, passages=engines.reading.by_id)
    for who, more in details.citation_scores(outcome).items():
        scored[who] |= more
    predictions = [
        {
            "set": name,
            "question_id": q.question_id,
            "question": q.question,
            "kind": q.kind,
            "cluster": q.cluster,
            "answerable": q.answerable,
            "answers": list(q.answers),
            "gold_passage_ids": list(q.gold_passage_ids),
            **{f"rank_{system}": ranks[system].get(q.question_id, 0) for system in runs},
            "retrieved_ids": [hit.passage.passage_id for hit in shown],
            "retrieved_scores": [round(hit.score, 6) for hit in shown],
            "retrieved_gold": [
                engines.reading.place(hit.passage.passage_id) in places.get(q.question_id, ()) for hit in shown
            ],
            **{
                f"{answerer}_{field}": value
                for answerer in ANSWERERS
                for field, value in _row(q, said[answerer][q.question_id], scored[answerer]).items()
            },
            "confidence": round(confidence[q.question_id], 6),
            "abstained": quiet[settings.answerer][q.question_id],
        }
        for q, shown in zip(questions, hits, strict=True)
    ]
    return Assessed(questions, runs, scores, scored, bleu, predictions, details.figures(outcome))


def _ids(questions: Sequence[QAExample]) -> list[str]:
    return [q.question_id for q in questions]


def _judged(run: Run, gold: Qrels) -> Run:
    return {question: run[question] for question in gold}


def _row(q: QAExample, given: Written, scores: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    return {
        "answer": given.text,
        "cited": [hit.passage.passage_id for hit in given.cited],
        "failed": given.failed,
        "em": round(scores["answer_em"].get(q.question_id, 0.0), 6),
        "f1": round(scores["answer_f1"].get(q.question_id, 0.0), 6),
    }


def recall_curves(result: Assessed) -> dict[str, list[float]]:
    """system → mean recall@k over the answerable questions, k = 1 … 20.

    Raises:
        DataError: no question is answerable.
    """
    gold = gate.qrels([q for q in result.questions if q.answerable])
    return {
        system: retrieval.recall_curve(_judged(run, gold), gold, CURVE_DEPTH) for system, run in result.runs.items()
    }


HEADLINE = ("selective", "answer_words")
"""Of the details, what `dvc metrics diff` should show; the rest is in comparisons.json."""


def metrics(result: Assessed) -> dict[str, Any]:
    """Flat means of one set, for metrics.json."""
    found = scorecard.means(result.answers)
    for answerer, value in result.bleu.items():
        found[answerer]["bleu"] = round(value, 6)
    answerable = sum(q.answerable for q in result.questions)
    table = {"n": len(result.questions), "n_answerable": answerable}
    headline = {name: result.details[name] for name in HEADLINE if name in result.details}
    return {**table, "retrieval": scorecard.means(result.retrieval), "answers": found, **headline}


def beside(result: Assessed) -> dict[str, Any]:
    """What is too much for metrics.json: figures by kind of question, and other ways to count a hit."""
    return {name: table for name, table in result.details.items() if name not in HEADLINE}


def gold_metrics(result: Assessed, gold: goldset.GoldSet) -> dict[str, Any]:
    """What only a gold set has: a looser retrieval figure, and abstention where some questions have no answer."""
    relevant = gold.document_qrels
    loose = {system: retrieval.score(_judged(run, relevant), relevant) for system, run in result.runs.items()}
    found: dict[str, Any] = {"retrieval_document": scorecard.means(loose)}
    if 0 < sum(q.answerable for q in result.questions) < len(result.questions):
        found["abstention"] = answers.abstention(
            {row["question_id"]: row["abstained"] for row in result.predictions},
            {q.question_id: q.answerable for q in result.questions},
        )
    return found


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
        [("tuned", "base")],
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
