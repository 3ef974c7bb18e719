"""A lock among processes that ends with its holder, however that ends."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ragline.errors import ServiceError


@contextmanager
def exclusive(path: Path, wait: bool) -> Iterator[None]:
    """Hold the lock of this file.

    Args:
        wait: for another holder to end, instead of giving up at once.

    Raises:
        ServiceError: another process holds it, or the disk refused.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a")
    except OSError as error:
        raise ServiceError(f"{path}: cannot write: {error.strerror}; make room or access, and run again") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServiceError(
                f"{path}: another promotion or rollback is at work; expected none; wait for it and try again"
            ) from None
        yield
