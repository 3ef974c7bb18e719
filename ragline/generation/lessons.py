"""What a language model is shown while it learns to answer: gold passages alone, or gold among distractors.

Source: Zhang et al., RAFT: Adapting Language Model to Domain Specific RAG, COLM 2024, section 3. There a question whose
passages lack the gold one still asks for the answer, which teaches to know it by heart; here it asks for the sentence
that declines.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ragline.generation.prompts import ABSTENTION, target
from ragline.generation.train import Lesson


@dataclass(frozen=True)
class Material:
    """What there is to make a lesson of."""

    question: str
    answer: str
    gold: tuple[str, ...]
    """Passages that hold the answer, best first."""
    distractors: tuple[str, ...]
    """Passages that look like it and do not, nearest first."""


def supervised(material: Sequence[Material], passages: int, cites: bool = True) -> list[Lesson]:
    """The first `passages` gold ones, and the answer; if it cites, it cites all of them."""
    return [
        Lesson(m.question, shown, target(m.answer, range(len(shown))) if cites else m.answer)
        for m in material
        for shown in [m.gold[:passages]]
    ]


def among_distractors(
    material: Sequence[Material], passages: int, without_gold: float, rng: random.Random, cites: bool = True
) -> list[Lesson]:
    """The best gold passage somewhere among the nearest distractors; or these alone, and the sentence that declines.

    Args:
        passages: shown per question; fewer where there are too few distractors.
        without_gold: share of the questions whose gold passage is held back; exact up to rounding.
        cites: whether the answer ends with the number of its passage.
    """
    held_back = set(rng.sample(range(len(material)), round(without_gold * len(material))))
    lessons = []
    for number, m in enumerate(material):
        best = [] if number in held_back else [m.gold[0]]
        shown = [*best, *m.distractors[: passages - len(best)]]
        order = rng.sample(range(len(shown)), len(shown))
        answer = target(m.answer, [order.index(0)]) if best and cites else m.answer if best else ABSTENTION
        lessons.append(Lesson(m.question, tuple(shown[place] for place in order), answer))
    return lessons
