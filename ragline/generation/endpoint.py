"""Answers from any endpoint that speaks OpenAI's protocol: paid once, counted where they fail.

What goes wrong never becomes an answer: it is a failure with its reason; beyond a share of the questions, one error.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from tokenizers import Tokenizer

from ragline import io
from ragline.artifacts import LEDGER
from ragline.builtin import tokenizer_file
from ragline.errors import ModelError
from ragline.generation import followups, prompts
from ragline.generation.generator import Telling, Written, beside, grounded
from ragline.generation.language_model import Limits
from ragline.llm import work
from ragline.llm.calls import Caller, Decoding, Message, Prices, Prompt, Purse, Unanswered, key, machine
from ragline.llm.ledger import Ledger
from ragline.progress import log
from ragline.types import Hit

CONFIG = "endpoint.json"
COUNTED_BY = "builtin:minilm"
"""Its tokenizer counts a prompt, as the endpoint's own is not known."""
SETTINGS = "train_generator.endpoint"
ATTEMPTS = 2
"""Calls that a run pays for where the answers to a question are useless; another run pays for as many new ones."""


@dataclass(frozen=True)
class Terms:
    """Who is asked, and what it may cost."""

    model: str
    """As the endpoint names it."""
    prices: Prices
    budget_usd: float
    """Of all that is asked between loading the generator and the end: one `evaluate`, or one `ragline ask`."""
    max_failed: float
    """Share of questions that may stay without an answer because the endpoint gave none, or a useless one."""
    seed: int


@dataclass(frozen=True)
class _Asked:
    prompt: Prompt
    read: Sequence[Hit]


@dataclass(frozen=True)
class _FollowUp:
    question: str
    turns: Sequence[followups.Turn]


@dataclass(frozen=True)
class Ahead:
    """What answering would ask."""

    to_pay: list[Prompt]
    """Calls that the ledger cannot answer; a useless answer would cost another."""
    caller: Caller


T = TypeVar("T")


@dataclass(frozen=True)
class Endpoint:
    """The model behind OPENAI_BASE_URL."""

    terms: Terms
    limits: Limits
    root: Path
    """Of the project, where the ledger of calls is."""

    @cached_property
    def purse(self) -> Purse:
        """The budget, one for all sets of questions."""
        return Purse(self.terms.budget_usd)

    @property
    def reads(self) -> int:
        """As `Generator.reads`."""
        return self.limits.passages

    def answer(self, questions: Sequence[str], retrieved: Sequence[Sequence[Hit]]) -> list[Written]:
        """As `Generator.answer`; temperature 0, so that the ledger's answer is as good as another."""
        return _apart(lambda: self._answers(questions, retrieved))

    def stream(self, question: str, hits: Sequence[Hit]) -> Iterator[str | Written]:
        """As `Generator.stream`; an answer that `answer` was given before comes in one piece, and is not paid again."""
        read = list(hits)[: self.reads]
        if not read:
            return iter([Written("", ())])
        item = _Asked(self._prompt(question, read), read)

        def write(tell: Callable[[str], None]) -> Written:
            telling = Telling(len(read), tell)
            with self._caller() as caller:
                found = work.alone(lambda: _answered(caller, item, telling.so_far), caller, SETTINGS)
            return Written("", (), found.reason) if isinstance(found, work.Failed) else telling.whole(found)

        return beside(write)

    def rewrite(
        self, questions: Sequence[str], histories: Sequence[Sequence[followups.Turn]], history_tokens: int
    ) -> list[followups.Standalone]:
        """As `followups.Rewriter.standalone`, by the model that answers.

        Args:
            history_tokens: of earlier turns that it reads, at most; no more than the prompt has room for.
        """
        return _apart(lambda: self._rewrite(questions, histories, history_tokens))

    def _rewrite(
        self, questions: Sequence[str], histories: Sequence[Sequence[followups.Turn]], history_tokens: int
    ) -> list[followups.Standalone]:
        asked: dict[int, _FollowUp] = {}
        for row, (question, turns) in enumerate(zip(questions, histories, strict=True)):
            room = self.limits.max_input_tokens - len(self._offsets(followups.prompt(question, [])))
            if kept := followups.recent(turns, min(history_tokens, room), self._offsets):
                asked[row] = _FollowUp(question, kept)
        if not asked:
            return [followups.Standalone(question) for question in questions]
        with self._caller() as caller:
            items = list(asked.values())
            found = work.through(items, lambda item: _rewritten(caller, item), caller, 0, SETTINGS, "follow-ups")
        by_row = {row: given for row, given in zip(asked, found, strict=True) if not isinstance(given, work.Failed)}
        if failed := sum(bool(given.failed) for given in by_row.values()):
            log.warning("follow-ups: %d of %d are searched as they were typed", failed, len(asked))
        return [by_row.get(row, followups.Standalone(question)) for row, question in enumerate(questions)]

    @contextmanager
    def look_ahead(self, questions: Sequence[str], retrieved: Sequence[Sequence[Hit]]) -> Iterator[Ahead]:
        """What `answer` would pay for now, while the ledger is open; asks nobody."""
        with self._caller() as caller:
            asked = [
                self._prompt(question, hits[: self.reads]) for question, hits in zip(questions, retrieved, strict=True)
            ]
            yield Ahead([p for p in asked if caller.ledger.get(key(p, caller.how)) is None], caller)

    @contextmanager
    def _caller(self) -> Iterator[Caller]:
        ledger = Ledger(self.root / LEDGER)
        try:
            yield Caller(
                ledger=ledger,
                how=Decoding(self.terms.model, 0.0, self.limits.max_answer_tokens, self.terms.seed, "none"),
                prices=self.terms.prices,
                purse=self.purse,
                at_most=machine(),
                count_tokens=lambda text: len(self._offsets(text)),
            )
        finally:
            ledger.close()

    def _answers(self, questions: Sequence[str], retrieved: Sequence[Sequence[Hit]]) -> list[Written]:
        read = [list(hits)[: self.reads] for hits in retrieved]
        asked = {row: _Asked(self._prompt(questions[row], hits), hits) for row, hits in enumerate(read) if hits}
        if not asked:
            return [Written("", ())] * len(questions)
        with self._caller() as caller:
            found = work.through(
                list(asked.values()),
                lambda item: _answered(caller, item),
                caller,
                self.terms.max_failed,
                SETTINGS,
                "answers by the endpoint",
            )
        answers = [Written("", ())] * len(questions)
        for row, given in zip(asked, found, strict=True):
            answers[row] = Written("", (), given.reason) if isinstance(given, work.Failed) else given
        if failed := sum(bool(given.failed) for given in answers):
            log.warning("answers by the endpoint: %d of %d questions got none", failed, len(questions))
        return answers

    def _offsets(self, text: str) -> list[tuple[int, int]]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).offsets)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        tokenizer = Tokenizer.from_file(str(tokenizer_file(COUNTED_BY, self.root)))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def _prompt(self, question: str, hits: Sequence[Hit]) -> Prompt:
        text = prompts.fitted(
            question,
            [hit.passage.encoded_text for hit in hits],
            self.limits.max_input_tokens,
            lambda content: content,
            self._offsets,
        )
        return Prompt((Message("user", text),))


