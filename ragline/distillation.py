"""Tune the retriever by what a reader or a language model makes of the passages: `dca` and `rpg`.

Generation knows how to score passages, retrieval how to learn from scores; they meet here.
"""

import json
import logging
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ragline import inference, io
from ragline.builtin import shipped_weights
from ragline.errors import ConfigError, DataError, ModelError
from ragline.generation import fid, relevance, train
from ragline.generation.relevance import Limits, Scorer, Signal
from ragline.progress import track
from ragline.retrieval import distil, encoder, tune
from ragline.retrieval import store as vector_store
from ragline.retrieval.distil import Kl, Weighing
from ragline.retrieval.encoder import Encoder
from ragline.retrieval.losses import Candidates, Rows
from ragline.retrieval.tune import Course, Folders, Ground, Outcome, Recipe, Score
from ragline.training import Schedule, evenly
from ragline.types import Passage, QAExample

log = logging.getLogger(__name__)

BLOCK = 32
"""Questions scored between two progress updates, and what a killed run scores again at most."""
MAX_DEV = 64
"""Dev questions that the reader's loss is taken on."""
READER_EVALUATIONS = 2


@dataclass(frozen=True)
class ReaderLessons:
    """How a built-in reader is trained before it judges: it comes without a trained decoder."""

    max_examples: int
    """Training questions used, taken evenly."""
    passages: int
    """Passages read per question while it learns."""
    epochs: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True)
class Teaching:
    """Who judges passages, and how the retriever learns from it."""

    signal: Signal
    scorer: str
    """A built-in reader, the folder of a trained one, or a language model by folder or hub id."""
    limits: Limits
    candidates: int
    """Passages judged per question: the nearest ones, a gold one among them."""
    temperature: float
    """The scores are divided by it."""
    kl: Kl
    iterations: int
    """Times that passages are found, a built-in reader trained on them, and the retriever by it."""
    reader: ReaderLessons | None
    """None where the scorer is ready for use."""


def distil_into(
    ground: Ground,
    questions: Sequence[QAExample],
    dev: Sequence[QAExample],
    recipe: Recipe,
    teaching: Teaching,
    score: Score,
    folders: Folders,
    root: Path = Path(),
) -> Outcome:
    """Train on `questions` by the scorer's verdicts, choose by `dev`.

    That a passage is gold decides only that it is among those judged, not what is learnt of it. A killed run goes on
    from its scores, its trained reader and the last checkpoint.

    Raises:
        ConfigError, ModelError: as `check` does, as loading the scorer does, and as `tune.follow` does.
        DataError: a question or answer that cannot be judged.
    """
    check(recipe, teaching)
    made: list[Path] = []  # trained readers, each the start of the next
    ready = None if teaching.reader else relevance.load(teaching.scorer, teaching.signal, teaching.limits, root)

    def judge(rows: Rows, vectors: io.Vectors, side: Encoder) -> Scorer:
        if ready is not None:
            return ready
        found = _found(evenly(dev, MAX_DEV), side, ground.passages, vectors, teaching.candidates)
        lessons = _lessons(questions, rows, ground.passages, teaching, recipe.schedule.seed)
        watched = _lessons(evenly(dev, MAX_DEV), found, ground.passages, teaching, recipe.schedule.seed)
        made.append(_trained_reader(made, lessons, watched, teaching, recipe.schedule.seed, folders.checkpoints, root))
        return relevance.of_reader(fid.load(made[-1], root), teaching.signal, teaching.limits.per_token)

    def plan(side: Encoder, vectors: io.Vectors) -> Course:
        rows = _found(questions, side, ground.passages, vectors, teaching.candidates)
        scorer = judge(rows, vectors, side)
        teacher = StoredScores(scorer, questions, ground.passages, folders.store)
        _report(questions, ground.passages, rows, teacher(range(len(questions)), rows))

        def renew(side: Encoder, vectors: io.Vectors) -> Rows:
            rows = _found(questions, side, ground.passages, vectors, teaching.candidates)
            teacher(range(len(questions)), rows)  # all at once, as the store is read through each time
            return rows

        weighing = Weighing(recipe.schedule.temperature, teaching.temperature, teaching.kl)
        key = io.digest(scorer.fingerprint, repr(weighing), distil.code(), io.file_digest(Path(__file__)))
        make_loss = distil.loss_maker(teacher, weighing, recipe.schedule.mini_batch_size)
        return Course(questions, Candidates(ground.passages, rows), renew, key, make_loss)

    outcome = tune.follow(ground, [plan] * teaching.iterations, dev, recipe, score, folders)
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


