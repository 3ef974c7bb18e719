import dataclasses
import itertools
import json

import pytest

from ragline import io
from ragline.errors import DataError
from ragline.questions.localrqa import Corpus, export_rows, import_questions
from ragline.types import Document, Passage

TEXT = "Refunds take five days.\nThey go to the card.\n\nInvoices are due after ten days."


def document(
    doc_id: str, text: str = TEXT, source: str = "http://shop/help", aliases: tuple[str, ...] = ()
) -> Document:
    return Document(doc_id, source, "Help", text, "text", aliases, f"c-{doc_id}", "train")


def passages(*documents: Document, cuts: tuple[int, ...] = (45,)) -> list[Passage]:
    found = []
    for doc in documents:
        edges = [0, *(cut for cut in cuts if cut < len(doc.text)), len(doc.text)]
        for number, (start, end) in enumerate(itertools.pairwise(edges)):
            found.append(
                Passage(
                    f"{doc.doc_id}#{number:04d}",
                    doc.doc_id,
                    "Help",
                    "",
                    doc.text[start:end],
                    start,
                    end,
                    1,
                    doc.cluster,
                )
            )
    return found


def gold(text: str, source: str = "http://shop/help", **metadata) -> dict:
    return {"page_content": text, "fmt_content": "", "metadata": {"source": source, "title": "Help", **metadata}}


def row(text: str = "Refunds take five days.", question: str = "How long?", **more) -> dict:
    return {"question": question, "gold_docs": [gold(text)], "gold_answer": "Five days.", "chat_history": [], **more}


def read(*rows: dict, docs: tuple[Document, ...] = (document("a"),), split: str = "dev"):
    corpus = Corpus(docs, passages(*docs))
    return import_questions(enumerate(rows, start=1), "qa.jsonl", split, corpus)


def test_a_line_becomes_a_question_on_the_corpus():
    (example,), drops = read(row())
    assert drops == []
    assert (example.doc_id, example.start, example.end) == ("a", 0, 23)
    assert example.gold_passage_ids == ("a#0000",)
    assert example.answers == ("Five days.",)
    assert (example.kind, example.split, example.cluster) == ("imported", "dev", "c-a")
    assert example.question_id == io.digest("a", "0", "How long?")[:12]


def test_white_space_is_ignored_where_the_exact_text_is_not_there():
    (example,), _ = read(row("days. They go\n to the   card."))
    assert TEXT[example.start : example.end] == "days.\nThey go to the card."


def test_a_long_gold_document_makes_every_passage_it_covers_gold():
    (example,), _ = read(row(TEXT))
    assert example.gold_passage_ids == ("a#0000", "a#0001")


def test_the_first_document_that_holds_the_text_is_meant_whatever_its_name():
    docs = (document("b"), document("c", "Other text."), document("a", "Refunds take\tfive days."))
    (example,), _ = read(row(), docs=docs)
    assert example.doc_id == "b"  # exact before white space, though 'a' comes first
    aliased = (document("x", source="y", aliases=("http://shop/help",)),)
    assert read(row(), docs=aliased)[0][0].doc_id == "x"
    assert read(row(), docs=(document("http://shop/help", source="y"),))[0][0].start == 0


def test_several_questions_and_several_answers_of_a_line():
    examples, _ = read(
        {
            "questions": ["How long?", "How many days?"],
            "gold_docs": [gold("Refunds take five days.")],
            "gold_answers": ["Five days.", "5 days"],
        }
    )
    assert [e.question for e in examples] == ["How long?", "How many days?"]
    assert examples[0].answers == ("Five days.", "5 days")
    only_question = {"question": "How long?", "gold_docs": [gold("Refunds take five days.")]}
    examples, (drop,) = read(only_question)
    assert examples == [] and (drop.reason, drop.detail) == ("no gold answer", "How long?")


def test_several_gold_documents_are_all_gold():
    two = row(gold_docs=[gold("Invoices are due after ten days."), gold("Refunds take five days.")])
    (example,), _ = read(two)
    assert example.gold_passage_ids == ("a#0001", "a#0000")
    assert TEXT[example.start : example.end] == "Invoices are due after ten days."


def test_what_cannot_be_used_is_listed_with_its_line():
    examples, drops = read(
        row(),
        row(),
        row(question=" "),
        row("Not there."),
        row(gold_docs=[gold("Refunds", source="http://else")]),
        row(gold_docs=[]),
    )
    assert len(examples) == 1
    assert [(d.stage, d.item, d.reason, d.detail) for d in drops] == [
        ("generate_qa", "qa.jsonl:2", "duplicate", "How long?"),
        ("generate_qa", "qa.jsonl:3", "empty question", ""),
        ("generate_qa", "qa.jsonl:4", "gold not located", "http://shop/help"),
        ("generate_qa", "qa.jsonl:5", "source not found", "http://else"),
        ("generate_qa", "qa.jsonl:6", "no gold document", "How long?"),
    ]


