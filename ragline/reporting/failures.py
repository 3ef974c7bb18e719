"""The questions worth reading: where the system fails, and what it saw."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from ragline.reporting.formats import NONE, clip, fixed
from ragline.types import Passage

MISSED = "The passage was not retrieved"
UNDUE = "Answered, though the corpus has no answer"
POOR = "The passage was there, the answers are poor"
WHYS = (MISSED, POOR, UNDUE)

POOR_BELOW = 0.5
PASSAGE_CHARACTERS = 600

Prediction = Mapping[str, Any]


@dataclass(frozen=True)
class Failure:
    """One question that went wrong, and how."""

    prediction: Prediction
    why: str


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
    ranks: tuple[tuple[str, str], ...]
    """System and rank of its first gold passage."""
    answers: tuple[tuple[str, str, str], ...]
    """Answerer, answer, F1."""
    passages: tuple[ShownPassage, ...]
    unseen: ShownPassage | None
    """The first gold passage, where none was retrieved."""


def best_f1(row: Prediction) -> float:
    """The F1 of the better answer."""
    return float(max(row["extractive_f1"], row["generator_f1"]))


def found(row: Prediction) -> bool:
    """Whether the answerers saw a gold passage, or what is read together with one."""
    return any(row["retrieved_gold"])


def sort_out(predictions: Iterable[Prediction]) -> dict[str, list[Failure]]:
    """Failures by reason, the worst of each first.

    Missed: deepest rank of the hybrid first, those beyond the depth before all. Poor: lowest F1 of the better
    answer first, while it is below 0.5. Undue: most confident first.
    """
    rows = sorted(predictions, key=lambda row: str(row["question_id"]))
    missed = [row for row in rows if row["answerable"] and not found(row)]
    poor = [row for row in rows if row["answerable"] and found(row) and best_f1(row) < POOR_BELOW]
    undue = [row for row in rows if not row["answerable"] and not row["abstained"]]
    missed.sort(key=lambda row: (row["rank_hybrid"] != 0, -row["rank_hybrid"]))
    poor.sort(key=best_f1)
    undue.sort(key=lambda row: -row["confidence"])
    return {why: [Failure(row, why) for row in some] for why, some in zip(WHYS, (missed, poor, undue), strict=True)}


def worst(predictions: Sequence[Prediction], limit: int) -> list[Failure]:
    """At most `limit` failures in even shares of sets and reasons, gold sets before the test questions.

    A share that is not used up goes to the others.
    """
    names = sorted({row["set"] for row in predictions}, key=lambda name: (name == "test", name))
    queues = [some for name in names for some in sort_out(r for r in predictions if r["set"] == name).values()]
    dealt = [failure for hand in zip_longest(*queues) for failure in hand if failure is not None][:limit]
    return [failure for queue in queues for failure in queue if failure in dealt]


def passage_ids(failures: Iterable[Failure]) -> set[str]:
    """The passages that `show` needs."""
    return {
        passage_id
        for failure in failures
        for passage_id in [*failure.prediction["retrieved_ids"], *failure.prediction["gold_passage_ids"][:1]]
    }


def show(failure: Failure, passages: Mapping[str, Passage], systems: Sequence[str]) -> ShownFailure:
    """Join a failure with the passages it names."""
    row = failure.prediction

    def shown(passage_id: str, score: str, gold: bool) -> ShownPassage:
        passage = passages[passage_id]
        cited = [who for who in ("extractive", "generator") if passage_id in row[f"{who}_cited"]]
        text = clip(passage.text, PASSAGE_CHARACTERS)
        return ShownPassage(passage_id, passage.title, passage.heading, text, score, gold, " and ".join(cited))

    retrieved = zip(row["retrieved_ids"], row["retrieved_scores"], row["retrieved_gold"], strict=True)
    return ShownFailure(
        prediction=row,
        ranks=tuple((system, str(row[f"rank_{system}"] or "not found")) for system in systems),
        answers=tuple(
            (who, row[f"{who}_answer"], fixed(row[f"{who}_f1"]) if row["answerable"] else NONE)
            for who in ("extractive", "generator")
        ),
        passages=tuple(shown(passage_id, fixed(score), bool(gold)) for passage_id, score, gold in retrieved),
        unseen=shown(row["gold_passage_ids"][0], "", gold=True) if row["answerable"] and not found(row) else None,
    )
