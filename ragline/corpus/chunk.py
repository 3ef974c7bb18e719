"""Cut documents into passages: by structure first, by tokens where a section is too long."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from semantic_text_splitter import MarkdownSplitter, TextSplitter
from tokenizers import Tokenizer

from ragline.corpus.sections import Entry, Section, sections
from ragline.errors import ModelError
from ragline.types import Document, Passage, Span

SMALL = 1 / 5
"""A passage below this share of the limit says too little by itself, if something longer follows."""


@dataclass(frozen=True, slots=True)
class Chunker:
    """A tokenizer, the limits, and the splitters made from them."""

    tokenizer: Tokenizer
    max_tokens: int
    text_splitter: TextSplitter
    markdown_splitter: MarkdownSplitter

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens not counted."""
        return [len(found.ids) for found in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


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


def load_chunker(tokenizer_file: Path, max_tokens: int, overlap_tokens: int) -> Chunker:
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
    limits: dict[str, Any] = {"capacity": max_tokens, "overlap": overlap_tokens, "trim": False}
    return Chunker(
        tokenizer,
        max_tokens,
        TextSplitter.from_huggingface_tokenizer(tokenizer, **limits),
        MarkdownSplitter.from_huggingface_tokenizer(tokenizer, **limits),
    )


def chunk(document: Document, chunker: Chunker) -> list[Passage]:
    """Cut one document into passages that cover it.

    Neighbouring sections share a passage while they fit. A section too long for one passage is cut at
    its entries (numpydoc), and an entry or section that is still too long by semantic-text-splitter,
    with overlap.

    Returns:
        Passages in document order. `text == document.text[start:end]`; starts and ends both rise; put
        together, overlaps taken once, they give the text back. None has more than `max_tokens`; white
        space stands alone only where it would take its neighbour over that limit. The heading is the
        path of headings where the passage starts, without a first one that repeats the title.
    """
    pieces = _forward(_merged(_pieces(document, chunker), document.text, chunker))
    return [
        Passage(
            passage_id=f"{document.doc_id}#{ordinal:04d}",
            doc_id=document.doc_id,
            title=document.title,
            heading=" > ".join(piece.path[1:] if piece.path[:1] == (document.title,) else piece.path),
            text=document.text[piece.span.start : piece.span.end],
            start=piece.span.start,
            end=piece.span.end,
            tokens=piece.tokens,
            cluster=document.cluster,
            page=bisect_right(document.page_starts, piece.span.start),
        )
        for ordinal, piece in enumerate(pieces)
    ]


def counts(passage_tokens: Iterable[Sequence[int]]) -> dict[str, float]:
    """What the report says about the passages, from the tokens of each document's passages."""
    documents = list(passage_tokens)
    tokens = [count for document in documents for count in document]
    return {
        "passages": len(tokens),
        "tokens_mean": round(sum(tokens) / len(tokens), 2),
        "tokens_max": max(tokens),
        "passages_per_document_mean": round(len(tokens) / len(documents), 2),
    }


# --- from sections to pieces -----------------------------------------------------------------------


def _pieces(document: Document, chunker: Chunker) -> list[_Piece]:
    cut = sections(document.text, document.format)
    tokens = chunker.count([document.text[section.span.start : section.span.end] for section in cut])
    pieces: list[_Piece] = []
    for section, count in zip(cut, tokens, strict=True):
        if count <= chunker.max_tokens:
            pieces.append(_Piece(section.span, section.path, count))
        else:
            first, *rest = _long_section(document, section, chunker)
            pieces += [replace(first, opens=True), *rest]
    return pieces


def _long_section(document: Document, section: Section, chunker: Chunker) -> list[_Piece]:
    """Entries of a section; those too long, and a section without entries, cut by the splitter."""
    text = document.text
    first = section.entries[0] if section.entries else Entry(section.span.start)
    # what stands before the first entry, the heading too, goes with it
    entries = [Entry(section.span.start, first.name), *section.entries[1:]]
    spans = [
        Span(entry.start, end)
        for entry, end in zip(entries, [*(entry.start for entry in entries[1:]), section.span.end], strict=True)
    ]
    tokens = chunker.count([text[span.start : span.end] for span in spans])
    pieces: list[_Piece] = []
    for entry, span, count in zip(entries, spans, tokens, strict=True):
        if count <= chunker.max_tokens:
            pieces.append(_Piece(span, section.path, count))
        else:
            path = (*section.path, entry.name) if entry.name else section.path
            pieces += [_Piece(part, path, n, cut=True) for part, n in _split(document, span, chunker)]
    return pieces


def _split(document: Document, span: Span, chunker: Chunker) -> list[tuple[Span, int]]:
    """Parts of a span, each with its tokens, by semantic-text-splitter."""
    splitter = chunker.markdown_splitter if document.format == "markdown" else chunker.text_splitter
    found = splitter.chunk_indices(document.text[span.start : span.end])
    parts = [Span(span.start + offset, span.start + offset + len(part)) for offset, part in found]
    for spans in (_distinct(_tidied(parts, document.text)), _distinct(parts)):
        tokens = chunker.count([document.text[part.start : part.end] for part in spans])
        if max(tokens) <= chunker.max_tokens:
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


def _merged(pieces: Sequence[_Piece], text: str, chunker: Chunker) -> list[_Piece]:
    """Merge neighbours greedily while their tokens add up to no more than the limit."""
    groups: list[list[_Piece]] = []
    for piece in pieces:
        room = chunker.max_tokens - sum(p.tokens for p in groups[-1]) if groups and not piece.opens else -1
        if piece.tokens <= room:
            groups[-1].append(piece)
        elif piece.cut and room > chunker.max_tokens * (1 - SMALL) and (halves := _halved(piece, text, chunker)):
            groups[-1].append(halves[0])  # rather than leave a heading, or an introduction, alone
            groups.append([halves[1]])
        else:
            groups.append([piece])
    return [merged for group in groups for merged in _joined(group, text, chunker)]


def _forward(pieces: Sequence[_Piece]) -> list[_Piece]:
    """Without pieces that lie wholly in a neighbour, as a large overlap can leave them: starts and ends then rise."""
    kept: list[_Piece] = []
    for piece in pieces:
        while kept and kept[-1].span.start >= piece.span.start and kept[-1].span.end <= piece.span.end:
            kept.pop()
        if not kept or piece.span.end > kept[-1].span.end:
            kept.append(piece)
    return kept


def _halved(piece: _Piece, text: str, chunker: Chunker) -> list[_Piece]:
    """Two pieces, cut at the line that begins nearest to the middle; none if there is no such line."""
    start, end = piece.span.start, piece.span.end
    middle = (start + end) // 2
    line_starts = [at + 1 for at in (text.rfind("\n", start, middle), text.find("\n", middle, end)) if at >= 0]
    for at in sorted(line_starts, key=lambda at: abs(at - middle)):
        spans = [Span(start, at), Span(at, end)]
        parts = [text[span.start : span.end] for span in spans]
        if all(part.strip() for part in parts):
            tokens = chunker.count(parts)
            return [replace(piece, span=span, tokens=n) for span, n in zip(spans, tokens, strict=True)]
    return []


def _joined(group: Sequence[_Piece], text: str, chunker: Chunker) -> list[_Piece]:
    """One piece if its exact count is within the limit, for tokens of parts need not add up; else two halves."""
    if len(group) == 1:
        return list(group)
    span = Span(group[0].span.start, group[-1].span.end)
    (tokens,) = chunker.count([text[span.start : span.end]])
    if tokens <= chunker.max_tokens:
        return [replace(group[0], span=span, tokens=tokens)]
    half = len(group) // 2
    return [*_joined(group[:half], text, chunker), *_joined(group[half:], text, chunker)]
