"""The leak audit: what it finds, what it leaves alone, what it says."""

import json
import os
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragline import io
from ragline.artifacts import PASSAGES, QUESTIONS_DEV, QUESTIONS_TEST, QUESTIONS_TRAIN
from ragline.errors import DataError
from ragline.evaluation.leak_passages import jaccard, plain, shingles
from ragline.evaluation.leaks import Item, Limits, audit, items_of_examples, items_of_localrqa
from ragline.types import Passage, QAExample
from tests.conftest import ROOT
from tests.fixtures import planted_leaks
from tests.fixtures.small import passage, question

FAIRE = Path(os.environ.get("RAGLINE_BENCHMARKS", ROOT.parent / "shared" / "data")) / "faire"


def item(name, split, asked, answer="", text="", source="", gold="", title=""):
    return Item(
        name, split, asked, (source,) if source else (), title, (gold,) if gold else (), (text,) if text else (), answer
    )


def kinds(*items, **options):
    return sorted((leak.kind, leak.question_id, leak.train_id) for leak in audit(items, **options).leaks)


# --- shared by name --------------------------------------------------------------------------------


def test_shared_source_and_gold_are_counted_once_a_question_and_by_split():
    found = audit(
        [
            item("a", "train", "how big is it", source="d1", gold="d1#1"),
            item("b", "train", "who made it", source="d1", gold="d1#2"),
            item("c", "dev", "when did it open", source="d1", gold="d1#3"),
            item("d", "test", "why was it built", source="d1", gold="d1#2"),
            item("e", "test", "where does it stand", source="d9", gold="d9#1"),
        ]
    )
    assert found.counts == {
        "dev": {"shared_source": 1, "shared_gold": 0, "near_passage": 0, "near_question": 0},
        "test": {"shared_source": 1, "shared_gold": 1, "near_passage": 0, "near_question": 0},
    }
    assert [leak.train_id for leak in found.leaks if leak.kind == "shared_gold"] == ["b"]
    assert found.share("test", "shared_source") == 0.5  # d of d, e
    assert found.affected("test") == {"d"}


def test_what_dev_and_test_share_and_what_train_repeats_is_no_leak():
    assert (
        kinds(
            item("a", "train", "how do I bake bread", source="d1", gold="d1#1", text="Bread needs flour. " * 9),
            item("b", "train", "how do I bake bread", source="d1", gold="d1#1", text="Bread needs flour. " * 9),
            item("c", "dev", "who fixes the lift", source="d2", gold="d2#1", text="A caretaker has the keys. " * 9),
            item("d", "test", "who fixes the lift", source="d2", gold="d2#1", text="A caretaker has the keys. " * 9),
        )
        == []
    )


def test_what_is_not_known_is_not_shared():
    assert kinds(item("a", "train", "is it open"), item("b", "test", "who has keys")) == []


# --- passages --------------------------------------------------------------------------------------

TEXT = (
    "The harbour office opens at seven in the morning and closes at six in the evening. Boats that arrive later "
    "report to the night watch at pier four, which keeps a list of free berths and the fees for one night."
)


def near(text, **options):
    return [
        round(leak.score, 2)
        for leak in audit(
            [item("a", "train", "when is it open", text=TEXT), item("b", "test", "what does a night cost", text=text)],
            **options,
        ).leaks
        if leak.kind == "near_passage"
    ]


def test_copies_are_found_whatever_the_white_space_case_and_punctuation():
    assert near(TEXT) == [1.0]
    assert near("  " + TEXT.replace(" ", "\n   ").upper().replace(".", " !")) == [1.0]


