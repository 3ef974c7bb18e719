"""Pretrain the built-in reader on documentation that every machine has, and say what it brings on a package held out.

    python -m tools.pretrain_reader --minutes 120

Reads docstrings of pinned packages and of the standard library, never those of pandas (see `tools.reader_pretraining`).
Writes models/base/minilm_reader.safetensors, the weights that training changed in bfloat16, and beside it a JSON file
with counts, seconds, loss curve, digests and scores. The same `--examples` and `--seed` give the same weights on one
machine; `--minutes` chooses `--examples` by the pace measured at the start. A killed run, started again with the same
arguments, goes on from its last checkpoint under `--work`, and ends in the same weights; its seconds are then those of
the last start.
"""

import argparse
import logging
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from ragline import io, repro
from ragline.builtin import BUILTIN, tokenizer_file
from ragline.corpus.chunk import load_chunker
from ragline.errors import ConfigError
from ragline.evaluation.answers import token_f1
from ragline.generation import backends, fid, train
from ragline.generation.generator import Generator
from ragline.generation.prompts import parse
from ragline.retrieval import encoder, lexical
from ragline.training import evenly
from ragline.types import Hit
from tools.reader_pretraining import lessons, shards, texts, training
from tools.reader_pretraining.lessons import Taught
from tools.reader_pretraining.texts import Texts

READER = "builtin:minilm-reader"
OUT = Path("models/base/minilm_reader.safetensors")
MAX_BYTES = 32_000_000
PASSAGE_TOKENS, OVERLAP_TOKENS = 200, 32
"""As the default pipeline cuts its corpus."""
SEARCHED = 3
"""Passages that BM25 brings for a question of the held-out package; an answerer reads as many of them as it does."""

log = logging.getLogger(__name__)

Make = Callable[[], fid.Reader]
"""A reader that has not been trained."""


@dataclass(frozen=True)
class Ground:
    """What is learnt from, and what is measured on."""

    taught: list[Taught]
    counts: dict[str, Any]
    dev: list[Taught]
    held_out: Texts


def gather(packages: Sequence[str], held_out: str, dev_lessons: int, seed: int) -> Ground:
    """Make every lesson of the packages, and some of the package held out.

    Raises:
        ConfigError: a package is not installed, or the held-out or the forbidden one is among those to learn from.
    """
    if both := sorted({held_out, texts.FORBIDDEN} & set(packages)):
        raise ConfigError(f"--packages: expected others than {held_out} and {texts.FORBIDDEN}, got {both[0]}")
    chunker = load_chunker(tokenizer_file("builtin:minilm"), PASSAGE_TOKENS, OVERLAP_TOKENS)
    forbidden = texts.forbidden_sentences()
    taught: list[Taught] = []
    left_out: dict[str, int] = {}
    for package in packages:
        found = texts.read(package, chunker, forbidden)
        left_out[package] = found.left_out
        taught += (made := lessons.make(found, seed))
        log.info("%s: %d passages, %d lessons", package, len(found.passages), len(made))
    apart = texts.read(held_out, chunker, forbidden)
    dev = [one for one in lessons.make(apart, seed) if one.task != "denoising"]  # nobody asks so
    counts = {"lessons": lessons.counts(taught), "passages_left_out": left_out}
    return Ground(taught, counts, lessons.sample(dev, dev_lessons, seed), apart)


def scores(answerers: dict[str, Generator], held_out: Texts, most: int, seed: int) -> dict[str, Any]:
    """Answer F1 on the rules' questions about the held-out package, each answered from what BM25 finds.

    Returns:
        questions: how many; gold_found: share whose gold passage is among the passages found; and for each answerer its
        mean answer_f1 (a question it declines counts 0) and the share declined.
    """
    asked = evenly(lessons.questions(held_out, seed), most)
    found = lexical.search(lexical.build(held_out.passages), [q.question for q in asked], SEARCHED)
    hits = [[Hit(held_out.passages[row], score) for row, score in rows] for rows in found]
    gold = [
        any(hit.passage.passage_id in q.gold_passage_ids for hit in ones) for q, ones in zip(asked, hits, strict=True)
    ]
    card: dict[str, Any] = {"questions": len(asked), "gold_found": round(statistics.fmean(gold), 3)}
    for name, answerer in answerers.items():
        said = [parse(one.text, 0).text for one in answerer.answer([q.question for q in asked], hits)]
        f1 = [token_f1(text, q.answers) if text else 0.0 for text, q in zip(said, asked, strict=True)]
        declined = statistics.fmean(not text for text in said)
        card[name] = {"answer_f1": round(statistics.fmean(f1), 3), "declined": round(declined, 3)}
    return card


