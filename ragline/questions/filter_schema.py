"""The filter for form: what a prompt, a template or a chat left behind, and what is no question at all."""

import re

from ragline.questions.filter_patterns import one_of
from ragline.questions.filter_support import identifiers, stems
from ragline.questions.filter_verdict import Context, Verdict, gold_text
from ragline.types import QAExample

_SLOT_NAMES = "question|answer|passage|context|document|text|topic|name|title"
_SLOT = re.compile(
    r"\{\{?\s*[a-z]\w*\s*\}|\{\{|\{%|\$\{\w+\}|\$[A-Z]{2,}\b|^@\w+\s|"  # {passage}, {{ title }}, {% if %}, ${topic}
    rf"<(?:(?:insert|your|the)[ _])?(?:{_SLOT_NAMES})\d*[^<>]{{0,20}}>|"
    rf"\[(?:insert|your|fill|placeholder|{_SLOT_NAMES})\b[^\]]{{0,40}}\]|"
    r"<\|\w+\|>|\[/?INST\]|</?(?:s|eos|bos|pad)>|<<SYS>>|\bXXX+\b|^\s*<\w+>.*</\w+>|"
    r"(?-i:^\s*[A-Z]{2,}(?:_[A-Z]+)+\b|\[(?:[A-Z]{4,}|[A-Z]{2,} [A-Z ]+)\b[^\]]{0,40}\])|"  # [TODO: …], [YOUR NAME]
    r"(?:^|\s)(?:<[\w/|-]{1,20}>|\[/?[\w ]{1,20}\])\W*$|^\s*<[\w/|-]{1,20}>|"  # a tag at either end
    r"\((?:difficulty|level|type|category|source|context|answer|hint|topic|kind)\s*[:=][^)]*\)",
    re.IGNORECASE,
)
_ASKED = one_of("question questions query queries prompt user human")
_SPEAKS_OF_ASKING = one_of(
    "questions? quer(?:y|ies) prompts? users? humans? customers? inquir(?:y|ies) asks? asked asking faqs? q[/&]a",
    "wonders? wants?_to_know",
)
_GREETED = one_of("hi hello hey help please thanks thank good_(?:morning|afternoon|evening|day) dear greetings")
_GREETING = re.compile(rf"\W*{_GREETED}\b", re.IGNORECASE)
_ASSENT = one_of(
    "ok okay sure certainly of_course absolutely definitely understood got_it alright all_right gladly right yes",
    "no_problem (?:with|my)_pleasure (?:i['’]?(?:a?m|d_be)_)?(?:happy|glad)_to_\\w+",
)
_LABEL = re.compile(
    rf"\W*(?:[\w/-]+ ){{0,6}}?{_SPEAKS_OF_ASKING}(?: [\w-]+){{0,3}}\s*[:=>]+\s*\S|"
    rf"\W*(?:(?:[\w-]+ ){{0,6}}?{_ASKED}|q)\s*(?:(?:#|no\.?|number)?\s*\d+)?[\s*_\"'\])]*(?:\([^)]{{0,30}}\)\s*)?"
    r"(?:[:=>]+|-+ )\s*\S|"
    r"\[\w+\]\s|"
    r"\W*(?:output|input|type|topic|difficulty|level|category|kind|example|sample|task|instructions?|response|"
    r"assistant|context|passage|document|candidate|option)\s*[:=]\s*\S|"
    r"\W*(?:q\s*\d*|question\s*\d+)\s*[.)]\s|"
    r"\W*(?:the|my|your|this) (?:[\w-]+ ){0,2}question (?:is|would be|could be)\b|"
    rf"\s*{_ASSENT}\b(?:[^?]{{0,60}}[:!]|[.,;]\s|\s+[-–—]+\s)|"
    rf"\s*(?!{_GREETED}\b)[^\W\d_][^!?:]{{0,40}}!\s+\w|"  # an exclamation that is no greeting
    r"\s*[^\w\s.]{1,3}\s+\w|"  # a bullet or another sign by itself
    r"\s*here(?:'s| is| are| you go)\b[^?]{0,60}(?:\b(?:questions?|queries|examples?|options?)\b|:)|"
    r"\s*[(\[#]?(?:\d{1,3}|[a-hivx]+(?=\))|[ivx]+(?=\.))\s*[.):\]-]+\s+\w|"
    r"\s*(?:\w+ ){0,2}\w+:?[ \t]*\n",  # a heading: the question itself is longer
    re.IGNORECASE,
)
_SECOND_PART = re.compile(
    r"(?:^|\n|\\n|\()[\s*_]*(?:(?:gold |correct |short )?answer|a\d*|response)[\s*_]*:|\s-{3,}\s|\\n|"
    r"\?[\s*_\"'”’]+(?:[\w-]+ ){0,2}[\w-]+[*_]*:\s|"  # a label after the question mark
    r"\?\s*(?:[-–—=~]*>|→|=|/|\||;)\s*\w|\s(?:\|\||[-=]+>|→)\s|"  # a sign, and more
    r"\b(?:answers?|response|solution|truth|explanation|rationale|reasoning)\s*:\s|"
    r"\?\s+(?:this|the) question\b|\?\s+(?:i hope|let me know|feel free|would you like|do you want)\b",
    re.IGNORECASE,
)
_ANSWER_LABEL = re.compile(
    r"[\s*#_]*(?:(?:gold|correct|final|short|the|reference|expected|model|my)?\s*(?:answer|response|output|assistant)"
    r"(?: is)?|a\d*|ai|bot)[\s*_]*:",
    re.IGNORECASE,
)
_PROMPT_MARK = re.compile(
    r"<\|\w+\|>|\[/?INST\]|</?(?:s|eos|bos|pad)>|<<SYS>>|\{\{?\s*(?:passage|context|answer|question|document)\s*\}"
)
_FENCE = re.compile(r"```|~~~")
_JSON = re.compile(r"\s*[\[{]\s*[\[{]?\s*\"\w+\"\s*:|\"(?:question|answer|query|response)s?\"\s*:", re.IGNORECASE)
_MARKDOWN = re.compile(
    r"\s*(?:#{1,6}\s|>|`[^`]+`\s*$|\*\*.+\*\*\s*$|\|.*\|\s*$|"
    r"(?P<sign>[*_~\"'“‘«])(?=\w).*[\w?.!](?:(?P=sign)|[”’»])\s*$)"  # all of it in emphasis or in quotes
)
_NO_ANSWER = re.compile(
    r"\W*(?:n/a|na|tbd|tba|todo|fixme|xxx+|null|undefined|lorem ipsum.*|placeholder|answer)?\W*",
    re.IGNORECASE | re.DOTALL,
)
_LETTERS_AT_LEAST = 0.5
"""Share of a question's characters, blanks left out."""
_REPEATS_AT_MOST = 3
"""Times that the words of a question may stand in it, on average."""


