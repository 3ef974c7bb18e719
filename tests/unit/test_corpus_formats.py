"""Files of every format: what becomes text, and what hostile or broken ones come to."""

import io
import json
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragline.corpus import files, format_office
from ragline.corpus.format_markdown import Loaded, paged, table
from ragline.corpus.format_text import decode, restructured
from ragline.corpus.formats import load
from ragline.corpus.sections import headings
from ragline.errors import ConfigError, DataError
from ragline.types import Document, Drop
from tests.fixtures.outcomes import read_dataset, read_files


def read(content: bytes, name: str) -> Loaded:
    return load(content, name, f"data/raw/{name}")


def paths(loaded: Loaded) -> list[tuple[int, str]]:
    return [(h.level, h.title) for h in headings(loaded.text, loaded.format)]


@contextmanager
def peak_below(limit: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


# --- makers ----------------------------------------------------------------------------------------


def pdf(pages: Sequence[Sequence[str]], bookmarks: Sequence[tuple[int, str]] = (), title: str = "") -> bytes:
    """A PDF with these lines on its pages, by pypdf's writer; a bookmark is (page, title)."""
    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    for lines in pages:
        page = writer.add_blank_page(600, 800)
        stream = DecodedStreamObject()
        shown = " ".join(f"({line}) Tj 0 -20 Td" for line in lines)
        stream.set_data(f"BT /F1 12 Tf 50 700 Td {shown} ET".encode())
        page[NameObject("/Contents")] = writer._add_object(stream.flate_encode())
        page[NameObject("/Resources")] = DictionaryObject(
            {NameObject("/Font"): DictionaryObject({NameObject("/F1"): writer._add_object(font)})}
        )
    for number, name in bookmarks:
        writer.add_outline_item(title=name, page_number=number)
    if title:
        writer.add_metadata({"/Title": title})
    return written(writer)


def written(document) -> bytes:
    out = io.BytesIO()
    getattr(document, "save", getattr(document, "write", None))(out)
    return out.getvalue()


def docx() -> bytes:
    from docx import Document as Word
    from docx.oxml import parse_xml

    names = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    word = Word()
    word.add_heading("Leave policy", level=0)
    word.add_heading("Holidays", level=1)
    word.add_paragraph("Everyone has 30 days.")
    word.add_paragraph("# not a heading")
    word.add_paragraph("ask first", style="List Bullet")
    word.add_paragraph("book later", style="List Bullet")
    grid = word.add_table(rows=2, cols=2)
    for cell, text in zip(
        (c for row in grid.rows for c in row.cells), ["Site", "Days", "Oslo | Bergen", "25"], strict=True
    ):
        cell.text = text
    body = word.element.body
    for extra in (
        f"<w:sdt {names}><w:sdtContent><w:p><w:r><w:t>In a control.</w:t></w:r></w:p></w:sdtContent></w:sdt>",
        f"<w:p {names}><w:ins w:id='1' w:author='a'><w:r><w:t>Inserted.</w:t></w:r></w:ins>"
        "<w:del w:id='2' w:author='a'><w:r><w:delText>Deleted.</w:delText></w:r></w:del></w:p>",
    ):
        body.insert(len(body) - 1, parse_xml(extra))
    return written(word)


def pptx() -> bytes:
    from pptx import Presentation
    from pptx.util import Inches

    deck = Presentation()
    first = deck.slides.add_slide(deck.slide_layouts[1])
    first.shapes.title.text = "Rollout"
    first.placeholders[1].text = "pilot in May\neveryone in June"
    first.notes_slide.notes_text_frame.text = "Mention the budget."
    second = deck.slides.add_slide(deck.slide_layouts[5])
    second.shapes.title.text = "Costs"
    grid = second.shapes.add_table(2, 2, Inches(1), Inches(1), Inches(4), Inches(1)).table
    for at, text in enumerate(["Item", "EUR", "Licences", "900"]):
        grid.cell(at // 2, at % 2).text = text
    return written(deck)


def xlsx() -> bytes:
    from openpyxl import Workbook

    book = Workbook()
    book.active.title = "Prices"
    for row in (
        ["Part", None, "EUR"],
        [None, None, None],
        ["bolt", None, 0.1 + 0.2],
        ["nut", None, 2],
        [date(2024, 5, 1)],
    ):
        book.active.append(row)
    book.create_sheet("Empty")
    book.create_sheet("Notes").append(["only\ncell"])
    return written(book)


def archive(members: dict[str, bytes], into: bytes = b"") -> bytes:
    out = io.BytesIO(into)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return out.getvalue()


def replaced(packed: bytes, member: str, content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(packed)) as old:
        return archive({n: content if n == member else old.read(n) for n in old.namelist()})


# --- Office ----------------------------------------------------------------------------------------


def test_word():
    loaded = read(docx(), "leave.docx")
    assert loaded == Loaded(
        "Leave policy",
        "# Leave policy\n\n# Holidays\n\nEveryone has 30 days.\n\n\\# not a heading\n\n- ask first\n- book later\n\n"
        "| Site | Days |\n| --- | --- |\n| Oslo \\| Bergen | 25 |\n\nIn a control.\n\nInserted.\n",
        "markdown",
    )
    assert paths(loaded) == [(1, "Leave policy"), (1, "Holidays")]


def test_slides_are_pages():
    loaded = read(pptx(), "rollout.pptx")
    first = "## Rollout\n\n- pilot in May\n- everyone in June\n\nNotes: Mention the budget.\n\n"
    assert loaded.text == first + "## Costs\n\n| Item | EUR |\n| --- | --- |\n| Licences | 900 |\n\n"
    assert loaded.page_starts == (0, len(first))
    assert loaded.title == "Rollout"


def test_workbook():
    assert read(xlsx(), "prices.xlsx") == Loaded(
        "prices.xlsx",
        "## Prices\n\n| Part | EUR |\n| --- | --- |\n| bolt | 0.3 |\n| nut | 2 |\n| 2024-05-01 |  |\n\n"
        "## Notes\n\n| only cell |\n| --- |\n",
        "markdown",
    )


def test_workbook_whose_last_cell_is_far_off_stops_early():
    from openpyxl import Workbook

    book = Workbook()
    book.active["A1"], book.active["XFD1048576"] = "here", "far"  # 17 billion cells between them
    with pytest.raises(DataError, match=r"far\.xlsx: sheet 'Sheet': expected at most 2,000,000 cells"):
        read(written(book), "far.xlsx")


@pytest.mark.parametrize(
    ("maker", "name", "member"),
    [
        (docx, "a.docx", "word/document.xml"),
        (pptx, "a.pptx", "ppt/slides/slide1.xml"),
        (xlsx, "a.xlsx", "xl/worksheets/sheet1.xml"),
    ],
)
class TestHostileOffice:
    def test_zip_bomb_stops_before_it_is_parsed(self, maker, name, member):
        bomb = replaced(maker(), member, b"<a>" + b" " * 60_000_000)  # deflates to about 60 kB
        assert len(bomb) < 200_000
        with (
            peak_below(5_000_000),
            pytest.raises(DataError, match=rf"{name}: expected at most 50 MB of XML .* got more from [\d,]+ bytes"),
        ):
            read(bomb, name)

    def test_zip_bomb_whose_directory_lies_about_its_size(self, maker, name, member):
        bomb = bytearray(replaced(maker(), member, b"<a>" + b" " * 60_000_000))
        at = bomb.rfind(b"PK\x01\x02", 0, bomb.rfind(member.encode()))
        struct.pack_into("<I", bomb, at + 24, 100)  # uncompressed size in the directory
        with pytest.raises(DataError, match=rf"{name}: expected (a whole|at most)"):
            read(bytes(bomb), name)

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
    def test_entity_bomb(self, maker, name, member, encoding):
        levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
        xml = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE x [<!ENTITY e0 "ha">{levels}]><x>&e9;</x>'
        with pytest.raises(DataError, match=rf"{name}: {member}: expected plain XML, got a document type or an entity"):
            read(replaced(maker(), member, xml.encode(encoding)), name)

    def test_truncated(self, maker, name, member):
        whole = maker()
        for share in (0.1, 0.5, 0.9, 0.999):
            with pytest.raises(DataError, match=rf"{name}: expected a whole [A-Z]+ file, got an archive that does not"):
                read(whole[: int(len(whole) * share)], name)

    def test_broken_xml(self, maker, name, member):
        with pytest.raises(DataError, match=rf"{name}: expected a [A-Z]+ file that can be read, got \w+"):
            read(replaced(maker(), member, b"<unclosed>"), name)

    def test_an_archive_inside_is_never_opened(self, maker, name, member):
        inner = archive({"deep.txt": b"SECRET" * 100})
        for _ in range(5):
            inner = archive({"again.zip": inner})
        assert "SECRET" not in read(archive({"word/embeddings/x.zip": inner}, into=maker()), name).text

    def test_too_much_besides_xml(self, maker, name, member, monkeypatch):
        monkeypatch.setattr(format_office, "MAX_UNPACKED_BYTES", 1_000_000)
        with pytest.raises(DataError, match="1 MB in all when unpacked"):
            read(archive({"media/picture.bin": b"\0" * 2_000_000}, into=maker()), name)


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (pdf([["x"]]), "a.docx", r"a\.docx: expected a DOCX file, got a PDF; mend its suffix"),
        (docx(), "a.pdf", r"a\.pdf: expected a PDF, got a ZIP archive; mend its suffix"),
        (docx(), "a.xlsx", r"a\.xlsx: expected a XLSX file, got DOCX; mend its suffix"),
        (archive({"a": b"b"}), "a.pptx", r"a\.pptx: expected a PPTX file, got another ZIP archive"),
        (docx(), "a.txt", r"a\.txt: expected text, got a ZIP archive"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"x" * 99, "a.docx", "got an old Office file, or one with a password"),
        (b"\x89PNG\r\n\x1a\n", "a.html", r"a\.html: expected text, got a PNG picture"),
        (b"plain words", "a.pdf", r"a\.pdf: expected a PDF, got something else"),
        (b"plain words", "a.docx", r"a\.docx: expected a DOCX file, got something else"),
        (b"\x00\x01\x02", "a.bin", r"a\.bin: byte 0: expected UTF-8 text, got binary"),
    ],
)
def test_wrong_suffix(content: bytes, name: str, message: str):
    with pytest.raises(DataError, match=message):
        read(content, name)


