"""The filter for gold answers that say that there is none. Its wordings are English."""

import re

from ragline.questions.filter_patterns import one_of
from ragline.questions.filter_verdict import NOT_ASKED, Context, Verdict
from ragline.text import sentences
from ragline.types import QAExample

_SOURCE = one_of(
    "documents? texts? passages? contexts? articles? excerpts? documentation information sources? materials? content",
    "sections? pages? snippets? paragraphs? docs data details references? extracts? guide",
    "knowledge_base authors? writers?",
)
_THE = r"(?:the|this|these|those|that|your|our|any of the)\s+(?:[\w’'-]+\s+){0,2}"
_GIVEN_HERE = (
    r"(?:\s+(?:provided|given|above|itself|supplied|attached|here|at hand|in question|you\W(?:\w+\W)?\w+|I\W\w+\W\w+))?"
    r"(?:\s+(?:about|on|for|of|regarding|from|in)\s+(?:[\w’'-]+\s+){0,8}?[\w’'-]+)?,?"
)
_NOT = (
    r"(?:does not|doesn['’]t|do not|don['’]t|did not|didn['’]t|cannot|can['’]t|fails? to|never|is not|isn['’]t|are not)"
)
_GIVE = one_of(
    "mention contain provide specify state include say explain address discuss give describe clarify cover indicate",
    "detail list answer offer define elaborate tell reveal disclose outline touch have go_into refer cite present note",
    "supply show mean_to",
)
_GIVEN = one_of(
    "mentioned specified provided stated available found given covered listed described included contained explained",
    "addressed present discussed defined disclosed clear detailed outlined",
)
_SILENT = one_of(
    "lacks? omits? has_no have_no contains?_no provides?_no gives?_no offers?_no makes?_no_mention includes?_no",
    "leaves?_(?:that|this|it|the_question)_(?:open|out|unanswered) (?:\\w+_)?no_(?:\\w+_)?(?:answer|guidance|details?)",
    "is_silent says?_nothing mentions?_nothing contains?_nothing is_insufficient is_incomplete is_unclear",
    "cuts?_off (?:appears|seems)_to_be_(?:incomplete|cut|truncated)",
)
_FACT = one_of(
    "information info mention details? answers? reference indication explanation clues? hints? guidance statement word",
    "specifics particulars evidence account description discussion insight",
)
_FIND_OUT = one_of("answer determine find provide tell say know locate give infer")

_TEXT = one_of(
    "documents? texts? passages? contexts? articles? excerpts? documentation sources? materials? snippets? docs",
    "extracts? paragraphs? authors? writers?",
)
"""Those of `_SOURCE` that name nothing but a text or who wrote it."""
_NO = one_of(
    "not n['’]t no nor never nothing nowhere neither hardly without lacks? fails? omits? skips? ignores? cannot"
)
_KNOW = one_of(
    "know tell say answer find determine infer conclude establish judge confirm verify deduce ascertain work_out",
    "figure_out make_out learn address comment guess speak",
)
_TOLD = one_of(
    "mentioned specified stated addressed answered discussed explained covered described detailed disclosed documented",
    "revealed clarified spelled_out spelt_out touched_(?:up)?on said told recorded answerable clear known",
)
_IT = r"(?:it|this|that|these|those|such \w+|the (?:answer|question|information|matter|point|topic|reason|details?))"
_ASIDE = r"(?:(?:unfortunately|regrettably|sadly|however|but),?\s+)?"
_ON_A_CONDITION = r"\b(?:if|when|unless|until|by default)\b"

