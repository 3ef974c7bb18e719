"""Training a cross-encoder on mined negatives; `rerank` has its use."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from datasets import Dataset
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss, LambdaLoss
from torch import nn

from ragline import repro, training
from ragline.errors import DataError
from ragline.io import whole_folder
from ragline.retrieval.mine import Negative
from ragline.retrieval.rerank import Reranker, cross_encoder
from ragline.retrieval.train import DevScore
from ragline.training import CurvePoint, run
from ragline.types import Passage, QAExample

log = logging.getLogger(__name__)

Loss = Literal["binary", "listwise"]


def start(name: str, root: Path, max_tokens: int, seed: int) -> Reranker:
    """Any encoder as a cross-encoder to train; a head that it lacks is drawn at random, by the seed.

    Args:
        name: as `builtin.model_folder` takes it.
        max_tokens: question and passage together are cut there.

    Raises:
        ModelError: there is no such model, or its head has more than one output.
    """
    repro.seed_everything(seed)
    model = cross_encoder(name, root, num_labels=1)
    model.max_seq_length = max_tokens
    return Reranker(model)


def save(reranker: Reranker, folder: Path) -> None:
    """Write the model in sentence-transformers' own form, safetensors and no model card with a date in it."""
    with whole_folder(folder) as part:
        reranker.model.save_pretrained(str(part), create_model_card=False)


@dataclass(frozen=True)
class Schedule(training.Schedule):
    """How long and how hard to train; a batch is of pairs, or of questions with all their passages."""

    loss: Loss
    """`binary`: each pair on its own; `listwise`: each question's passages against each other."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A question with a passage that answers it and some that do not, as the model reads them."""

    question: str
    positive: str
    negatives: tuple[str, ...]


def judged(questions: Sequence[QAExample], passages: Sequence[Passage], negatives: Sequence[Negative]) -> list[Judged]:
    """Put each question beside its best gold passage and its mined negatives.

    One without negatives has nothing to be told apart from: it is left out, and how many are is logged.
    """
    mined: dict[str, list[str]] = {}
    for negative in negatives:
        mined.setdefault(negative.question_id, []).append(negative.passage_id)
    asked = [q for q in questions if q.question_id in mined]
    if left_out := len(questions) - len(asked):
        log.info("%d of %d questions left out: no mined negatives", left_out, len(questions))
    wanted = {p for q in asked for p in (q.gold_passage_ids[0], *mined[q.question_id])}
    text_of = {p.passage_id: p.encoded_text for p in passages if p.passage_id in wanted}
    return [
        Judged(q.question, text_of[q.gold_passage_ids[0]], tuple(text_of[p] for p in mined[q.question_id]))
        for q in asked
    ]


def fit(
    reranker: Reranker,
    examples: Sequence[Judged],
    schedule: Schedule,
    dev_score: Callable[[Reranker], float],
    checkpoints: Path,
) -> list[CurvePoint]:
    """Train the model in place and leave it at its best dev score.

    A killed training goes on from its last checkpoint, and ends in the same weights.

    Args:
        checkpoints: folder for this very training; the caller keys it by everything that decides the result.

    Returns:
        The loss every few steps and the dev score at every evaluation.

    Raises:
        DataError: there are no examples.

    Source: LambdaLoss of Wang et al., The LambdaLoss Framework for Ranking Metric Optimization, CIKM 2018; binary
    cross-entropy as in Nogueira and Cho, Passage Re-ranking with BERT, arXiv 1901.04085.
    """
    if not examples:
        raise DataError("reranker: expected questions with hard negatives, got none; raise negative_margin")
    for module in reranker.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # as in the training of the retriever: slower, and of no use in an epoch or two
    table, loss = (_pairs if schedule.loss == "binary" else _lists)(reranker.model, examples)
    arguments = CrossEncoderTrainingArguments(
        lr_scheduler_type="linear", **training.arguments(schedule, len(table), checkpoints, "eval_dev")
    )
    evaluator = DevScore(lambda model: dev_score(Reranker(model)))
    trainer = _Trainer(model=reranker.model, args=arguments, train_dataset=table, loss=loss, evaluator=evaluator)
    points = run(trainer, "training the reranker", checkpoints, "eval_dev")
    reranker.model.eval()
    return points


def _pairs(model: CrossEncoder, examples: Sequence[Judged]) -> tuple[Dataset, nn.Module]:
    """Each pair on its own; positives weigh as much as all the negatives together."""
    rows = [
        (example.question, text, label)
        for example in examples
        for text, label in ((example.positive, 1), *((text, 0) for text in example.negatives))
    ]
    questions, texts, labels = zip(*rows, strict=True)
    table = Dataset.from_dict({"question": questions, "passage": texts, "label": labels})
    positives = sum(labels)
    return table, BinaryCrossEntropyLoss(model, pos_weight=torch.tensor((len(labels) - positives) / positives))


def _lists(model: CrossEncoder, examples: Sequence[Judged]) -> tuple[Dataset, nn.Module]:
    """Each question with all its passages, the one that answers it first; the loss knows no places."""
    table = Dataset.from_dict(
        {
            "question": [example.question for example in examples],
            "passages": [[example.positive, *example.negatives] for example in examples],
            "labels": [[1.0, *(0.0 for _ in example.negatives)] for example in examples],
        }
    )
    return table, LambdaLoss(model)


class _Trainer(CrossEncoderTrainer):
    """Without the model card, which would hold a clock and random examples."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Add nothing."""
