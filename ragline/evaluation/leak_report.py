"""What the leak audit says: leaks, the limits they are held to, and the report for a person or a file."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

from ragline.types import Split

Kind = Literal["shared_source", "shared_gold", "near_passage", "near_question"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_LABELS: dict[Kind, str] = {
    "shared_source": "share a document with train",
    "shared_gold": "share a gold passage with train",
    "near_passage": "have a gold passage nearly copied in train",
    "near_question": "are asked in train, too",
}


@dataclass(frozen=True, slots=True)
class Leak:
    """An evaluation question and what in train gives it away most."""

    kind: Kind
    split: Split
    question_id: str
    train_id: str
    score: float
    """1 for what is shared; else the similarity, in [0, 1]."""
    question: str
    train_question: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest share of a split's questions that may be affected, per kind, in [0, 1]."""

    shared_source: float = 0.0
    shared_gold: float = 0.0
    near_passage: float = 0.0
    near_question: float = 0.0

    def of(self, kind: Kind) -> float:
        """The limit of one kind."""
        limit: float = getattr(self, kind)
        return limit


@dataclass(frozen=True)
class LeakReport:
    """What leaks from train into each split that measures."""

    questions: Mapping[Split, int]
    """Number of questions of every split that has some."""
    leaks: tuple[Leak, ...]
    """At most one per kind and evaluation question, the strongest; by kind, split, falling score, id."""
    limits: Limits = field(default_factory=Limits)

    @cached_property
    def counts(self) -> dict[Split, dict[Kind, int]]:
        """Affected questions per evaluation split and kind."""
        found = Counter((leak.split, leak.kind) for leak in self.leaks)
        return {split: {kind: found[split, kind] for kind in KINDS} for split in self.questions if split != "train"}

    def share(self, split: Split, kind: Kind) -> float:
        """Share of a split's questions that are affected."""
        return self.counts[split][kind] / self.questions[split]

    def affected(self, split: Split) -> frozenset[str]:
        """Ids of the split's questions that leak in any way: what to leave out for a clean measurement."""
        return frozenset(leak.question_id for leak in self.leaks if leak.split == split)

    @property
    def clean(self) -> bool:
        """Whether no kind exceeds its limit in any split."""
        return not any(self._exceeds(split, kind) for split in self.counts for kind in KINDS)

    def examples(self, split: Split, kind: Kind, most: int) -> tuple[Leak, ...]:
        """The strongest leaks of one kind."""
        return tuple(leak for leak in self.leaks if (leak.split, leak.kind) == (split, kind))[:most]

    def lines(self, examples: int = 3) -> list[str]:
        """The report for a terminal."""
        lines = ["questions: " + ", ".join(f"{count:,} {split}" for split, count in self.questions.items())]
        for split in self.counts:
            lines += ["", f"{split}, of {self.questions[split]:,} questions"]
            for kind in KINDS:
                mark = "LEAK" if self._exceeds(split, kind) else "ok"
                count = self.counts[split][kind]
                limit = f"limit {self.limits.of(kind):.1%}"
                lines.append(f"  {mark:<5}{count:>7,} {self.share(split, kind):>6.1%}  {_LABELS[kind]} ({limit})")
                for leak in self.examples(split, kind, examples):
                    lines.append(f"         {leak.score:.2f}  {leak.question_id}: {_short(leak.question)}")
                    lines.append(f"               {leak.train_id}: {_short(leak.train_question)}")
        verdict = "clean: no split exceeds its limits" if self.clean else "not clean: see LEAK above"
        return [*lines, "", verdict]

    def as_dict(self, examples: int = 20) -> dict[str, Any]:
        """The report for `io.write_json`."""
        splits: dict[str, Any] = {}
        for split in self.counts:
            splits[split] = {"questions": self.questions[split], "affected": len(self.affected(split))}
            for kind in KINDS:
                splits[split][kind] = {
                    "questions": self.counts[split][kind],
                    "share": round(self.share(split, kind), 6),
                    "limit": self.limits.of(kind),
                    "examples": [
                        {
                            "question_id": leak.question_id,
                            "train_id": leak.train_id,
                            "score": round(leak.score, 4),
                            "question": leak.question,
                            "train_question": leak.train_question,
                        }
                        for leak in self.examples(split, kind, examples)
                    ],
                }
        return {"clean": self.clean, "train_questions": self.questions.get("train", 0), "splits": splits}

    def _exceeds(self, split: Split, kind: Kind) -> bool:
        return self.share(split, kind) > self.limits.of(kind)


def _short(text: str, most: int = 88) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
