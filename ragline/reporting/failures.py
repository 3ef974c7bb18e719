"""What became of each question, and the failures worth reading."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from ragline.reporting.formats import NONE, clip, fixed
from ragline.types import Passage

OUTCOMES = {
    "retrieval_miss": "passage not found",
    "ranked_low": "passage ranked too low",
    "ignored": "passage read, but ignored",
    "unsupported": "not in the cited passages",
    "wrong_abstention": "declined for no reason",
    "wrong_answer": "wrong answer",
    "undue_answer": "answered what the documents do not",
    "failed": "no reply",
    "rightly_declined": "rightly declined",
    "correct": "correct",
}
"""Every outcome as the page names it, failures first."""
FINE = ("rightly_declined", "correct")
ANSWERERS = ("extractive", "generator")
PASSAGE_CHARACTERS = 600
ANSWER_CHARACTERS = 1200
QUESTION_CHARACTERS = 400

Prediction = Mapping[str, Any]


@dataclass(frozen=True)
class Failure:
    """One question that went wrong, and how."""

    prediction: Prediction
    outcome: str


@dataclass(frozen=True)
class ShownPassage:
    """A passage as the page lists it under a question."""

    passage_id: str
    title: str
    heading: str
    text: str
    score: str
    gold: bool
    cited_by: str


@dataclass(frozen=True)
class ShownFailure:
    """Everything the page shows of one failure."""

    prediction: Prediction
    question: str
    references: tuple[str, ...]
    ranks: tuple[tuple[str, str], ...]
    """System and rank of its first gold passage."""
    answers: tuple[tuple[str, str, str], ...]
    """Answerer, answer, F1."""
    passages: tuple[ShownPassage, ...]
    unseen: ShownPassage | None
    """The first gold passage, where none was shown to the answerers."""


@dataclass(frozen=True)
class Group:
    """Some failures of one set and outcome, and how many there are in all."""

    set: str
    outcome: str
    total: int
    shown: tuple[ShownFailure, ...]


def outcome_label(outcome: str) -> str:
    """An outcome as the page names it."""
    return OUTCOMES[outcome]


def severity(outcome: str) -> int:
    """Place of an outcome among all, failures first."""
    return list(OUTCOMES).index(outcome)


def found(row: Prediction) -> bool:
    """Whether a gold passage, or what is read together with one, is among the first found."""
    return any(row["retrieved_gold"])


def served_search(systems: Iterable[str]) -> str:
    """The search whose passages people and answerers get: the last one of the chain."""
    return "reranked" if "reranked" in systems else "hybrid"


def tally(predictions: Iterable[Prediction], answerer: str) -> dict[str, int]:
    """How many questions ended in each outcome, commonest failure first, what went well behind."""
    counts = Counter(row[f"{answerer}_outcome"] for row in predictions)
    return dict(sorted(counts.items(), key=lambda item: (item[0] in FINE, -item[1], severity(item[0]))))


def sort_out(predictions: Iterable[Prediction], answerer: str, search: str) -> dict[str, list[Failure]]:
    """Failures by outcome, in the order of `OUTCOMES`, the worst of each first.

    Not found or ranked low: deepest rank first, those beyond the depth before all. Declined or undue: most confident
    first. The others: lowest F1 first. Ties go by id.
    """
    rows = sorted(predictions, key=lambda row: str(row["question_id"]))
    by_outcome: dict[str, list[Prediction]] = {outcome: [] for outcome in OUTCOMES if outcome not in FINE}
    for row in rows:
        if (outcome := row[f"{answerer}_outcome"]) not in FINE:
            by_outcome[outcome].append(row)

    def worst_first(outcome: str, row: Prediction) -> tuple[float, float]:
        if outcome in ("retrieval_miss", "ranked_low"):
            rank = row[f"rank_{search}"]
            return (rank != 0, -rank)
        if outcome in ("wrong_abstention", "undue_answer"):
            return (-row["confidence"], 0)
        return (row[f"{answerer}_f1"], 0)

    return {
        outcome: [Failure(row, outcome) for row in sorted(some, key=lambda row: worst_first(outcome, row))]
        for outcome, some in by_outcome.items()
    }


def worst(predictions: Sequence[Prediction], answerer: str, search: str, limit: int) -> list[Failure]:
    """At most `limit` failures in even shares of sets and outcomes, gold sets before the test questions.

    A share that is not used up goes to the others.
    """
    names = sorted({row["set"] for row in predictions}, key=lambda name: (name == "test", name))
    queues = [
        some
        for name in names
        for some in sort_out((row for row in predictions if row["set"] == name), answerer, search).values()
    ]
    dealt = [failure for hand in zip_longest(*queues) for failure in hand if failure is not None][:limit]
    return [failure for queue in queues for failure in queue if failure in dealt]


def passage_ids(predictions: Iterable[Prediction]) -> set[str]:
    """The passages that the page names under these questions."""
    return {passage_id for row in predictions for passage_id in [*row["retrieved_ids"], *row["gold_passage_ids"][:1]]}


def groups(
    chosen: Sequence[Failure],
    predictions: Sequence[Prediction],
    passages: Mapping[str, Passage],
    answerer: str,
    systems: Sequence[str],
) -> list[Group]:
    """The chosen failures by set and outcome, joined with the passages they name."""
    shown: dict[tuple[str, str], list[ShownFailure]] = {}
    for failure in chosen:
        shown.setdefault((failure.prediction["set"], failure.outcome), []).append(show(failure, passages, systems))
    totals = Counter((row["set"], row[f"{answerer}_outcome"]) for row in predictions)
    return [Group(*key, totals[key], tuple(some)) for key, some in shown.items()]


def show(failure: Failure, passages: Mapping[str, Passage], systems: Sequence[str]) -> ShownFailure:
    """Join a failure with the passages it names."""
    row = failure.prediction

    def shown(passage_id: str, score: str, gold: bool) -> ShownPassage:
        passage = passages[passage_id]
        cited = [who for who in ANSWERERS if passage_id in row[f"{who}_cited"]]
        return ShownPassage(
            passage_id,
            clip(passage.title, QUESTION_CHARACTERS),
            clip(passage.heading, QUESTION_CHARACTERS),
            clip(passage.text, PASSAGE_CHARACTERS),
            score,
            gold,
            " and ".join(cited),
        )

    retrieved = zip(row["retrieved_ids"], row["retrieved_scores"], row["retrieved_gold"], strict=True)
    missing = row["answerable"] and not found(row) and row["gold_passage_ids"]
    return ShownFailure(
        prediction=row,
        question=clip(row["question"], QUESTION_CHARACTERS),
        references=tuple(clip(answer, ANSWER_CHARACTERS) for answer in row["answers"]),
        ranks=tuple((system, str(row[f"rank_{system}"] or "not found")) for system in systems),
        answers=tuple(
            (
                who,
                clip(row[f"{who}_answer"], ANSWER_CHARACTERS),
                fixed(row[f"{who}_f1"]) if row["answerable"] else NONE,
            )
            for who in ANSWERERS
        ),
        passages=tuple(shown(passage_id, fixed(score), bool(gold)) for passage_id, score, gold in retrieved),
        unseen=shown(row["gold_passage_ids"][0], "", gold=True) if missing else None,
    )