# --- PDF -------------------------------------------------------------------------------------------


def test_pdf_pages_and_bookmarks():
    loaded = read(
        pdf([["1 Safety", "Wear a hel-", "met."], [], ["Fire", "Leave."]], [(0, "Safety"), (2, "Fire")], "House rules"),
        "rules.pdf",
    )
    first, second = "# 1 Safety\n\nWear a helmet.\n\n", ""
    assert loaded == Loaded(
        "House rules", first + second + "# Fire\n\nLeave.\n\n", "markdown", (0, len(first), len(first))
    )


def test_pdf_without_bookmarks_is_text():
    loaded = read(pdf([["# one"], ["two"]], title="Microsoft Word - draft.docx"), "plain.pdf")
    assert loaded == Loaded("plain.pdf", "# one\n\ntwo\n\n", "text", (0, len("# one\n\n")))


def encrypted(password: str) -> bytes:
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf([["secret"]]))))
    writer.encrypt(password, owner_password="owner", algorithm="AES-256")
    return written(writer)


def test_pdf_with_a_password():
    with pytest.raises(DataError, match=r"s\.pdf: expected a PDF that opens without a password, got a protected one"):
        read(encrypted("hush"), "s.pdf")
    assert read(encrypted(""), "s.pdf").text == "secret\n\n"  # only its owner's rights are protected


