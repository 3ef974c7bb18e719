"""Text as the terms that BM25 counts, by language."""

import re
import sys
import unicodedata
from collections.abc import Callable

import Stemmer
from bm25s import stopwords

from ragline.errors import ConfigError

UNSTEMMED = "none"

STOP_WORDS: dict[str, tuple[str, ...]] = {
    "danish": stopwords.STOPWORDS_DANISH,
    "dutch": stopwords.STOPWORDS_DUTCH,
    "dutch_porter": stopwords.STOPWORDS_DUTCH,
    "english": stopwords.STOPWORDS_EN,
    "french": stopwords.STOPWORDS_FRENCH,
    "german": stopwords.STOPWORDS_GERMAN,
    "italian": stopwords.STOPWORDS_ITALIAN,
    "norwegian": stopwords.STOPWORDS_NORWEGIAN,
    "porter": stopwords.STOPWORDS_EN,
    "portuguese": stopwords.STOPWORDS_PORTUGUESE,
    "russian": stopwords.STOPWORDS_RUSSIAN,
    "spanish": stopwords.STOPWORDS_SPANISH,
    "swedish": stopwords.STOPWORDS_SWEDISH,
    "turkish": stopwords.STOPWORDS_TURKISH,
}
"""Other languages keep their stop words, which weigh little: BM25 counts a word less the more passages have it."""

LANGUAGES: tuple[str, ...] = (*Stemmer.algorithms(), UNSTEMMED)
"""Snowball's names, and `none`: words as they are, no stop words."""

Analyser = Callable[[str], list[str]]

CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def _class_of(wanted: Callable[[str], bool]) -> str:
    """Those characters of the basic plane, as the inside of a regular expression's class."""
    return "".join(re.escape(char) for char in map(chr, range(0x300, 0x10000)) if wanted(char))


_MARKS = _class_of(lambda char: unicodedata.category(char) in ("Mn", "Mc"))
WORD = re.compile(rf"[^\W_](?:[^\W_]|[{_MARKS}])*")
"""Letters and digits, with the vowel signs and accents that stand apart in many scripts."""

_UNSPACED = (
    "\u0e00-\u0e7f\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Myanmar, Khmer
    "\u1100-\u11ff\uac00-\ud7af"  # Hangul
    "\u3005\u3007\u3040-\u30ff\u31f0-\u31ff"  # kana
    f"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-{chr(sys.maxunicode)}"  # Han
)
_RUNS = re.compile(rf"[{_UNSPACED}]+|[^{_UNSPACED}]+")
_IS_UNSPACED = re.compile(rf"[{_UNSPACED}]")


def split(text: str) -> list[str]:
    """Words in lower case; identifiers fall into theirs, unspaced scripts into overlapping pairs of characters.

    `read_csv`, `DataFrame.groupBy` → read, csv, data, frame, group, by. Chinese, Japanese, Thai and the like have no
    spaces to cut at, and Korean joins particles to its nouns: 東京都 → 東京, 京都; so a word of one such character is
    found only where it stands alone. Forms of one letter become one (NFKC).

    Source: the pairs are those of Lucene's CJKBigramFilter.
    """
    if text.isascii():
        return WORD.findall(CAMEL.sub(" ", text).lower())
    terms: list[str] = []
    for word in WORD.findall(CAMEL.sub(" ", unicodedata.normalize("NFKC", text)).lower()):
        if word.isascii():
            terms.append(word)
            continue
        for run in _RUNS.findall(word):
            if _IS_UNSPACED.match(run) and len(run) > 1:
                terms += [run[place : place + 2] for place in range(len(run) - 1)]
            else:
                terms.append(run)
    return terms


def analyser(language: str) -> Analyser:
    """What turns text of a language into terms: `split`, less stop words, stemmed by Snowball.

    Raises:
        ConfigError: no such language.
    """
    if language == UNSTEMMED:
        return split
    if language not in LANGUAGES:
        raise ConfigError(
            f"build_index.language: expected one of {', '.join(LANGUAGES)}, got {language!r}; mend it in params.yaml"
        )
    stem = Stemmer.Stemmer(language).stemWords
    stops = frozenset(STOP_WORDS.get(language, ()))

    def analyse(text: str) -> list[str]:
        stems: list[str] = stem([word for word in split(text) if word not in stops])
        return [term for term in stems if term]

    return analyse
