"""Questions from Markdown and plain text: headings, terms, and the sentences below them."""

import random
import re
from collections.abc import Iterator

from ragline.questions.asking import Candidate, Dice, ask, keywords
from ragline.questions.english import STOP_WORDS, base_form, content_words, imperative, lower_first, to_first_person
from ragline.questions.markup import plain, prose, sections
from ragline.questions.phrasings import HEADING_ASKS, HEADING_TASK, HEADING_TOPIC, TERM
from ragline.questions.statements import from_sentence
from ragline.questions.subjects import Subject
from ragline.questions.wording import another_verb, in_everyday_words
from ragline.types import Document, Span

_ASKS = re.compile(
    r"^(?:what|how|why|when|where|who|which|can|could|do|does|did|is|are|will|should|may|am|what's)\b", re.IGNORECASE
)
_POINTS_BACK = re.compile(r"\b(?:it|this|these|they|them|those|that)\b", re.IGNORECASE)
_TERM = re.compile(r"^(?P<term>[A-Z][\w'’&/-]*(?: [\w'’&/-]+){0,3})(?: ?:| [–—-]) (?P<meaning>\S.{20,})$")
_STATES = re.compile(
    r"\b(?:is|are|was|were|has|have|does|do|goes|comes|gives?|makes?|needs?|stands?|takes?)\b", re.IGNORECASE
)
"""Verbs by which a heading or what precedes a colon is known for a sentence."""
_NO_TERM = re.compile(
    r"^(?:note|warning|tip|important|example|step|see|source|date|author|version|\w+ed|one|two|three|four|five)\b|"
    r"\b(?:can|may|will|is|are|to|as|with|by|for|of|in):?$",
    re.IGNORECASE,
)
_NO_QUESTION = re.compile(r"^(?:what|which|who|why) (?:I|it|they|this|to|we|you)\b[^?]*$", re.IGNORECASE)
"""Headings such as 'What it measures'."""
_NO_HEADING = re.compile(
    r"^(?:introduction|overview|summary|conclusion|contents|table of contents|references|see also|examples?|notes?|"
    r"license|changelog|step \d+|(?:version )?v?\d[\d.]*.*)$",
    re.IGNORECASE,
)
MAX_OPENING_WORDS = 60


def ask_prose(document: Document, subject: Subject, dice: Dice) -> Iterator[Candidate]:
    """Headings answered by what stands below them, terms by their meaning, and sentences turned round."""
    text = document.text
    for number, section in enumerate(sections(text)):
        spans = prose(text, section.body)
        heading = section.heading or (document.title if number == 0 else "")
        if heading and spans:
            answer = _opening(text, spans)
            yield from _ask_heading(heading, document.title, answer, dice(answer))
        for span in spans:
            statement = plain(text[span.start : span.end])
            if (term := _TERM.match(statement)) and not _NO_TERM.search(term["term"]):
                yield from _ask_term(term["term"], document.title, span, dice(span))
            else:
                yield from from_sentence(statement, span, subject, "", dice(span))


def _opening(text: str, spans: list[Span]) -> Span:
    """The first sentence; with the list that it announces, and with the next one where it is very short."""
    answer = spans[0]
    for span in spans[1:]:
        piece = text[answer.start : answer.end]
        longer = text[answer.start : span.end]
        apart = text[answer.end : span.start]
        goes_on = piece.endswith(":") if "\n\n" in apart or apart.strip() else len(piece.split()) < 8
        if not goes_on or len(apart.strip()) > 2 or len(longer.split()) > MAX_OPENING_WORDS:
            break
        answer = Span(answer.start, span.end)
    return answer


def _ask_heading(heading: str, title: str, answer: Span, rng: random.Random) -> Iterator[Candidate]:
    heading = re.sub(r"^\d[\d.)]*\s+", "", heading).rstrip(":# ")
    if not heading or _NO_HEADING.match(heading) or _NO_QUESTION.match(heading):
        return
    about = "" if title == heading or not _needs_title(heading) else f" ({title.rstrip('?')})"
    first, _, rest = heading.partition(" ")
    if heading.endswith("?") or _ASKS.match(heading):
        question = heading.rstrip("? ")
        keys = keywords(question) if len(content_words(question)) >= 3 else question
        yield from ask("heading", answer, rng, HEADING_ASKS, asked=question, about=about, keys=keys)
    elif _STATES.search(heading):
        return
    elif (verb := base_form(first)) and rest and not rest.startswith(("and ", "of ", "or ", "with ")):
        yield from _ask_task(verb, rest, about, answer, rng)
    elif (parts := imperative(to_first_person(heading))) and first == parts[0].capitalize():
        yield from _ask_task(*parts, about, answer, rng)
    elif 2 <= len(heading.split()) <= 8:
        yield from ask("topic", answer, rng, HEADING_TOPIC, heading=lower_first(heading), about=about)


def _ask_task(verb: str, rest: str, about: str, answer: Span, rng: random.Random) -> Iterator[Candidate]:
    task = in_everyday_words(another_verb(verb, to_first_person(rest), rng), rng, share=0.4)
    yield from ask("heading", answer, rng, HEADING_TASK, task=task, about=about)


def _ask_term(term: str, title: str, span: Span, rng: random.Random) -> Iterator[Candidate]:
    about = f" ({title.rstrip('?')})" if len(content_words(term)) < 2 else ""
    if term.split()[0].lower() in STOP_WORDS or _STATES.search(term) or imperative(term):
        return
    yield from ask("definition", span, rng, TERM, term=term, about=about)


def _needs_title(heading: str) -> bool:
    return len(content_words(heading)) < 2 or bool(_POINTS_BACK.search(heading))
