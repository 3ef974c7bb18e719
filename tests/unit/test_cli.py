"""What a person types, and the one line that they get when it is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from ragline import cli, io
from ragline.artifacts import (
    CHUNK_COUNTS,
    COMPARISONS,
    INGEST_COUNTS,
    METRICS,
    QUESTION_COUNTS,
    REPORT,
    RETRIEVER_SUMMARY,
)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([" "], "question: expected some words, got none"),
        (["why " * 600], "question: expected at most 2000 characters, got 2400"),
        (["why?"], "models/answering.json: not found; run `dvc repro evaluate`"),
    ],
)
def test_a_wrong_question_is_one_line(tmp_path, capsys, words, message):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--root", str(tmp_path), "ask", *words])
    assert stopped.value.code == 3
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_a_wrong_filter_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--root", str(tmp_path), "ask", "why?", "--where", "author=me"])
    assert stopped.value.code == 3
    wanted = "ragline: DataError: where: expected doc_id, source, title, heading or pages, then = and a value, got"
    assert capsys.readouterr().err == f"{wanted} 'author=me'\n"


def test_words_of_others_do_not_steer_the_terminal(capsys):
    cli._say("ok \x1b]0;owned\x07\x1b[2J \u202edab\ttab\u00a0…\n")
    assert capsys.readouterr().out == "ok ]0;owned[2J dab\ttab\u00a0…\n"


@pytest.mark.parametrize("k", ["0", "51", "many"])
def test_how_many_passages(capsys, k):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["ask", "why?", "-k", k])
    assert stopped.value.code == 2
    wanted = f"ragline: ConfigError: -k: expected a number from 1 to 50, got '{k}'; see `ragline ask --help`\n"
    assert capsys.readouterr().err == wanted


def test_summary_before_any_run(tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(["--root", str(tmp_path), "summary"])
    assert "reports/counts/ingest.json: not found; run `dvc repro ingest`" in capsys.readouterr().err


def test_summary(tmp_path: Path):
    answers = {"extractive": {"answer_f1": 0.25}, "generator": {"answer_f1": 0.125}}
    table = {"n": 4, "n_answerable": 3, "retrieval": {"tuned": {"recall@5": 0.75}}, "answers": answers}
    paired = {
        "set": "test",
        "a": "tuned",
        "b": "base",
        "metric": "recall@5",
        "difference": 0.1,
        "low": -0.02,
        "high": 0.22,
    }
    for path, value in {
        INGEST_COUNTS: {"documents": 1200, "clusters": 1100},
        CHUNK_COUNTS: {"passages": 3400, "tokens_mean": 120.4},
        QUESTION_COUNTS: {"train": 1500, "dev": 200, "test": 201},
        RETRIEVER_SUMMARY: {"reason": "tuned encoder kept"},
        METRICS: {"test": table},
        COMPARISONS: {"paired": [paired]},
        REPORT: {},
    }.items():
        io.write_json(value, tmp_path / path)
    lines = cli.summary(tmp_path)
    assert len(lines) <= 10
    assert "1,200 in 1,100 near-duplicate clusters" in lines[0]
    assert lines[4].endswith("recall@5: tuned 0.750 (n = 3)")
    assert lines[5].endswith("tuned - base: +0.100 [-0.020, +0.220], 95 %")
    assert lines[6].endswith("answer F1: extractive 0.250, generator 0.125")
    assert lines[-1].endswith("reports/index.html")


def test_help_does_not_wait_for_torch():
    code = "import sys, ragline.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
