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
_TAIL = re.compile(
    r"[;:] .*| or None\b.*|,? (?:e\.g\.?|i\.e\.?|etc\.?)(?:,? .*)?$|,? (?:and )?returns? .*|"
    r"(?:,| only|, but only)? (?:if|when|where) (?:applicable|desired|it|necessary|needed|possible|"
    r"required|there|they)\b.*| only (?:if|when) .*| (?:if|when) (?:given|provided|set|specified)$|"
    r", (?:and |or |but )?(?:a la|default|else|especially|if|meaning|only|otherwise|then|try|useful|when)\b.*"
)
"""What follows the statement itself: lists, examples, other cases."""
_BROKEN = re.compile(
    r"\.\.|->|[<>|{}\\]|==|::|\b(?:e\.g|i\.e|etc)\b|\bself\b|\b(?:this|these|those|below|above)\b|\bsuch\b(?! as\b)|"
    r"\b(\w+(?: \w+)?) \1\b|\b(?:at|by|for|from|in|of|on|to|with) that\b|"
    r"\b(?:by|of) (?!\w*(?:series|ss|us|is) )[a-z]+s [a-z]{3,}s\b|"  # 'by periods observations': a parameter's name
    r"\b(?:a|also|an|and|as|at|by|following|for|form|from|in|into|of|on|or|such|than|that|the|to|too|via|where|which|"
    r"with)$|[&/=,:(-]$|^(?:and|else|or|otherwise)\b",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"(?<!\w)'[^']*'(?!\w)|\"[^\"]*\"")
_PHRASES = ("predicate", "does", "thing", "condition", "purpose", "question", "keys", "other")
"""Parts of a wording that come from the text; the rest are names and places."""
_A_VOWEL = re.compile(r"\b([Aa]) (?=[AEIOaeio](?!ne\b|nce\b))(?!(?:and|are|as|at|if|in|is|it|of|on|or)\b)")


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
    if subject.activity and rng.random() < 0.35:
        return f" when {in_everyday_words(subject.activity, rng)}"
    return f" in {call(subject, rng)}"


def ask(kind: str, span: Span, rng: random.Random, wordings: Wordings, **parts: str) -> list[Candidate]:
    """One of the wordings that the parts fit, filled; nothing where the question grew too long.

    A third of the questions loses its question mark and its capital, as typed in a search box; of what has no
    question mark, a tenth is mistyped.
    """
    whole = {part for part in _PHRASES if part in parts and is_whole(parts[part])}
    if _QUOTED.search(parts.get("thing", "")):  # of 'first' and 'last' is said what they do
        whole.discard("thing")
    fitting = [w for w in wordings if whole.issuperset(part for part in _PHRASES if f"{{{part}}}" in w)]
    if not fitting:
        return []
    question = " ".join(rng.choice(fitting).format(**parts).split())
    question = _A_VOWEL.sub(r"\1n ", re.sub(r"\s+([?,])", r"\1", question))
    if len(question.split()) > MAX_QUESTION_WORDS:
        return []
    first = question.split()[0]
    if question.endswith("?") and rng.random() < 0.3:
        question = question.removesuffix("?")
        typed = first.isalpha() and (first[1:].islower() or first == "I")  # a name, such as Table.join, stays
        question = question[0].lower() + question[1:] if typed else question
    elif question.endswith("?"):
        question = question[0].upper() + question[1:] if first.isalpha() else question
    elif rng.random() < 0.1:
        question = _mistype(question, rng)
    return [Candidate(kind, question, span)]


def is_whole(phrase: str) -> bool:
    """Whether a piece of a text can stand in a question: nothing is cut off, left over or points elsewhere."""
    if not phrase or _BROKEN.search(phrase):
        return False
    rest = _QUOTED.sub("", phrase)
    odd = '"' in rest or re.search(r"(?<!\w)'\w|(?<![\ws])'(?!\w)", rest) is not None
    return not odd and all(phrase.count(a) == phrase.count(b) for a, b in ("()", "[]", "{}"))


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
    phrase = _TAIL.sub("", " ".join(_ASIDE.sub("", phrase).split())).rstrip(" .;:,")
    if len(phrase.split()) <= max_words:
        return phrase
    for cut in reversed(list(_CUTS.finditer(phrase))):
        head = phrase[: cut.start()]
        if len(head.split()) <= max_words:
            return head if len(content_words(head)) >= 2 else ""
    return ""


def keywords(phrase: str, max_words: int = 7) -> str:
    """The phrase as a search box gets it: no marks, of the small words only those that join the others.

    Empty where it is too long, or says a word twice: nobody would type that.
    """
    words = re.findall(r"[\w./='-]+", phrase.lower())
    if "/" in words:
        return ""
    kept = [word for word in words if word in _JOINING or not _is_small(word)]
    while kept and kept[-1] in _JOINING:
        kept.pop()
    while kept and kept[0] in _JOINING:
        kept.pop(0)
    telling = [word.removesuffix("s") for word in kept if word not in _JOINING]
    if len(telling) > max_words or len(set(telling)) < len(telling) or any(word.isdigit() for word in telling):
        return ""
    return " ".join(kept)


_JOINING = frozenset(
    "along and as at between by each for from in into no not of on or over per through to under using with within "
    "without".split()
)
_NEVER_TYPED = frozenset("all desired every indicated passed provided requested whose".split())


def _is_small(word: str) -> bool:
    return word in _NEVER_TYPED or all(part in STOP_WORDS for part in word_tokens(word))
