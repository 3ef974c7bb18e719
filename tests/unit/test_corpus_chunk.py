"""Headings, sections, passages: hand-made documents with passages that can be read off."""

from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from ragline.corpus import chunk as chunk_module
from ragline.corpus.chunk import Chunker, Method, chunk, chunk_all, counts, load_chunker
from ragline.corpus.sections import Heading, headings, sections, tables
from ragline.errors import ModelError
from ragline.types import Document


def by_word(
    folder: Path,
    max_tokens: int,
    overlap_tokens: int = 0,
    method: Method = "structure",
    parent_tokens: int = 0,
    **parts: object,
) -> Chunker:
    """A chunker whose tokens are what stands between white space."""
    tokenizer = Tokenizer(models.WordLevel(vocab={"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(4)  # what is shipped with a model must not cut the counts
    tokenizer.enable_padding(length=50)
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    tokenizer.save(str(folder / "tokenizer.json"))
    return load_chunker(folder / "tokenizer.json", max_tokens, overlap_tokens, method, parent_tokens)


def words(count: int, word: str = "w") -> str:
    return " ".join([word] * count)


def titles(text: str, format: str) -> list[tuple[int, str]]:
    return [(h.level, h.title) for h in headings(text, format)]


# --- headings


def test_atx_headings():
    text = "# One\n\ntext # no\n\n## Two ##\n#no blank\n####### seven\n   ### Three\n    # code\n#\n"
    assert titles(text, "markdown") == [(1, "One"), (2, "Two"), (3, "Three"), (1, "")]


def test_fenced_code_holds_no_headings():
    text = "```python\n# comment\n~~~\n# still\n```\n# Out\n~~~~\n# in\n~~~\n# in\n~~~~~\n# Again\n```\n# never closed"
    assert titles(text, "markdown") == [(1, "Out"), (1, "Again")]


def test_inline_backticks_open_no_fence():
    assert titles("```inline``` code\n# Heading", "markdown") == [(1, "Heading")]


def test_setext_headings():
    text = "Top\n===\n\ntext\nof two lines\n---\n\nBelow\n-----\n\n- item\n---\n\n***\n---\n"
    assert titles(text, "markdown") == [(1, "Top"), (2, "Below")]


def test_front_matter_holds_no_headings():
    assert titles("---\ntitle: x\n---\n\nTop\n===\n", "markdown") == [(1, "Top")]


def test_numpydoc_headings():
    text = (
        "Summary.\n\nParameters\n----------\nx : int\n\nNotes\n=====\n\n>>> table\n---------\n\nLong title here\n---\n"
    )
    assert titles(text, "numpydoc") == [(1, "Parameters"), (1, "Notes")]


def test_rst_titles_in_text_take_their_level_from_the_order():
    text = "Book\n****\n\nPart\n====\n\nColumn  Other\n======  =====\n\nx\n------------\n\nPart 2\n======\n\nSub\n~~~\n"
    assert titles(text, "text") == [(1, "Book"), (2, "Part"), (2, "Part 2"), (3, "Sub")]


def test_heading_offsets_count_characters():
    assert headings("é東🎉\n\nTitle\n-----\nbody", "numpydoc") == [Heading(5, 17, "Title", 1)]
    assert headings("# End", "markdown") == [Heading(0, 5, "End", 1)]


# --- sections


def cut(text: str, format: str) -> list[tuple[tuple[str, ...], str]]:
    return [(s.path, text[s.span.start : s.span.end]) for s in sections(text, format)]


def test_paths_follow_the_levels():
    assert cut("intro\n# A\n## B\n#### C\n## D\n# E\n", "markdown") == [
        ((), "intro\n"),
        (("A",), "# A\n"),
        (("A", "B"), "## B\n"),
        (("A", "B", "C"), "#### C\n"),
        (("A", "D"), "## D\n"),
        (("E",), "# E\n"),
    ]


def test_blank_lines_before_the_first_heading_belong_to_it():
    assert cut("\n\n# A\ntext", "markdown") == [(("A",), "\n\n# A\ntext")]
    assert cut(" \n", "text") == [((), " \n")]
    assert cut("", "text") == []


def test_entries_of_field_sections():
    text = "Parameters\n----------\nx : int\n    One.\n\n    More.\ny\n    Two.\n**kwargs :\n    Rest.\n"
    (section,) = sections(text, "numpydoc")
    assert [(e.name, text[e.start :].split("\n")[0]) for e in section.entries] == [
        ("x", "x : int"),
        ("y", "y"),
        ("**kwargs", "**kwargs :"),
    ]


def test_examples_keep_their_introduction():
    text = (
        "Examples\n--------\n>>> first()\n\nThen a word.\n\nAnd another.\n\n>>> second()\n1\n\n>>> third()\n\n"
        "Last:\n\n.. plot::\n    code\n"
    )
    (section,) = sections(text, "numpydoc")
    assert [text[e.start :].split("\n")[0] for e in section.entries] == ["Then a word.", "Last:"]


# --- passages


def passages(document: Document, chunker: Chunker) -> list[tuple[str, str, int]]:
    return [(p.heading, p.text, p.tokens) for p in chunk(document, chunker)]


def markdown(text: str, title: str = "Title") -> Document:
    return Document("guide.md", "here", title, text, "markdown", cluster="c")


def test_small_sections_share_a_passage_while_they_fit(tmp_path):
    # sections of 5, 5, 7 and 4 tokens; the limit is 16: 5 + 5, then 7 would make 17
    text = "a a a a a\n# B\n" + words(3) + "\n# C\n" + words(5) + "\n## D\n" + words(2) + "\n"
    assert passages(markdown(text), by_word(tmp_path, 16)) == [
        ("", "a a a a a\n# B\nw w w\n", 10),
        ("C", "# C\nw w w w w\n## D\nw w\n", 11),
    ]


def test_ids_and_fields(tmp_path):
    text = f"# A\n{words(10)}\n# B\n{words(10)}\n"
    first, second = chunk(markdown(text), by_word(tmp_path, 16))

    assert (first.passage_id, second.passage_id) == ("guide.md#0000", "guide.md#0001")
    assert (second.doc_id, second.title, second.cluster) == ("guide.md", "Title", "c")
    assert second.text == text[second.start : second.end] == f"# B\n{words(10)}\n"


def test_heading_path_leaves_out_the_title(tmp_path):
    text = f"# Guide\n{words(14)}\n## Setup\n{words(14)}\n"
    assert [p[0] for p in passages(markdown(text, "Guide"), by_word(tmp_path, 16))] == ["", "Setup"]
    assert [p[0] for p in passages(markdown(text), by_word(tmp_path, 16))] == ["Guide", "Guide > Setup"]


def test_long_section_is_cut_and_what_stands_before_it_stays_apart(tmp_path):
    # the summary of 2 tokens would fit into the first part, but says something of its own; the
    # last part (4 of 24 tokens) takes the next section in
    text = f"Sum up.\n\nNotes\n-----\n{words(14)}\n\n{words(8)}\n\nRaises\n------\nNone\n"
    document = Document("f", "s", "f", text, "numpydoc")
    assert passages(document, by_word(tmp_path, 16)) == [
        ("", "Sum up.\n\n", 2),
        ("Notes", f"Notes\n-----\n{words(14)}\n\n", 16),
        ("Notes", f"{words(8)}\n\nRaises\n------\nNone\n", 11),
    ]


def test_heading_is_not_left_alone(tmp_path):
    # the splitter gives the heading (2 tokens, below 32 / 5), then 16 + 16: these do not fit beside it,
    # so that the second gives its first half away
    block = "".join(f"    {words(4, letter)}\n" for letter in "abcdefgh")
    found = passages(markdown(f"# Code\n\n{block}"), by_word(tmp_path, 32))
    assert found == [
        ("Code", "# Code\n\n" + "".join(block.splitlines(keepends=True)[:4]), 18),
        ("Code", "".join(block.splitlines(keepends=True)[4:]), 16),
    ]


def test_long_field_section_is_cut_at_entries_and_a_long_entry_is_named(tmp_path):
    long = f"mode : str\n    {words(14)}\n\n    {words(9)}\n"  # 3 + 23 tokens
    text = f"Parameters\n----------\nx : int\n    One.\n{long}y : int\n    Two.\n"
    document = Document("f", "s", "f", text, "numpydoc")
    assert passages(document, by_word(tmp_path, 18)) == [
        ("Parameters", "Parameters\n----------\nx : int\n    One.\n", 6),
        ("Parameters > mode", f"mode : str\n    {words(14)}\n\n", 17),
        ("Parameters > mode", f"    {words(9)}\ny : int\n    Two.\n", 13),
    ]


def test_parts_of_a_long_section_overlap(tmp_path):
    # sentences of 6 tokens; 2 fit into 16, and an overlap of 8 has room for one
    sentences = [f"{words(5, letter)} {letter}.\n" for letter in "abcd"]
    found = passages(Document("t", "s", "t", "".join(sentences), "text"), by_word(tmp_path, 16, 8))
    assert [text for _, text, _ in found] == [
        sentences[0] + sentences[1],
        sentences[1] + sentences[2],
        sentences[2] + sentences[3],
    ]


def test_word_longer_than_a_passage_is_cut_inside(tmp_path):
    by_letter = by_word(tmp_path, 16, pre_tokenizer=pre_tokenizers.Split("", "isolated"))
    found = chunk(Document("t", "s", "t", "é" * 40, "text"), by_letter)
    assert [(p.start, p.end, p.tokens) for p in found] == [(0, 16, 16), (16, 32, 16), (32, 40, 8)]


def test_merging_that_costs_more_than_its_parts_is_undone(tmp_path):
    # a line end inside a text is a token of its own, one at its end is not: each section counts
    # # A n x = 4, all four of them would add up to 16, but joined they have 3 line ends more
    inner_line_end = normalizers.Replace(Regex("\\n(?=.)"), " n ")
    text = "# A\nx\n# B\nx\n# C\nx\n# D\nx\n"
    found = passages(markdown(text), by_word(tmp_path, 16, normalizer=inner_line_end))
    assert found == [("A", "# A\nx\n# B\nx\n", 9), ("C", "# C\nx\n# D\nx\n", 9)]


def test_white_space_joins_a_neighbour(tmp_path):
    text = "\n" * 30 + words(20) + "\n" * 30 + words(20) + " " * 30
    found = chunk(Document("t", "s", "t", text, "text"), by_word(tmp_path, 16))
    assert all(p.text.strip() for p in found)
    assert "".join(p.text for p in found) == text


def test_no_half_is_white_space(tmp_path):
    # the only line to cut at is followed by nothing but blanks
    text = f"# A\n\n{words(15)}\n{' ' * 200}"
    assert passages(markdown(text), by_word(tmp_path, 16)) == [
        ("A", "# A\n\n", 2),
        ("A", f"{words(15)}\n{' ' * 200}", 15),
    ]


def test_file_that_is_no_tokenizer(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json: not a tokenizer: .*; name another in params\.yaml"):
        load_chunker(tmp_path / "tokenizer.json", 16, 0)


def test_counts():
    # 3 + 5 + 2 = 10 tokens in 3 passages of 2 documents
    assert counts(2, [3, 5, 2]) == {
        "passages": 3,
        "tokens_mean": 3.33,
        "tokens_max": 5,
        "passages_per_document_mean": 1.5,
    }


def test_a_passage_knows_the_page_it_begins_on(tmp_path):
    text = f"{words(8)}\n\n{words(8)}\n\n{words(8)}"
    starts = (0, text.index("\n\n") + 2, len(text))  # the third page is empty
    paged = Document("d", "d.pdf", "d", text, "text", page_starts=starts)
    assert [(p.start, p.page) for p in chunk(paged, by_word(tmp_path, 8))] == [(0, 1), (17, 2), (34, 2)]
    assert {p.page for p in chunk(Document("d", "d.txt", "d", text, "text"), by_word(tmp_path, 8))} == {0}


# --- methods ---------------------------------------------------------------------------------------


def test_sections_end_their_passages(tmp_path):
    text = "a a\n# B\n" + words(3) + "\n# C\n" + words(5) + "\n"
    assert passages(markdown(text), by_word(tmp_path, 16, method="sections")) == [
        ("", "a a\n", 2),
        ("B", "# B\nw w w\n", 5),
        ("C", "# C\nw w w w w\n", 7),
    ]


def test_long_section_is_merged_only_within_itself(tmp_path):
    # 20 tokens under B: two passages, and neither takes up the 3 tokens of C
    text = "# B\n" + f"{words(8)}.\n\n{words(10)}.\n\n" + "# C\nw\n"
    found = passages(markdown(text), by_word(tmp_path, 16, method="sections"))
    assert [(heading, tokens) for heading, _, tokens in found] == [("B", 10), ("B", 10), ("C", 3)]


def test_sentences_are_packed_whole_and_overlap_whole(tmp_path):
    # 4 tokens each; 3 fit into 13, and an overlap of 5 has room for one
    said = [f"{letter.upper()} {words(2, letter)} {letter}. " for letter in "abcde"]
    document = Document("t", "s", "t", "".join(said), "text")
    found = passages(document, by_word(tmp_path, 13, 5, method="sentences"))
    assert [text for _, text, _ in found] == ["".join(said[:3]), "".join(said[2:])]


def test_sentence_longer_than_a_passage_is_cut_between_words(tmp_path):
    document = Document("t", "s", "t", f"Short one. {words(20, 'Long')}. Last one.", "text")
    found = passages(document, by_word(tmp_path, 16, method="sentences"))
    assert [tokens for *_, tokens in found] == [16, 8]


def test_tokens_are_windows_of_one_length(tmp_path):
    text = "# Head\n\n" + " ".join(f"w{n}" for n in range(38))
    found = passages(markdown(text), by_word(tmp_path, 16, 4, method="tokens"))
    assert [tokens for *_, tokens in found] == [16, 16, 16]  # 40 tokens, two overlaps of 4
    assert found[1][1].split()[:2] == ["w10", "w11"]
    assert {heading for heading, *_ in found} == {"Head"}


def test_window_knows_the_headings_where_it_starts(tmp_path):
    text = f"# A\n{words(14)}\n## B\n{words(14)}\n"
    found = passages(markdown(text), by_word(tmp_path, 16, method="tokens"))
    assert [heading for heading, *_ in found] == ["A", "A > B"]


def test_neighbours_share_a_parent_while_they_fit(tmp_path):
    # passages of 8 tokens; a parent of 20 holds two of them
    text = "\n\n".join(f"# {letter}\n{words(6, letter)}" for letter in "abcde")
    found = chunk(markdown(text), by_word(tmp_path, 8, method="parent_child", parent_tokens=20))
    assert [p.tokens for p in found] == [8] * 5
    assert [p.parent[-1] for p in found] == ["0", "0", "2", "2", "4"]


def test_only_children_have_parents(tmp_path):
    assert {p.parent for p in chunk(markdown(words(40)), by_word(tmp_path, 16))} == {""}


# --- tables ----------------------------------------------------------------------------------------

HEAD = "| name | n |\n|---|---|\n"


def rows(count: int) -> str:
    return "".join(f"| r{n} | {n} |\n" for n in range(count))


def test_tables_are_found_outside_fenced_code():
    text = f"Words | more\n\n{HEAD}{rows(2)}\n```\n{HEAD}{rows(1)}```\na|b\n-|-\n1|2"
    found = tables(text, "markdown")
    assert [(t.header, text[t.rows.start : t.rows.end]) for t in found] == [(HEAD, rows(2)), ("a|b\n-|-\n", "1|2")]
    assert tables(text, "text") == []


@pytest.mark.parametrize("after", ["# Next\n", "```\n# code\n```\n", "> quoted\n"])
def test_a_table_ends_where_something_else_begins(after: str):
    (table,) = tables(f"{HEAD}{rows(2)}{after}", "markdown")
    assert (table.rows.start, table.rows.end) == (len(HEAD), len(HEAD + rows(2)))


def test_a_text_of_nothing_has_no_passages(tmp_path):
    methods: tuple[Method, ...] = ("structure", "sentences", "tokens")
    assert [chunk(markdown(""), by_word(tmp_path, 16, method=method)) for method in methods] == [[], [], []]


def test_table_that_fits_stays_whole(tmp_path):
    # the section has 42 tokens, the table 27
    text = f"# T\n\n{words(10)}\n\n{HEAD}{rows(4)}\n{words(3)}\n"
    found = [text for _, text, _ in passages(markdown(text), by_word(tmp_path, 32))]
    assert sum(HEAD + rows(4) in text for text in found) == 1


@pytest.mark.parametrize("method", ["structure", "sections", "sentences", "tokens"])
def test_rows_of_a_long_table_keep_its_header(tmp_path, method: Method):
    text = f"# T\n\n{HEAD}{rows(12)}\n{words(4)}\n"
    found = chunk(markdown(text), by_word(tmp_path, 32, method=method))
    assert found[0].context == ""
    assert len(found) >= 3
    between_rows = [p for p in found if p.text.startswith(("| r", "r", "|"))]
    assert between_rows
    assert all(p.context == HEAD and p.tokens + 6 <= 32 for p in between_rows)
    assert f"\n{HEAD}| r" in between_rows[0].encoded_text or method == "tokens"


def test_header_of_more_than_half_a_passage_is_not_repeated(tmp_path):
    wide = f"| {words(12)} | n |\n|---|---|\n"
    found = chunk(markdown(wide + rows(12)), by_word(tmp_path, 16))
    assert {p.context for p in found} == {""}


# --- many documents --------------------------------------------------------------------------------


def test_many_documents_are_cut_by_other_processes_alike(tmp_path, monkeypatch):
    documents = [Document(f"d{n}", "s", "t", words(10 + n), "text") for n in range(120)]
    by_word(tmp_path, 16)
    prepare = (tmp_path / "tokenizer.json", 16, 4, "structure", 0)
    alone = list(chunk_all(documents, len(documents), prepare))
    monkeypatch.setattr(chunk_module, "MANY", 100)
    assert list(chunk_all(documents, len(documents), prepare)) == alone
