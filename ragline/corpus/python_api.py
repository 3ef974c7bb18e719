"""The API reference of an installed package, one document for each distinct docstring."""

import importlib
import re
from collections import defaultdict
from collections.abc import Iterator
from importlib import metadata

from ragline.corpus.api_walk import Found, walk
from ragline.types import Document, Drop

MIN_CHARACTERS = 20
"""Shorter docstrings say too little to answer a question."""

CENTRAL = ("DataFrame", "Series")
"""Classes whose names readers know best; a text they share with others is filed under them."""

_DEPRECATED = re.compile(r"(?:[^\n]+\n)*\s*\.\. deprecated::")  # opens the text, or follows its first paragraph


def read_package(package: str) -> Iterator[Document | Drop]:
    """Yield a document for each distinct docstring of a package's public objects.

    Objects that share one text become one document under the name with the fewest dots, then one of a
    `CENTRAL` class, then the shortest; the other names are its aliases. The doc_id is the object's name, the format
    `numpydoc`. Each distinct object without a document is a drop, under the reasons private, deprecated, deprecated
    shim, documented elsewhere, no docstring, not accessible and too short.

    Raises:
        ConfigError: the package is not installed.
    """
    texts: dict[str, list[str]] = defaultdict(list)
    left_out: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    private: list[Found] = []
    for found in walk(package):
        if found.reason == "private":
            private.append(found)
        elif reason := found.reason or _unfit(found.text):
            left_out[reason, found.place, found.detail].append(found.name)
        else:
            texts[found.text].append(found.name)
    for found in private:
        if found.text not in texts:
            left_out["private", found.place, ""].append(found.name)

    version = _version(package)
    for text, names in texts.items():
        name, *aliases = sorted(set(names), key=_preference)
        yield Document(name, f"{package} {version}: {name}", name, text, "numpydoc", tuple(sorted(aliases)))
    for (reason, _, detail), names in left_out.items():
        yield Drop("ingest", min(names, key=_preference), reason, detail)


def _unfit(text: str) -> str:
    if _DEPRECATED.match(text):
        return "deprecated"
    return "too short" if len(text) < MIN_CHARACTERS else ""


def _preference(name: str) -> tuple[int, int, int, str]:
    parts = name.split(".")
    central = next((rank for rank, known in enumerate(CENTRAL) if known in parts[1:2]), len(CENTRAL))
    return len(parts), central, len(name), name


def _version(package: str) -> str:
    root = package.split(".")[0]
    try:
        return metadata.version(root)
    except metadata.PackageNotFoundError:  # the distribution has another name, or the package is a plain folder
        return str(getattr(importlib.import_module(root), "__version__", "unversioned"))
