"""Adapters on a base of 4-bit weights: what is asked of the machine, and that serving reads what training wrote."""

import json

import pytest
import torch

from ragline.errors import ConfigError
from ragline.generation import backends, fusion, language_model, sft
from ragline.generation.language_model import Limits
from ragline.generation.train import Lesson
from tests.fixtures.saved_models import save_tiny

LESSONS = [
    Lesson(f"where is the number {n}?", (f"The number {n} stands on shelf {n}.",), f"shelf {n}") for n in range(8)
]
needs_bitsandbytes = pytest.mark.skipif(
    not language_model.is_bitsandbytes_available(),
    reason="bitsandbytes is not installed: pip install -e .[quantize]",
)


def schedule(shape):
    lora = sft.Lora(4, 8, 0.0, ("q", "v") if shape == "t5" else ("q_proj", "v_proj"))
    return sft.Schedule(
        epochs=2, batch_size=4, learning_rate=1e-2, evaluations=1, seed=5, lora=lora, patience=None,
        gradient_checkpointing=True,
    )  # fmt: skip


def base(root, shape, quantize="4bit"):
    limits = Limits(2, 160, 16, fusion=shape == "t5")
    reader = language_model.load_base(shape, limits, root, quantize)
    return fusion.fused(reader) if limits.fusion else reader


def logits(reader):
    data = sft._Collator(reader)(sft.encode(reader, LESSONS)[0])
    data.pop("labels")
    with torch.inference_mode():
        return reader.model.eval()(**data).logits


def test_without_bitsandbytes_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(language_model, "is_bitsandbytes_available", lambda: False)
    save_tiny(tmp_path / "llama", "llama")
    with pytest.raises(ConfigError, match=r"quantize: expected bitsandbytes to be installed, .* \.\[quantize\]"):
        base(tmp_path, "llama")


@needs_bitsandbytes
@pytest.mark.slow
@pytest.mark.parametrize("shape", ["llama", "t5"])
def test_adapters_on_four_bits_are_trained_saved_and_served(shape, tmp_path):
    save_tiny(tmp_path / shape, shape)
    reader = base(tmp_path, shape)
    size = sum(sft._size(p) for p in reader.model.parameters())
    assert size == sum(p.numel() for p in base(tmp_path, shape, None).model.parameters())  # not two numbers a byte
    packed = {name: p.clone() for name, p in reader.model.named_parameters() if p.dtype == torch.uint8}
    rounded = (logits(reader) - logits(base(tmp_path, shape, None))).abs().max()
    assert packed and rounded > 0
    rows = sft.encode(reader, LESSONS)[0]
    tuned = sft.fit(reader, rows, rows[:4], schedule(shape), tmp_path / "checkpoints")
    assert 0 < tuned.trained_parameters < tuned.parameters / 10
    now = {name.replace(".base_layer", ""): p for name, p in tuned.model.model.base_model.model.named_parameters()}
    assert all(torch.equal(now[name], tensor) for name, tensor in packed.items())  # only adapters move
    language_model.save(tuned.model, tuned.weights, shape, tmp_path / "made", tmp_path)
    assert json.loads((tmp_path / "made" / language_model.CONFIG).read_text())["base"]["quantize"] == "4bit"
    assert [p.name for p in (tmp_path / "made").glob("*.safetensors")] == ["adapter_model.safetensors"]
    served = backends.load(tmp_path / "made", tmp_path)
    assert torch.equal(logits(served), logits(tuned.model))
    assert not torch.equal(logits(served), logits(base(tmp_path, shape)))  # the adapters are there


@needs_bitsandbytes
def test_zero3_cannot_cut_four_bits_up(tmp_path, monkeypatch):
    save_tiny(tmp_path / "llama", "llama")
    reader = base(tmp_path, "llama")
    rows = sft.encode(reader, LESSONS)[0]
    monkeypatch.setattr(sft, "_deepspeed", lambda: str(sft.ZERO / "zero3.json"))
    with pytest.raises(ConfigError, match=r"expected zero2 or none with train_generator\.quantize, got ZeRO-3"):
        sft.fit(reader, rows, rows, schedule("llama"), tmp_path / "c")
