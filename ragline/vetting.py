"""Questions before they count: filters, what training gives away, and the audit that must then find nothing.

Stands beside `assessment`; corpus, retrieval and evaluation meet here for the sake of the questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from ragline.errors import DataError
from ragline.evaluation import leaks as leak_audit
from ragline.llm.calls import Prompt
from ragline.questions.filter_verdict import Context, Rank, gold_text, needed
from ragline.questions.filters import PAID, applies, run_filters
from ragline.questions.held_out import without_copies
from ragline.questions.llm_filters import Model, closed_book_prompt, critic_prompt, judge_prompt
from ragline.retrieval import lexical
from ragline.types import Document, Drop, Passage, QAExample

Leaks = Literal["drop", "stop", "report"]
Looked = tuple[QAExample, tuple[str, ...]]
"""A question with passages."""

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


@dataclass(frozen=True)
class Corpus:
    """What the questions are held against."""

    documents: Sequence[Document]
    passages: Sequence[Passage]
    language: str
    """Of the documents, for BM25; see `retrieval.words.analyser`."""


def vet(
    examples: Sequence[QAExample],
    corpus: Corpus,
    filters: Sequence[str],
    leaks: Leaks,
    model: Model | None = None,
) -> Vetted:
    """Filter the questions, take out what earlier splits give away, audit the rest.

    A model is asked last, about what has passed everything else.

    Args:
        filters: names of `questions.filters.FILTERS`; those that search use BM25 over the whole corpus.
        leaks: whether dev and test questions that leak are left out, stop the run, or are only reported.
        model: what the filters among `filters.PAID` ask.

    Raises:
        ConfigError: a paid filter and no model.
        DataError: with `stop`, there are leaks; nothing was paid for.
        ServiceError: the endpoint fails too often, or the budget is spent.
    """
    context = _context(corpus, model)
    kept, drops = run_filters(examples, context, [name for name in filters if name not in PAID])
    by_id = {p.passage_id: p for p in corpus.passages}
    if leaks == "drop":
        kept, copies = without_copies(kept, corpus.passages, {d.doc_id: d.split for d in corpus.documents})
        drops += copies
        if (report := _audit(kept, by_id)) is not None and report.leaks:
            why = {leak.question_id: leak for leak in reversed(report.leaks)}
            drops += [
                Drop("generate_qa", q.question_id, f"leak: {why[q.question_id].kind}", why[q.question_id].train_id)
                for q in kept
                if q.question_id in why
            ]
            kept = [q for q in kept if q.question_id not in why]
    if leaks == "stop" and (report := _audit(kept, by_id)) is not None and not report.clean:
        raise DataError("\n".join(["generate_qa.leaks: questions of dev or test leak from train:", *report.lines()]))
    kept, refused = run_filters(kept, context, [name for name in filters if name in PAID])
    drops += refused
    report = _audit(kept, by_id)
    if report is None:
        return Vetted(kept, drops, {"clean": True, "splits": {}}, True, [])
    return Vetted(kept, drops, report.as_dict(), report.clean, report.lines())


def to_ask(examples: Sequence[QAExample], corpus: Corpus, filters: Sequence[str]) -> list[Prompt]:
    """What the paid filters would ask about these questions, were each to pass the one before it."""
    context = _context(corpus, None)
    prompts: list[Prompt] = []
    for name in PAID:
        asked = [example for example in examples if name in filters and applies(name, example)]
        if name == "unanswerable_judged":
            prompts += [judge_prompt(example, texts) for _, (example, texts) in _looked_up(asked, context) if texts]
        if name == "guessable":
            prompts += [closed_book_prompt(example) for example in asked]
        if name == "critic":
            prompts += [critic_prompt(example, _evidence(example, context)) for example in asked]
    return prompts


def _context(corpus: Corpus, model: Model | None) -> Context:
    context = Context(
        {p.passage_id: p.encoded_text for p in corpus.passages},
        {d.doc_id: d.text for d in corpus.documents},
        rank=_ranker(corpus),
    )
    if model is None:
        return context

    def judge(examples: Sequence[QAExample]) -> list[frozenset[str] | None]:
        looked_up = _looked_up(examples, context)
        told = model.judge([pair for _, pair in looked_up])
        return [
            None if places is None else frozenset(found[place] for place in places)
            for (found, _), places in zip(looked_up, told, strict=True)
        ]

    return replace(
        context,
        judge=judge,
        answer_closed_book=model.answer_closed_book,
        critic=lambda examples: model.criticise([(example, _evidence(example, context)) for example in examples]),
    )


def _evidence(example: QAExample, context: Context) -> str:
    """The gold passages, and the labelled span where they do not hold it: nothing is paid for twice."""
    passages = "\n".join(context.passages[passage_id] for passage_id in example.gold_passage_ids)
    span = context.documents[example.doc_id][example.start : example.end] if example.doc_id else ""
    return passages if passages and span in passages else gold_text(example, context)


def _looked_up(examples: Sequence[QAExample], context: Context) -> list[tuple[list[str], Looked]]:
    """For each question the ids that it finds, with what was said before it, and their texts."""
    asked = [" ".join((*example.chat_history, example.question)) for example in examples]
    ranked = needed(context.rank, "rank", "unanswerable_judged")(asked)
    depth = context.thresholds.unanswerable_k
    return [
        (found[:depth], (example, tuple(context.passages[one] for one in found[:depth])))
        for example, found in zip(examples, ranked, strict=True)
    ]


def _audit(examples: Sequence[QAExample], passages: dict[str, Passage]) -> leak_audit.LeakReport | None:
    """None where there is nothing to hold against each other."""
    if len({q.split for q in examples if q.split == "train"} | {"" for q in examples if q.split != "train"}) < 2:
        return None
    return leak_audit.audit(leak_audit.items_of_examples(examples, passages))


def _ranker(corpus: Corpus) -> Rank:
    """Ids of the best passages by BM25; the index is made once, and only where there is something to look for."""
    index = cache(lambda: lexical.build(corpus.passages, corpus.language))

    def rank(questions: Sequence[str]) -> list[list[str]]:
        if not questions:
            return []
        found = lexical.search(index(), list(questions), DEPTH)
        return [[corpus.passages[row].passage_id for row, _ in hits] for hits in found]

    return rank
