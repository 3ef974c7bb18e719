import json
from dataclasses import replace
from pathlib import Path

import pytest

from ragline.errors import ConfigError, DataError
from ragline.questions.human import human_questions
from ragline.questions.localrqa import Corpus, import_questions
from ragline.types import Document, Passage

TEXT = "Refunds take five days.\nThey go to the card.\n\nInvoices are due after ten days."
OTHER = "Five parcels. We ship on Monday, and we ship on Friday."
DOCUMENTS = [
    Document("b", "http://shop/ship", "Ship", OTHER, "text", (), "c-b", "train"),
    Document("a", "http://shop/help", "Help", TEXT, "text", ("help page",), "c-a", "train"),
]
PASSAGES = [Passage(f"{d.doc_id}#0000", d.doc_id, d.title, "", d.text, 0, len(d.text), 1, d.cluster) for d in DOCUMENTS]


def write(tmp_path: Path, text: str, name: str = "mine.csv") -> Path:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def gold(row: dict) -> tuple[str, str, int]:
    (doc,) = row["gold_docs"]
    return doc["metadata"]["doc_id"], doc["page_content"], doc["metadata"]["start"]


def test_a_spreadsheet_becomes_rows_that_the_import_reads(tmp_path):
    path = write(
        tmp_path,
        "\ufeffQuestion;Answer;Document;Evidence;Split\r\n"
        'How long?;five days | 5 days;help page;"take five  days";dev\r\n'
        "When due?;after ten days;a;;\r\n"
        ";;;;\r\n"
        "Which day?;We ship;http://shop/ship;;train\r\n",
    )
    rows, drops = human_questions(path, DOCUMENTS, "test")
    assert drops == []
    assert {split: [number for number, _ in found] for split, found in rows.items()} == {
        "dev": [2],
        "test": [3],
        "train": [5],
    }
    assert gold(rows["dev"][0][1]) == ("a", "take five days", 8)  # white space in the evidence is ignored
    assert gold(rows["test"][0][1]) == ("a", "after ten days", TEXT.index("after ten days"))
    assert gold(rows["train"][0][1]) == ("b", "We ship", 14)  # "we ship" is another text
    corpus = Corpus(DOCUMENTS, PASSAGES)
    (example,), left_out = import_questions(rows["dev"], "mine.csv", "dev", corpus)
    assert left_out == []
    assert (example.question, example.answers) == ("How long?", ("five days", "5 days"))
    assert (example.doc_id, example.start, example.end) == ("a", 8, 22)
    assert example.gold_passage_ids == ("a#0000",)


def test_jsonl_rows_with_lists_and_without_an_answer(tmp_path):
    lines = [
        {"question": "How long?", "answers": ["five days", "5 days"], "document": "a", "id": "q1"},
        {"question": "Who owns it?", "answerable": False},
        {"question": "Tell me all.", "answer": "Refunds and invoices.", "document": "a"},
    ]
    path = write(tmp_path, "".join(json.dumps(line) + "\n" for line in lines), "mine.jsonl")
    rows, drops = human_questions(path, DOCUMENTS, "train")
    assert drops == []
    first, second, third = (row for _, row in rows["train"])
    assert (first["id"], first["gold_answer"], gold(first)) == ("q1", "five days", ("a", "five days", 13))
    assert (second["answerable"], second["gold_docs"]) == (False, [])
    assert gold(third) == ("a", TEXT, 0)
    examples, left_out = import_questions(rows["train"], "mine.jsonl", "train", Corpus(DOCUMENTS, PASSAGES))
    assert (len(examples), left_out) == (3, [])
    assert [example.answerable for example in examples] == [True, False, True]


def test_an_answer_that_stands_twice_or_inside_a_word_is_no_place(tmp_path):
    path = write(tmp_path, "question,answer,document\nA?,days,a\nB?,ship,b\nC?,voice,a\n")
    rows, _ = human_questions(path, DOCUMENTS, "test")
    assert [gold(row)[1] for _, row in rows["test"]] == [TEXT, OTHER, TEXT]


def test_what_cannot_be_placed_is_listed(tmp_path):
    path = write(
        tmp_path,
        "question,answer,document,evidence\n"
        " ,x,a,\n"
        "A?,x,,\n"
        "B?,x,elsewhere,\n"
        "C?,x,a,Nobody wrote this.\n"
        "D?,ten days,a,\n",
    )
    rows, drops = human_questions(path, DOCUMENTS, "test")
    assert [row["question"] for _, row in rows["test"]] == ["D?"]
    assert [(d.stage, d.item, d.reason, d.detail) for d in drops] == [
        ("generate_qa", "mine.csv:2", "empty question", ""),
        ("generate_qa", "mine.csv:3", "no document", "A?"),
        ("generate_qa", "mine.csv:4", "source not found", "elsewhere"),
        ("generate_qa", "mine.csv:5", "gold not located", "Nobody wrote this."),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q,a\nx,y\n", r"mine.csv:2: expected a column 'question', got \['a', 'q'\]"),
        ("question,colour\nx,y\n", r"mine.csv:2: expected columns among question, .*, got \['colour'\]"),
        ("question,answer\nx\n", r"mine.csv:2: expected 2 cells, got 1"),
        ('question,answer\n"x"y,z\n', r"mine.csv: expected UTF-8 with quotes in pairs"),
        ("question,document,split\nx,a,later\n", r"mine.csv:2: 'split': expected train, dev, test, got 'later'"),
        ("question,answerable\nx,maybe\n", r"mine.csv:2: 'answerable': expected yes or no, got 'maybe'"),
    ],
)
def test_a_line_of_another_shape_is_named(text, message, tmp_path):
    with pytest.raises(DataError, match=message):
        human_questions(write(tmp_path, text), DOCUMENTS)


def test_a_value_that_is_no_text_is_named(tmp_path):
    path = write(tmp_path, '{"question": "x", "document": 3}\n', "mine.jsonl")
    with pytest.raises(DataError, match=r"mine.jsonl:1: 'document': expected text, got int: 3"):
        human_questions(path, DOCUMENTS)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none.csv: no such file"):
        human_questions(tmp_path / "none.csv", DOCUMENTS)
    with pytest.raises(ConfigError, match=r"expected a name that ends in .jsonl, .csv or .tsv, got '.xlsx'"):
        human_questions(write(tmp_path, "", "mine.xlsx"), DOCUMENTS)
    (tmp_path / "latin.csv").write_bytes(b"question\ncaf\xe9\n")
    with pytest.raises(DataError, match=r"latin.csv: expected UTF-8"):
        human_questions(tmp_path / "latin.csv", DOCUMENTS)


def test_without_a_split_a_question_follows_its_document(tmp_path):
    path = write(tmp_path, "question,answer,document,answerable\nHow?,x," + DOCUMENTS[0].doc_id + ",\nWhy?,,,no\n")
    moved = [replace(d, split="dev") for d in DOCUMENTS]
    rows, drops = human_questions(path, moved)
    assert ({split: [row["question"] for _, row in found] for split, found in rows.items()}, drops) == (
        {"dev": ["How?"], "test": ["Why?"]},
        [],
    )
