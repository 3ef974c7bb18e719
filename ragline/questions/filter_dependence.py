"""The filter for questions that nobody could ask who does not see the passage. Its wordings are English."""

import re

from ragline.questions.filter_patterns import one_of
from ragline.questions.filter_support import stems
from ragline.questions.filter_verdict import Context, Verdict, gold_text
from ragline.types import QAExample

# --- pointing at a text ----------------------------------------------------------------------------

_SHEET = (
    one_of(
        "text passage document documentation docs article excerpt extract paragraph section context snippet chapter",
        "page post blog report paper content material information info description source table figure diagram chart",
        "image list quote reading guide manual docstring faq statement author writer speaker narrator example code",
    )
    + "s?"
)
_ONLY_TEXT = one_of("passage excerpt extract paragraph snippet article context docstring") + "s?"
"""Words that name little but a text; `in the table` may speak of anybody's table."""
_TELLER = one_of("author writer speaker narrator") + "s?"
_GIVEN = one_of(
    "given provided above following preceding previous attached quoted cited supplied accompanying present below"
)
_SAY = one_of(
    "says? mentions? states? describes? explains? recommends? suggests? provides? lists? defines? discuss(?:es)?",
    "indicates? impl(?:y|ies) refers? means? argues? claims? notes? points? gives? warns? tells? outlines? shows?",
    "specif(?:y|ies) covers? contains? present highlights? emphasi[sz]es? advis(?:es?) conclude[sd]? believes?",
    "makes? deals? use[sd]? talks?",
)
_SAID = one_of(
    "mentioned stated described shown listed discussed outlined referred_to referenced explained noted presented given",
    "provided detailed specified defined covered introduced seen indicated highlighted",
)
_THE, _THIS = r"(?:the|this|that|these|our|your)\s+(?:\w+ )?", r"(?:this|these)\s+(?:\w+ )?"
_IN = one_of("in from by within of on about see under at throughout to with using given considering per reading")
_ENDS = (
    r"(?=\s*(?:$|[,.?;:!)\]])|\s+"
    + one_of(
        "above below provided given here what how which who when where why is are was does do did can should will",
        "would and in on for about you we I that if to",
    )
    + r"\b)"
)
"""What may follow the name of a text, so that `based on the text column` is none."""

_PIECE = (
    one_of("text passage document documentation docs article page section chapter content report paper excerpt") + "s?"
)
_PART = one_of(
    "sentence line bullet heading caption footnote page paragraph section chapter figure listing excerpt passage"
)
_ORDINAL = one_of("first second third fourth fifth last next previous opening closing final preceding")
_SHOWN = one_of(
    "given shown told provided presented supplied quoted cited attached reproduced printed excerpted pasted"
)
_CUE = one_of(
    "answer answers information info explanation idea theme message conclusion conclusions conclude concluded learn",
    "infer inferred basis based described description mention mentioned mentions stated states discussed discusses",
    "explained evidence claims summary summari[sz]e author told wording",
)
"""Words that speak of what a text says, rather than of what one does with it."""

