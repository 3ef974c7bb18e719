"""Which passages a language model is asked about, and what kind of question about each.

Every choice hangs on the passage itself, not on its place among the others: a document that is edited, added or deleted
changes what is asked about it and next to nothing else, so that the next run pays for what changed.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ragline.io import digest
from ragline.text import word_tokens
from ragline.types import Document, Passage

KINDS = ("factoid", "procedural", "parameter", "comparison", "multi_hop", "unanswerable", "multi_turn")
IN_TWO = ("comparison", "multi_hop")
"""Kinds that need a second passage."""
MIN_WORDS = 15
TOPIC_BITS = 6
SIDE_BY_SIDE = 256
"""Passages whose partners are looked for at once."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question to be written."""

    kind: str
    passages: tuple[Passage, ...]
    """What it is about; the first one matters most."""

    @property
    def name(self) -> str:
        """For ledgers of what was dropped."""
        return f"{self.kind} on {' + '.join(p.passage_id for p in self.passages)}"


def plan(
    documents: Sequence[Document], passages: Sequence[Passage], weights: Mapping[str, int], count: int
) -> list[Item]:
    """Choose passages of many topics and documents, and a kind of question for each.

    Topics are buckets of a SimHash over content words, which give in turn. A document's second passage comes only after
    every document has given its first.

    Args:
        weights: kind to how often it comes; kinds with weight 0 never do.
        count: passages asked about, at most.
    """
    split_of = {d.doc_id: d.split for d in documents}
    eligible = [p for p in passages if len(word_tokens(p.text)) >= MIN_WORDS]
    chosen = _diverse(eligible, count)
    kinds = [_kind(p, weights) for p in chosen]
    partners = _partners([p for p, kind in zip(chosen, kinds, strict=True) if kind in IN_TWO], eligible, split_of)
    items: list[Item] = []
    for passage, kind in zip(chosen, kinds, strict=True):
        if kind not in IN_TWO:
            items.append(Item(kind, (passage,)))
        elif partner := partners.get(passage.passage_id):
            items.append(Item(kind, (passage, partner)))
        else:
            items.append(Item("factoid", (passage,)))  # nothing to compare it with
    return items


def _draw(*parts: str) -> float:
    """A number in [0, 1) that hangs on the parts alone."""
    return int(digest(*parts)[:13], 16) / 16**13


def _kind(passage: Passage, weights: Mapping[str, int]) -> str:
    place = _draw("kind", passage.title, passage.text) * sum(weights.values())
    for kind in KINDS:
        place -= weights.get(kind, 0)
        if place < 0:
            return kind
    raise AssertionError("weights add up to nothing")


def _diverse(passages: Sequence[Passage], count: int) -> list[Passage]:
    by_document: defaultdict[str, list[tuple[float, Passage]]] = defaultdict(list)
    for passage in passages:
        by_document[passage.cluster or passage.doc_id].append((_draw(passage.title, passage.text), passage))
    buckets: defaultdict[int, list[tuple[int, float, Passage]]] = defaultdict(list)
    for found in by_document.values():
        for turn, (drawn, passage) in enumerate(sorted(found, key=lambda pair: (pair[0], pair[1].passage_id))):
            buckets[_topic(passage)].append((turn, drawn, passage))
    ranked = [
        (turn, place, drawn, passage)
        for bucket in buckets.values()
        for place, (turn, drawn, passage) in enumerate(sorted(bucket, key=lambda row: (row[0], row[1])))
    ]
    ranked.sort(key=lambda row: (row[0], row[1], row[2], row[3].passage_id))
    return sorted((passage for *_, passage in ranked[:count]), key=lambda p: p.passage_id)


def _topic(passage: Passage) -> int:
    """SimHash: the sign of each of a few random projections of the words, counted once each."""
    sums = [0] * TOPIC_BITS
    for word in {w for w in word_tokens(f"{passage.title} {passage.text}") if len(w) > 3}:
        bits = int(digest(word)[:8], 16)
        for place in range(TOPIC_BITS):
            sums[place] += 1 if bits >> place & 1 else -1
    return sum(1 << place for place, total in enumerate(sums) if total > 0)


def _partners(
    asking: Sequence[Passage], passages: Sequence[Passage], split_of: Mapping[str, str]
) -> dict[str, Passage]:
    """For each passage the one of the same split that shares most words with it, never a near-duplicate's.

    Half of them look in their own document first. A question never joins two splits.
    """
    if not asking:
        return {}
    from sklearn.feature_extraction.text import HashingVectorizer

    hashing = HashingVectorizer(stop_words="english", alternate_sign=False, n_features=2**18)
    table = hashing.transform([f"{p.title}\n{p.text}" for p in passages])
    row_of = {p.passage_id: row for row, p in enumerate(passages)}
    found: dict[str, Passage] = {}
    for start in range(0, len(asking), SIDE_BY_SIDE):
        block = asking[start : start + SIDE_BY_SIDE]
        shared = (table[[row_of[p.passage_id] for p in block]] @ table.T).tocsr()  # (block, passages)
        for line, passage in enumerate(block):
            places, values = shared[line].indices, shared[line].data
            nearest = sorted(
                (-round(float(value), 6), passages[row].passage_id, row)
                for row, value in zip(places, values, strict=True)
            )
            ranked = [passages[row] for *_, row in nearest]
            near = _draw("near", passage.passage_id) < 0.5
            at_home = [p for p in ranked if p.doc_id == passage.doc_id and p.passage_id != passage.passage_id]
            elsewhere = [
                p for p in ranked if p.cluster != passage.cluster and split_of[p.doc_id] == split_of[passage.doc_id]
            ]
            for candidates in (at_home, elsewhere) if near else (elsewhere, at_home):
                if candidates:
                    found[passage.passage_id] = candidates[0]
                    break
    return found
