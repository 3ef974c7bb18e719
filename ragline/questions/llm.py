"""Questions and answers by a language model: written from a passage, answered from it, traced back into it.

Each item takes two calls, one that asks and one that answers; who answers sees no more than a reader of the passages
would, so that a question which the passages do not answer shows.
"""

import asyncio
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import TypeVar

from ragline.errors import ConfigError
from ragline.io import digest
from ragline.llm import work
from ragline.llm.calls import Asks, Caller, Message, Prompt, Remembered, Unanswered, form, key
from ragline.llm.work import Failed, Form
from ragline.questions.plan import Item
from ragline.types import Document, Drop, QAExample, Span, Split

TASKS = {
    "factoid": "Ask for one fact that they state.",
    "procedural": "Ask how to do something that they explain.",
    "parameter": "Ask what a parameter, option, setting or term does or means.",
    "comparison": "Ask how what passage [1] describes differs from what passage [2] describes, or when to use which.",
    "multi_hop": "Ask something that can only be answered by putting both passages together.",
    "unanswerable": "It must look as if these passages answered it, and they must not: ask for a detail close to what "
    "they say that they leave out. Do not contradict them, and do not ask for nonsense.",
    "multi_turn": "It is the last turn of a conversation: write two or four earlier turns into "
    '"chat_history", user and assistant in turn, true to the passages, and a last question that is only understood '
    "together with them.",
}
PLACES = {"question": ("{{passages}}", "{{task}}", "{{examples}}"), "answer": ("{{passages}}", "{{question}}")}
ANSWER_TOKENS = 60.0
"""Expected of a call before there is a history."""
SECONDS = 3.0
QUESTION_WORDS = 20
SETTINGS = "generate_qa.llm"


@dataclass(frozen=True, slots=True)
class Prompts:
    """The two texts that a user may replace."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would cost from here on."""

    items: int
    calls: int
    """Calls still to be paid for."""
    cached: int
    prompt_tokens: int
    answer_tokens: int
    usd: float
    seconds: float
    history: int
    """Past calls of this model that the figures rest on."""


T = TypeVar("T", bound=Form)


class _Question(Form):
    question: str
    chat_history: tuple[str, ...] = ()


class _Answer(Form):
    answerable: bool
    answer: str
    evidence: str


def object_schema(properties: Mapping[str, object]) -> str:
    """JSON schema, as JSON, of an object that has all of these properties and no other."""
    whole = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    return json.dumps(whole, sort_keys=True)


_TEXT = {"type": "string"}
QUESTION_SCHEMA = object_schema({"question": _TEXT, "chat_history": {"type": "array", "items": _TEXT}})
ANSWER_SCHEMA = object_schema({"answerable": {"type": "boolean"}, "answer": _TEXT, "evidence": _TEXT})


def load_prompts(question: str | None = None, answer: str | None = None) -> Prompts:
    """The shipped prompts, or the user's own texts in their place.

    Raises:
        ConfigError: a text lacks a place that has to be filled in.
    """
    given = {"question": question, "answer": answer}
    texts: dict[str, str] = {}
    for name, text in given.items():
        texts[name] = text if text is not None else packaged_prompt(name)
        if missing := [place for place in PLACES[name] if place not in texts[name]]:
            raise ConfigError(
                f"generate_qa.llm.prompts.{name}: expected the places {', '.join(PLACES[name])}, "
                f"{', '.join(missing)} is missing; put it where that should stand"
            )
    return Prompts(**texts)


def packaged_prompt(name: str) -> str:
    """A prompt as it is shipped."""
    return (resources.files("ragline.questions") / "prompts" / f"{name}.txt").read_text(encoding="utf-8")


def generate(
    items: Sequence[Item],
    documents: Sequence[Document],
    prompts: Prompts,
    examples: Sequence[str],
    attempts: int,
    max_failed: float,
    caller: Caller,
) -> tuple[list[QAExample], list[Drop]]:
    """Ask about every item, with as many calls at once as the caller allows.

    Args:
        examples: questions as the users ask them, shown to the model.
        attempts: calls for one piece before a malformed answer is given up.
        max_failed: share of items that may be dropped because the endpoint did not answer.

    Returns:
        Every item, in order, either as an example or as a drop with the reason.

    Raises:
        ServiceError: the endpoint fails too often, or the budget is spent; what was paid for is in the ledger.
    """
    writer = _Writer(prompts, examples, attempts, caller, {d.doc_id: d.split for d in documents})
    found = work.through(items, writer.write, caller, max_failed, SETTINGS, "questions by the model")
    return _unique(
        Drop("generate_qa", item.name, one.reason, one.detail) if isinstance(one, Failed) else one
        for item, one in zip(items, found, strict=True)
    )


