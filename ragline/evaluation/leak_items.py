"""What the leak audit needs to know of a question, and where it gets that from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ragline.errors import DataError
from ragline.io import digest
from ragline.types import Passage, QAExample, Split


@dataclass(frozen=True, slots=True)
class Item:
    """What the audit needs to know of a question; an empty field says nothing and leaks nothing."""

    id: str
    split: Split
    question: str
    sources: tuple[str, ...] = ()
    """The documents, or their near-duplicate clusters: equal where the texts come from one place."""
    title: str = ""
    """What the documents are about or are called."""
    gold_ids: tuple[str, ...] = ()
    gold_texts: tuple[str, ...] = ()
    answer: str = ""


def items_of_examples(examples: Iterable[QAExample], passages: Mapping[str, Passage]) -> list[Item]:
    """The pipeline's own questions.

    Args:
        examples: questions of any splits.
        passages: by passage_id; holds every gold passage.

    Raises:
        DataError: a gold passage is missing.
    """
    items = []
    for example in examples:
        if missing := [name for name in example.gold_passage_ids if name not in passages]:
            raise DataError(
                f"{example.question_id}: gold passage {missing[0]!r} is not among the {len(passages)} passages; "
                "expected the passages the questions were made with; run `dvc repro generate_qa`"
            )
        gold = [passages[name] for name in example.gold_passage_ids]
        items.append(
            Item(
                id=example.question_id,
                split=example.split,
                question=example.question,
                sources=tuple(filter(None, [example.cluster or example.doc_id])),
                title=" ".join(dict.fromkeys([example.doc_id, *(p.title for p in gold)])),
                gold_ids=example.gold_passage_ids,
                gold_texts=tuple(p.text for p in gold),
                answer=example.answers[0] if example.answers else "",
            )
        )
    return items


def items_of_localrqa(rows: Iterable[tuple[int, Mapping[str, Any]]], split: Split, name: str = "") -> list[Item]:
    """Questions in LocalRQA's format.

    Args:
        rows: (line number, row), as `io.read_jsonl` yields them; the id of a question is `id`, else `name:line`.
        split: the split all of them belong to.
        name: of the file, for ids and messages; the split where it is not given.

    Raises:
        DataError: names the line that has no question, or gold_docs of another form.
    """
    items = []
    for number, row in rows:
        place = f"{name or split}:{number}"
        match row:
            case {"question": str(question), "gold_docs": list(docs)}:
                gold = [_gold_doc(doc, place) for doc in docs]
            case _:
                raise DataError(
                    f"{place}: expected question as text and gold_docs as a list, got {sorted(row)}; mend the line"
                )
        items.append(
            Item(
                id=str(row.get("id") or place),
                split=split,
                question=question,
                sources=tuple(dict.fromkeys(source for source, _, _ in gold)),
                title=" ".join(dict.fromkeys(title for _, title, _ in gold)),
                gold_ids=tuple(digest(source, text) for source, _, text in gold),
                gold_texts=tuple(text for _, _, text in gold),
                answer=str(row.get("gold_answer") or ""),
            )
        )
    return items


def _gold_doc(doc: Any, place: str) -> tuple[str, str, str]:
    """Source, title and text of one gold document."""
    match doc:
        case {"page_content": str(text), "metadata": {"source": str(source), **rest}}:
            return source, str(rest.get("title") or ""), text
    raise DataError(f"{place}: 'gold_docs': expected page_content and metadata.source as text, got {doc!r:.80}")
