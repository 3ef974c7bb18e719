"""Variants of the params, compared on dev: `python -m flows.sweep chunk.max_tokens=128,256`.

Each is an experiment of DVC in a copy of the last commit, so the project stays as it is, and stages that variants share
come from the run cache. The best on dev, and the base, are then built whole and read on test, once.
"""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from prefect import State, flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed

from flows.claimed import claim
from flows.dvc_stages import deps_outside_git, expand, mend_lock_file
from flows.processes import Processes
from ragline import builds, sweeps
from ragline.artifacts import PARAMS
from ragline.builds import Build
from ragline.errors import ConfigError
from ragline.promotion import scores
from ragline.runtime.locks import heal, only_run
from ragline.runtime.params import read_params
from ragline.sweeps import Variant

METRIC = "mrr@10"
ON_DEV = ("evaluate.split=dev", "evaluate.gold_sets=[]")
"""Test and gold stay unread while there is a choice to be made."""

SAID = {
    "Running stage '": "ran",
    "is cached - skipping run": "restored",
    "didn't change, skipping": "unchanged",
}
"""Lines of DVC that say what a stage did."""


@dataclass(frozen=True, slots=True)
class Trial:
    """An experiment to make."""

    name: str
    overrides: tuple[str, ...]
    targets: tuple[str, ...]
    """Stages to build, with those they need; empty for all."""
    copied: tuple[str, ...]
    """What git does not have and the stages read."""


def trials(commit: str, variants: Sequence[tuple[str, ...]], copied: Sequence[str]) -> list[Trial]:
    """One for each variant, up to its evaluation; the name stands for commit and overrides, so a rerun has the same."""
    return [
        Trial(f"sweep-{sha256(repr((commit, each)).encode()).hexdigest()[:8]}-dev", each, ("evaluate",), tuple(copied))
        for each in variants
    ]


def in_full(trial: Trial) -> Trial:
    """The same variant with all stages and the sets that params.yaml names."""
    return replace(trial, name=trial.name.removesuffix("-dev"), targets=())


def command(trial: Trial, settings: Iterable[str], root: Path) -> list[str]:
    """DVC's command line for a trial.

    In a process of its own rather than in DVC's queue: whoever stops the queue's daemon leaves an experiment that is
    `Running` for ever, and the next `dvc exp run --run-all` waits for it.
    """
    return [
        *("env", f"RAGLINE_STORES={root.resolve()}", sys.executable, "-m", "dvc", "--wait-for-lock"),
        *("exp", "run", "--temp", "--name", trial.name),
        *(part for path in trial.copied for part in ("--copy-paths", path)),
        *(part for setting in (*trial.overrides, *settings) for part in ("--set-param", setting)),
        *trial.targets,
    ]


def did(stages: Mapping[str, str]) -> str:
    """What the stages did, in one line: `ran: evaluate; restored: ingest, chunk`."""
    found = {what: [name for name, did in stages.items() if did == what] for what in SAID.values()}
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in found.items() if names) or "nothing"


def why_not(log: Sequence[str]) -> str:
    """In one line: the last that a stage said, or all of DVC's own last error."""
    told = [line for line in log if not line.startswith("ERROR: failed to reproduce")]
    errors = [at for at, line in enumerate(told) if line.startswith("ERROR: ")]
    return " ".join(line.strip() for line in told[errors[-1] if errors else -1 :])


@task(task_run_name="{trial.name}", cache_policy=NO_CACHE, persist_result=False)
def attempt(trial: Trial, settings: tuple[str, ...], processes: Processes) -> State[Variant]:
    """Make the experiment; ends as Completed, or as Failed with the end of its log."""
    logger = get_run_logger()
    logger.info("%s: %s", trial.name, " ".join(trial.overrides) or "base")
    forget(trial.name)
    stages: dict[str, str] = {}

    def read(line: str) -> None:
        logger.info(line)
        for words, what in SAID.items():
            if words in line and "'" in line:
                stages[line.split("'")[1]] = what

    started = time.monotonic()
    ended = processes.follow(command(trial, settings, Path()), read)
    seconds = time.monotonic() - started
    if ended.code:
        failed = f"failed: {why_not(ended.tail) or ended.code}"
        why = Variant(trial.name, trial.overrides, "Failed", failed, seconds)
        return Failed(message="\n".join([f"{trial.name}: exit {ended.code}", *ended.tail]), data=why)
    return Completed(message=did(stages), data=Variant(trial.name, trial.overrides, "Completed", did(stages), seconds))


def forget(name: str) -> None:
    """Remove the experiment of an earlier sweep, whose results stay in DVC's cache; `--force` would run it all anew."""
    listed = _git("for-each-ref", "--format=%(refname)", "refs/exps/")
    if any(ref.endswith(f"/{name}") for ref in listed.splitlines()):
        subprocess.run([sys.executable, "-m", "dvc", "exp", "remove", "--quiet", name], check=True)


