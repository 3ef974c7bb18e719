"""Cross-encoders: a tiny one with random weights learns which passage answers."""

import shutil
from pathlib import Path

import pytest
import torch

from ragline.errors import DataError, ModelError
from ragline.evaluation import retrieval
from ragline.retrieval import mine, rerank, rerank_train
from ragline.types import Hit
from tests.fixtures.cross_encoder import tiny
from tests.fixtures.small import passage, question


@pytest.fixture(scope="module")
def name(tmp_path_factory) -> str:
    return tiny(tmp_path_factory.mktemp("tiny"))


WORDS = ("red", "blue", "green", "black", "white", "brown", "small", "large")
QUESTIONS = [question(f"q{n}", f"d{n}#0000", f"where is {word}?") for n, word in enumerate(WORDS)]
PASSAGES = [passage(f"d{n}#0000", f"here is {word}") for n, word in enumerate(WORDS)] + [
    passage(f"n{n}#0000", f"never any {word}") for n, word in enumerate(WORDS)
]
NEGATIVES = [mine.Negative(f"q{n}", f"n{(n + step) % 8}#0000", 0.5, 0.9) for n in range(8) for step in (0, 1)]


def test_the_same_passages_best_first(name):
    reranker = rerank.load(name)
    hits = [[Hit(p, 1.0 - row / 10) for row, p in enumerate(PASSAGES[:4])], [], [Hit(PASSAGES[5], 0.3)]]
    found = reranker.rerank(["where is red?", "where?", "where is brown?"], hits)
    assert [len(part) for part in found] == [4, 0, 1]
    assert {hit.passage.passage_id for hit in found[0]} == {hit.passage.passage_id for hit in hits[0]}
    scores = [hit.score for hit in found[0]]
    assert scores == sorted(scores, reverse=True) and all(0 < score < 1 for score in scores)


def test_a_batch_scores_like_its_pairs(name):
    reranker = rerank.load(name)
    texts = [p.encoded_text for p in PASSAGES]
    together = reranker.scores("where is red?", texts)
    assert together == pytest.approx([reranker.scores("where is red?", [text])[0] for text in texts], abs=1e-6)
    assert reranker.scores("where is red?", []) == []


def test_equal_scores_are_served_in_the_order_in_which_they_are_scored(name):
    twins = [Hit(passage(f"t{n}#0000", "the same", doc_id="t"), 0.5) for n in (3, 0, 4, 1, 2)]
    (found,) = rerank.load(name).rerank(["where?"], [twins])
    served = [hit.passage.passage_id for hit in found]
    assert served == [f"t{n}#0000" for n in range(5)]
    assert served == retrieval.ranking("q", {hit.passage.passage_id: hit.score for hit in found})


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("logit", "least", "most"),  # 1 / (1 + e^-x): e^710 is beyond float64
    [(-3e38, 0, 1e-307), (-710, 0, 1e-307), (0, 0.5, 0.5), (40, 1 - 1e-15, 1), (3e38, 1 - 1e-15, 1)],
)
def test_a_logit_of_any_size_is_a_probability(name, logit, least, most):
    reranker = rerank.load(name)
    with torch.no_grad():
        reranker.model.model.classifier.weight.zero_()
        reranker.model.model.classifier.bias.fill_(logit)
    (probability,) = reranker.scores("where?", ["here"])
    assert 0 < probability < 1 and least <= probability <= most


def test_examples_from_mined_negatives(caplog):
    caplog.set_level("INFO")
    examples = rerank_train.judged([*QUESTIONS, question("lonely", "d0#0000")], PASSAGES, NEGATIVES)
    assert len(examples) == 8  # the lonely one has no negatives
    assert caplog.messages == ["1 of 9 questions left out: no mined negatives"]
    texts = ("n0\nnever any red", "n1\nnever any blue")
    assert examples[0] == rerank_train.Judged("where is red?", "d0\nhere is red", texts)


def trained(name: str, loss: rerank_train.Loss, folder: Path, epochs: int = 3) -> tuple[rerank.Reranker, list]:
    reranker = rerank_train.start(name, Path(), max_tokens=24, seed=7)
    schedule = rerank_train.Schedule(epochs, batch_size=4, learning_rate=3e-3, evaluations=2, seed=7, loss=loss)
    examples = rerank_train.judged(QUESTIONS, PASSAGES, NEGATIVES)
    return reranker, rerank_train.fit(reranker, examples, schedule, accuracy, folder)


def accuracy(reranker: rerank.Reranker) -> float:
    """Share of questions whose passage is scored best of its three."""
    right = 0
    for example in rerank_train.judged(QUESTIONS, PASSAGES, NEGATIVES):
        scores = reranker.scores(example.question, [example.positive, *example.negatives])
        right += scores[0] == max(scores)
    return right / len(QUESTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["binary", "listwise"])
def test_training_is_a_function_of_its_seed(name, loss, tmp_path):
    (first, points), (again, _) = (trained(name, loss, tmp_path / part) for part in ("a", "b"))
    assert [p.dev for p in points if p.dev is not None]
    left, right = first.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(left[key], right[key]) for key in left)
    untrained = rerank_train.start(name, Path(), max_tokens=24, seed=7).model.state_dict()
    assert any(not torch.equal(left[key], untrained[key]) for key in left)
    assert points[-1].step == (18 if loss == "binary" else 6)  # 24 pairs or 8 lists, 4 a step, three times
    rerank_train.save(first, tmp_path / "saved")
    texts = [p.encoded_text for p in PASSAGES]
    assert rerank.load(str(tmp_path / "saved")).scores("where is red?", texts) == first.scores("where is red?", texts)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["binary", "listwise"])
def test_what_never_answers_is_learned(name, loss, tmp_path):
    learned, points = trained(name, loss, tmp_path / "fit", epochs=30)
    losses = [p.loss for p in points if p.loss is not None]
    assert losses[-1] < 0.5 * losses[0]
    assert accuracy(learned) == 1


def test_no_examples(name, tmp_path):
    schedule = rerank_train.Schedule(1, 4, 1e-3, 1, 0, "binary")
    with pytest.raises(DataError, match="reranker: expected questions with hard negatives, got none"):
        rerank_train.fit(rerank.load(name), [], schedule, accuracy, tmp_path / "fit")


def test_a_bi_encoder_is_no_reranker():
    with pytest.raises(ModelError, match=r"builtin:minilm: expected a cross-encoder, got BertModel without a trained"):
        rerank.load("builtin:minilm")


def test_a_classifier_of_more_outputs_is_no_reranker(tmp_path):
    with pytest.raises(ModelError, match="expected a cross-encoder with one output, got 3"):
        rerank.load(tiny(tmp_path / "three", labels=3))


def test_no_such_model(tmp_path):
    with pytest.raises(ModelError, match="no model here"):
        rerank.load(str(tmp_path))


def test_other_weights_or_settings_have_another_fingerprint(name, tmp_path):
    same = [rerank.fingerprint(name), rerank.fingerprint(Path(name).name, Path(name).parent)]
    copy = Path(shutil.copytree(name, tmp_path / "copy"))
    (copy / "README.md").write_text("said of the model")
    assert {*same, rerank.fingerprint(str(copy))} == {same[0]}
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    assert rerank.fingerprint(str(copy)) != same[0]
