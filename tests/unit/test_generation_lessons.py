"""Lessons: gold alone, or gold among distractors."""

import random
from collections import Counter

from ragline.generation import lessons
from ragline.generation.lessons import Material
from ragline.generation.prompts import ABSTENTION, parse
from ragline.generation.train import Lesson

MATERIAL = [Material(f"question {n}?", f"answer {n}", (f"gold {n}", "copy"), ("near", "far", "off")) for n in range(40)]


def test_supervised_shows_gold_and_cites_all_that_is_shown():
    assert lessons.supervised(MATERIAL[:1], 3) == [Lesson("question 0?", ("gold 0", "copy"), "answer 0 [1][2]")]
    assert lessons.supervised(MATERIAL[:1], 1) == [Lesson("question 0?", ("gold 0",), "answer 0 [1]")]


def test_gold_stands_anywhere_and_is_cited_where_it_stands():
    found = lessons.among_distractors(MATERIAL, 3, 0.0, random.Random(0))
    places = Counter()
    for number, lesson in enumerate(found):
        assert sorted(lesson.passages) == ["far", f"gold {number}", "near"]
        place = lesson.passages.index(f"gold {number}")
        assert parse(lesson.answer, 3) == parse(f"answer {number} [{place + 1}]", 3)
        places[place] += 1
    assert set(places) == {0, 1, 2}


def test_a_share_goes_without_gold_and_declines():
    found = lessons.among_distractors(MATERIAL, 3, 0.25, random.Random(0))
    declined = [lesson for lesson in found if lesson.answer == ABSTENTION]
    assert len(declined) == 10  # a quarter of 40
    assert all(sorted(lesson.passages) == ["far", "near", "off"] for lesson in declined)


def test_a_model_that_does_not_cite_learns_the_bare_answer():
    assert lessons.supervised(MATERIAL[:1], 1, cites=False) == [Lesson("question 0?", ("gold 0",), "answer 0")]
    found = lessons.among_distractors(MATERIAL, 3, 0.25, random.Random(0), cites=False)
    again = lessons.among_distractors(MATERIAL, 3, 0.25, random.Random(0))
    assert [lesson.passages for lesson in found] == [lesson.passages for lesson in again]
    assert {lesson.answer for lesson in found} <= {ABSTENTION, *(m.answer for m in MATERIAL)}


def test_too_few_distractors_make_a_short_lesson():
    lone = [Material("q?", "a", ("gold",), ())]
    assert lessons.among_distractors(lone, 5, 0.0, random.Random(0)) == [Lesson("q?", ("gold",), "a [1]")]
    assert lessons.among_distractors(lone, 5, 1.0, random.Random(0)) == [Lesson("q?", (), ABSTENTION)]


def test_a_seed_decides_everything():
    first, again = (lessons.among_distractors(MATERIAL, 3, 0.5, random.Random(7)) for _ in range(2))
    assert first == again != lessons.among_distractors(MATERIAL, 3, 0.5, random.Random(8))
