"""Keep the code deps in dvc.yaml equal to what each stage imports: `python -m tools.deps [--check]`.

DVC does not follow imports, so a stage names every file of ours that it uses, directly or through others, and the
templates beside them. What cannot change an output is left out, see `NOT_DEPS`.
"""

import argparse
import ast
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]

READ_BY_CODE = ("templates", "suites", "prompts")
"""Folders beside a module that it reads."""
NOT_DEPS = ("ragline/errors.py", "ragline/artifacts.py", "ragline/progress.py", "ragline/runtime/")
"""They report, name files or read settings; an output changes only when dvc.yaml or params.yaml change with them."""

CODE = ("ragline/", "stages/")


def module_file(module: str, root: Path = ROOT) -> Path | None:
    """The file of a module of ours; None for a library, or for a name inside a module."""
    base = root.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def imported_names(path: Path) -> set[str]:
    """Everything a file imports anywhere in it, dotted: modules, and what is taken from them.

    Raises:
        ValueError: a relative import.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level or node.module is None:
                raise ValueError(f"{path}:{node.lineno}: relative import; expected `from ragline.… import`")
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def closure(path: Path, root: Path = ROOT) -> set[Path]:
    """A file and every file of ours that it imports, directly or through others."""
    todo, seen = [path], set[Path]()
    while todo:
        if (current := todo.pop()) not in seen:
            seen.add(current)
            todo += [found for name in imported_names(current) if (found := module_file(name, root))]
    return seen


def code_deps(stage: str, root: Path = ROOT) -> list[str]:
    """The code that decides a stage's outputs: its own file first, then modules and the files they read, by name."""
    own = root / "stages" / f"{stage}.py"
    modules = {path for path in closure(own, root) - {own} if path.name != "__init__.py"}
    read = {file for path in modules for folder in READ_BY_CODE for file in (path.parent / folder).glob("*.*")}
    names = (path.relative_to(root).as_posix() for path in modules | read)
    return [f"stages/{stage}.py", *sorted(name for name in names if not name.startswith(NOT_DEPS))]


def path_of(entry: str | Mapping[str, Any]) -> str:
    """The path of a dep, out, metric or plot, with or without options."""
    return entry if isinstance(entry, str) else next(iter(entry))


def is_code(path: str) -> bool:
    """Whether a dep is a file of ours, as opposed to an artifact."""
    return path.startswith(CODE)


def wanted(stage: str, deps: Iterable[Any], root: Path = ROOT) -> list[Any]:
    """A stage's deps as they should be: the code, then the artifacts as they are written now."""
    return [*code_deps(stage, root), *(dep for dep in deps if not is_code(path_of(dep)))]


def main() -> int:
    """Rewrite dvc.yaml, or with --check only say what differs."""
    parser = argparse.ArgumentParser(description="Make the code deps in dvc.yaml equal to the stages' imports.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where something differs")
    check = parser.parse_args().check

    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    path = ROOT / "dvc.yaml"
    pipeline = yaml.load(path)
    stale = False
    for stage, entry in pipeline["stages"].items():
        deps = wanted(stage, entry["deps"])
        now, then = {path_of(dep) for dep in entry["deps"]}, {path_of(dep) for dep in deps}
        if now != then:
            stale = True
            print(f"{stage}: missing {sorted(then - now)}, superfluous {sorted(now - then)}")
            entry["deps"][:] = deps
    if stale and not check:
        yaml.dump(pipeline, path)
    return int(stale and check)


if __name__ == "__main__":
    sys.exit(main())
