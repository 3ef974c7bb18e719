"""Answer metrics against numbers worked out by hand, and against the libraries."""

import random
import re
import string
import subprocess
import sys
from collections import Counter

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from ragline.errors import DataError
from ragline.evaluation import answers

PAIRS = [
    ("The cat sat on the mat.", ["a cat sat on a mat"]),
    ("Use sort_values(by='a').", ["sort_values", "Use `DataFrame.sort_values`."]),
    ("nothing in common", ["other words entirely"]),
    ("", ["something"]),
    ("running runs run", ["run ran running"]),
]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Quick\tbrown\n fox", "quick brown fox"),
        ("An apple, a day; the end!", "apple day end"),
        ("theory and another", "theory and another"),  # articles are whole words
        ("a.b", "ab"),  # punctuation goes first, so no lone article is left behind
        ("df.sort_values(by='x')", "dfsortvaluesbyx"),
        ("U.S.A.", "usa"),
        ("the a an", ""),
        ("...", ""),
        ("", ""),
        ("Café — naïve", "café — naïve"),  # only ASCII punctuation, as in the official script
        ("A\u00a0B", "b"),  # a no-break space is white space
    ],
)
def test_normalize(text, normal):
    assert answers.normalize(text) == normal


@pytest.mark.parametrize(
    ("prediction", "references", "em", "f1"),
    [
        ("the cat", ["Cat!"], 1.0, 1.0),
        ("black cat", ["cat"], 0.0, 2 / 3),  # precision 1/2, recall 1: 2 * .5 / 1.5
        ("cat cat", ["cat dog"], 0.0, 0.5),  # multisets: one cat in common of two and two
        ("cat", ["dog", "cat food"], 0.0, 2 / 3),  # the best reference
        ("cat", ["dog", "cat"], 1.0, 1.0),
        ("dog", ["cat"], 0.0, 0.0),
        ("", [""], 1.0, 1.0),  # both empty agree, in both metrics
        ("the", ["..."], 1.0, 1.0),  # both empty once normalized
        ("", ["cat"], 0.0, 0.0),
        ("cat", ["the"], 0.0, 0.0),
    ],
)
def test_exact_match_and_f1_by_hand(prediction, references, em, f1):
    assert answers.exact_match(prediction, references) == em
    assert answers.token_f1(prediction, references) == pytest.approx(f1)


def test_rouge_l_by_hand():
    # the cat sat | the cat slept: longest common subsequence 2 of 3 and 3.
    assert answers.rouge_l("the cat sat", ["the cat slept"]) == pytest.approx(2 / 3)
    assert answers.rouge_l("the cat sat", ["dog", "the cat sat"]) == 1.0  # the best reference
    assert answers.rouge_l("!?", ["!?"]) == 0.0


def test_rouge_by_hand():
    # the cat sat down | the cat slept: words 2 of 4 and 3, pairs 1 of 3 and 2, subsequence 2.
    assert answers.rouge("the cat sat down", ["the cat slept"]) == pytest.approx(
        {"rouge_1": 2 * 2 / 7, "rouge_2": 2 * 1 / 5, "rouge_l": 2 * 2 / 7}
    )
    # Each takes the reference that suits it best.
    assert answers.rouge("a b c", ["c b a", "a b x y z"])["rouge_1"] == 1.0
    assert answers.rouge("a b c", ["c b a", "a b x y z"])["rouge_2"] == pytest.approx(2 * 1 / 6)


def random_text(rng: random.Random) -> str:
    return " ".join(rng.choices("The the cat Dog. (sat) a an on mat 3.5 naïve ... x_y".split(), k=rng.randint(0, 9)))


def random_pairs(seed: int, n: int) -> list[tuple[str, list[str]]]:
    rng = random.Random(seed)
    return [(random_text(rng), [random_text(rng) for _ in range(rng.randint(1, 3))]) for _ in range(n)]


@pytest.mark.parametrize(("prediction", "references"), [*PAIRS, *random_pairs(1, 60)])
def test_rouge_is_rouge_score(prediction, references):
    names = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
    scorer = RougeScorer(list(names.values()))
    best = {
        ours: max(scorer.score(reference, prediction)[theirs].fmeasure for reference in references)
        for ours, theirs in names.items()
    }
    assert answers.rouge(prediction, references) == best


def squad(prediction: str, references: list[str]) -> tuple[float, float]:
    """Exact match and F1 by the rules of SQuAD's script, step for step."""

    def words(text: str) -> list[str]:
        kept = "".join(char for char in text.lower() if char not in string.punctuation)
        return re.sub(r"\b(a|an|the)\b", " ", kept).split()

    def f1(one: list[str], other: list[str]) -> float:
        common = sum((Counter(one) & Counter(other)).values())
        if not one or not other:  # as in version 2.0; 1.1 gives 0 where both are empty, below its own exact match
            return float(one == other)
        precision, recall = common / len(one), common / len(other)
        return 2 * precision * recall / (precision + recall) if common else 0.0

    said = words(prediction)
    given = [words(reference) for reference in references]
    return float(any(said == reference for reference in given)), max(f1(said, reference) for reference in given)


@pytest.mark.parametrize("seed", range(3))
def test_exact_match_and_f1_are_those_of_squad(seed):
    for prediction, references in [*PAIRS, *random_pairs(seed, 300)]:
        em, f1 = squad(prediction, references)
        assert answers.exact_match(prediction, references) == em
        assert answers.token_f1(prediction, references) == pytest.approx(f1, abs=1e-9)