def test_truncated_pdf():
    whole = pdf([["a line"] * 30 for _ in range(20)])
    with pytest.raises(DataError, match=r"cut\.pdf: expected a whole PDF, got"):
        read(whole[: len(whole) // 2], "cut.pdf")


def test_pdf_stream_that_unpacks_to_200_megabytes():
    packed = zlib.compress(b" " * 200_000_000, 1)
    assert len(packed) < 1_000_000
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R"
        b"/Resources<</Font<</F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>",
        b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(packed), packed),
    ]
    out, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj" % number + content + b"endobj\n"
    table_at = len(out)
    out += b"xref\n0 5\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % at for at in offsets)
    out += b"trailer<</Size 5/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % table_at
    stopped = r"bomb\.pdf: expected a PDF file that can be read, got LimitReachedError"
    with peak_below(400_000_000), pytest.raises(DataError, match=stopped):
        read(out, "bomb.pdf")


@settings(max_examples=40)
@given(st.lists(st.text(alphabet="ab \n"), max_size=6))
def test_every_page_starts_where_its_text_does(pages: list[str]):
    text, starts = paged(pages)
    assert len(starts) == len(pages) and list(starts) == sorted(starts)
    for page, start in zip(pages, starts, strict=True):
        if page.strip():
            assert text.startswith(page.strip("\n"), start)


