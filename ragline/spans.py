"""Gold labels are spans of documents; passages come and go with the chunking."""

from collections.abc import Iterable

from ragline.types import Passage, Span


def overlap(a: Span, b: Span) -> int:
    """Characters that two spans of one document share; 0 when they are apart."""
    return max(0, min(a.end, b.end) - max(a.start, b.start))


def holds(passage: Span, gold: Span) -> bool:
    """Whether a passage counts as gold: it covers half of the span, or lies half inside it."""
    shared = overlap(passage, gold)
    return shared > 0 and (2 * shared >= gold.length or 2 * shared >= passage.length)


def gold_passages(passages: Iterable[Passage], gold: Span) -> tuple[str, ...]:
    """Ids of a document's passages that hold the span, best covered first, then in document order."""
    found = [p for p in passages if holds(p.span, gold)]
    return tuple(p.passage_id for p in sorted(found, key=lambda p: (-overlap(p.span, gold), p.start)))
