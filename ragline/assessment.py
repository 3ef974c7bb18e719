"""The ways to search and the ways to answer, scored on the same questions.

Stands beside `qa`: it puts retrieval, generation and evaluation together.
"""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from ragline import abstention, distractors, qa
from ragline.errors import ConfigError, DataError
from ragline.evaluation import answers, details, gate, outcomes, retrieval, slices
from ragline.generation.generator import Generator, Written
from ragline.reading import Reading
from ragline.retrieval import fuse, index, lexical, search
from ragline.retrieval.encoder import Encoder
from ragline.retrieval.signals import Signals, signals
from ragline.retrieval.words import analyser
from ragline.types import Hit, Passage, QAExample, Qrels, Run

Fusion = Literal["convex", "rrf"]

log = logging.getLogger(__name__)

ANSWERERS: tuple[qa.Answerer, ...] = ("extractive", "generator")
TUNED_METRIC = "mrr@10"
SHOWN = 5
"""Passages that a person and the answerers see."""
MAX_DEV = 60
"""Dev questions on which the better answerer is chosen."""
MAX_DISTRACTED = 30
"""Held-out questions that are answered from the gold passage beside 0, 1, … others."""


@dataclass(frozen=True)
class Reranking:
    """A cross-encoder that reads the best passages of hybrid search again."""

    name: str
    fingerprint: str
    rerank: search.Rerank
    depth: int
    """Passages that it reads."""


@dataclass(frozen=True)
class Engines:
    """Everything that can search this corpus.

    Raises:
        ModelError: the lexical index is one of other passages.
    """

    passages: Sequence[Passage]
    bm25: lexical.LexicalIndex
    base: tuple[Encoder, index.Index]
    tuned: tuple[Encoder, index.Index]
    depth: int
    """Passages that every search brings."""
    reranking: Reranking | None = None

    def __post_init__(self) -> None:
        lexical.check(self.bm25, self.passages)

    def runs(self, questions: Sequence[QAExample]) -> dict[str, Run]:
        """BM25, base and tuned search of every question."""
        asked = {q.question_id: q.question for q in questions}
        return {
            "bm25": search.lexical_run(asked, self.bm25, self.passages, self.depth),
            "base": search.dense_run(asked, *self.base, self.passages, self.depth),
            "tuned": search.dense_run(asked, *self.tuned, self.passages, self.depth),
        }

    def fused(self, questions: Sequence[QAExample], runs: Mapping[str, Run], weight: float | None) -> dict[str, Run]:
        """Hybrid search from those runs and, where there is a reranker, what it makes of it; what is served is last."""
        hybrid = fuse.fuse(runs["tuned"], runs["bm25"], weight, self.depth)
        if self.reranking is None:
            return {"hybrid": hybrid}
        asked = {q.question_id: q.question for q in questions}
        passages, again = self.reading.by_id, self.reranking
        return {
            "hybrid": hybrid,
            "reranked": search.reranked_run(asked, hybrid, passages.__getitem__, again.rerank, again.depth),
        }

    @property
    def served(self) -> str:
        """The search that people and answerers get."""
        return "hybrid" if self.reranking is None else "reranked"

    def hits(self, questions: Sequence[QAExample], run: Run) -> list[list[Hit]]:
        """The best passages of a run, for the answerers."""
        return [self.reading.hits(run[q.question_id], SHOWN) for q in questions]

    def signals(self, questions: Sequence[QAExample], runs: Mapping[str, Run], served: Run) -> dict[str, Signals]:
        """question_id → what its search says about its success, as when it is asked.

        Args:
            runs: of BM25 and of tuned search.
            served: of the search that is served.
        """
        passages, analyse = self.reading.by_id, analyser(self.bm25.language)
        return {
            q.question_id: signals(
                q.question,
                runs["tuned"][q.question_id],
                runs["bm25"][q.question_id],
                served[q.question_id],
                lambda passage: passages[passage].encoded_text,
                analyse,
            )
            for q in questions
        }

    @cached_property
    def reading(self) -> Reading:
        """What the answerers read around each passage."""
        return Reading(self.passages)


