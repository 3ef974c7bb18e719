"""Filters that look beyond the item: at what a retriever finds, at the questions kept before it, at models."""

import re

from ragline.questions.filter_support import f1, identifiers, is_polar, negated, normal, numbers, stems, support
from ragline.questions.filter_verdict import NOT_ASKED, UNREACHED, Context, Verdict, needed
from ragline.types import QAExample

_QUOTED = re.compile(r"['\"`]([\w.-]+)['\"`]|=\s*(\w+)")
_TELLING_ANSWER_WORDS = 5
"""An answer of fewer words may stand in a passage that has nothing to do with it."""
_COVERED_QUESTION = 0.6
_ANSWERED_QUESTION = 0.95
"""Shares of a question's words in a passage from which it speaks of that, with and without an answer to look for."""


def round_trip(example: QAExample, context: Context) -> Verdict:
    """The question leads back to its passage: it, or another that holds the same answer, is among the best k.

    The score is 1/rank.

    Raises:
        ConfigError: the context has no `rank`.
    """
    if not example.answerable:
        return NOT_ASKED
    found = needed(context.rank, "rank", "round_trip")([example.question])[0][: context.thresholds.round_trip_k]
    gold = set(example.gold_passage_ids)
    telling = [normal(answer) for answer in example.answers if len(stems(answer)) >= _TELLING_ANSWER_WORDS]
    for place, passage_id in enumerate(found, start=1):
        if passage_id in gold:
            return Verdict(True, 1 / place, f"gold passage at rank {place}")
        if any(answer in normal(context.passages[passage_id]) for answer in telling):
            return Verdict(True, 1 / place, f"the same answer at rank {place}")
    return Verdict(False, 0.0, f"no gold passage among the best {len(found)}")


def unanswerable_verified(example: QAExample, context: Context) -> Verdict:
    """What is said to have no answer has none in the corpus.

    Its `answers`, if any, are taken as candidates: a passage that bears one out and speaks of the question answers it.
    Without candidates, a passage that holds nearly all words of the question is taken to answer it.

    Raises:
        ConfigError: the context has no `rank`.
    """
    if example.answerable:
        return NOT_ASKED
    found = needed(context.rank, "rank", "unanswerable_verified")([example.question])[0]
    looked_at = [
        (passage_id, context.passages[passage_id]) for passage_id in found[: context.thresholds.unanswerable_k]
    ]
    worst, where = max(((_answered(example, text), passage_id) for passage_id, text in looked_at), default=(0.0, ""))
    if worst >= 1:
        return Verdict(False, 0.0, f"seems to be answered by {where}")
    return Verdict(True, 1 - worst, f"no answer in {len(looked_at)} passages")


def _answered(example: QAExample, text: str) -> float:
    """How near a passage comes to answering: 1 and more when it does, by the measures above."""
    asked = set(stems(example.question)) - _FILLERS
    covered = len(asked & set(stems(text))) / len(asked) if asked else 0.0
    if not example.answers:
        return covered / _ANSWERED_QUESTION if len(asked) > 1 else 0.0
    borne_out = max(support(answer, "", text)[0] for answer in example.answers)
    return min(covered / _COVERED_QUESTION, borne_out / _ANSWERED_QUESTION)


_FILLERS = frozenset(
    """
    want need get way know tell pleas happen mean work possibl is do doe find out look explain question quick hello hi
    hey thank help everyon anyon someon wonder kind brief exact curious show understand ok so basic just pleas
    """.split()
)
"""Stems of what is said around a question."""


