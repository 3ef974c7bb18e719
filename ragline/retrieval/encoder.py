"""Bi-encoders: load, fingerprint, encode.

A vector is a function of its text alone: on a CPU every text runs by itself, on a GPU in batches of a fixed shape.
Which texts are encoded along with it, in what order and how many, changes no bit of it, so vectors can be kept singly.
"""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Router, Transformer

from ragline import inference, repro
from ragline.builtin import model_folder
from ragline.errors import ConfigError, DataError, ModelError
from ragline.io import Vectors, digest, read_vectors, whole_file, whole_folder
from ragline.parallel import batched
from ragline.progress import track
from ragline.retrieval import store as vector_store
from ragline.types import Passage

log = logging.getLogger(__name__)

Task = Literal["query", "document"]
PROMPTS: dict[Task, tuple[str, ...]] = {"query": ("query",), "document": ("document", "passage", "corpus")}
"""Names under which models save the prompt of each side, E5 and its kin `passage`."""

GPU_BATCH_TOKENS = 16_384
"""Tokens of one forward pass on a GPU, padding included."""
GPU_LENGTH_STEP = 16
"""There, lengths are padded to a multiple of it."""
ALIKE = 16
"""Texts of one length that a CPU's thread runs together."""
CPU_BLOCK, GPU_BLOCK = 256, 8192
"""Passages between two progress updates, and what a killed run encodes again at most."""
NOT_OF_A_VECTOR = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache"}
"""Entries of a transformer's config that say where it comes from."""


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
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{name}: not a usable bi-encoder: {' '.join(str(error).split())[:200]}") from error
    routed = isinstance(model[0], Router)
    sides = [_route(model, "query"), _route(model, "document")] if routed else [model.eval(), model]
    for side in sides:
        if not isinstance(side[0], Transformer) or not hasattr(side.tokenizer, "backend_tokenizer"):
            raise ModelError(
                f"{name}: expected a transformer with a fast tokenizer, got {type(side[0]).__name__} with "
                f"{type(side.tokenizer).__name__}; name another model in params.yaml"
            )
    return pair(*sides)


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
    """sha256 over all of a model that changes a vector.

    That is: weights and buffers, the transformer's configuration, the modules after it and their settings (pooling,
    normalisation), prompts, tokenizer, lengths, and how many dimensions are kept.
    """
    parts: list[str | bytes] = [_text(model.prompts), _text([model.max_seq_length, model.truncate_dim])]
    for module in _modules(model):
        parts += [type(module).__name__, _text(module.get_config_dict())]
    transformer: Any = model[0]
    config = transformer.model.config.to_dict()
    parts.append(_text({key: value for key, value in config.items() if key not in NOT_OF_A_VECTOR}))
    tokenizer: Any = model.tokenizer
    parts += [tokenizer.truncation_side, _text(getattr(tokenizer, "chat_template", None))]
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    parts.append(json.dumps(rules | {"padding": None, "truncation": None}))  # these two are only its last use
    for name, tensor in sorted(model.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        parts += [name, f"{plain.dtype} {tuple(plain.shape)}", plain.view(-1).view(torch.uint8).numpy().tobytes()]
    return digest(*parts)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def check_lengths(encoder: Encoder, passages: Sequence[Passage]) -> None:
    """Make sure that the encoder reads every passage to its end; a long title before it may still cost a few words.

    Raises:
        ConfigError: a passage, with the table header that it repeats, is longer than what the encoder reads.
    """
    tokenizer: Any = encoder.passages.tokenizer
    limit = int(encoder.passages.max_seq_length or 0) - 2  # the marks at both ends
    contexts = {"": 0}  # few: all passages of a table have one
    longest = 0
    for passage in passages:
        if passage.context not in contexts:
            contexts[passage.context] = len(tokenizer.tokenize(passage.context))
        longest = max(longest, passage.tokens + contexts[passage.context])
    if 0 < limit < longest:
        raise ConfigError(
            f"chunk.max_tokens: expected at most {limit}, what the encoder reads of a passage, got passages of up to "
            f"{longest} tokens, the table headers that they repeat included; lower it in params.yaml"
        )


def encode_questions(encoder: Encoder, questions: Sequence[str]) -> Vectors:
    """Encode questions, with the model's query prompt where it has one.

    Returns:
        (n, d) float32, rows of unit length.

    Raises:
        ModelError: the encoder gives numbers that are not finite.
    """
    return _unit(_in_torch(encoder.questions, questions, "query"))


def encode_passages(encoder: Encoder, texts: Sequence[str]) -> Vectors:
    """Encode passages' `encoded_text`, with the model's document prompt where it has one.

    Returns:
        (n, d) float32, rows of unit length.

    Raises:
        ModelError: the encoder gives numbers that are not finite.
    """
    return _unit(_in_torch(encoder.passages, texts, "document"))


def encode_corpus(
    encoder: Encoder, passages: Sequence[Passage], store: Path, out: Path, dtype: npt.DTypeLike = np.float32
) -> Vectors:
    """Write the vectors of a corpus, row i for the i-th passage; what the store holds is not encoded again.

    The store can only save time: with or without it, and wherever an earlier run was interrupted, `out` gets the same
    bytes. On a CPU the vectors come from OpenVINO, at a cosine of 0.9999 or more to `encode_passages`. Memory holds the
    keys (32 bytes a passage and the like for their order) and one block of texts.

    Args:
        store: folder of the vector store.
        out: the `.npy` to write, (n, d), rows of unit length; whole or absent.
        dtype: float32, or float16 for a file half as large. The store keeps float32, so it serves both.

    Returns:
        `out`, memory-mapped.

    Raises:
        DataError: there are no passages.
        ModelError: the encoder gives numbers that are not finite, or OpenVINO cannot run it.
        ServiceError: the disk refused.
    """
    if not passages:
        raise DataError("corpus: expected at least one passage, got none; check the sources in params.yaml")
    keys = vector_store.text_keys(p.encoded_text for p in passages)
    rows = vector_store.Rows(keys)
    shelf = vector_store.shelf(store, _shelf_name(encoder), encoder.dim)
    with whole_file(out) as part:
        shape = (len(passages), encoder.dim)
        sheet = _Sheet(np.lib.format.open_memmap(part, mode="w+", dtype=dtype, shape=shape), rows)
        for known, vectors in shelf.segments():
            sheet.place(known, vectors)
        new = int(sheet.absent.sum())
        log.info("%d passages: %d from the store, %d encoded", len(passages), len(passages) - new, new)
        for block, vectors in _encoded(encoder.passages, passages, sheet.wanted()):
            shelf.add(keys[block], vectors)
            sheet.place(keys[block], vectors)
        sheet.vectors.flush()
    shelf.tidy(rows.firsts[0])
    return read_vectors(out)


class _Sheet:
    """The vectors of a corpus while they come in, (n, d), and which rows are still absent, (n,)."""

    def __init__(self, vectors: np.memmap[Any, np.dtype[Any]], rows: vector_store.Rows) -> None:
        self.vectors = vectors
        self.rows = rows
        self.absent = np.ones(len(vectors), dtype=bool)

    def place(self, keys: vector_store.Keys, vectors: Vectors) -> None:
        positions, places = self.rows.of(keys)
        self.vectors[places] = vectors[positions]
        self.absent[places] = False

    def wanted(self) -> npt.NDArray[np.int64]:
        """Absent rows in order, one for each text."""
        firsts = self.rows.firsts[1]
        return np.sort(firsts[self.absent[firsts]])


def _encoded(
    model: SentenceTransformer, passages: Sequence[Passage], wanted: npt.NDArray[np.int64]
) -> Iterator[tuple[npt.NDArray[np.int64], Vectors]]:
    """Blocks of the wanted rows with their unit vectors."""
    if not len(wanted):  # a conversion takes seconds
        return
    encode = converted(model) if _on_cpu() else lambda texts: _in_torch(model, texts, "document")
    size = CPU_BLOCK if _on_cpu() else GPU_BLOCK
    blocks = [wanted[start : start + size] for start in range(0, len(wanted), size)]
    for block in track(blocks, len(blocks), f"encoding passages ({size} a step)"):
        yield block, _unit(encode([passages[row].encoded_text for row in block]))


def _shelf_name(encoder: Encoder) -> str:
    sizes = f"{GPU_BATCH_TOKENS} {GPU_LENGTH_STEP}"
    return digest(encoder.fingerprint, _prompt(encoder.passages, "document"), inference.arithmetic(), sizes)


def _on_cpu() -> bool:
    return repro.device().type == "cpu"


def _prompt(model: SentenceTransformer, task: Task) -> str:
    """The first of the task's prompts that says something.

    The library's own choice stops at `document`, which it adds, empty, to every model: E5's `passage` is then ignored.
    """
    prompts: Any = model.prompts
    return next((prompts[name] for name in PROMPTS[task] if prompts.get(name)), "")


def _features(
    model: SentenceTransformer, texts: Sequence[str], task: Task, length: int | None = None
) -> dict[str, Any]:
    """What the model takes for some texts, padded to `length` where given, else to the longest."""
    padding: dict[str, Any] = {"padding": "max_length", "max_length": length} if length else {}
    return model.preprocess(list(texts), prompt=_prompt(model, task), task=task, processing_kwargs={"text": padding})


def _of_one_length(model: SentenceTransformer, texts: Sequence[str]) -> list[list[int]]:
    """Rows in groups of one length, longest first: unpadded, so neighbours change a vector by rounding at most."""
    rows_of: dict[int, list[int]] = {}
    for row, length in enumerate(token_counts(model, texts)):
        rows_of.setdefault(length, []).append(row)
    return [group for _, rows in sorted(rows_of.items(), reverse=True) for group in batched(rows, ALIKE)]


def converted(model: SentenceTransformer) -> Callable[[Sequence[str]], Vectors]:
    """The encoder converted; it takes passages and gives (n, d) float32, of any length."""
    run = inference.OpenVinoEncoder(model.eval(), _features(model, ["any"], "document").get("prompt_length", 0))
    return lambda texts: run(_features(model, [text], "document") for text in texts)


def _in_torch(model: SentenceTransformer, texts: Sequence[str], task: Task) -> Vectors:
    """(n, d) float32, of any length; matrix products in bfloat16 where the device has it."""
    model.eval()  # one in training drops states at random
    vectors = np.empty((len(texts), model.get_embedding_dimension() or 0), dtype=np.float32)
    what = f"encoding {'questions' if task == 'query' else 'passages'}"
    if _on_cpu():
        groups = _of_one_length(model, [_prompt(model, task) + text for text in texts])
        found = inference.side_by_side(model, (_features(model, [texts[row] for row in rows], task) for rows in groups))
        for rows, some in zip(groups, track(found, len(groups), f"{what}, groups"), strict=True):
            vectors[rows] = some
        return vectors
    batches = list(_batches(model, [_prompt(model, task) + text for text in texts]))
    for rows, length, size in track(batches, len(batches), f"{what}, batches"):
        # A batch that is not full is filled up, as the number of rows decides which kernels run.
        filled = [texts[row] for row in rows] + [texts[rows[-1]]] * (size - len(rows))
        vectors[rows] = inference.forward(model, _features(model, filled, task, length))[: len(rows)]
    return vectors


def _batches(model: SentenceTransformer, texts: Sequence[str]) -> Iterator[tuple[list[int], int, int]]:
    """Batches of like length, longest first: rows, the length they are padded to, and the rows of a full batch."""
    limit = model.max_seq_length or 0
    groups: dict[int, list[int]] = {}
    for row, tokens in enumerate(token_counts(model, texts)):
        padded = -(-tokens // GPU_LENGTH_STEP) * GPU_LENGTH_STEP
        groups.setdefault(max(tokens, min(padded, limit)), []).append(row)
    for length, rows in sorted(groups.items(), reverse=True):
        size = max(1, GPU_BATCH_TOKENS // length)
        for start in range(0, len(rows), size):
            yield rows[start : start + size], length, size


def token_counts(model: SentenceTransformer, texts: Sequence[str]) -> list[int]:
    """Tokens of every text, the special ones included, none counted beyond what the model reads."""
    counts: list[int] = []
    for start in range(0, len(texts), GPU_BLOCK):
        block = list(texts[start : start + GPU_BLOCK])
        ids = model.tokenizer(block, truncation=True, max_length=model.max_seq_length)["input_ids"]
        counts += map(len, ids)
    return counts


def _unit(vectors: Vectors) -> Vectors:
    """Rows brought to unit length.

    Raises:
        ModelError: a row is not finite, or zero.
    """
    # Row by row and in float64, so that the sum does not depend on how many rows there are.
    norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))[:, None]
    if not np.isfinite(norms).all() or (norms == 0).any():
        raise ModelError("encoder: expected finite vectors, got NaN, infinite or zero ones; use another model")
    unit: Vectors = (vectors / norms).astype(np.float32)
    return unit
