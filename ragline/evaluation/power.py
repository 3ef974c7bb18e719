"""What a set of questions can show at all, before and after it is asked."""

import math
from statistics import NormalDist

from ragline.errors import ConfigError

POWER = 0.8


def detectable(error: float, n_clusters: int, level: float = 0.95, power: float = POWER) -> float:
    """Smallest true difference that a comparison of this kind finds with probability `power`.

    That is (z of the interval's end + z of the power) standard errors, 2.8 of them as a rule. It is never below what
    the clusters may hide (`unseen_share`): a set on which nothing differed has no error, and yet is not all-seeing.

    Args:
        error: standard error of the mean difference, over clusters.
        n_clusters: clusters that the questions come from.
        level: of the interval that has to leave zero out.

    Returns:
        A difference in (0, 1] for values in [0, 1]; 1 where nothing could be shown.

    Raises:
        ConfigError: `level` or `power` not within (0, 1), or a negative error.

    Source: Cohen 1988; Miller 2024 (arXiv 2411.00640), section 5.
    """
    if not 0 < level < 1 or not 0 < power < 1 or not error >= 0:
        raise ConfigError(
            f"power: expected an error of at least 0, level and power between 0 and 1, got {error}, {level}, {power}"
        )
    normal = NormalDist()
    needed = (normal.inv_cdf((1 + level) / 2) + normal.inv_cdf(power)) * error
    return min(1.0, max(needed, unseen_share(n_clusters, level)))


def unseen_share(n_clusters: int, level: float = 0.95) -> float:
    """Share of all documents that may be of a kind that none of the clusters drawn shows.

    Source: Clopper and Pearson 1934, for no success in `n_clusters`.
    """
    return 1 - math.pow((1 - level) / 2, 1 / n_clusters)
