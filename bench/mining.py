"""How long hard-negative mining takes over a generated corpus, and how much memory.

    python -m bench.mining --passages 1000000 --questions 2000 --folder scratch

Vectors and texts are generated. `--folder` holds the vectors, 4 bytes · dimensions a passage, memory-mapped as the
pipeline's are, the lexical index and the ledger. One line of JSON says what was measured; `file_mb` counts pages of
memory-mapped files, which the system takes back when it needs them.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ragline import io
from ragline.retrieval import lexical, mine
from ragline.types import Passage, QAExample

DIMENSIONS = 384
WORDS_A_TEXT = 30
VOCABULARY = 50_000
BLOCK = 20_000


def words(rng: np.random.Generator, count: int) -> list[str]:
    """Words whose frequencies fall as in real text."""
    return [f"w{number}" for number in np.minimum(rng.zipf(1.3, count), VOCABULARY)]


def passages(count: int, seed: int) -> Iterator[Passage]:
    """Short texts, four to a document."""
    rng = np.random.default_rng(seed)
    for start in range(0, count, BLOCK):
        drawn = words(rng, min(BLOCK, count - start) * WORDS_A_TEXT)
        for place in range(min(BLOCK, count - start)):
            number = start + place
            text = " ".join(drawn[place * WORDS_A_TEXT : (place + 1) * WORDS_A_TEXT])
            home = f"doc{number // 4}"
            yield Passage(f"{home}#{number % 4:04d}", home, home, "", text, 0, len(text), WORDS_A_TEXT, home)


def write_vectors(path: Path, count: int, seed: int) -> None:
    """Unit vectors around some thousand centres, so that there are near ones."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, count // 200), DIMENSIONS), dtype=np.float32)
    out = np.lib.format.open_memmap(path, "w+", np.float32, (count, DIMENSIONS))
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        block = centres[rng.integers(len(centres), size=stop - start)]
        block += rng.standard_normal(block.shape, dtype=np.float32)
        out[start:stop] = block / np.linalg.norm(block, axis=1, keepdims=True)
    out.flush()


def questions(
    corpus: Sequence[Passage], vectors: io.Vectors, count: int, seed: int
) -> tuple[list[QAExample], io.Vectors]:
    """Each asks with eight words of a passage and a vector near it."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(corpus), count, replace=False))
    asked = []
    for number, passage in enumerate(corpus[row] for row in rows.tolist()):
        text = " ".join(passage.text.split()[:8])
        answer = " ".join(passage.text.split()[8:14])
        home, gold = passage.doc_id, (passage.passage_id,)
        asked.append(QAExample(f"q{number}", text, (answer,), home, 0, 40, gold, "howto", "train", home))
    near = vectors[rows] + 0.03 * rng.standard_normal((count, DIMENSIONS), dtype=np.float32)
    return asked, near / np.linalg.norm(near, axis=1, keepdims=True)


def memory_mb() -> dict[str, int]:
    """Peak of this process so far, and what it holds now, by kind."""
    held = dict(
        line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Rss")
    )
    now = {name.lower().removeprefix("rss") + "_mb": int(value.split()[0]) // 1024 for name, value in held.items()}
    return {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, **now}


def main() -> None:
    """Generate, index, mine, and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=20_000)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=13)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"passages": given.passages, "questions": given.questions}

    def timed(name: str, started: float) -> None:
        report[name] = {"seconds": round(time.perf_counter() - started, 1), **memory_mb()}

    vector_file, index_folder = given.folder / "vectors.npy", given.folder / "lexical"
    write_vectors(vector_file, given.passages, given.seed)
    started = time.perf_counter()
    lexical.write(lexical.build(passages(given.passages, given.seed)), index_folder)
    timed("bm25_build", started)
    corpus = list(passages(given.passages, given.seed))
    vectors = io.read_vectors(vector_file)
    asked, asked_vectors = questions(corpus, vectors, given.questions, given.seed)
    index = lexical.read(index_folder)
    timed("loaded", time.perf_counter())
    started = time.perf_counter()
    miner = mine.prepare(asked, corpus, index, mine.Rules(per_question=8, margin=0.95))
    timed("prepare", started)
    started = time.perf_counter()
    kept = looked_at = 0
    with io.write_frames(mine.LEDGER, given.folder / "ledger.parquet") as add:
        for block in miner.candidates(asked_vectors, vectors):
            add(mine.ledger(block))
            looked_at += len(block)
            kept += len(mine.negatives(block))
    timed("mine", started)
    report |= {"candidates": looked_at, "negatives": kept}
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
