"""From what the sources gave to one corpus: no two documents with one id or one text."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ragline.corpus import near_duplicates, split
from ragline.corpus.spool import Rows, Spool, Texts
from ragline.errors import DataError
from ragline.types import SPLITS, Document, Drop, Split


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """Which rows of a spool are documents of the corpus, and which are only other names of them."""

    rows: Rows
    """(n,), in order of their ids."""
    copies: Mapping[int, Sequence[int]]
    """Row of a document → rows with the same text."""


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """The documents in order of their ids, read from the spool one at a time."""

    spool: Spool
    merged: Merged
    clusters: Sequence[str]
    """Cluster of each document, in the same order."""
    splits: Mapping[str, Split]
    """Cluster → split."""

    def __iter__(self) -> Iterator[Document]:
        for row, cluster in zip(self.merged.rows.tolist(), self.clusters, strict=True):
            document = self.spool[row]
            copies = [self.spool[copy] for copy in self.merged.copies.get(row, ())]
            names = {*document.aliases, *(name for copy in copies for name in (copy.doc_id, *copy.aliases))}
            aliases = tuple(sorted(names - {document.doc_id})) if copies else document.aliases
            yield replace(document, aliases=aliases, cluster=cluster, split=self.splits[cluster])


def merge(spool: Spool) -> tuple[Merged, list[Drop]]:
    """Keep the first document, by id, of each text; the others become its aliases.

    Returns:
        merged: rows of the spool.
        drops: one for each document that became an alias, in order of the ids, reason `duplicate text`.

    Raises:
        DataError: two documents have one id, or there is none.
    """
    if not len(spool):
        raise DataError("ingest.sources: no documents; expected at least one: mend the sources in params.yaml")
    ids = spool.doc_ids
    order = sorted(range(len(ids)), key=ids.__getitem__)
    for one, other in itertools.pairwise(order):
        if ids[one] == ids[other]:
            first, second = sorted((spool[one].source, spool[other].source))
            raise DataError(
                f"{ids[one]!r}: two documents with this id, from {first} and {second}; "
                "give one of them another id or leave one source out"
            )
    rows = np.array(order, dtype=np.int64)
    _, first_places, text_of = np.unique(spool.text_digests[rows], return_index=True, return_inverse=True)
    firsts = rows[first_places[text_of]]  # (n,): the row whose text each row has
    copies: dict[int, list[int]] = {}
    drops = []
    for row, kept in zip(rows[rows != firsts].tolist(), firsts[rows != firsts].tolist(), strict=True):
        copies.setdefault(kept, []).append(row)
        drops.append(Drop("ingest", ids[row], "duplicate text", f"same text as {ids[kept]}"))
    return Merged(rows[rows == firsts], copies), drops


def cluster_and_split(
    spool: Spool, merged: Merged, threshold: float, shares: Mapping[Split, float], seed: int
) -> Corpus:
    """Give every document its `cluster` and `split`; see `near_duplicates.clusters` and `split.assign`."""
    firsts = near_duplicates.clusters(Texts(spool, merged.rows), threshold)
    clusters = [spool.doc_ids[row] for row in merged.rows[firsts].tolist()]
    return Corpus(spool, merged, clusters, split.assign(clusters, shares, seed))


def counts(documents: Iterable[Document], drops: Sequence[Drop]) -> dict[str, Any]:
    """What the report says about the corpus."""
    sizes: Counter[str] = Counter()
    in_split: Counter[Split] = Counter()
    characters = aliases = 0
    for document in documents:
        sizes[document.cluster] += 1
        in_split[document.split] += 1
        characters += len(document.text)
        aliases += len(document.aliases)
    return {
        "documents": sizes.total(),
        "characters": characters,
        "aliases": aliases,
        "clusters": len(sizes),
        "largest_cluster": max(sizes.values()),
        "splits": {name: in_split[name] for name in SPLITS},
        "dropped": dict(sorted(Counter(d.reason for d in drops).items())),
    }
