import copyreg
import json
import os
import pickle
import pickletools
import subprocess
import sys
import tempfile
import tracemalloc
import types
from collections import OrderedDict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from ragline.errors import ConfigError, DataError, ServiceError
from ragline.questions.convert import natural_questions as nq
from ragline.questions.convert.document_pickle import load_documents
from ragline.questions.convert.formats import FORMATS, read, write
from ragline.questions.convert.neutral import (
    Gold,
    Loss,
    Names,
    PlainDocument,
    PlainQuestion,
    QuestionSet,
    look_up,
    placed,
    refuse_repeats,
)
from ragline.types import Span
from tests.conftest import ROOT

EXAMPLES = int(os.environ.get("EXAMPLES", "15"))
NAMES = {"ragas": "out.jsonl", "localrqa_documents": "out.jsonl"}
WITH_QUESTIONS = [name for name in FORMATS if name != "localrqa_documents"]


def dump(value, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def jsonl(rows: list, path: Path) -> Path:
    return dump("".join(json.dumps(row) + "\n" for row in rows), path)


def same(found: QuestionSet) -> tuple[dict, dict]:
    """What a set holds; neither documents nor questions have an order across files."""
    return {d.doc_id: d for d in found.documents}, {q.question_id: q for q in found.questions}


# --- the two laws of every format ------------------------------------------------------------------

WORD = st.text(st.sampled_from("abé5'\"<>|,;%"), min_size=1, max_size=4)
PROSE = st.lists(WORD, min_size=1, max_size=6).map(" ".join)
TEXT = st.one_of(PROSE, st.lists(PROSE, min_size=1, max_size=3).map("\n".join), st.text(max_size=12).map(str.strip))
NAME = st.one_of(st.text("ab/ #%.\"'é", min_size=1, max_size=6).map(str.strip).filter(bool), st.just("ab/1"))


@st.composite
def question_sets(draw) -> QuestionSet:
    ids = draw(st.lists(NAME, min_size=1, max_size=3, unique=True))
    documents = []
    for doc_id in ids:
        source = draw(st.sampled_from([doc_id, "http://shop/a?b=c", ""]))
        documents.append(PlainDocument(doc_id, draw(st.sampled_from(["", "Help", "A\nb", doc_id])), draw(TEXT), source))
    questions = []
    for question_id in draw(st.lists(NAME, max_size=4, unique=True)):
        golds, answers = [], draw(st.lists(PROSE, max_size=2))
        for document in draw(st.lists(st.sampled_from(documents), max_size=3)):
            size = len(document.text)
            if not size or draw(st.booleans()):
                golds.append(Gold(document.doc_id))
                continue
            start = draw(st.integers(0, size - 1))
            end = draw(st.integers(start + 1, size))
            golds.append(Gold(document.doc_id, Span(start, end)))
            if document.text[start:end].strip() and draw(st.booleans()):
                answers.append(document.text[start:end])
        questions.append(
            PlainQuestion(
                question_id,
                draw(TEXT.filter(str.strip)),
                tuple(dict.fromkeys(answers)),
                tuple(dict.fromkeys(golds)),
                draw(st.booleans()),
                tuple(draw(st.lists(PROSE, max_size=1))),
                tuple(draw(st.lists(TEXT, max_size=1))),
                draw(st.sampled_from([None, "train", "dev", "test"])),
            )
        )
    return QuestionSet(tuple(documents), tuple(questions))


@pytest.mark.parametrize("name", WITH_QUESTIONS)
@settings(max_examples=EXAMPLES)
@given(found=question_sets())
def test_no_loss_means_nothing_is_lost_and_the_second_time_nothing_more_is(name, found):
    with tempfile.TemporaryDirectory() as folder:
        first, second = (Path(folder) / n / NAMES.get(name, "out") for n in ("1", "2"))
        lost = write(name, found, first)
        try:
            once = read(name, first)
        except (ConfigError, DataError) as error:  # an empty file is refused
            assert "got none" in str(error)
            kept = [q for q in found.questions if q.answerable and q.golds and q.answers]
            assert not kept or any(what.startswith("questions left out") for what in lost)
            return
        assert once.lost == {}
        if not lost:
            assert same(once) == same(found)
        assert write(name, once, second) == {}
        assert same(read(name, second)) == same(once)


def rich() -> QuestionSet:
    text = "Refunds take five days.\nThey go to the card."
    return QuestionSet(
        (
            PlainDocument("Help/1", "Help", text, "Help/1"),
            PlainDocument("Help/2", "Help", "We ship on Monday.", "http://shop/ship"),
        ),
        (
            PlainQuestion("q1", "How long?", ("five days", "5 days"), (Gold("Help/1", Span(13, 22)), Gold("Help/2")),
                          True, ("Hello",), ("We ship on Monday.", "Elsewhere."), "dev"),
            PlainQuestion("q2", "Who?", (), (Gold("Help/2"),), False, split="test"),
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("beir", {"chat histories": 1, "gold spans": 1, "hard negatives": 2, "questions left out: not answerable": 1}),
        ("localrqa", {}),
        ("localrqa_documents", {"questions: this format is documents alone": 2}),
        (
            "msmarco",
            {
                "answers": 2,
                "chat histories": 1,
                "document sources": 1,
                "document titles": 2,
                "gold spans": 1,
                "hard negatives": 2,
                "questions left out: not answerable": 1,
                "texts whose white space changed": 1,
            },
        ),
        (
            "natural_questions",
            {
                "answers": 1,
                "chat histories": 1,
                "document ids": 1,
                "gold documents": 1,
                "gold spans widened to whole words": 1,  # "days" to "days."
                "hard negatives": 2,
                "splits": 2,
            },
        ),
        (
            "rag_end2end",
            {
                "answers after the first": 1,
                "chat histories": 1,
                "document sources": 1,
                "gold documents": 2,
                "hard negatives": 2,
                "question ids": 1,
                "questions left out: not answerable": 1,
            },
        ),
        (
            "ragas",
            {
                "answers after the first": 1,
                "chat histories": 1,
                "document sources": 1,
                "document titles": 2,
                "gold spans": 1,
                "hard negatives": 2,
                "question ids": 1,
                "questions left out: not answerable": 1,
                "splits": 1,
            },
        ),
        (
            "squad",
            {
                "answers": 1,
                "chat histories": 1,
                "document sources": 1,
                "gold documents": 1,
                "hard negatives": 2,
                "questions left out: not answerable": 1,
                "splits": 1,
            },
        ),
        (
            "squad2",
            {
                "answers": 1,
                "chat histories": 1,
                "document sources": 1,
                "gold documents": 1,
                "hard negatives": 2,
                "splits": 2,
            },
        ),
        (
            "triviaqa",
            {
                "chat histories": 1,
                "document ids": 1,
                "documents without a question": 1,
                "gold documents": 1,
                "gold spans": 1,
                "hard negatives": 2,
                "questions left out: not answerable": 1,
            },
        ),
    ],
)
def test_what_each_format_cannot_hold_is_counted(name, lost, tmp_path):
    assert write(name, rich(), tmp_path / NAMES.get(name, "out")) == lost


# --- SQuAD -----------------------------------------------------------------------------------------

CONTEXT = "The kiln fires at 1200 °C. A second kiln fires at 900 °C."


def squad(answers: list, version: str = "1.1", **more) -> dict:
    qas = [{"id": "q1", "question": "How hot?", "answers": answers, **more}]
    return {"version": version, "data": [{"title": "Kilns", "paragraphs": [{"context": CONTEXT, "qas": qas}]}]}


def test_squad_answers_stand_where_the_offsets_say(tmp_path):
    # "900 °C" begins at 50: 26 characters of the first sentence, a blank, 23 up to the number.
    answers = [{"text": "1200 °C", "answer_start": 18}, {"text": "900 °C", "answer_start": 50}]
    found = read("squad", dump(squad([*answers, answers[0]]), tmp_path / "in.json"))
    (question,) = found.questions
    assert question.answers == ("1200 °C", "900 °C")
    assert question.golds == (Gold("Kilns/1", Span(18, 25)), Gold("Kilns/1", Span(50, 56)))
    assert found.lost == {"answers given by several annotators": 1}
    assert write("squad", found, tmp_path / "out.json") == {}
    written = json.loads((tmp_path / "out.json").read_text())
    assert written == squad(answers)


def test_squad2_keeps_the_paragraph_of_a_question_without_an_answer(tmp_path):
    plausible = [{"text": "900 °C", "answer_start": 50}]
    given = squad([], "v2.0", is_impossible=True, plausible_answers=plausible)
    found = read("squad2", dump(given, tmp_path / "in.json"))
    (question,) = found.questions
    assert (question.answerable, question.answers, question.golds) == (False, (), (Gold("Kilns/1"),))
    assert found.lost == {"plausible answers": 1}
    assert write("squad2", found, tmp_path / "out.json") == {}
    assert json.loads((tmp_path / "out.json").read_text()) == squad([], "v2.0", is_impossible=True)
    assert write("squad", found, tmp_path / "out1.json") == {"questions left out: not answerable": 1}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{", r"in.json:1: expected JSON, got column 2"),
        ("\n[1,]", r"in.json:2: expected JSON"),
        ("[1]", r"in.json: expected a JSON object, got list"),
        ("[" * 100_000, r"in.json: expected a JSON object, got brackets nested too deeply"),
        ({"data": []}, r"in.json: expected data\[\].paragraphs\[\], got no paragraph"),
        ({"data": [{"paragraphs": 3}]}, r"data\[0\]: 'paragraphs': expected a list, got int"),
        (squad([{"text": "900 °C", "answer_start": 49}]), r"expected '900 °C' at 49 of the context, got ' 900 °'"),
        (squad([{"text": "900 °C", "answer_start": -6}]), r"expected '900 °C' at -6 of the context, got ''"),
        (squad([{"text": "900 °C", "answer_start": True}]), r"'answer_start': expected a whole number, got True"),
        (squad([{"text": "900 °C"}]), r"data\[0\].paragraphs\[0\].qas\[0\].answers\[0\]: 'answer_start'"),
        (squad([{"text": "\ud800", "answer_start": 0}]), r"'text': expected text, got half a surrogate pair at 0"),
        (squad([], is_impossible="no"), r"'is_impossible': expected true or false, got 'no'"),
        (squad([{"text": "1200 °C", "answer_start": 18}], is_impossible=True), r"expected no answers with is_imp"),
        (squad([], id="a\nb"), r"'id': expected an id without tabs or line breaks, got 'a\\nb'"),
    ],
)
def test_squad_of_another_shape_is_named(given, message, tmp_path):
    with pytest.raises(DataError, match=message) as raised:
        read("squad", dump(given, tmp_path / "in.json"))
    assert "\n" not in str(raised.value)


