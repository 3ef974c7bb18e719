"""`ragline chat` as it is typed: the real command line, a small project without a run's training, a pipe."""

import importlib
import os
import subprocess
import sys
import typing

import pytest

from ragline import io
from ragline.artifacts import ANSWERING, GENERATOR, RETRIEVER
from ragline.generation import fid
from ragline.retrieval import encoder
from ragline.runtime.params import load_section
from tests.conftest import ROOT
from tests.pipeline.tiny import write_project

pytestmark = pytest.mark.slow


def stage(name, root, section=""):
    module = importlib.import_module(f"stages.{name}")
    module.main(load_section(section or name, typing.get_type_hints(module.main)["params"], root / "params.yaml"), root)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Searched with the encoder as it comes, answered from the passages."""
    root = tmp_path_factory.mktemp("quern")
    write_project(root)
    for name in ("ingest", "chunk", "generate_qa", "build_index"):
        stage(name, root)
    encoder.save(encoder.load("builtin:minilm"), root / RETRIEVER)
    stage("rebuild_index", root, "build_index")
    fid.save(fid.warm_start("builtin:minilm-reader", fid.ReaderConfig("builtin:minilm", 2, 64, 8)), root / GENERATOR)
    settings = {"hybrid_weight": 0.5, "depth": 20, "abstain_below": 0.2, "answerer": "extractive"}
    io.write_json(settings, root / ANSWERING)
    return root


def typed(root, *words, lines=""):
    command = [sys.executable, "-m", "ragline.cli", "--root", str(root), *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, input=lines, env=env, capture_output=True, text=True, timeout=200)


def test_a_conversation_through_a_pipe(project):
    asked = ["What is the default of the tide gauge?", "And what happens beyond its limit?", "/sources", "", "/reset"]
    ended = typed(project, "chat", lines="\n".join([*asked, "Which colour is the moon?", ""]))
    assert ended.returncode == 0, ended.stderr
    first, second, *_ = ended.stdout.split("\n\n")
    assert "\n[" in first and "tide-gauge.md)" in first
    assert "\n[" in second and "tide-gauge.md)" in second  # which the follow-up does not name
    assert "Passages, best first, with the score of both searches together" in ended.stdout
    assert "(the conversation is forgotten)" in ended.stdout
    assert "> " not in ended.stdout.splitlines()[0]  # no prompt where nobody types
