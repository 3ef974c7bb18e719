"""Confidence learned from features: scikit-learn's own estimates, out of fold by document."""

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from ragline.errors import ModelError
from ragline.evaluation import confidence

NAMES = ["cosine", "lead"]


def examples(n: int = 80, seed: int = 0) -> confidence.Examples:
    rng = np.random.default_rng(seed)
    values = rng.random((n, 2)) * [1, 100]
    right = (values[:, 0] + 0.3 * rng.normal(size=n) > 0.5).astype(float)
    rows = [dict(zip(NAMES, map(float, row), strict=True)) for row in values]
    return confidence.Examples(rows, right, np.ones(n), [f"d{row // 2}" for row in range(n)])


def test_an_estimate_by_hand():
    model = confidence.Logistic(-1.0, {"cosine": 2.0, "lead": 0.5})
    assert model.probability({"cosine": 1.0, "lead": 2.0, "unused": 9.0}) == pytest.approx(1 / (1 + math.exp(-2.0)))
    assert model.probability({"cosine": -1e6, "lead": 0.0}) == 0.0
    with pytest.raises(ModelError, match="confidence: expected cosine, lead, got no lead; run `dvc repro evaluate`"):
        model.probability({"cosine": 1.0})


def test_whole_grades_give_what_scikit_learn_fits_to_labels():
    given = examples()
    ours = confidence.fit(given, NAMES)
    values = np.array([[row[name] for name in NAMES] for row in given.features])
    scaled = (values - values.mean(0)) / values.std(0)
    theirs = LogisticRegression().fit(scaled, given.right).predict_proba(scaled)[:, 1]
    assert [ours.probability(row) for row in given.features] == pytest.approx(theirs.tolist(), abs=0.03)  # 1 % doubt


def test_the_estimate_is_of_the_grade():
    # Where the features say nothing, the estimate is the mean grade: (0.8 + 0.2 + 0.5) / 3.
    flat = confidence.Examples([{"cosine": 0.5}] * 3, np.array([0.8, 0.2, 0.5]), np.ones(3), ["a", "b", "c"])
    assert confidence.fit(flat, ["cosine"]).probability({"cosine": 0.5}) == pytest.approx(0.5, abs=1e-4)
    doubled = confidence.Examples(flat.features, np.array([1.0, 0.0, 0.0]), np.array([2.0, 1.0, 1.0]), flat.clusters)
    assert confidence.fit(doubled, ["cosine"]).probability({"cosine": 0.5}) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("grade", [0.0, 1.0])
def test_all_right_or_all_wrong_is_no_accident_and_no_certainty(grade):
    same = confidence.Examples(examples().features, np.full(80, grade), np.ones(80), examples().clusters)
    assert abs(confidence.fit(same, NAMES).probability({"cosine": 0.5, "lead": 50.0}) - grade) < 0.05


def test_no_estimate_saw_its_document():
    given = examples()
    found = confidence.cross_fit(given, NAMES)
    changed = given.right.copy()
    changed[:2] = 1 - changed[:2]  # the grades of document d0
    other = confidence.cross_fit(confidence.Examples(given.features, changed, given.weights, given.clusters), NAMES)
    assert other[:2].tolist() == found[:2].tolist()
    assert (other[2:] != found[2:]).any()