_PHRASES = (
    # The text denies: `nowhere does the passage say`, `the text, sadly, gives no hint`.
    rf"(?<!if )(?<!when )(?<!unless )(?<!where )\b{_THE}{_TEXT}\b[^.;]{{0,40}}?\b{_NO}\b[^.;]{{0,30}}?"
    rf"\b(?:{_GIVE}|{_FACT})\b",
    rf"\b(?:nothing|nowhere|no part|none)\b[^.;]{{0,30}}\b{_THE}{_TEXT}\b",
    # A speaker is not able to say.
    rf"\b(?:I|we|the (?:assistant|model|bot))\s+(?:[\w’']+\s+){{0,3}}?"
    rf"(?:cannot|\w+n['’]t|not|never|unable|hardly)\b[^.;]{{0,25}}?\b{_KNOW}\b",
    rf"\b(?:no|without any)\s+(?:way|means|basis|chance)\s+(?:to|of|for)\b"
    rf"[^.;]{{0,15}}\b(?:{_KNOW}|knowing|telling|saying)\b",
    rf"^\W*{_ASIDE}(?:it\s*(?:is|['’]s)\s+)?(?:hard|difficult|tough|impossible)\s+to\s+{_KNOW}\b",
    # What was asked for is not said; on a condition it would be.
    rf"^\W*{_ASIDE}{_IT}\b(?![^.]*{_ON_A_CONDITION})[^.;]{{0,30}}?\b(?:{_NO}|un)\s*"
    rf"(?:(?:be|been|being|really|ever|\w+ly)\s+)*{_TOLD}\b",
    rf"^\W*(?:is\s+|left\s+|remains?\s+|stays?\s+)?(?:{_NO}\s+|un)(?:\w+ly\s+)?{_TOLD}\b"
    rf"(?=\W*$|\s+(?:here|anywhere)\b|\s+(?:in|by)\s+{_THE}{_TEXT}\b)",
    rf"^\W*{_ASIDE}(?:there\s*(?:is|['’]s|are)\s+)?no\s+(?:\w+\s+){{0,2}}{_FACT}\W*$",
    # The document does not say …; but "if a page does not contain tables" is an answer.
    rf"(?<!if )(?<!when )(?<!unless )(?<!where )\b{_THE}{_SOURCE}\b{_GIVEN_HERE}\s+{_NOT}\s+(?:\w+ly\s+)?{_GIVE}\b",
    rf"\b{_THE}{_SOURCE}\b{_GIVEN_HERE}\s+(?:\w+ly\s+)?{_SILENT}\b",
    rf"\b(?:is|are|was|were)(?: not|n['’]t)\s+(?:\w+ly\s+)?{_GIVEN}\s+(?:\w+\s+)?(?:in|by|within|from|on)\s+"
    rf"(?:the|this|any)\s+(?:\w+\s+){{0,2}}{_SOURCE}\b",
    rf"\bno\s+(?:\w+\s+){{0,2}}{_FACT}\b(?:[^.]{{0,80}}\b{_SOURCE}\b|\s+(?:is|was|are|were)\s+(?:\w+ly\s+)?{_GIVEN}|"
    r"\s+(?:about|on|regarding|of|as to)\b)",
    rf"\bnothing\s+(?:in|from)\s+{_THE}{_SOURCE}\b",
    rf"\b(?:missing|absent|left out|omitted)\s+(?:from|in|of)\s+{_THE}{_SOURCE}\b",
    r"\bI\s*(?:['’]m|am)\s+(?:\w+\s+)?(?:sorry|unable|afraid|not (?:sure|able|certain|aware))\b",
    r"^\W*(?:I\s+)?apologi[sz]e",
    r"\bI\s+(?:was|were|am)(?: not|n['’]t)\s+able\b",
    r"^\W*(?:sorry|unfortunately)\b[^.]*\b(?:not|n['’]t|no|unable|cannot|nothing|lack)\b",
    r"\b(?:I|we)\s+(?:really\s+)?(?:do not|don['’]t|did not|didn['’]t|cannot|can['’]t|could not|couldn['’]t|have no|"
    r"lack)\s+(?:\w+ly\s+)?(?:know|have|find|answer|determine|provide|tell|help|assist|see|say|locate|idea|way of|the|"
    r"enough|access|any|confirm|identify)\b",
    r"\bas an? (?:AI|artificial|large|language|virtual|machine)\b",
    r"\b(?:not|n['’]t)\s+(?:be\s+)?(?:possible to\s+)?(?:answer(?:ed|able)?|determined?|inferred|deduced|ascertained|"
    rf"derived|tell)\b[^.]{{0,60}}(?:\b{_SOURCE}\b|\bgiven\b|\bhere\b)",
    rf"\b(?:unable|impossible|not possible)\s+to\s+{_FIND_OUT}\b",
    r"\b(?:insufficient|inadequate|not enough|too little)\s+(?:\w+\s+)?(?:information|context|details?|evidence)\b",
    r"^\W*(?:it is |it['’]s |this is |that is )?(?:unanswerable|unknown|unspecified|"
    r"no (?:answer|idea)|answer not found|information not available|none of the above|"
    r"cannot (?:say|tell|answer)|not (?:mentioned|specified|stated|given|provided|known|answerable|available|"
    r"applicable|found|in the \w+))(?:\W*$|\W+(?:from|by|in|based)\b)",
    r"\b(?:without|need|require)\s+(?:\w+\s+)?(?:more|further|additional)\s+(?:context|information|details?)\b"
    r"[^.]*\b(?:answer|say|tell|determine|cannot|can['’]t)\b",
    r"\b(?:beyond|outside) (?:the scope|my knowledge)\b|\bmy (?:knowledge|training) (?:cutoff|data|does)",
)
_REFUSALS = tuple(re.compile(phrase, re.IGNORECASE) for phrase in _PHRASES)


def refusal(example: QAExample, context: Context) -> Verdict:
    """No gold answer says that there is none; the score is the share of sentences that do not.

    An answer that begins with something else, and only adds what is not in the document, is an answer.
    """
    if not example.answerable:
        return NOT_ASKED
    return min((_refuses(answer) for answer in example.answers), key=lambda v: (v.kept, v.score), default=NOT_ASKED)


def _refuses(answer: str) -> Verdict:
    said = [" ".join(answer[span.start : span.end].split()) for span in sentences(answer)] or [answer]
    refusing = [one for one in said if any(phrase.search(one) for phrase in _REFUSALS)]
    score = 1 - len(refusing) / len(said)
    if refusing and (said[0] == refusing[0] or score <= 0.5):
        return Verdict(False, score, f"refuses: {refusing[0]!r:.80}")
    return Verdict(True, score, "answers in part" if refusing else "answers")
