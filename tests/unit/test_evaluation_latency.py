"""Percentiles of times that were measured."""

import math

import pytest

from ragline.errors import DataError
from ragline.evaluation import latency


def test_percentiles_are_times_that_were_measured():
    # 1 … 200 in any order: the 100th, 190th and 198th.
    found = latency.summary([float(1 + 77 * i % 200) for i in range(200)])
    assert found == {"p50_s": 100.0, "p95_s": 190.0, "p99_s": 198.0, "n": 200}


def test_one_request():
    assert latency.summary([0.5], [10]) == {"p50_s": 0.5, "p95_s": 0.5, "p99_s": 0.5, "tokens_per_s": 20.0, "n": 1}


def test_pace_is_all_tokens_by_all_seconds():
    assert latency.summary([1.0, 3.0], [10, 10])["tokens_per_s"] == 5.0
    assert "tokens_per_s" not in latency.summary([0.0], [10])  # too quick for the clock


@pytest.mark.parametrize(
    ("seconds", "tokens", "message"),
    [
        ([], (), "no request was timed"),
        ([-1.0], (), "got -1.0"),
        ([math.nan], (), "got nan"),
        ([1.0, 2.0], [1], "2 times and 1 token counts"),
    ],
)
def test_what_cannot_be_summed_up(seconds, tokens, message):
    with pytest.raises(DataError, match=message):
        latency.summary(seconds, tokens)
