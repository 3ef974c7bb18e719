"""Risk, coverage and calibration by hand."""

import math
import time

import pytest

from ragline.errors import ConfigError, DataError
from ragline.evaluation import calibration
from ragline.evaluation.calibration import Point

CONFIDENCE = {"a": 0.9, "b": 0.8, "c": 0.3, "d": 0.1}
LOSSES = {"a": 0.0, "b": 1.0, "c": 0.0, "d": 1.0}


def test_risk_and_coverage_by_hand():
    # The k surest hold 0, 1, 1, 2 errors.
    assert calibration.risk_coverage(CONFIDENCE, LOSSES) == [
        Point(0.25, 0.0), Point(0.5, 1 / 2), Point(0.75, 1 / 3), Point(1.0, 1 / 2),
    ]  # fmt: skip
    assert calibration.aurc(CONFIDENCE, LOSSES) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    # The best order has the errors last: 0, 0, 1/3, 1/2.
    assert calibration.excess_aurc(CONFIDENCE, LOSSES) == pytest.approx((1 / 2) / 4)


def test_equal_confidences_share_their_loss():
    # No order among them: each counts for 1/2, so the risk is 1/2 all along.
    points = calibration.risk_coverage(dict.fromkeys(LOSSES, 0.5), LOSSES)
    assert [point.risk for point in points] == [0.5] * 4


def test_many_equal_confidences_are_no_more_work_than_different_ones():
    losses = {f"q{n}": float(n % 2) for n in range(40_000)}
    started = time.perf_counter()
    assert calibration.aurc(dict.fromkeys(losses, 0.5), losses) == 0.5
    assert time.perf_counter() - started < 1


def test_calibration_error_by_hand():
    # Ten parts: 0.9 and 0.8 stand alone with gaps 0.9 - 1 and 0.8 - 0, 0.3 with 0.3 - 1, 0.1 with 0.1 - 0.
    assert calibration.calibration_error(CONFIDENCE, LOSSES) == pytest.approx((0.1 + 0.8 + 0.7 + 0.1) / 4)
    # One part: mean confidence 0.525, half of them right.
    assert calibration.calibration_error(CONFIDENCE, LOSSES, bins=1) == pytest.approx(0.025)


def test_calibration_error_of_cosines_outside_the_range():
    assert calibration.calibration_error({"a": -0.2, "b": 1.0000001}, {"a": 1.0, "b": 0.0}) == 0.0


def test_operating_point_by_hand():
    abstained = {"a": False, "b": False, "c": True, "d": False, "x": True, "y": False}
    answerable = {"a": True, "b": True, "c": True, "d": True, "x": False, "y": False}
    losses = {"a": 0.0, "b": 0.5, "c": 0.0, "d": 0.5, "x": 1.0, "y": 1.0}
    assert calibration.operating_point(abstained, answerable, losses) == {
        "coverage": 4 / 6,
        "risk": 0.5,  # 0, 1/2, 1/2 and 1 for the one that has no answer
        "wrong_abstention": 1 / 4,
        "wrong_answer": 1 / 2,
    }


def test_all_refused_and_none_answerable():
    assert calibration.operating_point({"x": True}, {"x": False}, {"x": 1.0}) == {"coverage": 0.0, "wrong_answer": 0.0}
    assert calibration.operating_point({"a": True}, {"a": True}, {"a": 0.0}) == {
        "coverage": 0.0, "wrong_abstention": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("confidence", "losses", "message"),
    [
        ({}, {}, "no question"),
        ({"a": 1.0}, {"b": 1.0}, r"2 questions \(first \['a', 'b'\]\) are on one side only"),
        ({"a": math.nan}, {"a": 1.0}, "'a' has confidence NaN"),
        ({"a": 1.0}, {"a": math.nan}, "'a' has loss nan"),
        ({"a": 1.0}, {"a": 1.5}, "'a' has loss 1.5"),
    ],
)
def test_what_cannot_be_judged(confidence, losses, message):
    for metric in (calibration.aurc, calibration.calibration_error, calibration.excess_aurc):
        with pytest.raises(DataError, match=message):
            metric(confidence, losses)


def test_no_bins():
    with pytest.raises(ConfigError, match="bins must be at least 1, got 0"):
        calibration.calibration_error(CONFIDENCE, LOSSES, bins=0)
