"""A whole project in miniature: this code, and thirty documents about Quern, a job scheduler that nobody has."""

import json
import shutil
from pathlib import Path

from tests.conftest import ROOT, under_dvc

CODE = ("ragline", "stages", "dvc.yaml")

# name | what it does, as a sentence's predicate | default | unit | limit | what happens beyond it | what sets it
FEATURES = [
    tuple(line.split(" | "))
    for line in """\
Batch window | collects jobs that arrive close together | 20 | seconds | 300 | jobs start alone | window
Retry ladder | repeats a failed job after longer and longer pauses | 5 | attempts | 12 | the job is parked | steps
Parking lot | keeps jobs that nobody could finish | 14 | days | 90 | the oldest job is dropped | keep
Heartbeat | tells the foreman that a worker is alive | 4 | seconds | 60 | the worker counts as lost | beat
Foreman election | chooses a new foreman when the old one is silent | 9 | seconds | 45 | workers pause | quorum
Priority lanes | lets urgent jobs overtake patient ones | 3 | lanes | 8 | further lanes are merged | lanes
Quota meter | limits how many jobs one team may queue | 500 | jobs | 20000 | the queue refuses more | quota
Secret vault | hands passwords to jobs without writing them down | 30 | minutes | 240 | the lease ends | lease
Audit trail | records who changed a schedule and when | 365 | days | 3650 | old entries are archived | years
Cold start pool | holds warm containers ready for short jobs | 6 | containers | 64 | jobs wait | pool
Result cache | returns the earlier answer of an identical job | 2 | hours | 48 | the answer is computed anew | ttl
Dead man switch | stops a job whose owner has left the company | 7 | days | 60 | the job is handed over | owner
Calendar sync | skips runs on public holidays of a region | 1 | regions | 40 | holidays are ignored | regions
Dry rehearsal | runs a plan without touching any machine | 100 | steps | 1000 | the rest is summarised | depth
Log shears | cuts long logs down to their first and last lines | 400 | lines | 9000 | the middle is lost | cut
Graph painter | draws which job waits for which other one | 80 | nodes | 600 | groups are folded | nodes
Tide gauge | forecasts the load of the coming night | 36 | hours | 168 | the forecast is a guess | horizon
Lock keeper | keeps two jobs away from one table | 15 | minutes | 720 | the lock is broken open | hold
Mail pigeon | writes a letter when a nightly plan fails | 2 | letters | 25 | letters are bundled | letters
Snapshot shelf | stores the state of a plan before every change | 10 | versions | 200 | the first one goes | shelf
Throttle valve | slows requests to a tired database | 50 | requests | 4000 | requests are delayed | valve
Region mirror | copies schedules to a second data centre | 3 | minutes | 30 | the mirror is marked stale | lag
Token broker | signs short lived tokens for workers | 10 | minutes | 120 | the worker signs in again | signing
Rollback lever | returns a plan to an earlier version at once | 1 | versions | 20 | the lever is locked | lever
Capacity planner | suggests how many workers a week will need | 4 | weeks | 52 | seasons are ignored | weeks
Blackout guard | forbids changes during a sales campaign | 3 | days | 21 | managers must confirm | guard
Cost ledger | adds up what every team spends on machines | 12 | months | 84 | months become years | ledger
Shadow worker | repeats a job on new hardware and compares | 5 | percent | 50 | users notice the load | share
Wake caller | starts sleeping machines before a busy hour | 8 | minutes | 55 | jobs start late | lead
Archive ferry | moves finished jobs to cheaper storage | 45 | days | 800 | finding them takes long | ferry
""".splitlines()
]

