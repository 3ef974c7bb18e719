"""Pretraining of the reader: what it is taught, lessons on disk, and that a killed run ends where it would have."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import BertConfig, BertModel

from ragline import io
from ragline.builtin import tokenizer_file
from ragline.corpus.chunk import load_chunker
from ragline.errors import ConfigError, ModelError
from ragline.generation.fid import FusionInDecoder
from ragline.generation.generator import Written
from ragline.generation.prompts import ABSTENTION
from ragline.generation.train import Lesson
from ragline.text import word_tokens
from tests.conftest import ROOT
from tests.fixtures.small import random_reader
from tools import pretrain_reader
from tools.reader_pretraining import lessons, shards, texts, training

VERBS = "Load Save Merge Split Count Rotate Compress Validate Publish Schedule Render Filter".split()
NOUNS = "table image archive invoice letter graph index report picture message queue folder".split()
LESSONS = [
    Lesson(f"question {n}?", (f"title\nthe answer is number {n}.", "other\nno help.")[: 1 + n % 2], f"number {n}")
    for n in range(10)
]


def docstring(verb: str, noun: str) -> str:
    return (
        f"{verb} the {noun} that belongs to the current customer.\n\n    The {noun} is never changed while another "
        f"process of the same customer reads it.\n\n    Parameters\n    ----------\n    path : str\n        Place on "
        f"disk where the {noun} is kept.\n\n    Returns\n    -------\n    int\n        Number of bytes of the {noun}."
    )


@pytest.fixture(scope="module")
def office(tmp_path_factory) -> texts.Texts:
    """A package of twelve documented functions."""
    folder = tmp_path_factory.mktemp("packages")
    body = [
        f'def {verb.lower()}_{noun}(path):\n    """{docstring(verb, noun)}\n    """\n'
        for verb, noun in zip(VERBS, NOUNS, strict=True)
    ]
    (folder / "ragline_office.py").write_text("\n".join(body))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        return texts.read("ragline_office", chunker(), frozenset())


def chunker():
    return load_chunker(tokenizer_file("builtin:minilm"), 200, 32)


# --- texts -----------------------------------------------------------------------------------------


def test_a_sentence_is_known_by_its_words_and_short_ones_belong_to_nobody():
    text = "Return a copy.  Merge DataFrame objects with a\ndatabase-style join, on columns or indexes."
    assert texts.signatures(text) == {"merge data frame objects with a database style join on columns or indexes"}


def test_passages_that_share_a_sentence_with_what_is_forbidden_are_left_out(office):
    held = "The image is never changed while another process of the same customer reads it."
    assert sum(held in " ".join(passage.text.split()) for passage in office.passages) == 1
    cut = texts.read(office.package, chunker(), texts.signatures(held))
    assert cut.left_out == 1
    assert len(cut.passages) == len(office.passages) - 1
    assert not any("image" in passage.text for passage in cut.passages)


def test_docstrings_made_anew_at_every_start_are_left_out(tmp_path, monkeypatch):
    """As scipy makes them: the first would differ between two starts, so no lesson may come of it."""
    drawn = docstring("Draw", "sample") + "\n\n    >>> draw()\n    array([%r])  # may vary"
    body = f"def draw(path): ...\nimport random\ndraw.__doc__ = {drawn!r} % random.random()\n"
    (tmp_path / "ragline_drawn.py").write_text(f'{body}def keep(path):\n    """{docstring("Keep", "sample")}"""\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    found = texts.read("ragline_drawn", chunker(), frozenset())
    assert [document.doc_id for document in found.documents] == ["ragline_drawn.keep"]


@pytest.mark.parametrize("package", [texts.FORBIDDEN, texts.HELD_OUT])
def test_what_is_measured_on_never_teaches(package):
    assert package not in texts.PACKAGES
    with pytest.raises(ConfigError, match=f"--packages: expected others .* got {package}"):
        pretrain_reader.gather(["statistics", package], texts.HELD_OUT, 4, seed=1)


# --- lessons ---------------------------------------------------------------------------------------


def test_every_answer_stands_in_a_passage_shown_but_for_lessons_in_declining(office):
    taught = lessons.make(office, seed=3)
    assert {one.task for one in taught} == set(lessons.TASKS)
    for one in taught:
        assert 1 <= len(one.lesson.passages) <= max(lessons.SHOWN)
        answer = " ".join(word_tokens(one.lesson.answer))
        held = [answer in " ".join(word_tokens(text)) for text in one.lesson.passages]
        assert sum(held) == (one.task != "absent")
        assert (one.lesson.answer == ABSTENTION) == (one.task == "absent")


def test_one_question_in_sixteen_is_to_be_declined(office):
    found = lessons.counts(lessons.make(office, seed=3))["ragline_office"]
    by_rule = len(lessons.questions(office, seed=3))
    assert found["absent"] == round(by_rule / 16)
    assert found["rules"] == by_rule - found["absent"]


def test_lessons_depend_on_the_seed_alone(office):
    assert lessons.make(office, seed=3) == lessons.make(office, seed=3)
    assert lessons.make(office, seed=3) != lessons.make(office, seed=4)


def test_a_sample_has_no_lesson_twice(office):
    taught = lessons.make(office, seed=3)
    drawn = lessons.sample(taught, 9, seed=1)
    assert drawn == lessons.sample(taught, 9, seed=1)
    assert len(drawn) == len(set(drawn)) == 9
    assert set(lessons.sample(taught, 10_000, seed=1)) == set(taught)


def test_key_words_leave_something_to_write():
    sentence = "Merge the tables of both databases into one archive."
    for seed in range(30):
        asked = lessons.key_words(sentence, "office.merge_all", random(seed)).split()
        told = [word for word in asked if word != "merge_all"]
        assert set(told) < {"merge", "tables", "both", "databases", "archive"}
        assert len(asked) - len(told) <= 1
    assert lessons.key_words("It is the archive.", "office", random(0)) == ""


@given(st.lists(st.sampled_from(["one", "two", "three", "four"]), min_size=1, max_size=30), st.integers(0, 99))
def test_noise_only_drops_and_moves_words(words, seed):
    found = Counter(lessons.noisy(" ".join(words), random(seed)).split())
    assert found.total() >= 1
    assert found <= Counter(words)


def test_prose_is_told_from_code_and_fields():
    text = (
        "Compute the mean along an axis.\n\n>>> mean(x)\n\naxis : int\n    Axis over which the mean is taken.\n\n"
        "Use f(x) = y[0] + z_1 ** 2.\n"
    )
    assert lessons.prose_sentences(text) == ["Compute the mean along an axis.", "Axis over which the mean is taken."]


def random(seed: int):
    return lessons.random.Random(seed)


# --- encoded lessons -------------------------------------------------------------------------------


def test_encoded_lessons_are_what_the_reader_packs(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 4)  # ten lessons in three shards
    reader = random_reader()
    found = shards.encode(reader, LESSONS, tmp_path, "reading")
    assert len(found) == 10
    packed = reader.pack([x.question for x in LESSONS], [x.passages for x in LESSONS])
    for row, (states, ids) in enumerate(packed):
        assert torch.equal(found[row]["packed"][1], ids)
        assert torch.allclose(found[row]["packed"][0].float(), states.float(), atol=1e-3)
    answer = reader.tokenizer("number 7", add_special_tokens=False)["input_ids"]
    assert found[7]["answer"].tolist() == [*answer, reader.tokenizer.sep_token_id]


def test_what_is_encoded_is_not_encoded_again(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 4)
    shards.encode(random_reader(), LESSONS, tmp_path, "reading")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    lost = tmp_path / "00001"
    for path in lost.iterdir():
        path.unlink()
    lost.rmdir()
    shards.encode(random_reader(), LESSONS, tmp_path, "reading")
    changed = {path for path, when in before.items() if path.stat().st_mtime_ns != when}
    assert changed == {lost / name for name in (shards.STATES, shards.IDS, shards.ENDS)}


# --- schedule and weights --------------------------------------------------------------------------


def test_lessons_that_fit_into_the_time():
    # Two minutes are 120 s; a lesson takes 0.1 + 2 · 0.2 = 0.5 s.
    pace = training.Pace(encoding=0.1, seeing=0.2)
    assert pace.lessons(2, passes=2, most=1000) == 240
    assert pace.lessons(2, passes=2, most=100) == 100
    with pytest.raises(ConfigError, match="--minutes: expected time for a lesson, got 0"):
        pace.lessons(0, passes=2, most=100)


def test_steps():
    # 33 lessons in batches of 16 take three steps, twice over.
    assert training.Schedule(33, 2, 16, 1e-3, 4, 13).steps == 6


def test_the_pace_leaves_the_reader_as_it_is(tmp_path):
    reader = random_reader()
    before = {name: tensor.clone() for name, tensor in reader.model.state_dict().items()}
    found = training.pace(reader, LESSONS, 4, tmp_path)
    assert found.encoding > 0
    assert found.seeing > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in reader.model.state_dict().items())


def test_weights_are_written_in_half_and_within_the_limit(tmp_path):
    reader = random_reader()
    digest = training.write_weights(reader, tmp_path / "weights.safetensors", 10_000_000)
    assert digest == io.file_digest(tmp_path / "weights.safetensors")
    found = load_file(tmp_path / "weights.safetensors")
    assert found.keys() == reader.model.state_dict().keys()
    assert all(torch.equal(found[name], t.bfloat16()) for name, t in reader.model.state_dict().items())
    with pytest.raises(ModelError, match="expected at most 1000 bytes of weights"):
        training.write_weights(reader, tmp_path / "other.safetensors", 1000)
    assert not (tmp_path / "other.safetensors").exists()


def test_what_is_shipped_fits():
    # d = 384. An attention: 4 (d² + d) + 2 d = 592,128, two a layer; its feed-forward: 8 d² + 7 d = 1,182,336;
    # three layers: 7,099,776. Heads: transform d² + d, norm 2 d, bias 30,522, three pointers d², gate d + 1: 621,883.
    settings = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    with torch.device("meta"):
        encoder = BertModel(settings, add_pooling_layer=False)
    model = FusionInDecoder(encoder.to_empty(device="cpu"))
    numbers = sum(tensor.numel() for tensor in model.state_dict().values())
    assert numbers == 7_099_776 + 621_883
    assert 2 * numbers < pretrain_reader.MAX_BYTES


# --- the whole run ---------------------------------------------------------------------------------


class Saying:
    """Says what it was given for a question, or nothing."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers

    def answer(self, questions, retrieved):
        return [Written(self.answers.get(question, ""), ()) for question in questions]


