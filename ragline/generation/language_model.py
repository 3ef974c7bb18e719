"""A causal or an encoder-decoder language model that answers from numbered passages: loading, saving, writing.

A model that was tuned whole is stored whole. One that was tuned by adapters is stored as these, and the model that they
belong to is named.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.generation.streamers import BaseStreamer
from transformers.utils.import_utils import is_bitsandbytes_available

from ragline import io, repro
from ragline.artifacts import LANGUAGE_MODEL
from ragline.builtin import model_folder
from ragline.errors import ConfigError, DataError, ModelError
from ragline.generation import prompts
from ragline.generation.generator import Telling, Written, beside, grounded
from ragline.progress import track
from ragline.types import Hit

Quantize = Literal["4bit"]
CONFIG = LANGUAGE_MODEL.name
WRITERS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""Ends of the names of architectures that write; any other would get a head of random numbers."""
BATCH = 16
"""Questions answered at once."""
_OPEN_WORD = re.compile(r"\s*[\x21-\x7e\ufffd]*\Z")
"""What the next token may respell: half a character, or a blank that goes before a sign."""
TODAY = "26 Jul 2024"
"""For chat templates that tell the model the date: a clock would make every day another model."""


@dataclass(frozen=True)
class Limits:
    """How much is read and written."""

    passages: int
    """Passages read per question."""
    max_input_tokens: int
    """The whole prompt; passages are cut, never the question."""
    max_answer_tokens: int
    """The answer with its end mark."""
    fusion: bool = False
    """Whether each passage is encoded by itself, beside the question; `max_input_tokens` then holds for each."""


Prompt = Sequence[Sequence[int]]
"""Tokens that a model reads before it answers: one list, or with fusion one for each passage."""


