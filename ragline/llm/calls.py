"""Calls to any endpoint that speaks OpenAI's protocol: cached in the ledger, bounded in number at once and in money.

Where the endpoint is and what key it wants are the machine's business: OPENAI_BASE_URL and OPENAI_API_KEY. Back-off on
429, 5xx, cut connections and timeouts is the client library's.
"""

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import openai

from ragline.errors import ConfigError, ServiceError
from ragline.io import digest
from ragline.llm.ledger import Ledger, Reply

POLL_S = 0.2
FORM = "1"
"""Raised when the same prompt would be sent in another form."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked."""

    messages: tuple[Message, ...]
    schema: str = ""
    """JSON schema of the answer, as JSON; empty for free text."""
    attempt: int = 0
    """0 for the first time; asking again after a useless answer is another call."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """Who is asked, and how it answers."""

    model: str
    temperature: float
    max_answer_tokens: int
    seed: int
    structured: str
    """`json_schema`, `json_object`, or `none` for endpoints that know neither."""


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars for a million tokens."""

    prompt: float
    answer: float

    def of(self, prompt_tokens: float, answer_tokens: float) -> float:
        """Dollars of a call."""
        return (prompt_tokens * self.prompt + answer_tokens * self.answer) / 1e6


@dataclass(frozen=True, slots=True)
class Machine:
    """How hard this machine may press the endpoint: decides how long it takes, never what comes out."""

    concurrency: int
    timeout_s: float
    retries: int


class Unanswered(Exception):
    """One call brought nothing; the others may go on.

    `permanent` when asking again would bring the same, as for a request that the endpoint refuses.
    """

    def __init__(self, reason: str, permanent: bool) -> None:
        super().__init__(reason)
        self.permanent = permanent


class OutOfBudget(Exception):
    """The next call could cost more than is left."""


@dataclass
class Purse:
    """What a run may spend, and has; one for all who spend of the same budget."""

    budget_usd: float
    spent_usd: float = 0.0
    reserved_usd: float = 0.0
    """The most that calls in flight could cost."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to ask; never written down anywhere."""

    base_url: str | None
    api_key: str | None = field(repr=False)


class Asks(Protocol):
    """Whoever has answers."""

    async def ask(self, prompt: Prompt) -> Reply:
        """The answer to a prompt; raises Unanswered where there is none."""
        ...


def endpoint(*prefixes: str, environment: Mapping[str, str] = os.environ) -> Endpoint:
    """The first of the prefixes of which PREFIX_BASE_URL or PREFIX_API_KEY is set.

    Raises:
        ConfigError: none is.
    """
    for prefix in prefixes:
        base_url, api_key = environment.get(f"{prefix}_BASE_URL"), environment.get(f"{prefix}_API_KEY")
        if base_url or api_key:
            return Endpoint(base_url or None, api_key or None)
    last = prefixes[-1]
    raise ConfigError(
        f"endpoint: expected {last}_BASE_URL (and {last}_API_KEY where the endpoint wants one) in the environment, got "
        "neither; set them, or use `generate_qa.method: rules` without filters that ask a model"
    )


def machine(environment: Mapping[str, str] = os.environ) -> Machine:
    """RAGLINE_LLM_CONCURRENCY (8), RAGLINE_LLM_TIMEOUT_S (120) and RAGLINE_LLM_RETRIES (6).

    Raises:
        ConfigError: one of them is not a positive number.
    """
    found = []
    for name, default in (("CONCURRENCY", "8"), ("TIMEOUT_S", "120"), ("RETRIES", "6")):
        text = environment.get(f"RAGLINE_LLM_{name}", default)
        if not text.replace(".", "", 1).isdigit() or float(text) <= 0:
            raise ConfigError(f"RAGLINE_LLM_{name}: expected a positive number, got {text!r}; mend the environment")
        found.append(float(text))
    return Machine(max(1, int(found[0])), found[1], int(found[2]))


def key(prompt: Prompt, how: Decoding) -> str:
    """sha256 over everything that determines the answer."""
    said = [part for message in prompt.messages for part in (message.role, message.content)]
    decoding = (how.model, repr(how.temperature), str(how.max_answer_tokens), str(how.seed), how.structured)
    return digest(FORM, *decoding, prompt.schema, str(prompt.attempt), *said)


def form(prompt: Prompt) -> str:
    """What kind of answer is asked for."""
    return digest(prompt.schema)[:12] if prompt.schema else ""


