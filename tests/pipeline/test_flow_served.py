"""Nights as they are served: by the clock, one at a time, and cut in every way. Stages are shell commands; Prefect's
server, the deployment's process, DVC and the gate are real."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ragline.artifacts import LOCK, PARAMS
from ragline.promotion import bundles
from ragline.runtime import lock_file
from tests.conftest import under_dvc
from tests.fixtures import promotable

pytest.importorskip("prefect", reason="needs the flows extra: pip install -e '.[flows]'")

from tests.fixtures.served import (
    ALL_END,
    CUTS,
    Place,
    ask_for_night,
    begin,
    copy_flows,
    end_leases,
    orphans,
    over,
    served,
    state,
)

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

RULES = {"commits": 1, "days": 7, "tracked_runs": 1, "flow_days": 7, "disk_gb": 1}
AT_ONCE = "true\n"
LONG = "touch begun; setsid sleep 61.5 & sleep 61.5\n"
"""A stage that takes long, in a grandchild that has left the process group, too."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A project with a champion, which nothing serves yet; its outputs come ready-made."""
    folder = tmp_path_factory.mktemp("served")
    project = folder / "project"
    promotable.write(project / "made")
    params = yaml.safe_load((project / "made" / PARAMS).read_text()) | {"retention": RULES}
    (project / PARAMS).write_text(yaml.safe_dump(params))
    for name in (PARAMS, LOCK):
        (project / "made" / name).unlink()
    stages = {
        "wait": {"cmd": "sh wait.sh && cp source.txt waited.txt", "deps": ["source.txt"], "outs": ["waited.txt"]},
        "evaluate": {
            "cmd": "cp -r made/. .",
            "deps": ["waited.txt", "made"],
            "params": ["evaluate.seed"],
            "outs": [str(path) for path in bundles.BUNDLED if path not in (PARAMS, LOCK)],
        },
    }
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (project / "source.txt").write_text("first")
    (project / "wait.sh").write_text(AT_ONCE)
    under_dvc(project)
    copy_flows(project)
    return Place(project, folder / "prefect", folder / "serve.log", 4293, patience_s=120)


def change(project: Path, how: str) -> None:
    """Makes both stages stale, and the first of them long or short."""
    (project / "begun").unlink(missing_ok=True)
    (project / "wait.sh").write_text(how)
    (project / "source.txt").write_text(os.urandom(8).hex())


def whole(project: Path) -> str:
    """The champion's name; its files are those that were admitted."""
    champion = bundles.standing(project)
    assert champion is not None
    bundles.verify(bundles.folder(project, champion.version))
    return champion.version


def current(project: Path) -> dict[str, str]:
    """Path → md5 of the outputs; none differs from dvc.lock."""
    made = lock_file.outputs(lock_file.read_lock(project))
    assert lock_file.differing(made, project) == []
    return made


def run_a_short_one(place: Place, deployment: str) -> str:
    """A night that nobody cuts; returns the name of the state it ends in."""
    (place.project / "wait.sh").write_text(AT_ONCE)
    ended = over(place, begin(place, deployment))
    assert ended["type"] == "COMPLETED", ended["message"]
    return str(ended["name"])


@pytest.fixture(scope="module")
def champion(place: Place) -> str:
    """Admitted by the first night of all."""
    with served(place) as deployment:
        assert run_a_short_one(place, deployment) == "Promoted"
    return whole(place.project)


@pytest.mark.parametrize("kind", ["cancelled", *ALL_END])
def test_a_night_that_is_cut(place, champion, kind):
    """Nothing lives on, what is served stays, and the next night does all that this one should have done."""
    change(place.project, LONG)
    with contextlib.ExitStack() as first:
        deployment = first.enter_context(served(place))
        standing = {process.pid for process in place.processes()}
        night = begin(place, deployment)
        place.until((place.project / "begun").exists)
        CUTS[kind](place, night)
        assert orphans(place, set() if kind in ALL_END else standing) == []
        assert whole(place.project) == champion
        if kind in ALL_END:
            first.close()
            end_leases(place.home)
            deployment = first.enter_context(served(place))
        assert run_a_short_one(place, deployment) == "Kept"
        # Where nothing was left that could tell Prefect, the later night did.
        assert over(place, night)["name"] == ("Cancelled" if kind == "cancelled" else "Crashed")
    assert whole(place.project) == champion
    assert current(place.project)["waited.txt"] == lock_file.dvc_md5(place.project / "source.txt")
    by_hand = [sys.executable, "-m", "dvc", "repro"]
    assert "up to date" in subprocess.run(by_hand, cwd=place.project, capture_output=True, text=True).stdout


def test_nights_by_the_clock_come_one_at_a_time(place, champion):
    settings = (place.project / "prefect.yaml").read_text()
    (place.project / "prefect.yaml").write_text(settings.replace('cron: "0 2 * * *"', 'cron: "* * * * *"'))
    change(place.project, LONG)
    with served(place) as deployment:
        place.until((place.project / "begun").exists)
        (first,) = place.ask(
            "flow_runs/filter",
            flow_runs={
                "state": {
                    "type": {"any_": ["RUNNING"]},
                },
                "deployment_id": {"any_": [deployment]},
            },
        )
        assert first["auto_scheduled"]
        second = over(place, ask_for_night(place, deployment))
        assert second["name"] == "Cancelled" and "concurrency" in second["message"].lower()
        assert state(place, first["id"])["type"] == "RUNNING"
    (place.project / "prefect.yaml").write_text(settings)
