import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragline import io
from ragline.artifacts import DOCUMENTS, PASSAGES, QUESTIONS_TRAIN
from ragline.errors import ConfigError, DataError
from ragline.questions import filter_support
from ragline.questions.filter_retrieval import similarity
from ragline.questions.filter_verdict import Context, Thresholds
from ragline.questions.filters import FILTERS, counts_by_filter, run_filters
from ragline.types import Document, Passage, QAExample
from tests.conftest import ROOT
from tools.plant_defects import LOTS, OFFLINE, PLANS, context_of, plant, wilson
from tools.sample_questions import draw, row, short

REFUND = "Refunds > Timing\nRefunds take 5 days. They go to the card that paid. They are not sent by cheque."
MERGE = "lib.merge > Parameters\nhow : str, default 'left'\n    Kind of join. Use left_anti for rows that do not match."
TEXTS = {"refund#0000": REFUND, "merge#0000": MERGE}
DOCS = {"refund": REFUND, "merge": MERGE}
CONTEXT = Context(TEXTS, DOCS)


def ask(
    question: str = "How long do refunds take?",
    *answers: str,
    gold: str = "refund",
    answerable: bool = True,
    history: tuple[str, ...] = (),
    question_id: str = "q1",
) -> QAExample:
    return QAExample(
        question_id=question_id,
        question=question,
        answers=answers or (("Refunds take 5 days.",) if answerable else ()),
        doc_id=gold if answerable else "",
        start=0,
        end=7,
        gold_passage_ids=(f"{gold}#0000",) if answerable else (),
        kind="howto",
        split="train",
        cluster=gold,
        answerable=answerable,
        chat_history=history,
    )


def verdict(name: str, example: QAExample, **more):
    return FILTERS[name](example, dataclasses.replace(CONTEXT, **more))


# --- schema ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "why"),
    [
        ("", "0 words"),
        ("refunds", "1 words"),
        ("word " * 61, "61 words"),
        ("?? !! ## 12 34 ?", "symbols"),
        ("refund refund refund refund refund refund", "repeats itself"),
        ("Question: how long do refunds take?", "left over"),
        ("How does {passage} describe refunds?", "left over"),
        ("How long do refunds take?\nAnswer: 5 days", "left over"),
        ("```How long do refunds take?```", "format"),
        ('["How long do refunds take?", "question": 1]', "format"),
        ("**How long do refunds take?**", "format"),
    ],
)
def test_schema_rejects_what_is_no_clean_question(question, why):
    found = verdict("schema", ask(question))
    assert not found.kept
    assert why in found.detail


@pytest.mark.parametrize(
    "question",
    [
        "read csv",
        "What does {0 or 'index', 1 or 'columns'} mean for axis?",
        "what is the default of na_values in read_csv(sep='|', header=None)",
        "TypeError: unhashable type: 'list' when grouping",
        "pivot_table: what if a list is passed?",
        "How do I answer a question of a customer?",
        "Wie lange dauert eine Erstattung?",
    ],
)
def test_schema_keeps_what_users_type(question):
    assert verdict("schema", ask(question)).kept


@pytest.mark.parametrize(
    "question",
    [
        "Turn 1: how long do refunds take?",
        "As requested, a hard one. How long do refunds take?",
        "How long do refunds take? (expected reply: 5 days)",
        "Great! How long do refunds take?",
        "A customer might ask: how long do refunds take?",
        "How long do refunds take? [END]",
        "How long do refunds take -> 5 days",
        "◦ How long do refunds take?",
        "*How long do refunds take?*",
    ],
)
def test_what_is_set_apart_and_not_of_the_passage_is_left_over(question):
    assert not verdict("schema", ask(question)).kept


@pytest.mark.parametrize(
    "question",
    [
        "Refunds: how long do they take?",  # a word of the passage
        "A refund takes 9 days. Is that normal?",
        "TypeError: refund is None, why?",  # a name in a program
        "Refunds (0: cheque) have mixed types, why?",  # a number
        "Hello everyone! How long do refunds take?",  # a greeting
        "Who was Bolívar (born: 1783)?",  # not answerable: there is no passage to know
    ],
)
def test_what_is_set_apart_and_of_the_passage_or_the_users_own_stays(question):
    assert verdict("schema", ask(question, answerable="Bolívar" not in question)).kept