def test_small_edits_leave_a_near_duplicate_and_other_text_is_none():
    # 199 plain characters, 195 shingles, all distinct or nearly so; "seven" -> "eight" breaks the 9 shingles that
    # touch it and makes 9 others: about 186 / 204 = 0.91.
    assert near(TEXT.replace("seven", "eight")) == [pytest.approx(0.91, abs=0.015)]
    assert near(TEXT[: len(TEXT) // 2]) == []  # half of the shingles: 0.5
    assert near("Nothing of the kind is said here, whatever one may think of the ferry and its crew.") == []


def test_one_shared_text_among_several_is_enough():
    several = Item("b", "test", "what does a night cost", gold_texts=("Something else altogether.", TEXT))
    assert kinds(item("a", "train", "when is it open", text=TEXT), several) == [("near_passage", "b", "a")]


def test_a_text_that_one_question_copies_may_be_edited_by_another():
    copy = item("b", "test", "what does a night cost", text=TEXT)
    edited = item("c", "test", "who has the list", text=TEXT.replace("seven", "eight"))
    train = item("a", "train", "when is it open", text=TEXT)
    assert kinds(train, copy, edited) == [("near_passage", "b", "a"), ("near_passage", "c", "a")]


@settings(max_examples=30)
@given(st.lists(st.sampled_from(planted_leaks._WORDS), min_size=30, max_size=60), st.integers(0, 29))
def test_the_score_is_the_exact_jaccard_of_character_shingles(words, at):
    changed = [*words[:at], "zzz", *words[at + 1 :]]
    a, b = " ".join(words), " ".join(changed)
    grams = [{text[i : i + 5] for i in range(len(text) - 4)} for text in (a, b)]
    expected = len(grams[0] & grams[1]) / len(grams[0] | grams[1])
    assert jaccard(shingles(a), shingles(b)) == pytest.approx(expected)


# --- questions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "again"),
    [
        ("How do I remove a row?", "how do I remove a row"),
        ("How do I remove a row?", "  Is there a way to\n delete rows? "),
        ("How do I calculate the median?", "how do I calcualte the median"),
        ("What does Velora do?", "What is the purpose of Velora?"),
        ("What does the timeout of Velora do?", "In Velora, what is the timeout for?"),
        ("What do I get back from Velora?", "What does Velora return?"),
    ],
)
def test_the_same_question_in_other_words_is_found(asked, again):
    # Others around them, so that there are frequent and rare words.
    rest = [item(f"r{n}", "train", f"How do I paint wall {n}?", f"With brush {n}.") for n in range(9)]
    pair = (item("a", "train", asked, "Like this."), item("b", "test", again, "Like this."))
    assert kinds(*rest, *pair) == [("near_question", "b", "a")]


@pytest.mark.parametrize(
    ("one", "answer", "other", "its_answer"),
    [
        ("What does axis of Frame.max do?", "axis to use", "What does axis of Frame.min do?", "axis to use"),
        ("What does timeout of Velora do?", "Seconds.", "What does retries of Velora do?", "Tries."),
        ("Where is the left edge?", "The left edge.", "Where is the right edge?", "The right edge."),
        ("Does Int8 hold a sign?", "Yes.", "Does Int16 hold a sign?", "Yes."),
        ("What does it do?", "It cuts.", "What can it be?", "Anything."),
        ("How do I encode text?", "Encode text by name.", "How do I decode text?", "Decode text by name."),
        ("How do I remove a label?", "Press remove.", "How do I rename a label?", "Press rename."),
    ],
)
def test_questions_that_share_a_template_are_two(one, answer, other, its_answer):
    rest = [item(f"r{n}", "train", f"What does paint{n} of Wall{n} do?", f"Brush {n}.") for n in range(9)]
    words = (one.split()[-2], other.split()[-2])
    a = item("a", "train", one, answer, text=f"This is about {one} {answer}", title=words[0])
    b = item("b", "test", other, its_answer, text=f"This is about {other} {its_answer}", title=words[1])
    assert [leak for leak in kinds(*rest, a, b) if leak[0] == "near_question"] == []


PRINT = "Open the blue menu to print a label."


@pytest.mark.parametrize(
    ("again", "its_answer", "found"),
    [
        # 11 questions, two with `print`: it weighs ln(1 + 11/2) = 1.87, `label` and `sticker` ln(1 + 11) = 2.48.
        # Both say 1.87 of 6.83, a share of 0.27; with `label`, which the answer says, 4.36 of 6.83, a share of 0.64.
        ("How do I print a sticker?", PRINT, True),
        # Words that only ask apart, the questions share none: an answer alone makes no question of two.
        ("What is hidden behind the mirror?", PRINT, False),
        ("How do I print a sticker?", "Use the red press.", False),
    ],
)
def test_a_word_that_the_same_answer_has_is_said_by_both(again, its_answer, found):
    rest = [item(f"r{n}", "train", f"How do I paint wall {n}?", f"With brush {n}.") for n in range(9)]
    pair = (item("a", "train", "How do I print a label?", PRINT), item("b", "test", again, its_answer))
    assert kinds(*rest, *pair) == [("near_question", "b", "a")] * found


def test_questions_of_nothing_but_common_words_are_compared_by_those():
    def encode(texts):  # questions all in one direction, answers in two
        return np.array([(0.0, 1.0) if text == "A crew." else (1.0, 0.0) for text in texts], dtype=np.float32)

    train = item("a", "train", "What is it?", "A boat.")
    assert kinds(train, item("b", "test", "what is it", "A boat.")) == [("near_question", "b", "a")]
    assert kinds(train, item("b", "test", "Who are they?", "A crew."), encode=encode) == []


def test_an_encoder_finds_what_shares_no_word_if_the_answers_agree():
    patch, walk = "Glue a patch over the hole.", "Walk home and buy another bicycle."
    directions = {
        "how do I mend a puncture": (1.0, 0.0),
        "my tyre is flat": (0.9, np.sqrt(1 - 0.9**2)),  # cosine 0.9
        patch: (1.0, 0.0),
        walk: (0.0, 1.0),  # cosine 0
    }

    def encode(texts):
        return np.array([directions[text] for text in texts], dtype=np.float32)

    train = item("a", "train", "how do I mend a puncture", patch)
    assert kinds(train, item("b", "test", "my tyre is flat", patch)) == []
    assert kinds(train, item("b", "test", "my tyre is flat", patch), encode=encode) == [("near_question", "b", "a")]
    assert kinds(train, item("b", "test", "my tyre is flat", walk), encode=encode) == []


@pytest.mark.slow
def test_the_base_encoder_can_be_passed_in():
    from ragline.retrieval import encoder

    model = encoder.load("builtin:minilm")
    train = planted_leaks.clean_corpus(40, seed=2)
    planted = planted_leaks.plant(train, 200, seed=2)
    found = audit([*train, *(p.item for p in planted)], encode=lambda texts: encoder.encode_questions(model, texts))
    assert len(missed(planted, found)) <= 2


# --- planted and clean sets ------------------------------------------------------------------------


def missed(planted, found):
    seen = {(leak.kind, leak.question_id) for leak in found.leaks}
    return [p for p in planted if (p.kind, p.item.id) not in seen]


@pytest.mark.parametrize("seed", range(4))
def test_of_200_planted_leaks_at_least_198_are_found(seed):
    train = planted_leaks.clean_corpus(60, seed)
    planted = planted_leaks.plant(train, 200, seed)
    assert Counter(p.how for p in planted) == {"copy": 50, "white space": 50, "small edits": 50, "paraphrase": 50}
    found = audit([*train, *(p.item for p in planted)])
    assert len(missed(planted, found)) <= 2, missed(planted, found)
    # Nothing was planted by name, so nothing may be found by name.
    assert {leak.kind for leak in found.leaks} == {"near_passage", "near_question"}


def test_planted_questions_really_differ_from_their_bases():
    train = {i.id: i for i in planted_leaks.clean_corpus(60, 0)}
    reworded = [p for p in planted_leaks.plant(list(train.values()), 200, 0) if p.how == "paraphrase"]
    asked = [(plain(p.item.question), plain(train[p.base_id].question)) for p in reworded]
    assert all(new != old for new, old in asked)


def splits_flagged(seeds):
    items = planted_leaks.clean_corpus(60, seed=0)
    return sum(not audit(planted_leaks.resplit(items, seed)).clean for seed in seeds)


def test_clean_splits_are_clean():
    assert splits_flagged(range(6)) == 0


@pytest.mark.slow
def test_of_100_clean_splits_none_is_flagged():
    # None of 100 says as much as two of 200: at 95 % confidence, fewer than 3 % of all are flagged.
    assert splits_flagged(range(100)) == 0


def test_the_order_of_the_items_changes_nothing():
    items = planted_leaks.clean_corpus(20, seed=1)
    items += [p.item for p in planted_leaks.plant(items, 40, seed=1)]
    shuffled = random.Random(0).sample(items, len(items))
    assert audit(shuffled) == audit(items)


# --- the report ------------------------------------------------------------------------------------


def leaky():
    return [
        item("a", "train", "How do I bake bread?", "With flour.", source="d1"),
        *(item(f"q{n}", "test", f"What is fact {n}?", source=f"e{n}") for n in range(3)),
        item("b", "test", "how do I bake bread", "With flour.", source="d2"),
    ]


def test_clean_holds_up_to_the_limit_and_not_beyond():
    # One of four test questions: 0.25.
    assert not audit(leaky()).clean
    assert not audit(leaky(), Limits(near_question=0.2)).clean
    assert audit(leaky(), Limits(near_question=0.25)).clean
    assert audit(leaky()[:-1]).clean


def test_lines_show_counts_shares_verdict_and_pairs():
    lines = audit(leaky()).lines()
    assert lines[0] == "questions: 1 train, 4 test"
    assert "  LEAK       1  25.0%  are asked in train, too (limit 0.0%)" in lines
    assert "         1.00  b: how do I bake bread" in lines
    assert "               a: How do I bake bread?" in lines
    assert "  ok         0   0.0%  share a document with train (limit 0.0%)" in lines
    assert lines[-1] == "not clean: see LEAK above"
    assert audit(leaky()[:-1]).lines()[-1] == "clean: no split exceeds its limits"


def test_the_dict_is_json_and_bounds_its_examples():
    report = audit(leaky()).as_dict()
    assert json.loads(json.dumps(report)) == report
    assert (report["clean"], report["splits"]["test"]["affected"]) == (False, 1)
    found = report["splits"]["test"]["near_question"]
    assert (found["questions"], found["share"]) == (1, 0.25)
    assert [(pair["question_id"], pair["train_id"], pair["score"]) for pair in found["examples"]] == [("b", "a", 1.0)]
    assert audit(leaky()).as_dict(examples=0)["splits"]["test"]["near_question"]["examples"] == []


def test_too_little_to_compare_is_an_error():
    with pytest.raises(DataError, match="expected questions in train and in dev or test, got 1 train, 0 dev, 0 test"):
        audit([item("a", "train", "who")])
    with pytest.raises(DataError, match="expected unique ids in test, got 'b' 2 times"):
        audit([item("a", "train", "who"), item("b", "test", "what"), item("b", "test", "when")])


# --- where items come from -------------------------------------------------------------------------


def test_items_of_the_pipelines_questions():
    example = question("q1", "doc#0001", "What is it?", cluster="twin", answer="It is a thing.")
    found = items_of_examples([example], {"doc#0001": passage("doc#0001", "It is a thing.")})
    assert found == [
        Item("q1", "train", "What is it?", ("twin",), "doc", ("doc#0001",), ("It is a thing.",), "It is a thing.")
    ]
    with pytest.raises(DataError, match=r"q1: gold passage 'doc#0001' is not among the 0 passages"):
        items_of_examples([example], {})


def test_questions_of_one_cluster_share_their_source():
    passages = {name: passage(name) for name in ("x#0000", "y#0000")}
    examples = [
        replace(question("q1", "x#0000", "how tall", cluster="x"), split="train"),
        replace(question("q2", "y#0000", "how deep", cluster="x"), split="test"),
    ]
    assert ("shared_source", "q2", "q1") in kinds(*items_of_examples(examples, passages))


def row(text, source="s", **more):
    gold = {"page_content": text, "metadata": {"source": source, "title": "T"}}
    return {"question": "What is it?", "gold_docs": [gold], "gold_answer": "A thing."} | more


def test_items_of_localrqa_rows():
    first, second, third = items_of_localrqa([(1, row("x")), (2, row("x", id="own")), (4, row("y"))], "dev", "e.jsonl")
    assert (first.id, second.id, third.id) == ("e.jsonl:1", "own", "e.jsonl:4")
    assert (first.split, first.sources, first.title, first.answer) == ("dev", ("s",), "T", "A thing.")
    assert first.gold_ids == second.gold_ids != third.gold_ids
    (bare,) = items_of_localrqa([(1, row("x", gold_docs=[]))], "dev")
    assert (bare.sources, bare.gold_ids, bare.gold_texts) == ((), (), ())


def test_a_localrqa_row_of_another_form_is_named():
    with pytest.raises(DataError, match=r"e\.jsonl:3: expected question as text"):
        items_of_localrqa([(3, {"question": "What?"})], "dev", "e.jsonl")
    with pytest.raises(DataError, match=r"dev:3: 'gold_docs': expected page_content and metadata\.source"):
        items_of_localrqa([(3, row("x", gold_docs=[{"page_content": "x"}]))], "dev")


# --- real sets -------------------------------------------------------------------------------------


@pytest.mark.skipif(not FAIRE.is_dir(), reason="the Faire benchmark is not on this machine")
def test_faire_is_known_to_leak():
    train = items_of_localrqa(io.read_jsonl(FAIRE / "train_w_qa.jsonl"), "train", "train")
    found = audit([*train, *items_of_localrqa(io.read_jsonl(FAIRE / "eval_w_qa.jsonl"), "test", "eval")])
    # Counted apart from the audit: 61 of the 73 questions come from an article of train, 4 share the chunk itself.
    assert found.questions == {"train": 575, "test": 73}
    assert (found.counts["test"]["shared_source"], found.counts["test"]["shared_gold"]) == (61, 4)
    assert found.counts["test"]["near_passage"] >= 4
    asked_again = {leak.question for leak in found.leaks if leak.kind == "near_question"}
    assert "How can I limit who can purchase my preorders?" in asked_again


@pytest.mark.slow
def test_at_most_one_in_a_hundred_default_questions_is_said_to_be_asked_in_train():
    tables = [ROOT / table for table in (QUESTIONS_TRAIN, QUESTIONS_DEV, QUESTIONS_TEST)]
    if not all(table.exists() for table in [*tables, ROOT / PASSAGES]):
        pytest.skip("the default questions are not here: dvc repro generate_qa")
    passages = {p.passage_id: p for p in io.iter_table(Passage, ROOT / PASSAGES)}
    examples = [example for table in tables for example in io.iter_table(QAExample, table)]
    found = audit(items_of_examples(examples, passages))
    said = sum(leak.kind == "near_question" for leak in found.leaks)
    assert said <= sum(example.split != "train" for example in examples) / 100
