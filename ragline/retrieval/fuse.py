"""Hybrid search: dense and lexical scores put together."""

from collections.abc import Callable, Mapping, Sequence

from ragline.types import Run

STEPS = 20
RRF_CONSTANT = 60
"""Of the paper: how much the first ranks stand out from the rest, less the larger it is."""


def normalise(scores: Mapping[str, float]) -> dict[str, float]:
    """Stretch one question's scores to [0, 1]; a single score, or equal ones, become 1.

    Min-max over what was retrieved: the last passage of a list counts as much as one that is not in it. Cosines and
    BM25 scores have no common scale, and BM25's top depends on the question's length, so each list is its own scale.
    """
    if not scores:
        return {}
    low, high = min(scores.values()), max(scores.values())
    if high == low:
        return dict.fromkeys(scores, 1.0)
    return {passage: (score - low) / (high - low) for passage, score in scores.items()}


def convex(dense: Run, lexical: Run, weight: float, k: int) -> dict[str, dict[str, float]]:
    """weight · dense + (1 - weight) · lexical after min-max, a passage missing from a list counting 0 there.

    Returns:
        For every question of either run its k best passages, best first, ties by passage_id.

    Source: Bruch, Gai, Ingber: An Analysis of Fusion Functions for Hybrid Retrieval, TOIS 2023.
    """
    fused = {}
    for question in dict.fromkeys([*dense, *lexical]):
        a, b = normalise(dense.get(question, {})), normalise(lexical.get(question, {}))
        scores = {p: weight * a.get(p, 0.0) + (1 - weight) * b.get(p, 0.0) for p in a.keys() | b.keys()}
        fused[question] = _best(scores, k)
    return fused


def reciprocal_rank(runs: Sequence[Run], k: int, constant: int = RRF_CONSTANT) -> dict[str, dict[str, float]]:
    """Σ 1 / (constant + rank) over the runs that hold a passage; ranks from 1, ties by passage_id.

    Needs no dev questions, as it sees ranks alone.

    Returns:
        For every question of any run its k best passages, best first, ties by passage_id.

    Source: Cormack, Clarke, Büttcher: Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
    Methods, SIGIR 2009; its constant is 60.
    """
    fused = {}
    for question in dict.fromkeys(question for run in runs for question in run):
        scores: dict[str, float] = {}
        for run in runs:
            ranked = _best(run.get(question, {}), None)
            for rank, passage in enumerate(ranked, start=1):
                scores[passage] = scores.get(passage, 0.0) + 1 / (constant + rank)
        fused[question] = _best(scores, k)
    return fused


def fuse(dense: Run, lexical: Run, weight: float | None, k: int) -> dict[str, dict[str, float]]:
    """Put two runs together: by `convex` with a weight tuned on dev, by `reciprocal_rank` where there is none."""
    return reciprocal_rank([dense, lexical], k) if weight is None else convex(dense, lexical, weight, k)


def tune(dense: Run, lexical: Run, k: int, score: Callable[[Run], float]) -> float:
    """The weight on a grid of 0.05 that scores best; among equals the one nearest to an even mix."""
    weights = [step / STEPS for step in range(STEPS + 1)]
    return max(weights, key=lambda w: (score(convex(dense, lexical, w, k)), -abs(w - 0.5)))


def _best(scores: Mapping[str, float], k: int | None) -> dict[str, float]:
    return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:k])
