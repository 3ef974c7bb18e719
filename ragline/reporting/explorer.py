"""The questions as data for the page's explorer: what was asked, found and said, and how that was scored."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from functools import partial
from typing import Any

from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from ragline.reporting.comparisons import label, set_label
from ragline.reporting.failures import ANSWERERS, FINE, OUTCOMES, Prediction, served_search
from ragline.reporting.formats import clean, clip
from ragline.types import Passage

MAX_QUESTIONS = 1000
BUDGET_BYTES = 2_300_000
"""Of the data in the page, so that the whole page stays under 3 MB."""
STEPS = ((1.0, 700), (1.0, 450), (1.0, 300), (1.0, 180), (0.5, 180), (0.2, 180), (0.05, 120))
"""Share of the questions and characters of a passage: the first step that fits the budget is taken."""
TEXT_CHARACTERS = 600
"""Of a question or a text that answers it."""
MOST_REFERENCES = 5
MATCHED_CHARACTERS = 6000
"""Only so much of a passage is searched for the words of an answer."""
SHORTEST_RUN = 4
"""Words that two texts share in a row before that says anything."""

REFERENCE = 0
"""Mark of a reference's words; 1 and above are those of the answerers, in order."""

Range = tuple[int, int]
"""Characters of a text, the end exclusive."""
Mark = tuple[str, int, int, int]
"""Passage, characters from and to, and whose words they are."""
Key = tuple[str, str]
"""Set and id: they name one question."""

_WORD = re.compile(r"\w+")
_dumps = partial(json.dumps, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def sample(predictions: Sequence[Prediction], answerer: str, limit: int) -> list[Prediction]:
    """At most `limit` questions, in even shares of every set and outcome, at least one of each; all where they fit.

    Within a share they lie evenly over the ids, so that the choice depends on nothing but the rows.
    """
    rows = sorted(predictions, key=_key)
    if len(rows) <= limit:
        return rows
    strata: dict[tuple[str, str], list[Prediction]] = {}
    for row in rows:
        strata.setdefault((row["set"], row[f"{answerer}_outcome"]), []).append(row)
    quotas = _quotas([len(members) for members in strata.values()], limit)
    chosen = [row for members, quota in zip(strata.values(), quotas, strict=True) for row in _evenly(members, quota)]
    return sorted(chosen, key=_key)


def shared_runs(text: str, wanted: str) -> list[Range]:
    """Where `text` repeats `wanted` word for word, ignoring case, white space and punctuation.

    A run has at least four words, or all of a shorter `wanted`.
    """
    words = list(_WORD.finditer(text, 0, min(len(text), MATCHED_CHARACTERS)))
    asked = [word.group().lower() for word in _WORD.finditer(wanted)]
    if not words or not asked:
        return []
    matcher = SequenceMatcher(None, [word.group().lower() for word in words], asked, autojunk=False)
    least = min(SHORTEST_RUN, len(asked))
    return [
        (words[block.a].start(), words[block.a + block.size - 1].end())
        for block in matcher.get_matching_blocks()
        if block.size >= least
    ]


def pieces(text: str, ranges: Iterable[Range], limit: int) -> list[tuple[int, str]]:
    """About `limit` characters of a text: its beginning, or what stands around the ranges.

    Returns:
        (start in the text, characters), in order and apart. Every range's beginning is in one of them.
    """
    if len(text) <= limit:
        return [(0, text)]
    windows = sorted({(start, min(end, start + limit)) for start, end in ranges}) or [(0, 0)]
    room = max(20, (limit - sum(end - start for start, end in windows)) // (2 * len(windows)))
    merged: list[Range] = []
    for start, end in windows:
        opened = _word_start(text, max(0, start - room), start)
        closed = min(len(text), end + (room if opened else 2 * room))
        if merged and opened <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], closed)
        else:
            merged.append((opened, closed))
    return [(start, text[start:end]) for start, end in merged]


def view(
    questions: Sequence[Prediction], passages: Mapping[str, Passage], systems: Sequence[str], answerer: str
) -> dict[str, Any]:
    """What the template needs: the data as JSON that is safe inside a script element, and which questions it holds.

    Args:
        questions: at most about `MAX_QUESTIONS`, see `sample`; fewer are shown where their texts would not fit.
        passages: those that `failures.passage_ids` names for these questions.
        answerer: whose outcome tells the shares of a sample apart.
    """
    marks = {_key(row): _marks(row, passages) for row in questions}
    for share, characters in STEPS:
        rows = sample(questions, answerer, max(1, int(share * len(questions))))
        data = table(rows, marks, passages, systems, answerer, characters)
        text = htmlsafe_json_dumps(data, dumps=_dumps)
        if len(text.encode()) <= BUDGET_BYTES:
            break
    return {"json": Markup(_line_ends(text)), "n": len(rows), "keys": frozenset(map(_key, rows))}


def table(
    rows: Sequence[Prediction],
    marks: Mapping[Key, Sequence[Mark]],
    passages: Mapping[str, Passage],
    systems: Sequence[str],
    answerer: str,
    characters: int,
) -> dict[str, Any]:
    """Questions and the passages they name, each passage once, cut to about `characters` around what matters."""
    order: dict[str, int] = {}
    marked: dict[str, set[Range]] = {}
    questions = []
    for row in rows:
        for passage_id in _listed(row):
            order.setdefault(passage_id, len(order))
        for passage_id, start, end, _ in marks[_key(row)]:
            marked.setdefault(passage_id, set()).add((start, end))
        questions.append(_question(row, order, systems, [(order[p], *rest) for p, *rest in marks[_key(row)]]))
    return {
        "answerers": ANSWERERS,
        "served": answerer,
        "systems": [(name, label(name)) for name in systems],
        "search": served_search(systems),
        "sets": {name: set_label(name) for name in dict.fromkeys(row["set"] for row in rows)},
        "outcomes": OUTCOMES,
        "fine": FINE,
        "passages": [_passage(passages[passage_id], marked.get(passage_id, ()), characters) for passage_id in order],
        "fields": _FIELDS,
        "questions": questions,
    }


