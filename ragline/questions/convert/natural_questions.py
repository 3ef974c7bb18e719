"""Natural Questions, simplified: one question a line with its page, answers as offsets into blank-separated tokens.

The tokens of a page hold HTML tags; as a document a page is its words, a line for every paragraph, heading, item or
row. The offsets are carried over to the character. Written back, every line is a paragraph.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ragline import io
from ragline.errors import DataError
from ragline.questions.convert import fields
from ragline.questions.convert.neutral import (
    ANSWERS,
    DOCUMENT_IDS,
    DOCUMENTS,
    GOLDS,
    POSITIONS,
    SOURCES,
    SPANS,
    TEXTS,
    UNPLACED,
    Gold,
    Loss,
    Names,
    PlainDocument,
    PlainQuestion,
    QuestionSet,
    count_extras,
    documents_named,
    gold_ids,
    look_up,
    placed,
    refuse_repeated_questions,
)
from ragline.types import Span

LISTS = "list answers read as alternatives"
LONG = "long answers around short ones, of other bounds than a line"
WIDENED = "gold spans widened to whole words"
TAGS_ALONE = "answers made of tags alone"
BLIND = "questions without annotations"

_TAG = re.compile(r"</?(?:H[1-6]|P|Table|Tr|Td|Th|Ul|Ol|Li|Dl|Dd|Dt)(?:_[^<>]*)?>", re.IGNORECASE)
_CELL = re.compile(r"</?T[dh][_>]", re.IGNORECASE)


@dataclass(frozen=True)
class Page:
    """The words of a page, and where its tokens went."""

    text: str
    tokens: tuple[Span | None, ...]
    """The place of each token in the text; None for a tag."""

    def span(self, start: int, end: int) -> Span | None:
        """Tokens `start` to `end` as characters; None where they are tags alone."""
        words = [span for span in self.tokens[start:end] if span]
        return Span(words[0].start, words[-1].end) if words else None


def page(document_text: str) -> Page:
    """Take the tags out of a page."""
    pieces: list[str] = []
    tokens: list[Span | None] = []
    length, gap = 0, ""
    for token in document_text.split(" "):  # no other white space separates tokens
        if not token or _TAG.fullmatch(token):
            tokens.append(None)
            if token and not _CELL.match(token):
                gap = "\n"
            continue
        if length:
            pieces.append(gap or " ")
            length += 1
        pieces.append(token)
        tokens.append(Span(length, length + len(token)))
        length += len(token)
        gap = ""
    return Page("".join(pieces), tuple(tokens))


@dataclass(frozen=True)
class Pages:
    """The pages of a file, each once, read anew each time."""

    path: Path

    def __iter__(self) -> Iterator[PlainDocument]:
        seen: set[str] = set()
        for _, _, document, _ in _lines(self.path):
            if document.doc_id not in seen:
                seen.add(document.doc_id)
                yield document


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any], PlainDocument, Page]]:
    names = Names()
    for number, row in fields.objects(path):
        place = f"{path}:{number}"
        words = page(fields.text(row, "document_text", place))
        url = fields.text(row, "document_url", place, "").strip()
        title = fields.text(row, "document_title", place, "") or _title(url)
        doc_id = names.name(_base(url, title), words.text)
        yield place, row, PlainDocument(doc_id, title, words.text, url or doc_id), words


def _base(url: str, title: str) -> str:
    return " ".join((url or title or "page").split())


def _title(url: str) -> str:
    """The page's name as Wikipedia's addresses give it."""
    try:
        query = urlsplit(url.replace("&amp;", "&")).query
    except ValueError:  # not an address
        return ""
    return parse_qs(query).get("title", [""])[0].replace("_", " ")


def read(path: Path) -> QuestionSet:
    """Read a file; the pages stay on the disk.

    A question is answerable if one annotator marked a long answer, or two where five were asked. Short answers are the
    gold, the long one where there is none; several of them are alternatives.

    Raises:
        ConfigError: no such file.
        DataError: names the line of another shape.
    """
    loss, questions = Loss(), []
    for place, row, document, words in _lines(path):
        questions.append(_question(row, document, words, place, loss))
    if not questions:
        raise DataError(f"{path}: expected one question a line, got none")
    refuse_repeated_questions(questions, str(path))
    return QuestionSet(Pages(path), tuple(questions), dict(+loss))


def _question(row: dict[str, Any], document: PlainDocument, words: Page, place: str, loss: Loss) -> PlainQuestion:
    annotations = fields.records(row, "annotations", place)
    longs: list[Span | None] = []
    shorts: list[Span] = []
    said: list[str] = []
    marked = 0
    for number, annotation in enumerate(annotations):
        spot = f"{place}: annotations[{number}]"
        long = fields.record(annotation, "long_answer", spot)
        if fields.whole_number(long, "start_token", spot) < 0:
            continue
        marked += 1
        span = _span(long, words, spot, loss)
        if span:
            longs.append(None if span == Span(0, len(words.text)) else span)
        given = fields.records(annotation, "short_answers", spot)
        found = [at for short in given if (at := _span(short, words, spot, loss))]
        shorts += found
        loss[LISTS] += len(found) > 1
        loss[LONG] += bool(found) and span != _lines_around(found, words.text)
        yes_no = fields.text(annotation, "yes_no_answer", spot, "NONE")
        if yes_no not in ("YES", "NO", "NONE"):
            raise DataError(f"{spot}: 'yes_no_answer': expected YES, NO or NONE, got {yes_no!r:.40}; mend it")
        if yes_no != "NONE":
            said.append(yes_no.lower())
    loss[BLIND] += not annotations
    answerable = not annotations or marked >= (2 if len(annotations) >= 5 else 1)
    golds: list[Gold] = []
    if answerable:
        golds = [Gold(document.doc_id, span) for span in (shorts or longs)]
    texts = [words.text[span.start : span.end] for span in shorts]
    return PlainQuestion(
        question_id=fields.identifier(row, "example_id", place),
        question=fields.filled(row, "question_text", place),
        answers=tuple(dict.fromkeys(texts + said)) if answerable else (),
        golds=tuple(dict.fromkeys(golds)) or (Gold(document.doc_id),),
        answerable=answerable,
    )


def _lines_around(shorts: list[Span], text: str) -> Span:
    """The lines that short answers stand in: the long answer that `write` gives them."""
    first, last = min(span.start for span in shorts), max(span.end for span in shorts)
    end = text.find("\n", last)
    return Span(text.rfind("\n", 0, first) + 1, end if end >= 0 else len(text))


def _span(answer: dict[str, Any], words: Page, spot: str, loss: Loss) -> Span | None:
    start, end = fields.whole_number(answer, "start_token", spot), fields.whole_number(answer, "end_token", spot)
    if not 0 <= start < end <= len(words.tokens):
        raise DataError(
            f"{spot}: expected start_token before end_token within the {len(words.tokens)} tokens of document_text, "
            f"got {start} and {end}; mend them"
        )
    span = words.span(start, end)
    loss[TAGS_ALONE] += span is None
    return span


@dataclass(frozen=True)
class Tokens:
    """A document as tokens, with a tag before and after every line."""

    tokens: tuple[str, ...]
    spans: tuple[Span | None, ...]
    """The place of each token in the document's text; None for a tag."""
    lines: tuple[tuple[int, int], ...]
    """The tokens of each line, its tags included."""

    def range(self, span: Span) -> tuple[int, int] | None:
        """The tokens that a span touches; None where it is white space alone."""
        touched = [i for i, at in enumerate(self.spans) if at and at.start < span.end and span.start < at.end]
        return (touched[0], touched[-1] + 1) if touched else None

    def exact(self, span: Span) -> bool:
        """Whether a span begins and ends where tokens do."""
        found = self.range(span)
        first, last = (self.spans[found[0]], self.spans[found[1] - 1]) if found else (None, None)
        return first is not None and last is not None and Span(first.start, last.end) == span