_POINTERS = (
    rf"\b{_CUE}\b(?:\s+[\w'’]+){{0,4}}?\s+(?:in|of|on|from|by|about|upon)\s+{_THE}{_PIECE}{_ENDS}",
    r"\b(?:author|writer|narrator|speaker)['’]s\s+(?:\w+\s+)?(?:view|opinion|argument|point|claim|intention|words|purpose|perspective)",
    r"\b(?:what|which|as|that) you(?:['’]ve| have)? (?:just )?(?:read|seen|been (?:given|told|shown))\b",
    r"\b(?:according to|based (?:up)?on|judging (?:from|by)|going by|as per|per|in (?:the )?light of|with reference to|"
    r"referring to|using (?:only )?|from reading|in the words of)\s+(?:what is (?:said|written) in )?"
    rf"{_THE}{_SHEET}{_ENDS}",
    rf"\b(?:{_IN}|does|do|did|is|was)\s+(?:the|this|that|these)\s+(?:\w+ )?{_ONLY_TEXT}{_ENDS}",
    rf"\b{_IN}\s+{_THIS}{_SHEET}{_ENDS}",
    rf"\b(?:the|this|these)\s+{_GIVEN}\s+{_SHEET}\b",
    rf"\b(?:the|this|these)\s+(?:{_SHEET}|{_PART}s?|words)\s+"
    r"(?:above|below|provided|given here|(?:that )?you were given)\b",
    r"\b(?:told|taught)\s+here\b",
    # An instruction to whoever answers.
    r"\s(?-i:Answer|Quote|Cite|Base|Support|Refer|Justify|Respond|Rely)\s+(?:with|from|using|the|your|to|on|only|it|by)\b",
    # An opening clause, whatever its verb, about a text without a name: `Going through the passage, …`.
    rf"^[^,?]{{0,40}}\b(?:the|this|that)\s+(?:\w+\s+)?(?:{_PIECE}|{_PART}|snippet|extract|example|description)s?"
    r"(?:\s+(?:above|below|here|at the \w+|given|provided|supplied|shown|quoted|itself))?\s*,",
    rf"\b(?:the|this)\s+(?:\w+\s+)?{_PIECE}\s+to\s+(?:answer|find|explain|support|decide)\b",
    rf"\b{_PART}s?\s+(?:of|in|from)\s+(?:the|this)\s+{_PIECE}{_ENDS}",
    rf"\b(?:the|this)\s+{_PIECE}\s+(?:has|had)\s+(?:on|about|to say)\b|\b(?:the|this)\s+{_ONLY_TEXT}\s+{_SAY}\b",
    rf"\b(?:does|do|did|would|could|is|are|has|had|can)\s+(?:the|this)\s+(?:\w+ )?{_SHEET}(?: \w+ly)?\s+{_SAY}\b",
    rf"\b(?:answer|cite|quote|paraphrase|summari[sz]e)\s+(?:\w+\s+){{0,2}}?(?:the|this)\s+{_PIECE}{_ENDS}",
    rf"\b(?:does|do|did|would|is|are)\s+(?:the|this)\s+{_ONLY_TEXT}\s+\w+",
    rf"\b(?:the|this)\s+(?:\w+ )?{_SHEET}\s+(?:given|provided|quoted|attached|supplied)\s*[,.?]",
    rf"^(?:the|this)\s+{_SHEET}\s+(?:above\s+)?{_SAY}\b",
    r"^(?:given|considering|per|from|with|by|using|in|under|looking at|(?:after |having |up?on )?read(?:ing)?)\s+"
    rf"{_THE}(?:\w+ )?{_SHEET}(?: \w+)?\s*,",
    rf"\bas\s+(?:the|this)\s+(?:\w+ )?{_SHEET}(?: \w+ly)?\s+{_SAY}\b",
    rf"\b{_SAID}\s+(?:above|below|earlier|previously|here|in\s+{_THE}{_SHEET}{_ENDS})",
    rf"\b{_SAID}\s+by\s+the\s+(?:{_TELLER}|text|passage|article)\b",
    rf"\b(?:according to|in the opinion of)\s+(?:the\s+)?{_TELLER}\b",
    r"\b(?:above|afore)-?\s?(?:mentioned|said|described|stated)\b|"
    r"\bthe (?:former|latter)(?=['’]s\b|\s*(?:[?.,;)]|$))|\bthe above\b",
    rf"\b{_IN}\s+(?:the\s+|what\s+is\s+)?(?:above|below|foregoing)\s*(?:[,.?:;)]|$)|\b(?:as|see|\()\s*(?:above|below)\b",
    rf"\b(?:{_IN}|does|do|did|is|was)\s+(?:the|this)\s+{_ORDINAL}\s+{_PART}\b",
    rf"\b(?:in|on|from|per|under|see|of|by)\s+(?:the\s+)?{_PART}\s+(?:\d+|[A-Z]\b|one|two|three|four|five)(?=\s*(?:[,.?:;)]|$))",
    rf"\b(?:the|this)\s+(?:\w+ )?{_SHEET}\s+(?:at hand|in question|in front of|{_SHOWN})"
    r"(?=\s*(?:[,.?:;)]|$)|\s+(?:you|us|me|to|in|is|are)\b)",
    rf"\byou\s+(?:have\s+|had\s+)?(?:just\s+|were\s+|been\s+|have\s+been\s+)+(?:read|seen|{_SHOWN})\b",
    r"\b(?:the|this|these) (?:\w+ ){0,3}(?:shown|listed|mentioned|described|given|quoted) (?:above|below|here)\b",
    r"\b(?:figure|table|fig\.|listing|equation|step)\s+\d+\b(?=[^?]*\b(?:show|above|below|list|illustrat|depict|say))",
)
_POINTS = tuple(re.compile(pointer, re.IGNORECASE) for pointer in _POINTERS)

# --- words for something that is not named ---------------------------------------------------------

