"""The generator that the pipeline has made, whatever its kind."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ragline.generation import endpoint, extractive, fid, language_model
from ragline.generation.generator import Generator, Written, grounded
from ragline.generation.prompts import parse
from ragline.types import Hit


@dataclass(frozen=True)
class Fusion:
    """The fusion-in-decoder reader as a `Generator`; it does not cite, so the passage that covers its answer is.

    Where it writes the sentence that declines, it has no answer.
    """

    reader: fid.Reader

    def answer(self, questions: Sequence[str], retrieved: Sequence[Sequence[Hit]]) -> list[Written]:
        """As `Generator.answer`."""
        read = [list(hits)[: self.reader.config.passages] for hits in retrieved]
        texts = self.reader.answer(questions, [[hit.passage.encoded_text for hit in hits] for hits in read])
        return [grounded(parse(text, 0), hits) for text, hits in zip(texts, read, strict=True)]


@dataclass(frozen=True)
class Extractive:
    """The extractive answerer as a `Generator`."""

    encode_questions: extractive.Encode
    encode_texts: extractive.Encode

    def answer(self, questions: Sequence[str], retrieved: Sequence[Sequence[Hit]]) -> list[Written]:
        """As `Generator.answer`."""
        found = extractive.answer(questions, retrieved, self.encode_questions, self.encode_texts)
        return [Written(text, cited) for text, cited in found]


def load(folder: Path, root: Path = Path(), project: Path | None = None) -> Generator:
    """Read what train_generator wrote.

    Args:
        root: where models named by a folder are looked for: the project, or a version of it that is served.
        project: where calls of endpoints are kept; None: `root`, which then must not be a served version.

    Raises:
        MissingArtifact: no generator there.
        ModelError: it is damaged.
    """
    if (folder / endpoint.CONFIG).is_file():
        return endpoint.load(folder, project or root)
    if (folder / language_model.CONFIG).is_file():
        return language_model.load(folder, root)
    return Fusion(fid.load(folder, root))