def test_an_answer_is_looked_up_as_whole_words_inside_its_evidence():
    document = PlainDocument("d", "", "In 15 days. Then 5 days. And 5 days.", "d")
    question = PlainQuestion("q", "?", ("5", "six"), (Gold("d"),))
    places = placed(question, document)
    assert (places.exact, places.unplaced) == ((), ("5", "six"))
    assert look_up(places.unplaced, places.wide, document) == {"5": Span(17, 18)}  # not the 5 of 15
    assert look_up(["5"], [Gold("d", Span(18, 36))], document) == {"5": Span(29, 30)}


# --- Natural Questions -----------------------------------------------------------------------------

#      0     1    2     3     4   5     6   7    8 9    10      11   12             13   14   15  16 17    18    19
PAGE = (
    "Kilns <H1> Kilns </H1> <P> Ovens for clay . </P> <Table> <Tr> <Th_colspan=2> Heat <Td> 900 °C </Td> </Tr> </Table>"
)


def nq_line(*annotations: dict, **more) -> dict:
    return {
        "example_id": 5655493461695504401,
        "question_text": "how hot is a kiln",
        "document_url": "https://en.wikipedia.org//w/index.php?title=Pottery_kilns&amp;oldid=8",
        "document_text": PAGE,
        "long_answer_candidates": [{"start_token": 10, "end_token": 20, "top_level": True}],
        "annotations": list(annotations),
        **more,
    }


