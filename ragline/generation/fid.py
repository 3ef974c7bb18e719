"""Fusion-in-decoder with a pointer: a small reader warm-started from a bi-encoder's weights.

Each passage is encoded beside the question on its own; the decoder attends to all of them at once and writes the answer
from the vocabulary or by copying words of the passages.

Sources: Izacard and Grave, Leveraging Passage Retrieval with Generative Models, EACL 2021, section 3 (fusion);
See, Liu, Manning, Get To The Point, ACL 2017, section 2.2 (pointer); Rothe, Narayan, Severyn, Leveraging Pre-trained
Checkpoints for Sequence Generation Tasks, TACL 2020 (warm start).
"""

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, BertModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from ragline import inference, io, repro
from ragline.builtin import model_folder, shipped_weights
from ragline.errors import ModelError
from ragline.progress import track

ENCODED_AT_ONCE = 32
DECODER_LAYERS = (1, 3, 5)
"""Encoder layers, counted from 0, that the decoder's layers start from."""
ENCODERS = {"builtin:minilm-reader": "builtin:minilm"}
WEIGHTS, CONFIG = "decoder.safetensors", "reader.json"
TINY = 1e-9


@dataclass(frozen=True)
class ReaderConfig:
    """What the reader needs besides its trained weights."""

    encoder: str
    """Name of the frozen encoder; its weights are not stored again."""
    passages: int
    """Passages read per question."""
    max_input_tokens: int
    """Question and passage together; the passage is cut, never the question."""
    max_answer_tokens: int


@dataclass(frozen=True, slots=True)
class Draft:
    """An answer as the reader wrote it."""

    text: str
    likelihood: float | None
    """Mean log-probability of its tokens, end mark included; None where nothing was read."""


