"""No dev or test question whose answer training has shown already."""

from dataclasses import replace

from ragline.questions.held_out import without_copies
from tests.fixtures.small import passage, question

SPLIT_OF = {"a": "train", "b": "dev", "c": "test", "d": "test"}
SHARED = "All functions take an axis, and it counts from zero."
PASSAGES = [
    passage("a#0000", SHARED),
    passage("a#0001", "Only here."),
    passage("b#0000", "Of dev alone."),
    passage("c#0000", f"  {SHARED.upper()}\n"),
    passage("d#0000", "Of test alone."),
]


def asked(name: str, gold: str, answer: str):
    return replace(question(name, gold, answer=answer), split=SPLIT_OF[gold[0]])


def test_by_hand():
    kept = [
        asked("q1", "a#0000", "it counts from zero, and so on"),
        asked("q2", "a#0001", "it counts from zero, and so on"),  # twice in training gives nothing away
        asked("q3", "b#0000", "None"),
        asked("q4", "d#0000", "none"),  # too short to tell anything
        asked("q5", "b#0000", "an answer that dev gives away to test"),
    ]
    leaking = [
        asked("q6", "c#0000", "x"),
        asked("q7", "d#0000", "It counts  from zero, AND so on"),
        asked("q8", "d#0000", "An answer that dev gives away to test"),
        asked("q9", "b#0000", "it counts from zero, and so on"),
    ]
    found, drops = without_copies(kept + leaking, PASSAGES, SPLIT_OF)
    assert found == kept
    assert [(drop.item, drop.reason.split()[0]) for drop in drops] == [
        ("q6", "passage"), ("q7", "answer"), ("q8", "answer"), ("q9", "answer"),
    ]  # fmt: skip
