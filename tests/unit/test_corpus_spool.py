"""The spool: what goes in comes out, and nothing stays on the disk."""

import errno
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragline.corpus.spool import Spool, Texts, spooled
from ragline.errors import DataError, ServiceError
from ragline.types import Document

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
DOCUMENTS = st.builds(
    Document, TEXT, TEXT, TEXT, TEXT, st.sampled_from(["text", "markdown"]),
    aliases=st.lists(TEXT).map(tuple), page_starts=st.lists(st.integers(0, 2**40)).map(tuple),
)  # fmt: skip


@given(st.lists(DOCUMENTS, max_size=5), st.data())
def test_documents_come_back_in_any_order(tmp_path_factory, documents: list[Document], data: st.DataObject):
    with spooled(tmp_path_factory.getbasetemp()) as spool:
        for document in documents:
            spool.add(document)
        rows = data.draw(st.permutations(range(len(documents))))
        assert [spool[row] for row in rows] == [documents[row] for row in rows]
        digests = spool.text_digests.tolist()
    same_text = {(d.text, other.text) for d in documents for other in documents if d.text == other.text}
    same_digest = {
        (d.text, other.text)
        for d, one in zip(documents, digests, strict=True)
        for other, two in zip(documents, digests, strict=True)
        if one == two
    }
    assert same_digest == same_text


def test_texts_are_read_one_by_one_and_in_batches(tmp_path: Path):
    with spooled(tmp_path) as spool:
        for text in "abc":
            spool.add(Document(text, "s", "t", text, "text"))
        texts = Texts(spool, np.array([2, 0]))
        assert (len(texts), texts[0], texts[0:2]) == (2, "c", ["c", "a"])


def test_adding_goes_on_after_reading(tmp_path: Path):
    with spooled(tmp_path) as spool:
        for text in "abc":
            spool.add(Document(text, "s", "t", text, "text"))
            assert spool[0].text == "a"
        assert [spool[row].text for row in range(3)] == ["a", "b", "c"]


def test_nothing_is_left_even_while_it_is_open(tmp_path: Path):
    with pytest.raises(RuntimeError), spooled(tmp_path / "data") as spool:
        spool.add(Document("a", "s", "t", "x" * 100_000, "text"))
        assert list((tmp_path / "data").iterdir()) == []
        raise RuntimeError
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("field", ["doc_id", "source", "title", "text", "aliases"])
def test_text_that_utf8_cannot_hold(tmp_path: Path, field: str):
    values = {"doc_id": "a", "source": "from a", "title": "t", "text": "x", "aliases": ()}
    values[field] = ("xy\ud800",) if field == "aliases" else "xy\ud800"
    with (
        spooled(tmp_path) as spool,
        pytest.raises(DataError, match=rf"{field}: expected text that UTF-8 can hold, got '\\ud800' at character 2"),
    ):
        spool.add(Document(**values, format="text"))


class FullDisk(io.BytesIO):
    def write(self, data) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_says_so(tmp_path: Path):
    with pytest.raises(ServiceError, match="cannot write: No space left on device; make room or access, and run"):
        Spool(FullDisk(), tmp_path).add(Document("a", "s", "t", "x", "text"))


def test_a_file_in_place_of_the_folder(tmp_path: Path):
    (tmp_path / "data").touch()
    with pytest.raises(ServiceError, match="data: cannot write: File exists"), spooled(tmp_path / "data"):
        pass


def test_a_document_is_one_json_value_and_no_pickle(tmp_path: Path):
    with (tmp_path / "spool").open("w+b") as file:
        spool = Spool(file, tmp_path)
        spool.add(Document("a", "s", "t", "é", "text", page_starts=(0, 3)))
        assert spool[0].page_starts == (0, 3)
    assert json.loads((tmp_path / "spool").read_bytes())[3] == "é"
