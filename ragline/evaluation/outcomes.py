"""How each question ended: right, or the first place at which it went wrong.

A mean says how much is wrong, not where to mend it. So every question gets exactly one outcome for each answerer, and
blame goes to the earliest part that failed it: search before answering, and of the answer first what it rests on.

Source: after the failure points of Barnett et al. 2024 (arXiv 2401.05856): missed top ranked documents, not in context,
not extracted.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Outcome = Literal[
    "correct",
    "retrieval_miss",
    "ranked_low",
    "ignored",
    "unsupported",
    "wrong_abstention",
    "wrong_answer",
    "failed",
    "rightly_declined",
    "undue_answer",
]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

GOOD_F1 = 0.5
"""From here up an answer counts as correct."""
SUPPORTED = 0.5
"""Share of an answer's words from which up the passages that it cites count as holding it."""


@dataclass(frozen=True, slots=True)
class Course:
    """What is known of one question and what one answerer made of it."""

    answerable: bool
    found: bool
    """Search brought a gold passage, at whatever rank."""
    gold_position: int
    """Place from 1 of the first gold passage among those that the answerer read; 0: none."""
    cites: bool
    """The answer rests on some passage."""
    cites_gold: bool
    grounded: float
    """Share of the answer's words that the cited passages say."""
    f1: float
    """Of the answer against the references."""
    declined: bool
    """The system keeps quiet, with this answerer."""
    failed: bool
    """There is no answer though one was asked for."""


def outcome(course: Course) -> Outcome:
    """How a question ended; exactly one of `OUTCOMES`.

    - failed: no reply, whatever was asked.
    - rightly_declined, undue_answer: the corpus does not hold the answer.
    - correct: answered, with an F1 of 0.5 or more, whatever it rests on.
    - retrieval_miss: search did not bring a gold passage; also where the system then declined.
    - ranked_low: it did, but not among the passages that the answerer read; also where the system then declined.
    - wrong_abstention: a gold passage was read, and the system declined.
    - unsupported: one was read, and the answer rests on no passage, or on a gold one that says less than half of it.
    - ignored: a gold passage was read, and the answer rests on others.
    - wrong_answer: none of these, yet F1 is below 0.5.
    """
    if course.failed:
        return "failed"
    if not course.answerable:
        return "rightly_declined" if course.declined else "undue_answer"
    if not course.declined and course.f1 >= GOOD_F1:
        return "correct"
    if not course.gold_position:
        return "ranked_low" if course.found else "retrieval_miss"
    if course.declined:
        return "wrong_abstention"
    if not course.cites:
        return "unsupported"
    if not course.cites_gold:
        return "ignored"
    return "wrong_answer" if course.grounded >= SUPPORTED else "unsupported"


def counts(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """How many there are of each, those that did not occur among them, in the order of `OUTCOMES`."""
    found = Counter(outcomes)
    return {name: found[name] for name in OUTCOMES}