def marked(long: tuple[int, int], *shorts: tuple[int, int], yes_no: str = "NONE") -> dict:
    return {
        "annotation_id": 1,
        "long_answer": {"start_token": long[0], "end_token": long[1], "candidate_index": 0},
        "short_answers": [{"start_token": s, "end_token": e} for s, e in shorts],
        "yes_no_answer": yes_no,
    }


def test_token_offsets_become_characters_of_the_page_without_its_tags(tmp_path):
    assert PAGE.split(" ")[15:17] == ["900", "°C"]
    found = read("natural_questions", jsonl([nq_line(marked((10, 20), (15, 17)))], tmp_path / "in.jsonl"))
    (document,), (question,) = tuple(found.documents), found.questions
    assert document.text == "Kilns\nKilns\nOvens for clay .\nHeat 900 °C"
    assert document.title == "Pottery kilns"
    (gold,) = question.golds
    assert document.text[gold.span.start : gold.span.end] == "900 °C" == question.answers[0]
    assert found.lost == {}  # the table is one line, which is what the long answer becomes
    assert write("natural_questions", found, tmp_path / "out.jsonl") == {}
    line = json.loads((tmp_path / "out.jsonl").read_text())
    tokens = line["document_text"].split(" ")
    (annotation,) = line["annotations"]
    (short,) = annotation["short_answers"]
    assert tokens[short["start_token"] : short["end_token"]] == ["900", "°C"]
    long = line["long_answer_candidates"][annotation["long_answer"]["candidate_index"]]
    assert tokens[long["start_token"] : long["end_token"]] == ["<P>", "Heat", "900", "°C", "</P>"]
    assert line["example_id"] == 5655493461695504401


def test_natural_questions_without_a_short_answer(tmp_path):
    lines = [
        nq_line(marked((4, 10))),
        nq_line(marked((4, 10), yes_no="YES"), example_id=2),
        nq_line(marked((-1, -1)), example_id=3),
        nq_line(*[marked((-1, -1))] * 4, marked((4, 10)), example_id=4),
        nq_line(*[marked((-1, -1))] * 3, *[marked((4, 10))] * 2, example_id=5),
        {**nq_line(), "example_id": 6, "annotations": None},
        nq_line(marked((17, 19), (9, 11)), example_id=7),
    ]
    found = read("natural_questions", jsonl(lines, tmp_path / "in.jsonl"))
    (document,) = found.documents
    clay = Gold(document.doc_id, Span(12, 28))
    whole = Gold(document.doc_id)
    assert [(q.answers, q.golds, q.answerable) for q in found.questions] == [
        ((), (clay,), True),
        (("yes",), (clay,), True),
        ((), (whole,), False),
        ((), (whole,), False),  # one annotator of five is not enough
        ((), (clay,), True),
        ((), (whole,), True),
        ((), (whole,), True),
    ]
    assert found.lost == {"questions without annotations": 1, "answers made of tags alone": 2}
    assert write("natural_questions", found, tmp_path / "out.jsonl") == {}
    assert same(read("natural_questions", tmp_path / "out.jsonl")) == same(found)


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (marked((4, 21)), r"in.jsonl:1: annotations\[0\]: expected .* within the 20 tokens of .*, got 4 and 21"),
        (marked((9, 4)), r"got 9 and 4"),
        (marked((4, 10), yes_no="MAYBE"), r"'yes_no_answer': expected YES, NO or NONE, got 'MAYBE'"),
        ({"long_answer": {}}, r"'start_token': expected a whole number, got None"),
    ],
)
def test_a_natural_question_of_another_shape_is_named(annotation, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read("natural_questions", jsonl([nq_line(annotation)], tmp_path / "in.jsonl"))


@given(st.lists(st.sampled_from(["a", "bc", "<P>", "</P>", "<Td>", "", "x\ty", "<b>"]), max_size=12))
def test_every_word_of_a_page_stands_at_its_place(tokens):
    page = nq.page(" ".join(tokens))
    assert len(page.tokens) == len(" ".join(tokens).split(" "))
    for token, span in zip(" ".join(tokens).split(" "), page.tokens, strict=True):
        assert span is None or page.text[span.start : span.end] == token
        assert (span is None) == (token in ("", "<P>", "</P>", "<Td>"))


# --- TriviaQA --------------------------------------------------------------------------------------


def trivia(folder: Path, entries: list, **more) -> Path:
    row = {
        "QuestionId": "tc_1",
        "Question": "Which metal melts at 1085 °C?",
        "QuestionSource": "http://quiz/",
        "EntityPages": entries,
        "SearchResults": [{"Filename": "9/9_1.txt", "Title": "Metals", "Url": "http://m/", "Rank": 0}],
        "Answer": {"Value": "Copper", "Aliases": ["Cuprum", "Copper"], "NormalizedValue": "copper"},
        **more,
    }
    dump("CUPRUM is red.\r\n", folder / "evidence" / "web" / "9" / "9_1.txt")
    dump("A coppersmith's town.", folder / "evidence" / "wikipedia" / "Town.txt")
    return dump({"Data": [row], "Split": "dev", "Version": 1.0}, folder / "qa" / "web-dev.json")


def test_trivia_gold_is_the_evidence_that_holds_an_answer(tmp_path):
    entries = [
        {"DocSource": "TagMe", "Filename": "Town.txt", "Title": "Town"},
        {"DocSource": "TagMe", "Filename": "Gone.txt", "Title": "Gone"},
    ]
    file = trivia(tmp_path / "rc", entries)
    found = read("triviaqa", file)
    assert same(found) == same(read("triviaqa", tmp_path / "rc"))
    (question,) = found.questions
    assert question.answers == ("Copper", "Cuprum")
    assert question.golds == (Gold("web/9/9_1.txt"),)  # a coppersmith is no copper
    assert question.split == "dev"
    assert {d.doc_id: (d.title, d.source, d.text) for d in found.documents} == {
        "wikipedia/Town.txt": ("Town", "wikipedia/Town.txt", "A coppersmith's town."),
        "web/9/9_1.txt": ("Metals", "http://m/", "CUPRUM is red.\r\n"),
    }
    assert found.lost == {"evidence files that are not there": 1, "evidence that does not hold the answer": 1}
    assert write("triviaqa", found, tmp_path / "out") == {"documents without a question": 1}
    written = json.loads((tmp_path / "out" / "qa" / "wikipedia-dev.json").read_text())["Data"][0]
    assert written["Answer"]["NormalizedAliases"] == ["copper", "cuprum"]
    assert same(read("triviaqa", tmp_path / "out"))[1] == same(found)[1]


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "a/../../../secret.txt"])
def test_evidence_outside_its_folder_is_refused(name, tmp_path):
    dump("Copper secrets", tmp_path / "rc" / "evidence" / "secret.txt")
    file = trivia(tmp_path / "rc", [{"Filename": name, "Title": ""}])
    with pytest.raises(DataError, match=r"Data\[0\].EntityPages\[0\]: expected a file inside wikipedia/"):
        read("triviaqa", file)


