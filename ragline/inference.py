"""How an encoder runs: in OpenVINO, after a conversion of a few seconds, for many texts on a CPU; in torch otherwise.

Figures are in docs/decisions/0003-openvino-for-encoding.md.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
import openvino as ov
import sentence_transformers
import torch
import transformers
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from ragline import repro
from ragline.errors import ModelError
from ragline.io import Vectors

WORTH_IT = 1000
"""Texts from which the conversion pays."""
_ONE_CALLER = Lock()


class OpenVinoTransformer(nn.Module):
    """Stands in for an encoder from transformers; takes token ids and mask, gives the last hidden states."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.config = model.config
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(torch.get_num_threads())}
        self.request = _compiled(_graph(_LastHidden(model)), settings).create_infer_request()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> BaseModelOutput:
        """(batch, length) int64 ids and mask to (batch, length, d) float32 states."""
        found = self.request.infer({"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()})
        return BaseModelOutput(last_hidden_state=torch.from_numpy(found[0]))


class OpenVinoEncoder:
    """A whole bi-encoder as one graph, transformer, pooling and what follows, that runs every text by itself.

    So a vector depends on no other text, nothing is padded, and texts run side by side on a thread each, which costs
    less than many texts on all threads: their activations stay in the cache and no thread waits for another.
    """

    def __init__(self, model: SentenceTransformer, prompt_tokens: int) -> None:
        """Convert and compile.

        Args:
            prompt_tokens: what the prompt before every text takes, for models whose pooling leaves it out.

        Raises:
            ModelError: OpenVINO cannot take the model over.
        """
        threads = str(_threads())
        try:
            graph = _graph(_Whole(model, prompt_tokens))
            compiled = _compiled(graph, {"NUM_STREAMS": threads, "INFERENCE_NUM_THREADS": threads})
        except RuntimeError as error:
            raise ModelError(
                f"encoder: OpenVINO cannot run {type(model[0].model).__name__}: {' '.join(str(error).split())[:200]}; "
                "use another model, or a GPU"
            ) from error
        self._dim = model.get_embedding_dimension() or 0
        self._requests = ov.AsyncInferQueue(compiled, _threads())

    def __call__(self, texts: Iterable[Mapping[str, Any]]) -> Vectors:
        """Texts as `input_ids` and `attention_mask`, each (1, length) int64, to (n, d) float32."""
        vectors: dict[int, Vectors] = {}

        def take(request: Any, row: int) -> None:
            vectors[row] = request.get_output_tensor(0).data[0, : self._dim].copy()

        self._requests.set_callback(take)
        for row, text in enumerate(texts):  # made while the requests before run
            self._requests.start_async({name: text[name].numpy() for name in ("input_ids", "attention_mask")}, row)
        self._requests.wait_all()
        return np.stack([vectors[row] for row in range(len(vectors))])


def _compiled(graph: ov.Model, settings: dict[str, str]) -> ov.CompiledModel:
    precision = "bf16" if repro.uses_bfloat16() else "f32"
    return ov.Core().compile_model(graph, "CPU", settings | {"INFERENCE_PRECISION_HINT": precision})


def _graph(module: nn.Module) -> ov.Model:
    example = torch.ones(2, 8, dtype=torch.long)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer tells of constants that no input of ours changes
        return ov.convert_model(module, example_input={"input_ids": example, "attention_mask": example})


class _LastHidden(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states


class _Whole(nn.Module):
    def __init__(self, model: SentenceTransformer, prompt_tokens: int) -> None:
        super().__init__()
        self.model = model
        self.prompt_tokens = prompt_tokens

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        features: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        vectors: Tensor = self.model(features | {"prompt_length": self.prompt_tokens})["sentence_embedding"]
        return vectors


def pays(texts: int) -> bool:
    """Whether converting a model is worth it for so many texts; never on a GPU."""
    return texts >= WORTH_IT and repro.device().type == "cpu"


def forward(model: SentenceTransformer, features: Mapping[str, Any]) -> Vectors:
    """One pass in torch: features of n texts to (n, d) float32; in bfloat16 where the device has it."""
    there = {name: value.to(model.device) if isinstance(value, Tensor) else value for name, value in features.items()}
    with torch.inference_mode(), repro.half_precision():
        found = model(there)["sentence_embedding"]
    vectors: Vectors = found[:, : model.get_embedding_dimension()].float().cpu().numpy()
    return vectors


def side_by_side(model: SentenceTransformer, groups: Iterable[Mapping[str, Any]]) -> Iterator[Vectors]:
    """Groups of texts in torch on a CPU, a thread for each: their vectors, (n, d) each, in order.

    Many threads for one short text would mostly wait for each other: 40 questions took 16 s of CPU time that way on two
    busy cores, and 0.6 s so. One caller at a time, as torch's number of threads is the whole process's.
    """
    with _ONE_CALLER:
        threads = _threads()
        torch.set_num_threads(1)  # new threads take it over
        try:
            with ThreadPoolExecutor(threads) as pool:
                yield from pool.map(lambda features: forward(model, features), groups)
        finally:
            torch.set_num_threads(threads)


@cache
def _threads() -> int:
    """As torch had it at first: asked later, in another thread, it may tell of `side_by_side`."""
    return torch.get_num_threads()


def arithmetic() -> str:
    """All of this machine that decides how a vector is rounded: device, instructions, libraries."""
    cuda = repro.device().type == "cuda"
    device = torch.cuda.get_device_name() if cuda else torch.backends.cpu.get_cpu_capability()
    engine = f"torch {torch.__version__}" if cuda else f"openvino {ov.__version__}"
    models = f"transformers {transformers.__version__}, sentence-transformers {sentence_transformers.__version__}"
    return f"{device}, bfloat16 {repro.uses_bfloat16()}, {engine}, {models}"