_FIELDS = (
    "set", "id", "question", "kind", "document", "language", "answerable", "references", "gold", "ranks", "shown",
    "confidence", "declined", "answers", "marks",
)  # fmt: skip


def _question(row: Prediction, order: Mapping[str, int], systems: Sequence[str], marks: Sequence[Any]) -> list[Any]:
    """One question in the order of `_FIELDS`; passages by their place."""
    shown = zip(row["retrieved_ids"], row["retrieved_scores"], row["retrieved_gold"], strict=True)
    return [
        row["set"],
        _text(str(row["question_id"])),
        _text(row["question"]),
        _text(row["kind"]),
        _text(row["document"]),
        _text(row["language"]),
        bool(row["answerable"]),
        [_text(answer) for answer in row["answers"][:MOST_REFERENCES]],
        [order[passage_id] for passage_id in row["gold_passage_ids"][:1]],
        [row[f"rank_{system}"] for system in systems],
        [(order[passage_id], _number(score), bool(gold)) for passage_id, score, gold in shown],
        _number(row["confidence"]),
        bool(row["abstained"]),
        [_answer(row, who, order) for who in ANSWERERS],
        marks,
    ]


def _answer(row: Prediction, who: str, order: Mapping[str, int]) -> dict[str, Any]:
    start = f"{who}_judged_"
    judged = {column.removeprefix(start): _number(value) for column, value in row.items() if column.startswith(start)}
    return {
        "text": _text(row[f"{who}_answer"]),
        "cited": [order[passage_id] for passage_id in row[f"{who}_cited"] if passage_id in order],
        "em": _number(row[f"{who}_em"]),
        "f1": _number(row[f"{who}_f1"]),
        "grounded": _number(row[f"{who}_grounded"]),
        "outcome": row[f"{who}_outcome"],
        **({"failed": _text(row[f"{who}_failed"])} if row[f"{who}_failed"] else {}),
        **({"judged": judged} if judged else {}),
    }


def _marks(row: Prediction, passages: Mapping[str, Passage]) -> list[Mark]:
    """The best matching reference in the gold passages, and each answer in the passages it cites."""
    hits = zip(row["retrieved_ids"], row["retrieved_gold"], strict=True)
    gold = {*row["gold_passage_ids"], *(passage_id for passage_id, is_gold in hits if is_gold)}
    references = [clip(answer, TEXT_CHARACTERS) for answer in row["answers"][:MOST_REFERENCES]]
    found: list[Mark] = []
    for passage_id in _listed(row):
        text = passages[passage_id].text
        if passage_id in gold:
            runs = (shared_runs(text, answer) for answer in references)
            best = max(runs, key=lambda some: sum(end - start for start, end in some), default=[])
            found += [(passage_id, *run, REFERENCE) for run in best]
        for mark, who in enumerate(ANSWERERS, start=REFERENCE + 1):
            if passage_id in row[f"{who}_cited"]:
                answer = clip(row[f"{who}_answer"], TEXT_CHARACTERS)
                found += [(passage_id, *run, mark) for run in shared_runs(text, answer)]
    return found


def _listed(row: Prediction) -> list[str]:
    return list(dict.fromkeys([*row["retrieved_ids"], *row["gold_passage_ids"][:1]]))


def _passage(passage: Passage, ranges: Iterable[Range], characters: int) -> dict[str, Any]:
    ranges = list(ranges)
    limit = characters if ranges else characters // 2
    return {
        "id": _text(passage.passage_id),
        "title": _text(passage.title),
        "heading": _text(passage.heading),
        "pieces": [(start, str(clean(text))) for start, text in pieces(passage.text, ranges, limit)],
        "length": len(passage.text),
    }


def _text(text: str) -> str:
    return str(clean(clip(text, TEXT_CHARACTERS)))


def _number(value: float | None) -> float | None:
    """Three decimals, as the page shows every such number; None for what is no number."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.3f}")


def _key(row: Prediction) -> Key:
    return row["set"], str(row["question_id"])


def _quotas(sizes: Sequence[int], limit: int) -> list[int]:
    """Shares of `limit` in proportion to `sizes`, at least 1 each while there is room, by largest remainder."""
    total = sum(sizes)
    exact = [limit * size / total for size in sizes]
    quotas = [max(1, math.floor(share)) for share in exact]
    by_need = sorted(range(len(sizes)), key=lambda at: (quotas[at] - exact[at], at))
    for at in by_need[: max(0, limit - sum(quotas))]:
        quotas[at] += 1
    while sum(quotas) > limit:
        largest = max(range(len(sizes)), key=lambda at: (quotas[at], -at))
        quotas[largest] -= 1
    return quotas


def _evenly(rows: Sequence[Prediction], quota: int) -> list[Prediction]:
    return [rows[place * len(rows) // quota] for place in range(quota)]


def _word_start(text: str, start: int, latest: int) -> int:
    """The first word's beginning at or after `start`, but not after `latest`."""
    if start == 0:
        return 0
    space = text.find(" ", start, latest)
    return space + 1 if space >= 0 else start


def _line_ends(text: str) -> str:
    """U+2028 and U+2029 as escapes: some tools take them for the end of a line."""
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
