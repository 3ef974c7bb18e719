"""Contrastive training side by side: LocalRQA's, plain sentence-transformers', ours. One command, one table.

    python -m bench.retrieval_training --data DIR --sets faire squad --seeds 0 1 2 --work DIR --out results.json

DIR holds faire/ (documents.jsonl, train_w_qa.jsonl, eval_w_qa.jsonl; LocalRQA's format) and squad/ (passages.jsonl.gz,
questions.train.jsonl, questions.dev.jsonl); a set that is not there is skipped with a line. All start from the same
encoder, see the same training questions and the same passages, and stop where it was fixed beforehand: each where its
own recipe says, or with --epochs all when they have seen the questions equally often. The evaluation questions choose
nothing. Training questions of a tenth of the documents are held out from every training:
on them the weight of hybrid search is chosen, for each encoder its own. Every training runs in a process of its own,
which makes its peak memory its own, and is kept under --work: an interrupted bench goes on from there.

Intervals are over documents; of SQuAD, whose dev questions come from five articles, over paragraphs: they speak of
other paragraphs of these articles, not of other articles.

Arms, each alone and as `NAME + bm25`, hybrid search with it:

- bm25, base: no training.
- localrqa: its loss and negatives (`losses.LocalRQALoss`), AdamW at 1e-5 with a cosine schedule and a tenth of warm-up,
  batch 64, dropout, texts of up to 512 tokens as `fmt_content`, vectors of any length searched by L2. A batch's
  passages are encoded in groups of like length, which spares padding and changes no gradient; --plain does without,
  for its speed as shipped.
- sentence-transformers: MultipleNegativesRankingLoss on (question, passage) and the trainer's defaults, three epochs.
- pairs: ours on exactly that, the same temperature, batch, epochs and texts: what the training itself costs.
- both, question: ours with hard negatives, one shared encoder (one epoch) or the questions' side alone (two).
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

from bench.kept import once, peak_mb
from bench.retrieval_sets import Set, add_sets, each_set
from ragline import repro
from ragline.evaluation import retrieval, significance
from ragline.io import Vectors
from ragline.retrieval import encoder, fuse, index, lexical, mine, search, train
from ragline.retrieval.encoder import Encoder
from ragline.retrieval.losses import Candidates, LocalRQALoss, distinct
from ragline.types import Passage, QAExample, Run

log = logging.getLogger(__name__)

BASE = "builtin:minilm"
DEPTH = 50
METRICS = ("recall@1", "recall@5", "mrr@10", "ndcg@10")
RESAMPLES = 2000
BESIDE = ("bm25", "base", "localrqa", "sentence-transformers")
"""Arms that every other is compared with."""
TRAINED = ("localrqa", "sentence-transformers", "pairs", "both", "question")
GROUP = 16


@dataclass(frozen=True)
class Trained:
    """What one training brought, and what it cost."""

    run: Run
    """Of the questions of `Set.test` and `Set.dev`."""
    seconds: float
    pairs: int
    """Training questions seen, counted as often as they were."""
    mining_s: float
    encoding_s: float
    passages: int
    """Encoded after training."""
    peak_mb: float


# --- arms ----------------------------------------------------------------------------------------------------------


def as_localrqa(passages: Sequence[Passage]) -> list[Passage]:
    """Passages whose text is LocalRQA's `fmt_content`."""
    return [replace(p, title="", text=f"Source: {p.doc_id}\nTitle: {p.title}\nContent:\n{p.text}") for p in passages]


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


def by_localrqa(data: Set, seed: int, epochs: float | None, plain: bool) -> Trained:
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
    total = max(1, round(epochs * len(examples) / batch)) if epochs else 200
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
    posed = [*data.test, *data.dev]
    asked = model.encode([q.question for q in posed], show_progress_bar=False)
    near = 2 * asked @ stored.T - (stored**2).sum(1)  # the nearest by L2 come first
    run = {q.question_id: _top(scores, passages) for q, scores in zip(posed, near, strict=True)}
    return Trained(run, seconds, total * batch, 0.0, encoding_s, len(passages), peak_mb())


