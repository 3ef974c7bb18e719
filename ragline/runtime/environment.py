"""Defaults for the machine: no telemetry, no noise. What the user has set wins. And who we are to Prefect."""

import base64
import os
import sys
from collections.abc import Mapping

QUIET = {
    "DO_NOT_TRACK": "true",  # Prefect, MLflow and the hub client read it; MLflow wants the word
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "TOKENIZERS_PARALLELISM": "true",
    "TRANSFORMERS_VERBOSITY": "error",
}


def apply_defaults() -> None:
    """Set every switch that is not set yet; call it before importing the libraries."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # OpenVINO asks nobody and has no switch but a file in the home folder; it works without its reporter.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def prefect_credentials(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Headers by which Prefect's API knows us, as Prefect's own client sends them; none where none are set."""
    if pair := environment.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    if key := environment.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    return {}
