"""Training goes on after a kill as if nothing had happened, and gives the same weights however it is spread out."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ragline import repro, training
from ragline.errors import ConfigError
from ragline.retrieval import adapters, encoder, train
from ragline.retrieval.adapters import Lora
from tests.fixtures.encoders import DIM, tiny_encoder
from tests.fixtures.small import passage, question
from tests.fixtures.trainings import killed_at

pytestmark = pytest.mark.slow

COUNT = 12
PASSAGES = [
    passage(f"d{n}#0000", f"what there is to say about thing {n} " + "and more " * (n % 7), cluster=f"c{n}")
    for n in range(3 * COUNT)
]
QUESTIONS = [question(f"q{n}", f"d{n}#0000", f"how about {n}?", cluster=f"c{n}") for n in range(COUNT)]
CANDIDATES = train.Candidates(PASSAGES, np.array([[n, n + COUNT] for n in range(COUNT)]))
SCHEDULE = train.Schedule(
    epochs=2, batch_size=4, learning_rate=1e-3, temperature=0.05, max_passage_tokens=32, evaluations=3, seed=5
)
LORA = Lora(r=2, alpha=4, dropout=0.1, targets=["query", "value"])
"""Dropout, so that a resumed run must draw what the whole one drew."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def vectors(tiny):
    return encoder.encode_passages(encoder.pair(tiny, tiny), [p.encoded_text for p in PASSAGES])


def score(model) -> float:
    """Some number that the weights decide, and that rises with the steps."""
    return -float(encoder.encode_questions(encoder.pair(model, model), ["how about 3?"])[0, 0])


def others(model):
    """Candidates of the next epoch, as the weights decide."""
    shift = 1 + int(abs(score(model)) * 1e6) % COUNT
    return np.array([[n, COUNT + (n + shift) % (2 * COUNT)] for n in range(COUNT)])


def trained(tiny, folder, given=None, schedule=SCHEDULE, remine=None):
    repro.seed_everything(schedule.seed)
    model = copy.deepcopy(tiny)
    return model, train.fit(model, QUESTIONS, CANDIDATES, schedule, score, folder, given, remine)


def killed_at_step_five(*how):
    """The checkpoint that is left."""
    with killed_at(5):
        trained(*how)
    return training.last_whole(how[1])


WAYS = {
    "question": {},
    "both": {},
    "mini batches": {"mini_batch_size": 3},
    "adapters": {"lora": LORA},
    "mined anew": {},
    "everything": {"mini_batch_size": 3, "symmetric": True, "matryoshka": (32, 8), "lora": LORA},
    "localrqa": {"compat": "localrqa", "temperature": 1.0},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_killed_training_ends_in_the_same_weights(way, tiny, vectors, tmp_path):
    given = vectors if way in ("question", "mined anew") else None
    schedule = replace(SCHEDULE, **WAYS[way])
    remine = others if way in ("mined anew", "everything") else None
    whole, points = trained(tiny, tmp_path / "whole", given, schedule, remine)
    assert points[-1].step == 6 and len([p.dev for p in points if p.dev is not None]) == 3

    cut = killed_at_step_five(tiny, tmp_path / "cut", given, schedule, remine)
    assert cut.name == "checkpoint-4"
    resumed, again = trained(tiny, tmp_path / "cut", given, schedule, remine)
    assert again == points
    left, right = whole.state_dict(), resumed.state_dict()
    assert left.keys() == tiny.state_dict().keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert any(not torch.equal(left[name], weights) for name, weights in tiny.state_dict().items())


def test_new_candidates_serve_from_the_second_epoch_on(tiny, vectors, tmp_path):
    _, kept = trained(tiny, tmp_path / "kept", vectors)
    _, renewed = trained(tiny, tmp_path / "renewed", vectors, remine=others)
    # Three steps an epoch: the same three losses, then others.
    assert [a.loss == b.loss for a, b in zip(kept, renewed, strict=True)] == [True] * 3 + [False] * 3


def test_word_embeddings_and_passages_stay_where_only_questions_are_tuned(tiny, vectors, tmp_path):
    base = encoder.pair(tiny, tiny)
    model, _ = trained(tiny, tmp_path / "fit", vectors)
    tuned = encoder.pair(model, base.passages)
    encoder.save(tuned, tmp_path / "models" / "tuned")
    found = encoder.load("models/tuned", tmp_path)
    asked = [q.question for q in QUESTIONS]
    assert found.fingerprint == base.fingerprint
    assert np.array_equal(encoder.encode_questions(found, asked), encoder.encode_questions(tuned, asked))
    assert not np.allclose(encoder.encode_questions(found, asked), encoder.encode_questions(base, asked), atol=1e-4)
    words = [m[0].model.get_input_embeddings().weight for m in (model, base.questions)]
    assert torch.equal(*words)


def test_merged_adapters_give_the_same_vectors_before_and_after_saving(tiny, tmp_path):
    model = copy.deepcopy(tiny)
    adapted = adapters.add(model, LORA)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.normal_(generator=torch.Generator().manual_seed(len(name)))
    model.eval()
    texts = [p.encoded_text for p in PASSAGES]
    apart = encoder.encode_passages(encoder.pair(model, model), texts)
    adapters.merge(model, adapted)
    assert model.state_dict().keys() == tiny.state_dict().keys()
    merged = encoder.pair(model, model)
    encoder.save(merged, tmp_path / "models" / "merged")
    found = encoder.encode_passages(encoder.load("models/merged", tmp_path), texts)
    assert np.abs(found - apart).max() < 1e-6
    assert np.array_equal(found, encoder.encode_passages(merged, texts))
    assert np.abs(found - encoder.encode_passages(encoder.pair(tiny, tiny), texts)).max() > 0.01


def test_adapters_are_all_that_is_trained_and_saved(tiny, tmp_path, monkeypatch):
    schedule = replace(SCHEDULE, lora=LORA)
    cut = killed_at_step_five(tiny, tmp_path / "fit", None, schedule)
    saved = load_file(cut / train.WEIGHTS)
    # Two layers, two targets, and a pair of matrices each: 2 · 2 · 2 of 2 · 32 numbers.
    assert len(saved) == 8 and all("lora_" in name and w.numel() == 2 * DIM for name, w in saved.items())
    model, _ = trained(tiny, tmp_path / "fit", schedule=schedule)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_layers_that_are_not_there_are_named(tiny):
    wrong = replace(LORA, targets=["q_proj"])
    with pytest.raises(ConfigError, match=r"lora\.targets: expected some of dense, key, query, value, got q_proj"):
        adapters.add(copy.deepcopy(tiny), wrong)