def by_sentence_transformers(data: Set, seed: int, epochs: float | None) -> Trained:
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
            num_train_epochs=epochs or 3,
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
    return _shared(data, model.eval(), seconds, min(done * 32, round((epochs or 3) * len(data.train))), 0.0)


def by_us(data: Set, seed: int, store: Path, towers: str, hard: int, epochs: float, **schedule: Any) -> Trained:
    """Our training; of less than an epoch, by leaving questions out."""
    repro.seed_everything(seed)
    base = encoder.load(BASE)
    whole = max(1, round(epochs))
    chosen = train.Schedule(epochs=whole, max_passage_tokens=256, evaluations=1, seed=seed, **schedule)
    questions = data.train[: round(min(epochs, 1) * len(data.train))]
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
    return Trained(_found(data, side, vectors), seconds, pairs, mining_s, 0.0, 0, peak_mb())


def _shared(data: Set, model: SentenceTransformer, seconds: float, pairs: int, mining_s: float) -> Trained:
    tuned = encoder.pair(model, model)
    started = time.perf_counter()
    vectors = corpus_vectors(tuned, data.passages)
    encoding_s = time.perf_counter() - started
    run = _found(data, tuned, vectors)
    return Trained(run, seconds, pairs, mining_s, encoding_s, len(data.passages), peak_mb())


def _found(data: Set, side: Encoder, vectors: Vectors) -> Run:
    return search.dense_run(_asked([*data.test, *data.dev]), side, index.build(vectors, "flat"), data.passages, DEPTH)


def corpus_vectors(side: Encoder, passages: Sequence[Passage], store: Path | None = None) -> Vectors:
    """(n_passages, d) float32; nothing is taken from an earlier run, unless there is a store."""
    with tempfile.TemporaryDirectory() as folder:
        return encoder.encode_corpus(side, passages, store or Path(folder) / "store", Path(folder) / "vectors.npy")


def trained(arm: str, data: Set, seed: int, epochs: float | None, plain: bool, store: Path) -> Trained:
    """One training of one arm; `store` holds vectors of the untrained encoder."""
    if arm == "localrqa":
        return by_localrqa(data, seed, epochs, plain)
    if arm == "sentence-transformers":
        return by_sentence_transformers(data, seed, epochs)
    same: dict[str, Any] = {"batch_size": 32, "learning_rate": 5e-5, "temperature": 0.05}
    if arm == "pairs":
        return by_us(data, seed, store, "both", 0, epochs or 3, **same)
    if arm == "both":
        return by_us(data, seed, store, "both", 1, epochs or 1, **same)
    return by_us(data, seed, store, "question", 8, epochs or 2, **same | {"learning_rate": 1e-4, "temperature": 0.03})


def untrained(data: Set, store: Path) -> dict[str, Run]:
    """bm25 and base, on the questions of `Set.test` and `Set.dev`."""
    base = encoder.load(BASE)
    asked = _asked([*data.test, *data.dev])
    words = search.lexical_run(asked, lexical.build(data.passages), data.passages, DEPTH)
    return {"bm25": words, "base": _found(data, base, corpus_vectors(base, data.passages, store))}


def with_words(data: Set, dense: Run, words: Run) -> Run:
    """Hybrid search of both, its weight chosen on the questions held out."""
    gold = _gold(data.dev)
    here, there = ({q: run[q] for q in gold} for run in (dense, words))
    weight = fuse.tune(here, there, DEPTH, lambda run: _means(scores(run, gold))["mrr@10"])
    return fuse.convex(dense, words, weight, DEPTH)


def _asked(questions: Sequence[QAExample]) -> dict[str, str]:
    return {q.question_id: q.question for q in questions}


def _gold(questions: Sequence[QAExample]) -> dict[str, frozenset[str]]:
    return {q.question_id: frozenset(q.gold_passage_ids) for q in questions}


