"""The stages as DVC sees them, and one stage brought up to date. Works in the project's root; knows no Prefect."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import networkx
from dvc.dependency.param import ParamsDependency
from dvc.dvcfile import Lockfile
from dvc.exceptions import InvalidArgumentError
from dvc.repo import Repo, lock_repo
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import get_hydra_sweeps
from dvc.utils.strictyaml import YAMLSyntaxError, YAMLValidationError
from hydra.errors import HydraException
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

TORN = (YAMLSyntaxError, YAMLValidationError)
"""What DVC raises when it reads a file of its own of which half is gone."""


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
    # Locked as a whole: a lock for the status alone would make DVC parse dvc.yaml and dvc.lock twice.
    with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
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


def read_mended(say: Callable[[str], object]) -> list[Stage]:
    """`read_stages`, with a torn dvc.lock put aside; `say` is told. One that is whole is not parsed for it once more.

    Raises:
        ConfigError: as `read_stages`.
    """
    try:
        return read_stages()
    except TORN:
        if not (mended := mend_lock_file()):  # then it is dvc.yaml that DVC cannot read
            raise
        say(mended)
        return read_stages()


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
    with Repo(str(root)) as repo, contextlib.suppress(*TORN):
        Lockfile(repo, str(path)).load()
        return None
    torn = path.with_name(f"{path.name}.torn")
    path.replace(torn)
    return f"{path}: torn by a killed run; now {torn.name}, the stages come back from DVC's cache"


def expand(overrides: Sequence[str], each: bool) -> list[tuple[str, ...]]:
    """The variants that overrides of params stand for, in the syntax of `dvc exp run --set-param`.

    Args:
        overrides: `chunk.max_tokens=128,256` are two values of one param.
        each: every one is a grid by itself, overrides with blanks between; otherwise all make one grid.

    Raises:
        ConfigError: DVC cannot read them.
    """
    grids = [each_of.split() for each_of in overrides] if each else [list(overrides)]
    try:
        found = [sweep for grid in grids for sweep in get_hydra_sweeps(to_path_overrides(grid))]
    except (InvalidArgumentError, HydraException) as error:
        reason = " ".join(str(error).split())
        given = " ".join(overrides)
        raise ConfigError(f"{given}: expected PARAM=VALUE,VALUE, as `dvc exp run -S` takes it: {reason}") from None
    at_home = ParamsDependency.DEFAULT_PARAMS_FILE
    return list(
        dict.fromkeys(
            tuple(o if path == at_home else f"{path}:{o}" for path, each_of in sweep.items() for o in each_of)
            for sweep in found
        )
    )


def deps_outside_git() -> list[str]:
    """What stages read, no stage makes, and git does not have, as a user's own files below data/raw: sorted paths."""
    with Repo(_wait_for_lock=True) as repo:
        made = {out.fs_path for stage in repo.index.stages for out in stage.outs}
        read = {dep.fs_path for stage in repo.index.stages for dep in stage.deps} - made
    listing = ["git", "ls-files", "-z", "--others", "--directory", "--", *sorted(read)]
    found = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split("\0")
    return sorted(path.rstrip("/") for path in found if path and str(Path(path).resolve()) not in made)


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
