"""Two processes that share each batch end in the weights of one: by themselves, and with DeepSpeed's ZeRO-2 and ZeRO-3.

Real processes over gloo, started once for everything. DeepSpeed's cases are skipped where it is not installed.
"""

import importlib.util
import json
import os
import socket
from dataclasses import dataclass

import pytest
import torch
import torch.multiprocessing
from accelerate.state import AcceleratorState, GradientState
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from ragline import repro, training
from ragline.generation import backends, fusion, language_model, sft
from ragline.generation.language_model import Limits
from ragline.generation.train import Lesson
from tests.fixtures.saved_models import save_tiny
from tests.fixtures.trainings import Killed, schedule

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DEEPSPEED = importlib.util.find_spec("deepspeed") is not None
LORA = sft.Lora(4, 8, 0.0, ("q_proj", "v_proj"))


@dataclass(frozen=True)
class Case:
    shape: str
    zero: str = ""
    lora: sft.Lora | None = None
    killed: bool = False
    """In every process after a checkpoint, and begun again."""


CASES = {
    "plain": Case("llama"),
    "plain, killed": Case("llama", killed=True),
    "fusion": Case("t5"),
    "zero2": Case("llama", "zero2"),
    "zero2, killed": Case("llama", "zero2", killed=True),
    "zero3": Case("llama", "zero3"),
    "zero3, killed": Case("llama", "zero3", killed=True),
    "zero3, adapters": Case("llama", "zero3", LORA),
}
POSSIBLE = {name: case for name, case in CASES.items() if DEEPSPEED or not case.zero}


class Cut(sft._Trainer):
    """Ends in every process before the fourth of four steps; the last checkpoint is of the second."""

    def training_step(self, *args, **kwargs):
        if self.state.global_step == 3:
            raise Killed
        return super().training_step(*args, **kwargs)


def fit(root, shape, lora, checkpoints):
    repro.seed_everything(5)  # adapters start from random numbers
    limits = Limits(passages=2, max_input_tokens=160, max_answer_tokens=16, fusion=shape == "t5")
    reader = language_model.load_base(shape, limits, root)
    if limits.fusion:
        reader = fusion.fused(reader)
    # Eight lessons: torchrun leaves the odd ones of an epoch out, one process does not.
    lessons = [
        Lesson(f"where is the number {n}?", (f"The number {n} stands on shelf {n}.", "help " * n)[: 1 + n % 2], f"{n}")
        for n in range(8)
    ]
    rows = sft.encode(reader, lessons)[0]
    return sft.fit(reader, rows, rows[:4], schedule(lora=lora), checkpoints)


def work(rank, port, root, found):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    whole = sft._Trainer
    for name, case in POSSIBLE.items():
        os.environ["RAGLINE_DEEPSPEED"] = case.zero and str(root / f"{case.zero}.json")
        kills = 0
        for trainer in (Cut, whole) if case.killed else (whole,):
            sft._Trainer = trainer
            try:
                tuned = fit(root, case.shape, case.lora, root / "checkpoints" / name)
            except Killed:
                kills += training.last_whole(root / "checkpoints" / name).name == "checkpoint-2"
            AcceleratorState._reset_state()
            GradientState._reset_state()
            unset_hf_deepspeed_config()
        if training.leads():
            base = case.shape if case.lora else None
            language_model.save(tuned.model, tuned.weights, base, root / "made" / name, root)
            found.put((name, kills, tuned.steps, [p.dev for p in tuned.points]))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for shape in ("llama", "t5"):
        save_tiny(folder / shape, shape)
    for zero in ("zero2", "zero3"):  # the project's settings, with buckets for a tiny model
        settings = json.loads((sft.ZERO / f"{zero}.json").read_text())
        buckets = {name: 1e5 for name in settings["zero_optimization"] if name.endswith("_bucket_size")}
        settings["zero_optimization"] |= buckets
        (folder / f"{zero}.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def both(root):
    """What two processes found of each case; their models are in `made`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    found = context.Queue()
    workers = [context.Process(target=work, args=(rank, port, root, found)) for rank in range(2)]
    for worker in workers:
        worker.start()
    results = {name: rest for name, *rest in (found.get(timeout=300) for _ in POSSIBLE)}
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    return results


def weights(folder, root):
    return backends.load(folder, root).model.state_dict()


@pytest.fixture(scope="module")
def alone(root):
    """One process's models, by shape and adapters; its steps and dev losses."""
    made = {}
    for shape, lora in sorted({(case.shape, case.lora) for case in POSSIBLE.values()}, key=str):
        tuned = fit(root, shape, lora, root / "alone")
        folder = root / f"alone {shape} {bool(lora)}"
        language_model.save(tuned.model, tuned.weights, shape if lora else None, folder, root)
        made[shape, lora] = weights(folder, root), tuned.steps, [p.dev for p in tuned.points]
    return made


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.skipif(name not in POSSIBLE, reason="DeepSpeed is not installed"))
        for name in CASES
    ],
)
def test_two_processes_end_in_the_weights_of_one(name, both, alone, root):
    case = CASES[name]
    expected, steps, dev = alone[case.shape, case.lora]
    found = weights(root / "made" / name, root)
    assert found.keys() == expected.keys()
    assert max((found[key] - tensor).abs().max().item() for key, tensor in expected.items()) < 1e-4
    kills, found_steps, found_dev = both[name]
    assert (kills, found_steps) == (case.killed, steps) and steps == 4
    assert found_dev == [loss if loss is None else pytest.approx(loss, abs=1e-4) for loss in dev]