@dataclass
class Caller:
    """Asks, pays, remembers.

    Use it as an asynchronous context manager. One that is asked for the same thing twice, at once or later, pays once.
    """

    ledger: Ledger
    how: Decoding
    prices: Prices
    purse: Purse
    at_most: Machine
    count_tokens: Callable[[str], int]
    environment: tuple[str, ...] = ("OPENAI",)
    """Prefixes of the variables that say where the endpoint is, see `endpoint`."""
    paid: int = 0
    """Calls that were paid for."""
    cached: int = 0
    """Calls that the ledger answered."""
    spent_usd: float = 0.0
    """By this caller; the purse knows of all."""
    _running: dict[str, "asyncio.Task[Reply]"] = field(default_factory=dict)

    async def __aenter__(self) -> "Caller":
        where = endpoint(*self.environment)
        self._client = openai.AsyncOpenAI(
            base_url=where.base_url,
            api_key=where.api_key or "none",
            timeout=self.at_most.timeout_s,
            max_retries=self.at_most.retries,
        )
        self._slots = asyncio.Semaphore(self.at_most.concurrency)
        self._ratio = history.prompt_ratio if (history := self.ledger.history(self.how.model)) else 1.0
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def ask(self, prompt: Prompt) -> Reply:
        """The answer, from the ledger if it was paid for before.

        Raises:
            Unanswered: this call brought nothing.
            OutOfBudget: it could cost more than is left.
            ServiceError: no call can succeed, as with a wrong key.
        """
        name = key(prompt, self.how)
        if found := self.ledger.get(name):
            self.cached += 1
            return found
        if name not in self._running:
            task = asyncio.ensure_future(self._pay(name, prompt))
            self._running[name] = task
            task.add_done_callback(lambda _: self._running.pop(name, None))
        return await self._running[name]

    async def _pay(self, name: str, prompt: Prompt) -> Reply:
        async with self._slots:
            longest = self.at_most.timeout_s * (self.at_most.retries + 1) * 2
            while not self.ledger.claim(name, longest):
                if found := self.ledger.get(name):  # another run paid meanwhile
                    self.cached += 1
                    return found
                await asyncio.sleep(POLL_S)
            expected = sum(self.count_tokens(message.content) for message in prompt.messages)
            most = self.prices.of(expected * max(self._ratio, 1.0) * 1.2 + 20, self.how.max_answer_tokens)
            try:
                await self._reserve(most)
            except OutOfBudget:
                self.ledger.release(name)
                raise
            started = time.monotonic()
            try:
                reply = await self._send(prompt, expected)
            except BaseException:
                self.ledger.release(name)
                raise
            finally:
                self.purse.reserved_usd -= most
            self.ledger.put(name, self.how.model, reply, expected, time.monotonic() - started, form(prompt))
            usd = self.prices.of(reply.prompt_tokens, reply.answer_tokens)
            self.paid, self.spent_usd = self.paid + 1, self.spent_usd + usd
            self.purse.spent_usd += usd
            return reply

    async def _reserve(self, usd: float) -> None:
        """Set money aside, waiting for calls in flight where they may cost less than was set aside for them."""
        purse = self.purse
        while purse.spent_usd + purse.reserved_usd + usd > purse.budget_usd:
            if not purse.reserved_usd > 0 or purse.spent_usd + usd > purse.budget_usd:
                raise OutOfBudget(usd)
            await asyncio.sleep(POLL_S / 10)
        purse.reserved_usd += usd

    async def _send(self, prompt: Prompt, expected_tokens: int) -> Reply:
        options: dict[str, Any] = {}
        if prompt.schema and self.how.structured == "json_schema":
            schema = {"name": "answer", "strict": True, "schema": json.loads(prompt.schema)}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif prompt.schema and self.how.structured == "json_object":
            options["response_format"] = {"type": "json_object"}
        try:
            found = await self._client.chat.completions.create(
                model=self.how.model,
                messages=[{"role": m.role, "content": m.content} for m in prompt.messages],  # type: ignore[misc]
                temperature=self.how.temperature,
                max_completion_tokens=self.how.max_answer_tokens,
                seed=self.how.seed + prompt.attempt,
                **options,
            )
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            # the endpoint's own words may quote the key
            raise ServiceError(
                f"endpoint: {error.status_code}: the key is not accepted; set OPENAI_API_KEY to a valid one"
            ) from None
        except openai.NotFoundError as error:
            raise ServiceError(
                f"endpoint: {error.status_code}: no model {self.how.model!r} there; mend the model's name in "
                "params.yaml, or OPENAI_BASE_URL"
            ) from None
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            raise Unanswered(f"the endpoint refuses the request ({error.status_code})", permanent=True) from None
        except openai.APIStatusError as error:
            raise Unanswered(
                f"HTTP {error.status_code} after {self.at_most.retries} retries", permanent=False
            ) from None
        except (openai.APIConnectionError, openai.APIResponseValidationError, ValueError) as error:
            raise Unanswered(f"{type(error).__name__} after {self.at_most.retries} retries", permanent=False) from None
        choices = getattr(found, "choices", None)
        if not choices:
            raise Unanswered("an answer in another form than OpenAI's", permanent=False)
        message, usage = choices[0].message, found.usage
        refusal = getattr(message, "refusal", None)
        answer = refusal or message.content or ""
        return Reply(
            answer=answer,
            finish="refusal" if refusal else str(choices[0].finish_reason or "stop"),
            # an endpoint that does not count is counted for, so that the budget holds
            prompt_tokens=usage.prompt_tokens if usage else round(expected_tokens * self._ratio),
            answer_tokens=usage.completion_tokens if usage else self.count_tokens(answer),
        )


@dataclass(frozen=True, slots=True)
class Remembered:
    """Answers from the ledger alone, and asks nobody: what a run would start from."""

    ledger: Ledger
    how: Decoding

    async def ask(self, prompt: Prompt) -> Reply:
        """The answer that was paid for.

        Raises:
            Unanswered: there is none.
        """
        if found := self.ledger.get(key(prompt, self.how)):
            return found
        raise Unanswered("not asked yet", permanent=True)
