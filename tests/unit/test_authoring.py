"""Questions by a language model, from params to tables, and what `ragline estimate` says before."""

import pytest
import yaml

from ragline import io
from ragline.artifacts import DOCUMENTS, PASSAGES, QUESTION_DROPS, QUESTIONS_TRAIN
from ragline.cli import main as ragline
from ragline.errors import ConfigError
from ragline.question_params import QuestionParams
from ragline.runtime.params import load_section
from ragline.types import Document, Drop, Passage, QAExample
from stages import generate_qa
from tests.fixtures.authors import LLM, author, corpus
from tests.fixtures.endpoint import Endpoint


@pytest.fixture
def project(tmp_path, monkeypatch):
    documents, passages = corpus(60)
    io.write_table(documents, Document, tmp_path / DOCUMENTS)
    io.write_table(passages, Passage, tmp_path / PASSAGES)
    with Endpoint(author) as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-test")
        monkeypatch.chdir(tmp_path)
        yield tmp_path, endpoint


def settings(folder, **changed):
    section = {"method": "llm", "max_per_document": 1, "filters": [], "leaks": "drop", "seed": 13, "llm": LLM | changed}
    sections = {"generate_qa": section, "build_index": {"language": "english"}}
    (folder / "params.yaml").write_text(yaml.safe_dump(sections))
    return load_section("generate_qa", QuestionParams)


def test_the_stage_pays_once_and_its_outputs_do_not_depend_on_who_answered(project):
    folder, endpoint = project
    params = settings(folder)
    generate_qa.main(params, folder)
    train = io.read_table(QAExample, folder / QUESTIONS_TRAIN)
    drops = io.read_table(Drop, folder / QUESTION_DROPS)
    assert train and {q.split for q in train} == {"train"}
    first = [(folder / path).read_bytes() for path in generate_qa.WRITES]
    paid = endpoint.answered.total()
    assert paid == 60
    generate_qa.main(params, folder)
    assert [(folder / path).read_bytes() for path in generate_qa.WRITES] == first
    assert endpoint.answered.total() == paid
    assert len(drops) < 10
    assert b"sk-of-a-test" not in b"".join(first) + (folder / ".ragline/calls.sqlite").read_bytes()


def test_estimate_says_what_it_rests_on_and_asks_nobody(project, capsys):
    folder, endpoint = project
    params = settings(folder)
    ragline(["estimate"])
    said = capsys.readouterr().out
    assert "60 to pay for, 0 answered by the ledger" in said and "no earlier call of this model: rough" in said
    assert endpoint.asked.total() == 0
    generate_qa.main(params, folder)
    ragline(["estimate"])
    said = capsys.readouterr().out
    assert "0 to pay for, 60 answered by the ledger" in said and "$0.00 of a budget of $5 a run" in said
    assert "60 earlier calls of this model" in said


def test_estimate_without_a_model_in_params(project, capsys):
    folder, _ = project
    section = {"method": "rules", "max_per_document": 1, "filters": [], "leaks": "drop", "seed": 13}
    sections = {"generate_qa": section, "build_index": {"language": "english"}}
    (folder / "params.yaml").write_text(yaml.safe_dump(sections))
    ragline(["estimate"])
    assert capsys.readouterr().out == "nothing in params.yaml asks a language model: $0.00\n"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kinds": {"riddle": 1}}, r"no kind riddle; expected some of factoid, procedural"),
        ({"kinds": {"factoid": 0}}, r"expected at least one kind with a weight above 0"),
        ({"passages": 0}, r"generate_qa\.llm\.passages: Input should be greater than 0, got 0"),
        ({"examples": "/etc/passwd"}, r"sources must stand in data/raw"),
        ({"api_key": "x"}, r"generate_qa\.llm\.api_key: Extra inputs are not permitted"),
    ],
)
def test_wrong_settings_are_named(tmp_path, monkeypatch, changed, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        settings(tmp_path, **changed)


def test_own_prompts_and_examples_reach_the_model(project):
    folder, endpoint = project
    raw = folder / "data" / "raw"
    raw.mkdir()
    (raw / "ask.txt").write_text(
        "You write questions. MY OWN WORDS {{task}} {{examples}}\n{{passages}}\nAsk as people do"
    )
    (raw / "users.jsonl").write_text('{"question": "how loud are they??"}\n')
    seen = []
    original = endpoint.answer
    endpoint.answer = lambda asked: seen.append(asked["messages"][0]["content"]) or original(asked)
    params = settings(folder, prompts={"question": "data/raw/ask.txt"}, examples="data/raw/users.jsonl", passages=20)
    generate_qa.main(params, folder)
    asking = [content for content in seen if "MY OWN WORDS" in content]
    assert len(asking) == 20 and all("- how loud are they??" in content for content in asking)


def test_an_example_without_a_question(project):
    folder, _ = project
    (folder / "data" / "raw").mkdir()
    (folder / "data/raw/users.jsonl").write_text('{"q": "?"}\n')
    with pytest.raises(Exception, match=r"users\.jsonl:1: expected the key 'question', got \['q'\]"):
        generate_qa.main(settings(folder, examples="data/raw/users.jsonl"), folder)