def _top(values: Vectors, passages: Sequence[Passage]) -> dict[str, float]:
    best = np.argsort(-values, kind="stable")[:DEPTH]
    return {passages[row].passage_id: float(values[row]) for row in best}


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
    data: Set, arms: Sequence[str], seeds: Sequence[int], epochs: float | None, plain: bool, work: Path
) -> dict[str, Any]:
    """Train and score everything on one set that `work` does not hold yet."""
    clusters = {q.question_id: q.cluster for q in data.test}
    runs: dict[str, list[Run]] = {name: [run] for name, run in untrained(data, work / "base").items()}
    words = runs["bm25"][0]
    costs: dict[str, list[dict[str, float]]] = {}
    for seed in seeds:
        for arm in arms:
            kept = work / f"{data.name}-{arm}-{seed}{f'-{epochs:g}' if epochs else ''}{'-plain' if plain else ''}.json"
            found = Trained(**once(kept, trained, arm, data, seed, epochs, plain, work / "base"))
            runs.setdefault(arm, []).append(found.run)
            cost = {name: value for name, value in asdict(found).items() if name != "run"}
            cost["pairs_per_s"] = found.pairs / found.seconds
            cost["passages_per_s"] = found.passages / found.encoding_s if found.passages else 0.0
            costs.setdefault(arm, []).append(cost)
            log.info("%s: %s, seed %d: %s", data.name, arm, seed, {name: round(v, 2) for name, v in cost.items()})
    dense = {arm: many for arm, many in runs.items() if arm != "bm25"}
    hybrids = {_hybrid(arm): [with_words(data, run, words) for run in many] for arm, many in dense.items()}
    gold = _gold(data.test)
    runs = {arm: [{q: run[q] for q in gold} for run in many] for arm, many in (runs | hybrids).items()}
    tables = {arm: over_seeds([scores(run, gold) for run in many]) for arm, many in runs.items()}
    nested = {arm: over_seeds([scores(run, data.nested) for run in many]) for arm, many in runs.items()}
    return {
        "questions": len(data.test),
        "passages": len(data.passages),
        "seeds": len(seeds),
        "epochs": epochs,
        "scores": {
            arm: {m: asdict(significance.interval(v, clusters, RESAMPLES, 0)) for m, v in table.items()}
            for arm, table in tables.items()
        },
        "nested": {arm: _means(table) for arm, table in nested.items()},
        "against": {other: _against(tables, other, clusters) for other in BESIDE if other in tables},
        "hybrid_against_part": {
            arm: _paired(tables[_hybrid(arm)], tables[arm], clusters) for arm in tables if _hybrid(arm) in tables
        },
        "costs": costs,
    }


def _hybrid(arm: str) -> str:
    return f"{arm} + bm25"


Table = dict[str, dict[str, float]]
"""metric → question_id → value."""


def _against(tables: dict[str, Table], other: str, clusters: dict[str, str]) -> dict[str, dict[str, Any]]:
    return {arm: _paired(table, tables[other], clusters) for arm, table in tables.items() if arm != other}


def _paired(a: Table, b: Table, clusters: dict[str, str]) -> dict[str, Any]:
    return {m: asdict(significance.paired(values, b[m], clusters, RESAMPLES, 0)) for m, values in a.items()}


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
    lines.append("\n| difference | " + " | ".join(METRICS) + " |\n" + "|---" * (len(METRICS) + 1) + "|")
    differences = [(f"{arm} - {other}", d) for other, arms in result["against"].items() for arm, d in arms.items()]
    differences += [(f"{_hybrid(arm)} - {arm}", d) for arm, d in result["hybrid_against_part"].items()]
    for what, by_metric in differences:
        cells = [f"{d['difference']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]" for d in (by_metric[m] for m in METRICS)]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return head + "\n".join(lines) + "\n"


def main() -> None:
    """Read the arguments, measure every set that is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_sets(parser)
    parser.add_argument("--arms", nargs="*", choices=TRAINED, default=list(TRAINED))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=float, help="of every training; else its own recipe's")
    parser.add_argument("--plain", action="store_true", help="localrqa: one padded batch, as shipped")
    given = parser.parse_args()

    def measured(data: Set, work: Path) -> dict[str, Any]:
        return measure(data, given.arms, given.seeds, given.epochs, given.plain, work)

    each_set(given, measured, table)


if __name__ == "__main__":
    main()
