"""The reader: loss on answer tokens alone, any order of passages, the same answer with and without cache."""

import pytest
import torch

from ragline.errors import MissingArtifact, ModelError
from ragline.generation import fid
from tests.fixtures.small import random_reader

QUESTION = "how do I merge frames?"
PASSAGES = ["DataFrame.merge\nMerge two frames with read_csv.", "Series.map\nMap values."]


@pytest.fixture(scope="module")
def reader() -> fid.Reader:
    return random_reader()


def packed(reader, passages=PASSAGES):
    return fid.collate(reader.pack([QUESTION], [passages]))


def loss(reader, labels, passages=PASSAGES):
    states, ids, mask = packed(reader, passages)
    return reader.model(states.float(), ids, mask, torch.tensor([labels]))["loss"]


def test_padding_counts_for_nothing(reader):
    assert loss(reader, [2000, 2001, 102]).item() == pytest.approx(loss(reader, [2000, 2001, 102, -100, -100]).item())


def test_loss_is_that_of_the_probabilities(reader):
    states, ids, mask = packed(reader)
    states = states.float()
    found = reader.model.probabilities(torch.tensor([[101, 2000]]), states, reader.model.keys(states, ids), ids, mask)
    expected = -(found[0, 0, 2000].log() + found[0, 1, 102].log()) / 2
    assert loss(reader, [2000, 102]).item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_order_of_passages_changes_nothing(reader):
    labels = [2000, 2001, 102]
    assert loss(reader, labels).item() == pytest.approx(loss(reader, labels, PASSAGES[::-1]).item(), rel=1e-5)


def test_the_encoder_gets_no_gradient_and_the_decoder_does(reader):
    loss(reader, [2000, 102]).backward()
    assert all(p.grad is None for p in reader.model.encoder.parameters())
    assert reader.model.pointer_query.weight.grad.abs().sum() > 0
    reader.model.zero_grad()


def test_probabilities_sum_to_one(reader):
    states, ids, mask = packed(reader)
    states = states.float()
    found = reader.model.probabilities(torch.tensor([[101, 2000]]), states, reader.model.keys(states, ids), ids, mask)
    assert found.sum(-1).flatten().tolist() == pytest.approx([1, 1], abs=1e-3)


def test_padded_passages_cannot_be_copied(reader):
    states, ids, mask = packed(reader)
    longer = torch.cat([states, torch.randn(1, 3, 32)], dim=1), torch.cat([ids, torch.tensor([[7, 8, 9]])], dim=1)
    hidden = torch.cat([mask, torch.zeros(1, 3, dtype=torch.long)], dim=1)

    def probabilities(states, ids, mask):
        states = states.float()
        return reader.model.probabilities(torch.tensor([[101]]), states, reader.model.keys(states, ids), ids, mask)

    assert torch.allclose(probabilities(states, ids, mask), probabilities(*longer, hidden), atol=1e-5)


def test_greedy_with_cache_equals_greedy_without(reader):
    states, ids, mask = packed(reader)
    states = states.float()
    ((written, _),) = reader.model.write(states, ids, mask, limit=6)
    tokens = [101]
    for _ in range(len(written)):
        keys = reader.model.keys(states, ids)
        scores = reader.model.probabilities(torch.tensor([tokens]), states, keys, ids, mask)[0, -1]
        scores[[0, 101, *fid._repeats(tokens[1:])]] = 0.0
        tokens.append(int(scores.argmax()))
    assert written == tokens[1:]


def test_answers_do_not_depend_on_their_neighbours(reader):
    questions = [QUESTION, "what is a series?", "why?"]
    passages = [PASSAGES, PASSAGES[1:], [PASSAGES[0] * 3]]
    together = reader.answer(questions, passages, batch=3)
    alone = [reader.answer([q], [p])[0] for q, p in zip(questions, passages, strict=True)]
    assert [draft.text for draft in together] == [draft.text for draft in alone]
    assert [draft.likelihood for draft in together] == pytest.approx([draft.likelihood for draft in alone], abs=1e-4)


