"""Two processes that share each batch end in the weights of one: by themselves, and with DeepSpeed's ZeRO-2 and ZeRO-3.

Real processes over gloo, started once for everything. DeepSpeed's cases are skipped where it is not installed.
"""

import importlib.util
import os
import socket
from contextlib import suppress

import pytest
import torch
import torch.multiprocessing
from accelerate.state import AcceleratorState, GradientState
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from ragline import training
from ragline.generation import backends, fusion, language_model, sft
from ragline.generation.language_model import Limits
from ragline.generation.train import Lesson
from tests.fixtures.saved_models import save_tiny

pytestmark = pytest.mark.slow

ZERO = ("zero2", "zero3") if importlib.util.find_spec("deepspeed") else ()
LORA = sft.Lora(4, 8, 0.0, ("q_proj", "v_proj"))
SCHEDULE = {
    "epochs": 2,
    "batch_size": 4,
    "learning_rate": 1e-2,
    "evaluations": 3,
    "seed": 5,
    "lora": None,
    "patience": None,
    "gradient_checkpointing": False,
}
# name: shape, settings of DeepSpeed, adapters, step at which it is killed and begun again
CASES = {"plain": ("llama", "", None, None), "plain, killed": ("llama", "", None, 3), "fusion": ("t5", "", None, None)}
CASES |= {zero: ("llama", zero, None, None) for zero in ZERO}
CASES |= {f"{zero}, killed": ("llama", zero, None, 3) for zero in ZERO}
CASES |= {f"{zero}, adapters": ("llama", zero, LORA, None) for zero in ZERO[1:]}
needs_deepspeed = pytest.mark.skipif(not ZERO, reason="DeepSpeed is not installed: pip install -e .[deepspeed]")


class Killed(BaseException):
    pass


def cut(step):
    def end(self, args, state, control, **_):
        if state.global_step == step:
            raise Killed

    return end


def fit(root, shape, lora, checkpoints):
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
    return sft.fit(reader, rows, rows[:4], sft.Schedule(**SCHEDULE | {"lora": lora}), checkpoints)


def work(rank, port, root, found):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    step_end = training.TrainingProgress.on_step_end
    for name, (shape, zero, lora, killed) in CASES.items():
        os.environ["RAGLINE_DEEPSPEED"] = zero
        checkpoints = root / "checkpoints" / name
        for step in (killed, None) if killed else (None,):
            training.TrainingProgress.on_step_end = cut(step) if step else step_end
            with suppress(Killed):
                tuned = fit(root, shape, lora, checkpoints)
            AcceleratorState._reset_state()
            GradientState._reset_state()
            unset_hf_deepspeed_config()
        if training.leads():
            language_model.save(tuned.model, tuned.weights, shape if lora else None, root / "made" / name, root)
            found.put((name, tuned.steps, [p.dev for p in tuned.points]))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for shape in ("llama", "t5"):
        save_tiny(folder / shape, shape)
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
    results = {name: rest for name, *rest in (found.get(timeout=280) for _ in CASES)}
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
    for shape, lora in (("llama", None), ("t5", None), ("llama", LORA)):
        tuned = fit(root, shape, lora, root / "alone")
        folder = root / f"alone {shape} {bool(lora)}"
        language_model.save(tuned.model, tuned.weights, shape if lora else None, folder, root)
        made[shape, lora] = weights(folder, root), [tuned.steps, [p.dev for p in tuned.points]]
    return made


@pytest.mark.parametrize("name", CASES)
def test_two_processes_end_in_the_weights_of_one(name, both, alone, root):
    shape, _, lora, _ = CASES[name]
    expected, (steps, dev) = alone[shape, lora]
    found = weights(root / "made" / name, root)
    assert found.keys() == expected.keys()
    assert max((found[key] - tensor).abs().max().item() for key, tensor in expected.items()) < 1e-4
    assert both[name][0] == steps == 4
    assert [loss is None for loss in both[name][1]] == [loss is None for loss in dev]


@needs_deepspeed
def test_deepspeed_was_tried():
    assert {"zero2", "zero3", "zero3, adapters"} <= CASES.keys()