@dataclass(frozen=True)
class Wording:
    """Questions, passages and answers as a model's tokens.

    A special token that is spelled out in a text is broken by a blank, `< /s>`: a document can neither end the prompt
    nor speak for the user, and an answer cannot end early.
    """

    tokenizer: PreTrainedTokenizerBase
    seq2seq: bool

    def prompt_tokens(self, question: str, passages: Sequence[str], limit: int) -> list[int]:
        """The prompt, at most `limit` tokens, special ones among them.

        Raises:
            DataError: the question alone is too long.
        """
        first, last = self._around()
        room = limit - len(first) - len(last)
        texts = [self._broken(text) for text in passages]
        text = prompts.fitted(self._broken(question), texts, room, self._rendered, self._offsets)
        return [*first, *self._plain(text), *last]

    def passage_tokens(self, question: str, passage: str, limit: int) -> list[int]:
        """One passage beside the question, at most `limit` tokens, special ones among them; the passage is cut.

        Raises:
            DataError: the question leaves no room for a passage.
        """
        first, last = self._around()
        room = limit - len(first) - len(last)
        before = prompts.FUSION.removesuffix("{passage}").format(question=self._broken(question))
        if (asked := len(self._plain(before))) >= room:
            raise DataError(
                f"question {question[:40]!r}: expected it and a part of a passage in {room} tokens, got {asked} for "
                "the question; raise train_generator.max_input_tokens, or ask shorter"
            )
        return [*first, *self._plain(before + self._broken(passage))[:room], *last]

    def answer_tokens(self, answer: str) -> list[int]:
        """The answer as the model is to write it, with its end mark."""
        answer = self._broken(answer)
        if self.seq2seq:
            tokens = list(self.tokenizer(text_target=answer)["input_ids"])
        elif self.tokenizer.chat_template:
            tokens = self._plain(self._reply(answer))
        else:
            tokens = self._plain(f" {answer}")
        end = int(self.tokenizer.eos_token_id)
        return [*tokens[: tokens.index(end)], end] if end in tokens else [*tokens, end]

    def _broken(self, text: str) -> str:
        """A text without special tokens; what comes of one may be another, so until there is none."""
        while self._special and self._special.search(text):
            text = self._special.sub(lambda found: f"{found[0][0]} {found[0][1:]}" if len(found[0]) > 1 else " ", text)
        return text

    @cached_property
    def _special(self) -> re.Pattern[str] | None:
        """Any special token but blank ones; the named ones and those that only the vocabulary knows of."""
        added = (str(token) for token in self.tokenizer.added_tokens_decoder.values() if token.special)
        marks = {mark for mark in (*self.tokenizer.all_special_tokens, *added) if mark.strip()}
        return re.compile("|".join(map(re.escape, sorted(marks, key=lambda m: (-len(m), m))))) if marks else None

    def _rendered(self, content: str) -> str:
        if self.seq2seq or not self.tokenizer.chat_template:
            return content
        return self._chat([{"role": "user", "content": content}], add_generation_prompt=True)

    def _reply(self, answer: str) -> str:
        """What the chat template puts after the prompt, to the end."""
        asked = {"role": "user", "content": "?"}
        before = self._chat([asked], add_generation_prompt=True)
        whole = self._chat([asked, {"role": "assistant", "content": answer}], add_generation_prompt=False)
        if not whole.startswith(before):
            raise ModelError(
                f"chat template: expected an answer to follow its prompt, got {whole[-80:]!r} after {before[-80:]!r}; "
                "name a model with another template"
            )
        return whole[len(before) :]

    def _chat(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=add_generation_prompt, date_string=TODAY
            )
        )

    def _around(self) -> tuple[list[int], list[int]]:
        """Special tokens that stand before and after a prompt."""
        if self.tokenizer.chat_template and not self.seq2seq:
            return [], []  # the template writes them
        bare, dressed = self._plain("a"), list(self.tokenizer("a")["input_ids"])
        at = next((place for place in range(len(dressed)) if dressed[place : place + len(bare)] == bare), None)
        if at is None:
            raise ModelError(
                f"tokenizer: expected a text's tokens unchanged between its special ones, got {dressed} for {bare}; "
                "name a model with another tokenizer"
            )
        return dressed[:at], dressed[at + len(bare) :] if self.seq2seq else []

    def _plain(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []

    def _offsets(self, text: str) -> list[tuple[int, int]]:
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return [(int(start), int(end)) for start, end in found["offset_mapping"]]


@dataclass(frozen=True)
class LanguageModel:
    """A model with its tokenizer and limits."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    limits: Limits

    @cached_property
    def wording(self) -> Wording:
        return Wording(self.tokenizer, bool(self.model.config.is_encoder_decoder))

    @property
    def reads(self) -> int:
        """As `Generator.reads`."""
        return self.limits.passages

    @torch.inference_mode()
    def answer(self, questions: Sequence[str], retrieved: Sequence[Sequence[Hit]]) -> list[Written]:
        """As `Generator.answer`: greedy, prompts of like length together."""
        answers = [Written("", ())] * len(questions)
        read = [list(hits)[: self.reads] for hits in retrieved]
        tokens = {row: self._prompt(questions[row], hits) for row, hits in enumerate(read) if hits}
        order = sorted(tokens, key=lambda row: (-sum(map(len, tokens[row])), row))
        model: Any = self.model
        model.eval()
        size = self.batch
        starts = range(0, len(order), size)
        for start in track(starts, len(starts), f"writing answers ({size} a step)"):
            rows = order[start : start + size]
            for row, (text, likelihood) in zip(rows, self._write([tokens[row] for row in rows]), strict=True):
                answers[row] = grounded(prompts.parse(text, self.numbered(read[row])), read[row], likelihood)
        return answers

    def stream(self, question: str, hits: Sequence[Hit]) -> Iterator[str | Written]:
        """As `Generator.stream`; the words are those of `answer`."""
        read = list(hits)[: self.reads]
        if not read:
            return iter([Written("", ())])
        asked = self._prompt(question, read)

        @torch.inference_mode()
        def write(tell: Callable[[str], None]) -> Written:
            model: Any = self.model
            model.eval()
            telling = Telling(self.numbered(read), tell)
            ((text, likelihood),) = self._write([asked], _Listener(self.tokenizer, telling.so_far))
            return telling.whole(grounded(prompts.parse(text, self.numbered(read)), read, likelihood))

        return beside(write)

    @property
    def batch(self) -> int:
        """Questions answered at once."""
        return BATCH

    def numbered(self, read: Sequence[Hit]) -> int:
        """How many of the passages that it reads have numbers, by which it cites them."""
        return len(read)

    def prompt(self, question: str, texts: Sequence[str]) -> Prompt:
        """What it reads before it answers.

        Raises:
            DataError: the question alone is too long.
        """
        return [self.wording.prompt_tokens(question, texts, self.limits.max_input_tokens)]

    def inputs(self, asked: Sequence[Prompt]) -> dict[str, Tensor]:
        """A padded batch of prompts, as the model's `forward` takes it: ids and mask, (n, longest)."""
        ids, mask = padded([prompt for (prompt,) in asked], pad(self.tokenizer), left=not self.wording.seq2seq)
        return {"input_ids": ids, "attention_mask": mask}

    def _prompt(self, question: str, hits: Sequence[Hit]) -> Prompt:
        return self.prompt(question, [hit.passage.encoded_text for hit in hits])

    def _sources(self, asked: Sequence[Prompt]) -> dict[str, Any]:
        """What `generate` starts from."""
        return {name: tensor.to(self.model.device) for name, tensor in self.inputs(asked).items()}

    def _write(self, asked: Sequence[Prompt], listener: BaseStreamer | None = None) -> list[tuple[str, float]]:
        """Text and mean log-probability of its tokens, end mark included."""
        model: Any = self.model
        greedy, sureness = self._greedy(), _Sureness()
        with repro.half_precision():
            read = self._sources(asked)
            written = model.generate(
                **read,
                generation_config=greedy,
                logits_processor=LogitsProcessorList([sureness]),
                streamer=listener,
            )
        # An encoder-decoder's answer begins with its start mark.
        begin = 1 if self.wording.seq2seq else read["input_ids"].shape[1]
        texts = [str(self.tokenizer.decode(row[begin:], skip_special_tokens=True)) for row in written]
        return list(zip(texts, sureness.means(written[:, begin:], greedy.eos_token_id), strict=True))

    def _greedy(self) -> GenerationConfig:
        """Nothing of the model's own settings but its marks: they sample, or forbid what the training asked for."""
        own = self.model.generation_config
        ends = own.eos_token_id if own is not None and own.eos_token_id is not None else []
        return GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False,
            num_beams=1,
            max_new_tokens=self.limits.max_answer_tokens,
            eos_token_id=sorted({*(ends if isinstance(ends, list) else [ends]), self.tokenizer.eos_token_id}),
            pad_token_id=pad(self.tokenizer),
            decoder_start_token_id=start_mark(self.model),
        )


