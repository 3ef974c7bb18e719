"""How relevant each passage is, by what a reader or a language model makes of it while it gives the gold answer.

Two signals. *Attention*: a fusion-in-decoder reader reads all passages at once and is made to write the answer; a
passage counts by how much its tokens are attended to. *Likelihood*: a model reads each passage by itself; a passage
counts by how probable it makes the answer.

A score is a function of the scorer, the question, the answer, the passage and, for attention, the passages beside it in
any order; of nothing else, down to the last bit on one machine. So scores can be kept singly.

Sources: Izacard and Grave, Distilling Knowledge from Reader to Retriever for Question Answering, ICLR 2021, section 3;
Shi et al., REPLUG: Retrieval-Augmented Black-Box Language Models, NAACL 2024, section 4.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_outputs import BaseModelOutput

from ragline import io, repro
from ragline.builtin import model_folder
from ragline.errors import ConfigError, DataError, ModelError
from ragline.generation import fid, prompts
from ragline.generation.fid import FusionInDecoder, Reader

Signal = Literal["attention", "likelihood"]
Scores = npt.NDArray[np.float64]
S = TypeVar("S")

PROMPTS = {
    "seq2seq": prompts.FUSION,
    "causal": "{passage}\n\nQuestion: {question}\nAnswer:",
}
"""What a model reads before it gives the answer; the first is fusion-in-decoder's own."""
GPU_BATCH = 16
"""Passages of one forward pass on a GPU; on a CPU each runs by itself."""
LENGTH_STEP = 16
"""In batches, lengths are padded to a multiple of it."""


class Scorer(Protocol):
    """A model that tells how much passages help to give an answer."""

    @property
    def fingerprint(self) -> str:
        """sha256 over everything that decides a score but the texts."""
        ...

    @property
    def together(self) -> bool:
        """Whether a passage's score depends on the passages beside it."""
        ...

    def scores(self, question: str, passages: Sequence[str], answer: str) -> Scores:
        """(n_passages,) float64, higher is more relevant; -inf for a passage of which nothing was read.

        Raises:
            DataError: the answer has no tokens, or leaves no room for a passage.
        """
        ...


@dataclass(frozen=True)
class Limits:
    """How much is read, and how the answer's tokens count."""

    max_input_tokens: int
    """Prompt, question and passage together; the passage is cut, never the question."""
    max_answer_tokens: int
    per_token: bool = True
    """Whether a likelihood is the mean over the answer's tokens, else their sum."""


def code() -> str:
    """Digest of the modules that decide a score."""
    return io.digest(io.file_digest(Path(__file__)), io.file_digest(Path(fid.__file__)))


def by_passage(attention: Tensor, owner: Tensor, passages: int) -> Scores:
    """How much of the attention each passage gets, on average over layers, heads and answer tokens.

    The sum over its tokens, not their mean: so it is a share of one whole, and what a passage says in few words out of
    many counts in full. Tokens of no passage (prompt, question, marks, padding) take their attention with them.

    Args:
        attention: (layers, heads, t, s), each row of s summing to 1.
        owner: (s,) int64: number of the passage that a token belongs to, -1 for none.
        passages: how many there are.

    Returns:
        (passages,) float64: logarithms, so that a softmax gives shares again; -inf for a passage without tokens.
    """
    per_token = attention.double().mean(dim=(0, 1, 2)).cpu()  # (s,)
    inside = owner >= 0
    total = torch.zeros(passages, dtype=torch.float64).index_add_(0, owner[inside], per_token[inside])
    found: Scores = torch.log(total).numpy()
    return found


