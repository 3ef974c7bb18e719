"""Laws of chunking, for a tokenizer that ignores white space and one that counts every byte."""

import itertools
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from ragline.builtin import tokenizer_file
from ragline.corpus.chunk import Chunker, Method, chunk, load_chunker
from ragline.corpus.sections import headings, sections
from ragline.spans import gold_passages
from ragline.types import Document, Passage, Span

FORMATS = ("markdown", "text", "numpydoc")
LIMITS = ((16, 0), (16, 15), (40, 8))
METHODS: tuple[Method, ...] = ("structure", "sections", "sentences", "tokens", "parent_child")

lines = st.one_of(
    st.sampled_from(
        ["# Top", "## Below ##", "Parameters\n----------", "Examples\n--------", "Title\n=====", "---", "```", "~~~"]
    ),
    st.sampled_from(["a | b", "|---|---|", "| c | d |\n" * 3, "| one | " + "x y " * 9 + "|"]),
    st.sampled_from(["", "", " ", "\t", "\n\n\n", ">>> f(1)", "name : int", "    about the name", ".. note::", "***"]),
    st.text(alphabet="ab c.é東🎉e\u0301-_#=`\r\x0b\u2028\u00a0", max_size=60),
    st.integers(1, 300).map("x".__mul__),  # a word without a place to break
    st.integers(1, 40).map("word ".__mul__),
    st.integers(20, 60).map(" ".__mul__),
)
texts = st.lists(lines, min_size=1, max_size=25).map("\n".join).filter(bool)


@cache
def chunker(name: str, max_tokens: int, overlap_tokens: int, method: Method = "structure") -> Chunker:
    limits = (max_tokens, overlap_tokens, method, 3 * max_tokens)
    if name == "minilm":
        return load_chunker(tokenizer_file("builtin:minilm"), *limits)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    by_byte = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    by_byte.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    with TemporaryDirectory() as folder:
        by_byte.save(str(Path(folder) / "tokenizer.json"))
        return load_chunker(Path(folder) / "tokenizer.json", *limits)


def rejoined(passages: list[Passage]) -> str:
    text = ""
    for passage in passages:
        text += passage.text[len(text) - passage.start :]
    return text


@pytest.mark.parametrize("name", ["minilm", "bytes"])
@settings(deadline=None, max_examples=100)
@given(text=texts, format=st.sampled_from(FORMATS), limits=st.sampled_from(LIMITS), method=st.sampled_from(METHODS))
@example(
    text="Parameters\n----------\n# Top", format="text", limits=(16, 15), method="structure"
)  # a part within the next
@example(text="```" + "\n# Top" * 9, format="markdown", limits=(16, 15), method="structure")  # half of one
def test_passages_cover_the_document_within_the_limit(
    name: str, text: str, format: str, limits: tuple[int, int], method: Method
):
    document = Document("d", "here", "Title", text, format)
    tool = chunker(name, *limits, method)
    passages = chunk(document, tool)

    assert rejoined(passages) == text
    assert [p.passage_id for p in passages] == [f"d#{n:04d}" for n in range(len(passages))]
    for passage in passages:
        assert passage.text == text[passage.start : passage.end]
        assert passage.tokens == len(tool.tokenizer.encode(passage.text, add_special_tokens=False).ids)
        assert passage.tokens + tool.count([passage.context])[0] <= limits[0]
    for one, following in itertools.pairwise(passages):
        assert one.start < following.start <= one.end < following.end
    if name == "minilm" and text.strip():  # white space is free, so it always fits beside a neighbour
        assert all(passage.text.strip() for passage in passages)


@given(text=texts, format=st.sampled_from(FORMATS))
def test_sections_cover_the_text_and_begin_at_headings(text: str, format: str):
    cut = sections(text, format)

    assert "".join(text[s.span.start : s.span.end] for s in cut) == text
    assert all(text[s.span.start : s.span.end].strip() for s in cut) or not text.strip()
    for heading in headings(text, format):
        assert heading.start < heading.end <= len(text)
        assert heading.title in text[heading.start : heading.end]
    for section in cut:
        starts = [entry.start for entry in section.entries]
        assert starts == sorted(set(starts))
        assert all(section.span.start < start < section.span.end for start in starts)


@settings(deadline=None, max_examples=50)
@given(text=texts, limits=st.sampled_from(LIMITS), method=st.sampled_from(METHODS))
def test_no_overlap_where_none_is_asked_for(text: str, limits: tuple[int, int], method: Method):
    passages = chunk(Document("d", "here", "Title", text, "text"), chunker("minilm", limits[0], 0, method))

    assert "".join(passage.text for passage in passages) == text


@settings(deadline=None, max_examples=100)
@given(text=texts, limits=st.sampled_from(LIMITS), method=st.sampled_from(METHODS), data=st.data())
def test_every_span_keeps_a_gold_passage_however_the_document_is_cut(
    text: str, limits: tuple[int, int], method: Method, data: st.DataObject
):
    """Where three passages touch a span, the one in the middle lies in it; of two, one holds half of it."""
    start = data.draw(st.integers(0, len(text) - 1))
    span = Span(start, data.draw(st.integers(start + 1, len(text))))

    assert gold_passages(chunk(Document("d", "here", "T", text, "markdown"), chunker("minilm", *limits, method)), span)


@settings(deadline=None, max_examples=50)
@given(text=texts, limits=st.sampled_from(LIMITS))
def test_parents_are_neighbours_within_their_limit(text: str, limits: tuple[int, int]):
    tool = chunker("minilm", *limits, "parent_child")
    passages = chunk(Document("d", "here", "Title", text, "markdown"), tool)

    assert "".join(p.passage_id for p in passages if p.parent == p.passage_id).startswith("d#0000")
    for parent, group in itertools.groupby(passages, key=lambda p: p.parent):
        children = list(group)
        assert children[0].passage_id == parent
        assert tool.count([text[children[0].start : children[-1].end]])[0] <= tool.parent_tokens