class _Sureness(LogitsProcessor):
    """Sees the logits of every step; of greedy writing, the highest is that of the token written.

    Only this one is kept: all logits of an answer take a thousand times the room of its tokens.
    """

    def __init__(self) -> None:
        self._steps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self._steps.append(torch.log_softmax(scores.float(), dim=-1).amax(-1))
        return scores

    def means(self, written: Tensor, ends: Sequence[int]) -> list[float]:
        """Mean log-probability of each row's tokens, up to its first end mark with it.

        Args:
            written: (batch, t) int64, what was written at each step.
            ends: the end marks.
        """
        logs = torch.stack(self._steps, dim=1)  # (batch, t)
        ended = torch.isin(written, torch.tensor(ends, device=written.device)).long()
        counted = ended.cumsum(1) - ended == 0  # no end mark stands before
        return ((logs * counted).sum(1) / counted.sum(1)).tolist()


class _Listener(BaseStreamer):
    """Hears the tokens of one answer, and tells its text so far.

    The text is always that of all tokens: parts that are decoded by themselves lose blanks at their seams.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, tell: Callable[[str], None]) -> None:
        self._tokenizer, self._tell = tokenizer, tell
        self._tokens: list[int] | None = None
        """None before the prompt, which comes first."""

    def put(self, value: Tensor) -> None:
        if self._tokens is None:
            self._tokens = []
            return
        self._tokens += value.flatten().tolist()
        text = str(self._tokenizer.decode(self._tokens, skip_special_tokens=True))
        self._tell(_OPEN_WORD.sub("", text))

    def end(self) -> None:
        """The whole text is what `generate` returns."""


def pad(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that fills up a row; where there is none, any would do, as it is masked."""
    found = tokenizer.pad_token_id
    return int(found if found is not None else tokenizer.eos_token_id)


def start_mark(model: PreTrainedModel) -> int | None:
    """What an encoder-decoder's answer starts from; None for a causal model."""
    config: Any = model.config
    for owner in (config, model.generation_config):
        if config.is_encoder_decoder and getattr(owner, "decoder_start_token_id", None) is not None:
            return int(owner.decoder_start_token_id)
    return int(config.bos_token_id) if config.is_encoder_decoder else None