def plan(options: argparse.Namespace, make: Make, ground: Ground, folder: Path) -> training.Schedule:
    """The schedule of this very training: what an earlier, killed start wrote down, or a new one."""
    path = folder / "schedule.json"
    if path.is_file():
        log.info("going on with %s", folder)
        return training.Schedule(**io.read_json(path))
    if options.examples is not None:
        number = min(-(-options.examples // options.passes), len(ground.taught))
    else:
        shutil.rmtree(folder / "pace", ignore_errors=True)
        few = [one.lesson for one in lessons.sample(ground.taught, training.WARM_UP * options.batch_size, options.seed)]
        pace = training.pace(make(), few, options.batch_size, folder / "pace")
        shutil.rmtree(folder / "pace")
        log.info("a lesson takes %.3f s to encode and %.3f s to see", pace.encoding, pace.seeing)
        number = pace.lessons(options.minutes, options.passes, len(ground.taught))
    schedule = training.Schedule(
        number, options.passes, options.batch_size, options.learning_rate, options.evaluations, options.seed
    )
    io.write_json(asdict(schedule), path)
    return schedule


def pretrain(options: argparse.Namespace, make: Make) -> dict[str, Any]:
    """Make lessons, encode them, train, write the weights and the card; gives the card.

    Raises:
        ConfigError: the weights are there already, or a package is not as expected.
    """
    out = options.root / OUT
    if out.exists():
        raise ConfigError(f"{OUT}: there already; a reader would start from it: move it away, and its .json")
    started = time.perf_counter()
    ground = gather(options.packages, options.held_out, options.dev_lessons, options.seed)
    folder = options.root / options.work / _key(options, ground)[:16]
    schedule = plan(options, make, ground, folder)
    taught = lessons.sample(ground.taught, schedule.lessons, options.seed)
    log.info("%d lessons, each seen %d times in %d steps", len(taught), schedule.passes, schedule.steps)
    repro.seed_everything(options.seed)
    reader = make()
    dev = shards.encode(reader, [one.lesson for one in ground.dev], folder / "dev", "reading the dev lessons")
    seen = shards.encode(reader, [one.lesson for one in taught], folder / "lessons", "reading the lessons")
    before = training.dev_loss(reader, dev, schedule.batch_size)
    read = time.perf_counter()
    points = training.fit(reader, seen, dev, schedule, folder)
    trained = time.perf_counter()
    after = training.dev_loss(reader, dev, schedule.batch_size)
    log.info("dev loss %.3f, untrained %.3f", after, before)
    card = {
        "schedule": asdict(schedule),
        "packages": {name: _version(name) for name in (*options.packages, options.held_out)},
        "held_out": options.held_out,
        **ground.counts,
        "taught": lessons.counts(taught),
        "dev": {"lessons": len(dev), "loss_untrained": round(before, 4), "loss": round(after, 4)},
        "curve": [[point.step, point.loss, point.dev] for point in points],
        "answers": scores(_answerers(make, reader, options.root), ground.held_out, options.questions, options.seed),
        "seconds": {"lessons_and_encoding": round(read - started), "training": round(trained - read)},
        "parameters": sum(tensor.numel() for tensor in reader.model.state_dict().values()),
        "encoder": dict(BUILTIN["builtin:minilm"].digests),
        "sha256": training.write_weights(reader, out, MAX_BYTES),
    }
    io.write_json(card, out.with_suffix(".json"))
    shutil.rmtree(folder)
    return card


def _key(options: argparse.Namespace, ground: Ground) -> str:
    """Of everything that decides the weights."""
    settings = {name: value for name, value in vars(options).items() if name not in ("root", "work")}
    return io.digest(
        repr(sorted(settings.items())),
        *(io.digest(repr(one.lesson)) for one in (*ground.taught, *ground.dev)),
        *train.code(),
        *(io.file_digest(Path(file)) for file in (lessons.__file__, shards.__file__, training.__file__)),
    )


def _answerers(make: Make, reader: fid.Reader, root: Path) -> dict[str, Generator]:
    search = encoder.load("builtin:minilm", root)
    return {
        "untrained": backends.Fusion(make()),
        "pretrained": backends.Fusion(reader),
        "extractive": backends.Extractive(
            lambda asked: encoder.encode_questions(search, asked), lambda found: encoder.encode_passages(search, found)
        ),
    }


def _version(package: str) -> str:
    try:
        return metadata.version({"sklearn": "scikit-learn"}.get(package, package))
    except metadata.PackageNotFoundError:
        return "standard library"


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--work", type=Path, default=Path(".cache/reader_pretraining"), help="under the root")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=float, help="of encoding and training, by the pace at the start")
    budget.add_argument("--examples", type=int, help="lessons seen, each of them --passes times")
    budget.add_argument("--count", action="store_true", help="only say how many lessons there are")
    parser.add_argument("--packages", nargs="+", default=list(texts.PACKAGES))
    parser.add_argument("--held-out", default=texts.HELD_OUT, help="package for dev loss and answers")
    parser.add_argument("--passes", type=int, default=2, help="times that a lesson is seen")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--evaluations", type=int, default=24, help="checkpoints and dev losses")
    parser.add_argument("--dev-lessons", type=int, default=192)
    parser.add_argument("--questions", type=int, default=200, help="of the held-out package, to answer")
    parser.add_argument("--passages", type=int, default=2, help="that the reader reads of those found")
    parser.add_argument("--max-input-tokens", type=int, default=192)
    parser.add_argument("--max-answer-tokens", type=int, default=48)
    parser.add_argument("--seed", type=int, default=13)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Count the lessons, or pretrain."""
    options = parsed(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.count:
        ground = gather(options.packages, options.held_out, options.dev_lessons, options.seed)
        for package, tasks in ground.counts["lessons"].items():
            log.info("%s: %s, %d passages left out", package, tasks, ground.counts["passages_left_out"][package])
        return
    config = fid.ReaderConfig(
        fid.ENCODERS[READER], options.passages, options.max_input_tokens, options.max_answer_tokens
    )
    card = pretrain(options, lambda: fid.warm_start(READER, config, options.root))
    log.info("%s: sha256 %s, answers %s", OUT, card["sha256"], card["answers"])


if __name__ == "__main__":
    main()
