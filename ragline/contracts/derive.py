"""Columns that the suites look at beside a table's own: what one row cannot say by itself.

A column of texts explains what is wrong with a row and is null where nothing is; a suite then expects null, and the
text is the example that its line shows. A column of numbers is compared in the suite.
"""

import hashlib
import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Column = Sequence[Any]
Columns = Mapping[str, Any]
"""A table, column by column; nothing is None here, a missing value is an empty one. Every column is a list, but a
table's own `text` may only be gone through: it is read from the disk each time, for it is as large as the corpus."""
Faults = list[str | None]


@dataclass(frozen=True, slots=True)
class Derived:
    """A column made from others."""

    needs: tuple[str, ...]
    """Columns of the table itself."""
    make: Callable[[Columns, Mapping[str, Columns]], Column]
    """From the table, and from the tables beside it by name; one value a row."""
    beside: tuple[str, ...] = ()
    """Suites whose tables it reads."""


_TAG = re.compile(
    r"</?(?:a|article|body|br|div|footer|h[1-6]|head|html|img|li|link|meta|nav|ol|p|script|section|span|style|table|"
    r"tbody|td|th|thead|tr|ul)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
_CODE = re.compile(r"^(```|~~~).*?^\1|``[^`]+``|`[^`\n]*`|\"[^\"\n]*\"|'[^'\n]*'", re.MULTILINE | re.DOTALL)
_PROMPT = re.compile(r"^\s*(>>>|\.\.\. )", re.MULTILINE)
_INDENTED = re.compile(r"\s{4,}|\t")
_UNFINISHED = re.compile(
    r"(?:[,(\[{]|\w-|…|\[(?:truncated|\.\.\.)\]|\b(?:a|an|the|of|and|or|with|to|for|by|from|that|which|as|at|is|are|"
    r"was|be|if|when|into|than|its|their|this))$",
    re.IGNORECASE,
)
_LAST_WORD = re.compile(r"(?:^|\s)([a-z]{2,})$")
_LETTERS = re.compile(r"[a-z]+")
_WORD = re.compile(r"\w+")
_VOCABULARY_CHARS = 4_000_000
"""Text read to learn which words there are; more of it costs time and finds little more."""


# --- documents -------------------------------------------------------------------------------------


def _unfinished(table: Columns, _: Mapping[str, Columns]) -> Faults:
    """Texts that end as no text does: in the middle of a sentence, of a word, or of fenced code.

    The middle of a word: it is the beginning of some word of the table and nowhere a word itself.
    """
    words, beginnings = _vocabulary(text.rstrip() for text in table["text"])
    faults: Faults = []
    for text in (text.rstrip() for text in table["text"]):
        end = text[-60:]
        cut = "```" in text and sum(line.startswith("```") for line in text.split("\n")) % 2 == 1
        if not cut and (end[-1:].isalpha() or end[-1:] in set(",([{-…]")):  # most end otherwise, and this is slow
            last = _LAST_WORD.search(end)
            cut_word = last is not None and last[1] not in words and last[1] in beginnings
            cut = cut_word or _UNFINISHED.search(end[-14:]) is not None
        faults.append(f"…{end[-40:]}" if cut else None)
    return faults


def _vocabulary(texts: Iterable[str]) -> tuple[set[str], set[str]]:
    """Words and their proper beginnings, the last word of each text left out."""
    words: set[str] = set()
    room = _VOCABULARY_CHARS
    for text in texts:
        words.update(_LETTERS.findall(text[: max(text.rfind(" "), 0)].lower()))
        room -= len(text)
        if room < 0:
            break
    return words, {word[:end] for word in words for end in range(2, len(word))}


def _tagged(table: Columns, _: Mapping[str, Columns]) -> Faults:
    """Texts with more than two HTML tags outside code, quotes and examples, where pages about HTML have theirs."""
    faults: Faults = []
    for text in table["text"]:
        tags = _TAG.finditer(_prose(text)) if "<" in text and _TAG.search(text) else ()
        found = [tag[0] for tag in tags]
        faults.append(f"{len(found)} tags, the first {found[0][:40]}" if len(found) > 2 else None)
    return faults


def _prose(text: str) -> str:
    paragraphs = re.split(r"\n\s*\n", _CODE.sub("", text))
    spoken = [paragraph for paragraph in paragraphs if not _PROMPT.search(paragraph)]
    return "\n".join(line for part in spoken for line in part.split("\n") if not _INDENTED.match(line))


def _copies(table: Columns, _: Mapping[str, Columns]) -> Faults:
    """Texts that stand in more than one row."""
    found = Counter(map(_digest, table["text"]))
    return [
        f"in {rows} rows: {text[:40]}" if (rows := found[_digest(text)]) > 1 and text.strip() else None
        for text in table["text"]
    ]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()


def _swapped(table: Columns, _: Mapping[str, Columns]) -> Faults:
    """Titles that look like a text: of several lines, very long, or a sentence longer than the text."""
    return [
        f"title of {len(title)} characters, text of {len(text)}: {title}"
        if "\n" in title.strip() or len(title) > 300 or (len(title) > len(text) > 0 and len(title.split()) >= 8)
        else None
        for title, text in zip(table["title"], table["text"], strict=True)
    ]


def _straddling(table: Columns, _: Mapping[str, Columns]) -> Faults:
    """Clusters of near-duplicates in more than one split; the empty cluster is none."""
    splits: defaultdict[str, set[str]] = defaultdict(set)
    for cluster, split in zip(table["cluster"], table["split"], strict=True):
        splits[cluster].add(split)
    return [
        f"cluster {cluster!r} is in {', '.join(sorted(splits[cluster]))}"
        if cluster and len(splits[cluster]) > 1
        else None
        for cluster in table["cluster"]
    ]


def _headless(table: Columns, _: Mapping[str, Columns]) -> Faults:
    """Clusters that no document gives its id to."""
    known = set(table["doc_id"])
    return [None if cluster in known else f"no document {cluster!r}" for cluster in table["cluster"]]


def _unpaged(table: Columns, _: Mapping[str, Columns]) -> Faults:
    """Page starts that do not rise, or lie outside the text."""
    return [
        f"{list(starts)[:8]} in {len(text)} characters"
        if any(one > other for one, other in pairwise((0, *starts, len(text))))
        else None
        for starts, text in zip(table["page_starts"], table["text"], strict=True)
    ]


# --- passages --------------------------------------------------------------------------------------


def _orphan(table: Columns, beside: Mapping[str, Columns]) -> Faults:
    """Rows whose document is not there; an unanswerable question may name none."""
    known = set(beside["documents"]["doc_id"])
    free = table.get("answerable", [True] * len(table["doc_id"]))
    return [
        None if name in known or (not name and not bound) else f"no document {name!r}"
        for name, bound in zip(table["doc_id"], free, strict=True)
    ]


def _misplaced(table: Columns, beside: Mapping[str, Columns]) -> Faults:
    """Passages whose text is not what their document has between start and end."""
    faults: Faults = []
    for text, start, end, document in zip(
        table["text"], table["start"], table["end"], _of_document(table, beside, "text"), strict=True
    ):
        if document is None or (0 <= start <= end and document[start:end] == text):
            faults.append(None)
        else:
            there = document[max(start, 0) : max(end, 0)]
            faults.append(f"{text[:24]!r} but {there[:24]!r} at {start}:{end} of {len(document)}")
    return faults


def _gap(table: Columns, beside: Mapping[str, Columns]) -> Faults:
    """Passages with text of the document between them and the one before, or, for the last one, after it."""
    texts = _of_document(table, beside, "text")
    order = sorted(range(len(texts)), key=lambda row: (table["doc_id"][row], table["start"][row]))
    faults: Faults = [None] * len(texts)
    covered = 0
    for place, row in enumerate(order):
        following = order[place + 1] if place + 1 < len(order) else None
        if place == 0 or table["doc_id"][order[place - 1]] != table["doc_id"][row]:
            covered = 0
        start, end, text = table["start"][row], table["end"][row], texts[row]
        lost = [(covered, start)] if start > covered else []
        covered = max(covered, end)
        if following is None or table["doc_id"][following] != table["doc_id"][row]:
            lost.append((covered, len(text or "")))
        for first, last in lost:
            if text is not None and (gone := text[first:last].strip()):
                faults[row] = f"{len(gone)} characters at {first}:{last} are in no passage: {gone[:30]!r}"
    return faults


def _other_page(table: Columns, beside: Mapping[str, Columns]) -> Faults:
    """Passages that name another page than the one where they start; 0 where the document has no pages."""
    faults: Faults = []
    for page, start, starts in zip(
        table["page"], table["start"], _of_document(table, beside, "page_starts"), strict=True
    ):
        right = page if starts is None else bisect_right(starts, start)
        faults.append(None if page == right else f"page {page} but {start} is on page {right}")
    return faults


def _misnamed(table: Columns, _: Mapping[str, Columns]) -> Faults:
    """Ids that are not `doc_id#ordinal`."""
    return [
        None if name.startswith(f"{home}#") and re.fullmatch(r"\d{4,}", name[len(home) + 1 :]) else f"of {home!r}"
        for name, home in zip(table["passage_id"], table["doc_id"], strict=True)
    ]


def _unlike_document(column: str) -> Callable[[Columns, Mapping[str, Columns]], Faults]:
    """Rows that have another value here than their document."""

    def make(table: Columns, beside: Mapping[str, Columns]) -> Faults:
        return [
            None if theirs is None or ours == theirs else f"{ours!r} but the document's is {theirs!r}"
            for ours, theirs in zip(table[column], _of_document(table, beside, column), strict=True)
        ]

    return make


def _of_document(table: Columns, beside: Mapping[str, Columns], column: str) -> list[Any]:
    """A value of each row's document, None where there is no such document."""
    documents = beside["documents"]
    value = dict(zip(documents["doc_id"], documents[column], strict=True))
    return [value.get(name) for name in table["doc_id"]]


# --- questions -------------------------------------------------------------------------------------


def _repeated(table: Columns, _: Mapping[str, Columns]) -> Faults:
    """Questions asked before in the same conversation, but for case and white space."""
    first: dict[tuple[str, ...], str] = {}
    faults: Faults = []
    for name, key, question in zip(table["question_id"], _keys(table), table["question"], strict=True):
        before = first.setdefault(key, name)
        faults.append(None if before == name else f"{question!r} as in {before!r}")
    return faults


def _leaked(table: Columns, _: Mapping[str, Columns]) -> Faults:
    """Questions asked in more than one split."""
    splits: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    keys = list(_keys(table))
    for key, split in zip(keys, table["split"], strict=True):
        splits[key].add(split)
    return [
        f"{question!r} in {', '.join(sorted(splits[key]))}" if len(splits[key]) > 1 else None
        for key, question in zip(keys, table["question"], strict=True)
    ]


def _keys(table: Columns) -> Iterator[tuple[str, ...]]:
    for question, history in zip(table["question"], table["chat_history"], strict=True):
        yield (" ".join(question.casefold().split()), *history)


def _answerless(table: Columns, _: Mapping[str, Columns]) -> Faults:
    """Answerable questions without an answer, and blank answers anywhere."""
    faults: Faults = []
    for answers, answerable in zip(table["answers"], table["answerable"], strict=True):
        blank = any(not (answer or "").strip() for answer in answers)
        faults.append("a blank answer" if blank else None if answers or not answerable else "no answer")
    return faults


def _answer_support(imported: bool) -> Callable[[Columns, Mapping[str, Columns]], list[float | None]]:
    """Share of an answer's words that its document holds; 1 for one that stands there as it is; the least of several.

    Null for the other kind of questions, and without an answer or a document: other expectations are about those.
    """

    def make(table: Columns, beside: Mapping[str, Columns]) -> list[float | None]:
        spoken: dict[str, set[str]] = {}
        return [
            None
            if text is None or not answers or (kind == "imported") != imported
            else min(_share(answer or "", name, text, spoken) for answer in answers)
            for kind, answers, name, text in zip(
                table["kind"], table["answers"], table["doc_id"], _of_document(table, beside, "text"), strict=True
            )
        ]

    return make


def _share(answer: str, name: str, text: str, spoken: dict[str, set[str]]) -> float:
    if answer in text:
        return 1.0
    if name not in spoken:
        spoken[name] = set(_WORD.findall(text.casefold()))
    words = _WORD.findall(answer.casefold())
    return round(sum(word in spoken[name] for word in words) / max(len(words), 1), 2)


def _gold_unknown(table: Columns, beside: Mapping[str, Columns]) -> Faults:
    """Gold passages that are not there, and answerable questions that name none."""
    known = set(beside["passages"]["passage_id"])
    faults: Faults = []
    for gold, answerable in zip(table["gold_passage_ids"], table["answerable"], strict=True):
        strange = [name for name in gold if name not in known]
        faults.append(f"no passage {strange[0]!r}" if strange else None if gold or not answerable else "none named")
    return faults


def _gold_elsewhere(table: Columns, beside: Mapping[str, Columns]) -> Faults:
    """Questions none of whose known gold passages touches the span of the answer."""
    passages = beside["passages"]
    place = {
        name: (home, start, end)
        for name, home, start, end in zip(
            passages["passage_id"], passages["doc_id"], passages["start"], passages["end"], strict=True
        )
    }
    faults: Faults = []
    for gold, home, start, end in zip(
        table["gold_passage_ids"], table["doc_id"], table["start"], table["end"], strict=True
    ):
        places = [place[name] for name in gold if name in place]
        touching = any(doc == home and first < end and start < last for doc, first, last in places)
        faults.append(None if touching or not places or not home else f"{gold[0]!r} but the span {start}:{end}")
    return faults


def _span(table: Columns, beside: Mapping[str, Columns]) -> Faults:
    """Spans that reach beyond their document, or hold nothing."""
    faults: Faults = []
    for start, end, text in zip(table["start"], table["end"], _of_document(table, beside, "text"), strict=True):
        held = text is None or (0 <= start < end <= len(text) and text[start:end].strip())
        faults.append(None if held else f"{start}:{end} of {len(text)} characters")
    return faults


def _wrong_file(table: Columns, _: Mapping[str, Columns]) -> Faults:
    """Questions in the file of another split."""
    return [
        f"split {split!r} in {stem}.parquet" if stem in ("train", "dev", "test") and stem != split else None
        for split, stem in zip(table["split"], table["file"], strict=True)
    ]


READ_BESIDE = {
    "documents": ("doc_id", "title", "text", "cluster", "split", "page_starts"),
    "passages": ("passage_id", "doc_id", "start", "end"),
}
"""Columns that are read of the tables to compare with."""

DERIVED: Mapping[str, Mapping[str, Derived]] = {
    "documents": {
        "unfinished": Derived(("text",), _unfinished),
        "tagged": Derived(("text",), _tagged),
        "copies": Derived(("text",), _copies),
        "swapped": Derived(("title", "text"), _swapped),
        "straddling": Derived(("cluster", "split"), _straddling),
        "unpaged": Derived(("page_starts", "text"), _unpaged),
        "headless": Derived(("doc_id", "cluster"), _headless),
    },
    "passages": {
        "orphan": Derived(("doc_id",), _orphan, ("documents",)),
        "misplaced": Derived(("doc_id", "text", "start", "end"), _misplaced, ("documents",)),
        "gap": Derived(("doc_id", "start", "end"), _gap, ("documents",)),
        "other_page": Derived(("doc_id", "start", "page"), _other_page, ("documents",)),
        "misnamed": Derived(("passage_id", "doc_id"), _misnamed),
        "other_title": Derived(("doc_id", "title"), _unlike_document("title"), ("documents",)),
        "other_cluster": Derived(("doc_id", "cluster"), _unlike_document("cluster"), ("documents",)),
        "copies": Derived(("text",), _copies),
    },
    "questions": {
        "repeated": Derived(("question_id", "question", "chat_history"), _repeated),
        "leaked": Derived(("question", "chat_history", "split"), _leaked),
        "answerless": Derived(("answers", "answerable"), _answerless),
        "answer_support": Derived(("answers", "doc_id", "kind"), _answer_support(False), ("documents",)),
        "imported_support": Derived(("answers", "doc_id", "kind"), _answer_support(True), ("documents",)),
        "orphan": Derived(("doc_id", "answerable"), _orphan, ("documents",)),
        "span_fault": Derived(("doc_id", "start", "end"), _span, ("documents",)),
        "gold_unknown": Derived(("gold_passage_ids", "answerable"), _gold_unknown, ("passages",)),
        "gold_elsewhere": Derived(("gold_passage_ids", "doc_id", "start", "end"), _gold_elsewhere, ("passages",)),
        "other_split": Derived(("doc_id", "split"), _unlike_document("split"), ("documents",)),
        "other_cluster": Derived(("doc_id", "cluster"), _unlike_document("cluster"), ("documents",)),
        "straddling": Derived(("cluster", "split"), _straddling),
        "wrong_file": Derived(("split",), _wrong_file),
    },
}
"""By suite, then by the name a suite knows the column by."""