@dataclass(frozen=True)
class ByModel:
    """The model that answers, as a `followups.Rewriter`."""

    model: Endpoint
    history_tokens: int
    """Of earlier turns that it reads."""

    def standalone(
        self, questions: Sequence[str], histories: Sequence[Sequence[followups.Turn]]
    ) -> list[followups.Standalone]:
        """As `followups.Rewriter.standalone`; where the model gives nothing of use, the question stays as typed."""
        return self.model.rewrite(questions, histories, self.history_tokens)


async def _answered(caller: Caller, item: _Asked, tell: Callable[[str], None] | None = None) -> Written | work.Failed:
    """The first answer of any use; useless ones of earlier runs are passed over, so that asking again may help.

    Args:
        tell: takes the answer so far; what it was told of a useless one shows nothing.

    Raises:
        Unanswered: all of `ATTEMPTS` new answers are blank, or end inside the model's thoughts.
    """
    attempt = paid = 0
    finish = ""
    while paid < ATTEMPTS:
        prompt = replace(item.prompt, attempt=attempt)
        paid += caller.ledger.get(key(prompt, caller.how)) is None
        reply = await (caller.ask(prompt) if tell is None else caller.stream(prompt, tell))
        if reply.finish in ("refusal", "content_filter"):
            return work.Failed("refused by the model", reply.answer[:200])
        said = prompts.parse(reply.answer, len(item.read))
        if said.text or said.declined:
            return grounded(said, item.read)
        attempt, finish = attempt + 1, reply.finish
    raise Unanswered(f"{attempt} empty answers, finish: {finish}", permanent=False)


async def _rewritten(caller: Caller, item: _FollowUp) -> followups.Standalone:
    try:
        reply = await caller.ask(Prompt((Message("user", followups.prompt(item.question, item.turns)),)))
    except Unanswered as error:
        return followups.Standalone(item.question, f"no reply: {error}")
    broken = reply.finish in ("refusal", "content_filter", "length")
    if broken or (found := followups.rewritten(reply.answer, item.question, item.turns)) is None:
        return followups.Standalone(item.question, "the model's reply was no question")
    return followups.Standalone(found)


def _apart(do: Callable[[], T]) -> T:
    """Do it where no loop is running: a notebook has one, and a thread has one loop at most."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return do()
    with ThreadPoolExecutor(1) as aside:
        return aside.submit(do).result()


def save(terms: Terms, limits: Limits, folder: Path) -> None:
    """Write whom to ask and how; where the endpoint is and its key stay in the environment."""
    with io.whole_folder(folder) as part:
        io.write_json({"terms": asdict(terms), "limits": asdict(limits)}, part / CONFIG)


def load(folder: Path, root: Path = Path()) -> Endpoint:
    """Read what `save` wrote; asks nobody yet.

    Raises:
        MissingArtifact: nothing there.
        ModelError: it is not what `save` writes.
    """
    settings = io.read_json(folder / CONFIG)
    try:
        terms = settings["terms"]
        return Endpoint(Terms(**terms | {"prices": Prices(**terms["prices"])}), Limits(**settings["limits"]), root)
    except (TypeError, KeyError) as error:
        raise ModelError(f"{folder / CONFIG}: not an endpoint: {error}; run `dvc repro train_generator`") from None
