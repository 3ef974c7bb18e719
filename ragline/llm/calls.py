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
from typing import Any

import openai

from ragline.errors import ConfigError, ServiceError
from ragline.io import digest
from ragline.llm.ledger import Ledger, Reply

POLL_S = 0.2
NOT_YET = "not asked yet"
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


@dataclass
class Caller:
    """Asks, pays, remembers.

    Use it as an asynchronous context manager. One that is asked for the same thing twice, at once or later, pays once.
    """

    ledger: Ledger
    how: Decoding
    prices: Prices
    budget_usd: float
    at_most: Machine
    count_tokens: Callable[[str], int]
    beside: "Caller | None" = None
    """Another who spends of the same budget, at another time."""
    spent_usd: float = 0.0
    paid: int = 0
    """Calls that were paid for."""
    cached: int = 0
    """Calls that the ledger answered."""
    _reserved: float = 0.0
    _running: dict[str, "asyncio.Task[Reply]"] = field(default_factory=dict)

    async def __aenter__(self) -> "Caller":
        if not os.environ.get("OPENAI_API_KEY") and not os.environ.get("OPENAI_BASE_URL"):
            raise ConfigError(
                "endpoint: expected OPENAI_BASE_URL (and OPENAI_API_KEY where the endpoint wants one) in the "
                "environment, got neither; set them, or use `generate_qa.method: rules`"
            )
        self._client = openai.AsyncOpenAI(
            api_key=os.environ.get("OPENAI_API_KEY") or "none",
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
            spent = self.spent_usd + (self.beside.spent_usd if self.beside else 0.0)
            if spent + self._reserved + most > self.budget_usd:
                self.ledger.release(name)
                raise OutOfBudget
            self._reserved += most
            started = time.monotonic()
            try:
                reply = await self._send(prompt)
            except BaseException:
                self.ledger.release(name)
                raise
            finally:
                self._reserved -= most
            self.ledger.put(name, self.how.model, reply, expected, time.monotonic() - started)
            self.paid += 1
            self.spent_usd += self.prices.of(reply.prompt_tokens, reply.answer_tokens)
            return reply

    async def _send(self, prompt: Prompt) -> Reply:
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
        return Reply(
            answer=refusal or message.content or "",
            finish="refusal" if refusal else str(choices[0].finish_reason or "stop"),
            prompt_tokens=usage.prompt_tokens if usage else 0,
            answer_tokens=usage.completion_tokens if usage else 0,
        )


class Remembered(Caller):
    """Answers from the ledger alone, and asks nobody: what a run would start from."""

    async def __aenter__(self) -> "Remembered":
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing was opened."""

    async def ask(self, prompt: Prompt) -> Reply:
        """The answer that was paid for.

        Raises:
            Unanswered: there is none.
        """
        if found := self.ledger.get(key(prompt, self.how)):
            self.cached += 1
            return found
        raise Unanswered(NOT_YET, permanent=True)
