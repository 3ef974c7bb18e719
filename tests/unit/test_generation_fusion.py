"""Fusion-in-decoder of T5 and BART: one passage is the plain model, any order the same, and only answers teach."""

import itertools
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.modeling_outputs import BaseModelOutput

from ragline import training
from ragline.errors import ConfigError, DataError
from ragline.generation import backends, fusion, language_model, prompts, sft
from ragline.generation.generator import Written
from ragline.generation.language_model import Limits
from ragline.generation.train import Lesson
from ragline.types import Hit
from tests.fixtures.saved_models import save_tiny
from tests.fixtures.small import passage
from tests.fixtures.trainings import killed_at, schedule

SHAPES = ("t5", "bart")
LIMITS = Limits(passages=3, max_input_tokens=48, max_answer_tokens=12, fusion=True)
TEXTS = ("title\nThe number 1 stands on shelf 1.", "other\nno help at all", "")
LESSONS = [
    Lesson(f"where is the number {n}?", (f"title\nThe number {n} stands on shelf {n}.", "other " * n), f"shelf {n}")
    for n in range(10)
]
HITS = [Hit(passage("a#0", TEXTS[0]), 0.9), Hit(passage("b#0", TEXTS[1]), 0.5)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for shape in (*SHAPES, "llama"):
        save_tiny(folder / shape, shape)
    bart, _ = plain(folder, "bart")
    with torch.no_grad():
        for weights in bart.parameters():
            weights.mul_(5 if weights.dim() > 1 else 1)  # as it starts out, it hardly looks at what it reads
    bart.save_pretrained(folder / "bart")
    return folder


def tiny(root, shape, limits=LIMITS):
    reader = fusion.fused(language_model.load_base(shape, limits, root))
    reader.model.eval()
    return reader


def plain(root, shape):
    """The model and tokenizer as transformers has them."""
    model = AutoModelForSeq2SeqLM.from_pretrained(root / shape)
    return model.eval(), AutoTokenizer.from_pretrained(root / shape)


def batch(reader, lessons=LESSONS):
    return sft._Collator(reader)(sft.encode(reader, lessons)[0])


def loss(reader, lessons):
    data = batch(reader, lessons)
    labels = data.pop("labels")
    with torch.inference_mode():
        return sft.AnswerLoss(shifted=False)(reader.model(**data), labels).item()


def texts(question, passages):
    return [f"question: {question} context: {text}" for text in passages]


@pytest.mark.parametrize("shape", SHAPES)
def test_one_passage_is_the_plain_model(root, shape):
    model, tokenizer = plain(root, shape)
    asked = tokenizer(texts("where?", TEXTS[:1]), return_tensors="pt")
    labels = tokenizer(text_target="shelf 1", return_tensors="pt")["input_ids"]
    reader = tiny(root, shape)
    data = batch(reader, [Lesson("where?", TEXTS[:1], "shelf 1")])
    assert data["input_ids"][0].tolist() == asked["input_ids"].tolist()
    assert data["labels"].tolist() == labels.tolist()
    with torch.inference_mode():
        expected = model(**asked, labels=labels)
        found = reader.model(**{name: tensor for name, tensor in data.items() if name != "labels"})
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-5, atol=1e-5)
    assert loss(reader, [Lesson("where?", TEXTS[:1], "shelf 1")]) == pytest.approx(expected.loss.item(), rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_order_of_passages_changes_neither_loss_nor_answer(root, shape):
    reader = tiny(root, shape)
    orders = list(itertools.permutations(TEXTS))
    losses = [loss(reader, [Lesson("where?", order, "shelf 1")]) for order in orders]
    assert losses == pytest.approx([losses[0]] * len(orders), rel=1e-5)
    assert loss(reader, [Lesson("where?", TEXTS[:1], "shelf 1")]) != pytest.approx(losses[0], rel=1e-4)  # all are read
    answers = reader.answer(["where?"] * 2, [HITS, HITS[::-1]])
    assert answers[0].text == answers[1].text


@pytest.mark.parametrize("shape", SHAPES)
def test_only_answer_tokens_have_a_gradient(root, shape):
    reader = tiny(root, shape)
    data = batch(reader, [*LESSONS[:3], Lesson("where?", TEXTS, "shelf shelf shelf")])
    labels = data.pop("labels")
    table = reader.model.get_encoder().get_input_embeddings()
    read = []
    heard = table.register_forward_hook(lambda module, args, output: output.retain_grad() or read.append(output))
    outputs = reader.model(**data)
    heard.remove()
    outputs.logits.retain_grad()
    sft.AnswerLoss(shifted=False)(outputs, labels).backward()
    size = outputs.logits.grad.abs().sum(-1)
    assert (size[labels != -100] > 0).all() and (size[labels == -100] == 0).all()
    # The encoder learns, and from tokens alone: padding has no gradient, and passages that are not there are not read.
    mask = data["attention_mask"].view(data["input_ids"].shape)
    mask = mask[mask.any(-1)]
    reached = read[0].grad.abs().sum(-1)
    assert reached.shape == mask.shape
    assert (reached[mask == 1] > 0).all() and (reached[mask == 0] == 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_padding_changes_no_loss(root, shape):
    reader = tiny(root, shape)
    lessons = [*LESSONS[:3], Lesson("where is it?", TEXTS, "shelf " * 3), Lesson("x", (), "7")]
    counts = [len(row.answer) for row in sft.encode(reader, lessons)[0]]
    total = sum(loss(reader, [lesson]) * count for lesson, count in zip(lessons, counts, strict=True))
    assert loss(reader, lessons) == pytest.approx(total / sum(counts), rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("limit", [24, 25, 40])
def test_a_passage_is_cut_as_a_tokenizer_cuts_it_and_the_question_never(root, shape, limit):
    reader = tiny(root, shape, Limits(2, limit, 12, fusion=True))
    long = "The number stands on shelf 1. " * 30
    _, tokenizer = plain(root, shape)
    expected = tokenizer(texts("where?", [long, "a"]), truncation=True, max_length=limit)["input_ids"]
    assert [list(tokens) for tokens in reader.prompt("where?", [long, "a"])] == expected
    assert len(expected[0]) == limit
    with pytest.raises(DataError, match=r"expected it and a part of a passage in \d+ tokens, got \d+ for the question"):
        reader.prompt("where? " * 40, ["a"])


def test_what_does_not_fit_is_left_out_and_counted(root):
    reader = tiny(root, "t5")
    odd = [Lesson("where?", TEXTS, "shelf " * 30), Lesson("where? " * 100, TEXTS, "shelf 1")]
    rows, left_out = sft.encode(reader, [*LESSONS, *odd, Lesson("where?", (), "7")])
    assert (len(rows), left_out) == (11, {sft.ANSWER_TOO_LONG: 1, sft.QUESTION_TOO_LONG: 1})
    assert len(rows[-1].prompt) == 1 and len(rows[-1].answer) in (2, 3)  # the question alone; a token and the end mark


@pytest.mark.parametrize("shape", SHAPES)
def test_answers_are_those_of_transformers_one_by_one(root, shape):
    """The reference knows no fusion: it encodes passage by passage, and joins what comes out."""
    reader = tiny(root, shape)
    model, tokenizer = plain(root, shape)
    questions = ["where is the number 1?", "help?", "x", "where?"]
    retrieved = [HITS, HITS[1:], [], [*HITS, Hit(passage("c#0", "shelf " * 60), 0.1), Hit(passage("d#0", "x"), 0.1)]]
    found = reader.answer(questions, retrieved)
    for question, hits, written in zip(questions, retrieved, found, strict=True):
        if not hits:
            assert written == Written("", ())
            continue
        states = []
        for text in texts(question, [hit.passage.encoded_text for hit in hits[:3]]):  # reads three
            asked = tokenizer(text, truncation=True, max_length=48, return_tensors="pt")
            states.append(model.get_encoder()(**asked).last_hidden_state)
        joined = torch.cat(states, dim=1)
        tokens = model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=joined),
            attention_mask=torch.ones(joined.shape[:2], dtype=torch.long),
            max_new_tokens=12,
            do_sample=False,
            num_beams=1,
        )
        text = tokenizer.decode(tokens[0], skip_special_tokens=True)
        assert written.text == prompts.parse(text, 0).text
        *pieces, whole = reader.stream(question, hits)
        assert replace(whole, likelihood=None) == replace(written, likelihood=None)
        assert whole.likelihood == pytest.approx(written.likelihood, abs=1e-5)  # here alone, there in a batch
        assert "".join(pieces) == written.text


def test_an_answer_cites_the_passage_that_holds_it_and_declines_by_the_sentence(root, monkeypatch):
    reader = tiny(root, "t5")
    numbered = "The number 1 [1] stands on shelf 1."
    for said, expected in (
        (numbered, Written(numbered, (HITS[0],), likelihood=-0.5)),
        (prompts.ABSTENTION, Written("", (), likelihood=-0.5)),
    ):
        monkeypatch.setattr(fusion.Fused, "_write", lambda self, asked, listener=None, said=said: [(said, -0.5)])
        assert reader.answer(["where?"], [HITS[::-1]]) == [expected]


def test_questions_answered_at_once_hold_a_bounded_number_of_tokens(root):
    # 20 passages of 256 tokens are 5,120: six such questions in 32,768.
    assert tiny(root, "t5", Limits(20, 256, 12, fusion=True)).batch == 6
    assert tiny(root, "t5", Limits(1, 32, 12, fusion=True)).batch == language_model.BATCH
    assert fusion.fused(language_model.load_base("t5", Limits(20, 4096, 12, fusion=True), root)).batch == 1


def test_a_model_without_an_encoder_is_refused_in_a_line(root):
    with pytest.raises(ConfigError, match=r"base_model: expected with method fid a model whose encoder .*, got llama,"):
        language_model.load_base("llama", LIMITS, root)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_a_tuned_model_is_saved_whole_and_loaded(root, shape, tmp_path):
    reader = tiny(root, shape)
    rows = sft.encode(reader, LESSONS)[0]
    tuned = sft.fit(reader, rows, rows[:4], schedule(epochs=12), tmp_path / "checkpoints")
    assert tuned.points[-1].dev < tuned.points[0].loss and tuned.steps == 36
    assert tuned.trained_parameters == tuned.parameters
    language_model.save(tuned.model, tuned.weights, None, tmp_path / "made", root)
    loaded = backends.load(tmp_path / "made", root)
    assert isinstance(loaded, fusion.Fused) and loaded.reads == 3
    assert loss(loaded, LESSONS) == loss(tuned.model, LESSONS)
    asked = (["where is the number 1?"], [HITS])
    assert loaded.answer(*asked) == tuned.model.answer(*asked)
    model, _ = plain(tmp_path, "made")  # any program reads it: the names of its weights are the plain model's
    assert all(torch.equal(tensor, tuned.weights[name]) for name, tensor in model.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_adapters_merged_into_their_base_give_the_same_logits(root, shape, tmp_path):
    reader = tiny(root, shape)
    rows = sft.encode(reader, LESSONS)[0]
    lora = sft.Lora(4, 8, 0.0, ("q", "v") if shape == "t5" else ("q_proj", "v_proj"))
    with_lora = schedule(lora=lora, gradient_checkpointing=True)
    tuned = sft.fit(reader, rows, rows[:4], with_lora, tmp_path / "checkpoints")
    assert 0 < tuned.trained_parameters < tuned.parameters / 10
    assert any(".encoder." in name and "lora_B" in name and tensor.any() for name, tensor in tuned.weights.items())
    language_model.save(tuned.model, tuned.weights, shape, tmp_path / "made", root)
    loaded = backends.load(tmp_path / "made", root)
    assert loss(loaded, LESSONS) == pytest.approx(loss(tuned.model, LESSONS), rel=1e-5)
    data = batch(reader)
    data.pop("labels")
    with torch.inference_mode():
        found, expected = loaded.model(**data).logits, tuned.model.model(**data).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_gradient_checkpointing_changes_no_weight(root, tmp_path):
    weights = []
    for checkpointing in (False, True):
        reader = tiny(root, "t5")
        rows = sft.encode(reader, LESSONS)[0]
        changed = schedule(epochs=1, evaluations=1, gradient_checkpointing=checkpointing)
        weights.append(sft.fit(reader, rows, rows[:4], changed, tmp_path / "c").weights)
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_killed_training_ends_in_the_same_weights(root, tmp_path):
    often = schedule(evaluations=6, patience=3)

    def fit(folder):
        reader = tiny(root, "bart")  # with dropout
        rows = sft.encode(reader, LESSONS)[0]
        return sft.fit(reader, rows, rows[:4], often, tmp_path / folder)

    whole = fit("whole")

    with killed_at(4):
        fit("broken")
    assert training.last_whole(tmp_path / "broken") == tmp_path / "broken" / "checkpoint-3"
    resumed = fit("broken")
    assert resumed.points == whole.points
    assert all(torch.equal(resumed.weights[name], tensor) for name, tensor in whole.weights.items())
