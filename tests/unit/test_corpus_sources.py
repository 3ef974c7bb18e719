"""Files and JSONL: what becomes a document, what is dropped, what stops the reading."""

import json
import os
from pathlib import Path

import pytest

from ragline.errors import ConfigError, DataError
from ragline.types import Document, Drop
from tests.fixtures.outcomes import read_documents, read_files

EVERY = ("**/*.md", "**/*.txt")


def test_files_become_documents(tmp_path: Path):
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    (tmp_path / "docs" / "deep" / "guide.md").write_text("intro\n\n# The Guide #\n\n## Setup\n")
    (tmp_path / "docs" / "bare.md").write_text("no heading")
    (tmp_path / "docs" / "note.txt").write_bytes("\ufeffBOM, café\r\nand\rline ends".encode())
    (tmp_path / "docs" / "blank.txt").write_text(" \n\n")
    (tmp_path / "docs" / ".cache").mkdir()
    (tmp_path / "docs" / ".cache" / "copy.md").write_text("# Copy")
    (tmp_path / "docs" / "picture.png").write_bytes(b"\0")  # no pattern asks for it

    documents, drops = read_files("docs/", EVERY, tmp_path)

    assert documents == [
        Document("bare.md", "docs/bare.md", "bare.md", "no heading", "markdown"),
        Document(
            "deep/guide.md", "docs/deep/guide.md", "The Guide", "intro\n\n# The Guide #\n\n## Setup\n", "markdown"
        ),
        Document("note.txt", "docs/note.txt", "note.txt", "BOM, café\nand\nline ends", "text"),
    ]
    assert sorted(drops, key=lambda d: d.item) == [
        Drop("ingest", "docs/.cache/copy.md", "hidden file"),
        Drop("ingest", "docs/blank.txt", "empty"),
    ]


def test_a_file_that_two_patterns_match_is_read_once(tmp_path: Path):
    (tmp_path / "a.md").write_text("text")
    documents, _ = read_files(".", ("*.md", "**/*.md"), tmp_path)
    assert [d.doc_id for d in documents] == ["a.md"]


def test_binary_file_stops_with_its_place(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"abc\0def")
    with pytest.raises(DataError, match=r"a\.txt: byte 3: expected UTF-8 text, got binary \(a NUL byte\); convert"):
        read_files(".", EVERY, tmp_path)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_other_encoding_stops_with_its_place(tmp_path: Path, mark: bytes):
    (tmp_path / "a.txt").write_bytes(mark + b"caf\xe9 au lait")
    expected = rf"a\.txt: byte {len(mark) + 3}: expected UTF-8 text, got b'\\xe9 au'; convert the file to UTF-8"
    with pytest.raises(DataError, match=expected):
        read_files(".", EVERY, tmp_path)


def test_missing_folder(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nowhere: expected a folder, got nothing; mend ingest\.sources"):
        read_files("nowhere", EVERY, tmp_path)


def test_file_in_place_of_a_folder(tmp_path: Path):
    (tmp_path / "a.md").write_text("text")
    with pytest.raises(ConfigError, match=r"a\.md: expected a folder, got a file"):
        read_files("a.md", EVERY, tmp_path)


def test_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    with pytest.raises(ConfigError, match="may not be read; grant access"):
        read_files(".", EVERY, tmp_path)


def test_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.md").write_text("text")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ConfigError, match=r"a\.md: cannot be read: Permission denied; grant access or narrow"):
        read_files(".", EVERY, tmp_path)


@pytest.mark.parametrize("pattern", ["", "/etc/*.md"])
def test_pattern_that_is_none(tmp_path: Path, pattern: str):
    with pytest.raises(ConfigError, match=r"include: expected patterns such as \*\*/\*\.md, got"):
        read_files(".", (pattern,), tmp_path)


def rows(path: Path, *lines: object) -> None:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))


def test_jsonl_defaults_and_keys(tmp_path: Path):
    rows(
        tmp_path / "docs.jsonl",
        {"text": "second", "id": "z", "title": "Zed", "source": "https://example.org/z", "extra": 1},
        "",
        {"text": "first", "format": "markdown"},
        {"text": " \n"},
    )
    documents, drops = read_documents("docs.jsonl", tmp_path)

    assert documents == [
        Document("docs.jsonl:3", "docs.jsonl:3", "docs.jsonl:3", "first", "markdown"),
        Document("z", "https://example.org/z", "Zed", "second", "text"),
    ]
    assert drops == [Drop("ingest", "docs.jsonl:4", "empty")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": ', r"docs\.jsonl:2: expected a JSON object, got"),
        ("[1]", r"docs\.jsonl:2: expected a JSON object, got list"),
        ({"body": "x", "id": "1"}, r"docs\.jsonl:2: expected the key 'text', got \['body', 'id'\]; add it"),
        ({"text": 3}, r"docs\.jsonl:2: 'text': expected a non-empty string, got 3; mend that line"),
        ({"text": None}, r"docs\.jsonl:2: 'text': expected a non-empty string, got None"),
        ({"text": "x", "format": "pdf"}, r"docs\.jsonl:2: 'format': expected 'text' or 'markdown', got 'pdf'"),
        ({"text": "x", "id": 7}, r"docs\.jsonl:2: 'id': expected a non-empty string, got 7"),
        ({"text": "x", "title": ""}, r"docs\.jsonl:2: 'title': expected a non-empty string, got ''"),
    ],
)
def test_bad_line_stops_with_its_place(tmp_path: Path, line: object, message: str):
    rows(tmp_path / "docs.jsonl", {"text": "fine"}, line)
    with pytest.raises(DataError, match=message):
        read_documents("docs.jsonl", tmp_path)


def test_missing_jsonl(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"docs\.jsonl: no such file; mend ingest\.sources"):
        read_documents("docs.jsonl", tmp_path)


def test_a_linked_folder_is_refused_as_dvc_sees_no_change_in_it(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.md").write_text("# A")
    raw = tmp_path / "data" / "raw"
    raw.mkdir(parents=True)
    (raw / "linked").symlink_to(tmp_path / "elsewhere")
    for path in ("data/raw", "data/raw/linked"):
        with pytest.raises(ConfigError, match=r"data/raw/linked: expected a folder, got a link to one, .*; copy it"):
            read_files(path, EVERY, tmp_path)
    (raw / "linked").unlink()
    raw.rmdir()
    raw.symlink_to(tmp_path / "elsewhere")
    assert [d.title for d in read_files("data/raw", EVERY, tmp_path)[0]] == ["A"]
