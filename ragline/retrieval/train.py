"""Contrastive fine-tuning of a bi-encoder."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator
from torch import Tensor, nn

from ragline import repro, training
from ragline.errors import DataError
from ragline.io import Vectors, file_digest
from ragline.retrieval.mine import Negative
from ragline.training import CurvePoint, cadence, run
from ragline.types import Passage, QAExample


def code() -> tuple[str, str]:
    """Digests of the modules that decide how training goes on, for the key of its checkpoints."""
    return file_digest(Path(__file__)), file_digest(Path(training.__file__))


@dataclass(frozen=True)
class Schedule:
    """How long and how hard to train."""

    epochs: int
    batch_size: int
    learning_rate: float
    temperature: float
    max_passage_tokens: int
    """Longer passages are cut while training; search still encodes them whole."""
    evaluations: int
    """Times the dev score is taken, the last one at the end."""
    seed: int


@dataclass(frozen=True)
class Candidates:
    """Passages that stand beside each example: its positive first, then its negatives."""

    columns: tuple[tuple[Passage, ...], ...]
    rows: npt.NDArray[np.int64]
    """(n_examples, n_columns): the passages' places in the corpus."""


class MaskedContrastiveLoss(nn.Module):
    """Cross-entropy of each question over all passages of the batch, without its unlabelled positives.

    A row's own positive is the target; every other passage that is also gold for the question, is the same passage
    again, or belongs to a near-duplicate of its document, leaves the denominator.

    Source: in-batch negatives as in Karpukhin et al., DPR, EMNLP 2020, section 3.2.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        examples: Sequence[QAExample],
        candidates: Candidates,
        t: float,
        vectors: Vectors | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.temperature = t
        self.candidates = candidates
        self.vectors = vectors
        self.gold = [frozenset(q.gold_passage_ids) for q in examples]
        self.home = [(q.cluster, q.doc_id) for q in examples]

    def forward(self, features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Loss of one batch.

        Args:
            features: tokenised questions and, unless the passages' vectors are given, each column of candidates.
            labels: (batch,) int64, numbers of the examples.
        """
        batch = labels.tolist()
        questions, *columns = (
            nn.functional.normalize(self.model(column)["sentence_embedding"].float(), dim=-1) for column in features
        )
        if self.vectors is not None:
            columns = [torch.from_numpy(self.vectors[rows]).to(questions) for rows in self.candidates.rows[batch].T]
        scores = questions @ torch.cat(columns).T / self.temperature  # (batch, batch · columns)
        hidden = self.mask(batch, len(columns)).to(scores.device)
        targets = torch.arange(len(questions), device=scores.device)
        return nn.functional.cross_entropy(scores.masked_fill(hidden, float("-inf")), targets)

    def mask(self, batch: list[int], columns: int) -> Tensor:
        """(batch, batch · columns) bool: True where a candidate may not count as a negative."""
        passages = [self.candidates.columns[column][number] for column in range(columns) for number in batch]
        hidden = torch.zeros(len(batch), len(passages), dtype=torch.bool)
        for row, number in enumerate(batch):
            cluster, doc_id = self.home[number]
            own = passages[row].text
            for place, passage in enumerate(passages):
                duplicate = passage.text == own or (passage.cluster == cluster and passage.doc_id != doc_id)
                hidden[row, place] = place != row and (passage.passage_id in self.gold[number] or duplicate)
        return hidden


