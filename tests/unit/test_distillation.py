"""A reader or a language model teaches the retriever: what it prefers comes first, and a killed run loses nothing."""

import shutil
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from ragline import distillation, repro
from ragline.distillation import ReaderLessons, StoredScores, Teaching, distil_into
from ragline.errors import ConfigError, DataError, ModelError
from ragline.generation import fid, relevance
from ragline.generation.relevance import Limits
from ragline.retrieval import encoder, lexical
from ragline.retrieval.train import Schedule
from ragline.retrieval.tune import Folders, Ground, Recipe
from tests.fixtures.encoders import tiny_encoder
from tests.fixtures.language_models import tiny_causal, tiny_seq2seq, tokenizer
from tests.fixtures.small import passage, question, random_reader
from tests.fixtures.trainings import killed_at

THINGS = "apple anchor basket beacon candle carpet dagger drum eagle engine feather fence".split()
PASSAGES = [passage(f"{t}#0000", f"The {t} stands on shelf {n}.", cluster=t) for n, t in enumerate(THINGS)]
QUESTIONS = [
    question(t, f"{t}#0000", f"Where is the {t}?", cluster=t, answer=f"on shelf {n}") for n, t in enumerate(THINGS)
]
SCHEDULE = Schedule(
    epochs=20, batch_size=4, learning_rate=3e-3, temperature=0.1, max_passage_tokens=32, evaluations=2, seed=3
)
RECIPE = Recipe("question", 1, 1.0, SCHEDULE)
TEACHING = Teaching(
    signal="likelihood",
    scorer="models/lm",
    limits=Limits(64, 8),
    candidates=6,
    temperature=0.1,
    kl="forward",
    iterations=1,
    reader=None,
)


@dataclass
class Words:
    """A scorer that likes passages with the answer's words, and counts what it is asked."""

    fingerprint: str = "words"
    together: bool = False
    asked: Counter = field(default_factory=Counter)

    def scores(self, question, passages, answer):
        self.asked.update((question, p) for p in passages)
        wanted = set(answer.lower().split())
        return np.array([len(wanted & set(p.lower().rstrip(".").split())) / len(wanted) for p in passages])


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    tiny = tiny_encoder(tmp_path_factory.mktemp("tiny"))
    base = encoder.pair(tiny, tiny)
    vectors = encoder.encode_passages(base, [p.encoded_text for p in PASSAGES])
    return Ground(base, PASSAGES, vectors, lexical.build(PASSAGES))


def recall_at_1(run, questions) -> float:
    return float(
        np.mean([max(run[q.question_id], key=run[q.question_id].get) == q.gold_passage_ids[0] for q in questions])
    )


def folders(tmp_path):
    return Folders(tmp_path / "checkpoints", tmp_path / "store")


def tuned(ground, tmp_path, teaching=TEACHING, recipe=RECIPE):
    repro.seed_everything(3)
    return distil_into(ground, QUESTIONS, QUESTIONS, recipe, teaching, recall_at_1, folders(tmp_path), tmp_path)


# --- the store of scores -------------------------------------------------------------------------------------------

ROWS = np.array([[0, 3, 2], [1, 0, 5]])


def test_scores_come_from_the_store_and_follow_their_passages(tmp_path):
    first = Words()
    scores = StoredScores(first, QUESTIONS, PASSAGES, tmp_path)([4, 7], ROWS)
    assert scores.shape == (2, 3) and sum(first.asked.values()) == 6
    again = Words()
    stored = StoredScores(again, QUESTIONS, PASSAGES, tmp_path)
    turned = stored([7, 4], ROWS[::-1, ::-1])
    assert np.array_equal(turned, scores[::-1, ::-1]) and not again.asked
    # Passage 6 is new to question 4; the others are known.
    stored([4], np.array([[0, 6, 2]]))
    assert again.asked == {(QUESTIONS[4].question, PASSAGES[6].encoded_text): 1}


