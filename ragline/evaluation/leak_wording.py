"""The words of a question as the leak audit compares them: endings, slips of the finger and synonyms folded away."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

import Stemmer

RARE = 2
"""Questions with a word, at most, for it to be taken as mistyped."""

_TOKEN = re.compile(r"[^\W_]\w*")
_CODE = re.compile(r"\d|_|[a-z][A-Z]")
_POSSESSIVE = re.compile(r"(?<=\w)['’]s\b")
_MISTYPED = re.compile(r"[a-z]{6,}")
_STOP = frozenset(
    "a able about actually also am an and approach are as at be been being best but by can could did do does doing "
    "exactly explain explained explanation for from had happen happens has have how i if in into is it its just "
    "kindly know let like may me meaning might must my need needs of on one ones or our out please possible purpose "
    "quickly really say shall should so some somehow someone something tell than that the their them then there these "
    "they thing things this those to us want wants was way ways we were what whats when where which while who whom "
    "whose why will wish with wonder wondering would you your".split()
)
"""Words that ask, rather than say about what. `not` and `no` are not among them."""
_IDIOMS = (
    (r"(?:get|gets|got|getting|give|gives|gave|giving) (?:\w+ )?back", "return"),
    (r"(?:get|gets|getting) rid of|take out|throw away", "remove"),
    (r"(?:make|making) sure|find out|figure out", "check"),
    (r"break (?:\w+ )?(?:up|down|apart)", "split"),
    (r"change the name of", "rename"),
    (r"make a copy of", "copy"),
    (r"work out", "compute"),
    (r"put together", "join"),
    (r"get hold of|look up|look for", "get"),
    (r"set up", "create"),
)
"""Several words that say what one says."""
_SYNONYMS = (
    "get obtain retrieve fetch receive gain acquire find lookup see",
    "remove delete drop erase discard eliminate",
    "make create build construct generate produce form",
    "change modify alter edit update adjust",
    "show display print view present",
    "start begin commence",
    "end finish stop conclude terminate",
    "use employ utilize utilise apply",
    "allow permit enable let",
    "give provide supply pass specify set",
    "choose select pick",
    "buy purchase",
    "help assist aid",
    "fix repair solve resolve",
    "send ship deliver dispatch",
    "check verify test determine confirm examine tell",
    "convert transform turn cast",
    "join merge combine unite",
    "split divide separate",
    "compute calculate",
    "return yield",
    "replace substitute swap",
    "read load import open",
    "write save store export",
    "mean signify denote represent",
    "function method call routine",
    "argument parameter option setting",
    "cost price fee charge",
    "big large huge",
    "small little tiny",
    "quick fast rapid",
    "same identical equal",
    "distinct unique",
    "duplicate repeated duplicated",
    "missing absent na",
    "provided given certain particular specified",
    "whether if",
    "type dtype kind",
    "number count amount quantity",
    "error exception",
    "cause reason trigger",
    "customer client shopper buyer",
    "require demand",
)
"""Words that ask for the same thing."""


@dataclass(frozen=True, slots=True)
class Wording:
    """A question as the comparison sees it."""

    words: tuple[str, ...]
    """Folded, in order, without the words that only ask."""
    code: frozenset[str]
    """Those written like a name in a program."""


class Folding:
    """Maps words of one meaning onto one: endings, slips of the finger, synonyms."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._idioms = [(re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE), word) for pattern, word in _IDIOMS]
        self._stem = Stemmer.Stemmer("english").stemWord
        self._same = {self._stem(word): group.split()[0] for group in _SYNONYMS for word in group.split()}
        self._mended = _mended(Counter(chain.from_iterable(set(_TOKEN.findall(text.lower())) for text in texts)))
        self._known: dict[str, str] = {}

    def word(self, word: str) -> str:
        """The word that stands for this lower-cased one."""
        folded = self._known.get(word)
        if folded is None:
            stem = self._stem(self._mended.get(word, word))
            folded = self._known[word] = self._stem(self._same.get(stem, stem))
        return folded

    def question(self, text: str) -> Wording:
        text = " ".join(text.split())
        for pattern, word in self._idioms:
            text = pattern.sub(word, text)
        tokens = [token for token in _TOKEN.findall(_POSSESSIVE.sub("", text)) if token.lower() not in _STOP]
        tokens = tokens or _TOKEN.findall(text)  # "What is it?" has no other words
        folded = tuple(self.word(token.lower()) for token in tokens)
        names = zip(tokens, folded, strict=True)
        return Wording(folded, frozenset(word for token, word in names if _CODE.search(token)))

    def text(self, *texts: str) -> frozenset[str]:
        return frozenset(self.word(token) for text in texts for token in _TOKEN.findall(text.lower()))


def _mended(frequency: Mapping[str, int]) -> dict[str, str]:
    """Rare word → the most frequent word one slip away that starts with the same letter.

    A slip is two letters swapped, or a letter more, less or other; as words differ by one letter for better reasons,
    too (`quarter`, `quarters`), that needs a word twice as frequent. Words one slip apart share a form with at most one
    letter left out.
    """
    plain = [word for word in sorted(frequency) if _MISTYPED.fullmatch(word)]
    forms: dict[str, list[str]] = {}
    for word in plain:
        for form in _deletions(word):
            forms.setdefault(form, []).append(word)
    rank = {word: (-frequency[word], word) for word in plain}
    mended = {}
    for word in (word for word in plain if frequency[word] <= RARE):
        near = {other for form in _deletions(word) for other in forms[form] if rank[other] < rank[word]}
        meant = [
            other
            for other in near
            if _swapped(word, other) or (frequency[other] > 2 * frequency[word] and _one_letter_off(word, other))
        ]
        if meant:
            mended[word] = min(meant, key=lambda other: rank[other])
    return mended


def _deletions(word: str) -> set[str]:
    """The word, and what is left of it without one letter, the first one aside."""
    return {word, *(word[:at] + word[at + 1 :] for at in range(1, len(word)))}


def _swapped(a: str, b: str) -> bool:
    x, y = _unlike(a, b)
    return x[2:] == y[2:] and x[:2] == y[1::-1]


def _one_letter_off(a: str, b: str) -> bool:
    x, y = _unlike(a, b)
    return x[1:] == y or x == y[1:] or x[1:] == y[1:]


def _unlike(a: str, b: str) -> tuple[str, str]:
    """Both words from the first letter that differs."""
    start = next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[start:], b[start:]
