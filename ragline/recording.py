"""What is noted of a night: that it was kept, which is published, recorded and pushed as far as settings ask for it.

And the night as a commit on a branch of its own, for whoever wants nights in git: nobody's index, branch or files
change. The commit holds the tree of HEAD with the night's dvc.lock and figures in it, and nothing else that stands
uncommitted in the working tree. It is written by git's plumbing with hooks turned off, and nothing is pushed.
"""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from ragline import io
from ragline.artifacts import GENERATOR_CURVE, LOCK, METRICS, RECALL_CURVE, RETRIEVER_CURVE, RISK_COVERAGE
from ragline.errors import ServiceError

BRANCH = "nightly"
RECORDED = (LOCK, METRICS, RETRIEVER_CURVE, GENERATOR_CURVE, RECALL_CURVE, RISK_COVERAGE)
"""What DVC leaves to git."""
AUTHOR = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "ragline nightly"), ("EMAIL", "nightly@localhost"))
}
SHOWN = 20
"""Names of uncommitted files in a message; the count is of all."""
KEPT = Path(".ragline/kept.json")
"""Digest of the dvc.lock that was kept last."""


def is_kept(root: Path) -> bool:
    """Whether what dvc.lock names has been kept without a warning."""
    return (root / KEPT).is_file() and io.read_json(root / KEPT) == _lock_digest(root)


def note_kept(root: Path) -> None:
    """Spare the next night what this one has done."""
    io.write_json(_lock_digest(root), root / KEPT)


def _lock_digest(root: Path) -> dict[str, str]:
    return {"lock": sha256((root / LOCK).read_bytes()).hexdigest()} if (root / LOCK).is_file() else {}


def record(root: Path, message: str) -> str | None:
    """Commit what the last run left to the branch `nightly`, whose first commit follows HEAD.

    Where HEAD is not in the branch yet, the commit joins it, so that every night has the code it ran with.

    Returns:
        The commit; None where the branch has all of it.

    Raises:
        ServiceError: no git, no commit to follow, or somebody has the branch checked out.
    """
    ref = f"refs/heads/{BRANCH}"
    head = _git(root, "rev-parse", "--verify", "HEAD^{commit}")
    if f"branch {ref}" in _git(root, "worktree", "list", "--porcelain").splitlines():
        raise ServiceError(f"{BRANCH}: checked out, so it cannot move; expected a branch that nobody works on")
    tip = _git(root, "for-each-ref", "--format=%(objectname)", ref)
    tree = _tree(root)
    joined = tip and not _git(root, "rev-list", "--max-count=1", head, f"^{tip}")
    if joined and _git(root, "rev-parse", f"{tip}^{{tree}}") == tree:
        return None
    parents = [parent for parent in (tip, "" if joined else head) if parent]
    given = [word for parent in parents for word in ("-p", parent)]
    text = "\n\n".join(filter(None, [message, _uncommitted(root)]))
    commit = _git(root, "commit-tree", tree, *given, "-m", text, extra=AUTHOR)
    _git(root, "update-ref", ref, commit, tip or "0" * len(commit))  # refused if it has moved meanwhile
    _git(root, "-c", "gc.autoDetach=false", "gc", "--auto", "--quiet")  # plumbing never packs by itself, as commit does
    return commit


def _tree(root: Path) -> str:
    """HEAD's, with what is recorded as it stands here; in an index of its own."""
    with tempfile.TemporaryDirectory(prefix="ragline-") as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        _git(root, "read-tree", "HEAD", extra=index)
        present = [str(path) for path in RECORDED if (root / path).is_file()]
        _git(root, "update-index", "--add", "--", *present, extra=index)
        return _git(root, "write-tree", extra=index)


def _uncommitted(root: Path) -> str:
    """What the night may have run with that this commit lacks."""
    changed = _git(root, "--no-optional-locks", "status", "--porcelain", "--untracked-files=no").splitlines()
    inside = _git(root, "rev-parse", "--show-prefix")
    names = sorted({line[2:].strip() for line in changed} - {f"{inside}{path}" for path in RECORDED})
    if not names:
        return ""
    return "\n".join([f"{len(names)} files differed from HEAD and are not in here:", *names[:SHOWN]])


def _git(root: Path, *arguments: str, extra: Mapping[str, str] | None = None) -> str:
    command = ["git", "-c", "core.hooksPath=/dev/null", "-C", str(root), *arguments]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(extra or {})})
    except FileNotFoundError:
        raise ServiceError("git: not installed, so no night is recorded; install it, or set recorded: false") from None
    if ended.returncode:
        reason = (ended.stderr.strip().splitlines() or ["no message"])[0]
        raise ServiceError(f"{root.resolve()}: git {arguments[0]}: {reason}; mend it, or set recorded: false")
    return ended.stdout.rstrip("\n")
