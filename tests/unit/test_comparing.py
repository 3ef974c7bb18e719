"""Two builds on the same questions: figures by hand, laws, where builds are found, and how a person reads it."""

import json
import subprocess
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragline import builds, cli, comparing, io, side_by_side
from ragline.artifacts import ANSWERING, LOCK, METRICS, PREDICTIONS
from ragline.builds import Asked, Build
from ragline.comparing import Changed, ChangedData, Comparison, compare
from ragline.errors import ConfigError, DataError, MissingArtifact
from ragline.promotion.gate import gate
from ragline.runtime.lock_file import StageLock
from tests.fixtures import promotable

NOTHING = comparing.Earlier([], {})
"""No earlier run, and nothing amiss."""


def build(label="this run", metrics=None, stages=None, words="Why?", **values) -> Build:
    """Values by metric, on questions of the set `test`; two questions a document."""
    numbers = sorted({number for given in values.values() for number in given})
    return Build(
        label,
        metrics or {},
        {f"k{number}": Asked("test", f"q{number}", f"{words} {number}", f"d{number // 2}") for number in numbers},
        {
            ("test", metric): {f"k{number}": value for number, value in given.items()}
            for metric, given in values.items()
        },
        stages or {},
    )


def by_metric(comparison: Comparison) -> dict[str, comparing.Paired]:
    return {row.metric: row for row in comparison.paired}


def test_a_row_by_hand():
    # In common are 0 to 3, of documents d0 and d1: 0.5 → 1, 1 → 0, 0 → 1, 0.25 → 0.25. Means 1.75 / 4 and 2.25 / 4.
    a = build(answer_f1={0: 0.5, 1: 1.0, 2: 0.0, 3: 0.25, 9: 1.0})
    b = build(answer_f1={0: 1.0, 1: 0.0, 2: 1.0, 3: 0.25, 10: 0.0, 11: 0.0})
    found = compare("HEAD~1", a, b)
    (row,) = found.paired
    assert (row.n, row.n_clusters) == (4, 2)
    assert (row.before, row.after, row.difference) == (0.4375, 0.5625, 0.125)
    assert (row.wins, row.losses, row.ties) == (2, 1, 1)
    assert row.low <= row.difference <= row.high
    assert row.verdict == "not decisive with n = 4"
    assert (found.only_a, found.only_b) == (1, 2)
    assert [(q.question_id, q.before, q.after) for q in found.won] == [("q2", 0.0, 1.0), ("q0", 0.5, 1.0)]
    assert [(q.question, q.before, q.after, q.turned_bad) for q in found.lost] == [("Why? 1", 1.0, 0.0, True)]


def test_each_question_counts_once_the_deepest_first_then_search_before_answers():
    before = {"recall@5": {0: 1.0, 1: 1.0}, "answer_f1": {1: 0.6, 2: 1.0, 3: 0.5}, "mrr@10": {0: 1.0}}
    after = {"recall@5": {0: 0.0, 1: 0.0}, "answer_f1": {1: 0.5, 2: 0.0, 3: 0.3}, "mrr@10": {0: 0.0}}
    lost = compare("", build(**before), build(**after)).lost
    assert [(q.question_id, q.metric, q.turned_bad) for q in lost] == [
        ("q0", "recall@5", True),
        ("q1", "recall@5", True),
        ("q2", "answer_f1", True),
        ("q3", "answer_f1", True),
    ]


def test_a_question_found_now_and_answered_worse_is_both_won_and_lost():
    before = build(**{"recall@5": {0: 0.0}, "answer_f1": {0: 0.6}})
    found = compare("", before, build(**{"recall@5": {0: 1.0}, "answer_f1": {0: 0.5}}))
    assert [(q.metric, q.turned_bad) for q in found.won] == [("recall@5", False)]
    assert [(q.metric, q.turned_bad) for q in found.lost] == [("answer_f1", False)]  # 0.5 is still good


def test_what_is_decided():
    # 40 documents of two questions each: all found now, none before; the answers of one document alone changed.
    n = range(80)
    a = build(**{"recall@1": dict.fromkeys(n, 0.0), "answer_em": dict.fromkeys(n, 0.0)})
    b = build(**{"recall@1": dict.fromkeys(n, 1.0), "answer_em": {number: float(number < 2) for number in n}})
    forth, back = by_metric(compare("", a, b)), by_metric(compare("", b, a))
    assert (forth["recall@1"].verdict, back["recall@1"].verdict) == ("better", "worse")
    assert forth["answer_em"].verdict == back["answer_em"].verdict == "not decisive with n = 80"
    # Two rows: the smaller p counts twice, the greater once.
    assert forth["recall@1"].p_holm == pytest.approx(2 * forth["recall@1"].p, abs=1e-6)
    assert forth["answer_em"].p_holm == forth["answer_em"].p
    worse = comparing.worse(compare("", b, a), {("test", "recall@1"), ("test", "answer_em")})
    assert [row.metric for row in worse] == ["recall@1"]
    assert comparing.worse(compare("", b, a), {("gold", "recall@1")}) == []


