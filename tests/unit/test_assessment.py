"""Choosing on dev and scoring: with and without a reranker, a weight, dev questions, parents."""

from dataclasses import asdict, dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragline import assessment, qa
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
    pairs = assessment.uncertainty("test", result, HOW)[1]
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
    pairs = assessment.uncertainty("test", result, HOW)[1]
    (lost,) = [r for r in pairs if (r["a"], r["b"], r["metric"]) == ("reranked", "hybrid", "mrr@10")]
    assert lost["difference"] == -0.5
    assert assessment.metrics(result)["retrieval"]["reranked"]["recall@1"] == 0


def test_what_dev_chooses(engines):
    chosen = assessment.choose(engines, Fusion(random_reader()), ASKED, most=2)
    assert 0 <= chosen.hybrid_weight <= 1 and -1 <= chosen.abstain_below < 1
    by_rank = assessment.choose(engines, Fusion(random_reader()), ASKED, most=2, fusion="rrf")
    assert by_rank == replace(chosen, hybrid_weight=None)


def test_few_dev_questions_hold_no_answer_back(engines):
    chosen = assessment.choose(engines, Fusion(random_reader()), ASKED, most=2)
    assert chosen.abstain_below == assessment.NEVER
    assert assessment.floor([0.5] * (assessment.FEW - 1)) == assessment.NEVER
    assert assessment.floor([0.5] * assessment.FEW) == 0.5


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=300))
def test_the_floor_gives_up_one_in_a_hundred_at_most(confidence):
    floor = assessment.floor(confidence)
    assert sum(value < floor for value in confidence) <= 0.01 * len(confidence)


@dataclass(frozen=True)
class Scripted:
    """A generator that knows what it says to each question."""

    said: dict[str, Written]

    def answer(self, questions, retrieved):
        return [self.said[asked] for asked in questions]


UNANSWERABLE = replace(ASKED[0], question_id="nobody", answers=(), gold_passage_ids=(), answerable=False)


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
    curves = assessment.recall_curves(result)
    assert [*curves] == ["bm25", "base", "tuned", "hybrid"]
    assert curves["hybrid"] == [1.0] * 20
    with pytest.raises(DataError, match="qrels: no judged question"):
        assessment.recall_curves(replace(result, questions=[UNANSWERABLE]))


def test_a_reranker_is_recorded(engines):
    reranked = replace(engines, reranking=LAST_FIRST)
    chosen = assessment.choose(reranked, Fusion(random_reader()), ASKED, most=2)
    assert (chosen.reranker, chosen.reranker_fingerprint, chosen.rerank_depth) == ("models/last-first", "f" * 64, 2)
    assert qa.Settings(**asdict(chosen)) == chosen


def test_no_dev_questions(engines):
    with pytest.raises(ConfigError, match=r"evaluate\.fusion: convex takes its weight from dev .* set it to rrf"):
        assessment.choose(engines, Fusion(random_reader()), [], most=2)
    chosen = assessment.choose(engines, Fusion(random_reader()), [], most=2, fusion="rrf")
    assert chosen == qa.Settings(None, 6, assessment.NEVER, "extractive")


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
