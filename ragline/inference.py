"""A transformer's forward pass in OpenVINO: 1.3 to 1.4 times the pace of torch in bfloat16 on two idle cores.

Worth its conversion, a few seconds, only where hundreds of texts follow.
"""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import openvino as ov
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from ragline import repro

WORTH_IT = 1000
"""Texts from which the conversion pays."""


class OpenVinoTransformer(nn.Module):
    """Stands in for an encoder from transformers; takes token ids and mask, gives the last hidden states."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.config = model.config
        example = torch.ones(2, 8, dtype=torch.long)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the tracer tells of constants that no input of ours changes
            graph = ov.convert_model(
                _LastHidden(model), example_input={"input_ids": example, "attention_mask": example}
            )
        settings = {"PERFORMANCE_HINT": "LATENCY"}  # in bfloat16 where the CPU has it
        settings["INFERENCE_NUM_THREADS"] = str(torch.get_num_threads())
        self.request = ov.Core().compile_model(graph, "CPU", settings).create_infer_request()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> BaseModelOutput:
        """(batch, length) int64 ids and mask to (batch, length, d) float32 states."""
        found = self.request.infer({"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()})
        return BaseModelOutput(last_hidden_state=torch.from_numpy(found[0]))


class _LastHidden(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states


def pays(texts: int) -> bool:
    """Whether converting a model is worth it for so many texts; never on a GPU."""
    return texts >= WORTH_IT and repro.device().type == "cpu"


@contextlib.contextmanager
def accelerated(model: SentenceTransformer, texts: int) -> Iterator[None]:
    """Run a bi-encoder's transformer in OpenVINO while many texts are encoded on a CPU, in torch otherwise."""
    transformer: Any = model[0]
    original: nn.Module = transformer.model
    if not pays(texts):
        with repro.half_precision():
            yield
        return
    transformer.model = OpenVinoTransformer(original)
    try:
        yield
    finally:
        transformer.model = original
