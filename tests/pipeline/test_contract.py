"""dvc.yaml, params.yaml and the stage files say the same thing."""

import importlib
import inspect
import typing
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from ragline.artifacts import OUTPUTS, PARAMS, SETTINGS, STAGES
from ragline.runtime.params import Section, load_section
from tests.conftest import ROOT
from tools.deps import code_deps, is_code, path_of

PIPELINE = YAML(typ="safe").load(ROOT / "dvc.yaml")
ENTRIES = PIPELINE["stages"]
SECTIONS = YAML(typ="safe").load(ROOT / PARAMS)


def schema(name: str) -> type[Section]:
    """The section that a stage's `main` takes."""
    main = importlib.import_module(f"stages.{name}").main
    params = typing.get_type_hints(main)["params"]
    assert issubclass(params, Section)
    return params


def section_of(name: str) -> str:
    """The section of params.yaml that a stage reads: its own, but both index stages share one."""
    return "build_index" if name == "rebuild_index" else name


def test_stages_are_the_same_everywhere():
    files = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}
    assert files == set(ENTRIES) == set(STAGES) == set(OUTPUTS)
    assert tuple(ENTRIES) == STAGES, "dvc.yaml lists the stages in the order of ragline.artifacts.STAGES"


def test_every_section_is_read_by_a_stage():
    assert set(SECTIONS) == {section_of(name) for name in STAGES} | set(SETTINGS)


@pytest.mark.parametrize("name", STAGES)
def test_command_and_description(name):
    # `python stages/evaluate.py` would shadow the `evaluate` library with the stage itself.
    assert ENTRIES[name]["cmd"] == f"python -m stages.{name}"
    assert ENTRIES[name]["desc"]
    assert (importlib.import_module(f"stages.{name}").__doc__ or "").startswith(f"{name}: ")


@pytest.mark.parametrize("name", STAGES)
def test_params_are_those_the_stage_reads(name):
    section, borrowed = section_of(name), schema(name).borrows
    # A stage's own section as a whole; of another's section, only the keys it reads.
    keys = [f"{section}.{key}" for key in schema(name).model_fields if key not in borrowed]
    own = [name] if section == name else keys
    assert ENTRIES[name]["params"] == [*own, *borrowed.values()]
    source = inspect.getsource(importlib.import_module(f"stages.{name}"))
    named = "" if section == name else f', section="{section}"'
    assert f'run_stage("{name}", main, {schema(name).__name__}{named})' in source


@pytest.mark.parametrize("name", STAGES)
def test_params_file_is_valid(name):
    load_section(section_of(name), schema(name), ROOT / PARAMS)


@pytest.mark.parametrize("name", STAGES)
def test_every_param_is_described_and_has_no_default(name):
    """A default would change results without a trace in params.yaml."""
    for key, field in schema(name).model_fields.items():
        assert field.is_required() or field.default is None, f"{name}.{key} has a default"


def called(part: object) -> set[str]:
    """Names of params in a JSON schema, those of nested models among them."""
    if isinstance(part, dict):
        return {*part.get("properties", {})}.union(*map(called, part.values()))
    return set().union(*map(called, part)) if isinstance(part, list) else set()


@pytest.mark.parametrize("name", STAGES)
def test_no_param_has_a_name_that_the_run_cache_overlooks(name):
    """DVC leaves `size` and `nfiles` out of the key under which it restores outputs: another value's would come."""
    assert called({"properties": {"a": {}}, "$defs": {"B": {"properties": {"size": {}}}}}) == {"a", "size"}
    assert not {"size", "nfiles"} & called(schema(name).model_json_schema())


@pytest.mark.parametrize("name", STAGES)
def test_reads_are_the_deps(name):
    listed = [path_of(dep) for dep in ENTRIES[name]["deps"] if not is_code(path_of(dep))]
    assert sorted(listed) == sorted(map(str, importlib.import_module(f"stages.{name}").READS))


@pytest.mark.parametrize("name", STAGES)
def test_writes_are_the_outs(name):
    entry = ENTRIES[name]
    listed = [path_of(out) for kind in ("outs", "metrics", "plots") for out in entry.get(kind, [])]
    assert sorted(listed) == sorted(map(str, OUTPUTS[name]))
    assert OUTPUTS[name] == importlib.import_module(f"stages.{name}").WRITES


@pytest.mark.parametrize("name", STAGES)
def test_code_deps_are_the_import_closure(name):
    listed = [path_of(dep) for dep in ENTRIES[name]["deps"] if is_code(path_of(dep))]
    assert sorted(listed) == sorted(code_deps(name)), "run `make deps`"


@pytest.mark.parametrize("name", STAGES)
def test_nothing_weakens_the_cache(name):
    """`persist` continues from state made under other params; `cache: false` on a plain output cannot be restored."""
    entry = ENTRIES[name]
    for kind in ("outs", "metrics", "plots"):
        for out in entry.get(kind, []):
            options = next(iter(out.values())) if isinstance(out, dict) else {}
            assert not options.get("persist"), f"{path_of(out)}: persist"
            assert kind != "outs" or options.get("cache", True), f"{path_of(out)}: cache: false"
    assert not entry.get("frozen") and not entry.get("always_changed")


def test_stages_come_after_what_they_read():
    made: set[Path] = set()
    for name in STAGES:
        outputs = {path for paths in OUTPUTS.values() for path in paths}
        reads = set(importlib.import_module(f"stages.{name}").READS)
        early = {path for path in reads if any(path.is_relative_to(out) for out in outputs - made)}
        assert not early, f"{name} reads {early} before it is made"
        made |= set(OUTPUTS[name])
