"""Stage evaluate with a judge: its columns and figures join the others, and change none of them."""

import pytest

from ragline import assessment, io, judging
from ragline.artifacts import COMPARISONS, GOLD, METRICS, PREDICTIONS
from ragline.errors import ConfigError, MissingArtifact
from tests.fixtures.endpoint import Endpoint
from tests.unit import test_stage_evaluate as stage
from tests.unit.test_judging import PARAMS, fair

root = stage.root  # the fixture: a small project

ASKED = [*stage.ASKED, stage.UNANSWERABLE]


def test_those_are_judged_who_answer():
    assert set(judging.ANSWERERS) == set(assessment.ANSWERERS)


def test_a_judge_that_cannot_begin_stops_the_stage_before_anything_is_answered(root, monkeypatch):
    for name in ("RAGLINE_JUDGE_BASE_URL", "RAGLINE_JUDGE_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(assessment, "choose", lambda *_: pytest.fail("it has begun to search"))
    with pytest.raises(ConfigError, match="expected RAGLINE_JUDGE_BASE_URL or OPENAI_BASE_URL"):
        stage.run(root, ASKED, judge=PARAMS)
    monkeypatch.setenv("RAGLINE_JUDGE_BASE_URL", "http://judge.test/v1")
    with pytest.raises(MissingArtifact, match=r"labels\.jsonl"):
        stage.run(root, ASKED, judge=PARAMS.model_copy(update={"labels": GOLD / "labels.jsonl"}))


@pytest.mark.slow
def test_the_stage_keeps_what_the_judge_says(root, monkeypatch):
    stage.run(root, ASKED)
    before, metrics = io.read_frame(root / PREDICTIONS), (root / METRICS).read_bytes()
    figures = io.read_json(root / COMPARISONS)
    with Endpoint(fair) as endpoint:
        monkeypatch.setenv("RAGLINE_JUDGE_BASE_URL", endpoint.url)
        stage.run(root, ASKED, judge=PARAMS, generator="gpt-oss")
    rows, judged = io.read_frame(root / PREDICTIONS), io.read_json(root / COMPARISONS)
    found = judged["judge"]
    assert found["sets"]["test"]["answers"]["extractive"]["relevant"]["mean"] == 1.0
    assert "are of one family (gpt)" in found["warning"]
    new = {name for name in rows[0] if "_judged_" in name}
    assert len(new) == 6
    assert {rows[-1][name] for name in new} == {None}  # nobody can answer that one
    assert [{name: value for name, value in row.items() if name not in new} for row in rows] == before
    assert judged | {"judge": None} == figures and figures["judge"] is None
    assert (root / METRICS).read_bytes() == metrics