_KIND = one_of(
    "function method class parameter argument param option setting attribute property feature keyword flag routine",
    "exception plugin endpoint decorator constructor callback",
)
_AUXILIARY = one_of("is are was were be been do does did has have had can could may might must shall should will would")
_LINK = one_of("of for in on to from with by that which who called named used and or")
_THING = re.compile(
    rf"\b(?:this|these|the said)\s+(?:\w+\s+)?(?:{_KIND}|"
    + one_of(
        "integration program policy library package module command api operation tool service procedure technique",
        "approach object call offset app application platform process product device model system",
        "concept term topic subject component",
    )
    + r")(?:s|es)?\b",
    re.IGNORECASE,
)
_THE_THING = re.compile(
    rf"\b(?:(?:do|does|did|can|could|will|would|should|must|may)\s+the\s+{_KIND}s?\b(?!\s+(?:{_LINK}|{_KIND})\b)|"
    rf"the\s+{_KIND}(?=\s*(?:[?.,;)]|$)|['’]s\b|\s+(?:{_AUXILIARY}|\w+ly|\w+[^s\W]s)\b))",
    re.IGNORECASE,
)
"""The name of a kind of thing, where no name stands beside it: `the method`, not `the method of interpolate`."""
_NAMED = re.compile(r"\w[_.]\w|\w\(\)|[a-z][A-Z]|(?<=\s)[A-Z]\w|(?<=\s)[`'\"]\w|=")
_EXPLAINED = re.compile(r"\s+(?:that|which|who|where)\b")
_OPENING = one_of(
    "what how when why where which who can could do does did is are was were should will would has have may must if to",
    "for in of about and so but i you we one the a exactly happens? kinds? types? sorts? much many long often default",
    "value purpose need use using return mean go work be by with at",
)
_PRONOUN = re.compile(
    rf"^(?:{_OPENING}\s+){{1,6}}?(?P<word>it|its|they|them|their|he|she|this|these|those|that)\b", re.IGNORECASE
)
_EARLY_IT = re.compile(
    r"^(?:what|which|how|when|why|where|who|can|could|do|does|did|is|are|should|will|would|must)"
    r"(?:\s+(?!(?:a|an|the|my|your|our|one|each|every|any|some|no|this|that|another)\b)[a-z]+){0,4}?\s+(?P<word>it)\b"
)
"""No noun with an article, and nothing with a capital, stands before it."""
_DUMMY = re.compile(
    r"\bit(?:'s)?\s+(?:(?:also|ever|even|still|always|really|not|be|is|been|makes?|made|takes?|costs?)\s+)*"
    + one_of(
        "possible necessary safe ok okay better best allowed required recommended worth true important advisable good",
        "mandatory enough sense legal illegal free normal common easy hard difficult permitted useful advised likely",
        "takes? costs? called_when preferred_that when that appropriate",
        "acceptable sensible bad a_good fine wise raining time to for",
        "(?:mean|look|help|matter|work|happen)_(?:when|if|that|to|for)",
    )
    + r"\b",
    re.IGNORECASE,
)
_BARE = re.compile(
    r"\s*(?:$|\?|"
    + one_of(
        "is are do does work mean return happen give affect differ apply accept for used? take cause raise support",
        "expect default require fail change behave in with when if",
    )
    + r"\b)",
    re.IGNORECASE,
)
"""What follows a `this` that stands alone, where `this column` would not."""


_A_TEXT = re.compile(
    r"\b(?:the|this|these)\s+(?:\w+\s+)?(?P<noun>"
    + one_of("text passage document documentation docs article excerpt extract paragraph snippet context sentence")
    + rf"s?|{_TELLER})(?=\s*(?:$|[,.?;:!)\]’'])|\s+(?:{_AUXILIARY}|\w+[^s\W]s|as|to|in|only|alone|about|on|we|you)\b)",
    re.IGNORECASE,
)
"""A noun that ends there: `the text column` is no text."""


def passage_dependence(example: QAExample, context: Context) -> Verdict:
    """The question stands on its own: it neither points at a text nor opens with a word for something not named.

    `The article` is such a text, however it is spoken of, unless the gold passages themselves speak of articles.
    A follow-up question may use a word for what is not named: that is in the chat history.

    Raises:
        DataError: a gold passage or its document is not in the context.
    """
    found = next((match for pointer in _POINTS if (match := pointer.search(example.question))), None)
    if found is None and example.answerable and (text := _A_TEXT.search(example.question)):
        found = None if set(stems(text["noun"])) <= set(stems(gold_text(example, context))) else text
    if found is not None:
        return Verdict(False, 0.0, f"points at a text: {found.group()!r:.60}")
    if not example.chat_history and (word := _unresolved(example.question)):
        return Verdict(False, 0.0, f"{word!r} stands for something that is not named")
    return Verdict(True, 1.0, "stands on its own")


def _unresolved(question: str) -> str:
    """A word for something that nothing before it names; empty where there is none."""
    thing = _THING.search(question)
    if thing and not _NAMED.search(question, 0, thing.start()):
        return "" if _EXPLAINED.match(question, thing.end()) else thing.group()
    the_thing = _THE_THING.search(question)
    if the_thing and not _NAMED.search(question):
        return the_thing.group()
    opening = _PRONOUN.match(question) or _EARLY_IT.match(question[:1].lower() + question[1:])
    if opening is None or _DUMMY.search(question):
        return ""
    word = opening["word"]
    if word.lower() in ("this", "these", "those", "that") and not _BARE.match(question, opening.end()):
        return ""
    # 'that' opens clauses, too: 'What is a class that does …'
    asked = question[: opening.start("word")].lower().split()[-1:]
    return "" if word.lower() == "that" and asked not in (["is"], ["does"], ["do"]) else word
