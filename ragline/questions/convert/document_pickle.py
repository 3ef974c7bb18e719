"""LocalRQA's documents.pkl, read without running anything of it.

A pickle is a program. Two gates stand before it: its instructions are looked through first, and only those that build
plain values are let pass; then it is unpickled by a reader that knows one class, an inert one that keeps what it is
given. What comes out is copied into plain dicts.
"""

import io
import pickle
import pickletools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragline.errors import DataError

DOCUMENT_CLASSES = frozenset(
    [
        ("langchain.docstore.document", "Document"),
        ("langchain.schema", "Document"),
        ("langchain.schema.document", "Document"),
        ("langchain_core.documents", "Document"),
        ("langchain_core.documents.base", "Document"),
        ("local_rqa.schema.document", "Document"),
    ]
)
"""Classes that stand for a document; none of them is ever imported."""

_OPCODES = frozenset(
    "PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT "
    "STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_LIST LIST APPEND APPENDS "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS EMPTY_SET ADDITEMS "
    "GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE NEWOBJ BUILD".split()
)
_UNPICKLING_ERRORS = (
    pickle.UnpicklingError, AttributeError, EOFError, ImportError, IndexError, KeyError, MemoryError, OverflowError,
    RecursionError, TypeError, ValueError,
)  # fmt: skip


class _Refused(pickle.UnpicklingError):
    """The pickle asks for something that no list of documents needs."""


def load_documents(path: Path) -> Iterator[dict[str, Any]]:
    """Yield {page_content, metadata} of each document, values unchecked.

    Raises:
        DataError: not a pickle, or one that holds anything but a list of documents; nothing of it was run.
    """
    data = path.read_bytes()
    try:
        _look_through(data)
        found = _load(data)
        rows = [_plain(item) for item in _listed(found)]
    except _UNPICKLING_ERRORS as error:
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise DataError(
            f"{path}: expected a pickled list of langchain or LocalRQA documents, got {reason}; nothing of it was run: "
            "write the documents as JSONL instead"
        ) from None
    yield from rows


def _look_through(data: bytes) -> None:
    """Refuse instructions that run code, and memo slots whose table alone would fill the memory."""
    end = 0
    for count, (opcode, argument, position) in enumerate(pickletools.genops(data), start=1):
        end = (position or 0) + 1
        if opcode.name not in _OPCODES:
            raise _Refused(f"the instruction {opcode.name} at byte {position}")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and not (
            isinstance(argument, int) and 0 <= argument <= count
        ):
            raise _Refused(f"memo slot {argument} at byte {position}")
        if opcode.name == "GLOBAL":
            _known(*str(argument).split(" ", 1))
    if end != len(data):
        raise _Refused(f"{len(data) - end} bytes after its end")


def _known(module: str, name: str = "") -> str:
    """What a name stands for here: a document, a set, or a step of the oldest protocols."""
    match module, name:
        case pair if pair in DOCUMENT_CLASSES:
            return "document"
        case ("builtins" | "__builtin__", "set"):
            return "set"
        case ("builtins" | "__builtin__", "object"):
            return "object"
        case ("copyreg" | "copy_reg", "_reconstructor"):
            return "reconstructor"
    raise _Refused(f"the name {module[:40]}.{name[:40]}")


def _load(data: bytes) -> Any:
    class Inert:
        """Keeps its state, whatever that is; made anew for each pickle, so that none can leave anything behind."""

        __slots__ = ("state",)

        def __setstate__(self, state: object) -> None:
            self.state = state

    def nothing(items: object = ()) -> None:
        """For the set of field names that pydantic keeps: of no use here."""

    def reconstruct(kind: object, base: object, state: object) -> Inert:
        if kind is not Inert:
            raise _Refused("a reconstruction of something else")
        return Inert()

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            return {"document": Inert, "set": nothing, "object": None, "reconstructor": reconstruct}[
                _known(module, name)
            ]

        def persistent_load(self, pid: object) -> Any:
            raise _Refused("a persistent id")

    return Reader(io.BytesIO(data)).load()


def _listed(found: object) -> list[Any]:
    if not isinstance(found, list):
        raise _Refused(f"a {type(found).__name__} instead of a list")
    return found


def _plain(item: object) -> dict[str, Any]:
    state = getattr(item, "state", None)
    if isinstance(state, dict) and isinstance(state.get("__dict__"), dict):
        state = state["__dict__"]  # pydantic keeps the fields one level deeper
    if not isinstance(state, dict) or "page_content" not in state:
        raise _Refused(f"{'a document without page_content' if hasattr(item, 'state') else type(item).__name__}")
    return {"page_content": state["page_content"], "metadata": state.get("metadata")}
