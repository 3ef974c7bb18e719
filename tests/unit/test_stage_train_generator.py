"""Stage train_generator: every method leaves a generator that answers, and two runs the same bytes."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from ragline import io
from ragline.artifacts import (
    CHECKPOINTS,
    GENERATOR,
    GENERATOR_CURVE,
    GENERATOR_SUMMARY,
    OUTPUTS,
    PASSAGES,
    QUESTIONS_DEV,
    QUESTIONS_TRAIN,
    RETRIEVER,
    TUNED_FINGERPRINT,
    TUNED_VECTORS,
)
from ragline.errors import ConfigError
from ragline.generation import backends
from ragline.reading import Reading
from ragline.retrieval import encoder, index
from ragline.types import Hit, Passage, QAExample
from stages import train_generator
from stages.train_generator import WRITES, Corpus, TrainGeneratorParams, corpus, main, materials
from tests.conftest import ROOT
from tests.fixtures.encoders import write_tiny_encoder
from tests.fixtures.saved_models import save_tiny
from tests.fixtures.small import passage, question

THINGS = "apple anchor basket beacon candle carpet dagger drum eagle engine feather fence".split()
PARAMS = {
    "base_model": "models/llama",
    "method": "sft",
    "max_examples": 8,
    "epochs": 2,
    "batch_size": 4,
    "learning_rate": 1e-2,
    "passages": 3,
    "max_input_tokens": 220,
    "max_answer_tokens": 24,
    "evaluations": 2,
    "seed": 3,
}
SWR = {"method": "swr", "swr": {"without_gold": 0.25, "margin": 1.0}}
LORA = {"lora": {"r": 2, "alpha": 4, "dropout": 0.0, "targets": ["q_proj"]}}
READER = {"method": "fid", "base_model": "builtin:minilm-reader"}
ENDPOINT = {
    "method": "endpoint",
    "base_model": "served",
    "endpoint": {"prompt_usd": 1.0, "answer_usd": 2.0, "budget_usd": 1.0, "max_failed": 0.1},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A page on each thing, a question on each to learn from and one for dev, and models of a few thousand numbers."""
    folder = tmp_path_factory.mktemp("project")
    write_tiny_encoder(folder / "models")
    (folder / "models" / "tiny").rename(folder / RETRIEVER)
    for shape in ("llama", "t5"):
        save_tiny(folder / "models" / shape, shape)
    passages = [passage(f"{t}#0000", f"The {t} stands on shelf {n}.", cluster=t) for n, t in enumerate(THINGS)]
    tuned = encoder.load(str(RETRIEVER), folder)
    vectors = encoder.encode_passages(tuned, [p.encoded_text for p in passages])
    io.write_table(passages, Passage, folder / PASSAGES)
    for path, asked in ((QUESTIONS_TRAIN, "Where is the {}?"), (QUESTIONS_DEV, "Where is the {} now?")):
        questions = [
            question(f"{t}-{len(asked)}", f"{t}#0000", asked.format(t), cluster=t, answer=f"shelf {n}")
            for n, t in enumerate(THINGS)
        ]
        io.write_table(questions, QAExample, folder / path)
    io.write_vectors(vectors, folder / TUNED_VECTORS)
    io.write_json(asdict(index.fingerprint(tuned.fingerprint, passages, vectors)), folder / TUNED_FINGERPRINT)
    return folder


def run(root: Path, **changes) -> dict:
    main(TrainGeneratorParams.model_validate(PARAMS | changes), root)
    return json.loads((root / GENERATOR_SUMMARY).read_text())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_writes_what_it_says():
    assert OUTPUTS["train_generator"] == WRITES


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{}, SWR, SWR | {"base_model": "models/t5"}, SWR | LORA, {"method": "fid", "base_model": "models/t5"}],
    ids=["sft", "swr", "t5", "lora", "fid"],
)
def test_a_language_model_is_tuned_and_answers(root, changes):
    summary = run(root, **changes)
    first = contents(root / GENERATOR)
    assert (summary["method"], summary["examples"], summary["steps"]) == (changes.get("method", "sft"), 8, 4)
    assert summary["left_out"] == summary["left_out_dev"] == {}
    curve = io.read_csv(root / GENERATOR_CURVE)
    assert summary["dev_loss"] == pytest.approx(
        min(float(row["dev_loss"]) for row in curve if row["dev_loss"]), rel=1e-5
    )
    assert (summary["trained_parameters"] < summary["parameters"]) == ("lora" in changes)
    hit = Hit(io.read_table(Passage, root / PASSAGES)[0], 0.9)
    assert len(backends.load(root / GENERATOR, root).answer(["Where is the apple?"], [[hit]])) == 1
    assert run(root, **changes) == summary
    assert contents(root / GENERATOR) == first


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
def test_the_stage_under_torchrun_with_deepspeed_ends_in_the_weights_of_one_process(root):
    """The command of the README, in two processes."""
    alone = run(root)
    one = backends.load(root / GENERATOR, root).model.state_dict()
    shutil.rmtree(root / CHECKPOINTS)  # or both would read the finished training back
    (root / "params.yaml").write_text(yaml.safe_dump({"train_generator": PARAMS}))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {"RAGLINE_DEEPSPEED": "zero2", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [*torchrun, "-m", "stages.train_generator"],
        cwd=root,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-3000:]
    both = backends.load(root / GENERATOR, root).model.state_dict()
    assert both.keys() == one.keys()
    assert max((both[name] - tensor).abs().max().item() for name, tensor in one.items()) < 1e-4
    summary = json.loads((root / GENERATOR_SUMMARY).read_text())
    assert summary == alone | {"dev_loss": pytest.approx(alone["dev_loss"], abs=1e-4)}


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, SWR], ids=["sft", "swr"])
def test_the_reader_learns_by_every_method(root, changes):
    summary = run(root, **READER | {"method": "sft", "max_input_tokens": 64} | changes)
    assert (summary["method"], summary["examples"]) == (changes.get("method", "sft"), 8)
    hit = Hit(io.read_table(Passage, root / PASSAGES)[0], 0.9)
    reader = backends.load(root / GENERATOR, root)
    assert reader.reads == 3
    assert len(reader.answer(["Where is the apple?"], [[hit]])) == 1


