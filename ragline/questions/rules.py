"""Questions by rule: candidates from every document, filters that count what they drop, a cap per document."""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from ragline.io import digest
from ragline.questions.asking import Candidate, Dice
from ragline.questions.english import content_words
from ragline.questions.entries import ask_entries, parameters
from ragline.questions.markup import is_item, parse_docstring, plain, prose
from ragline.questions.prose_rules import ask_prose
from ragline.questions.statements import from_sentence
from ragline.questions.subjects import Subject, subjects
from ragline.questions.summaries import ask_summary
from ragline.spans import gold_passages
from ragline.text import word_tokens
from ragline.types import Document, Drop, Passage, QAExample, Span

MIN_ANSWER_WORDS, MAX_ANSWER_WORDS = 3, 60
_ANNOUNCES = re.compile(
    r"(?:^|\n\s*)(?:There are (?:many|several|some|various|two|three|four)|See)\b|\b(?:as follows|the following)\W*$|:$"
)
_FIRST_KINDS = ("howto", "keywords", "heading", "definition", "error", "reverse")
_SHARE = {"keywords": 0.5, "topic": 0.5, "returns": 0.4, "default": 0.5, "behaviour": 0.6, "parameter": 0.8}
"""Kinds that every document offers, and that say little of it, have less luck than the others."""


def generate(
    documents: Iterable[Document],
    passages: Iterable[Passage],
    max_per_document: int,
    max_per_passage: int | None,
    seed: int,
) -> tuple[list[QAExample], list[Drop]]:
    """Ask every document what it answers.

    Args:
        documents: the whole corpus; whether a name or a summary is telling depends on the others.
        passages: their passages under the present chunking.
        max_per_document: questions kept of one document, of as many kinds as possible.
        max_per_passage: questions kept with the same first gold passage; None for any number.
        seed: varies the wording and the choice.

    Returns:
        The questions by document and place, and one Drop for each candidate that is not among them.
    """
    found = sorted(documents, key=lambda document: document.doc_id)
    about = subjects(found)
    asked = {document.doc_id: list(candidates(document, about[document.doc_id], seed)) for document in found}
    clusters: defaultdict[str, set[str]] = defaultdict(set)
    for document in found:
        for candidate in asked[document.doc_id]:
            clusters[_normal(candidate.question)].add(document.cluster)
    pieces: defaultdict[str, list[Passage]] = defaultdict(list)
    for passage in passages:
        pieces[passage.doc_id].append(passage)

    examples: list[QAExample] = []
    drops: list[Drop] = []
    seen: set[str] = set()
    for document in found:
        rows = []
        for candidate in asked[document.doc_id]:
            example = _example(document, candidate, pieces[document.doc_id])
            normal = _normal(example.question)
            if reason := _fault(example, pieces[document.doc_id]):
                drops.append(_drop(example, reason))
            elif len(clusters[normal]) > 1:
                drops.append(_drop(example, "ambiguous"))
            elif normal in seen:
                drops.append(_drop(example, "duplicate"))
            else:
                seen.add(normal)
                rows.append(example)
        kept = _diverse(rows, max_per_document, max_per_passage, random.Random(f"{seed}|{document.doc_id}"))
        examples += [row for row in rows if row in kept]
        drops += [_drop(row, "over the cap") for row in rows if row not in kept]
    return examples, drops


def candidates(document: Document, subject: Subject, seed: int) -> Iterator[Candidate]:
    """Everything the rules would ask about one document, good or not."""

    def dice(span: Span) -> random.Random:
        return random.Random(f"{seed}|{document.doc_id}|{span.start}|{span.end}")

    if document.format == "numpydoc":
        yield from _ask_docstring(document, subject, dice)
    else:
        yield from ask_prose(document, subject, dice)


def _ask_docstring(document: Document, subject: Subject, dice: Dice) -> Iterator[Candidate]:
    text = document.text
    parsed = parse_docstring(text)
    yield from ask_summary(document, subject, dice)
    yield from ask_entries(document, parsed, subject, dice)
    stretches = [("", parsed.opening)]
    stretches += [("", parsed.sections["Notes"])] if "Notes" in parsed.sections else []
    stretches += [(field.name, field.body) for field in parameters(text, parsed)]
    for setting, stretch in stretches:
        for span in prose(text, stretch):
            if span != subject.summary and not is_item(text, span):
                yield from from_sentence(plain(text[span.start : span.end]), span, subject, setting, dice(span))


def _example(document: Document, candidate: Candidate, passages: Sequence[Passage]) -> QAExample:
    span = candidate.span
    return QAExample(
        question_id=digest(document.doc_id, str(span.start), candidate.question)[:12],
        question=candidate.question,
        answers=(document.text[span.start : span.end],),
        doc_id=document.doc_id,
        start=span.start,
        end=span.end,
        gold_passage_ids=gold_passages(passages, span),
        kind=candidate.kind,
        split=document.split,
        cluster=document.cluster,
    )


def _fault(example: QAExample, passages: Sequence[Passage]) -> str:
    """Why an example cannot be a question, whatever the others are; empty where it can."""
    if not MIN_ANSWER_WORDS <= len(example.answers[0].split()) <= MAX_ANSWER_WORDS:
        return "answer too short or too long"
    if _ANNOUNCES.search(example.answers[0]):
        return "answer only announces"
    if not any(passage.start <= example.start and example.end <= passage.end for passage in passages):
        return "answer split by chunking"
    if len(content_words(example.question)) < 2 and example.kind not in ("definition", "error", "purpose"):
        return "too generic"
    return ""


def _diverse(
    rows: list[QAExample], max_per_document: int, max_per_passage: int | None, rng: random.Random
) -> list[QAExample]:
    """Rows within both caps, one of each kind in turn; what the document is for comes first."""
    by_kind: defaultdict[str, list[QAExample]] = defaultdict(list)
    for row in rows:
        by_kind[row.kind].append(row)
    luck = {kind: rng.random() * _SHARE.get(kind, 1.0) for kind in by_kind}
    kinds = sorted(by_kind, key=lambda kind: (kind not in _FIRST_KINDS, -luck[kind]))
    for kind in kinds:
        rng.shuffle(by_kind[kind])
    turns = [by_kind[kind][turn] for turn in range(len(rows)) for kind in kinds if turn < len(by_kind[kind])]
    asked: Counter[str] = Counter()
    kept: list[QAExample] = []
    for row in turns:
        passage_id = row.gold_passage_ids[0]
        if len(kept) < max_per_document and (max_per_passage is None or asked[passage_id] < max_per_passage):
            asked[passage_id] += 1
            kept.append(row)
    return kept


def _normal(question: str) -> str:
    return " ".join(word_tokens(question))


def _drop(example: QAExample, reason: str) -> Drop:
    return Drop("generate_qa", f"{example.doc_id}:{example.start}-{example.end}", reason, example.question)
