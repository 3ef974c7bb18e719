"""Time what evaluation does beside the models: `python -m bench.evaluation [questions] [--resamples N] [--profile]`.

Passages, questions, what four searches bring and what two answerers say are generated, so that scoring, intervals,
slices and files are all that is measured. The last line is one interval and one comparison at 10,000 resamples.
"""

import argparse
import cProfile
import pstats
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragline import assessment, qa, scoreboard
from ragline.evaluation import scorecard, significance
from ragline.generation.generator import Written
from ragline.reading import Reading
from ragline.retrieval.signals import Signals
from ragline.types import Hit, Passage, QAExample, Run
from stages import evaluate

DEPTH = 50
PASSAGES_A_DOCUMENT, WORDS_A_PASSAGE, WORDS_AN_ANSWER = 4, 120, 10
QUESTIONS_A_DOCUMENT = 4
KINDS = 12
SETTINGS = qa.Settings(hybrid_weight=0.5, depth=DEPTH, abstain_below=0.1, answerer="extractive")


@dataclass(frozen=True)
class Made:
    """Generated passages, and questions that were searched and answered."""

    reading: Reading
    answered: assessment.Answered


def make(n_questions: int, seed: int = 0) -> Made:
    """As many questions, four to a document, a third of which search does not find, one in twenty without an answer."""
    rng = random.Random(seed)
    words = [f"word{number}" for number in range(5000)]
    n_documents = max(1, n_questions // QUESTIONS_A_DOCUMENT)
    passages = [_passage(rng, words, d, p) for d in range(n_documents) for p in range(PASSAGES_A_DOCUMENT)]
    reading = Reading(passages)
    questions = [_question(rng, number, passages) for number in range(n_questions)]
    systems = ("bm25", "base", "tuned", "hybrid")
    runs: dict[str, Run] = {system: {q.question_id: _found(rng, q, passages) for q in questions} for system in systems}
    hits = [reading.hits(runs["hybrid"][q.question_id], assessment.SHOWN) for q in questions]
    said = {
        str(who): {q.question_id: _said(rng, q, shown) for q, shown in zip(questions, hits, strict=True)}
        for who in assessment.ANSWERERS
    }
    told = {q.question_id: Signals(max(runs["tuned"][q.question_id].values()), 0.0, 1.0, 0.5, 0.5) for q in questions}
    return Made(
        reading, assessment.Answered("test", questions, runs, hits, said, dict.fromkeys(said, assessment.SHOWN), told)
    )


def _passage(rng: random.Random, words: list[str], document: int, number: int) -> Passage:
    doc_id = f"document{document:06d}"
    text = " ".join(rng.choices(words, k=WORDS_A_PASSAGE))
    start = number * (len(text) + 1)
    end = start + len(text)
    return Passage(f"{doc_id}#{number:04d}", doc_id, doc_id, "", text, start, end, WORDS_A_PASSAGE, doc_id)


def _question(rng: random.Random, number: int, passages: list[Passage]) -> QAExample:
    home = passages[number * PASSAGES_A_DOCUMENT // QUESTIONS_A_DOCUMENT % len(passages)]
    words = home.text.split()
    at = rng.randrange(len(words) - WORDS_AN_ANSWER)
    reference = " ".join(words[at : at + WORDS_AN_ANSWER])
    start = home.start + home.text.index(reference)
    answerable = rng.random() < 0.95
    return QAExample(
        f"q{number:06d}",
        f"What is said of {words[at]}?",
        (reference,) if answerable else (),
        home.doc_id if answerable else "",
        start if answerable else 0,
        start + len(reference) if answerable else 0,
        (home.passage_id,) if answerable else (),
        f"kind{rng.randrange(KINDS)}",
        "test",
        home.doc_id,
        answerable,
    )


def _found(rng: random.Random, question: QAExample, passages: list[Passage]) -> dict[str, float]:
    found = [passages[rng.randrange(len(passages))].passage_id for _ in range(DEPTH)]
    if question.answerable and rng.random() < 2 / 3:
        found[min(DEPTH - 1, int(rng.expovariate(0.4)))] = question.gold_passage_ids[0]
    first = rng.random()
    return {passage_id: first / (1 + place) for place, passage_id in enumerate(dict.fromkeys(found))}


def _said(rng: random.Random, question: QAExample, hits: list[Hit]) -> Written:
    hit = rng.choice(hits)
    words = hit.passage.text.split()
    at = rng.randrange(len(words) - WORDS_AN_ANSWER)
    right = question.answerable and rng.random() < 0.5
    return Written(question.answers[0] if right else " ".join(words[at : at + WORDS_AN_ANSWER]), (hit,))


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long the block took, and the most memory the process has had."""
    started, cpu = time.perf_counter(), time.process_time()
    yield
    took, busy = time.perf_counter() - started, time.process_time() - cpu
    print(f"{what:<28} {took:7.1f} s  {busy:7.1f} s of CPU  {peak_mb():6.0f} MB at most so far")


def peak_mb() -> float:
    """Most resident memory of this process so far, in MB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def run(made: Made, how: scorecard.Bootstrap, root: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """All that the stage does once searches and answerers are done; metrics and comparisons."""
    with timed("score"):
        result = assessment.score(made.answered, made.reading, SETTINGS)
    with timed("metrics and comparisons"):
        found = scoreboard.tables({"test": result}, {}, SETTINGS, how)
    with timed("files"):
        evaluate.write({"test": result}, result.predictions, root)
        evaluate.write_curves(result, SETTINGS.answerer, root)
    return found


def main() -> None:
    """Print a line a step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("questions", type=int, nargs="?", default=10_000)
    parser.add_argument("--resamples", type=int, default=2_000)
    parser.add_argument("--profile", action="store_true", help="print the functions that take most time of their own")
    options = parser.parse_args()
    with timed("generated"):
        made = make(options.questions)
    how = scorecard.Bootstrap(options.resamples, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        if options.profile:
            profile = cProfile.Profile()
            profile.runcall(run, made, how, Path(folder))
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)
            return
        with timed("all of it"):
            run(made, how, Path(folder))
    values = {q.question_id: random.Random(q.question_id).random() for q in made.answered.questions}
    others, own = {q: 1 - value for q, value in values.items()}, {q: q for q in values}
    with timed("interval, 10,000 resamples"):
        significance.interval(values, own, 10_000, seed=0)
    with timed("comparison, 10,000 resamples"):
        significance.paired(values, others, own, 10_000, seed=0)


if __name__ == "__main__":
    main()