def token_log_likelihoods(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probability of each token under the logits that stand for it.

    Args:
        logits: (batch, t, vocabulary).
        tokens: (batch, t) int64.

    Returns:
        (batch, t) float64.
    """
    return torch.log_softmax(logits.double(), dim=-1).gather(2, tokens[:, :, None])[:, :, 0]


def _in_one_order(
    score: Callable[[S, str, Sequence[str], str], Scores],
) -> Callable[[S, str, Sequence[str], str], Scores]:
    """Passages are read in the order of their texts: the order in which they are given changes no bit."""

    @wraps(score)
    def scores(scorer: S, question: str, passages: Sequence[str], answer: str) -> Scores:
        order = sorted(range(len(passages)), key=lambda place: passages[place])
        found = np.empty(len(passages))
        found[order] = score(scorer, question, [passages[place] for place in order], answer)
        return found

    return scores


# --- the small reader of this project ------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReaderAttention:
    """What the reader's pointer looks at: the attention by which it copies words of the passages into the answer.

    Its decoder's cross-attention hardly tells passages apart; figures are in docs/decisions/0018-distillation.md.
    """

    reader: Reader
    fingerprint: str
    together: bool = True

    @_in_one_order
    @torch.inference_mode()
    def scores(self, question: str, passages: Sequence[str], answer: str) -> Scores:
        """As `Scorer.scores`."""
        model, tokenizer = self.reader.model, self.reader.tokenizer
        model.eval()
        device = next(model.parameters()).device
        tokens = _answer_tokens(tokenizer, answer, self.reader.config.max_answer_tokens).to(device)
        packed = [self.reader.pack([question], [[passage]])[0] for passage in passages]
        asked = len(_plain(tokenizer, question)) + 2  # the marks around the question
        owner = torch.cat([_owned(number, asked, len(ids) - 1, len(ids)) for number, (_, ids) in enumerate(packed)])
        states = torch.cat([piece for piece, _ in packed])[None].float().to(device)
        ids = torch.cat([found for _, found in packed])[None].to(device)
        start = tokens.new_full((1, 1), model.encoder.config.start_token_id)
        return by_passage(pointer(model, torch.cat([start, tokens[:, :-1]], dim=1), states, ids), owner, len(passages))


def pointer(model: FusionInDecoder, written: Tensor, states: Tensor, source_ids: Tensor) -> Tensor:
    """Where the pointer looks for the token after each one written; no token is padding.

    Args:
        written: (1, t) int64.
        states: (1, s, d), all passages one after the other.
        source_ids: (1, s) int64, the tokens behind the states.

    Returns:
        (1, 1, t, s), one layer and one head, each row summing to 1.
    """
    hidden = model.decoder(
        input_ids=written, encoder_hidden_states=states, encoder_attention_mask=torch.ones_like(source_ids)
    ).last_hidden_state
    match = model.pointer_query(hidden) @ model.keys(states, source_ids).transpose(1, 2)
    return torch.softmax(match.float() / hidden.shape[-1] ** 0.5, dim=-1)[:, None]


@dataclass(frozen=True)
class ReaderLikelihood:
    """Log-probability of the answer under the reader, each passage read alone."""

    reader: Reader
    per_token: bool
    fingerprint: str
    together: bool = False

    @torch.inference_mode()
    def scores(self, question: str, passages: Sequence[str], answer: str) -> Scores:
        """As `Scorer.scores`."""
        model = self.reader.model
        model.eval()
        device = next(model.parameters()).device
        tokens = _answer_tokens(self.reader.tokenizer, answer, self.reader.config.max_answer_tokens).to(device)
        found = []
        for passage in passages:
            states, ids, mask = (x.to(device) for x in fid.collate(self.reader.pack([question], [[passage]])))
            found.append(-model(states.float(), ids, mask, tokens)["loss"].item())
        return np.array(found) * (1 if self.per_token else tokens.shape[1])


# --- any model from transformers -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seq2SeqAttention:
    """Attention of an encoder-decoder's decoder on passages that its encoder has read one by one."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    limits: Limits
    fingerprint: str
    together: bool = True

    @_in_one_order
    @torch.inference_mode()
    def scores(self, question: str, passages: Sequence[str], answer: str) -> Scores:
        """As `Scorer.scores`."""
        model: Any = self.model
        model.eval()
        tokens = _answer_tokens(self.tokenizer, answer, self.limits.max_answer_tokens).to(model.device)
        inputs = [_prompted(self.tokenizer, "seq2seq", question, p, self.limits.max_input_tokens) for p in passages]
        owner = torch.cat([_owned(number, x.begin, x.end, len(x.ids)) for number, x in enumerate(inputs)])
        encode = model.get_encoder()
        states = [encode(input_ids=x.ids[None].to(model.device)).last_hidden_state[0] for x in inputs]
        joined = torch.cat(states)[None]
        found = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=joined),
            attention_mask=torch.ones(joined.shape[:2], dtype=torch.long, device=model.device),
            labels=tokens,
            output_attentions=True,
        )
        return by_passage(torch.cat(found.cross_attentions), owner, len(passages))


