"""Laws that every metric, interval and comparison keeps."""

import math
import random
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragline.evaluation import answers, calibration, citations, latency, power, ranking, retrieval, significance
from ragline.evaluation.citations import Place
from ragline.types import Span
from tests.fixtures.small import passage

PASSAGES = st.sampled_from([f"p{i}" for i in range(15)])
QUESTIONS = st.sampled_from([f"q{i}" for i in range(6)])
SCORES = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0])  # few, so that ties are common
TEXTS = st.text(alphabet="ab .,!'AtheT\n", max_size=20) | st.text(max_size=12)
REFERENCES = st.lists(TEXTS, min_size=1, max_size=3)
UNIT = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)


@st.composite
def judged_runs(draw):
    qrels = draw(st.dictionaries(QUESTIONS, st.frozensets(PASSAGES, min_size=1, max_size=4), min_size=1))
    run = {q: draw(st.dictionaries(PASSAGES, SCORES)) for q in qrels if draw(st.booleans())}
    return run, qrels


@st.composite
def clustered(draw, columns):
    rows = draw(st.lists(st.tuples(st.integers(0, 5), *[UNIT] * columns), min_size=1, max_size=30))
    clusters = {f"q{i}": f"c{row[0]}" for i, row in enumerate(rows)}
    return clusters, *({f"q{i}": row[1 + column] for i, row in enumerate(rows)} for column in range(columns))


def shuffled(mapping, seed=1):
    items = list(mapping.items())
    random.Random(seed).shuffle(items)
    return dict(items)


@given(judged_runs())
def test_ranking_metrics_stay_in_bounds_and_cover_every_judged_question(judged):
    run, qrels = judged
    for values in retrieval.score(run, qrels).values():
        assert list(values) == sorted(qrels)
        assert all(0 <= value <= 1 for value in values.values())


@given(judged_runs())
def test_recall_never_falls_with_k(judged):
    curve = retrieval.recall_curve(*judged, depth=20)
    assert curve == sorted(curve)
    scores = retrieval.score(*judged, depths=(1, 5, 20))
    for k in (1, 5, 20):
        assert curve[k - 1] == pytest.approx(math.fsum(scores[f"recall@{k}"].values()) / len(judged[1]))


@given(judged_runs())
def test_ndcg_lies_between_mrr_and_recall(judged):
    scores = retrieval.score(*judged)
    for question in judged[1]:
        assert scores["mrr@10"][question] <= scores["ndcg@10"][question] <= scores["recall@10"][question]


@given(judged_runs())
def test_ideal_order_scores_one(judged):
    run, qrels = judged
    ideal = {q: {**run.get(q, {}), **dict.fromkeys(gold, 2.0)} for q, gold in qrels.items()}
    assert {v for values in retrieval.score(ideal, qrels).values() for v in values.values()} == {1.0}


@given(judged_runs())
def test_order_of_dictionaries_does_not_matter(judged):
    run, qrels = judged
    again = retrieval.score(shuffled({q: shuffled(found) for q, found in run.items()}), shuffled(qrels))
    assert again == retrieval.score(run, qrels)


@given(judged_runs(), st.sampled_from([0.5, 2.0, 8.0]))
def test_only_the_order_of_scores_matters(judged, factor):
    run, qrels = judged
    scaled = {q: {p: factor * score + 3 for p, score in found.items()} for q, found in run.items()}
    assert retrieval.score(scaled, qrels) == retrieval.score(run, qrels)


WORDS = st.lists(st.sampled_from("sort the rows by value now please".split()), max_size=12).map(" ".join)


@given(judged_runs(), st.data())
def test_repeats_never_hurt(judged, data):
    run, qrels = judged
    texts = {f"p{i}": data.draw(WORDS) for i in range(15)}
    wider = retrieval.with_repeats(qrels, run, texts.__getitem__)
    assert all(qrels[question] <= gold for question, gold in wider.items())
    loose = retrieval.score(run, wider)
    for metric, values in retrieval.score(run, qrels).items():
        assert all(value <= loose[metric][question] for question, value in values.items())
    assert retrieval.with_repeats(qrels, run, {p: f"text {p} and so on" for p in texts}.__getitem__) == qrels


@st.composite
def graded_runs(draw):
    grades = st.dictionaries(PASSAGES, st.integers(0, 3), min_size=1).filter(lambda given: max(given.values()) > 0)
    judged = draw(st.dictionaries(QUESTIONS, grades, min_size=1))
    run = {q: draw(st.dictionaries(PASSAGES, SCORES)) for q in judged if draw(st.booleans())}
    return run, judged


@given(graded_runs())
def test_usual_metrics_stay_in_bounds(judged):
    run, grades = judged
    for values in ranking.score(run, grades).values():
        assert list(values) == sorted(grades)
        assert all(0 <= value <= 1 + 1e-12 for value in values.values())


