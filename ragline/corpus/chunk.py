"""Cut documents into passages: by structure, by sections, by sentences or by tokens; small ones in larger ones."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from semantic_text_splitter import MarkdownSplitter, TextSplitter
from tokenizers import Tokenizer

from ragline.corpus.sections import Entry, Section, Table, sections, tables
from ragline.errors import ModelError
from ragline.parallel import batched, cores, in_processes
from ragline.text import sentences
from ragline.types import Document, Passage, Span

Method = Literal["structure", "sections", "sentences", "tokens", "parent_child"]

SMALL = 1 / 5
"""A passage below this share of the limit says too little by itself, if something longer follows."""

STEP = 8
"""Room for the header of a table comes in multiples of it, so that few splitters serve all tables."""

MANY = 4000
"""Documents from which starting other processes pays."""
BATCH = 50
"""Documents handed to a process at once."""

_WORD = re.compile(r"\s*\S+\s*")
_LINE = re.compile(r".+\n*")
_chunker: "Chunker"
"""Of a process that chunks for another one."""


@dataclass(frozen=True, slots=True)
class Chunker:
    """A tokenizer and the limits."""

    tokenizer: Tokenizer
    max_tokens: int
    overlap_tokens: int
    method: Method
    parent_tokens: int
    """For `parent_child`: limit of what an answerer reads around a passage."""
    splitters: dict[tuple[str, int], TextSplitter | MarkdownSplitter] = field(default_factory=dict, compare=False)
    """Those already made, for making one takes a tenth of a second."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens not counted."""
        return [len(found.ids) for found in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def splitter(self, format: str, limit: int) -> TextSplitter | MarkdownSplitter:
        """What cuts a text that has no structure left, into parts of at most `limit` tokens."""
        key = (format, limit)
        if key not in self.splitters:
            kind = MarkdownSplitter if format == "markdown" else TextSplitter
            settings: dict[str, Any] = {"overlap": min(self.overlap_tokens, limit - 1), "trim": False}
            self.splitters[key] = kind.from_huggingface_tokenizer(self.tokenizer, limit, **settings)
        return self.splitters[key]


@dataclass(frozen=True)
class _Text:
    """A document and the headers of its tables, which have to be repeated where a passage begins between two rows."""

    document: Document
    chunker: Chunker

    def __getitem__(self, span: Span) -> str:
        return self.document.text[span.start : span.end]

    def count(self, spans: Sequence[Span]) -> list[int]:
        """Tokens of each stretch."""
        return self.chunker.count([self[span] for span in spans])

    @cached_property
    def headers(self) -> list[tuple[Table, int]]:
        """Tables, each with the tokens set aside for its header; none whose header takes over half a passage."""
        found = tables(self.document.text, self.document.format)
        tokens = self.chunker.count([table.header for table in found])
        most = self.chunker.max_tokens // 2
        return [(table, -(-n // STEP) * STEP) for table, n in zip(found, tokens, strict=True) if n <= most]

    def header(self, start: int) -> tuple[str, int]:
        """Header and its tokens of the table in whose rows an offset lies; nothing elsewhere."""
        rows = bisect_right(self.headers, start, key=lambda found: found[0].rows.start) - 1
        if rows < 0 or start >= self.headers[rows][0].rows.end:
            return "", 0
        table, tokens = self.headers[rows]
        return table.header, tokens

    def limit(self, start: int) -> int:
        """Tokens that a passage which begins here may have, beside the header that it needs."""
        return self.chunker.max_tokens - self.header(start)[1]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of a document within the limit, to be merged with its neighbours where they fit."""

    span: Span
    path: tuple[str, ...]
    tokens: int
    opens: bool = False
    """Begins a section that is longer than a passage, so that what stands before it stays apart."""
    cut: bool = False
    """Comes from the splitter, so that cutting it once more breaks up nothing whole."""


def load_chunker(
    tokenizer_file: Path,
    max_tokens: int,
    overlap_tokens: int,
    method: Method = "structure",
    parent_tokens: int = 0,
) -> Chunker:
    """Read a tokenizer.json, its truncation and padding switched off.

    Args:
        max_tokens: limit of a passage, special tokens not counted.
        overlap_tokens: what two passages cut from one long section may share; below `max_tokens`.

    Raises:
        ModelError: the file is not a tokenizer.
    """
    try:
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
    except Exception as error:  # the library raises plain Exception
        raise ModelError(f"{tokenizer_file}: not a tokenizer: {error}; name another in params.yaml") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return Chunker(tokenizer, max_tokens, overlap_tokens, method, parent_tokens)


def chunk(document: Document, chunker: Chunker) -> list[Passage]:
    """Cut one document into passages that cover it.

    - `structure`: neighbouring sections share a passage while they fit. A section too long for one passage is cut at
      its entries (numpydoc), and an entry or section that is still too long by semantic-text-splitter, with overlap.
    - `sections`: the same, but no passage reaches over the end of its section.
    - `sentences`: as many whole sentences as fit; whole sentences overlap.
    - `tokens`: windows of a fixed length, cut between words.
    - `parent_child`: as `structure`; neighbours up to `parent_tokens` share a parent, which is what an answerer reads.

    Returns:
        Passages in document order. `text == document.text[start:end]`; starts and ends both rise; put
        together, overlaps taken once, they give the text back. None has more than `max_tokens`, the table header that
        it repeats in its context included; white space stands alone only where it would take its neighbour over that
        limit. The heading is the path of headings where the passage starts, without a first one that repeats the title.
    """
    if not document.text:
        return []
    text = _Text(document, chunker)
    pieces = _forward(_cut(text))
    ids = [f"{document.doc_id}#{ordinal:04d}" for ordinal in range(len(pieces))]
    parents = [ids[first] for first in _firsts(pieces, text)] if chunker.method == "parent_child" else [""] * len(ids)
    return [
        Passage(
            passage_id=passage_id,
            doc_id=document.doc_id,
            title=document.title,
            heading=" > ".join(piece.path[1:] if piece.path[:1] == (document.title,) else piece.path),
            text=text[piece.span],
            start=piece.span.start,
            end=piece.span.end,
            tokens=piece.tokens,
            cluster=document.cluster,
            page=bisect_right(document.page_starts, piece.span.start),
            context=text.header(piece.span.start)[0],
            parent=parent,
        )
        for passage_id, parent, piece in zip(ids, parents, pieces, strict=True)
    ]


def chunk_all(documents: Iterable[Document], number: int, prepare: tuple[Any, ...]) -> Iterator[list[Passage]]:
    """Passages of each document, in order; of many documents on all cores, with the same result.

    Args:
        number: of documents, near enough.
        prepare: arguments of `load_chunker`.

    Raises:
        ModelError: there is no tokenizer.
        ServiceError: a process was killed.
    """
    if number < MANY or cores() == 1:
        chunker = load_chunker(*prepare)
        yield from (chunk(document, chunker) for document in documents)
    else:
        load_chunker(*prepare)  # so that a fault is told once, and here
        batches = batched(documents, BATCH)
        for found in in_processes(_chunk_batch, batches, lambda batch: batch[0].doc_id, "", _prepare, prepare):
            yield from found


def _prepare(*arguments: Any) -> None:
    global _chunker
    _chunker = load_chunker(*arguments)


def _chunk_batch(documents: Sequence[Document]) -> list[list[Passage]]:
    return [chunk(document, _chunker) for document in documents]


def counts(documents: int, tokens: Sequence[int]) -> dict[str, float]:
    """What the report says about the passages, from the tokens of each."""
    return {
        "passages": len(tokens),
        "tokens_mean": round(sum(tokens) / len(tokens), 2),
        "tokens_max": max(tokens),
        "passages_per_document_mean": round(len(tokens) / documents, 2),
    }


# --- from sections to pieces -----------------------------------------------------------------------


def _cut(text: _Text) -> list[_Piece]:
    cut = sections(text.document.text, text.document.format)
    match text.chunker.method:
        case "structure" | "parent_child":
            return _merged([piece for pieces in _by_section(cut, text) for piece in pieces], text)
        case "sections":
            return [piece for pieces in _by_section(cut, text) for piece in _merged(pieces, text)]
        case "sentences":
            return _packed(_sentences(text), cut, text)
        case "tokens":
            return _packed(_words(Span(0, len(text.document.text)), text), cut, text)


def _by_section(cut: Sequence[Section], text: _Text) -> list[list[_Piece]]:
    found: list[list[_Piece]] = []
    for section, count in zip(cut, text.count([section.span for section in cut]), strict=True):
        if count <= text.chunker.max_tokens:
            found.append([_Piece(section.span, section.path, count)])
        else:
            first, *rest = _long_section(section, text)
            found.append([replace(first, opens=True), *rest])
    return found


def _long_section(section: Section, text: _Text) -> list[_Piece]:
    """Entries of a section; those too long, and a section without entries, cut by the splitter."""
    first = section.entries[0] if section.entries else Entry(section.span.start)
    # what stands before the first entry, the heading too, goes with it
    entries = [Entry(section.span.start, first.name), *section.entries[1:]]
    spans = [
        Span(entry.start, end)
        for entry, end in zip(entries, [*(entry.start for entry in entries[1:]), section.span.end], strict=True)
    ]
    pieces: list[_Piece] = []
    for entry, span, count in zip(entries, spans, text.count(spans), strict=True):
        if count <= text.chunker.max_tokens:
            pieces.append(_Piece(span, section.path, count))
        else:
            path = (*section.path, entry.name) if entry.name else section.path
            pieces += [_Piece(part, path, n, cut=True) for part, n in _split(span, text)]
    return pieces


def _split(span: Span, text: _Text) -> list[tuple[Span, int]]:
    """Parts of a span, each with its tokens, by semantic-text-splitter."""
    inside = [n for table, n in text.headers if table.rows.start < span.end and table.rows.end > span.start]
    limit = text.chunker.max_tokens - max(inside, default=0)
    found = text.chunker.splitter(text.document.format, limit).chunk_indices(text[span])
    parts = [Span(span.start + offset, span.start + offset + len(part)) for offset, part in found]
    for spans in (_distinct(_tidied(parts, text.document.text)), _distinct(parts)):
        tokens = text.count(spans)
        if max(tokens) <= limit:
            break  # for most tokenizers white space is free, and the tidy parts are as short as the others
    return list(zip(spans, tokens, strict=True))


def _distinct(parts: Sequence[Span]) -> list[Span]:
    """With a large overlap a part can lie wholly in the next one; it is then left out."""
    following = [*(part.start for part in parts[1:]), parts[-1].end]
    return [part for part, start in zip(parts, following, strict=True) if part.start < start]


def _tidied(parts: Sequence[Span], text: str) -> list[Span]:
    """Blank lines at the start of a part go to the part before it; a part of white space disappears."""
    tidy: list[Span] = []
    start = parts[0].start
    for part in parts:
        if not text[part.start : part.end].strip():
            if tidy:
                tidy[-1] = Span(tidy[-1].start, part.end)
            continue
        if tidy:
            indent = text[part.start : part.end].lstrip()
            body = part.end - len(indent)
            start = max(part.start, text.rfind("\n", part.start, body) + 1)
            tidy[-1] = Span(tidy[-1].start, max(tidy[-1].end, start))
        tidy.append(Span(start, part.end))
    return tidy or list(parts)


# --- from pieces to passages -----------------------------------------------------------------------


def _merged(pieces: Sequence[_Piece], text: _Text) -> list[_Piece]:
    """Merge neighbours greedily while their tokens add up to no more than the limit."""
    groups: list[list[_Piece]] = []
    for piece in pieces:
        room = -1
        if groups and not piece.opens:
            room = text.limit(groups[-1][0].span.start) - sum(p.tokens for p in groups[-1])
        if piece.tokens <= room:
            groups[-1].append(piece)
        elif piece.cut and room > text.chunker.max_tokens * (1 - SMALL) and (halves := _halved(piece, text)):
            groups[-1].append(halves[0])  # rather than leave a heading, or an introduction, alone
            groups.append([halves[1]])
        else:
            groups.append([piece])
    return [merged for group in groups for merged in _joined(group, text)]


def _forward(pieces: Sequence[_Piece]) -> list[_Piece]:
    """Without pieces that lie wholly in a neighbour, as a large overlap can leave them: starts and ends then rise."""
    kept: list[_Piece] = []
    for piece in pieces:
        while kept and kept[-1].span.start >= piece.span.start and kept[-1].span.end <= piece.span.end:
            kept.pop()
        if not kept or piece.span.end > kept[-1].span.end:
            kept.append(piece)
    return kept


def _halved(piece: _Piece, text: _Text) -> list[_Piece]:
    """Two pieces, cut at the line that begins nearest to the middle; none if there is no such line."""
    start, end = piece.span.start, piece.span.end
    middle = (start + end) // 2
    whole = text.document.text
    line_starts = [at + 1 for at in (whole.rfind("\n", start, middle), whole.find("\n", middle, end)) if at >= 0]
    for at in sorted(line_starts, key=lambda at: abs(at - middle)):
        spans = [Span(start, at), Span(at, end)]
        if all(text[span].strip() for span in spans):
            return [replace(piece, span=span, tokens=n) for span, n in zip(spans, text.count(spans), strict=True)]
    return []


def _joined(group: Sequence[_Piece], text: _Text) -> list[_Piece]:
    """One piece if its exact count is within the limit, for tokens of parts need not add up; else two halves."""
    if len(group) == 1:
        return list(group)
    span = Span(group[0].span.start, group[-1].span.end)
    (tokens,) = text.count([span])
    if tokens <= text.limit(span.start):
        return [replace(group[0], span=span, tokens=tokens)]
    half = len(group) // 2
    return [*_joined(group[:half], text), *_joined(group[half:], text)]


# --- from units to passages: sentences, words ------------------------------------------------------


def _sentences(text: _Text) -> list[Span]:
    """Sentences, and rows of tables, with the white space after them; those longer than a passage in words."""
    whole = text.document.text
    starts = {span.start for span in sentences(whole)}
    for table in tables(whole, text.document.format):
        starts -= set(range(table.rows.start, table.rows.end))
        starts |= {table.rows.start + row.start() for row in _LINE.finditer(text[table.rows])}
    begins = [0, *sorted(starts)[1:]]
    found: list[Span] = []
    spans = [Span(start, end) for start, end in zip(begins, [*begins[1:], len(whole)], strict=True)]
    for span, tokens in zip(spans, text.count(spans), strict=True):
        found += [span] if tokens <= text.limit(span.start) else _words(span, text)
    return found


def _words(span: Span, text: _Text) -> list[Span]:
    """Words with the white space around them; those longer than a passage in parts."""
    words = [Span(span.start + word.start(), span.start + word.end()) for word in _WORD.finditer(text[span])] or [span]
    found: list[Span] = []
    for word, tokens in zip(words, text.count(words), strict=True):
        found += [word] if tokens <= text.limit(word.start) else [part for part, _ in _split(word, text)]
    return found


def _packed(units: Sequence[Span], cut: Sequence[Section], text: _Text) -> list[_Piece]:
    """As many neighbouring units a piece as fit; whole units within the overlap stand in two."""
    sizes = text.count(units)
    starts = [section.span.start for section in cut]
    pieces: list[_Piece] = []
    first = last = 0  # the piece's units, `last` not among them
    while last < len(units):
        done, last = last, _reach(units, sizes, first, text)
        if last <= done:  # the overlap leaves no room for what follows
            first, last = done, _reach(units, sizes, done, text)
        span = Span(units[first].start, units[last - 1].end)
        path = cut[max(0, bisect_right(starts, span.start) - 1)].path
        pieces.append(_Piece(span, path, text.count([span])[0]))
        shared, first = 0, last
        while first > 0 and shared + sizes[first - 1] <= text.chunker.overlap_tokens:
            first -= 1
            shared += sizes[first]
    return pieces


def _reach(units: Sequence[Span], sizes: Sequence[int], first: int, text: _Text) -> int:
    """One past the last unit that fits into a piece beginning at `first`; at least one does."""
    limit = text.limit(units[first].start)
    last, tokens = first + 1, sizes[first]
    while last < len(units) and tokens + sizes[last] <= limit:
        tokens += sizes[last]
        last += 1
    while last > first + 1 and text.count([Span(units[first].start, units[last - 1].end)])[0] > limit:
        last -= 1  # tokens of parts need not add up
    return last


# --- from passages to parents ----------------------------------------------------------------------


def _firsts(pieces: Sequence[_Piece], text: _Text) -> list[int]:
    """For each piece the first one of its parent: neighbours that have at most `parent_tokens` together."""
    firsts: list[int] = []
    for number, piece in enumerate(pieces):
        first = firsts[-1] if firsts else 0
        (tokens,) = text.count([Span(pieces[first].span.start, piece.span.end)])
        firsts.append(first if tokens <= text.chunker.parent_tokens else number)
    return firsts