def test_bleu_by_hand():
    # "the cat sat on the mat" against "the cat sat on a mat": 5/6, 3/5, 2/4, 1/3 n-grams of 1 to 4, no brevity penalty.
    by_hand = (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert answers.corpus_bleu(["the cat sat on the mat"], [["the cat sat on a mat"]]) == pytest.approx(by_hand)
    assert answers.corpus_bleu(["the cat sat on the mat"], [["the cat sat on the mat"]]) == pytest.approx(1.0)


def test_bleu_is_sacrebleu():
    predictions = ["the cat sat on the mat", "sort the rows by value please"]
    theirs = sacrebleu.corpus_bleu(predictions, [["a cat sat on the mat", "sort rows by value"]]).score / 100
    assert answers.corpus_bleu(predictions, [["a cat sat on the mat"], ["sort rows by value"]]) == theirs


def test_bleu_of_many_is_sacrebleu():
    pairs = random_pairs(2, 100)
    predictions, references = [said for said, _ in pairs], [given[:1] for _, given in pairs]
    theirs = sacrebleu.corpus_bleu(predictions, [[first for (first,) in references]]).score / 100
    assert 0 < theirs < 1
    assert answers.corpus_bleu(predictions, references) == pytest.approx(theirs, abs=1e-9)


def test_nothing_said_at_all():
    assert answers.corpus_bleu(["", ""], [["cat"], ["dog"]]) == 0.0
    table = answers.score({"q": ""}, {"q": ["cat"]})
    assert {values["q"] for values in table.values()} == {0.0}


def test_lengths_by_hand():
    assert answers.lengths({"a": "one two", "b": "", "c": "df.sum() of it all"}) == {
        "words_mean": 2.0, "words_p50": 2.0, "empty": pytest.approx(1 / 3),
    }  # fmt: skip
    with pytest.raises(DataError, match="no answer to measure"):
        answers.lengths({})


def test_bleu_with_unequal_numbers_of_references():
    predictions = ["the cat sat on the mat", "sort the rows by value please"]
    references = [["nothing"], ["order it", "sort the rows by value please", "x"]]
    # Doubling the single reference changes no n-gram maximum and no closest length.
    theirs = sacrebleu.corpus_bleu(predictions, list(zip(["nothing"] * 3, references[1], strict=True))).score / 100
    assert answers.corpus_bleu(predictions, references) == pytest.approx(theirs)


def test_bleu_refuses_uneven_sides():
    with pytest.raises(DataError, match="0 predictions and 0 lists"):
        answers.corpus_bleu([], [])
    with pytest.raises(DataError, match="1 predictions and 2 lists"):
        answers.corpus_bleu(["a"], [["a"], ["b"]])
    with pytest.raises(DataError, match=r"one reference or more, got \[\]"):
        answers.corpus_bleu(["a"], [[]])


def test_score_by_hand():
    # q1 exact; q2 half the words; q3 has no prediction, and scores 0 even where an empty text would match.
    table = answers.score({"q2": "cat dog", "q1": "cat"}, {"q1": ["Cat"], "q2": ["cat bird"], "q3": ["the"]})
    assert table == {
        "answer_em": {"q1": 1.0, "q2": 0.0, "q3": 0.0},
        "answer_f1": {"q1": 1.0, "q2": 0.5, "q3": 0.0},
        "rouge_1": {"q1": 1.0, "q2": 0.5, "q3": 0.0},
        "rouge_2": {"q1": 0.0, "q2": 0.0, "q3": 0.0},  # one word has no pair
        "rouge_l": {"q1": 1.0, "q2": 0.5, "q3": 0.0},
    }
    assert list(table["answer_f1"]) == ["q1", "q2", "q3"]


def test_score_refuses_what_it_cannot_judge():
    with pytest.raises(DataError, match=r"1 questions \(first \['q2'\]\) have no references"):
        answers.score({"q2": "x"}, {"q1": ["x"]})
    with pytest.raises(DataError, match=r"\['q1'\]\) have an empty list of references"):
        answers.score({}, {"q1": []})
    with pytest.raises(DataError, match="expected a list of one reference or more, got 'cat'"):
        answers.token_f1("cat", "cat")


def test_citation_precision_by_hand():
    cited = {"q1": ["a", "b"], "q2": ["a", "a"], "q3": [], "q4": ["x"]}
    gold = {"q1": {"a", "c"}, "q2": {"a"}, "q3": {"a"}, "q4": set(), "q5": {"a"}}
    # q1: one of two; q2: one passage, cited twice; q3 cites nothing and is left out; q4 has nothing to cite.
    assert answers.citation_precision(cited, gold) == {"q1": 0.5, "q2": 1.0, "q4": 0.0}
    with pytest.raises(DataError, match=r"\['q9'\]\) have no judgement"):
        answers.citation_precision({"q9": ["a"]}, gold)


def test_abstention_by_hand():
    abstained = {"a": False, "b": True, "c": False, "d": False, "x": True, "y": False}
    answerable = {"a": True, "b": True, "c": True, "d": True, "x": False, "y": False}
    assert answers.abstention(abstained, answerable) == {
        "n_answerable": 4,
        "n_unanswerable": 2,
        "answered_answerable": 0.75,
        "refused_unanswerable": 0.5,
        "balanced_accuracy": 0.625,
    }


def test_abstention_without_unanswerable_questions():
    assert answers.abstention({"a": False}, {"a": True}) == {
        "n_answerable": 1, "n_unanswerable": 0, "answered_answerable": 1.0,
    }  # fmt: skip


def test_abstention_refuses_different_questions():
    with pytest.raises(DataError, match=r"2 questions \(first \['a', 'b'\]\) are on one side only"):
        answers.abstention({"a": True}, {"b": True})
    with pytest.raises(DataError, match="no question"):
        answers.abstention({}, {})


def test_rouge_is_imported_only_when_it_is_used():
    code = "import sys, ragline.evaluation.answers; sys.exit('nltk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
