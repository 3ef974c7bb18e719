"""Tune a bi-encoder: mine negatives, train, and settle how far to go from the base.

What a run is worth is for the caller to say; so is whether the outcome may be published.
"""

import copy
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from sentence_transformers import SentenceTransformer

from ragline import io
from ragline.errors import ModelError
from ragline.io import Vectors
from ragline.retrieval import encoder, index, mine, search, train
from ragline.retrieval.encoder import Encoder
from ragline.retrieval.lexical import LexicalIndex
from ragline.retrieval.losses import Candidates, Rows
from ragline.retrieval.mine import Miner, Negative, Rules
from ragline.retrieval.train import MakeLoss, Mine, Schedule
from ragline.training import CurvePoint
from ragline.types import Passage, QAExample, Run

DEPTH = 20
POOL_DEPTH = 5
MAX_WATCHED = 80
"""With towers `both`: dev questions, and nearest passages of each, that are ranked again at each evaluation."""

WORST = 0.0
"""Dev score of weights that are not finite: an earlier checkpoint may still do."""

Score = Callable[[Run, Sequence[QAExample]], float]
"""What a run over these questions is worth, from 0 up, higher is better."""


@dataclass(frozen=True)
class Ground:
    """What is searched, and the encoder to start from."""

    base: Encoder
    passages: Sequence[Passage]
    vectors: Vectors
    """(n_passages, d) float32 or float16, rows of unit length, under the base encoder."""
    words: LexicalIndex


@dataclass(frozen=True)
class Recipe:
    """How to tune."""

    towers: Literal["question", "both"]
    hard_negatives: int
    negative_margin: float
    schedule: Schedule
    remine: bool = False
    """Whether every epoch after the first mines its negatives anew."""
    interpolation: tuple[float, ...] = (1.0,)
    """Shares of the way from base to tuned weights to choose from; 1 is the tuned encoder itself."""
    similar_from: float | None = None
    """As `mine.Rules` has it."""


@dataclass(frozen=True)
class Folders:
    """What only makes a second run cheaper."""

    checkpoints: Path
    store: Path


Renew = Callable[[Encoder, Vectors], Rows]
"""A half-trained encoder and the corpus under it (n_passages, d) to new candidates, as `Candidates.rows`."""


@dataclass(frozen=True)
class Course:
    """What an encoder learns from."""

    examples: Sequence[QAExample]
    candidates: Candidates
    renew: Renew
    """Gives the candidates of later epochs, where the recipe asks for it."""
    key: str
    """Digest of what decides the course beyond recipe, examples and candidates."""
    make_loss: MakeLoss | None = None
    """What is learnt from the candidates; how to tell gold from the others where None."""
    negatives: Sequence[Negative] = ()
    excluded: Counter[str] = field(default_factory=Counter)


Plan = Callable[[Encoder, Vectors], Course]
"""An encoder and the corpus under it (n_passages, d) to what it is to learn from next."""


@dataclass(frozen=True)
class Outcome:
    """A tuned encoder beside its base."""

    encoder: Encoder
    run: Run
    """Over all dev questions and the whole corpus."""
    base_run: Run
    share: float
    """Share of the way from base to tuned weights."""
    shares: Mapping[float, float]
    """Dev score of every share there was to choose from; empty where there was one."""
    points: list[CurvePoint]
    pairs: int
    negatives: Sequence[Negative]
    """Of the first epoch."""
    excluded: Counter[str]


def tune(
    ground: Ground,
    questions: Sequence[QAExample],
    dev: Sequence[QAExample],
    recipe: Recipe,
    score: Score,
    folders: Folders,
    ledger: Path | None = None,
) -> Outcome:
    """Train on `questions` to tell their gold passages from mined negatives, choose by `dev`.

    Args:
        ledger: table to write of what the first mining left out, and why; None: nothing is written.

    Raises:
        As `follow`; ConfigError, DataError: as mining does.
    """
    rules = Rules(recipe.hard_negatives, recipe.negative_margin, similar_from=recipe.similar_from)
    miner = mine.prepare(questions, ground.passages, ground.words, rules)

    def contrast(side: Encoder, vectors: Vectors) -> Course:
        negatives, excluded = _mined(miner, side, vectors, ledger)
        examples, candidates = train.line_up(questions, ground.passages, negatives, recipe.hard_negatives)
        excluded["question with too few safe negatives"] = len(questions) - len(examples)

        def renew(side: Encoder, vectors: Vectors) -> Rows:
            return train.renew(examples, candidates, _mined(miner, side, vectors)[0])

        key = io.file_digest(Path(mine.__file__))
        return Course(examples, candidates, renew, key, negatives=negatives, excluded=excluded)

    return follow(ground, [contrast], dev, recipe, score, folders)


