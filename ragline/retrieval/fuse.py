"""Hybrid search: a convex combination of dense and lexical scores."""

from collections.abc import Callable, Mapping

from ragline.types import Run

STEPS = 20


def normalise(scores: Mapping[str, float]) -> dict[str, float]:
    """Stretch one question's scores to [0, 1]; a single score, or equal ones, become 1."""
    if not scores:
        return {}
    low, high = min(scores.values()), max(scores.values())
    if high == low:
        return dict.fromkeys(scores, 1.0)
    return {passage: (score - low) / (high - low) for passage, score in scores.items()}


def convex(dense: Run, lexical: Run, weight: float, k: int) -> dict[str, dict[str, float]]:
    """weight · dense + (1 - weight) · lexical after min-max, a passage missing from a list counting 0 there.

    Source: Bruch, Gai, Ingber: An Analysis of Fusion Functions for Hybrid Retrieval, TOIS 2023.
    """
    fused = {}
    for question in dense:
        a, b = normalise(dense[question]), normalise(lexical.get(question, {}))
        scores = {p: weight * a.get(p, 0.0) + (1 - weight) * b.get(p, 0.0) for p in a.keys() | b.keys()}
        best = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:k]
        fused[question] = dict(best)
    return fused


def tune(dense: Run, lexical: Run, k: int, score: Callable[[Run], float]) -> float:
    """The weight on a grid of 0.05 that scores best; among equals the one nearest to an even mix."""
    weights = [step / STEPS for step in range(STEPS + 1)]
    return max(weights, key=lambda w: (score(convex(dense, lexical, w, k)), -abs(w - 0.5)))
