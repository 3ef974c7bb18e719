"""Walk the public names of an installed package and read their docstrings.

Public is what the package says it is: names in `__all__`, also where `__all__` is written for type
checkers only, and whatever names a package's own namespace as its `__module__`; where there is no
`__all__`, names that do not start with an underscore and are defined there.
"""

import ast
import importlib
import inspect
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

from ragline.errors import ConfigError

BOOKKEEPING = frozenset({"__dict__", "__weakref__"})
"""Attributes that Python itself adds to a class, with a text of its own."""

Reason = Literal["", "private", "deprecated shim", "documented elsewhere", "no docstring", "not accessible"]


@dataclass(frozen=True, slots=True)
class Found:
    """One public name and what it documents."""

    name: str
    place: str
    """Where the object is defined; the same for every name of one object."""
    text: str = ""
    """The docstring, indentation removed; empty where there is a reason."""
    reason: Reason = ""
    """Why the name gives no document; empty where it may."""
    detail: str = ""


def walk(package: str) -> Iterator[Found]:
    """Yield every public name of a package, modules and classes before their members.

    Nothing but imports, module `__getattr__` and class-level descriptors of the package is run, and
    warnings raised on the way are not shown.

    Raises:
        ConfigError: the package is not installed or does not import.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield from _walk_module(package, _imported(package), package.split(".")[0], ())


def _imported(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{package}: not installed ({error}); run `pip install {package}` or mend ingest.sources in params.yaml"
        ) from None
    except Exception as error:  # code of others may raise anything
        raise ConfigError(
            f"{package}: does not import: {_named(error)}; mend that installation or ingest.sources in params.yaml"
        ) from None


# --- modules ---------------------------------------------------------------------------------------


def _walk_module(name: str, module: ModuleType, root: str, outer: tuple[ModuleType, ...]) -> Iterator[Found]:
    yield _described(name, module.__name__, module.__doc__)
    for member in _public_names(module, root):
        full = f"{name}.{member}"
        value, shim, error = _member(module, member)
        if error:
            yield Found(full, f"{module.__name__}.{member}", reason="not accessible", detail=error)
        elif shim:
            yield Found(full, f"{module.__name__}.{member}", reason="deprecated shim")
        elif not _belongs(_home(value), root):
            yield Found(full, f"{_home(value)}.{member}", reason="documented elsewhere")
        elif _is(value, ModuleType):
            if value not in (*outer, module):
                yield from _walk_module(full, value, root, (*outer, module))
        elif _is(value, type):
            yield from _walk_class(full, value, root, ())
        else:
            yield _described(full, f"{_home(value)}.{_text(value, '__qualname__') or member}", _text(value, "__doc__"))


def _public_names(module: ModuleType, root: str) -> list[str]:
    is_package = hasattr(module, "__path__")
    homes = {
        name: _home(value)
        for name, value in list(vars(module).items())
        if not name.startswith("_") and not _is(value, ModuleType) and _belongs(_home(value), root)
    }
    at_home = {name for name, home in homes.items() if home == module.__name__}
    if declared := getattr(module, "__all__", None) or _declared_for_type_checkers(module):
        return sorted({*declared, *(at_home if is_package else ())})
    below = {name for name, home in homes.items() if _belongs(home, module.__name__)}
    return sorted(below if is_package else at_home)


def _declared_for_type_checkers(module: ModuleType) -> list[str]:
    """`__all__` inside `if TYPE_CHECKING:`, which exists in the source only."""
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, TypeError, SyntaxError):  # no source: compiled, built in, or generated
        return []
    for node in (node for block in tree.body if isinstance(block, ast.If) for node in block.body):
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return [str(name) for name in ast.literal_eval(node.value)]
    return []


def _member(module: ModuleType, name: str) -> tuple[Any, bool, str]:
    """(value, whether it is a deprecated shim, what went wrong)."""
    if name in vars(module):
        return vars(module)[name], False, ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if hasattr(module, name):
                value = getattr(module, name)
            else:
                value = importlib.import_module(f"{module.__name__}.{name}")
        except Exception as error:  # code of others may raise anything; the drop says what
            return None, False, _named(error)
    shim = any(issubclass(one.category, (DeprecationWarning, FutureWarning)) for one in caught)
    return value, shim and not _is(value, ModuleType), ""


# --- classes ---------------------------------------------------------------------------------------


def _walk_class(name: str, cls: type, root: str, outer: tuple[type, ...]) -> Iterator[Found]:
    yield _described(name, f"{cls.__module__}.{cls.__qualname__}", _class_doc(cls, root))
    for member in sorted({attribute for base in cls.__mro__ for attribute in vars(base)} - BOOKKEEPING):
        full = f"{name}.{member}"
        definer = next(base for base in cls.__mro__ if member in vars(base))
        raw = vars(definer)[member]
        place = f"{definer.__module__}.{definer.__qualname__}.{member}"
        if member.startswith("_"):
            if _belongs(definer.__module__, root) and (text := _attribute_doc(raw)):
                yield Found(full, place, inspect.cleandoc(text), "private")
            continue
        inner, error = _class_behind(raw, cls, f"{definer.__qualname__}.{member}")
        if error:
            yield Found(full, place, reason="not accessible", detail=error)
        elif inner is not None and _belongs(inner.__module__, root):
            if inner not in (*outer, cls):
                yield from _walk_class(full, inner, root, (*outer, cls))
        elif hasattr(type(raw), "__get__"):
            yield _attribute(full, place, cls, member, root)


def _class_doc(cls: type, root: str) -> str | None:
    docs = (vars(base).get("__doc__") for base in cls.__mro__ if _belongs(base.__module__, root))
    return next((doc for doc in docs if isinstance(doc, str) and doc.strip()), None)


def _class_behind(raw: Any, cls: type, qualified: str) -> tuple[type | None, str]:
    """The class that an attribute stands for: a nested class, or what an accessor gives; else None."""
    if _is(raw, type):
        return (raw if raw.__qualname__ == qualified else None), ""
    kind = type(raw)
    if not hasattr(kind, "__get__") or hasattr(kind, "__set__") or callable(raw):
        return None, ""
    try:
        value = raw.__get__(None, cls)
    except Exception as error:  # code of others may raise anything; the drop says what
        return None, _named(error)
    return (value if _is(value, type) else None), ""


def _attribute(full: str, place: str, cls: type, member: str, root: str) -> Found:
    """The nearest docstring along the bases counts if it is the package's own."""
    docs = [(base, doc) for base in cls.__mro__ if (doc := _attribute_doc(vars(base).get(member)))]
    if not docs:
        return Found(full, place, reason="no docstring")
    definer, text = docs[0]
    foreign = {inspect.cleandoc(doc) for base, doc in docs if not _belongs(base.__module__, root)}
    made_in = _text(vars(definer)[member], "__module__")
    if (
        not _belongs(definer.__module__, root)
        or inspect.cleandoc(text) in foreign  # a copy of the inherited text
        or (made_in and not _belongs(made_in, root))
    ):
        return Found(full, place, reason="documented elsewhere")
    return _described(full, place, text)


def _attribute_doc(raw: Any) -> str:
    """An attribute's own docstring, not that of its type."""
    doc = _text(raw, "__doc__")
    return doc if doc.strip() and doc != _text(type(raw), "__doc__") else ""


# --- both ------------------------------------------------------------------------------------------


def _described(name: str, place: str, doc: str | None) -> Found:
    text = inspect.cleandoc(doc or "").strip()
    return Found(name, place, text) if text else Found(name, place, reason="no docstring")


def _home(value: Any) -> str:
    """The module that an object, or its type, was made in."""
    if _is(value, ModuleType):
        return str(value.__name__)
    return _text(value, "__module__") or type(value).__module__


def _belongs(module: object, root: str) -> bool:
    return isinstance(module, str) and (module == root or module.startswith(f"{root}."))


def _is(value: object, kind: type) -> bool:
    """`isinstance` that a proxy object cannot deceive or break."""
    return issubclass(type(value), kind)


def _text(value: Any, attribute: str) -> str:
    """An attribute that should be text; empty where it is not, or cannot be had."""
    try:
        found = getattr(value, attribute, "")
    except Exception:  # a proxy may raise anything; it then has no such text
        return ""
    return found if isinstance(found, str) else ""


def _named(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
