"""rebuild_index: vectors and dense index of the passages under the tuned encoder."""

from pathlib import Path

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
from ragline.runtime.params import Section
from ragline.runtime.stage import run_stage
from ragline.types import Passage

READS = (PASSAGES, RETRIEVER)
WRITES = OUTPUTS["rebuild_index"]


class RebuildIndexParams(Section):
    """Section `build_index`: both indexes have the same structure."""

    ann: index.Ann
    """Structure of the dense index: `flat` is exact, `hnsw` is a graph."""


def main(params: RebuildIndexParams, root: Path = Path()) -> None:
    """Encode every passage with the tuned encoder and index it."""
    repro.seed_everything(0)
    passages = io.read_table(Passage, root / PASSAGES)
    tuned = encoder.load(str(RETRIEVER), root)
    vectors = encoder.encode_corpus(tuned, passages, root / VECTOR_STORE)
    mark = index.Fingerprint(
        tuned.fingerprint, index.passages_digest(passages), len(vectors), vectors.shape[1], params.ann
    )
    io.write_vectors(vectors, root / TUNED_VECTORS)
    index.write(index.build(vectors, params.ann), mark, root / TUNED_ANN, root / TUNED_FINGERPRINT)


if __name__ == "__main__":
    run_stage("rebuild_index", main, RebuildIndexParams, section="build_index")
