"""Filters that compare the answer with its passages and its question, word by word."""

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from ragline.questions.english import content_words
from ragline.questions.filter_verdict import NOT_ASKED, Context, Verdict, gold_text
from ragline.text import sentences, word_tokens
from ragline.types import QAExample

_URL = re.compile(r"\b(?:https?://|www\.)\S+")
_LIST_MARK = re.compile(r"(?m)^\s*(?:\d{1,3}[.)]|[-*+•])\s+")
_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:[kK]\b)?")
_ANY_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:[kK]\b)?")
_IDENTIFIER = re.compile(
    r"(?<![\w.])(?:\w+(?:[_.]\w+)+|\w*[a-z][A-Z]\w*|[A-Z]{2,}\w*|\w*[A-Za-z]\d\w*|_\w+|\w+_)(?!\w)"
)
_CAPITAL = re.compile(r"(?<=[\w,;] )[A-Z][\w-]+")
_WRITTEN_OUT = re.compile(r"(?:[A-Z][\w-]+(?: (?:and|of|for))? )+(?=\([A-Z]{2,}\))|(?<=[A-Z]{2} )\([^)]*\)")
"""`Value Added Tax (VAT)` and `VAT (Value Added Tax)`: the abbreviation is what has to be known."""
_ROOT = 5
"""Letters that two forms of a name share."""
_UNITS = "zero one two three four five six seven eight nine ten eleven twelve".split()
_SPELT = {word: str(number) for number, word in enumerate(_UNITS)}
_NAMES_AT_LEAST = 0.75
"""Share of an answer's capitalised words that must be known: many names may hold an abbreviation written out."""

_ALIAS_AT_MOST = 3

_YES_OR_NO = re.compile(r"^\W*(?:yes|no)\b\W*", re.IGNORECASE)
_NEGATION = re.compile(r"\b(?:not|no|never|none|neither|nor|without|cannot|unable|fails?)\b|n['’]t\b", re.IGNORECASE)
_NEGATIVE = frozenset("never none neither nor cannot unabl fail don doesn isn aren won can t".split())
_NEGATIVE_WORDS = frozenset("not no never don doesn isn aren won t".split())
_SAME_SENTENCE = 0.8
"""Jaccard similarity from which an answer is taken to repeat a sentence, so that their polarity can be compared."""

_POLAR = re.compile(
    r"(?:and |so |but )?(?:am|are|can|could|did|do|does|has|have|is|may|might|must|shall|should|was|were|will|would)"
    r"(?:n['’]t)?\b",
    re.IGNORECASE,
)
_CHOICE = re.compile(r"\bor\b|\bwhether\b", re.IGNORECASE)
_WH = re.compile(r"\b(?:what|which|who|whom|whose|when|where|why|how)\b", re.IGNORECASE)
_ASKS_FOR_A_WAY = re.compile(
    r"(?:\w+[ ,]+){0,2}?(?:how (?:do|can|could|would|should|might|to|I|you)\b|"
    r"what (?:(?:can|could|should|do|would) (?:I|you|one|we)|gives?|gets?|lets?|returns?|is the (?:\w+ )?"
    r"(?:call|way|function|method)|(?:call|function|method|class))\b|which (?:call|function|method|class)\b)",
    re.IGNORECASE,
)
_SENTENCE_WORDS = 2
"""Content words from which an answer is a statement, not a mere value."""


@cache
def _stemmer() -> Any:
    import Stemmer

    return Stemmer.Stemmer("english")


def stems(text: str) -> list[str]:
    """The content words of a text without their endings, in order; spelt numbers as digits."""
    found: list[str] = _stemmer().stemWords([_SPELT.get(word, word) for word in content_words(text)])
    return found


def normal(text: str) -> str:
    """Words in lower case, single blanks, nothing else."""
    return " ".join(word_tokens(text))


def holds_verbatim(text: str, answer: str) -> bool:
    """Whether the answer stands in the text, letter case, punctuation and white space apart."""
    return f" {normal(answer)} " in f" {normal(text)} "


def opens_a_sentence(text: str, answer: str) -> bool:
    """Whether the answer stands in the text from where a sentence begins, compared like `holds_verbatim`."""
    wanted = f"{normal(answer)} "
    return any(f"{normal(text[span.start :])} ".startswith(wanted) for span in sentences(text))


