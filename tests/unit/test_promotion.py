"""Promotion: what the gate decides and why, versions whole or absent, the way back."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ragline import cli, io
from ragline.artifacts import ANSWERING, BUNDLES, GENERATOR, LANGUAGE_MODEL, LOCK, PARAMS, PREDICTIONS, RETRIEVER
from ragline.errors import ConfigError, DataError, MissingArtifact, ModelError, ServiceError
from ragline.promotion import bundles, scores
from ragline.promotion.gate import gate
from ragline.runtime import lock_file
from tests.conftest import ROOT
from tests.fixtures import promotable

NAN = float("nan")


def better(number: int) -> int:
    """First on every question but each tenth, where the champion has rank 2: mrr 0.95 against 0.5."""
    return 1 if number % 10 else 2


@pytest.fixture
def root(tmp_path: Path) -> Path:
    promotable.write(tmp_path)
    return tmp_path


@pytest.fixture
def crowned(root: Path) -> Path:
    """With a first champion."""
    assert gate(root).promoted
    return root


# --- what is decided -------------------------------------------------------------------------------


def test_the_first_is_promoted(root):
    decision = gate(root)
    assert decision.promoted
    assert decision.reason == "promoted: the first; there is no champion to compare with"
    assert decision.version == "v0001"


def test_a_better_one_is_promoted_and_the_table_says_by_how_much(crowned):
    promotable.write(crowned, "two", rank=better)
    decision = gate(crowned)
    assert decision.promoted
    assert decision.version == "v0002"
    # 90 of 100 questions gain 0.5.
    assert "promoted: better: mrr@10 on test +0.450 [" in decision.reason
    assert "n = 100 in 50 clusters" in decision.reason
    assert "| mrr@10 on test | 0.500 | 0.950 | +0.450 | [" in decision.table
    assert decision.table.count("\n") == 3


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        ({}, "kept: no gain is shown: mrr@10 on test +0.000 ["),
        ({"rank": lambda n: 3}, "kept: no gain is shown: mrr@10 on test -0.167 ["),
        (
            {"rank": better, "f1": lambda n: 0.4},
            "kept: a loss of more than 0.1 is not excluded: answer_f1 on test -0.100 [",
        ),
        (
            {"rank": better, "f1": lambda n: NAN if n == 7 else 0.5},
            "kept: answer_f1 on test: the challenger's 1 of 100 values are no numbers in [0, 1], first nan",
        ),
        (
            {"rank": better, "n": 40},
            "kept: mrr@10 on test: too few questions: 40 in common, of 40; expected at least 50",
        ),
        (
            {"rank": better, "words": "another"},
            "kept: mrr@10 on test: challenger and champion have no question in common: another corpus or",
        ),
    ],
)
def test_a_challenger_is_kept_out_with_the_reason(crowned, run, reason):
    promotable.write(crowned, "two", **run)
    decision = gate(crowned)
    assert not decision.promoted
    assert decision.reason.startswith(reason)
    assert decision.version == "v0001"
    assert bundles.standing(crowned).line == ("v0001",)


def test_the_first_is_not_promoted_without_numbers(root):
    promotable.write(root, f1=lambda n: NAN)
    decision = gate(root)
    assert (decision.promoted, decision.version) == (False, "")
    assert "100 of 100 values are no numbers" in decision.reason
    assert bundles.standing(root) is None


def test_only_questions_in_common_count(crowned):
    """100 of 160 questions are the champion's; on them nothing changed."""
    promotable.write(crowned, "two", n=160, rank=lambda n: 2 if n < 100 else 1)
    assert "kept: no gain is shown: mrr@10 on test +0.000" in gate(crowned).reason


def test_nothing_new(crowned):
    assert gate(crowned).reason == "kept: nothing has changed since v0001"
    # The lock differs, the files do not: as after a change of a comment in the code.
    text = (crowned / LOCK).read_text()
    (crowned / LOCK).write_text(text.replace("0" * 32, "1" * 32))
    assert gate(crowned).reason == "kept: the same files as v0001"


