"""Judgements as TREC qrels, so that trec_eval, ranx and others score our runs (`io.write_run`) as they are."""

from pathlib import Path
from urllib.parse import unquote

from ragline import io
from ragline.errors import DataError
from ragline.evaluation.ranking import Grades


def write_qrels(grades: Grades, path: Path) -> None:
    """Write `question 0 passage grade`, in order of question and passage.

    White space within an id is percent-coded, as in runs. Whole or absent.
    """
    with io.whole_file(path) as part, part.open("w", encoding="utf-8") as out:
        for question in sorted(grades):
            for passage, grade in sorted(grades[question].items()):
                out.write(f"{io.token(question)} 0 {io.token(passage)} {grade}\n")


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Read TREC qrels.

    Raises:
        MissingArtifact, DataError: not there; names the line with other than four fields, a grade that is no whole
            number, or a passage judged twice.
    """
    grades: dict[str, dict[str, int]] = {}
    for number, line in enumerate(io.require_made(path).read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.split()
        if len(fields) != 4 or not fields[3].lstrip("-").isdecimal():
            raise DataError(f"{path}:{number}: expected `question 0 passage grade`, got {line!r}; correct the line")
        question, passage = unquote(fields[0]), unquote(fields[2])
        if passage in grades.setdefault(question, {}):
            raise DataError(f"{path}:{number}: {passage!r} is judged twice for {question!r}; keep one of the lines")
        grades[question][passage] = int(fields[3])
    return grades
