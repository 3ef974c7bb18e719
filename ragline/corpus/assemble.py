"""From what the sources gave to one corpus: no two documents with one id or one text."""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ragline.corpus import near_duplicates, split
from ragline.errors import DataError
from ragline.types import SPLITS, Document, Drop, Split


def merge(documents: Iterable[Document]) -> tuple[list[Document], list[Drop]]:
    """Keep the first document, by id, of each text; the others become its aliases.

    Returns:
        documents: sorted by doc_id.
        drops: one for each document that became an alias, reason `duplicate text`.

    Raises:
        DataError: two documents have one id, one cannot be written as UTF-8, or there is none.
    """
    ordered = sorted(documents, key=lambda d: (d.doc_id, d.source))
    if not ordered:
        raise DataError("ingest.sources: no documents; expected at least one: mend the sources in params.yaml")
    for one, other in itertools.pairwise(ordered):
        if one.doc_id == other.doc_id:
            raise DataError(
                f"{one.doc_id!r}: two documents with this id, from {one.source} and {other.source}; "
                "give one of them another id or leave one source out"
            )
    for document in ordered:
        _require_utf8(document)
    kept: dict[str, Document] = {}
    drops = []
    for document in ordered:
        if first := kept.get(document.text):
            names = {*first.aliases, document.doc_id, *document.aliases} - {first.doc_id}
            kept[document.text] = replace(first, aliases=tuple(sorted(names)))
            drops.append(Drop("ingest", document.doc_id, "duplicate text", f"same text as {first.doc_id}"))
        else:
            kept[document.text] = document
    return list(kept.values()), drops


def _require_utf8(document: Document) -> None:
    for field in ("doc_id", "source", "title", "text"):
        value = getattr(document, field)
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(
                f"{document.source!a}: {field}: expected text that UTF-8 can hold, got {value[error.start]!a} "
                f"at character {error.start}; mend the text, or rename the file"
            ) from None


def cluster_and_split(
    documents: Sequence[Document], threshold: float, shares: Mapping[Split, float], seed: int
) -> list[Document]:
    """Set `cluster` and `split` of every document; see `near_duplicates.clusters` and `split.assign`."""
    cluster_of = near_duplicates.clusters({d.doc_id: d.text for d in documents}, threshold)
    split_of = split.assign(cluster_of.values(), shares, seed)
    return [replace(d, cluster=cluster_of[d.doc_id], split=split_of[cluster_of[d.doc_id]]) for d in documents]


def counts(documents: Sequence[Document], drops: Sequence[Drop]) -> dict[str, Any]:
    """What the report says about the corpus."""
    sizes = Counter(d.cluster for d in documents)
    in_split = Counter(d.split for d in documents)
    return {
        "documents": len(documents),
        "characters": sum(len(d.text) for d in documents),
        "aliases": sum(len(d.aliases) for d in documents),
        "clusters": len(sizes),
        "largest_cluster": max(sizes.values()),
        "splits": {name: in_split[name] for name in SPLITS},
        "dropped": dict(sorted(Counter(d.reason for d in drops).items())),
    }
