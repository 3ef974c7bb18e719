"""Answers from any endpoint that speaks OpenAI's protocol: paid once, counted where they fail.

What goes wrong never becomes an answer: it is a failure with its reason; beyond a share of the questions, one error.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
from ragline.llm.calls import Caller, Decoding, Message, Prices, Prompt, Purse, machine
from ragline.llm.ledger import Ledger
from ragline.progress import log
from ragline.types import Hit

CONFIG = "endpoint.json"
COUNTED_BY = "builtin:minilm"
"""Its tokenizer counts a prompt, as the endpoint's own is not known."""
SETTINGS = "train_generator.endpoint"


@dataclass(frozen=True)
class Terms:
    """Who is asked, and what it may cost."""

    model: str
    """As the endpoint names it."""
    prices: Prices
    budget_usd: float
    """Of one run."""
    max_failed: float
    """Share of questions that may stay without an answer because the endpoint did not give one."""
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

    def answer(self, questions: Sequence[str], retrieved: Sequence[Sequence[Hit]]) -> list[Written]:
        """As `Generator.answer`; temperature 0, so that the ledger's answer is as good as another."""
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
                purse=Purse(self.terms.budget_usd),
                at_most=machine(),
                count_tokens=lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids),
            )

            async def one(item: _Asked) -> Written:
                reply = await caller.ask(item.prompt)
                if reply.finish in ("refusal", "content_filter"):
                    return Written("", (), "refused by the model")
                if not reply.answer.strip():
                    return Written("", (), f"an empty answer ({reply.finish})")
                return grounded(prompts.parse(reply.answer, len(item.read)), item.read)

            found = work.through(
                list(asked.values()), one, caller, self.terms.max_failed, SETTINGS, "answers by the endpoint"
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
