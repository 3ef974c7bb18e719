"""What a build changed for the people who ask: metrics, and questions that turned bad."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragline import io
from ragline.artifacts import ANSWERING, METRICS, PREDICTIONS
from ragline.promotion import bundles, scores

JUDGED = ("recall@5", "answer_f1")
GOOD = 0.5
"""From here up an answer counts as good; a passage is found or not."""


@dataclass(frozen=True, slots=True)
class Results:
    """What one build was worth."""

    metrics: Mapping[str, float]
    """Name with dots, as in `test.retrieval.hybrid.recall@5` → value."""
    questions: Mapping[str, str]
    """Key → the question's words."""
    values: Mapping[str, Mapping[str, float]]
    """Metric → question key → value in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Change:
    """One metric before and after; None where it was not measured."""

    name: str
    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True)
class TurnedBad:
    """A question that was served well before, and no longer."""

    key: str
    question: str
    metric: str
    before: float
    after: float


NOTHING = Results({}, {}, {})


def served(root: Path = Path()) -> Results:
    """Of the champion; of the last build where there is none yet."""
    now = bundles.standing(root)
    return read_results(bundles.folder(root, now.version) if now else root)


def read_results(place: Path = Path()) -> Results:
    """Of the build in a folder; `NOTHING` where nothing has been evaluated.

    Raises:
        DataError: a file is damaged, or lacks a column.
    """
    if not all((place / path).is_file() for path in (METRICS, PREDICTIONS, ANSWERING)):
        return NOTHING
    rows = io.read_frame(place / PREDICTIONS)
    system = scores.served(io.read_json(place / ANSWERING))
    sets = sorted({row["set"] for row in rows})
    values = {
        metric: {key: value for name in sets for key, value in scores.values(rows, name, metric, system).items()}
        for metric in JUDGED
    }
    return Results(
        dict(flat(io.read_json(place / METRICS))), {scores.key(row): row["question"] for row in rows}, values
    )


def flat(metrics: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """The numbers of a nested mapping, each with its path; what is no number is left out."""
    found = []
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            found += flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((prefix + name, float(value)))
    return found


def metric_changes(before: Results, after: Results) -> list[Change]:
    """Metrics that differ, by name."""
    names = sorted(before.metrics.keys() | after.metrics.keys())
    changes = [Change(name, before.metrics.get(name), after.metrics.get(name)) for name in names]
    return [change for change in changes if change.before != change.after]


def turned_bad(before: Results, after: Results) -> list[TurnedBad]:
    """Questions asked both times that fell from good to bad, the deepest falls first."""
    fallen = [
        TurnedBad(key, after.questions[key], metric, old, new)
        for metric in JUDGED
        for key, old in before.values.get(metric, {}).items()
        if (new := after.values.get(metric, {}).get(key)) is not None and old >= GOOD > new
    ]
    return sorted(fallen, key=lambda fall: (fall.after - fall.before, fall.metric, fall.key))