_PARTS = re.compile(
    r"(?P<head>^[^?]*?)(?:(?<=\S)[.!:]+|\s[-–—=]+)\s+(?=\S)|"
    r"(?:[?.]\s|\n)\s*\(?(?P<tail>[^:?]{1,40}):\s|[(\[](?P<note>[^:()]{1,40}):\s"
)
"""What is set apart from the question: before it a label or a sentence, after it or in brackets a label."""


def schema(example: QAExample, context: Context) -> Verdict:
    """Question and answers are made of words, of a sane length, with nothing left over from a prompt or its format.

    Raises:
        DataError: a gold passage or its document is not in the context.
    """
    fault = _question_fault(example.question, context) or _answers_fault(example, context) or _strange(example, context)
    return Verdict(not fault, float(not fault), fault or "well formed")


def _question_fault(question: str, context: Context) -> str:
    low, high = context.thresholds.min_question_words, context.thresholds.max_question_words
    words = question.split()
    if not low <= len(words) <= high:
        return f"the question has {len(words)} words, expected {low} to {high}"
    solid = "".join(words)
    if sum(map(str.isalpha, solid)) < _LETTERS_AT_LEAST * len(solid):
        return "the question is made of symbols"
    if len(words) >= _REPEATS_AT_MOST * len(set(words)):
        return "the question repeats itself"
    if found := _SLOT.search(question) or _LABEL.match(question) or _SECOND_PART.search(question):
        return f"left over from a prompt: {found.group().strip()!r:.40}"
    if found := _FENCE.search(question) or _JSON.search(question) or _MARKDOWN.match(question):
        return f"format instead of text: {found.group().strip()!r:.40}"
    return ""


def _strange(example: QAExample, context: Context) -> str:
    """What is set apart from the question and has no word in common with the gold passages; empty where nothing is.

    `pivot_table: what if …` names what it is about, `Turn 1: what if …` is left over. Greetings are users' own.
    """
    if not example.answerable:
        return ""
    known = None
    for found in _PARTS.finditer(example.question):
        part = found["head"] or found["tail"] or found["note"] or ""
        words = {word for word in stems(part) if not word.isdigit()}
        if not words or identifiers(part) or _GREETING.match(part):
            continue
        known = known or set(stems(gold_text(example, context)))
        if not words & known:
            return f"nothing of the passage: {part.strip()!r:.40}"
    return ""


def _answers_fault(example: QAExample, context: Context) -> str:
    if not example.answerable:
        return ""
    faults = (_answer_fault(answer, context.thresholds.max_answer_words) for answer in example.answers)
    return next(filter(None, faults), "") if example.answers else "no answer"


def _answer_fault(answer: str, max_words: int) -> str:
    # A lone symbol such as '+' is an answer; a row of dots or question marks is none.
    if not answer.strip() or (_NO_ANSWER.fullmatch(answer) and (len(answer.strip()) > 1 or answer.strip() in "?.-")):
        return f"no answer: {answer.strip()!r:.40}"
    if (length := len(answer.split())) > max_words:
        return f"an answer has {length} words, expected at most {max_words}"
    # Code in fences may be an answer, JSON in fences is the format of a reply.
    fenced = answer.lstrip().startswith(("```json", "~~~json"))
    if fenced or _ANSWER_LABEL.match(answer) or _JSON.match(answer) or _PROMPT_MARK.search(answer):
        return f"left over from a prompt: {answer.strip()!r:.40}"
    return ""