@pytest.mark.parametrize("change", ["fingerprint", "answer", "question", "passages"])
def test_another_scorer_text_or_company_is_asked_anew(change, tmp_path):
    StoredScores(Words(together=True), QUESTIONS, PASSAGES, tmp_path)([4], ROWS[:1])
    other = Words(together=True, fingerprint="others" if change == "fingerprint" else "words")
    questions = list(QUESTIONS)
    if change in ("answer", "question"):
        text = ("something else",) if change == "answer" else "something else"
        questions[4] = replace(questions[4], **{"answers" if change == "answer" else "question": text})
    rows = np.array([[0, 3, 1]]) if change == "passages" else ROWS[:1]
    StoredScores(other, questions, PASSAGES, tmp_path)([4], rows)
    assert sum(other.asked.values()) == 3


def test_with_the_store_or_without_the_scores_are_the_same_bytes(tmp_path):
    words = tokenizer()
    for number, signal in enumerate(("likelihood", "attention")):
        scorer = relevance.of_model(tiny_seq2seq(), words, signal, Limits(64, 8))
        cold, warm, other = (
            StoredScores(scorer, QUESTIONS, PASSAGES, tmp_path / f"{number}-{name}")([1, 2], ROWS)
            for name in ("a", "a", "b")
        )
        assert np.array_equal(cold, warm) and np.array_equal(cold, other)


def test_equal_texts_get_one_score(tmp_path):
    twice = [PASSAGES[0], replace(PASSAGES[0], passage_id="copy#0000"), PASSAGES[1]]
    for signal in ("attention", "likelihood"):
        scorer = relevance.of_reader(random_reader(), signal)
        scores = StoredScores(scorer, QUESTIONS, twice, tmp_path / signal)([0], np.array([[1, 2, 0]]))[0]
        assert scores[0] == scores[2] != scores[1]


def test_scores_that_are_no_numbers_are_refused(tmp_path):
    @dataclass
    class Broken(Words):
        value: float = np.nan

        def scores(self, question, passages, answer):
            return np.full(len(passages), self.value)

    with pytest.raises(ModelError, match="scorer: expected numbers, got NaN"):
        StoredScores(Broken(), QUESTIONS, PASSAGES, tmp_path)([4], ROWS[:1])
    with pytest.raises(DataError, match="question candle: expected room for some passage beside it, got none"):
        StoredScores(Broken(value=-np.inf), QUESTIONS, PASSAGES, tmp_path)([4], ROWS[:1])


# --- learning from it ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("towers", "kl", "remine"),
    [("question", "forward", False), ("question", "reverse", True), ("both", "forward", False)],
)
def test_the_retriever_learns_what_its_teacher_prefers(ground, tmp_path, monkeypatch, towers, kl, remine):
    monkeypatch.setattr(relevance, "load", lambda *_: Words())
    recipe = replace(RECIPE, towers=towers, remine=remine)
    teaching = replace(TEACHING, kl=kl, candidates=len(PASSAGES))
    found = tuned(ground, tmp_path, teaching, recipe)
    before, after = (recall_at_1(run, QUESTIONS) for run in (found.base_run, found.run))
    assert before <= 0.25 and after >= 0.75
    same = tuned(ground, tmp_path / "again", teaching, recipe)
    assert same.run == found.run and same.points == found.points


@pytest.mark.slow
def test_both_signals_of_a_language_model_on_disk_reach_the_retriever(ground, tmp_path):
    for name, model in (("lm", tiny_causal()), ("t5", tiny_seq2seq())):
        model.save_pretrained(tmp_path / "models" / name)
        tokenizer().save_pretrained(tmp_path / "models" / name)
    recipe = replace(RECIPE, schedule=replace(SCHEDULE, epochs=1))
    for signal, scorer in (("likelihood", "models/lm"), ("likelihood", "models/t5"), ("attention", "models/t5")):
        found = tuned(ground, tmp_path, replace(TEACHING, signal=signal, scorer=scorer), recipe)
        assert found.pairs == 12 and found.points[-1].step == 3 and np.isfinite(found.points[-1].loss)


