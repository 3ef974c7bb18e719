"""Cross-encoders: rank again what search found, reading question and passage together; `rerank_train` makes one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit
from sentence_transformers import CrossEncoder
from torch import nn

from ragline import repro
from ragline.builtin import model_folder
from ragline.errors import ModelError
from ragline.io import digest, file_digest
from ragline.types import Hit

BATCH = 32
WEIGHTS_AND_SETTINGS = (".safetensors", ".json", ".txt", ".model")

SURE = (np.finfo(np.float64).tiny, np.nextafter(1.0, 0.0))
"""The least and the greatest probability, so that both stay within (0, 1)."""

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reranker:
    """A cross-encoder with one output: how surely the passage answers the question."""

    model: CrossEncoder

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """Probability, by the model, that each text answers the question; what mining takes for a relabelling."""
        found: list[float] = self._score([(question, text) for text in texts]).tolist()
        return found

    def rerank(self, questions: Sequence[str], hits: Sequence[Sequence[Hit]]) -> list[list[Hit]]:
        """Rank the hits of each question again, ties by passage_id as in scoring.

        Returns:
            The same passages, best first, each with its probability; (n_questions, as many hits as given).
        """
        pairs = [
            (question, hit.passage.encoded_text)
            for question, found in zip(questions, hits, strict=True)
            for hit in found
        ]
        scores = iter(self._score(pairs).tolist())
        again = [[Hit(hit.passage, next(scores)) for hit in found] for found in hits]
        return [sorted(found, key=lambda hit: (-hit.score, hit.passage.passage_id)) for found in again]

    def _score(self, pairs: list[tuple[str, str]]) -> Scores:
        """(n,) float64 in (0, 1); by float32 the surest ones would all be 1.

        Equal pairs are read once, as a model gives them scores that differ in the last digits.
        """
        if not pairs:
            return np.empty(0)
        places = {pair: place for place, pair in enumerate(dict.fromkeys(pairs))}
        logits: Any = self.model.predict(
            list(places), batch_size=BATCH, activation_fn=nn.Identity(), show_progress_bar=False, convert_to_numpy=True
        )
        probabilities: Scores = np.clip(expit(np.asarray(logits, dtype=np.float64)), *SURE)
        if not np.isfinite(probabilities).all():
            raise ModelError("reranker: expected finite scores, got NaN; use another model")
        return probabilities[[places[pair] for pair in pairs]]


def load(name: str, root: Path = Path()) -> Reranker:
    """Load a trained cross-encoder by folder or hub id.

    Raises:
        ModelError: there is no such model; it has no trained head, as a bi-encoder has none; or more than one output.
    """
    model = cross_encoder(name, root)
    transformer: Any = model.model
    kind, saved = type(transformer).__name__, transformer.config.architectures or ()
    if kind.endswith("ForSequenceClassification") and kind not in saved:
        raise ModelError(
            f"{name}: expected a cross-encoder, got {', '.join(saved) or 'a model'} without a trained head, "
            "which would rank by chance; name another, or train one from it"
        )
    if model.num_labels != 1:
        raise ModelError(f"{name}: expected a cross-encoder with one output, got {model.num_labels}; name another")
    return Reranker(model.eval())


def fingerprint(name: str, root: Path = Path()) -> str:
    """sha256 over the names and bytes of a model's files that decide its scores.

    Raises:
        ModelError: there is no such model.
    """
    folder = model_folder(name, root)
    files = sorted(file for file in folder.rglob("*") if file.suffix in WEIGHTS_AND_SETTINGS)
    return digest(*(part for file in files for part in (file.relative_to(folder).as_posix(), file_digest(file))))


def cross_encoder(name: str, root: Path = Path(), num_labels: int | None = None) -> CrossEncoder:
    """The model behind a reranker, whether or not its head was trained.

    Args:
        name: as `builtin.model_folder` takes it.
        num_labels: outputs of a head that the model lacks.

    Raises:
        ModelError: there is no such model, or its head has another number of outputs.
    """
    where = model_folder(name, root)
    kwargs = {"dtype": torch.float32, "use_safetensors": True}  # the other form of weights is a pickle
    try:
        model: CrossEncoder = CrossEncoder(
            str(where), device=str(repro.device()), model_kwargs=kwargs, num_labels=num_labels
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # torch tells of weights that do not fit
        raise ModelError(f"{name}: not a usable cross-encoder: {' '.join(str(error).split())[:200]}") from error
    return model
