"""Section `retention` of params.yaml: no stage reads it."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from ragline.artifacts import PARAMS
from ragline.runtime.params import Section, load_section

Count = Annotated[int, Field(ge=1)]


class RetentionParams(Section):
    """What stays, and for how long."""

    commits: Count
    """Last commits of every branch whose outputs stay in DVC's cache; tags and experiments stay always."""
    days: Count
    """That outputs of a run stay there although no commit names them; also old encoders and halted trainings."""
    tracked_runs: Count
    """Last runs of the pipeline that stay in the project's own mlflow.db; those of served versions always."""
    flow_days: Count
    """That flow runs stay in Prefect's database."""
    disk_gb: Annotated[float, Field(gt=0)]
    """10^9 bytes that the project may take before the night and the doctor warn; nothing is deleted for it."""


def rules(root: Path) -> RetentionParams:
    """Of a project.

    Raises:
        ConfigError: the section is missing or wrong.
    """
    return load_section("retention", RetentionParams, root / PARAMS)
