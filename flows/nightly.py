"""The night as a Prefect flow: sources, pipeline, gate, what changed, word of it: `python -m flows.nightly`.

What is served changes at the gate alone, and the gate comes last: a night that fails or brings nothing better leaves
the champion as it is.
"""

import argparse
import contextlib
import logging
import signal
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import yaml
from prefect import Flow, State, flow, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas import FlowRun
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.schedules import Cron
from prefect.settings import get_current_settings
from prefect.states import Completed, Failed
from prefect.types.entrypoint import EntrypointType
from pydantic import Field, NonNegativeFloat, PositiveInt

from flows import notices
from flows.claimed import claim
from flows.dvc_stages import has_remote
from flows.killed import close_killed
from flows.pipeline import pipeline
from flows.processes import Processes
from ragline import builds, comparing, recording
from ragline.artifacts import LOCK, REPORT
from ragline.builds import Build
from ragline.comparing import Comparison
from ragline.errors import ConfigError, RaglineError, ServiceError
from ragline.promotion import bundles
from ragline.promotion.bundles import Standing
from ragline.promotion.gate import gate
from ragline.promotion.verdict import Decision
from ragline.retention import disk, prefect_history
from ragline.retention.rules import rules
from ragline.runtime.environment import prefect_credentials
from ragline.runtime.params import Section

DEPLOYMENTS = Path("prefect.yaml")

SHOWN = 50
"""Rows of an artifact's table; the count is of all."""


class Site(Section):
    """A web site to read anew every night, as `ragline fetch` does."""

    name: str
    """Folder under data/raw."""
    addresses: Annotated[list[str], Field(min_length=1)]
    """A sitemap, a robots.txt that names some, or pages."""
    pages: PositiveInt = 1000
    """Pages requested at most."""
    delay_s: NonNegativeFloat = 1.0
    """Between two requests."""


@task(task_run_name="refresh {site.name}", cache_policy=NO_CACHE, persist_result=False)
def refresh(site: Site) -> None:
    """Fetch a site's pages into data/raw, whole or not at all.

    Raises:
        ServiceError: it could not be read; its pages of earlier nights stay.
    """
    pace = (f"--pages={site.pages}", f"--delay={site.delay_s}")
    _ragline("fetch", *pace, "--", site.name, *site.addresses, failed=f"{site.name}: not refreshed")


@task(retries=1, retry_delay_seconds=20, cache_policy=NO_CACHE, persist_result=False)
def publish() -> None:
    """Tell MLflow what the pipeline made and who is champion now.

    Raises:
        ServiceError: it could not be told; `ragline publish` does it later.
    """
    _ragline("publish", failed="MLflow was not told")


@task(cache_policy=NO_CACHE, persist_result=False)
def record(message: str) -> None:
    """Commit dvc.lock and the figures to the branch `nightly`.

    Raises:
        ServiceError: git refused.
    """
    commit = recording.record(Path(), message)
    get_run_logger().info("%s: %s", recording.BRANCH, commit or "has this state already")


@task(retries=1, retry_delay_seconds=20, cache_policy=NO_CACHE, persist_result=False)
def push() -> None:
    """Copy the outputs to DVC's default remote.

    Raises:
        ServiceError: not all of them arrived; `dvc push` does it later.
    """
    _python("dvc", "push", failed="outputs were not pushed")


@task(cache_policy=NO_CACHE, persist_result=False)
def clean() -> None:
    """Delete what `retention` in params.yaml does not keep.

    Raises:
        ServiceError: not all of it could go; the next night tries again.
    """
    with get_client(sync_client=True) as client:
        api = str(client.api_url)
    _python("ragline.cli", "clean", "--prefect", api, failed="not cleaned", variables=_credentials())


@task(cache_policy=NO_CACHE, persist_result=False)
def forget(days: int) -> None:
    """Delete flow runs that ended so many days ago: nights with nothing to do are kept by Prefect, too.

    Raises:
        ServiceError: Prefect refused.
    """
    with get_client(sync_client=True) as client, httpx.Client(headers=prefect_credentials(_credentials())) as plain:
        runs = prefect_history.forget(plain, str(client.api_url), prefect_history.tag(Path()), datetime.now(UTC), days)
    get_run_logger().info("%d old flow runs deleted", runs)


def _credentials() -> dict[str, str]:
    """Those that Prefect has, maybe from a profile or a file of its own, as variables for a process without Prefect."""
    api = get_current_settings().api
    found = {"PREFECT_API_AUTH_STRING": api.auth_string, "PREFECT_API_KEY": api.key}
    return {name: secret.get_secret_value() for name, secret in found.items() if secret}


