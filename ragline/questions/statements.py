"""Questions that one plain sentence answers, whatever document it stands in."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ragline.questions.asking import Candidate, ask, call, shorten, within
from ragline.questions.english import (
    base_form,
    content_words,
    gerund,
    imperative,
    invert,
    is_third_person,
    lower_first,
    to_first_person,
)
from ragline.questions.phrasings import (
    ADVICE,
    BEHAVIOUR,
    CONDITION,
    CONDITION_OF_CALL,
    DEFINITION,
    DEFINITION_WITHIN,
    DOING,
    EQUIVALENT,
    UNLIKE,
    YES_NO,
)
from ragline.questions.subjects import Subject
from ragline.questions.wording import another_verb, in_everyday_words
from ragline.types import Span

MAX_CHARACTERS = 600
"""Longer sentences are no answers, and patterns take long on them."""

_LEAD = re.compile(r"^(?:Note|NOTE|Notice|Keep in mind|Be aware|Please note)(?: that|:)? ")
_SELF = re.compile(
    r"\b[Tt]h(?:is|e) (?:function|method|class|accessor|property|attribute|error|exception|warning|decorator|routine)\b"
)
_SETTING = re.compile(r"\b[Tt]his (?:keyword|parameter|argument|option|setting|flag)\b")
_POINTS_BACK = re.compile(
    r"\b(?:it|its|they|them|their|these|those|this|that case|above|below|here|such|otherwise|else|instead|"
    r"both(?= (?:are|is|can|must|will)\b|,|$)|also|the (?:above|former|latter|following|previous|same|example|rest))\b",
    re.IGNORECASE,
)
_REFERS = re.compile(r"^(?:see|for more|for further|for details|refer)\b|https?://", re.IGNORECASE)
_HAS_VERB = re.compile(
    r"\b(?:is|are|was|has|have|had|does|do|can|cannot|want|need|which|that|contains?|equals?|exceeds?|exists?|match(?:es)?|"
    r"occurs?|happens?|raises?|uses?|appears?|you|I|\w{3,}(?:ed|ing)|set|given)\b"
)
_FINITE = re.compile(
    r"\b(?:is|are|was|were|has|have|had|do|does|did|can|cannot|will|would|must|should|may|I \w+|you \w+)\b"
)
_BARE_VALUE = re.compile(
    r"^(?:not )?(?:True|False|None|NaN|\d+|'[^']*'|\"[^\"]*\"|"
    r"specified|given|provided|passed|set|omitted|supplied|empty)$"
)
_VALUE_AND_MORE = re.compile(r"^(?:set to |given |found |\w+ed |(?:'[^']*'|\"[^\"]*\")(?:$| (?:and|or)\b|, ))")
_KIND_OF_VALUE = re.compile(
    r"^(?:an? )?(?:int|integer|float|str|string|bool|boolean|list|dict|dictionary|callable|function|tuple|array|"
    r"list-like|array-like|dict-like|sequence|Series|DataFrame|number|timedelta|offset)\b"
)

_IF = re.compile(r"^(?:If|When|In case) (?P<condition>[^,]+(?:, [^,]+)??), (?:then )?(?P<result>\S.{8,})$")
_RESULT_IF = re.compile(r"^(?P<result>[^,]{8,}?) (?:if|when) (?P<condition>(?:[^\s,]+ ){2,}[^,]+)$")
_NO_CONDITION = re.compile(
    r"you(?: \w+ly| would|'d)? (?:want|wish|need|like|prefer)|"
    r"you (?:still )?have (?:any|more|further|additional)|\w+ing "
)
_NO_RESULT = re.compile(
    r"^(?:how|otherwise|what|whether|which)\b|, whether\b|\bonly\b|"
    r"\b(?:indicat|determin|check|test|specif|detect|ask|see|know|tell|control|flag)(?:e?s|ed?|y|ies|ing)?$",
    re.IGNORECASE,
)
"""Where these end the main clause, its 'if' is a 'whether'."""
_NO_GOAL = re.compile(r"\b(?:you|either|call|pass|see|set|use)\b(?<!^use)|^(?:specify|indicate|denote|determine|set)\b")
_GOALS = tuple(
    re.compile(pattern)
    for pattern in (
        r"^If (?:you|one) (?:wants?|wish|needs?|would like|prefer|'d like) to (?P<goal>[^,]+), \S.+$",
        r"^[^,]+? (?:if|when) you (?:want|wish|need|would like|prefer) to (?P<goal>[^,]+)$",
        r"^(?:To|In order to) (?P<goal>[^,]+), \S.+$",
        r"^(?:Use|Pass|Set|Click|Select|Call|Add) [^,]+? (?:in order )?to (?P<goal>[a-z][^,]+)(?:, .+)?$",
        r"^.+? (?:can be|may be) used to (?P<goal>[a-z][^,]+)(?:, .+)?$",
    )
)
_FOR_DOING = re.compile(r"^For (?P<doing>\w+ing) (?P<thing>[^,]+), (?:use|pass|set|call|see how|go)\b.+$")
_DOING = re.compile(
    r"^(?P<doing>Passing|Setting|Specifying|Using|Providing|Adding|Changing|Removing|Selecting|Enabling|Disabling) "
    r"(?P<rest>\S.+)$"
)
_UNLIKE = re.compile(
    r"^(?:Unlike|In contrast to|As opposed to|Similar to|Different from) (?:in )?(?P<other>[^,]+), \S.+$"
)
_EQUIVALENT = re.compile(
    r"^(?:(?:This|It|SELF) is )?(?:[Rr]oughly |[Aa]n )?[Ee]quivalent (?:to|of) (?P<other>[^,]+)(?:, .+)?$"
)
_DOES = re.compile(r"^SELF (?:does not|can|cannot|can not|will not|doesn't|always) (?P<rest>\w+ .+)$")
_IS_A = re.compile(
    r"^(?P<term>(?:[^\s,;:.()]+ ){0,4}?[^\s,;:.()]+) (?P<is>is|are|means|refers to) (?:an?|the|any|when|how)\b .+"
)
_NO_TERM = re.compile(
    r"^(?:if|when|since|because|while|although|unlike|assume|consider|let|suppose|there|that|what|which|where|who|here|"
    r"you|we|your|our|as|for|in|on|at|by|to|one|each|all|some|several|many|few|"
    r"the (?:default|result|value|first|second|return|output|same)|note|default|any|every|only|another)\b",
    re.IGNORECASE,
)
_YOU = re.compile(r"^You (?P<verb>can|cannot|must|should|need to|have to|may) (?:not |also |only )?(?P<rest>.+)$")
_MAY_I = {"can": "Can I", "cannot": "Can I", "may": "May I", "should": "Should I"}


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of a document, and what it speaks about."""

    text: str
    """Without marks; what it calls 'this method' is SELF."""
    span: Span
    subject: Subject
    setting: str = ""
    """The parameter whose description it belongs to; empty elsewhere."""


