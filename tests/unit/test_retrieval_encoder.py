"""A vector is a function of its text alone, as the model's own files say; an index belongs to the passages' side."""

import copy
import logging
import shutil
import time
from dataclasses import replace

import huggingface_hub
import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, StaticEmbedding, Transformer
from transformers import AutoModel, AutoTokenizer

from ragline import repro
from ragline.builtin import model_folder
from ragline.errors import ConfigError, DataError, ModelError, ServiceError
from ragline.retrieval import encoder
from tests.fixtures.encoders import DIM, tiny_encoder, write_tiny_encoder
from tests.fixtures.small import passage

TEXTS = ["merge", "a much longer text about joining tables on a column " * 4, "concat frames", "x", "pivot a table"]
PASSAGES = [passage(f"a#{row:04d}", text) for row, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    model = tiny_encoder(tmp_path_factory.mktemp("tiny"))
    return encoder.pair(model, model)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A plain transformers folder: config.json, weights, tokenizer, nothing of sentence-transformers."""
    write_tiny_encoder(folder := tmp_path_factory.mktemp("plain"))
    return folder / "bare"


def states(bare, text):
    """(length, d) last hidden states by transformers alone."""
    with torch.inference_mode():
        found = AutoModel.from_pretrained(bare)(**AutoTokenizer.from_pretrained(bare)(text, return_tensors="pt"))
    return found.last_hidden_state[0].numpy()


def saved(bare, folder, pooling="mean", **settings):
    """A folder as sentence-transformers writes it, around the bare transformer."""
    modules = [Transformer(str(bare), max_seq_length=64), Pooling(DIM, pooling)]
    SentenceTransformer(modules=modules, device="cpu", **settings).save_pretrained(str(folder))
    return encoder.load(str(folder))


def unit(vector):
    return vector / np.linalg.norm(vector)


# --- what the model's files say --------------------------------------------------------------------


def test_a_plain_transformer_is_pooled_by_the_mean(bare):
    found = encoder.encode_passages(encoder.load(str(bare)), ["join two tables"])
    assert found[0] == pytest.approx(unit(states(bare, "join two tables").mean(axis=0)), abs=1e-5)


def test_a_cls_pooled_model_takes_the_first_token(bare, tmp_path):
    found = encoder.encode_passages(saved(bare, tmp_path, "cls"), ["join two tables"])
    assert found[0] == pytest.approx(unit(states(bare, "join two tables")[0]), abs=1e-5)


def test_prompts_saved_as_e5_does(bare, tmp_path):
    prompts = {"query": "query: ", "passage": "passage: "}
    found = saved(bare, tmp_path, prompts=prompts)
    plain = encoder.load(str(bare))
    asked, read = encoder.encode_questions(found, ["join"]), encoder.encode_passages(found, ["join"])
    assert np.array_equal(asked, encoder.encode_questions(plain, ["query: join"]))
    assert np.array_equal(read, encoder.encode_passages(plain, ["passage: join"]))
    assert not np.allclose(asked, read)


def test_texts_are_cut_where_the_model_says(tiny):
    start = "word " * 62  # and the marks at both ends: 64 tokens
    cut, whole = encoder.encode_passages(tiny, [start + "more that is not read", start])
    assert np.array_equal(cut, whole)
    assert encoder.token_counts(tiny.passages, [start + "more", "one"]) == [64, 3]


def test_rows_have_unit_length_where_the_model_does_not_normalise(bare, tmp_path):
    found = encoder.encode_passages(saved(bare, tmp_path), TEXTS)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-6)


def test_only_the_dimensions_the_model_keeps(bare, tmp_path):
    whole = encoder.encode_passages(encoder.load(str(bare)), ["join"])
    found = encoder.encode_passages(saved(bare, tmp_path, truncate_dim=8), ["join"])
    assert found.shape[1] in (8, DIM)  # sentence-transformers may or may not save it
    assert found[0] == pytest.approx(unit(whole[0, : found.shape[1]]), abs=1e-6)


def test_an_encoder_without_a_transformer_is_refused(bare, tmp_path):
    words = StaticEmbedding(AutoTokenizer.from_pretrained(bare), embedding_dim=4)
    SentenceTransformer(modules=[words], device="cpu").save_pretrained(str(tmp_path))
    with pytest.raises(ModelError, match=r"expected a transformer with a fast tokenizer, got StaticEmbedding"):
        encoder.load(str(tmp_path))


# --- models of the hub -----------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """No network, and a cache of one's own; its folder."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_a_hub_model_at_a_revision_comes_from_the_cache(bare, hub):
    commit = "0123456789abcdef0123456789abcdef01234567"
    home = hub / "models--org--some-model"
    shutil.copytree(bare, home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "v1.0").write_text(commit)
    assert model_folder("org/some-model@v1.0") == home / "snapshots" / commit
    assert model_folder(f"org/some-model@{commit}") == home / "snapshots" / commit
    found, plain = encoder.load("org/some-model@v1.0"), encoder.load(str(bare))
    assert found.fingerprint == plain.fingerprint
    with pytest.raises(ServiceError, match=r"^org/some-model@v2: cannot reach the hub"):
        encoder.load("org/some-model@v2")


def test_a_hub_out_of_reach_is_one_line_within_seconds(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    started = time.monotonic()
    with pytest.raises(ServiceError, match=r"^org/none-such: cannot reach the hub, .*: connect, or name another"):
        encoder.load("org/none-such")
    assert time.monotonic() - started < 10


# --- a function of the text alone ------------------------------------------------------------------


@pytest.mark.parametrize("encode", [encoder.encode_passages, encoder.encode_questions])
def test_order_changes_no_bit_and_number_no_more_than_rounding(tiny, encode):
    together = encode(tiny, TEXTS)
    assert np.array_equal(encode(tiny, TEXTS[::-1]), together[::-1])
    np.testing.assert_allclose(np.concatenate([encode(tiny, [text]) for text in TEXTS]), together, atol=1e-6)
    assert encode(tiny, []).shape == (0, DIM)


def test_a_model_left_in_training_drops_nothing(tiny):
    model = copy.deepcopy(tiny.passages).train()
    assert np.array_equal(
        encoder.encode_passages(encoder.pair(model, model), TEXTS), encoder.encode_passages(tiny, TEXTS)
    )


def test_in_batches_of_a_fixed_shape_as_on_a_gpu(tiny, monkeypatch):
    alone = encoder.encode_passages(tiny, TEXTS)
    monkeypatch.setattr(encoder, "_on_cpu", lambda: False)
    monkeypatch.setattr(encoder, "GPU_BATCH_TOKENS", 64)
    together = encoder.encode_passages(tiny, TEXTS)
    assert np.sum(together * alone, axis=1) == pytest.approx(1, abs=1e-6)
    assert np.array_equal(encoder.encode_passages(tiny, TEXTS[::-1]), together[::-1])
    assert np.array_equal(np.concatenate([encoder.encode_passages(tiny, [text]) for text in TEXTS]), together)


def test_threads_of_torch_are_as_before(tiny):
    before = torch.get_num_threads()
    encoder.encode_passages(tiny, TEXTS)
    assert torch.get_num_threads() == before


# --- the corpus ------------------------------------------------------------------------------------


@pytest.fixture
def encode(tiny, tmp_path, caplog):
    """Passages to their vectors, and what the log says of them."""

    def run(passages, store="store"):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            found = encoder.encode_corpus(tiny, passages, tmp_path / store, tmp_path / "out" / "vectors.npy")
        assert found.dtype == np.float32 and not found.flags.writeable
        return np.array(found), next(r.message for r in caplog.records if "from the store" in r.message)

    return run


@pytest.mark.slow
def test_only_what_changed_is_encoded_and_the_bytes_are_those_of_a_fresh_run(encode, tiny, tmp_path):
    first, said = encode(PASSAGES)
    assert said == "5 passages: 0 from the store, 5 encoded"
    assert np.sum(first * encoder.encode_passages(tiny, [p.encoded_text for p in PASSAGES]), axis=1) == pytest.approx(1)
    again, said = encode(PASSAGES)
    assert said == "5 passages: 5 from the store, 0 encoded" and np.array_equal(again, first)

    changed = [PASSAGES[4], PASSAGES[0], replace(PASSAGES[1], text="new words"), PASSAGES[3], PASSAGES[3]]
    kept, said = encode(changed)
    assert said == "5 passages: 4 from the store, 1 encoded"
    assert np.array_equal(kept[[0, 1, 3, 4]], first[[4, 0, 3, 3]])
    shutil.rmtree(tmp_path / "store")
    fresh, said = encode(changed)
    assert said == "5 passages: 0 from the store, 5 encoded" and np.array_equal(fresh, kept)


@pytest.mark.slow
def test_float16_comes_from_the_same_store(encode, tiny, tmp_path):
    first, _ = encode(PASSAGES)
    out = tmp_path / "half.npy"
    found = encoder.encode_corpus(tiny, PASSAGES, tmp_path / "store", out, "float16")
    assert found.dtype == np.float16 and np.array_equal(found, first.astype(np.float16))
    again, said = encode(PASSAGES)
    assert said == "5 passages: 5 from the store, 0 encoded" and np.array_equal(again, first)


@pytest.mark.slow
def test_a_damaged_store_changes_no_byte(encode, tmp_path):
    first, _ = encode(PASSAGES)
    (segment,) = (tmp_path / "store").glob("*/*.npy")
    data = bytearray(segment.read_bytes())
    data[-1] ^= 1
    segment.write_bytes(data)
    again, said = encode(PASSAGES)
    assert said == "5 passages: 0 from the store, 5 encoded" and np.array_equal(again, first)


class CutOff(list):
    """Passages that cannot be read to their end."""

    def __getitem__(self, row):
        if row == 4:
            raise KeyboardInterrupt
        return super().__getitem__(row)


@pytest.mark.slow
def test_what_was_encoded_before_an_interruption_is_kept(encode, monkeypatch, tmp_path):
    monkeypatch.setattr(encoder, "CPU_BLOCK", 2)
    with pytest.raises(KeyboardInterrupt):
        encode(CutOff(PASSAGES))
    assert list((tmp_path / "out").iterdir()) == []
    found, said = encode(PASSAGES)
    assert said == "5 passages: 4 from the store, 1 encoded"
    assert np.array_equal(found, encode(PASSAGES, "another store")[0])


def test_a_corpus_without_passages(encode):
    with pytest.raises(DataError, match="corpus: expected at least one passage, got none"):
        encode([])


# --- fingerprint -----------------------------------------------------------------------------------


def _weight(model):
    with torch.no_grad():
        model[0].model.encoder.layer[0].attention.self.query.weight[0, 0] += 1e-3


def _heads(model):
    model[0].model.config.num_attention_heads = 4


def _cls(model):
    model[1].pooling_mode = "cls"


def _not_normalised(model):
    model._modules.popitem()


def _cut(model):
    model.tokenizer.truncation_side = "left"


@pytest.mark.parametrize(
    "change",
    [
        _weight,
        _heads,
        _cls,
        _not_normalised,
        _cut,
        lambda model: setattr(model, "max_seq_length", 32),
        lambda model: setattr(model, "truncate_dim", 8),
        lambda model: model.prompts.update(document="passage: "),
    ],
)
def test_fingerprint_tells_what_changes_a_vector(tiny, change):
    model = copy.deepcopy(tiny.passages)
    assert encoder.fingerprint(model) == tiny.fingerprint
    change(model)
    assert encoder.fingerprint(model) != tiny.fingerprint


def test_fingerprint_survives_use_and_saving(tiny, tmp_path):
    encoder.encode_passages(tiny, TEXTS)
    assert encoder.fingerprint(tiny.passages) == tiny.fingerprint
    encoder.save(tiny, tmp_path / "mine")
    assert encoder.load("mine", tmp_path).fingerprint == tiny.fingerprint
    assert Normalize in map(type, encoder.load("mine", tmp_path).passages)


# --- the built-in model ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base():
    return encoder.load("builtin:minilm")


@pytest.fixture
def tuned(base):
    """The questions' side turned to its opposite: every vector of a question changes sign."""
    questions = encoder.load("builtin:minilm").questions
    with torch.no_grad():
        last = questions[0].model.encoder.layer[-1].output.LayerNorm
        last.weight.neg_()
        last.bias.neg_()
    return encoder.pair(questions, base.passages)


@pytest.mark.slow
def test_tuning_the_questions_side_leaves_passages_and_their_fingerprint(base, tuned):
    assert tuned.fingerprint == base.fingerprint
    assert encoder.pair(tuned.questions, tuned.questions).fingerprint != base.fingerprint


@pytest.mark.slow
def test_two_sides_survive_saving(base, tuned, tmp_path):
    encoder.save(tuned, tmp_path / "models" / "mine")
    found = encoder.load("models/mine", tmp_path)
    assert found.fingerprint == base.fingerprint
    asked = encoder.encode_questions(found, ["how to merge?"])
    assert asked @ encoder.encode_questions(base, ["how to merge?"])[0] == pytest.approx([-1], abs=0.01)
    assert np.array_equal(encoder.encode_passages(found, ["a b"]), encoder.encode_passages(base, ["a b"]))


@pytest.mark.slow
def test_one_side_survives_saving(base, tmp_path):
    encoder.save(base, tmp_path / "models" / "mine")
    found = encoder.load("models/mine", tmp_path)
    assert found.fingerprint == base.fingerprint and found.questions is found.passages


@pytest.mark.parametrize(("context", "tokens"), [("", 62), ("| one | two |\n", 57)])
def test_passages_that_the_encoder_cannot_read_to_their_end_are_refused(tiny, context, tokens):
    # It reads 64 tokens, two of them marks; the table's header takes five.
    longest = replace(passage("a#0000"), tokens=tokens, context=context)
    encoder.check_lengths(tiny, [longest])
    with pytest.raises(ConfigError, match=r"chunk\.max_tokens: expected at most 62, .*, got passages of up to 63"):
        encoder.check_lengths(tiny, [longest, replace(longest, tokens=tokens + 1)])


@pytest.mark.slow
def test_vectors_are_those_of_sentence_transformers(base):
    theirs = base.passages.encode(TEXTS, normalize_embeddings=True)
    cosines = np.sum(encoder.encode_passages(base, TEXTS) * theirs, axis=1)
    assert cosines.min() > 0.999


@pytest.fixture
def in_bfloat16(monkeypatch):
    """What a machine with bfloat16 does when nobody asks for float32, as the other tests do."""
    monkeypatch.delenv(repro.PRECISION)
    repro.uses_bfloat16.cache_clear()
    if not repro.uses_bfloat16():
        pytest.skip("this CPU has no bfloat16 instructions")
    yield
    repro.uses_bfloat16.cache_clear()


def test_bfloat16_stays_near_float32_and_repeats_its_bytes(in_bfloat16, monkeypatch):
    base = encoder.load("builtin:minilm")
    texts = [p.encoded_text for p in PASSAGES]
    ways = encoder.converted(base.passages), lambda some: encoder.encode_passages(base, some)
    found = [[way(texts), way(texts)] for way in ways]
    monkeypatch.setenv(repro.PRECISION, "float32")
    repro.uses_bfloat16.cache_clear()
    exact = encoder.encode_passages(base, texts)
    for once, again in found:
        assert once.tobytes() == again.tobytes()
        assert not np.array_equal(once, exact)
        assert np.sum(once * exact, axis=1).min() > 0.999


def test_precision_is_asked_for_by_name(monkeypatch):
    monkeypatch.setenv(repro.PRECISION, "half")
    repro.uses_bfloat16.cache_clear()
    with pytest.raises(ConfigError, match="RAGLINE_PRECISION: expected auto or float32, got 'half'"):
        repro.uses_bfloat16()
