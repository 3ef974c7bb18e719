"""Write a corpus for benchmarks: `python -m tools.make_corpus 100000 --size 2000 --seed 7 --out data/raw/many.jsonl`.

A line is a Markdown document of about `--size` characters: headings, paragraphs, sentences of made-up words whose
frequencies fall like Zipf's law. About 1 % repeat another document's text, about 2 % repeat it in slightly other words
(a Jaccard similarity of word 5-grams of about 0.9). A document depends on the seed and its own number alone, so a
larger corpus begins with the smaller one.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ragline import io

VOCABULARY = 30_000
COPIES, NEAR_COPIES = 0.01, 0.02
WORDS_BETWEEN_CHANGES = 100
SENTENCE_WORDS = (6, 19)
PARAGRAPH_SENTENCES = 5
SECTION_PARAGRAPHS = 2
CHARACTERS_A_WORD = 7.3
"""Mean, with what stands between words."""

Words = npt.NDArray[np.str_]


def vocabulary(seed: int) -> Words:
    """Distinct words of one to four syllables, the short ones first: frequent words are short."""
    rng = np.random.default_rng(seed)
    onsets, rhymes = "b d f g k l m n p r s t v sh st".split(), "a e i o u ai en or".split()
    syllables = np.array([onset + rhyme for onset in onsets for rhyme in rhymes])
    drawn = syllables[rng.integers(len(syllables), size=(4 * VOCABULARY, 4))].tolist()
    lengths = [1 + (number >= 60) + (number >= 4_000) + number % 2 for number in range(len(drawn))]
    words = dict.fromkeys("".join(parts[:length]) for parts, length in zip(drawn, lengths, strict=True))
    return np.array(list(words)[:VOCABULARY])


def documents(n: int, size: int, seed: int) -> Iterator[dict[str, str]]:
    """Yield n documents with keys id, title, text and format.

    Args:
        size: expected characters of a text.
    """
    words = vocabulary(seed)
    weights = np.cumsum(1 / (np.arange(len(words)) + 2.7))  # Zipf's law with Mandelbrot's shift
    for number in range(n):
        rng = np.random.default_rng([seed, number, 1])
        lot = rng.random()
        like = int(rng.integers(number)) if number and lot < COPIES + NEAR_COPIES else number
        drawn = _drawn(like, size, seed, weights)
        if like != number and lot >= COPIES:
            changed = rng.choice(len(drawn), max(len(drawn) // WORDS_BETWEEN_CHANGES, 1), replace=False)
            drawn[changed] = rng.integers(len(words), size=len(changed))
        text = _written(words[drawn].tolist(), np.random.default_rng([seed, like, 2]))
        title = text.split("\n", 1)[0].removeprefix("# ")
        yield {"id": f"doc-{number:08d}", "title": title, "text": text, "format": "markdown"}


def _drawn(number: int, size: int, seed: int, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Ranks of the words of one document; between half and one and a half times the expected length."""
    rng = np.random.default_rng([seed, number, 0])
    length = max(int(size * rng.uniform(0.5, 1.5) / CHARACTERS_A_WORD), 1)
    ranks: npt.NDArray[np.int64] = np.searchsorted(weights, rng.random(length) * weights[-1])
    return ranks


def _written(words: list[str], rng: np.random.Generator) -> str:
    """The words with sentences, paragraphs and headings."""
    blocks, start, sentences = ["# " + " ".join(words[:3]).capitalize()], 0, []
    while start < len(words):
        length = int(rng.integers(*SENTENCE_WORDS))
        sentences.append(" ".join(words[start : start + length]).capitalize() + ".")
        start += length
        if len(sentences) == PARAGRAPH_SENTENCES or start >= len(words):
            if len(blocks) % (SECTION_PARAGRAPHS + 1) == 0:
                blocks.append("## " + " ".join(words[start - length : start - length + 2]).capitalize())
            blocks.append(" ".join(sentences))
            sentences = []
    return "\n\n".join(blocks) + "\n"


def main() -> None:
    """Write the corpus; nothing of it is held in memory."""
    parser = argparse.ArgumentParser(prog="python -m tools.make_corpus", description=__doc__.split("\n")[0])
    parser.add_argument("n", type=int, help="documents")
    parser.add_argument("--size", type=int, default=2000, help="expected characters of a document")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True, help="the JSONL file")
    given = parser.parse_args()
    io.write_jsonl(documents(given.n, given.size, given.seed), given.out)


if __name__ == "__main__":
    main()