# --- HTML ------------------------------------------------------------------------------------------

PAGE = """<!DOCTYPE html><html><head><title>VPN – Intranet</title><style>p{}</style>
<script>var tracker = "spy";</script></head><body>
<header><nav><a href=/>Home</a> <a href=/it>IT desk</a></nav></header>
<div id="cookie-banner">We use cookies. <button>Accept</button></div>
<div class="sidebar"><ul><li><a href=1>One</a></li><li><a href=2>Two</a></li></ul></div>
<main class="content has-sidebar"><div class="breadcrumbs">Home / IT / VPN</div>
<h1>Set up the <em>VPN</em><a class="headerlink" href="#vpn">¶</a></h1>
<p>Open <code>vpn.conf</code> and<br>save it.</p><script>alert(1)</script><noscript>enable JS</noscript>
<h2>Ports</h2>
<table><tr><th>Service</th><th>Port</th></tr><tr><td rowspan="2">VPN</td><td>443</td></tr><tr><td>1194</td></tr></table>
<pre><code class="language-sh">sudo vpn up
# not a heading</code></pre>
<ul><li>first<ul><li>inner</li></ul></li><li><p>second</p></li></ul>
<dl><dt>MTU</dt><dd>1400 bytes</dd></dl>
<p hidden>invisible</p><p style="display: none">unseen</p><p onclick="evil()"># plain</p>
<aside class="note">Ask the desk first.</aside></main>
<footer>© The company, all rights reserved</footer></body></html>"""


def test_html():
    loaded = read(PAGE.encode(), "vpn.html")
    assert loaded.title == "Set up the VPN"
    assert loaded.text == (
        "# Set up the VPN\n\nOpen `vpn.conf` and\nsave it.\n\n## Ports\n\n"
        "| Service | Port |\n| --- | --- |\n| VPN | 443 |\n| VPN | 1194 |\n\n"
        "```sh\nsudo vpn up\n# not a heading\n```\n\n- first\n  - inner\n- second\n\n"
        "**MTU**\n\n1400 bytes\n\n\\# plain\n\nAsk the desk first.\n"
    )
    assert paths(loaded) == [(1, "Set up the VPN"), (2, "Ports")]


def test_html_without_main():
    body = PAGE.replace("<main", "<div").replace("</main>", "</div>")
    assert read(body.encode(), "vpn.html").text == read(PAGE.encode(), "vpn.html").text.replace(
        "\n\nAsk the desk first.", ""
    )  # beside the content an aside is furniture


def test_a_list_of_links_is_content_where_there_is_nothing_else():
    links = "".join(f"<li><a href={n}>Chapter {n}</a></li>" for n in range(5))
    assert read(f"<ul>{links}</ul>".encode(), "toc.html").text.startswith("- Chapter 0\n- Chapter 1")
    prose = "Words that are no link, enough of them to be what the page is about. " * 3
    assert read(f"<p>{prose}</p><ul>{links}</ul>".encode(), "page.html").text == prose.strip() + "\n"


@pytest.mark.parametrize(
    "evil",
    [
        "<svg><script>alert('x')</script></svg>",
        "<iframe srcdoc=\"alert('x')\">alert('x')</iframe>",
        "<template>alert('x')</template>",
        "<!-- alert('x') -->",
        "<textarea>alert('x')</textarea>",
        "<img src=x onerror=\"alert('x')\">",
        "<a href=\"javascript:alert('x')\">go</a>",
        "<SCRIPT type=text/plain>alert('x')",
    ],
)
def test_no_script_becomes_text(evil: str):
    assert "alert" not in read(f"<html><body><p>Words before.</p>{evil}</body></html>".encode(), "x.html").text


def test_html_nested_without_end():
    with pytest.raises(DataError, match=r"deep\.html: expected HTML nested at most 256 deep"):
        read(b"<body>" + b"<div>" * 100_000 + b"end", "deep.html")


