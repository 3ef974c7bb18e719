"""report: one page that says what the pipeline made and how good it is."""

import platform
from importlib import metadata
from pathlib import Path

from ragline import io
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
from ragline.reporting import failures
from ragline.reporting.page import Inputs, render
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


class ReportParams(Section):
    """Section `report`."""

    title: str
    """Heading of the page."""


def main(params: ReportParams, root: Path = Path()) -> None:
    """Gather what the stages wrote, choose the failures to show, write the page."""
    predictions = io.read_frame(root / PREDICTIONS)
    worst = failures.worst(predictions, WORST)
    inputs = Inputs(
        title=params.title,
        params_text=io.require(PARAMS, root).read_text(encoding="utf-8"),
        ingest=io.read_json(root / INGEST_COUNTS),
        chunk=io.read_json(root / CHUNK_COUNTS),
        questions=io.read_json(root / QUESTION_COUNTS),
        retriever=io.read_json(root / RETRIEVER_SUMMARY),
        retriever_curve=io.read_csv(root / RETRIEVER_CURVE),
        generator=io.read_json(root / GENERATOR_SUMMARY),
        generator_curve=io.read_csv(root / GENERATOR_CURVE),
        answering=io.read_json(root / ANSWERING),
        metrics=io.read_json(root / METRICS),
        comparisons=io.read_json(root / COMPARISONS),
        predictions=predictions,
        failures=worst,
        passages=_passages(failures.passage_ids(worst), root / PASSAGES),
        timings={stage: _timing(root / TIMINGS / f"{stage}.json") for stage in STAGES if stage != "report"},
        python=platform.python_version(),
        versions={name: metadata.version(name) for name in PACKAGES if _installed(name)},
    )
    with io.whole_file(root / REPORT) as part:
        part.write_text(render(inputs), encoding="utf-8")


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
