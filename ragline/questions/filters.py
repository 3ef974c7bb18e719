"""Filters for questions, whoever made them, with a ledger of what each one dropped and why."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from ragline.errors import ConfigError, DataError
from ragline.questions.filter_dependence import passage_dependence
from ragline.questions.filter_refusal import refusal
from ragline.questions.filter_retrieval import (
    critic,
    guessable,
    keys,
    near_duplicate,
    round_trip,
    unanswerable_judged,
    unanswerable_verified,
)
from ragline.questions.filter_schema import schema
from ragline.questions.filter_support import answer_in_question, grounding, is_polar
from ragline.questions.filter_verdict import UNREACHED, Context, Filter, needed
from ragline.types import Drop, QAExample

FILTERS: Mapping[str, Filter] = MappingProxyType(
    {
        "schema": schema,
        "refusal": refusal,
        "passage_dependence": passage_dependence,
        "answer_in_question": answer_in_question,
        "grounding": grounding,
        "round_trip": round_trip,
        "unanswerable_verified": unanswerable_verified,
        "near_duplicate": near_duplicate,
        "unanswerable_judged": unanswerable_judged,
        "guessable": guessable,
        "critic": critic,
    }
)
"""By name, in the order in which they run: what costs nothing first, what asks a model last.

Near-duplicates are looked for among what passed everything before, so that no faulty question displaces a good one.
"""

PAID = ("unanswerable_judged", "guessable", "critic")
"""Those that ask a language model, one call a question that they apply to."""

Asked = TypeVar("Asked", str, QAExample)
Told = TypeVar("Told")


def run_filters(
    examples: Sequence[QAExample], context: Context, switched_on: Sequence[str]
) -> tuple[list[QAExample], list[Drop]]:
    """Pass the questions through the filters that are switched on; each sees what the one before it kept.

    Args:
        examples: questions; of two that ask the same the first is kept.
        context: passages, documents, thresholds, and the callables that the filters need. Each callable is called once
            at most for each filter, with all that is still there.
        switched_on: names of `FILTERS`, in any order.

    Returns:
        The questions kept, in their order, and one Drop for each of the others: its `reason` is the filter's name,
        with `: not checked` behind it where a model could not be asked.

    Raises:
        ConfigError: an unknown name, or a filter without the callable that it needs.
        DataError: a gold passage that is not in the context, or a callable that answers for fewer than it was asked.
    """
    if unknown := sorted(set(switched_on) - FILTERS.keys()):
        raise ConfigError(
            f"filters: expected names among {', '.join(FILTERS)}; got {', '.join(unknown)}; mend the name"
        )
    kept, drops = list(examples), list[Drop]()
    for name, judged in FILTERS.items():
        if name in switched_on:
            passed = list[QAExample]()
            earlier = defaultdict[str, list[QAExample]](list)
            prepared = replace(_prepare(name, kept, context), earlier=earlier)
            for example in kept:
                verdict = judged(example, prepared)
                if not verdict.kept:
                    reason = f"{name}: not checked" if verdict is UNREACHED else name
                    detail = f"{verdict.detail}; {example.question}"
                    drops.append(Drop("generate_qa", example.question_id, reason, detail, verdict.score))
                    continue
                passed.append(example)
                if name == "near_duplicate":
                    for key in keys(example):
                        earlier[key].append(example)
            kept = passed
    return kept, drops


def counts_by_filter(n_examples: int, drops: Iterable[Drop], switched_on: Sequence[str]) -> dict[str, dict[str, int]]:
    """How many questions each filter saw and dropped, in the order in which they run."""
    dropped = Counter(drop.reason for drop in drops)
    table, left = dict[str, dict[str, int]](), n_examples
    for name in FILTERS:
        if name in switched_on:
            table[name] = {"seen": left, "dropped": dropped[name]}
            left -= dropped[name]
    return table


def applies(name: str, example: QAExample) -> bool:
    """Whether a filter that looks beyond the item has anything to ask about it."""
    if name in ("unanswerable_verified", "unanswerable_judged"):
        return not example.answerable
    return example.answerable and not (name == "guessable" and is_polar(example.question))


def _prepare(name: str, examples: Sequence[QAExample], context: Context) -> Context:
    """Ask a filter's callable for all questions at once: a call for each would cost a batch each."""
    asked = [example for example in examples if applies(name, example)]
    if name in ("round_trip", "unanswerable_verified"):
        questions = list(dict.fromkeys(example.question for example in asked))
        return replace(context, rank=_asked_once(needed(context.rank, "rank", name), questions, name))
    if name == "unanswerable_judged":
        return replace(context, judge=_asked_once(needed(context.judge, "judge", name), asked, name))
    if name == "guessable":
        call = needed(context.answer_closed_book, "answer_closed_book", name)
        return replace(context, answer_closed_book=_asked_once(call, asked, name))
    if name == "critic":
        return replace(context, critic=_asked_once(needed(context.critic, "critic", name), asked, name))
    return context


def _asked_once(
    call: Callable[[Sequence[Asked]], list[Told]], asked: Sequence[Asked], name: str
) -> Callable[[Sequence[Asked]], list[Told]]:
    told = call(asked) if asked else []
    if len(told) != len(asked):
        raise DataError(f"filter {name}: expected {len(asked)} results of its callable, got {len(told)}; mend it")
    table = dict(zip(asked, told, strict=True))
    return lambda wanted: [table[one] for one in wanted]