def _unique(results: Iterator[QAExample | Drop]) -> tuple[list[QAExample], list[Drop]]:
    kept: dict[str, QAExample] = {}
    drops: list[Drop] = []
    for found in results:
        if isinstance(found, Drop):
            drops.append(found)
        elif found.question_id in kept:
            drops.append(Drop("generate_qa", found.question_id, "duplicate", found.question))
        else:
            kept[found.question_id] = found
    return list(kept.values()), drops


@dataclass(frozen=True)
class _Writer:
    prompts: Prompts
    examples: Sequence[str]
    attempts: int
    caller: Asks
    split_of: Mapping[str, Split]

    async def write(self, item: Item) -> QAExample | Drop | Failed:
        """Ask, answer, trace back."""
        asked = await self._ask(question_prompt(self.prompts, item, self.examples), _Question)
        if isinstance(asked, Failed):
            return asked
        question = " ".join(asked.question.split())
        history = tuple(" ".join(turn.split()) for turn in asked.chat_history)
        if not question or (item.kind == "multi_turn") != bool(history):
            return Failed("malformed answer", f"question {question!r:.80}, {len(history)} turns")
        answered = await self._ask(answer_prompt(self.prompts, item, question, history), _Answer)
        if isinstance(answered, Failed):
            return answered
        return example(item, question, history, answered, self.split_of[item.passages[0].doc_id])

    async def _ask(self, prompt: Prompt, form: type[T]) -> T | Failed:
        return await work.well_formed(self.caller, prompt, form, self.attempts)


def example(item: Item, question: str, history: tuple[str, ...], found: _Answer, split: Split) -> QAExample | Drop:
    """A question with its evidence as a span of a document, or why it is none."""
    first = item.passages[0]
    name = "llm-" + digest(item.kind, *(p.passage_id for p in item.passages), question, *history)[:16]
    unanswerable = item.kind == "unanswerable"
    if found.answerable == unanswerable:
        reason = "can be answered after all" if unanswerable else "no answer in the passage"
        return Drop("generate_qa", item.name, reason, question)
    if unanswerable:
        return QAExample(
            name, question, (), first.doc_id, first.start, first.end, (), item.kind, split, first.cluster, False
        )
    for passage in item.passages:
        if span := locate(found.evidence, passage.text):
            others = [p.passage_id for p in item.passages if p.passage_id != passage.passage_id]
            return QAExample(
                question_id=name,
                question=question,
                answers=(" ".join(found.answer.split()),),
                doc_id=passage.doc_id,
                start=passage.start + span.start,
                end=passage.start + span.end,
                gold_passage_ids=(passage.passage_id, *others),
                kind=item.kind,
                split=split,
                cluster=passage.cluster,
                chat_history=history,
            )
    return Drop("generate_qa", item.name, "evidence not in the passage", f"{question} | {found.evidence:.200}")


def locate(quote: str, text: str) -> Span | None:
    """Where a text holds a quote: exactly, else ignoring case and how white space runs."""
    words = quote.split()
    if not words:
        return None
    if (start := text.find(quote.strip())) >= 0:
        return Span(start, start + len(quote.strip()))
    found = re.search(r"\s+".join(map(re.escape, words)), text, re.IGNORECASE)
    return Span(*found.span()) if found else None


def question_prompt(prompts: Prompts, item: Item, examples: Sequence[str]) -> Prompt:
    """What the model is asked to write."""
    shown = "".join(f"- {question}\n" for question in examples)
    shown = f"\nQuestions that users have asked, for the tone:\n{shown}" if shown else ""
    places = {"{{passages}}": _passages(item), "{{task}}": TASKS[item.kind], "{{examples}}": shown}
    return Prompt((Message("user", filled(prompts.question, places)),), QUESTION_SCHEMA)


def answer_prompt(prompts: Prompts, item: Item, question: str, history: Sequence[str]) -> Prompt:
    """What the model is asked to answer."""
    places = {"{{passages}}": _passages(item), "{{question}}": question, "{{history}}": turns(history)}
    return Prompt((Message("user", filled(prompts.answer, places)),), ANSWER_SCHEMA)


