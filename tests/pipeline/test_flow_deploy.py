"""What is deployed: prefect.yaml, the units and the compose file, and the word that goes out."""

import asyncio
import contextlib
import importlib
import re
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import tomllib
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from ragline.errors import ConfigError, ServiceError
from tests.conftest import ROOT

pytest.importorskip("prefect", reason="needs the flows extra: pip install -e '.[flows]'")

from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, temporary_settings

from flows import nightly, notices, pipeline, processes, serve
from ragline.retention.prefect_history import tag

DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_deployments_name_flows_and_their_parameters(deployment):
    path, _, name = deployment["entrypoint"].partition(":")
    flow = {"nightly": nightly.nightly, "pipeline": pipeline.pipeline}[name]
    assert path == flow.fn.__module__.replace(".", "/") + ".py"
    assert flow.validate_parameters(deployment["parameters"]) is not None
    assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}


def test_the_night_has_a_time_zone_and_is_active():
    (schedule,) = nightly.settings(ROOT / "prefect.yaml")["schedules"]
    assert schedule["timezone"] and schedule["active"] and len(schedule["cron"].split()) == 5


def test_runs_that_are_served_are_known_as_ours_from_the_start(monkeypatch):
    """A run that is cancelled before it begins can no longer say whose it is."""
    served = {}
    monkeypatch.setattr(nightly.nightly, "serve", served.update)
    nightly.serve(nightly.settings(ROOT / "prefect.yaml"))
    assert served["tags"] == ["ragline", tag(Path())]


def test_cleaning_knows_what_prefect_knows_of_us():
    with temporary_settings({PREFECT_API_KEY: "pnu_secret", PREFECT_API_AUTH_STRING: "admin:secret"}):
        found = nightly._credentials()
    assert found == {"PREFECT_API_KEY": "pnu_secret", "PREFECT_API_AUTH_STRING": "admin:secret"}
    seen = []
    processes.Processes(found).follow(
        [sys.executable, "-c", "import os; print(os.environ['PREFECT_API_KEY'])"], seen.append
    )
    assert seen == ["pnu_secret"]


def test_without_a_night_to_serve(tmp_path):
    with pytest.raises(ConfigError, match=r"prefect\.yaml: not found; run this in the project's root"):
        nightly.settings(tmp_path / "prefect.yaml")
    (tmp_path / "prefect.yaml").write_text("deployments: [{name: weekly}]")
    with pytest.raises(ConfigError, match="expected one deployment 'nightly', got 0"):
        nightly.settings(tmp_path / "prefect.yaml")


def test_prefect_yaml_names_the_pinned_prefect():
    pinned = re.search(r"^prefect==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    assert yaml.safe_load((ROOT / "prefect.yaml").read_text())["prefect-version"] == pinned[1]


def test_a_taken_port_is_one_line():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=f"port {port}: in use; .* PREFECT_API_URL"), serve.server(port):
            pass


def test_nights_end_with_their_server():
    """Alone, the deployment's process would live on, and no night would ever come."""
    with subprocess.Popen(["false"]) as own:
        own.wait()
        with pytest.raises(ServiceError, match=r"9/api: Prefect's server ended, exit 1; start the nights anew"):
            serve.serve("http://127.0.0.1:9/api", own)


def test_a_nights_slot_comes_back_after_the_machine_was_cut(tmp_path):
    """Only its lease gives it back, so the lease must be there for a server that was not there before."""
    prefect = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["prefect"]
    storage = importlib.import_module(prefect["server"]["concurrency"]["lease_storage"]).ConcurrencyLeaseStorage
    lease = asyncio.run(storage(tmp_path).create_lease([uuid.uuid4()], timedelta(seconds=-1)))
    assert asyncio.run(storage(tmp_path).read_expired_lease_ids()) == [lease.id]


# --- units and compose -----------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_units_pass_systemd(unit):
    found = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True).stderr.splitlines()
    # The programs stand where the project is installed, not here.
    assert [line for line in found if "/srv/ragline/.venv/bin/" not in line] == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_units_run_modules_that_exist(unit):
    for module in re.findall(r"python -m (\S+)", unit.read_text()):
        assert (ROOT / (module.replace(".", "/") + ".py")).is_file()


def test_compose_is_closed():
    """Every service, volume and file that is named is there, and every image has its version."""
    services = COMPOSE["services"]
    assert {"postgres", "prefect", "worker", "mlflow"} == services.keys()
    for service in services.values():
        assert service.get("depends_on", {}).keys() <= services.keys()
        assert re.fullmatch(r"[\w/.-]+:[\w.-]+", service["image"]) and not service["image"].endswith(":latest")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / "deploy" / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), "nothing is open to the network"
    for name, service in services.items():
        for needed, condition in service.get("depends_on", {}).items():
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in services[needed], f"{name} waits for the health of {needed}"


# --- word ------------------------------------------------------------------------------------------


class Mailbox(socketserver.StreamRequestHandler):
    """As much of SMTP as it takes to receive a letter."""

    def handle(self):
        self.wfile.write(b"220 mailbox\r\n")
        for line in iter(self.rfile.readline, b""):
            command = line[:4].upper().strip()
            if command == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                self.server.letters.append(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
            elif command == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(b"250 ok\r\n")


@pytest.fixture
def mailbox():
    with socketserver.TCPServer(("127.0.0.1", 0), Mailbox) as server:
        server.letters = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_word_by_mail(mailbox):
    address = (
        f"mailto://127.0.0.1:{mailbox.server_address[1]}?mode=insecure&from=ragline@example.org&to=team@example.org"
    )
    told = notices.send(notices.recipients({"RAGLINE_NOTIFY": address}), "Kept", "Ragline: night Kept", "kept: no gain")
    assert told == 1
    (letter,) = mailbox.letters
    assert "Subject: Ragline: night Kept" in letter and "To: team@example.org" in letter and "kept: no gain" in letter


def test_nobody_to_tell():
    assert notices.send(notices.recipients({}), "Kept", "title", "body") == 0


def test_who_cannot_be_told():
    to = notices.recipients({"RAGLINE_NOTIFY": "json://127.0.0.1:9/"})
    with pytest.raises(ServiceError, match="RAGLINE_NOTIFY: not all of 1 could be told"):
        notices.send(to, "Kept", "title", "body")


def test_a_wrong_address_is_told_by_its_number_alone():
    with pytest.raises(ConfigError, match="address 2 is none") as error:
        notices.recipients({"RAGLINE_NOTIFY": "json://127.0.0.1/ nonsense://password"})
    assert "password" not in str(error.value)
