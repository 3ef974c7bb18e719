"""The assembled system: what it reads of what it finds."""

from dataclasses import dataclass, replace

import pytest

from ragline import cli, qa
from ragline.errors import DataError, ModelError, ServiceError
from ragline.generation.generator import Written
from ragline.retrieval import rerank
from ragline.retrieval.where import Where
from ragline.types import Answer, Hit
from tests.fixtures.cross_encoder import tiny
from tests.fixtures.pump import TEXTS, pump_system


@pytest.fixture(scope="module")
def system() -> qa.System:
    return pump_system()


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
    assert qa.abstains(Written(text, (), failed), confidence, answer_from=0.5) == quiet


@dataclass(frozen=True)
class Silent:
    """A generator that declines, or fails."""

    failed: str = ""
    reads: int = 5

    def answer(self, questions, retrieved):
        return [Written("", (), self.failed) for _ in questions]

    def stream(self, question, hits):
        return iter(self.answer([question], [hits]))


@dataclass(frozen=True)
class Halting:
    """A generator whose answer breaks off."""

    def stream(self, question, hits):
        yield "The pump"
        yield Written("", (), "the answer ended halfway")


def test_why_there_is_no_answer(system, monkeypatch, capsys):
    silent = replace(system, generator=Silent())
    monkeypatch.setattr(qa, "load", lambda root, project: silent)
    cli.main(["ask", "When does the pump stop by itself?", "--answerer", "generator"])
    said = capsys.readouterr().out
    assert qa.ABSTENTION in said and "which is enough, but no answer was found in the passages)" in said
    assert "below" not in said
    assert "(confidence 0." in said and "Closest passages, best first, with the score of both searches" in said
    strict = replace(silent, settings=replace(system.settings, abstain_below=0.99))
    monkeypatch.setattr(qa, "load", lambda root, project: strict)
    cli.main(["ask", "When does the pump stop by itself?"])
    assert "below the 0.99 that answers need)" in capsys.readouterr().out


def test_a_failure_is_no_abstention(system):
    with pytest.raises(ServiceError, match="generator: no answer: no reply; ask again"):
        replace(system, generator=Silent("no reply")).ask(["When?"], answerer="generator")


@pytest.mark.parametrize("question", ["When does the pump stop by itself?", "Clean the filter?", "Who is it?"])
@pytest.mark.parametrize("floor", [0.0, 0.99])
def test_a_stream_ends_in_what_asking_gives(system, question, floor):
    strict = replace(system, settings=replace(system.settings, abstain_below=floor))
    *pieces, answer = strict.stream(question)
    assert isinstance(answer, Answer)
    assert [answer] == strict.ask([question])
    assert "".join(pieces) == answer.text


def test_a_silent_generator_streams_the_refusal_and_a_broken_one_an_error(system):
    *pieces, answer = replace(system, generator=Silent()).stream("When?", answerer="generator")
    assert pieces == [qa.ABSTENTION] and answer.abstained
    broken = replace(system, generator=Halting()).stream("When?", answerer="generator")
    assert next(broken) == "The pump"
    with pytest.raises(ServiceError, match="generator: no answer: the answer ended halfway; ask again"):
        next(broken)


def test_what_is_declined_anyway_asks_no_generator(system):
    class Unread(Silent):
        def answer(self, questions, retrieved):
            assert not any(retrieved)  # without passages nobody writes, nor pays
            return super().answer(questions, retrieved)

    strict = replace(system, settings=replace(system.settings, abstain_below=0.99), generator=Unread())
    (answer,) = strict.ask(["When?"], answerer="generator")
    assert answer.abstained and answer.retrieved


def test_lines_that_a_document_was_wrapped_in_are_joined():
    wrapped = pump_system((*TEXTS[:2], "Clean the filter with\n    warm water once a month."))
    (answer,) = wrapped.ask(["Clean the filter?"])
    assert answer.text == "Clean the filter with warm water once a month."


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
    assert "Passages, best first, with the score of both searches together (0 to 1 within this list):" in said
    cli.main(["ask", "When?", "--where", "title=Q*"])
    assert "(no passage fits --where)" in capsys.readouterr().out