def test_trivia_names_what_is_missing(tmp_path):
    with pytest.raises(ConfigError, match=r"expected a folder `evidence` beside `qa`"):
        read("triviaqa", dump({"Data": []}, tmp_path / "a" / "qa" / "x.json"))
    (tmp_path / "b").mkdir()
    with pytest.raises(ConfigError, match=r"b: expected qa/\*.json, got none"):
        read("triviaqa", tmp_path / "b")
    file = trivia(tmp_path / "c", [])
    dump(json.loads(file.read_text()), file.with_name("wikipedia-dev.json"))
    with pytest.raises(DataError, match=r"expected each question id once, got 'tc_1' 2 times"):
        read("triviaqa", tmp_path / "c")


# --- MS MARCO and BEIR -----------------------------------------------------------------------------


def marco(folder: Path, **files: str) -> Path:
    given = {
        "collection": "7\tClay ovens.\n8\tGlass ovens.\n",
        "queries.train": "1\twhat is a kiln\n",
        "queries.dev": "2\twhat melts glass\n3\tnobody knows\n",
        "queries.dev.small": "2\twhat melts glass\n",
        "qrels.train": "1\t0\t7\t1\n1\t0\t8\t0\n",
        "qrels.dev": "2 0 8 1\n9 0 8 1\n3 0 99 1\n",
        **files,
    }
    for name, text in given.items():
        dump(text, folder / f"{name}.tsv")
    return folder


