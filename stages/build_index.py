"""build_index: vectors, dense and lexical index of the passages under the base encoder."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat

from ragline import io, repro
from ragline.artifacts import BASE_ANN, BASE_FINGERPRINT, BASE_VECTORS, LEXICAL_INDEX, OUTPUTS, PASSAGES, VECTOR_STORE
from ragline.retrieval import encoder, index, lexical
from ragline.retrieval.calibrate import Ann
from ragline.retrieval.language import Language
from ragline.runtime.params import Section
from ragline.runtime.stage import run_stage
from ragline.types import Passage

READS = (PASSAGES,)
WRITES = OUTPUTS["build_index"]


class BuildIndexParams(Section):
    """Section `build_index`; rebuild_index reads it, too."""

    borrows: ClassVar = {"base_model": "train_retriever.base_model"}

    ann: Ann
    """Structure of the dense index: `flat` compares every vector, `hnsw` is a graph, `ivfpq` lists of short codes;
    `auto` takes the smallest that meets both targets below."""
    recall: Annotated[float, Field(gt=0, le=1)]
    """recall@10 against exact search that the structure must reach when it is built; `flat` always has 1."""
    latency_ms: PositiveFloat
    """With `auto`: what one query may cost on one core, by an estimate from the work it takes."""
    dtype: Literal["float32", "float16"]
    """Numbers of the vectors as they are kept. float16: files half as large, scores within 0.0005."""
    language: Language
    """Of the documents, by Snowball's name: stop words and stems of BM25; `none` takes words as they are."""
    base_model: str
    """Encoder to start from: builtin:minilm, a folder, or a hub id."""


def main(params: BuildIndexParams, root: Path = Path()) -> None:
    """Encode every passage with the base encoder and index it twice."""
    repro.seed_everything(0)
    base = encoder.load(params.base_model, root)
    passages = io.read_table(Passage, root / PASSAGES)
    encoder.check_lengths(base, passages)
    lexical.write(lexical.build(passages, params.language), root / LEXICAL_INDEX)
    vectors = encoder.encode_corpus(base, passages, root / VECTOR_STORE, root / BASE_VECTORS, params.dtype)
    ann = index.build(vectors, params.ann, params.recall, params.latency_ms)
    index.log_speed(ann)
    mark = index.fingerprint(base.fingerprint, passages, vectors)
    index.write(ann, mark, root / BASE_ANN, root / BASE_FINGERPRINT)


if __name__ == "__main__":
    run_stage("build_index", main, BuildIndexParams)
