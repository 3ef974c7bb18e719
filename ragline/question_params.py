"""Section `generate_qa` of params.yaml: where questions come from, and what they have to pass."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, field_validator, model_validator

from ragline.questions.filters import FILTERS, PAID
from ragline.questions.plan import KINDS
from ragline.retrieval.language import Language
from ragline.runtime.params import Section, Watched
from ragline.types import SPLITS, Split


class PriceList(Section):
    """US dollars for a million tokens."""

    prompt: NonNegativeFloat
    answer: NonNegativeFloat


class PromptFiles(Section):
    """Texts under data/raw that replace the shipped prompts."""

    question: Watched | None = None
    answer: Watched | None = None


class ModelParams(Section):
    """A language model behind an endpoint; where that is and its key belong in the environment."""

    model: Annotated[str, Field(min_length=1)]
    """As the endpoint names it."""
    temperature: Annotated[float, Field(ge=0, le=2)]
    max_answer_tokens: Annotated[int, Field(ge=32)]
    structured: Literal["json_schema", "json_object", "none"]
    """How the endpoint is told the form of an answer."""
    attempts: Annotated[int, Field(ge=1, le=5)]
    """Calls for one piece before a malformed answer is given up."""
    max_failed: Annotated[float, Field(ge=0, lt=1)]
    """Share of what is asked for one purpose, questions or one filter, that the endpoint may leave unanswered."""
    prices: PriceList
    budget_usd: NonNegativeFloat
    """A run stops before the call that could go beyond it."""


class LlmParams(ModelParams):
    """Part `generate_qa.llm`: who writes questions, and about what."""

    passages: PositiveInt
    """Passages asked about, one question each; two calls each, and more for malformed answers."""
    kinds: dict[str, NonNegativeInt]
    """Kind of question to how often it comes."""
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


class ImportFiles(Section):
    """LocalRQA's JSONL files under data/raw; the list they stand in is their split."""

    train: tuple[Watched, ...] = ()
    dev: tuple[Watched, ...] = ()
    test: tuple[Watched, ...] = ()

    def of(self, split: Split) -> tuple[str, ...]:
        """The files of one split."""
        files: tuple[str, ...] = getattr(self, split)
        return files


class QuestionParams(Section):
    """Section `generate_qa` of params.yaml."""

    borrows: ClassVar = {"language": "build_index.language"}

    language: Language
    """What BM25 takes the documents for, where a filter searches them."""
    method: Literal["rules", "llm", "import"]
    """Ask by rule what the documents answer, let a language model ask, or take questions as they are."""
    llm: LlmParams | None = None
    """For `method: llm`, and only for it."""
    filter_model: ModelParams | None = None
    """Whom the filters ask that ask a model; where it is not given, the model that writes, at temperature 0."""
    files: ImportFiles | None = Field(default=None, alias="import")
    """For `method: import`, and only for it."""
    max_per_document: PositiveInt
    """Rules: questions kept of one document."""
    max_per_passage: PositiveInt | None = None
    """Rules: questions kept with the same first gold passage; no such cap where it is not given."""
    filters: tuple[str, ...]
    """What every question has to pass, whoever made it; see docs/question_filters.md."""
    leaks: Literal["drop", "stop", "report"]
    """What becomes of dev and test questions that training gives away."""
    human: tuple[Watched, ...] | None = None
    """Questions that people wrote, JSONL or CSV under data/raw; they join whatever else there is."""
    seed: int
    """Rules: varies the wording, and the choice within the caps. The model's, too."""

    @field_validator("filters")
    @classmethod
    def _known(cls, filters: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(filters) - FILTERS.keys()):
            raise ValueError(f"no filter {', '.join(unknown)}; expected some of {', '.join(FILTERS)}")
        return filters

    @model_validator(mode="after")
    def _what_goes_together(self) -> Self:
        given = self.files is not None and any(map(self.files.of, SPLITS))
        if given != (self.method == "import"):
            raise ValueError("expected `import: {train: [...], dev: [...], test: [...]}` with `method: import` only")
        if (self.llm is not None) != (self.method == "llm"):
            raise ValueError("expected `llm: {model: ..., ...}` with `method: llm` only")
        paid = [name for name in self.filters if name in PAID]
        if paid and self.llm is None and self.filter_model is None:
            raise ValueError(f"{', '.join(paid)} ask a language model: expected `filter_model: {{model: ..., ...}}`")
        if self.filter_model is not None and not paid:
            raise ValueError(f"filter_model: no filter asks it; switch on some of {', '.join(PAID)}, or leave it out")
        return self