def test_msmarco_is_read_with_its_splits(tmp_path):
    found = read("msmarco", marco(tmp_path / "in"))
    assert [(q.question_id, q.golds, q.split) for q in found.questions] == [
        ("2", (Gold("8"),), "dev"),
        ("3", (), "dev"),
        ("1", (Gold("7"),), "train"),
    ]
    assert next(iter(found.documents)) == PlainDocument("7", "", "Clay ovens.", "7")
    assert found.lost == {
        "grades other than 1": 1,
        "judgements of questions that are not there": 1,
        "judgements of documents that are not there": 1,
    }
    assert write("msmarco", found, tmp_path / "out") == {}
    assert (tmp_path / "out" / "collection.tsv").read_text() == "7\tClay ovens.\n8\tGlass ovens.\n"
    assert (tmp_path / "out" / "qrels.dev.tsv").read_text() == "2\t0\t8\t1\n"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"collection": "7\ta\n8 b\n"}, r"collection.tsv:2: expected an id, a tab and a text, got '8 b'"),
        ({"collection": "7\ta\n\n"}, r"collection.tsv:2: "),
        ({"collection": "7\ta\n8\tb\n7\tc\n"}, r"expected each document id once, got '7' again"),
        ({"queries.train": "2\tother\n"}, r"expected each query id once, got '2' for another text or split"),
        ({"qrels.train": "1 7 1\n"}, r"qrels.train.tsv:1: expected query, 0, passage and grade, got 3 fields: '1 7 1'"),
    ],
)
def test_msmarco_lines_of_another_shape_are_named(files, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read("msmarco", marco(tmp_path, **files))


def test_bytes_that_are_no_utf8_are_named(tmp_path):
    marco(tmp_path)
    (tmp_path / "collection.tsv").write_bytes(b"7\ta\n8\t\xff\n")
    with pytest.raises(DataError, match=r"collection.tsv:2: expected UTF-8, got b'8\\t\\xff\\n'"):
        read("msmarco", tmp_path)


def test_ids_with_blanks_are_coded_and_never_confused(tmp_path):
    pages = (PlainDocument("a b", "", "x", "a b"), PlainDocument("c", "", "y", "c"))
    lost = write("msmarco", QuestionSet(pages, (PlainQuestion("q 1", "?", (), (Gold("a b"),)),)), tmp_path / "1")
    assert lost == {"document ids": 1, "question ids": 1}
    assert (tmp_path / "1" / "qrels.tsv").read_text() == "q%201\t0\ta%20b\t1\n"
    clash = (*pages, PlainDocument("a%20b", "", "z", "a%20b"))
    with pytest.raises(DataError, match=r"got one that reads 'a%20b' once coded"):
        write("msmarco", QuestionSet(clash, ()), tmp_path / "2")
    assert not (tmp_path / "2").exists()


def test_beir_is_read_with_its_qrels(tmp_path):
    corpus = [
        {"_id": "d1", "title": "T", "text": "x", "metadata": {"url": "http://d1", "year": 3}},
        {"_id": 2, "text": ""},
    ]
    jsonl(corpus, tmp_path / "in" / "corpus.jsonl")
    queries = [{"_id": "q1", "text": "one"}, {"_id": "q2", "text": "two", "metadata": {"answers": ["x"]}}]
    jsonl(queries, tmp_path / "in" / "queries.jsonl")
    head = "query-id\tcorpus-id\tscore\n"
    dump(head + "q1\td1\t2\nq1\t2\t0\n", tmp_path / "in" / "qrels" / "test.tsv")
    dump(head + "q2\t2\t1\n", tmp_path / "in" / "qrels" / "train.tsv")
    found = read("beir", tmp_path / "in")
    assert tuple(found.documents) == (PlainDocument("d1", "T", "x", "http://d1"), PlainDocument("2", "", "", "2"))
    assert [(q.question_id, q.answers, q.golds, q.split) for q in found.questions] == [
        ("q1", (), (Gold("d1"),), "test"),
        ("q2", ("x",), (Gold("2"),), "train"),
    ]
    assert found.lost == {"grades other than 1": 2, "metadata entries": 1}
    assert write("beir", found, tmp_path / "out") == {}
    assert (tmp_path / "out" / "qrels" / "test.tsv").read_text() == head + "q1\td1\t1\n"
    dump(head + "q1\td1\n", tmp_path / "in" / "qrels" / "dev.tsv")
    with pytest.raises(DataError, match=r"dev.tsv:2: expected query-id, corpus-id and score between tabs"):
        read("beir", tmp_path / "in")
    dump(head + "q1\td1\t1\n", tmp_path / "in" / "qrels" / "dev.tsv")
    with pytest.raises(DataError, match=r"test.tsv:2: expected each question in one split, got 'q1' in dev, too"):
        read("beir", tmp_path / "in")


def test_a_corpus_passes_through_without_being_held(tmp_path):
    marco(tmp_path / "in", collection="")
    with (tmp_path / "in" / "collection.tsv").open("w") as out:
        size = sum(out.write(f"{number}\t{'word ' * 100}end\n") for number in range(10_000))
    tracemalloc.start()
    assert write("beir", read("msmarco", tmp_path / "in"), tmp_path / "out") == {}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 5_000_000  # bytes on the disk
    assert peak < 1_500_000  # bytes in memory


# --- Ragas -----------------------------------------------------------------------------------------


def test_ragas_rows_become_questions_on_their_contexts(tmp_path):
    rows = [
        {
            "user_input": "How hot?",
            "reference_contexts": ["900 °C.", "It's hot."],
            "retrieved_contexts": ["It's hot.", "Cold."],
            "reference": "900 °C",
            "response": "Hot",
            "synthesizer_name": "single_hop",
        },
        {
            "user_input": [
                {"type": "human", "content": "Hi"},
                {"type": "ai", "content": "Hello", "tool_calls": []},
                {"type": "tool", "content": "42"},
                {"type": "human", "content": "How hot?"},
                {"type": "ai", "content": "Very"},
            ],
            "reference": "",
        },
    ]
    found = read("ragas", jsonl(rows, tmp_path / "in.jsonl"))
    first, second = found.questions
    texts = {d.doc_id: d.text for d in found.documents}
    assert list(texts.values()) == ["900 °C.", "It's hot.", "Cold."]
    assert [texts[gold.doc_id] for gold in first.golds] == ["900 °C.", "It's hot."]
    assert (first.question_id, first.answers) == ("1", ("900 °C",))
    assert (second.question, second.chat_history, second.answers) == ("How hot?", ("Hi", "Hello"), ())
    assert found.lost == {
        "retrieved contexts, kept as documents alone": 2,
        "column response": 1,
        "column synthesizer_name": 1,
        "messages of tools": 1,
        "messages after the last question": 1,
    }
    lost = write("ragas", found, tmp_path / "out.jsonl")
    assert lost == {"chat histories": 1, "documents without a question": 1}
    line = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert list(line) == ["user_input", "reference_contexts", "reference_context_ids", "reference"]


@given(found=question_sets())
@settings(max_examples=EXAMPLES)
def test_ragas_csv_says_the_same_as_its_jsonl(found):
    with tempfile.TemporaryDirectory() as folder:
        table, lines = Path(folder) / "a.csv", Path(folder) / "a.jsonl"
        assert write("ragas", found, table) == write("ragas", found, lines)
        if lines.read_text():
            assert same(read("ragas", table)) == same(read("ragas", lines))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("question\nx\n", r"in.csv:1: expected a column user_input, got \['question'\]"),
        ("user_input,reference_contexts\nx,\"['a'\"\n", r"in.csv:2: 'reference_contexts': expected a list such as"),
        ("user_input,reference_contexts\nx,__import__('os').abort()\n", r"expected a list such as \['a', 'b'\]"),
        ("user_input,reference_contexts\nx," + "[" * 5000 + "\n", r"expected a list such as"),
        ("user_input,reference_contexts\nx,{}\n", r"'reference_contexts': expected a list, got dict"),
        ("user_input,reference\nx\n", r"in.csv:2: expected 2 cells, got 1"),
        ('user_input,reference\n"x"y,\n', r"in.csv:2: expected quotes in pairs"),
        ("user_input\n", r"expected one question a row, got none"),
    ],
)
def test_a_ragas_table_of_another_shape_is_named(table, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read("ragas", dump(table, tmp_path / "in.csv"))


# --- rag-end2end -----------------------------------------------------------------------------------


def end2end(folder: Path, source: str = "how hot\nhow cold\n", target: str = "very\nnot\n", base: str = "") -> Path:
    dump(source, folder / "val.source")
    dump(target, folder / "val.target")
    dump(base or 'Kilns\tOvens "for clay".\nKilns\t"a\tb\nc"\n', folder / "kb.csv")
    return folder


def test_rag_end2end_is_read_line_by_line(tmp_path):
    found = read("rag_end2end", end2end(tmp_path / "in"))
    assert tuple(found.documents) == (
        PlainDocument("Kilns/1", "Kilns", 'Ovens "for clay".', "Kilns/1"),
        PlainDocument("Kilns/2", "Kilns", "a\tb\nc", "Kilns/2"),
    )
    assert found.questions[1] == PlainQuestion("val/2", "how cold", ("not",), split="dev")
    assert write("rag_end2end", found, tmp_path / "out") == {}
    assert (tmp_path / "out" / "val.target").read_text() == "very\nnot\n"
    assert (tmp_path / "out" / "train.source").read_text() == ""


def test_the_knowledge_base_reads_the_same_with_the_library_that_the_project_uses(tmp_path):
    datasets = pytest.importorskip("datasets")
    texts = ["plain", 'with "quotes"', "a\ttab", "two\nlines", '"', "\r"]
    pages = tuple(PlainDocument(f"T/{n}", "T", text, f"T/{n}") for n, text in enumerate(texts, start=1))
    write("rag_end2end", QuestionSet(pages, ()), tmp_path / "out")
    loaded = datasets.load_dataset(
        "csv",
        data_files=[str(tmp_path / "out" / "my_knowledge_dataset.csv")],
        split="train",
        delimiter="\t",
        column_names=["title", "text"],
        cache_dir=str(tmp_path / "cache"),
    )
    assert loaded["text"][:] == texts


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"target": "very\n"}, r"val.target: expected 2 lines as in val.source, got 1"),
        ({"target": "very\n \n"}, r"val.target:2: expected text, got a blank line"),
        ({"base": "Kilns\n"}, r"kb.csv:1: expected title, tab, text, got 1 cells"),
        ({"base": 'Kilns\t"open\n'}, r"kb.csv:1: expected quotes in pairs"),
    ],
)
def test_rag_end2end_of_another_shape_is_named(more, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read("rag_end2end", end2end(tmp_path, **more))


# --- LocalRQA --------------------------------------------------------------------------------------


def chunk(text: str, source: str = "http://shop/help", **more) -> dict:
    return {"page_content": text, "fmt_content": text, "metadata": {"source": source, "title": "Help", **more}}


def test_localrqa_rows_share_the_documents_of_their_database(tmp_path):
    jsonl([chunk("A."), chunk("B.", seq_num=4), chunk("A.")], tmp_path / "documents.jsonl")
    row = {
        "gold_docs": [chunk("B.")],
        "hard_neg_docs": [chunk("C.")],
        "chat_history": [{"speaker": "u", "message": "m"}],
    }
    jsonl([{**row, "questions": ["What?", "Which?", " "]}], tmp_path / "train_w_q.jsonl")
    jsonl([{**row, "question": "Why?", "gold_answer": "So."}], tmp_path / "eval_w_qa.jsonl")
    jsonl([{**row, "questions": ["Why?"]}], tmp_path / "eval_w_q.jsonl")
    found = read("localrqa", tmp_path)
    assert [(d.doc_id, d.text) for d in found.documents] == [
        ("http://shop/help", "A."),
        ("http://shop/help#2", "B."),
        ("http://shop/help#3", "C."),
    ]
    assert [(q.question_id, q.question, q.split) for q in found.questions] == [
        ("train/1", "What?", "train"),
        ("train/1.2", "Which?", "train"),
        ("eval/1", "Why?", "dev"),
    ]
    assert {q.golds for q in found.questions} == {(Gold("http://shop/help#2"),)}
    assert (found.questions[2].answers, found.questions[2].hard_negatives) == (("So.",), ("C.",))
    assert found.lost == {
        "blank questions": 1,
        "metadata entries": 1,
        "repeated documents": 1,
        "speakers of the chat history": 3,
    }
    assert write("localrqa", found, tmp_path / "out") == {}
    assert same(read("localrqa", tmp_path / "out")) == same(found)


def test_localrqa_lines_of_another_shape_are_named(tmp_path):
    file = tmp_path / "train_w_qa.jsonl"
    for row, message in [
        ({"gold_docs": []}, r"train_w_qa.jsonl:1: expected the key 'question', got \['gold_docs'\]"),
        ({"question": "?", "gold_docs": [chunk("ab")], "gold_span": [0, 3]}, r"'gold_span': expected \[start, end\]"),
        ({"question": "?", "gold_docs": [{}]}, r"'gold_docs': expected the key 'page_content'"),
    ]:
        with pytest.raises(DataError, match=message):
            read("localrqa", jsonl([row], file))


# --- pickles ---------------------------------------------------------------------------------------


class PydanticDocument(BaseModel):
    """What langchain's class is: the pickle's state is pydantic's own."""

    id: str | None = None
    metadata: dict = {}
    page_content: str
    type: str = "Document"


class SimpleDocument:
    """What LocalRQA's class is: a plain object."""

    def __init__(self, page_content: str, metadata: dict) -> None:
        self.page_content, self.metadata, self.fmt_content = page_content, metadata, "formatted"


@pytest.fixture
def pickled(tmp_path, monkeypatch):
    """Pickles documents as if their class lived in another package, which is not there when they are read."""

    def make(module: str, kind: type, protocol: int, extra: object = 3) -> Path:
        parts = module.split(".")
        with monkeypatch.context() as patch:
            for count in range(1, len(parts) + 1):
                patch.setitem(sys.modules, ".".join(parts[:count]), types.ModuleType(parts[count - 1]))
            theirs = type("Document", (kind,), {"__module__": module, "__qualname__": "Document"})
            sys.modules[module].Document = theirs
            documents = [
                theirs(page_content="Zwei\nZeilen é", metadata={"source": "u", "title": "T", "page": extra}),
                theirs(page_content="A.", metadata={"source": "u"}),
            ]
            path = tmp_path / f"{protocol}.pkl"
            path.write_bytes(pickle.dumps(documents, protocol))
        return path

    return make


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("module", "kind"),
    [
        ("langchain_core.documents.base", PydanticDocument),
        ("langchain.schema.document", PydanticDocument),
        ("local_rqa.schema.document", SimpleDocument),
    ],
)
def test_pickled_documents_are_read_without_their_package(pickled, module, kind, protocol, tmp_path):
    path = pickled(module, kind, protocol)
    found = read("localrqa_documents", path)
    assert tuple(found.documents) == (
        PlainDocument("u", "T", "Zwei\nZeilen é", "u"),
        PlainDocument("u#2", "", "A.", "u"),
    )
    assert found.lost == {"metadata entries": 1}
    assert module not in sys.modules
    assert write("localrqa_documents", found, tmp_path / "out.jsonl") == {}
    assert same(read("localrqa_documents", tmp_path / "out.jsonl")) == same(found)


