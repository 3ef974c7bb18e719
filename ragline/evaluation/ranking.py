"""The usual ranking metrics, for judgements in which every relevant passage is wanted, and some more than others.

`evaluation.retrieval` asks how soon one gold passage comes, as an answer needs one. Here finding a second is worth
something: how well a question is covered, and figures that compare with those of other tools.
"""

import math
from collections.abc import Mapping, Sequence

from ragline.errors import ConfigError, DataError
from ragline.evaluation import retrieval
from ragline.types import Qrels, Run

Grades = Mapping[str, Mapping[str, int]]
"""question_id → passage_id → how relevant, 0 for not at all; passages that are not there count as 0."""


def graded(qrels: Qrels) -> dict[str, dict[str, int]]:
    """Judgements in which every gold passage has grade 1."""
    return {question: dict.fromkeys(sorted(gold), 1) for question, gold in qrels.items()}


def score(run: Run, grades: Grades, depths: Sequence[int] = (1, 5, 10, 20)) -> dict[str, dict[str, float]]:
    """Score every judged question; one that the run does not answer scores 0.

    A passage with a grade above 0 is relevant. With R relevant passages in the judgements:

    - precision@k is the relevant ones among the first k by k, even if fewer were retrieved;
    - recall@k is the relevant ones among the first k by R;
    - ndcg@k sums grade / log2(1 + rank) over the first k, by the same sum in the ideal order;
    - mrr is 1 / rank of the first relevant passage, 0 without one;
    - map is the mean over the R passages of the precision at each one's rank, 0 for one that was not retrieved.

    mrr and map look at the whole run. Equal scores rank by passage_id, where trec_eval prefers the later id and ranx
    the order of the dictionary: with equal scores, and only then, figures may differ from theirs.

    Args:
        run: retrieved passages, at least the deepest of `depths` a question.
        depths: the k, each at least 1.

    Returns:
        metric → question_id → value in [0, 1]; every judged question under every metric, in order of question_id.

    Raises:
        ConfigError: a depth below 1.
        DataError: the run has a question without judgement, a question has nothing relevant, a grade is negative, or a
            score is NaN.

    Source: Järvelin and Kekäläinen 2002 (nDCG, linear gain); Buckley and Voorhees 2005 (the others), as in trec_eval.
    """
    if min(depths, default=1) < 1:
        raise ConfigError(f"ranking: depths must be at least 1, got {list(depths)}; correct the depths")
    if odd := sorted(question for question, given in grades.items() if min(given.values(), default=0) < 0):
        raise DataError(f"qrels: question {odd[0]!r} has a grade below 0, expected 0 or more; correct the judgements")
    relevant = {question: frozenset(p for p, grade in given.items() if grade) for question, given in grades.items()}
    retrieval.check(run, relevant)
    gains = {  # question → grades along the ranking, then those of the ideal one
        question: (
            [grades[question].get(p, 0) for p in retrieval.ranking(question, run.get(question, {}))],
            sorted(grades[question].values(), reverse=True),
        )
        for question in sorted(grades)
    }
    return {
        **{f"precision@{k}": {q: _hits(found, k) / k for q, (found, _) in gains.items()} for k in depths},
        **{f"recall@{k}": {q: _hits(found, k) / len(relevant[q]) for q, (found, _) in gains.items()} for k in depths},
        **{f"ndcg@{k}": {q: _dcg(found, k) / _dcg(ideal, k) for q, (found, ideal) in gains.items()} for k in depths},
        "mrr": {q: _reciprocal_rank(found) for q, (found, _) in gains.items()},
        "map": {q: _average_precision(found, len(relevant[q])) for q, (found, _) in gains.items()},
    }


def _hits(gains: Sequence[int], k: int) -> int:
    return sum(gain > 0 for gain in gains[:k])


def _dcg(gains: Sequence[int], k: int) -> float:
    return sum(gain / math.log2(1 + rank) for rank, gain in enumerate(gains[:k], start=1))


def _reciprocal_rank(gains: Sequence[int]) -> float:
    return next((1 / rank for rank, gain in enumerate(gains, start=1) if gain), 0.0)


def _average_precision(gains: Sequence[int], n_relevant: int) -> float:
    ranks = [rank for rank, gain in enumerate(gains, start=1) if gain]
    return sum(found / rank for found, rank in enumerate(ranks, start=1)) / n_relevant
