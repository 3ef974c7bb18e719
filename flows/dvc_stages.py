"""The stages as DVC sees them, and one stage brought up to date. Works in the project's root; knows no Prefect."""

import contextlib
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import networkx
from dvc.dvcfile import Lockfile
from dvc.repo import Repo
from dvc.utils.strictyaml import YAMLSyntaxError, YAMLValidationError
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, ValidationError

from flows.processes import Processes, RunStopped
from ragline.artifacts import LOCK
from ragline.errors import ConfigError, RaglineError
from ragline.runtime.params import Section

Outcome = Literal["Completed", "Restored", "Unchanged"]
"""It ran; its outputs came from DVC's cache; there was nothing to do."""

SAID_BY_DVC: dict[str, Outcome] = {
    "didn't change, skipping": "Unchanged",
    "is cached - skipping run": "Restored",
}


class StageFailed(RaglineError):
    """A stage's command failed; the message ends with the last lines of its log."""


class Orders(Section):
    """How Prefect treats a stage: `meta: {prefect: …}` in dvc.yaml. Changing it makes nothing stale."""

    retries: NonNegativeInt = 0
    """Further attempts after a failure."""
    retry_delay: NonNegativeFloat = 0
    """Seconds before each further attempt."""
    timeout: PositiveFloat | None = None
    """Seconds after which an attempt is stopped and counts as failed."""
    tags: tuple[str, ...] = ()
    """Prefect's tags, for filters and concurrency limits."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of dvc.yaml."""

    name: str
    description: str | None
    upstream: tuple[str, ...]
    """Stages whose outputs it reads."""
    orders: Orders
    stale: bool
    """Whether its own inputs, params, code or outputs differ from dvc.lock."""


def read_stages() -> list[Stage]:
    """All stages of dvc.yaml, each after those it reads from.

    DVC's Python interface, read-only: one process and one lock instead of one for each stage.

    Raises:
        ConfigError: no pipeline here, or `meta.prefect` of a stage is wrong.
    """
    if not Path("dvc.yaml").is_file():
        raise ConfigError(f"{Path.cwd()}: no dvc.yaml here; run this in the project's root")
    with Repo(_wait_for_lock=True) as repo:
        graph = repo.index.graph  # edges run from a stage to what it reads from
        stale = set(repo.status())
        return [
            Stage(
                name=stage.name,
                description=stage.desc,
                upstream=tuple(sorted(other.name for other in graph.successors(stage) if other.cmd)),
                orders=_orders(stage.name, (stage.meta or {}).get("prefect", {})),
                stale=stage.name in stale,
            )
            for stage in networkx.dfs_postorder_nodes(graph)
            if stage.cmd
        ]


def _orders(stage: str, values: object) -> Orders:
    try:
        return Orders.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}, got {fault['input']!r}" for fault in error.errors()
        )
        raise ConfigError(f"dvc.yaml: {stage}.meta.prefect: {faults}") from None


def check_names(what: str, names: Collection[str], stages: Collection[Stage]) -> None:
    """Refuse names that no stage has.

    Raises:
        ConfigError: names them, and those that there are.
    """
    known = [stage.name for stage in stages]
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"{what}: no stage {', '.join(map(repr, unknown))}; expected some of {', '.join(known)}")


def has_remote() -> bool:
    """Whether DVC knows where to push to by default."""
    with Repo() as repo:
        return bool(repo.config["core"].get("remote"))


def mend_lock_file(root: Path = Path()) -> str | None:
    """Put a torn dvc.lock aside: DVC rewrites it in place, so a process killed meanwhile leaves half of it.

    The stages are then restored from DVC's run cache; nothing is computed again that is in there.

    Returns:
        What was done and why; None when there was nothing to mend.
    """
    path = root / LOCK
    if not path.exists():
        return None
    with Repo(str(root)) as repo, contextlib.suppress(YAMLSyntaxError, YAMLValidationError):
        Lockfile(repo, str(path)).load()
        return None
    torn = path.with_name(f"{path.name}.torn")
    path.replace(torn)
    return f"{path}: torn by a killed run; now {torn.name}, the stages come back from DVC's cache"


def reproduce(stage: Stage, force: bool, on_line: Callable[[str], object], processes: Processes) -> Outcome:
    """Bring one stage up to date through DVC's command line; what it reads must be there already.

    Args:
        force: run its command even when nothing changed.
        on_line: takes each line of the log as it comes.

    Raises:
        StageFailed: the command failed, or ran past its timeout.
    """
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage.name]
    outcome: Outcome = "Completed"

    def read(line: str) -> None:
        nonlocal outcome
        outcome = next((said for words, said in SAID_BY_DVC.items() if words in line), outcome)
        on_line(line)

    try:
        ended = processes.follow([*command, "--force"] if force else command, read, stage.orders.timeout)
    except RunStopped as error:
        raise StageFailed(f"{stage.name}: {error}") from None
    if ended.code or ended.late:
        reason = f"stopped after its {stage.orders.timeout:g} s" if ended.late else f"exit {ended.code}"
        raise StageFailed("\n".join([f"{stage.name}: {reason}; the end of its log:", *ended.tail]))
    return outcome
