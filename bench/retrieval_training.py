"""Contrastive training side by side: LocalRQA's, plain sentence-transformers', ours. One command, one table.

    python -m bench.retrieval_training --data DIR --sets faire squad --seeds 0 1 2 --work DIR --out results.json

DIR holds faire/ (documents.jsonl, train_w_qa.jsonl, eval_w_qa.jsonl; LocalRQA's format) and squad/ (passages.jsonl.gz,
questions.train.jsonl, questions.dev.jsonl); a set that is not there is skipped with a line. All start from the same
encoder, see the same training questions and the same passages, and stop after a number of steps fixed beforehand: the
evaluation questions choose nothing. Every training runs in a process of its own, which makes its peak memory its own,
and is kept under --work: an interrupted bench goes on from there.

Arms:

- bm25, base, hybrid: no training; the hybrid's weight is tuned on 200 training questions.
- localrqa: its loss and negatives (`losses.LocalRQALoss`), AdamW at 1e-5 with a cosine schedule and a tenth of warm-up,
  batch 64, dropout, texts of up to 512 tokens as `fmt_content`, vectors of any length searched by L2. A batch's
  passages are encoded in groups of like length, which spares padding and changes no gradient; --plain does without,
  for its speed as shipped.
- sentence-transformers: MultipleNegativesRankingLoss on (question, passage) and the trainer's defaults, three epochs.
- pairs: ours on exactly that, the same temperature, batch, epochs and texts: what the training itself costs.
- both, question: ours with hard negatives, one shared encoder or the questions' side alone.
"""

import argparse
import gzip
import json
import logging
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Normalize
from sentence_transformers.util import batch_to_device
from transformers import get_cosine_schedule_with_warmup

from ragline import io, repro
from ragline.evaluation import retrieval, significance
from ragline.io import Vectors
from ragline.retrieval import encoder, fuse, index, lexical, mine, search, train
from ragline.retrieval.encoder import Encoder
from ragline.retrieval.losses import Candidates, LocalRQALoss, distinct
from ragline.types import Passage, QAExample, Run

log = logging.getLogger(__name__)

BASE = "builtin:minilm"
DEPTH = 20
METRICS = ("recall@1", "recall@5", "mrr@10", "ndcg@10")
RESAMPLES = 2000
TRAINED = ("localrqa", "sentence-transformers", "pairs", "both", "question")
HYBRID_QUESTIONS = 200
GROUP = 16


@dataclass(frozen=True)
class Set:
    """A corpus with questions; gold passages that nest in one another are told apart."""

    name: str
    passages: list[Passage]
    train: list[QAExample]
    test: list[QAExample]
    """Questions that every arm is scored on."""
    nested: dict[str, frozenset[str]]
    """question_id → gold passages and those that contain them or are contained in them."""
    hard: dict[str, list[int]]
    """question_id → places of hard negatives as LocalRQA takes them: others of the same source."""


@dataclass(frozen=True)
class Trained:
    """What one training brought, and what it cost."""

    run: dict[str, dict[str, float]]
    seconds: float
    pairs: int
    """Training questions seen, counted as often as they were."""
    mining_s: float
    encoding_s: float
    passages: int
    """Encoded after training."""
    peak_mb: float


# --- data ----------------------------------------------------------------------------------------------------------


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
    return Set("faire", passages, [q for q, _ in learnt], test, _nested(test, passages), _hard(learnt))


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

    learnt, test = of("train"), of("dev")
    rng = random.Random(0)
    others = [[n for n in article[q.doc_id] if passages[n].passage_id not in q.gold_passage_ids] for q in learnt]
    near = [rng.sample(rest, min(2, len(rest))) for rest in others]
    nested = {q.question_id: frozenset(q.gold_passage_ids) for q in test}
    return Set("squad", passages, learnt, test, nested, _hard(list(zip(learnt, near, strict=True))))


SETS: dict[str, Callable[[Path], Set]] = {"faire": faire, "squad": squad}


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


def as_localrqa(passages: Sequence[Passage]) -> list[Passage]:
    """Passages whose text is LocalRQA's `fmt_content`."""
    return [replace(p, title="", text=f"Source: {p.doc_id}\nTitle: {p.title}\nContent:\n{p.text}") for p in passages]


# --- arms ----------------------------------------------------------------------------------------------------------