def test_new_documents_need_no_gain_if_the_params_say_so(crowned):
    promotable.write(crowned, "two", documents="others")
    assert "no gain is shown" in gate(crowned).reason
    params = {**promotable.PROMOTION, "new_documents": "no_loss"}
    promotable.write(crowned, "two", documents="others", promotion=params)
    assert gate(crowned).reason.startswith("promoted: not worse, over other documents: mrr@10 on test +0.000")
    promotable.write(crowned, "three", documents="more", promotion=params, rank=lambda n: 3)
    assert gate(crowned).reason.startswith("kept: a loss of more than 0.1 is not excluded: mrr@10 on test -0.167")
    promotable.write(crowned, "three", documents="others", promotion=params)  # documents as before
    assert "no gain is shown" in gate(crowned).reason


def test_anyway(crowned):
    promotable.write(crowned, "two", words="another")
    decision = gate(crowned, anyway=True)
    assert (decision.promoted, decision.version) == (True, "v0002")
    assert decision.reason == "promoted: by hand, without a comparison"


def test_a_damaged_champion_is_told_and_stays(crowned):
    (bundles.folder(crowned, "v0001") / PREDICTIONS).unlink()
    promotable.write(crowned, "two", rank=better)
    decision = gate(crowned)
    assert not decision.promoted
    assert "kept: the champion cannot be compared with: " in decision.reason
    assert f"damaged: 1 files are not those it was written with, first {PREDICTIONS}" in decision.reason


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda r: (r / GENERATOR / "w.bin").write_text("new"), DataError, "models/generator: 1 outputs are not what"),
        (lambda r: (r / GENERATOR / "w.bin").unlink(), DataError, "models/generator: 1 outputs are not what dvc.lock"),
        (lambda r: (r / PREDICTIONS).unlink(), MissingArtifact, "run `dvc repro evaluate`"),
        (lambda r: (r / LOCK).unlink(), MissingArtifact, "dvc.lock: not found"),
        (lambda r: (r / LOCK).write_text("stages: 3"), DataError, "not what DVC writes"),
        (
            lambda r: (r / PARAMS).write_text(
                (r / PARAMS).read_text().replace("evaluate: {seed: 13", "evaluate: {seed: 14")
            ),
            DataError,
            "params.yaml: evaluate: 1 sections or keys are not what the stages ran with",
        ),
        (
            lambda r: (r / PARAMS).write_text((r / PARAMS).read_text().replace("mrr@10", "mrr")),
            ConfigError,
            r"promotion.target.metric: .*expected one of recall@K, .* got 'mrr'",
        ),
        (
            lambda r: (r / PARAMS).write_text((r / PARAMS).read_text().replace("set: test", "set: trial")),
            ConfigError,
            "promotion: no set 'trial' was asked; expected one of test",
        ),
    ],
)
def test_faults_of_the_project_are_one_line_and_leave_the_champion(crowned, spoil, error, message):
    promotable.write(crowned, "two", rank=better)
    spoil(crowned)
    with pytest.raises(error, match=message):
        gate(crowned)
    assert bundles.standing(crowned).version == "v0001"
    assert bundles.serving(crowned)


# --- what a question is worth ----------------------------------------------------------------------


def test_values_of_the_served_system():
    rows = [
        promotable.row(0, rank=3, f1=0.5),
        {**promotable.row(1, rank=0, f1=0.5), "abstained": True},  # not found; the answer is held back
        {**promotable.row(2, rank=0, f1=0.0), "answerable": False, "abstained": True},
    ]
    first, second, third = map(scores.key, rows)
    extractive, generator = scores.served({"answerer": "extractive"}), scores.Served("hybrid", "generator")
    assert scores.values(rows, "test", "recall@3", extractive) == {first: 1, second: 0}
    assert scores.values(rows, "test", "recall@2", extractive) == {first: 0, second: 0}
    assert scores.values(rows, "test", "mrr@10", extractive) == {first: 1 / 3, second: 0}
    assert scores.values(rows, "test", "answer_f1", extractive) == {first: 0.5, second: 0}
    assert scores.values(rows, "test", "answer_f1", generator) == {first: 0, second: 0}
    assert scores.values(rows, "test", "declined", extractive) == {third: 1}
    assert scores.values(rows, "gold", "mrr@10", extractive) == {}
    with pytest.raises(DataError, match="no column 'rank_reranked', which mrr@10 needs"):
        scores.values(rows, "test", "mrr@10", scores.served({"answerer": "extractive", "reranker": "models/reranker"}))


# --- versions --------------------------------------------------------------------------------------


