"""Laws that every metric, interval and comparison keeps."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragline.evaluation import answers, retrieval, significance

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


@given(TEXTS, REFERENCES)
def test_answer_metrics_stay_in_bounds_and_exact_match_never_beats_f1(prediction, references):
    em, f1 = answers.exact_match(prediction, references), answers.token_f1(prediction, references)
    assert 0 <= em <= f1 <= 1
    assert 0 <= answers.rouge_l(prediction, references) <= 1


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
