"""What an answerer reads of what was found: a passage, or the larger stretch of the document around it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from ragline.types import Hit, Passage


class Reading:
    """The passages of a corpus, by id, and those that share a parent together."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.by_id = {passage.passage_id: passage for passage in passages}
        self.children: dict[str, list[Passage]] = {}
        for passage in passages:
            if passage.parent:
                self.children.setdefault(passage.parent, []).append(passage)

    def place(self, passage_id: str) -> str:
        """The same for passages that are read together: the parent's id, or the passage's own."""
        return self.by_id[passage_id].parent or passage_id

    def places(self, passage_ids: Iterable[str]) -> list[str]:
        """The places of passages, each once, in the order given."""
        return list(dict.fromkeys(map(self.place, passage_ids)))

    def passage(self, passage_id: str) -> Passage:
        """The passage under its own id, with the text, span and page of its parent where it has one."""
        found = self.by_id[passage_id]
        return replace(joined(self.children[found.parent]), passage_id=passage_id) if found.parent else found

    def hits(self, scores: Mapping[str, float], k: int) -> list[Hit]:
        """The k best of a run, best first; of passages that share a parent only the best one."""
        return list(islice(self._distinct(scores.items()), k))

    def _distinct(self, scores: Iterable[tuple[str, float]]) -> Iterable[Hit]:
        seen: set[str] = set()
        for passage_id, score in scores:
            place = self.place(passage_id)
            if place not in seen:
                seen.add(place)
                yield Hit(self.passage(passage_id), score)


def joined(children: Sequence[Passage]) -> Passage:
    """One passage over neighbours in document order, overlaps taken once; `tokens` is the sum of theirs."""
    first, last = children[0], children[-1]
    text = ""
    for child in children:
        text += child.text[len(text) - (child.start - first.start) :]
    return replace(first, text=text, end=last.end, tokens=sum(child.tokens for child in children), parent="")
