"""Every file that passes between stages, named once. Paths are relative to the project's root."""

import os
from pathlib import Path

STAGES = (
    "ingest",
    "chunk",
    "generate_qa",
    "build_index",
    "train_retriever",
    "rebuild_index",
    "train_generator",
    "evaluate",
    "report",
)

SETTINGS = ("promotion", "qa", "retention")
"""Sections of params.yaml that no stage reads."""

PARAMS = Path("params.yaml")
LOCK = Path("dvc.lock")

RAW = Path("data/raw")
GOLD = Path("data/gold")

DOCUMENTS = Path("data/documents.parquet")
INGEST_DROPS = Path("data/drops/ingest.parquet")
INGEST_COUNTS = Path("reports/counts/ingest.json")

PASSAGES = Path("data/passages.parquet")
CHUNK_COUNTS = Path("reports/counts/chunk.json")

QUESTIONS = Path("data/questions")
QUESTIONS_TRAIN = Path("data/questions/train.parquet")
QUESTIONS_DEV = Path("data/questions/dev.parquet")
QUESTIONS_TEST = Path("data/questions/test.parquet")
LOCALRQA_TRAIN = Path("data/questions/train.jsonl")
LOCALRQA_DEV = Path("data/questions/dev.jsonl")
LOCALRQA_TEST = Path("data/questions/test.jsonl")
QUESTION_DROPS = Path("data/drops/questions.parquet")
QUESTION_COUNTS = Path("reports/counts/questions.json")
QUESTION_AUDIT = Path("reports/counts/audit.json")

LEXICAL_INDEX = Path("data/index/lexical")
BASE_VECTORS = Path("data/index/base/vectors.npy")
BASE_ANN = Path("data/index/base/ann.faiss")
BASE_ANN_SETTINGS = Path("data/index/base/ann.json")
BASE_FINGERPRINT = Path("data/index/base/fingerprint.json")
TUNED_VECTORS = Path("data/index/tuned/vectors.npy")
TUNED_ANN = Path("data/index/tuned/ann.faiss")
TUNED_ANN_SETTINGS = Path("data/index/tuned/ann.json")
TUNED_FINGERPRINT = Path("data/index/tuned/fingerprint.json")

RETRIEVER = Path("models/retriever")
RETRIEVER_SUMMARY = Path("reports/training/retriever.json")
RETRIEVER_CURVE = Path("reports/curves/retriever.csv")
NEGATIVES = Path("data/negatives.parquet")
NEGATIVES_LEDGER = Path("data/drops/negatives.parquet")

GENERATOR = Path("models/generator")
LANGUAGE_MODEL = GENERATOR / "language_model.json"
"""Settings of a tuned language model, and the base of its adapters."""
GENERATOR_SUMMARY = Path("reports/training/generator.json")
GENERATOR_CURVE = Path("reports/curves/generator.csv")

ANSWERING = Path("models/answering.json")
RUNS = Path("data/runs")
PREDICTIONS = Path("data/predictions.parquet")
METRICS = Path("reports/metrics.json")
COMPARISONS = Path("reports/comparisons.json")
RECALL_CURVE = Path("reports/curves/recall.csv")
RISK_COVERAGE = Path("reports/curves/risk_coverage.csv")

REPORT = Path("reports/index.html")

DOCUMENTS_CONTRACT = Path("reports/validation/documents.html")
PASSAGES_CONTRACT = Path("reports/validation/passages.html")
QUESTIONS_CONTRACT = Path("reports/validation/questions.html")

STORES = Path(os.environ.get("RAGLINE_STORES", ""))
"""The project whose stores are used: this one. A copy in which a variant is tried names the original's, absolute."""
CHECKPOINTS = STORES / ".cache/checkpoints"
VECTOR_STORE = STORES / ".cache/vectors"
LEDGER = STORES / ".ragline/calls.sqlite"
TIMINGS = Path(".cache/timings")
TRACKED = Path("mlflow.db")
"""What MLflow was told, where it has no server."""
BUNDLES = Path(".ragline/bundles")
"""The versions that are or were served; no output of a stage, and none is made from it."""

OUTPUTS: dict[str, tuple[Path, ...]] = {
    "ingest": (DOCUMENTS, INGEST_DROPS, INGEST_COUNTS, DOCUMENTS_CONTRACT),
    "chunk": (PASSAGES, CHUNK_COUNTS, PASSAGES_CONTRACT),
    "generate_qa": (
        QUESTIONS_TRAIN,
        QUESTIONS_DEV,
        QUESTIONS_TEST,
        LOCALRQA_TRAIN,
        LOCALRQA_DEV,
        LOCALRQA_TEST,
        QUESTION_DROPS,
        QUESTION_COUNTS,
        QUESTION_AUDIT,
        QUESTIONS_CONTRACT,
    ),
    "build_index": (BASE_VECTORS, BASE_ANN, BASE_ANN_SETTINGS, BASE_FINGERPRINT, LEXICAL_INDEX),
    "train_retriever": (RETRIEVER, RETRIEVER_SUMMARY, RETRIEVER_CURVE, NEGATIVES, NEGATIVES_LEDGER),
    "rebuild_index": (TUNED_VECTORS, TUNED_ANN, TUNED_ANN_SETTINGS, TUNED_FINGERPRINT),
    "train_generator": (GENERATOR, GENERATOR_SUMMARY, GENERATOR_CURVE),
    "evaluate": (ANSWERING, RUNS, PREDICTIONS, METRICS, COMPARISONS, RECALL_CURVE, RISK_COVERAGE),
    "report": (REPORT,),
}
"""What each stage writes; a stage's WRITES and dvc.yaml's outs are these."""


SERVED = (
    DOCUMENTS,
    PASSAGES,
    LEXICAL_INDEX,
    TUNED_VECTORS,
    TUNED_ANN,
    TUNED_ANN_SETTINGS,
    TUNED_FINGERPRINT,
    RETRIEVER,
    GENERATOR,
    ANSWERING,
)
"""All that answering a question reads."""

JUDGED_BY = (PREDICTIONS, METRICS, COMPARISONS)
"""What says how good it is."""


def made_by(path: Path) -> str | None:
    """The stage that writes this artifact, or a file inside it; None for an input."""
    return next((stage for stage, outputs in OUTPUTS.items() if any(path.is_relative_to(out) for out in outputs)), None)