def follow(
    ground: Ground,
    plans: Sequence[Plan],
    dev: Sequence[QAExample],
    recipe: Recipe,
    score: Score,
    folders: Folders,
) -> Outcome:
    """Train by each plan in turn, choose by `dev`.

    With towers `question` no passage is encoded. With `both`, dev scores are taken over a small pool while training,
    and the corpus is encoded once at the end, and before every plan but the first.

    Raises:
        ConfigError, DataError: as the plans and training do.
        ModelError: no checkpoint has finite weights.
    """
    base, passages = ground.base, ground.passages
    shared = recipe.towers == "both"
    exact = index.build(ground.vectors, "flat")
    base_run = search.dense_run(_asked(dev), base, exact, passages, DEPTH)

    def by_questions(model: SentenceTransformer) -> float:
        side = Encoder(model, base.passages, base.fingerprint)
        return score(search.dense_run(_asked(dev), side, exact, passages, DEPTH), dev)

    by_weights = _by_pool(dev, base_run, passages, score) if shared else by_questions

    def dev_score(model: SentenceTransformer) -> float:
        return by_weights(model) if finite(model) else WORST

    def now(model: SentenceTransformer) -> tuple[Encoder, Vectors]:
        if not shared:
            return Encoder(model, base.passages, base.fingerprint), ground.vectors
        side = encoder.pair(model, model)
        return side, _corpus(side, ground, folders)

    given = None if shared else ground.vectors
    model = copy.deepcopy(base.questions)
    side, vectors = base, ground.vectors
    points: list[CurvePoint] = []
    for number, plan in enumerate(plans):
        if number:
            side, vectors = now(model)
        course = plan(side, vectors)
        key = _key(ground, model, course, dev, recipe)
        remine = _renewed(course.renew, now) if recipe.remine else None
        fitted = train.fit(
            model,
            course.examples,
            course.candidates,
            recipe.schedule,
            dev_score,
            folders.checkpoints / key,
            given,
            remine,
            course.make_loss,
        )
        points += _later(fitted, points)
        if not finite(model):
            raise ModelError(
                f"train_retriever: expected finite weights, got NaN or infinite ones after {points[-1].step} steps; "
                "lower learning_rate or raise temperature"
            )
    share, shares = choose_share(base.questions, model, recipe.interpolation, dev_score)
    model = between(base.questions, model, share)
    tuned = encoder.pair(model, model if shared else base.passages)
    if shared:
        exact = index.build(_corpus(tuned, ground, folders), "flat")
    run = search.dense_run(_asked(dev), tuned, exact, passages, DEPTH)
    pairs = len(course.examples)
    return Outcome(tuned, run, base_run, share, shares, points, pairs, course.negatives, course.excluded)


def _renewed(renew: Renew, now: Callable[[SentenceTransformer], tuple[Encoder, Vectors]]) -> Mine:
    return lambda model: renew(*now(model))


def _later(points: Sequence[CurvePoint], before: Sequence[CurvePoint]) -> list[CurvePoint]:
    """The points of a training that went on from another one's last step."""
    first = before[-1].step if before else 0
    return [replace(point, step=first + point.step) for point in points]


def finite(model: SentenceTransformer) -> bool:
    """Whether a training has left all weights finite."""
    return all(bool(torch.isfinite(weights).all()) for weights in model.parameters())


def between(base: SentenceTransformer, tuned: SentenceTransformer, share: float) -> SentenceTransformer:
    """An encoder whose weights lie a share of the way from the base's to the tuned ones; 1 gives `tuned` itself.

    Source: Wortsman et al., Robust fine-tuning of zero-shot models (WiSE-FT), CVPR 2022, equation 1.
    """
    if share == 1:
        return tuned
    start = base.state_dict()
    mixed = copy.deepcopy(tuned)
    with torch.no_grad():
        for name, weights in mixed.state_dict().items():
            if weights.is_floating_point():
                weights.copy_(torch.lerp(start[name].to(weights), weights, share))
    return mixed


def choose_share(
    base: SentenceTransformer,
    tuned: SentenceTransformer,
    shares: Sequence[float],
    dev_score: Callable[[SentenceTransformer], float],
) -> tuple[float, dict[float, float]]:
    """The share with the best dev score, among equals the one nearest to the base, and the scores of all.

    Share 0 is the base itself, which needs no choosing: it stays where nothing is better.
    """
    offered = sorted(set(shares) - {0.0})
    if len(offered) == 1:
        return offered[0], {}
    scores = {share: dev_score(between(base, tuned, share)) for share in offered}
    return max(offered, key=lambda share: (scores[share], -share)), scores


def _corpus(side: Encoder, ground: Ground, folders: Folders) -> Vectors:
    """(n_passages, d) under a tuned encoder, memory-mapped from a file that is gone with the array."""
    folders.checkpoints.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folders.checkpoints) as scratch:
        out = Path(scratch) / "vectors.npy"
        return encoder.encode_corpus(side, ground.passages, folders.store, out, ground.vectors.dtype)


def _mined(
    miner: Miner, side: Encoder, vectors: Vectors, ledger: Path | None = None
) -> tuple[list[Negative], Counter[str]]:
    """The negatives under an encoder of questions and the vectors of the corpus, and why others are not."""
    asked = encoder.encode_questions(side, [q.question for q in miner.questions])
    if ledger is None:
        return mine.mine(miner, asked, vectors)
    with io.write_frames(mine.LEDGER, ledger) as add:
        return mine.mine(miner, asked, vectors, lambda block: add(mine.ledger(block)))


def _by_pool(
    dev: Sequence[QAExample], base_run: Run, passages: Sequence[Passage], score: Score
) -> Callable[[SentenceTransformer], float]:
    """The dev score of a shared encoder, over few questions and few passages, as each evaluation encodes both."""
    watched = dev[:: -(-len(dev) // MAX_WATCHED)]
    pool = search.pool(passages, watched, base_run, POOL_DEPTH)
    return lambda model: score(search.pool_run(watched, model, pool), watched)


def _asked(questions: Sequence[QAExample]) -> dict[str, str]:
    return {q.question_id: q.question for q in questions}


def _key(ground: Ground, model: SentenceTransformer, course: Course, dev: Sequence[QAExample], recipe: Recipe) -> str:
    """Digest of everything that decides how the training goes."""
    used = [ground.passages[row] for row in sorted(set(course.candidates.rows.ravel().tolist()))]
    return io.digest(
        ground.base.fingerprint,
        encoder.fingerprint(model),
        index.passages_digest(ground.passages),
        repr((recipe, course.examples, used, dev)),
        course.candidates.rows.tobytes(),
        *train.code(),
        course.key,
    )
