"""Choosing on dev and scoring: with and without a reranker, a weight, dev questions, parents."""

import json
from dataclasses import asdict, dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragline import abstention, assessment, qa, scoreboard
from ragline.errors import ConfigError, DataError, ModelError
from ragline.evaluation import scorecard
from ragline.generation.backends import Fusion
from ragline.generation.generator import Written
from ragline.retrieval import encoder, index, lexical
from ragline.types import Hit, Passage, QAExample
from tests.fixtures.small import passage, question, random_reader

THINGS = ("kettle", "ladder", "mirror", "needle", "oven", "pillow")
PASSAGES = [passage(f"{thing}#0000", f"The {thing} stands on shelf number {n}.") for n, thing in enumerate(THINGS)]
ASKED = [
    question(thing, f"{thing}#0000", f"Where does the {thing} stand?", answer=f"on shelf number {n}")
    for n, thing in enumerate(THINGS)
]
HOW = scorecard.Bootstrap(resamples=100, seed=0)


def engines_over(passages: list[Passage]) -> assessment.Engines:
    base = encoder.load("builtin:minilm")
    ann = index.build(encoder.encode_passages(base, [p.encoded_text for p in passages]), "flat")
    return assessment.Engines(passages, lexical.build(passages), (base, ann), (base, ann), depth=6)


@pytest.fixture(scope="module")
def engines() -> assessment.Engines:
    return engines_over(PASSAGES)


def backwards(questions, hits):
    """A reranker that likes the last passage best."""
    return [[Hit(hit.passage, (n + 1) / 10) for n, hit in enumerate(found)][::-1] for found in hits]


LAST_FIRST = assessment.Reranking("models/last-first", "f" * 64, backwards, depth=2)


def settings(weight: float | None = 0.5) -> qa.Settings:
    return qa.Settings(weight, 6, 0.0, "extractive")


def test_without_a_reranker_there_is_no_reranked_search(engines):
    result = assessment.assess("test", ASKED, engines, Fusion(random_reader()), settings())
    assert [*result.runs] == [*result.retrieval] == ["bm25", "base", "tuned", "hybrid"]
    assert result.retrieval["hybrid"]["recall@1"] == dict.fromkeys(sorted(THINGS), 1.0)
    pairs = scoreboard.uncertainty("test", result, HOW)[1]
    assert not any("reranked" in (row["a"], row["b"]) for row in pairs)


def test_the_reranked_search_is_what_answerers_see(engines):
    reranked = replace(engines, reranking=LAST_FIRST)
    result = assessment.assess("test", ASKED, reranked, Fusion(random_reader()), settings())
    assert [*result.runs] == [*result.retrieval] == ["bm25", "base", "tuned", "hybrid", "reranked"]
    # two are read and change places, so every gold passage falls from rank 1 to 2; the other four stay behind them
    assert set(result.retrieval["reranked"]["mrr@10"].values()) == {0.5}
    for thing in THINGS:
        first, second, *others = result.runs["hybrid"][thing]
        assert [*result.runs["reranked"][thing]] == [second, first, *others]
    for row in result.predictions:
        assert (row["rank_hybrid"], row["rank_reranked"]) == (1, 2)
        assert row["retrieved_ids"] == [*result.runs["reranked"][row["question_id"]]][: assessment.SHOWN]
        assert row["retrieved_gold"] == [False, True, False, False, False]
    pairs = scoreboard.uncertainty("test", result, HOW)[1]
    (lost,) = [r for r in pairs if (r["a"], r["b"], r["metric"]) == ("reranked", "hybrid", "mrr@10")]
    assert lost["difference"] == -0.5
    assert scoreboard.metrics(result)["retrieval"]["reranked"]["recall@1"] == 0


def test_what_dev_chooses(engines):
    chosen = assessment.choose(engines, Fusion(random_reader()), ASKED, most=2)
    assert 0 <= chosen.hybrid_weight <= 1 and -1 <= chosen.abstain_below < 1
    by_rank = assessment.choose(engines, Fusion(random_reader()), ASKED, most=2, fusion="rrf")
    assert by_rank == replace(chosen, hybrid_weight=None)