def from_sentence(text: str, span: Span, subject: Subject, setting: str, rng: random.Random) -> Iterator[Candidate]:
    """Ask about a sentence, by the first rule that fits.

    Sentences that only make sense after another one, or point elsewhere, give nothing.
    """
    text = _LEAD.sub("", text)
    if not text or len(text) > MAX_CHARACTERS or _REFERS.search(text) or text.endswith((":", "?")):
        return
    if text.split()[0].isalpha():
        text = text[0].upper() + text[1:]
    named = bool(setting) and _SETTING.search(text) is not None
    statement = Statement(_SELF.sub("SELF", _SETTING.sub(setting, text) if named else text), span, subject, setting)
    for rule in (_advice, _condition, _difference, _doing, _what_it_does, _definition, _yes_or_no):
        found = [asked for asked in rule(statement, rng) if not named or setting in asked.question]
        if found:
            yield from found
            return


def _advice(statement: Statement, rng: random.Random) -> Iterator[Candidate]:
    text = statement.text.rstrip(".")
    if doing := _FOR_DOING.match(text):
        verb = base_form(doing["doing"])
        goal = f"{verb} {doing['thing']}" if verb else ""
    else:
        goal = next((match["goal"] for pattern in _GOALS if (match := pattern.match(text))), "")
    parts = imperative(shorten(to_first_person(goal)))
    if parts is None or _NO_GOAL.search(goal) or not _stands_alone(goal) or len(content_words(goal)) < 2:
        return
    predicate = in_everyday_words(another_verb(*parts, rng), rng)
    where = _where(statement.subject, goal, rng)
    yield from ask("advice", statement.span, rng, ADVICE, predicate=predicate, where=where)


def _condition(statement: Statement, rng: random.Random) -> Iterator[Candidate]:
    text = statement.text
    match = _IF.match(text)
    if match is None:
        match = _RESULT_IF.match(text.rstrip("."))
        if match is None or not _stands_alone(match["result"]):
            return
        told = imperative(match["result"])
        if not (told or invert(match["result"])) or (told and told[0] in ("specify", "indicate", "set")):
            return
    if _NO_CONDITION.match(match["condition"]) or _NO_RESULT.search(match["result"]):
        return
    said = to_first_person(match["condition"].replace("SELF", "it"))
    condition = _with_setting(said, statement.setting)
    if not _HAS_VERB.search(condition) or not _stands_alone(condition):
        return
    if condition == said and not _is_clause(said, match["result"]):
        return
    named = 0 if condition == said else len(statement.setting)  # a parameter's name stays as it is
    short = shorten(condition, 20)
    condition = f"{short[:named]} {in_everyday_words(short[named:], rng, share=0.4)}".strip()
    if short:
        subject = statement.subject
        parts = {"condition": condition, "call": call(subject, rng), "where": _where(subject, condition, rng)}
        yield from ask("condition", statement.span, rng, CONDITION if subject.titled else CONDITION_OF_CALL, **parts)


def _is_clause(condition: str, result: str) -> bool:
    """Whether both halves of 'if ..., ...' have a verb of their own, and the condition says enough."""
    if len(content_words(condition)) < 2 or condition[0] in "'\"" or _VALUE_AND_MORE.match(condition):
        return False
    return _has_finite_verb(condition) and (_has_finite_verb(result) or imperative(result) is not None)


