"""What the built-in reader is pretrained on: docstrings of pinned packages and of the standard library.

The default corpus, pandas, is left out, and so is every passage that shares a sentence with it: the default test
questions ask about that text.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ragline.corpus.chunk import Chunker, chunk
from ragline.corpus.python_api import read_package
from ragline.text import sentences, word_tokens
from ragline.types import Document, Passage

PACKAGES = (
    *("numpy", "scipy", "sklearn", "sympy", "torch", "sqlalchemy", "pyarrow", "nltk", "narwhals", "seaborn"),
    *("asyncio", "collections", "decimal", "email", "logging", "statistics", "unittest"),
)
HELD_OUT = "networkx"
"""Teaches nothing; the dev loss and the answers are measured on it."""
FORBIDDEN = "pandas"
VARYING = ("# may vary", "Use of argument(s) ``{")
"""Marks of docstrings that scipy makes when it is imported, with numbers drawn anew and sets in any order: with one of
them in, no two starts would make the same lessons."""
MIN_SHARED_WORDS = 8
"""A shorter sentence, such as `Return a copy.`, belongs to nobody."""


@dataclass(frozen=True)
class Texts:
    """One package as the pipeline would see it."""

    package: str
    documents: tuple[Document, ...]
    passages: tuple[Passage, ...]
    """In order of their ids; those of `FORBIDDEN` are not among them."""
    left_out: int
    """Passages that share a sentence with what is forbidden."""


def read(package: str, chunker: Chunker, forbidden: frozenset[str]) -> Texts:
    """Read and cut the docstrings of an installed package, those that are the same at every start.

    Args:
        forbidden: sentences, as `signatures` gives them, that no passage may hold.

    Raises:
        ConfigError: the package is not installed.
    """
    documents = sorted(
        (one for one in _documents(package) if not any(mark in one.text for mark in VARYING)),
        key=lambda one: one.doc_id,
    )
    passages = sorted(
        (passage for document in documents for passage in chunk(document, chunker)), key=lambda p: p.passage_id
    )
    kept = tuple(passage for passage in passages if not forbidden & signatures(passage.text))
    return Texts(package, tuple(documents), kept, len(passages) - len(kept))


def forbidden_sentences(package: str = FORBIDDEN) -> frozenset[str]:
    """Every longer sentence of a package's docstrings.

    Raises:
        ConfigError: the package is not installed.
    """
    return frozenset().union(*(signatures(document.text) for document in _documents(package)))


def signatures(text: str) -> frozenset[str]:
    """The sentences of at least `MIN_SHARED_WORDS` words, as their words alone."""
    found = (word_tokens(text[span.start : span.end]) for span in sentences(text))
    return frozenset(" ".join(words) for words in found if len(words) >= MIN_SHARED_WORDS)


def _documents(package: str) -> Iterator[Document]:
    for found in read_package(package):
        if isinstance(found, Document):
            yield replace(found, cluster=found.doc_id)