def test_scores_of_the_right_answer_of_silence_and_of_declining(office):
    gold = {q.question: q.answers[0] for q in lessons.questions(office, seed=3)}
    answerers = {"right": Saying(gold), "silent": Saying({}), "declining": Saying(dict.fromkeys(gold, ABSTENTION))}
    found = pretrain_reader.scores(answerers, office, most=7, seed=3)
    assert found["questions"] == 7
    assert 0 < found["gold_found"] <= 1
    assert found["right"] == {"answer_f1": 1.0, "declined": 0.0}
    assert found["silent"] == found["declining"] == {"answer_f1": 0.0, "declined": 1.0}


def options(root: Path):
    return pretrain_reader.parsed(
        f"--root {root} --examples 96 --passes 2 --packages statistics --held-out collections --batch-size 4 "
        "--evaluations 12 --dev-lessons 8 --questions 6 --seed 5".split()
    )


def test_weights_that_are_there_are_not_overwritten(tmp_path):
    (tmp_path / pretrain_reader.OUT).parent.mkdir(parents=True)
    (tmp_path / pretrain_reader.OUT).touch()
    with pytest.raises(ConfigError, match="there already; a reader would start from it"):
        pretrain_reader.pretrain(options(tmp_path), random_reader)


def test_a_killed_start_has_settled_the_schedule(tmp_path):
    ground = pretrain_reader.Ground([], {}, [], texts.Texts("none", (), (), 0))
    given = pretrain_reader.parsed(["--minutes", "1"])
    settled = training.Schedule(77, 2, 16, 1e-3, 4, 13)
    io.write_json(asdict(settled), tmp_path / "schedule.json")
    assert pretrain_reader.plan(given, random_reader, ground, tmp_path) == settled


