"""Our metrics as modules of the `evaluate` library, for trainers and tools that expect its interface.

They hold everything they need: `evaluate.load` would fetch a script from the hub. Instances can be given to
`evaluate.combine`, and their `compute` to a trainer.
"""

from collections.abc import Sequence
from typing import TypeVar

import evaluate
from datasets import Features, List, Value

from ragline.errors import DataError
from ragline.evaluation import answers, retrieval

Item = TypeVar("Item")


class AnswerMetric(evaluate.Metric):  # type: ignore[misc]  # untyped library
    """answer_em, answer_f1, rouge_1, rouge_2, rouge_l and bleu, each in [0, 1]: means over the predictions.

    Predictions are texts, references lists of one text or more.
    """

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Overlap of answers with their references.",
            citation="",
            inputs_description="predictions: answers; references: lists of reference answers.",
            features=Features({"predictions": Value("string"), "references": List(Value("string"))}),
        )

    def _compute(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        bleu = answers.corpus_bleu(predictions, references)
        return {**_means(answers.score(_numbered(predictions), _numbered(references))), "bleu": bleu}


class RetrievalMetric(evaluate.Metric):  # type: ignore[misc]  # untyped library
    """recall@1/5/10/20, mrr@10 and ndcg@10 with gold passages as alternatives: means over the questions.

    Predictions are lists of passage ids, best first; references are lists of gold passage ids.
    """

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="How soon a gold passage comes.",
            citation="",
            inputs_description="predictions: retrieved passage ids, best first; references: gold passage ids.",
            features=Features({"predictions": List(Value("string")), "references": List(Value("string"))}),
        )

    def _compute(self, predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, float]:
        run = {
            question: {passage: -float(rank) for rank, passage in reversed(list(enumerate(ranked)))}
            for question, ranked in _numbered(predictions).items()
        }
        gold = {question: frozenset(passages) for question, passages in _numbered(references).items()}
        if not gold:
            raise DataError("retrieval: no question to score, expected at least one; check the question files")
        return _means(retrieval.score(run, gold))


def _numbered(rows: Sequence[Item]) -> dict[str, Item]:
    return {f"{number:09d}": row for number, row in enumerate(rows)}


def _means(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    return {name: sum(values.values()) / len(values) for name, values in scores.items()}
