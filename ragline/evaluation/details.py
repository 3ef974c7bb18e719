"""What stands beside the headline figures of a set: other ways to count a hit, kinds of question, and trust."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ragline.evaluation import answers, calibration, citations, ranking, retrieval, scorecard
from ragline.types import Hit, Passage, QAExample, Qrels, Run

KIND_METRICS = ("recall@1", "recall@5", "mrr@10")
ALL_GOLD_DEPTHS = (5, 10, 20)


@dataclass(frozen=True)
class Outcome:
    """One set of questions, searched and answered; the functions here need nothing else."""

    questions: Sequence[QAExample]
    runs: Mapping[str, Run]
    """system → run over the questions."""
    said: Mapping[str, Mapping[str, tuple[str, Sequence[Hit]]]]
    """answerer → question_id → answer and citations, for every question."""
    confidence: Mapping[str, float]
    """question_id → how sure retrieval is, higher is surer."""
    abstained: Mapping[str, Mapping[str, bool]]
    """answerer → question_id → whether the system keeps quiet where this one answers."""
    passages: Mapping[str, Passage]
    """passage_id → passage, at least those of the runs and of the gold."""

    @cached_property
    def answerable(self) -> list[QAExample]:
        """The questions that the corpus can answer."""
        return [q for q in self.questions if q.answerable]

    @cached_property
    def gold(self) -> Qrels:
        """Gold passages of the answerable questions."""
        return {q.question_id: frozenset(q.gold_passage_ids) for q in self.answerable}

    @cached_property
    def judged(self) -> dict[str, Run]:
        """The runs, answerable questions alone."""
        return {
            system: {question: run[question] for question in self.gold if question in run}
            for system, run in self.runs.items()
        }


def citation_scores(outcome: Outcome) -> dict[str, dict[str, dict[str, float]]]:
    """answerer → citation_recall, groundedness → question_id → value, answerable questions alone."""
    places = {q.question_id: citations.gold_places(q, outcome.passages) for q in outcome.answerable}
    found = {}
    for answerer, given in outcome.said.items():
        cited = {question: [hit.passage for hit in given[question][1]] for question in places}
        texts = {question: [passage.encoded_text for passage in passages] for question, passages in cited.items()}
        found[answerer] = {
            "citation_recall": citations.recall(cited, places),
            "groundedness": citations.groundedness({q: given[q][0] for q in places}, texts),
        }
    return found


def figures(outcome: Outcome) -> dict[str, Any]:
    """Tables for metrics.json, each of six decimals; {} for a set without questions.

    Returns:
        retrieval_repeats: as `retrieval`, where a passage that repeats a gold one word for word counts, too.
        retrieval_all_gold: the usual metrics, for which every gold passage is wanted.
        kinds: kind → n, and some metrics of both ways to count.
        selective: answerer → what is answered, what is wrong about it, and what the confidence is worth.
        answer_words: answerer → how long the answers are.
    """
    if not outcome.questions:
        return {}
    strict = _by_system(outcome, lambda _: outcome.gold)
    repeats = _by_system(
        outcome, lambda run: retrieval.with_repeats(outcome.gold, run, lambda p: outcome.passages[p].text)
    )
    every = ranking.graded(outcome.gold)
    all_gold = {system: ranking.score(run, every, ALL_GOLD_DEPTHS) for system, run in outcome.judged.items()}
    said = {
        answerer: {question: text for question, (text, _) in given.items()} for answerer, given in outcome.said.items()
    }
    return {
        "retrieval_repeats": scorecard.means(repeats),
        "retrieval_all_gold": scorecard.means(all_gold),
        "kinds": _kinds(outcome, strict, repeats),
        "selective": {answerer: _rounded(_selective(outcome, answerer, texts)) for answerer, texts in said.items()},
        "answer_words": {answerer: _rounded(answers.lengths(texts)) for answerer, texts in said.items()},
    }


def _by_system(outcome: Outcome, gold: Callable[[Run], Qrels]) -> scorecard.Scores:
    return {system: retrieval.score(run, gold(run)) for system, run in outcome.judged.items()}


def _kinds(outcome: Outcome, strict: scorecard.Scores, repeats: scorecard.Scores) -> dict[str, Any]:
    members: dict[str, list[str]] = {}
    for question in outcome.answerable:
        members.setdefault(question.kind, []).append(question.question_id)
    return {
        kind: {
            "n": len(members[kind]),
            "retrieval": scorecard.means(_part(strict, members[kind])),
            "retrieval_repeats": scorecard.means(_part(repeats, members[kind])),
        }
        for kind in sorted(members)
    }


def _part(scores: scorecard.Scores, questions: Sequence[str]) -> scorecard.Scores:
    return {
        system: {metric: {question: metrics[metric][question] for question in questions} for metric in KIND_METRICS}
        for system, metrics in scores.items()
    }


def _selective(outcome: Outcome, answerer: str, texts: Mapping[str, str]) -> dict[str, float]:
    losses = {
        q.question_id: 1 - answers.token_f1(texts[q.question_id], q.answers) if q.answerable else 1.0
        for q in outcome.questions
    }
    answerable = {q.question_id: q.answerable for q in outcome.questions}
    return {
        **calibration.operating_point(outcome.abstained[answerer], answerable, losses),
        "aurc": calibration.aurc(outcome.confidence, losses),
        "excess_aurc": calibration.excess_aurc(outcome.confidence, losses),
        "calibration_error": calibration.calibration_error(outcome.confidence, losses),
    }


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}