def _ragline(*arguments: str, failed: str) -> None:
    """One command of ours."""
    _python("ragline.cli", *arguments, failed=failed)


def _python(*arguments: str, failed: str, variables: Mapping[str, str] | None = None) -> None:
    """A module's command in a process of its own, its words in the log."""
    processes = Processes(variables)
    try:
        ended = processes.follow([sys.executable, "-m", *arguments], get_run_logger().info)
    finally:
        processes.stop()
    if ended.code:
        raise ServiceError(f"{failed}, exit {ended.code}: {' / '.join(ended.tail[-3:])}")


@task(cache_policy=NO_CACHE, persist_result=False)
def judge() -> Decision:
    """Weigh the new build against the champion; promotes it if it is better."""
    decision = gate(Path())
    get_run_logger().info(decision.reason)
    return decision


@task(retries=2, retry_delay_seconds=20, cache_policy=NO_CACHE, persist_result=False)
def tell(ended: str, title: str, body: str) -> None:
    """Send word of the night; the log has it, too."""
    get_run_logger().info("%s\n%s", title, body)
    notices.send(notices.recipients(), ended, title, body)


def tell_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Prefect's hook for nights that failed, crashed or were cancelled."""
    body = f"{flow_run.name}: {state.message}\n\n{_served()}"
    notices.send(notices.recipients(), str(state.name), f"Ragline: night {state.name}", body)


def _served() -> str:
    try:
        now = bundles.standing(Path())
    except RaglineError as error:
        return f"What is served could not be read: {error}"
    return f"Served is {now.version}." if now else "Nothing has been promoted yet."


@flow(name="nightly", on_failure=[tell_failure], on_crashed=[tell_failure], on_cancellation=[tell_failure])
def nightly(sites: list[Site] | None = None, recorded: bool = False, pushed: bool = True) -> State[Any]:
    """Refresh the sources, build what is stale, and promote the build if it is better than the champion.

    What was built is then published, kept and cleaned up after; where one of these fails, the notice says so, and the
    next night tries again.

    Args:
        sites: web sites to fetch first. One that cannot be read keeps its earlier pages, and the notice says so.
        recorded: whether the night becomes a commit on the branch `nightly`; else a person commits what is good.
        pushed: whether outputs go to DVC's default remote, where there is one.

    Returns:
        Completed as Promoted, Kept or Unchanged, with the gate's reason; Failed where a stage was not built.

    Raises:
        RaglineError: settings are wrong, or the gate could not decide; the champion stays.
    """
    claim()
    close_killed()
    notices.recipients()  # a wrong address shows now, not after hours
    allowed = rules(Path())
    standing = bundles.standing(Path())
    before = None if standing else builds.served(Path())  # a champion's files stay and can be read when they are needed
    warnings = _refresh(sites or [])
    lock = _lock()
    built = pipeline(return_state=True)
    if not built.is_completed():
        cleaned = clean(return_state=True)  # the disk may have been full
        return Failed(message="\n".join([str(built.message), *_warnings([cleaned])]))
    decision = judge()
    # By dvc.lock, not by what the pipeline returns: of a state that comes from a slow server the data may be missing.
    ended = "Promoted" if decision.promoted else "Unchanged" if _lock() == lock else "Kept"
    _show_verdict(decision)
    counts = "nothing was built: what the last night said of metrics and questions stands"
    if ended != "Unchanged" or not recording.is_kept(Path()):
        warnings += (failed := keep(decision.reason, recorded, pushed and has_remote()))
        if not failed:
            with contextlib.suppress(ServiceError):  # of a full disk: the next night keeps it once more
                recording.note_kept(Path())
    else:
        warnings += _warnings([forget(allowed.flow_days, return_state=True)])
    if ended != "Unchanged":
        counts = _changed(standing, before)
    body = "\n\n".join([decision.reason, *warnings, counts, _space(allowed.disk_gb), f"report: {_report()}"])
    tell(ended, f"Ragline: night {ended}", body, return_state=True)  # who cannot be told must not fail the night
    return Completed(name=ended, message=decision.reason)


def _changed(champion: Standing | None, before: Build | None) -> str:
    """What was built, against the champion of before the gate, or else what was served without one."""
    try:
        if champion:
            before = builds.read(bundles.folder(Path(), champion.version), f"champion {champion.version}")
        after = builds.last(Path())
    except RaglineError as error:  # the gate has decided: nothing may fail the night now
        return f"warning: not compared with {champion.version if champion else 'the last build'}: {error}"
    return show(comparing.compare("champion", before, after) if before and after else None)