def test_html_entity_bomb_stays_small():
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    html = f'<!DOCTYPE html [<!ENTITY e0 "ha">{levels}]><body><p>Words.</p><p>&e9;</p></body>'
    assert len(read(html.encode(), "e.html").text) < len(html)


def test_html_of_too_many_tags():
    with pytest.raises(DataError, match=r"many\.html: expected at most 2,000,000 tags in a page, got 2,000,001; split"):
        read(b"<p>" * 2_000_001, "many.html")


@pytest.mark.slow
def test_html_of_many_small_pieces_takes_linear_time():
    def seconds(pieces: int) -> float:
        started = process_time()
        read(b"<body>" + b"<i hidden>x</i>y<p>z" * pieces, "many.html")
        return process_time() - started

    seconds(1000)
    assert seconds(40_000) < 10 * seconds(10_000)  # 4 times the input; quadratic would be 16


def test_table_that_claims_many_columns_stays_small():
    wide = "<table>" + "<tr><td colspan=1000 rowspan=65534>a</td><td>b</td></tr>" * 20 + "</table>"
    assert len(read(wide.encode(), "w.html").text) < 100 * len(wide)


def test_html_in_the_encoding_it_declares():
    html = "<html><head><meta charset='windows-1252'></head><body><p>Café – 5 €</p></body></html>"
    assert read(html.encode("cp1252"), "c.html").text == "Café – 5 €\n"


@pytest.mark.parametrize("html", ["", " ", "<!-- -->", "<html></html>", "<frameset></frameset>"])
def test_html_without_text(html: str):
    assert read(html.encode(), "e.html").text == ""


# --- text, tables, notebooks -----------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings(encoding: str):
    text = (
        "Für größere Änderungen müssen Sie zunächst die Prüfung abschließen. Danach können Übungen geöffnet werden.\n"
    )
    assert decode(text.replace("\n", "\r\n").encode(encoding), "a.txt") == text


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        (
            "cp1252",
            "L'été dernier, nous avons déjà vérifié les prérequis : la clé d'accès est créée par l'administrateur.",
        ),
        (
            "cp1250",
            "Przed rozpoczęciem pracy należy sprawdzić ustawienia serwera i upewnić się, że żądany program działa.",
        ),
        (
            "cp1251",
            "Перед началом работы необходимо проверить настройки сервера и убедиться, что доступ к документам есть.",
        ),
        ("shift_jis", "作業を開始する前に、サーバーの設定を確認し、文書にアクセスできることを確認してください。"),
    ],
)
def test_other_encodings_that_are_sure(encoding: str, text: str):
    assert decode(text.encode(encoding), "a.txt") == text


@pytest.mark.parametrize(
    "content", ["café, naïve, déjà vu: été".encode().decode("cp1252").encode(), "a\ufffdb\ufffdc\ufffd".encode()]
)
def test_mojibake_is_refused(content: bytes):
    with pytest.raises(DataError, match=r"a\.txt: character \d+: expected text, got .*; export the file anew as UTF-8"):
        decode(content, "a.txt")


def test_text_about_mojibake_is_not():
    text = "Read as cp1252, é shows as Ã© and ü as Ã¼; also été, façade, naïveté, über, œuvre, Ærø, señor, fiancée."
    assert decode(text.encode(), "a.txt") == text


@settings(max_examples=40)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\ufffd\ufeff")))
def test_utf8_is_read_as_it_is(text: str):
    try:
        assert decode(text.encode(), "a.txt") == text
    except DataError as error:
        assert "decoded as another encoding" in str(error)


def test_restructured_titles_get_marks_by_level():
    source = (
        "==========\n The Book\n==========\n\nIntro\n=====\n\nwords\n\nDetail\n''''''\n\n"
        "::\n\n  Not a title\n  -----------\n\nEnd\n===\n"
    )
    loaded = restructured(source, "book.rst")
    assert loaded.title == "The Book"
    assert paths(loaded) == [(1, "The Book"), (2, "Intro"), (3, "Detail"), (2, "End")]
    assert "  Not a title\n  -----------" in loaded.text


