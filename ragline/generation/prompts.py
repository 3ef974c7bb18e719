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
FUSION = "question: {question} context: {passage}"
"""What an encoder-decoder reads where it reads each passage by itself; Izacard and Grave, EACL 2021, section 3."""

_THINKS = "<think>"
_THOUGHT = re.compile(rf"\A\s*{_THINKS}.*?(?:</think>|\Z)", re.DOTALL)
_BRACKET = r"\[[0-9]{1,2}(?:\s*,\s*[0-9]{1,2})*\]"
_RUN = re.compile(rf"(?<!\s)(?P<blank>\s*)(?<!\\)(?P<bars>\\*)(?P<marks>(?:{_BRACKET})+)")
"""[1][2] or [1, 2], with the blank before it; after a backslash it is no citation, as in Markdown."""
_FREE = re.compile(r"(?:(?<=[\s.,;:!?)\"'`])|\A)(?=\[)")
"""Where a run may start to stand by itself; `frame[1]` is code."""
_AFTER = re.compile(r"[\s.,;:!?)]|\Z")
_WORD = re.compile(r"(?<=[^\W\d_]{3})(?=\[)")
_CLAUSE_ENDS = re.compile(r"[.,;:!?]+(?:\s|\Z)|\s*\Z")
_OPEN_END = re.compile(r"(?<!\s)\s*\\*(?:\[[0-9\s,]*(?:\]|\Z))*[.,;:!?)\"'`]*\s*\Z")
"""What more text may turn into a citation, into none, or into a blank that goes with one."""
HIGHEST = 99
"""The highest number of a passage that is read as a citation."""

Render = Callable[[str], str]
"""What the user says to what the model reads, such as its chat template."""
Offsets = Callable[[str], Sequence[tuple[int, int]]]
"""A text's tokens, each by its first character and the one after its last."""


@dataclass(frozen=True, slots=True)
class Said:
    """An answer as it was meant."""

    text: str
    """Without citations; empty where the model declines, or says nothing."""
    cited: tuple[int, ...]
    """Places of the passages cited, counted from 0, each once, in the order of the text."""
    declined: bool = False
    """Whether it says the fixed sentence, unlike a model that says nothing."""


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
    r"""The answer that a model is to learn, citing the passages at these places, counted from 0.

    What looks like a citation in the answer itself gets a backslash, `\[1]`, which `parse` takes away again.
    """
    marks = "".join(f"[{place + 1}]" for place in sorted(set(cited)))

    def escape(found: re.Match[str]) -> str:
        taken = _stands(found) or (_attached(found) and not marks)
        literal = found["bars"] or (taken and _numbers(found, HIGHEST))
        return f"{found['blank']}{found['bars']}{chr(92) if literal else ''}{found['marks']}"

    bare = _RUN.sub(escape, answer)
    return f"{bare} {marks}" if marks else bare


def parse(text: str, shown: int) -> Said:
    r"""Read an answer: thoughts before it are left out, citations are taken out, the fixed sentence becomes silence.

    A citation goes with the blank before it, or after it where it opens a line, and nothing else does: lists and code
    keep their lines. One that is attached to a word, as in `Yes[1].`, counts at the end of a clause where the answer
    has no other; elsewhere that is code.

    Args:
        shown: passages that the model saw; a number beyond them cites nothing, and stays in the text unless it stands
            right beside one that cites. 0: the answer was not asked to cite, and `\[1]` stays as it is, too.
    """
    said = _THOUGHT.sub("", text)
    bare, cited = _bare(said, shown, len(said), _first_free(said, shown) is not None)
    if _plain(bare).startswith(_plain(ABSTENTION)):
        return Said("", (), declined=True)
    return Said(bare, tuple(dict.fromkeys(cited)))


def settled(text: str, shown: int) -> str:
    """What of an answer can be shown while it is being written: the start of what `parse` makes of any whole of it.

    Nothing, as long as it may become the fixed sentence, or is a thought; and nothing that may become a citation.

    Args:
        text: the answer so far.
        shown: as in `parse`.
    """
    if _THINKS.startswith(text.lstrip()[: len(_THINKS)]) and "</think>" not in text:
        return ""
    said = _THOUGHT.sub("", text)
    found = _OPEN_END.search(said)
    end = found.start() if found else len(said)
    free = _first_free(said, shown)
    if free is None or free > end:  # one that is attached counts if no other follows
        doubtful = (run.start() for run in _RUN.finditer(said) if _attached(run) and _numbers(run, shown))
        end = min([end, *doubtful])
    bare, _ = _bare(said, shown, end, free is not None and free <= end)
    plain, refusal = _plain(bare), _plain(ABSTENTION)
    return "" if refusal.startswith(plain) or plain.startswith(refusal) else bare


def _first_free(said: str, shown: int) -> int | None:
    """Where the first citation that stands by itself ends."""
    return next((run.end() for run in _RUN.finditer(said) if _stands(run) and _numbers(run, shown)), None)


def _bare(said: str, shown: int, end: int, free: bool) -> tuple[str, list[int]]:
    """The first `end` characters without citations and outer blanks, and the places that they cite.

    Args:
        free: whether a citation stands by itself somewhere in the whole answer.
    """
    parts, cited, last = [], [], 0
    for run in _RUN.finditer(said):
        if run.end() > end:
            break
        parts.append(said[last : run.start()])
        last = run.end()
        taken = _numbers(run, shown) if _stands(run) or (_attached(run) and not free) else []
        cited += [number - 1 for number in taken]
        if run["bars"] and shown:
            parts.append(f"{run['blank']}{run['bars'][1:]}{run['marks']}")
        elif not taken:
            parts.append(run[0])
        elif "\n" in run["blank"] and said[last : last + 1] in (" ", "\t"):
            parts.append(run["blank"])
            last += 1
    parts.append(said[last:end])
    return "".join(parts).strip(), cited


def _numbers(run: re.Match[str], shown: int) -> list[int]:
    """Passages that a run cites: those of brackets that hold no other number."""
    brackets = [[int(n) for n in re.findall("[0-9]+", bracket)] for bracket in re.findall(_BRACKET, run["marks"])]
    return [number for numbers in brackets if all(1 <= n <= shown for n in numbers) for number in numbers]


def _stands(run: re.Match[str]) -> bool:
    """Whether a run stands by itself."""
    return bool(_FREE.match(run.string, run.start("marks")) and _AFTER.match(run.string, run.end()))


def _attached(run: re.Match[str]) -> bool:
    """Whether a run ends a clause right after a word; the short names before an index are mostly code."""
    return bool(_WORD.match(run.string, run.start("marks")) and _CLAUSE_ENDS.match(run.string, run.end()))


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
