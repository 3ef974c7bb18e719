"""train_retriever: tune the base encoder on training questions; keep it only if dev shows it better."""

import logging
from dataclasses import astuple, fields
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt
from sentence_transformers import SentenceTransformer

from ragline import io, repro
from ragline.artifacts import (
    BASE_FINGERPRINT,
    BASE_VECTORS,
    CHECKPOINTS,
    LEXICAL_INDEX,
    NEGATIVES,
    OUTPUTS,
    PASSAGES,
    QUESTIONS_DEV,
    QUESTIONS_TRAIN,
    RETRIEVER,
    RETRIEVER_CURVE,
    RETRIEVER_SUMMARY,
    VECTOR_STORE,
)
from ragline.evaluation import gate
from ragline.retrieval import encoder, index, lexical, mine, search, train
from ragline.runtime.params import Section
from ragline.runtime.stage import run_stage
from ragline.training import answerable, evenly
from ragline.types import Passage, QAExample

READS = (PASSAGES, QUESTIONS_TRAIN, QUESTIONS_DEV, BASE_VECTORS, BASE_FINGERPRINT, LEXICAL_INDEX)
WRITES = OUTPUTS["train_retriever"]
METRIC = "mrr@10"
DEPTH = 20
POOL_DEPTH = 5
MAX_WATCHED = 80
"""With towers `both`: dev questions, and nearest passages of each, that are ranked again at each evaluation."""

log = logging.getLogger(__name__)


class TrainRetrieverParams(Section):
    """Section `train_retriever`."""

    base_model: str
    """Encoder to start from: builtin:minilm, a folder, or a hub id."""
    method: Literal["ctl"]
    """`ctl`: contrastive, in-batch and hard negatives."""
    towers: Literal["question", "both"]
    """What is tuned. `question`: passages keep the vectors that they have, so that no retraining ever encodes the
    corpus again. `both`: one shared encoder, and every passage is encoded anew."""
    max_pairs: PositiveInt
    """Training questions used, taken evenly; more cost seconds in proportion."""
    epochs: PositiveInt
    batch_size: Annotated[int, Field(ge=2)]
    """Questions per step; each sees the others' passages as negatives."""
    learning_rate: PositiveFloat
    temperature: PositiveFloat
    """Cosines are divided by it."""
    max_passage_tokens: Annotated[int, Field(ge=16, le=512)]
    """With towers `both`: longer texts are cut while training; search encodes them whole."""
    hard_negatives: Annotated[int, Field(ge=0, le=30)]
    """Mined passages per question."""
    evaluations: PositiveInt
    """Dev scores taken while training; the best checkpoint is kept."""
    negative_margin: Annotated[float, Field(gt=0, le=1)]
    """A hard negative scores at most this share of its positive."""
    seed: int


def main(params: TrainRetrieverParams, root: Path = Path()) -> None:
    """Mine, train, compare on dev over the whole corpus, publish the better encoder."""
    repro.seed_everything(params.seed)
    passages = io.read_table(Passage, root / PASSAGES)
    questions = evenly(answerable(io.read_table(QAExample, root / QUESTIONS_TRAIN)), params.max_pairs)
    dev = answerable(io.read_table(QAExample, root / QUESTIONS_DEV))
    base = encoder.load(params.base_model, root)
    vectors = io.read_vectors(root / BASE_VECTORS)
    index.check(root / BASE_FINGERPRINT, base.fingerprint, passages)

    exact = index.build(vectors, "flat")
    negatives, excluded = mine.mine(
        questions,
        encoder.encode_questions(base, [q.question for q in questions]),
        passages,
        vectors,
        lexical.read(root / LEXICAL_INDEX),
        params.hard_negatives,
        params.negative_margin,
    )
    examples, candidates = train.line_up(questions, passages, negatives, params.hard_negatives)
    excluded["question with too few safe negatives"] = len(questions) - len(examples)

    asked = {q.question_id: q.question for q in dev}
    base_run = search.dense_run(asked, base, exact, passages, DEPTH)
    watched = dev[:: -(-len(dev) // MAX_WATCHED)]
    pool = search.pool(passages, watched, base_run, POOL_DEPTH)
    shared = params.towers == "both"

    def dev_score(model: SentenceTransformer) -> float:
        if shared:
            return gate.mean(search.pool_run(watched, model, pool), watched, METRIC)
        side = encoder.Encoder(model, base.passages, base.fingerprint)
        return gate.mean(search.dense_run(asked, side, exact, passages, DEPTH), dev, METRIC)

    schedule = train.Schedule(**params.model_dump(include={f.name for f in fields(train.Schedule)}))
    inputs = (base.fingerprint, params.model_dump_json(), index.passages_digest(passages))
    key = io.digest(*inputs, repr(examples), repr(candidates.columns), repr(dev), *train.code())
    model = encoder.load(params.base_model, root).questions
    points = train.fit(
        model, examples, candidates, schedule, dev_score, root / CHECKPOINTS / key, None if shared else vectors
    )
    tuned = encoder.pair(model, model if shared else base.passages)
    if shared:
        exact = index.build(encoder.encode_corpus(tuned, passages, root / VECTOR_STORE), "flat")
    tuned_run = search.dense_run(asked, tuned, exact, passages, DEPTH)
    verdict = gate.compare(tuned_run, base_run, dev, METRIC, params.seed)
    log.info("dev: %s", verdict.reason)
    encoder.save(tuned if verdict.better else base, root / RETRIEVER)

    summary = {
        "base_model": params.base_model,
        "method": params.method,
        "towers": params.towers,
        "pairs": len(examples),
    }
    summary |= {"steps": points[-1].step, **verdict.summary()}
    summary["negatives"] = {"mined": len(negatives), "excluded": dict(sorted(excluded.items()))}
    io.write_json(summary, root / RETRIEVER_SUMMARY)
    io.write_csv(("step", "loss", f"dev_{METRIC}"), map(astuple, points), root / RETRIEVER_CURVE)
    io.write_frame(mine.columns(negatives), root / NEGATIVES)


if __name__ == "__main__":
    run_stage("train_retriever", main, TrainRetrieverParams)
