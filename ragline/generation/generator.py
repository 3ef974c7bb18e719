"""What every way of answering offers."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol

from ragline.generation.prompts import Said, settled
from ragline.generation.support import cite
from ragline.types import Hit


@dataclass(frozen=True, slots=True)
class Written:
    """What a generator makes of one question."""

    text: str
    """Empty where it declines, where no passage was found, and where it failed."""
    cited: tuple[Hit, ...]
    failed: str = ""
    """Why there is no answer, though one was asked for; such as an endpoint that did not reply."""
    likelihood: float | None = None
    """Mean log-probability of the tokens written, end mark included; of an extract the cosine of its sentence and the
    question. None where the way of answering knows neither, and where nothing was written."""


class Generator(Protocol):
    """Writes answers from passages."""

    @property
    def reads(self) -> int:
        """Passages that it reads at most, the first of those it is given."""
        ...

    def answer(self, questions: Sequence[str], retrieved: Sequence[Sequence[Hit]]) -> list[Written]:
        """One for each question, from the first of its passages; without passages an empty one.

        Raises:
            DataError: a question is too long to be read.
            ServiceError: an endpoint fails too often, or the budget is spent.
        """
        ...

    def stream(self, question: str, hits: Sequence[Hit]) -> Iterator[str | Written]:
        """The answer to one question while it is being written: pieces of its text, then all of it.

        The pieces put together are the text. Where it declines there are none. Where it failed, there may be some, of
        an answer that never came to its end. An iterator that is closed early stops the writing.

        Raises:
            DataError, ServiceError: as `answer`.
        """
        ...


def grounded(said: Said, read: Sequence[Hit], likelihood: float | None = None) -> Written:
    """An answer with the passages that it cites; where it cites none, the one that holds most of its words."""
    cited = tuple(read[place] for place in said.cited) or cite(said.text, read)
    return Written(said.text, cited if said.text else (), likelihood=likelihood)


def at_once(written: Written) -> Iterator[str | Written]:
    """A stream of one piece."""
    if written.text:
        yield written.text
    yield written


class Abandoned(Exception):
    """Nobody listens any more."""


class Telling:
    """Tells a listener of an answer as far as it is settled.

    Args:
        shown: passages that the model saw, as in `prompts.parse`.
        tell: takes the next piece.
    """

    def __init__(self, shown: int, tell: Callable[[str], None]) -> None:
        self._shown, self._tell = shown, tell
        self._told = 0

    def so_far(self, text: str) -> None:
        """All that the model has written."""
        self._rest(settled(text, self._shown))

    def whole(self, written: Written) -> Written:
        """The answer as it came out, of which the end is told."""
        self._rest(written.text)
        return written

    def _rest(self, text: str) -> None:
        if piece := text[self._told :]:
            self._told = len(text)
            self._tell(piece)


def beside(write: Callable[[Callable[[str], None]], Written]) -> Iterator[str | Written]:
    """What `write` tells and, last, what it returns; it works in a thread of its own.

    Args:
        write: gets what takes a piece of text, and raises `Abandoned` once the iterator is closed.
    """
    said: SimpleQueue[str | Written | BaseException] = SimpleQueue()
    closed = threading.Event()

    def tell(piece: str) -> None:
        if closed.is_set():
            raise Abandoned
        said.put(piece)

    def work() -> None:
        try:
            said.put(write(tell))
        except BaseException as error:
            said.put(error)

    threading.Thread(target=work, name="answer", daemon=True).start()
    try:
        while True:
            found = said.get()
            if isinstance(found, BaseException):
                raise found
            yield found
            if isinstance(found, Written):
                return
    finally:
        closed.set()