def turns(history: Sequence[str]) -> str:
    """A conversation, a line for each turn; nothing for none."""
    return "".join(f"{'User' if turn % 2 == 0 else 'Assistant'}: {text}\n" for turn, text in enumerate(history))


def numbered(texts: Iterable[str]) -> str:
    """Passages, each behind its number in brackets."""
    return "\n\n".join(f"[{number}] {text}" for number, text in enumerate(texts, start=1))


def _passages(item: Item) -> str:
    return numbered(p.encoded_text for p in item.passages)


_PLACE = re.compile(r"\{\{\w+\}\}")


def filled(template: str, places: Mapping[str, str]) -> str:
    """All places at once, so that nothing in a passage is taken for a place."""
    return _PLACE.sub(lambda found: places.get(found.group(), found.group()), template)


def written(
    items: Sequence[Item],
    documents: Sequence[Document],
    prompts: Prompts,
    examples: Sequence[str],
    attempts: int,
    caller: Caller,
) -> tuple[list[QAExample], list[Item]]:
    """What `generate` would make of the ledger alone, and the items that it does not settle."""
    known = Remembered(caller.ledger, caller.how)
    writer = _Writer(prompts, examples, attempts, known, {d.doc_id: d.split for d in documents})
    found: list[QAExample | Drop] = []
    waiting: list[Item] = []

    async def look() -> None:
        for item in items:
            try:
                one = await writer.write(item)
            except Unanswered:
                waiting.append(item)
            else:
                found.append(Drop("generate_qa", item.name, one.reason) if isinstance(one, Failed) else one)

    asyncio.run(look())
    return _unique(iter(found))[0], waiting


def estimate(
    items: Sequence[Item], prompts: Prompts, examples: Sequence[str], attempts: int, caller: Caller
) -> Estimate:
    """What `generate` would still pay for, without a call.

    Prompt and answer tokens are scaled by what the endpoint has counted so far; answers to questions that are not
    written yet are taken as the mean.
    """
    cached, to_pay = 0, list[Prompt]()
    for item in items:
        first = question_prompt(prompts, item, examples)
        second = answer_prompt(prompts, item, "word " * QUESTION_WORDS, ())
        if again := work.still_to_ask(first, _Question, attempts, caller.how, caller.ledger):
            to_pay += [again, second]
            continue
        cached += 1
        asked = _asked(first, attempts, caller)
        if asked is None:
            continue
        second = answer_prompt(prompts, item, *asked)
        if again := work.still_to_ask(second, _Answer, attempts, caller.how, caller.ledger):
            to_pay.append(again)
        else:
            cached += 1
    return foreseen(len(items), cached, to_pay, ANSWER_TOKENS, caller)


def _asked(prompt: Prompt, attempts: int, caller: Caller) -> tuple[str, tuple[str, ...]] | None:
    """The question in the ledger, with its conversation; None where no well-formed one came."""
    for attempt in range(attempts):
        reply = caller.ledger.get(key(replace(prompt, attempt=attempt), caller.how))
        if reply and (found := work.parsed(reply.answer, _Question)):
            return " ".join(found.question.split()), tuple(" ".join(turn.split()) for turn in found.chat_history)
    return None


def foreseen(items: int, cached: int, to_pay: Sequence[Prompt], answer_tokens: float, caller: Caller) -> Estimate:
    """Tokens, money and time of calls, by what the model's calls so far have come to.

    Args:
        answer_tokens: expected of a call where there is no history.
    """
    history = caller.ledger.history(caller.how.model)
    ratio, pace = (history.prompt_ratio, history.seconds) if history else (1.0, SECONDS)
    means = history.by_form if history else {}
    expected = sum(caller.count_tokens(message.content) for prompt in to_pay for message in prompt.messages)
    prompt = expected * ratio
    answer = math.fsum(means.get(form(one), answer_tokens) for one in to_pay)
    return Estimate(
        items=items,
        calls=len(to_pay),
        cached=cached,
        prompt_tokens=round(prompt),
        answer_tokens=round(answer),
        usd=caller.prices.of(prompt, answer),
        seconds=len(to_pay) * pace / caller.at_most.concurrency,
        history=history.calls if history else 0,
    )