def unjudged(params: Mapping[str, Any]) -> tuple[str, ...]:
    """Overrides that spare a judge whose verdicts no choice reads; none where params.yaml has none to override."""
    return ("evaluate.judge=null",) if "judge" in (params.get("evaluate") or {}) else ()


def standing(root: Path = Path()) -> str:
    """The commit that the variants start from.

    Raises:
        ConfigError: there is none, or files differ from it: DVC would move them aside and back for every variant.
    """
    try:
        commit, changed = _git("rev-parse", "HEAD").strip(), _git("status", "--porcelain", "--untracked-files=no")
    except subprocess.CalledProcessError:
        raise ConfigError(
            f"{root.resolve()}: no commit of git here; and a sweep starts from one: commit first"
        ) from None
    if names := [line[3:] for line in changed.splitlines()]:
        raise ConfigError(
            f"{', '.join(names[:5])}: changed since the last commit, and a sweep starts from it; "
            f"commit first, or put them back with `git checkout {' '.join(names[:5])}`"
        )
    return commit


def still(commit: str) -> None:
    """Make sure that the next variant starts from what the first did: DVC takes HEAD and files as they are by then.

    Raises:
        ConfigError: there has been a commit, or files differ from it.
    """
    if (now := standing()) != commit:
        raise ConfigError(
            f"HEAD: expected {commit[:7]}, from which the first variant was made, got {now[:7]}; sweep again: "
            f"commit nothing meanwhile, or sweep in another clone"
        )


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


@flow(name="sweep")
def sweep(
    overrides: list[str],
    each: bool = False,
    metric: str = METRIC,
    copied: list[str] | None = None,
    on_dev: tuple[str, ...] = ON_DEV,
) -> State[Any]:
    """Try variants of the params, choose on dev, read test once.

    Args:
        overrides: as `dvc exp run -S` takes them, grids with commas among them: `chunk.max_tokens=128,256`.
        each: every override is a variant, or a grid, by itself, instead of one grid of all of them.
        metric: of dev, by which variants are chosen; one that `promotion.scores` knows.
        copied: further files or folders that git does not have and the stages read, such as a reranker's.
        on_dev: overrides that make `evaluate` score dev.

    Returns:
        Completed as Chosen or BaseStays, with table and verdict.

    Raises:
        ConfigError: an override or metric that does not exist, uncommitted changes, a commit or changes during the
            sweep, or a base that fails.
        ServiceError: another run of this project is under way.
    """
    scores.check(metric)
    processes = Processes()
    claim()
    with only_run():
        for mended in filter(None, (heal(), mend_lock_file())):
            get_run_logger().warning(mended)
        commit, on_dev = standing(), (*on_dev, *unjudged(read_params(PARAMS)))
        tried = trials(commit, [(), *expand(overrides, each)], [*deps_outside_git(), *(copied or [])])

        def made(trial: Trial, settings: tuple[str, ...]) -> Variant:
            still(commit)
            found = attempt(trial, settings, processes, return_state=True).result(raise_on_failure=False)
            if isinstance(found, Variant):  # of a failed one, too
                return found
            assert isinstance(found, Exception)
            raise found

        def build(variant: Variant) -> Build:
            return builds.named(Path(), variant.name, [metric])

        try:
            base = made(tried[0], on_dev)
            sweeps.choose(sweeps.measured([base], build, metric))  # raises before the others run for nothing
            variants = sweeps.measured([base, *(made(trial, on_dev) for trial in tried[1:])], build, metric)
            chosen = sweeps.choose(variants)
            finals = [in_full(tried[at]) for at in (0, variants.index(chosen))] if chosen.overrides else []
            whole = [made(trial, ()) for trial in finals]
        finally:
            processes.stop()
        lines = sweeps.verdict(variants, chosen, metric, sweeps.read_test(whole, build, metric))
    text = "\n".join([*sweeps.table(variants, metric), "", *lines])
    create_markdown_artifact(key="sweep", markdown=text, description=f"{len(variants)} variants by {metric} on dev")
    return Completed(name="Chosen" if chosen.overrides else "BaseStays", message=text)


def main() -> int:
    """Run the flow with Prefect's own temporary server, or the one PREFECT_API_URL names."""
    parser = argparse.ArgumentParser(prog="python -m flows.sweep", description="Try variants of the params.")
    parser.add_argument("overrides", nargs="+", metavar="PARAM=VALUE,…", help="as `dvc exp run -S`, a grid of all")
    parser.add_argument("--each", action="store_true", help="no grid of all: every argument is a variant by itself")
    parser.add_argument("--metric", default=METRIC, help=f"of dev, by which variants are chosen (default: {METRIC})")
    parser.add_argument("--copy", nargs="+", metavar="PATH", help="what git does not have and the stages read")
    options = parser.parse_args()
    try:
        state = sweep(options.overrides, options.each, options.metric, options.copy, return_state=True)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    sys.stdout.write(f"{state.message}\n")
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    sys.exit(main())
