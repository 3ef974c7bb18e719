"""Stage build_index: refuses early, and encodes again only what has to be."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ragline import io
from ragline.artifacts import BASE_ANN, BASE_FINGERPRINT, BASE_VECTORS, LEXICAL_INDEX, OUTPUTS, PASSAGES
from ragline.errors import ConfigError, ModelError
from ragline.retrieval import index
from ragline.retrieval.words import LANGUAGES
from ragline.runtime.params import load_section
from ragline.types import Passage
from stages.build_index import WRITES, BuildIndexParams, main
from tests.fixtures.encoders import write_tiny_encoder
from tests.fixtures.small import passage

SOUND = [passage(f"d{n}#0000") for n in range(3)]
PARAMS = {
    "ann": "flat",
    "recall": 0.9,
    "latency_ms": 20,
    "dtype": "float32",
    "language": "english",
    "base_model": "models/tiny",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_tiny_encoder(tmp_path / "models")
    io.write_table(SOUND, Passage, tmp_path / PASSAGES)
    return tmp_path


def run(root: Path, **changes: object) -> None:
    main(BuildIndexParams.model_validate(PARAMS | changes), root)


def section(folder: Path, **changes: object) -> BuildIndexParams:
    own = PARAMS | changes
    base_model = own.pop("base_model")
    (folder / "params.yaml").write_text(
        json.dumps({"build_index": own, "train_retriever": {"base_model": base_model}})  # JSON is YAML
    )
    return load_section("build_index", BuildIndexParams, folder / "params.yaml")


def test_writes_what_it_says():
    assert OUTPUTS["build_index"] == WRITES


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_of_the_lexical_index_is_taken(tmp_path, language):
    assert section(tmp_path, language=language).language == language


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"language": "klingon"}, r"build_index\.language: .*expected one of .*english.*none, got 'klingon'"),
        ({"dtype": "float64"}, r"build_index\.dtype: .*'float32' or 'float16', got 'float64'"),
    ],
)
def test_a_wrong_setting_is_one_line_before_anything_runs(tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        section(tmp_path, **changes)


def test_an_encoder_that_is_not_there_is_told_before_anything_is_written(root):
    with pytest.raises(ModelError, match="models/none"):
        run(root, base_model="models/none")
    assert not (root / LEXICAL_INDEX).exists()


def test_passages_too_long_for_the_encoder_are_told_before_anything_is_written(root):
    io.write_table(
        [*SOUND, replace(passage("long#0000"), tokens=63)], Passage, root / PASSAGES
    )  # it reads 64, marks too
    with pytest.raises(ConfigError, match=r"chunk\.max_tokens: expected at most 62, .* up to 63 tokens"):
        run(root)
    assert not (root / LEXICAL_INDEX).exists()


@pytest.mark.slow
def test_another_structure_or_type_encodes_nothing(root, caplog):
    caplog.set_level("INFO")
    kept = []
    for ann, dtype in (("flat", "float32"), ("hnsw", "float32"), ("flat", "float16"), ("flat", "float32")):
        caplog.clear()
        run(root, ann=ann, dtype=dtype)
        kept.append([(root / path).read_bytes() for path in (BASE_VECTORS, BASE_FINGERPRINT)])
        assert json.loads(index.card_path(root / BASE_ANN).read_text())["ann"] == ann
        assert f"3 passages: {3 if len(kept) > 1 else 0} from the store" in caplog.text
        vectors = io.read_vectors(root / BASE_VECTORS)
        assert vectors.dtype == dtype and json.loads((root / BASE_FINGERPRINT).read_text())["dtype"] == dtype
    assert kept[0] == kept[1] == kept[3]  # what training reads does not know the structure
    assert kept[2][1] != kept[0][1] and len(kept[2][0]) < len(kept[0][0])