def tokenised(text: str) -> Tokens:
    """Cut a text at its blanks and lines; a word that reads like a tag has its bracket coded."""
    tokens: list[str] = []
    spans: list[Span | None] = []
    lines = []
    position = 0
    for line in text.split("\n"):
        begun = len(tokens)
        for word in line.split(" "):
            if word:
                if begun == len(tokens):
                    tokens.append("<P>")
                    spans.append(None)
                tokens.append(word.replace("<", "&lt;") if _TAG.fullmatch(word) else word)
                spans.append(Span(position, position + len(word)))
            position += len(word) + 1
        if begun < len(tokens):
            tokens.append("</P>")
            spans.append(None)
            lines.append((begun, len(tokens)))
    return Tokens(tuple(tokens), tuple(spans), tuple(lines))


def write(found: QuestionSet, path: Path) -> Loss:
    """Write one line a question, with the document of its first gold.

    Raises:
        DataError: a gold document is not among the documents.
        ServiceError: the disk refused.
    """
    loss = Loss()
    refuse_repeated_questions(found.questions, str(path))
    homes = documents_named(found.documents, gold_ids(found.questions), str(path))
    kept = [q for q in found.questions if q.golds and (not q.answerable or homes[q.golds[0].doc_id].text.strip())]
    loss[UNPLACED] += len(found.questions) - len(kept)
    names, used = Names(), set[str]()
    with io.whole_file(path) as part, part.open("w", encoding="utf-8") as out:
        for question in kept:
            home = homes[question.golds[0].doc_id]
            tokens = tokenised(home.text)
            if home.doc_id not in used:
                used.add(home.doc_id)
                _count_document(home, tokens, names, loss)
            out.write(json.dumps(_row(question, home, tokens, loss), ensure_ascii=False) + "\n")
    loss[DOCUMENTS] += sum(document.doc_id not in used for document in found.documents)
    return +loss


