"""What stands beside the headline figures of a set: other ways to count a hit, kinds of question, and trust."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from ragline.evaluation import answers, calibration, citations, ranking, retrieval, scorecard
from ragline.types import Hit, Passage, QAExample, Qrels, Run

KIND_METRICS = ("recall@1", "recall@5", "mrr@10")
ALL_GOLD_DEPTHS = (5, 10, 20)
_NOT_OF_A_WORD = re.compile(r"[\W_]+")
POINTS = 50
"""Of a risk-coverage curve, at most."""


@dataclass(frozen=True)
class Answered:
    """One set of questions, searched and answered; the functions here need nothing else."""

    questions: Sequence[QAExample]
    runs: Mapping[str, Run]
    """system → run over the questions."""
    said: Mapping[str, Mapping[str, tuple[str, Sequence[Hit]]]]
    """answerer → question_id → answer and citations, for every question."""
    confidence: Mapping[str, Mapping[str, float]]
    """answerer → question_id → how sure the system is where this one answers, higher is surer."""
    abstained: Mapping[str, Mapping[str, bool]]
    """answerer → question_id → whether the system keeps quiet where this one answers."""
    f1: Mapping[str, Mapping[str, float]]
    """answerer → question_id → F1 of the answer, answerable questions alone."""
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

    def losses(self, answerer: str) -> dict[str, float]:
        """question_id → 1 less F1; 1 where an answer is given to what has none."""
        return {q.question_id: 1 - self.f1[answerer][q.question_id] if q.answerable else 1.0 for q in self.questions}


def groundedness(asked: Answered) -> dict[str, dict[str, float]]:
    """answerer → question_id → share of the answer's words that its cited passages say; every answer of any words."""
    return {
        answerer: citations.groundedness(
            {question: text for question, (text, _) in given.items()},
            {question: [hit.passage.encoded_text for hit in hits] for question, (_, hits) in given.items()},
        )
        for answerer, given in asked.said.items()
    }


def citation_recall(asked: Answered) -> dict[str, dict[str, float]]:
    """answerer → question_id → share of the gold span that the cited passages hold, answerable questions alone."""
    places = {q.question_id: citations.gold_places(q, asked.passages) for q in asked.answerable}
    return {
        answerer: citations.recall(
            {question: [hit.passage for hit in given[question][1]] for question in places}, places
        )
        for answerer, given in asked.said.items()
    }


def risk_coverage(asked: Answered) -> dict[str, list[tuple[float, float]]]:
    """answerer → at most `POINTS` points (share answered, mean loss of those), evenly spread, the last of all answers.

    {} for a set without questions.
    """
    if not asked.questions:
        return {}
    found = {}
    for answerer in asked.said:
        points = calibration.risk_coverage(asked.confidence[answerer], asked.losses(answerer))
        wanted = min(POINTS, len(points))
        kept = [points[(at + 1) * len(points) // wanted - 1] for at in range(wanted)]
        found[answerer] = [(round(point.coverage, 6), round(point.risk, 6)) for point in kept]
    return found


def figures(asked: Answered) -> dict[str, Any]:
    """Tables beside the headline figures, each of six decimals; {} for a set without questions.

    Returns:
        retrieval_repeats: as `retrieval`, where a passage that repeats a gold one word for word counts, too.
        retrieval_all_gold: the usual metrics, for which every gold passage is wanted.
        kinds: kind → n, and some metrics of both ways to count.
        selective: answerer → what is answered, what is wrong about it, and what the confidence is worth.
        answer_words: answerer → how long the answers are.
    """
    if not asked.questions:
        return {}
    strict = _by_system(asked, asked.gold)
    with_repeats = _repeated(asked)
    repeats = _by_system(asked, with_repeats)
    every = ranking.graded(asked.gold)
    all_gold = {system: ranking.score(run, every, ALL_GOLD_DEPTHS) for system, run in asked.judged.items()}
    said = {
        answerer: {question: text for question, (text, _) in given.items()} for answerer, given in asked.said.items()
    }
    return {
        "retrieval_repeats": scorecard.means(repeats),
        "retrieval_all_gold": scorecard.means(all_gold),
        "kinds": _kinds(asked, strict, repeats),
        "selective": {answerer: _rounded(_selective(asked, answerer)) for answerer in said},
        "answer_words": {answerer: _rounded(answers.lengths(texts)) for answerer, texts in said.items()},
    }


def _by_system(asked: Answered, gold: Qrels) -> scorecard.Scores:
    return {system: retrieval.score(run, gold) for system, run in asked.judged.items()}


def _repeated(asked: Answered) -> Qrels:
    """Gold passages, and those of any run that repeat one of them, as `retrieval.with_repeats`.

    A passage that says all words of another says all of its letters, too, which is found out a hundred times faster
    than its words are.
    """

    @cache
    def letters(passage_id: str) -> str:
        return _NOT_OF_A_WORD.sub("", asked.passages[passage_id].text).casefold()

    near = {
        question: {
            passage: 0.0
            for run in asked.judged.values()
            for passage in run.get(question, ())
            if any(letters(one) in letters(passage) for one in gold)
        }
        for question, gold in asked.gold.items()
    }
    return retrieval.with_repeats(asked.gold, near, lambda passage: asked.passages[passage].text)


def _kinds(asked: Answered, strict: scorecard.Scores, repeats: scorecard.Scores) -> dict[str, Any]:
    members: dict[str, list[str]] = {}
    for question in asked.answerable:
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


def _selective(asked: Answered, answerer: str) -> dict[str, float]:
    losses = asked.losses(answerer)
    answerable = {q.question_id: q.answerable for q in asked.questions}
    sure = asked.confidence[answerer]
    return {
        **calibration.operating_point(asked.abstained[answerer], answerable, losses),
        "aurc": calibration.aurc(sure, losses),
        "excess_aurc": calibration.excess_aurc(sure, losses),
        "calibration_error": calibration.calibration_error(sure, losses),
    }


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}
