"""Parts of section `train_generator` that more than its stage reads: a served model that answers."""

from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, NonNegativeFloat, PositiveInt

from ragline.generation.endpoint import Endpoint, Terms
from ragline.generation.language_model import Limits
from ragline.llm.calls import Prices
from ragline.runtime.params import Section


class EndpointParams(Section):
    """With method `endpoint`: what answers may cost; where it is and its key belong in the environment."""

    prompt_usd: NonNegativeFloat
    """For a million tokens read."""
    answer_usd: NonNegativeFloat
    """For a million tokens written."""
    budget_usd: NonNegativeFloat
    """Of one `evaluate`, all its sets together, or one `ragline ask`; answering stops before the call that could go
    beyond it."""
    max_failed: Annotated[float, Field(ge=0, lt=1)]
    """Share of a set's questions that may stay without an answer because the endpoint gave none, or a useless one;
    beyond it evaluation fails."""

    def terms(self, model: str, seed: int) -> Terms:
        """As the generator that answers takes them."""
        return Terms(model, Prices(self.prompt_usd, self.answer_usd), self.budget_usd, self.max_failed, seed)


class OnlyEndpoint(Section):
    """Of a section with method `endpoint` what looking ahead needs; the stage checks the rest."""

    model_config = ConfigDict(extra="ignore")

    base_model: str
    """As the endpoint names it."""
    passages: PositiveInt
    max_input_tokens: PositiveInt
    max_answer_tokens: PositiveInt
    seed: int
    endpoint: EndpointParams

    def generator(self, root: Path) -> Endpoint:
        """The one that the stage would write."""
        limits = Limits(self.passages, self.max_input_tokens, self.max_answer_tokens)
        return Endpoint(self.endpoint.terms(self.base_model, self.seed), limits, root)
