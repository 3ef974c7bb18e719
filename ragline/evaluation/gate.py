"""Is the tuned encoder better than its base? Decided on dev, by a paired interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ragline.evaluation import retrieval, significance
from ragline.types import QAExample, Qrels, Run

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Verdict:
    """Tuned against base on the same dev questions."""

    metric: str
    base: dict[str, float]
    tuned: dict[str, float]
    paired: significance.Paired
    level: float = LEVEL
    """Of the interval: higher where the tuned encoder is the best of several."""

    @property
    def better(self) -> bool:
        """Whether the whole interval of the difference lies above 0."""
        return self.paired.low > 0

    @property
    def reason(self) -> str:
        """The decision in words."""
        p = self.paired
        found = f"{self.metric} {p.difference:+.3f} [{p.low:+.3f}, {p.high:+.3f}] against the base, n = {p.n}"
        if self.level > LEVEL:
            found += f", at {self.level:.1%} as it is the best of several"
        if self.better:
            return f"tuned encoder kept: {found}"
        return f"base encoder kept, the tuned one is not shown to be better: {found}"

    def summary(self) -> dict[str, Any]:
        """As the report reads it."""
        p = self.paired
        return {
            "kept": "tuned" if self.better else "base",
            "reason": self.reason,
            "dev": {
                "n": p.n,
                "base": self.base,
                "tuned": self.tuned,
                "difference": {"metric": self.metric, "mean": p.difference, "low": p.low, "high": p.high},
            },
        }


def qrels(questions: Sequence[QAExample]) -> Qrels:
    """Gold passages of the questions."""
    return {q.question_id: frozenset(q.gold_passage_ids) for q in questions}


def mean(run: Run, questions: Sequence[QAExample], metric: str) -> float:
    """Mean of one metric over the questions."""
    values = retrieval.score(run, qrels(questions))[metric]
    return sum(values.values()) / len(values)


def compare(
    tuned: Run, base: Run, questions: Sequence[QAExample], metric: str, seed: int, chosen_of: int = 1
) -> Verdict:
    """Weigh two runs over the same questions.

    Args:
        chosen_of: how many encoders the tuned one was chosen from on these very questions. The interval widens so that
            all of theirs would hold together (Bonferroni): the luckiest of many does not pass for being lucky.
    """
    level = 1 - (1 - LEVEL) / chosen_of
    gold, clusters = qrels(questions), {q.question_id: q.cluster for q in questions}
    new, old = retrieval.score(tuned, gold), retrieval.score(base, gold)
    paired = significance.paired(new[metric], old[metric], clusters, resamples=RESAMPLES, seed=seed, level=level)
    return Verdict(metric, _means(old), _means(new), paired, level)


def _means(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    return {name: sum(values.values()) / len(values) for name, values in scores.items()}
