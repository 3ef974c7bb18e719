"""Relevance by attention and by likelihood: exact, the same in any company, blind to padding, question and order."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ragline.errors import ConfigError, DataError, ModelError
from ragline.generation import fid, relevance
from ragline.generation.relevance import Limits
from tests.fixtures.language_models import tiny_causal, tiny_seq2seq, tokenizer
from tests.fixtures.small import random_reader

QUESTION, ANSWER = "how do I merge frames?", "use merge on the key"
PASSAGES = [
    "Series.map\nMap values.",
    "DataFrame.merge\nYou can use merge on the key column of both frames, and more on it follows here.",
    "read_csv\nRead a [SEP] separated file.",
]
LIMITS = Limits(max_input_tokens=64, max_answer_tokens=8)
INF = float("inf")


@pytest.fixture(scope="module")
def reader():
    return random_reader()


@pytest.fixture(scope="module")
def scorers(reader):
    words = tokenizer()
    return {
        "reader's attention": relevance.of_reader(random_reader(), "attention"),
        "reader's likelihood": relevance.of_reader(reader, "likelihood"),
        "seq2seq attention": relevance.of_model(tiny_seq2seq(), words, "attention", LIMITS),
        "seq2seq likelihood": relevance.of_model(tiny_seq2seq(), words, "likelihood", LIMITS),
        "causal likelihood": relevance.of_model(tiny_causal(), words, "likelihood", LIMITS),
    }


KINDS = ["reader's attention", "reader's likelihood", "seq2seq attention", "seq2seq likelihood", "causal likelihood"]


def model_of(scorer):
    return scorer.reader.model if hasattr(scorer, "reader") else scorer.model


# --- what every scorer keeps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_scores_follow_their_passages(kind, scorers):
    scores = scorers[kind].scores(QUESTION, PASSAGES, ANSWER)
    assert scores.shape == (3,) and np.isfinite(scores).all() and len(set(scores)) == 3
    for order in ([2, 0, 1], [1, 0, 2], [2, 1, 0]):
        moved = scorers[kind].scores(QUESTION, [PASSAGES[place] for place in order], ANSWER)
        assert np.array_equal(moved, scores[order])


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_left_in_training_drops_nothing(kind, scorers):
    scores = scorers[kind].scores(QUESTION, PASSAGES, ANSWER)
    model_of(scorers[kind]).train()
    assert np.array_equal(scorers[kind].scores(QUESTION, PASSAGES, ANSWER), scores)


@pytest.mark.parametrize("kind", KINDS)
def test_where_the_passages_matter(kind, scorers):
    alone = [float(scorers[kind].scores(QUESTION, [text], ANSWER)[0]) for text in PASSAGES]
    together = scorers[kind].scores(QUESTION, PASSAGES, ANSWER).tolist()
    if scorers[kind].together:
        assert all(one > shared for one, shared in zip(alone, together, strict=True))  # of one attention, a part
    else:
        assert together == alone


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_without_tokens_is_an_error(kind, scorers):
    with pytest.raises(DataError, match="expected some tokens, got none; drop the question"):
        scorers[kind].scores(QUESTION, PASSAGES, "")


# --- attention -----------------------------------------------------------------------------------------------------


def test_attention_by_hand():
    # One layer, one head, two answer tokens. Means of the two rows: 0.4 prompt, 0.1 and 0.2 passage 0, 0.1 a mark,
    # 0.2 passage 1. Passage 0 gets 0.3, passage 1 gets 0.2; of passage 2 nothing was read.
    rows = torch.tensor([[0.5, 0.1, 0.2, 0.1, 0.1], [0.3, 0.1, 0.2, 0.1, 0.3]])
    found = relevance.by_passage(rows[None, None], torch.tensor([-1, 0, 0, -1, 1]), 3)
    assert found[:2] == pytest.approx(np.log([0.3, 0.2]))
    assert found[2] == -INF


@given(st.integers(0, 1000), st.integers(1, 5))
def test_passages_share_what_the_prompt_does_not_get(seed, layers):
    attention = torch.rand(layers, 2, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    attention /= attention.sum(-1, keepdim=True)
    owner = torch.tensor([-1, 0, 0, 1, 1, -1])
    shares = np.exp(relevance.by_passage(attention, owner, 2))
    assert shares.sum() == pytest.approx(1 - attention[..., [0, 5]].sum(-1).mean().item())
    # More prompt or padding that nobody looks at changes nothing.
    padded = torch.cat([attention, torch.zeros(layers, 2, 3, 4, dtype=torch.float64)], dim=-1)
    longer = torch.cat([owner, torch.full((4,), -1)])
    assert np.exp(relevance.by_passage(padded, longer, 2)) == pytest.approx(shares)


def test_moving_the_answer_s_words_moves_the_attention(scorers):
    for kind in ("reader's attention", "seq2seq attention"):
        begin = "frames are kept in memory and "
        first = scorers[kind].scores(QUESTION, [begin + ANSWER, begin + "nothing else is said"], ANSWER)
        second = scorers[kind].scores(QUESTION, [begin + "nothing else is said", begin + ANSWER], ANSWER)
        assert first[0] == second[1] and first[1] == second[0] and first[0] != first[1]


def test_no_order_is_preferred_even_before_it_is_fixed(scorers):
    for kind in ("reader's attention", "seq2seq attention"):
        score = partial(type(scorers[kind]).scores.__wrapped__, scorers[kind])
        found = score(QUESTION, PASSAGES, ANSWER)
        assert score(QUESTION, PASSAGES[::-1], ANSWER)[::-1] == pytest.approx(found, abs=1e-3)


def test_the_reader_s_attention_is_that_of_its_pointer_on_the_passages_own_tokens(scorers):
    reader = scorers["reader's attention"].reader
    states, ids, mask = fid.collate(reader.pack([QUESTION], [PASSAGES[:2]]))
    answer = reader.tokenizer(ANSWER, add_special_tokens=False)["input_ids"]
    written = torch.tensor([[101, *answer[:-1]]])
    with torch.no_grad():
        keys = reader.model.keys(states.float(), ids)
        seen = reader.model._decode(written, states.float(), keys, mask)[1][0].mean(0)
    marks = (ids[0] == 102).nonzero()[:, 0].tolist()  # after question and passage, twice
    expected = [seen[marks[0] + 1 : marks[1]].sum(), seen[marks[2] + 1 : marks[3]].sum()]
    found = scorers["reader's attention"].scores(QUESTION, PASSAGES[:2], ANSWER)
    assert np.exp(found) == pytest.approx([e.item() for e in expected], rel=2e-2)  # states are kept in bfloat16


def test_what_the_question_gets_is_no_passage_s(scorers):
    scorer = scorers["seq2seq attention"]
    assert 0 < np.exp(scorer.scores(QUESTION, PASSAGES[:2], ANSWER)).sum() < 1


def test_a_passage_that_there_is_no_room_for_cannot_be_judged():
    owner = torch.full((3,), -1)
    assert relevance.by_passage(torch.full((1, 1, 1, 3), 1 / 3), owner, 1).tolist() == [-INF]


# --- likelihood ----------------------------------------------------------------------------------------------------


def test_token_log_likelihoods_by_hand():
    logits = torch.log(torch.tensor([[[0.2, 0.8], [0.5, 0.5]]]))
    found = relevance.token_log_likelihoods(logits, torch.tensor([[1, 0]]))
    assert found[0].tolist() == pytest.approx(np.log([0.8, 0.5]))


def token_by_token(model, words, passage) -> float:
    """Log-probability of the answer under a causal model, a forward pass for each token."""
    written = [101]
    for text in (passage, f"\n\nQuestion: {QUESTION}\nAnswer:"):
        written += words(text, add_special_tokens=False)["input_ids"]
    total = 0.0
    for token in words(f" {ANSWER}", add_special_tokens=False)["input_ids"]:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([written])).logits[0, -1]
        total += torch.log_softmax(logits, dim=-1)[token].item()
        written.append(token)
    return total


def written_by_t5(model, words, passage) -> float:
    """The same under an encoder-decoder."""
    source = []
    for text in (f"question: {QUESTION} context: ", passage):
        source += words(text, add_special_tokens=False)["input_ids"]
    written, total = [0], 0.0
    for token in words(ANSWER, add_special_tokens=False)["input_ids"]:
        with torch.no_grad():
            found = model(input_ids=torch.tensor([[*source, 102]]), decoder_input_ids=torch.tensor([written]))
        total += torch.log_softmax(found.logits[0, -1], dim=-1)[token].item()
        written.append(token)
    return total


@pytest.mark.parametrize(("make", "loop"), [(tiny_causal, token_by_token), (tiny_seq2seq, written_by_t5)])
def test_likelihood_is_that_of_a_loop_over_tokens(make, loop):
    model, words = make(), tokenizer()
    summed = relevance.of_model(model, words, "likelihood", Limits(64, 8, per_token=False))
    expected = [loop(model, words, passage) for passage in PASSAGES]
    assert summed.scores(QUESTION, PASSAGES, ANSWER) == pytest.approx(expected, rel=1e-5)
    tokens = len(words(ANSWER, add_special_tokens=False)["input_ids"])
    mean = relevance.of_model(model, words, "likelihood", LIMITS)
    assert mean.scores(QUESTION, PASSAGES, ANSWER) == pytest.approx(np.array(expected) / tokens, rel=1e-5)


@pytest.mark.parametrize("make", [tiny_causal, tiny_seq2seq])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("batch", [2, 3, 8])
def test_padding_and_batches_make_no_difference(make, side, batch):
    model, words = make(), tokenizer()
    one_by_one = relevance.of_model(model, words, "likelihood", LIMITS, batch=1).scores(QUESTION, PASSAGES, ANSWER)
    words.padding_side = words.truncation_side = side
    together = relevance.of_model(model, words, "likelihood", LIMITS, batch=batch)
    assert together.scores(QUESTION, PASSAGES, ANSWER) == pytest.approx(one_by_one, rel=1e-5)


def test_batches_are_of_one_shape_and_miss_nobody():
    rows = [torch.arange(1, length + 1) for length in (3, 20, 16, 5, 1)]
    batches = list(relevance._batches(rows, 2))
    assert [(numbers, ids.shape) for numbers, ids, _ in batches] == [
        ([0, 2], (2, 16)),
        ([3, 4], (2, 16)),
        ([1], (2, 32)),
    ]
    for numbers, ids, mask in batches:
        for number, row, seen in zip(numbers, ids, mask, strict=False):
            assert torch.equal(row[seen == 1], rows[number]) and (row[seen == 0] == 0).all()


def test_the_reader_s_likelihood_is_its_loss(reader):
    states, ids, mask = fid.collate(reader.pack([QUESTION], [PASSAGES[1:2]]))
    answer = reader.tokenizer(ANSWER, add_special_tokens=False)["input_ids"]
    found = reader.model.probabilities(
        torch.tensor([[101, *answer[:-1]]]), states.float(), reader.model.keys(states.float(), ids), ids, mask
    )
    expected = np.log([found[0, place, token].item() for place, token in enumerate(answer)])
    summed = relevance.of_reader(reader, "likelihood", per_token=False)
    assert summed.scores(QUESTION, PASSAGES[1:2], ANSWER)[0] == pytest.approx(expected.sum(), rel=1e-4)


def test_a_passage_that_says_the_answer_makes_it_likelier():
    """A causal model that has learnt to copy a little: two steps of training on the very texts are enough."""
    model, words = tiny_causal(), tokenizer()
    scorer = relevance.of_model(model, words, "likelihood", LIMITS)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    told = f"{PASSAGES[1]}\n\nQuestion: {QUESTION}\nAnswer: {ANSWER}"
    ids = torch.tensor([[101, *words(told, add_special_tokens=False)["input_ids"]]])
    for _ in range(30):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert scorer.scores(QUESTION, PASSAGES, ANSWER).argmax() == 1


# --- limits and loading --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
def test_the_passage_is_cut_and_the_question_is_not(kind):
    words = tokenizer()
    whole = relevance._prompted(words, kind, QUESTION, "word " * 20, 100)
    cut = relevance._prompted(words, kind, QUESTION, "word " * 200, 40)
    assert len(cut.ids) == 40 and whole.end - whole.begin == 20
    assert cut.ids[: cut.begin].tolist() == whole.ids[: whole.begin].tolist()
    assert cut.ids[cut.end :].tolist() == whole.ids[whole.end :].tolist()
    with pytest.raises(DataError, match=r"expected room for a passage in 10 tokens, got -?[0-9]+; raise max_input"):
        relevance._prompted(words, kind, QUESTION, "word", 10)


def test_equal_models_have_equal_fingerprints_and_others_do_not():
    words = tokenizer()
    base = relevance.of_model(tiny_causal(), words, "likelihood", LIMITS).fingerprint
    assert relevance.of_model(tiny_causal(), words, "likelihood", LIMITS, batch=7).fingerprint == base
    for other in (
        relevance.of_model(tiny_causal(seed=1), words, "likelihood", LIMITS),
        relevance.of_model(tiny_causal(), words, "likelihood", Limits(64, 8, per_token=False)),
        relevance.of_model(tiny_causal(), words, "likelihood", Limits(63, 8)),
    ):
        assert other.fingerprint != base


@pytest.mark.parametrize(("make", "signal"), [(tiny_causal, "likelihood"), (tiny_seq2seq, "attention")])
def test_a_saved_model_scores_the_same(make, signal, tmp_path):
    make().save_pretrained(tmp_path / "models" / "lm")
    tokenizer().save_pretrained(tmp_path / "models" / "lm")
    found = relevance.load("models/lm", signal, LIMITS, tmp_path)
    given_ = relevance.of_model(make(), tokenizer(), signal, LIMITS)
    assert np.array_equal(found.scores(QUESTION, PASSAGES, ANSWER), given_.scores(QUESTION, PASSAGES, ANSWER))
    assert found.fingerprint == given_.fingerprint


def test_a_saved_reader_is_known_by_its_folder(tmp_path, monkeypatch):
    fid.save(random_reader(seed=1), tmp_path / "models/generator")
    monkeypatch.setattr(fid, "_assemble", lambda config, root: random_reader(seed=1))
    found = relevance.load("models/generator", "attention", LIMITS, tmp_path)
    expected = relevance.of_reader(random_reader(seed=1), "attention").scores(QUESTION, PASSAGES, ANSWER)
    assert np.array_equal(found.scores(QUESTION, PASSAGES, ANSWER), expected)


def test_models_that_will_not_do_are_named(tmp_path):
    folder = tmp_path / "models" / "lm"
    tiny_causal().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    with pytest.raises(ConfigError, match=r"models/lm has no encoder; name a reader or an encoder-decoder"):
        relevance.load("models/lm", "attention", LIMITS, tmp_path)
    with pytest.raises(ConfigError, match="at most 128 tokens, as models/lm reads no more, got 129; lower max_input"):
        relevance.load("models/lm", "likelihood", Limits(121, 8), tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="models/lm: not a usable language model: "):
        relevance.load("models/lm", "likelihood", LIMITS, tmp_path)
