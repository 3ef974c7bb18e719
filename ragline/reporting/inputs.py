"""Everything the page is a function of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ragline.reporting.failures import Failure, Prediction
from ragline.types import Passage

Json = Mapping[str, Any]

MORE = ("retrieval_document", "selective", "unseen")
"""Tables of which the comparisons file has all, the metrics file the headlines or nothing."""


@dataclass(frozen=True)
class Inputs:
    """Plain data, as the stages wrote it."""

    title: str
    params_text: str
    """params.yaml as it stands."""
    ingest: Json
    chunk: Json
    questions: Json
    """The counts of these three stages."""
    retriever: Json
    retriever_curve: Sequence[Mapping[str, str]]
    """Rows of step, loss, dev_mrr@10; cells may be empty."""
    generator: Json
    generator_curve: Sequence[Mapping[str, str]]
    """Rows of step, loss, dev_loss; cells may be empty."""
    answering: Json
    metrics: Json
    comparisons: Json
    predictions: Sequence[Prediction]
    failures: Sequence[Failure]
    """Those that stand on the page as plain text."""
    explored: Sequence[Prediction]
    """Those that the explorer holds."""
    passages: Mapping[str, Passage]
    """The passages that the failures and the explored questions name."""
    runs: Sequence[Json]
    """Comparisons with earlier runs, the one with the previous commit first."""
    not_compared: Mapping[str, str]
    """Earlier runs that could not be read, and why."""
    timings: Mapping[str, Json | None]
    """Stage → seconds and peak_mb, None where it was not measured."""
    python: str
    versions: Mapping[str, str]

    @cached_property
    def figures(self) -> dict[str, dict[str, Any]]:
        """Set → the metrics file's figures with those that stand in the comparisons file alone."""
        return {name: self._figures(name, values) for name, values in self.metrics.items()}

    def _figures(self, name: str, values: Json) -> dict[str, Any]:
        more = self.comparisons["details"][name]
        intervals = self.comparisons["intervals"].get(name, {})
        found = {**values, **{key: more[key] for key in MORE if key in more}}
        for family in ("retrieval", "answers"):
            measured = {
                who: {metric: interval["mean"] for metric, interval in row.items()}
                for who, row in intervals.get(family, {}).items()
            }
            found[family] = {who: measured.get(who, {}) | dict(row) for who, row in values[family].items()}
        for who, bleu in more.get("bleu", {}).items():
            found["answers"][who]["bleu"] = bleu
        return found

    @property
    def systems(self) -> list[str]:
        """The ways to search, in the order of the metrics file."""
        return list(next(iter(self.metrics.values()))["retrieval"])
