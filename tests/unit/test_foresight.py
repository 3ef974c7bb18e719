"""What the answers of a served model would cost, before it is asked."""

from dataclasses import replace

import pytest
import yaml

from ragline import io
from ragline.answer_params import OnlyEndpoint
from ragline.artifacts import DOCUMENTS, PASSAGES, PREDICTIONS, QUESTIONS_DEV
from ragline.cli import main as ragline
from ragline.types import Document, Hit, Passage, QAExample
from tests.fixtures.endpoint import Endpoint
from tests.fixtures.small import passage, question

CORPUS = [passage("a#0", "Merge joins two frames."), passage("b#0", "Concat stacks frames.")]
QUESTIONS = [f"how do I join {n} frames?" for n in range(6)]
ROWS = [{"question": asked, "retrieved_ids": ["b#0", "a#0"]} for asked in QUESTIONS]
SECTION = {
    "base_model": "served",
    "method": "endpoint",
    "passages": 2,
    "max_input_tokens": 400,
    "max_answer_tokens": 50,
    "seed": 3,
    "endpoint": {"prompt_usd": 1.0, "answer_usd": 2.0, "budget_usd": 1e-6, "max_failed": 0.5},
}


@pytest.fixture
def project(tmp_path):
    questions = {"method": "rules", "max_per_document": 1, "filters": [], "leaks": "report", "seed": 13}
    sections = {
        "build_index": {"language": "english"},
        "generate_qa": questions,
        "train_generator": SECTION,
        "evaluate": {"depth": 20},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(sections))
    io.write_table([Document(p.doc_id, "", "", p.text, "text") for p in CORPUS], Document, tmp_path / DOCUMENTS)
    io.write_table(CORPUS, Passage, tmp_path / PASSAGES)
    io.write_table([question(f"d{n}", "a#0") for n in range(3)], QAExample, tmp_path / QUESTIONS_DEV)
    return tmp_path


def answered_before(project, rows=ROWS):
    io.write_frame({name: [row[name] for row in rows] for name in rows[0]}, project / PREDICTIONS)


def estimate(project, capsys) -> str:
    ragline(["--root", str(project), "estimate"])
    return capsys.readouterr().out


def test_without_an_earlier_run(project, capsys):
    assert "answers     not foreseen: there is no earlier run" in estimate(project, capsys)


def test_passages_cut_anew(project, capsys):
    answered_before(project, [ROWS[0] | {"retrieved_ids": ["gone#0"]}])
    assert "answers     not foreseen: the last run found passages that are gone" in estimate(project, capsys)


def test_what_abstention_asks_of_dev(project, capsys):
    """Three of dev as they are and three without their gold passage, and the one that nothing answers."""
    answered_before(project)
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["evaluate"]["abstention"] = {"risk": 0.3, "level": 0.9, "unanswerable": 0.1, "questions": 20}
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    nothing = replace(question("d3", "a#0"), answers=(), gold_passage_ids=(), answerable=False)
    io.write_table([question(f"d{n}", "a#0") for n in range(3)] + [nothing], QAExample, project / QUESTIONS_DEV)
    assert "answers     76 to ask at most" in estimate(project, capsys)


def test_calls_are_those_that_the_ledger_does_not_hold(project, capsys, monkeypatch):
    """Six questions of the last run, three of dev, and thirty twice among distractors."""
    answered_before(project)
    generator = OnlyEndpoint.model_validate(SECTION).generator(project)
    hits = [[Hit(CORPUS[1], 1.0), Hit(CORPUS[0], 1.0)]] * 6
    before = estimate(project, capsys)
    assert "answers     69 to ask at most" in before
    assert "calls       69 to pay for, 0 answered by the ledger" in before
    assert "3,450 in answers" in before  # 69 of 50 tokens, as long as nobody has asked
    assert "budget of $1e-06 a run, which stops there" in before
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    roomy = OnlyEndpoint.model_validate(SECTION | {"endpoint": SECTION["endpoint"] | {"budget_usd": 1.0}})
    with Endpoint(lambda request: "Use merge [1].") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        roomy.generator(project).answer(QUESTIONS[:3], hits[:3])
        asked = server.asked.total()
        assert "calls       35 to pay for, 34 answered" in estimate(project, capsys)  # 3 + half of 63
        roomy.generator(project).answer(QUESTIONS, hits)
        assert server.asked.total() == 2 * asked
        after = estimate(project, capsys)
        assert server.asked.total() == 2 * asked
    assert "calls       0 to pay for, 69 answered by the ledger" in after
    assert "cost        $0.00" in after
    with generator.look_ahead(QUESTIONS, hits) as ahead:
        assert ahead.to_pay == []
