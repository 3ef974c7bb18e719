"""The contrastive losses equal their formulas and what other libraries compute, and hide what is not a negative."""

import numpy as np
import pytest
import torch
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
)
from torch import nn

from ragline.errors import ConfigError, DataError
from ragline.retrieval import contrast, train
from ragline.retrieval.losses import Candidates, LocalRQALoss, MaskedContrastiveLoss, distinct
from ragline.retrieval.mine import Negative
from tests.fixtures.encoders import tiny_encoder
from tests.fixtures.small import passage, question

EXAMPLES = [
    question("q0", "a#0000", cluster="a"),
    question("q1", "b#0000", cluster="b"),
    question("q2", "a#0000", cluster="a"),  # same gold as q0
]
A, B, C = passage("a#0000", doc_id="a"), passage("b#0000", doc_id="b"), passage("c#0000", doc_id="c")
TWIN_OF_B = passage("b2#0000", doc_id="b2", cluster="b")
CORPUS = [A, B, C, TWIN_OF_B]
ROWS = Candidates(CORPUS, np.array([[0, 2], [1, 2], [0, 3]]))
HIDDEN = [[0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("tiny"))


class Given(nn.Module):
    """Gives back the vectors it is handed, as if it had encoded them."""

    def forward(self, features):
        return {"sentence_embedding": features["input_ids"]}


def hidden(batch: list[int]) -> list[list[int]]:
    rows = ROWS.beside(batch)
    return contrast.unlabelled([EXAMPLES[n] for n in batch], [CORPUS[row] for row in rows]).int().tolist()


def test_mask_by_hand():
    # Columns: positives of 0, 1, 2, then negatives of 0, 1, 2.
    # Row 0 (gold a): the a of row 2 is its gold. Row 1 (cluster b): the twin of b. Row 2: the a of row 0.
    assert hidden([0, 1, 2]) == HIDDEN


def test_mask_follows_the_batch_order():
    # Batch (2, 1): columns a of 2, b of 1, twin of 2, c of 1. q1, of cluster b, must not see the twin as a negative.
    assert hidden([2, 1]) == [[0, 0, 0, 0], [0, 0, 1, 0]]


def test_a_second_gold_passage_and_the_same_text_are_hidden():
    asked = question("q", "a#0000")
    second = passage("a#0001", doc_id="a")
    both = type(asked)(
        *(getattr(asked, f) if f != "gold_passage_ids" else ("a#0000", "a#0001") for f in asked.__slots__)
    )
    copy = passage("z#0000", text=A.text)
    assert contrast.unlabelled([both], [A, second, copy, C]).int().tolist() == [[0, 1, 1, 0]]


def test_loss_equals_the_formula():
    rng = np.random.default_rng(3)
    questions, candidates = rng.normal(size=(3, 4)), rng.normal(size=(6, 4))

    def unit(x):
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    scores = unit(questions) @ unit(candidates).T / 0.05
    shown = np.where(np.array(HIDDEN, dtype=bool), 0.0, np.exp(scores))
    expected = np.mean([np.log(shown[row].sum()) - scores[row, row] for row in range(3)])
    loss = contrast.masked(torch.tensor(HIDDEN, dtype=torch.bool), slice(None), 0.05, symmetric=False)
    assert loss(torch.tensor(questions), torch.tensor(candidates)).item() == pytest.approx(expected, rel=1e-9)


def test_the_other_direction_hides_the_same_pairs():
    # Positives of rows 0 and 2 are one passage, so neither is weighed against the other's question.
    vectors = torch.eye(3, dtype=torch.float64)
    loss = contrast.masked(torch.tensor(HIDDEN, dtype=torch.bool), slice(None), 1.0, symmetric=True)
    candidates = torch.cat([vectors, vectors])
    # Scores are 1 on the diagonal, else 0. Forward: row 0 sees itself (e), column 1 (1), negatives 0, 1, 2 (e, 1, 1);
    # row 1 sees e, 1, 1 of the positives and 1, e of the negatives; row 2 as row 0. Backward: e against the other
    # questions that are shown: one for positives 0 and 2, two for positive 1.
    e = np.e
    forward = np.mean([np.log((2 * e + 3) / e), np.log((2 * e + 3) / e), np.log((2 * e + 3) / e)])
    backward = np.mean([np.log((e + 1) / e), np.log((e + 2) / e), np.log((e + 1) / e)])
    assert loss(vectors, candidates).item() == pytest.approx((forward + backward) / 2)


def test_given_vectors_stand_for_encoded_passages():
    rng = np.random.default_rng(4)
    corpus = rng.normal(size=(4, 5)).astype(np.float32)
    corpus /= np.linalg.norm(corpus, axis=1, keepdims=True)
    asked = {"input_ids": torch.tensor(rng.normal(size=(3, 5)), dtype=torch.float32)}
    batch = [2, 0, 1]
    rows, _ = distinct(ROWS.beside(batch), CORPUS)
    encoded = MaskedContrastiveLoss(Given(), EXAMPLES, ROWS, 0.05)
    looked_up = MaskedContrastiveLoss(Given(), EXAMPLES, ROWS, 0.05, corpus)
    expected = encoded([asked, {"input_ids": torch.tensor(corpus[rows])}], torch.tensor(batch)).item()
    assert looked_up([asked], torch.tensor(batch)).item() == pytest.approx(expected, rel=1e-6)


def test_each_passage_is_encoded_once_the_longest_first():
    corpus = [passage("a#0000", "aa"), passage("b#0000", "bbbb"), passage("c#0000", "c")]
    rows = np.array([2, 0, 2, 1, 0])
    unique, places = distinct(rows, corpus)
    assert unique.tolist() == [1, 0, 2]
    assert np.array_equal(unique[places], rows)


# --- other libraries as oracles, on a model with random weights --------------------------------------------------

COUNT = 6
TALK = [
    "a cat",
    "how do I merge two tables of unequal length?",
    "rain",
    "the end of it all",
    "seven",
    "quick brown fox",
]
PASSAGES = [passage(f"d{n}#0000", f"{word} " * (3 + 2 * n)) for n, word in enumerate([*TALK, *reversed(TALK)])]
PASSAGES = [passage(f"d{n}#0000", f"{p.text} {n}") for n, p in enumerate(PASSAGES)]
QUESTIONS = [question(f"q{n}", f"d{n}#0000", text) for n, text in enumerate(TALK)]
CANDIDATES = Candidates(PASSAGES, np.array([[n, n + COUNT] for n in range(COUNT)]))
BATCH = torch.arange(COUNT)


def tokens(model, texts):
    return model.preprocess(list(texts))


def columns(model):
    """As sentence-transformers wants them: questions, positives, negatives."""
    texts = ([q.question for q in QUESTIONS], *([PASSAGES[row].encoded_text for row in c] for c in CANDIDATES.rows.T))
    return [tokens(model, column) for column in texts]


def once(model, loss):
    """As our losses want them: questions, and each passage once."""
    rows, _ = distinct(loss.rows(BATCH.tolist()), PASSAGES)
    return [tokens(model, TALK), tokens(model, [PASSAGES[row].encoded_text for row in rows])]


def gradients(model, loss, features) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    value = loss(features, BATCH)
    value.backward()
    grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    assert grads
    return value.item(), torch.cat(grads)


def assert_alike(ours, theirs):
    assert ours[0] == pytest.approx(theirs[0], rel=1e-5)
    assert (ours[1] - theirs[1]).abs().max() <= 1e-5 * theirs[1].abs().max()


def mine(model, **options):
    return MaskedContrastiveLoss(model, QUESTIONS, CANDIDATES, 0.05, **options)


def test_without_a_mask_it_is_the_multiple_negatives_ranking_loss(tiny):
    theirs = MultipleNegativesRankingLoss(tiny, scale=20)
    assert_alike(gradients(tiny, mine(tiny), once(tiny, mine(tiny))), gradients(tiny, theirs, columns(tiny)))


def test_both_directions_are_the_symmetric_loss(tiny):
    ours = mine(tiny, symmetric=True)
    directions = ("query_to_doc", "doc_to_query")
    theirs = MultipleNegativesRankingLoss(tiny, scale=20, directions=directions, partition_mode="per_direction")
    assert_alike(gradients(tiny, ours, once(tiny, ours)), gradients(tiny, theirs, columns(tiny)))


@pytest.mark.parametrize("mini_batch_size", [None, 2])
def test_nested_vectors_are_the_matryoshka_loss(tiny, mini_batch_size):
    ours = mine(tiny, matryoshka=(32, 16, 4), mini_batch_size=mini_batch_size)
    theirs = MatryoshkaLoss(tiny, MultipleNegativesRankingLoss(tiny, scale=20), [32, 16, 4])
    assert_alike(gradients(tiny, ours, once(tiny, ours)), gradients(tiny, theirs, columns(tiny)))


@pytest.mark.parametrize("mini_batch_size", [1, 4, 100])
def test_gradients_in_mini_batches_are_those_of_the_whole_batch(tiny, mini_batch_size):
    features = once(tiny, mine(tiny))
    cached = gradients(tiny, mine(tiny, mini_batch_size=mini_batch_size), features)
    assert_alike(cached, gradients(tiny, mine(tiny), features))
    theirs = CachedMultipleNegativesRankingLoss(tiny, scale=20, mini_batch_size=mini_batch_size)
    assert_alike(cached, gradients(tiny, theirs, columns(tiny)))


def test_mini_batches_under_a_mask_and_for_the_questions_alone(tiny):
    rng = np.random.default_rng(5)
    corpus = rng.normal(size=(4, 32)).astype(np.float32)
    asked = tokens(tiny, [q.question for q in EXAMPLES])
    rows, _ = distinct(ROWS.beside([0, 1, 2]), CORPUS)
    offered = tokens(tiny, [CORPUS[row].encoded_text for row in rows])
    for vectors, features in ((corpus, [asked]), (None, [asked, offered])):
        whole, cached = (
            MaskedContrastiveLoss(tiny, EXAMPLES, ROWS, 0.05, vectors, symmetric=True, mini_batch_size=size)
            for size in (None, 2)
        )
        found = []
        for loss in (whole, cached):
            tiny.zero_grad()
            loss(features, torch.arange(3)).backward()
            found.append(torch.cat([p.grad.flatten() for p in tiny.parameters() if p.grad is not None]))
        assert torch.allclose(*found, atol=1e-5)


def test_mini_batches_replay_dropout(tiny, tmp_path):
    model = tiny_encoder(tmp_path, seed=1).train()
    loss = mine(model, mini_batch_size=100)
    features = once(model, loss)
    torch.manual_seed(7)
    cached = gradients(model, loss, features)
    torch.manual_seed(7)
    asked, offered = (model(dict(column))["sentence_embedding"] for column in features)
    model.zero_grad()
    mine(model).calculate_loss([[asked], [offered]], BATCH).backward()
    whole = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert torch.allclose(cached[1], whole, atol=1e-5)


# --- LocalRQA's loss -----------------------------------------------------------------------------------------------


def localrqa_by_loops(questions, keys, temperature):
    """Written anew from its description: cross-entropy of (q / T) · k, target the question's own row."""
    losses = []
    for row, asked in enumerate(questions):
        scores = [float(sum(a / temperature * b for a, b in zip(asked, key, strict=True))) for key in keys]
        top = max(scores)
        losses.append(top + np.log(sum(np.exp(s - top) for s in scores)) - scores[row])
    return np.mean(losses)


@pytest.mark.parametrize("temperature", [0.05, 1.0, 1.2])
def test_localrqa_loss_on_random_vectors(temperature):
    rng = np.random.default_rng(6)
    questions, keys = rng.normal(size=(4, 5)), rng.normal(size=(6, 5))
    ours = contrast.localrqa(torch.tensor(questions), torch.tensor(keys), temperature)
    assert ours.item() == pytest.approx(localrqa_by_loops(questions, keys, temperature))


def test_localrqa_pools_means_and_does_not_normalise(tiny):
    loss = LocalRQALoss(tiny, CANDIDATES, 0.05, seed=3)
    texts = [TALK, [PASSAGES[row].encoded_text for row in range(COUNT)]]  # int(0.05 · 6) = 0 hard negatives

    def means(column):
        states = [tiny[0].model(**tiny.tokenizer(t, return_tensors="pt")).last_hidden_state[0] for t in column]
        return [s.mean(0).detach().double().numpy() for s in states]

    expected = localrqa_by_loops(*map(means, texts), 0.05)
    assert loss(once(tiny, loss), BATCH).item() == pytest.approx(expected, rel=1e-4)


def test_localrqa_draws_a_twentieth_from_the_hard_negatives_of_the_whole_batch():
    corpus = [
        passage(f"d{n}#0000", f"text {n if n >= 70 else n % 40}") for n in range(80)
    ]  # 40 to 69 repeat a gold one
    rows = np.stack([np.arange(40), 40 + np.arange(40)], axis=1)
    batch = list(range(40))
    drawn = set()
    for seed in range(30):
        loss = LocalRQALoss(Given(), Candidates(corpus, rows), 1.0, seed)
        chosen = loss.rows(batch).tolist()
        assert chosen[:40] == batch and len(set(chosen[40:])) == 2  # int(0.05 · 40)
        assert chosen == loss.rows(batch).tolist()
        drawn |= set(chosen[40:])
    assert drawn == set(range(70, 80))


def test_localrqa_without_enough_hard_negatives_says_so():
    corpus = [passage(f"d{n}#0000") for n in range(20)]
    loss = LocalRQALoss(Given(), Candidates(corpus, np.arange(20)[:, None]), 1.0, seed=2)
    with pytest.raises(DataError, match="expected 1 hard negatives in a batch of 20, got 0"):
        loss.rows(list(range(20)))


# --- schedule and candidates ---------------------------------------------------------------------------------------


def negative(asked: str, found: str) -> Negative:
    return Negative(asked, found, 0.5, 0.8)


def test_line_up_leaves_out_questions_with_too_few_negatives():
    mined = [negative("q0", "c#0000"), negative("q1", "a#0000"), negative("q1", "c#0000")]
    kept, candidates = train.line_up(EXAMPLES, CORPUS, mined, 2)
    assert [q.question_id for q in kept] == ["q1"]
    assert candidates.rows.tolist() == [[1, 0, 2]]
    kept, candidates = train.line_up(EXAMPLES, CORPUS, [], 0)
    assert candidates.rows.tolist() == [[0], [1], [0]]
    with pytest.raises(DataError, match="expected training questions with 3 hard negatives, got none of 3"):
        train.line_up(EXAMPLES, CORPUS, mined, 3)


def test_new_negatives_replace_the_old_where_there_are_enough():
    mined = [negative("q0", "b#0000"), negative("q2", "c#0000")]
    assert train.renew(EXAMPLES, ROWS, mined).tolist() == [[0, 1], [1, 2], [0, 2]]
    assert ROWS.rows.tolist() == [[0, 2], [1, 2], [0, 3]]


def schedule(**changes) -> train.Schedule:
    usual = {"epochs": 1, "batch_size": 6, "learning_rate": 1e-3, "temperature": 0.05, "max_passage_tokens": 32}
    return train.Schedule(**usual | {"evaluations": 1, "seed": 1} | changes)


def test_a_schedule_that_does_not_fit_is_refused():
    train.check(schedule(matryoshka=(32, 8)), 32, 3, shared=False)
    train.check(schedule(compat="localrqa"), 32, 1, shared=True)
    for changes, processes, shared, message in [
        ({}, 4, True, "batch_size: expected a multiple of the 4 processes, got 6"),
        ({"matryoshka": (64,)}, 1, True, "matryoshka: expected at most the encoder's 32 numbers, got 64"),
        ({"compat": "localrqa", "symmetric": True}, 1, True, "compat: localrqa has no symmetric; set one or the other"),
        ({"compat": "localrqa"}, 1, False, "compat: localrqa trains one shared encoder; set towers: both"),
    ]:
        with pytest.raises(ConfigError, match=message):
            train.check(schedule(**changes), 32, processes, shared)
