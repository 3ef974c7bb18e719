"""From per-question scores to means, intervals and paired comparisons, in the shape of the metrics files."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ragline.evaluation import significance

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]
"""system → metric → question_id → value."""


@dataclass(frozen=True)
class Bootstrap:
    """How uncertainty is estimated."""

    resamples: int
    seed: int


def means(scores: Scores) -> dict[str, dict[str, float]]:
    """system → metric → mean over the questions, six decimals; a metric that no question has is left out."""
    return {
        system: {name: round(sum(v.values()) / len(v), 6) for name, v in metrics.items() if v}
        for system, metrics in scores.items()
    }


def intervals(scores: Scores, clusters: Mapping[str, str], how: Bootstrap) -> dict[str, dict[str, dict[str, Any]]]:
    """system → metric → mean, low, high, n, n_clusters."""
    return {
        system: {
            name: _rounded(significance.interval(v, clusters, resamples=how.resamples, seed=how.seed))
            for name, v in metrics.items()
            if v
        }
        for system, metrics in scores.items()
    }


def comparisons(
    scores: Scores,
    pairs: Iterable[tuple[str, str]],
    metrics: Iterable[str],
    clusters: Mapping[str, str],
    how: Bootstrap,
    **labels: str,
) -> list[dict[str, Any]]:
    """One row per pair and metric: a minus b on the same questions."""
    wanted = list(metrics)
    return [
        {
            **labels,
            "metric": metric,
            "a": a,
            "b": b,
            **_rounded(
                significance.paired(
                    scores[a][metric], scores[b][metric], clusters, resamples=how.resamples, seed=how.seed
                )
            ),
        }
        for a, b in pairs
        for metric in wanted
    ]


def _rounded(estimate: Any) -> dict[str, Any]:
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(estimate).items()}
