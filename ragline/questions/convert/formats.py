"""All formats by name: what `ragline convert` knows."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ragline.errors import ConfigError
from ragline.questions.convert import (
    beir,
    localrqa,
    msmarco,
    natural_questions,
    rag_end2end,
    ragas,
    squad,
    triviaqa,
)
from ragline.questions.convert.neutral import Loss, QuestionSet


@dataclass(frozen=True)
class _Format:
    read: Callable[[Path], QuestionSet]
    write: Callable[[QuestionSet, Path], Loss]
    is_folder: bool


_FORMATS = {
    "beir": _Format(beir.read, beir.write, True),
    "localrqa": _Format(localrqa.read, localrqa.write, True),
    "localrqa_documents": _Format(localrqa.read_documents, localrqa.write_documents, False),
    "msmarco": _Format(msmarco.read, msmarco.write, True),
    "natural_questions": _Format(natural_questions.read, natural_questions.write, False),
    "rag_end2end": _Format(rag_end2end.read, rag_end2end.write, True),
    "ragas": _Format(ragas.read, ragas.write, False),
    "squad": _Format(squad.read, lambda found, path: squad.write(found, path, impossible=False), False),
    "squad2": _Format(squad.read, lambda found, path: squad.write(found, path, impossible=True), False),
    "triviaqa": _Format(triviaqa.read, triviaqa.write, True),
}
FORMATS: tuple[str, ...] = tuple(_FORMATS)


def read(format: str, path: Path) -> QuestionSet:
    """Read a file or folder; documents of line-based formats stay on the disk until they are gone through.

    Raises:
        ConfigError: no such format, or nothing at the path.
        DataError: says where the input is of another shape, on one line.
    """
    return _named(format).read(path)


def write(format: str, found: QuestionSet, path: Path) -> dict[str, int]:
    """Write a file, or a folder that is new or empty; it is there whole or not at all.

    Returns:
        How often each kind of thing could not be kept; empty where `read` gives back what was written.

    Raises:
        ConfigError: no such format, a folder that holds something, or a name with another ending.
        DataError: ids stand twice or name nothing.
        ServiceError: the disk refused.
    """
    chosen = _named(format)
    if chosen.is_folder and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(
            f"{path}: expected a new or empty folder for {format}, got something; name another or clear it"
        )
    if not chosen.is_folder and path.is_dir():
        raise ConfigError(f"{path}: expected a file for {format}, got a folder; name a file in it")
    loss = chosen.write(found, path)
    return {what: loss[what] for what in sorted(loss)}


def _named(format: str) -> _Format:
    if format not in _FORMATS:
        raise ConfigError(f"{format!r}: expected one of {', '.join(FORMATS)}; name one of them")
    return _FORMATS[format]
