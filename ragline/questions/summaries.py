"""Questions that the first sentence of a docstring answers: to do, to get, to check, to know what it is."""

import random
import re
from collections.abc import Iterator

from ragline.questions.asking import Candidate, Dice, ask, call, is_whole, keywords, shorten
from ragline.questions.english import (
    STOP_WORDS,
    VERBS,
    content_words,
    imperative,
    is_third_person,
    lower_first,
    with_article,
)
from ragline.questions.markup import plain
from ragline.questions.phrasings import (
    CHECK,
    CLASS,
    ERROR,
    KEYWORDS,
    NEED_FOR,
    NEED_TO,
    PROVIDER,
    PURPOSE,
    TASK,
    TASK_TYPED,
    THING,
    WHICH_CLASS_DOES,
    WHICH_CLASS_IS,
    WHICH_ERROR_BY,
    WHICH_ERROR_WHEN,
)
from ragline.questions.subjects import Subject
from ragline.questions.wording import another_verb, in_everyday_words
from ragline.text import word_tokens
from ragline.types import Document, Span

RETIRED = re.compile(
    r"\b(?:internal|deprecated|compatib\w*|ignored|unused|no effect|pass along|placeholder|"
    r"not (?:implemented|used|in use))\b",
    re.IGNORECASE,
)
"""Marks of what nobody should ask about."""

WHETHER = re.compile(
    r"^(?:(?:return|check|test|indicate|determine|detect|boolean|bool|logical|true|flag|indicator|specify|specifie|"
    r"control|a|an|or|for|value|to|indicating|that)s?(?: |-))*"
    r"(?P<word>whether(?: or not)?|(?<!^)if) (?P<condition>.+)$",
    re.IGNORECASE,
)
_RAISED = re.compile(
    r"^(?:An? )?(?:exception|warning|error)?(?: (?:that )?is| that's)? ?raised "
    r"(?P<when>when|if|by|for|in case|during)\b ?(?P<condition>.*)$",
    re.IGNORECASE,
)
_CLASS_FOR = re.compile(
    r"^(?:An? )?(?:(?!abstract|base|common|parent)\w+ )?(?:class|helper|accessor|function|decorator|wrapper|iterator)"
    r" (?:for|to|used (?:for|to)) (?P<purpose>.+)$",
    re.IGNORECASE,
)
_FOR = re.compile(r"^(?:For|In|On) [^,]+, (?=\w)")
_POOR = re.compile(  # formulas, and what its authors say among themselves
    r"[{}]|\(binary operator|\balias\b|\b(?:we|our|us)\b"
)
_VAGUE = re.compile(
    r"\b(?:arrays?|objects?|data|values?|elements?|items?|underlying|calling|self|func|result)\b", re.IGNORECASE
)
_FINITE = re.compile(r"\b(?:is|are|was|were|will|can|must|should|does|has|have)\b")
_RELATIVE = re.compile(r"\b(?:that|which|who|where|when|whether|if|what|how|and|or)\b")
_GETTING = ("return", "get", "indicate", "give")
_PROVIDING = ("offer", "provide", "support")
_BEFORE_AN_ARTICLE = ("almost", "inverse", "like", "same", "unlike")
"""Words before an article that are no verbs."""
_PREPOSITIONS = {  # 'remove rows in a Table'; other verbs do it 'on a Table'
    **dict.fromkeys("calculate compute count determine estimate evaluate".split(), "for"),
    **dict.fromkeys("add append detect drop fill find insert locate put remove rename replace".split(), "in"),
}
_AFTER_AN_OBJECT = re.compile(r"(?:by|using|with) ")
_AFTER_WHAT_IS_MADE = re.compile(r"(?:as|from|into|to) ")
_NAMED_CLASS = re.compile(r"\b[A-Z]\w*[a-z]\w*\b")
_UNNAMED = re.compile(r"(?:^|\b(?:with|of|by|from|to|in) )[a-z]+'s\b")
"""'with target's values': whose target is known to the writer alone."""
_HOLDERS = frozenset("array collection dict dtype frame index list mapping matrix store table tree type vector".split())
"""Nouns that 'the' makes the owner, where its name ends in them; 'the month' of a WeekOfMonth is another thing."""
_MAKING = frozenset(
    """
    build cast change coerce construct convert create decode encode export format initialize instantiate make parse
    render save serialize store transform translate turn write
    """.split()
)
LONG_THING = 6
"""Words from which 'of a Series' would seem to belong to the last of them."""
_NEXT_CLAUSE = re.compile(r", (?:and |then )?(?P<verb>\w+) (?!and\b|or\b)\w")
_NO_THING = re.compile(
    r".*(?:=|(?<!\w)['\"])|"
    r"(?:(?:the|this|that|it|these) (?:is|are)|alias|equivalent|for|how|if|in|like|same|similar|what|when)\b",
    re.IGNORECASE,
)
_ADDED_CLAUSE = re.compile(r"(?:, (?!.*\b(?:and|or)\b)| (?:that|which|whose|producing|providing|yielding)\b).*")
_AND_THEN = re.compile(r"\b(?:and|or) (?P<verb>\w+) (?:an?|at|from|in|into|it|its|the|them|to)\b")
_NOUN_ENDS = re.compile(
    r"[,.;:]| (?:of|in|on|for|with|from|to|by|using|at|along|as|into|over|between|that|which|when|where|if|is|has|and|"
    r"or|contains?|\w+ed|\w+ing)\b"
)


