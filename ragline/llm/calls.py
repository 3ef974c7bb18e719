"""Calls to any endpoint that speaks OpenAI's protocol: cached in the ledger, bounded in number at once and in money.

Where the endpoint is and what key it wants are the machine's business: OPENAI_BASE_URL and OPENAI_API_KEY, or the same
names with another prefix. Nothing that is meant for one prefix's host goes to another's. Back-off on 429, 5xx, cut
connections and timeouts is the client library's.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from ragline.errors import ConfigError, ServiceError
from ragline.io import digest
from ragline.llm.ledger import Ledger, Reply

OPENAI = "OPENAI"
AUTHOR = (OPENAI,)
"""Prefixes, see `endpoint`, of whoever writes: questions, or answers."""
FILTER = ("RAGLINE_FILTER", OPENAI)
"""Of whom the filters ask."""
JUDGE = ("RAGLINE_JUDGE", OPENAI)
"""Of who judges answers."""
OPENAI_URL = "https://api.openai.com/v1"
"""Where OPENAI_API_KEY is good for without OPENAI_BASE_URL."""
POLL_S = 0.2
FLOOD = 100
"""Characters for each token asked for, beyond which a stream is no answer."""
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

    prefix: str
    """Of the variables that say so."""
    base_url: str
    api_key: str = field(repr=False)
    """`none` where the endpoint wants none."""

    @property
    def address(self) -> str:
        """Its URL as it may be shown."""
        return address(self.base_url)

    @property
    def authorization(self) -> dict[str, str]:
        """The header that carries the key."""
        return {"Authorization": f"Bearer {self.api_key}"}


class Asks(Protocol):
    """Whoever has answers."""

    async def ask(self, prompt: Prompt) -> Reply:
        """The answer to a prompt; raises Unanswered where there is none."""
        ...


def endpoint(*prefixes: str, environment: Mapping[str, str] = os.environ) -> Endpoint:
    """The first of the prefixes of which PREFIX_BASE_URL or PREFIX_API_KEY is set.

    Raises:
        ConfigError: none is, or a key alone, of which only OPENAI's says where it belongs.
    """
    for prefix in prefixes:
        base_url, api_key = environment.get(f"{prefix}_BASE_URL"), environment.get(f"{prefix}_API_KEY")
        if not base_url and api_key and prefix != OPENAI:
            raise ConfigError(
                f"endpoint: expected {prefix}_BASE_URL beside {prefix}_API_KEY in the environment, got the key alone; "
                f"set it to the address that the key is for, as {OPENAI_URL}"
            )
        if base_url or api_key:
            return Endpoint(prefix, base_url or OPENAI_URL, api_key or "none")
    urls = " or ".join(f"{prefix}_BASE_URL" for prefix in prefixes)
    raise ConfigError(
        f"endpoint: expected {urls} (and {prefixes[0]}_API_KEY where the endpoint wants one) in the environment, got "
        "neither; set them, or leave out of params.yaml what asks a language model"
    )


def headers(where: Endpoint, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Headers of every request, and `openai.Omit` for those that are not to go there.

    The client library adds OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS to whatever it sends, and the
    last may carry a key: they belong to the endpoint of that prefix alone.
    """
    if where.prefix == OPENAI:
        return {}
    import openai

    lines = environment.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    custom = {line.partition(":")[0].strip() for line in lines if ":" in line}
    names = sorted(custom | {"OpenAI-Organization", "OpenAI-Project"})
    omitted = {name: openai.Omit() for name in names if name.lower() != "authorization"}
    return {**omitted, **where.authorization}


