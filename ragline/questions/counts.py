"""What became of the candidates, in numbers; and that no split went without."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from ragline.errors import DataError
from ragline.types import SPLITS, Document, Drop, QAExample, Split


def counts(examples: Sequence[QAExample], drops: Sequence[Drop]) -> dict[str, Any]:
    """Candidates = questions of the three splits + dropped."""
    splits = Counter(example.split for example in examples)
    return {
        "candidates": len(examples) + len(drops),
        **{split: splits[split] for split in SPLITS},
        "kinds": dict(sorted(Counter(example.kind for example in examples).items())),
        "dropped": dict(sorted(Counter(drop.reason for drop in drops).items())),
    }


def refuse_empty(splits: Iterable[Split], examples: Sequence[QAExample], documents: Sequence[Document]) -> None:
    """Make sure that every one of the splits has a question that can be answered.

    Raises:
        DataError: names the first that has none.
    """
    asked = Counter(example.split for example in examples if example.answerable)
    held = Counter(document.split for document in documents)
    for split in splits:
        if not asked[split]:
            raise DataError(
                f"split {split}: expected questions, got none from its {held[split]} documents (of {len(documents)}); "
                "add documents, or change ingest.splits, ingest.seed or generate_qa.method"
            )


def straddling_clusters(examples: Iterable[QAExample]) -> int:
    """Clusters of near-duplicate documents whose questions stand in more than one split."""
    splits: defaultdict[str, set[Split]] = defaultdict(set)
    for example in examples:
        if example.cluster:
            splits[example.cluster].add(example.split)
    return sum(len(found) > 1 for found in splits.values())