def ask_summary(document: Document, subject: Subject, dice: Dice) -> Iterator[Candidate]:
    """Questions answered by the summary; none where it tells of internal or retired things."""
    span = subject.summary
    summary = _FOR.sub("", plain(document.text[span.start : span.end]).rstrip(".")) if span else ""
    if span is None or RETIRED.search(summary):
        return
    rng = dice(span)
    name = subject.calls[-1].rpartition(".")[2]
    parts = _verb_and_rest(summary)
    if error := _RAISED.match(summary):
        what = "warning" if "warning" in f"{summary[:10]} {name}".lower() else "error"
        yield from _ask_error(what, error["when"].lower(), error["condition"], span, name, rng)
    elif whether := WHETHER.match(summary):
        yield from _ask_check(_of_itself(whether["condition"], subject), span, subject, rng)
    elif not parts and (purpose := _CLASS_FOR.match(summary)):
        yield from _ask_purpose(span, subject, rng)
        yield from _ask_need(purpose["purpose"], span, rng)
    elif parts is None and name[:1].isupper() and not _POOR.search(summary):
        yield from _ask_what_it_is(summary, span, subject, name, rng)
    elif subject.namespace or _POOR.search(summary) or (not parts and (is_statement(summary) or _is_title(summary))):
        yield from _ask_purpose(span, subject, rng)
    elif parts and parts[0] in _PROVIDING:
        yield from _ask_provider(_of_itself(parts[1], subject), span, subject, rng)
    elif parts and parts[0] not in _GETTING:
        yield from _ask_task(parts[0], _of_itself(parts[1], subject), span, subject, rng)
    else:
        yield from _ask_thing(_of_itself(parts[1] if parts else summary, subject), span, subject, rng)


def _verb_and_rest(summary: str) -> tuple[str, str] | None:
    """Like `imperative`; in a summary 'Return value ...' is no noun, and what precedes an article is a verb."""
    if returned := re.match(r"Returns? (?!of\b|to\b)(?P<rest>\w.*)", summary):
        return "return", returned["rest"]
    parts = imperative(re.sub(r"^(?:Attempt|Trie|Try)s? to ", "", summary, flags=re.IGNORECASE))
    if parts is None and (match := re.match(r"(?P<verb>[A-Z][a-z]+) (?P<rest>(?:an?|each|every|the) .+)", summary)):
        verb = match["verb"].lower()
        if verb not in STOP_WORDS and not verb.endswith(("ed", "ing", "ly", "s")) and verb not in _BEFORE_AN_ARTICLE:
            return verb, match["rest"]
    return parts


def is_statement(text: str) -> bool:
    """Whether a text has more finite verbs than it has words that open clauses of their own."""
    return len(_FINITE.findall(text)) > len(_RELATIVE.findall(text))


def _is_title(summary: str) -> bool:
    """'Public testing functions': no article, nothing said of anything."""
    return not re.match(r"(?:An?|The)\b|.*\b(?:at|by|for|from|if|in|of|on|that|to|when|whether|which|with)\b", summary)


def _ask_task(verb: str, rest: str, span: Span, subject: Subject, rng: random.Random) -> Iterator[Candidate]:
    rest = _with_object(verb, shorten(_first_clause(rest)), subject.owner)
    of = _of_owner(subject, f"{verb} {rest}", _PREPOSITIONS.get(verb, "on"), rng)
    if verb in _MAKING and _NAMED_CLASS.search(rest):  # what is made is another object, on none
        of = ""
    if not rest or _UNNAMED.search(rest) or not _is_telling(f"{verb} {rest}{of}"):
        yield from _ask_purpose(span, subject, rng)
        return
    predicate = in_everyday_words(another_verb(verb, rest, rng), rng)
    yield from ask("howto", span, rng, TASK_TYPED if _lacks_article(rest) else TASK, predicate=predicate, of=of)
    yield from _ask_keywords(f"{verb} {in_everyday_words(rest, rng)}", of, span, rng)


def _with_object(verb: str, rest: str, owner: str) -> str:
    """'a Table to text' for the 'to text' of 'Convert to text', and for 'object to text'; empty without an owner."""
    if owner:
        rest = re.sub(r"^(?:an |the )?object(?= (?:as|from|in|into|to|with)\b)", _a(owner), rest)
    if _AFTER_AN_OBJECT.match(rest) or (verb in _MAKING and _AFTER_WHAT_IS_MADE.match(rest)):
        return f"{_a(owner)} {rest}" if owner else ""
    return rest