# Small enough for seconds a stage, large enough that every stage has something to do.
PARAMS = """\
ingest:
  sources:
    - {kind: files, path: data/raw, include: ["**/*.md"]}
  near_duplicate_threshold: 0.7
  splits: {train: 0.6, dev: 0.2, test: 0.2}
  seed: 13
chunk: {method: structure, max_tokens: 64, overlap_tokens: 8, tokenizer: "builtin:minilm"}
generate_qa: {method: rules, max_per_document: 2, seed: 13, filters: [schema, grounding], leaks: drop}
build_index: {ann: flat, recall: 0.99, latency_ms: 20, dtype: float32, language: english}
train_retriever:
  base_model: builtin:minilm
  method: ctl
  towers: question
  max_pairs: 64
  epochs: 1
  batch_size: 16
  learning_rate: 5.0e-5
  temperature: 0.05
  max_passage_tokens: 48
  hard_negatives: 1
  evaluations: 3
  negative_margin: 0.95
  seed: 13
train_generator:
  base_model: builtin:minilm-reader
  method: fid
  max_examples: 16
  epochs: 1
  batch_size: 8
  learning_rate: 3.0e-4
  passages: 2
  max_input_tokens: 64
  max_answer_tokens: 8
  evaluations: 2
  seed: 13
evaluate: {split: test, gold_sets: [data/gold/quern.jsonl], depth: 20, fusion: convex, rerank_depth: 20, resamples: 100,
  seed: 13, abstention: {risk: 0.5, level: 0.8, unanswerable: 0.1, questions: 30}}
report: {title: Quern}
promotion:
  target: {set: test, metric: mrr@10, margin: 0.1}
  guards: [{set: gold, metric: recall@5, margin: 0.1}]
  min_questions: 5
  new_documents: gain
  level: 0.95
  resamples: 100
  keep: 2
  seed: 13
qa: {history_tokens: 256, guards: [{kind: grounded, at_least: 0.5, then: note, on_error: open}]}
retention: {commits: 2, days: 7, tracked_runs: 3, flow_days: 7, disk_gb: 5}
"""


def document(number: int) -> str:
    """One feature's page, in Markdown."""
    name, does, default, unit, limit, beyond, setting = FEATURES[number]
    return f"""\
# {name}

The {name.lower()} {does}. It belongs to Quern, chapter {number + 1}.

## How do I configure the {name.lower()}?

Set `{setting}` in quern.toml. The default is {default} {unit}. Beyond {limit} {unit}, {beyond}.

## What does the {name.lower()} do?

The {name.lower()} is the part of Quern that {does}. Note: it reads `{setting}` only when the foreman starts.
"""


def gold() -> list[dict[str, object]]:
    """Eight questions with their answers in the documents, and two that no document answers."""
    asked: list[dict[str, object]] = [
        {
            "id": f"quern-{number}",
            "question": f"What is the default of {FEATURES[number][6]} for the {FEATURES[number][0].lower()}?",
            "gold_names": [file_name(number)],
            "evidence": f"The default is {FEATURES[number][2]} {FEATURES[number][3]}.",
            "answers": [f"{FEATURES[number][2]} {FEATURES[number][3]}"],
            "kind": "default",
            "answerable": True,
        }
        for number in range(0, 24, 3)
    ]
    unanswerable = {"gold_names": [], "evidence": "", "answers": [], "kind": "none", "answerable": False}
    return [
        *asked,
        {"id": "quern-paint", "question": "Which colour is the coffee machine?", **unanswerable},
        {"id": "quern-moon", "question": "How far away is the moon?", **unanswerable},
    ]


def file_name(number: int) -> str:
    """The page's file, which is its doc_id."""
    return FEATURES[number][0].lower().replace(" ", "-") + ".md"


def write_project(folder: Path) -> None:
    """Everything that `dvc repro` needs, in a git repository of its own."""
    for name in CODE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    (folder / "params.yaml").write_text(PARAMS, encoding="utf-8")
    (folder / "data" / "raw").mkdir(parents=True)
    for number in range(len(FEATURES)):
        (folder / "data" / "raw" / file_name(number)).write_text(document(number), encoding="utf-8")
    (folder / "data" / "gold").mkdir()
    lines = "".join(json.dumps(question) + "\n" for question in gold())
    (folder / "data" / "gold" / "quern.jsonl").write_text(lines, encoding="utf-8")
    under_dvc(folder)
