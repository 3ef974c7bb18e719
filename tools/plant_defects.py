"""Plant known defects among good questions and see what the filters make of them: `python -m tools.plant_defects`.

Each defect goes into a question that passes every filter as it is; that question is not among the good ones. Wordings
come in two lots: `seen` may be looked at when a filter is changed, `held_out` only measures.
"""

import argparse
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ragline import io
from ragline.artifacts import DOCUMENTS, PASSAGES, QUESTIONS_DEV, QUESTIONS_TEST, QUESTIONS_TRAIN
from ragline.questions.filter_verdict import Context
from ragline.questions.filters import FILTERS, PAID, counts_by_filter, run_filters
from ragline.retrieval import lexical
from ragline.types import Document, Drop, Passage, QAExample
from tools.defect_wordings import DANGLING, ECHOES, LEFTOVERS, POINTERS, REFUSALS, REWORDED

OFFLINE = tuple(name for name in FILTERS if name not in PAID)
"""Filters that need no model."""
LOTS = ("seen", "held_out")
FOUND_AT_MOST = 50


@dataclass(frozen=True)
class Plan:
    """What is done to a question, and which filter should notice."""

    filter_name: str
    plant: Callable[[QAExample, QAExample, str, random.Random], QAExample | None]
    """(question, a question on another document, wording, rng) → the defective one; None where it cannot be done."""
    wordings: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Planted:
    """One defective question."""

    example: QAExample
    kind: str
    lot: str


NO_WORDING = {"seen": ("",), "held_out": ("",)}


# --- defects -------------------------------------------------------------------------------------------


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


def _worded(example: QAExample, wording: str) -> str:
    question, answer = example.question, " ".join(example.answers[0].split())[:80]
    return wording.format(q=question, s=_lower_first(question), Q=question.upper(), a=answer)


def plant_wording(example: QAExample, other: QAExample, wording: str, rng: random.Random) -> QAExample | None:
    """Put the question into other words."""
    return replace(example, question=_worded(example, wording))


def plant_refusal(example: QAExample, other: QAExample, wording: str, rng: random.Random) -> QAExample | None:
    """Refuse to answer."""
    return replace(example, answers=(wording,))