@given(graded_runs())
def test_usual_metrics_and_depth(judged):
    scores = ranking.score(*judged, depths=(1, 5, 10, 20))
    for question, given_grades in judged[1].items():
        recalls = [scores[f"recall@{k}"][question] for k in (1, 5, 10, 20)]
        hits = [k * scores[f"precision@{k}"][question] for k in (1, 5, 10, 20)]
        relevant = sum(grade > 0 for grade in given_grades.values())
        assert recalls == sorted(recalls)
        assert hits == pytest.approx([relevant * recall for recall in recalls])
        if relevant == 1:
            assert scores["map"][question] == scores["mrr"][question]


@given(graded_runs())
def test_ideal_order_is_best(judged):
    _, grades = judged
    ideal = ranking.score({q: {p: float(grade) for p, grade in g.items() if grade} for q, g in grades.items()}, grades)
    for metric in ("ndcg@1", "ndcg@5", "ndcg@20", "recall@20", "mrr", "map"):
        assert set(ideal[metric].values()) == {1.0}


@given(graded_runs())
def test_usual_metrics_know_no_order_of_dictionaries(judged):
    run, grades = judged
    again = ranking.score({q: shuffled(found) for q, found in shuffled(run).items()}, shuffled(grades))
    assert again == ranking.score(run, grades)


@given(judged_runs())
def test_both_ways_to_count_agree_on_one_gold_passage(judged):
    run, qrels = judged
    single = {question: frozenset({min(gold)}) for question, gold in qrels.items()}
    usual, ours = ranking.score(run, ranking.graded(single)), retrieval.score(run, single)
    for metric in ("recall@1", "recall@5", "recall@10", "recall@20", "ndcg@10"):
        assert usual[metric] == ours[metric]


LOSSES = st.sampled_from([0.0, 0.5, 1.0])
UNSURE = st.lists(st.tuples(SCORES, LOSSES), min_size=1, max_size=6)


def sides(rows):
    return {f"q{i}": row[0] for i, row in enumerate(rows)}, {f"q{i}": row[1] for i, row in enumerate(rows)}


@given(UNSURE)
def test_no_order_risks_less_than_that_of_the_losses(rows):
    confidence, losses = sides(rows)
    best = calibration.aurc({question: -loss for question, loss in losses.items()}, losses)
    worst = calibration.aurc(losses, losses)
    assert 0 <= best <= calibration.aurc(confidence, losses) + 1e-12
    assert calibration.aurc(confidence, losses) <= worst + 1e-12 <= 1 + 2e-12
    assert calibration.risk_coverage(confidence, losses)[-1].risk == pytest.approx(sum(losses.values()) / len(losses))


@given(st.lists(LOSSES, min_size=1, max_size=4))
def test_ties_are_the_mean_over_their_orders(losses):
    values = {f"q{i}": loss for i, loss in enumerate(losses)}
    orders = [calibration.aurc(dict(zip(order, map(float, range(9)), strict=False)), values)
              for order in permutations(values)]  # fmt: skip
    assert calibration.aurc(dict.fromkeys(values, 0.5), values) == pytest.approx(sum(orders) / len(orders))


@given(UNSURE)
def test_only_the_order_of_confidence_matters_to_risk(rows):
    confidence, losses = sides(rows)
    scaled = {question: 8 * value - 3 for question, value in shuffled(confidence).items()}
    assert calibration.risk_coverage(scaled, losses) == calibration.risk_coverage(confidence, losses)


@given(UNSURE, st.integers(1, 12))
def test_calibration_error_stays_in_bounds_and_is_0_where_confidence_is_right(rows, bins):
    confidence, losses = sides(rows)
    assert 0 <= calibration.calibration_error(confidence, losses, bins) <= 1
    assert calibration.calibration_error({q: 1 - loss for q, loss in losses.items()}, losses, bins) == 0


SPANS = st.tuples(st.integers(0, 30), st.integers(1, 10)).map(lambda at: Span(at[0], at[0] + at[1]))


@given(st.lists(SPANS, max_size=5), SPANS, SPANS)
def test_citation_recall_is_the_share_of_characters_and_never_falls(cited, gold, more):
    def recall(found):
        passages = [replace(passage("d#0000"), start=span.start, end=span.end) for span in found]
        return citations.recall({"q": passages}, {"q": (Place("d", gold),)})["q"]

    held = {at for span in cited for at in range(span.start, span.end)} & set(range(gold.start, gold.end))
    assert recall(cited) == pytest.approx(len(held) / gold.length)
    assert recall(cited) == recall(cited[::-1]) <= recall([*cited, more]) <= 1


@given(TEXTS, st.lists(TEXTS, max_size=3), TEXTS)
def test_groundedness_stays_in_bounds_and_more_sources_never_hurt(answer, cited, more):
    def grounded(texts):
        return citations.groundedness({"q": answer}, {"q": texts}).get("q", 1.0)

    assert 0 <= grounded(cited) <= grounded([*cited, more]) <= 1
    assert grounded([*cited, answer]) == 1