def test_few_dev_questions_hold_no_answer_back(engines):
    chosen = assessment.choose(engines, Fusion(random_reader()), ASKED, most=2)
    assert chosen.abstain_below == abstention.NEVER
    assert abstention.floor([0.5] * (abstention.FEW - 1)) == abstention.NEVER
    assert abstention.floor([0.5] * abstention.FEW) == 0.5


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=300))
def test_the_floor_gives_up_one_in_a_hundred_at_most(confidence):
    floor = abstention.floor(confidence)
    assert sum(value < floor for value in confidence) <= 0.01 * len(confidence)


@dataclass(frozen=True)
class Scripted:
    """A generator that knows what it says to each question."""

    said: dict[str, Written]
    reads: int = 5

    def answer(self, questions, retrieved):
        return [self.said[asked] for asked in questions]


UNANSWERABLE = replace(ASKED[0], question_id="nobody", answers=(), gold_passage_ids=(), answerable=False)
OTHER_WORDS = Written("blue", (Hit(PASSAGES[0], 1.0),))


def scripted(answered: list[Written], questions=ASKED) -> Scripted:
    return Scripted({q.question: written for q, written in zip(questions, answered, strict=True)})


def tables(result: assessment.Assessed, chosen: qa.Settings) -> tuple[dict, dict]:
    """Both tables of the set, which have to be JSON without NaN."""
    found = scoreboard.tables({"test": result}, {}, chosen, HOW)
    for table in found:
        assert json.loads(json.dumps(table, allow_nan=False)) is not None
    return found


