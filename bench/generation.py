"""Ways to teach the built-in reader, side by side over one frozen search. One command, one table.

    python -m bench.generation --data DIR --sets squad faire --seeds 0 --work DIR --out results.json

DIR holds faire/ and squad/ as for `bench.retrieval_training`; a set that is not there is skipped with a line. Search is
the untrained encoder with BM25, its weight chosen on training questions of a tenth of the documents, which no arm
trains on; their loss also picks the checkpoint. The evaluation questions choose nothing. Every arm runs in a process
of its own and is kept under --work: an interrupted bench goes on from there.

Intervals are over documents; of SQuAD, whose dev questions come from five articles, over paragraphs.

Arms, all reading the same passages in the end:

- extractive: the closest sentence, no training.
- zero-shot: the reader as it is shipped.
- sft: tuned on gold passages alone.
- swr: gold among distractors that search finds, a fifth of the questions without gold and told to decline.
- fid: the best passages found, gold among them.
"""

import argparse
import logging
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.kept import once, peak_mb
from bench.retrieval_sets import Set, add_sets, each_set
from bench.retrieval_training import untrained, with_words
from ragline import io, repro
from ragline.evaluation import answers, significance
from ragline.generation import backends, fid, lessons, train
from ragline.generation.generator import Generator
from ragline.generation.train import Lesson
from ragline.retrieval import encoder
from ragline.training import Schedule, evenly
from ragline.types import Hit, Passage, QAExample, Run

log = logging.getLogger(__name__)

READER = "builtin:minilm-reader"
METRICS = ("answer_em", "answer_f1", "rouge_l")
TUNED = ("sft", "swr", "fid")
ARMS = ("extractive", "zero-shot", *TUNED)
DEV = 128
"""Held-out questions that the dev loss is taken on."""
WITHOUT_GOLD = 0.2
RESAMPLES = 2000


@dataclass(frozen=True)
class How:
    """What all arms share."""

    passages: int
    max_input_tokens: int
    max_answer_tokens: int
    epochs: int
    batch_size: int
    learning_rate: float
    examples: int
    """Training questions at most, taken evenly."""


@dataclass(frozen=True)
class Answered:
    """What an arm said, and what it cost."""

    said: dict[str, str]
    """question_id → answer; empty where it declines."""
    trained_s: float
    answered_s: float
    peak_mb: float


# --- arms ----------------------------------------------------------------------------------------------------------


def found(data: Set, store: Path) -> Run:
    """The frozen search over all questions."""
    posed = replace(data, test=[*data.test, *data.train])
    runs = untrained(posed, store)
    return with_words(posed, runs["base"], runs["bm25"])


def answered(arm: str, data: Set, run: Run, how: How, seed: int) -> Answered:
    """Train, where the arm does, and answer the evaluation questions."""
    repro.seed_everything(seed)
    texts = {p.passage_id: p for p in data.passages}
    started = time.perf_counter()
    answerer = _answerer(arm, data, run, texts, how, seed)
    trained_s = time.perf_counter() - started
    hits = [[Hit(texts[p], score) for p, score in [*run[q.question_id].items()][: how.passages]] for q in data.test]
    started = time.perf_counter()
    written = answerer.answer([q.question for q in data.test], hits)
    answered_s = time.perf_counter() - started
    said = {q.question_id: one.text for q, one in zip(data.test, written, strict=True)}
    return Answered(said, trained_s if arm in TUNED else 0.0, answered_s, peak_mb())