@pytest.mark.slow
def test_iterations_start_from_what_the_last_one_found(ground, tmp_path, monkeypatch):
    monkeypatch.setattr(relevance, "load", lambda *_: Words())
    asked = []
    whole = distillation.distil.find

    def spy(questions, vectors, *rest):
        asked.append(vectors)
        return whole(questions, vectors, *rest)

    monkeypatch.setattr(distillation.distil, "find", spy)
    recipe = replace(RECIPE, schedule=replace(SCHEDULE, epochs=2))
    found = tuned(ground, tmp_path, replace(TEACHING, iterations=2), recipe)
    assert len(asked) == 2 and not np.allclose(*asked, atol=1e-3)
    assert found.points[-1].step == 2 * 2 * 3  # iterations, epochs, steps of 4 questions


@pytest.mark.slow
def test_a_killed_run_with_renewed_candidates_ends_the_same(ground, tmp_path, monkeypatch):
    """Killed in the second epoch, whose candidates, and so whose targets, are others than those of the first."""
    monkeypatch.setattr(relevance, "load", lambda *_: Words())
    recipe = replace(RECIPE, remine=True, schedule=replace(SCHEDULE, epochs=2, evaluations=6))
    whole = tuned(ground, tmp_path / "whole", TEACHING, recipe)

    with killed_at(5):
        tuned(ground, tmp_path / "cut", TEACHING, recipe)
    shutil.rmtree(tmp_path / "cut/store")  # it only saves time
    resumed = tuned(ground, tmp_path / "cut", TEACHING, recipe)
    assert resumed.points == whole.points and resumed.run == whole.run


READER = ReaderLessons(max_examples=8, passages=2, epochs=2, batch_size=4, learning_rate=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("signal", ["attention", "likelihood"])
def test_a_built_in_reader_is_trained_first_and_kept_when_the_run_is_killed(ground, tmp_path, monkeypatch, signal):
    monkeypatch.setattr(fid, "_assemble", lambda config, root: random_reader(answer_tokens=8))
    recipe = replace(RECIPE, schedule=replace(SCHEDULE, epochs=1))
    teaching = replace(TEACHING, signal=signal, scorer="builtin:minilm-reader", reader=READER, iterations=2)
    whole = tuned(ground, tmp_path / "whole", teaching, recipe)
    assert not list((tmp_path / "whole/checkpoints").iterdir())

    trained, killed = [], []
    fit, follow = distillation.train.fit, distillation.tune.train.fit

    def reader_fit(*args):
        trained.append(1)
        return fit(*args)

    def retriever_fit(*args):
        killed.append(1)
        if len(killed) == 2:
            raise KeyboardInterrupt
        return follow(*args)

    monkeypatch.setattr(distillation.train, "fit", reader_fit)
    with monkeypatch.context() as patched:
        patched.setattr(distillation.tune.train, "fit", retriever_fit)
        with pytest.raises(KeyboardInterrupt):
            tuned(ground, tmp_path / "cut", teaching, recipe)
    assert len(trained) == 2
    resumed = tuned(ground, tmp_path / "cut", teaching, recipe)
    assert len(trained) == 2  # both readers were there
    assert resumed.run == whole.run and resumed.points == whole.points


# --- settings ------------------------------------------------------------------------------------------------------


def test_settings_that_do_not_go_together_are_refused():
    def refused(match, recipe=RECIPE, **changes):
        with pytest.raises(ConfigError, match=match):
            distillation.check(recipe, replace(TEACHING, **changes))

    distillation.check(RECIPE, TEACHING)
    distillation.check(RECIPE, replace(TEACHING, scorer="builtin:minilm-reader", reader=READER))
    refused("symmetric: belongs to method ctl", replace(RECIPE, schedule=replace(SCHEDULE, symmetric=True)))
    refused("expected settings with scorer builtin:minilm-reader", scorer="builtin:minilm-reader")
    refused("expected null with scorer models/lm", reader=READER)
