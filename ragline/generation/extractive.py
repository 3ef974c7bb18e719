"""The extractive answerer: the sentence of the retrieved passages that is closest to the question."""

from collections.abc import Callable, Sequence

from ragline.io import Vectors
from ragline.text import sentences
from ragline.types import Hit

MIN_WORDS, MAX_WORDS = 3, 60

Encode = Callable[[Sequence[str]], Vectors]
"""Texts to (n, d) float32 rows of unit length."""


def candidates(hits: Sequence[Hit]) -> list[tuple[Hit, str]]:
    """Sentences of the passages, best passage first, that could be an answer: 3 to 60 words, each once."""
    found: dict[str, Hit] = {}
    for hit in hits:
        for span in sentences(hit.passage.text):
            sentence = hit.passage.text[span.start : span.end]
            if MIN_WORDS <= len(sentence.split()) <= MAX_WORDS:
                found.setdefault(sentence, hit)
    return [(hit, sentence) for sentence, hit in found.items()]


def answer(
    questions: Sequence[str],
    retrieved: Sequence[Sequence[Hit]],
    encode_questions: Encode,
    encode_texts: Encode,
) -> list[tuple[str, tuple[Hit, ...]]]:
    """For each question the closest sentence and the passage it stands in.

    The sentence is encoded with its passage's title before it, as a sentence alone seldom says what it is about.
    A question whose passages hold no sentence gets an empty answer and no citation.
    """
    choices = [candidates(hits) for hits in retrieved]
    texts = sorted({_in_context(hit, sentence) for choice in choices for hit, sentence in choice})
    vectors = encode_texts(texts) if texts else None
    row = {text: number for number, text in enumerate(texts)}
    answers: list[tuple[str, tuple[Hit, ...]]] = []
    for vector, choice in zip(encode_questions(questions), choices, strict=True):
        if not choice or vectors is None:
            answers.append(("", ()))
            continue
        scores = vectors[[row[_in_context(hit, sentence)] for hit, sentence in choice]] @ vector
        hit, sentence = choice[int(scores.argmax())]
        answers.append((sentence, (hit,)))
    return answers


def _in_context(hit: Hit, sentence: str) -> str:
    return f"{hit.passage.title}: {sentence}"
