"""The extractive answerer: the sentence of the retrieved passages that is closest to the question."""

from collections.abc import Callable, Sequence

from ragline.io import Vectors
from ragline.text import sentences, word_tokens
from ragline.types import Hit, Passage

MIN_WORDS, MAX_WORDS = 3, 60
PASSAGES = 3
"""Passages whose sentences are weighed."""
ENCODED = 8
"""Sentences of each question that are encoded: those that share most words with it."""

Encode = Callable[[Sequence[str]], Vectors]
"""Texts to (n, d) float32 rows of unit length."""


def candidates(hits: Sequence[Hit]) -> list[tuple[Hit, str]]:
    """Sentences of the passages, best passage first, that could be an answer: 3 to 60 words, each once, no heading."""
    found: dict[str, Hit] = {}
    for hit in hits:
        for span in sentences(hit.passage.text):
            sentence = hit.passage.text[span.start : span.end]
            if MIN_WORDS <= len(sentence.split()) <= MAX_WORDS and not _is_heading(sentence, hit.passage):
                found.setdefault(sentence, hit)
    return [(hit, sentence) for sentence, hit in found.items()]


def _is_heading(sentence: str, passage: Passage) -> bool:
    """Markdown's `##`, or the words of the title or of the headings that the passage stands under.

    A single `#` alone may be a comment in code.
    """
    above = {passage.title, *passage.heading.split(" > ")}
    return "\n" not in sentence and (sentence.startswith("##") or sentence.strip("# ") in above)


def sharing_most(question: str, choice: Sequence[tuple[Hit, str]], most: int) -> list[tuple[Hit, str]]:
    """The `most` sentences that, with their passage's title, hold most of the question's words, in the given order.

    Ties go to the earlier one.
    """
    asked = set(word_tokens(question))
    shared = [len(asked & set(word_tokens(_in_context(hit, sentence)))) for hit, sentence in choice]
    kept = sorted(range(len(choice)), key=lambda row: (-shared[row], row))[:most]
    return [choice[row] for row in sorted(kept)]


def answer(
    questions: Sequence[str],
    retrieved: Sequence[Sequence[Hit]],
    encode_questions: Encode,
    encode_texts: Encode,
) -> list[tuple[str, tuple[Hit, ...], float | None]]:
    """For each question the closest sentence, the passage it stands in, and their cosine.

    The sentence is encoded with its passage's title before it, as a sentence alone seldom says what it is about.
    A question whose passages hold no sentence gets an empty answer, no citation and no cosine.
    """
    choices = [
        sharing_most(question, candidates(hits[:PASSAGES]), ENCODED)
        for question, hits in zip(questions, retrieved, strict=True)
    ]
    texts = sorted({_in_context(hit, sentence) for choice in choices for hit, sentence in choice})
    vectors = encode_texts(texts) if texts else None
    row = {text: number for number, text in enumerate(texts)}
    answers: list[tuple[str, tuple[Hit, ...], float | None]] = []
    for vector, choice in zip(encode_questions(questions), choices, strict=True):
        if not choice or vectors is None:
            answers.append(("", (), None))
            continue
        scores = vectors[[row[_in_context(hit, sentence)] for hit, sentence in choice]] @ vector
        best = int(scores.argmax())
        hit, sentence = choice[best]
        answers.append((sentence, (hit,), float(scores[best])))
    return answers


def _in_context(hit: Hit, sentence: str) -> str:
    return f"{hit.passage.title}: {sentence}"