scores = st.dictionaries(st.integers(0, 12), st.sampled_from([0.0, 0.3, 0.5, 1.0]), max_size=9)


@given(scores, scores, scores, scores)
def test_turned_round_every_sign_turns(one, two, three, four):
    a, b = build("a", answer_f1=one, **{"recall@5": two}), build("b", answer_f1=three, **{"recall@5": four})
    forth, back = compare("", a, b), compare("", b, a)
    turned = {"better": "worse", "worse": "better"}
    for ours, theirs in zip(forth.paired, back.paired, strict=True):
        assert (ours.difference, ours.low, ours.high) == (-theirs.difference, -theirs.high, -theirs.low)
        assert (ours.wins, ours.losses, ours.ties) == (theirs.losses, theirs.wins, theirs.ties)
        assert (ours.p, ours.p_holm) == (theirs.p, theirs.p_holm)
        assert ours.verdict == turned.get(theirs.verdict, theirs.verdict)
        assert ours.after - ours.before == pytest.approx(ours.difference, abs=2e-6)
        assert ours.wins + ours.losses + ours.ties == ours.n
    assert [q.question_id for q in forth.won] == [q.question_id for q in back.lost]
    assert (forth.only_a, forth.only_b) == (back.only_b, back.only_a)


@given(scores)
def test_a_build_does_not_differ_from_itself(values):
    found = compare("", build(answer_f1=values), build(answer_f1=values))
    assert (found.won, found.lost, found.metrics, found.only_a, found.only_b) == ([], [], [], 0, 0)
    assert all(row.difference == 0 and row.verdict.startswith("not decisive") for row in found.paired)


def lock(params=None, deps=None, outs=None):
    return StageLock(params or {}, deps or {}, outs or {})


def test_what_was_changed():
    before = {
        "ingest": lock(
            {"ingest": {"seed": 1, "sources": [{"kind": "files"}]}}, {"data/raw": "1", "ragline/io.py": "i"}
        ),
        "chunk": lock({"chunk": {"gone": 2}}, {"ragline/chunk.py": "c"}, {"data/passages.parquet": "p"}),
        "evaluate": lock({"chunk.gone": 2}, {"data/gold": "g"}, {"data/predictions.parquet": "x"}),
        "report": lock({"report": {"title": "A"}}, {"stages/report.py": "r"}, {}),
    }
    after = {
        "ingest": lock({"ingest": {"seed": 1, "sources": [{"kind": "site"}]}}, {"data/raw": "2", "ragline/io.py": "i"}),
        "chunk": lock(
            {"chunk": {"new": 3}}, {"ragline/chunk.py": "d", "ragline/text.py": "t"}, {"data/questions/t.jsonl": "q"}
        ),
        "evaluate": lock({}, {"data/gold": "g"}, {"data/predictions.parquet": "y"}),
        "report": lock({"report": {"title": "B"}}, {"stages/report.py": "s"}, {}),
    }
    found = compare(
        "", build(stages=before, metrics={"same": 1.0, "x": 0.1}), build(stages=after, metrics={"same": 1.0})
    )
    assert found.params == [
        Changed("chunk.gone", 2, None),
        Changed("chunk.new", None, 3),
        Changed("ingest.sources", [{"kind": "files"}], [{"kind": "site"}]),
    ]
    assert found.data == [ChangedData("data/passages.parquet", "p", None), ChangedData("data/raw", "1", "2")]
    assert found.code == ["ragline/chunk.py", "ragline/text.py"]
    assert found.metrics == [Changed("x", 0.1, None)]


def test_leaves_and_numbers():
    table = {"test": {"n": 3, "bm25": {"mrr@10": 0.5}, "name": "x", "on": True, "odd": float("nan"), "none": {}}}
    assert dict(builds.numbers(table)) == {"test.n": 3.0, "test.bm25.mrr@10": 0.5}
    assert dict(builds.leaves({"a": {"b": [1], "c": {}}})) == {"a.b": [1], "a.c": {}}