@given(st.lists(st.floats(0, 1e6), min_size=1), st.data())
def test_latencies_were_measured_and_are_in_order(seconds, data):
    found = latency.summary(seconds)
    assert min(seconds) <= found["p50_s"] <= found["p95_s"] <= found["p99_s"] <= max(seconds)
    assert {found["p50_s"], found["p95_s"], found["p99_s"]} <= set(seconds)
    assert latency.summary(data.draw(st.permutations(seconds))) == found
    assert sum(taken <= found["p95_s"] for taken in seconds) >= 0.95 * len(seconds)


P_VALUES = st.lists(st.floats(0, 1), max_size=8)


@given(P_VALUES, st.data())
def test_holm_lies_between_p_and_bonferroni_and_keeps_the_order(values, data):
    found = significance.holm(values)
    assert all(p <= q <= min(1, len(values) * p) + 1e-12 for p, q in zip(values, found, strict=True))
    assert [q for _, q in sorted(zip(values, found, strict=True))] == sorted(found)
    order = data.draw(st.permutations(range(len(values))))
    assert significance.holm([values[at] for at in order]) == [found[at] for at in order]


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 500), st.sampled_from([0.5, 0.8, 0.9]))
def test_what_can_be_detected(error, more, n_clusters, wanted):
    found = power.detectable(error, n_clusters, power=wanted)
    assert 0 < found <= 1
    assert found <= power.detectable(max(error, more), n_clusters, power=wanted)
    assert found <= power.detectable(error, n_clusters, level=0.99, power=wanted)
    assert power.detectable(error, n_clusters + 1, power=wanted) <= found


@given(TEXTS, REFERENCES)
def test_answer_metrics_stay_in_bounds_and_exact_match_never_beats_f1(prediction, references):
    em, f1 = answers.exact_match(prediction, references), answers.token_f1(prediction, references)
    assert 0 <= em <= f1 <= 1
    assert all(0 <= value <= 1 for value in answers.rouge(prediction, references).values())


@given(TEXTS, REFERENCES, TEXTS)
def test_another_reference_never_hurts(prediction, references, more):
    for metric in (answers.exact_match, answers.token_f1, answers.rouge_l):
        assert metric(prediction, references) <= metric(prediction, [*references, more])
        assert metric(prediction, references) == metric(prediction, references[::-1])


@given(TEXTS)
def test_a_text_matches_itself(text):
    assert answers.exact_match(text, [text]) == answers.token_f1(text, [text]) == 1


@given(TEXTS, TEXTS)
def test_f1_is_symmetric(one, other):
    assert answers.token_f1(one, [other]) == answers.token_f1(other, [one])


@given(TEXTS)
def test_normalize_leaves_single_blanks_and_no_articles(text):
    words = answers.normalize(text).split(" ")
    assert words == [""] or ("" not in words and not {"a", "an", "the"} & set(words))


@given(st.lists(st.tuples(TEXTS, REFERENCES), min_size=1, max_size=4))
def test_bleu_stays_in_bounds(pairs):
    predictions, references = zip(*pairs, strict=True)
    assert 0 <= answers.corpus_bleu(predictions, references) <= 1 + 1e-12


@given(clustered(1))
def test_interval_holds_its_mean_and_stays_in_bounds(data):
    clusters, values = data
    found = significance.interval(values, clusters, resamples=60, seed=1)
    assert found.mean == pytest.approx(sum(values.values()) / len(values))
    assert 0 <= found.low <= found.mean <= found.high <= 1


@given(clustered(2))
def test_order_of_questions_does_not_matter_to_intervals(data):
    clusters, first, second = data
    assert significance.interval(shuffled(first), shuffled(clusters), 60, 1) == significance.interval(
        first, clusters, 60, 1
    )
    assert significance.paired(shuffled(first), second, shuffled(clusters), 60, 1) == significance.paired(
        first, second, clusters, 60, 1
    )


@given(clustered(2))
def test_swapping_systems_turns_every_sign(data):
    clusters, first, second = data
    ahead = significance.paired(first, second, clusters, resamples=60, seed=1)
    behind = significance.paired(second, first, clusters, resamples=60, seed=1)
    assert (ahead.difference, ahead.low, ahead.high) == pytest.approx(
        (-behind.difference, -behind.high, -behind.low), abs=1e-9
    )
    assert (ahead.wins, ahead.losses, ahead.ties, ahead.p) == (behind.losses, behind.wins, behind.ties, behind.p)
    assert 0 < ahead.p <= 1
    assert ahead.wins + ahead.losses + ahead.ties == ahead.n == len(first)
    assert -1 <= ahead.low <= ahead.difference <= ahead.high <= 1