def test_answers_that_end_early_leave_the_batch():
    """Six to twelve tokens each: at the tenth step, four of eight end marks are written."""
    reader = random_reader(answer_tokens=12)
    questions = [f"what of word{n} and {'more ' * n}?" for n in range(8)]
    passages = [[f"Series.map{n}\nMap values {n * n} {'again ' * n}."] for n in range(8)]
    states, ids, mask = fid.collate(reader.pack(questions, passages))
    widths: list[int] = []
    reader.model.decoder.register_forward_pre_hook(
        lambda _, __, given: widths.append(len(given["input_ids"])), with_kwargs=True
    )
    together = reader.model.write(states.float(), ids, mask, limit=12)
    assert [len(tokens) for tokens, _ in together] == [6, 7, 8, 9, 10, 11, 11, 12]
    assert widths == [8] * 10 + [4] * 2
    for row, (tokens, likelihood) in enumerate(together):
        ((own, its),) = reader.model.write(states[row : row + 1].float(), ids[row : row + 1], mask[row : row + 1], 12)
        assert tokens == own
        assert likelihood == pytest.approx(its, abs=1e-4)


@pytest.mark.parametrize("end", [0.0, 40.0])
def test_the_likelihood_is_that_of_the_answer_read_again(end):
    """Teacher-forced loss of what was written, with its end mark where there is one."""
    reader = random_reader(answer_tokens=6)
    with torch.no_grad():
        reader.model.bias[102] = end  # with 40 the first token ends the answer
    states, ids, mask = packed(reader)
    ((tokens, likelihood),) = reader.model.write(states.float(), ids, mask, limit=6)
    assert len(tokens) == (0 if end else 6)
    labels = torch.tensor([[*tokens, 102][:6]])
    assert likelihood == pytest.approx(-reader.model(states.float(), ids, mask, labels)["loss"].item(), abs=1e-4)


def test_no_passages_no_answer(reader):
    assert reader.answer(["why?", QUESTION], [[], PASSAGES])[0] == fid.Draft("", None)


def test_a_long_passage_is_cut_and_the_question_is_not(reader):
    ((_, ids),) = reader.pack([QUESTION], [["word " * 500]])
    asked = reader.tokenizer(QUESTION, add_special_tokens=False)["input_ids"]
    assert len(ids) == reader.config.max_input_tokens
    assert ids[1 : len(asked) + 1].tolist() == asked


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("merge two frames with read_csv", "Merge two frames with read_csv"),  # the passage's own spelling
        ("map values.", "Map values."),
        ("zebra", "zebra"),
        ("", ""),
    ],
)
def test_surface(reader, answer, expected):
    tokens = reader.tokenizer(answer, add_special_tokens=False)["input_ids"]
    assert fid.surface(tokens, PASSAGES, reader.tokenizer) == expected


def test_repeats():
    assert fid._repeats([1, 2, 3, 1, 2]) == {3}
    assert fid._repeats([1, 2]) == set()


def test_the_warm_start_copies_the_layers(reader):
    source, target = reader.model.encoder.encoder.layer[3], reader.model.decoder.encoder.layer[1]
    assert torch.equal(target.attention.self.query.weight, source.attention.self.query.weight)
    assert torch.equal(target.crossattention.self.query.weight, source.attention.self.query.weight)
    assert reader.model.decoder.embeddings is reader.model.encoder.embeddings


def test_save_then_load_gives_the_same_answers(tmp_path, monkeypatch):
    before = random_reader(seed=1)
    fid.save(before, tmp_path / "models/generator")
    assert not [name for name in before.model.state_dict() if name.startswith("encoder.")]
    monkeypatch.setattr(fid, "_assemble", lambda config, root: random_reader(seed=1))
    after = fid.load(tmp_path / "models/generator")
    assert after.answer([QUESTION], [PASSAGES]) == before.answer([QUESTION], [PASSAGES])
    assert loss(after, [2000, 102]).item() == loss(before, [2000, 102]).item()


def test_no_model(tmp_path):
    with pytest.raises(MissingArtifact, match="run `dvc repro train_generator`"):
        fid.load(tmp_path / "models/generator")


def test_damaged_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(fid, "_assemble", lambda config, root: random_reader())
    fid.save(random_reader(), tmp_path / "models/generator")
    (tmp_path / "models/generator" / fid.WEIGHTS).write_bytes(b"no weights")
    with pytest.raises(ModelError, match=r"not a reader: .*; run `dvc repro train_generator`"):
        fid.load(tmp_path / "models/generator")


def test_unknown_base_model():
    with pytest.raises(ModelError, match=r"expected one of builtin:minilm-reader, got 'gpt-9'"):
        fid.warm_start("gpt-9", fid.ReaderConfig("", 1, 48, 8))