# --- where builds are ------------------------------------------------------------------------------


def test_each_build_by_the_search_and_answerer_that_it_serves(tmp_path):
    promotable.write(tmp_path, rank=lambda number: 3, n=2)
    rows = [{**row, "rank_reranked": 1, "generator_f1": 0.9} for row in io.read_frame(tmp_path / PREDICTIONS)]
    io.write_frame({name: [row[name] for row in rows] for name in rows[0]}, tmp_path / PREDICTIONS)
    plain = builds.read(tmp_path, "")
    assert set(plain.values[("test", "mrr@10")].values()) == {1 / 3}
    assert set(plain.values[("test", "answer_f1")].values()) == {0.5}
    io.write_json({"answerer": "generator", "reranker": "models/reranker"}, tmp_path / ANSWERING)
    other = builds.read(tmp_path, "")
    assert set(other.values[("test", "mrr@10")].values()) == {1.0}
    assert set(other.values[("test", "answer_f1")].values()) == {0.9}


def test_the_champion_the_workspace_and_a_folder(tmp_path):
    promotable.write(tmp_path, rank=lambda number: 7)
    gate(tmp_path)
    assert comparing.for_report(tmp_path) == NOTHING  # the champion has the same predictions, and there is no git
    promotable.write(tmp_path, "two", rank=lambda number: 1)
    found = compare("", builds.named(tmp_path, "champion"), builds.named(tmp_path, "workspace"))
    assert (found.a, found.b) == ("champion v0001", "this run")
    assert by_metric(found)["recall@5"].verdict == "better"
    assert [asdict(one) for one in comparing.for_report(tmp_path).comparisons] == [
        asdict(replace(found, name="champion"))
    ]
    folder = str(tmp_path / ".ragline/bundles/v0001")
    assert builds.named(tmp_path, folder).values == builds.named(tmp_path, "champion").values


def test_what_was_served_before_and_what_is_new(tmp_path):
    assert builds.served(tmp_path) is None and builds.last(tmp_path) is None
    promotable.write(tmp_path)
    assert builds.served(tmp_path).label == "the last run"
    gate(tmp_path)
    assert (builds.served(tmp_path).label, builds.last(tmp_path).label) == ("champion v0001", "this run")


@pytest.mark.parametrize("path", [PREDICTIONS, METRICS, ANSWERING, LOCK])
def test_without_a_file_it_is_one_line_and_the_report_goes_on(tmp_path, path):
    promotable.write(tmp_path)
    (tmp_path / path).unlink()
    with pytest.raises(MissingArtifact, match=path.name):
        builds.named(tmp_path, "workspace")
    assert comparing.for_report(tmp_path) == NOTHING


def test_a_run_of_other_columns_is_one_line(tmp_path):
    promotable.write(tmp_path)
    io.write_json({}, tmp_path / ANSWERING)
    with pytest.raises(DataError, match=r"^this run: .* lacks 'answerer'; expected what evaluate writes today"):
        builds.named(tmp_path, "workspace")
    assert comparing.for_report(tmp_path) == NOTHING


@pytest.mark.parametrize("written", [b"garbage", None], ids=["no table", "no column `answerable`"])
def test_damaged_predictions_are_one_line(tmp_path, written):
    promotable.write(tmp_path)
    rows = io.read_frame(tmp_path / PREDICTIONS)
    if written:
        (tmp_path / PREDICTIONS).write_bytes(written)
    else:
        io.write_frame({n: [row[n] for row in rows] for n in rows[0] if n != "answerable"}, tmp_path / PREDICTIONS)
    with pytest.raises(DataError, match=r"not a Parquet file|no column 'answerable'"):
        builds.read(tmp_path, "this run")


def test_predictions_of_another_run_are_refused(tmp_path):
    promotable.write(tmp_path)
    rows = io.read_frame(tmp_path / PREDICTIONS)[1:]
    io.write_frame({name: [row[name] for row in rows] for name in rows[0]}, tmp_path / PREDICTIONS)
    with pytest.raises(DataError, match=r"predictions\.parquet: not what dvc\.lock says; expected both of one run"):
        builds.named(tmp_path, "workspace")
    assert comparing.for_report(tmp_path) == NOTHING


@pytest.mark.parametrize("name", ["nothing", "--all", "HEAD~1"])
def test_a_name_of_nothing(tmp_path, monkeypatch, name):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(ConfigError, match=rf"^{name}: no such run.*expected a folder with a dvc\.lock"):
        builds.named(tmp_path, name)


