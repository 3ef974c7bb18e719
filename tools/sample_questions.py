"""Draw questions at random, to be read by a person: `python -m tools.sample_questions [--n 100] [--seed 7]`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ragline import io
from ragline.artifacts import PASSAGES, QUESTIONS_DEV, QUESTIONS_TEST, QUESTIONS_TRAIN
from ragline.types import Passage, QAExample

ANSWER_CHARACTERS = 60


def draw(examples: Sequence[QAExample], n: int, seed: int) -> list[QAExample]:
    """n questions, in order of their ids; each by its own lot, so that most stay when others come or go."""
    lots = sorted(examples, key=lambda example: io.digest(str(seed), example.question_id))
    return sorted(lots[:n], key=lambda example: example.question_id)


def short(text: str, characters: int = ANSWER_CHARACTERS) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= characters else line[: characters - 1].rstrip() + "…"


def row(example: QAExample) -> str:
    """A line of a Markdown table, with two cells left to fill."""
    cells = (example.question_id, example.question, short(example.answers[0]) if example.answers else "", "", "")
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def main() -> None:
    """Print the sample as a table to fill in, or with the passages that are to answer it."""
    parser = argparse.ArgumentParser(prog="python -m tools.sample_questions", description=__doc__)
    parser.add_argument("--questions", type=Path, nargs="+", default=[QUESTIONS_TRAIN, QUESTIONS_DEV, QUESTIONS_TEST])
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--passages", action="store_true", help="print the gold passages, too, for reading")
    given = parser.parse_args()
    drawn = draw([e for path in given.questions for e in io.read_table(QAExample, path)], given.n, given.seed)
    if given.passages:
        texts = {passage.passage_id: passage.encoded_text for passage in io.iter_table(Passage, PASSAGES)}
        for example in drawn:
            gold = "\n".join(texts[passage_id] for passage_id in example.gold_passage_ids)
            print(f"{example.question_id} [{example.kind}] {example.question}\n  -> {example.answers}\n{gold}\n")
        return
    print("| id | question | answer, in short | verdict | why |\n|---|---|---|---|---|")
    print("\n".join(map(row, drawn)))


if __name__ == "__main__":
    main()
