"""Stage train_retriever: an encoder is published only where dev shows it better than its base."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from ragline import io
from ragline.artifacts import (
    BASE_FINGERPRINT,
    BASE_VECTORS,
    LEXICAL_INDEX,
    NEGATIVES,
    NEGATIVES_LEDGER,
    OUTPUTS,
    PASSAGES,
    QUESTIONS_DEV,
    QUESTIONS_TRAIN,
    RETRIEVER,
    RETRIEVER_CURVE,
    RETRIEVER_SUMMARY,
)
from ragline.errors import ConfigError, DataError, ModelError
from ragline.retrieval import encoder, index, lexical, mine
from ragline.types import Passage, QAExample
from stages.train_retriever import WRITES, TrainRetrieverParams, main
from tests.fixtures.encoders import write_tiny_encoder
from tests.fixtures.language_models import tiny_seq2seq, tokenizer
from tests.fixtures.small import passage, question

pytestmark = pytest.mark.slow

THINGS = (
    "apple anchor basket beacon candle carpet dagger drum eagle engine feather fence garden guitar hammer harbour "
    "island ivory jacket jungle kettle kitchen ladder lantern magnet mirror needle nickel orange oven paddle pencil"
).split()
PARAMS = {
    "base_model": "models/tiny",
    "method": "ctl",
    "towers": "question",
    "max_pairs": 100,
    "epochs": 20,
    "batch_size": 8,
    "learning_rate": 3e-3,
    "temperature": 0.1,
    "max_passage_tokens": 32,
    "hard_negatives": 1,
    "evaluations": 2,
    "negative_margin": 1.0,
    "seed": 3,
}


SHORT = Counter({"question with too few safe negatives": len(THINGS)})
"""Counted beside the passages that were left out; not one of them."""


def write_project(folder: Path, text: str, dtype: str = "float32") -> Path:
    """A page on each thing, and two questions on each: one to learn from, one for dev."""
    write_tiny_encoder(folder / "models")
    passages = [passage(f"{t}#0000", text.format(t, n), cluster=t) for n, t in enumerate(THINGS)]
    base = encoder.load("models/tiny", folder)
    vectors = encoder.encode_passages(base, [p.encoded_text for p in passages]).astype(dtype)
    io.write_table(passages, Passage, folder / PASSAGES)
    for path, asked in ((QUESTIONS_TRAIN, "Where is the {}?"), (QUESTIONS_DEV, "Where is the {} now?")):
        questions = [question(f"{t}-{len(asked)}", f"{t}#0000", asked.format(t), cluster=t) for t in THINGS]
        io.write_table(questions, QAExample, folder / path)
    io.write_vectors(vectors, folder / BASE_VECTORS)
    io.write_json(asdict(index.fingerprint(base.fingerprint, passages, vectors)), folder / BASE_FINGERPRINT)
    lexical.write(lexical.build(passages), folder / LEXICAL_INDEX)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_project(tmp_path_factory.mktemp("project"), "The {} stands on shelf {}.")


def run(root: Path, **changes) -> dict:
    main(TrainRetrieverParams.model_validate(PARAMS | changes), root)
    return json.loads((root / RETRIEVER_SUMMARY).read_text())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_writes_what_it_says():
    assert OUTPUTS["train_retriever"] == WRITES


def test_an_encoder_that_dev_shows_better_is_published(root):
    said = run(root)
    assert said["kept"] == "tuned" and said["dev"]["difference"]["low"] > 0
    assert "interpolation" not in said and said["pairs"] == len(THINGS)
    base, found = encoder.load("models/tiny", root), encoder.load(str(RETRIEVER), root)
    assert found.fingerprint == base.fingerprint
    asked = ["Where is the oven?"]
    assert not np.allclose(encoder.encode_questions(found, asked), encoder.encode_questions(base, asked), atol=1e-3)
    assert (root / RETRIEVER_CURVE).read_text().startswith("step,loss,dev_mrr@10\n")
    assert len(io.read_frame(root / NEGATIVES)) == len(THINGS)
    left_out = io.read_frame(root / NEGATIVES_LEDGER)
    assert Counter(row["reason"] for row in left_out) == Counter(said["negatives"]["excluded"]) - SHORT
    assert all(row["score"] > 0.99 * row["positive_score"] for row in left_out if row["reason"] == mine.TOO_CLOSE)
    assert {(row["question_id"], row["passage_id"]) for row in left_out if row["reason"] == mine.OWN_GOLD} == {
        (f"{t}-{len('Where is the {}?')}", f"{t}#0000") for t in THINGS
    }
    first = {
        str(path): path.read_bytes()
        for path in map(root.joinpath, (RETRIEVER_SUMMARY, NEGATIVES, NEGATIVES_LEDGER, RETRIEVER_CURVE))
    }
    model = contents(root / RETRIEVER)
    run(root)
    assert contents(root / RETRIEVER) == model
    assert {path: Path(path).read_bytes() for path in first} == first


@pytest.mark.parametrize("towers", ["question", "both"])
def test_after_a_huge_learning_rate_the_base_is_published_byte_for_byte(root, tmp_path, towers):
    said = run(root, towers=towers, learning_rate=1.0, epochs=1, interpolation=[0.5, 1.0])
    assert said["kept"] == "base" and "base encoder kept" in said["reason"]
    encoder.save(encoder.load("models/tiny", root), tmp_path / "base")
    assert contents(root / RETRIEVER) == contents(tmp_path / "base")


def test_weights_that_are_not_finite_end_the_stage_with_what_to_do(root):
    with pytest.raises(ModelError, match=r"expected finite weights, got NaN .* after 4 steps; lower learning_rate"):
        run(root, temperature=1e-42, epochs=1)


def test_dev_chooses_how_far_to_go(root):
    said = run(root, interpolation=[0.25, 0.5, 0.75, 1.0])
    scores = said["interpolation"]["dev_mrr@10"]
    assert list(scores) == ["0.25", "0.5", "0.75", "1.0"]
    best = max(scores.values())
    assert said["interpolation"]["share"] == min(float(s) for s, value in scores.items() if value == best)
    assert said["dev"]["tuned"]["mrr@10"] == pytest.approx(best)
    assert "at 98.8% as it is the best of several" in said["reason"]  # 1 - 0.05 / 4


@pytest.mark.parametrize(
    "changes",
    [
        {"mini_batch_size": 3, "symmetric": True, "matryoshka": [32, 16], "remine": True},
        {"towers": "both", "lora": {"r": 4, "alpha": 8, "dropout": 0.0, "targets": ["query", "value"]}, "remine": True},
        {"towers": "both", "compat": "localrqa", "temperature": 1.0},
    ],
)
def test_every_way_of_training_ends_in_a_usable_encoder(root, changes):
    said = run(root, epochs=2, **changes)
    assert said["steps"] == 8
    found = encoder.load(str(RETRIEVER), root)
    assert np.isfinite(encoder.encode_questions(found, ["Where is the oven?"])).all()


@pytest.mark.parametrize("towers", ["question", "both"])
def test_vectors_kept_as_float16_train_as_well(tmp_path, towers):
    said = run(write_project(tmp_path, "The {} stands on shelf {}.", "float16"), towers=towers, epochs=5)
    assert said["steps"] == 20 and said["dev"]["tuned"]["mrr@10"] > said["dev"]["base"]["mrr@10"]


def test_copies_of_gold_passages_are_left_out_where_asked_for(tmp_path):
    # 15 words have 11 runs of five; the last 9 words, the same on every page, have 5: 5 / (11 + 11 - 5) = 0.29.
    root = write_project(tmp_path, "The {} stands on shelf {}. Ask at the desk before you take it home.")
    assert mine.NEARLY_SAME_TEXT not in run(root, epochs=1, similar_from=0.3)["negatives"]["excluded"]
    with pytest.raises(DataError, match="expected training questions with 1 hard negatives, got none of 32"):
        run(root, epochs=1, similar_from=0.29)
    reasons = Counter(row["reason"] for row in io.read_frame(root / NEGATIVES_LEDGER))
    assert reasons[mine.NEARLY_SAME_TEXT] > 900 and len(reasons) == 2  # own gold passage, and every other candidate


def test_a_loss_that_cannot_train_questions_alone_is_refused(root):
    with pytest.raises(ConfigError, match="localrqa trains one shared encoder; set towers: both"):
        run(root, compat="localrqa")


DISTIL = {
    "scorer": "models/t5",
    "candidates": 8,
    "temperature": 1.0,
    "kl": "forward",
    "iterations": 1,
    "max_input_tokens": 64,
    "max_answer_tokens": 8,
}


@pytest.mark.parametrize("method", ["dca", "rpg"])
def test_a_model_that_knows_nothing_teaches_nothing_that_is_published(root, method):
    tiny_seq2seq().save_pretrained(root / "models" / "t5")
    tokenizer().save_pretrained(root / "models" / "t5")
    said = run(root, method=method, distil=DISTIL, epochs=1)
    assert said["method"] == method and said["pairs"] == len(THINGS) and said["steps"] == 4
    assert said["kept"] == "base" and said["negatives"] == {"mined": 0, "excluded": {}}
    assert io.read_frame(root / NEGATIVES) == io.read_frame(root / NEGATIVES_LEDGER) == []
    base, found = encoder.load("models/tiny", root), encoder.load(str(RETRIEVER), root)
    assert np.array_equal(
        encoder.encode_questions(base, ["Where is the oven?"]), encoder.encode_questions(found, ["Where is the oven?"])
    )


def test_a_method_without_its_settings_is_refused(root):
    with pytest.raises(ConfigError, match=r"distil: expected settings with method rpg; mend params\.yaml"):
        run(root, method="rpg")
    with pytest.raises(ConfigError, match="distil: expected null with method ctl"):
        run(root, distil=DISTIL)