@pytest.mark.slow
def test_a_finished_training_is_read_back(tmp_path):
    first, second = random_reader(), random_reader(seed=1)
    encoded = shards.encode(first, LESSONS, tmp_path / "lessons", "reading")
    schedule = training.Schedule(len(LESSONS), 2, 4, 1e-3, 2, 5)
    points = training.fit(first, encoded, encoded, schedule, tmp_path)
    assert [point.step for point in points if point.dev is not None] == [3, 6]
    assert training.fit(second, encoded, encoded, schedule, tmp_path) == points
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name


@pytest.mark.slow
def test_a_run_killed_in_the_middle_ends_in_the_same_weights(tmp_path):
    whole = pretrain_reader.pretrain(options(tmp_path / "whole"), random_reader)
    code = (
        "import sys; from pathlib import Path; from tests.unit.test_pretrain_reader import options\n"
        "from tests.fixtures.small import random_reader; from tools.pretrain_reader import pretrain\n"
        "pretrain(options(Path(sys.argv[1])), random_reader)"
    )
    broken = tmp_path / "broken"
    # No `**`: it would walk into checkpoints that the training is deleting.
    reached = ".cache/reader_pretraining/*/checkpoints/checkpoint-4/trainer_state.json"
    with subprocess.Popen([sys.executable, "-c", code, str(broken)], cwd=ROOT) as process:
        while not list(broken.glob(reached)):
            assert process.poll() is None, "ended before its first checkpoint"
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
    assert not (broken / pretrain_reader.OUT).exists()
    assert list(broken.glob(reached))
    resumed = pretrain_reader.pretrain(options(broken), random_reader)
    assert resumed["sha256"] == whole["sha256"]
    assert resumed["curve"] == whole["curve"]
    assert io.read_json((broken / pretrain_reader.OUT).with_suffix(".json"))["sha256"] == whole["sha256"]
    assert not list((broken / ".cache/reader_pretraining").iterdir())