@pytest.mark.parametrize(
    "answer", ["", "N/A", "TODO", "...", "Answer: 5 days", '{"answer": "5 days"}', "```json\n{}\n```"]
)
def test_schema_rejects_what_is_no_answer(answer):
    assert not verdict("schema", ask("How long do refunds take?", answer)).kept


@pytest.mark.parametrize("answer", ["+", "5", "None", "left", "```python\ndf.sum()\n```", "A user types `a: b`."])
def test_schema_keeps_short_answers_and_code(answer):
    assert verdict("schema", ask("What does it take to add two numbers?", answer)).kept


def test_schema_bounds_are_those_of_the_thresholds():
    short_only = Thresholds(max_question_words=4, max_answer_words=3)
    assert "5 words" in verdict("schema", ask(), thresholds=short_only).detail
    found = verdict("schema", ask("How long refunds take?"), thresholds=short_only)
    assert "4 words, expected at most 3" in found.detail


def test_an_answerable_question_needs_an_answer_and_an_unanswerable_one_does_not():
    assert verdict("schema", dataclasses.replace(ask(), answers=())).detail == "no answer"
    assert verdict("schema", ask(answerable=False)).kept


# --- passage dependence ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "question",
    [
        "According to the passage, how long do refunds take?",
        "How long do refunds take, as mentioned above?",
        "What does the author say about refunds?",
        "What is shown in this table?",
        "Which fee does the document mention?",
        "Given the excerpt, when is a refund late?",
        "What does this function return?",
        "Why is it deprecated?",
        "What is its default value?",
        "What does the parameter control?",
    ],
)
def test_a_question_that_needs_its_passage_is_dropped(question):
    found = verdict("passage_dependence", ask(question))
    assert not found.kept
    assert found.score == 0


@pytest.mark.parametrize(
    "question",
    [
        "What does the text parameter of annotate do?",
        "How do I remove white space from the text column?",
        "How do I read the tables of a web page?",
        "How do I set the author of a document?",
        "Is it possible to cancel an order?",
        "What does it mean when an order is on hold?",
        "If I set index to False, does it keep the rows?",
        "Does DataFrame.merge sort its result?",
        "What does the method parameter of interpolate accept?",
        "How do I convert this column to dates?",
        "How can I ensure that products are grouped together?",
        "How are values above 10 coloured?",
        "Based on which column does merge_asof join?",
    ],
)
def test_a_question_that_stands_on_its_own_is_kept(question):
    assert verdict("passage_dependence", ask(question)).kept


@pytest.mark.parametrize(
    "question",
    [
        "Going by its wording, how long does the article make refunds take?",
        "How long do refunds take, if one trusts the author?",
        "In the second paragraph, how long do refunds take?",
        "How long do refunds take? Answer with the text.",
        "Does the method sort?",
    ],
)
def test_a_text_or_a_kind_of_thing_without_a_name_is_no_subject(question):
    assert not verdict("passage_dependence", ask(question)).kept


def test_the_article_is_a_subject_where_the_passage_speaks_of_articles():
    question = "How do refunds work when the article is damaged?"
    assert not verdict("passage_dependence", ask(question)).kept
    about_articles = {**TEXTS, "refund#0000": f"{REFUND} An article that is damaged is paid back."}
    assert verdict("passage_dependence", ask(question), passages=about_articles).kept


@pytest.mark.parametrize(
    "question",
    ["What did the former champions win?", "What does the method option of fill do?", "Who ran in the latter half?"],
)
def test_former_latter_and_method_may_stand_beside_a_name(question):
    assert verdict("passage_dependence", ask(question)).kept


