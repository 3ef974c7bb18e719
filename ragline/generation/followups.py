"""Follow-ups: what a question in a conversation asks for once it stands alone, as search knows no conversation.

A model rewrites it where there is one to ask. Without one a rule adds the words of the question before to a short one
that points back. The rule knows English alone; it carries words over, it does not find out what a pronoun stands for,
looks no further back than one turn, and takes a short question about something new for a follow-up if it points back
in its words.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ragline.generation.prompts import Offsets, parse

INSTRUCTION = (
    "Rewrite the last question of the conversation so that it can be understood by itself: put in what it refers to, "
    "keep its language, and change nothing else. Do not answer it. If it stands alone already, repeat it. Write the "
    "question alone, on one line."
)
CARRIED = 12
"""Words that the rule takes along from the question before, at most; the newest ones."""
FEW = 3
"""Words of its own that an English question has at most where its first word alone makes it a follow-up."""
SOME = 5
"""The same where it points back."""
LONGEST = 1000
"""Characters of a rewritten question; a longer one is no question, unless the one typed was as long."""

_WORD = re.compile(r"\w+(?:[.'-]\w+)*")
_EMPTY = frozenset(
    "a about also an and another any are as at back be been but by can could did do does else for from had has have "
    "he help her here his how i i'm if in instead into is it it's its just let like many may me might more much my "
    "need no not of often ok okay on one ones only or other otherwise our out please same shall she should so some "
    "such tell than that the their them then there these they this those to too up us use used using want was way we "
    "were what what's when where which who whose why will with without would yes you your".split()
)
"""English words that say nothing about the subject."""
_GOES_ON = re.compile(r"\W*(?:and|but|or|also|then|so|otherwise|what\s+if|okay|ok)\b", re.IGNORECASE)
_ASKS = re.compile(
    r"\b(?:what|how|which|who|whose|where|when|why|is|are|was|were|do|does|did|can|could|should|would|will|has|have)\b",
    re.IGNORECASE,
)
_ABOUT = re.compile(r"\A\W*(?:(?:and|but|or|so|then|also|okay|ok)\W+)*(?:what|how)\s+about\s+", re.IGNORECASE)
_EXPLETIVE = re.compile(
    r"\b(?:is|was|would)\s+it\s+(?:be\s+)?\w+\s+(?:to|that|if)\b|\bdoes\s+it\s+(?:take|matter|make\s+sense)\b"
    r"|\bit\s+(?:takes?|seems?|looks?)\b",
    re.IGNORECASE,
)
_POINTS = re.compile(
    r"\b(?:it|its|it's|they|them|their|this|these|those|instead|else|the\s+same|(?:what|how)\s+about)\b"
    r"|\b(?:is|was|does|did|do|of|for|with|about|to|in|from|like|than|after|before|without|why|how|can|use)\s+that\b"
    r"|\bthat\s*(?:[?.!,]|\Z)",
    re.IGNORECASE,
)
_LABEL = re.compile(r"\A(?:standalone |rewritten |last )?question:\s*", re.IGNORECASE)
_QUOTES = "\"'“”«»`* "


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer, as they were."""

    asked: str
    """The user's own words."""
    standalone: str
    """What was searched for."""
    answered: str
    """What the user was told; empty where an answer was held back."""


@dataclass(frozen=True, slots=True)
class Standalone:
    """A question that needs no conversation."""

    text: str
    failed: str = ""
    """Why a follow-up is left as it was typed, where a model was to rewrite it."""


class Rewriter(Protocol):
    """Makes questions stand alone."""

    def standalone(self, questions: Sequence[str], histories: Sequence[Sequence[Turn]]) -> list[Standalone]:
        """One for each question; one without turns before it stays as it is.

        Args:
            histories: the turns before each question, oldest first.

        Raises:
            ServiceError: no call of an endpoint can succeed, or the budget is spent.
        """
        ...


class ByRule:
    """The rule, as a `Rewriter`."""

    def standalone(self, questions: Sequence[str], histories: Sequence[Sequence[Turn]]) -> list[Standalone]:
        """As `Rewriter.standalone`."""
        return [
            Standalone(with_words_of(turns[-1].standalone, question) if turns else question)
            for question, turns in zip(questions, histories, strict=True)
        ]


def points_back(question: str) -> bool:
    """Whether a question cannot be understood alone, by its words: a short one that goes on, asks nothing, or points.

    `And without a header?` goes on, `Line by line?` asks nothing, `Why is it slow?` points; `Is it possible to …` and
    `a frame that …` point at nothing.
    """
    own = len(content(question))
    if own == 0:
        return True
    fragment = question.rstrip().endswith("?") and not _ASKS.search(question)
    if own <= FEW and (fragment or _GOES_ON.match(question)):
        return True
    return own <= SOME and bool(_POINTS.search(_EXPLETIVE.sub(" ", question)))


def with_words_of(before: str, question: str) -> str:
    """A question that points back, and the words of the one before that it lacks; any other as it is.

    Of `And what about JSON?` what it is about stands first and twice, as it takes the place of something else.
    """
    if not points_back(question):
        return question
    own = {word.lower() for word in content(question)}
    carried = " ".join([word for word in content(before) if word.lower() not in own][-CARRIED:])
    new = _ABOUT.sub("", question).strip(" ?") if _ABOUT.match(question) else ""
    if carried and new:
        return f"{new}, {new}: {carried}"
    return f"{carried}: {question}" if carried else question


def content(text: str) -> list[str]:
    """Words that say what a question is about, each once, as they are spelled first."""
    found: dict[str, str] = {}
    for word in _WORD.findall(text):
        if word.lower() not in _EMPTY:
            found.setdefault(word.lower(), word)
    return list(found.values())


def recent(turns: Sequence[Turn], most_tokens: int, offsets: Offsets) -> list[Turn]:
    """The newest turns in so many tokens: questions are whole, an answer may be cut, older turns are forgotten.

    What `prompt` puts around them counts, too.

    Args:
        offsets: a text's tokens, see `prompts.Offsets`.
    """
    kept: list[Turn] = []
    for turn in reversed(turns):
        most_tokens -= len(offsets("\n".join(_said(turn.asked, ""))))
        if most_tokens < 0:
            break
        ends = [end for _, end in offsets(turn.answered)][:most_tokens]
        kept.append(Turn(turn.asked, turn.standalone, turn.answered[: ends[-1]] if ends else ""))
        most_tokens -= len(ends)
    return kept[::-1]


def prompt(question: str, turns: Sequence[Turn]) -> str:
    """What a model is told that rewrites a follow-up."""
    said = [line for turn in turns for line in _said(turn.asked, turn.answered)]
    return "\n".join([INSTRUCTION, "", "Conversation:", *said, "", f"Last question: {question}", "Rewritten question:"])


def _said(asked: str, answered: str) -> tuple[str, str]:
    return f"User: {asked}", f"Assistant: {answered}"


def rewritten(reply: str, question: str, turns: Sequence[Turn]) -> str | None:
    """The question in a model's reply; None where it is of no use.

    Of use is one line, no longer than a question, that keeps a word of the question or, if that has none, of the turns
    before. Whether it means the same is not known.
    """
    lines = parse(reply, 0).text.splitlines()
    text = _LABEL.sub("", lines[0].strip(_QUOTES)).strip(_QUOTES) if len(lines) == 1 else ""
    if not text or len(text) > max(LONGEST, len(question)):
        return None
    kept = content(question) or [word for turn in turns for word in content(f"{turn.asked} {turn.answered}")]
    if question.isascii() and not {word.lower() for word in kept} & {word.lower() for word in content(text)}:
        return None
    return text