def plant_echo(example: QAExample, other: QAExample, wording: str, rng: random.Random) -> QAExample | None:
    """Answer with the question; not where it asks for yes or no, or for a choice."""
    words = re.findall(r"[\w.]+", example.question)
    if re.search(r"\b(?:or|whether)\b", example.question) or re.match(
        r"(?:is|are|can|do|does|will|must)\b", words[0], re.I
    ):
        return None
    if len(words) < 4:
        return None
    answer = wording.format(
        q=example.question,
        content=" ".join(words[2:]),
        half=" ".join(words[len(words) // 2 :]),
        reversed=" ".join(reversed(words)),
        last=words[-1],
    )
    return replace(example, answers=(answer,))


def plant_other_answer(example: QAExample, other: QAExample, wording: str, rng: random.Random) -> QAExample | None:
    """Give the answer to another document's question."""
    return replace(example, answers=other.answers)


def plant_other_passage(example: QAExample, other: QAExample, wording: str, rng: random.Random) -> QAExample | None:
    """Label another document as gold, answer and all."""
    return replace(other, question=example.question, question_id=example.question_id)


_FIGURE = re.compile(r"(?<![\w.])\d+(?!\w)")
_PROPER = re.compile(r"(?<=[a-z] )[A-Z][a-z]{3,}\w*|\b[a-z]+_[a-z_]+\b|``?\w{3,}``?")
_STRANGERS = ("Fortran", "Helsinki", "max_retries", "KeyringError", "Watson", "use_proxy", "TokenBucket", "Zurich")


def plant_other_fact(example: QAExample, other: QAExample, wording: str, rng: random.Random) -> QAExample | None:
    """Change a number or a name in the answer."""
    answer = example.answers[0]
    if figure := _FIGURE.search(answer):
        changed = answer[: figure.start()] + str(int(figure.group()) + rng.randint(13, 900)) + answer[figure.end() :]
    elif name := _PROPER.search(answer):
        changed = answer[: name.start()] + rng.choice(_STRANGERS) + answer[name.end() :]
    else:
        return None
    return replace(example, answers=(changed,))


def plant_opposite(example: QAExample, other: QAExample, wording: str, rng: random.Random) -> QAExample | None:
    """Say the opposite."""
    answer = example.answers[0]
    for pattern, turned in (
        (r"\b(can|do|does|is|are|will|must|should|may)(?: not|not\b)", r"\1"),
        (r"\b(can|is|are|will|must|should)\b", r"\1 not"),
    ):
        changed, times = re.subn(pattern, turned, answer, count=1)
        if times:
            return replace(example, answers=(changed,))
    return None


def plant_unanswerable(example: QAExample, other: QAExample, wording: str, rng: random.Random) -> QAExample | None:
    """Say that there is no answer, and keep it as the candidate."""
    return replace(example, answerable=False, gold_passage_ids=(), doc_id="", start=0, end=0)


PLANS = {
    "left over from a prompt": Plan("schema", plant_wording, LEFTOVERS),
    "points at a text": Plan("passage_dependence", plant_wording, POINTERS),
    "names no subject": Plan("passage_dependence", plant_wording, DANGLING),
    "refuses": Plan("refusal", plant_refusal, REFUSALS),
    "repeats the question": Plan("answer_in_question", plant_echo, ECHOES),
    "another document's answer": Plan("grounding", plant_other_answer, NO_WORDING),
    "a wrong number or name": Plan("grounding", plant_other_fact, NO_WORDING),
    "says the opposite": Plan("grounding", plant_opposite, NO_WORDING),
    "another document as gold": Plan("round_trip", plant_other_passage, NO_WORDING),
    "answered, yet unanswerable": Plan("unanswerable_verified", plant_unanswerable, NO_WORDING),
    "asked twice": Plan("near_duplicate", plant_wording, REWORDED),
}


def plant(examples: Sequence[QAExample], per_class: int, seed: int) -> tuple[list[QAExample], list[Planted]]:
    """Make defective questions of some of the examples.

    Args:
        examples: good ones; no two planted defects share one.
        per_class: defects of each class and lot.
        seed: decides which question gets which defect and wording.

    Returns:
        The examples left as they are, and the planted ones. Those asked twice repeat one of the former.
    """
    rng = random.Random(seed)
    pool = rng.sample(list(examples), len(examples))
    planted: list[Planted] = []
    repeated: list[QAExample] = []
    for kind, plan in PLANS.items():
        for lot in LOTS:
            wordings, made, passed_over = plan.wordings[lot], 0, []
            while made < per_class and pool:
                example = pool.pop()
                other = rng.choice(
                    [e for e in rng.sample(examples, min(20, len(examples))) if e.cluster != example.cluster]
                    or [example]
                )
                wording = wordings[made % len(wordings)]
                if (found := plan.plant(example, other, wording, rng)) is None:
                    passed_over.append(example)
                    continue
                planted.append(
                    Planted(replace(found, question_id=f"{lot}-{made:03d}-{example.question_id}"), kind, lot)
                )
                repeated += [example] if plan.filter_name == "near_duplicate" else []
                made += 1
            pool = rng.sample(pool + passed_over, len(pool) + len(passed_over))
    order = {example.question_id: number for number, example in enumerate(examples)}
    return sorted(pool + repeated, key=lambda example: order[example.question_id]), planted


# --- measuring -----------------------------------------------------------------------------------------


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % score interval of a share; (0, 1) of none."""
    if not n:
        return 0.0, 1.0
    z = 1.959964
    middle, spread = hits + z * z / 2, z * math.sqrt(hits * (n - hits) / n + z * z / 4)
    return max(0.0, (middle - spread) / (n + z * z)), min(1.0, (middle + spread) / (n + z * z))


def share(hits: int, n: int) -> str:
    """`57/60 = 95.0 % [86.3, 98.3]`."""
    low, high = wilson(hits, n)
    return f"{hits}/{n} = {hits / n:.1%} [{low:.1%}, {high:.1%}]" if n else "0/0"


def context_of(documents: Sequence[Document], passages: Sequence[Passage]) -> Context:
    """Texts by id, and BM25 to rank with."""
    index, ids = lexical.build(passages), [passage.passage_id for passage in passages]

    def rank(questions: Sequence[str]) -> list[list[str]]:
        return [[ids[row] for row, _ in hits] for hits in lexical.search(index, questions, FOUND_AT_MOST)]

    texts = {passage.passage_id: passage.encoded_text for passage in passages}
    return Context(texts, {document.doc_id: document.text for document in documents}, rank)


def _caught(left: Sequence[QAExample], planted: Sequence[Planted], context: Context) -> list[Drop]:
    """Drops of the planted questions; near-duplicates are looked for only where they were planted.

    Wordings come up several times, and to drop the second for its likeness to the first would be no catch.
    """
    twice = [one.example for one in planted if PLANS[one.kind].filter_name == "near_duplicate"]
    others = [one.example for one in planted if PLANS[one.kind].filter_name != "near_duplicate"]
    single = [name for name in OFFLINE if name != "near_duplicate"]
    ids = {one.example.question_id for one in planted}
    drops = run_filters([*left, *twice], context, OFFLINE)[1] + run_filters(others, context, single)[1]
    return [drop for drop in drops if drop.item in ids]


def table(examples: Sequence[QAExample], context: Context, per_class: int, seed: int) -> str:
    """Plant, filter, and say in Markdown what was caught and what good was lost."""
    passing, drops = run_filters(examples, context, OFFLINE)
    lost = counts_by_filter(len(examples), drops, OFFLINE)
    left, planted = plant(passing, per_class, seed)
    reason = {drop.item: drop.reason for drop in _caught(left, planted, context)}
    lines = ["| good questions | rejected |", "|---|---|"]
    lines += [f"| by {name} | {share(found['dropped'], len(examples))} |" for name, found in lost.items()]
    lines += [f"| **by any** | {share(len(drops), len(examples))} |", ""]
    lines += ["| planted | its filter | seen wordings: caught | held-out wordings: caught | by its own filter |"]
    lines += ["|---|---|---|---|---|"]
    for kind, plan in PLANS.items():
        mine = [one for one in planted if one.kind == kind]
        cells = [share(*_caught_of(mine, lot, reason)) for lot in LOTS]
        own = sum(reason.get(one.example.question_id) == plan.filter_name for one in mine)
        lines.append(f"| {kind} | {plan.filter_name} | {' | '.join(cells)} | {own}/{len(mine)} |")
    cells = [share(*_caught_of(planted, lot, reason)) for lot in LOTS]
    lines.append(f"| **all** | | {' | '.join(cells)} | |")
    worded = [one for one in planted if PLANS[one.kind].wordings is not NO_WORDING]
    cells = [share(*_caught_of(worded, lot, reason)) for lot in LOTS]
    lines.append(f"| **classes with wordings** | | {' | '.join(cells)} | |")
    return "\n".join(lines) + "\n"


def _caught_of(planted: Sequence[Planted], lot: str, reason: Mapping[str, str]) -> tuple[int, int]:
    ids = [one.example.question_id for one in planted if one.lot == lot]
    return sum(question_id in reason for question_id in ids), len(ids)


def main() -> None:
    """Print the table for a set of questions."""
    parser = argparse.ArgumentParser(prog="python -m tools.plant_defects", description=__doc__)
    parser.add_argument("--questions", type=Path, nargs="+", default=[QUESTIONS_TRAIN, QUESTIONS_DEV, QUESTIONS_TEST])
    parser.add_argument("--documents", type=Path, default=DOCUMENTS)
    parser.add_argument("--passages", type=Path, default=PASSAGES)
    parser.add_argument("--per-class", type=int, default=50, help="defects of each class and lot of wordings")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--missed", choices=LOTS, help="list the planted questions of this lot that pass")
    given = parser.parse_args()
    context = context_of(io.read_table(Document, given.documents), io.read_table(Passage, given.passages))
    examples = [example for path in given.questions for example in io.read_table(QAExample, path)]
    print(table(examples, context, given.per_class, given.seed))
    if given.missed:
        passing, _ = run_filters(examples, context, OFFLINE)
        left, planted = plant(passing, given.per_class, given.seed)
        caught = {drop.item for drop in _caught(left, planted, context)}
        for one in planted:
            if one.lot == given.missed and one.example.question_id not in caught:
                print(f"{one.kind}: {one.example.question!r} -> {one.example.answers}")


if __name__ == "__main__":
    main()