def test_a_follow_up_may_say_it_but_not_point_at_a_text():
    history = ("What is merge?", "It joins two tables.")
    assert verdict("passage_dependence", ask("What does it return?", history=history)).kept
    assert not verdict("passage_dependence", ask("What does it return according to the text?", history=history)).kept


# --- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        "The document does not contain information on refunds.",
        "The document you’ve provided doesn’t specify how long it takes. It only names the card.",
        "I don't know.",
        "As an AI language model, I cannot say.",
        "I'm sorry, but there is no mention of refunds.",
        "Based on the passage, it is not possible to determine the fee.",
        "Not specified.",
        "This is not mentioned in the text.",
        "There is not enough information to answer.",
        "Nowhere does the passage say so.",
        "The text, sadly, gives no hint.",
        "It's hard to say.",
        "We are never able to tell.",
        "That is left unsaid.",
    ],
)
def test_a_refusal_is_no_gold_answer(answer):
    assert not verdict("refusal", ask("How long do refunds take?", answer)).kept


@pytest.mark.parametrize(
    "answer",
    [
        "No, Faire does not support pallet shipping.",
        "If the page does not contain a table, ValueError is raised.",
        "Whether the two have the same information (their levels need not match).",
        "You cannot remove a promo code.",
        "The function returns None when the key is unknown.",
        "This method does not provide a way back.",
        "It is not specified unless the key is given.",
        "It is difficult to undo.",
    ],
)
def test_saying_no_is_an_answer(answer):
    assert verdict("refusal", ask("How long do refunds take?", answer)).kept


def test_the_score_of_a_refusal_is_the_share_of_other_sentences():
    # Three sentences, the last one refuses: 2/3 answer, and the first is one of them.
    answer = "Refunds take 5 days. They go to the card. However, the document does not mention the fee."
    found = verdict("refusal", ask("How long?", answer))
    assert (found.kept, found.score, found.detail) == (True, pytest.approx(2 / 3), "answers in part")
    # One refusing sentence of two, and it comes first: dropped with 1/2.
    first = verdict("refusal", ask("How long?", "The document does not say. Ask the support team."))
    assert (first.kept, first.score) == (False, 0.5)


# --- grounding -------------------------------------------------------------------------------------


def test_a_verbatim_answer_is_grounded_whatever_its_case_and_white_space():
    assert verdict("grounding", ask("How long?", "REFUNDS take\n  5 days")).score == 1


def test_grounding_scores_the_share_of_words_and_leaves_out_those_of_the_question():
    # fast, go, card, paid; 'fast' is not in the passage, 'soon' only in the question: 3 of 4 words are held.
    found = verdict("grounding", ask("how soon", "go fast soon: card, paid"))
    assert found.score == 0.75
    assert not verdict(
        "grounding", ask("how soon", "go fast soon: card, paid"), thresholds=Thresholds(min_support=0.8)
    ).kept


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("Refunds take 6 days.", "number 6"),
        ("The refunds go to Helsinki.", "name Helsinki"),
        ("Refunds go to the pay_card that paid.", "name pay_card"),
        ("They are sent by cheque.", "opposite"),
        ("Refunds do not take 5 days.", "opposite"),
    ],
)
def test_a_wrong_number_name_or_negation_is_not_grounded(answer, why):
    found = verdict("grounding", ask("What happens?", answer))
    assert (found.kept, found.score) == (False, 0)
    assert why in found.detail


@pytest.mark.parametrize(
    "answer", ["Refunds take five days.", "No, they are not sent by cheque.", "Refunds go to the card."]
)
def test_the_same_in_other_words_is_grounded(answer):
    assert verdict("grounding", ask("Are refunds sent by cheque?", answer)).kept


def test_the_worst_answer_counts():
    found = verdict("grounding", ask("How long?", "Refunds take 5 days.", "Refunds take 7 days."))
    assert (found.kept, found.score) == (False, 0)


def test_what_a_caller_calls_a_module_need_not_be_in_the_passage():
    assert verdict("grounding", ask("how", "lib.merge with left_anti", gold="merge")).kept
    assert verdict("grounding", ask("how", "x.merge with left_anti", gold="merge")).kept
    assert not verdict("grounding", ask("how", "x.concat_all with left_anti", gold="merge")).kept


