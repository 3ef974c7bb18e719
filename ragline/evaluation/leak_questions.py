"""Questions that are asked in train, too, in the same or in other words.

Questions made from templates look alike and ask different things. What they have in common are the frequent words, so
words weigh by their inverse document frequency; and what tells two of them apart is grounded in their evidence: a word
that only one of them has and that stands in its answer or title, not in the other's. "What does axis of DataFrame.max
do?" and "What does axis of DataFrame.min do?" are two questions.

What makes one question of two is grounded likewise: where they have the same answer, a word of one that the answer has
is said by both. "How do I print a label?" and "How do I print a sticker?" are one where the answer speaks of labels:
`sticker` then names nothing that either is about. Where nearly all words agree, one question is assumed unless the
answers differ; a question repeated word by word is always reported.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragline.evaluation.leak_items import Item
from ragline.evaluation.leak_passages import jaccard, plain, shingles
from ragline.evaluation.leak_wording import Folding, Wording
from ragline.io import Vectors
from ragline.text import word_tokens

Encode = Callable[[Sequence[str]], Vectors]

SAME_WORDS = 0.9
"""Weighted Jaccard of the words of two questions from which they are one, unless their answers speak against it."""
SIMILAR_WORDS = 0.4
"""The same from which they are looked at closely, and are one if their answers agree; where the answers are the same,
words that only the answer has count as said."""
SIMILAR_COSINE = 0.8
"""Cosine from which they are one if their answers agree."""
SAME_COSINE = 0.93
"""Cosine from which they are one where nothing is known of their answers."""
ANSWERS_AGREE = 0.6
"""Jaccard of the words of two answers."""
ANSWERS_DIFFER = 0.3
ANSWERS_COSINE = 0.85
NEIGHBOURS = 20
"""Train questions looked at closely for each evaluation question, by words, by words with answers, and by cosine."""


def near_questions(
    tests: Sequence[Item], train: Sequence[Item], encode: Encode | None
) -> Iterator[tuple[int, int, float]]:
    """(row, row of train, similarity) of every evaluation question that is asked in train, too."""
    folding = Folding(item.question for item in chain(tests, train))
    ours = [folding.question(item.question) for item in tests]
    theirs = [folding.question(item.question) for item in train]
    asked, asked_in_train = [set(one.words) for one in ours], [set(one.words) for one in theirs]
    weight = _weights([*asked, *asked_in_train])
    cosines = dict(_alike_by_cosine(tests, train, encode)) if encode is not None else {}
    pairs = {*cosines, *_alike_by_words(asked, asked_in_train, weight)}
    said = [words | folding.text(item.answer) for words, item in zip(asked, tests, strict=True)]
    said_in_train = [words | folding.text(item.answer) for words, item in zip(asked_in_train, train, strict=True)]
    pairs.update(_alike_by_words(said, said_in_train, _weights([*said, *said_in_train])))
    judge = _Judge(folding, weight, _answer_cosines(pairs, tests, train, encode))
    best: dict[int, tuple[float, int]] = {}
    for row, other in pairs:
        score = judge.one_question(tests[row], train[other], ours[row], theirs[other], cosines.get((row, other), 0.0))
        if score is not None:
            best[row] = min(best.get(row, (score, other)), (score, other), key=lambda pair: (-pair[0], pair[1]))
    for row, (score, other) in sorted(best.items()):
        yield row, other, min(1.0, score)


def _weights(sets: Sequence[Set[str]]) -> dict[str, float]:
    """Inverse document frequency of every word."""
    frequency = Counter(chain.from_iterable(sets))
    return {word: float(np.log1p(len(sets) / count)) for word, count in frequency.items()}


def _alike_by_words(
    ours: Sequence[Set[str]], theirs: Sequence[Set[str]], weight: Mapping[str, float]
) -> Iterator[tuple[int, int]]:
    """The closest of train to each set of words, from `SIMILAR_WORDS`, by weighted Jaccard.

    One row of (n_train,) sums is made at a time, from the lists of those that have a word.
    """
    holders: dict[str, list[int]] = {}
    for row, words in enumerate(theirs):
        for word in words:
            holders.setdefault(word, []).append(row)
    rows_of = {word: np.asarray(rows, dtype=np.int64) for word, rows in holders.items()}
    totals = np.asarray([_total(words, weight) for words in theirs])
    for row, words in enumerate(ours):
        known = sorted(words & rows_of.keys())
        if not known:
            continue
        places = np.concatenate([rows_of[word] for word in known])
        weights = np.repeat([weight[word] for word in known], [len(rows_of[word]) for word in known])
        shared = np.bincount(places, weights, len(theirs))
        union = totals + _total(words, weight) - shared
        for other in _strongest(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0), SIMILAR_WORDS):
            yield row, other


def _total(words: Set[str], weight: Mapping[str, float]) -> float:
    return sum(weight[word] for word in sorted(words))  # sorted: sums of floats depend on their order


def _alike_by_cosine(
    tests: Sequence[Item], train: Sequence[Item], encode: Encode
) -> Iterator[tuple[tuple[int, int], float]]:
    """The closest of train to each question, from `SIMILAR_COSINE`; 256 rows of (n_train,) cosines at a time."""
    ours, theirs = encode([item.question for item in tests]), encode([item.question for item in train])
    for start in range(0, len(tests), 256):
        for row, cosines in enumerate(ours[start : start + 256] @ theirs.T, start=start):
            for other in _strongest(cosines, SIMILAR_COSINE):
                yield (row, other), float(cosines[other])


def _strongest(scores: NDArray[Any], least: float) -> list[int]:
    """At most `NEIGHBOURS` places with a score of at least `least`, best first, ties by place."""
    (places,) = np.nonzero(scores >= least)
    order: list[int] = places[np.argsort(-scores[places], kind="stable")][:NEIGHBOURS].tolist()
    return order


def _answer_cosines(
    pairs: Iterable[tuple[int, int]], tests: Sequence[Item], train: Sequence[Item], encode: Encode | None
) -> dict[tuple[str, str], float]:
    """(answer, answer of train) → cosine, for the pairs in question only."""
    if encode is None:
        return {}
    asked = {(tests[row].answer, train[other].answer) for row, other in pairs}
    texts = sorted({text for pair in asked for text in pair if text})
    if not texts:
        return {}
    row_of = {text: row for row, text in enumerate(texts)}
    vectors = encode(texts)
    return {(a, b): float(vectors[row_of[a]] @ vectors[row_of[b]]) for a, b in asked if a and b}


class _Judge:
    """Decides whether two questions that look alike are one."""

    def __init__(
        self, folding: Folding, weight: Mapping[str, float], answer_cosines: Mapping[tuple[str, str], float]
    ) -> None:
        self._folding, self._weight, self._cosines = folding, weight, answer_cosines
        self._words: dict[tuple[str, ...], frozenset[str]] = {}

    def one_question(self, a: Item, b: Item, ours: Wording, theirs: Wording, cosine: float) -> float | None:
        """The similarity that makes them one, in [0, 1]; None where they are two."""
        if ours.words == theirs.words:
            return 1.0
        if self._told_apart(a, b, ours, theirs):
            return None
        by_words, said_by_both = self._similarity(a, b, ours, theirs)
        agreement = self._agreement(a, b)
        if agreement is None:
            one = by_words >= SAME_WORDS or cosine >= SAME_COSINE
        elif agreement >= ANSWERS_AGREE:
            similar = said_by_both if agreement >= SAME_WORDS else by_words
            one = similar >= SIMILAR_WORDS or cosine >= SIMILAR_COSINE
        else:
            one = by_words >= SAME_WORDS and agreement >= ANSWERS_DIFFER
        return max(by_words, cosine) if one else None

    def _similarity(self, a: Item, b: Item, ours: Wording, theirs: Wording) -> tuple[float, float]:
        """Weighted Jaccard of the words, and what it is when the answers are taken as said, too.

        The latter is 0 where the questions themselves have no word in common.
        """
        mine, other = set(ours.words), set(theirs.words)
        total, shared = _total(mine | other, self._weight), _total(mine & other, self._weight)
        if not shared:
            return 0.0, 0.0
        in_answers = _total((mine - other) & self._of(b.answer) | (other - mine) & self._of(a.answer), self._weight)
        return shared / total, (shared + in_answers) / total

    def _told_apart(self, a: Item, b: Item, ours: Wording, theirs: Wording) -> bool:
        """Whether a word of only one question names what that one is about, and the other is not.

        It stands in its answer and not in the other's; or in its title and in neither title nor answer of the other;
        or both questions have one that stands in their own evidence alone, or is written like a name in a program.
        """
        mine, other = set(ours.words) - set(theirs.words), set(theirs.words) - set(ours.words)
        if mine & ours.code and other & theirs.code:
            return True
        said_a, said_b = self._of(a.answer), self._of(b.answer)
        named_a, named_b = self._names(a.title), self._names(b.title)
        if said_a and said_b and (mine & (said_a - said_b) or other & (said_b - said_a)):
            return True
        if named_a and named_b and (mine & (named_a - named_b - said_b) or other & (named_b - named_a - said_a)):
            return True
        about_a, about_b = self._of(a.title, a.answer, *a.gold_texts), self._of(b.title, b.answer, *b.gold_texts)
        return bool(mine & (about_a - about_b) and other & (about_b - about_a))

    def _agreement(self, a: Item, b: Item) -> float | None:
        """How far the answers agree, in [0, 1]; of the gold texts where there is no answer; None where nothing is."""
        if a.answer and b.answer:
            if plain(a.answer) == plain(b.answer):
                return 1.0
            if self._cosines.get((a.answer, b.answer), 0.0) >= ANSWERS_COSINE:
                return self._cosines[a.answer, b.answer]
            mine, other = self._of(a.answer), self._of(b.answer)
            return len(mine & other) / len(mine | other) if mine | other else None
        if set(a.gold_ids) & set(b.gold_ids):
            return 1.0
        scores = [jaccard(shingles(plain(x)), shingles(plain(y))) for x in a.gold_texts for y in b.gold_texts]
        return max(scores, default=None)

    def _names(self, title: str) -> frozenset[str]:
        """Words of a title, and those that its names are made of: `read_stata` gives three."""
        return self._of(title, " ".join(word_tokens(title)))

    def _of(self, *texts: str) -> frozenset[str]:
        if texts not in self._words:
            self._words[texts] = self._folding.text(*texts)
        return self._words[texts]
