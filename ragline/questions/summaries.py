"""Questions that the first sentence of a docstring answers: to do, to get, to check, to know what it is."""

import random
import re
from collections.abc import Iterator

from ragline.questions.asking import Candidate, Dice, ask, call, keywords, shorten
from ragline.questions.english import content_words, imperative, is_third_person, lower_first, with_article
from ragline.questions.markup import plain
from ragline.questions.phrasings import (
    CHECK,
    CLASS,
    ERROR,
    KEYWORDS,
    NEED_FOR,
    NEED_TO,
    PURPOSE,
    TASK,
    THING,
    WHICH_CLASS_DOES,
    WHICH_CLASS_IS,
    WHICH_ERROR_BY,
    WHICH_ERROR_WHEN,
)
from ragline.questions.subjects import Subject
from ragline.questions.wording import another_verb, in_everyday_words
from ragline.types import Document, Span

RETIRED = re.compile(
    r"\b(?:internal|deprecated|compatib\w*|ignored|unused|no effect|pass along|placeholder|"
    r"not (?:implemented|used|in use))\b",
    re.IGNORECASE,
)
"""Marks of what nobody should ask about."""

WHETHER = re.compile(
    r"^(?:(?:return|check|test|indicate|determine|detect|boolean|bool|true|flag|indicator|specify|specifie|control|a|an|"
    r"or|for|value|to|indicating)s?(?: |-))*(?P<word>whether(?: or not)?|if) (?P<condition>.+)$",
    re.IGNORECASE,
)
_RAISED = re.compile(
    r"^(?:An? )?(?:exception|warning|error)?(?: (?:that )?is| that's)? ?raised "
    r"(?P<when>when|if|by|for|in case|during)\b ?(?P<condition>.*)$",
    re.IGNORECASE,
)
_CLASS_FOR = re.compile(
    r"^(?:An? )?(?:\w+ )?(?:class|helper|accessor|function|decorator|wrapper|object|type|iterator)"
    r" (?:for|to|used (?:for|to)) (?P<purpose>.+)$",
    re.IGNORECASE,
)
_FOR = re.compile(r"^(?:For|In|On) [^,]+, (?=\w)")
_POOR = re.compile(r"[{}]|\(binary operator|\balias\b")
_VAGUE = re.compile(
    r"\b(?:arrays?|objects?|data|values?|elements?|items?|underlying|calling|self|func|result)\b", re.IGNORECASE
)
_FINITE = re.compile(r"\b(?:is|are|will|can|must|does|has|have)\b")
_RELATIVE = re.compile(r"\b(?:that|which|who|where|when|whether|if|what|how|and|or)\b")
_GETTING = ("return", "get", "indicate", "provide", "give")


def ask_summary(document: Document, subject: Subject, dice: Dice) -> Iterator[Candidate]:
    """Questions answered by the summary; none where it tells of internal or retired things."""
    span = subject.summary
    summary = _FOR.sub("", plain(document.text[span.start : span.end]).rstrip(".")) if span else ""
    if span is None or RETIRED.search(summary):
        return
    rng = dice(span)
    name = subject.calls[-1].rpartition(".")[2]
    parts = imperative(summary)
    if error := _RAISED.match(summary):
        what = "warning" if "warning" in f"{summary[:10]} {name}".lower() else "error"
        yield from _ask_error(what, error["when"].lower(), error["condition"], span, name, rng)
    elif whether := WHETHER.match(summary):
        yield from _ask_check(whether["condition"], span, subject, rng)
    elif purpose := _CLASS_FOR.match(summary):
        yield from _ask_purpose(span, subject, rng)
        yield from _ask_need(purpose["purpose"], span, rng)
    elif _POOR.search(summary) or (not parts and len(_FINITE.findall(summary)) > len(_RELATIVE.findall(summary))):
        yield from _ask_purpose(span, subject, rng)
    elif parts and parts[0] not in _GETTING:
        yield from _ask_task(*parts, span, subject, rng)
    elif parts is None and name[:1].isupper():
        yield from _ask_what_it_is(summary, span, subject, name, rng)
    else:
        yield from _ask_thing(parts[1] if parts else summary, span, subject, rng)


def _ask_task(verb: str, rest: str, span: Span, subject: Subject, rng: random.Random) -> Iterator[Candidate]:
    rest = _definite(shorten(rest))
    of = _of_owner(subject, f"{verb} {rest}", "on", rng)
    if not rest or not _is_telling(f"{verb} {rest}{of}"):
        yield from _ask_purpose(span, subject, rng)
        return
    predicate = in_everyday_words(another_verb(verb, rest, rng), rng)
    yield from ask("howto", span, rng, TASK, predicate=predicate, of=of)
    yield from _ask_keywords(in_everyday_words(another_verb(verb, rest, rng), rng) + of, span, rng)


