"""report: one page that says what the pipeline made and how good it is."""

import platform
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from ragline import comparing, io
from ragline.artifacts import (
    ANSWERING,
    CHUNK_COUNTS,
    COMPARISONS,
    GENERATOR_CURVE,
    GENERATOR_SUMMARY,
    INGEST_COUNTS,
    METRICS,
    OUTPUTS,
    PARAMS,
    PASSAGES,
    PREDICTIONS,
    QUESTION_COUNTS,
    REPORT,
    RETRIEVER_CURVE,
    RETRIEVER_SUMMARY,
    STAGES,
    TIMINGS,
)
from ragline.errors import DataError
from ragline.reporting import explorer, failures
from ragline.reporting.inputs import Inputs
from ragline.reporting.page import render
from ragline.runtime.params import Section
from ragline.runtime.stage import run_stage
from ragline.types import Passage

READS = (
    PARAMS,
    PASSAGES,
    INGEST_COUNTS,
    CHUNK_COUNTS,
    QUESTION_COUNTS,
    RETRIEVER_SUMMARY,
    RETRIEVER_CURVE,
    GENERATOR_SUMMARY,
    GENERATOR_CURVE,
    ANSWERING,
    METRICS,
    COMPARISONS,
    PREDICTIONS,
)
WRITES = OUTPUTS["report"]
WORST = 30
PACKAGES = (
    "torch", "transformers", "sentence-transformers", "faiss-cpu", "bm25s", "PyStemmer", "datasketch",
    "semantic-text-splitter", "numpy", "scipy", "pandas", "pyarrow", "pydantic", "jinja2", "rouge-score",
    "sacrebleu", "dvc", "prefect", "mlflow",
)  # fmt: skip


COLUMNS = (
    "document", "language", "gold_position",
    *(f"{who}_{name}" for who in failures.ANSWERERS for name in ("failed", "grounded", "outcome")),
)  # fmt: skip
"""Of the predictions; older ones lack them."""
TOLD = (
    "level", "method", "intervals", "paired", "details", "outcomes", "slices", "slices_too_small", "sensitivity",
    "risk_coverage", "judge",
)  # fmt: skip
"""Of the comparisons; older ones lack some."""


class ReportParams(Section):
    """Section `report`."""

    title: str
    """Heading of the page."""


def main(params: ReportParams, root: Path = Path()) -> None:
    """Gather what the stages wrote, write the page."""
    with io.whole_file(root / REPORT) as part:
        part.write_text(render(gather(params, root)), encoding="utf-8")


def gather(params: ReportParams, root: Path) -> Inputs:
    """Read what the stages wrote, compare it with earlier runs, choose the questions to show."""
    predictions = _predictions(root / PREDICTIONS)
    told = comparisons(root / COMPARISONS)
    answering, metrics = io.read_json(root / ANSWERING), io.read_json(root / METRICS)
    search = failures.served_search(next(iter(metrics.values()))["retrieval"])  # the same for every set
    worst = failures.worst(predictions, answering["answerer"], search, WORST)
    explored = explorer.sample(predictions, answering["answerer"], explorer.MAX_QUESTIONS)
    shown = [*explored, *(failure.prediction for failure in worst)]
    earlier = comparing.for_report(root)
    return Inputs(
        title=params.title,
        params_text=io.require(PARAMS, root).read_text(encoding="utf-8"),
        ingest=io.read_json(root / INGEST_COUNTS),
        chunk=io.read_json(root / CHUNK_COUNTS),
        questions=io.read_json(root / QUESTION_COUNTS),
        retriever=io.read_json(root / RETRIEVER_SUMMARY),
        retriever_curve=io.read_csv(root / RETRIEVER_CURVE),
        generator=io.read_json(root / GENERATOR_SUMMARY),
        generator_curve=io.read_csv(root / GENERATOR_CURVE),
        answering=answering,
        metrics=metrics,
        comparisons=told,
        predictions=predictions,
        failures=worst,
        explored=explored,
        passages=_passages(failures.passage_ids(shown), root / PASSAGES),
        runs=[asdict(comparison) for comparison in earlier.comparisons],
        not_compared=earlier.reasons,
        timings={stage: _timing(root / TIMINGS / f"{stage}.json") for stage in STAGES if stage != "report"},
        python=platform.python_version(),
        versions={name: metadata.version(name) for name in PACKAGES if _installed(name)},
    )


def _predictions(path: Path) -> list[dict[str, Any]]:
    rows = io.read_frame(path)
    if missing := [name for name in COLUMNS if rows and name not in rows[0]]:
        raise DataError(f"{path}: expected a column {missing[0]!r}, got none; run `dvc repro evaluate`")
    return rows


def comparisons(path: Path) -> dict[str, Any]:
    """What evaluate tells beside the metrics.

    Raises:
        DataError: an older run wrote it, without what the page shows.
    """
    found: dict[str, Any] = io.read_json(path)
    if missing := [name for name in TOLD if name not in found]:
        raise DataError(f"{path}: expected {missing[0]!r}, got none; run `dvc repro evaluate`")
    return found


def _passages(wanted: set[str], path: Path) -> dict[str, Passage]:
    found = {p.passage_id: p for p in io.iter_table(Passage, path) if p.passage_id in wanted}
    if missing := sorted(wanted - found.keys()):
        raise DataError(
            f"{path}: {len(missing)} passages of the predictions are not here, first {missing[0]!r}; "
            f"run `dvc repro evaluate`"
        )
    return found


def _timing(path: Path) -> dict[str, float] | None:
    return io.read_json(path) if path.exists() else None


def _installed(name: str) -> bool:
    return bool(list(metadata.distributions(name=name)))


if __name__ == "__main__":
    run_stage("report", main, ReportParams)
