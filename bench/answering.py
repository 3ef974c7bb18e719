"""Time answers on the assembled system: `python -m bench.answering [questions]`.

Three tables, in one run: whole questions one at a time, as people ask (search, fusion, answer); the answer alone, one
question at a time; and many at once, as evaluation asks. Beside the built-in reader stands `transformers` generate: a
model of the same size and shape (the same encoder, as many decoder layers, tied to nothing) that reads the same
passages in one text and writes as many tokens. What it writes is noise, what it takes is not. The first question warms
the caches and is not timed.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer, BertLMHeadModel, EncoderDecoderModel

from ragline import io, qa, repro
from ragline.artifacts import QUESTIONS_TEST
from ragline.builtin import model_folder
from ragline.evaluation import latency
from ragline.generation import fid
from ragline.generation.backends import Fusion
from ragline.types import Hit, QAExample

Answer = Callable[[Sequence[str], Sequence[Sequence[Hit]]], object]
BATCH = 48
"""Questions at once, those of the built-in reader."""
SHOWN = 5


def whole(system: qa.System, questions: Sequence[str], answerer: qa.Answerer) -> dict[str, float]:
    """Seconds and tokens of each question but the first, search and answer together."""
    seconds, tokens = [], []
    tokenizer = system.retriever.encoder.questions.tokenizer
    for question in questions:
        started = time.perf_counter()
        (answer,) = system.ask([question], answerer=answerer)
        seconds.append(time.perf_counter() - started)
        tokens.append(len(tokenizer.encode(answer.text, add_special_tokens=False)))
    return latency.summary(seconds[1:], tokens[1:])


def alone(answer: Answer, questions: Sequence[str], found: Sequence[Sequence[Hit]]) -> dict[str, float]:
    """Seconds of each answer but the first, one at a time, and answers a second, all but the first together."""
    seconds = []
    for question, hits in zip(questions, found, strict=True):
        started = time.perf_counter()
        answer([question], [hits])
        seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
    answer(questions[1:], found[1:])
    together = (len(questions) - 1) / (time.perf_counter() - started)
    return {**latency.summary(seconds[1:]), "together_per_s": together}


def by_transformers(reader: fid.Reader, tokens: int) -> Answer:
    """`generate` of a model shaped as the reader, writing exactly so many tokens."""
    where = model_folder(reader.config.encoder)
    tokenizer = AutoTokenizer.from_pretrained(where)
    encoder = AutoModel.from_pretrained(where, add_pooling_layer=False)
    shape = type(encoder.config)(
        **encoder.config.to_dict()
        | {"is_decoder": True, "add_cross_attention": True, "num_hidden_layers": len(fid.DECODER_LAYERS)}
    )
    made: Any = EncoderDecoderModel(encoder=encoder, decoder=BertLMHeadModel(shape))
    model = made.to(repro.device()).eval()
    most = reader.config.passages * reader.config.max_input_tokens

    def answer(questions: Sequence[str], found: Sequence[Sequence[Hit]]) -> None:
        for start in range(0, len(questions), BATCH):
            texts = [
                "\n".join(hit.passage.encoded_text for hit in hits[: reader.config.passages])
                for hits in found[start : start + BATCH]
            ]
            asked = list(questions[start : start + BATCH])
            read = tokenizer(
                asked, texts, truncation="only_second", max_length=min(most, 512), padding=True, return_tensors="pt"
            ).to(repro.device())
            with torch.inference_mode():
                model.generate(
                    input_ids=read["input_ids"],
                    attention_mask=read["attention_mask"],
                    min_new_tokens=tokens,
                    max_new_tokens=tokens,
                    do_sample=False,
                    num_beams=1,
                    decoder_start_token_id=tokenizer.cls_token_id,
                    pad_token_id=tokenizer.pad_token_id,
                    eos_token_id=tokenizer.sep_token_id,
                )

    return answer


def main() -> None:
    """Print one line a row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("questions", type=int, nargs="?", default=100)
    rows = io.read_table(QAExample, Path(QUESTIONS_TEST))[: parser.parse_args().questions + 1]
    questions = [row.question for row in rows]
    system = qa.load()
    answerers: tuple[qa.Answerer, ...] = ("extractive", "generator")
    for answerer in answerers:
        _say(f"question, {answerer}", whole(system, questions, answerer))
    found = [list(hits)[:SHOWN] for hits, _ in system.retriever.retrieve(questions, SHOWN)]
    _say("answer, generator", alone(system.generator.answer, questions, found))
    if isinstance(system.generator, Fusion):
        reader = system.generator.reader
        texts = [one.text for one in system.generator.answer(questions, found)]
        tokens = round(sum(len(reader.tokenizer.tokenize(text)) + 1 for text in texts) / len(texts))
        _say(
            f"answer, transformers generate, {tokens} tokens", alone(by_transformers(reader, tokens), questions, found)
        )


def _say(what: str, figures: dict[str, float]) -> None:
    shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    sys.stdout.write(f"{what}: {shown}\n")


if __name__ == "__main__":
    main()
