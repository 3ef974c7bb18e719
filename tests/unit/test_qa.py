"""The assembled system: what it reads of what it finds."""

from dataclasses import dataclass, replace

import pytest

from ragline import cli, qa
from ragline.errors import DataError, ModelError, ServiceError
from ragline.generation.generator import Written
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


def test_a_parent_holds_no_passage_that_the_filter_leaves_out(system):
    pages = (1, 2, 2)
    paged = [replace(p, page=page) for p, page in zip(system.retriever.passages, pages, strict=True)]
    asked = replace(system, retriever=replace(system.retriever, passages=paged))
    (answer,) = asked.ask(["When does the pump stop by itself?"], where=Where(pages=(2, 2)))
    assert [hit.passage.text for hit in answer.retrieved] == list(TEXTS[1:])
    (whole,) = asked.ask(["When does the pump stop by itself?"], where=Where(pages=(1, 2)))
    assert [hit.passage.text for hit in whole.retrieved] == ["".join(TEXTS[:2]), TEXTS[2]]


@pytest.mark.parametrize("k", [0, -1])
def test_an_answer_needs_a_passage(system, k):
    with pytest.raises(DataError, match=f"ask: expected to answer from 1 passage or more, got k = {k}; raise k"):
        system.ask(["When?"], k=k)


@pytest.mark.parametrize(
    ("text", "failed", "confidence", "quiet"),
    [
        ("nine minutes", "", 0.5, False),
        ("nine minutes", "", 0.49, True),
        ("", "", 0.9, True),
        ("", "no reply", 0.9, False),
        ("", "no reply", 0.1, True),
    ],
)
def test_when_the_system_keeps_quiet(text, failed, confidence, quiet):
    assert qa.abstains(Written(text, (), failed), confidence, abstain_below=0.5) == quiet


@dataclass(frozen=True)
class Silent:
    """A generator that declines, or fails."""

    failed: str = ""

    def answer(self, questions, retrieved):
        return [Written("", (), self.failed) for _ in questions]


def test_why_there_is_no_answer(system, monkeypatch, capsys):
    silent = replace(system, generator=Silent())
    monkeypatch.setattr(qa, "load", lambda root, project: silent)
    cli.main(["ask", "When does the pump stop by itself?", "--answerer", "generator"])
    said = capsys.readouterr().out
    assert qa.ABSTENTION in said and "which is enough, but no answer was found in the passages)" in said
    assert "below" not in said
    strict = replace(silent, settings=replace(system.settings, abstain_below=0.99))
    monkeypatch.setattr(qa, "load", lambda root, project: strict)
    cli.main(["ask", "When does the pump stop by itself?"])
    assert "below the 0.99 that answers need)" in capsys.readouterr().out


def test_a_failure_is_no_abstention(system):
    with pytest.raises(ServiceError, match="generator: no answer: no reply; ask again"):
        replace(system, generator=Silent("no reply")).ask(["When?"], answerer="generator")


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
    monkeypatch.setattr(qa, "load", lambda root, project: system)
    cli.main(["ask", "When", "does", "it", "stop?", "--where", "source=manuals/*,title=P*", "--where", "doc_id=d"])
    said = capsys.readouterr().out
    assert "nine minutes" in said and "(manuals/pump.md)" in said
    cli.main(["ask", "When?", "--where", "title=Q*"])
    assert "(no passage fits --where title=Q*)" in capsys.readouterr().out