def _ask_thing(thing: str, span: Span, subject: Subject, rng: random.Random) -> Iterator[Candidate]:
    thing = _definite(lower_first(shorten(thing.split(", by ")[0])))
    of = _of_owner(subject, thing, "of", rng)
    if of and len(content_words(thing.split(", ")[0])) >= 2:
        thing = thing.split(", ")[0]
    if not thing or not _is_telling(thing + of) or re.match(r"(?:the|this|that|it|these) (?:is|are)\b", thing):
        yield from _ask_purpose(span, subject, rng)
        return
    said = in_everyday_words(with_article(thing), rng)
    yield from ask("howto", span, rng, THING, thing=said, of=of)
    yield from _ask_keywords(in_everyday_words(thing, rng) + of, span, rng)


def _ask_check(condition: str, span: Span, subject: Subject, rng: random.Random) -> Iterator[Candidate]:
    condition = _definite(in_everyday_words(shorten(condition), rng))
    of = _of_owner(subject, condition, "for", rng)
    if not condition or not _is_telling(condition + of):
        yield from _ask_purpose(span, subject, rng)
        return
    yield from ask("howto", span, rng, CHECK, condition=condition, of=of)
    yield from _ask_keywords(f"{rng.choice(('check', 'test', ''))} {condition}{of}", span, rng)


def _ask_keywords(phrase: str, span: Span, rng: random.Random) -> Iterator[Candidate]:
    keys = keywords(phrase)
    if len(keys.split()) >= 3:
        yield from ask("keywords", span, rng, KEYWORDS, keys=keys)


def _ask_purpose(span: Span, subject: Subject, rng: random.Random) -> Iterator[Candidate]:
    yield from ask("purpose", span, rng, PURPOSE, call=call(subject, rng))


def _ask_need(purpose: str, span: Span, rng: random.Random) -> Iterator[Candidate]:
    purpose = in_everyday_words(shorten(purpose), rng)
    if not _is_telling(purpose):
        return
    wordings = NEED_TO if imperative(purpose) else NEED_FOR
    yield from ask("howto", span, rng, wordings, purpose=purpose)


def _ask_what_it_is(summary: str, span: Span, subject: Subject, name: str, rng: random.Random) -> Iterator[Candidate]:
    yield from ask("definition", span, rng, CLASS, call=call(subject, rng))
    summary = re.sub(rf"^(?:An? |The )?{re.escape(name)} (?:is |are )?", "", shorten(summary))
    thing = in_everyday_words(lower_first(summary), rng)
    if len(content_words(thing)) < 4 or not subject.own_summary:
        return
    if is_third_person(summary.split()[0]):
        yield from ask("reverse", span, rng, WHICH_CLASS_DOES, thing=thing)
    elif not is_third_person(summary.split()[1]):
        yield from ask("reverse", span, rng, WHICH_CLASS_IS, thing=with_article(thing), keys=keywords(thing))


def _ask_error(what: str, when: str, condition: str, span: Span, name: str, rng: random.Random) -> Iterator[Candidate]:
    yield from ask("error", span, rng, ERROR, name=name)
    condition = in_everyday_words(shorten(condition), rng)
    if _is_telling(condition):
        wordings = WHICH_ERROR_BY if when in ("by", "for", "during") else WHICH_ERROR_WHEN
        yield from ask("reverse", span, rng, wordings, what=what, when=when, condition=condition)


def _of_owner(subject: Subject, phrase: str, preposition: str, rng: random.Random) -> str:
    """' of a Series', where other documents promise the same or the phrase is vague; empty where it names the class."""
    owner = subject.owner
    words = len(content_words(phrase))
    telling = subject.own_summary and (words >= 5 or (words >= 3 and not _VAGUE.search(phrase)))
    if not owner or owner.lower() in phrase.lower().replace("/", " ").split() or (telling and rng.random() < 0.7):
        return ""
    return f" {preposition} " + in_everyday_words(f"{'an' if owner[0] in 'AEIOU' else 'a'} {owner}", rng)


def _definite(phrase: str) -> str:
    return re.sub(r"\bthis (?=\w)", "the ", phrase)


def _is_telling(phrase: str) -> bool:
    return len(content_words(phrase)) >= 3