def test_where_each_question_goes_wrong(engines):
    """Search finds every gold passage first; what the generator makes of it differs."""
    kettle, ladder = PASSAGES[0], PASSAGES[1]
    said = [
        Written("on shelf number 0", (Hit(kettle, 1.0),)),  # right
        Written("blue and green", (Hit(kettle, 1.0),)),  # rests on the kettle, asked for the ladder
        Written("blue and green", (Hit(PASSAGES[2], 1.0),)),  # cites the mirror, which does not say so
        Written("The needle stands", (Hit(PASSAGES[3], 1.0),)),  # which the passage says, and which is no answer
        Written("", ()),
        Written("", (), "no reply"),
    ]
    chosen = replace(settings(), answerer="generator")
    result = assessment.assess("test", ASKED, engines, scripted(said), chosen)
    assert [row["generator_outcome"] for row in result.predictions] == [
        "correct", "ignored", "unsupported", "wrong_answer", "wrong_abstention", "failed",
    ]  # fmt: skip
    assert [row["generator_grounded"] for row in result.predictions] == [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    assert [row["gold_position"] for row in result.predictions] == [1] * 6
    assert [row["document"] for row in result.predictions] == list(THINGS)
    assert {row["language"] for row in result.predictions} == {"en"}
    counted = scoreboard.outcome_counts(result)["generator"]
    assert sum(counted.values()) == 6 and counted["retrieval_miss"] == counted["undue_answer"] == 0
    assert ladder.passage_id in result.predictions[1]["gold_passage_ids"]


def test_gold_that_search_does_not_show_is_the_fault_of_search(engines):
    def misled(at: int) -> assessment.Answered:
        """The gold passage of the kettle at a rank of hybrid search; 7 is none."""
        answered = assessment.answer("test", ASKED[:1], engines, scripted([OTHER_WORDS], ASKED[:1]), settings())
        others = [p.passage_id for p in PASSAGES[1:]]
        ranked = [*others[: at - 1], "kettle#0000", *others[at - 1 :]] if at <= 6 else others
        run = {p: 1 / rank for rank, p in enumerate(ranked, start=1)}
        return replace(
            answered,
            runs={**answered.runs, "hybrid": {"kettle": run}},
            hits=engines.hits(ASKED[:1], {"kettle": run}),
        )

    found = {at: assessment.score(misled(at), engines.reading, settings()).predictions[0] for at in (2, 6, 7)}
    assert {at: row["generator_outcome"] for at, row in found.items()} == {
        2: "unsupported", 6: "ranked_low", 7: "retrieval_miss",
    }  # fmt: skip
    assert {at: row["gold_position"] for at, row in found.items()} == {2: 2, 6: 0, 7: 0}


def test_gold_beyond_what_an_answerer_reads_is_ranked_too_low_for_it(engines):
    """The same passages are shown to both; one of them reads only the first."""
    answered = assessment.answer("test", ASKED[:1], engines, scripted([OTHER_WORDS], ASKED[:1]), settings())
    ranked = ["ladder#0000", "kettle#0000"]
    run = {"kettle": {p: 1 / rank for rank, p in enumerate(ranked, start=1)}}
    second = replace(answered, runs={**answered.runs, "hybrid": run}, hits=engines.hits(ASKED[:1], run))
    (row,) = assessment.score(
        replace(second, reads={"extractive": 3, "generator": 1}), engines.reading, settings()
    ).predictions
    assert (row["gold_position"], row["extractive_gold_position"], row["generator_gold_position"]) == (2, 2, 0)
    assert row["generator_outcome"] == "ranked_low"
    (by_both,) = assessment.score(second, engines.reading, settings()).predictions
    assert by_both["generator_gold_position"] == 2


def test_answers_by_place_of_the_gold_passage(engines):
    result = assessment.assess("test", ASKED, engines, scripted([OTHER_WORDS] * 6), settings())
    found = scoreboard.sensitivity(result, HOW)
    assert found["generator"]["1"]["n"] == 6 and found["generator"]["1"]["mean"] == 0.0
    assert [*found["generator"]] == ["1"]


def test_metrics_are_few_and_everything_else_stands_beside_them(engines):
    result = assessment.assess("test", [*ASKED, UNANSWERABLE], engines, Fusion(random_reader()), settings())
    metrics, comparisons = tables(result, settings())
    assert len(flat(metrics)) <= 31  # n, n_answerable, 4 · 3 of search, 2 · (4 + 2) of answers, 5 of abstention
    assert metrics["test"]["abstention"]["n_unanswerable"] == 1
    for who in assessment.ANSWERERS:
        assert comparisons["details"]["test"]["bleu"][who] == round(result.bleu[who], 6)
        assert "wrong_answer" in comparisons["details"]["test"]["selective"][who]
        assert sum(comparisons["outcomes"]["test"][who].values()) == 7
        assert len(comparisons["risk_coverage"]["test"][who]) == 7
    assert comparisons["slices"]["test"] == []  # too few for any
    assert comparisons["slices_too_small"]["test"] == {
        "kind": 0, "document": 6, "answer_words": 0, "gold_position": 0, "language": 0, "answerable": 2,
    }  # fmt: skip
    for system, metrics_of in comparisons["intervals"]["test"]["retrieval"].items():
        shown = metrics["test"]["retrieval"][system]
        assert shown == {metric: metrics_of[metric]["mean"] for metric in shown}


def test_slices_of_the_served_search_and_answerer(engines):
    """Questions of one kind are all answered wrong, and the rest right."""
    asked = [
        replace(q, question_id=f"{q.question_id}{n}", question=f"{q.question} {n}", cluster=f"{q.question_id}{n}",
                kind="note" if n < 5 else "howto")
        for n in range(15) for q in ASKED[:2]
    ]  # fmt: skip
    said = [OTHER_WORDS if q.kind == "note" else Written(q.answers[0], (Hit(PASSAGES[0], 1.0),)) for q in asked]
    chosen = replace(settings(), answerer="generator")
    result = assessment.assess("test", asked, engines, scripted(said, asked), chosen)
    worst, *_ = tables(result, chosen)[1]["slices"]["test"]
    assert (worst["by"], worst["value"], worst["metric"], worst["worse"]) == ("kind", "note", "answer_f1", True)
    assert (worst["n"], worst["mean"], worst["rest"], worst["difference"]) == (10, 0.0, 1.0, -1.0)


@pytest.mark.parametrize("asked", [[], [UNANSWERABLE]])
def test_a_set_without_answers(engines, asked):
    message = f"test: expected questions that the documents answer, got none among {len(asked)}; add some"
    with pytest.raises(DataError, match=message):
        assessment.assess("test", asked, engines, Scripted({q.question: OTHER_WORDS for q in asked}), settings())


def test_one_question(engines):
    result = assessment.assess("test", ASKED[:1], engines, scripted([OTHER_WORDS], ASKED[:1]), settings())
    _, comparisons = tables(result, settings())
    level = comparisons["intervals"]["test"]["retrieval"]["hybrid"]["recall@5"]
    assert (level["mean"], level["low"], level["high"], level["n_clusters"]) == (1.0, 0.0, 1.0, 1)
    assert not any(row["decisive"] for row in comparisons["paired"])


def test_the_risk_of_what_is_given_and_what_was_promised(engines):
    """One answer is right, one is wrong, one is to a question that nothing answers; the fourth is held back."""
    said = [Written("on shelf number 0", ()), OTHER_WORDS, Written("", ()), OTHER_WORDS]
    asked = [*ASKED[:3], replace(UNANSWERABLE, question="Who?")]
    chosen = replace(settings(), answerer="generator")
    result = assessment.assess("test", asked, engines, scripted(said, asked), chosen)
    _, comparisons = tables(result, chosen)
    found = comparisons["risk"]["test"]
    assert (found["mean"], found["n"]) == (pytest.approx(2 / 3, abs=1e-6), 3) and comparisons["promise"] is None


def test_answers_beside_distractors(engines):
    result = assessment.assess("test", ASKED, engines, Fusion(random_reader()), settings())
    found = assessment.distracted(result, engines, Fusion(random_reader()), most=4, seed=1)
    assert {who: [*numbers] for who, numbers in found.items()} == {
        "extractive": ["0", "1", "2"], "generator": ["0", "1"],
    }  # fmt: skip
    assert {len(f1) for numbers in found.values() for f1 in numbers.values()} == {4}
    assert set(found["extractive"]["0"].values()) == {2 * 4 / (4 + 6)}  # "The kettle stands on shelf number 0."


def test_everything_is_declined(engines):
    chosen = replace(settings(), abstain_below=2.0)
    asked = [*ASKED, UNANSWERABLE]
    result = assessment.assess("test", asked, engines, Fusion(random_reader()), chosen)
    metrics, comparisons = tables(result, chosen)
    assert metrics["test"]["selective"]["extractive"] == {"coverage": 0.0}  # of nothing there is no risk
    counted = comparisons["outcomes"]["test"]["generator"]
    assert (counted["wrong_abstention"], counted["rightly_declined"]) == (6, 1)
    assert metrics["test"]["abstention"]["balanced_accuracy"] == 0.5


def test_every_answer_failed(engines):
    chosen = replace(settings(), answerer="generator")
    result = assessment.assess("test", ASKED, engines, scripted([Written("", (), "no reply")] * 6), chosen)
    metrics, comparisons = tables(result, chosen)
    assert comparisons["outcomes"]["test"]["generator"]["failed"] == 6
    assert metrics["test"]["answers"]["generator"] == {"answer_em": 0.0, "answer_f1": 0.0, "rouge_l": 0.0}
    assert metrics["test"]["selective"]["generator"] == {"coverage": 1.0, "risk": 1.0}


@pytest.mark.parametrize("system", ["bm25", "tuned", "hybrid"])
@pytest.mark.parametrize("asked", [ASKED[0], UNANSWERABLE])
def test_a_score_that_is_no_number(engines, system, asked):
    questions = [*ASKED[1:], asked]
    answered = assessment.answer("test", questions, engines, Fusion(random_reader()), settings())
    broken = {**answered.runs[system], asked.question_id: {"kettle#0000": float("nan")}}
    damaged = replace(answered, runs={**answered.runs, system: broken})
    with pytest.raises(DataError, match=f"test: {system}: question '{asked.question_id}' has a score that is NaN"):
        assessment.score(damaged, engines.reading, settings())


def flat(table) -> list:
    return [leaf for value in table.values() for leaf in flat(value)] if isinstance(table, dict) else [table]


def test_evaluation_abstains_as_the_system_does(engines):
    """The generator answers one question, declines the second and fails at the third."""
    said = [Written("on shelf", ()), Written("", ()), Written("", (), "no reply")]
    generator = Scripted({q.question: written for q, written in zip(ASKED, said, strict=False)})
    chosen = replace(settings(), answerer="generator")
    by_generator = assessment.assess("test", ASKED[:3], engines, generator, chosen)
    assert [row["abstained"] for row in by_generator.predictions] == [False, True, False]
    assert by_generator.details["selective"]["generator"]["wrong_abstention"] == pytest.approx(1 / 3, abs=1e-6)
    assert by_generator.details["selective"]["extractive"]["wrong_abstention"] == 0
    extracted = assessment.assess("test", ASKED[:3], engines, generator, settings())
    assert not any(row["abstained"] for row in extracted.predictions)


def test_recall_curves_are_of_answerable_questions(engines):
    result = assessment.assess("test", [*ASKED, UNANSWERABLE], engines, Fusion(random_reader()), settings())
    curves = scoreboard.recall_curves(result)
    assert [*curves] == ["bm25", "base", "tuned", "hybrid"]
    assert curves["hybrid"] == [1.0] * 20
    with pytest.raises(DataError, match="qrels: no judged question"):
        scoreboard.recall_curves(replace(result, questions=[UNANSWERABLE]))


def test_a_reranker_is_recorded(engines):
    reranked = replace(engines, reranking=LAST_FIRST)
    chosen = assessment.choose(reranked, Fusion(random_reader()), ASKED, most=2)
    assert (chosen.reranker, chosen.reranker_fingerprint, chosen.rerank_depth) == ("models/last-first", "f" * 64, 2)
    assert qa.Settings(**asdict(chosen)) == chosen


def test_no_dev_questions(engines):
    with pytest.raises(ConfigError, match=r"evaluate\.fusion: convex takes its weight from dev .* set it to rrf"):
        assessment.choose(engines, Fusion(random_reader()), [], most=2)
    chosen = assessment.choose(engines, Fusion(random_reader()), [], most=2, fusion="rrf")
    assert chosen == qa.Settings(None, 6, abstention.NEVER, "extractive")


def test_a_gold_passage_is_seen_when_its_neighbour_is_read():
    """The neighbour is found first, and what is read around it holds the gold passage."""
    texts = ("The kettle stands there. ", "Its shelf is number 3. ", "The ladder leans on a wall.")
    ends = [sum(map(len, texts[: n + 1])) for n in range(3)]
    passages = [
        Passage(f"d#000{n}", "d", "D", "", text, end - len(text), end, 5, "d", parent="d#0000" if n < 2 else "d#0002")
        for n, (text, end) in enumerate(zip(texts, ends, strict=True))
    ]
    asked = QAExample(
        "q", "Where does the kettle stand?", ("number 3",), "d", 25, 40, ("d#0001",), "howto", "test", "d"
    )
    (row,) = assessment.assess("test", [asked], engines_over(passages), Fusion(random_reader()), settings()).predictions
    assert row["retrieved_ids"][0] == "d#0000" and row["rank_hybrid"] > 1
    assert row["retrieved_gold"] == [True, False]


def test_a_lexical_index_of_other_passages(engines):
    with pytest.raises(ModelError, match="lexical index over other passages: expected these 6, got 6 others"):
        replace(engines, passages=PASSAGES[::-1])