def _count_document(home: PlainDocument, tokens: Tokens, names: Names, loss: Loss) -> None:
    words = page(" ".join(tokens.tokens))
    url = home.source.strip()
    doc_id = names.name(_base(url, home.title or _title(url)), words.text)
    loss[DOCUMENT_IDS] += doc_id != home.doc_id
    loss[SOURCES] += (url or doc_id) != home.source
    loss[TEXTS] += words.text != home.text
    loss["document titles"] += (home.title or _title(url)) != home.title


def _row(question: PlainQuestion, home: PlainDocument, tokens: Tokens, loss: Loss) -> dict[str, Any]:
    count_extras(question, loss)
    here = [gold for gold in question.golds if gold.doc_id == home.doc_id]
    loss[GOLDS] += len(question.golds) - len(here)
    candidates = list(tokens.lines)
    annotations = [_annotation((-1, -1), [], candidates)]
    if question.answerable:
        annotations = _annotations(question, home, tokens, candidates, loss)
    else:
        loss[SPANS] += sum(gold.span is not None for gold in here)
        loss[ANSWERS] += len(question.answers)
    number = question.question_id
    return {
        "example_id": int(number) if number.isascii() and number.isdecimal() and str(int(number)) == number else number,
        "question_text": question.question,
        "document_title": home.title,
        "document_url": home.source.strip(),
        "document_text": " ".join(tokens.tokens),
        "long_answer_candidates": [
            {"start_token": start, "end_token": end, "top_level": (start, end) in tokens.lines}
            for start, end in candidates
        ],
        "annotations": annotations,
    }


def _annotations(
    question: PlainQuestion, home: PlainDocument, tokens: Tokens, candidates: list[tuple[int, int]], loss: Loss
) -> list[dict[str, Any]]:
    """An annotation for every answer; for evidence without an answer in it, one long answer."""
    places = placed(question, home)
    looked_up = look_up(places.unplaced, places.wide, home)
    spans = [*places.exact, *looked_up.values()]
    shorts = [(span, at) for span in spans if (at := tokens.range(span))]
    left = [answer for answer in places.unplaced if answer not in looked_up]
    if shorts:
        loss[POSITIONS] += len(looked_up)
        loss[ANSWERS] += len(left)
        loss[SPANS] += sum(gold.span is not None or bool(places.exact) for gold in places.wide)
        loss[SPANS] += len(spans) - len(shorts)
        loss[WIDENED] += sum(not tokens.exact(span) for span, _ in shorts)
        return [_annotation(_line(at, tokens, candidates), [at], candidates) for _, at in shorts]
    whole = (0, len(tokens.tokens))
    spoken = [answer for answer in left if answer in ("yes", "no")]
    loss[ANSWERS] += len(places.unplaced) - len(spoken)
    annotations = []
    for gold in places.wide:
        at = tokens.range(gold.span) if gold.span else whole
        if not at:  # white space alone
            loss[SPANS] += 1
            at = whole
        loss[SPANS] += gold.span is not None and (
            not tokens.exact(gold.span) or tokens.range(gold.span) == _words(tokens)
        )
        candidates += [] if at in candidates else [at]
        annotations.append(_annotation(at, [], candidates))
    for number, answer in enumerate(spoken):
        if number == len(annotations):
            candidates += [] if whole in candidates else [whole]
            annotations.append(_annotation(whole, [], candidates))
            loss[GOLDS] += 1
        annotations[number]["yes_no_answer"] = answer.upper()
    return annotations


def _words(tokens: Tokens) -> tuple[int, int]:
    """The tokens from the first word to the last."""
    return 1, len(tokens.tokens) - 1


def _line(at: tuple[int, int], tokens: Tokens, candidates: list[tuple[int, int]]) -> tuple[int, int]:
    """The line that holds the tokens, or a new candidate of all lines that they touch."""
    touched = [line for line in tokens.lines if line[0] < at[1] and at[0] < line[1]]
    found = (touched[0][0], touched[-1][1])
    candidates += [] if found in candidates else [found]
    return found


def _annotation(
    long: tuple[int, int], shorts: list[tuple[int, int]], candidates: list[tuple[int, int]]
) -> dict[str, Any]:
    index = candidates.index(long) if long in candidates else -1
    return {
        "long_answer": {"start_token": long[0], "end_token": long[1], "candidate_index": index},
        "short_answers": [{"start_token": start, "end_token": end} for start, end in shorts],
        "yes_no_answer": "NONE",
    }
