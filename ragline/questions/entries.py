"""Questions that the sections of a docstring answer: parameters, their values and defaults, results, errors."""

import random
import re
from collections.abc import Iterator

from ragline.questions.asking import Candidate, Dice, ask, call, shorten, within
from ragline.questions.english import content_words, imperative, lower_first, third_person, with_article
from ragline.questions.markup import Docstring, Field, fields, is_item, plain, prose
from ragline.questions.phrasings import (
    DEFAULT,
    DEFAULT_ON_OFF,
    PARAMETER,
    RAISES,
    RAISES_IF,
    RETURNS,
    SETTING_DECIDES,
    SETTING_DOES,
    SETTING_IS,
    VALUE,
    VALUE_DOES,
    YIELDS,
)
from ragline.questions.subjects import Subject
from ragline.questions.summaries import RETIRED, WHETHER
from ragline.questions.wording import in_everyday_words
from ragline.types import Document, Span

PARAMETERS = ("Parameters", "Other Parameters", "Keyword Arguments")

_VALUE = re.compile(r"^(?P<value>'[^']+'|\"[^\"]+\"|[\w.-]{1,30})(?: \(default\))? ?: (?P<what>\S.{14,})$")
_IF_ON = re.compile(r"^(?:If|When|Set to)(?: set to)? (?:True|true|not None|specified|given),? (?:then )?")
_TO = re.compile(r"^(?:Whether(?: or not)? to|Flag to|Set to|Specifies whether to|If True to|Used to) ")
_NO_THING = re.compile(
    r"^(?:if|to|true|false|when|this|see|for|the default|not|only|these|it|in|by|one of|either|same|how|as|any|passed|"
    r"at|don't)\b"
    r"|\b(?:should|must|can|will|is|are|may|has|have|does|do|returns?|uses?|used)\b",
    re.IGNORECASE,
)
_TELLS_NOTHING = ("return", "specify", "indicate", "determine", "set", "use", "get", "control", "represent")
_NO_NAMES = ("args", "kwargs", "kwds", "self", "cls")


def parameters(text: str, parsed: Docstring) -> Iterator[Field]:
    """Parameters that a caller can name."""
    for title in PARAMETERS:
        for field in fields(text, parsed.sections[title]) if title in parsed.sections else ():
            if re.fullmatch(r"\w+", field.name) and field.name not in _NO_NAMES:
                yield field


def ask_entries(document: Document, parsed: Docstring, subject: Subject, dice: Dice) -> Iterator[Candidate]:
    """Questions about each parameter, the returned value and each error."""
    text = document.text
    for field in parameters(text, parsed):
        if not RETIRED.search(text[field.body.start : field.body.end]):
            yield from _ask_parameter(text, field, subject, dice(field.head))
            for span in prose(text, field.body):
                if is_item(text, span):
                    yield from _ask_value(text, span, field, subject, dice(span))
    for title in ("Returns", "Yields"):
        returned = fields(text, parsed.sections[title]) if title in parsed.sections else []
        if len(returned) == 1:
            yield from _ask_returned(text, returned[0], title, subject, dice(returned[0].head))
    for title in ("Raises", "Warns"):
        for field in fields(text, parsed.sections[title]) if title in parsed.sections else ():
            yield from _ask_raised(text, field, subject, dice(field.head))


def _first_sentence(text: str, field: Field) -> Span | None:
    found = prose(text, field.body)
    return found[0] if found and not is_item(text, found[0]) else None


def _ask_parameter(text: str, field: Field, subject: Subject, rng: random.Random) -> Iterator[Candidate]:
    names = {"name": field.name, "call": call(subject, rng), "where": within(subject, rng)}
    first = _first_sentence(text, field)
    about = plain(text[first.start : first.end]).rstrip(".:") if first else ""
    if first and len(content_words(about)) >= 3:
        yield from ask("parameter", first, rng, PARAMETER, **names)
        yield from _ask_setting(about, Span(field.head.start, first.end), names, rng)
    if default := re.search(r"\bdefaults?(?: is|:| to|=)? ?(.+)$", field.type):
        wordings = DEFAULT_ON_OFF if default[1] in ("True", "False") else DEFAULT
        yield from ask("default", field.head, rng, wordings, **names)


def _ask_setting(about: str, span: Span, names: dict[str, str], rng: random.Random) -> Iterator[Candidate]:
    """From a description back to the parameter: 'How do I make merge sort the join keys?'"""
    made = _TO.sub("", _IF_ON.sub("", about))
    parts = imperative(made[:1].upper() + made[1:])
    if parts and parts[0] not in _TELLS_NOTHING:
        rest = shorten(parts[1], 14)
        predicate = in_everyday_words(f"{parts[0]} {rest}", rng)
        does = in_everyday_words(f"{third_person(parts[0])} {rest}", rng)
        if rest and len(content_words(predicate)) >= 3:
            yield from ask("setting", span, rng, SETTING_DOES, predicate=predicate, does=does, **names)
    elif (whether := WHETHER.match(about)) and not about.lower().startswith("if "):
        condition = in_everyday_words(shorten(whether["condition"], 14), rng)
        if len(content_words(condition)) >= 2 and not condition.startswith("to "):
            yield from ask("setting", span, rng, SETTING_DECIDES, condition=condition, **names)
    elif parts is None and made == about and not _NO_THING.search(about):
        thing = in_everyday_words(with_article(lower_first(shorten(about, 14))), rng)
        if len(content_words(thing)) >= 3:
            yield from ask("setting", span, rng, SETTING_IS, thing=thing, **names)


def _ask_value(text: str, span: Span, field: Field, subject: Subject, rng: random.Random) -> Iterator[Candidate]:
    match = _VALUE.match(plain(text[span.start : span.end]))
    value = match["value"].strip("'\"") if match else ""
    quoted = f"'{value}'" in field.type.replace('"', "'")
    if match is None or not (quoted or value in ("None", "True", "False")):
        return
    value = f"'{value}'" if quoted else value
    parts = {"name": field.name, "value": value, "call": call(subject, rng), "where": within(subject, rng)}
    yield from ask("value", span, rng, VALUE, **parts)
    what = imperative(shorten(match["what"], 14))
    if what and what[0] != "return" and len(content_words(" ".join(what))) >= 3:
        predicate = in_everyday_words(" ".join(what), rng)
        yield from ask("setting", span, rng, VALUE_DOES, predicate=predicate, **parts)


def _ask_returned(text: str, field: Field, title: str, subject: Subject, rng: random.Random) -> Iterator[Candidate]:
    first = _first_sentence(text, field)
    if first and text[first.end - 1] == ":":
        first = None
    if field.name in ("None", "") or (first is None and not field.type):
        return
    span = Span(field.head.start, first.end if first else field.head.end)
    yield from ask("returns", span, rng, YIELDS if title == "Yields" else RETURNS, call=call(subject, rng))


def _ask_raised(text: str, field: Field, subject: Subject, rng: random.Random) -> Iterator[Candidate]:
    first = _first_sentence(text, field)
    if first is None or not re.fullmatch(r"\w+", field.name):
        return
    about = plain(text[first.start : first.end]).rstrip(".")
    span = Span(field.head.start, first.end)
    parts = {"error": field.name, "call": call(subject, rng)}
    yield from ask("raises", span, rng, RAISES, **parts)
    condition = re.match(r"^(?:If|When|Raised (?:if|when)) (.+)$", about)
    if condition and (short := in_everyday_words(shorten(condition[1], 18), rng, share=0.4)):
        yield from ask("raises", span, rng, RAISES_IF, condition=short, **parts)