MARK = "executed"


class Runs:
    """Asks whoever unpickles it to call something."""

    def __init__(self, call, *arguments) -> None:
        self.how = call, arguments

    def __reduce__(self):
        return self.how


def calls(folder: Path) -> dict[str, object]:
    touch = f"open({str(folder / MARK)!r}, 'w').close()"
    return {
        "os.system": Runs(os.system, f"touch {folder / MARK}"),
        "eval": Runs(eval, touch),
        "exec": Runs(exec, touch),
        "subprocess": Runs(subprocess.run, ["touch", str(folder / MARK)]),
        "open": Runs(open, str(folder / MARK), "w"),
        "getattr": Runs(getattr, "x", "upper"),
        "import": Runs(__import__, "os"),
        "path": Path("/etc"),
        "ordered": OrderedDict(a=1),
        "bytes": b"raw",
        "bytearray": bytearray(b"raw"),
        "class": Runs,
        "complex": 1j,
    }


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", sorted(calls(Path())))
@pytest.mark.parametrize("depth", ["alone", "in a list", "in metadata"])
def test_a_pickle_that_asks_for_anything_else_is_refused_and_runs_nothing(name, protocol, depth, tmp_path):
    evil = calls(tmp_path)[name]
    held = {"alone": evil, "in a list": [evil], "in metadata": [{"page_content": "x", "metadata": {"a": [evil]}}]}
    path = tmp_path / "documents.pkl"
    path.write_bytes(pickle.dumps(held[depth], protocol))
    with pytest.raises(
        DataError, match=r"documents.pkl: expected a pickled list of .* nothing of it was run"
    ) as raised:
        read("localrqa_documents", path)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / MARK).exists()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", sorted(calls(Path())))
