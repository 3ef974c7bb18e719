"""The generator that the pipeline has made, whatever its kind."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ragline.generation import endpoint, extractive, fid, followups, fusion, language_model
from ragline.generation.generator import Generator, Written, at_once, grounded
from ragline.generation.prompts import parse
from ragline.types import Hit


@dataclass(frozen=True)
class Fusion:
    """The fusion-in-decoder reader as a `Generator`; it does not cite, so the passage that covers its answer is.

    Where it writes the sentence that declines, it has no answer. Lines that it copies are those that the passage was
    wrapped in, so they are joined.
    """

    reader: fid.Reader

    @property
    def reads(self) -> int:
        """As `Generator.reads`."""
        return self.reader.config.passages

    def answer(self, questions: Sequence[str], retrieved: Sequence[Sequence[Hit]]) -> list[Written]:
        """As `Generator.answer`."""
        read = [list(hits)[: self.reads] for hits in retrieved]
        drafts = self.reader.answer(questions, [[hit.passage.encoded_text for hit in hits] for hits in read])
        return [
            grounded(parse(" ".join(draft.text.split()), 0), hits, draft.likelihood)
            for draft, hits in zip(drafts, read, strict=True)
        ]

    def stream(self, question: str, hits: Sequence[Hit]) -> Iterator[str | Written]:
        """As `Generator.stream`, in one piece: a word is spelled as the passage does once its run of words is known."""
        return at_once(self.answer([question], [hits])[0])


@dataclass(frozen=True)
class Extractive:
    """The extractive answerer as a `Generator`."""

    encode_questions: extractive.Encode
    encode_texts: extractive.Encode
    reads: int = extractive.PASSAGES
    """As `Generator.reads`."""

    def answer(self, questions: Sequence[str], retrieved: Sequence[Sequence[Hit]]) -> list[Written]:
        """As `Generator.answer`."""
        found = extractive.answer(questions, retrieved, self.encode_questions, self.encode_texts)
        return [Written(text, cited, likelihood=cosine) for text, cited, cosine in found]

    def stream(self, question: str, hits: Sequence[Hit]) -> Iterator[str | Written]:
        """As `Generator.stream`, in one piece."""
        return at_once(self.answer([question], [hits])[0])


@dataclass(frozen=True)
class OneLine:
    """A generator that copies sentences: its answers break where their documents were wrapped, and are joined."""

    generator: Generator

    @property
    def reads(self) -> int:
        """As `Generator.reads`."""
        return self.generator.reads

    def answer(self, questions: Sequence[str], retrieved: Sequence[Sequence[Hit]]) -> list[Written]:
        """As `Generator.answer`."""
        return [replace(said, text=" ".join(said.text.split())) for said in self.generator.answer(questions, retrieved)]

    def stream(self, question: str, hits: Sequence[Hit]) -> Iterator[str | Written]:
        """As `Generator.stream`, in one piece."""
        return at_once(self.answer([question], [hits])[0])


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
        loaded = language_model.load(folder, root)
        return fusion.fused(loaded) if loaded.limits.fusion else loaded
    return Fusion(fid.load(folder, root))


def rewriter(generator: Generator, history_tokens: int) -> followups.Rewriter:
    """What makes follow-ups stand alone: a served model, if there is one; the others know how to answer alone.

    Args:
        history_tokens: of earlier turns that a model reads.
    """
    if isinstance(generator, endpoint.Endpoint):
        return endpoint.ByModel(generator, history_tokens)
    return followups.ByRule()