def test_restructured_includes_nothing(tmp_path: Path):
    (tmp_path / "secret.txt").write_text("SECRET")
    source = f"Title\n=====\n\n.. include:: {tmp_path}/secret.txt\n\n.. raw:: html\n   :file: {tmp_path}/secret.txt\n"
    assert "SECRET" not in read(source.encode(), "a.rst").text


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ('name,note\nbolt,"M6, ""long""\nsteel"\nnut,a|b\n', "a.csv"),
        ('name;note\nbolt;"M6, ""long""\nsteel"\nnut;a|b\n', "a.csv"),
        ('name\tnote\nbolt\t"M6, ""long""\nsteel"\n\nnut\ta|b\n', "a.tsv"),
    ],
)
def test_delimited_tables(content: str, name: str):
    assert read(content.encode(), name) == Loaded(
        name, '| name | note |\n| --- | --- |\n| bolt | M6, "long" steel |\n| nut | a\\|b |\n', "markdown"
    )


def test_a_cell_may_be_long():
    assert "x" * 200_000 in read(f"a,b\n1,{'x' * 200_000}\n".encode(), "long.csv").text


@settings(max_examples=40)
@given(st.lists(st.lists(st.text(alphabet="a|b\n \\"), min_size=2, max_size=4), min_size=1, max_size=5))
def test_a_table_is_rectangular(rows: list[list[str]]):
    lines = table(rows).split("\n") if table(rows) else []
    filled = [row for row in rows if any(cell.strip() for cell in row)]
    assert len(lines) == (len(filled) + 1 if filled else 0)
    columns = {line.replace("\\|", "").count("|") for line in lines}
    assert len(columns) <= 1


def notebook(**extra: object) -> bytes:
    cells = [
        {"cell_type": "markdown", "source": ["# Model\n", "How it works."]},
        {
            "cell_type": "code",
            "source": "x = 1\nx",
            "outputs": [
                {"output_type": "stream", "text": ["\x1b[31mred\x1b[0m\n"]},
                {"output_type": "execute_result", "data": {"text/plain": "1", "text/html": "<script>no</script>"}},
                {"output_type": "display_data", "data": {"image/png": "iVBORw0KGgo="}},
            ],
        },
        {"cell_type": "code", "source": [], "outputs": []},
    ]
    return json.dumps(
        {"cells": cells, "metadata": {"language_info": {"name": "python"}}, "nbformat": 4, **extra}
    ).encode()


def test_notebook():
    assert read(notebook(), "m.ipynb") == Loaded(
        "Model",
        "# Model\nHow it works.\n\n```python\nx = 1\nx\n```\n\n```text\nred\n```\n\n```text\n1\n```\n",
        "markdown",
    )


def test_notebook_of_format_3():
    cells = [
        {"cell_type": "heading", "level": 2, "source": "Old"},
        {"cell_type": "code", "input": "print(1)", "outputs": [{"text": "1"}]},
    ]
    old = json.dumps({"worksheets": [{"cells": cells}]}).encode()
    assert read(old, "o.ipynb").text == "## Old\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n"


@pytest.mark.parametrize("content", ["{}", "[", "[]", '{"cells": 3}', '{"cells": [{}]}', "[" * 100_000])
def test_broken_notebook(content: str):
    with pytest.raises(DataError, match=r"b\.ipynb: expected a notebook \(JSON with cells\), got \w+"):
        read(content.encode(), "b.ipynb")


# --- folders ---------------------------------------------------------------------------------------


def test_a_folder_of_every_format(tmp_path: Path):
    contents = {"a.docx": docx(), "b.pptx": pptx(), "c.xlsx": xlsx(), "d.PDF": pdf([["words"]]), "e.HTM": PAGE.encode(),
                "f.ipynb": notebook(), "g.csv": b"a,b\n1,2\n", "h.rst": b"T\n===\n", "Makefile": b"all:\n"}  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    documents, drops = read_files(".", ("**/*",), tmp_path)
    assert [d.doc_id for d in documents] == sorted(contents)
    assert {d.doc_id: d.format for d in documents}["Makefile"] == "text"
    assert {d.doc_id: d.page_starts for d in documents if d.page_starts}.keys() == {"b.pptx", "d.PDF"}
    assert drops == []


