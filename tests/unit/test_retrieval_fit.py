"""Training goes on after a kill as if nothing had happened, whichever side is tuned."""

import numpy as np
import pytest
import torch

from ragline import training
from ragline.retrieval import encoder, train
from tests.fixtures.small import passage, question

pytestmark = pytest.mark.slow

COUNT = 12
PASSAGES = [passage(f"d{n}#0000", f"what there is to say about thing {n}", cluster=f"c{n}") for n in range(2 * COUNT)]
QUESTIONS = [question(f"q{n}", f"d{n}#0000", f"how about {n}?", cluster=f"c{n}") for n in range(COUNT)]
ROWS = np.array([[n, n + COUNT] for n in range(COUNT)])
CANDIDATES = train.Candidates(tuple(tuple(PASSAGES[row] for row in column) for column in ROWS.T), ROWS)
SCHEDULE = train.Schedule(
    epochs=2, batch_size=4, learning_rate=1e-4, temperature=0.05, max_passage_tokens=32, evaluations=3, seed=5
)


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def vectors():
    return encoder.encode_passages(encoder.load("builtin:minilm"), [p.encoded_text for p in PASSAGES])


def trained(folder, given):
    model = encoder.load("builtin:minilm").questions
    return model, train.fit(model, QUESTIONS, CANDIDATES, SCHEDULE, score, folder, given)


def score(model) -> float:
    """Some number that the weights decide."""
    return float(model[0].model.encoder.layer[0].output.dense.bias.detach().double().sum())


@pytest.mark.parametrize("towers", ["question", "both"])
def test_a_killed_training_ends_in_the_same_weights(towers, vectors, tmp_path, monkeypatch):
    given = vectors if towers == "question" else None
    base = encoder.load("builtin:minilm")
    whole, points = trained(tmp_path / "whole", given)
    assert points[-1].step == 6 and len([p.dev for p in points if p.dev is not None]) == 3

    def kill(self, args, state, control, **_):
        if state.global_step == 5:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(training.TrainingProgress, "on_step_end", kill)
        with pytest.raises(Killed):
            trained(tmp_path / "cut", given)
    assert list((tmp_path / "cut").glob("checkpoint-*"))
    resumed, again = trained(tmp_path / "cut", given)
    assert again == points
    left, right = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert any(not torch.equal(left[name], weights) for name, weights in base.questions.state_dict().items())


def test_word_embeddings_and_passages_stay_where_only_questions_are_tuned(vectors, tmp_path):
    base = encoder.load("builtin:minilm")
    model, _ = trained(tmp_path / "fit", vectors)
    tuned = encoder.pair(model, base.passages)
    encoder.save(tuned, tmp_path / "models" / "tuned")
    found = encoder.load("models/tuned", tmp_path)
    asked = [q.question for q in QUESTIONS]
    assert found.fingerprint == base.fingerprint
    assert np.array_equal(encoder.encode_questions(found, asked), encoder.encode_questions(tuned, asked))
    assert not np.allclose(encoder.encode_questions(found, asked), encoder.encode_questions(base, asked), atol=1e-4)
    words = [m[0].model.get_input_embeddings().weight for m in (model, base.questions)]
    assert torch.equal(*words)
