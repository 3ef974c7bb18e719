"""The same work for many items, in other processes and in order."""

import itertools
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from ragline.errors import ServiceError

Item = TypeVar("Item")
Result = TypeVar("Result")

IN_FLIGHT = 4
"""Items under way for each process."""


def cores() -> int:
    """CPU cores of this machine."""
    return os.cpu_count() or 1


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last one perhaps shorter."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def in_processes(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    called: Callable[[Item], str],
    mend: str = "",
    prepare: Callable[..., None] | None = None,
    arguments: Sequence[Any] = (),
) -> Iterator[Result]:
    """Results in the order of the items; only a few are in flight, so that memory stays flat.

    There are as many processes as cores; starting them takes a second or two.

    Args:
        work: a function that another process can import.
        called: what to call an item in an error.
        mend: what else to do, beside freeing memory, when a process is killed.
        prepare: called with `arguments` in each process before its first item.

    Raises:
        ServiceError: a process was killed, as when memory runs out.
    """
    # a forked child would inherit the locks of the parent's threads (torch, Arrow) as they stand
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(cores(), mp_context=context, initializer=prepare, initargs=tuple(arguments))
    flying: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            flying.append((item, pool.submit(work, item)))
            if len(flying) >= IN_FLIGHT * cores():
                yield flying[0][1].result()
                flying.popleft()
        while flying:
            yield flying[0][1].result()
            flying.popleft()
    except BrokenProcessPool:
        suspects = ", ".join(called(item) for item, _ in list(flying)[: cores() + 1])
        raise ServiceError(f"a process was killed near {suspects}; free memory{mend}") from None
    finally:
        pool.shutdown(cancel_futures=True)
