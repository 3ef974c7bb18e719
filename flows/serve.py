"""The nights of one machine in the foreground: Prefect's server and the deployment's process: `python -m flows.serve`.

With PREFECT_API_URL set, that server is used and none is started. Both end together, and running stages with them; the
schedule is paused until the next start.
"""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx

from flows import supervise
from ragline.errors import RaglineError, ServiceError

log = logging.getLogger("ragline")

START_S = 120.0
"""Seconds that a server gets; its first start makes the database."""

LOOK_S = 0.5
"""Between two looks at whether server and deployment still run."""


@contextlib.contextmanager
def supervised(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A command that ends with the block, with all its descendants, even when this process is killed."""
    process = subprocess.Popen(
        [sys.executable, supervise.__file__, *command],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


@contextlib.contextmanager
def server(port: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Prefect's own server while the block lasts, not a second longer; yields its API's address and its process.

    Raises:
        ServiceError: the port is taken, or the server does not come up.
    """
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise ServiceError(
                f"port {port}: in use; if it is Prefect's server, set PREFECT_API_URL=http://127.0.0.1:{port}/api, "
                f"otherwise choose another port with PREFECT_SERVER_API_PORT"
            )
    # In the foreground of a supervisor: with --background, Prefect's server dies at the first line it logs.
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with supervised(command, {"PREFECT_LOGGING_LEVEL": "WARNING"}) as process:
        yield _when_up(f"http://127.0.0.1:{port}/api", process), process


def _when_up(api: str, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{api}/health").is_success:
                return api
        time.sleep(0.3)
    raise ServiceError(f"{api}: Prefect's server did not come up in {START_S:g} s; its lines stand above")


def serve(api: str, own: subprocess.Popen[bytes] | None = None) -> int:
    """Serve the nightly deployment until somebody stops this process.

    Args:
        own: the server that was started for it; None for one that others look after.

    Returns:
        The exit code of the deployment's process.

    Raises:
        ServiceError: the own server ended. The deployment's process would ask it for ever, and no night would come.
    """
    with supervised([sys.executable, "-m", "flows.nightly", "--serve"], {"PREFECT_API_URL": api}) as process:
        while process.poll() is None:
            if own and own.poll() is not None:
                raise ServiceError(f"{api}: Prefect's server ended, exit {own.returncode}; start the nights anew")
            time.sleep(LOOK_S)
        return process.returncode


def main() -> int:
    """Returns the exit code of the deployment's process; 0 after an orderly stop."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # systemd's way to stop is as good as Ctrl-C
    try:
        if api := os.environ.get("PREFECT_API_URL"):
            return serve(api)
        with server(int(os.environ.get("PREFECT_SERVER_API_PORT", "4200"))) as (api, own):
            log.info("Prefect's server: %s", api.removesuffix("/api"))
            return serve(api, own)
    except KeyboardInterrupt:
        return 0
    except RaglineError as error:
        log.error("%s: %s", type(error).__name__, error)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
