"""The assembled system: what it reads of what it finds."""

import pytest

from ragline import qa
from ragline.retrieval import encoder, index, lexical, search
from ragline.types import Passage

TEXTS = (
    "The pump starts when the red switch is pressed twice. ",
    "It stops by itself after nine minutes of work. ",
    "Clean the filter with warm water once a month.",
)


@pytest.fixture(scope="module")
def system() -> qa.System:
    ends = [sum(map(len, TEXTS[: n + 1])) for n in range(len(TEXTS))]
    passages = [
        Passage(
            f"d#000{n}", "d", "Pump", "", text, end - len(text), end, 10, "d", parent="d#0000" if n < 2 else "d#0002"
        )
        for n, (text, end) in enumerate(zip(TEXTS, ends, strict=True))
    ]
    base = encoder.load("builtin:minilm")
    vectors = encoder.encode_passages(base, [p.encoded_text for p in passages])
    retriever = search.HybridRetriever(
        base, index.build(vectors, "flat"), lexical.build(passages), passages, 0.5, depth=3
    )
    reader = None  # the extractive answerer has none
    return qa.System(retriever, reader, qa.Settings(0.5, 3, 0.0, "extractive"))  # type: ignore[arg-type]


def test_passages_that_share_a_parent_are_read_together_and_once(system):
    (answer,) = system.ask(["When does the pump stop by itself?"], k=2)
    assert [hit.passage.text for hit in answer.retrieved] == ["".join(TEXTS[:2]), TEXTS[2]]
    assert answer.text == "It stops by itself after nine minutes of work."
    assert [hit.passage.passage_id for hit in answer.citations] == ["d#0001"]


def test_as_many_places_as_asked_for(system):
    (answer,) = system.ask(["When does the pump stop by itself?"], k=1)
    assert len(answer.retrieved) == 1