def padded(rows: Sequence[Sequence[int]], filler: int, left: bool = False) -> tuple[Tensor, Tensor]:
    """Rows of tokens as (n, longest) int64, and their mask, 1 for tokens."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), filler, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for row, tokens in enumerate(rows):
        place = slice(longest - len(tokens), longest) if left else slice(0, len(tokens))
        ids[row, place], mask[row, place] = torch.tensor(tokens, dtype=torch.long), 1
    return ids, mask


# --- files ---------------------------------------------------------------------------------------------------------


def load_base(name: str, limits: Limits, root: Path = Path(), quantize: Quantize | None = None) -> LanguageModel:
    """A model by builtin name, folder or hub id, as it was published.

    Args:
        quantize: what its frozen weights are rounded to, where only adapters are trained.

    Raises:
        ModelError: there is no such model, or it is no language model.
        ConfigError: it reads less than the limits ask for, cannot read passages one by one, or cannot be quantized
            here.
    """
    where = model_folder(name, root)
    return _read(name, where, limits, where, quantize)


def _read(name: str, where: Path, limits: Limits, wording: Path, quantize: Quantize | None) -> LanguageModel:
    """A model, and the tokenizer that lies in the folder `wording`."""
    placed = _quantized() if quantize else {}
    try:
        config = AutoConfig.from_pretrained(where)
        if not any(name.endswith(WRITERS) for name in config.architectures or []):
            raise ValueError(f"expected a causal or encoder-decoder model, got {config.architectures}")
        if limits.fusion and not config.is_encoder_decoder:
            raise ConfigError(
                f"train_generator.base_model: expected with method fid a model whose encoder reads each passage, such "
                f"as T5 or BART, or builtin:minilm-reader, got {name}, which has no encoder; name another one, or set "
                "method: sft"
            )
        kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model = kind.from_pretrained(where, dtype=torch.float32, use_safetensors=True, **placed)
        tokenizer = AutoTokenizer.from_pretrained(wording)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{name}: not a usable language model: {' '.join(str(error).split())[:200]}") from error
    if not tokenizer.is_fast or tokenizer.eos_token_id is None:
        raise ModelError(
            f"{name}: expected a tokenizer.json with an end mark (eos_token), got none; name another model"
        )
    reads = getattr(config, "max_position_embeddings", None)
    wanted = limits.max_input_tokens + (0 if config.is_encoder_decoder else limits.max_answer_tokens)
    if reads is not None and wanted > reads:
        raise ConfigError(
            f"train_generator.max_input_tokens: expected prompt and answer of at most {reads} tokens, as {name} reads "
            f"no more, got {wanted}; lower max_input_tokens"
        )
    return LanguageModel(model if placed else model.to(repro.device()), tokenizer, limits)


def _quantized() -> dict[str, Any]:
    """What `from_pretrained` is told to round linear layers to 4 bits, their scales rounded, too.

    Source: Dettmers et al., QLoRA: Efficient Finetuning of Quantized LLMs, NeurIPS 2023, section 3.

    Raises:
        ConfigError: bitsandbytes, which does it, is not installed.
    """
    if not is_bitsandbytes_available():
        raise ConfigError(
            "train_generator.quantize: expected bitsandbytes to be installed, got none that is new enough; run "
            "`pip install -c constraints.txt -e .[quantize]`, or set quantize: null and train again"
        )
    device = repro.device()
    if device.type == "cuda":  # weights stay where they are quantized
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    config = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if repro.uses_bfloat16() else torch.float32,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def is_quantized(model: nn.Module) -> bool:
    """Whether its linear layers are of 4 bits."""
    return bool(getattr(model, "is_loaded_in_4bit", False))


def fingerprint(where: Path) -> str:
    """sha256 over a model's weights and settings."""
    files = sorted([where / "config.json", *where.glob("*.safetensors")])
    return io.digest(*(part for file in files for part in (file.name, io.file_digest(file))))


def save(
    trained: LanguageModel, weights: Mapping[str, Tensor], adapter_of: str | None, folder: Path, root: Path = Path()
) -> None:
    """Write a tuned model, its tokenizer and limits.

    Args:
        weights: its state, as training gathered it.
        adapter_of: name of the base whose weights stay where they are; None where the model is stored whole.
    """
    base = None
    if adapter_of:
        base = {
            "name": adapter_of,
            "fingerprint": fingerprint(model_folder(adapter_of, root)),
            "quantize": "4bit" if is_quantized(trained.model) else None,
        }
    with io.whole_folder(folder) as part:
        trained.model.save_pretrained(part, state_dict=dict(weights))
        trained.tokenizer.save_pretrained(part)
        (part / "README.md").unlink(missing_ok=True)  # peft's card, which says nothing
        settings = {"limits": asdict(trained.limits), "base": base}
        (part / CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def load(folder: Path, root: Path = Path()) -> LanguageModel:
    """Read what `save` wrote; adapters are added into their base, and bring their own tokenizer.

    Where the base was quantized, it is so again, and its adapters stay beside it: adding them would round them away.

    Raises:
        MissingArtifact: no model there.
        ConfigError: its base is quantized, which cannot be done here.
        ModelError: it is not one that this module wrote, or damaged, or its base is another one by now.
    """
    settings = io.read_json(folder / CONFIG)
    try:
        limits, base = Limits(**settings["limits"]), settings["base"]
    except (TypeError, KeyError) as error:
        raise ModelError(f"{folder / CONFIG}: not settings: {error}; run `dvc repro train_generator`") from None
    if base is None:
        return _read(str(folder), folder, limits, folder, None)
    where = model_folder(base["name"], root)
    if fingerprint(where) != base["fingerprint"]:
        raise ModelError(
            f"{folder}: adapters for other weights than {base['name']} now has; run `dvc repro train_generator`"
        )
    quantize = base.get("quantize")
    bare = _read(base["name"], where, limits, folder, quantize)
    try:
        adapted: Any = PeftModel.from_pretrained(bare.model, folder)
    except (ValueError, OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{folder}: not adapters: {reason}; run `dvc repro train_generator`") from error
    return LanguageModel(adapted if quantize else adapted.merge_and_unload(), bare.tokenizer, limits)
