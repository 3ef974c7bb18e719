"""The usual ranking metrics against numbers worked out by hand, trec_eval and ranx; qrels files."""

import math
import random

import pytest

from ragline import io
from ragline.errors import ConfigError, DataError, MissingArtifact
from ragline.evaluation import ranking, trec

GRADES = {"q1": {"a": 2, "b": 1, "x": 0}, "q2": {"c": 1}}
RUN = {"q1": {"x": 0.9, "a": 0.8, "y": 0.7, "b": 0.6}}  # grades 0, 2, 0, 1; q2 is not there


def test_scores_by_hand():
    found = ranking.score(RUN, GRADES, depths=(2, 4))
    log = math.log2
    assert found == {
        "precision@2": {"q1": 1 / 2, "q2": 0.0},
        "precision@4": {"q1": 2 / 4, "q2": 0.0},
        "recall@2": {"q1": 1 / 2, "q2": 0.0},
        "recall@4": {"q1": 1.0, "q2": 0.0},
        # 2 at rank 2; then 1 at rank 4. Ideal: 2 at rank 1, 1 at rank 2.
        "ndcg@2": {"q1": pytest.approx(2 / log(3) / (2 + 1 / log(3))), "q2": 0.0},
        "ndcg@4": {"q1": pytest.approx((2 / log(3) + 1 / log(5)) / (2 + 1 / log(3))), "q2": 0.0},
        "mrr": {"q1": 1 / 2, "q2": 0.0},
        "map": {"q1": (1 / 2 + 2 / 4) / 2, "q2": 0.0},  # precisions at ranks 2 and 4
    }


def test_precision_divides_by_k_and_average_precision_by_all_that_is_relevant():
    found = ranking.score({"q": {"a": 1.0}}, {"q": {"a": 1, "b": 1}}, depths=(5,))
    assert (found["precision@5"]["q"], found["recall@5"]["q"], found["map"]["q"]) == (1 / 5, 1 / 2, 1 / 2)


def test_equal_scores_rank_by_passage_id():
    for order in ("ab", "ba"):
        found = ranking.score({"q": dict.fromkeys(order, 1.0)}, {"q": {"b": 1}}, depths=(1,))
        assert (found["recall@1"]["q"], found["mrr"]["q"]) == (0.0, 0.5)


def test_gold_passages_all_have_grade_one():
    assert ranking.graded({"q": frozenset("ba")}) == {"q": {"a": 1, "b": 1}}


@pytest.mark.parametrize(
    ("run", "grades", "message"),
    [
        ({"odd": {}}, {"q": {"a": 1}}, r"1 of 1 questions have no judgement, first \['odd'\]"),
        ({}, {"q": {"a": 0}}, "1 of 1 questions have no gold passage"),
        ({}, {"q": {"a": -1}}, "question 'q' has a grade below 0"),
        ({"q": {"a": math.nan}}, {"q": {"a": 1}}, "a score that is NaN"),
    ],
)
def test_what_cannot_be_judged(run, grades, message):
    with pytest.raises(DataError, match=message):
        ranking.score(run, grades)
    with pytest.raises(ConfigError, match=r"at least 1, got \[0\]"):
        ranking.score({}, {"q": {"a": 1}}, depths=(0,))


def test_no_question():
    assert ranking.score({}, {}, depths=(1,)) == {
        "precision@1": {}, "recall@1": {}, "ndcg@1": {}, "mrr": {}, "map": {},
    }  # fmt: skip