@dataclass(frozen=True)
class LanguageModel:
    """Log-probability of the answer under a causal or an encoder-decoder model, each passage read alone."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    limits: Limits
    fingerprint: str
    batch: int
    """Passages of one forward pass."""
    together: bool = False

    @torch.inference_mode()
    def scores(self, question: str, passages: Sequence[str], answer: str) -> Scores:
        """As `Scorer.scores`."""
        seq2seq = bool(self.model.config.is_encoder_decoder)
        model: Any = self.model
        model.eval()
        tokens = _answer_tokens(self.tokenizer, answer if seq2seq else f" {answer}", self.limits.max_answer_tokens)
        room = self.limits.max_input_tokens
        sources = [
            _prompted(self.tokenizer, "seq2seq" if seq2seq else "causal", question, passage, room).ids
            for passage in passages
        ]
        if not seq2seq:
            sources = [torch.cat([ids, tokens[0]]) for ids in sources]
        per_token = np.empty((len(sources), tokens.shape[1]))
        for rows, ids, mask in _batches(sources, self.batch):
            there = {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device)}
            answers = tokens.repeat(len(ids), 1).to(model.device)
            logits = model(**there, labels=answers).logits if seq2seq else model(**there).logits
            if not seq2seq:  # the logits before a token stand for it
                first = mask.sum(1, keepdim=True) - answers.shape[1] - 1
                places = (first + torch.arange(answers.shape[1])).to(logits.device)
                logits = logits.gather(1, places[:, :, None].expand(-1, -1, logits.shape[2]))
            per_token[rows] = token_log_likelihoods(logits, answers).cpu().numpy()[: len(rows)]
        found: Scores = per_token.mean(axis=1) if self.limits.per_token else per_token.sum(axis=1)
        return found


@dataclass(frozen=True)
class _Prompted:
    """A prompt as tokens, (length,) int64, and where in it the passage stands."""

    ids: Tensor
    begin: int
    end: int


def _prompted(
    tokenizer: PreTrainedTokenizerBase, kind: Literal["seq2seq", "causal"], question: str, passage: str, limit: int
) -> _Prompted:
    """The parts of a prompt are tokenized one by one, so that it is known which token is the passage's.

    Raises:
        DataError: the question alone is longer than the limit.
    """
    before, after = (part.format(question=question) for part in PROMPTS[kind].split("{passage}"))
    head, body, tail = (_plain(tokenizer, text) for text in (before, passage, after))
    mark = tokenizer.bos_token_id if kind == "causal" else tokenizer.eos_token_id
    if mark is not None:
        head, tail = ([mark, *head], tail) if kind == "causal" else (head, [*tail, mark])
    room = limit - len(head) - len(tail)
    if room < 1:
        raise DataError(
            f"question {question[:40]!r}: expected room for a passage in {limit} tokens, got {room}; "
            "raise max_input_tokens"
        )
    body = body[:room]
    return _Prompted(torch.tensor([*head, *body, *tail], dtype=torch.long), len(head), len(head) + len(body))


def _plain(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
    return ids


def _answer_tokens(tokenizer: PreTrainedTokenizerBase, answer: str, limit: int) -> Tensor:
    """(1, t) int64 without an end mark."""
    ids = _plain(tokenizer, answer)[:limit]
    if not ids:
        raise DataError(f"answer {answer[:40]!r}: expected some tokens, got none; drop the question")
    return torch.tensor([ids], dtype=torch.long)


def _owned(number: int, begin: int, end: int, length: int) -> Tensor:
    """(length,) int64: the passage's number from `begin` to `end`, else -1."""
    owner = torch.full((length,), -1, dtype=torch.long)
    owner[begin:end] = number
    return owner