def near_duplicate(example: QAExample, context: Context) -> Verdict:
    """No question kept earlier asks the same: not in the same words, nor nearly so of the same passage.

    Two that differ in a number, a name or a negation are two. Where the answers are the same, too, one question may
    have words around it that the other lacks. The score is 1 less the greatest similarity.
    """
    best, twin = 0.0, ""
    for key in keys(example):
        for other in context.earlier.get(key, ()):
            same_answer = bool(set(map(normal, example.answers)) & set(map(normal, other.answers)))
            if (alike := similarity(example.question, other.question, same_answer)) > best:
                best, twin = alike, other.question_id
    if best >= context.thresholds.max_similarity:
        return Verdict(False, 1 - best, f"repeats question {twin}")
    return Verdict(True, 1 - best, "asks something of its own")


def keys(example: QAExample) -> tuple[str, ...]:
    """Where to look for questions that this one may repeat: its wording, and its gold passages."""
    history = normal(" ".join(example.chat_history))
    passages = (f"gold:{history}:{passage_id}" for passage_id in example.gold_passage_ids)
    return (f"text:{history}:{normal(example.question)}", *passages)


def similarity(a: str, b: str, same_answer: bool = False) -> float:
    """Jaccard similarity of the stems of two questions; 1 for the same words, 0 where a telling one differs.

    With the same answer it is the share of the shorter question's stems that the longer one holds.
    """
    if normal(a.lower()) == normal(b.lower()):
        return 1.0
    if numbers(a) != numbers(b) or negated(a) != negated(b) or not (_has_symbols(a, b) and _has_symbols(b, a)):
        return 0.0
    if not same_answer and _asked_for(a) != _asked_for(b):
        return 0.0
    one, other = set(stems(a)) - _FILLERS, set(stems(b)) - _FILLERS
    size = min(len(one), len(other)) if same_answer else len(one | other)
    return len(one & other) / size if size else 0.0


def _asked_for(question: str) -> frozenset[str]:
    """Persons, times, places, reasons; `what`, `which` and `how` ask for anything."""
    return frozenset(normal(question).split()) & {"who", "whom", "when", "where", "why"}


def _has_symbols(text: str, of: str) -> bool:
    """Whether a text holds what is coded or quoted in the other, of dotted names the last part, in any letter case."""
    coded = {name.split(".")[-1] for name in identifiers(of)}
    quoted = {part for pair in _QUOTED.findall(of) for part in pair if part}
    return all(symbol.lower() in text.lower() for symbol in coded | quoted)


def unanswerable_judged(example: QAExample, context: Context) -> Verdict:
    """A model reads what the corpus has on a question that is said to have no answer, and finds none.

    Raises:
        ConfigError: the context has no `judge`.
    """
    if example.answerable:
        return NOT_ASKED
    answering = needed(context.judge, "judge", "unanswerable_judged")([example])[0]
    if answering is None:
        return UNREACHED
    if answering:
        return Verdict(False, 0.0, f"the judge finds an answer in {min(answering)}")
    return Verdict(True, 1.0, "the judge finds no answer")


def guessable(example: QAExample, context: Context) -> Verdict:
    """A model that has not seen the passage does not know the answer; the score is 1 less its overlap with it.

    What asks for yes or no, or for a choice, is guessed by tossing a coin, and passes.

    Raises:
        ConfigError: the context has no `answer_closed_book`.
    """
    if not example.answerable or is_polar(example.question):
        return NOT_ASKED
    guess = needed(context.answer_closed_book, "answer_closed_book", "guessable")([example])[0]
    if guess is None:
        return UNREACHED
    overlap = f1(guess, example.answers)
    kept = overlap < context.thresholds.max_guess_f1
    return Verdict(kept, 1 - overlap, f"closed-book answer {guess!r:.60}")


def critic(example: QAExample, context: Context) -> Verdict:
    """A critic finds question and answer good enough; it is not asked about questions without an answer.

    Raises:
        ConfigError: the context has no `critic`.
    """
    if not example.answerable:
        return NOT_ASKED
    told = needed(context.critic, "critic", "critic")([example])[0]
    if told is None:
        return UNREACHED
    score, why = told
    return Verdict(score >= context.thresholds.min_critic_score, score, f"the critic says {why}")