def test_an_unanswerable_question_needs_no_gold():
    (example,), _ = read(row(gold_docs=[], gold_answer="", answerable=False, chat_history=["Hello"]))
    assert not example.answerable
    assert (example.doc_id, example.gold_passage_ids, example.answers) == ("", (), ())
    assert example.chat_history == ("Hello",)


def test_a_file_of_which_nothing_is_in_the_corpus_is_refused():
    with pytest.raises(
        DataError,
        match=r"qa.jsonl: nothing of it .*\(qa.jsonl:1\) source not found: http://else; .*such as 'a'.*ingest.sources",
    ):
        read(row(gold_docs=[gold("Refunds", source="http://else")]))
    with pytest.raises(DataError, match=r"\(qa.jsonl:1\) gold not located: http://shop/help"):
        read(row("Not there."))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"gold_docs": []}, r"qa.jsonl:1: expected the key 'question' or 'questions', got \['gold_docs'\]"),
        (row(question=3), r"qa.jsonl:1: 'question': expected str, got int: 3"),
        (row(gold_docs="x"), r"qa.jsonl:1: 'gold_docs': expected list, got str: 'x'"),
        (row(gold_docs=[{"page_content": "x"}]), r"qa.jsonl:1: 'gold_docs': expected page_content and metadata.source"),
        (row(gold_answers=[1]), r"qa.jsonl:1: 'gold_answers': expected a list of text, got \[1\]"),
        (row(answerable="no"), r"qa.jsonl:1: 'answerable': expected bool, got str"),
        (row(gold_span=[5, 3]), r"qa.jsonl:1: 'gold_span': expected \[start, end\] inside the 23 characters"),
        (row(gold_span=[0, 24]), r"got \[0, 24\]; mend or remove it"),
    ],
)
def test_a_line_of_another_shape_is_named(bad, message):
    with pytest.raises(DataError, match=message):
        read(bad)


def test_one_id_for_two_questions_is_refused():
    with pytest.raises(DataError, match=r"qa.jsonl:2: id 'q1' stands for another question, too"):
        read(row(id="q1"), row(id="q1", question="How much?"))


def test_export_then_import_gives_the_same_questions(tmp_path):
    doc, other = document("a", TEXT + "\n" + TEXT), document("b", "Refunds take five days.", source="s")
    docs = (doc, other)
    cut = passages(*docs, cuts=(45, 79, 125))
    corpus = Corpus(docs, cut)
    later = doc.text.rfind("Invoices")
    narrow = row(
        question="Where to?", id="q9", gold_span=[0, 4], gold_answers=["card", "bank card"], chat_history=["Hi"]
    )
    narrow["gold_docs"] = [gold("They go to the card.")]
    second = row("Invoices are due after ten days.", "When?")
    second["gold_docs"] = [gold("Invoices are due after ten days.", doc_id="a", start=later)]
    rows = [
        row(question="Which one?", gold_docs=[gold("Refunds take five days.", source="b")]),
        row(gold_docs=[gold(doc.text), gold(other.text, source="b")], question="All of it?"),
        row(gold_docs=[], answerable=False, question="Never?"),
        narrow,
        second,
    ]
    examples, drops = import_questions(enumerate(rows, start=1), "qa.jsonl", "train", corpus)
    assert (len(examples), drops) == (5, [])
    assert [e.start for e in examples] == [0, 0, 0, 24, later]
    exported = export_rows(examples, {d.doc_id: d for d in docs}, {p.passage_id: p for p in cut})
    io.write_jsonl(exported, tmp_path / "out.jsonl")
    again, drops = import_questions(io.read_jsonl(tmp_path / "out.jsonl"), "out.jsonl", "train", corpus)
    assert drops == []
    wide = again[1]  # more than one passage long: of its span the first passage is left, of its gold nothing is lost
    assert wide.gold_passage_ids == examples[1].gold_passage_ids
    assert [e for e in again if e != wide] == [e for e in examples if e != examples[1]]
    assert dataclasses.replace(wide, start=0, end=0) == dataclasses.replace(examples[1], start=0, end=0)


def test_an_exported_line_is_localrqas():
    corpus_docs = (document("a"),)
    cut = passages(*corpus_docs)
    examples, _ = read(row(gold_span=[0, 7]))
    (line,) = export_rows(examples, {"a": corpus_docs[0]}, {p.passage_id: p for p in cut})
    assert json.loads(json.dumps(line)) == {
        "id": examples[0].question_id,
        "chat_history": [],
        "question": "How long?",
        "gold_docs": [
            {
                "page_content": TEXT[:45],
                "fmt_content": f"Source: http://shop/help\nTitle: Help\nContent:\n{TEXT[:45]}",
                "metadata": {"source": "http://shop/help", "title": "Help", "doc_id": "a", "start": 0},
            }
        ],
        "gold_answer": "Five days.",
        "gold_answers": ["Five days."],
        "answerable": True,
        "hard_neg_docs": [],
        "gold_span": [0, 7],
    }