def test_what_is_served_does_not_change_with_the_project(crowned):
    place = bundles.serving(crowned)
    before = bundles.survey(place)
    promotable.write(crowned, "worse", rank=lambda n: 4)
    (crowned / RETRIEVER / "a/w.bin").write_text("torn")
    assert bundles.serving(crowned) == place
    assert bundles.survey(place) == before


def test_everything_travels_together(crowned):
    place = bundles.serving(crowned)
    for path in bundles.BUNDLED:
        assert (place / path).exists(), path
    assert (place / RETRIEVER / "a/w.bin").read_text() == "models/retriever one\n"


@pytest.mark.parametrize(("reranker", "travels"), [("models/own", True), ("builtin:minilm", False), (None, False)])
def test_a_reranker_of_the_project_travels_too(root, reranker, travels):
    (root / "models/own").mkdir()
    (root / "models/own/config.json").write_text("{}")
    promotable.retrain(root, "one", reranker=reranker)
    gate(root, anyway=True)
    assert (bundles.serving(root) / "models/own/config.json").exists() == travels


@pytest.mark.parametrize(
    ("base", "travels"), [({"name": "models/own"}, True), ({"name": "org/model@main"}, False), (None, False)]
)
def test_the_base_of_adapters_travels_too_where_it_lies_in_the_project(root, base, travels):
    (root / "models/own").mkdir()
    (root / "models/own/config.json").write_text("{}")
    io.write_json({"limits": {}, "base": base}, root / LANGUAGE_MODEL)
    promotable.retrain(root, "one")
    gate(root, anyway=True)
    assert (bundles.serving(root) / "models/own/config.json").exists() == travels


def test_a_model_that_cannot_travel_is_refused(tmp_path):
    root = tmp_path / "project"
    promotable.write(root)
    (tmp_path / "own").mkdir()
    promotable.retrain(root, "one", reranker="../own")
    with pytest.raises(
        ConfigError, match=r"evaluate\.reranker: expected a folder inside the project, .*, got \.\./own"
    ):
        gate(root, anyway=True)
    promotable.retrain(root, "one")
    io.write_json({"limits": {}, "base": {"name": "../own"}}, root / LANGUAGE_MODEL)
    with pytest.raises(ConfigError, match=r"train_generator\.base_model: expected a folder inside the project"):
        gate(root, anyway=True)
    assert bundles.standing(root) is None


def test_files_in_common_are_stored_once(crowned):
    promotable.retrain(crowned, "one", documents="others")
    assert gate(crowned, anyway=True).version == "v0002"
    old, new = (bundles.folder(crowned, version) / GENERATOR / "w.bin" for version in ("v0001", "v0002"))
    assert old.samefile(new)
    assert not new.samefile(crowned / GENERATOR / "w.bin")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda place: (place / GENERATOR / "w.bin").chmod(0o644) or (place / GENERATOR / "w.bin").write_text("x"),
        lambda place: (place / GENERATOR / "w.bin").unlink(),
        lambda place: (place / GENERATOR / "more.bin").write_text("x"),
    ],
)
def test_an_altered_version_is_refused(crowned, spoil):
    spoil(bundles.folder(crowned, "v0001"))
    with pytest.raises(ModelError, match=r"v0001: damaged: 1 files are not .* first models/generator/(w|more)\.bin"):
        bundles.serving(crowned)


@pytest.mark.parametrize("content", ["", "[]", '{"line": []}', '{"line": "v1", "reason": 3'])
def test_a_torn_record_is_one_line(crowned, content):
    (crowned / BUNDLES / bundles.CHAMPION).write_text(content)
    with pytest.raises(ModelError, match="not a record of champions"):
        bundles.serving(crowned)


def test_rollback_goes_back_step_by_step_and_the_gate_does_not_undo_it(crowned):
    promotable.write(crowned, "two", rank=better)
    gate(crowned)
    promotable.retrain(crowned, "three")
    gate(crowned, anyway=True)
    assert bundles.rollback(crowned).version == "v0002"
    assert gate(crowned).reason.startswith("kept: the same as v0003, which was rolled back")
    assert bundles.rollback(crowned).version == "v0001"
    assert bundles.serving(crowned).name == "v0001"
    with pytest.raises(ConfigError, match="no earlier champion to go back to, only v0001"):
        bundles.rollback(crowned)
    assert gate(crowned, anyway=True).version == "v0004"  # a number never comes twice


