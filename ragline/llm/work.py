"""Many calls at once: every item ends as a result or as a failure with its reason, and nothing paid for is lost."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ragline.errors import ServiceError
from ragline.llm.calls import Asks, Caller, Decoding, OutOfBudget, Prompt, Unanswered, key
from ragline.llm.ledger import Ledger
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
        max_failed: share of items that may be left because the endpoint did not answer. However high, no more than
            half of the items may be left without a usable result, whatever the reason.
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
            if state.out_of_budget is not None or state.gone(failed):
                return
            try:
                results[number] = await do(item)
                state.in_a_row = 0
            except OutOfBudget as error:
                state.out_of_budget = error.args[0]
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
    if state.out_of_budget is not None:
        raise ServiceError(
            f"{_too_dear(state.out_of_budget, caller, settings)}, {len(results)} of {len(items)} items "
            f"done; {what}); {kept}: run again to go on, or raise the budget"
        )
    if len(failed) > max_failed * len(items) or len(results) + len(failed) < len(items):
        raise ServiceError(
            f"endpoint: {len(failed)} items of {len(items)} got no answer, {len(results)} did (last: "
            f"{[*failed.values()][-1].detail}; {what}); {kept}: run again to go on, or raise {settings}.max_failed; "
            f"asked at {caller.address}"
        )
    useless = [one for one in results.values() if isinstance(one, Failed)] + [*failed.values()]
    if len(useless) * 2 > len(items):
        raise ServiceError(
            f"endpoint: {len(useless)} items of {len(items)} ended without a usable result (last: "
            f"{useless[-1].reason}: {useless[-1].detail:.200}; {what}); is it the right model at {caller.address}, and "
            f"does it know `structured`? See {settings}"
        )
    log.info(
        "%s: %d items: %d calls paid, $%.4f; %d answered by the ledger",
        *(what, len(items), caller.paid - paid, caller.spent_usd - spent, caller.cached - cached),
    )
    return [(results | failed)[number] for number in range(len(items))]


def alone(do: Callable[[], Awaitable[Result]], caller: Caller, settings: str) -> Result | Failed:
    """Do one thing, for somebody who waits for it.

    Args:
        settings: as for `through`.

    Raises:
        ServiceError: no call can succeed, or the budget is spent.
    """
    return asyncio.run(_alone(do, caller, settings))


async def _alone(do: Callable[[], Awaitable[Result]], caller: Caller, settings: str) -> Result | Failed:
    async with caller:
        try:
            return await do()
        except OutOfBudget as error:
            raise ServiceError(f"{_too_dear(error.args[0], caller, settings)}); raise the budget") from None
        except Unanswered as error:
            reason = "refused by the endpoint" if error.permanent else "endpoint failed"
            return Failed(f"{reason}: {error}, asked at {caller.address}", str(error))


def _too_dear(usd: float, caller: Caller, settings: str) -> str:
    return (
        f"{settings}.budget_usd: the next call could cost ${usd:.4f}, more than is left of "
        f"${caller.purse.budget_usd:g} (${caller.purse.spent_usd:.4f} spent"
    )


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
    out_of_budget: float | None = None
    """Dollars that the call could have cost which was not made."""
    in_a_row: int = 0
    last: int = 0

    def gone(self, failed: Mapping[int, Failed]) -> bool:
        """Whether the endpoint seems to have gone: nothing but failures, several from every worker."""
        return bool(failed) and self.in_a_row >= 3 * self.caller.at_most.concurrency

    def tell(self, done: int) -> None:
        """A line at every twentieth of the way."""
        if done * 20 // self.items > self.last:
            self.last = done * 20 // self.items
            log.info("%s: %d of %d items, $%.4f spent", self.what, done, self.items, self.caller.purse.spent_usd)


def _anything(_: object) -> bool:
    return True


async def well_formed(
    caller: Asks, prompt: Prompt, form: type[T], attempts: int, right: Callable[[T], bool] = _anything
) -> T | Failed:
    """A well-formed answer, or why there is none; a malformed one is asked for again, as another call.

    Args:
        right: what else has to hold of an answer.
    """
    said = ""
    for attempt in range(attempts):
        reply = await caller.ask(replace(prompt, attempt=attempt))
        if reply.finish in ("refusal", "content_filter"):
            return Failed("refused by the model", reply.answer[:200])
        if (found := parsed(reply.answer, form)) is not None and right(found):
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


def still_to_ask(prompt: Prompt, form: type[Form], attempts: int, how: Decoding, ledger: Ledger) -> Prompt | None:
    """The call that `well_formed` would have to pay for first; None where the ledger has all it needs."""
    for attempt in range(attempts):
        again = replace(prompt, attempt=attempt)
        if (reply := ledger.get(key(again, how))) is None:
            return again
        if reply.finish in ("refusal", "content_filter") or parsed(reply.answer, form) is not None:
            return None
    return None
