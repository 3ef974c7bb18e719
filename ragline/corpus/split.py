"""Which split a cluster of documents belongs to."""

from collections import Counter
from collections.abc import Iterable, Mapping

from ragline.io import digest
from ragline.types import SPLITS, Split


def assign(clusters: Iterable[str], shares: Mapping[Split, float], seed: int) -> dict[str, Split]:
    """Send each cluster to train, dev or test by a hash of its id and the seed.

    The hash alone decides, so that documents which come or go later move no other. Only where a split
    would stay empty although there are clusters enough does it get the one whose hash lies nearest to
    its range, taken from a split that keeps at least one.

    Args:
        clusters: cluster ids; repeats are fine.
        shares: expected share of clusters, summing to 1; a share of 0 leaves that split empty.

    Returns:
        cluster id → split, sorted by id.
    """
    point = {cluster: _point(seed, cluster) for cluster in sorted(set(clusters))}
    ranges = _ranges(shares)
    placed = {cluster: _holding(ranges, at) for cluster, at in point.items()}
    sizes = Counter(placed.values())
    for split, (low, high) in ranges.items():
        movable = [cluster for cluster, now in placed.items() if sizes[now] > 1] if not sizes[split] else []
        if movable:
            _, nearest = min((max(low - point[cluster], point[cluster] - high), cluster) for cluster in movable)
            sizes.subtract((placed[nearest],))
            sizes[split] += 1
            placed[nearest] = split
    return placed


def _point(seed: int, cluster: str) -> float:
    """A fixed number in [0, 1), uniform over clusters."""
    return int(digest(str(seed), cluster)[:13], 16) / 16**13


def _ranges(shares: Mapping[Split, float]) -> dict[Split, tuple[float, float]]:
    """[low, high) of each split with a share above 0, in the order train, dev, test."""
    ranges: dict[Split, tuple[float, float]] = {}
    low = 0.0
    for split in SPLITS:
        if shares[split] > 0:
            ranges[split] = (low, low + shares[split])
            low += shares[split]
    return ranges


def _holding(ranges: Mapping[Split, tuple[float, float]], at: float) -> Split:
    """The last split takes what rounding leaves over at the top."""
    return next((split for split, (_, high) in ranges.items() if at < high), list(ranges)[-1])