def choose(
    engines: Engines,
    generator: Generator,
    questions: Sequence[QAExample],
    most: int,
    fusion: Fusion = "convex",
    target: abstention.Target | None = None,
) -> qa.Settings:
    """Choose on dev: the hybrid weight, the better answerer, and when to decline.

    Without a target the system declines by best cosine alone, below what all but 1 % of the answerable dev questions
    reach: it refuses what looks unlike anything it was shown to answer, and seldom more. With one, answers of the
    better answerer are given by a rule that keeps to it, see `abstention.choose`. Without dev questions the system
    never declines, and extracts.

    Args:
        questions: those that nothing answers serve the rule alone.
        most: dev questions that both answerers answer.
        fusion: `convex` has its weight chosen here; `rrf`, reciprocal rank fusion, has none.

    Raises:
        ConfigError: `convex`, and no dev questions that can be answered.
    """
    dev = [q for q in questions if q.answerable]
    if not dev:
        return _unchosen(engines, fusion)
    runs = engines.runs(dev)
    weight = None if fusion == "rrf" else _weight(runs, dev, engines.depth)
    threshold = abstention.floor([max(runs["tuned"][q.question_id].values(), default=0.0) for q in dev])
    sample = dev[:: max(1, -(-len(dev) // most))]
    hits = engines.hits(sample, engines.fused(sample, _of(runs, sample), weight)[engines.served])
    f1 = {
        name: sum(
            answers.token_f1(written.text, q.answers)
            for q, written in zip(sample, _answers(name, sample, hits, generator, engines), strict=True)
        )
        for name in ANSWERERS
    }
    better: qa.Answerer = "generator" if f1["generator"] > f1["extractive"] else "extractive"
    chosen = _settings(engines, weight, threshold, better)
    if target is None:
        return chosen
    return replace(chosen, rule=_rule(engines, generator, questions, runs, chosen, target))


def _rule(
    engines: Engines,
    generator: Generator,
    questions: Sequence[QAExample],
    runs: Mapping[str, Run],
    chosen: qa.Settings,
    target: abstention.Target,
) -> qa.Rule | None:
    """What is learned of the better answerer from dev questions, from copies without their gold, and from those that
    nothing answers.

    Args:
        runs: of the answerable questions.
    """
    asked = abstention.one_of_each([q for q in questions if q.answerable], target.questions)
    others = abstention.one_of_each([q for q in questions if not q.answerable], target.questions)
    searched = {system: runs[system] for system in ("tuned", "bm25")}
    copies = abstention.without_gold(asked, searched, engines.reading.by_id)

    def examples(asked: Sequence[QAExample], runs: Mapping[str, Run], answerable: bool) -> list[abstention.Example]:
        served = engines.fused(asked, runs, chosen.hybrid_weight)[engines.served]
        told = engines.signals(asked, runs, served)
        said = _answers(chosen.answerer, asked, engines.hits(asked, served), generator, engines)
        return [
            abstention.Example(
                q.cluster or q.question_id,
                answerable,
                told[q.question_id],
                written,
                answers.token_f1(written.text, q.answers) if answerable else 0.0,
            )
            for q, written in zip(asked, said, strict=True)
        ]

    found = examples(asked, searched, True) + examples(asked, copies, False)
    if others:
        found += examples(others, engines.runs(others), False)
    return abstention.choose(found, target)


def _weight(runs: Mapping[str, Run], dev: Sequence[QAExample], depth: int) -> float:
    return round(fuse.tune(runs["tuned"], runs["bm25"], depth, lambda run: gate.mean(run, dev, TUNED_METRIC)), 2)


def _of(runs: Mapping[str, Run], questions: Sequence[QAExample]) -> dict[str, Run]:
    """The same runs for some of their questions."""
    return {system: {q: run[q] for q in _ids(questions)} for system, run in runs.items()}


def _unchosen(engines: Engines, fusion: Fusion) -> qa.Settings:
    if fusion == "convex":
        raise ConfigError(
            "evaluate.fusion: convex takes its weight from dev questions that can be answered, got none; "
            "set it to rrf, or add dev questions"
        )
    log.warning("no dev questions that can be answered: the system never declines, and extracts answers")
    return _settings(engines, None, abstention.NEVER, "extractive")


def _settings(engines: Engines, weight: float | None, abstain_below: float, answerer: qa.Answerer) -> qa.Settings:
    chosen = qa.Settings(weight, engines.depth, abstain_below, answerer)
    again = engines.reranking
    if again is None:
        return chosen
    return replace(chosen, reranker=again.name, reranker_fingerprint=again.fingerprint, rerank_depth=again.depth)


def _answers(
    name: qa.Answerer,
    questions: Sequence[QAExample],
    hits: Sequence[Sequence[Hit]],
    generator: Generator,
    engines: Engines,
) -> list[Written]:
    return qa.write_answers(name, [q.question for q in questions], hits, generator, engines.tuned[0])


@dataclass(frozen=True)
class Answered:
    """One set of questions, searched and answered; nothing is scored yet."""

    name: str
    questions: Sequence[QAExample]
    runs: dict[str, Run]
    """The ways to search; the one that is served is last."""
    hits: list[list[Hit]]
    """What the answerers saw of the served search, a list for each question."""
    said: dict[str, dict[str, Written]]
    """answerer → question_id → answer, whether or not the system keeps quiet."""
    reads: dict[str, int]
    """answerer → how many of the hits it reads, the first ones."""
    signals: Mapping[str, Signals]
    """question_id → what the search says about its success."""

    @property
    def served(self) -> str:
        """The search whose passages the answerers saw."""
        return [*self.runs][-1]


@dataclass(frozen=True)
class Assessed:
    """One set of questions, searched, answered and scored."""

    questions: Sequence[QAExample]
    runs: dict[str, Run]
    retrieval: dict[str, dict[str, dict[str, float]]]
    """system → metric → question_id → value, answerable questions alone."""
    answers: dict[str, dict[str, dict[str, float]]]
    """answerer → metric → question_id → value, answerable questions alone."""
    bleu: dict[str, float]
    predictions: list[dict[str, Any]]
    """One row a question, for the report; `abstained` where the answerer chosen on dev speaks."""
    details: dict[str, Any]
    """Tables beside the headline figures, as `evaluation.details` gives them."""
    risk_coverage: dict[str, list[tuple[float, float]]]
    """answerer → points of (share answered, mean loss)."""

    @property
    def served(self) -> str:
        """The search whose passages the answerers saw."""
        return [*self.runs][-1]

    @property
    def clusters(self) -> dict[str, str]:
        """question_id → document cluster."""
        return {q.question_id: q.cluster for q in self.questions}


def assess(
    name: str, questions: Sequence[QAExample], engines: Engines, generator: Generator, settings: qa.Settings
) -> Assessed:
    """Search and answer every question, score those that can be answered.

    Answers are scored as they are written, whether or not the system would have abstained.

    Raises:
        DataError: no question can be answered, or a search gave a score that is NaN.
    """
    return score(answer(name, questions, engines, generator, settings), engines.reading, settings)


def answer(
    name: str, questions: Sequence[QAExample], engines: Engines, generator: Generator, settings: qa.Settings
) -> Answered:
    """Search every question, and let both answerers answer it: all that needs a model."""
    runs = engines.runs(questions)
    runs |= engines.fused(questions, runs, settings.hybrid_weight)
    hits = engines.hits(questions, runs[engines.served])
    told = engines.signals(questions, runs, runs[engines.served])
    said = {
        str(a): dict(zip(_ids(questions), _answers(a, questions, hits, generator, engines), strict=True))
        for a in ANSWERERS
    }
    return Answered(name, questions, runs, hits, said, {str(a): qa.reads(a, generator) for a in ANSWERERS}, told)


def distracted(
    result: Assessed, engines: Engines, generator: Generator, most: int, seed: int
) -> dict[str, dict[str, dict[str, float]]]:
    """answerer → number of distractors beside the gold passage → question_id → F1, of one question of a document.

    Args:
        most: questions that are answered anew, once for each number.
    """
    asked = abstention.one_of_each([q for q in result.questions if q.answerable], most)
    run = result.runs[result.served]

    def answering(name: qa.Answerer) -> distractors.Answer:
        return lambda texts, hits: qa.write_answers(name, texts, hits, generator, engines.tuned[0])

    return {
        str(a): distractors.scores(asked, run, engines.reading, qa.reads(a, generator), answering(a), seed)
        for a in ANSWERERS
    }


def score(answered: Answered, reading: Reading, settings: qa.Settings) -> Assessed:
    """Score what was found and said, without any model.

    Raises:
        DataError: as `assess`.
    """
    answerable = [q for q in answered.questions if q.answerable]
    if not answerable:
        raise DataError(
            f"{answered.name}: expected questions that the documents answer, got none among "
            f"{len(answered.questions)}; add some, or leave the set out"
        )
    for system, run in answered.runs.items():
        _no_nan(f"{answered.name}: {system}", run)
    gold = gate.qrels(answerable)
    places = {question: frozenset(reading.places(passages)) for question, passages in gold.items()}
    found = {system: _judged(run, gold) for system, run in answered.runs.items()}
    scored = {who: _answer_scores(given, answerable, places, reading) for who, given in answered.said.items()}
    asked = _asked(answered, scored, reading, settings)
    for who, recall in details.citation_recall(asked).items():
        scored[who]["citation_recall"] = recall
    grounded = details.groundedness(asked)
    for who, values in grounded.items():
        scored[who]["groundedness"] = {question: values[question] for question in gold if question in values}
    ranks = {system: retrieval.ranks(run, gold, settings.depth) for system, run in found.items()}
    return Assessed(
        answered.questions,
        answered.runs,
        {system: retrieval.score(run, gold) for system, run in found.items()},
        scored,
        {who: _bleu(given, answerable) for who, given in answered.said.items()},
        _Rows(answered, asked, reading, settings, places, ranks, scored, grounded).predictions(),
        details.figures(asked),
        details.risk_coverage(asked),
    )


def _no_nan(where: str, run: Run) -> None:
    if odd := sorted(question for question, scores in run.items() if any(map(math.isnan, scores.values()))):
        raise DataError(f"{where}: question {odd[0]!r} has a score that is NaN, expected numbers; run retrieval again")


def _answer_scores(
    given: Mapping[str, Written],
    answerable: Sequence[QAExample],
    places: Mapping[str, frozenset[str]],
    reading: Reading,
) -> dict[str, dict[str, float]]:
    """metric → question_id → value: words against the references, and places cited against the gold ones."""
    references = {q.question_id: q.answers for q in answerable}
    texts = {question: given[question].text for question in references}
    cited = {
        question: reading.places(hit.passage.passage_id for hit in given[question].cited) for question in references
    }
    return {**answers.score(texts, references), "citation_precision": answers.citation_precision(cited, places)}


def _bleu(given: Mapping[str, Written], answerable: Sequence[QAExample]) -> float:
    texts = [given[q.question_id].text for q in answerable]
    return answers.corpus_bleu(texts, [q.answers for q in answerable])


def _asked(
    answered: Answered,
    scored: Mapping[str, Mapping[str, Mapping[str, float]]],
    reading: Reading,
    settings: qa.Settings,
) -> details.Answered:
    """The same without what evaluation may not know of."""
    told = answered.signals
    confidence: dict[str, dict[str, float]] = {}
    quiet: dict[str, dict[str, bool]] = {}
    for who in _answerers(answered.said):
        given, needed = answered.said[who], settings.answer_from(who)
        sure = {q: settings.confidence(who, told[q], written) for q, written in given.items()}
        quiet[who] = {q: qa.abstains(written, sure[q], needed) for q, written in given.items()}
        confidence[who] = sure
    said = {
        who: {q: (written.text, written.cited) for q, written in given.items()} for who, given in answered.said.items()
    }
    f1 = {who: metrics["answer_f1"] for who, metrics in scored.items()}
    return details.Answered(answered.questions, answered.runs, said, confidence, quiet, f1, reading.by_id)


def _answerers(said: Iterable[str]) -> list[qa.Answerer]:
    return [who for who in ANSWERERS if who in said]


def _ids(questions: Sequence[QAExample]) -> list[str]:
    return [q.question_id for q in questions]


def _judged(run: Run, gold: Qrels) -> Run:
    return {question: run[question] for question in gold}


def _first(marks: Sequence[bool]) -> int:
    """Place from 1 of the first True; 0 where there is none."""
    return [*marks].index(True) + 1 if any(marks) else 0


@dataclass(frozen=True)
class _Rows:
    """Puts the rows of the table of predictions together."""

    answered: Answered
    asked: details.Answered
    reading: Reading
    settings: qa.Settings
    places: Mapping[str, frozenset[str]]
    """question_id → where its gold passages are read, answerable questions alone."""
    ranks: Mapping[str, Mapping[str, int]]
    """system → question_id → rank of the first gold passage, answerable questions alone."""
    scored: Mapping[str, Mapping[str, Mapping[str, float]]]
    """answerer → metric → question_id → value, answerable questions alone."""
    grounded: Mapping[str, Mapping[str, float]]
    """answerer → question_id → share of the answer that its citations say; not of answers without words."""

    def predictions(self) -> list[dict[str, Any]]:
        """One for each question, in the order given."""
        return [self._row(q, hits) for q, hits in zip(self.answered.questions, self.answered.hits, strict=True)]

    def _row(self, q: QAExample, hits: Sequence[Hit]) -> dict[str, Any]:
        question = q.question_id
        shown = [self._is_gold(question, hit) for hit in hits]
        return {
            "set": self.answered.name,
            "question_id": question,
            "question": q.question,
            "kind": q.kind,
            "language": slices.language(q.question, next(iter(q.answers), "")),
            "document": q.doc_id,
            "cluster": q.cluster,
            "answerable": q.answerable,
            "answers": list(q.answers),
            "gold_passage_ids": list(q.gold_passage_ids),
            **{f"rank_{system}": ranks.get(question, 0) for system, ranks in self.ranks.items()},
            "retrieved_ids": [hit.passage.passage_id for hit in hits],
            "retrieved_scores": [round(hit.score, 6) for hit in hits],
            "retrieved_gold": shown,
            "gold_position": _first(shown),
            **{
                f"{answerer}_{field}": value
                for answerer in self.answered.said
                for field, value in self._said(q, answerer, shown).items()
            },
            "confidence": round(self.asked.confidence[self.settings.answerer][question], 6),
            "abstained": self.asked.abstained[self.settings.answerer][question],
        }

    def _said(self, q: QAExample, answerer: str, shown: Sequence[bool]) -> dict[str, Any]:
        position = _first(shown[: self.answered.reads[answerer]])
        written = self.answered.said[answerer][q.question_id]
        em, f1 = (self.scored[answerer][metric].get(q.question_id, 0.0) for metric in ("answer_em", "answer_f1"))
        grounded = self.grounded[answerer].get(q.question_id, 0.0)
        course = outcomes.Course(
            q.answerable,
            found=any(shown) or self.ranks[self.answered.served].get(q.question_id, 0) > 0,
            gold_position=position,
            cites=bool(written.cited),
            cites_gold=any(self._is_gold(q.question_id, hit) for hit in written.cited),
            grounded=grounded,
            f1=f1,
            declined=self.asked.abstained[answerer][q.question_id],
            failed=bool(written.failed),
        )
        return {
            "answer": written.text,
            "cited": [hit.passage.passage_id for hit in written.cited],
            "failed": written.failed,
            "gold_position": position,
            "reads": self.answered.reads[answerer],
            "em": round(em, 6),
            "f1": round(f1, 6),
            "grounded": round(grounded, 6),
            "outcome": outcomes.outcome(course),
        }

    def _is_gold(self, question: str, hit: Hit) -> bool:
        return self.reading.place(hit.passage.passage_id) in self.places.get(question, ())