def _refresh(sites: list[Site]) -> list[str]:
    return _warnings([refresh(site, return_state=True) for site in sites])


def keep(reason: str, recorded: bool, pushed: bool) -> list[str]:
    """Publish, record, push, clean, in this order: what is cleaned away has been kept before. Returns warnings."""
    states = [publish(return_state=True)]
    if recorded:
        states.append(record(f"night: {reason}", return_state=True))
    if pushed:
        states.append(push(return_state=True))
    states.append(clean(return_state=True))
    return _warnings(states)


def _warnings(states: Iterable[State[Any]]) -> list[str]:
    """What the tasks that failed say, without Prefect's words before it."""
    failed = [str(state.message) for state in states if not state.is_completed()]
    return [f"warning: {message.partition(f'{ServiceError.__name__}: ')[2] or message}" for message in failed]


def _space(allowed_gb: float) -> str:
    """What the project takes on disk, with a warning where that is too much."""
    found = disk.taken(Path())
    passed = disk.over(found, allowed_gb)
    return f"warning: {passed}" if passed else disk.total(found)


def _lock() -> bytes:
    return LOCK.read_bytes() if LOCK.is_file() else b""


def _show_verdict(decision: Decision) -> None:
    verdict = "\n\n".join(filter(None, [decision.reason, decision.table]))
    create_markdown_artifact(key="verdict", markdown=verdict, description="Champion against challenger")
    create_link_artifact(key="report", link=_report(), link_text=str(REPORT))


def show(compared: Comparison | None) -> str:
    """What a build changed, as artifacts; returns what they count.

    Args:
        compared: the new build against what was served before; None where one of them was not evaluated.
    """
    metrics = compared.metrics if compared else ()
    bad = [question for question in compared.lost if question.turned_bad] if compared else []
    rows = [{"metric": c.name, "before": c.before, "after": c.after, "change": _difference(c)} for c in metrics]
    create_table_artifact(key="metrics", table=rows, description=f"{len(rows)} metrics differ from the champion's")
    create_table_artifact(
        key="turned-bad",
        table=[{"question": b.question, "metric": b.metric, "before": b.before, "after": b.after} for b in bad[:SHOWN]],
        description=f"{len(bad)} questions turned bad, the deepest falls first",
    )
    if compared is None:
        return "nothing to compare with: no build was evaluated before this one"
    return f"{len(rows)} metrics differ from the champion's, {len(bad)} questions turned bad"


def _difference(change: comparing.Changed) -> float | None:
    return None if change.before is None or change.after is None else round(change.after - change.before, 6)


def _report() -> str:
    return REPORT.resolve().as_uri()


def settings(path: Path = DEPLOYMENTS) -> dict[str, Any]:
    """The nightly deployment as prefect.yaml describes it.

    Raises:
        ConfigError: there is none.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: not found; run this in the project's root")
    found = [d for d in yaml.safe_load(path.read_text(encoding="utf-8"))["deployments"] if d["name"] == "nightly"]
    if len(found) != 1:
        raise ConfigError(f"{path}: expected one deployment 'nightly', got {len(found)}")
    return dict(found[0])


def serve(deployment: dict[str, Any]) -> None:
    """Run every night what the deployment says, until somebody stops this process."""
    # Without a limit of the process itself: that would let a second run wait where the deployment's limit cancels it.
    nightly.serve(
        name=deployment["name"],
        description=deployment["description"],
        parameters=deployment["parameters"],
        schedules=[Cron(each.pop("cron"), **each) for each in map(dict, deployment["schedules"])],
        global_limit=ConcurrencyLimitConfig.model_validate(deployment["concurrency_limit"]),
        tags=[*deployment["tags"], prefect_history.tag(Path())],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def main() -> int:
    """One night now, or every night; on Prefect's own temporary server, or the one PREFECT_API_URL names."""
    parser = argparse.ArgumentParser(prog="python -m flows.nightly", description="Run a night under Prefect.")
    parser.add_argument("--serve", action="store_true", help="every night, as prefect.yaml says; needs a server")
    options = parser.parse_args()
    try:
        if options.serve:
            serve(settings())
            return 0
        return 0 if nightly(return_state=True).is_completed() else 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except ConfigError as error:
        logging.getLogger("ragline").error("%s", error)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
