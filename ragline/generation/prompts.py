"""What a language model is told and how its answer is read: the same for training, evaluation and serving.

Passages are numbered, the answer cites them as [1], and one fixed sentence declines. Where a prompt is too long the
passages are cut, never the question.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ragline.errors import DataError

ABSTENTION = "The documents do not seem to hold an answer to this."
INSTRUCTION = (
    "Answer the question from the numbered passages alone, briefly. Cite the passages that the answer rests on, as in "
    f"[1]. If they do not hold the answer, say: {ABSTENTION}"
)

_THOUGHT = re.compile(r"\A\s*<think>.*?(?:</think>|\Z)", re.DOTALL)
_MARKS = re.compile(r"(?:(?<=[\s.,;:!?)\"'`])|\A)(?:\[\d{1,2}\]\s?)+(?=[\s.,;:!?)]|\Z)")
"""A run of [1][2] that stands by itself; `frame[1]` is code."""

Render = Callable[[str], str]
"""What the user says to what the model reads, such as its chat template."""
Offsets = Callable[[str], Sequence[tuple[int, int]]]
"""A text's tokens, each by its first character and the one after its last."""


@dataclass(frozen=True, slots=True)
class Said:
    """An answer as it was meant."""

    text: str
    """Without citations; empty where the model declines."""
    cited: tuple[int, ...]
    """Places of the passages cited, counted from 0, each once, in the order of the text."""


def prompt(question: str, passages: Sequence[str]) -> str:
    """Everything that the model is told, its own chat template aside."""
    numbered = "\n\n".join(f"[{number}] {text}" for number, text in enumerate(passages, start=1))
    return f"{INSTRUCTION}\n\nPassages:\n{numbered}\n\nQuestion: {question}\nAnswer:"


def fitted(question: str, passages: Sequence[str], limit: int, render: Render, offsets: Offsets) -> str:
    """The rendered prompt in at most `limit` tokens: long passages are cut to equal lengths, short ones stay whole.

    Where there is no room for a token of each passage, the last ones are left out.

    Raises:
        DataError: the question alone is too long.
    """
    found, ends = "", [[end for _, end in offsets(text)] for text in passages]
    for count in range(len(passages), -1, -1):
        room = limit - len(offsets(render(prompt(question, [""] * count))))
        while room >= count:
            allowed = shares([len(tokens) for tokens in ends[:count]], room)
            cut = [
                text if n == len(tokens) else text[: tokens[n - 1]] if n else ""
                for text, tokens, n in zip(passages, ends, allowed, strict=False)
            ]
            found = render(prompt(question, cut))
            if (over := len(offsets(found)) - limit) <= 0:
                return found
            room = min(room, sum(allowed)) - over  # what meets at a seam may be cut up in more tokens
    raise DataError(
        f"question {question[:40]!r}: expected it and the instruction in {limit} tokens, got "
        f"{len(offsets(render(prompt(question, []))))}; raise train_generator.max_input_tokens, or ask shorter"
    )


def shares(lengths: Sequence[int], room: int) -> list[int]:
    """Give out `room` among texts of these lengths: none gets more than it needs, and only larger ones lose.

    Max-min fairness: the smallest share of a text that is cut is as large as can be. What an even cut leaves over goes
    to the earlier ones.
    """
    given = [0] * len(lengths)
    open_ones = sorted(range(len(lengths)), key=lambda place: (lengths[place], -place))
    for done, place in enumerate(open_ones):
        given[place] = min(lengths[place], room // (len(open_ones) - done))
        room -= given[place]
    return given


def target(answer: str, cited: Sequence[int]) -> str:
    """The answer that a model is to learn, citing the passages at these places, counted from 0."""
    marks = "".join(f"[{place + 1}]" for place in sorted(set(cited)))
    return f"{answer} {marks}" if marks else answer


def parse(text: str, shown: int) -> Said:
    """Read an answer: thoughts before it are left out, citations are taken out, the fixed sentence becomes silence.

    Args:
        shown: passages that the model saw; a number beyond them cites nothing, and stays in the text.
    """
    cited: list[int] = []

    def take(found: re.Match[str]) -> str:
        numbers = [int(number) for number in re.findall(r"\d+", found[0])]
        if any(not 1 <= number <= shown for number in numbers):
            return found[0]
        cited.extend(number - 1 for number in numbers)
        return ""

    bare = _MARKS.sub(take, _THOUGHT.sub("", text))
    if cited:
        bare = re.sub(r"\s+([.,;:!?)])", r"\1", bare)
    bare = " ".join(bare.split())
    if _plain(bare).startswith(_plain(ABSTENTION)):
        return Said("", ())
    return Said(bare, tuple(dict.fromkeys(cited)))


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
