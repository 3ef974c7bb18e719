"""What the served system was worth on each question, from the rows that evaluate writes.

Served are hybrid search, the reranker after it where there is one, and the answerer that dev chose, with its
abstention: an answer that is held back scores 0.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ragline.errors import ConfigError, DataError
from ragline.io import digest

Row = Mapping[str, Any]

_AT_RANK = re.compile(r"(recall|mrr)@([1-9]\d*)")
METRICS = ("recall@K", "mrr@K", "answer_em", "answer_f1", "declined")


def check(metric: str) -> str:
    """The metric itself, when there is one of this name.

    Raises:
        ConfigError: there is none.
    """
    if metric not in METRICS[2:] and not _AT_RANK.fullmatch(metric):
        raise ConfigError(f"expected one of {', '.join(METRICS)}, got {metric!r}")
    return metric


@dataclass(frozen=True)
class Served:
    """Whose columns count."""

    search: Literal["hybrid", "reranked"]
    answerer: str


def served(settings: Mapping[str, Any]) -> Served:
    """What the settings that evaluate wrote put before people."""
    return Served("reranked" if settings.get("reranker") else "hybrid", settings["answerer"])


def values(rows: Sequence[Row], name: str, metric: str, system: Served) -> dict[str, float]:
    """One metric on each question of one set.

    - recall@K, mrr@K: by the rank of the first gold passage; answerable questions.
    - answer_em, answer_f1: of the answer as shown, 0 where the system abstains; answerable questions.
    - declined: 1 where the system abstains; questions that the corpus does not answer.

    Returns:
        question → value. A question is told by its id, words and references: if one of them differs, it is another one.

    Raises:
        DataError: a column is missing.
    """
    try:
        wanted = [row for row in rows if row["set"] == name and row["answerable"] == (metric != "declined")]
        return {key(row): _value(row, metric, system) for row in wanted}
    except KeyError as missing:
        raise DataError(
            f"predictions: no column {missing}, which {metric} needs; expected the rows that evaluate writes; "
            f"run `dvc repro evaluate`"
        ) from None


def clusters(rows: Sequence[Row]) -> dict[str, str]:
    """question → document cluster."""
    return {key(row): row["cluster"] for row in rows}


def key(row: Row) -> str:
    """Which question a row is about."""
    return f"{row['set']}/{row['question_id']}/{digest(row['question'], *row['answers'])[:16]}"


def _value(row: Row, metric: str, system: Served) -> float:
    if metric == "declined":
        return float(row["abstained"])
    if found := _AT_RANK.fullmatch(metric):
        rank, depth = row[f"rank_{system.search}"], int(found[2])
        near = 0 < rank <= depth
        return float(near) if found[1] == "recall" else (1 / rank if near else 0.0)
    value: float = row[f"{system.answerer}_{metric.removeprefix('answer_')}"]
    return 0.0 if row["abstained"] else value
