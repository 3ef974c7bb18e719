"""Answers from any endpoint that speaks OpenAI's protocol: paid once, counted where they fail.

What goes wrong never becomes an answer: it is a failure with its reason; beyond a share of the questions, one error.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer

from ragline import io
from ragline.artifacts import LEDGER
from ragline.builtin import tokenizer_file
from ragline.errors import ModelError
from ragline.generation import prompts
from ragline.generation.generator import Written, grounded
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

    def answer(self, questions: Sequence[str], retrieved: Sequence[Sequence[Hit]]) -> list[Written]:
        """As `Generator.answer`; temperature 0, so that the ledger's answer is as good as another."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._answers(questions, retrieved)
        with ThreadPoolExecutor(1) as aside:  # a notebook's loop is running, and a thread has one loop at most
            return aside.submit(self._answers, questions, retrieved).result()

    def _answers(self, questions: Sequence[str], retrieved: Sequence[Sequence[Hit]]) -> list[Written]:
        tokenizer = _tokenizer(self.root)
        read = [list(hits)[: self.limits.passages] for hits in retrieved]
        asked = {
            row: _Asked(self._prompt(tokenizer, questions[row], hits), hits) for row, hits in enumerate(read) if hits
        }
        ledger = Ledger(self.root / LEDGER)
        try:
            caller = Caller(
                ledger=ledger,
                how=Decoding(self.terms.model, 0.0, self.limits.max_answer_tokens, self.terms.seed, "none"),
                prices=self.terms.prices,
                purse=self.purse,
                at_most=machine(),
                count_tokens=lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids),
            )
            found = work.through(
                list(asked.values()),
                lambda item: _answered(caller, item),
                caller,
                self.terms.max_failed,
                SETTINGS,
                "answers by the endpoint",
            )
        finally:
            ledger.close()
        answers = [Written("", ())] * len(questions)
        for row, given in zip(asked, found, strict=True):
            answers[row] = Written("", (), given.reason) if isinstance(given, work.Failed) else given
        if failed := sum(bool(given.failed) for given in answers):
            log.warning("answers by the endpoint: %d of %d questions got none", failed, len(questions))
        return answers

    def _prompt(self, tokenizer: Tokenizer, question: str, hits: Sequence[Hit]) -> Prompt:
        text = prompts.fitted(
            question,
            [hit.passage.encoded_text for hit in hits],
            self.limits.max_input_tokens,
            lambda content: content,
            lambda part: tokenizer.encode(part, add_special_tokens=False).offsets,
        )
        return Prompt((Message("user", text),))


async def _answered(caller: Caller, item: _Asked) -> Written | work.Failed:
    """The first answer of any use; useless ones of earlier runs are passed over, so that asking again may help.

    Raises:
        Unanswered: all of `ATTEMPTS` new answers are blank, or end inside the model's thoughts.
    """
    attempt = paid = 0
    finish = ""
    while paid < ATTEMPTS:
        prompt = replace(item.prompt, attempt=attempt)
        paid += caller.ledger.get(key(prompt, caller.how)) is None
        reply = await caller.ask(prompt)
        if reply.finish in ("refusal", "content_filter"):
            return work.Failed("refused by the model", reply.answer[:200])
        said = prompts.parse(reply.answer, len(item.read))
        if said.text or said.declined:
            return grounded(said, item.read)
        attempt, finish = attempt + 1, reply.finish
    raise Unanswered(f"{attempt} empty answers, finish: {finish}", permanent=False)


def _tokenizer(root: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(tokenizer_file(COUNTED_BY, root)))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


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
