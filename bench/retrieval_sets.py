"""Two public sets of questions as the benches read them, and what every bench over them does."""

import argparse
import gzip
import json
import logging
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ragline.types import Passage, QAExample

HELD_OUT = 10
"""One in so many documents with training questions is held out."""


@dataclass(frozen=True)
class Set:
    """A corpus with questions; gold passages that nest in one another are told apart."""

    name: str
    passages: list[Passage]
    train: list[QAExample]
    dev: list[QAExample]
    """Training questions that no arm trains on."""
    test: list[QAExample]
    """Questions that every arm is scored on."""
    nested: dict[str, frozenset[str]]
    """question_id → gold passages and those that contain them or are contained in them."""
    hard: dict[str, list[int]]
    """question_id → places of hard negatives as LocalRQA takes them: others of the same source."""


def faire(folder: Path) -> Set:
    """LocalRQA's own chunks; a question's gold document is found by source and text."""
    rows = list(_lines(folder / "documents.jsonl"))
    passages = [
        _passage(f"{row['metadata']['source']}#{n:04d}", row["metadata"]["source"], row["metadata"]["title"], text)
        for n, row in enumerate(rows)
        for text in [row["page_content"]]
    ]
    place = {(p.doc_id, p.text): n for n, p in reversed(list(enumerate(passages)))}

    def of(name: str) -> Iterator[tuple[QAExample, list[int]]]:
        for n, row in enumerate(_lines(folder / f"{name}_w_qa.jsonl")):
            found = [place.get((d["metadata"]["source"], d["page_content"])) for d in row["gold_docs"]]
            near = [place.get((d["metadata"]["source"], d["page_content"])) for d in row["hard_neg_docs"]]
            gold = [passages[p] for p in found if p is not None]
            question = _question(f"{name}{n:04d}", row["question"], [row["gold_answer"]], gold)
            yield question, [p for p in near if p is not None]

    learnt = list(of("train"))
    test = [question for question, _ in of("eval")]
    train, dev = held_out([q for q, _ in learnt])
    return Set("faire", passages, train, dev, test, _nested(test, passages), _hard(learnt))


def squad(folder: Path) -> Set:
    """Paragraphs of Wikipedia; hard negatives are two others of the same article."""
    with gzip.open(folder / "passages.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    passages = [_passage(f"{r['id'].replace('::', '#')}", r["id"].split("::")[0], r["title"], r["text"]) for r in rows]
    by_id = {row["id"]: passage for row, passage in zip(rows, passages, strict=True)}
    article: dict[str, list[int]] = {}
    for n, passage in enumerate(passages):
        article.setdefault(passage.doc_id, []).append(n)

    def of(name: str) -> list[QAExample]:
        return [
            _question(r["id"], r["question"], r["answers"], [by_id[g] for g in r["gold_ids"]])
            for r in _lines(folder / f"questions.{name}.jsonl")
        ]

    learnt, test = of("train"), [replace(q, cluster=q.gold_passage_ids[0]) for q in of("dev")]
    rng = random.Random(0)
    others = [[n for n in article[q.doc_id] if passages[n].passage_id not in q.gold_passage_ids] for q in learnt]
    near = [rng.sample(rest, min(2, len(rest))) for rest in others]
    nested = {q.question_id: frozenset(q.gold_passage_ids) for q in test}
    train, dev = held_out(learnt)
    return Set("squad", passages, train, dev, test, nested, _hard(list(zip(learnt, near, strict=True))))


def held_out(questions: Sequence[QAExample]) -> tuple[list[QAExample], list[QAExample]]:
    """To train on, and to choose on: the questions of every tenth document."""
    apart = set(sorted({q.doc_id for q in questions})[::HELD_OUT])
    return [q for q in questions if q.doc_id not in apart], [q for q in questions if q.doc_id in apart]


SETS: dict[str, Callable[[Path], Set]] = {"faire": faire, "squad": squad}


def add_sets(parser: argparse.ArgumentParser) -> None:
    """Arguments that `each_set` asks for."""
    parser.add_argument("--data", type=Path, required=True, help="folder with faire/ and squad/")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--work", type=Path, help="keep what is finished here, and take it from here")
    parser.add_argument("--out", type=Path, help="write all figures as JSON")


def each_set(
    given: argparse.Namespace,
    measure: Callable[[Set, Path], dict[str, Any]],
    table: Callable[[str, dict[str, Any]], str],
) -> None:
    """Measure every set that is there, print its table, and write the figures of all so far.

    Args:
        measure: takes a set and a folder where finished work is kept.
        table: takes a set's name and its figures.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    results = {}
    for name in given.sets:
        if not (given.data / name).is_dir():
            logging.info("%s: skipped, %s is not there", name, given.data / name)
            continue
        with tempfile.TemporaryDirectory() as folder:
            work = given.work or Path(folder)
            work.mkdir(parents=True, exist_ok=True)
            results[name] = measure(SETS[name](given.data / name), work)
        sys.stdout.write(table(name, results[name]))
        if given.out:
            given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _passage(passage_id: str, doc_id: str, title: str, text: str) -> Passage:
    return Passage(passage_id, doc_id, title, "", text, 0, len(text), 0, doc_id)


def _question(question_id: str, asked: str, answers: Sequence[str], gold: Sequence[Passage]) -> QAExample:
    home = gold[0].doc_id
    ids = tuple(p.passage_id for p in gold)
    return QAExample(question_id, asked, tuple(answers), home, 0, 0, ids, "imported", "train", home)


def _hard(learnt: Sequence[tuple[QAExample, list[int]]]) -> dict[str, list[int]]:
    return {question.question_id: near for question, near in learnt}


def _nested(questions: Sequence[QAExample], passages: Sequence[Passage]) -> dict[str, frozenset[str]]:
    bare = {p.passage_id: "".join(p.text.split()) for p in passages}

    def of(question: QAExample) -> frozenset[str]:
        gold = [bare[p] for p in question.gold_passage_ids]
        return frozenset(p for p, text in bare.items() if any(text in g or g in text for g in gold))

    return {q.question_id: of(q) for q in questions}
