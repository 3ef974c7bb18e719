"""rebuild_index: vectors and dense index of the passages under the tuned encoder."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from ragline import io, repro
from ragline.artifacts import (
    OUTPUTS,
    PASSAGES,
    RETRIEVER,
    TUNED_ANN,
    TUNED_FINGERPRINT,
    TUNED_VECTORS,
    VECTOR_STORE,
)
from ragline.retrieval import encoder, index
from ragline.retrieval.calibrate import Ann
from ragline.runtime.params import Section
from ragline.runtime.stage import run_stage
from ragline.types import Passage

READS = (PASSAGES, RETRIEVER)
WRITES = OUTPUTS["rebuild_index"]


class RebuildIndexParams(Section):
    """Section `build_index`: both indexes have the same structure."""

    ann: Ann
    """Structure of the dense index: `flat` compares every vector, `hnsw` is a graph, `ivfpq` lists of short codes;
    `auto` takes the smallest that meets both targets below."""
    recall: Annotated[float, Field(gt=0, le=1)]
    """recall@10 against exact search that the structure must reach when it is built; `flat` always has 1."""
    latency_ms: PositiveFloat
    """With `auto`: what one query may cost on one core, by an estimate from the work it takes."""
    dtype: Literal["float32", "float16"]
    """Numbers of the vectors as they are kept. float16: files half as large, scores within 0.0005."""
    language: str
    """For build_index alone: the lexical index is made once."""


def main(params: RebuildIndexParams, root: Path = Path()) -> None:
    """Encode every passage with the tuned encoder and index it."""
    repro.seed_everything(0)
    tuned = encoder.load(str(RETRIEVER), root)
    passages = io.read_table(Passage, root / PASSAGES)
    vectors = encoder.encode_corpus(tuned, passages, root / VECTOR_STORE, root / TUNED_VECTORS, params.dtype)
    ann = index.build(vectors, params.ann, params.recall, params.latency_ms)
    index.log_speed(ann)
    mark = index.fingerprint(tuned.fingerprint, passages, vectors)
    index.write(ann, mark, root / TUNED_ANN, root / TUNED_FINGERPRINT)


if __name__ == "__main__":
    run_stage("rebuild_index", main, RebuildIndexParams, section="build_index")
