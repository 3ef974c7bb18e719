"""Low-rank adapters: train a few numbers beside frozen weights, and add them in at the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from sentence_transformers import SentenceTransformer
from torch import nn

from ragline.errors import ConfigError


@dataclass(frozen=True)
class Lora:
    """Shape of the adapters.

    Source: Hu et al., LoRA, ICLR 2022.
    """

    r: int
    """Rank of the update."""
    alpha: int
    """The update counts `alpha / r` times."""
    dropout: float
    """Share of an adapter's inputs dropped while training."""
    targets: Sequence[str]
    """Names of the linear layers that get one, such as `query` and `value`."""


def add(model: SentenceTransformer, lora: Lora) -> PeftModel:
    """Put adapters into the transformer of `model`, and freeze everything else.

    Raises:
        ConfigError: the transformer has no layers of these names.
    """
    transformer: Any = model[0]
    config = LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=list(lora.targets), bias="none"
    )
    linear = sorted({n.rpartition(".")[2] for n, m in transformer.model.named_modules() if isinstance(m, nn.Linear)})
    try:
        return get_peft_model(transformer.model, config)
    except ValueError:
        raise ConfigError(
            f"train_retriever.lora.targets: expected some of {', '.join(linear)}, got {', '.join(lora.targets)}"
        ) from None


def merge(model: SentenceTransformer, adapted: PeftModel) -> None:
    """Add the adapters' updates to the weights and take the adapters out of `model` again."""
    transformer: Any = model[0]
    transformer.model = adapted.merge_and_unload()
    transformer.model.requires_grad_(True)