def _has_finite_verb(text: str) -> bool:
    return _FINITE.search(text) is not None or any(is_third_person(word) for word in text.split()[1:])


def _with_setting(condition: str, setting: str) -> str:
    """'how is None' for 'None', in the description of how."""
    if not setting:
        return condition
    if re.match(r"(?:it|this)(?: is|'s) ", condition):
        return setting + condition[condition.index(" ") :]
    if _KIND_OF_VALUE.match(condition) and not re.search(r"\b(?:is|are|has|have|can|was)\b", condition):
        return f"{setting} is " + re.sub(r" (?:passed|given|provided|specified)$", "", condition)
    if _BARE_VALUE.match(condition) or _VALUE_AND_MORE.match(condition):
        return f"{setting} is {condition}"
    return condition


def _difference(statement: Statement, rng: random.Random) -> Iterator[Candidate]:
    text = statement.text.rstrip(".")
    wordings = UNLIKE
    match = _UNLIKE.match(text)
    if match is None:
        wordings = EQUIVALENT
        match = _EQUIVALENT.match(text)
    if match and re.fullmatch(r"\w+(?: \w+){2,}", match["other"]):  # a formula in words, or a sentence
        return
    if match and not statement.setting and len(match["other"].split()) <= 5 and _stands_alone(match["other"]):
        named = call(statement.subject, rng)
        yield from ask("difference", statement.span, rng, wordings, call=named, other=match["other"])


def _doing(statement: Statement, rng: random.Random) -> Iterator[Candidate]:
    match = _DOING.match(statement.text)
    verb = base_form(match["doing"]) if match else None
    if match is None or verb is None:
        return
    words = match["rest"].split()
    end = next((i for i, word in enumerate(words) if word in ("will", "can", "may") or is_third_person(word)), 0)
    thing = to_first_person(" ".join(words[:end]))
    if not 1 <= end <= 10 or thing.startswith("to ") or _HAS_VERB.search(thing) or not _stands_alone(thing):
        return
    where = _where(statement.subject, f"{verb} {thing}", rng)
    yield from ask("condition", statement.span, rng, DOING, verb=verb, doing=gerund(verb), thing=thing, where=where)


def _what_it_does(statement: Statement, rng: random.Random) -> Iterator[Candidate]:
    match = _DOES.match(statement.text)
    parts = imperative(match["rest"]) if match and "SELF" not in match["rest"] else None
    if match is None or parts is None or not _stands_alone(match["rest"]):
        return
    predicate = in_everyday_words(f"{parts[0]} {shorten(parts[1], 14)}", rng, share=0.4)
    if len(content_words(predicate)) >= 3:
        named = call(statement.subject, rng)
        yield from ask("behaviour", statement.span, rng, BEHAVIOUR, call=named, predicate=predicate)


def _definition(statement: Statement, rng: random.Random) -> Iterator[Candidate]:
    match = _IS_A.match(statement.text)
    if match is None or _NO_TERM.match(match["term"]) or _POINTS_BACK.search(match["term"]) or "SELF" in match["term"]:
        return
    term = lower_first(match["term"])
    bare = re.sub(r"^(?:an?|the) ", "", term)
    if len("".join(content_words(bare))) < 2 or (statement.setting and bare != statement.setting):
        return
    parts = {"is_are": "are" if match["is"] == "are" else "is", "term": term, "bare": bare}
    symbols = any(len(word) == 1 for word in bare.split())
    general = len(content_words(bare)) > 1 and not symbols and not term.startswith("the ")
    known = term in statement.subject.calls or general
    where = "" if known else _where(statement.subject, term, rng)
    wordings = DEFINITION if known else DEFINITION_WITHIN
    yield from ask("definition", statement.span, rng, wordings, where=where, **parts)


def _yes_or_no(statement: Statement, rng: random.Random) -> Iterator[Candidate]:
    if you := _YOU.match(statement.text):
        asked: str | None = f"{_MAY_I.get(you['verb'], 'Do I have to')} {to_first_person(you['rest'])}"
    else:
        asked = None if "SELF" in statement.text else invert(statement.text)
    if asked is None or not _stands_alone(asked) or len(content_words(asked)) < 3:
        return
    if statement.setting and not re.match(rf"\w+ (?:the )?{re.escape(statement.setting)}(?!\w)", asked):
        return  # in a description, what is not said of the parameter is said of what went before
    question = in_everyday_words(shorten(re.split(r",? which\b", asked)[0], 17), rng, share=0.4)
    if question:
        where = _where(statement.subject, question, rng)
        yield from ask("yes_no", statement.span, rng, YES_NO, question=question, where=where)


def _where(subject: Subject, asked: str, rng: random.Random) -> str:
    """The place that a question belongs to; a title only where the question would not be understood without."""
    if not subject.titled:
        return within(subject, rng)
    title = subject.calls[0].strip(" ?")
    if title.lower() in asked.lower() or len(content_words(asked)) >= 3:
        return ""
    return f" ({title})"


def _stands_alone(text: str) -> bool:
    return not _POINTS_BACK.search(text)
