"""ingest: read the sources, join near-duplicates, split by cluster."""

import logging
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from ragline import io
from ragline.artifacts import DOCUMENTS, DOCUMENTS_CONTRACT, INGEST_COUNTS, INGEST_DROPS, OUTPUTS, RAW
from ragline.contracts.gate import hold
from ragline.corpus import assemble
from ragline.corpus.files import read_files
from ragline.corpus.hf_dataset import read_dataset
from ragline.corpus.jsonl import read_documents
from ragline.corpus.python_api import read_package
from ragline.corpus.spool import Spool, spooled
from ragline.runtime.params import Section, Watched
from ragline.runtime.stage import run_stage
from ragline.types import SPLITS, Document, Drop, Split

log = logging.getLogger(__name__)

READS = (RAW,)
WRITES = OUTPUTS["ingest"]


FORMATS = tuple(f"**/*.{suffix}" for suffix in "md rst txt html htm pdf docx pptx xlsx csv tsv ipynb".split())


class PythonApi(Section):
    """The docstrings of an installed package."""

    kind: Literal["python_api"]
    package: Annotated[str, Field(pattern=r"^\w+(\.\w+)*$")]
    """Import name of an installed package."""


class Files(Section):
    """Files under a folder: Markdown, rst, text, HTML, PDF, Office, tables, notebooks."""

    kind: Literal["files"]
    path: Watched
    """A folder under data/raw."""
    include: Annotated[tuple[str, ...], Field(min_length=1)] = FORMATS
    """Glob patterns relative to the folder."""
    on_error: Literal["stop", "skip"] = "stop"
    """Whether a file that cannot be read stops the stage, or is dropped with the reason."""
    max_megabytes: PositiveFloat = 50
    """A larger file counts as one that cannot be read."""


class Jsonl(Section):
    """A JSONL file, one document a line."""

    kind: Literal["jsonl"]
    path: Watched
    """A file under data/raw. Keys of a line: text, id?, title?, source?"""


class Dataset(Section):
    """A Hugging Face dataset saved on disk."""

    kind: Literal["dataset"]
    path: Watched
    """A folder under data/raw that `save_to_disk` wrote."""
    text: str = "text"
    """Columns."""
    title: str | None = None
    id: str | None = None


class Shares(Section):
    """Expected share of clusters in each split; they sum to 1."""

    train: NonNegativeFloat
    dev: NonNegativeFloat
    test: NonNegativeFloat

    @model_validator(mode="after")
    def _whole(self) -> "Shares":
        if not math.isclose(total := self.train + self.dev + self.test, 1.0, abs_tol=1e-9):
            raise ValueError(f"expected shares that sum to 1, they sum to {total:g}")
        return self


Source = Annotated[PythonApi | Files | Jsonl | Dataset, Field(discriminator="kind")]


class IngestParams(Section):
    """Section `ingest` of params.yaml."""

    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    near_duplicate_threshold: Annotated[float, Field(gt=0, le=1)]
    """Jaccard similarity of word 5-grams from which two documents share a cluster."""
    splits: Shares
    seed: int


def main(params: IngestParams, root: Path = Path()) -> None:
    """Write the corpus, what was left out, and the counts of both."""
    shares: dict[Split, float] = {split: getattr(params.splits, split) for split in SPLITS}
    with spooled((root / DOCUMENTS).parent) as spool:
        drops = _gather(params.sources, root, spool)
        merged, duplicates = assemble.merge(spool)
        drops += duplicates
        corpus = assemble.cluster_and_split(spool, merged, params.near_duplicate_threshold, shares, params.seed)
        counts = assemble.counts(corpus, drops)
        io.write_table(corpus, Document, root / DOCUMENTS)
    for split in (split for split in SPLITS if not counts["splits"][split]):
        log.warning("split %s is empty: %d clusters are too few, or its share is 0", split, counts["clusters"])
    io.write_table(sorted(drops, key=lambda d: (d.item, d.reason, d.detail)), Drop, root / INGEST_DROPS)
    io.write_json(counts, root / INGEST_COUNTS)
    hold(root / DOCUMENTS, "documents", root / DOCUMENTS_CONTRACT)
    log.info("%d documents, %d characters, %d clusters", *(counts[k] for k in ("documents", "characters", "clusters")))


def _gather(sources: Iterable[Source], root: Path, spool: Spool) -> list[Drop]:
    """Put every document into the spool; what the readers left out comes back."""
    drops: list[Drop] = []
    for source in sources:
        documents_before, drops_before = len(spool), len(drops)
        for outcome in _read(source, root):
            if isinstance(outcome, Drop):
                drops.append(outcome)
            else:
                spool.add(outcome)
        found, left_out = len(spool) - documents_before, len(drops) - drops_before
        log.info("%s: %d documents, %d left out", source.kind, found, left_out)
    return drops


def _read(source: Source, root: Path) -> Iterator[Document | Drop]:
    match source:
        case PythonApi():
            return read_package(source.package)
        case Files():
            return read_files(source.path, source.include, root, source.on_error, source.max_megabytes)
        case Jsonl():
            return read_documents(source.path, root)
        case Dataset():
            return read_dataset(source.path, source.text, source.title, source.id, root)


if __name__ == "__main__":
    run_stage("ingest", main, IngestParams)
