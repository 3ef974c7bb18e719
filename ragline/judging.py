"""A language model as a judge of what was answered: who is asked, at what price, and what it says.

Stands beside `assessment`, and needs of it nothing but the rows of predictions. Decoding is pinned: temperature 0, a
seed. A verdict that did not come, or not in form, is a failure; it is counted, and bounds say what it could hide. A
later run asks again where the endpoint did not answer; what was answered, in form or not, is in the ledger for good.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, NonNegativeFloat, PositiveInt, field_validator
from tokenizers import Tokenizer

from ragline.artifacts import GOLD, LEDGER
from ragline.builtin import tokenizer_file
from ragline.errors import DataError
from ragline.evaluation.judge import agreement, forms, verdicts
from ragline.evaluation.judge.agreement import Answer
from ragline.evaluation.judge.forms import VERDICTS, WINNERS, Case, Choice, Verdict
from ragline.evaluation.judge.verdicts import Row, Task
from ragline.evaluation.scorecard import Bootstrap
from ragline.io import digest
from ragline.llm import work
from ragline.llm.calls import (
    JUDGE,
    Asks,
    Caller,
    Decoding,
    Prices,
    Prompt,
    Purse,
    Remembered,
    Unanswered,
    endpoint,
    machine,
)
from ragline.llm.ledger import Ledger, Reply
from ragline.llm.work import Failed
from ragline.reading import Reading
from ragline.runtime.params import Section

log = logging.getLogger(__name__)

SETTINGS = "evaluate.judge"
ANSWERERS = ("generator", "extractive")
"""Who is judged, and compared in this order."""
ANSWER_TOKENS = 60.0
"""Expected of a verdict before there is a history."""
COUNTED_BY = "builtin:minilm"
"""Its tokenizer counts what a prompt will cost; the ledger's figures correct it for the endpoint's own."""


class JudgeParams(Section):
    """Part `evaluate.judge`: a language model behind an endpoint that judges answers.

    Where it is and its key belong in the environment: RAGLINE_JUDGE_BASE_URL and RAGLINE_JUDGE_API_KEY, else OPENAI_….
    """

    model: Annotated[str, Field(min_length=1)]
    """As the endpoint names it."""
    max_answer_tokens: Annotated[int, Field(ge=32)]
    """Of a verdict with its reason."""
    structured: Literal["json_schema", "json_object", "none"]
    """How the endpoint is told the form of a verdict."""
    attempts: Annotated[int, Field(ge=1, le=5)]
    """Calls for one verdict before a malformed one is given up."""
    max_failed: Annotated[float, Field(ge=0, lt=1)]
    """Share of verdicts that the endpoint may leave unanswered; beyond it evaluation fails."""
    pairwise: bool
    """Whether answerers are compared, too: two calls a question."""
    repeats: PositiveInt
    """How often the correctness of some answers is asked for, to see whether the judge agrees with itself; 1: once."""
    repeated: PositiveInt
    """Answers of each answerer in each set that are judged so often."""
    labels: Path | None = None
    """What people think of some answers, JSONL under data/gold: set, question_id, answer, correct (0, 0.5 or 1)."""
    prompt_usd: NonNegativeFloat
    """For a million tokens read."""
    answer_usd: NonNegativeFloat
    """For a million tokens written."""
    budget_usd: NonNegativeFloat
    """Of one run; it stops before the call that could go beyond it."""

    @field_validator("labels")
    @classmethod
    def _watched(cls, path: Path | None) -> Path | None:
        if path is not None and path.parent != GOLD:
            raise ValueError(f"labels must stand in {GOLD}, where DVC sees them change; move {path} there")
        return path


class OnlyJudge(Section):
    """Of section `evaluate` what looking ahead needs; the stage checks the rest."""

    model_config = ConfigDict(extra="ignore")

    judge: JudgeParams | None = None
    """None: nobody is asked."""
    seed: int


@dataclass(frozen=True)
class Answers:
    """What there is to judge."""

    rows: Sequence[Row]
    reading: Reading
    answerers: tuple[str, ...]
    """Those that are compared, the first is `a`."""


@dataclass(frozen=True)
class Judged:
    """What the judge says."""

    columns: list[dict[str, float | None]]
    """More columns of predictions, by row."""
    summary: dict[str, Any]
    """`judge` of comparisons.json."""


@dataclass(frozen=True)
class Ahead:
    """What a run would ask."""

    wanted: int
    """Different verdicts."""
    to_pay: list[Prompt]
    """Calls that the ledger cannot answer; a malformed answer would cost another."""
    caller: Caller


def check(params: JudgeParams, sets: Sequence[str], root: Path) -> None:
    """Whether a run could begin, before there is an answer to judge; asks nobody.

    Args:
        sets: names of all sets of questions.

    Raises:
        ConfigError: no endpoint is set, or how hard to press it is no number.
        DataError: the labels are not what they should be.
    """
    endpoint(*JUDGE)
    machine()
    _labels(params, sets, root)


def _labels(params: JudgeParams, sets: Sequence[str], root: Path) -> dict[Answer, float] | None:
    return None if params.labels is None else agreement.read_labels(root / params.labels, sorted(sets))


def run(answers: Answers, generator: str, params: JudgeParams, how: Bootstrap, root: Path) -> Judged:
    """Judge every answer that was given.

    Args:
        generator: name of the model that writes; the judge should be of another family.
        how: of every interval; its seed is the judge's, too.
        root: of the project, where the ledger of calls and the labels are.

    Returns:
        `calls` and `usd` are all that the verdicts rest on, paid for now or in an earlier run.

    Raises:
        ConfigError: no endpoint is set.
        DataError: the labels are not what they should be.
        ServiceError: the endpoint fails too often, or the budget is spent; what was paid for is in the ledger.
    """
    rows, answerers = answers.rows, answers.answerers
    labels = _labels(params, sorted({row["set"] for row in rows}), root)
    with _caller(params, how.seed, root) as caller:
        found, replies = _asked(answers, params, caller)
    if warning := forms.same_family(params.model, generator):
        log.warning("%s: %s", SETTINGS, warning)
    stale = verdicts.stale(rows, answerers, labels or {})
    if stale:
        log.warning("%s.labels: %d are of answers that nobody gives now, and not used", SETTINGS, stale)
    tokens = sum(reply.prompt_tokens for reply in replies), sum(reply.answer_tokens for reply in replies)
    summary = {
        "model": params.model,
        "warning": warning,
        "calls": len(replies),
        "usd": round(caller.prices.of(*tokens), 6),
        "labels": None if labels is None else {"given": len(labels), "stale": stale},
        "sets": verdicts.figures(rows, answerers, found, labels or {}, how),
    }
    return Judged(verdicts.columns(rows, answerers, found), summary)


@contextmanager
def look_ahead(answers: Answers, params: JudgeParams, seed: int, root: Path) -> Iterator[Ahead]:
    """What a run would pay for if these were the answers, while the ledger is open; asks nobody.

    Raises:
        DataError: the rows speak of passages that are gone.
    """
    named = {name for row in answers.rows for name in _passage_ids(row, answers.answerers)}
    if gone := sorted(named - answers.reading.by_id.keys()):
        raise DataError(
            f"predictions: expected passages of the corpus, got {len(gone)} others, first {gone[:3]}; "
            "run `dvc repro evaluate` without a judge first"
        )
    with _caller(params, seed, root) as caller:
        known = Remembered(caller.ledger, caller.how)
        once = _once(answers, params)
        to_pay: list[Prompt] = []

        async def look() -> None:
            for task in once.values():
                try:
                    await _verdict(answers, task, params, known, [])
                except Unanswered:
                    to_pay.append(_prompt(answers, task))

        asyncio.run(look())
        yield Ahead(len(once), to_pay, caller)


def _passage_ids(row: Row, answerers: Sequence[str]) -> Iterator[str]:
    for name in ("gold_passage_ids", "retrieved_ids", *(f"{answerer}_cited" for answerer in answerers)):
        yield from row[name]


@contextmanager
def _caller(params: JudgeParams, seed: int, root: Path) -> Iterator[Caller]:
    """Who asks, while the ledger is open."""
    tokenizer = Tokenizer.from_file(str(tokenizer_file(COUNTED_BY, root)))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    ledger = Ledger(root / LEDGER)
    try:
        yield Caller(
            ledger=ledger,
            how=Decoding(params.model, 0.0, params.max_answer_tokens, seed, params.structured),
            prices=Prices(params.prompt_usd, params.answer_usd),
            purse=Purse(params.budget_usd),
            at_most=machine(),
            count_tokens=lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids),
            environment=JUDGE,
        )
    finally:
        ledger.close()


def _asked(answers: Answers, params: JudgeParams, caller: Caller) -> tuple[dict[Task, float | None], list[Reply]]:
    """All verdicts, None where judging failed, and every reply that they rest on, in no order."""
    once = _once(answers, params)
    replies: list[Reply] = []
    if not once:
        return {}, replies
    found = work.through(
        list(once.values()),
        lambda task: _verdict(answers, task, params, caller, replies),
        caller,
        params.max_failed,
        SETTINGS,
        "verdicts by the judge",
    )
    if reasons := Counter(one.reason for one in found if isinstance(one, Failed)):
        why = ", ".join(f"{reason}: {count}" for reason, count in sorted(reasons.items()))
        log.warning("%s: %d of %d verdicts failed (%s)", SETTINGS, reasons.total(), len(found), why)
    said = {asks: None if isinstance(one, Failed) else one for asks, one in zip(once, found, strict=True)}
    return {task: said[_asks(answers, task)] for task in _tasks(answers, params)}, replies


def _tasks(answers: Answers, params: JudgeParams) -> list[Task]:
    return verdicts.wanted(answers.rows, answers.answerers, params.pairwise, params.repeats, params.repeated)


def _once(answers: Answers, params: JudgeParams) -> dict[tuple[str, int], Task]:
    """Of the tasks that ask the same, the first, by what they ask."""
    found: dict[tuple[str, int], Task] = {}
    for task in _tasks(answers, params):
        found.setdefault(_asks(answers, task), task)
    return found


def _asks(answers: Answers, task: Task) -> tuple[str, int]:
    return digest(*(message.content for message in _prompt(answers, task).messages)), task.repeat


def _prompt(answers: Answers, task: Task) -> Prompt:
    case = _case(answers, task.row, task.answerer)
    if task.kind == "pairwise":
        return forms.pairwise_prompt(case, _case(answers, task.row, task.other))
    return forms.criterion_prompt(task.kind, case)


def _case(answers: Answers, at: int, answerer: str) -> Case:
    row, reading = answers.rows[at], answers.reading
    return Case(
        question=row["question"],
        references=tuple(row["answers"]),
        gold=tuple(reading.by_id[name].encoded_text for name in row["gold_passage_ids"]),
        answer=row[f"{answerer}_answer"],
        read=tuple(reading.passage(name).encoded_text for name in verdicts.read(row, answerer)),
    )


@dataclass(frozen=True)
class _Noted:
    """Asks somebody, from a given attempt on, and notes what was answered."""

    whom: Asks
    first_attempt: int
    replies: list[Reply]

    async def ask(self, prompt: Prompt) -> Reply:
        """As `Asks.ask`."""
        reply = await self.whom.ask(replace(prompt, attempt=self.first_attempt + prompt.attempt))
        self.replies.append(reply)
        return reply


async def _verdict(
    answers: Answers, task: Task, params: JudgeParams, whom: Asks, replies: list[Reply]
) -> float | Failed:
    """A verdict in numbers; a repeat begins where the attempts of the one before end, each with a seed of its own."""
    noted = _Noted(whom, task.repeat * params.attempts, replies)
    prompt = _prompt(answers, task)
    if task.kind == "pairwise":
        chosen = await work.well_formed(noted, prompt, Choice, params.attempts)
        return chosen if isinstance(chosen, Failed) else WINNERS[chosen.winner]
    found = await work.well_formed(noted, prompt, Verdict, params.attempts)
    return found if isinstance(found, Failed) else VERDICTS[found.verdict]