def test_numbers_are_compared_as_values():
    assert filter_support.numbers("1,000 and 0.50 and 2k") == {"1000", "0.5", "2000"}
    assert filter_support.numbers("1. open\n2. close https://x.org/9") == set()


words = st.lists(st.sampled_from("refunds take days card paid sent fee".split()), min_size=1, max_size=6).map(" ".join)


@given(words, words)
def test_support_is_a_share_and_full_for_every_piece_of_the_text(answer, text):
    assert 0 <= filter_support.support(answer, "", text)[0] <= 1
    assert filter_support.support(answer, "", f"{text} {answer} {text}")[0] == 1


# --- answer in question ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How long do refunds take?", "How long do refunds take"),
        ("When do refunds go to the card?", "Refunds go to the card."),
        ("What is the default 'left' of how?", "left"),
        ("Why is the sum 5?", "5"),
        ("What is the refund time?", "Yes, the refund time."),
        ("When do refunds go to the card?", "Obviously, refunds go to the card."),  # news, but not of the passage
        ("How do I get refunds that take 5 days?", "take 5 days"),  # stands in the passage, but is no sentence
    ],
)
def test_an_answer_without_news_is_dropped(question, answer):
    assert not verdict("answer_in_question", ask(question, answer)).kept


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Do refunds go to the card?", "Refunds go to the card."),
        ("Is it 'left' or 'right'?", "left"),
        ("How many refunds are there?", "Only one refund."),
        ("What is the operator for adding?", "+"),
        ("How do I get refunds that take 5 days?", "Refunds take 5 days."),
    ],
)
def test_news_may_be_a_number_a_choice_or_where_it_stands(question, answer):
    assert verdict("answer_in_question", ask(question, answer)).kept


def test_the_score_is_the_share_of_new_words():
    # refund, take, 5, day: 5 and day are new.
    assert verdict("answer_in_question", ask("How long do refunds take?", "Refunds take 5 days.")).score == 0.5


# --- retrieval -------------------------------------------------------------------------------------


def rank(*ids: str):
    return lambda questions: [list(ids) for _ in questions]


def test_round_trip_is_the_reciprocal_rank_within_k():
    assert verdict("round_trip", ask(), rank=rank("merge#0000", "refund#0000")).score == 0.5
    first_only = Thresholds(round_trip_k=1)
    assert not verdict("round_trip", ask(), rank=rank("merge#0000", "refund#0000"), thresholds=first_only).kept
    assert not verdict("round_trip", ask(), rank=rank()).kept


def test_another_passage_with_the_same_telling_answer_will_do():
    answer = "They go to the card that paid and are not sent by cheque."
    twin = {**TEXTS, "twin#0000": f"Copy. {answer}"}
    assert verdict("round_trip", ask("where", answer), rank=rank("twin#0000"), passages=twin).kept
    # "5 days" may stand anywhere.
    short_twin = {**TEXTS, "twin#0000": "Invoices are due in 5 days."}
    assert not verdict("round_trip", ask("how long", "5 days"), rank=rank("twin#0000"), passages=short_twin).kept


def test_an_unanswerable_question_with_an_answer_in_the_corpus_is_dropped():
    looked = rank("merge#0000", "refund#0000")
    answered = ask("How long do refunds take?", "Refunds take 5 days.", answerable=False)
    found = verdict("unanswerable_verified", answered, rank=looked)
    assert not found.kept
    assert "refund#0000" in found.detail
    assert not verdict("unanswerable_verified", ask("refunds take days", answerable=False), rank=looked).kept
    assert verdict("unanswerable_verified", ask("Who founded the shop?", answerable=False), rank=looked).kept
    assert verdict("unanswerable_verified", ask("How tall is the tower?", "5 days", answerable=False), rank=looked).kept
    beyond = Thresholds(unanswerable_k=1)
    assert verdict("unanswerable_verified", answered, rank=looked, thresholds=beyond).kept


