"""Clusters of near-duplicate documents, so that no text stands in two splits in slightly other words.

Source: A. Broder, On the resemblance and containment of documents, 1997 (shingles, MinHash);
J. Leskovec, A. Rajaraman, J. Ullman, Mining of Massive Datasets, chapter 3 (banding).
"""

import re
from collections.abc import Mapping

from datasketch import MinHash, MinHashLSH

SHINGLE_WORDS = 5
PERMUTATIONS = 128
MISS = 1e-6
"""Largest chance that two documents just at the threshold are never compared."""

_WORD = re.compile(r"\w+")


def clusters(texts: Mapping[str, str], threshold: float) -> dict[str, str]:
    """Join documents whose sets of word 5-grams have a Jaccard similarity of at least `threshold`.

    Similarity is joined through: if a ~ b and b ~ c, all three are one cluster, for otherwise two
    near-duplicates could fall into different splits. MinHash finds the candidates, with a chance of
    at most `MISS` to overlook a pair (more below a threshold of 0.11); each is then compared exactly.

    Args:
        texts: doc_id → text. A text of fewer than five words is one shingle, one without words its own.
        threshold: above 0, at most 1.

    Returns:
        doc_id → id of its cluster, the smallest doc_id in it.
    """
    shingled = {doc_id: shingles(texts[doc_id]) for doc_id in sorted(texts)}
    bands, rows = _banding(threshold)
    lsh = MinHashLSH(num_perm=PERMUTATIONS, params=(bands, rows))
    parent = {doc_id: doc_id for doc_id in shingled}
    for doc_id, grams in shingled.items():
        sketch = MinHash(num_perm=PERMUTATIONS, seed=1)
        sketch.update_batch([gram.encode("utf-8") for gram in sorted(grams)])
        for other in sorted(lsh.query(sketch)):
            first, second = sorted((_top(parent, doc_id), _top(parent, other)))
            if first != second and jaccard(grams, shingled[other]) >= threshold:
                parent[second] = first
        lsh.insert(doc_id, sketch)
    return {doc_id: _top(parent, doc_id) for doc_id in shingled}


def shingles(text: str) -> frozenset[str]:
    """Word 5-grams in lower case; never empty."""
    words = _WORD.findall(text.lower())
    if not words:
        return frozenset({text})
    size = min(SHINGLE_WORDS, len(words))
    return frozenset(" ".join(words[start : start + size]) for start in range(len(words) - size + 1))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Size of the intersection over size of the union, in [0, 1]."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


def _banding(threshold: float) -> tuple[int, int]:
    """(bands, rows): as many rows as keep the chance of a miss, (1 - threshold^rows)^bands, below `MISS`."""
    rows_tried = range(PERMUTATIONS // 2, 0, -1)  # the library wants two bands at least
    fitting = (rows for rows in rows_tried if (1 - threshold**rows) ** (PERMUTATIONS // rows) <= MISS)
    rows = next(fitting, 1)
    return PERMUTATIONS // rows, rows


def _top(parent: dict[str, str], doc_id: str) -> str:
    while parent[doc_id] != doc_id:
        parent[doc_id] = parent[parent[doc_id]]
        doc_id = parent[doc_id]
    return doc_id
