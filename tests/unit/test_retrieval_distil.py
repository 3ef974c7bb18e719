"""Distillation losses are the divergence written out by hand, and teach the student alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import kl_div

from ragline.retrieval import distil
from ragline.retrieval.distil import DistillationLoss, Weighing
from ragline.retrieval.losses import Candidates, distinct
from tests.fixtures.encoders import tiny_encoder
from tests.fixtures.small import passage, question

SHAPE = (4, 5)
WEIGHING = Weighing(student_temperature=0.1, teacher_temperature=0.5, kl="forward")
INF = float("inf")


def shares(seed: int, offered: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    scores = torch.randn(offered.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return distil.log_shares(scores, offered, temperature)


def test_by_hand():
    # The teacher shares 3/4 and 1/4, the student 1/2 and 1/2.
    teacher, student = torch.tensor([[3.0, 1.0]]).div(4).log(), torch.tensor([[1.0, 1.0]]).div(2).log()
    forward = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    reverse = 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)
    assert distil.divergence(teacher, student, "forward").item() == pytest.approx(forward)
    assert distil.divergence(teacher, student, "reverse").item() == pytest.approx(reverse)


@pytest.mark.parametrize("kl", ["forward", "reverse"])
def test_it_is_kl_div_by_question(kl):
    everything = torch.ones(SHAPE, dtype=torch.bool)
    teacher, student = shares(1, everything), shares(2, everything)
    target, given_ = (teacher, student) if kl == "forward" else (student, teacher)
    # The default reduction of torch's would divide by the number of candidates, too.
    expected = kl_div(given_, target, reduction="batchmean", log_target=True)
    assert distil.divergence(teacher, student, kl).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("kl", ["forward", "reverse"])
def test_what_is_not_offered_has_no_share_and_no_gradient(kl):
    offered = torch.tensor([[True, True, False], [False, True, True]])
    scores = torch.tensor([[1.0, 2.0, 90.0], [70.0, 0.0, 1.0]], requires_grad=True)
    student = distil.log_shares(scores, offered, 0.5)
    assert torch.equal(student.exp() == 0, ~offered)
    assert student.exp().sum(-1).tolist() == pytest.approx([1, 1])
    teacher = distil.log_shares(torch.tensor([[2.0, 1.0, INF], [-INF, 5.0, 1.0]]), offered, 1.0)
    loss = distil.divergence(teacher, student, kl)
    loss.backward()
    assert torch.equal(scores.grad == 0, ~offered) and torch.isfinite(scores.grad).all()
    # The same as if the others alone had been there.
    alone = [
        distil.divergence(t[None, o].log_softmax(-1), s[None, o].detach().log_softmax(-1), kl).item()
        for t, s, o in zip(teacher, student, offered, strict=True)
    ]
    assert loss.item() == pytest.approx(np.mean(alone), rel=1e-5)


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.sampled_from(["forward", "reverse"]))
def test_laws_of_the_divergence(one, other, kl):
    offered = torch.ones(SHAPE, dtype=torch.bool)
    teacher, student = shares(one, offered), shares(other, offered)
    assert distil.divergence(teacher, student, kl) >= -1e-12
    assert distil.divergence(teacher, teacher, kl) == 0
    order = torch.randperm(SHAPE[1], generator=torch.Generator().manual_seed(one))
    shuffled = distil.divergence(teacher[:, order], student[:, order], kl)
    assert shuffled.item() == pytest.approx(distil.divergence(teacher, student, kl).item())
    swapped = distil.divergence(student, teacher, "reverse" if kl == "forward" else "forward")
    assert swapped.item() == pytest.approx(distil.divergence(teacher, student, kl).item())


@given(st.integers(0, 10_000), st.floats(0.01, 10), st.floats(-50, 50))
def test_shares_do_not_depend_on_the_scale_s_zero(seed, temperature, shift):
    scores = torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    offered = torch.ones(SHAPE, dtype=torch.bool)
    found = distil.log_shares(scores + shift, offered, temperature)
    assert torch.allclose(found, distil.log_shares(scores, offered, temperature), atol=1e-8)


# --- the loss in a batch -------------------------------------------------------------------------------------------

CORPUS = [passage(f"d{n}#0000", f"what is said of thing {n} " + "and on " * n) for n in range(6)]
QUESTIONS = [question(f"q{n}", f"d{n}#0000", f"what about {n}?") for n in range(4)]
ROWS = np.array([[3, 0, 5], [1, 2, 0], [4, 2, 1], [0, 5, 3]])  # gold stands first, second, last
SCORES = np.random.default_rng(8).normal(size=(4, len(CORPUS)))
SCORES[1, 2] = -np.inf


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("tiny"))


def teacher(numbers, rows):
    """A score for each question and passage, wherever the passage stands."""
    return np.stack([SCORES[number, found] for number, found in zip(numbers, rows, strict=True)])


def features(model, loss, batch, given_):
    asked = model.preprocess([QUESTIONS[number].question for number in batch])
    if given_:
        return [asked]
    rows, _ = distinct(loss.rows(batch), CORPUS)
    return [asked, model.preprocess([CORPUS[row].encoded_text for row in rows])]


def value(model, batch, rows=ROWS, vectors=None, weighing=WEIGHING, mini_batch_size=None):
    """Loss and gradient of a batch."""
    loss = DistillationLoss(model, Candidates(CORPUS, rows), teacher, weighing, vectors, mini_batch_size)
    model.zero_grad()
    found = loss(features(model, loss, batch, vectors is not None), torch.tensor(batch))
    found.backward()
    return found.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def encoded(model, texts):
    with torch.no_grad():
        return [model(model.preprocess([text]))["sentence_embedding"][0].double().numpy() for text in texts]


@pytest.mark.parametrize("kl", ["forward", "reverse"])
def test_every_passage_meets_its_own_score(tiny, kl):
    """The batch is out of order, and passages are encoded once each and the longest first."""
    batch = [2, 0, 1]
    expected = []
    for number in batch:
        asked, *found = encoded(tiny, [QUESTIONS[number].question, *(CORPUS[row].encoded_text for row in ROWS[number])])
        told = np.exp(SCORES[number, ROWS[number]] / 0.5)
        told /= told.sum()
        judged = told > 0
        cosines = np.array([asked @ p / np.linalg.norm(asked) / np.linalg.norm(p) for p in found])
        mine = np.where(judged, np.exp(cosines / 0.1), 0)
        mine /= mine.sum()
        first, second = (told, mine) if kl == "forward" else (mine, told)
        expected.append(sum(a * np.log(a / b) for a, b in zip(first[judged], second[judged], strict=True)))
    found, _ = value(tiny, batch, weighing=Weighing(0.1, 0.5, kl))
    assert found == pytest.approx(np.mean(expected), rel=1e-4)


def test_the_place_of_the_gold_passage_teaches_nothing(tiny):
    loss, gradient = value(tiny, [0, 1, 2, 3])
    turned, same = value(tiny, [0, 1, 2, 3], rows=ROWS[:, [2, 0, 1]])
    assert turned == pytest.approx(loss, rel=1e-5)
    assert torch.allclose(gradient, same, atol=1e-5)


def test_given_vectors_stand_for_encoded_passages(tiny):
    vectors = np.stack(encoded(tiny, [p.encoded_text for p in CORPUS])).astype(np.float32)
    assert value(tiny, [3, 1], vectors=vectors)[0] == pytest.approx(value(tiny, [3, 1])[0], rel=1e-4)


@pytest.mark.parametrize("given_", [False, True])
def test_gradients_in_mini_batches_are_those_of_the_whole_batch(tiny, given_):
    vectors = np.stack(encoded(tiny, [p.encoded_text for p in CORPUS])).astype(np.float32) if given_ else None
    whole, cached = (value(tiny, [0, 1, 2], vectors=vectors, mini_batch_size=size) for size in (None, 2))
    assert cached[0] == pytest.approx(whole[0], rel=1e-5)
    assert torch.allclose(cached[1], whole[1], atol=1e-5)


def test_the_nearest_passages_with_a_gold_one_among_them():
    corpus = [passage(f"d{n}#0000") for n in range(5)]
    vectors = np.eye(5, dtype=np.float32)
    asked = np.array([[0.9, 0.3, 0.2, 0.1, 0.0], [0.9, 0.3, 0.2, 0.1, 0.0]], dtype=np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    questions = [question("near", "d1#0000"), question("far", "d4#0000")]
    assert distil.find(questions, asked, corpus, vectors, 3).tolist() == [[0, 1, 2], [0, 1, 4]]
    assert distil.find(questions, asked, corpus, vectors, 9).tolist() == [[0, 1, 2, 3, 4]] * 2
