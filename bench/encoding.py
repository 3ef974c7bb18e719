"""Pace of encoding passages on a CPU: ours beside sentence-transformers as it comes, on the same weights and texts.

    python -m bench.encoding --documents DOCS.jsonl [--rounds 3] [--every 6]
    python -m bench.encoding --texts TEXTS.jsonl

Documents (one JSON object with `text` and perhaps `title` a line) are cut at 200 tokens; texts (`text` alone) are taken
as they are. The contestants take turns round by round, and medians are printed. Compare the ratios: on a machine that
others use, wall time tells little, and user CPU time somewhat more.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ragline import inference, io
from ragline.builtin import tokenizer_file
from ragline.corpus.chunk import chunk, load_chunker
from ragline.io import Vectors
from ragline.retrieval import encoder
from ragline.types import Document

GEMM = (4096, 384, 1536)
"""Shape of a feed-forward layer's product in MiniLM, for 4,096 tokens."""


def cut(path: Path, tokenizer: str) -> list[str]:
    """Passages of every document, as an encoder sees them."""
    chunker = load_chunker(tokenizer_file(tokenizer), max_tokens=200, overlap_tokens=32)
    documents = (
        Document(str(line), str(path), row.get("title") or "", row["text"], "text") for line, row in io.read_jsonl(path)
    )
    return [passage.encoded_text for document in documents for passage in chunk(document, chunker)]


def flops(lengths: list[int], model: Any) -> float:
    """Floating-point operations of one forward pass over texts of these lengths, products only.

    Two for every weight of every linear layer and token; four times length squared times width a layer for attention.
    """
    weights = sum(m.weight.numel() for m in model.encoder.modules() if isinstance(m, torch.nn.Linear))
    attention = 4 * model.config.hidden_size * model.config.num_hidden_layers
    return float(sum(2 * weights * n + attention * n * n for n in lengths))


def timed(run: Callable[[], Vectors]) -> tuple[Vectors, float, float]:
    """What it gives, wall seconds, user CPU seconds."""
    wall, cpu = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_utime
    vectors = run()
    return vectors, time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_SELF).ru_utime - cpu


def product_rate() -> float:
    """GFLOP a CPU second of a plain product in torch, best of ten: what the machine gives at this moment."""
    m, k, n = GEMM
    a, b = torch.randn(m, k), torch.randn(k, n)
    return max(2 * m * k * n / max(timed(lambda: (a @ b).numpy())[2], 1e-4) for _ in range(10)) / 1e9


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--documents", type=Path, help="JSON lines with `text` and perhaps `title`, to be cut")
    source.add_argument("--texts", type=Path, help="JSON lines with `text`, taken as they are")
    parser.add_argument("--model", default="builtin:minilm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=int, default=1, help="take every n-th text")
    options = parser.parse_args()
    path = options.documents or options.texts
    if not path.exists():
        print(f"{path}: not here; nothing measured")
        return
    texts = cut(path, options.model) if options.documents else [row["text"] for _, row in io.read_jsonl(path)]
    texts = texts[:: options.every]

    bi_encoder = encoder.load(options.model)
    model = bi_encoder.passages
    lengths = encoder.token_counts(model, texts)
    converted = encoder.converted(model)
    contestants: dict[str, Callable[[], Vectors]] = {
        "sentence-transformers, defaults": lambda: model.encode(texts, show_progress_bar=False),
        "ours, corpus (OpenVINO)": lambda: converted(texts),
        "ours, few texts (torch)": lambda: encoder.encode_passages(bi_encoder, texts),
    }
    walls: dict[str, list[float]] = {name: [] for name in contestants}
    cpus: dict[str, list[float]] = {name: [] for name in contestants}
    found: dict[str, Vectors] = {}
    peaks = []
    for _ in range(options.rounds):
        peaks.append(product_rate())
        for name, run in contestants.items():
            found[name], wall, cpu = timed(run)
            walls[name].append(wall)
            cpus[name].append(cpu)

    tokens, work = sum(lengths), flops(lengths, model[0].model) / 1e9
    peak = statistics.median(peaks)
    base = next(iter(contestants))
    print(f"{len(texts)} texts, {tokens} tokens, {work / tokens * 1e3:.1f} MFLOP a token; {inference.arithmetic()}")
    print(f"plain product {GEMM}: {peak:.0f} GFLOP a CPU second; medians of {options.rounds} rounds")
    print("| how | tokens/s | tokens/CPU s | ratio, wall | ratio, CPU | share of the product's pace | least cosine |")
    print("|---|---|---|---|---|---|---|")
    for name in contestants:
        wall, cpu = statistics.median(walls[name]), statistics.median(cpus[name])
        ratios = [
            statistics.median(a / b for a, b in zip(taken[base], taken[name], strict=True)) for taken in (walls, cpus)
        ]
        print(
            f"| {name} | {tokens / wall:,.0f} | {tokens / cpu:,.0f} | {ratios[0]:.2f} | {ratios[1]:.2f} "
            f"| {work / cpu / peak:.0%} | {_least_cosine(found[name], found[base]):.6f} |"
        )


def _least_cosine(a: Vectors, b: Vectors) -> float:
    unit_a, unit_b = (
        v.astype(np.float64) / np.linalg.norm(v.astype(np.float64), axis=1, keepdims=True) for v in (a, b)
    )
    return float((unit_a * unit_b).sum(axis=1).min())


if __name__ == "__main__":
    main()
