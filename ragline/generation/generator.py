"""What every way of answering offers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ragline.generation.prompts import Said
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


class Generator(Protocol):
    """Writes answers from passages."""

    def answer(self, questions: Sequence[str], retrieved: Sequence[Sequence[Hit]]) -> list[Written]:
        """One for each question, from the first of its passages; without passages an empty one.

        Raises:
            DataError: a question is too long to be read.
            ServiceError: an endpoint fails too often, or the budget is spent.
        """
        ...


def grounded(said: Said, read: Sequence[Hit]) -> Written:
    """An answer with the passages that it cites; where it cites none, the one that holds most of its words."""
    cited = tuple(read[place] for place in said.cited) or cite(said.text, read)
    return Written(said.text, cited if said.text else ())
