"""What differs between two builds."""

from ragline import io
from ragline.artifacts import ANSWERING, METRICS, PREDICTIONS
from ragline.changes import NOTHING, Change, Results, flat, metric_changes, read_results, served, turned_bad


def test_flat_leaves_out_what_is_no_number():
    assert flat({"test": {"n": 3, "bm25": {"mrr@10": 0.5}, "name": "x", "on": True}}) == [
        ("test.n", 3.0),
        ("test.bm25.mrr@10", 0.5),
    ]


def results(metrics=None, **values):
    return Results(metrics or {}, {"a": "A?", "b": "B?", "c": "C?"}, values)


def test_metric_changes():
    before, after = results({"x": 0.1, "same": 1.0, "gone": 0.2}), results({"x": 0.3, "same": 1.0, "new": 0.4})
    assert metric_changes(before, after) == [Change("gone", 0.2, None), Change("new", None, 0.4), Change("x", 0.1, 0.3)]


def test_turned_bad_counts_only_those_asked_both_times():
    before = results(answer_f1={"a": 0.9, "b": 0.5, "c": 0.4, "gone": 1.0})
    after = results(answer_f1={"a": 0.5, "b": 0.49, "c": 0.0, "new": 0.0})
    # a is still good, c was bad before; only b falls below 0.5.
    assert [(fall.question, fall.metric, fall.before, fall.after) for fall in turned_bad(before, after)] == [
        ("B?", "answer_f1", 0.5, 0.49)
    ]


def test_the_deepest_fall_comes_first():
    before = {"recall@5": {"a": 1.0, "b": 1.0}, "answer_f1": {"b": 0.6, "c": 1.0}}
    after = {"recall@5": {"a": 0.0, "b": 0.0}, "answer_f1": {"b": 0.4, "c": 0.1}}
    falls = turned_bad(results(**before), results(**after))
    assert [(fall.key, fall.metric) for fall in falls] == [
        ("a", "recall@5"),
        ("b", "recall@5"),
        ("c", "answer_f1"),
        ("b", "answer_f1"),
    ]


def write(root, rank, f1):
    row = {
        "set": "test",
        "question_id": "q1",
        "question": "How?",
        "cluster": "c1",
        "answerable": True,
        "answers": ["so"],
        "rank_hybrid": rank,
        "extractive_em": 0.0,
        "extractive_f1": f1,
        "abstained": False,
    }
    for path in (METRICS, PREDICTIONS, ANSWERING):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
    io.write_json({"test": {"answers": {"f1": f1}}}, root / METRICS)
    io.write_json({"answerer": "extractive"}, root / ANSWERING)
    io.write_frame({name: [value] for name, value in row.items()}, root / PREDICTIONS)


def test_read_from_the_files_that_evaluate_writes(tmp_path):
    assert read_results(tmp_path) == NOTHING
    write(tmp_path, rank=2, f1=0.8)
    before = served(tmp_path)  # no champion: the last build
    write(tmp_path, rank=7, f1=0.75)
    after = read_results(tmp_path)
    assert metric_changes(before, after) == [Change("test.answers.f1", 0.8, 0.75)]
    assert [(fall.question, fall.metric, fall.after) for fall in turned_bad(before, after)] == [
        ("How?", "recall@5", 0.0)
    ]