def check(recipe: Recipe, teaching: Teaching) -> None:
    """Make sure that the settings go together.

    Raises:
        ConfigError: they do not.
    """
    schedule = recipe.schedule
    contrastive = {"symmetric": schedule.symmetric, "matryoshka": schedule.matryoshka, "compat": schedule.compat}
    contrastive["similar_from"] = recipe.similar_from
    if odd := [name for name, value in contrastive.items() if value]:
        raise ConfigError(f"train_retriever.{odd[0]}: belongs to method ctl; set it to null, or method: ctl")
    if (teaching.scorer in fid.ENCODERS) != (teaching.reader is not None):
        wanted = "settings" if teaching.reader is None else "null"
        raise ConfigError(
            f"train_retriever.distil.reader: expected {wanted} with scorer {teaching.scorer}, as a built-in reader is "
            f"trained and no other; got {'null' if teaching.reader is None else 'settings'}"
        )


def _found(
    questions: Sequence[QAExample], side: Encoder, passages: Sequence[Passage], vectors: io.Vectors, count: int
) -> Rows:
    asked = encoder.encode_questions(side, [q.question for q in questions])
    return distil.find(questions, asked, passages, vectors, count)


def _lessons(
    questions: Sequence[QAExample], rows: Rows, passages: Sequence[Passage], teaching: Teaching, seed: int
) -> list[train.Lesson]:
    """What the reader is trained on: some of the passages that it is to judge, in random order, gold among them."""
    assert teaching.reader is not None
    rng = random.Random(seed)
    text_of = {passages[row].passage_id: passages[row].encoded_text for row in np.unique(rows).tolist()}
    lessons = []
    for number in evenly(range(len(questions)), teaching.reader.max_examples):
        question, ranked = questions[number], [passages[row].passage_id for row in rows[number].tolist()]
        gold = [p for p in ranked if p in question.gold_passage_ids]
        chosen = train.choose_passages(ranked, gold, teaching.reader.passages, rng)
        lessons.append(train.Lesson(question.question, tuple(text_of[p] for p in chosen), question.answers[0]))
    return lessons


def _trained_reader(
    earlier: Sequence[Path],
    lessons: Sequence[train.Lesson],
    dev: Sequence[train.Lesson],
    teaching: Teaching,
    seed: int,
    checkpoints: Path,
    root: Path,
) -> Path:
    """Folder of the reader that goes on from the last of the earlier ones, trained now or by a run that was killed."""
    how, limits = teaching.reader, teaching.limits
    assert how is not None
    config = fid.ReaderConfig(
        fid.ENCODERS[teaching.scorer], how.passages, limits.max_input_tokens, limits.max_answer_tokens
    )
    started = [path.name for path in earlier]
    shipped = shipped_weights(teaching.scorer, root)
    origin = io.file_digest(shipped) if shipped else ""
    key = io.digest(teaching.scorer, origin, repr((started, lessons, dev, how, config, seed)), *train.code())
    folder = checkpoints / f"reader-{key}"
    if not folder.is_dir():
        reader = fid.load(earlier[-1], root) if earlier else fid.warm_start(teaching.scorer, config, root)
        schedule = Schedule(how.epochs, how.batch_size, how.learning_rate, READER_EVALUATIONS, seed)
        train.fit(reader, lessons, dev, schedule, checkpoints / key)
        fid.save(reader, folder)
    return folder


