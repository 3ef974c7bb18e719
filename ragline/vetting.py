"""Questions before they count: filters, what training gives away, and the audit that must then find nothing.

Stands beside `assessment`; corpus, retrieval and evaluation meet here for the sake of the questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ragline.evaluation import leaks
from ragline.questions.filter_verdict import Context
from ragline.questions.filters import run_filters
from ragline.questions.held_out import without_copies
from ragline.retrieval import lexical
from ragline.types import Document, Drop, Passage, QAExample

DEPTH = 20
"""Passages that a filter sees of a search."""


@dataclass(frozen=True)
class Vetted:
    """What is left, what is not and why, and what still leaks."""

    examples: list[QAExample]
    drops: list[Drop]
    audit: dict[str, Any]
    clean: bool
    lines: list[str]
    """The audit for a person."""


def vet(
    examples: Sequence[QAExample],
    documents: Sequence[Document],
    passages: Sequence[Passage],
    filters: Sequence[str],
    language: str,
    drop_leaks: bool,
) -> Vetted:
    """Filter the questions, take out what earlier splits give away, audit the rest.

    Args:
        filters: names of `questions.filters.FILTERS`; those that search use BM25 over the whole corpus.
        language: of the documents, for BM25; see `retrieval.words.analyser`.
        drop_leaks: whether dev and test questions that leak are left out; where a person has made the splits, they
            are only reported.
    """
    context = Context(
        {p.passage_id: p.encoded_text for p in passages},
        {d.doc_id: d.text for d in documents},
        rank=lambda questions: _ranked(questions, passages, language),
    )
    kept, drops = run_filters(examples, context, filters)
    by_id = {p.passage_id: p for p in passages}
    if drop_leaks:
        kept, copies = without_copies(kept, passages, {d.doc_id: d.split for d in documents})
        drops += copies
    report = _audit(kept, by_id)
    if drop_leaks and report is not None and report.leaks:
        why = {leak.question_id: leak for leak in reversed(report.leaks)}
        drops += [
            Drop("generate_qa", q.question_id, f"leak: {why[q.question_id].kind}", why[q.question_id].train_id)
            for q in kept
            if q.question_id in why
        ]
        kept = [q for q in kept if q.question_id not in why]
        report = _audit(kept, by_id)
    if report is None:
        return Vetted(kept, drops, {"clean": True, "splits": {}}, True, [])
    return Vetted(kept, drops, report.as_dict(), report.clean, report.lines())


def _audit(examples: Sequence[QAExample], passages: dict[str, Passage]) -> leaks.LeakReport | None:
    """None where there is nothing to hold against each other."""
    if len({q.split for q in examples if q.split == "train"} | {"" for q in examples if q.split != "train"}) < 2:
        return None
    return leaks.audit(leaks.items_of_examples(examples, passages))


def _ranked(questions: Sequence[str], passages: Sequence[Passage], language: str) -> list[list[str]]:
    """Ids of the best passages by BM25; the index is made only where there is something to look for."""
    if not questions:
        return []
    found = lexical.search(lexical.build(passages, language), list(questions), DEPTH)
    return [[passages[row].passage_id for row, _ in hits] for hits in found]
