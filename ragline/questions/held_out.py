"""Dev and test questions whose answer training has already shown, word for word, in another document.

Clusters keep near-duplicate documents together; documents that are unlike as wholes still share paragraphs, and a
question about such a paragraph measures memory.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from ragline.types import SPLITS, Drop, Passage, QAExample, Split

TELLING_WORDS = 5
"""Shorter answers (`None`, `the default is 0`) are the same in many places and give nothing away."""

_SPACE = re.compile(r"\s+")


def without_copies(
    examples: Sequence[QAExample], passages: Iterable[Passage], split_of: Mapping[str, Split]
) -> tuple[list[QAExample], list[Drop]]:
    """Leave out dev questions that training gives away, and test questions that training or dev does.

    A question is given away when the text of one of its gold passages also stands as a passage of a document of an
    earlier split, or when a question of an earlier split has the same answer of at least five words; case and white
    space aside.

    Args:
        split_of: doc_id → split of every document.

    Returns:
        What stays, in order; and a drop for each of the others.
    """
    text_of: dict[str, str] = {}
    homes: dict[str, set[Split]] = {}
    for passage in passages:
        text_of[passage.passage_id] = text = _squeezed(passage.text)
        homes.setdefault(text, set()).add(split_of[passage.doc_id])
    given: dict[str, set[Split]] = {}
    for example in examples:
        for answer in filter(_telling, map(_squeezed, example.answers)):
            given.setdefault(answer, set()).add(example.split)
    kept: list[QAExample] = []
    drops: list[Drop] = []
    for example in examples:
        earlier = set(SPLITS[: SPLITS.index(example.split)])
        if any(homes[text_of[p]] & earlier for p in example.gold_passage_ids):
            drops.append(Drop("generate_qa", example.question_id, "passage also stands in an earlier split"))
        elif any(given[a] & earlier for a in map(_squeezed, example.answers) if _telling(a)):
            drops.append(Drop("generate_qa", example.question_id, "answer also given in an earlier split"))
        else:
            kept.append(example)
    return kept, drops


def _squeezed(text: str) -> str:
    return _SPACE.sub(" ", text).strip().lower()


def _telling(answer: str) -> bool:
    return answer.count(" ") + 1 >= TELLING_WORDS
