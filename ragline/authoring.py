"""Questions written by a language model: settings, ledger and endpoint put together.

Stands beside `assessment`; the stage generates through it, `ragline estimate` looks ahead through it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt, field_validator
from tokenizers import Tokenizer

from ragline import io
from ragline.artifacts import LEDGER
from ragline.builtin import tokenizer_file
from ragline.errors import ConfigError, DataError
from ragline.llm.calls import Caller, Decoding, Prices, machine
from ragline.llm.ledger import Ledger
from ragline.questions import llm
from ragline.questions.plan import KINDS, Item, plan
from ragline.runtime.params import Section, Watched
from ragline.types import Document, Drop, Passage, QAExample

COUNTED_BY = "builtin:minilm"
"""Its tokenizer counts what a prompt will cost; the ledger's figures correct it for the endpoint's own."""


class PriceList(Section):
    """US dollars for a million tokens."""

    prompt: NonNegativeFloat
    answer: NonNegativeFloat


class PromptFiles(Section):
    """Texts under data/raw that replace the shipped prompts."""

    question: Watched | None = None
    answer: Watched | None = None


class LlmParams(Section):
    """Part `generate_qa.llm`; where the endpoint is and its key belong in the environment."""

    model: Annotated[str, Field(min_length=1)]
    """As the endpoint names it."""
    passages: PositiveInt
    """Passages asked about, one question each; two calls each, and more for malformed answers."""
    kinds: dict[str, NonNegativeInt]
    """Kind of question to how often it comes."""
    temperature: Annotated[float, Field(ge=0, le=2)]
    max_answer_tokens: Annotated[int, Field(ge=32)]
    structured: Literal["json_schema", "json_object", "none"]
    """How the endpoint is told the form of an answer."""
    attempts: Annotated[int, Field(ge=1, le=5)]
    """Calls for one piece before a malformed answer is given up."""
    max_failed: Annotated[float, Field(ge=0, lt=1)]
    """Share of items that may be dropped because the endpoint did not answer; beyond it the stage fails."""
    prices: PriceList
    budget_usd: NonNegativeFloat
    """A run stops before the call that could go beyond it."""
    prompts: PromptFiles = PromptFiles()
    examples: Watched | None = None
    """JSONL under data/raw, questions as your users ask them (key: question); the model is shown the first 20."""

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: dict[str, int]) -> dict[str, int]:
        if unknown := sorted(kinds.keys() - set(KINDS)):
            raise ValueError(f"no kind {', '.join(unknown)}; expected some of {', '.join(KINDS)}")
        if not any(kinds.values()):
            raise ValueError("expected at least one kind with a weight above 0")
        return kinds


SHOWN = 20


class PaidQuestions(Section):
    """What of section `generate_qa` costs money; the stage checks the rest of it."""

    model_config = ConfigDict(extra="ignore")

    llm: LlmParams
    seed: int


def write(
    params: LlmParams, seed: int, documents: Sequence[Document], passages: Sequence[Passage], root: Path
) -> tuple[list[QAExample], list[Drop]]:
    """Ask about the passages, and pay for what the ledger does not hold.

    Raises:
        ConfigError: no endpoint is set, or a prompt lacks a place.
        ServiceError: the endpoint fails, or the budget is spent.
    """
    items, prompts, examples = _prepared(params, documents, passages, root)
    ledger = Ledger(root / LEDGER)
    try:
        caller = _caller(params, seed, ledger, root)
        return llm.generate(items, documents, prompts, examples, params.attempts, params.max_failed, caller)
    finally:
        ledger.close()


def look_ahead(
    params: LlmParams, seed: int, documents: Sequence[Document], passages: Sequence[Passage], root: Path
) -> llm.Estimate:
    """What `write` would pay for now; asks nobody."""
    items, prompts, examples = _prepared(params, documents, passages, root)
    ledger = Ledger(root / LEDGER)
    try:
        return llm.estimate(items, prompts, examples, _caller(params, seed, ledger, root), ledger)
    finally:
        ledger.close()


def _prepared(
    params: LlmParams, documents: Sequence[Document], passages: Sequence[Passage], root: Path
) -> tuple[list[Item], llm.Prompts, list[str]]:
    prompts = llm.load_prompts(*(_text(path, root) for path in (params.prompts.question, params.prompts.answer)))
    examples: list[str] = []
    if params.examples is not None:
        for number, row in io.read_jsonl(root / params.examples):
            if not isinstance(row.get("question"), str):
                raise DataError(f"{params.examples}:{number}: expected the key 'question', got {sorted(row)}; add it")
            examples.append(row["question"])
    return plan(documents, passages, params.kinds, params.passages), prompts, examples[:SHOWN]


def _text(path: str | None, root: Path) -> str | None:
    if path is None:
        return None
    try:
        return (root / path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a readable prompt: {error}; mend generate_qa.llm.prompts") from None


def _caller(params: LlmParams, seed: int, ledger: Ledger, root: Path) -> Caller:
    return Caller(
        ledger=ledger,
        how=Decoding(params.model, params.temperature, params.max_answer_tokens, seed, params.structured),
        prices=Prices(params.prices.prompt, params.prices.answer),
        budget_usd=params.budget_usd,
        at_most=machine(),
        count_tokens=_counter(root),
    )


def _counter(root: Path) -> Callable[[str], int]:
    tokenizer = Tokenizer.from_file(str(tokenizer_file(COUNTED_BY, root)))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
