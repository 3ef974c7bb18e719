"""Cross-encoders: rank again what search found, reading question and passage together; trained on mined negatives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset
from sentence_transformers import CrossEncoder
from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss, LambdaLoss
from torch import nn

from ragline import repro
from ragline.builtin import model_folder
from ragline.errors import DataError, ModelError
from ragline.io import whole_folder
from ragline.retrieval.mine import Negative
from ragline.training import CurvePoint, cadence, run
from ragline.types import Hit, Passage, QAExample

BATCH = 32

Loss = Literal["binary", "listwise"]
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
        """Rank the hits of each question again, ties in the order in which they came.

        Returns:
            The same passages, best first, each with its probability; (n_questions, as many hits as given).
        """
        pairs = [
            (question, hit.passage.encoded_text)
            for question, found in zip(questions, hits, strict=True)
            for hit in found
        ]
        scores = iter(self._score(pairs).tolist())
        return [sorted((Hit(hit.passage, next(scores)) for hit in found), key=lambda hit: -hit.score) for found in hits]

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
        probabilities: Scores = 1 / (1 + np.exp(-np.asarray(logits, dtype=np.float64)))
        if not np.isfinite(probabilities).all():
            raise ModelError("reranker: expected finite scores, got NaN; use another model")
        return probabilities[[places[pair] for pair in pairs]]


def load(name: str, root: Path = Path()) -> Reranker:
    """Load a trained cross-encoder by folder or hub id.

    Raises:
        ModelError: there is no such model; it has no trained head, as a bi-encoder has none; or more than one output.
    """
    model = _loaded(name, root)
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


def start(name: str, root: Path, max_tokens: int, seed: int) -> Reranker:
    """Any encoder as a cross-encoder to train; a head that it lacks is drawn at random, by the seed.

    Args:
        name: as `builtin.model_folder` takes it.
        max_tokens: question and passage together are cut there.

    Raises:
        ModelError: there is no such model, or its head has more than one output.
    """
    repro.seed_everything(seed)
    model = _loaded(name, root, num_labels=1)
    model.max_seq_length = max_tokens
    return Reranker(model)


def _loaded(name: str, root: Path, num_labels: int | None = None) -> CrossEncoder:
    where = model_folder(name, root)
    kwargs = {"dtype": torch.float32}
    try:
        model: CrossEncoder = CrossEncoder(
            str(where), device=str(repro.device()), model_kwargs=kwargs, num_labels=num_labels
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # torch tells of weights that do not fit
        raise ModelError(f"{name}: not a usable cross-encoder: {' '.join(str(error).split())[:200]}") from error
    return model


def save(reranker: Reranker, folder: Path) -> None:
    """Write the model in sentence-transformers' own form, safetensors and no model card with a date in it."""
    with whole_folder(folder) as part:
        reranker.model.save_pretrained(str(part), create_model_card=False)


@dataclass(frozen=True)
class Schedule:
    """How long and how hard to train."""

    loss: Loss
    """`binary`: each pair on its own; `listwise`: each question's passages against each other."""
    epochs: int
    batch_size: int
    """Pairs a step, or questions with all their passages."""
    learning_rate: float
    evaluations: int
    """Times the dev score is taken, the last one at the end."""
    seed: int


@dataclass(frozen=True, slots=True)
class Judged:
    """A question with a passage that answers it and some that do not, as the model reads them."""

    question: str
    positive: str
    negatives: tuple[str, ...]


def judged(questions: Sequence[QAExample], passages: Sequence[Passage], negatives: Sequence[Negative]) -> list[Judged]:
    """Put each question beside its best gold passage and its mined negatives; one without negatives is left out."""
    mined: dict[str, list[str]] = {}
    for negative in negatives:
        mined.setdefault(negative.question_id, []).append(negative.passage_id)
    asked = [q for q in questions if q.question_id in mined]
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
    table, loss = (_pairs if schedule.loss == "binary" else _lists)(reranker.model, examples)
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(checkpoints),
        learning_rate=schedule.learning_rate,
        lr_scheduler_type="linear",
        weight_decay=0.01,
        seed=schedule.seed,
        data_seed=schedule.seed,
        bf16=repro.has_bfloat16(),
        use_cpu=repro.device().type == "cpu",
        metric_for_best_model="eval_dev",
        greater_is_better=True,
        **cadence(len(table), schedule.epochs, schedule.batch_size, schedule.evaluations),
    )
    trainer = _Trainer(model=reranker.model, args=arguments, train_dataset=table, loss=loss, evaluator=_Dev(dev_score))
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


class _Dev(BaseEvaluator):
    """Lets the trainer call our own dev score."""

    def __init__(self, score: Callable[[Reranker], float]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.score = score

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        training = model.training
        model.eval()
        try:
            return {"dev": self.score(Reranker(model))}
        finally:
            model.train(training)


class _Trainer(CrossEncoderTrainer):
    """Without the model card, which would hold a clock and random examples."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Add nothing."""
