"""Train a cross-encoder on the pipeline's training questions, and say on dev what it brings.

    python -m tools.train_reranker --out models/reranker --base builtin:minilm

Reads what `dvc repro evaluate` has made. Training questions and their mined negatives train; dev questions alone are
scored, hybrid search against the same list ranked again. `evaluate.reranker: models/reranker` then puts it to use.
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ragline import io, qa
from ragline.artifacts import NEGATIVES, QUESTIONS_DEV, QUESTIONS_TRAIN
from ragline.evaluation import gate
from ragline.retrieval import fuse, rerank, rerank_train, search
from ragline.retrieval.mine import Negative
from ragline.training import answerable, evenly
from ragline.types import QAExample

METRICS = ("recall@1", "recall@5", "mrr@10")

log = logging.getLogger(__name__)


def mined(root: Path, most: int) -> list[Negative]:
    """The first `most` negatives of each question, nearest first."""
    kept: dict[str, list[Negative]] = {}
    for row in io.read_frame(root / NEGATIVES):
        kept.setdefault(row["question_id"], []).append(Negative(**row))
    return [negative for found in kept.values() for negative in found[:most]]


def train(options: argparse.Namespace, system: qa.System) -> None:
    """Train and write to `--out`."""
    questions = evenly(answerable(io.read_table(QAExample, options.root / QUESTIONS_TRAIN)), options.questions)
    negatives = mined(options.root, options.negatives)
    examples = rerank_train.judged(questions, system.retriever.passages, negatives)
    schedule = rerank_train.Schedule(
        options.epochs, options.batch_size, options.learning_rate, evaluations=1, seed=options.seed, loss=options.loss
    )
    model = rerank_train.start(options.base, options.root, options.max_tokens, options.seed)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        points = rerank_train.fit(model, examples, schedule, lambda _: 0.0, Path(folder) / "run")
    for point in points:
        if point.loss is not None:
            log.info("step %d: loss %.3f", point.step, point.loss)
    log.info("trained on %d questions in %.0f s", len(examples), time.perf_counter() - started)
    rerank_train.save(model, options.root / options.out)


def measure(options: argparse.Namespace, system: qa.System) -> None:
    """Hybrid search against hybrid search ranked again, on dev questions that can be answered."""
    dev = evenly(answerable(io.read_table(QAExample, options.root / QUESTIONS_DEV)), options.dev)
    asked = {q.question_id: q.question for q in dev}
    found = system.retriever
    dense = search.dense_run(asked, found.encoder, found.ann, found.passages, found.depth)
    words = search.lexical_run(asked, found.bm25, found.passages, found.depth)
    hybrid = fuse.fuse(dense, words, found.weight, found.depth)
    model = rerank.load(options.out, options.root)
    passages = {p.passage_id: p for p in found.passages}
    for depth in options.depth:
        started = time.perf_counter()
        again = search.reranked_run(asked, hybrid, passages.__getitem__, model.rerank, depth)
        seconds = time.perf_counter() - started
        log.info("depth %d: %.0f ms a question, n = %d", depth, 1000 * seconds / len(dev), len(dev))
        for metric in METRICS:
            verdict = gate.compare(again, hybrid, dev, metric, options.seed)
            p = verdict.paired
            log.info(
                "depth %d: %s %.3f against %.3f: %+.3f [%+.3f, %+.3f]",
                *(depth, metric, verdict.tuned[metric], verdict.base[metric], p.difference, p.low, p.high),
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, unless only the measuring is wanted, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--out", default="models/reranker", help="folder of the model, under the root")
    parser.add_argument("--base", default="builtin:minilm")
    parser.add_argument("--loss", choices=("binary", "listwise"), default="listwise")
    parser.add_argument("--questions", type=int, default=600, help="training questions, at most")
    parser.add_argument("--negatives", type=int, default=4, help="of each question")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--max-tokens", type=int, default=192, help="question and passage together are cut there")
    parser.add_argument("--dev", type=int, default=1000, help="dev questions, at most")
    parser.add_argument("--depth", type=int, nargs="+", default=[20], help="passages that are read again")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--measure", action="store_true", help="a model that is there already, without training")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    system = qa.load(options.root)
    if not options.measure:
        train(options, system)
    measure(options, system)


if __name__ == "__main__":
    main()
