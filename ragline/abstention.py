"""When to answer, learned from dev questions: how sure an answer is, and from where on it is given.

Beside each dev question as it was asked stands a copy whose answer is taken out of the corpus: no passage of its
document or its near-duplicates, nor any that repeats what answers it, can be found. Nothing said to the copy is right.
"""

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ragline import io, qa
from ragline.evaluation import calibration, confidence, risk
from ragline.generation.generator import Written
from ragline.retrieval.signals import Signals
from ragline.types import Passage, QAExample, Run

log = logging.getLogger(__name__)

REFUSED_ON_DEV = 0.01
"""Share of answerable dev questions that a floor gives up."""
FEW = 30
"""Dev questions below which no floor is set, and nothing is learned."""
NEVER = -1.0
"""No cosine is below: the system never declines."""
COSINE = ("cosine",)
LEAST_WORDS = 5
"""Words from which on an answer that a passage repeats is no accident."""
_NOT_OF_A_WORD = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Target:
    """What is asked of the answers that are given."""

    risk: float
    """Mean of 1 - F1 that they may have, a question without an answer counting 1."""
    level: float
    """Probability with which they keep to it."""
    unanswerable: float
    """Share of the questions that the corpus is taken not to answer."""
    questions: int
    """Dev questions that are answered to find out, one of a document, and as many copies."""


@dataclass(frozen=True)
class Example:
    """A dev question as it was searched and answered, or its copy."""

    cluster: str
    answerable: bool
    signals: Signals
    written: Written
    f1: float
    """Of the answer; 0 where there is none to be had."""


def floor(values: Sequence[float]) -> float:
    """The highest value, rounded down to four decimals, under which at most 1 % of the questions lie.

    Args:
        values: confidence of each answerable dev question; of fewer than `FEW` nothing can be said, and no answer is
            held back.
    """
    if len(values) < FEW:
        return NEVER
    return math.floor(1e4 * float(np.quantile(values, REFUSED_ON_DEV, method="lower"))) / 1e4


def one_of_each(questions: Sequence[QAExample], most: int) -> list[QAExample]:
    """One question of every document cluster, in an order that says nothing of it.

    So the clusters are the sample, none weighs more than another, and no answer is paid for that tells the less.
    """
    chosen: dict[str, QAExample] = {}
    for question in sorted(questions, key=lambda q: (io.digest(q.question_id), q.question_id)):
        chosen.setdefault(question.cluster or question.question_id, question)
    return list(chosen.values())[:most]


def without_gold(
    questions: Sequence[QAExample], runs: Mapping[str, Run], passages: Mapping[str, Passage]
) -> dict[str, dict[str, dict[str, float]]]:
    """The runs as they are where the corpus does not hold the answers: system → question_id → passage_id → score.

    Left out are passages of the cluster of the question's document, those that repeat a gold passage, and those that
    repeat a reference answer of five words or more; whatever the case, the blanks and the punctuation.
    """

    @cache
    def letters(text: str) -> str:
        return _NOT_OF_A_WORD.sub("", text).casefold()

    found: dict[str, dict[str, dict[str, float]]] = {system: {} for system in runs}
    for q in questions:
        long = [answer for answer in q.answers if len(answer.split()) >= LEAST_WORDS]
        said = {letters(text) for text in [*(passages[gold].text for gold in q.gold_passage_ids), *long]} - {""}
        for system, run in runs.items():
            found[system][q.question_id] = {
                passage: score
                for passage, score in run[q.question_id].items()
                if passages[passage].cluster != q.cluster
                and not any(one in letters(passages[passage].text) for one in said)
            }
    return found


def choose(examples: Sequence[Example], target: Target) -> qa.Rule | None:
    """How sure answers are and from where on they are given; None where there are too few examples to tell.

    An example to which nothing was said is passed over. Confidence is fitted over all signals or, where that does not
    tell right answers from wrong ones better out of fold, over the best cosine alone. The threshold is the lowest whose
    risk is bounded by the target, by estimates of fits that saw nothing of the document; where there is none, it is the
    one that `floor` sets, so that the system is not silenced.
    """
    spoken = [one for one in examples if one.written.text or one.written.failed]
    asked = np.array([one.answerable for one in spoken], dtype=bool)
    if asked.sum() < FEW:
        log.warning(
            "%d dev questions to learn abstention from, %d are the least: best cosine decides", asked.sum(), FEW
        )
        return None
    features = [qa.features(one.signals, one.written) for one in spoken]
    given = confidence.Examples(
        features,
        np.array([one.f1 for one in spoken]),
        _weights(asked, target.unanswerable),
        [one.cluster for one in spoken],
    )
    names, sure = _better(given, sorted(set.intersection(*map(set, features))))
    sample = risk.Sample(sure, 1 - given.right, given.weights, given.clusters)
    bounded = risk.lowest(sample, target.risk, target.level)
    least = floor(sure[asked].tolist()) if bounded is None else bounded.threshold
    if bounded is None:
        log.warning(
            "no threshold keeps risk to %s at level %s on dev: only the least sure 1 %% are declined",
            target.risk,
            target.level,
        )
    weight, lost = (float(part.sum()) for part in sample.given(least))
    promise = qa.Promise(
        target=target.risk,
        level=target.level,
        unanswerable=target.unanswerable,
        bound=None if bounded is None else bounded.bound,
        n=len(spoken),
        n_clusters=len(set(given.clusters)),
        coverage=round(weight / float(sample.weights.sum()), 6),
        risk=round(lost / weight, 6) if weight else None,
    )
    return qa.Rule(confidence.fit(given, names), least, promise)


def _weights(asked: NDArray[np.bool_], unanswerable: float) -> confidence.Floats:
    """(n,), of mean 1: those without an answer make up a share of all."""
    n = len(asked)
    if asked.all():
        return np.ones(n)
    found: confidence.Floats = np.where(
        asked, (1 - unanswerable) * n / asked.sum(), unanswerable * n / (n - asked.sum())
    )
    return found


def _better(given: confidence.Examples, names: Sequence[str]) -> tuple[Sequence[str], confidence.Floats]:
    """The features whose estimates rank wrong answers last, and these estimates, out of fold."""
    losses = {str(row): float(loss) for row, loss in enumerate(1 - given.right)}
    weights = {str(row): float(weight) for row, weight in enumerate(given.weights)}

    def area(values: Sequence[float]) -> float:
        return calibration.weighted_aurc({str(row): float(value) for row, value in enumerate(values)}, losses, weights)

    learned = confidence.cross_fit(given, names)
    ours, plain = area(learned.tolist()), area([row["cosine"] for row in given.features])
    log.info("area under the risk-coverage curve on dev: %.4f learned out of fold, %.4f by best cosine", ours, plain)
    return (names, learned) if ours < plain else (COSINE, confidence.cross_fit(given, COSINE))
