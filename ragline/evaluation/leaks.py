"""Does a question set leak: do train and the splits that measure share documents, gold passages or questions?

Four kinds, each counted per evaluation question, always between train and a split that measures:

- shared source: the same document (or near-duplicate cluster) stands behind both questions;
- shared gold: the same passage is gold for both;
- near-duplicate passage: the gold texts have a Jaccard similarity of character 5-grams of at least 0.8, case,
  punctuation and white space left aside: copies, re-wrapped text, small edits;
- near-duplicate question: the same question again, in the same or in other words.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ragline.errors import DataError
from ragline.evaluation.leak_items import Item, items_of_examples, items_of_localrqa
from ragline.evaluation.leak_passages import near_passages
from ragline.evaluation.leak_questions import Encode, near_questions
from ragline.evaluation.leak_report import KINDS, Kind, Leak, LeakReport, Limits
from ragline.types import SPLITS, Split

__all__ = [
    "KINDS", "Encode", "Item", "Kind", "Leak", "LeakReport", "Limits", "audit", "items_of_examples",
    "items_of_localrqa",
]  # fmt: skip


def audit(items: Iterable[Item], limits: Limits | None = None, encode: Encode | None = None) -> LeakReport:
    """Find what train gives away of every other split.

    Args:
        items: questions of train and of at least one other split; ids are unique within a split.
        limits: what `clean` tolerates; nothing by default.
        encode: texts → (n, d) float32, rows of unit length, to find rewordings that share few words.
            Without it, questions are compared by their words alone.

    Raises:
        DataError: no question in train or none elsewhere, or an id twice in a split.
    """
    of_split: dict[Split, list[Item]] = {split: [] for split in SPLITS}
    for item in items:
        of_split[item.split].append(item)
    _check(of_split)
    train = sorted(of_split["train"], key=lambda item: item.id)
    tests = [item for split in SPLITS[1:] for item in sorted(of_split[split], key=lambda item: item.id)]
    found: dict[Kind, Iterator[tuple[int, int, float]]] = {
        "shared_source": _shared([t.sources for t in tests], [t.sources for t in train]),
        "shared_gold": _shared([t.gold_ids for t in tests], [t.gold_ids for t in train]),
        "near_passage": near_passages(tests, train),
        "near_question": near_questions(tests, train, encode),
    }
    leaks = []
    for kind, rows in found.items():
        strongest = [
            Leak(kind, t.split, t.id, b.id, score, t.question, b.question)
            for t, b, score in ((tests[row], train[other], score) for row, other, score in rows)
        ]
        leaks += sorted(strongest, key=lambda leak: (SPLITS.index(leak.split), -leak.score, leak.question_id))
    counts = {split: len(members) for split, members in of_split.items() if members}
    return LeakReport(counts, tuple(leaks), limits or Limits())


def _check(of_split: Mapping[Split, Sequence[Item]]) -> None:
    if not of_split["train"] or not any(of_split[split] for split in SPLITS[1:]):
        counts = ", ".join(f"{len(members)} {split}" for split, members in of_split.items())
        raise DataError(f"audit: expected questions in train and in dev or test, got {counts}; name both files")
    for split, members in of_split.items():
        name, count = Counter(item.id for item in members).most_common(1)[0] if members else ("", 0)
        if count > 1:
            raise DataError(f"audit: expected unique ids in {split}, got {name!r} {count} times; rename all but one")


def _shared(tests: Sequence[Sequence[str]], train: Sequence[Sequence[str]]) -> Iterator[tuple[int, int, float]]:
    """(row, first row of train with the same name, 1) of every evaluation question that shares a name."""
    owner: dict[str, int] = {}
    for row, names in enumerate(train):
        for name in names:
            owner.setdefault(name, row)
    for row, names in enumerate(tests):
        if owners := [owner[name] for name in names if name in owner]:
            yield row, min(owners), 1.0
