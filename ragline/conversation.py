"""A conversation: guards around each turn, follow-ups that stand alone, answers while they are being written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ragline import guardrails, qa
from ragline.artifacts import PARAMS
from ragline.generation import backends
from ragline.generation.followups import Rewriter, Standalone, Turn
from ragline.guardrails import Claim, Guard, OnError, Passed
from ragline.retrieval.where import Where
from ragline.runtime.params import Section, load_section
from ragline.types import Answer


class GroundedParams(Section):
    """Guard `grounded`: the cited passages hold the answer's words."""

    kind: Literal["grounded"]
    at_least: Annotated[float, Field(ge=0, le=1)]
    """Share of the answer's words."""
    then: Literal["note", "block"]
    """What happens to an answer below that: it is shown with a note, or not at all."""
    on_error: OnError
    """Whether an answer passes that could not be checked."""


class HookParams(Section):
    """Guard `hook`: a function of your own that takes a question, or a `guardrails.Claim`, and gives a `Verdict`."""

    kind: Literal["hook"]
    looks_at: Literal["question", "answer"]
    call: str
    """`package.module:function`, of an installed package."""
    on_error: OnError
    """Whether a text passes that could not be checked."""


class QaParams(Section):
    """Section `qa`: what `ragline ask` and `ragline chat` do around an answer; no stage reads it."""

    history_tokens: Annotated[int, Field(ge=0)]
    """Tokens of earlier turns that an endpoint reads to make a follow-up stand alone."""
    guards: list[Annotated[GroundedParams | HookParams, Field(discriminator="kind")]]
    """Looked at in this order."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a user gets for one question."""

    answer: Answer
    turn: Turn | None
    """What the conversation remembers; None where the question was blocked."""
    blocked: str = ""
    """Why the question or the answer was."""
    notes: tuple[str, ...] = ()
    """What guards say beside the answer, and why a follow-up was searched as typed."""


@dataclass(frozen=True)
class Assistant:
    """Answers questions of many conversations, and remembers none."""

    system: qa.System
    rewriter: Rewriter
    on_questions: tuple[Guard[str], ...] = ()
    on_answers: tuple[Guard[Claim], ...] = ()

    def ask(
        self,
        questions: Sequence[str],
        histories: Sequence[Sequence[Turn]],
        k: int = 5,
        answerer: qa.Answerer | None = None,
        where: Where | None = None,
    ) -> list[Reply]:
        """Answer each question after the turns before it; first questions and follow-ups may come together.

        Args:
            histories: the turns before each question, oldest first.

        Raises:
            As `qa.System.ask`.
        """
        asked = [self._let_in(question) for question in questions]
        open_ones = [row for row, passed in enumerate(asked) if not passed.blocked]
        if not open_ones:
            return [_refused(passed) for passed in asked]
        alone = self.rewriter.standalone([asked[row].text for row in open_ones], [histories[row] for row in open_ones])
        answers = self.system.ask([one.text for one in alone], k, answerer, where)
        replies = {
            row: self._let_out(asked[row], one, answer)
            for row, one, answer in zip(open_ones, alone, answers, strict=True)
        }
        return [replies.get(row) or _refused(passed) for row, passed in enumerate(asked)]

    def stream(
        self,
        question: str,
        history: Sequence[Turn],
        k: int = 5,
        answerer: qa.Answerer | None = None,
        where: Where | None = None,
    ) -> Iterator[str | Reply]:
        """As `ask`, for one question: pieces of the text, then the reply; put together they are the answer's text.

        An answer that a guard may block or change comes in one piece, once it has passed.

        Raises:
            As `qa.System.stream`.
        """
        asked = self._let_in(question)
        if asked.blocked:
            reply = _refused(asked)
            yield reply.answer.text
            yield reply
            return
        (alone,) = self.rewriter.standalone([asked.text], [history])
        held = any(guard.holds for guard in self.on_answers)
        for piece in self.system.stream(alone.text, k, answerer, where):
            if isinstance(piece, Answer):
                reply = self._let_out(asked, alone, piece)
                if held:
                    yield reply.answer.text
                yield reply
            elif not held:
                yield piece

    def _let_in(self, question: str) -> Passed:
        return guardrails.ask_all(self.on_questions, question, lambda text: text)

    def _let_out(self, asked: Passed, alone: Standalone, answer: Answer) -> Reply:
        notes = (*asked.notes, f"searched as it was typed: {alone.failed}") if alone.failed else asked.notes
        if answer.abstained:  # says nothing that could be wrong
            return Reply(answer, Turn(asked.text, alone.text, answer.text), notes=notes)
        passed = guardrails.ask_all(
            self.on_answers, answer.text, lambda text: Claim(alone.text, text, answer.citations)
        )
        shown = replace(answer, text=passed.text)
        if passed.blocked:
            shown = replace(answer, text=f"The answer was held back: {passed.blocked}.", citations=())
        return Reply(shown, Turn(asked.text, alone.text, passed.text), passed.blocked, (*notes, *passed.notes))


def _refused(asked: Passed) -> Reply:
    text = f"This question was not let through: {asked.blocked}."
    return Reply(Answer(text, (), (), confidence=0.0, abstained=False), None, asked.blocked, asked.notes)


@dataclass
class Conversation:
    """One person's turns; each is remembered once, when its answer is there."""

    assistant: Assistant
    turns: list[Turn] = field(default_factory=list)

    def stream(
        self, question: str, k: int = 5, answerer: qa.Answerer | None = None, where: Where | None = None
    ) -> Iterator[str | Reply]:
        """As `Assistant.stream`; an answer that fails, or is not waited for, leaves no turn."""
        for piece in self.assistant.stream(question, tuple(self.turns), k, answerer, where):
            if isinstance(piece, Reply) and piece.turn is not None:
                self.turns.append(piece.turn)
            yield piece


def load(root: Path = Path(), project: Path | None = None) -> Assistant:
    """The system with the guards of the project's params.yaml around it.

    Args:
        project: as for `qa.load`; its params.yaml counts, as a guard is for what is served now.

    Raises:
        MissingArtifact, ModelError: as `qa.load`.
        ConfigError: section `qa` is missing or wrong, or names no function.
    """
    system = qa.load(root, project)
    params = load_section("qa", QaParams, (project or root) / PARAMS)
    hooks = [one for one in params.guards if isinstance(one, HookParams)]
    return Assistant(
        system,
        backends.rewriter(system.generator, params.history_tokens),
        tuple(guardrails.hook(one.call, one.on_error) for one in hooks if one.looks_at == "question"),
        tuple(
            guardrails.grounded(one.at_least, one.then, one.on_error)
            if isinstance(one, GroundedParams)
            else guardrails.hook(one.call, one.on_error)
            for one in params.guards
            if isinstance(one, GroundedParams) or one.looks_at == "answer"
        ),
    )
