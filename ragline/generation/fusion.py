"""Fusion-in-decoder for any encoder-decoder of transformers: T5, BART and the like.

The encoder reads each passage by itself, beside the question; the decoder attends to all of them at once. So reading
costs as much as the passages are many, where reading them in one prompt costs their square, and their order means
nothing. Weights and files are those of the plain model.

Source: Izacard and Grave, Leveraging Passage Retrieval with Generative Models for Open Domain Question Answering, EACL
2021, section 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from ragline.generation import language_model
from ragline.generation.language_model import LanguageModel, Prompt, pad, padded
from ragline.types import Hit

TOKENS_AT_ONCE = 32768
"""Passage tokens of all questions that are answered at once; each decoder layer keeps keys and values of them."""


@dataclass(frozen=True)
class Fused(LanguageModel):
    """An encoder-decoder that reads passages one by one; its passages have no numbers, so it cites none itself."""

    @property
    def batch(self) -> int:
        """Questions answered at once: as many as `TOKENS_AT_ONCE` holds for certain."""
        longest = self.limits.passages * self.limits.max_input_tokens
        return max(1, min(language_model.BATCH, TOKENS_AT_ONCE // longest))

    def numbered(self, read: Sequence[Hit]) -> int:
        """As `LanguageModel.numbered`."""
        return 0

    def prompt(self, question: str, texts: Sequence[str]) -> Prompt:
        """As `LanguageModel.prompt`, one list for each passage; without passages the question alone."""
        limit = self.limits.max_input_tokens
        return [self.wording.passage_tokens(question, text, limit) for text in texts or ("",)]

    def inputs(self, asked: Sequence[Prompt]) -> dict[str, Tensor]:
        """A padded batch of prompts: ids (n, most passages, longest), mask (n, most passages * longest)."""
        most = max(map(len, asked))
        rows = [tokens for prompt in asked for tokens in (*prompt, *[[]] * (most - len(prompt)))]
        ids, mask = padded(rows, pad(self.tokenizer))
        return {"input_ids": ids.view(len(asked), most, -1), "attention_mask": mask.view(len(asked), -1)}

    def _sources(self, asked: Sequence[Prompt]) -> dict[str, Any]:
        found = super()._sources(asked)
        return {"encoder_outputs": self.model.get_encoder()(**found), "attention_mask": found["attention_mask"]}


def fused(reader: LanguageModel) -> Fused:
    """The same model, its encoder taught to take several passages for each question."""
    read_passages_alone(reader.model)
    return Fused(reader.model, reader.tokenizer, reader.limits)


def read_passages_alone(model: PreTrainedModel) -> None:
    """Let a model's encoder take ids (n, passages, length) and mask (n, passages * length), too.

    It gives states (n, passages * length, d), those of a passage without tokens 0. Nothing else of the model knows: the
    decoder sees one long text, and the mask that belongs to it. The encoder's parameters keep their names.
    """
    encoder: Any = model.get_encoder()
    plain = encoder.forward

    @wraps(plain)
    def forward(input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **rest: Any) -> Any:
        if input_ids is None or attention_mask is None or input_ids.dim() < 3:
            return plain(input_ids=input_ids, attention_mask=attention_mask, **rest)
        mask = attention_mask.view(input_ids.shape)
        there = mask.any(dim=-1)  # (n, passages)
        found = plain(input_ids=input_ids[there], attention_mask=mask[there], **rest).last_hidden_state
        states = found.new_zeros(*input_ids.shape, found.shape[-1])
        states[there] = found
        return BaseModelOutput(last_hidden_state=states.flatten(1, 2))

    encoder.forward = forward
