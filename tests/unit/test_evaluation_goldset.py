"""Gold sets: located evidence, and one clear line for what is wrong."""

import json
from pathlib import Path

import pytest

from ragline.errors import DataError, MissingArtifact
from ragline.evaluation import gate, goldset
from ragline.types import Document, Passage

TEXT = "Merge joins frames. The default is inner."
DOCUMENTS = [
    Document("merge", "s", "merge", TEXT, "text", aliases=("join",), cluster="merge"),
    Document("concat", "s", "concat", "Concat stacks. The default is inner.", "text", cluster="concat"),
]
PASSAGES = [
    Passage("merge#0000", "merge", "merge", "", TEXT[:20], 0, 20, 4, "merge"),
    Passage("merge#0001", "merge", "merge", "", TEXT[20:], 20, 41, 4, "merge"),
    Passage("concat#0000", "concat", "concat", "", DOCUMENTS[1].text, 0, 36, 6, "concat"),
]
GOOD = {
    "id": "g1",
    "question": "what is the default?",
    "gold_names": ["join", "concat"],
    "evidence": "default is inner",
    "answers": ["inner"],
    "kind": "parameter",
    "answerable": True,
}
HOPELESS = GOOD | {"id": "g2", "gold_names": [], "evidence": "", "answers": [], "answerable": False}


def read(tmp_path: Path, *rows: dict) -> goldset.GoldSet:
    path = tmp_path / "gold.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return goldset.read(path, DOCUMENTS, PASSAGES)


def test_evidence_is_located_in_every_named_document_aliases_too(tmp_path):
    found = read(tmp_path, GOOD, HOPELESS)
    first, second = found.questions
    assert first.gold_passage_ids == ("merge#0001", "concat#0000")
    assert TEXT[first.start : first.end] == "default is inner"
    assert found.document_qrels == {"g1": frozenset({"merge#0000", "merge#0001", "concat#0000"})}
    assert not second.answerable
    assert second.gold_passage_ids == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gold_names": ["pivot"]}, r"gold\.jsonl:1: expected gold_names of the corpus, got 'pivot'"),
        ({"evidence": "default is outer"}, r"gold\.jsonl:1: evidence does not stand in merge: 'default is outer'"),
        ({"answers": []}, r"gold\.jsonl:1: not a gold question: row: .*needs gold_names, evidence and answers"),
        ({"answerable": False}, r"an unanswerable question has no gold_names"),
        ({"kin": "x"}, r"kin: Extra inputs are not permitted"),
    ],
)
def test_what_is_wrong_and_where(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, GOOD | change)


def test_one_id_twice(tmp_path):
    with pytest.raises(DataError, match=r"gold\.jsonl:2: expected ids to be unique, got 'g1' again"):
        read(tmp_path, GOOD, GOOD)


def test_empty(tmp_path):
    with pytest.raises(DataError, match="expected one question a line, got none"):
        read(tmp_path)


def test_missing(tmp_path):
    with pytest.raises(MissingArtifact, match=r"nowhere\.jsonl: not found"):
        goldset.read(tmp_path / "nowhere.jsonl", DOCUMENTS, PASSAGES)


def test_the_gate_keeps_the_tuned_encoder_only_when_the_whole_interval_is_above_zero(tmp_path):
    questions = [q for n in range(200) for q in read(tmp_path, GOOD | {"id": f"g{n}"}).questions]
    apart = [type(q)(**{f: getattr(q, f) for f in q.__slots__} | {"cluster": q.question_id}) for q in questions]
    right = {q.question_id: {"merge#0001": 1.0} for q in apart}
    wrong = {q.question_id: {"merge#0000": 1.0} for q in apart}
    assert gate.compare(right, wrong, apart, "mrr@10", seed=1).summary()["kept"] == "tuned"
    assert gate.compare(wrong, right, apart, "mrr@10", seed=1).summary()["kept"] == "base"
    same = gate.compare(right, right, apart, "mrr@10", seed=1)
    assert not same.better
    assert "not shown to be better" in same.reason
