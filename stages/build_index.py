"""build_index: vectors, dense and lexical index of the passages under the base encoder."""

from pathlib import Path
from typing import ClassVar

from ragline import io, repro
from ragline.artifacts import BASE_ANN, BASE_FINGERPRINT, BASE_VECTORS, LEXICAL_INDEX, OUTPUTS, PASSAGES, VECTOR_STORE
from ragline.retrieval import encoder, index, lexical
from ragline.runtime.params import Section
from ragline.runtime.stage import run_stage
from ragline.types import Passage

READS = (PASSAGES,)
WRITES = OUTPUTS["build_index"]


class BuildIndexParams(Section):
    """Section `build_index`; rebuild_index reads it, too."""

    borrows: ClassVar = {"base_model": "train_retriever.base_model"}

    ann: index.Ann
    """Structure of the dense index: `flat` is exact, `hnsw` is a graph."""
    base_model: str
    """Encoder to start from: builtin:minilm, a folder, or a hub id."""


def main(params: BuildIndexParams, root: Path = Path()) -> None:
    """Encode every passage with the base encoder and index it twice."""
    repro.seed_everything(0)
    passages = io.read_table(Passage, root / PASSAGES)
    base = encoder.load(params.base_model, root)
    encoder.check_lengths(base, passages)
    vectors = encoder.encode_corpus(base, passages, root / VECTOR_STORE)
    ann = index.build(vectors, params.ann)
    mark = index.Fingerprint(
        base.fingerprint, index.passages_digest(passages), len(vectors), vectors.shape[1], params.ann
    )
    io.write_vectors(vectors, root / BASE_VECTORS)
    index.write(ann, mark, root / BASE_ANN, root / BASE_FINGERPRINT)
    lexical.write(lexical.build(passages), root / LEXICAL_INDEX)


if __name__ == "__main__":
    run_stage("build_index", main, BuildIndexParams)
