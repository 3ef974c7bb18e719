"""Runs a command that cannot outlive its starter: `python flows/supervise.py COMMAND…`.

Standard input is the lifeline. When it ends, because the starter closed it or was killed (even by SIGKILL), the
command and all its descendants are stopped. This is a file of its own, and a process of its own, as only another
process can clean up after one that was killed.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys

import psutil

GRACE_S = 10.0
"""Seconds to end by itself after SIGINT, and again after SIGTERM."""

LOOK_S = 0.05
"""Between two looks at whether the command is over."""

PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    """Returns the command's exit code; 128 + n when signal n ended it."""
    adopt_orphans()
    signs: list[int] = []
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # as handlers: ignored ones would pass to the command
        signal.signal(sign, lambda sign, _: signs.append(sign))
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    while process.poll() is None:
        lifeline, _, _ = select.select([0], [], [], LOOK_S)
        if signs or (lifeline and not os.read(0, 1)):
            end(process)
    end(process)  # what it left behind
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def adopt_orphans() -> None:
    """On Linux, make this process the parent of descendants that lose theirs, so that all of them can be found."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop the command and every descendant: SIGINT first, so that DVC gives its locks back, then harder."""
    if process.poll() is None:
        os.killpg(0, signal.SIGINT)  # the whole group, as Ctrl-C does
        _wait(process)
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if left := psutil.Process().children(recursive=True):
            for child in left:
                _send(child, sign)
            _wait(process)
            # The command itself is left to `process`: whoever waits for it first takes its exit code.
            psutil.wait_procs([child for child in left if child.pid != process.pid], GRACE_S)
    process.wait()


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        return


def _send(child: psutil.Process, sign: signal.Signals) -> None:
    try:
        child.send_signal(sign)
    except psutil.NoSuchProcess:
        return


if __name__ == "__main__":
    sys.exit(main())