def test_the_judge_is_asked_about_the_unanswerable_alone():
    open_question = ask("How long do refunds take?", answerable=False)
    seen = []

    def judge(examples):
        seen.append([example.question_id for example in examples])
        return [frozenset({"refund#0000"}) if "refunds" in example.question else frozenset() for example in examples]

    other = ask("Who founded the shop?", answerable=False, question_id="q2")
    context = dataclasses.replace(CONTEXT, judge=judge)
    kept, drops = run_filters([ask(question_id="q0"), open_question, other], context, ["unanswerable_judged"])
    assert [example.question_id for example in kept] == ["q0", "q2"]
    assert drops[0].detail == "the judge finds an answer in refund#0000; How long do refunds take?"
    assert seen == [["q1", "q2"]]


# --- near-duplicates -------------------------------------------------------------------------------


def kept_of(*examples: QAExample) -> list[str]:
    return [example.question_id for example in run_filters(examples, CONTEXT, ["near_duplicate"])[0]]


def test_the_first_of_two_that_ask_the_same_is_kept():
    one = ask("How long do refunds take?", question_id="one")
    assert kept_of(one, ask("how long do REFUNDS take", question_id="two")) == ["one"]
    assert kept_of(one, ask("Hello, can you tell me how long the refunds take?", question_id="two")) == ["one"]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("What does axis=0 do in merge?", "What does axis=1 do in merge?"),
        ("Are refunds sent by cheque?", "Are refunds not sent by cheque?"),
        ("What does str.lower return?", "What does str.upper return?"),
        ("What happens when how is 'left'?", "What happens when how is 'right'?"),
        ("How long do refunds take?", "Where do refunds go?"),
        ("What was the last refund?", "When was the last refund?"),
    ],
)
def test_two_that_differ_in_a_telling_word_are_two(a, b):
    first, second = ask(a, "In May.", question_id="a"), ask(b, "A chair.", question_id="b")
    assert kept_of(first, second) == ["a", "b"]


def test_alike_questions_on_other_passages_or_in_other_talks_are_two():
    one = ask("How long do my refunds take?", question_id="one")
    assert kept_of(one, ask("How long do the refunds take?", gold="merge", question_id="two")) == ["one", "two"]
    assert kept_of(one, ask("How long do my refunds take?", history=("Hi",), question_id="two")) == ["one", "two"]


@given(words, words)
def test_similarity_is_symmetric_and_one_only_for_itself_at_least(a, b):
    assert 0 <= similarity(a, b) <= 1
    assert similarity(a, b) == similarity(b, a)
    assert similarity(a, a) == 1


# --- models ----------------------------------------------------------------------------------------


def test_what_a_model_knows_without_the_passage_is_dropped():
    # Of refund, take, 5, day the guess has 5 and day: F1 = 2 * 2 / (2 + 4) = 2/3, the score 1/3.
    found = verdict("guessable", ask(), answer_closed_book=lambda questions: ["5 days"] * len(questions))
    assert (found.kept, found.score) == (True, pytest.approx(1 / 3))
    assert not verdict("guessable", ask(), answer_closed_book=lambda questions: ["Refunds take 5 days!"]).kept


def test_the_critic_is_asked_once_for_all_and_draws_the_line_at_the_threshold():
    calls = []

    def critic(examples):
        calls.append(len(examples))
        return [(0.5 if example.question_id == "a" else 0.49, "so so") for example in examples]

    examples = [ask(question_id="a"), ask(question_id="b")]
    kept, drops = run_filters(examples, dataclasses.replace(CONTEXT, critic=critic), ["critic"])
    assert [example.question_id for example in kept] == ["a"]
    assert calls == [2]
    assert (drops[0].score, drops[0].detail.split(";")[0]) == (0.49, "the critic says so so")