def random_judgements(seed: int) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, int]]]:
    """Sixty questions with grades of 0 to 3 and distinct scores; some runs are short, some miss everything."""
    rng = random.Random(seed)
    passages = [f"p{i:03d}" for i in range(80)]
    run, grades = {}, {}
    for number in range(60):
        depth = rng.choice([1, 3, 30])
        scores = map(float, rng.sample(range(-5_000, 5_000), depth))
        run[f"q{number:02d}"] = dict(zip(rng.sample(passages, depth), scores, strict=True))
        judged = rng.sample(passages, rng.choice([1, 2, 12]))
        grades[f"q{number:02d}"] = {judged[0]: rng.randint(1, 3), **{p: rng.randint(0, 3) for p in judged[1:]}}
    return run, grades


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_trec_eval_without_ties(seed):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    run, grades = random_judgements(seed)
    names = {**{f"{ours}@{k}": f"{theirs}_{k}" for k in (1, 5, 10, 20)
                for ours, theirs in (("precision", "P"), ("recall", "recall"), ("ndcg", "ndcg_cut"))},
             "mrr": "recip_rank", "map": "map"}  # fmt: skip
    measures = {"P.1,5,10,20", "recall.1,5,10,20", "ndcg_cut.1,5,10,20", "recip_rank", "map"}
    theirs = pytrec_eval.RelevanceEvaluator(grades, measures).evaluate(run)
    for metric, values in ranking.score(run, grades).items():
        assert values == pytest.approx({q: theirs[q][names[metric]] for q in grades}, abs=1e-9)


@pytest.mark.slow  # ranx brings in numba and compiles
def test_agrees_with_ranx_without_ties():
    ranx = pytest.importorskip("ranx")
    run, grades = random_judgements(9)
    ours = ranking.score(run, grades)
    found = ranx.Run(run)
    # ranx takes a grade of 0 for the lowest relevant one, so such judgements are left out.
    relevant = {q: {p: grade for p, grade in given.items() if grade} for q, given in grades.items()}
    ranx.evaluate(ranx.Qrels(relevant), found, list(ours), make_comparable=True)
    for metric, values in ours.items():
        assert values == pytest.approx(dict(found.scores[metric]), abs=1e-9)


def test_equal_scores_are_where_trec_eval_differs():
    # Both rank ties by id, trec_eval the later one first: b before a.
    pytrec_eval = pytest.importorskip("pytrec_eval")
    tied = {"q": {"a": 1.0, "b": 1.0}}
    theirs = pytrec_eval.RelevanceEvaluator({"q": {"b": 1}}, {"recip_rank"}).evaluate(tied)
    assert (theirs["q"]["recip_rank"], ranking.score(tied, {"q": {"b": 1}})["mrr"]["q"]) == (1.0, 0.5)


def test_qrels_are_read_as_written(tmp_path):
    grades = {"q 1": {"a b#0001": 2, "100%": 0}, "q2": {"c": 1}}
    trec.write_qrels(grades, tmp_path / "x.qrels")
    assert (tmp_path / "x.qrels").read_text() == "q%201 0 100%25 0\nq%201 0 a%20b#0001 2\nq2 0 c 1\n"
    assert trec.read_qrels(tmp_path / "x.qrels") == grades


def test_run_and_qrels_files_give_the_same_scores(tmp_path):
    run, grades = random_judgements(3)
    io.write_run(run, tmp_path / "x.trec", "bm25")
    trec.write_qrels(grades, tmp_path / "x.qrels")
    again = ranking.score(io.read_run(tmp_path / "x.trec"), trec.read_qrels(tmp_path / "x.qrels"))
    assert again == ranking.score(run, grades)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("q 0 a 1\nq 0 b\n", r"x\.qrels:2: expected `question 0 passage grade`, got 'q 0 b'"),
        ("q 0 a high\n", r"x\.qrels:1: expected"),
        ("q 0 a 1\nq 0 a 0\n", r"x\.qrels:2: 'a' is judged twice for 'q'"),
    ],
)
def test_damaged_qrels(tmp_path, lines, message):
    (tmp_path / "x.qrels").write_text(lines)
    with pytest.raises(DataError, match=message):
        trec.read_qrels(tmp_path / "x.qrels")


def test_qrels_that_are_not_there(tmp_path):
    with pytest.raises(MissingArtifact):
        trec.read_qrels(tmp_path / "x.qrels")
