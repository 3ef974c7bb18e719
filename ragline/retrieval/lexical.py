"""BM25 over stemmed words, by bm25s."""

import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import bm25s
import numpy as np
import Stemmer

from ragline import io
from ragline.types import Passage

WORD = re.compile(r"[^\W_]+")
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
K1, B = 1.2, 0.75


def words(text: str) -> str:
    """Split identifiers into words: `read_csv`, `DataFrame.groupBy` → `read csv Data Frame group By`."""
    return " ".join(WORD.findall(CAMEL.sub(" ", text)))


def _tokens(texts: Sequence[str]) -> list[list[str]]:
    tokens: list[list[str]] = bm25s.tokenize(
        [words(text) for text in texts],
        token_pattern=r"(?u)\b\w+\b",
        stopwords="en",
        stemmer=Stemmer.Stemmer("english"),
        return_ids=False,
        show_progress=False,
    )
    return tokens


def build(passages: Sequence[Passage]) -> bm25s.BM25:
    """Index title, headings and text of every passage; k1 = 1.2, b = 0.75."""
    index = bm25s.BM25(k1=K1, b=B)
    tokens = _tokens([p.encoded_text for p in passages])
    vocabulary = {word: number for number, word in enumerate(sorted(set(chain.from_iterable(tokens))))}
    rows = [[vocabulary[word] for word in words_of] for words_of in tokens]
    index.index((rows, vocabulary), show_progress=False)  # numbered here, or it would follow the hash seed
    return index


def search(index: bm25s.BM25, questions: Sequence[str], k: int) -> list[list[tuple[int, float]]]:
    """Best k rows for each question, best first, ties by row; rows that share no word are left out."""
    size = index.scores["num_docs"]
    found: list[list[tuple[int, float]]] = []
    for tokens in _tokens(questions):
        scores = index.get_scores(tokens) if tokens else []
        hits = [(int(row), float(scores[row])) for row in _best(scores, min(k, size))]
        found.append([hit for hit in hits if hit[1] > 0])
    return found


def _best(scores: Sequence[float], k: int) -> list[int]:
    array = np.asarray(scores)
    if array.size == 0:
        return []
    top = np.argpartition(-array, k - 1)[:k] if k < array.size else np.arange(array.size)
    edge = array[top].min()
    ties = np.flatnonzero(array >= edge)  # argpartition breaks ties at the edge as it likes; row order must
    return [int(row) for row in ties[np.lexsort((ties, -array[ties]))][:k]]


def write(index: bm25s.BM25, folder: Path) -> None:
    """Write the index as plain arrays and JSON."""
    with io.whole_folder(folder) as part:
        index.save(str(part), show_progress=False)


def read(folder: Path) -> bm25s.BM25:
    """Read what `write` wrote, the arrays memory-mapped.

    Raises:
        MissingArtifact: names the stage that makes it.
    """
    return bm25s.BM25.load(str(io.require_made(folder)), mmap=True, show_progress=False)