def line_up(
    questions: Sequence[QAExample], passages: Sequence[Passage], negatives: Sequence[Negative], hard: int
) -> tuple[list[QAExample], Candidates]:
    """Put every question beside its best gold passage and `hard` negatives.

    A question with fewer negatives is left out, as every row of a batch needs the same columns.

    Raises:
        DataError: none is left.
    """
    row_of = {p.passage_id: row for row, p in enumerate(passages)}
    mined: dict[str, list[str]] = {}
    for negative in negatives:
        mined.setdefault(negative.question_id, []).append(negative.passage_id)
    kept = [q for q in questions if len(mined.get(q.question_id, ())) >= hard]
    if not kept:
        raise DataError(
            f"train_retriever: expected training questions with {hard} hard negatives, got none of {len(questions)}; "
            "lower hard_negatives or raise negative_margin"
        )
    rows = [[row_of[p] for p in (q.gold_passage_ids[0], *mined[q.question_id][:hard])] for q in kept]
    columns = tuple(tuple(passages[row] for row in column) for column in zip(*rows, strict=True))
    return kept, Candidates(columns, np.array(rows, dtype=np.int64))


class _Dev(SentenceEvaluator):
    """Lets the trainer call our own dev score."""

    def __init__(self, score: Callable[[SentenceTransformer], float], max_tokens: int | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.score, self.max_tokens = score, max_tokens

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        cut, model.max_seq_length = model.max_seq_length, self.max_tokens
        training = model.training
        model.eval()
        try:
            return {"dev": self.score(model)}
        finally:
            model.max_seq_length = cut
            model.train(training)


def fit(
    model: SentenceTransformer,
    examples: Sequence[QAExample],
    candidates: Candidates,
    schedule: Schedule,
    dev_score: Callable[[SentenceTransformer], float],
    checkpoints: Path,
    vectors: Vectors | None = None,
) -> list[CurvePoint]:
    """Train `model` in place and leave it at its best dev score.

    A killed training goes on from its last checkpoint, and ends in the same weights.

    Args:
        vectors: (n_passages, d) float32 of the whole corpus, when passages keep the vectors that they have: `model`
            then learns to encode questions alone, its word embeddings frozen, and no passage is ever encoded.
        checkpoints: folder for this very training; the caller keys it by everything that decides the result.

    Returns:
        The loss every few steps and the dev score at every evaluation.
    """
    names = ("positive", *(f"negative_{place}" for place in range(len(candidates.columns) - 1)))
    columns = {name: [p.encoded_text for p in column] for name, column in zip(names, candidates.columns, strict=True)}
    if vectors is not None:
        columns = {}
        transformer: Any = model[0]
        transformer.model.get_input_embeddings().requires_grad_(False)
    table = Dataset.from_dict({"question": [q.question for q in examples], **columns, "label": range(len(examples))})
    whole = model.max_seq_length
    if vectors is None:
        model.max_seq_length = schedule.max_passage_tokens
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(checkpoints),
        learning_rate=schedule.learning_rate,
        lr_scheduler_type="linear",
        weight_decay=0.01,
        seed=schedule.seed,
        data_seed=schedule.seed,
        bf16=repro.has_bfloat16(),
        use_cpu=repro.device().type == "cpu",
        prompts=_prompts(model, ["question", *columns]),
        metric_for_best_model="eval_dev",
        greater_is_better=True,
        **cadence(len(examples), schedule.epochs, schedule.batch_size, schedule.evaluations),
    )
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # an epoch or two gain nothing by it, and without it attention takes its fast path
    trainer = _Trainer(
        model=model,
        args=arguments,
        train_dataset=table,
        loss=MaskedContrastiveLoss(model, examples, candidates, schedule.temperature, vectors),
        evaluator=_Dev(dev_score, whole),
    )
    points = run(trainer, "training the retriever", checkpoints, "eval_dev")
    model.max_seq_length = whole
    model.eval()
    return points


def _prompts(model: SentenceTransformer, columns: Sequence[str]) -> dict[str, str] | None:
    """What the model wants before a query and before a document, by column; search puts the same there."""
    query, document = (model.prompts.get(name) for name in ("query", "document"))
    found = {column: prompt for column in columns if (prompt := query if column == "question" else document)}
    return found or None


class _Trainer(SentenceTransformerTrainer):
    """Without the model card, which would hold a clock and random examples."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Add nothing."""