def test_bad_files_are_skipped_where_that_is_asked_for(tmp_path: Path):
    (tmp_path / "bad.pdf").write_bytes(b"%PDF-1.4\n1 0 obj<<")
    (tmp_path / "good.txt").write_text("fine")
    (tmp_path / "scan.pdf").write_bytes(pdf([[], []]))
    (tmp_path / "void.docx").touch()
    with pytest.raises(DataError, match=r"bad\.pdf: expected a whole PDF"):
        read_files(".", ("*",), tmp_path)
    documents, drops = read_files(".", ("*",), tmp_path, on_error="skip")
    assert [d.doc_id for d in documents] == ["good.txt"]
    assert [(d.item, d.reason) for d in drops] == [
        ("bad.pdf", "unreadable"),
        ("scan.pdf", "empty"),
        ("void.docx", "empty"),
    ]
    assert drops[0].detail.startswith("bad.pdf: expected a whole PDF") and "\n" not in drops[0].detail
    assert drops[1].detail == "2 pages without text; scans need OCR"


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path):
    with (tmp_path / "line.txt").open("wb") as sparse:
        sparse.truncate(1_000_000_000)  # one line of 1 GB, of which the disk holds nothing
    refused = r"line\.txt: expected at most 50 MB, got 1000\.0 MB; split it"
    with peak_below(50_000_000), pytest.raises(DataError, match=refused):
        read_files(".", ("*",), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("broken", [(), (3, 50)])
def test_many_files_give_the_same_in_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken):
    for number in range(70):
        text = b"\0" if number in broken else PAGE.replace("443", str(number)).encode()
        (tmp_path / f"{number:03d}.html").write_bytes(text)
    parallel = read_files(".", ("*",), tmp_path, on_error="skip")
    monkeypatch.setattr(files, "MANY_HEAVY_FILES", 1000)
    assert parallel == read_files(".", ("*",), tmp_path, on_error="skip")
    assert len(parallel[0]) == 70 - len(broken)
    if broken:
        monkeypatch.setattr(files, "MANY_HEAVY_FILES", 64)
        with pytest.raises(DataError, match=r"003\.html: byte 0"):  # the first in order, whichever ends first
            read_files(".", ("*",), tmp_path)


# --- datasets --------------------------------------------------------------------------------------


def saved(folder: Path, **columns: list[object]) -> None:
    import datasets

    datasets.Dataset.from_dict(columns).save_to_disk(str(folder))


def test_dataset(tmp_path: Path):
    saved(tmp_path / "faq", body=["one\r\nline", " ", None, "two"], head=["First", "x", "y", ""], key=[7, 8, 9, 10])
    documents, drops = read_dataset("faq", "body", "head", "key", tmp_path)
    assert documents == [
        Document("10", "faq:3", "10", "two", "text"),
        Document("7", "faq:0", "First", "one\nline", "text"),
    ]
    assert drops == [Drop("ingest", "faq:1", "empty"), Drop("ingest", "faq:2", "empty")]
    assert [d.doc_id for d in read_dataset("faq", "body", root=tmp_path)[0]] == ["faq:0", "faq:3"]


def test_dataset_with_splits(tmp_path: Path):
    import datasets

    parts = {name: datasets.Dataset.from_dict({"text": [name]}) for name in ("train", "test")}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "two"))
    documents, _ = read_dataset("two", "text", root=tmp_path)
    assert [(d.doc_id, d.source) for d in documents] == [("two:test:0", "two/test:0"), ("two:train:0", "two/train:0")]


def test_dataset_faults(tmp_path: Path):
    saved(tmp_path / "faq", body=["text"], tags=[["a"]], key=[" "])
    with pytest.raises(
        ConfigError, match=r"faq: expected the columns \['text'\], got \['body', 'tags', 'key'\] without"
    ):
        read_dataset("faq", "text", root=tmp_path)
    with pytest.raises(DataError, match=r"faq:0: 'tags': expected text, got \['a'\]; name another column"):
        read_dataset("faq", "tags", root=tmp_path)
    with pytest.raises(DataError, match=r"faq:0: 'key': expected an id, got ' '; mend that row"):
        read_dataset("faq", "body", id_column="key", root=tmp_path)
    with pytest.raises(ConfigError, match=r"none: expected a folder, got nothing"):
        read_dataset("none", "text", root=tmp_path)
    (tmp_path / "script").mkdir()
    (tmp_path / "script" / "script.py").write_text("raise SystemExit('a loading script was run')")
    with pytest.raises(ConfigError, match=r"script: expected a dataset written by save_to_disk, got \w+"):
        read_dataset("script", "text", root=tmp_path)
