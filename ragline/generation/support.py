"""Which passages an answer rests on, without asking a model."""

from collections import Counter
from collections.abc import Sequence

from ragline.text import word_tokens
from ragline.types import Hit

ENOUGH = 0.5
"""Share of the answer's words that a passage must hold to be cited."""


def coverage(answer: str, passage: str) -> float:
    """Share of the answer's words that the passage holds, counting repeats; 0 for an empty answer."""
    words, held = Counter(word_tokens(answer)), Counter(word_tokens(passage))
    total = sum(words.values())
    return sum((words & held).values()) / total if total else 0.0


def cite(answer: str, hits: Sequence[Hit]) -> tuple[Hit, ...]:
    """The passage that holds most of the answer's words, if it holds half of them; ties go to the better rank."""
    if not hits:
        return ()
    shares = [coverage(answer, hit.passage.encoded_text) for hit in hits]
    best = max(range(len(hits)), key=lambda rank: (shares[rank], -rank))
    return (hits[best],) if shares[best] >= ENOUGH else ()