def test_no_rollback_to_a_damaged_version(crowned):
    promotable.write(crowned, "two", rank=better)
    gate(crowned)
    (bundles.folder(crowned, "v0001") / PARAMS).unlink()
    with pytest.raises(ModelError, match=r"v0001: damaged"):
        bundles.rollback(crowned)
    assert bundles.serving(crowned).name == "v0002"


def test_old_versions_are_deleted(crowned):
    for number in range(2, 6):
        promotable.retrain(crowned, str(number))
        gate(crowned, anyway=True)
    assert sorted(path.name for path in (crowned / BUNDLES).glob("v*")) == ["v0003", "v0004", "v0005"]


# --- two at once, and killed -----------------------------------------------------------------------


def test_two_gates_at_once_are_impossible(root):
    with bundles.locked(root), pytest.raises(ServiceError, match="another promotion or rollback is at work"):
        gate(root)
    assert gate(root).promoted


def test_the_lock_dies_with_its_process(root):
    hold = "import sys, time; from pathlib import Path; from ragline.promotion import bundles\n"
    hold += "with bundles.locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold, str(root)], stdout=subprocess.PIPE, cwd=ROOT) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ServiceError, match="at work"):
            gate(root)
        holder.kill()
    assert gate(root).promoted


def _promote_for_ever(root: Path) -> None:
    """Promotes, and goes back where it can, without end."""
    for number in range(10**6):
        promotable.retrain(root, f"content {os.getpid()} {number}")
        gate(root, anyway=True)
        if number % 3 == 2:
            bundles.rollback(root)


@pytest.mark.parametrize("rounds", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_at_any_point_the_old_or_the_new_champion_stands_whole(crowned, rounds):
    rng, seen, record = random.Random(13), set(), crowned / BUNDLES / bundles.CHAMPION
    for _ in range(rounds):
        process = multiprocessing.get_context("fork").Process(target=_promote_for_ever, args=(crowned,))
        before = record.read_bytes()
        process.start()
        while process.is_alive() and record.read_bytes() == before:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.2))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        place = bundles.serving(crowned)  # verifies every file
        content = io.read_json(place / ANSWERING)["content"]
        assert (place / GENERATOR / "w.bin").read_text() == f"models/generator {content}\n"
        seen.add(place.name)
    assert len(seen) > rounds / 2
    promotable.write(crowned, "after all")
    last = gate(crowned, anyway=True).version
    left = {path.name for path in (crowned / BUNDLES).iterdir()}
    assert left - {"lock", "champion.json"} == set(bundles.standing(crowned).line[-3:])
    assert last in left


# --- dvc.lock --------------------------------------------------------------------------------------


def test_digests_are_dvcs(tmp_path):
    folder = tmp_path / "folder"
    files = {"b": b"two", "a/c": b"three", "a.txt": b"one"}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert lock_file.dvc_md5(folder / "a.txt") == "f97c5d29941bfb1b2fdab0874906ab82"  # md5sum of `one`
    assert lock_file.dvc_md5(folder) == "0a5236f9137d09561b1b68c30f11180b.dir"  # of dvc 3.67, `a.txt` before `a/c`


# --- what a person types ---------------------------------------------------------------------------


def said(capsys, root: Path, *arguments: str) -> list[str]:
    cli.main(["--root", str(root), *arguments])
    return capsys.readouterr().out.splitlines()


def test_promote_champion_and_rollback(root, capsys):
    assert said(capsys, root, "promote")[-1] == "champion: v0001"
    promotable.write(root, "two", rank=better)
    table, *_, reason, champion = said(capsys, root, "promote")
    assert table.startswith("| measure ")
    assert reason.startswith("promoted: better")
    assert champion == "champion: v0002"
    assert said(capsys, root, "champion")[0].startswith("champion   v0002, promoted: better")
    assert said(capsys, root, "rollback") == ["champion: v0001, rolled back from v0002"]
    assert said(capsys, root, "champion")[-1] == "withdrawn  v0002"


@pytest.mark.parametrize("words", [["champion"], pytest.param(["ask", "--champion", "why?"], marks=pytest.mark.slow)])
def test_no_champion_is_one_line(root, capsys, words):
    with pytest.raises(SystemExit):
        cli.main(["--root", str(root), *words])
    assert "no champion yet; run `ragline promote`" in capsys.readouterr().err