def numbers(text: str) -> set[str]:
    """Numbers in digits, `1,000` as `1000` and `0.50` as `0.5`; neither marks of list items nor parts of links."""
    return {_plain(match) for match in _NUMBER.findall(_LIST_MARK.sub(" ", _URL.sub(" ", text)))}


def _plain(digits: str) -> str:
    thousands = "000" if digits[-1] in "kK" else ""
    whole, _, part = digits.rstrip("kK").replace(",", "").partition(".")
    part = part.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{part}" if part else thousands)


def identifiers(text: str) -> set[str]:
    """What only code or an abbreviation looks like: `read_csv`, `Series.str`, `DataFrame`, `VAT`."""
    return set(_IDENTIFIER.findall(_URL.sub(" ", text)))


def capitals(text: str) -> set[str]:
    """Capitalised words in the midst of a sentence: names, nearly always."""
    return set(_CAPITAL.findall(_WRITTEN_OUT.sub("", text))) - identifiers(text)


def support(answer: str, question: str, text: str) -> tuple[float, str]:
    """How far a text bears an answer out.

    A verbatim answer is borne out in full. Of any other, numbers and names have to stand in the text or the question;
    what counts is the share of its words that the text holds, as long as it does not turn round the polarity of the
    sentence that it repeats. Words that only repeat the question count neither way.

    Returns:
        A share in [0, 1], and what it means or what is missing.
    """
    if holds_verbatim(text, answer) or holds_verbatim(text, _YES_OR_NO.sub("", answer)):
        return 1.0, "verbatim"
    around = f"{question}\n{text}"
    known = set(stems(around))
    if strange := sorted(numbers(answer) - _digits(around)):
        return 0.0, f"number {strange[0]} is not in the passage"
    if strange := sorted(name for name in identifiers(answer) if not _is_written(name, around, known)):
        return 0.0, f"name {strange[0]} is not in the passage"
    named = capitals(answer)
    strange = sorted(name for name in named if not all(_is_known(stem, known) for stem in stems(name)))
    if len(named) - len(strange) < _NAMES_AT_LEAST * len(named):
        return 0.0, f"name {strange[0]} is not in the passage"
    if turned := _turned(answer, text):
        return 0.0, f"says the opposite of {turned!r:.60}"
    held = set(stems(text))
    said = set(stems(answer)) - (set(stems(question)) - held)
    share = len(said & held) / len(said) if said else 0.0
    return share, f"{share:.0%} of its words are in the passage"


def _digits(text: str) -> set[str]:
    """Numbers of a text, spelt ones and those of `EUR10` or `50ms` among them."""
    spelt = {_SPELT[word] for word in word_tokens(text) if word in _SPELT}
    return spelt | {_plain(match) for match in _ANY_NUMBER.findall(text)}


def _is_written(name: str, around: str, known: set[str]) -> bool:
    """Whether an identifier stands there: as it is, as in `EUR10,000`, or in its parts.

    What a caller calls the module or the object, as in `pd.cut` or `df.cut`, is the caller's own.
    """
    alias, dot, rest = name.partition(".")
    name = rest if dot and len(alias) <= _ALIAS_AT_MOST else name
    return known.issuperset(stems(name)) or (len(name) > 2 and name.lower() in around.lower())


def _is_known(stem: str, known: set[str]) -> bool:
    """Whether a name, or another form of it, is there: `Canada` where a text says `Canadian`."""
    return stem in known or any(len(stem) >= _ROOT <= len(one) and stem[:_ROOT] == one[:_ROOT] for one in known)


def _turned(answer: str, text: str) -> str:
    """What the answer, or a sentence of it, repeats but for a negation; empty where there is nothing like it."""
    passage = [text[span.start : span.end] for span in sentences(text)]
    held = [set(stems(one)) - _NEGATIVE for one in passage]
    words = _polar_words(text)
    for span in sentences(answer):
        said = _YES_OR_NO.sub("", answer[span.start : span.end])
        own = set(stems(said)) - _NEGATIVE
        if len(own) < _SENTENCE_WORDS:
            continue
        turned = _turned_word_for_word(_polar_words(said), words)
        if turned is None:
            alike = [
                negated(one)
                for one, others in zip(passage, held, strict=True)
                if len(own & others) >= _SAME_SENTENCE * len(own | others)
            ]
            turned = bool(alike) and negated(said) not in alike
        if turned:
            return " ".join(said.split())
    return ""


