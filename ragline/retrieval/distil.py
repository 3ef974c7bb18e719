"""Distillation into a bi-encoder: a teacher shares out relevance among candidates, and the cosines learn its shares.

The teacher is a function handed in; what it looks at, a reader's attention or a language model's probability, is not
known here. Its scores are numbers, so that gradient reaches the student alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.nn.functional import normalize

from ragline.io import Vectors, file_digest
from ragline.retrieval import exact
from ragline.retrieval.losses import Candidates, Rows, VectorLoss
from ragline.retrieval.train import MakeLoss
from ragline.types import Passage, QAExample

Kl = Literal["forward", "reverse"]
"""`forward`: KL(teacher ‖ student), as Izacard and Grave; `reverse`: KL(student ‖ teacher), as REPLUG."""

Teacher = Callable[[Sequence[int], Rows], npt.NDArray[np.float64]]
"""(numbers of b examples, their candidates (b, n) as in `Candidates.rows`) → (b, n) scores, higher is more relevant,
-inf for what cannot be judged, though never a whole row of it. The same answer at every call."""


def code() -> str:
    """Digest of this module, for the key of a training's checkpoints."""
    return file_digest(Path(__file__))


@dataclass(frozen=True)
class Weighing:
    """How teacher and student are compared."""

    student_temperature: float
    """Cosines are divided by it."""
    teacher_temperature: float
    """The teacher's scores are divided by it: high, it has no favourites; low, it has one."""
    kl: Kl


def find(
    questions: Sequence[QAExample], asked: Vectors, passages: Sequence[Passage], vectors: Vectors, count: int
) -> Rows:
    """The passages that a question is judged with: the nearest ones, best first, a gold one among them.

    Where search missed all gold passages, the first takes the place of the last one found. Its place tells nothing: the
    loss is the same for any order of the columns.

    Args:
        asked: (n_questions, d) float32, rows of unit length.
        vectors: (n_passages, d) float32, rows of unit length; may be memory-mapped.

    Returns:
        (n_questions, min(count, n_passages)) int64, no passage twice in a row.
    """
    row_of = {p.passage_id: row for row, p in enumerate(passages)}
    _, rows = exact.nearest(asked, vectors, min(count, len(passages)))
    for number, question in enumerate(questions):
        gold = [row_of[p] for p in question.gold_passage_ids]
        if not set(gold) & set(rows[number].tolist()):
            rows[number, -1] = gold[0]
    return rows


def log_shares(scores: Tensor, offered: Tensor, temperature: float) -> Tensor:
    """Logarithm of each candidate's share among those offered: a softmax of score / temperature.

    Args:
        scores: (b, n); where nothing is offered, any number.
        offered: (b, n) bool, at least one True in each row.

    Returns:
        (b, n); -inf, so exactly no share and no gradient, where nothing is offered.
    """
    return torch.log_softmax((scores / temperature).masked_fill(~offered, float("-inf")), dim=-1)


def divergence(teacher: Tensor, student: Tensor, kl: Kl) -> Tensor:
    """Kullback-Leibler divergence in nats: summed over candidates, mean over questions.

    Args:
        teacher: (b, n) log shares.
        student: (b, n) log shares, -inf where the teacher's are.

    Returns:
        A scalar, at least 0 but for rounding.
    """
    offered = torch.isfinite(teacher)
    told, found = (shares.masked_fill(~offered, 0.0) for shares in (teacher, student))  # -inf less -inf is no number
    weight, difference = (told, told - found) if kl == "forward" else (found, found - told)
    return (weight.exp() * difference).sum(dim=-1).mean()


class DistillationLoss(VectorLoss):
    """Divergence between the teacher's shares and those of the cosines, over each question's own candidates.

    Sources: Izacard and Grave, Distilling Knowledge from Reader to Retriever for Question Answering, ICLR 2021, section
    3.2; Shi et al., REPLUG, NAACL 2024, section 4.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        candidates: Candidates,
        teacher: Teacher,
        weighing: Weighing,
        vectors: Vectors | None = None,
        mini_batch_size: int | None = None,
    ) -> None:
        """Args are those of `VectorLoss`, and a teacher that knows the examples by their numbers."""
        super().__init__(model, candidates, vectors, mini_batch_size)
        self.teacher = teacher
        self.weighing = weighing

    def compare(self, questions: Tensor, encoded: Tensor | None, labels: Tensor) -> Tensor:
        """As `VectorLoss.compare`; of several processes each weighs its own questions."""
        numbers = labels.tolist()
        rows = self.candidates.rows[numbers]
        if encoded is None:
            assert self.vectors is not None
            beside = torch.from_numpy(self.vectors[rows.T]).to(questions)
        else:
            beside = self.beside(encoded, labels)
        cosines = torch.einsum("bd,nbd->bn", normalize(questions, dim=-1), normalize(beside, dim=-1))
        scores = torch.from_numpy(self.teacher(numbers, rows)).to(questions)
        offered = torch.isfinite(scores)
        told = log_shares(scores, offered, self.weighing.teacher_temperature)
        found = log_shares(cosines, offered, self.weighing.student_temperature)
        return divergence(told, found, self.weighing.kl)


def loss_maker(teacher: Teacher, weighing: Weighing, mini_batch_size: int | None) -> MakeLoss:
    """What `train.fit` takes to learn from this teacher."""
    return lambda model, candidates, vectors: DistillationLoss(
        model, candidates, teacher, weighing, vectors, mini_batch_size
    )
