"""Bi-encoders: load, fingerprint, encode."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Router

from ragline import inference, repro
from ragline.builtin import model_folder
from ragline.errors import ConfigError, ModelError
from ragline.io import Vectors, digest, read_vectors, whole_folder, write_vectors
from ragline.progress import track
from ragline.types import Passage

log = logging.getLogger(__name__)

BATCH_TOKENS = 8192
"""Tokens of one forward pass, padding included."""
BLOCK = 512
"""Texts encoded between two progress updates."""


@dataclass(frozen=True)
class Encoder:
    """A bi-encoder whose rows have unit length, so that inner product is cosine."""

    questions: SentenceTransformer
    passages: SentenceTransformer
    """The very same model as `questions`, unless only the question side was tuned."""
    fingerprint: str
    """sha256 over everything that changes a passage's vector: weights, tokenizer, modules, prompts, lengths."""

    @property
    def dim(self) -> int:
        size = self.passages.get_embedding_dimension()
        assert size is not None
        return size


def load(name: str, root: Path = Path()) -> Encoder:
    """Load a bi-encoder by builtin name, folder or hub id.

    Raises:
        ModelError: there is no such model, or it cannot be loaded.
    """
    where = model_folder(name, root)
    try:
        model = SentenceTransformer(str(where), device=str(repro.device()), model_kwargs={"dtype": torch.float32})
        if isinstance(model[0], Router):
            return pair(_route(model, "query"), _route(model, "document"))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{name}: not a usable bi-encoder: {' '.join(str(error).split())[:200]}") from error
    return pair(model.eval(), model)


def pair(questions: SentenceTransformer, passages: SentenceTransformer) -> Encoder:
    """Two models, or one twice, with the fingerprint of the passages' present weights."""
    return Encoder(questions, passages, fingerprint(passages))


def _route(model: SentenceTransformer, name: str) -> SentenceTransformer:
    """One side of a model that encodes queries and documents in different ways."""
    router, *rest = _modules(model)
    return _assembled([*router.sub_modules[name], *rest], model)


def _modules(model: SentenceTransformer) -> list[Any]:
    return list(model.children())


def _assembled(modules: list[Any], like: SentenceTransformer) -> SentenceTransformer:
    prompts: Any = like.prompts
    return SentenceTransformer(modules=modules, prompts=prompts, device=str(repro.device())).eval()


def save(encoder: Encoder, folder: Path) -> None:
    """Write the model in sentence-transformers' own form, safetensors and no model card with a date in it.

    Two different sides are written as one model with a `Router`.
    """
    model = encoder.questions
    if encoder.passages is not model:
        model = _assembled([Router.for_query_document(_modules(model), _modules(encoder.passages))], model)
    with whole_folder(folder) as part:
        model.save_pretrained(str(part), create_model_card=False)


def fingerprint(model: SentenceTransformer) -> str:
    """sha256 over weights, tokenizer, modules, prompts and the maximum length of a model."""
    parts: list[str | bytes] = [str(model), str(model.prompts), str(model.max_seq_length)]
    tokenizer = json.loads(model.tokenizer.backend_tokenizer.to_str())
    parts.append(json.dumps(tokenizer | {"padding": None, "truncation": None}))  # these two are only its last use
    for name, tensor in sorted(model.state_dict().items()):
        parts += [name, str(tensor.dtype), tensor.detach().cpu().contiguous().numpy().tobytes()]
    return digest(*parts)


def check_lengths(encoder: Encoder, passages: Sequence[Passage]) -> None:
    """Make sure that the encoder reads every passage to its end; a long title before it may still cost a few words.

    Raises:
        ConfigError: a passage alone is longer than what the encoder reads.
    """
    limit = int(encoder.passages.max_seq_length or 0) - 2  # the marks at both ends
    longest = max((p.tokens for p in passages), default=0)
    if 0 < limit < longest:
        raise ConfigError(
            f"chunk.max_tokens: expected at most {limit}, what the encoder reads of a passage, got passages of up to "
            f"{longest} tokens; lower it in params.yaml"
        )


def encode_questions(encoder: Encoder, questions: Sequence[str]) -> Vectors:
    """Encode questions, with the model's query prompt where it has one.

    Returns:
        (n, d) float32, rows of unit length.
    """
    return _encode(encoder.questions, questions, "query", "encoding questions")


def encode_passages(encoder: Encoder, texts: Sequence[str]) -> Vectors:
    """Encode passages' `encoded_text`, with the model's document prompt where it has one.

    Returns:
        (n, d) float32, rows of unit length.

    Raises:
        ModelError: the encoder gives numbers that are not finite.
    """
    return _encode(encoder.passages, texts, "document", "encoding passages")


def encode_corpus(encoder: Encoder, passages: Sequence[Passage], store: Path) -> Vectors:
    """Encode a whole corpus, or take its vectors from the store if these very ones were made before.

    The key covers the encoder, how it is run and every text in order, so the store can only save time, never change a
    byte.
    """
    way = (str(BATCH_TOKENS), str(repro.device()), str(repro.has_bfloat16()), str(inference.pays(len(passages))))
    key = digest(encoder.fingerprint, *way, *(p.encoded_text for p in passages))
    path = store / f"{key}.npy"
    if path.exists():
        log.info("vectors of %d passages taken from the store", len(passages))
        return read_vectors(path)
    vectors = encode_passages(encoder, [p.encoded_text for p in passages])
    write_vectors(vectors, path)
    return vectors


def _encode(model: SentenceTransformer, texts: Sequence[str], task: str, what: str) -> Vectors:
    """Longest first, so that a batch holds texts of like length and memory peaks at once, not at the end."""
    vectors = np.empty((len(texts), model.get_embedding_dimension() or 0), dtype=np.float32)
    lengths = _token_counts(model, texts)
    order = sorted(range(len(texts)), key=lambda row: -lengths[row])
    blocks = [order[start : start + BLOCK] for start in range(0, len(order), BLOCK)]
    encode = model.encode_query if task == "query" else model.encode_document
    with inference.accelerated(model, len(texts)):
        for rows in track(blocks, len(blocks), f"{what} ({BLOCK} a step)"):
            block = encode(
                [texts[row] for row in rows],
                batch_size=max(1, BATCH_TOKENS // lengths[rows[0]]),
                show_progress_bar=False,
                convert_to_tensor=True,
            )
            vectors[rows] = block.float().cpu().numpy()
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(norms).all() or (norms == 0).any():
        raise ModelError("encoder: expected finite vectors, got NaN, infinite or zero ones; use another model")
    vectors /= norms
    return vectors


def _token_counts(model: SentenceTransformer, texts: Sequence[str]) -> list[int]:
    """Tokens of every text, the special ones included, none counted beyond what the model reads."""
    counts: list[int] = []
    for start in range(0, len(texts), BLOCK):
        block = list(texts[start : start + BLOCK])
        ids = model.tokenizer(block, truncation=True, max_length=model.max_seq_length)["input_ids"]
        counts += map(len, ids)
    return counts
