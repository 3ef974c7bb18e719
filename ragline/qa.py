"""The assembled system: retrieve → answer → cite or abstain."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from ragline import io
from ragline.artifacts import (
    ANSWERING,
    DOCUMENTS,
    GENERATOR,
    LEXICAL_INDEX,
    PASSAGES,
    RETRIEVER,
    TUNED_ANN,
    TUNED_FINGERPRINT,
)
from ragline.errors import DataError, ModelError, ServiceError
from ragline.generation import backends
from ragline.generation.generator import Generator, Written
from ragline.generation.prompts import ABSTENTION
from ragline.reading import Reading
from ragline.retrieval import encoder, index, lexical, rerank, search
from ragline.retrieval.where import Where, allowed_neighbours
from ragline.types import Answer, Document, Hit, Passage

Answerer = Literal["generator", "extractive"]


@dataclass(frozen=True)
class Settings:
    """What evaluation was told to use, and what it chose on dev."""

    hybrid_weight: float | None
    """Share of the dense score in hybrid search; None: reciprocal rank fusion."""
    depth: int
    """Passages that dense and lexical search each bring before they are fused."""
    abstain_below: float
    """Best cosine under which the corpus is taken not to hold the answer."""
    answerer: Answerer
    """The better answerer by F1 on dev."""
    reranker: str | None = None
    """Cross-encoder that reads the best passages again, as `builtin.model_folder` takes it."""
    reranker_fingerprint: str = ""
    """Of the model that was evaluated, by `rerank.fingerprint`."""
    rerank_depth: int = 20
    """Passages that it reads."""


@dataclass(frozen=True, slots=True)
class _Found:
    hits: tuple[Hit, ...]
    confidence: float


@dataclass(frozen=True)
class System:
    """Answers questions over one corpus."""

    retriever: search.HybridRetriever
    generator: Generator
    settings: Settings

    @cached_property
    def reading(self) -> Reading:
        """What the answerers read around each passage."""
        return Reading(self.retriever.passages)

    def ask(
        self, questions: Sequence[str], k: int = 5, answerer: Answerer | None = None, where: Where | None = None
    ) -> list[Answer]:
        """Answer each question from its k best passages.

        Args:
            where: which passages may be found, and read; where none may, the answer is that there is none.

        Raises:
            DataError: a question is empty or far too long; k is less than 1.
            ServiceError: the generator failed.
        """
        found = self._found(questions, k, where)
        said = self._answering(answerer).answer(questions, [self._readable(one) for one in found])
        return [self._answer(written, one) for written, one in zip(said, found, strict=True)]

    def stream(
        self, question: str, k: int = 5, answerer: Answerer | None = None, where: Where | None = None
    ) -> Iterator[str | Answer]:
        """As `ask`, for one question: pieces of the text while it is being written, then the answer with all of it.

        The pieces put together are the text. An iterator that is closed early stops the writing.

        Raises:
            DataError: as `ask`.
            ServiceError: as `ask`; pieces that came before are no answer.
        """
        (found,) = self._found([question], k, where)
        for piece in self._answering(answerer).stream(question, self._readable(found)):
            if isinstance(piece, str):
                yield piece
                continue
            answer = self._answer(piece, found)
            if answer.abstained:
                yield answer.text
            yield answer

    def _answering(self, answerer: Answerer | None) -> Generator:
        if (answerer or self.settings.answerer) == "generator":
            return self.generator
        return backends.OneLine(_extractive(self.retriever.encoder))

    def _found(self, questions: Sequence[str], k: int, where: Where | None) -> list[_Found]:
        if k < 1:
            raise DataError(f"ask: expected to answer from 1 passage or more, got k = {k}; raise k")
        ranked = self.retriever.retrieve(questions, max(k, self.settings.depth), where)
        reading = self.reading if where is None else self._within(where, [hit for hits, _ in ranked for hit in hits])
        return [
            _Found(tuple(reading.hits({hit.passage.passage_id: hit.score for hit in hits}, k)), confidence)
            for hits, confidence in ranked
        ]

    def _readable(self, found: _Found) -> Sequence[Hit]:
        """What an answerer gets: nothing where the system keeps quiet whatever it would write."""
        return () if found.confidence < self.settings.abstain_below else found.hits

    def _answer(self, written: Written, found: _Found) -> Answer:
        if written.failed:
            raise ServiceError(f"generator: no answer: {written.failed}; ask again")
        abstained = abstains(written, found.confidence, self.settings.abstain_below)
        return Answer(
            text=ABSTENTION if abstained else written.text,
            citations=() if abstained else written.cited,
            retrieved=found.hits,
            confidence=found.confidence,
            abstained=abstained,
        )

    def _within(self, where: Where, hits: Sequence[Hit]) -> Reading:
        """What may be read around these hits: a parent holds none of the passages that the filter leaves out."""
        parents = {
            self.reading.place(hit.passage.passage_id): self.reading.children.get(hit.passage.parent, [hit.passage])
            for hit in hits
        }
        children = [passage for siblings in parents.values() for passage in siblings]
        return Reading(allowed_neighbours(children, where, self.retriever.sources))


def abstains(written: Written, confidence: float, abstain_below: float) -> bool:
    """Whether the system keeps quiet: the best match is too weak, or the answerer declined.

    One that failed has not declined.

    Args:
        confidence: best cosine.
    """
    return confidence < abstain_below or not (written.text or written.failed)


def write_answers(
    answerer: Answerer,
    questions: Sequence[str],
    retrieved: Sequence[Sequence[Hit]],
    generator: Generator,
    bi_encoder: encoder.Encoder,
) -> list[Written]:
    """An answer and its citations for every question, from the first passages found; no abstention yet."""
    if answerer == "generator":
        return generator.answer(questions, retrieved)
    return _extractive(bi_encoder).answer(questions, retrieved)


def reads(answerer: Answerer, generator: Generator) -> int:
    """Passages that an answerer reads at most, the first of those found."""
    return generator.reads if answerer == "generator" else backends.Extractive.reads


def _extractive(bi_encoder: encoder.Encoder) -> backends.Extractive:
    return backends.Extractive(
        lambda texts: encoder.encode_questions(bi_encoder, texts),
        lambda texts: encoder.encode_passages(bi_encoder, texts),
    )


def load(root: Path = Path(), project: Path | None = None) -> System:
    """Assemble the system from what the pipeline has made.

    Args:
        project: where calls of endpoints are kept, as nothing is written to a served version; None: `root`.

    Raises:
        MissingArtifact: names the stage to run.
        ModelError: encoder and indices do not belong together, the reranker is not the one that was evaluated, or a
            file is damaged.
    """
    settings = io.read_json(root / ANSWERING)
    try:
        chosen = Settings(**settings)
    except TypeError:
        raise ModelError(
            f"{ANSWERING}: expected what evaluate writes, got {settings}; run `dvc repro evaluate`"
        ) from None
    passages = io.read_table(Passage, root / PASSAGES)
    bi_encoder = encoder.load(str(io.require(RETRIEVER, root).relative_to(root)), root)
    retriever = search.HybridRetriever(
        encoder=bi_encoder,
        ann=index.read(root / TUNED_ANN, root / TUNED_FINGERPRINT, bi_encoder.fingerprint, passages),
        bm25=lexical.read(root / LEXICAL_INDEX),
        passages=passages,
        weight=chosen.hybrid_weight,
        depth=chosen.depth,
        rerank=reranker(chosen, root),
        rerank_depth=chosen.rerank_depth,
        sources={document.doc_id: document.source for document in io.iter_table(Document, root / DOCUMENTS)},
    )
    return System(retriever, backends.load(root / GENERATOR, root, project), chosen)


def reranker(chosen: Settings, root: Path = Path()) -> search.Rerank | None:
    """The reranker that was evaluated, where there is one.

    Raises:
        ModelError: there is another model in its place, or none.
    """
    if chosen.reranker is None:
        return None
    if (found := rerank.fingerprint(chosen.reranker, root)) != chosen.reranker_fingerprint:
        raise ModelError(
            f"{chosen.reranker}: another reranker than was evaluated: expected {chosen.reranker_fingerprint[:12]}, "
            f"got {found[:12]}; run `dvc repro -f evaluate`"
        )
    return rerank.load(chosen.reranker, root).rerank
