"""The assembled system: retrieve → answer → cite or abstain."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

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
from ragline.evaluation.confidence import Logistic
from ragline.generation import backends
from ragline.generation.generator import Generator, Written
from ragline.generation.prompts import ABSTENTION
from ragline.reading import Reading
from ragline.retrieval import encoder, index, lexical, rerank, search
from ragline.retrieval.signals import Signals
from ragline.retrieval.where import Where, allowed_neighbours
from ragline.types import Answer, Document, Hit, Passage

Answerer = Literal["generator", "extractive"]
LIKELIHOOD = "likelihood"
"""The feature that an answerer gives; all others are those of the search."""
_NOTHING = Written("", ())


@dataclass(frozen=True)
class Promise:
    """What was asked of the answers that are given, and what dev questions showed of it."""

    target: float
    """Mean of 1 - F1 that they may have, a question without an answer counting 1."""
    level: float
    """Probability with which they keep to it, over the draw of the documents that dev questions are about."""
    unanswerable: float
    """Share of the questions that the corpus is taken not to answer."""
    bound: float | None
    """Their risk is at most this, at that level; None where no threshold keeps to the target."""
    n: int
    """Dev questions that were answered to find out, those whose answer was taken out of the corpus among them."""
    n_clusters: int
    coverage: float
    """Share of these that the threshold lets through."""
    risk: float | None
    """Mean loss of those; None where there is none."""


@dataclass(frozen=True)
class Rule:
    """How sure an answer of the served answerer is, and from where on it is given."""

    confidence: Logistic
    answer_from: float
    """Confidence from which on an answer is given."""
    promise: Promise

    @property
    def before(self) -> bool:
        """Whether search alone settles it, so that nothing needs to be written that is declined anyway."""
        return LIKELIHOOD not in self.confidence.weights


@dataclass(frozen=True)
class Settings:
    """What evaluation was told to use, and what it chose on dev."""

    hybrid_weight: float | None
    """Share of the dense score in hybrid search; None: reciprocal rank fusion."""
    depth: int
    """Passages that dense and lexical search each bring before they are fused."""
    abstain_below: float
    """Best cosine under which the corpus is taken not to hold the answer; with a rule, of the other answerer alone."""
    answerer: Answerer
    """The better answerer by F1 on dev."""
    reranker: str | None = None
    """Cross-encoder that reads the best passages again, as `builtin.model_folder` takes it."""
    reranker_fingerprint: str = ""
    """Of the model that was evaluated, by `rerank.fingerprint`."""
    rerank_depth: int = 20
    """Passages that it reads."""
    rule: Rule | None = None
    """Decides instead of the best cosine whether answers of `answerer` are given; None: best cosine decides for all."""

    def rule_of(self, answerer: Answerer) -> Rule | None:
        """The rule that was learned from the answers of this answerer, if any was."""
        return self.rule if answerer == self.answerer else None

    def answer_from(self, answerer: Answerer) -> float:
        """Confidence from which on its answers are given."""
        rule = self.rule_of(answerer)
        return self.abstain_below if rule is None else rule.answer_from

    def confidence(self, answerer: Answerer, told: Signals, written: Written) -> float:
        """How sure one of its answers is: in [0, 1] by a rule, where 0 is nothing written; else the best cosine."""
        rule = self.rule_of(answerer)
        if rule is None:
            return told.cosine
        known = features(told, written)
        return rule.confidence.probability(known) if rule.before or LIKELIHOOD in known else 0.0


@dataclass(frozen=True, slots=True)
class _Found:
    hits: tuple[Hit, ...]
    signals: Signals


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
        who = answerer or self.settings.answerer
        found = self._found(questions, k, where)
        said = self._answering(who).answer(questions, [self._readable(one, who) for one in found])
        return [self._answer(written, one, who) for written, one in zip(said, found, strict=True)]

    def stream(
        self, question: str, k: int = 5, answerer: Answerer | None = None, where: Where | None = None
    ) -> Iterator[str | Answer]:
        """As `ask`, for one question: pieces of the text while it is being written, then the answer with all of it.

        The pieces put together are the text. An iterator that is closed early stops the writing. Where it takes the
        whole answer to know whether it is given, there is one piece.

        Raises:
            DataError: as `ask`.
            ServiceError: as `ask`; pieces that came before are no answer.
        """
        who = answerer or self.settings.answerer
        rule = self.settings.rule_of(who)
        held = rule is not None and not rule.before
        (found,) = self._found([question], k, where)
        for piece in self._answering(who).stream(question, self._readable(found, who)):
            if not isinstance(piece, str):
                answer = self._answer(piece, found, who)
                if answer.abstained or held:
                    yield answer.text
                yield answer
            elif not held:
                yield piece

    def _answering(self, answerer: Answerer) -> Generator:
        if answerer == "generator":
            return self.generator
        return backends.OneLine(_extractive(self.retriever.encoder))

    def _found(self, questions: Sequence[str], k: int, where: Where | None) -> list[_Found]:
        if k < 1:
            raise DataError(f"ask: expected to answer from 1 passage or more, got k = {k}; raise k")
        ranked = self.retriever.retrieve(questions, max(k, self.settings.depth), where)
        reading = self.reading if where is None else self._within(where, [hit for hits, _ in ranked for hit in hits])
        return [
            _Found(tuple(reading.hits({hit.passage.passage_id: hit.score for hit in hits}, k)), told)
            for hits, told in ranked
        ]

    def _readable(self, found: _Found, answerer: Answerer) -> Sequence[Hit]:
        """What an answerer gets: nothing where the system keeps quiet whatever it would write."""
        rule = self.settings.rule_of(answerer)
        if rule is not None and not rule.before:
            return found.hits
        sure = self.settings.confidence(answerer, found.signals, _NOTHING)
        return () if sure < self.settings.answer_from(answerer) else found.hits

    def _answer(self, written: Written, found: _Found, answerer: Answerer) -> Answer:
        if written.failed:
            raise ServiceError(f"generator: no answer: {written.failed}; ask again")
        sure = self.settings.confidence(answerer, found.signals, written)
        needed = self.settings.answer_from(answerer)
        abstained = abstains(written, sure, needed)
        return Answer(
            text=ABSTENTION if abstained else written.text,
            citations=() if abstained else written.cited,
            retrieved=found.hits,
            confidence=sure,
            abstained=abstained,
            needed=needed,
        )

    def _within(self, where: Where, hits: Sequence[Hit]) -> Reading:
        """What may be read around these hits: a parent holds none of the passages that the filter leaves out."""
        parents = {
            self.reading.place(hit.passage.passage_id): self.reading.children.get(hit.passage.parent, [hit.passage])
            for hit in hits
        }
        children = [passage for siblings in parents.values() for passage in siblings]
        return Reading(allowed_neighbours(children, where, self.retriever.sources))


def features(told: Signals, written: Written) -> dict[str, float]:
    """What confidence is learned from: the signals of a search and, where the answerer gives one, its likelihood."""
    known = {} if written.likelihood is None else {LIKELIHOOD: written.likelihood}
    return {**asdict(told), **known}


def abstains(written: Written, confidence: float, answer_from: float) -> bool:
    """Whether the system keeps quiet: it is not sure enough, or the answerer declined.

    One that failed has not declined.

    Args:
        confidence: as `Settings.confidence`.
        answer_from: as `Settings.answer_from`.
    """
    return confidence < answer_from or not (written.text or written.failed)


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
        chosen = Settings(**settings | {"rule": _rule(settings.get("rule"))})
    except (TypeError, KeyError):
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


def _rule(kept: Mapping[str, Any] | None) -> Rule | None:
    """A rule as JSON holds it; versions that were served before there were any have none."""
    if kept is None:
        return None
    return Rule(Logistic(**kept["confidence"]), kept["answer_from"], Promise(**kept["promise"]))


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