def _answerer(arm: str, data: Set, run: Run, texts: dict[str, Passage], how: How, seed: int) -> Generator:
    if arm == "extractive":
        base = encoder.load("builtin:minilm")
        return backends.Extractive(
            lambda asked: encoder.encode_questions(base, asked), lambda said: encoder.encode_passages(base, said)
        )
    config = fid.ReaderConfig(fid.ENCODERS[READER], how.passages, how.max_input_tokens, how.max_answer_tokens)
    reader = fid.warm_start(READER, config)
    if arm in TUNED:
        rng = random.Random(seed)
        learnt, dev = (
            _lessons(arm, questions, run, texts, how.passages, rng)
            for questions in (evenly(data.train, how.examples), evenly(data.dev, DEV))
        )
        schedule = Schedule(how.epochs, how.batch_size, how.learning_rate, evaluations=2 * how.epochs, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            train.fit(reader, learnt, dev, schedule, Path(folder) / "run")
    return backends.Fusion(reader)


def _lessons(
    arm: str, questions: Sequence[QAExample], run: Run, texts: dict[str, Passage], passages: int, rng: random.Random
) -> list[Lesson]:
    """What the reader is shown of each question; it does not cite."""

    def read(places: Sequence[str]) -> tuple[str, ...]:
        return tuple(texts[p].encoded_text for p in places)

    if arm == "fid":
        shown = [train.choose_passages([*run[q.question_id]], q.gold_passage_ids, passages, rng) for q in questions]
        return [Lesson(q.question, read(ids), q.answers[0]) for q, ids in zip(questions, shown, strict=True)]
    near = _distractors if arm == "swr" else lambda *_: []
    material = [
        lessons.Material(q.question, q.answers[0], read(q.gold_passage_ids), read(near(q, run, texts)))
        for q in questions
    ]
    if arm == "sft":
        return lessons.supervised(material, passages, cites=False)
    return lessons.among_distractors(material, passages, WITHOUT_GOLD, rng, cites=False)


def _distractors(question: QAExample, run: Run, texts: dict[str, Passage]) -> list[str]:
    """Passages found that hold none of the answers word for word."""
    wanted = [f" {answers.normalize(answer)} " for answer in question.answers]
    return [
        p
        for p in run[question.question_id]
        if p not in question.gold_passage_ids
        and not any(answer in f" {answers.normalize(texts[p].text)} " for answer in wanted)
    ]


# --- scores --------------------------------------------------------------------------------------------------------


def measure(data: Set, arms: Sequence[str], seeds: Sequence[int], how: How, work: Path) -> dict[str, Any]:
    """Train, answer and score everything on one set that `work` does not hold yet."""
    run: Run = once(work / f"{data.name}-found.json", _found, data, work / "base")["run"]
    clusters = {q.question_id: q.cluster for q in data.test}
    references = {q.question_id: q.answers for q in data.test}
    ranked = {q.question_id: [*run[q.question_id]][: how.passages] for q in data.test}
    tables: dict[str, dict[str, dict[str, float]]] = {}
    costs: dict[str, list[dict[str, float]]] = {}
    said: dict[str, dict[str, str]] = {}
    for arm in arms:
        many = []
        for seed in seeds if arm in TUNED else seeds[:1]:
            kept = work / f"{data.name}-{arm}-{seed}-{io.digest(repr(how))[:8]}.json"
            got = Answered(**once(kept, answered, arm, data, run, how, seed))
            many.append(answers.score(got.said, references))
            texts = [got.said[q] for q in references]
            cost = {
                "trained_s": got.trained_s,
                "questions_per_s": len(texts) / got.answered_s,
                "peak_mb": got.peak_mb,
                "declined": sum(not text for text in texts) / len(texts),
                "bleu": answers.corpus_bleu(texts, list(references.values())),
            }
            costs.setdefault(arm, []).append(cost)
            said.setdefault(arm, got.said)
            log.info("%s: %s, seed %d: %s", data.name, arm, seed, {name: round(v, 3) for name, v in cost.items()})
        tables[arm] = {m: {q: sum(table[m][q] for table in many) / len(many) for q in references} for m in METRICS}
    return {
        "questions": len(data.test),
        "passages": len(data.passages),
        "how": asdict(how),
        "seeds": len(seeds),
        "gold_found": sum(bool({*ranked[q.question_id]} & {*q.gold_passage_ids}) for q in data.test) / len(data.test),
        "scores": {
            arm: {m: asdict(significance.interval(v, clusters, RESAMPLES, 0)) for m, v in table.items()}
            for arm, table in tables.items()
        },
        "against": {
            f"{arm} - {other}": {
                m: asdict(significance.paired(v, tables[other][m], clusters, RESAMPLES, 0)) for m, v in table.items()
            }
            for place, other in enumerate(tables)
            for arm, table in [*tables.items()][place + 1 :]
        },
        "costs": costs,
        "said": said,
    }


@dataclass(frozen=True)
class _Found:
    run: Run


def _found(data: Set, store: Path) -> _Found:
    return _Found(found(data, store))


def table(name: str, result: dict[str, Any]) -> str:
    """One set's figures in Markdown."""
    lines = [
        f"\n{name}: n = {result['questions']}, {result['passages']} passages, gold among those read for "
        f"{result['gold_found']:.3f}, {result['seeds']} seeds\n",
        "| arm | " + " | ".join(METRICS) + " | BLEU | declined | training s | answers/s | peak MB |",
        "|" + "---|" * (len(METRICS) + 6),
    ]
    for arm, by_metric in result["scores"].items():
        cells = [f"{v['mean']:.3f} [{v['low']:.3f}, {v['high']:.3f}]" for v in (by_metric[m] for m in METRICS)]
        costs = result["costs"][arm]
        mean = {name: sum(cost[name] for cost in costs) / len(costs) for name in costs[0]}
        lines.append(
            f"| {arm} | {' | '.join(cells)} | {mean['bleu']:.3f} | {mean['declined']:.3f} | {mean['trained_s']:.0f} | "
            f"{mean['questions_per_s']:.1f} | {max(cost['peak_mb'] for cost in costs):.0f} |"
        )
    lines.append("\n| difference | " + " | ".join(METRICS) + " |\n" + "|---" * (len(METRICS) + 1) + "|")
    for what, by_metric in result["against"].items():
        cells = [f"{d['difference']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]" for d in by_metric.values()]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the arguments, measure every set that is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_sets(parser)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--passages", type=int, default=3)
    parser.add_argument("--max-input-tokens", type=int, default=256)
    parser.add_argument("--max-answer-tokens", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--examples", type=int, default=10_000, help="training questions at most")
    given = parser.parse_args()
    how = How(**{name: getattr(given, name) for name in How.__dataclass_fields__})
    each_set(given, lambda data, work: measure(data, given.arms, given.seeds, how, work), table)


if __name__ == "__main__":
    main()
