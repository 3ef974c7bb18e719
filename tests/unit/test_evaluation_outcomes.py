"""Each question ends in exactly one way, and blame goes to the first part that failed it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragline.evaluation import outcomes
from ragline.evaluation.outcomes import Course

FINE = Course(
    answerable=True,
    found=True,
    gold_position=2,
    cites=True,
    cites_gold=True,
    grounded=1.0,
    f1=0.8,
    declined=False,
    failed=False,
)
BAD = replace(FINE, f1=0.2)

EXAMPLES = {
    "correct": FINE,
    "retrieval_miss": replace(BAD, found=False, gold_position=0, cites_gold=False),
    "ranked_low": replace(BAD, gold_position=0, cites_gold=False),
    "ignored": replace(BAD, cites_gold=False),
    "unsupported": replace(BAD, grounded=0.25),
    "wrong_abstention": replace(FINE, declined=True),
    "wrong_answer": BAD,
    "failed": replace(BAD, f1=0.0, grounded=0.0, failed=True),
    "rightly_declined": replace(BAD, answerable=False, found=False, gold_position=0, declined=True),
    "undue_answer": replace(BAD, answerable=False, found=False, gold_position=0),
}
COURSES = st.builds(
    Course,
    answerable=st.booleans(),
    found=st.booleans(),
    gold_position=st.integers(0, 5),
    cites=st.booleans(),
    cites_gold=st.booleans(),
    grounded=st.floats(0, 1),
    f1=st.floats(0, 1),
    declined=st.booleans(),
    failed=st.booleans(),
)


@pytest.mark.parametrize("name", outcomes.OUTCOMES)
def test_an_example_of_each(name):
    assert outcomes.outcome(EXAMPLES[name]) == name


def test_an_answer_that_rests_on_nothing_ignores_nothing():
    assert outcomes.outcome(replace(BAD, cites=False, cites_gold=False, grounded=0.0)) == "unsupported"


def test_the_edges_belong_to_the_better_side():
    assert outcomes.outcome(replace(BAD, f1=0.5)) == "correct"
    assert outcomes.outcome(replace(BAD, grounded=0.5)) == "wrong_answer"


def test_declining_what_was_not_shown_is_the_fault_of_search():
    assert outcomes.outcome(replace(EXAMPLES["retrieval_miss"], declined=True)) == "retrieval_miss"
    assert outcomes.outcome(replace(EXAMPLES["ranked_low"], declined=True)) == "ranked_low"


def test_a_right_answer_that_is_held_back_is_not_right():
    assert outcomes.outcome(replace(FINE, declined=True)) == "wrong_abstention"


def test_a_failure_is_a_failure_whatever_was_asked():
    assert outcomes.outcome(replace(EXAMPLES["rightly_declined"], failed=True)) == "failed"


@given(st.lists(COURSES, max_size=30))
def test_outcomes_part_the_questions(courses):
    found = outcomes.counts(map(outcomes.outcome, courses))
    assert [*found] == [*outcomes.OUTCOMES]
    assert sum(found.values()) == len(courses)
    unanswerable = sum(not c.answerable and not c.failed for c in courses)
    assert found["rightly_declined"] + found["undue_answer"] == unanswerable
    assert found["failed"] == sum(c.failed for c in courses)


@given(COURSES, st.floats(0, 1))
def test_a_better_answer_never_turns_correct_into_wrong(course, f1):
    if outcomes.outcome(course) == "correct":
        assert outcomes.outcome(replace(course, f1=max(course.f1, f1))) == "correct"