@pytest.mark.parametrize(
    ("name", "call"), [("unanswerable_judged", "judge"), ("guessable", "answer_closed_book"), ("critic", "critic")]
)
def test_what_a_model_could_not_be_asked_about_is_not_kept(name, call):
    example = ask(answerable=name != "unanswerable_judged")
    found = verdict(name, example, **{call: lambda examples: [None] * len(examples)})
    assert (found.kept, found.score) == (False, 0.0) and "nothing was checked" in found.detail


# --- the run ---------------------------------------------------------------------------------------

GOOD = ask(question_id="good")
POINTING = ask("According to the text, how long do refunds take?", question_id="pointing")
WRONG = ask("What do refunds take?", "Refunds take 9 days.", question_id="wrong")


def test_every_question_is_kept_or_in_the_ledger_with_its_filter_and_score():
    kept, drops = run_filters([POINTING, GOOD, WRONG], CONTEXT, ["grounding", "passage_dependence"])
    assert kept == [GOOD]
    # Passage dependence runs first, in whatever order the names are given.
    assert [(drop.stage, drop.item, drop.reason) for drop in drops] == [
        ("generate_qa", "pointing", "passage_dependence"),
        ("generate_qa", "wrong", "grounding"),
    ]
    assert drops[1].detail == "number 9 is not in the passage; What do refunds take?"
    assert counts_by_filter(3, drops, ["grounding", "passage_dependence"]) == {
        "passage_dependence": {"seen": 3, "dropped": 1},
        "grounding": {"seen": 2, "dropped": 1},
    }


def test_nothing_switched_on_drops_nothing():
    assert run_filters([POINTING, WRONG], CONTEXT, []) == ([POINTING, WRONG], [])


@given(st.permutations([POINTING, GOOD, WRONG]))
def test_what_is_kept_passes_again(examples):
    names = [name for name in OFFLINE if name not in ("round_trip", "unanswerable_verified")]
    kept, drops = run_filters(examples, CONTEXT, names)
    assert len(kept) + len(drops) == 3
    assert run_filters(kept, CONTEXT, names) == (kept, [])


def test_unanswerable_questions_pass_what_is_about_answers():
    names = ["schema", "refusal", "grounding", "answer_in_question", "round_trip", "guessable", "critic"]
    unanswerable = ask("Who founded the shop?", "I don't know.", answerable=False)
    asked = {"answer_closed_book": lambda examples: [], "critic": lambda examples: []}
    context = dataclasses.replace(CONTEXT, rank=rank(), **asked)
    assert run_filters([unanswerable], context, names) == ([unanswerable], [])


def test_an_unknown_filter_or_a_missing_callable_is_a_setting_to_mend():
    with pytest.raises(ConfigError, match=r"filters: expected names among schema, .*; got groundin, magic; mend"):
        run_filters([GOOD], CONTEXT, ["magic", "groundin"])
    for name in ("round_trip", "unanswerable_verified", "unanswerable_judged", "guessable", "critic"):
        with pytest.raises(ConfigError, match=rf"filter {name}: expected a callable `\w+`, got none; pass one in"):
            run_filters([GOOD], CONTEXT, [name])


def test_a_gold_passage_that_is_not_there_is_named():
    with pytest.raises(DataError, match=r"question q1: gold passage 'gone#0000': expected one of the 2 passages"):
        run_filters([ask(gold="gone")], CONTEXT, ["grounding"])
    with pytest.raises(DataError, match=r"question good: document 'refund': expected one of the 0 documents"):
        run_filters([GOOD], Context(TEXTS, {}), ["grounding"])


def test_a_callable_that_answers_for_fewer_is_an_error():
    short_of_one = dataclasses.replace(CONTEXT, rank=lambda questions: [])
    with pytest.raises(DataError, match="filter round_trip: expected 1 results of its callable, got 0"):
        run_filters([GOOD], short_of_one, ["round_trip"])


def test_each_filter_ranks_all_its_questions_in_one_call():
    calls = []

    def counting(questions):
        calls.append(list(questions))
        return [["refund#0000"] for _ in questions]

    run_filters([GOOD, WRONG], dataclasses.replace(CONTEXT, rank=counting), ["round_trip"])
    assert calls == [["How long do refunds take?", "What do refunds take?"]]


