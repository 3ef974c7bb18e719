"""Training of the reader: what it is shown, and that a killed training ends where it would have."""

import random

import pytest
import torch

from ragline import training
from ragline.generation import train
from tests.fixtures.small import random_reader
from tests.fixtures.trainings import killed_at

LESSONS = [
    train.Lesson(f"question {n}?", (f"title\nthe answer is number {n}.", "other\nno help."), f"number {n}")
    for n in range(12)
]
SCHEDULE = training.Schedule(epochs=2, batch_size=4, learning_rate=1e-3, evaluations=3, seed=5)


def test_gold_takes_the_last_place_where_the_retriever_missed_it():
    chosen = train.choose_passages(["a", "b", "c"], ["gold"], 3, random.Random(0))
    assert sorted(chosen) == ["a", "b", "gold"]


def test_found_gold_stays_and_the_order_varies():
    orders = {tuple(train.choose_passages(["gold", "b", "c"], ["gold"], 3, random.Random(s))) for s in range(20)}
    assert all(sorted(order) == ["b", "c", "gold"] for order in orders)
    assert {order.index("gold") for order in orders} == {0, 1, 2}


def test_evenly():
    assert training.evenly(list(range(10)), 5) == [0, 2, 4, 6, 8]
    assert training.evenly([1, 2], 5) == [1, 2]


def test_curve():
    history = [
        {"step": 1, "loss": 2.0},
        {"step": 2, "loss": 1.0},
        {"step": 2, "eval_loss": 1.5},
        {"step": 2, "train_x": 1},
    ]
    assert training.curve(history, "eval_loss") == [
        training.CurvePoint(1, 2.0, None),
        training.CurvePoint(2, 1.0, 1.5),
    ]


def test_a_checkpoint_cut_short_is_passed_over(tmp_path):
    for step in (5, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-5" / "trainer_state.json").write_text("{}")
    (tmp_path / "checkpoint-10" / "trainer_state.json").write_text('{"epoch": 1')
    assert training.last_whole(tmp_path) == tmp_path / "checkpoint-5"
    assert not (tmp_path / "checkpoint-10").exists()
    assert training.last_whole(tmp_path / "nowhere") is None


@pytest.mark.slow
def test_a_killed_training_ends_in_the_same_weights(tmp_path):
    whole = random_reader()
    expected = train.fit(whole, LESSONS, LESSONS[:4], SCHEDULE, tmp_path / "whole")

    broken = random_reader()
    with killed_at(5):  # checkpoints stand at steps 2 and 4
        train.fit(broken, LESSONS, LESSONS[:4], SCHEDULE, tmp_path / "broken")
    assert training.last_whole(tmp_path / "broken") == tmp_path / "broken" / "checkpoint-4"
    resumed = random_reader()
    found = train.fit(resumed, LESSONS, LESSONS[:4], SCHEDULE, tmp_path / "broken")
    assert found == expected
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    assert not (tmp_path / "broken").exists()
