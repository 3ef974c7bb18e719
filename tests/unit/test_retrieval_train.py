"""The contrastive loss equals its formula, and hides what is not a negative."""

import numpy as np
import pytest
import torch
from torch import nn

from ragline.retrieval.train import Candidates, MaskedContrastiveLoss
from tests.fixtures.small import passage, question

EXAMPLES = [
    question("q0", "a#0000", cluster="a"),
    question("q1", "b#0000", cluster="b"),
    question("q2", "a#0000", cluster="a"),  # same gold as q0
]
A, B, C = passage("a#0000", doc_id="a"), passage("b#0000", doc_id="b"), passage("c#0000", doc_id="c")
TWIN_OF_B = passage("b2#0000", doc_id="b2", cluster="b")
ROWS = Candidates(((A, B, A), (C, C, TWIN_OF_B)), np.array([[0, 2], [1, 2], [0, 3]]))


class Given(nn.Module):
    """Gives back the vectors it is handed, as if it had encoded them."""

    def forward(self, features):
        return {"sentence_embedding": features["vectors"]}


def loss() -> MaskedContrastiveLoss:
    return MaskedContrastiveLoss(Given(), EXAMPLES, ROWS, 0.05)


def test_mask_by_hand():
    # Columns: positives of 0, 1, 2, then negatives of 0, 1, 2.
    # Row 0 (gold a): the a of row 2 is its gold. Row 1 (cluster b): the twin of b. Row 2: the a of row 0.
    assert loss().mask([0, 1, 2], 2).int().tolist() == [
        [0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 1],
        [1, 0, 0, 0, 0, 0],
    ]


def test_mask_follows_the_batch_order():
    # Batch (2, 1): columns a of 2, b of 1, twin of 2, c of 1. q1, of cluster b, must not see the twin as a negative.
    assert loss().mask([2, 1], 2).int().tolist() == [[0, 0, 0, 0], [0, 0, 1, 0]]


def test_loss_equals_the_formula():
    rng = np.random.default_rng(3)
    question_vectors, positives, negatives = (rng.normal(size=(3, 4)) for _ in range(3))

    def unit(x):
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    scores = unit(question_vectors) @ np.concatenate([unit(positives), unit(negatives)]).T / 0.05
    hidden = np.array([[0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0]], dtype=bool)
    shown = np.where(hidden, 0.0, np.exp(scores))
    expected = np.mean([np.log(shown[row].sum()) - scores[row, row] for row in range(3)])
    features = [{"vectors": torch.tensor(v, dtype=torch.float64)} for v in (question_vectors, positives, negatives)]
    assert loss()(features, torch.arange(3)).item() == pytest.approx(expected, rel=1e-5)


def test_given_vectors_stand_for_encoded_passages():
    rng = np.random.default_rng(4)
    corpus = rng.normal(size=(4, 5)).astype(np.float32)
    corpus /= np.linalg.norm(corpus, axis=1, keepdims=True)
    asked = {"vectors": torch.tensor(rng.normal(size=(3, 5)), dtype=torch.float32)}
    batch = [2, 0, 1]
    columns = [{"vectors": torch.tensor(corpus[ROWS.rows[batch, place]])} for place in range(2)]
    encoded = loss()([asked, *columns], torch.tensor(batch))
    looked_up = MaskedContrastiveLoss(Given(), EXAMPLES, ROWS, 0.05, corpus)([asked], torch.tensor(batch))
    assert looked_up.item() == pytest.approx(encoded.item(), rel=1e-6)