class InGroups(torch.nn.Module):
    """An encoder that takes a long column in groups of like length: the same vectors with less padding."""

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """`token_embeddings` and `attention_mask` of all rows, padded to the longest."""
        lengths = features["attention_mask"].sum(1)
        order = lengths.argsort()
        groups = order.split(GROUP)
        longest = int(lengths.max())
        states = []
        for rows in groups:
            width = int(lengths[rows].max())
            group = {name: column[rows, :width] for name, column in features.items() if torch.is_tensor(column)}
            found = self.model(group)["token_embeddings"]
            states.append(torch.nn.functional.pad(found, (0, 0, 0, longest - width)))
        mask = features["attention_mask"][:, :longest]
        return {"token_embeddings": torch.cat(states)[order.argsort()], "attention_mask": mask}


def by_localrqa(data: Set, seed: int, steps: int | None, plain: bool) -> Trained:
    """Its recipe in a plain loop."""
    repro.seed_everything(seed)
    full = encoder.load(BASE).questions
    model = SentenceTransformer(modules=[m for m in full.children() if not isinstance(m, Normalize)], device="cpu")
    model.to(repro.device())
    model.max_seq_length = 512
    passages = as_localrqa(data.passages)
    place = {p.passage_id: n for n, p in enumerate(passages)}
    examples = [q for q in data.train if len(data.hard[q.question_id]) == 2]
    rows = [[place[q.gold_passage_ids[0]], *data.hard[q.question_id]] for q in examples]
    candidates = Candidates(passages, np.array(rows, dtype=np.int64))
    loss = LocalRQALoss(model if plain else InGroups(model), candidates, 0.05, seed)
    batch = min(64, len(examples))
    total = steps or 200
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01)
    rate = get_cosine_schedule_with_warmup(optimizer, total // 10, total)
    rng = random.Random(seed)
    order: list[int] = []
    model.train()
    started = time.perf_counter()
    for _ in range(total):
        if len(order) < batch:
            order = rng.sample(range(len(examples)), len(examples))
        chosen, order = order[:batch], order[batch:]
        unique, _ = distinct(loss.rows(chosen), passages)
        texts = ([examples[n].question for n in chosen], [passages[row].encoded_text for row in unique])
        features = [batch_to_device(dict(model.preprocess(column)), repro.device()) for column in texts]
        loss(features, torch.tensor(chosen)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        rate.step()
    seconds = time.perf_counter() - started
    model.eval()
    started = time.perf_counter()
    with repro.half_precision():
        stored = model.encode([p.encoded_text for p in passages], batch_size=32, show_progress_bar=False)
    encoding_s = time.perf_counter() - started
    asked = model.encode([q.question for q in data.test], show_progress_bar=False)
    near = 2 * asked @ stored.T - (stored**2).sum(1)  # the nearest by L2 come first
    run = {q.question_id: _top(scores, passages) for q, scores in zip(data.test, near, strict=True)}
    return Trained(run, seconds, total * batch, 0.0, encoding_s, len(passages), _peak_mb())


def by_sentence_transformers(data: Set, seed: int, steps: int | None) -> Trained:
    """Its trainer and its usual loss as they come, at our batch size."""
    repro.seed_everything(seed)
    model = encoder.load(BASE).questions
    text = {p.passage_id: p.encoded_text for p in data.passages}
    table = Dataset.from_dict(
        {"anchor": [q.question for q in data.train], "positive": [text[q.gold_passage_ids[0]] for q in data.train]}
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=32,
            num_train_epochs=3,
            max_steps=steps or -1,
            seed=seed,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=repro.device().type == "cpu",
        )
        loss = MultipleNegativesRankingLoss(model)
        trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=table, loss=loss)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        done = trainer.state.global_step
    return _shared(data, model.eval(), seconds, min(done * 32, 3 * len(data.train)), 0.0)


def by_us(data: Set, seed: int, steps: int | None, store: Path, towers: str, hard: int, **schedule: Any) -> Trained:
    """Our training; stopped early by leaving questions out."""
    repro.seed_everything(seed)
    base = encoder.load(BASE)
    chosen = train.Schedule(**{"max_passage_tokens": 256, "evaluations": 1, "seed": seed} | schedule)
    most = len(data.train) if steps is None else max(1, steps * chosen.batch_size // chosen.epochs)
    questions = data.train[:most]
    vectors = corpus_vectors(base, data.passages, store)
    started = time.perf_counter()
    miner = mine.prepare(questions, data.passages, lexical.build(data.passages), mine.Rules(hard, 0.95))
    judged = miner.candidates(encoder.encode_questions(base, [q.question for q in questions]), vectors)
    negatives = [negative for block in judged for negative in mine.negatives(block)]
    examples, candidates = train.line_up(questions, data.passages, negatives, hard)
    mining_s = time.perf_counter() - started
    model = encoder.load(BASE).questions
    shared = towers == "both"
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        train.fit(model, examples, candidates, chosen, lambda _: 0.0, Path(folder) / "run", None if shared else vectors)
        seconds = time.perf_counter() - started
    pairs = len(examples) * chosen.epochs
    if shared:
        return _shared(data, model, seconds, pairs, mining_s)
    side = Encoder(model, base.passages, base.fingerprint)
    run = search.dense_run(_asked(data.test), side, index.build(vectors, "flat"), data.passages, DEPTH)
    return Trained(run, seconds, pairs, mining_s, 0.0, 0, _peak_mb())


def _shared(data: Set, model: SentenceTransformer, seconds: float, pairs: int, mining_s: float) -> Trained:
    tuned = encoder.pair(model, model)
    started = time.perf_counter()
    vectors = corpus_vectors(tuned, data.passages)
    encoding_s = time.perf_counter() - started
    run = search.dense_run(_asked(data.test), tuned, index.build(vectors, "flat"), data.passages, DEPTH)
    return Trained(run, seconds, pairs, mining_s, encoding_s, len(data.passages), _peak_mb())


def corpus_vectors(side: Encoder, passages: Sequence[Passage], store: Path | None = None) -> Vectors:
    """(n_passages, d) float32; nothing is taken from an earlier run, unless there is a store."""
    with tempfile.TemporaryDirectory() as folder:
        return encoder.encode_corpus(side, passages, store or Path(folder) / "store", Path(folder) / "vectors.npy")


def trained(arm: str, data: Set, seed: int, steps: int | None, plain: bool, store: Path) -> Trained:
    """One training of one arm; `store` holds vectors of the untrained encoder."""
    if arm == "localrqa":
        return by_localrqa(data, seed, steps, plain)
    if arm == "sentence-transformers":
        return by_sentence_transformers(data, seed, steps)
    same: dict[str, Any] = {"epochs": 3, "batch_size": 32, "learning_rate": 5e-5, "temperature": 0.05}
    if arm == "pairs":
        return by_us(data, seed, steps, store, "both", 0, **same)
    if arm == "both":
        return by_us(data, seed, steps, store, "both", 1, **same)
    frozen = {"epochs": 2, "learning_rate": 1e-4, "temperature": 0.03}
    return by_us(data, seed, steps, store, "question", 8, **same | frozen)


def untrained(data: Set, store: Path) -> dict[str, Run]:
    """bm25, base and hybrid."""
    base = encoder.load(BASE)
    vectors = corpus_vectors(base, data.passages, store)
    dense, words = index.build(vectors, "flat"), lexical.build(data.passages)

    def both(questions: Sequence[QAExample]) -> tuple[Run, Run]:
        asked = _asked(questions)
        found = search.dense_run(asked, base, dense, data.passages, 50)
        return found, search.lexical_run(asked, words, data.passages, 50)

    some = data.train[:: max(1, len(data.train) // HYBRID_QUESTIONS)]
    weight = fuse.tune(*both(some), DEPTH, lambda run: _means(scores(run, _gold(some)))["mrr@10"])
    runs = both(data.test)
    log.info("%s: hybrid weight %.2f", data.name, weight)
    return {"bm25": runs[1], "base": runs[0], "hybrid": fuse.convex(*runs, weight, DEPTH)}


def _asked(questions: Sequence[QAExample]) -> dict[str, str]:
    return {q.question_id: q.question for q in questions}


def _gold(questions: Sequence[QAExample]) -> dict[str, frozenset[str]]:
    return {q.question_id: frozenset(q.gold_passage_ids) for q in questions}


def _top(values: Vectors, passages: Sequence[Passage]) -> dict[str, float]:
    best = np.argsort(-values, kind="stable")[:DEPTH]
    return {passages[row].passage_id: float(values[row]) for row in best}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# --- scores --------------------------------------------------------------------------------------------------------


def scores(run: Run, gold: dict[str, frozenset[str]]) -> dict[str, dict[str, float]]:
    """metric → question_id → value."""
    return {name: values for name, values in retrieval.score(run, gold).items() if name in METRICS}


def _means(values: dict[str, dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean(list(by_question.values()))) for name, by_question in values.items()}


def over_seeds(tables: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Each question's mean over seeds, so that intervals speak of questions, not of seeds."""
    return {m: {q: float(np.mean([t[m][q] for t in tables])) for q in tables[0][m]} for m in tables[0]}


def measure(
    data: Set, arms: Sequence[str], seeds: Sequence[int], steps: int | None, plain: bool, work: Path
) -> dict[str, Any]:
    """Train and score everything on one set that `work` does not hold yet."""
    clusters = {q.question_id: q.cluster for q in data.test}
    runs: dict[str, list[Run]] = {name: [run] for name, run in untrained(data, work / "base").items()}
    costs: dict[str, list[dict[str, float]]] = {}
    for seed in seeds:
        for arm in arms:
            found = once(work / f"{data.name}-{arm}-{seed}.json", arm, data, seed, steps, plain, work / "base")
            runs.setdefault(arm, []).append(found.run)
            cost = {name: value for name, value in asdict(found).items() if name != "run"}
            cost["pairs_per_s"] = found.pairs / found.seconds
            cost["passages_per_s"] = found.passages / found.encoding_s if found.passages else 0.0
            costs.setdefault(arm, []).append(cost)
            log.info("%s: %s, seed %d: %s", data.name, arm, seed, {name: round(v, 2) for name, v in cost.items()})
    gold = _gold(data.test)
    tables = {arm: over_seeds([scores(run, gold) for run in many]) for arm, many in runs.items()}
    nested = {arm: over_seeds([scores(run, data.nested) for run in many]) for arm, many in runs.items()}
    return {
        "questions": len(data.test),
        "passages": len(data.passages),
        "seeds": len(seeds),
        "steps": steps,
        "scores": {
            arm: {m: asdict(significance.interval(v, clusters, RESAMPLES, 0)) for m, v in table.items()}
            for arm, table in tables.items()
        },
        "nested": {arm: _means(table) for arm, table in nested.items()},
        "against_base": _against(tables, "base", clusters),
        "against_localrqa": _against(tables, "localrqa", clusters) if "localrqa" in tables else {},
        "against_sentence_transformers": _against(tables, "sentence-transformers", clusters)
        if "sentence-transformers" in tables
        else {},
        "costs": costs,
    }


def _against(
    tables: dict[str, dict[str, dict[str, float]]], other: str, clusters: dict[str, str]
) -> dict[str, dict[str, Any]]:
    return {
        arm: {m: asdict(significance.paired(v, tables[other][m], clusters, RESAMPLES, 0)) for m, v in table.items()}
        for arm, table in tables.items()
        if arm != other
    }


def once(kept: Path, *training: Any) -> Trained:
    """What the file holds; where there is none, a training in a process of its own, and the file."""
    if not kept.is_file():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            io.write_json(asdict(pool.apply(trained, training)), kept)
    return Trained(**json.loads(kept.read_text(encoding="utf-8")))


def table(name: str, result: dict[str, Any]) -> str:
    """One set's figures in Markdown."""
    head = f"\n{name}: n = {result['questions']}, {result['passages']} passages, {result['seeds']} seeds\n\n"
    lines = ["| arm | " + " | ".join(METRICS) + " | nested recall@1 / @5 | pairs/s | passages/s | peak MB |"]
    lines.append("|" + "---|" * (len(METRICS) + 5))
    for arm, by_metric in result["scores"].items():
        cells = [f"{v['mean']:.3f} [{v['low']:.3f}, {v['high']:.3f}]" for v in (by_metric[m] for m in METRICS)]
        nested = result["nested"][arm]
        costs = result["costs"].get(arm, [])
        mean = [f"{np.mean([c[k] for c in costs]):.1f}" if costs else "" for k in ("pairs_per_s", "passages_per_s")]
        peak = f"{max(c['peak_mb'] for c in costs):.0f}" if costs else ""
        lines.append(
            f"| {arm} | {' | '.join(cells)} | {nested['recall@1']:.3f} / {nested['recall@5']:.3f} | "
            f"{' | '.join(mean)} | {peak} |"
        )
    for other in ("base", "localrqa", "sentence_transformers"):
        for arm, by_metric in result[f"against_{other}"].items():
            d = by_metric["mrr@10"]
            lines.append(f"\n{arm} - {other}: mrr@10 {d['difference']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]")
    return head + "\n".join(lines) + "\n"


def main() -> None:
    """Read the arguments, measure every set that is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with faire/ and squad/")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--arms", nargs="*", choices=TRAINED, default=list(TRAINED))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="stop every training after so many steps: for a trial")
    parser.add_argument("--plain", action="store_true", help="localrqa: one padded batch, as shipped")
    parser.add_argument("--work", type=Path, help="keep every finished training here, and take it from here")
    parser.add_argument("--out", type=Path, help="write all figures as JSON")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    results = {}
    for name in given.sets:
        if not (given.data / name).is_dir():
            log.info("%s: skipped, %s is not there", name, given.data / name)
            continue
        with tempfile.TemporaryDirectory() as folder:
            work = given.work or Path(folder)
            work.mkdir(parents=True, exist_ok=True)
            data = SETS[name](given.data / name)
            results[name] = measure(data, given.arms, given.seeds, given.steps, given.plain, work)
        sys.stdout.write(table(name, results[name]))
        if given.out:
            given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