def _polar_words(text: str) -> list[tuple[str, bool]]:
    """Each word with whether a negation stands right before it; the negations themselves are left out."""
    found, before = [], False
    for word in normal(text).replace("cannot", "can not").split():
        if word in _NEGATIVE_WORDS:
            before = True
        else:
            found.append((word, before))
            before = False
    return found


def _turned_word_for_word(said: list[tuple[str, bool]], words: list[tuple[str, bool]]) -> bool | None:
    """Whether the text has these very words, but nowhere with the same negations; None where it has them not."""
    wanted, plain = [word for word, _ in said], [word for word, _ in words]
    size = len(wanted)
    starts = [i for i in range(len(plain) - size + 1) if plain[i] == wanted[0] and plain[i : i + size] == wanted]
    return said not in [words[start : start + size] for start in starts] if starts else None


def negated(text: str) -> bool:
    """Whether a sentence says no, but for a `no` that only opens it."""
    return _NEGATION.search(_YES_OR_NO.sub("", text)) is not None


def f1(answer: str, references: Iterable[str]) -> float:
    """Overlap of the words of an answer with a reference's, the best over the references; 0 where one has none."""
    said, best = set(stems(answer)), 0.0
    for reference in references:
        wanted = set(stems(reference))
        if said and wanted:
            best = max(best, 2 * len(said & wanted) / (len(said) + len(wanted)))
    return best


def grounding(example: QAExample, context: Context) -> Verdict:
    """Every answer is borne out by the gold passages; the score is that of the worst.

    Raises:
        DataError: a gold passage or its document is not in the context.
    """
    if not example.answerable:
        return NOT_ASKED
    text = gold_text(example, context)
    found = (support(answer, example.question, text) for answer in example.answers)
    share, detail = min(found, default=(0.0, "no answer"))
    return Verdict(share >= context.thresholds.min_support, share, detail)


def answer_in_question(example: QAExample, context: Context) -> Verdict:
    """Some answer says more than its question; the score is the share of its words that the question lacks.

    News comes from the passages: what they do not hold either (`In a word, …`) only frames the question's own words.

    Three kinds of question are rightly answered in their own words: one for yes or no, one for a choice, and one for a
    way to do something, where the answer is a statement of the passage and the news is whose it is.

    Raises:
        DataError: a gold passage or its document is not in the context.
    """
    if not example.answerable:
        return NOT_ASKED
    verdicts = (_news(answer, example, context) for answer in example.answers)
    return max(verdicts, key=lambda verdict: (verdict.kept, verdict.score), default=NOT_ASKED)


def _news(answer: str, example: QAExample, context: Context) -> Verdict:
    question = example.question
    if normal(answer) == normal(question):
        return Verdict(False, 0.0, "the answer is the question")
    # 'one' is no content word, but may be the very number that was asked for.
    counts = {word for word in word_tokens(answer) if word in _SPELT and "how many" in question.lower()}
    told = answer if is_polar(question) else _YES_OR_NO.sub("", answer)
    said = counts | set(stems(told)) or set(word_tokens(told)) or set(told.split())
    asked = set(stems(question)) | set(word_tokens(question)) | set(question.split())
    text = gold_text(example, context)
    news, held = said - asked, counts | _digits(text) | set(stems(text)) | set(word_tokens(text))
    if news and (news & held or not said & asked):
        share = len(news) / len(said)
        return Verdict(True, share, f"{share:.0%} of the answer's words are new")
    stated = len(said) >= _SENTENCE_WORDS and opens_a_sentence(text, answer)
    if is_polar(question) or (stated and asks_for_a_way(question)):
        return Verdict(True, 1.0, "rightly answered in the question's words")
    return Verdict(False, 0.0, "every word of the answer stands in the question")


def is_polar(question: str) -> bool:
    """Whether a question asks for yes or no, or for one of the things it names."""
    clauses = re.split(r"[,;:]\s+", question.strip())
    return any(map(_POLAR.match, clauses)) or _CHOICE.search(question) is not None


def asks_for_a_way(question: str) -> bool:
    """Whether a question seeks what does something: `how do I …`, `what can I use to …`, or bare key words."""
    return _ASKS_FOR_A_WAY.match(question) is not None or _WH.search(question) is None