def test_a_commit_without_a_run_is_one_line(tmp_path):
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    for words in (("init", "-q"), (*identity, "commit", "-q", "--allow-empty", "-m", "first")):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    with pytest.raises(MissingArtifact, match=r"^HEAD: no dvc\.lock in this commit; compare with one made after"):
        builds.of_commit(tmp_path, "HEAD", "HEAD")
    promotable.write(tmp_path)
    with pytest.raises(MissingArtifact, match=r"no commit, among the last 100 that changed it, has other predictions"):
        builds.previous(tmp_path, builds.last(tmp_path))
    assert comparing.for_report(tmp_path) == NOTHING


# --- as a person reads it --------------------------------------------------------------------------

HOSTILE = "a | b `c` <img src=x> @somebody \x1b[31mred\nnext"


@pytest.fixture
def many() -> Comparison:
    """Thirty questions lost and four won, with words that would steer a terminal or a page."""
    values = {number: float(number < 30) for number in range(34)}
    turned = {number: 1 - value for number, value in values.items()}
    return compare("", build("a|b", words=HOSTILE, answer_f1=values), build(words=HOSTILE, answer_f1=turned))


def test_on_one_screen(many):
    lines = side_by_side.lines(many, 80)
    assert len(lines) <= 45
    assert "lost    30 questions, 16 of them shown" in lines and "won     4 questions" in lines
    table = [line for line in lines if line.startswith("test  answer_f1  34")]
    assert table[0].split()[:6] == ["test", "answer_f1", "34", "0.882", "0.118", "-0.765"]
    questions = [line for line in lines if " → " in line]
    assert len(questions) == side_by_side.SHOWN
    assert all(line.isprintable() and len(line) <= 80 for line in questions)


@pytest.mark.parametrize(
    ("lost", "won", "shown"), [(0, 30, (0, 20)), (30, 30, (10, 10)), (3, 2, (3, 2)), (12, 9, (11, 9))]
)
def test_twenty_questions_are_shown(lost, won, shown):
    before = {number: float(number < lost) for number in range(lost + won)}
    after = {number: 1 - value for number, value in before.items()}
    lines = side_by_side.lines(compare("", build(answer_f1=before), build(answer_f1=after)))
    assert (sum("1.00 → 0.00" in line for line in lines), sum("0.00 → 1.00" in line for line in lines)) == shown


def test_for_a_pull_request_nothing_is_markup(many):
    text = "\n".join(side_by_side.markdown(many))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {len(side_by_side.HEADER) + 1}
    assert "**a\\|b**" in text
    questions = [line for line in text.splitlines() if line.startswith("- `a | b")]
    assert len(questions) == side_by_side.SHOWN
    assert all(line.count("`") == 2 and "<img" in line.split("`")[1] for line in questions)


def test_runs_that_score_the_same_are_told_in_one_line():
    same = compare("", build(answer_f1={0: 0.5, 1: 1.0}), build(answer_f1={0: 0.5, 1: 1.0}))
    for told in (side_by_side.lines(same), side_by_side.markdown(same)):
        assert "the same scores, question by question" in told
        assert not any("95 %" in line or "decisive" in line for line in told)


def test_nothing_in_common():
    lines = side_by_side.lines(compare("", build(answer_f1={0: 1.0}), build(answer_f1={1: 1.0, 2: 0.0})))
    assert "no question in common: 1 were asked before alone, 2 after alone" in lines


def test_the_command_fails_when_asked_to_and_something_guarded_is_worse(tmp_path, capsys):
    promotable.write(tmp_path, rank=lambda number: 1)
    gate(tmp_path)
    promotable.write(tmp_path, "two", rank=lambda number: 30)
    command = ["--root", str(tmp_path), "compare", "champion"]
    cli.main([*command, "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["name"], found["a"], found["b"], len(found["lost"])) == (
        "champion",
        "champion v0001",
        "this run",
        100,
    )
    assert capsys.readouterr().err == ""
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command, "--fail-on-worse"])
    said = capsys.readouterr()
    assert stopped.value.code == 1
    assert said.err == "ragline: guarded, and worse: mrr@10 on test\n"
    assert "worse" in said.out
    cli.main(["--root", str(tmp_path), "compare", "workspace", "champion", "--fail-on-worse"])  # better that way round
    promotable.write(tmp_path, "three", words="another question")
    cli.main([*command, "--fail-on-worse"])
    wanted = "guarded, and not compared, as no question is in common: answer_f1 on test, mrr@10 on test\n"
    assert capsys.readouterr().err.endswith(wanted)
