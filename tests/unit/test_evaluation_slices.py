"""Slices against the rest of their set: numbers by hand, references, and laws."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg, stats

from ragline.errors import DataError
from ragline.evaluation import scorecard, slices
from ragline.evaluation.slices import Cut

HOW = scorecard.Bootstrap(resamples=200, seed=1)
SIDES = st.lists(st.tuples(st.booleans(), st.integers(0, 6), st.sampled_from([0.0, 0.5, 1.0])), min_size=4, max_size=40)


def cut(groups: dict[str, list[float]], by: str = "kind", within: bool = False) -> Cut:
    """A value of the property for each list of scores."""
    scores = {f"{value}{n:03d}": score for value, found in groups.items() for n, score in enumerate(found)}
    return Cut(by, "recall@5", {question: question[:-3] for question in scores}, scores, within)


def alone(*cuts: Cut) -> dict[str, str]:
    """Every question a cluster of its own."""
    return {question: question for one in cuts for question in one.scores}


def by_matrices(values, inside, clusters) -> tuple[float, float]:
    """CR2 and its degrees of freedom as Bell and McCaffrey write them, with n by n matrices."""
    design = np.stack([inside, ~inside], axis=1).astype(float)
    bread = np.linalg.inv(design.T @ design)
    hat = design @ bread @ design.T
    residuals = values - hat @ values
    variance, columns = 0.0, []
    for cluster in np.unique(clusters):
        ours = clusters == cluster
        adjusted = linalg.fractional_matrix_power(np.eye(ours.sum()) - hat[np.ix_(ours, ours)], -0.5).real
        weights = adjusted @ design[ours] @ bread @ np.array([1.0, -1.0])
        variance += float(weights @ residuals[ours]) ** 2
        columns.append((np.eye(len(values)) - hat)[:, ours] @ weights)
    spread = np.linalg.eigvalsh(np.stack(columns, axis=1).T @ np.stack(columns, axis=1))
    return variance**0.5, spread.sum() ** 2 / (spread**2).sum()


@pytest.mark.parametrize("seed", range(5))
def test_error_and_degrees_of_freedom_are_those_of_the_matrices(seed):
    rng = np.random.default_rng(seed)
    clusters, inside, values = rng.integers(0, 9, 40), rng.random(40) < 0.3, rng.random(40)
    sides = slices._Side.of(values, inside, clusters), slices._Side.of(values, ~inside, clusters)
    assert slices._robust(*sides) == pytest.approx(by_matrices(values, inside, clusters))


def test_without_clusters_the_error_is_that_of_welch():
    rng = np.random.default_rng(7)
    values, inside = rng.random(60), np.arange(60) < 20
    sides = slices._Side.of(values, inside, np.arange(60)), slices._Side.of(values, ~inside, np.arange(60))
    welch = stats.ttest_ind(values[inside], values[~inside], equal_var=False)
    assert (sides[0].mean - sides[1].mean) / slices._robust(*sides)[0] == pytest.approx(welch.statistic)


def test_one_cluster_says_nothing_of_others():
    inside = np.array([True] * 10 + [False] * 20)
    clusters = np.array([0] * 10 + [*range(1, 21)])
    found = slices.difference(inside.astype(float), inside, clusters)
    assert (found.difference, found.low, found.high, found.p) == (1.0, -1.0, 1.0, 1.0)


def test_ten_of_ten_are_not_all():
    """With a mean of 0.8 elsewhere, ten right answers come by chance one time in ten (0.8^10 = 0.107)."""
    values = np.array([1.0] * 10 + [1.0] * 80 + [0.0] * 20)
    found = slices.difference(values, np.arange(110) < 10, np.arange(110))
    # ten clusters may hide 1 - 0.025^(1/10) = 30.8 % of their kind, a hundred 3.6 %: at the worst 0.2 less 0.308 less
    # 0.2 times 0.036
    assert found.low == pytest.approx(0.2 - 0.3085 - 0.2 * 0.0362, abs=1e-3)
    assert found.p > 0.05


@given(SIDES)
def test_laws_of_a_difference(rows):
    inside = np.array([side for side, _, _ in rows])
    if inside.all() or not inside.any():
        return
    clusters, values = np.array([cluster for _, cluster, _ in rows]), np.array([value for _, _, value in rows])
    found, turned = (slices.difference(values, side, clusters) for side in (inside, ~inside))
    assert -1 <= found.low <= found.difference <= found.high <= 1
    assert 0 <= found.p <= 1
    assert (turned.difference, turned.low, turned.high) == pytest.approx((-found.difference, -found.high, -found.low))
    assert turned.p == pytest.approx(found.p)
    if not found.low <= 0 <= found.high:
        assert found.p <= 0.05 + 1e-9


def test_the_worst_slice_comes_first():
    # howto 2 of 40, note 20 of 40, definition 30 of 40
    kinds = cut({"howto": [1.0] * 2 + [0.0] * 38, "note": [1.0, 0.0] * 20, "definition": [1.0, 1.0, 1.0, 0.0] * 10})
    found = slices.slices([kinds], alone(kinds), HOW)
    assert [part.value for part in found] == ["howto", "note", "definition"]
    worst = found[0]
    assert (worst.n, worst.n_clusters, worst.mean) == (40, 40, 0.05)
    assert worst.rest == pytest.approx(50 / 80) and worst.difference == pytest.approx(0.05 - 50 / 80)
    assert worst.low <= worst.mean <= worst.high
    assert [part.worse for part in found] == [True, False, False]
    assert worst.sentence.startswith("recall@5 is 0.050 where kind is howto, 0.625 elsewhere (-0.575 [")


def test_a_slice_that_does_better_is_not_worse():
    kinds = cut({"howto": [1.0] * 38 + [0.0] * 2, "note": [1.0] * 2 + [0.0] * 38})
    by_value = {part.value: part for part in slices.slices([kinds], alone(kinds), HOW)}
    assert by_value["howto"].p_holm == by_value["note"].p_holm <= 0.05
    assert (by_value["howto"].worse, by_value["note"].worse) == (False, True)


def test_p_is_corrected_for_every_slice_of_the_set():
    one = cut({"howto": [1.0] * 6 + [0.0] * 34, "note": [1.0, 0.0] * 40})
    single = slices.slices([one], alone(one), HOW)[0]
    again = [replace(one, by=f"kind{n}") for n in range(5)]
    crowded = slices.slices(again, alone(one), HOW)[0]
    assert crowded.p_holm == pytest.approx(5 * single.p_holm)


def test_few_questions_and_whole_sets_are_no_slices():
    small = cut({"howto": [0.0] * 9, "note": [1.0] * 30})
    assert slices.slices([small], alone(small), HOW) == []  # note has nine others to compare with
    assert slices.too_small([small]) == {"kind": 2}
    enough = cut({"howto": [0.0] * 9, "note": [1.0] * 30, "error": [1.0]})
    assert [part.value for part in slices.slices([enough], alone(enough), HOW)] == ["note"]
    assert slices.too_small([enough]) == {"kind": 2}
    whole = cut({"en": [1.0, 0.0] * 20}, by="language")
    assert slices.slices([whole], alone(whole), HOW) == []
    assert slices.too_small([whole]) == {"language": 0}
    nothing = Cut("kind", "recall@5", {}, {})
    assert slices.slices([nothing], {}, HOW) == [] and slices.too_small([nothing]) == {"kind": 0}


def test_a_document_is_told_by_its_questions():
    """A slice that is one cluster: as a sample of documents it says nothing, as questions about this one it does."""
    documents = cut({"bad": [0.0] * 12, "other": [1.0] * 60}, by="document")
    clusters = {q: q[:-3] if q.startswith("bad") else q for q in documents.scores}
    (among, _) = slices.slices([documents], clusters, HOW)
    assert (among.low, among.high, among.p_holm, among.worse) == (0.0, 1.0, 1.0, False)
    (worst, _) = slices.slices([replace(documents, within=True)], clusters, HOW)
    assert (worst.value, worst.n, worst.n_clusters, worst.worse) == ("bad", 12, 1, True)
    assert worst.high < 0.5


def test_of_many_documents_the_twenty_worst_are_told():
    many = cut({f"d{n:02d}": [1.0] * (n % 11) + [0.0] * (10 - n % 11) for n in range(50)}, by="document", within=True)
    found = slices.slices([many], alone(many), HOW)
    assert len(found) == slices.MOST
    # five of the fifty have 0 right of ten, five 1, five 2, five 3
    assert sorted(part.mean for part in found) == pytest.approx([0.0] * 5 + [0.1] * 5 + [0.2] * 5 + [0.3] * 5)


@pytest.mark.parametrize("odd", [float("nan"), 1.5, -0.1])
def test_a_score_outside_its_range(odd):
    kinds = cut({"howto": [0.5] * 12, "note": [odd] + [0.5] * 20})
    with pytest.raises(DataError, match=r"slices: recall@5 of 'note000' is .*, expected a value in \[0, 1\]"):
        slices.slices([kinds], alone(kinds), HOW)


def test_order_of_the_questions_changes_nothing():
    kinds = cut({"howto": [1.0, 0.0] * 10, "note": [1.0] * 15 + [0.0] * 5})
    turned = replace(kinds, scores=dict(reversed(kinds.scores.items())))
    assert slices.slices([kinds], alone(kinds), HOW) == slices.slices([turned], alone(kinds), HOW)


def test_rows_are_plain_and_rounded():
    kinds = cut({"howto": [1.0] * 5 + [0.0] * 10, "note": [1.0] * 25 + [0.0] * 5})
    told = slices.row(slices.slices([kinds], alone(kinds), HOW)[0])
    assert [*told] == [
        "by", "value", "metric", "n", "n_clusters", "mean", "low", "high", "rest", "difference", "difference_low",
        "difference_high", "p_holm", "worse",
    ]  # fmt: skip
    assert (told["mean"], told["rest"], told["difference"]) == (0.333333, 0.833333, -0.5)


def row(question_id: str, **changes) -> dict:
    plain = {"kind": "howto", "document": "d", "answers": ["one two"], "gold_position": 1, "language": "en"}
    return {"question_id": question_id, "answerable": True, "abstained": False, **plain, **changes}


def test_what_is_cut():
    rows = [row("a"), row("b", abstained=True), row("c", answerable=False, answers=[], abstained=True, gold_position=0)]
    found = {(one.by, one.metric): one for one in slices.cuts(rows, {"a": 1.0, "b": 0.0}, {"a": 0.4, "b": 0.9})}
    properties = ["kind", "document", "answer_words", "gold_position", "language"]
    both = {(by, metric) for by in properties for metric in ("recall@5", "answer_f1")}
    assert found.keys() == both - {("gold_position", "recall@5")} | {("answerable", "answer_f1")}
    assert found["kind", "recall@5"].scores == {"a": 1.0, "b": 0.0}
    assert found["kind", "answer_f1"].scores == {"a": 0.4, "b": 0.0}  # b was held back
    assert found["answerable", "answer_f1"].scores == {"a": 0.4, "b": 0.0, "c": 1.0}  # c was rightly declined
    assert found["answerable", "answer_f1"].value_of == {"a": "yes", "b": "yes", "c": "no"}
    assert [by for by, one in ((by, found[by, "answer_f1"]) for by in properties) if one.within] == ["document"]


def test_levels_by_hand():
    scores = {"a": 1.0, "b": 0.0, "c": 0.5}
    found = slices.levels({"a": "1", "b": "1", "c": "2"}, scores, {q: q for q in scores}, HOW)
    assert [*found] == ["1", "2"]
    assert (found["1"]["n"], found["1"]["mean"]) == (2, 0.5)
    assert found["2"] == {"n": 1, "mean": 0.5, "low": 0.0, "high": 1.0}  # one cluster: the whole range


@pytest.mark.parametrize(
    ("reference", "bucket"),
    [("", "1-4"), ("a b c d", "1-4"), ("a b c d e", "5-9"), ("w " * 19, "10-19"), ("w " * 20, "20+")]
)  # fmt: skip
def test_buckets_of_words(reference, bucket):
    assert slices.words(reference) == bucket


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("How do I merge two tables?", "en"),
        ("Wie fügt man zwei Tabellen zusammen?", "de"),
        ("Comment fusionner deux tables ?", "fr"),
        ("Как объединить таблицы?", "ru"),
        ("表を結合するには？", "ja"),
        ("df.merge?", slices.UNKNOWN),
        ("", slices.UNKNOWN),
    ],
)
def test_languages(asked, code):
    assert slices.language(asked) == code


def test_the_reference_tells_where_the_question_does_not():
    assert slices.language("df.merge?", "It joins the rows of two tables by the values of their columns.") == "en"
