"""How long answers take: percentiles, as a mean hides the ones that people complain about."""

import math
from collections.abc import Sequence

from ragline.errors import DataError

PERCENTILES = (50, 95, 99)


def summary(seconds: Sequence[float], tokens: Sequence[int] = ()) -> dict[str, float]:
    """Percentiles of the times of single requests, and the pace of writing.

    A percentile is a time that was measured: the smallest that at least this share of the requests did not exceed
    (nearest rank). With n below 100 the p99 is the slowest request.

    Args:
        seconds: wall time of each request, at least one.
        tokens: tokens that each request wrote, in the same order; empty where nobody counted.

    Returns:
        p50_s, p95_s, p99_s, n; with tokens also tokens_per_s, all tokens by all seconds.

    Raises:
        DataError: no request, a time that is negative or not finite, or other numbers of tokens than of times.
    """
    if not seconds:
        raise DataError("latency: no request was timed, expected at least one; ask something first")
    if odd := [taken for taken in seconds if not 0 <= taken < math.inf]:
        raise DataError(f"latency: expected seconds from 0 on, got {odd[0]}; time with a monotonic clock")
    if tokens and len(tokens) != len(seconds):
        raise DataError(f"latency: {len(seconds)} times and {len(tokens)} token counts; expected as many of both")
    ordered = sorted(seconds)
    found = {f"p{p}_s": ordered[max(0, math.ceil(p * len(ordered) / 100) - 1)] for p in PERCENTILES}
    total = math.fsum(seconds)
    return {**found, **({"tokens_per_s": sum(tokens) / total} if tokens and total else {}), "n": len(seconds)}
