"""Answers that are heard while they are written: the words are those of the whole answer."""

import threading
import time

import pytest

from ragline.generation import backends, language_model, prompts
from ragline.generation.generator import Abandoned, Telling, Written, at_once, beside
from ragline.generation.language_model import Limits
from ragline.types import Hit
from tests.fixtures.saved_models import SHAPES, save_tiny
from tests.fixtures.small import passage, random_reader

LIMITS = Limits(passages=2, max_input_tokens=160, max_answer_tokens=40)
HITS = [Hit(passage("a#0", "The number 1 stands on shelf 1."), 0.9), Hit(passage("b#0", "no help"), 0.5)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for shape in SHAPES:
        save_tiny(folder / shape, shape)
    return folder


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("question", ["where is the number 1?", "x"])
def test_a_language_model_streams_what_it_answers(root, shape, question):
    reader = language_model.load_base(shape, LIMITS, root)
    *pieces, written = reader.stream(question, HITS)
    assert [written] == reader.answer([question], [HITS])
    assert "".join(pieces) == written.text


def test_without_passages_there_is_nothing_to_hear(root):
    assert list(language_model.load_base("llama", LIMITS, root).stream("x?", [])) == [Written("", ())]


@pytest.mark.parametrize(
    ("texts", "heard"),
    [
        (["The", "The documents", "The documents do not"], []),
        (["The", "The documents", "The documents say ", "The documents say so"], ["The documents say", " so"]),
        (["a", "a [1", "a [1]", "a [1] b"], ["a", " b"]),
        (["- one\n", "- one\n- two"], ["- one", "\n- two"]),
    ],
)
def test_what_is_told_of_a_growing_text(texts, heard):
    told = []
    telling = Telling(1, told.append)
    for text in texts:
        telling.so_far(text)
    assert told == heard


def test_a_refusal_is_held_back_to_the_end():
    told = []
    telling = Telling(2, told.append)
    for end in range(len(prompts.ABSTENTION) + 1):
        telling.so_far(prompts.ABSTENTION[:end])
    assert telling.whole(Written("", ())) == Written("", ())
    assert told == []


def test_one_piece_or_none():
    assert list(at_once(Written("a b", ()))) == ["a b", Written("a b", ())]
    assert list(at_once(Written("", ()))) == [Written("", ())]


def test_fusion_and_extraction_give_one_piece():
    fusion = backends.Fusion(random_reader())
    *pieces, written = fusion.stream("where?", HITS)
    assert [written] == fusion.answer(["where?"], [HITS])
    assert pieces == [written.text]


def test_what_goes_wrong_beside_is_raised_here():
    def write(tell):
        tell("half")
        raise ValueError("broken")

    listening = beside(write)
    assert next(listening) == "half"
    with pytest.raises(ValueError, match="broken"):
        next(listening)


def test_a_writer_that_nobody_hears_is_stopped():
    stopped = threading.Event()

    def write(tell):
        try:
            while True:
                tell("and on ")
                time.sleep(0.001)
        except Abandoned:
            stopped.set()
            raise

    listening = beside(write)
    next(listening)
    listening.close()
    assert stopped.wait(5)