# --- the tools -------------------------------------------------------------------------------------

SUBJECTS = "refund invoice parcel voucher coupon ledger basket counter ticket locker badge printer".split()
VERBS = "cancel archive rename export merge print colour sort".split()


def shop() -> tuple[list[QAExample], Context]:
    """96 documents of one passage, each with a question that it answers."""
    documents, passages, examples = [], [], []
    for number, (subject, verb) in enumerate((s, v) for s in SUBJECTS for v in VERBS):
        doc_id = f"{verb}-{subject}"
        steps = f"Select {verb} in the menu of {subject} number {number + 10} and confirm with key Alpha{number}."
        text = f"To {verb} a {subject}. {steps} The change is kept for {number + 200} days."
        documents.append(Document(doc_id, doc_id, doc_id, text, "text", (), doc_id))
        passages.append(Passage(f"{doc_id}#0000", doc_id, doc_id, "", text, 0, len(text), 1, doc_id))
        start = text.index(steps)
        example = ask(f"How can I {verb} the {subject}?", steps, gold=doc_id, question_id=f"q{number:03d}")
        examples.append(dataclasses.replace(example, start=start, end=start + len(steps)))
    return examples, context_of(documents, passages)


def test_good_questions_pass_and_planted_defects_do_not():
    examples, context = shop()
    assert run_filters(examples, context, OFFLINE) == (examples, [])
    left, planted = plant(examples, 2, seed=3)
    assert {one.kind for one in planted} >= PLANS.keys() - {"says the opposite"}
    assert {one.lot for one in planted} == set(LOTS)
    assert not {e.question_id for e in left} & {one.example.question_id for one in planted}
    assert (left, planted) == plant(examples, 2, seed=3)
    kept, _ = run_filters([*left, *(one.example for one in planted)], context, OFFLINE)
    missed = {e.question_id for e in kept} & {one.example.question_id for one in planted}
    assert len(missed) <= len(planted) // 10
    assert {e.question_id for e in left} <= {e.question_id for e in kept}


def test_a_planted_question_replaces_its_original():
    examples, _ = shop()
    left, planted = plant(examples, 2, seed=3)
    once = [one for one in planted if PLANS[one.kind].filter_name != "near_duplicate"]
    assert len(left) == len(examples) - len(once)


def test_wilson_interval_of_a_few_and_of_none():
    # 9 of 10 at 95 %: centre (9 + 1.92) / 13.84 = 0.789, half width 1.96 * sqrt(0.9 + 0.96) / 13.84 = 0.193.
    low, high = wilson(9, 10)
    assert (low, high) == (pytest.approx(0.596, abs=1e-3), pytest.approx(0.982, abs=1e-3))
    assert wilson(0, 0) == (0, 1)


def test_a_sample_is_the_same_again_and_loses_only_what_is_gone():
    examples = [ask(question_id=f"q{number}") for number in range(50)]
    drawn = draw(examples, 10, 7)
    assert draw(random.Random(1).sample(examples, 50), 10, 7) == drawn
    assert draw(examples, 10, 8) != drawn
    without = [example for example in examples if example != drawn[0]]
    assert set(drawn[1:]) <= set(draw(without, 10, 7))


def test_a_row_is_one_line_with_the_beginning_of_the_answer():
    assert short("a\n  b " * 40, 9) == "a b a b…"
    assert row(ask("a|b\\?", "x")).count("|") == 6


@pytest.mark.slow
def test_most_questions_of_the_default_corpus_pass():
    needed = [ROOT / path for path in (DOCUMENTS, PASSAGES, QUESTIONS_TRAIN)]
    if not all(path.exists() for path in needed):
        pytest.skip("the default questions have not been made: run `dvc repro generate_qa`")
    documents, passages, examples = (
        io.read_table(kind, path) for kind, path in zip((Document, Passage, QAExample), needed, strict=True)
    )
    _, drops = run_filters(examples, context_of(documents, passages), OFFLINE)
    assert len(drops) <= 0.1 * len(examples)
