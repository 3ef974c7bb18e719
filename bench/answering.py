"""Time single questions on the assembled system: `python -m bench.answering [questions]`.

One question at a time, as people ask: search, fusion and the answer. The first question warms the caches and is not
timed.
"""

import argparse
import time
from pathlib import Path

from ragline import io, qa
from ragline.artifacts import QUESTIONS_TEST
from ragline.evaluation import latency
from ragline.types import QAExample


def times(system: qa.System, questions: list[str], answerer: qa.Answerer) -> dict[str, float]:
    """Seconds and tokens of each question but the first."""
    seconds, tokens = [], []
    tokenizer = system.retriever.encoder.questions.tokenizer
    for question in questions:
        started = time.perf_counter()
        (answer,) = system.ask([question], answerer=answerer)
        seconds.append(time.perf_counter() - started)
        tokens.append(len(tokenizer.encode(answer.text, add_special_tokens=False)))
    return latency.summary(seconds[1:], tokens[1:])


def main() -> None:
    """Print one line an answerer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("questions", type=int, nargs="?", default=100)
    rows = io.read_table(QAExample, Path(QUESTIONS_TEST))[: parser.parse_args().questions + 1]
    system = qa.load()
    answerers: tuple[qa.Answerer, ...] = ("extractive", "generator")
    for answerer in answerers:
        found = times(system, [row.question for row in rows], answerer)
        print(answerer, {name: round(value, 4) for name, value in found.items()})


if __name__ == "__main__":
    main()
