"""Two processes with half a batch each do what one does with the whole batch."""

import os
import socket

import numpy as np
import pytest
import torch
import torch.multiprocessing
from sentence_transformers import SentenceTransformer
from torch.nn.parallel import DistributedDataParallel

from ragline import training
from ragline.retrieval import train
from ragline.retrieval.losses import MaskedContrastiveLoss, distinct
from tests.fixtures.encoders import DIM, tiny_encoder, write_tiny_encoder
from tests.fixtures.small import passage, question

pytestmark = pytest.mark.slow

COUNT = 9
PASSAGES = [
    passage(f"d{n}#0000", f"what to say of thing {n} " + "and more " * n, cluster=f"c{n % 7}") for n in range(16)
]
QUESTIONS = [question(f"q{n}", f"d{n}#0000", f"how about {n}?", cluster=f"c{n % 7}") for n in range(COUNT)]
# The last column repeats passages, so that the processes encode different numbers of them.
CANDIDATES = train.Candidates(PASSAGES, np.array([[n, n + 7, 8 + n // 3] for n in range(COUNT)]))
VECTORS = np.random.default_rng(1).normal(size=(len(PASSAGES), DIM)).astype(np.float32)
SCHEDULE = train.Schedule(
    epochs=2, batch_size=4, learning_rate=1e-3, temperature=0.05, max_passage_tokens=32, evaluations=2, seed=5
)
EVERYTHING = {"mini_batch_size": 1, "symmetric": True, "matryoshka": (32, 8)}
WAYS = {
    "both": (None, {}),
    "both, everything": (None, EVERYTHING),
    "question": (VECTORS, {}),
    "question, everything": (VECTORS, EVERYTHING),
}


def gradients(model, trained, batch, vectors, options):
    """Loss and gradients of some rows, the model's parameters one after another."""
    loss = MaskedContrastiveLoss(model, QUESTIONS, CANDIDATES, 0.05, vectors, **options)
    loss.model = trained
    rows, _ = distinct(loss.rows(batch), PASSAGES)
    texts = [[QUESTIONS[n].question for n in batch], [PASSAGES[row].encoded_text for row in rows]]
    features = [dict(model.preprocess(column)) for column in texts[: 1 if vectors is not None else 2]]
    model.zero_grad()
    value = loss(features, torch.tensor(batch))
    value.backward()
    return value.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).numpy()


def fit(model, folder):
    return train.fit(
        model, QUESTIONS, CANDIDATES, SCHEDULE, lambda m: -float(next(m.parameters()).detach().sum()), folder
    )


def loaded(folder):
    return SentenceTransformer(str(folder / "tiny"), device="cpu").eval()


def work(rank, port, folder, found):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    assert training.processes() == 2 and training.leads() == (rank == 0)
    model = loaded(folder)
    spread = DistributedDataParallel(model, find_unused_parameters=True, broadcast_buffers=False)  # as the trainer does
    half = [[0, 1, 2, 3], [4, 5, 6, 7]][rank]
    results = {way: gradients(model, spread, half, vectors, options) for way, (vectors, options) in WAYS.items()}
    found.put((rank, results, fit(loaded(folder), folder / "checkpoints")))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What each of two processes found."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    found, folder = context.Queue(), tmp_path_factory.mktemp("two")
    write_tiny_encoder(folder)
    workers = [context.Process(target=work, args=(rank, port, folder, found)) for rank in range(2)]
    for worker in workers:
        worker.start()
    results = sorted((found.get(timeout=250) for _ in workers), key=lambda result: result[0])
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    return results


@pytest.mark.parametrize("way", WAYS)
def test_gradients_are_those_of_one_process(way, both, tmp_path):
    vectors, options = WAYS[way]
    model = tiny_encoder(tmp_path)
    loss, alone = gradients(model, model, list(range(8)), vectors, options)
    assert np.mean([results[way][0] for _, results, _ in both]) == pytest.approx(loss, rel=1e-5)
    for _, results, _ in both:
        assert np.abs(results[way][1] - alone).max() <= 1e-5 * max(1, np.abs(alone).max())


def test_both_take_the_same_steps_as_one(both, tmp_path):
    # Nine rows in batches of four: two steps an epoch, the odd row left out, as torch does with several processes.
    assert both[0][2] == both[1][2]
    assert [p.step for p in both[0][2]] == [1, 2, 3, 4]
    assert [p.dev is not None for p in both[0][2]] == [False, True, False, True]
    alone = fit(tiny_encoder(tmp_path), tmp_path / "alone")
    assert both[0][2][0].loss == pytest.approx(alone[0].loss, rel=1e-4)