def test_an_endpoint_is_written_down(root):
    summary = run(root, **ENDPOINT)
    assert (summary["examples"], summary["dev_loss"]) == (0, None)
    assert io.read_csv(root / GENERATOR_CURVE) == []
    assert backends.load(root / GENERATOR, root).terms.model == "served"


def test_distractors_are_nearest_first_and_never_what_may_answer(root):
    ground = corpus(root)
    asked = io.read_table(QAExample, root / QUESTIONS_TRAIN)[:3]
    for q, found in zip(asked, materials(asked, ground, margin=1.0), strict=True):
        assert found.gold == (ground.reading.passage(q.gold_passage_ids[0]).encoded_text,)
        assert found.gold[0] not in found.distractors
        assert len(set(found.distractors)) == len(found.distractors) <= len(THINGS) - 1
        [vector] = encoder.encode_questions(ground.retriever, [q.question])
        cosine = {p.encoded_text: float(v @ vector) for p, v in zip(ground.passages, ground.vectors, strict=True)}
        scores = [cosine[text] for text in found.distractors]
        assert scores == sorted(scores, reverse=True)
        assert all(score <= cosine[found.gold[0]] + 1e-6 for score in scores)
    assert [m.distractors for m in materials(asked, ground, margin=None)] == [()] * 3


def test_a_parent_with_a_child_that_may_answer_is_no_distractor(tmp_path):
    """The second child of `b` holds the answer, far from the question; with this margin no score is too high."""
    answer = "seven plates of grey slate"
    texts = {
        "a": ("Where is the drum?", f"It lies under {answer}."),
        "b": ("Where is the drum now?", f"Elsewhere: {answer}."),
        "c": ("Where is the drum stick?", "Nobody knows."),
    }
    passages = [
        replace(passage(f"{name}#000{n}", text), parent=f"{name}#0000", start=n * 100, end=n * 100 + len(text))
        for name, children in texts.items()
        for n, text in enumerate(children)
    ]
    asked = [replace(question("q", "a#0001", "Where is the drum?", answer=answer), start=100, end=140)]
    write_tiny_encoder(tmp_path)
    retriever = encoder.load("tiny", tmp_path)
    vectors = encoder.encode_passages(retriever, [p.encoded_text for p in passages])
    ground = Corpus(passages, Reading(passages), retriever, vectors)
    for nearest in (30, 2):  # however few are looked at, their siblings are, too
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train_generator, "WEIGHED", nearest)
            [found] = materials(asked, ground, margin=9.0)
        assert not any(answer in text for text in found.distractors)
        assert found.gold == (ground.reading.passage("a#0000").encoded_text,)
    [found] = materials([replace(asked[0], answers=("slate",))], ground, margin=9.0)
    assert any(answer in text for text in found.distractors)  # too short to tell


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "swr"}, r"train_generator\.swr: expected settings with method swr, got null"),
        (SWR | {"method": "sft"}, r"train_generator\.swr: expected null with method sft"),
        (ENDPOINT | LORA, r"train_generator\.lora: expected null with method endpoint"),
        (READER | {"patience": 2}, r"train_generator\.patience: expected null with builtin:minilm-reader"),
        (READER | {"max_input_tokens": 513}, r"tokens: expected at most 512 with builtin:minilm-reader, got 513"),
        ({"quantize": "4bit"}, r"train_generator\.quantize: expected null without lora"),
        ({"method": "fid"}, r"base_model: expected with method fid a model whose encoder .*, got models/llama, which"),
    ],
)
def test_settings_of_another_method_are_refused(root, changes, message):
    with pytest.raises(ConfigError, match=message):
        run(root, **changes)