def _batches(rows: Sequence[Tensor], size: int) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Rows of like length together: their numbers, ids (b, length) and mask (b, length), padded on the right.

    With more than one to a batch, lengths are rounded up and a batch is filled up by its last row, as the shape of a
    batch decides how a row in it is rounded.
    """
    groups: dict[int, list[int]] = {}
    for number, ids in enumerate(rows):
        length = len(ids) if size == 1 else -(-len(ids) // LENGTH_STEP) * LENGTH_STEP
        groups.setdefault(length, []).append(number)
    for length, numbers in sorted(groups.items()):
        for start in range(0, len(numbers), size):
            chosen = numbers[start : start + size]
            filled = chosen + [chosen[-1]] * (size - len(chosen))
            ids = torch.stack([nn.functional.pad(rows[n], (0, length - len(rows[n]))) for n in filled])
            lengths = torch.tensor([len(rows[n]) for n in filled])
            yield chosen, ids, (torch.arange(length) < lengths[:, None]).long()


# --- loading -------------------------------------------------------------------------------------------------------


def of_reader(reader: Reader, signal: Signal, per_token: bool = True) -> Scorer:
    """A scorer from a trained reader."""
    digest = _fingerprint(reader.model, reader.tokenizer, signal, asdict(reader.config), per_token)
    if signal == "likelihood":
        return ReaderLikelihood(reader, per_token, digest)
    return ReaderAttention(reader, digest)


def load(name: str, signal: Signal, limits: Limits, root: Path = Path()) -> Scorer:
    """A scorer from a trained reader's folder, or a language model by folder or hub id.

    Raises:
        ModelError: there is no such model, or it cannot be loaded.
        ConfigError: it has no cross-attention to look at, or reads less than the limits ask for.
    """
    if (root / name / fid.CONFIG).is_file():
        return of_reader(fid.load(root / name, root), signal, limits.per_token)
    where = model_folder(name, root)
    try:
        config = AutoConfig.from_pretrained(where)
        kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        options = {"attn_implementation": "eager"} if signal == "attention" else {}
        model = kind.from_pretrained(where, dtype=torch.float32, use_safetensors=True, **options)
        tokenizer = AutoTokenizer.from_pretrained(where)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{name}: not a usable language model: {' '.join(str(error).split())[:200]}") from error
    if signal == "attention" and not config.is_encoder_decoder:
        raise ConfigError(
            f"train_retriever.distil.scorer: dca looks at a decoder's attention on what an encoder read, and {name} "
            "has no encoder; name a reader or an encoder-decoder, or set method: rpg"
        )
    reads = getattr(config, "max_position_embeddings", None)
    wanted = limits.max_input_tokens + (0 if config.is_encoder_decoder else limits.max_answer_tokens)
    if reads is not None and wanted > reads:
        raise ConfigError(
            f"train_retriever.distil: expected input and answer of at most {reads} tokens, as {name} reads no more, "
            f"got {wanted}; lower max_input_tokens"
        )
    return of_model(model.to(repro.device()), tokenizer, signal, limits)


def of_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    signal: Signal,
    limits: Limits,
    batch: int | None = None,
) -> Scorer:
    """A scorer from a loaded model; for attention, one that was loaded with eager attention.

    Args:
        batch: passages of one forward pass; what the device does best where None.
    """
    digest = _fingerprint(model, tokenizer, signal, asdict(limits), PROMPTS)
    if signal == "attention":
        return Seq2SeqAttention(model, tokenizer, limits, digest)
    size = batch or (1 if repro.device().type == "cpu" else GPU_BATCH)
    return LanguageModel(model, tokenizer, limits, digest, size)


def _fingerprint(model: nn.Module, tokenizer: Any, *settings: Any) -> str:
    parts: list[str | bytes] = [code(), json.dumps(settings, sort_keys=True)]
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    parts.append(json.dumps(rules | {"padding": None, "truncation": None}))  # these two are only its last use
    for name, tensor in sorted([*model.named_parameters(), *model.named_buffers()]):
        plain = tensor.detach().cpu().contiguous()
        parts += [name, f"{plain.dtype} {tuple(plain.shape)}", plain.view(-1).view(torch.uint8).numpy().tobytes()]
    return io.digest(*parts)
