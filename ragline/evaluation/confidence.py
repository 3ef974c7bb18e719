"""How likely an answer is right: a logistic regression over a few numbers known when it is given.

What it learns from is graded, an F1 in [0, 1]: each answer counts as right with that weight and as wrong with the rest,
so the estimate is of the F1 itself, and one less it of the loss.

Source: Platt, Probabilistic outputs for support vector machines, 1999; Kamath, Jia and Liang, Selective question
answering under domain shift, ACL 2020, who fit such a calibrator over scores of model and passage.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragline import io
from ragline.errors import ModelError

FOLDS = 5
STRENGTH = 1.0
"""Inverse of the penalty on weights of standardised features: scikit-learn's own."""
CERTAIN = 0.01
"""No answer counts as right or wrong beyond all doubt, so that there are weights where all of them are."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Logistic:
    """Weights for features as they are, not standardised."""

    intercept: float
    weights: dict[str, float]
    """feature → what one unit of it adds to the log-odds."""

    def probability(self, features: Mapping[str, float]) -> float:
        """Estimate for one answer, within (0, 1).

        Raises:
            ModelError: a feature is missing.
        """
        if missing := sorted(self.weights.keys() - features.keys()):
            raise ModelError(
                f"confidence: expected {', '.join(sorted(self.weights))}, got no {missing[0]}; run `dvc repro evaluate`"
            )
        odds = self.intercept + math.fsum(weight * features[name] for name, weight in self.weights.items())
        return (1 + math.tanh(odds / 2)) / 2  # the logistic function, which cannot overflow so


@dataclass(frozen=True)
class Examples:
    """Answers that have been graded."""

    features: Sequence[Mapping[str, float]]
    """(n,), at least those that are fitted."""
    right: Floats
    """(n,) in [0, 1], such as F1."""
    weights: Floats
    """(n,), above 0."""
    clusters: Sequence[str]
    """(n,): examples of one cluster, such as questions about one document, succeed and fail together."""

    def part(self, rows: Sequence[int]) -> "Examples":
        """Some of them."""
        return Examples(
            [self.features[row] for row in rows],
            self.right[list(rows)],
            self.weights[list(rows)],
            [self.clusters[row] for row in rows],
        )


def fit(examples: Examples, names: Sequence[str]) -> Logistic:
    """Fit over some features, by scikit-learn; the weights have six decimals, as its iterations settle no more."""
    # Imported here: who answers questions needs the weights alone.
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    values = np.array([[row[name] for name in names] for row in examples.features], dtype=np.float64)
    scaler = StandardScaler().fit(values)
    right = np.clip(examples.right, CERTAIN, 1 - CERTAIN)
    shares = examples.weights / examples.weights.mean()
    model = LogisticRegression(C=STRENGTH, max_iter=1000).fit(
        np.vstack([scaler.transform(values)] * 2),
        np.repeat([1, 0], len(values)),
        sample_weight=np.concatenate([shares * right, shares * (1 - right)]),
    )
    weights = model.coef_[0] / scaler.scale_
    intercept = float(model.intercept_[0] - weights @ scaler.mean_)
    return Logistic(
        round(intercept, 6), {name: round(float(weight), 6) for name, weight in zip(names, weights, strict=True)}
    )


def cross_fit(examples: Examples, names: Sequence[str]) -> Floats:
    """For every example the estimate of a fit that saw none of its cluster: (n,) within (0, 1).

    Clusters go to folds in turn, in the order of their digests. A single cluster has no other to be fitted on, so two
    are the least.
    """
    order = sorted(set(examples.clusters), key=lambda cluster: (io.digest(cluster), cluster))
    fold = {cluster: place % FOLDS for place, cluster in enumerate(order)}
    found = np.zeros(len(examples.clusters))
    for held_out in sorted(set(fold.values())):
        kept = [row for row, cluster in enumerate(examples.clusters) if fold[cluster] != held_out]
        fitted = fit(examples.part(kept), names)
        for row, cluster in enumerate(examples.clusters):
            if fold[cluster] == held_out:
                found[row] = fitted.probability(examples.features[row])
    return found
