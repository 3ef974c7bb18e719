"""How answers suffer from passages that do not help: the gold passage is read beside 0, 1, … others.

Source: Shi et al., Large language models can be easily distracted by irrelevant context, ICML 2023; Cuconasu et al.,
The power of noise, SIGIR 2024, who found passages close to the question that do not answer it the worst neighbours.
"""

import random
from collections.abc import Callable, Sequence

from ragline import abstention
from ragline.evaluation.answers import token_f1
from ragline.generation.generator import Written
from ragline.reading import Reading
from ragline.types import Hit, QAExample, Run

Answer = Callable[[Sequence[str], Sequence[Sequence[Hit]]], list[Written]]
"""Questions and what is read for each to the answers."""


def scores(
    questions: Sequence[QAExample], run: Run, reading: Reading, reads: int, answer: Answer, seed: int
) -> dict[str, dict[str, float]]:
    """F1 of the answers as they are written, whatever confidence says.

    Distractors are the best passages found that neither belong to the gold document or its near-duplicates nor repeat
    the answer. A question for which too few were found is left out of that number.

    Args:
        questions: answerable ones.
        run: the search that is served.
        reads: passages that the answerer reads.
        seed: draws the place of the gold passage among the others, for each question anew.

    Returns:
        number of distractors, "0" to `reads` - 1 → question_id → F1.
    """
    others = abstention.without_gold(questions, {"served": run}, reading.by_id)["served"]
    found = {}
    for number in range(reads):
        hits = {q.question_id: reading.hits(others[q.question_id], number) for q in questions}
        asked = [q for q in questions if len(hits[q.question_id]) == number]
        read = [_among(q, hits[q.question_id], reading, seed) for q in asked]
        said = answer([q.question for q in asked], read) if asked else []
        found[str(number)] = {
            q.question_id: token_f1(written.text, q.answers) for q, written in zip(asked, said, strict=True)
        }
    return found


def _among(question: QAExample, others: Sequence[Hit], reading: Reading, seed: int) -> list[Hit]:
    """The gold passage somewhere among others."""
    gold = Hit(reading.passage(question.gold_passage_ids[0]), 1.0)
    place = random.Random(f"{seed} {question.question_id} {len(others)}").randrange(len(others) + 1)
    return [*others[:place], gold, *others[place:]]
