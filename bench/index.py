"""What each structure of the dense index costs: `python -m bench.index [--sizes 10000 …] [--anns flat …]`.

The vectors are a mixture on the sphere, as uniform ones have no neighbours to find: topics, 25 subtopics in each, 40
points in each of those, all Gaussian with variances falling as 1/i over the 384 axes, plus a common offset. A query is
a point moved by noise; the median cosine of its nearest point is 0.87, of the eleventh 0.80 (passages of pandas among
themselves under all-MiniLM-L6-v2: 0.89 and 0.73). Build and search run in processes of their own, so that the peaks
are theirs.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ragline import io
from ragline.errors import RaglineError
from ragline.retrieval import exact, index
from ragline.retrieval.calibrate import CUT, Ann

DIM = 384
QUERIES = 500
BLOCK = 8192
OFFSET, SUBTOPIC, POINT, QUERY = 0.5, 0.6, 0.45, 0.6
"""Lengths of the common offset, and of the steps from topic to subtopic to point to query; a topic's is 1."""
COLUMNS = ("n", "ann", "got", "build_s", "build_mb", "file_mb", "effort", "factor")
SEARCHED = ("held_out", "recall@10", "p50_ms", "p95_ms", "open_s", "search_mb")


def generate(n: int, folder: Path, dtype: str, seed: int = 0) -> None:
    """Write vectors.npy, (n, 384), and queries.npy, (500, 384) float32, all of unit length; a block in memory."""
    rng = np.random.default_rng(seed)
    scale = (1 + np.arange(DIM, dtype=np.float32)) ** -0.5
    scale /= np.linalg.norm(scale)

    def noise(rows: int, length: float) -> io.Vectors:
        return length * rng.standard_normal((rows, DIM), dtype=np.float32) * scale

    topics, subtopics = max(1, n // 1000), max(1, n // 40)
    centres = noise(topics, 1.0)[rng.integers(topics, size=subtopics)] + noise(subtopics, SUBTOPIC) + OFFSET / DIM**0.5
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", dtype, (n, DIM))
    for start in range(0, n, BLOCK):
        rows = min(BLOCK, n - start)
        vectors[start : start + rows] = _unit(centres[rng.integers(subtopics, size=rows)] + noise(rows, POINT))
    vectors.flush()
    near = vectors[np.linspace(0, n - 1, QUERIES).astype(int)]
    np.save(folder / "queries.npy", _unit(near + noise(QUERIES, QUERY)))


def _unit(vectors: io.Vectors) -> io.Vectors:
    unit: io.Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def build(folder: Path, ann: Ann, recall: float, latency_ms: float) -> dict[str, Any]:
    """Build and write one structure."""
    vectors = io.read_vectors(folder / "vectors.npy")
    started = time.perf_counter()
    built = index.build(vectors, ann, recall, latency_ms)
    mark = index.Fingerprint("generated", "generated", len(vectors), DIM, vectors.dtype.name)
    index.write(built, mark, folder / "ann.faiss", folder / "fingerprint.json")
    how = built.settings
    return {
        "got": how.ann,
        "build_s": round(time.perf_counter() - started, 1),
        "file_mb": round((folder / "ann.faiss").stat().st_size / 1e6, 1),
        "effort": how.effort,
        "factor": how.factor,
        "held_out": round(how.recall, 4),
    }


def search(folder: Path) -> dict[str, Any]:
    """Open what `build` wrote and ask one query at a time; a first round warms the page cache."""
    started = time.perf_counter()
    mark = index.Fingerprint(**io.read_json(folder / "fingerprint.json"))
    opened = index.load(folder / "ann.faiss", folder / "fingerprint.json", mark)
    open_s = time.perf_counter() - started
    queries = io.read_vectors(folder / "queries.npy")[: 50 if opened.settings.ann == "flat" else QUERIES]
    truth = np.load(folder / "truth.npy")
    index.search(opened, queries, CUT)
    times, hits = [], 0
    for query, floor in zip(queries, truth, strict=False):
        started = time.perf_counter()
        scores, _ = index.search(opened, query[None], CUT)
        times.append(1000 * (time.perf_counter() - started))
        hits += int((scores >= floor).sum())
    return {
        "recall@10": round(hits / len(queries) / CUT, 4),
        "p50_ms": round(float(np.percentile(times, 50)), 2),
        "p95_ms": round(float(np.percentile(times, 95)), 2),
        "open_s": round(open_s, 2),
    }


def judge(folder: Path) -> dict[str, Any]:
    """Write truth.npy: each query's tenth best score under exact search."""
    scores, _ = exact.nearest(
        np.asarray(io.read_vectors(folder / "queries.npy")), io.read_vectors(folder / "vectors.npy"), CUT
    )
    np.save(folder / "truth.npy", scores[:, -1].astype(np.float32))
    return {}


def in_child(*words: object) -> dict[str, Any]:
    """Run one step in a process of its own; its result, or {"error": …}."""
    command = [sys.executable, "-m", "bench.index", *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def step(words: list[str]) -> None:
    """What a child does: one step, then its result and its peak memory as JSON."""
    name, folder, *rest = words
    try:
        if name == "build":
            result = build(Path(folder), rest[0], float(rest[1]), float(rest[2]))  # type: ignore[arg-type]
        else:
            result = {"search": search, "judge": judge}[name](Path(folder))
    except RaglineError as error:
        result = {"error": str(error)}
    result[f"{name}_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000
    sys.stdout.write(json.dumps(result))


def main() -> None:
    """Print the table, a row at a time."""
    parser = argparse.ArgumentParser(description="What each structure of the dense index costs.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--anns", nargs="+", default=get_args(Ann), choices=get_args(Ann))
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16"])
    parser.add_argument("--recall", type=float, default=0.99)
    parser.add_argument("--latency-ms", type=float, default=20.0)
    parser.add_argument("--folder", type=Path, help="where the files go for the time; 5 GB for a million vectors")
    args = parser.parse_args()
    header = (*COLUMNS, *SEARCHED)
    sys.stdout.write(f"| {' | '.join(header)} |\n|{'---|' * len(header)}\n")
    for n in args.sizes:
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            generate(n, Path(name), args.dtype)
            in_child("judge", name)
            for ann in args.anns:
                row = {"n": n, "ann": ann} | in_child("build", name, ann, args.recall, args.latency_ms)
                if "error" not in row:
                    row |= in_child("search", name)
                sys.stdout.write(f"| {' | '.join(str(row.get(key, '')) for key in header)} | {row.get('error', '')}\n")
                sys.stdout.flush()
    load = os.getloadavg()[2]
    sys.stdout.write(f"\n{os.cpu_count()} cores, load over the last 15 minutes {load:.1f}\n")


if __name__ == "__main__":
    step(sys.argv[1:]) if sys.argv[1:2] and sys.argv[1] in {"build", "search", "judge"} else main()