def test_one_bad_value_inside_a_real_document_refuses_the_whole(name, protocol, pickled, tmp_path):
    path = pickled("local_rqa.schema.document", SimpleDocument, protocol, calls(tmp_path)[name])
    with pytest.raises(DataError, match="nothing of it was run"):
        read("localrqa_documents", path)
    assert not (tmp_path / MARK).exists()


DOCUMENT = b"clangchain.schema\nDocument\n"


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'touch executed'\ntR.",
        b"(S'touch executed'\nios\nsystem\n.",
        b"(cos\nsystem\nS'touch executed'\no.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0etouch executed\x85R.",
        b"\x80\x04\x8c\x08builtins\x8c\x0bset.__class__\x93.",  # a dotted name walks through attributes
        b"\x80\x02\x82\x01.",  # an extension code
        b"Pid\n.",  # a persistent id
        b"]" + DOCUMENT + b")\x81}S'a'\nI1\nsba.",  # a document without page_content
        DOCUMENT + b"}S'__setstate__'\nI1\nsb.",  # an attribute of the class itself
        b"cbuiltins\nset\n}S'a'\nI1\nsb.",
        b"ccopyreg\n_reconstructor\n(cbuiltins\nset\ncbuiltins\nobject\nNtR.",
        DOCUMENT + b"(I1\ntR.",
        b"]r\xff\xff\xff\x7f.",  # a memo slot whose table would take 32 GB
        b"]p99999999999\n.",
        b"]j\x00\x00\x00\x10.",  # a slot that was never filled
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",  # a text that claims 8 EiB
        b"B\xff\xff\xff\x7f.",
        b"\x8b\xff\xff\xff\x7f.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",  # a frame that long
        b"L" + b"9" * 5000 + b"L\n.",
        b"",
        b".",
        b"}.",
        b"]",
        b"]." + b"cos\nsystem\n",
        b"not a pickle at all",
        b"\x80\x63].",
        b"(" * 10_000 + b".",
        b"]" * 50_000 + b"a" * 49_999 + b"I1\na.",
    ],
)
def test_a_program_written_by_hand_is_refused(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "documents.pkl"
    path.write_bytes(program)
    tracemalloc.start()
    with pytest.raises(DataError, match="nothing of it was run") as raised:
        read("localrqa_documents", path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "\n" not in str(raised.value)
    assert peak < 100_000_000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["documents.pkl"]


def test_lists_that_double_a_hundred_times_cost_nothing(tmp_path):
    # 2^100 leaves if anybody walked through them; the message must not.
    program = b"(lp0\nI1\na" + b"".join(b"(lp%d\ng%d\nag%d\na" % (n, n - 1, n - 1) for n in range(1, 101)) + b"."
    path = tmp_path / "documents.pkl"
    path.write_bytes(program)
    with pytest.raises(DataError, match="got list; nothing of it was run"):
        read("localrqa_documents", path)


@given(st.binary(max_size=60))
def test_any_bytes_are_documents_or_one_error(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "documents.pkl"
        path.write_bytes(data)
        try:
            rows = list(load_documents(path))
        except DataError as error:
            assert "\n" not in str(error)
        else:
            assert rows == []


@given(st.data())
@settings(max_examples=100)
def test_a_damaged_pickle_is_documents_or_one_error(data):
    """Every byte of a real file may be another one."""
    good = bytearray(pickle.dumps([1, "a", {"b": None}, (), {1}], data.draw(st.sampled_from([0, 2, 4]))))
    good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "documents.pkl"
        path.write_bytes(bytes(good))
        with pytest.raises(DataError):
            list(load_documents(path))


def test_the_oldest_protocol_is_rebuilt_by_ours_not_by_copyreg(pickled):
    data = pickled("local_rqa.schema.document", SimpleDocument, 0).read_bytes()
    names = {argument for opcode, argument, _ in pickletools.genops(data) if opcode.name == "GLOBAL"}
    assert "copy_reg _reconstructor" in names
    assert copyreg._reconstructor.__module__ == "copyreg"


def test_no_pickle_is_ever_written(tmp_path):
    with pytest.raises(ConfigError, match=r"expected a name that ends in .jsonl, got '.pkl'; pickles are not written"):
        write("localrqa_documents", rich(), tmp_path / "documents.pkl")


# --- the whole -------------------------------------------------------------------------------------


def test_a_folder_that_holds_something_is_never_replaced(tmp_path):
    kept = dump("mine", tmp_path / "home" / "thesis.txt")
    for name in ("beir", "localrqa", "msmarco", "rag_end2end", "triviaqa"):
        with pytest.raises(ConfigError, match=rf"home: expected a new or empty folder for {name}, got something"):
            write(name, rich(), tmp_path / "home")
    with pytest.raises(ConfigError, match=r"home: expected a file for squad, got a folder"):
        write("squad", rich(), tmp_path / "home")
    assert kept.read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert write("localrqa", rich(), tmp_path / "empty") == {}


@pytest.mark.parametrize("name", FORMATS)
def test_what_fails_leaves_nothing_behind(name, tmp_path):
    def documents():
        yield PlainDocument("Help/1", "Help", "five days", "Help/1")
        raise DataError("in the middle")

    class Failing:
        def __iter__(self):
            return documents()

    with pytest.raises(DataError, match="in the middle"):
        write(name, QuestionSet(Failing(), ()), tmp_path / NAMES.get(name, "out"))
    assert list(tmp_path.iterdir()) == []


def test_unknown_names_are_answered_with_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match=r"'squat': expected one of beir, localrqa, .*triviaqa; name one of them"):
        read("squat", tmp_path)
    with pytest.raises(ConfigError, match=r"'squat': expected one of"):
        write("squat", rich(), tmp_path)
    for name in FORMATS:
        with pytest.raises(ConfigError, match=r"nowhere"):
            read(name, tmp_path / ("nowhere.jsonl" if name in NAMES else "nowhere"))


@pytest.mark.parametrize("name", ["squad", "natural_questions", "ragas", "triviaqa", "localrqa"])
def test_a_gold_document_that_is_not_there_is_named(name, tmp_path):
    found = QuestionSet((), (PlainQuestion("q", "?", ("a",), (Gold("ghost"),)),))
    with pytest.raises(DataError, match=r"expected every gold document among the documents.*'ghost'"):
        write(name, found, tmp_path / NAMES.get(name, "out"))


def test_a_disk_that_refuses_is_one_line(tmp_path):
    dump("a file", tmp_path / "file")
    with pytest.raises(ServiceError, match=r"cannot write"):
        write("squad", rich(), tmp_path / "file" / "out.json")


def test_names_never_collide():
    names = Names()
    assert [names.name("a", "x"), names.name("a", "y"), names.name("a", "x")] == ["a", "a#2", "a"]
    assert [names.name("a#2", "z"), names.name("a", "w")] == ["a#2#2", "a#3"]


def test_ids_that_merely_share_a_hash_are_no_repeats():
    class Heavy(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return 7

    pages = [PlainDocument(Heavy(name), "", "", "") for name in "abc"]
    refuse_repeats(pages, "here")
    with pytest.raises(DataError, match=r"here: expected each document id once, got 'b' again"):
        refuse_repeats([*pages, PlainDocument(Heavy("b"), "", "", "")], "here")


def test_a_set_can_be_brought_into_memory():
    found = QuestionSet(iter(rich().documents), rich().questions, Loss({"a": 1}))
    assert found.loaded().documents == rich().documents


def test_the_page_on_formats_has_a_row_for_each():
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    assert [name for name in FORMATS if f"| `{name}` |" not in page] == []
