"""Laws of generated questions, on random small documents."""

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from ragline.questions.counts import counts
from ragline.questions.localrqa import Corpus, export_rows, import_questions
from ragline.questions.rules import MAX_ANSWER_WORDS, MIN_ANSWER_WORDS, generate
from ragline.text import word_tokens
from ragline.types import Document, Passage

WORDS = st.sampled_from(
    "Return Join the columns a table of rows if True, When key is missing. Use to keep it `how` :class:`Table` must be"
    " sorted. You can pass two labels Rows are dropped. - * # ## What does mean? : int default 'a' \"b\" >>> x ..."
    " .. note::"
    " Raises\n------ Parameters\n---------- Returns\n------- \n \n\n \n\n\n     [l](u) ``` See this".split(" ")
)
TEXTS = st.lists(WORDS, max_size=60).map(" ".join)
CLUSTERS = st.sampled_from(["c1", "c2", "c3"])


@st.composite
def corpora(draw):
    documents, passages = [], []
    for number in range(draw(st.integers(1, 4))):
        form = draw(st.sampled_from(["numpydoc", "markdown", "text"]))
        name = draw(st.sampled_from(["lib.Table.join", "lib.join", "lib.Table", "guide"])) + str(number)
        document = Document(name, "src", name, draw(TEXTS), form, (), draw(CLUSTERS), "train")
        documents.append(document)
        width = draw(st.sampled_from([25, 80, 4000]))
        step = max(1, width - draw(st.sampled_from([0, 12])))
        for ordinal, start in enumerate(range(0, max(1, len(document.text)), step)):
            text = document.text[start : start + width]
            passage_id = f"{name}#{ordinal:04d}"
            passages.append(Passage(passage_id, name, name, "", text, start, start + len(text), 1, document.cluster))
    return documents, passages


@settings(max_examples=150, deadline=None)
@given(corpora(), st.integers(1, 5), st.sampled_from([None, 1, 2]), st.integers(0, 3))
def test_laws_of_questions(corpus, per_document, per_passage, seed):
    documents, passages = corpus
    examples, drops = generate(documents, passages, per_document, per_passage, seed)
    by_id = {document.doc_id: document for document in documents}
    pieces = {passage.passage_id: passage for passage in passages}

    clusters, asked, used = defaultdict(set), defaultdict(int), defaultdict(int)
    for example in examples:
        document, (answer,) = by_id[example.doc_id], example.answers
        first = pieces[example.gold_passage_ids[0]]
        # The answer is a verbatim span of the document, and wholly inside the first gold passage.
        assert answer == document.text[example.start : example.end] in first.text
        assert first.start <= example.start and example.end <= first.end
        assert all(pieces[p].doc_id == example.doc_id for p in example.gold_passage_ids)
        assert MIN_ANSWER_WORDS <= len(answer.split()) <= MAX_ANSWER_WORDS
        assert answer == answer.strip()
        assert example.question == " ".join(example.question.split()) != ""
        assert (example.split, example.cluster) == (document.split, document.cluster)
        clusters[" ".join(word_tokens(example.question))].add(example.question_id)
        asked[example.doc_id] += 1
        used[example.gold_passage_ids[0]] += 1

    # No question twice, no id twice, no cap exceeded, nothing lost, and the same again in another order.
    assert all(len(ids) == 1 for ids in clusters.values())
    assert len({example.question_id for example in examples}) == len(examples)
    assert max(asked.values(), default=0) <= per_document
    assert per_passage is None or max(used.values(), default=0) <= per_passage
    everything, always_dropped = generate(documents, passages, 10**6, None, seed)
    assert counts(examples, drops)["candidates"] == len(everything) + len(always_dropped)
    assert {example.question_id for example in examples} <= {example.question_id for example in everything}
    assert generate(documents[::-1], passages, per_document, per_passage, seed) == (examples, drops)


@settings(max_examples=100, deadline=None)
@given(corpora())
def test_import_undoes_export(corpus):
    documents, passages = corpus
    examples, _ = generate(documents, passages, 9, None, 1)
    by_id = {document.doc_id: document for document in documents}
    pieces = {passage.passage_id: passage for passage in passages}
    rows = list(export_rows(examples, by_id, pieces))
    again, drops = import_questions(enumerate(rows, start=1), "x.jsonl", "train", Corpus(documents, passages))
    assert drops == []
    assert [(e.question_id, e.question, e.answers, e.doc_id, e.start, e.end, e.gold_passage_ids) for e in again] == [
        (e.question_id, e.question, e.answers, e.doc_id, e.start, e.end, e.gold_passage_ids) for e in examples
    ]
