"""BM25 over stemmed words, by bm25s."""

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import bm25s
import numpy as np
import numpy.typing as npt
from scipy import sparse

from ragline import io
from ragline.errors import ModelError
from ragline.retrieval.words import LANGUAGES, analyser
from ragline.types import Passage

K1, B = 1.2, 0.75
BLOCK = 4096
"""Passages whose terms are counted at once."""
ENTRIES = 1 << 20
"""Entries of the index scored at once."""

ANALYSIS = "analysis.json"
MEND = "run `dvc repro build_index`"

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LexicalIndex:
    """A BM25 index, and how the text in it was taken apart: a question has to be, likewise."""

    bm25: bm25s.BM25
    language: str
    passages: str
    """sha256 over ids and encoded texts of the passages, in order."""

    @property
    def size(self) -> int:
        """Passages in it."""
        return int(self.bm25.scores["num_docs"])


def build(passages: Iterable[Passage], language: str = "english") -> LexicalIndex:
    """Index title, headings and text of every passage; k1 = 1.2, b = 0.75.

    Passages are read once, and no text is kept: memory holds 16 bytes for each different term of each passage at the
    peak, 8 afterwards, and the vocabulary. The arrays are bm25s' own, to the byte; its own way to them holds every term
    as a Python object.

    Args:
        language: a name of `words.LANGUAGES`.

    Raises:
        ConfigError: no such language.
    """
    counts, vocabulary, lengths, digest = _count(passages, language)
    index = bm25s.BM25(k1=K1, b=B)
    index.scores = {
        "data": _scores(counts, lengths),
        "indices": counts.indices.astype(np.int32, copy=False),
        "indptr": counts.indptr.astype(np.int64, copy=False),
        "num_docs": len(lengths),
    }
    index.vocab_dict = vocabulary
    index.unique_token_ids_set = set(vocabulary.values())
    index.nonoccurrence_array = None
    return LexicalIndex(index, language, digest)


def _count(
    passages: Iterable[Passage], language: str
) -> tuple[sparse.csc_matrix, dict[str, int], npt.NDArray[np.int64], str]:
    """How often each passage has each term, (n_passages, n_terms) float32; the terms in order; lengths in terms;
    digest of the passages.
    """
    analyse = analyser(language)
    numbers: dict[str, int] = {}
    lengths, terms, times, distinct = array("q"), array("i"), array("f"), array("q")
    state = hashlib.sha256()
    for passage in passages:
        state.update(_mark(passage))
        found: dict[int, int] = {}
        analysed = analyse(passage.encoded_text)
        for term in analysed:
            number = numbers.setdefault(term, len(numbers))
            found[number] = found.get(number, 0) + 1
        lengths.append(len(analysed))
        distinct.append(len(found))
        terms.extend(found)
        times.extend(found.values())
    ordered = sorted(numbers)
    vocabulary = {term: number for number, term in enumerate(ordered)}
    renumber = np.empty(len(numbers), dtype=np.int32)
    renumber[[numbers[term] for term in ordered]] = np.arange(len(ordered), dtype=np.int32)
    starts = np.concatenate([[0], np.cumsum(np.frombuffer(distinct, dtype=np.int64))])
    columns = renumber[np.frombuffer(terms, dtype=np.int32)]
    data = np.frombuffer(times, dtype=np.float32)
    by_passage = sparse.csr_matrix((data, columns, starts), shape=(len(lengths), len(ordered)))
    return by_passage.tocsc(), vocabulary, np.array(lengths, dtype=np.int64), state.hexdigest()


def _mark(passage: Passage) -> bytes:
    return bytes.fromhex(io.digest(passage.passage_id, passage.encoded_text))


def _scores(counts: sparse.csc_matrix, lengths: npt.NDArray[np.int64]) -> Floats:
    """BM25 of every entry: idf · tf / (tf + k1 · (1 - b + b · length / mean length)); float32.

    Source: Lucene's form, as in Kamphuis et al., Which BM25 Do You Mean?, ECIR 2020.
    """
    passages = len(lengths)
    having = np.diff(counts.indptr)  # passages that have a term
    idf = np.log(1 + (passages - having + 0.5) / (having + 0.5)).astype(np.float32)
    scale = K1 * ((1 - B) + B * lengths / (lengths.mean() or 1.0)) if passages else np.empty(0)
    scores = np.empty(counts.nnz, dtype=np.float32)
    for start in range(0, counts.nnz, ENTRIES):
        part = slice(start, start + ENTRIES)
        times = counts.data[part]
        entries = np.arange(start, min(start + ENTRIES, counts.nnz))
        term = np.searchsorted(counts.indptr, entries, side="right") - 1
        scores[part] = idf[term] * (times / (scale[counts.indices[part]] + times))
    return scores


def search(
    index: LexicalIndex, questions: Sequence[str], k: int, allowed: Mask | None = None
) -> list[list[tuple[int, float]]]:
    """Best k rows for each question, best first, ties by row; rows that share no word are left out.

    A question of stop words, of punctuation, or in another script than the corpus finds nothing.

    Args:
        allowed: (n_passages,): rows that may be found; all where it is not given.
    """
    analyse = analyser(index.language)
    found: list[list[tuple[int, float]]] = []
    for question in questions:
        terms = index.bm25.get_tokens_ids(analyse(question))
        if not terms:
            found.append([])
            continue
        scores: Floats = index.bm25.get_scores_from_ids(terms)  # (n_passages,)
        some = scores > 0
        best = _best(scores, np.flatnonzero(some if allowed is None else some & allowed), k)
        found.append(list(zip(best.tolist(), scores[best].tolist(), strict=True)))
    return found


def _best(scores: Floats, rows: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
    """The best k of these rows, ties by row."""
    values = scores[rows]
    if k < len(rows):
        kept = values >= np.partition(values, -k)[-k]  # ties at the edge stay in until rows decide
        rows, values = rows[kept], values[kept]
    return rows[np.lexsort((rows, -values))][:k]


def write(index: LexicalIndex, folder: Path) -> None:
    """Write the index as plain arrays and JSON."""
    with io.whole_folder(folder) as part:
        index.bm25.save(str(part), show_progress=False)
        io.write_json({"language": index.language, "passages": index.passages}, part / ANALYSIS)


def read(folder: Path) -> LexicalIndex:
    """Read what `write` wrote, the arrays memory-mapped.

    Raises:
        MissingArtifact: names the stage that makes it.
        ModelError: the folder does not say how its text was taken apart or whose it is, or is damaged.
    """
    card = io.require_made(folder) / ANALYSIS
    found = io.read_json(card) if card.is_file() else None
    if not isinstance(found, dict) or found.get("language") not in LANGUAGES or not found.get("passages"):
        raise ModelError(f"{folder}: expected {ANALYSIS} with language and passages, got {found}; {MEND}")
    try:
        bm25 = bm25s.BM25.load(str(folder), mmap=True, show_progress=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder}: damaged index: {' '.join(str(error).split())[:200]}; {MEND}") from error
    return LexicalIndex(bm25, found["language"], found["passages"])


def check(index: LexicalIndex, passages: Sequence[Passage]) -> None:
    """Make sure that an index is one of these passages: a row would otherwise name a wrong one.

    Every text is read, so this belongs where an index and passages meet, not to each search.

    Raises:
        ModelError: it is not.
    """
    if index.size == len(passages):
        state = hashlib.sha256()
        for passage in passages:
            state.update(_mark(passage))
        if state.hexdigest() == index.passages:
            return
    raise ModelError(
        f"lexical index over other passages: expected these {len(passages)}, got {index.size} others; {MEND}"
    )
