"""Text as terms: by language, in any script."""

import bm25s
import pytest
import Stemmer

from ragline.errors import ConfigError
from ragline.retrieval import words

TEXT = "Reading CSV files: pandas.read_csv(x1) isn't the DataFrame's groupBy, it reads 3 files"


def test_identifiers_become_words():
    assert words.split("pandas.DataFrame.read_csv(x1)") == ["pandas", "data", "frame", "read", "csv", "x1"]


def test_english_is_taken_apart_as_bm25s_does_it():
    spaced = " ".join(words.split(TEXT))
    (wanted,) = bm25s.tokenize(
        [spaced], stopwords="en", stemmer=Stemmer.Stemmer("english"), return_ids=False, show_progress=False,
        token_pattern=r"(?u)\b\w+\b",
    )  # fmt: skip
    assert words.analyser("english")(TEXT) == wanted


@pytest.mark.parametrize(
    ("language", "text", "terms"),
    [
        ("english", "the running dogs", ["run", "dog"]),
        ("porter", "the running dogs", ["run", "dog"]),
        ("german", "die laufenden Häuser", ["laufend", "haus"]),
        ("french", "l'homme continuait", ["homm", "continu"]),
        ("finnish", "talossa ja talo", ["talo", "ja", "talo"]),  # no list of Finnish stop words
        ("none", "the running dogs", ["the", "running", "dogs"]),
    ],
)
def test_stop_words_and_stems_by_language(language, text, terms):
    assert words.analyser(language)(text) == terms


def test_another_language():
    with pytest.raises(ConfigError, match=r"build_index\.language: expected one of arabic, .*, none, got 'klingon'"):
        words.analyser("klingon")


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("東京都に行く", ["東京", "京都", "都に", "に行", "行く"]),
        ("猫", ["猫"]),
        ("用pandas读取CSV文件", ["用", "pandas", "读取", "csv", "文件"]),
        ("데이터를 읽다", ["데이", "이터", "터를", "읽다"]),
        ("ｐａｎｄａｓ", ["pandas"]),  # full width
    ],
)
def test_scripts_without_spaces_become_pairs_of_characters(text, terms):
    assert words.split(text) == terms


def test_vowel_signs_and_accents_stay_with_their_letters():
    assert words.split("हिन्दी भाषा") == ["हिन्दी", "भाषा"]
    assert words.split("cafe\u0301") == words.split("café") == ["café"]
    assert words.split("ef\ufb01cient") == ["efficient"]  # the ligature of a PDF


@pytest.mark.parametrize("text", ["", "  ", "?!…—()[]", "___", "\u0301"])
def test_no_words_no_terms(text):
    assert words.analyser("english")(text) == []
