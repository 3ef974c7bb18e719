"""What a language model is shown of an answer, and what it may say of it.

Pure: `ragline.judging` asks. A criterion is a call of its own and sees only what it needs, so that no verdict colours
another: the one on `grounded` never sees a reference, the one on `relevant` no passage.

Source: Zheng et al. 2023 (arXiv 2306.05685): verdicts after reasons, pairs in both orders.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from ragline.llm.calls import Message, Prompt
from ragline.llm.work import Form

Criterion = Literal["correct", "grounded", "relevant"]
CRITERIA: tuple[Criterion, ...] = ("correct", "grounded", "relevant")
VERDICTS = {"no": 0.0, "partly": 0.5, "yes": 1.0}
WINNERS = {"first": 1.0, "tie": 0.5, "second": 0.0}
GOLD_SHOWN = 5
"""Passages that hold the answer, of those that a judge is shown."""


class Verdict(Form):
    """What is said of one answer; the reason comes first, so that the verdict follows from it."""

    reason: str
    verdict: Literal["no", "partly", "yes"]


class Choice(Form):
    """Which of two answers is better."""

    reason: str
    winner: Literal["first", "tie", "second"]


@dataclass(frozen=True, slots=True)
class Case:
    """An answer, and what it is held against."""

    question: str
    references: tuple[str, ...]
    gold: tuple[str, ...]
    """Texts of the passages that hold the answer."""
    answer: str
    read: tuple[str, ...]
    """Texts of the passages that the answer cites, or, where it cites none, was given."""


def criterion_prompt(criterion: Criterion, case: Case) -> Prompt:
    """What the judge is shown for a criterion."""
    shown: dict[str, Any] = {"question": case.question}
    if criterion == "correct":
        shown |= {"reference_answers": case.references, "gold_passages": case.gold[:GOLD_SHOWN]}
    if criterion == "grounded":
        shown |= {"passages": case.read}
    return _prompt(criterion, shown | {"answer": case.answer}, _VERDICT)


def pairwise_prompt(first: Case, second: Case) -> Prompt:
    """What the judge is shown of two answers to one question."""
    shown = {
        "question": first.question,
        "reference_answers": first.references,
        "gold_passages": first.gold[:GOLD_SHOWN],
        "first_answer": first.answer,
        "second_answer": second.answer,
    }
    return _prompt("pairwise", shown, _CHOICE)


def data_line(shown: Mapping[str, Any]) -> str:
    """Material as one line of JSON: no text in it can end its string, begin a line, or spell a chat template's token.

    Quotes and line ends are escaped as JSON does; `<`, with which `<|im_end|>` and `</s>` begin, as `\\u003c`, and in
    texts `[`, with which `[INST]` begins, as `\\u005b`.
    """
    line = json.dumps(shown, ensure_ascii=False).replace("<", "\\u003c")
    line = _STRING.sub(lambda text: text.group().replace("[", "\\u005b"), line)
    return _LINE_ENDS.sub(lambda end: f"\\u{ord(end.group()):04x}", line)


_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
"""Of JSON; other brackets are its lists."""
_LINE_ENDS = re.compile("[\x7f-\x9f\u2028\u2029]")
"""Those, and control characters, that JSON leaves as they are."""


def _schema(properties: Mapping[str, object]) -> str:
    whole = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    return json.dumps(whole)  # in the order given, in which an endpoint that constrains decoding writes them


_VERDICT = _schema({"reason": {"type": "string"}, "verdict": {"type": "string", "enum": [*VERDICTS]}})
_CHOICE = _schema({"reason": {"type": "string"}, "winner": {"type": "string", "enum": [*WINNERS]}})


def _prompt(name: str, shown: Mapping[str, Any], schema: str) -> Prompt:
    return Prompt((Message("user", _template(name).replace("{{data}}", data_line(shown))),), schema)


@cache
def _template(name: str) -> str:
    return (resources.files("ragline.evaluation.judge") / "prompts" / f"{name}.txt").read_text(encoding="utf-8")


FAMILIES = {
    "gpt": r"gpt|chatgpt|davinci|o[134](?![a-z0-9])",
    "claude": r"claude",
    "gemini": r"gemini|gemma|palm",
    "llama": r"llama|vicuna|alpaca",
    "mistral": r"mistral|mixtral|ministral|magistral|codestral|devstral|pixtral|zephyr",
    "qwen": r"qwen|qwq",
    "deepseek": r"deepseek",
    "phi": r"phi",
    "command": r"command|aya",
    "glm": r"glm|chatglm",
    "grok": r"grok",
    "granite": r"granite",
    "olmo": r"olmo|tulu",
}
"""Families of language models, by how a part of a name begins."""


def families(model: str) -> frozenset[str]:
    """The families that a model's name speaks of; without a known one, the letters that its last part begins with.

    `DeepSeek-R1-Distill-Qwen-7B` is of two: deepseek and qwen.
    """
    name = model.lower().split("@")[0]
    known = {family for family, begins in FAMILIES.items() if re.search(rf"(?<![a-z])(?:{begins})", name)}
    own = re.match(r"[a-z]+", name.rsplit("/", 1)[-1].rsplit(":", 1)[-1])
    return frozenset(known or ({own.group()} if own else {name}))


def same_family(judge: str, generator: str) -> str | None:
    """A warning where a judge is of the generator's family, as models prefer answers of their own kind; else None.

    Source: Panickssery et al. 2024 (arXiv 2404.13076), for self-preference.
    """
    if not (shared := sorted(families(judge) & families(generator))):
        return None
    return (
        f"judge {judge} and generator {generator} are of one family ({', '.join(shared)}): models prefer answers of "
        "their own kind; take a judge of another family, or label some answers (evaluate.judge.labels)"
    )
