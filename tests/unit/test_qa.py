"""The assembled system: what it reads of what it finds."""

from dataclasses import replace

import pytest

from ragline import cli, qa
from ragline.errors import ModelError
from ragline.retrieval import encoder, index, lexical, rerank, search
from ragline.retrieval.where import Where
from ragline.types import Hit, Passage
from tests.fixtures.cross_encoder import tiny

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
        base,
        index.build(vectors, "flat"),
        lexical.build(passages),
        passages,
        0.5,
        depth=3,
        sources={"d": "manuals/pump.md"},
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


def test_only_what_the_filter_lets_through(system):
    asked = ["When does the pump stop by itself?"]
    everything, all_of_it, nothing = (
        system.ask(asked, where=where)[0] for where in (None, Where(source="manuals/*"), Where(source="letters/*"))
    )
    assert everything == all_of_it and everything.citations
    assert (nothing.text, nothing.abstained, nothing.retrieved, nothing.citations) == (qa.ABSTENTION, True, (), ())


def test_a_reranker_decides_what_is_read_first(system):
    def by_place(questions, hits):
        return [
            sorted((Hit(h.passage, 1 / (2 + h.passage.start)) for h in found), key=lambda h: -h.score) for found in hits
        ]

    reranked = replace(system, retriever=replace(system.retriever, rerank=by_place))
    (answer,) = reranked.ask(["How do I clean the filter?"])
    assert [hit.passage.passage_id for hit in answer.retrieved] == ["d#0000", "d#0002"]


def test_a_reranker_that_was_not_evaluated(tmp_path):
    tiny(tmp_path / "reranker")
    known = qa.Settings(0.5, 3, 0.0, "extractive", "reranker", rerank.fingerprint("reranker", tmp_path))
    assert qa.reranker(known, tmp_path) is not None
    assert qa.reranker(replace(known, reranker=None), tmp_path) is None
    with pytest.raises(ModelError, match="reranker: another reranker than was evaluated: expected 0000, got"):
        qa.reranker(replace(known, reranker_fingerprint="0000"), tmp_path)


def test_asked_at_the_command_line(system, monkeypatch, capsys):
    monkeypatch.setattr(qa, "load", lambda root: system)
    cli.main(["ask", "When", "does", "it", "stop?", "--where", "source=manuals/*,title=P*", "--where", "doc_id=d"])
    said = capsys.readouterr().out
    assert "nine minutes" in said and "(manuals/pump.md)" in said
    cli.main(["ask", "When?", "--where", "title=Q*"])
    assert "(no passage fits --where title=Q*)" in capsys.readouterr().out
