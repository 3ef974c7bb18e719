"""What every rule needs: a candidate, a way to name the subject, and questions of bearable length."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from ragline.questions.english import STOP_WORDS, content_words
from ragline.questions.phrasings import Wordings
from ragline.questions.subjects import Subject
from ragline.questions.wording import in_everyday_words
from ragline.text import word_tokens
from ragline.types import Span

Dice = Callable[[Span], random.Random]
"""A source of choices that depends on the seed, the document and the span alone."""

MAX_QUESTION_WORDS = 28
_ASIDE = re.compile(r"\s*\([^()]*\)")
_CUTS = re.compile(r"[,;:] | (?:such as|including|so that|based on|which|where|e\.g\.|i\.e\.) |\. ")
_A_VOWEL = re.compile(r"\b([Aa]) (?=[AEIOaeio](?!ne\b|nce\b))")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A question that a rule would ask about a span."""

    kind: str
    question: str
    span: Span


def call(subject: Subject, rng: random.Random) -> str:
    """A name of the subject: mostly the shortest that nothing else bears."""
    calls = subject.calls
    return calls[0] if len(calls) == 1 or rng.random() < 0.6 else rng.choice(calls[1:])


def within(subject: Subject, rng: random.Random) -> str:
    """' in merge' or ' when merging tables': where a question about a detail belongs."""
    if subject.activity and rng.random() < 0.45:
        return f" when {in_everyday_words(subject.activity, rng)}"
    return f" in {call(subject, rng)}"


def ask(kind: str, span: Span, rng: random.Random, wordings: Wordings, **parts: str) -> list[Candidate]:
    """One of the wordings, filled; nothing where the question grew too long.

    A third of the questions loses its question mark and its capital, as typed in a search box; of what has no
    question mark, a tenth is mistyped.
    """
    question = " ".join(rng.choice(wordings).format(**parts).split())
    question = _A_VOWEL.sub(r"\1n ", re.sub(r"\s+([?,])", r"\1", question))
    if len(question.split()) > MAX_QUESTION_WORDS:
        return []
    first = question.split()[0]
    if question.endswith("?") and rng.random() < 0.3:
        question = question.removesuffix("?")
        question = question[0].lower() + question[1:] if first[1:].islower() or first == "I" else question
    elif question.endswith("?"):
        question = question[0].upper() + question[1:] if first.isalpha() else question
    elif rng.random() < 0.1:
        question = _mistype(question, rng)
    return [Candidate(kind, question, span)]


def _mistype(question: str, rng: random.Random) -> str:
    """Two letters swapped inside one longer word, as hasty fingers do."""
    words = question.split()
    long = [i for i, word in enumerate(words) if len(word) >= 5 and word.isalpha() and word.islower()]
    if long:
        chosen = rng.choice(long)
        word = words[chosen]
        at = rng.randrange(1, len(word) - 2)
        words[chosen] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


def shorten(phrase: str, max_words: int = 16) -> str:
    """A phrase without asides, cut at a clause's end where it is long; empty where no cut makes it short enough."""
    phrase = " ".join(_ASIDE.sub("", phrase).split()).rstrip(" .;:,")
    if len(phrase.split()) <= max_words:
        return phrase
    for cut in reversed(list(_CUTS.finditer(phrase))):
        head = phrase[: cut.start()]
        if len(head.split()) <= max_words:
            return head if len(content_words(head)) >= 2 else ""
    return ""


def keywords(phrase: str, max_words: int = 7) -> str:
    """The phrase as a search box gets it: no small words, no marks."""
    words = [word for word in re.findall(r"[\w./='-]+", phrase) if not _is_small(word)]
    return " ".join(words[:max_words]).lower()


def _is_small(word: str) -> bool:
    return all(part in STOP_WORDS for part in word_tokens(word))
