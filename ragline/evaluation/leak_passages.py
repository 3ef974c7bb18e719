"""Gold texts that stand in train, too, perhaps re-wrapped or slightly edited.

Source: A. Broder, On the resemblance and containment of documents, 1997 (shingles, MinHash).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ragline.evaluation.leak_items import Item

if TYPE_CHECKING:
    from datasketch import MinHash

PASSAGE_JACCARD = 0.8
"""Of character 5-grams: one word in 20 replaced leaves about 0.85."""
SHINGLE_CHARACTERS = 5
PERMUTATIONS = 128
BANDING = (21, 6)
"""(bands, rows): a pair at 0.8 is overlooked with probability (1 - 0.8^6)^21 = 0.002, one at 0.9 with 1e-7; of pairs
at 0.3, as those that share a template are, 1.5 % are looked at."""
ESTIMATE_MARGIN = 0.15
"""Of MinHash's own estimate below the true similarity: four standard deviations at 0.8."""

_WORD = re.compile(r"\w+")


def near_passages(tests: Sequence[Item], train: Sequence[Item]) -> Iterator[tuple[int, int, float]]:
    """(row, row of train, similarity) of every evaluation question with a gold text close to one of train."""
    ours, theirs = _owners(tests), _owners(train)
    best: dict[str, tuple[float, int]] = {text: (1.0, theirs[text][0]) for text in ours if text in theirs}
    open_texts = [text for text in ours if text not in best]
    for text, other, score in _close_pairs(open_texts, list(theirs)):
        best[text] = min(best.get(text, (0.0, 0)), (score, theirs[other][0]), key=lambda pair: (-pair[0], pair[1]))
    strongest: dict[int, tuple[float, int]] = {}
    for text, found in best.items():
        for row in ours[text]:
            strongest[row] = min(strongest.get(row, found), found, key=lambda pair: (-pair[0], pair[1]))
    for row, (score, train_row) in sorted(strongest.items()):
        yield row, train_row, score


def _owners(items: Sequence[Item]) -> dict[str, list[int]]:
    """Plain gold text → rows that have it, ascending."""
    owners: dict[str, list[int]] = {}
    for row, item in enumerate(items):
        for text in dict.fromkeys(map(plain, item.gold_texts)):
            if text:
                owners.setdefault(text, []).append(row)
    return owners


def plain(text: str) -> str:
    """Lower-cased words with one blank between them."""
    return " ".join(_WORD.findall(text.lower()))


def _close_pairs(indexed: Sequence[str], streamed: Sequence[str]) -> Iterator[tuple[str, str, float]]:
    """(indexed text, streamed text, Jaccard) for all pairs at `PASSAGE_JACCARD` or above.

    Only the first side is held in the index: the smaller one, as evaluation splits are.
    """
    from datasketch import MinHashLSH

    lsh = MinHashLSH(num_perm=PERMUTATIONS, params=BANDING)
    signatures = np.empty((len(indexed), PERMUTATIONS), dtype=np.uint32)
    for row, (sketch, _) in enumerate(_sketched(indexed)):
        lsh.insert(row, sketch)
        signatures[row] = sketch.hashvalues
    for text, (sketch, mine) in zip(streamed, _sketched(streamed), strict=True):
        rows = np.asarray(sorted(lsh.query(sketch)), dtype=np.int64)
        estimates = (signatures[rows] == sketch.hashvalues).mean(axis=1)
        for row in rows[estimates >= PASSAGE_JACCARD - ESTIMATE_MARGIN].tolist():
            score = jaccard(mine, shingles(indexed[row]))
            if score >= PASSAGE_JACCARD:
                yield indexed[row], text, score


def shingles(plain: str) -> NDArray[np.uint64]:
    """Hashes of the character 5-grams, sorted and unique; a shorter text is filled up with blanks."""
    codes = np.frombuffer(plain.ljust(SHINGLE_CHARACTERS).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    hashes = np.zeros(len(codes) - SHINGLE_CHARACTERS + 1, dtype=np.uint64)
    for place in range(SHINGLE_CHARACTERS):  # wraps around at 2^64, as a hash may
        hashes = (hashes ^ codes[place : place + len(hashes)]) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return np.unique(hashes)


def _sketched(texts: Iterable[str]) -> Iterator[tuple["MinHash", NDArray[np.uint64]]]:
    """MinHash and shingles of each text; the library takes hashes of 32 bits."""
    from datasketch import MinHash

    empty = MinHash(num_perm=PERMUTATIONS, seed=1, hashfunc=int, scheme="affine32")
    for text in texts:
        grams, sketch = shingles(text), empty.copy()
        sketch.update_batch((grams & np.uint64(0xFFFFFFFF)).tolist())
        yield sketch, grams


def jaccard(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> float:
    """Similarity of two results of `shingles`, in [0, 1]."""
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)
