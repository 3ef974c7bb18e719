"""The reader starts from the weights that come with the project, after comparing their digest."""

import pytest
import torch
from safetensors.torch import save_file

from ragline import builtin
from ragline.errors import ModelError
from ragline.generation import fid
from ragline.io import file_digest

NAME = "builtin:minilm-reader"
CONFIG = fid.ReaderConfig("builtin:minilm", 2, 192, 48)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    return fid.warm_start(NAME, CONFIG, tmp_path_factory.mktemp("empty"))


@pytest.fixture
def shipped(tmp_path, bare, monkeypatch):
    """A project with weights that are all one half; its root."""
    path = tmp_path / "models" / "base" / "reader.safetensors"
    path.parent.mkdir(parents=True)
    weights = {name: torch.full_like(t, 0.5, dtype=torch.bfloat16) for name, t in bare.model.state_dict().items()}
    save_file(weights, path)
    monkeypatch.setitem(builtin.SHIPPED, NAME, builtin.Shipped(path.relative_to(tmp_path), file_digest(path)))
    return tmp_path


def test_pretrained_weights_are_taken_where_they_are(shipped):
    found = fid.warm_start(NAME, CONFIG, shipped).model.state_dict()
    assert all(t.dtype == torch.float32 and (t == 0.5).all() for t in found.values())


def test_altered_weights_are_refused(shipped, monkeypatch):
    place = builtin.SHIPPED[NAME].path
    with (shipped / place).open("ab") as file:
        file.write(b" ")
    with pytest.raises(ModelError, match=r"reader\.safetensors: not the known weights of builtin:minilm-reader"):
        fid.warm_start(NAME, CONFIG, shipped)


def test_without_them_the_decoder_starts_from_the_encoder(bare):
    found = bare.model.state_dict()["decoder.encoder.layer.0.output.dense.weight"]
    assert torch.equal(found, bare.model.encoder.encoder.layer[1].output.dense.weight)
