"""What a document is about, said so that no other document could be meant."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ragline.questions.english import content_words, gerund, imperative, lower_first
from ragline.questions.markup import parse_docstring, plain, prose
from ragline.types import Document, Span

_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*")
_SIGNATURE = re.compile(r"\s*[\w.]+\(.*\)(?: ->.*|\s*--)?$", re.DOTALL)
_FIELD = re.compile(r"\s*\w+ : ")
_ASIDE = re.compile(r" ?\([^()]*\)")
_AFTER_OBJECT = re.compile(
    r"[,;:(]| (?:by|using|with|from|over|along|for|if|when|where|that|which|at|on|according|based|as|via|such|and|or)\b"
)
_SAYS_NOTHING = frozenset("return returns get gets compute computes calculate calculates provide indicate".split())
_NO_ACTIVITY = ("return", "get", "perform", "provide", "set")


@dataclass(frozen=True, slots=True)
class Subject:
    """How questions speak of one document."""

    calls: tuple[str, ...]
    """Names that mean this document's cluster alone, shortest first."""
    titled: bool
    """Whether the name is a title, such as 'Returns and refunds', which does nothing by itself."""
    owner: str
    """The class that a method belongs to; empty for anything else."""
    summary: Span | None
    """The first sentence that is not a signature."""
    own_summary: bool
    """Whether no document of another cluster has the same one."""
    activity: str
    """What it is for, as 'reading a csv file'; empty where that would not tell it from others."""
    namespace: bool = False
    """Whether other documents' names stand below it, as those of a module's functions do."""


def subjects(documents: Sequence[Document]) -> dict[str, Subject]:
    """doc_id → subject, for a whole corpus: whether a name is enough depends on the others."""
    summaries = {document.doc_id: _summary(document) for document in documents}
    said = {d.doc_id: _said(d, summaries[d.doc_id]) for d in documents}
    clusters_of_name: defaultdict[str, set[str]] = defaultdict(set)
    clusters_of_words: defaultdict[str, set[str]] = defaultdict(set)
    above = set[str]()
    for document in documents:
        for name in (_name(document), *document.aliases):
            above.add(name.rpartition(".")[0])
            for tail in _tails(name):
                clusters_of_name[tail].add(document.cluster)
        for words in (said[document.doc_id], _activity(said[document.doc_id])):
            clusters_of_words[_key(words)].add(document.cluster)
    is_namespace = {d.doc_id: _name(d) in above and _name(d).rpartition(".")[2].islower() for d in documents}
    return {
        document.doc_id: Subject(
            calls=_calls(_name(document), clusters_of_name)[-1 if is_namespace[document.doc_id] else 0 :],
            titled=document.format != "numpydoc",
            owner=_owner(_name(document)) if document.format == "numpydoc" else "",
            summary=summaries[document.doc_id],
            own_summary=len(clusters_of_words[_key(said[document.doc_id])]) == 1,
            activity=_own_activity(said[document.doc_id], clusters_of_words),
            namespace=is_namespace[document.doc_id],
        )
        for document in documents
    }


def _name(document: Document) -> str:
    if document.format != "numpydoc":
        return document.title or document.doc_id
    return document.doc_id if _DOTTED.fullmatch(document.doc_id) else document.title


def _calls(name: str, clusters: Mapping[str, set[str]]) -> tuple[str, ...]:
    calls = [tail for tail in _tails(name) if len(clusters[tail]) == 1]
    if len(calls) > 1 and calls[-1].count(".") > 2:
        del calls[-1]  # nobody types pandas.api.typing.Rolling.sum
    if len(calls) > 1 and calls[0].isalpha() and calls[0].islower() and name.count(".") > 1:
        del calls[0]  # `line` alone says nothing
    return tuple(calls) or (name,)


def _tails(name: str) -> Iterable[str]:
    """'merge', 'DataFrame.merge', 'pandas.DataFrame.merge', but no 'typing.Rolling'; a title is only itself."""
    if not _DOTTED.fullmatch(name):
        return (name,)
    parts = name.split(".")
    outermost = next((i for i, part in enumerate(parts) if part[:1].isupper()), len(parts) - 1)
    return dict.fromkeys(".".join(parts[i:]) for i in (*range(len(parts) - 1, outermost - 1, -1), 0))


def _owner(name: str) -> str:
    """'Series' for pandas.Series.str.upper: the innermost class."""
    return next((part for part in reversed(name.split(".")[:-1]) if part[:1].isupper()), "")


def _summary(document: Document) -> Span | None:
    opening = parse_docstring(document.text).opening if document.format == "numpydoc" else Span(0, len(document.text))
    spans = (span for span in prose(document.text, opening))
    first = next((span for span in spans if not _SIGNATURE.match(document.text[span.start : span.end])), None)
    listed = first is not None and document.format == "numpydoc" and _FIELD.match(document.text, first.start)
    return None if listed else first


def _said(document: Document, span: Span | None) -> str:
    return plain(document.text[span.start : span.end]).rstrip(".") if span else ""


def _activity(summary: str) -> str:
    parts = imperative(summary)
    if parts is None or parts[0] in _NO_ACTIVITY:
        return ""
    verb, rest = parts[0], _ASIDE.sub("", parts[1])
    boundary = _AFTER_OBJECT.search(rest)
    thing = rest[: boundary.start()] if boundary and content_words(rest[: boundary.start()]) else rest
    said = 1 <= len(thing.split()) <= 7 and not re.search(r"ing\b|ed$|^(?:and|or)\b", thing)
    return f"{gerund(verb)} {lower_first(thing)}" if said else ""


def _own_activity(summary: str, clusters: Mapping[str, set[str]]) -> str:
    activity = _activity(summary)
    return activity if activity and len(clusters[_key(activity)]) == 1 else ""


def _key(text: str) -> str:
    return " ".join(word for word in content_words(text) if word not in _SAYS_NOTHING)