class FusionInDecoder(nn.Module):
    """Frozen encoder, trained decoder, tied embeddings, pointer over the passages' tokens."""

    def __init__(self, encoder: BertModel) -> None:
        super().__init__()
        settings = copy.deepcopy(encoder.config)
        settings.update({"is_decoder": True, "add_cross_attention": True, "num_hidden_layers": len(DECODER_LAYERS)})
        self.encoder = encoder.requires_grad_(False)
        decoder = BertModel(settings, add_pooling_layer=False)
        decoder.embeddings = encoder.embeddings  # shared and frozen
        self.decoder = decoder
        size = settings.hidden_size
        self.transform = nn.Linear(size, size)
        self.norm = nn.LayerNorm(size)
        self.bias = nn.Parameter(torch.zeros(settings.vocab_size))
        self.pointer_query = nn.Linear(size, size, bias=False)
        self.pointer_key = nn.Linear(size, size, bias=False)
        self.pointer_next = nn.Linear(size, size, bias=False)
        self.gate = nn.Linear(size, 1)
        self._warm_start()

    def _warm_start(self) -> None:
        """Decoder layers from the encoder's, cross-attention from self-attention, the small heads near identity."""
        for layer, source in zip(self.decoder.encoder.layer, DECODER_LAYERS, strict=True):
            weights = self.encoder.encoder.layer[source].state_dict()
            cross = {
                name.replace("attention.", "crossattention.", 1): tensor
                for name, tensor in weights.items()
                if name.startswith("attention.")
            }
            layer.load_state_dict({**weights, **cross})
        for square in (self.transform, self.pointer_query, self.pointer_next):
            nn.init.eye_(square.weight)
        nn.init.zeros_(self.pointer_key.weight)
        nn.init.zeros_(self.transform.bias)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The weights that training changes; the rest is the frozen encoder's, and is neither saved nor loaded."""
        trained = {name for name, p in self.named_parameters() if p.requires_grad}
        return {name: tensor for name, tensor in super().state_dict(*args, **kwargs).items() if name in trained}

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Load what `state_dict` gives; with `strict`, all of it and nothing else."""
        if strict and (odd := set(self.state_dict()) ^ set(state_dict)):
            raise RuntimeError(f"weights missing or unknown: {sorted(odd)[:3]}")
        return super().load_state_dict({**super().state_dict(), **state_dict}, assign=assign)

    def keys(self, states: Tensor, source_ids: Tensor) -> Tensor:
        """What the pointer looks for, (batch, s, d): each token's own state, and that of the token before it.

        The second makes copying on from the word just written a matter of finding that word.
        """
        inside = source_ids != self.encoder.config.start_token_id  # a passage's first token has none before it
        before = nn.functional.pad(states[:, :-1], (0, 0, 1, 0)) * inside[:, :, None]
        found: Tensor = self.pointer_key(states) + self.pointer_next(before)
        return found

    def _decode(
        self,
        written: Tensor,
        states: Tensor,
        keys: Tensor,
        source_mask: Tensor,
        cache: EncoderDecoderCache | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decoder states (batch, t, d), pointer weights (batch, t, s), share that is copied (batch, t, 1)."""
        hidden = self.decoder(
            input_ids=written,
            encoder_hidden_states=states,
            encoder_attention_mask=source_mask,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        match = (self.pointer_query(hidden) @ keys.transpose(1, 2)).float() / hidden.shape[-1] ** 0.5
        match = match.masked_fill(source_mask[:, None, :] == 0, torch.finfo(torch.float32).min)
        return hidden, torch.softmax(match, dim=-1), torch.sigmoid(self.gate(hidden).float())

    def _logits(self, hidden: Tensor) -> Tensor:
        table = self.encoder.embeddings.word_embeddings.weight
        logits: Tensor = self.norm(self.transform(hidden)) @ table.T + self.bias
        return logits.float()

    def probabilities(
        self,
        written: Tensor,
        states: Tensor,
        keys: Tensor,
        source_ids: Tensor,
        source_mask: Tensor,
        cache: EncoderDecoderCache | None = None,
    ) -> Tensor:
        """Probability of every next token.

        Args:
            written: (batch, t) int64, what has been written; with a cache only the newest token.
            states: (batch, s, d), all passages of a question one after the other.
            keys: (batch, s, d), `keys` of the states.
            source_ids: (batch, s) int64, the tokens behind the states.
            source_mask: (batch, s), 1 for tokens, 0 for padding.

        Returns:
            (batch, t, vocabulary) float32.
        """
        hidden, weights, share = self._decode(written, states, keys, source_mask, cache)
        mixed = (1 - share) * torch.softmax(self._logits(hidden), dim=-1)
        places = source_ids[:, None, :].expand(-1, hidden.shape[1], -1)
        total: Tensor = mixed.scatter_add(2, places, share * weights)
        return total

    def forward(self, states: Tensor, source_ids: Tensor, source_mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Mean negative log-likelihood of the answer tokens; label -100 counts for nothing.

        The same as -log of `probabilities` at the labels, without making the whole vocabulary's twice.

        Args:
            labels: (batch, t) int64: the answer, the end mark, then -100.
        """
        start = self.encoder.config.start_token_id
        written = torch.cat([labels.new_full((len(labels), 1), start), labels[:, :-1].clamp(min=0)], dim=1)
        hidden, weights, share = self._decode(written, states, self.keys(states, source_ids), source_mask)
        counted = labels != -100
        targets = labels[counted]  # (tokens,)
        spelt = torch.exp(-nn.functional.cross_entropy(self._logits(hidden[counted]), targets, reduction="none"))
        copied = (weights * (source_ids[:, None, :] == labels[:, :, None])).sum(-1)[counted]
        share = share[counted][:, 0]
        return {"loss": -torch.log(share * copied + (1 - share) * spelt + TINY).mean()}

    @torch.inference_mode()
    def write(
        self, states: Tensor, source_ids: Tensor, source_mask: Tensor, limit: int
    ) -> list[tuple[list[int], float]]:
        """Greedy answers, each up to its end mark or `limit` tokens; no three tokens in a row come twice.

        Returns:
            For each row its tokens without the end mark, and their mean log-probability, the end mark's among them.
        """
        settings = self.encoder.config
        keys = self.keys(states, source_ids)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        written: list[list[int]] = [[] for _ in range(len(states))]
        sure: list[list[float]] = [[] for _ in range(len(states))]
        inside = list(range(len(states)))  # the rows that are in the batch still; ended ones leave it by halves
        ended: set[int] = set()
        newest = torch.full((len(states), 1), settings.start_token_id, dtype=torch.long, device=states.device)
        for _ in range(limit):
            scores = self.probabilities(newest, states, keys, source_ids, source_mask, cache)[:, -1]
            scores[:, [settings.pad_token_id, settings.start_token_id]] = 0.0
            for place, row in enumerate(inside):
                for banned in _repeats(written[row]):
                    scores[place, banned] = 0.0
            newest = scores.argmax(dim=-1, keepdim=True)
            logs = torch.log(scores.gather(1, newest) + TINY)
            for row, token, log in zip(inside, newest[:, 0].tolist(), logs[:, 0].tolist(), strict=True):
                if row in ended:
                    continue
                sure[row].append(log)
                if token == settings.end_token_id:
                    ended.add(row)
                else:
                    written[row].append(token)
            going = [place for place, row in enumerate(inside) if row not in ended]
            if not going:
                break
            if 2 * len(going) <= len(inside):
                kept = torch.tensor(going, device=states.device)
                cache.batch_select_indices(kept)
                states, keys, source_ids, source_mask, newest = (
                    piece[kept] for piece in (states, keys, source_ids, source_mask, newest)
                )
                inside = [inside[place] for place in going]
        return [(tokens, sum(logs) / len(logs)) for tokens, logs in zip(written, sure, strict=True)]


def _repeats(tokens: list[int]) -> set[int]:
    """Tokens that would complete a triple that stands in `tokens` already."""
    if len(tokens) < 3:
        return set()
    return {c for a, b, c in zip(tokens, tokens[1:], tokens[2:], strict=False) if (a, b) == (tokens[-2], tokens[-1])}


@dataclass(frozen=True)
class Reader:
    """A fusion-in-decoder model with its tokenizer and limits."""

    model: FusionInDecoder
    tokenizer: PreTrainedTokenizerBase
    config: ReaderConfig

    @cached_property
    def _fast(self) -> inference.OpenVinoTransformer:
        return inference.OpenVinoTransformer(self.model.encoder)

    def _states(self, ids: Tensor, mask: Tensor, fast: bool) -> Tensor:
        """(rows, length) int64 tokens and mask to (rows, length, d) states of the frozen encoder."""
        if fast:
            found: Tensor = self._fast(ids, mask).last_hidden_state
            return found
        device = next(self.model.parameters()).device
        with torch.inference_mode(), repro.half_precision():
            states: Tensor = self.model.encoder(
                input_ids=ids.to(device), attention_mask=mask.to(device)
            ).last_hidden_state
        return states.cpu()

    def pack(
        self, questions: Sequence[str], passages: Sequence[Sequence[str]], fast: bool = False
    ) -> list[tuple[Tensor, Tensor]]:
        """Encode each question with each of its passages.

        Args:
            fast: through OpenVINO, worth its conversion where hundreds of texts follow on a CPU.

        Returns:
            For each question its states (s, d) in bfloat16 and source ids (s,), padding already removed.
        """
        pairs = [(q, text) for q, texts in zip(questions, passages, strict=True) for text in texts]
        encoded = self.tokenizer(
            [q for q, _ in pairs],
            [text for _, text in pairs],
            truncation="only_second",
            max_length=self.config.max_input_tokens,
        )["input_ids"]
        order = sorted(range(len(encoded)), key=lambda row: (-len(encoded[row]), row))
        states: dict[int, Tensor] = {}
        for start in range(0, len(order), ENCODED_AT_ONCE):
            rows = order[start : start + ENCODED_AT_ONCE]
            ids = nn.utils.rnn.pad_sequence([torch.tensor(encoded[row]) for row in rows], batch_first=True)
            lengths = torch.tensor([len(encoded[row]) for row in rows])
            mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
            found = self._states(ids, mask, fast)
            for row, piece in zip(rows, found, strict=True):
                states[row] = piece[: len(encoded[row])].bfloat16()
        packed: list[tuple[Tensor, Tensor]] = []
        last = 0
        for texts in passages:
            first, last = last, last + len(texts)
            ids = torch.tensor([token for row in range(first, last) for token in encoded[row]], dtype=torch.long)
            packed.append((torch.cat([states[row] for row in range(first, last)]), ids))
        return packed

    def answer(self, questions: Sequence[str], passages: Sequence[Sequence[str]], batch: int = 48) -> list[Draft]:
        """Greedy answers; a question without passages gets an empty one."""
        answers = [Draft("", None)] * len(questions)
        # Long readings together: what is shorter than the longest of its batch is padded.
        asked = sorted((row for row, texts in enumerate(passages) if texts), key=lambda r: -sum(map(len, passages[r])))
        self.model.eval()
        device = next(self.model.parameters()).device
        fast = inference.pays(sum(map(len, passages)))
        starts = range(0, len(asked), batch)
        for start in track(starts, len(starts), f"writing answers ({batch} a step)"):
            rows = asked[start : start + batch]
            read = [passages[r][: self.config.passages] for r in rows]
            packed = self.pack([questions[r] for r in rows], read, fast)
            states, ids, mask = (piece.to(device) for piece in collate(packed))
            written = self.model.write(states.float(), ids, mask, self.config.max_answer_tokens)
            for row, texts, (tokens, likelihood) in zip(rows, read, written, strict=True):
                answers[row] = Draft(surface(tokens, texts, self.tokenizer), likelihood)
        return answers


def collate(packed: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Pad (s, d) states and (s,) ids of several questions to (batch, s, d), (batch, s) and a (batch, s) mask."""
    states = nn.utils.rnn.pad_sequence([piece for piece, _ in packed], batch_first=True)
    ids = nn.utils.rnn.pad_sequence([piece for _, piece in packed], batch_first=True)
    mask = torch.zeros(ids.shape, dtype=torch.long)
    for row, (_, piece) in enumerate(packed):
        mask[row, : len(piece)] = 1
    return states, ids, mask


def surface(tokens: Sequence[int], texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> str:
    """Spell an answer the way the passages do: runs of tokens that stand in a passage take its very characters.

    The tokenizer is uncased and splits `read_csv` into three pieces; the passage knows how it is written.
    """
    sources = [
        (encoded["input_ids"], encoded["offset_mapping"], text)
        for text in texts
        for encoded in [tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, truncation=False)]
    ]
    parts: list[str] = []
    place = 0
    while place < len(tokens):
        best, length = "", 0
        for ids, offsets, text in sources:
            for start in range(len(ids)):
                run = 0
                while place + run < len(tokens) and start + run < len(ids) and ids[start + run] == tokens[place + run]:
                    run += 1
                if run > length:
                    best, length = text[offsets[start][0] : offsets[start + run - 1][1]], run
        if length == 0:
            piece = str(tokenizer.convert_ids_to_tokens(tokens[place]))
            best, length = piece.removeprefix("##"), 1
            joined = piece.startswith("##")
        else:
            joined = str(tokenizer.convert_ids_to_tokens(tokens[place])).startswith("##")
        if parts and not joined and best not in ".,;:)]":
            parts.append(" ")
        parts.append(best)
        place += length
    return "".join(parts)


def warm_start(base_model: str, config: ReaderConfig, root: Path = Path()) -> Reader:
    """A reader to train: with the pretrained weights where the project has them, else with the encoder's own.

    Raises:
        ModelError: the name is not a reader's, or the pretrained weights are not the known ones.
    """
    if base_model not in ENCODERS:
        raise ModelError(
            f"train_generator.base_model: expected one of {', '.join(ENCODERS)}, got {base_model!r}; mend params.yaml"
        )
    reader = _assemble(config, root)
    weights = shipped_weights(base_model, root)
    if weights is None:
        return reader
    try:
        reader.model.load_state_dict({name: tensor.float() for name, tensor in load_file(weights).items()})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{weights}: not of this reader: {reason}; run `python -m tools.pretrain_reader`") from error
    return reader


def _assemble(config: ReaderConfig, root: Path) -> Reader:
    where = model_folder(config.encoder, root)
    tokenizer = AutoTokenizer.from_pretrained(where)
    encoder = AutoModel.from_pretrained(where, add_pooling_layer=False)
    encoder.config.start_token_id = tokenizer.cls_token_id
    encoder.config.end_token_id = tokenizer.sep_token_id
    return Reader(FusionInDecoder(encoder).to(repro.device()), tokenizer, config)


def save(reader: Reader, folder: Path) -> None:
    """Write the trained weights and the settings; the frozen encoder is named, not copied."""
    with io.whole_folder(folder) as part:
        weights = {name: tensor.cpu().contiguous() for name, tensor in reader.model.state_dict().items()}
        save_file(weights, part / WEIGHTS)
        (part / CONFIG).write_text(json.dumps(asdict(reader.config), indent=2) + "\n", encoding="utf-8")


def load(folder: Path, root: Path = Path()) -> Reader:
    """Read what `save` wrote.

    Raises:
        MissingArtifact: no model there.
        ModelError: it is not a reader's, or damaged.
    """
    settings = io.read_json(folder / CONFIG)
    try:
        reader = _assemble(ReaderConfig(**settings), root)
        reader.model.load_state_dict(load_file(folder / WEIGHTS))
    except (TypeError, RuntimeError, OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{folder}: not a reader: {reason}; run `dvc repro train_generator`") from error
    reader.model.eval()
    return reader
