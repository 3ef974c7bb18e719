"""chunk: cut documents into passages."""

import logging
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from ragline import io
from ragline.artifacts import CHUNK_COUNTS, DOCUMENTS, OUTPUTS, PASSAGES, PASSAGES_CONTRACT
from ragline.builtin import tokenizer_file
from ragline.contracts.gate import hold
from ragline.corpus.chunk import Method, chunk_all, counts
from ragline.progress import track
from ragline.runtime.params import Section
from ragline.runtime.stage import run_stage
from ragline.types import Document, Passage

log = logging.getLogger(__name__)

READS = (DOCUMENTS,)
WRITES = OUTPUTS["chunk"]


class ChunkParams(Section):
    """Section `chunk` of params.yaml."""

    method: Method
    """`structure`, `sections`, `sentences`, `tokens` or `parent_child`; see `ragline.corpus.chunk.chunk`."""
    max_tokens: Annotated[int, Field(ge=16)]
    """Limit of a passage, special tokens not counted."""
    overlap_tokens: Annotated[int, Field(ge=0)]
    """What two neighbouring passages of a long stretch of text may share."""
    parent_tokens: int | None = None
    """For `method: parent_child`, and only for it: limit of what an answerer reads around a passage."""
    tokenizer: str
    """`builtin:minilm`, or a folder with tokenizer.json; the encoder's own, so that its limit is kept."""

    @model_validator(mode="after")
    def _smaller(self) -> "ChunkParams":
        if self.overlap_tokens >= self.max_tokens:
            raise ValueError(f"expected overlap_tokens below max_tokens ({self.max_tokens}), got {self.overlap_tokens}")
        if (self.parent_tokens is not None) != (self.method == "parent_child"):
            raise ValueError("expected `parent_tokens` with `method: parent_child` only")
        if self.parent_tokens is not None and self.parent_tokens <= self.max_tokens:
            raise ValueError(f"expected parent_tokens above max_tokens ({self.max_tokens}), got {self.parent_tokens}")
        return self


def main(params: ChunkParams, root: Path = Path()) -> None:
    """Write the passages, document by document, and their counts."""
    tokenizer = tokenizer_file(params.tokenizer, root)
    prepare = (tokenizer, params.max_tokens, params.overlap_tokens, params.method, params.parent_tokens or 0)
    number = io.count_rows(root / DOCUMENTS)
    tokens = array("i")

    def passages() -> Iterator[Passage]:
        documents = io.iter_table(Document, root / DOCUMENTS)
        for found in track(chunk_all(documents, number, prepare), number, "chunking"):
            tokens.extend(passage.tokens for passage in found)
            yield from found

    io.write_table(passages(), Passage, root / PASSAGES)
    io.write_json(counts(number, tokens), root / CHUNK_COUNTS)
    limits = {"max_passage_tokens": params.max_tokens}
    hold(root / PASSAGES, "passages", root / PASSAGES_CONTRACT, parameters=limits)
    log.info("%d documents, %d passages", number, len(tokens))


if __name__ == "__main__":
    run_stage("chunk", main, ChunkParams)
