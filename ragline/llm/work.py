"""Many calls at once: every item ends as a result or as a failure with its reason, and nothing paid for is lost."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ragline.errors import ServiceError
from ragline.llm.calls import Caller, OutOfBudget, Prompt, Unanswered
from ragline.progress import log

Item = TypeVar("Item")
Result = TypeVar("Result")


class Form(BaseModel):
    """What an answer has to look like; keys that nobody asked for are left out."""

    model_config = ConfigDict(extra="ignore", strict=True)


T = TypeVar("T", bound=Form)


@dataclass(frozen=True, slots=True)
class Failed:
    """An item without a result."""

    reason: str
    """In the words of a ledger: `refused by the endpoint`, `endpoint failed`, `malformed answer` …"""
    detail: str


def through(
    items: Sequence[Item],
    do: Callable[[Item], Awaitable[Result]],
    caller: Caller,
    max_failed: float,
    settings: str,
    what: str,
) -> list[Result | Failed]:
    """Do something with every item, as many at once as the caller allows.

    Args:
        max_failed: share of items that may be left because the endpoint did not answer.
        settings: section of params.yaml that holds `max_failed` and `budget_usd`, for messages.
        what: what is being made, for messages.

    Raises:
        ServiceError: the endpoint fails too often, or the budget is spent; what was paid for is in the ledger.
    """
    return asyncio.run(_through(items, do, caller, max_failed, settings, what))


async def _through(
    items: Sequence[Item],
    do: Callable[[Item], Awaitable[Result]],
    caller: Caller,
    max_failed: float,
    settings: str,
    what: str,
) -> list[Result | Failed]:
    results: dict[int, Result | Failed] = {}
    failed: dict[int, Failed] = {}
    waiting = iter(enumerate(items))
    state = _State(len(items), caller, what)
    paid, cached, spent = caller.paid, caller.cached, caller.spent_usd

    async def work() -> None:
        for number, item in waiting:
            if state.out_of_budget or state.gone(failed):
                return
            try:
                results[number] = await do(item)
                state.in_a_row = 0
            except OutOfBudget:
                state.out_of_budget = True
                return
            except Unanswered as error:
                if error.permanent:
                    results[number] = Failed("refused by the endpoint", str(error))
                else:
                    failed[number] = Failed("endpoint failed", str(error))
                    state.in_a_row += 1
            state.tell(len(results) + len(failed))

    async with caller:
        await _all([asyncio.ensure_future(work()) for _ in range(caller.at_most.concurrency)])
    kept = "what was paid for is kept"
    if state.out_of_budget:
        raise ServiceError(
            f"{settings}.budget_usd: the next call could cost more than is left of ${caller.budget_usd:g} "
            f"(${caller.spent_usd:.4f} spent, {len(results)} of {len(items)} items done; {what}); {kept}: run again to "
            "go on, or raise the budget"
        )
    if len(failed) > max_failed * len(items) or len(results) + len(failed) < len(items):
        raise ServiceError(
            f"endpoint: {len(failed)} items of {len(items)} got no answer, {len(results)} did (last: "
            f"{[*failed.values()][-1].detail}; {what}); {kept}: run again to go on, or raise {settings}.max_failed"
        )
    log.info(
        "%s: %d items: %d calls paid, $%.4f; %d answered by the ledger",
        *(what, len(items), caller.paid - paid, caller.spent_usd - spent, caller.cached - cached),
    )
    return [(results | failed)[number] for number in range(len(items))]


async def _all(tasks: Sequence["asyncio.Task[None]"]) -> None:
    """Wait for all; the first error that is nobody's single item stops the others."""
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class _State:
    """What the workers tell each other."""

    items: int
    caller: Caller
    what: str
    out_of_budget: bool = False
    in_a_row: int = 0
    last: int = 0

    def gone(self, failed: Mapping[int, Failed]) -> bool:
        """Whether the endpoint seems to have gone: nothing but failures, several from every worker."""
        return bool(failed) and self.in_a_row >= 3 * self.caller.at_most.concurrency

    def tell(self, done: int) -> None:
        """A line at every twentieth of the way."""
        if done * 20 // self.items > self.last:
            self.last = done * 20 // self.items
            log.info("%s: %d of %d items, $%.4f spent", self.what, done, self.items, self.caller.spent_usd)


async def well_formed(caller: Caller, prompt: Prompt, form: type[T], attempts: int) -> T | Failed:
    """A well-formed answer, or why there is none; a malformed one is asked for again, as another call."""
    said = ""
    for attempt in range(attempts):
        reply = await caller.ask(replace(prompt, attempt=attempt))
        if reply.finish in ("refusal", "content_filter"):
            return Failed("refused by the model", reply.answer[:200])
        if (found := parsed(reply.answer, form)) is not None:
            return found
        said = f"{reply.finish}: {reply.answer[:200]}"
    return Failed("malformed answer", said)


def parsed(answer: str, form: type[T]) -> T | None:
    """The JSON object in an answer, whatever stands around it; None for another form."""
    start, end = answer.find("{"), answer.rfind("}")
    try:
        return form.model_validate_json(answer[start : end + 1])
    except ValidationError:
        return None
