"""Ranking metrics, one value for each question: means, intervals and paired tests all use the same table.

The gold passages of a question are alternatives. Windows overlap and documents repeat each other, so any one of them
answers the question, and finding a second one is worth nothing: everything here follows from the rank of the first.

Passages rank by falling score; equal scores rank by passage_id, so that no figure hangs on the order of a dictionary.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from ragline.errors import ConfigError, DataError
from ragline.text import word_tokens
from ragline.types import Qrels, Run

CUTOFF = 10
"""How many ranks mrr@10 and ndcg@10 look at."""

LEAST_REPEATED_WORDS = 5
"""Fewer words stand within other passages by chance."""


def score(run: Run, qrels: Qrels, depths: Sequence[int] = (1, 5, 10, 20)) -> dict[str, dict[str, float]]:
    """Score every judged question; one that the run does not answer scores 0.

    With r the rank of the first gold passage:

    - recall@k is 1 if r <= k (with one gold span, the share of gold spans found);
    - mrr@10 is 1 / r if r <= 10;
    - ndcg@10 is 1 / log2(1 + r) if r <= 10: a single gain of 1, which the ideal order puts first.

    All are 0 otherwise. With one gold passage a question these are the usual definitions.

    Args:
        run: retrieved passages, at least max(10, *depths) a question, or the deep figures come out too low.
        qrels: gold passages, at least one a question.
        depths: the k of recall@k, each at least 1.

    Returns:
        metric → question_id → value in [0, 1]; every judged question under every metric, in order of question_id.

    Raises:
        ConfigError: a depth below 1.
        DataError: the run has a question without judgement, a question has no gold passage, or a score is NaN.

    Source: Voorhees 1999 (reciprocal rank); Järvelin and Kekäläinen 2002 (nDCG).
    """
    if min(depths, default=1) < 1:
        raise ConfigError(f"retrieval: recall depths must be at least 1, got {list(depths)}; correct the depths")
    first = ranks(run, qrels, max([CUTOFF, *depths]))
    near = {question: rank if rank <= CUTOFF else 0 for question, rank in first.items()}
    return {
        **{f"recall@{k}": {question: float(0 < rank <= k) for question, rank in first.items()} for k in depths},
        f"mrr@{CUTOFF}": {question: 1 / rank if rank else 0.0 for question, rank in near.items()},
        f"ndcg@{CUTOFF}": {question: 1 / math.log2(1 + rank) if rank else 0.0 for question, rank in near.items()},
    }


def ranks(run: Run, qrels: Qrels, depth: int) -> dict[str, int]:
    """Rank of the first gold passage of every judged question.

    Returns:
        question_id → rank from 1; 0 if no gold passage is among the first `depth`. In order of question_id.

    Raises:
        ConfigError: `depth` below 1.
        DataError: as for `score`.
    """
    if depth < 1:
        raise ConfigError(f"retrieval: depth must be at least 1, got {depth}; correct the depth")
    check(run, qrels)
    return {
        question: _first(ranking(question, run.get(question, {}))[:depth], qrels[question])
        for question in sorted(qrels)
    }


def check(run: Run, qrels: Qrels) -> None:
    """Refuse a run that its judgements do not fit.

    Raises:
        DataError: the run has a question without judgement, or a question has no gold passage.
    """
    if stray := sorted(run.keys() - qrels.keys()):
        raise DataError(
            f"run: {len(stray)} of {len(run)} questions have no judgement, first {stray[:3]}; "
            f"expected only judged questions; score the run against its own qrels"
        )
    if empty := sorted(question for question, gold in qrels.items() if not gold):
        raise DataError(
            f"qrels: {len(empty)} of {len(qrels)} questions have no gold passage, first {empty[:3]}; "
            f"expected at least one each; leave out questions that the corpus cannot answer"
        )


def recall_curve(run: Run, qrels: Qrels, depth: int) -> list[float]:
    """Mean recall@k over the judged questions for k = 1 … depth; never falls.

    Raises:
        ConfigError: `depth` below 1.
        DataError: no judged question, or as for `score`.
    """
    first = ranks(run, qrels, depth)
    if not first:
        raise DataError("qrels: no judged question, expected at least one; check the question files")
    return [sum(0 < rank <= k for rank in first.values()) / len(first) for k in range(1, depth + 1)]


def with_repeats(qrels: Qrels, run: Run, text: Callable[[str], str]) -> dict[str, frozenset[str]]:
    """Gold passages, and those of the run that repeat one of them word for word.

    A corpus that says something twice holds the answer twice, but a gold label names one place: strictly, the other
    one is a miss. Here a passage counts that holds all words of a gold passage, in order and without a gap, whatever
    the case and the punctuation; it may say more, unless the gold passage has fewer than five words. Scores against
    these are never below the strict ones.

    Args:
        qrels: gold passages.
        run: only its passages are looked at, so the cost grows with the run and not with the corpus.
        text: passage_id → text, of every passage of both.
    """
    found = {}
    for question, gold in qrels.items():
        said = [word_tokens(text(passage)) for passage in sorted(gold)]
        other = {p: word_tokens(text(p)) for p in run.get(question, {}) if p not in gold}
        found[question] = gold | {p for p, words in other.items() if any(_repeats(words, once) for once in said)}
    return found


def _repeats(words: Sequence[str], once: Sequence[str]) -> bool:
    if len(once) < LEAST_REPEATED_WORDS:
        return bool(once) and words == once
    return f" {' '.join(once)} " in f" {' '.join(words)} "


def ranking(question: str, scores: Mapping[str, float]) -> list[str]:
    """Passages of one question, best first; equal scores by passage_id.

    Raises:
        DataError: a score is NaN.
    """
    if any(math.isnan(value) for value in scores.values()):
        raise DataError(f"run: question {question!r} has a score that is NaN, expected numbers; run retrieval again")
    return sorted(scores, key=lambda passage: (-scores[passage], passage))


def _first(ranking: Iterable[str], gold: frozenset[str]) -> int:
    return next((rank for rank, passage in enumerate(ranking, start=1) if passage in gold), 0)
