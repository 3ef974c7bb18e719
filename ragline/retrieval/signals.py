"""What a search says about its own success: how well, how clearly and how unanimously it found something.

None depends on the scale of a search's scores, so that weights fitted on some questions hold for others.

Source: Cronen-Townsend, Zhou and Croft, Predicting query performance, SIGIR 2002 (that scores and words tell); Shtok et
al., Predicting query performance by query-drift estimation, TOIS 2012 (best scores against those that follow).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice

from ragline.retrieval.words import Analyser

NEXT = 4
"""Passages after the best one that it is held against."""
SHARED = 10
"""First passages of both searches that are compared."""
READ = 3
"""Best passages in which the question's words are looked for."""


@dataclass(frozen=True, slots=True)
class Signals:
    """Of one question's search, each 0 where nothing was found."""

    cosine: float
    """Of the question and the passage closest to it."""
    lead: float
    """That cosine less the mean of the next four."""
    score: float
    """Best score of the list that is served; of searches fused by weight 1 if they agree on the first passage."""
    agreement: float
    """Share of the first ten passages that dense and lexical search have in common."""
    words: float
    """Largest share of the question's words that one of the best three passages holds, stems counted once each."""


def signals(
    question: str,
    dense: Mapping[str, float],
    lexical: Mapping[str, float],
    served: Mapping[str, float],
    text: Callable[[str], str],
    analyse: Analyser,
) -> Signals:
    """The signals of one question.

    Args:
        dense: passage_id → cosine.
        lexical: passage_id → BM25 score, best first.
        served: passage_id → score of the search whose passages are read, best first.
        text: passage_id → its words, title and headings among them.
        analyse: text to terms, as for `lexical`.
    """
    cosines = sorted(dense.values(), reverse=True)
    best, others = (cosines[0] if cosines else 0.0), cosines[1 : 1 + NEXT]
    shared = _first(dict(sorted(dense.items(), key=lambda item: (-item[1], item[0])))) & _first(lexical)
    asked = set(analyse(question))
    held = [len(asked & set(analyse(text(passage)))) for passage in islice(served, READ)]
    return Signals(
        cosine=best,
        lead=best - sum(others) / len(others) if others else 0.0,
        score=next(iter(served.values()), 0.0),
        agreement=len(shared) / SHARED,
        words=max(held, default=0) / len(asked) if asked else 0.0,
    )


def _first(run: Mapping[str, float]) -> set[str]:
    return set(islice(run, SHARED))
