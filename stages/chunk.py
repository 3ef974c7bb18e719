"""chunk: cut documents into passages."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from ragline import io
from ragline.artifacts import CHUNK_COUNTS, DOCUMENTS, OUTPUTS, PASSAGES, PASSAGES_CONTRACT
from ragline.builtin import tokenizer_file
from ragline.contracts.gate import hold
from ragline.corpus.chunk import chunk, counts, load_chunker
from ragline.runtime.params import Section
from ragline.runtime.stage import run_stage
from ragline.types import Document, Passage

log = logging.getLogger(__name__)

READS = (DOCUMENTS,)
WRITES = OUTPUTS["chunk"]


class ChunkParams(Section):
    """Section `chunk` of params.yaml."""

    max_tokens: Annotated[int, Field(ge=16)]
    """Limit of a passage, special tokens not counted."""
    overlap_tokens: Annotated[int, Field(ge=0)]
    """What two passages cut from one long section may share."""
    tokenizer: str
    """`builtin:minilm`, or a folder with tokenizer.json; the encoder's own, so that its limit is kept."""

    @model_validator(mode="after")
    def _smaller(self) -> "ChunkParams":
        if self.overlap_tokens >= self.max_tokens:
            raise ValueError(f"expected overlap_tokens below max_tokens ({self.max_tokens}), got {self.overlap_tokens}")
        return self


def main(params: ChunkParams, root: Path = Path()) -> None:
    """Write the passages, document by document, and their counts."""
    chunker = load_chunker(tokenizer_file(params.tokenizer, root), params.max_tokens, params.overlap_tokens)
    tokens: list[list[int]] = []

    def passages() -> Iterator[Passage]:
        for document in io.iter_table(Document, root / DOCUMENTS):
            cut = chunk(document, chunker)
            tokens.append([passage.tokens for passage in cut])
            yield from cut

    io.write_table(passages(), Passage, root / PASSAGES)
    io.write_json(counts(tokens), root / CHUNK_COUNTS)
    limits = {"max_passage_tokens": params.max_tokens}
    hold(root / PASSAGES, "passages", root / PASSAGES_CONTRACT, parameters=limits)
    log.info("%d documents, %d passages", len(tokens), sum(map(len, tokens)))


if __name__ == "__main__":
    run_stage("chunk", main, ChunkParams)
