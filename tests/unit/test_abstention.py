"""Learning from dev when to answer, and doing the same when asked."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from ragline import abstention, assessment, distractors, io, qa
from ragline.artifacts import ANSWERING
from ragline.evaluation.confidence import Logistic
from ragline.generation.generator import Written
from ragline.reading import Reading
from ragline.retrieval.signals import Signals
from ragline.types import Answer
from tests.fixtures.pump import pump_system
from tests.fixtures.small import passage, question
from tests.unit.test_assessment import engines_over
from tests.unit.test_qa import Silent

TARGET = abstention.Target(risk=0.3, level=0.95, unanswerable=0.1, questions=200)
PROMISE = qa.Promise(0.3, 0.95, 0.1, 0.29, 400, 200, 0.8, 0.2)


def rule(weights: dict[str, float], answer_from: float = 0.5, intercept: float = 0.0) -> qa.Rule:
    return qa.Rule(Logistic(intercept, weights), answer_from, PROMISE)


def example(number: int, answerable: bool, sure: float, f1: float, likelihood: float | None = None, text: str = "x"):
    told = Signals(0.5, sure, 1.0, 0.5, 0.5)
    return abstention.Example(f"d{number}", answerable, told, Written(text, (), likelihood=likelihood), f1)


def examples(n: int, seed: int = 0) -> list[abstention.Example]:
    """The lead tells right answers from wrong ones, the cosine does not."""
    rng = np.random.default_rng(seed)
    asked = [example(k, True, *((0.9, 1.0) if rng.random() < 0.8 else (0.2, 0.0))) for k in range(n)]
    return asked + [example(k, False, 0.1, 0.0) for k in range(n)]


def test_a_rule_that_keeps_its_promise():
    given = examples(150)
    found = abstention.choose(given, TARGET)
    assert found is not None and found.promise.bound is not None
    assert found.promise.risk <= found.promise.bound <= TARGET.risk
    assert (found.promise.n, found.promise.n_clusters) == (300, 150)
    assert set(found.confidence.weights) == {"agreement", "cosine", "lead", "score", "words"}
    # The answerable questions that are answered right, by their share of all.
    assert found.promise.coverage == pytest.approx(0.9 * sum(one.f1 for one in given) / 150)


def test_a_target_out_of_reach_silences_nobody(caplog):
    found = abstention.choose(examples(60), replace(TARGET, risk=0.01))
    assert found is not None and found.promise.bound is None
    assert "no threshold keeps risk to 0.01 at level 0.95 on dev" in caplog.text
    assert found.promise.coverage > 0.85


def test_what_tells_nothing_gives_way_to_the_cosine():
    rng = np.random.default_rng(1)
    given = [
        replace(one, signals=Signals(one.f1, *map(float, rng.random(4)))) for one in examples(100)
    ]  # the cosine is the very F1; nothing can rank better
    assert set(abstention.choose(given, TARGET).confidence.weights) == {"cosine"}


def test_few_examples_teach_nothing(caplog):
    assert abstention.choose(examples(29), TARGET) is None
    assert "29 dev questions to learn abstention from, 30 are the least" in caplog.text


def test_the_likelihood_counts_where_all_answers_have_one():
    given = [replace(one, written=Written("x", (), likelihood=-1.0)) for one in examples(40)]
    silent = example(99, True, 0.9, 0.0, text="")
    assert "likelihood" in abstention.choose([*given, silent], TARGET).confidence.weights
    assert "likelihood" not in abstention.choose([*given, *examples(40)], TARGET).confidence.weights


def test_one_question_of_each_document():
    asked = [question(f"q{n}", f"d{n % 3}#0", cluster=f"d{n % 3}") for n in range(9)]
    chosen = abstention.one_of_each(asked, 10)
    assert sorted(q.cluster for q in chosen) == ["d0", "d1", "d2"]
    assert abstention.one_of_each(asked[::-1], 2) == chosen[:2]
    nobody = [replace(q, cluster="", answerable=False) for q in asked]
    assert len(abstention.one_of_each(nobody, 10)) == 9


ANSWER = "the valve is closed by hand at noon"
PASSAGES = [
    passage("home#0", ANSWER),
    passage("home#1", "a sibling", doc_id="home"),
    passage("twin#0", "in a near-duplicate", cluster="home"),
    passage("copy#0", f"As written: {ANSWER.upper()}!"),
    passage("quote#0", "They say that it is closed by hand, at noon; every day."),
    passage("else#0", "something else"),
]
ASKED = question("q", "home#0", answer="is closed by hand at noon")
FOUND = {"q": {p.passage_id: 1 - n / 10 for n, p in enumerate(PASSAGES)}}


def test_without_gold_nothing_holds_the_answer():
    left = abstention.without_gold([ASKED], {"tuned": FOUND}, Reading(PASSAGES).by_id)
    assert [*left["tuned"]["q"]] == ["else#0"]
    short = replace(ASKED, answers=("at noon",))  # too short to be no accident
    assert [*abstention.without_gold([short], {"tuned": FOUND}, Reading(PASSAGES).by_id)["tuned"]["q"]] == [
        "quote#0", "else#0",
    ]  # fmt: skip


def test_distractors_stand_beside_the_gold_passage():
    others = [passage(f"o{n}#0", f"other {n}") for n in range(3)]
    asked = [question(f"q{n}", "home#0", f"which {n}?", answer="closed") for n in range(20)]
    run = {q.question_id: {p.passage_id: 1.0 for p in [*PASSAGES[:1], *others]} for q in asked}
    read = []

    def answer(questions, hits):
        read.extend(hits)
        return [Written("closed" if len(shown) < 3 else "open", ()) for shown in hits]

    found = distractors.scores(asked, run, Reading([*PASSAGES, *others]), 3, answer, seed=5)
    assert {number: set(f1.values()) for number, f1 in found.items()} == {"0": {1.0}, "1": {1.0}, "2": {0.0}}
    assert [len(hits) for hits in read] == [1] * 20 + [2] * 20 + [3] * 20
    assert all(sum(hit.passage.doc_id == "home" for hit in hits) == 1 for hits in read)
    places = {[hit.passage.doc_id for hit in hits].index("home") for hits in read[40:]}
    assert places == {0, 1, 2}
    again = []
    distractors.scores(asked, run, Reading([*PASSAGES, *others]), 3, lambda q, h: again.extend(h) or answer(q, h), 5)
    assert again == read[:60]


# --- asking ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def system() -> qa.System:
    return pump_system()


QUESTIONS = ["When does the pump stop by itself?", "How is the filter cleaned?", "Who is it?"]


@pytest.mark.parametrize("weights", [{"cosine": 3.0, "words": 1.0}, {"lead": 2.0, "score": 1.0, "likelihood": 4.0}])
def test_asking_is_as_sure_as_evaluation_was(system, weights):
    settings = replace(system.settings, rule=rule(weights, intercept=-1.0))
    passages = system.retriever.passages
    engines = engines_over(list(passages))
    asked = [question(f"q{n}", "d#0001", text) for n, text in enumerate(QUESTIONS)]
    rows = assessment.assess("test", asked, replace(engines, depth=settings.depth), Silent(), settings).predictions
    answers = replace(system, settings=settings).ask(QUESTIONS)
    assert [row["confidence"] for row in rows] == pytest.approx([a.confidence for a in answers], abs=1e-4)
    assert [row["abstained"] for row in rows] == [a.abstained for a in answers]
    assert len({round(a.confidence, 3) for a in answers}) == 3


def test_a_rule_is_of_the_served_answerer_alone(system):
    settings = replace(system.settings, rule=rule({"cosine": 9.0}, 0.7), abstain_below=0.2)
    assert (settings.answer_from("extractive"), settings.answer_from("generator")) == (0.7, 0.2)
    told = Signals(0.4, 0.0, 0.0, 0.0, 0.0)
    assert settings.confidence("generator", told, Written("x", ())) == 0.4
    assert settings.confidence("extractive", told, Written("x", ())) == pytest.approx(1 / (1 + np.exp(-3.6)))


def test_what_search_settles_is_not_written_and_what_the_answer_settles_is_held_back(system):
    class Told(Silent):
        def answer(self, questions, retrieved):
            return [Written("an answer" if hits else "", (), likelihood=-5.0 if hits else None) for hits in retrieved]

        def stream(self, question, hits):
            yield "an answer"
            yield self.answer([question], [hits])[0]

    served = replace(system.settings, answerer="generator")
    unsure = replace(system, generator=Told(), settings=replace(served, rule=rule({"likelihood": 1.0})))
    assert [*unsure.stream("When?")][:-1] == [qa.ABSTENTION]  # likelihood −5 gives less than 0.01
    sure = replace(unsure, settings=replace(served, rule=rule({"likelihood": -1.0})))
    *pieces, answer = sure.stream("When?")
    assert pieces == ["an answer"] == [answer.text] and isinstance(answer, Answer)
    assert answer.confidence > 0.99 and answer.needed == 0.5
    before = replace(unsure, settings=replace(served, rule=rule({"cosine": -1.0})))
    ((declined),) = before.ask(["When does the pump stop by itself?"])
    assert declined.abstained and declined.retrieved


def test_settings_are_read_as_they_were_written_and_older_ones_still_are(tmp_path, monkeypatch):
    chosen = qa.Settings(0.5, 3, 0.2, "extractive", rule=rule({"cosine": 1.5, "likelihood": 0.25}))
    io.write_json(asdict(chosen), tmp_path / ANSWERING)
    kept = json.loads((tmp_path / ANSWERING).read_text())
    assert qa.Settings(**kept | {"rule": qa._rule(kept["rule"])}) == chosen
    older = {"hybrid_weight": 0.5, "depth": 3, "abstain_below": 0.2, "answerer": "extractive"}
    assert qa.Settings(**older | {"rule": qa._rule(older.get("rule"))}).rule is None
