"""What filters ask a language model: what it knows by itself, what it thinks of a pair, which passages answer.

One call a question. What stays unanswered is None, and the filters keep nothing that was not checked.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from ragline.llm import work
from ragline.llm.calls import Caller, Message, Prompt
from ragline.llm.work import Failed, Form
from ragline.questions.llm import Estimate, filled, foreseen, numbered, object_schema, packaged_prompt, turns
from ragline.types import QAExample

Mark = Annotated[int, Field(ge=1, le=5)]

ANSWER_TOKENS = 15.0
"""Expected of a call before there is a history."""


class _Guess(Form):
    answer: str


class _Marks(Form):
    """Source of the three: Hugging Face's cookbook, "RAG Evaluation", its critique agents."""

    grounded: Mark
    useful: Mark
    standalone: Mark


class _Answered(Form):
    answered_by: tuple[int, ...]


_MARK = {"type": "integer", "enum": [1, 2, 3, 4, 5]}
_GUESS = object_schema({"answer": {"type": "string"}})
_MARKS = object_schema({"grounded": _MARK, "useful": _MARK, "standalone": _MARK})
_ANSWERED = object_schema({"answered_by": {"type": "array", "items": {"type": "integer"}}})


@dataclass(frozen=True)
class Model:
    """A language model as the filters ask it; its methods are the callables of `filter_verdict.Context`."""

    caller: Caller
    attempts: int
    """Calls for one piece before a malformed answer is given up."""
    max_failed: float
    """Share of what one filter asks that the endpoint may leave unanswered."""
    settings: str
    """Section of params.yaml that they come from, for messages."""

    def answer_closed_book(self, examples: Sequence[QAExample]) -> list[str | None]:
        """What it answers without a passage; empty where it does not know, or would rather not say.

        Raises:
            ServiceError: the endpoint fails too often, or the budget is spent.
        """

        async def ask(example: QAExample) -> str | Failed:
            found = await self._ask(closed_book_prompt(example), _Guess)
            if isinstance(found, Failed):
                return "" if found.reason == "refused by the model" else found
            return found.answer

        return [_or_none(one) for one in self._through(examples, ask, "closed-book answers")]

    def criticise(self, pairs: Sequence[tuple[QAExample, str]]) -> list[tuple[float, str] | None]:
        """Questions with all that their gold label points at; the lowest of three marks, as a share of the way up.

        Raises:
            ServiceError: as above.
        """

        async def ask(pair: tuple[QAExample, str]) -> tuple[float, str] | Failed:
            found = await self._ask(critic_prompt(*pair), _Marks)
            if isinstance(found, Failed):
                return found
            marks = found.model_dump()
            return (min(marks.values()) - 1) / 4, ", ".join(f"{name} {mark}" for name, mark in marks.items())

        return [_or_none(one) for one in self._through(pairs, ask, "the critic")]

    def judge(self, asked: Sequence[tuple[QAExample, tuple[str, ...]]]) -> list[frozenset[int] | None]:
        """Questions with passages; places of the passages that answer, from 0. Nobody is asked about no passages.

        Raises:
            ServiceError: as above.
        """

        async def ask(one: tuple[QAExample, tuple[str, ...]]) -> frozenset[int] | Failed:
            example, passages = one
            if not passages:
                return frozenset()
            inside = range(1, len(passages) + 1)
            found = await self._ask(
                judge_prompt(example, passages), _Answered, lambda said: all(n in inside for n in said.answered_by)
            )
            return found if isinstance(found, Failed) else frozenset(number - 1 for number in found.answered_by)

        return [_or_none(one) for one in self._through(asked, ask, "the judge")]

    async def _ask(
        self, prompt: Prompt, form: type[work.T], right: Callable[[work.T], bool] = lambda _: True
    ) -> work.T | Failed:
        return await work.well_formed(self.caller, prompt, form, self.attempts, right)

    def _through(
        self,
        items: Sequence[work.Item],
        do: Callable[[work.Item], Awaitable[work.Result]],
        what: str,
    ) -> list[work.Result | Failed]:
        return work.through(items, do, self.caller, self.max_failed, self.settings, what)


def _or_none(found: work.Result | Failed) -> work.Result | None:
    return None if isinstance(found, Failed) else found


def closed_book_prompt(example: QAExample) -> Prompt:
    """What a model is asked to answer from what it knows."""
    places = {"{{history}}": turns(example.chat_history), "{{question}}": example.question}
    return _prompt("closed_book", places, _GUESS)


def critic_prompt(example: QAExample, gold: str) -> Prompt:
    """What a critic is shown; of several references the first."""
    places = {
        "{{passages}}": gold,
        "{{history}}": turns(example.chat_history),
        "{{question}}": example.question,
        "{{answer}}": next(iter(example.answers), ""),
    }
    return _prompt("critic", places, _MARKS)


def judge_prompt(example: QAExample, passages: Sequence[str]) -> Prompt:
    """What a judge reads."""
    places = {
        "{{passages}}": numbered(passages),
        "{{history}}": turns(example.chat_history),
        "{{question}}": example.question,
    }
    return _prompt("judge", places, _ANSWERED)


def _prompt(name: str, places: Mapping[str, str], schema: str) -> Prompt:
    return Prompt((Message("user", filled(packaged_prompt(name), places)),), schema)


FORMS: Mapping[str, type[Form]] = {_GUESS: _Guess, _MARKS: _Marks, _ANSWERED: _Answered}


def estimate(prompts: Sequence[Prompt], model: Model) -> Estimate:
    """What asking all of these would still cost; without a call."""
    caller = model.caller
    asked = list(dict.fromkeys(prompts))
    left = [work.still_to_ask(p, FORMS[p.schema], model.attempts, caller.how, caller.ledger) for p in asked]
    to_pay = [prompt for prompt in left if prompt is not None]
    return foreseen(len(prompts), len(asked) - len(to_pay), to_pay, ANSWER_TOKENS, caller)
