"""Two sides of an encoder are saved and loaded as one model, and an index belongs to the passages' side."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ragline.errors import ConfigError
from ragline.retrieval import encoder
from tests.fixtures.small import passage

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base():
    return encoder.load("builtin:minilm")


@pytest.fixture
def tuned(base):
    """The questions' side turned to its opposite: every vector of a question changes sign."""
    questions = encoder.load("builtin:minilm").questions
    with torch.no_grad():
        last = questions[0].model.encoder.layer[-1].output.LayerNorm
        last.weight.neg_()
        last.bias.neg_()
    return encoder.pair(questions, base.passages)


def test_tuning_the_questions_side_leaves_passages_and_their_fingerprint(base, tuned):
    assert tuned.fingerprint == base.fingerprint
    assert encoder.pair(tuned.questions, tuned.questions).fingerprint != base.fingerprint


def test_two_sides_survive_saving(base, tuned, tmp_path):
    encoder.save(tuned, tmp_path / "models" / "mine")
    found = encoder.load("models/mine", tmp_path)
    assert found.fingerprint == base.fingerprint
    asked = encoder.encode_questions(found, ["how to merge?"])
    assert asked @ encoder.encode_questions(base, ["how to merge?"])[0] == pytest.approx([-1], abs=0.01)
    assert np.array_equal(encoder.encode_passages(found, ["a b"]), encoder.encode_passages(base, ["a b"]))


def test_one_side_survives_saving(base, tmp_path):
    encoder.save(base, tmp_path / "models" / "mine")
    found = encoder.load("models/mine", tmp_path)
    assert found.fingerprint == base.fingerprint and found.questions is found.passages


def test_passages_that_the_encoder_cannot_read_to_their_end_are_refused(base):
    encoder.check_lengths(base, [replace(passage("a#0000"), tokens=254)])
    with pytest.raises(ConfigError, match=r"chunk\.max_tokens: expected at most 254, .*, got passages of up to 255"):
        encoder.check_lengths(base, [replace(passage("a#0000"), tokens=255)])


def test_order_and_length_of_a_batch_change_no_vector(base):
    texts = ["merge", "a much longer text about joining tables on a column " * 8, "concat frames"]
    together = encoder.encode_passages(base, texts)
    alone = np.concatenate([encoder.encode_passages(base, [text]) for text in texts])
    assert np.sum(together * alone, axis=1) == pytest.approx(1, abs=1e-3)
    assert encoder.encode_passages(base, []).shape == (0, 384)