def address(url: str) -> str:
    """A URL as it may be shown: without a user, a password or what follows a question mark."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


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
    environment: tuple[str, ...] = AUTHOR
    """Prefixes of the variables that say where the endpoint is, see `endpoint`."""
    paid: int = 0
    """Calls that were paid for."""
    cached: int = 0
    """Calls that the ledger answered."""
    spent_usd: float = 0.0
    """By this caller; the purse knows of all."""
    _running: dict[str, "asyncio.Task[Reply]"] = field(default_factory=dict)

    async def __aenter__(self) -> "Caller":
        import openai  # takes a second, and most runs ask nobody

        self._where = endpoint(*self.environment)
        self._client = openai.AsyncOpenAI(
            base_url=self._where.base_url,
            api_key=self._where.api_key,
            default_headers=headers(self._where),
            timeout=self.at_most.timeout_s,
            max_retries=self.at_most.retries,
        )
        self._slots = asyncio.Semaphore(self.at_most.concurrency)
        self._ratio = history.prompt_ratio if (history := self.ledger.history(self.how.model)) else 1.0
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    @property
    def address(self) -> str:
        """Where it asks."""
        return self._where.address

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
            task = asyncio.ensure_future(self._pay(name, prompt, None))
            self._running[name] = task
            task.add_done_callback(lambda _: self._running.pop(name, None))
        return await self._running[name]

    async def stream(self, prompt: Prompt, tell: Callable[[str], None]) -> Reply:
        """As `ask`, and the answer so far is told as it grows; one that the ledger has is not told.

        The ledger gets whole answers alone; the purse pays for what came of a broken one, too.

        Raises:
            Unanswered, OutOfBudget, ServiceError: as `ask`; also where the stream stands still or ends halfway.
        """
        name = key(prompt, self.how)
        if found := self.ledger.get(name):
            self.cached += 1
            return found
        return await self._pay(name, prompt, tell)

    async def _pay(self, name: str, prompt: Prompt, tell: Callable[[str], None] | None) -> Reply:
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
                reply = await (self._send(prompt, expected) if tell is None else self._hear(prompt, expected, tell))
            except BaseException:
                self.ledger.release(name)
                raise
            finally:
                self.purse.reserved_usd -= most
            self.ledger.put(name, self.how.model, reply, expected, time.monotonic() - started, form(prompt))
            self.paid += 1
            self._spend(reply.prompt_tokens, reply.answer_tokens)
            return reply

    def _spend(self, prompt_tokens: int, answer_tokens: int) -> None:
        usd = self.prices.of(prompt_tokens, answer_tokens)
        self.spent_usd += usd
        self.purse.spent_usd += usd

    async def _reserve(self, usd: float) -> None:
        """Set money aside, waiting for calls in flight where they may cost less than was set aside for them."""
        purse = self.purse
        while purse.spent_usd + purse.reserved_usd + usd > purse.budget_usd:
            if not purse.reserved_usd > 0 or purse.spent_usd + usd > purse.budget_usd:
                raise OutOfBudget(usd)
            await asyncio.sleep(POLL_S / 10)
        purse.reserved_usd += usd

    async def _send(self, prompt: Prompt, expected_tokens: int) -> Reply:
        create: Any = self._client.chat.completions.create
        with self._named_faults():
            found = await create(**self._request(prompt))
        choices = getattr(found, "choices", None)
        if not choices:
            raise Unanswered("an answer in another form than OpenAI's", permanent=False)
        message, usage = choices[0].message, found.usage
        refusal = getattr(message, "refusal", None)
        answer = refusal or message.content or ""
        return self._reply(answer, bool(refusal), choices[0].finish_reason or "stop", usage, expected_tokens)

    async def _hear(self, prompt: Prompt, expected_tokens: int, tell: Callable[[str], None]) -> Reply:
        """As `_send`, in pieces; an endpoint that refuses to give any is asked for the whole."""
        create: Any = self._client.chat.completions.create
        try:
            with self._named_faults():
                counted = {"include_usage": True}
                stream = await create(**self._request(prompt), stream=True, stream_options=counted)
        except Unanswered as error:
            if error.permanent:
                return await self._send(prompt, expected_tokens)
            raise
        answer = _Growing(self.how.max_answer_tokens * FLOOD)
        try:
            with self._named_faults():
                # never longer than the claim on this call holds
                async with stream, asyncio.timeout(self.at_most.timeout_s * (self.at_most.retries + 1)):
                    async for chunk in _lively(stream, self.at_most.timeout_s):
                        if answer.take(chunk) and not answer.refused:
                            tell(answer.text)
            if not answer.finish:
                raise Unanswered("the answer ended halfway", permanent=False)
        except BaseException as error:
            if not answer.finish or not isinstance(error, Unanswered):
                if answer.pieces:  # what was written is paid for, though nobody can use it; thoughts have pieces, too
                    written = max(self.count_tokens(answer.text), answer.pieces)
                    self._spend(round(expected_tokens * self._ratio), written)
                raise
        return self._reply(answer.text, answer.refused, answer.finish, answer.usage, expected_tokens)

    def _reply(self, answer: str, refused: bool, finish: str, usage: Any, expected_tokens: int) -> Reply:
        return Reply(
            answer=answer,
            finish="refusal" if refused else finish,
            # an endpoint that does not count is counted for, so that the budget holds
            prompt_tokens=usage.prompt_tokens if usage else round(expected_tokens * self._ratio),
            answer_tokens=usage.completion_tokens if usage else self.count_tokens(answer),
        )

    def _request(self, prompt: Prompt) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if prompt.schema and self.how.structured == "json_schema":
            schema = {"name": "answer", "strict": True, "schema": json.loads(prompt.schema)}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif prompt.schema and self.how.structured == "json_object":
            options["response_format"] = {"type": "json_object"}
        return {
            "model": self.how.model,
            "messages": [{"role": message.role, "content": message.content} for message in prompt.messages],
            "temperature": self.how.temperature,
            "max_completion_tokens": self.how.max_answer_tokens,
            "seed": self.how.seed + prompt.attempt,
            **options,
        }

    @contextmanager
    def _named_faults(self) -> Iterator[None]:
        """What the client library raises, by what it means for this call and the others."""
        import openai

        try:
            yield
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            # the endpoint's own words may quote the key
            raise ServiceError(
                f"endpoint: {error.status_code}: the key is not accepted; set {self._where.prefix}_API_KEY to a "
                f"valid one for {self.address}"
            ) from None
        except openai.NotFoundError as error:
            raise ServiceError(
                f"endpoint: {error.status_code}: no model {self.how.model!r} there; mend the model's name in "
                f"params.yaml, or {self._where.prefix}_BASE_URL, which is {self.address}"
            ) from None
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            raise Unanswered(f"the endpoint refuses the request ({error.status_code})", permanent=True) from None
        except openai.APIStatusError as error:
            raise Unanswered(
                f"HTTP {error.status_code} after {self.at_most.retries} retries", permanent=False
            ) from None
        except TimeoutError:
            raise Unanswered("the answer came to no end in time", permanent=False) from None
        except (openai.APIError, ValueError) as error:
            raise Unanswered(f"{type(error).__name__} after {self.at_most.retries} retries", permanent=False) from None


class _Growing:
    """An answer that comes in pieces.

    Args:
        most: characters that it may have.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.text = self.finish = ""
        self.pieces = 0
        self.refused = False
        self.usage: Any = None

    def take(self, chunk: Any) -> bool:
        """Add a piece; whether the text has grown.

        Raises:
            Unanswered: it is not of OpenAI's form, or the text has got too long to be an answer.
        """
        self.usage = getattr(chunk, "usage", None) or self.usage
        choices = getattr(chunk, "choices", None)
        if not isinstance(choices, list):
            raise Unanswered("a piece in another form than OpenAI's", permanent=False)
        if not choices or self.finish:  # the last piece, which counts
            return False
        self.pieces += 1
        delta = getattr(choices[0], "delta", None)
        self.finish = getattr(choices[0], "finish_reason", None) or ""
        refusal = getattr(delta, "refusal", None)
        self.refused = self.refused or bool(refusal)
        piece = refusal or getattr(delta, "content", None) or ""
        if not isinstance(piece, str) or len(self.text) + len(piece) > self._most:
            raise Unanswered("a piece that is no text, or no end of them", permanent=False)
        self.text += piece
        return bool(piece)


async def _lively(stream: AsyncIterator[Any], timeout_s: float) -> AsyncIterator[Any]:
    """The same pieces, none awaited longer than that.

    Raises:
        Unanswered: the stream stands still.
    """
    while True:
        try:
            yield await asyncio.wait_for(anext(stream), timeout_s)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Unanswered(f"the answer stood still for {timeout_s:g} s", permanent=False) from None


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
