"""What language models would cost before anything is spent: those that write questions, filter them, answer, judge."""

from collections.abc import Sequence
from pathlib import Path

from ragline import authoring, io, judging, vetting
from ragline.answer_params import OnlyEndpoint
from ragline.artifacts import DOCUMENTS, PARAMS, PASSAGES, PREDICTIONS, QUESTIONS_DEV
from ragline.assessment import MAX_DEV, MAX_DISTRACTED
from ragline.question_params import QuestionParams
from ragline.questions import llm
from ragline.reading import Reading
from ragline.runtime.params import load_section, read_params
from ragline.training import answerable
from ragline.types import Document, Passage, QAExample


def lines(root: Path) -> list[str]:
    """What the next run would pay for, in words; asks nobody.

    Raises:
        ConfigError: params.yaml is wrong.
        MissingArtifact: the corpus is not cut yet.
    """
    params = load_section("generate_qa", QuestionParams, root / PARAMS)
    documents = io.read_table(Document, io.require(DOCUMENTS, root))
    passages = io.read_table(Passage, io.require(PASSAGES, root))
    found = authoring.look_ahead(params, vetting.Corpus(documents, passages, params.language), root)
    asked = {"questions": params.llm, "filters": params.filter_model or params.llm}
    said = [
        line
        for part, one in found.items()
        if (whom := asked[part])
        for line in _foreseen(part, one, whom.model, whom.budget_usd)
    ]
    said += _answers(root, passages)
    said += _judge(root, passages)
    return said or ["nothing in params.yaml asks a language model: $0.00"]


def _answers(root: Path, passages: Sequence[Passage]) -> list[str]:
    """What the answers of a served model would cost.

    The questions of the last run are those that will be asked, with what their search found. Beside them evaluation
    asks some of dev, for `evaluate.abstention` in two ways, and some of test again among distractors: these count as
    the mean of the others.
    """
    section = read_params(root / PARAMS).get("train_generator") or {}
    if not section.get("endpoint"):
        return []
    params = load_section("train_generator", OnlyEndpoint, root / PARAMS)
    if not (root / PREDICTIONS).exists():
        return ["answers     not foreseen: there is no earlier run, by any method, whose questions would be asked"]
    reading, rows = Reading(passages), io.read_frame(root / PREDICTIONS)
    if not {passage for row in rows for passage in row["retrieved_ids"]} <= reading.by_id.keys():
        return ["answers     not foreseen: the last run found passages that are gone since"]
    found = [reading.hits(dict.fromkeys(row["retrieved_ids"], 1.0), params.passages) for row in rows]
    questions = io.read_table(QAExample, root / QUESTIONS_DEV)
    dev = len(answerable(questions))
    more = min(dev, MAX_DEV) + MAX_DISTRACTED * params.passages
    abstention = (read_params(root / PARAMS).get("evaluate") or {}).get("abstention") or {}
    if most := abstention.get("questions"):  # with their gold passage and without, and those that nothing answers
        more += 2 * min(dev, most) + min(len(questions) - dev, most)
    with params.generator(root).look_ahead([row["question"] for row in rows], found) as ahead:
        again = round(more * len(ahead.to_pay) / len(rows))
        to_pay = [*ahead.to_pay, *(ahead.to_pay[row % len(ahead.to_pay)] for row in range(again))]
        wanted = len(rows) + more
        one = llm.foreseen(wanted, wanted - len(to_pay), to_pay, params.max_answer_tokens, ahead.caller)
    return _foreseen("answers", one, params.base_model, params.endpoint.budget_usd)


def _judge(root: Path, passages: Sequence[Passage]) -> list[str]:
    """What judging the answers of the last run would cost."""
    if "judge" not in (read_params(root / PARAMS).get("evaluate") or {}):
        return []
    params = load_section("evaluate", judging.OnlyJudge, root / PARAMS)
    if params.judge is None:
        return []
    if not (root / PREDICTIONS).exists():
        return ["judge       not foreseen: there are no answers of an earlier run, which would be judged"]
    answers = judging.Answers(io.read_frame(root / PREDICTIONS), Reading(passages), judging.ANSWERERS)
    with judging.look_ahead(answers, params.judge, params.seed, root) as ahead:
        known = ahead.wanted - len(ahead.to_pay)
        found = llm.foreseen(ahead.wanted, known, ahead.to_pay, judging.ANSWER_TOKENS, ahead.caller)
    return _foreseen("judge", found, params.judge.model, params.judge.budget_usd)


def _foreseen(part: str, found: llm.Estimate, model: str, budget_usd: float) -> list[str]:
    minutes, seconds = divmod(round(found.seconds), 60)
    grounds = (
        f"tokens and pace of {found.history:,} earlier calls of this model"
        if found.history
        else "no earlier call of this model: rough; a run with few `passages` first makes it exact"
    )
    cost = "under $0.01" if 0 < found.usd < 0.005 else f"${found.usd:.2f}"
    stops = ", which stops there" if found.usd > budget_usd else ""
    return [
        f"model       {model}",
        f"{part:<11} {found.items:,} to ask {'for' if part == 'questions' else 'at most'}",
        f"calls       {found.calls:,} to pay for, {found.cached:,} answered by the ledger",
        f"tokens      {found.prompt_tokens:,} in prompts, {found.answer_tokens:,} in answers",
        f"cost        {cost} of a budget of ${budget_usd:g} a run{stops}",
        f"time        {minutes} min {seconds} s",
        f"grounds     {grounds}",
    ]
