"""Contrastive losses as the trainer calls them: which passages stand in a batch, encoded how, weighed how."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.gradcache import CachedLossMixin
from sentence_transformers.util.distributed import all_gather, all_gather_with_grad, get_rank, get_world_size
from torch import Tensor, nn

from ragline.errors import DataError
from ragline.io import Vectors
from ragline.retrieval import contrast
from ragline.types import Passage, QAExample

Rows = npt.NDArray[np.int64]
Features = dict[str, Tensor]

PIECE = 16
"""Passages of like length that a forward pass holds: on two cores, padding costs more than another pass."""
HARD_SHARE = 0.05
"""Hard negatives per question of a batch in LocalRQA, its default."""


@dataclass(frozen=True)
class Candidates:
    """Passages that stand beside each example: its positive first, then its negatives."""

    passages: Sequence[Passage]
    """The corpus."""
    rows: Rows
    """(n_examples, n_columns): places in the corpus."""

    def beside(self, batch: Sequence[int]) -> Rows:
        """(batch · columns,) places of a batch's candidates: the positives of all, then the first negatives of all."""
        return self.rows[list(batch)].T.ravel()


def distinct(rows: Rows, passages: Sequence[Passage]) -> tuple[Rows, Rows]:
    """Each passage once, the longest first, so that passages of like length are encoded together.

    Returns:
        unique: (n_unique,) places in the corpus.
        places: as `rows`; `unique[places]` gives them back.
    """
    unique, places = np.unique(rows, return_inverse=True)
    lengths = np.array([len(passages[row].encoded_text) for row in unique.tolist()], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return unique[order], rank[places]


class BatchLoss(Protocol):
    """What the collator and the trainer need of a loss."""

    candidates: Candidates

    def rows(self, batch: Sequence[int]) -> Rows:
        """Places in the corpus of the passages to be encoded for a batch; the same at every call."""
        ...


class VectorLoss(CachedLossMixin, nn.Module):
    """A loss of the vectors of questions and of the passages beside them; how it weighs them is for `compare` to say.

    A passage that stands in the batch several times is encoded once.

    Source: for gradient caching Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup,
    RepL4NLP 2021; it runs in sentence-transformers' `CachedLossMixin`.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        candidates: Candidates,
        vectors: Vectors | None = None,
        mini_batch_size: int | None = None,
    ) -> None:
        """Args beyond those of `train.Schedule`.

        Args:
            vectors: (n_passages, d) float32 of the whole corpus, where passages keep the vectors that they have.
            mini_batch_size: texts of which the activations are held at a time; all of the batch's where None.
        """
        super().__init__()
        self.model = model
        self.candidates = candidates
        self.vectors = vectors
        self.uses_gradient_cache = mini_batch_size is not None
        self.mini_batch_size = mini_batch_size or PIECE

    def rows(self, batch: Sequence[int]) -> Rows:
        """Every candidate, the first ones of all questions first."""
        return self.candidates.beside(batch)

    def compare(self, questions: Tensor, encoded: Tensor | None, labels: Tensor) -> Tensor:
        """The loss of a batch, a scalar.

        Args:
            questions: (batch, d).
            encoded: (n_distinct, d), the batch's passages as `distinct` orders them; None where vectors are given.
            labels: (batch,) int64, numbers of the examples.
        """
        raise NotImplementedError

    def forward(self, features: Iterable[Features], labels: Tensor) -> Tensor:
        """Loss of one batch.

        Args:
            features: tokenised questions and, unless the passages' vectors are given, the batch's passages as
                `distinct` orders them.
            labels: (batch,) int64, numbers of the examples.
        """
        asked, *offered = features
        if self.uses_gradient_cache:
            loss: Tensor = self.forward_cached([asked, *offered], labels)
            return loss
        encoded = [[piece for piece, _ in self.embed_minibatch_iter(column, True, False)] for column in offered]
        return self.calculate_loss([[self.model(asked)["sentence_embedding"]], *encoded], labels)

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """Loss of vectors that come in pieces; with `with_backward` their gradients, too."""
        assert labels is not None
        questions, *encoded = (torch.cat(pieces).float() for pieces in reps)
        loss = self.compare(questions, encoded[0] if encoded else None, labels)
        if with_backward:
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach() if with_backward else loss

    def beside(self, encoded: Tensor, labels: Tensor) -> Tensor:
        """(columns, batch, d): encoded passages put beside this process's own questions."""
        _, places = distinct(self.rows(labels.tolist()), self.candidates.passages)
        return encoded[torch.from_numpy(places).to(encoded.device)].view(-1, len(labels), encoded.shape[1])


class MaskedContrastiveLoss(VectorLoss):
    """Cross-entropy of each question over all passages of the batch, without its unlabelled positives.

    What leaves the denominator is told by `contrast.unlabelled`. A passage that stands in the batch several times
    counts each time. Where several processes train together, each one's questions see the passages of all, and the mean
    of their gradients is that of one process with the whole batch.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        examples: Sequence[QAExample],
        candidates: Candidates,
        temperature: float,
        vectors: Vectors | None = None,
        *,
        symmetric: bool = False,
        matryoshka: Sequence[int] = (),
        mini_batch_size: int | None = None,
    ) -> None:
        """Args are those of `train.Schedule` and of `VectorLoss`."""
        super().__init__(model, candidates, vectors, mini_batch_size)
        self.examples = examples
        self.temperature = temperature
        self.symmetric = symmetric
        self.matryoshka = tuple(matryoshka)

    def compare(self, questions: Tensor, encoded: Tensor | None, labels: Tensor) -> Tensor:
        """As `VectorLoss.compare`."""
        batch = _gathered(labels).tolist()
        rows = self.rows(batch)
        hidden = contrast.unlabelled(
            [self.examples[number] for number in batch], [self.candidates.passages[row] for row in rows]
        )
        if encoded is None:
            assert self.vectors is not None
            offered = torch.from_numpy(self.vectors[rows]).to(questions)
        else:
            own = self.beside(encoded, labels)
            offered = _gathered(own.transpose(0, 1)).transpose(0, 1).flatten(0, 1)  # (columns · batch, d)
        first = get_rank() * len(labels)
        loss = contrast.masked(
            hidden.to(questions.device), slice(first, first + len(labels)), self.temperature, self.symmetric
        )
        return contrast.matryoshka(loss, self.matryoshka)(_gathered(questions), offered)


class LocalRQALoss(nn.Module):
    """LocalRQA's contrastive loss with its own choice of negatives, for comparison.

    Vectors are means of the last hidden states, of any length. Beside the positives stand `HARD_SHARE` times the batch
    size of hard negatives, drawn from those of the whole batch; nothing else is masked.

    Source: as `contrast.localrqa`.
    """

    def __init__(self, model: nn.Module, candidates: Candidates, temperature: float, seed: int) -> None:
        super().__init__()
        self.model = model
        self.candidates = candidates
        self.temperature = temperature
        self.seed = seed

    def rows(self, batch: Sequence[int]) -> Rows:
        """The positives of the batch, then the drawn negatives.

        Raises:
            DataError: fewer negatives than are to be drawn; LocalRQA ends in a ValueError there.
        """
        gold = self.candidates.rows[list(batch), 0]
        texts = {self.candidates.passages[row].text for row in gold}
        offered = self.candidates.rows[list(batch), 1:].ravel().tolist()
        pool = [row for row in offered if self.candidates.passages[row].text not in texts]
        wanted = int(HARD_SHARE * len(batch))
        if len(pool) < wanted:
            raise DataError(
                f"train_retriever: expected {wanted} hard negatives in a batch of {len(batch)}, got {len(pool)}; "
                "raise hard_negatives or lower batch_size"
            )
        drawn = random.Random(f"{self.seed} {list(batch)}").sample(pool, wanted)  # the batch decides, not the moment
        return np.array([*gold.tolist(), *drawn], dtype=np.int64)

    def forward(self, features: Iterable[Features], labels: Tensor) -> Tensor:
        """Loss of one batch; arguments as of `MaskedContrastiveLoss`."""
        questions, passages = (mean_states(self.model(column)) for column in features)
        _, places = distinct(self.rows(labels.tolist()), self.candidates.passages)
        return contrast.localrqa(questions, passages[torch.from_numpy(places).to(passages.device)], self.temperature)


def mean_states(output: dict[str, Any]) -> Tensor:
    """(n, d) float32: means of the last hidden states over a text's tokens, before any normalisation."""
    mask: Tensor = output["attention_mask"].unsqueeze(-1).float()
    states: Tensor = output["token_embeddings"].float()
    means: Tensor = (states * mask).sum(1) / mask.sum(1)
    return means


def _gathered(tensor: Tensor) -> Tensor:
    """Rows of all processes, in order of their ranks, with gradients."""
    if get_world_size() == 1:
        return tensor
    gather = all_gather_with_grad if tensor.is_floating_point() else all_gather
    rows: Tensor = gather(tensor.contiguous())
    if rows.requires_grad:  # gloo would send a transposed gradient in the order of its memory
        rows.register_hook(torch.Tensor.contiguous)  # type: ignore[no-untyped-call]
    return rows