def _ask_thing(thing: str, span: Span, subject: Subject, rng: random.Random) -> Iterator[Candidate]:
    thing = lower_first(shorten(_head(thing)))
    of = _of_owner(subject, thing, "of" if len(thing.split()) <= LONG_THING else "for", rng)
    if not _is_telling(thing + of) or _is_nothing_to_get(thing):
        yield from _ask_purpose(span, subject, rng)
        return
    said = in_everyday_words(with_article(thing), rng)
    yield from ask("howto", span, rng, THING, thing=said, of=of)
    yield from _ask_keywords(in_everyday_words(thing, rng), of, span, rng)


def _ask_provider(thing: str, span: Span, subject: Subject, rng: random.Random) -> Iterator[Candidate]:
    thing = lower_first(shorten(_head(thing)))
    of = _of_owner(subject, thing, "for", rng)
    if not _is_telling(thing + of):
        yield from _ask_purpose(span, subject, rng)
        return
    yield from ask("howto", span, rng, PROVIDER, thing=in_everyday_words(thing, rng), of=of)
    yield from _ask_keywords(in_everyday_words(thing, rng), of, span, rng)


def _ask_check(condition: str, span: Span, subject: Subject, rng: random.Random) -> Iterator[Candidate]:
    condition = lower_first(shorten(condition))
    of = _of_owner(subject, condition, "for", rng)
    if not condition or not _is_telling(condition + of):
        yield from _ask_purpose(span, subject, rng)
        return
    condition = in_everyday_words(condition, rng)
    yield from ask("howto", span, rng, CHECK, condition=condition, of=of)
    yield from _ask_keywords(f"{rng.choice(('check', 'test', ''))} {condition}", of, span, rng)


def _ask_keywords(phrase: str, of: str, span: Span, rng: random.Random) -> Iterator[Candidate]:
    said = _ADDED_CLAUSE.sub("", phrase)
    keys = keywords(said) if is_whole(phrase) else ""
    owner = " ".join(word for word in keywords(of).split() if word not in keys.split())
    if {word[:5] for word in owner.split()} & {word[:5] for word in keys.split()}:  # 'group grouped data'
        return
    keys = f"{keys} {owner}".strip() if keys else ""
    if len(content_words(keys)) >= 3 and (said == phrase or len(content_words(said)) >= 3):
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
    if len(content_words(thing)) < 4 or not subject.own_summary or is_statement(summary):
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
    """' of a Series'; empty where the phrase names the class, and now and then where it is long and its own."""
    owner = subject.owner
    telling = subject.own_summary and len(content_words(phrase)) >= 5 and not _VAGUE.search(phrase)
    if not owner or _names(phrase, owner) or (telling and rng.random() < 0.5):
        return ""
    return f" {preposition} " + in_everyday_words(_a(owner), rng)


def _names(phrase: str, owner: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(owner)}(?:e?s|')?(?!\w)", phrase, re.IGNORECASE) is not None


def _of_itself(phrase: str, subject: Subject) -> str:
    """'a copy of a SparseArray' for 'a copy of this array' and 'a copy of the object'."""
    if subject.owner:
        kind = word_tokens(subject.owner)[-1]
        own = f"{'(?:the|this)' if kind in _HOLDERS else 'this'} {re.escape(kind)}|(?:the|this) (?:instance|object)"
        itself = rf"\b(?:{own}|this (?:\w+ object|class|type)|(?<=\bfrom )object)(?={_NOUN_ENDS.pattern}|'|$)"
        if not _names(re.sub(itself, "", phrase, count=1, flags=re.IGNORECASE), subject.owner):
            phrase = re.sub(itself, _a(subject.owner), phrase, count=1, flags=re.IGNORECASE)
    return re.sub(r"\bthis (?=\w)", "the ", phrase)


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _first_clause(text: str) -> str:
    """Without ', return a new one' and the like."""
    for match in _NEXT_CLAUSE.finditer(text):
        verb = match["verb"]
        if (verb in VERBS or is_third_person(verb)) and len(content_words(text[: match.start()])) >= 2:
            return text[: match.start()]
    return text


def _head(thing: str) -> str:
    """Without what follows a comma, but for the end of a list."""
    head, comma, tail = thing.partition(", ")
    is_list = re.search(r"\b(?:and|or)\b", tail) is not None
    return head if comma and not is_list and content_words(head) else thing


def _is_nothing_to_get(thing: str) -> bool:
    """Whether it is no thing, or a thing and what is done next, as in 'item and drops it'."""
    doing = _AND_THEN.search(thing)
    words = [word for word in re.findall(r"\b[a-z]\w+", thing) if word not in STOP_WORDS]
    if not thing or _NO_THING.match(thing) or _UNNAMED.search(thing) or len(set(words)) < len(words):
        return True
    return doing is not None and is_third_person(doing["verb"])


def _lacks_article(phrase: str) -> bool:
    """Whether a singular noun stands without any: 'object to file'."""
    end = _NOUN_ENDS.search(phrase)
    noun = phrase[: end.start()] if end else phrase
    return bool(noun) and with_article(noun) != noun and not noun.endswith(("s", "data"))


def _is_telling(phrase: str) -> bool:
    return len(content_words(phrase)) >= 3