def _report(
    questions: Sequence[QAExample], passages: Sequence[Passage], rows: Rows, scores: npt.NDArray[np.float64]
) -> None:
    """Say how often the teacher prefers a gold passage: one that does so less often than search can teach little."""
    gold = [
        [passages[row].passage_id in question.gold_passage_ids for row in found]
        for question, found in zip(questions, rows.tolist(), strict=True)
    ]
    best = scores.argmax(axis=1)
    by_teacher = np.mean([marks[place] for marks, place in zip(gold, best, strict=True)])
    by_search = np.mean([marks[0] for marks in gold])
    log.info(
        "of %d training questions the scorer puts a gold passage first for %.1f %%, search for %.1f %%",
        len(questions),
        100 * by_teacher,
        100 * by_search,
    )


@dataclass(frozen=True)
class StoredScores:
    """A scorer's verdicts, kept in memory for the present candidates and in the vector store for later runs.

    The store can only save time: a verdict is rounded to float32 before it is used, as the store keeps it.
    """

    scorer: Scorer
    questions: Sequence[QAExample]
    passages: Sequence[Passage]
    store: Path
    _known: dict[int, tuple[tuple[int, ...], npt.NDArray[np.float64]]] = field(default_factory=dict)

    def __call__(self, numbers: Sequence[int], rows: Rows) -> npt.NDArray[np.float64]:
        """Scores of questions' candidates; a `distil.Teacher`.

        Raises:
            DataError: nothing of a question's candidates can be judged.
            ModelError: the scorer gives no numbers.
            ServiceError: the disk refused.
        """
        wanted = list(zip(numbers, map(tuple, rows.tolist()), strict=True))
        unknown = [(n, found) for n, found in wanted if n not in self._known or self._known[n][0] != found]
        for (number, found), scores in zip(unknown, self._learnt(unknown), strict=True):
            self._known[number] = (found, scores)
        return np.stack([self._known[number][1] for number, _ in wanted])

    def _learnt(self, pairs: Sequence[tuple[int, tuple[int, ...]]]) -> Iterator[npt.NDArray[np.float64]]:
        """From the store where it has them, the others scored and put there."""
        if not pairs:
            return
        keys = vector_store.text_keys(text for number, found in pairs for text in self._keyed(number, found))
        name = io.digest("relevance", self.scorer.fingerprint, inference.arithmetic())
        shelf, places = vector_store.shelf(self.store, name, dim=1), vector_store.Rows(keys)
        stored = np.full((len(keys), 1), np.nan, dtype=np.float32)
        for known, values in shelf.segments():
            taken, at = places.of(known)
            stored[at] = values[taken]
        scores = stored.reshape(len(pairs), -1)
        new = np.flatnonzero(np.isnan(scores).any(axis=1)).tolist()
        for start in track(
            range(0, len(new), BLOCK), -(-len(new) // BLOCK), f"judging passages ({BLOCK} questions a step)"
        ):
            block = new[start : start + BLOCK]
            for place in block:
                number, found = pairs[place]
                open_ones = np.flatnonzero(np.isnan(scores[place]) | self.scorer.together)
                scores[place, open_ones] = self._judged(number, [found[one] for one in open_ones])
            shelf.add(keys.reshape(scores.shape)[block].ravel(), scores[block].reshape(-1, 1))
        shelf.tidy(places.firsts[0])
        for (number, _), row in zip(pairs, scores, strict=True):
            if np.isneginf(row).all():
                raise DataError(
                    f"question {self.questions[number].question_id}: expected room for some passage beside it, "
                    "got none; raise max_input_tokens"
                )
            yield row.astype(np.float64)

    def _keyed(self, number: int, found: Sequence[int]) -> list[str]:
        """For each candidate everything that decides its score."""
        question = self.questions[number]
        texts = [self.passages[row].encoded_text for row in found]
        beside = io.digest(*sorted(set(texts))) if self.scorer.together else ""
        return [json.dumps([question.question, question.answers[0], text, beside]) for text in texts]

    def _judged(self, number: int, found: Sequence[int]) -> npt.NDArray[np.float64]:
        """(n,) scores; of equal texts one is read, and all get its score."""
        question = self.questions[number]
        texts = [self.passages[row].encoded_text for row in found]
        once = list(dict.fromkeys(texts))
        scores = self.scorer.scores(question.question, once, question.answers[0])
        if np.isnan(scores).any():
            raise ModelError("scorer: expected numbers, got NaN; name another in train_retriever.distil.scorer")
        return scores[[once.index(text) for text in texts]]
