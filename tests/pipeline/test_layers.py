"""Imports point one way only, and a library is used in one place."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tools.deps import closure, imported_names, module_file

NOUNS = {
    "ragline.errors",
    "ragline.types",
    "ragline.spans",
    "ragline.artifacts",
    "ragline.progress",
    "ragline.parallel",
    "ragline.reading",
}
FILES_AND_SEEDS = NOUNS | {"ragline.io", "ragline.repro", "ragline.text"}
MODELS = FILES_AND_SEEDS | {"ragline.builtin", "ragline.inference", "ragline.llm", "ragline.training"}
IDEAS = {
    "ragline.contracts",
    "ragline.corpus",
    "ragline.questions",
    "ragline.retrieval",
    "ragline.generation",
    "ragline.evaluation",
}

MAY_IMPORT: dict[str, set[str]] = {
    "ragline.errors": set(),
    "ragline.types": set(),
    "ragline.artifacts": set(),
    "ragline.progress": set(),
    "ragline.repro": {"ragline.errors"},
    "ragline.parallel": {"ragline.errors"},
    "ragline.spans": {"ragline.types"},
    "ragline.reading": {"ragline.types"},
    "ragline.text": {"ragline.types"},
    "ragline.io": NOUNS,
    "ragline.builtin": {"ragline.errors", "ragline.io"},
    "ragline.inference": FILES_AND_SEEDS,
    "ragline.training": FILES_AND_SEEDS,
    "ragline.llm": FILES_AND_SEEDS,
    # The ideas never meet each other: what one needs of another comes in as an argument.
    "ragline.contracts": FILES_AND_SEEDS,
    "ragline.corpus": MODELS,
    "ragline.questions": MODELS,
    "ragline.retrieval": MODELS,
    "ragline.generation": MODELS,
    "ragline.evaluation": MODELS,
    "ragline.reporting": MODELS,
    # They meet here.
    "ragline.assessment": MODELS | IDEAS | {"ragline.qa", "ragline.abstention", "ragline.distractors"},
    "ragline.distractors": FILES_AND_SEEDS | {"ragline.abstention", "ragline.evaluation", "ragline.generation"},
    "ragline.abstention": FILES_AND_SEEDS
    | {"ragline.evaluation", "ragline.generation", "ragline.qa", "ragline.retrieval"},
    "ragline.scoreboard": FILES_AND_SEEDS | {"ragline.assessment", "ragline.evaluation", "ragline.qa"},
    "ragline.qa": MODELS | IDEAS,
    "ragline.guardrails": {"ragline.errors", "ragline.types", "ragline.generation"},
    "ragline.conversation": MODELS | IDEAS | {"ragline.qa", "ragline.guardrails", "ragline.runtime"},
    "ragline.terminal": {
        "ragline.conversation",
        "ragline.errors",
        "ragline.qa",
        "ragline.retrieval",
        "ragline.types",
    },
    "ragline.question_params": {"ragline.questions", "ragline.retrieval", "ragline.runtime", "ragline.types"},
    "ragline.authoring": MODELS | IDEAS | {"ragline.runtime", "ragline.question_params", "ragline.vetting"},
    "ragline.vetting": MODELS | IDEAS,
    "ragline.answer_params": MODELS | {"ragline.generation", "ragline.runtime"},
    "ragline.judging": MODELS | {"ragline.evaluation", "ragline.runtime"},
    "ragline.distillation": MODELS | IDEAS,
    "ragline.promotion": FILES_AND_SEEDS | {"ragline.evaluation", "ragline.runtime"},
    "ragline.tracking": FILES_AND_SEEDS | {"ragline.builds", "ragline.promotion", "ragline.runtime"},
    "ragline.runtime": {"ragline.errors", "ragline.artifacts"},
    "ragline.revisions": {"ragline.errors", "ragline.artifacts", "ragline.runtime"},
    "ragline.builds": FILES_AND_SEEDS | {"ragline.promotion", "ragline.revisions", "ragline.runtime"},
    "ragline.comparing": FILES_AND_SEEDS | {"ragline.builds", "ragline.evaluation", "ragline.revisions"},
    "ragline.side_by_side": {"ragline.comparing"},
    "ragline.sweeps": {"ragline.builds", "ragline.comparing", "ragline.errors"},
    "ragline.foresight": MODELS
    | IDEAS
    | {
        "ragline.answer_params",
        "ragline.assessment",
        "ragline.authoring",
        "ragline.judging",
        "ragline.question_params",
        "ragline.reading",
        "ragline.runtime",
        "ragline.vetting",
    },
    "ragline.retention": {
        "ragline.errors",
        "ragline.artifacts",
        "ragline.promotion",
        "ragline.runtime",
        "ragline.tracking",
    },
    "ragline.recording": {"ragline.errors", "ragline.artifacts", "ragline.io"},
    "ragline.doctor": {
        "ragline.errors",
        "ragline.artifacts",
        "ragline.runtime",
        "ragline.llm",
        "ragline.retention.disk",
        "ragline.retention.rules",
    },
    "ragline.cli": {"ragline"},
    "stages": {"ragline"},
    "flows": {
        "ragline.errors",
        "ragline.artifacts",
        "ragline.runtime",
        "ragline.builds",
        "ragline.comparing",
        "ragline.promotion",
        "ragline.recording",
        "ragline.retention",
        "ragline.sweeps",
    },
    "tools": {"ragline"},
}
"""A layer may import itself and what is listed; everything else in the project is out of bounds."""

OWNERS: dict[str, tuple[str, ...]] = {
    "apprise": ("flows",),
    "bm25s": ("ragline.retrieval",),
    "datasketch": ("ragline.corpus", "ragline.evaluation"),
    "dvc": ("flows", "ragline.revisions", "ragline.retention.dvc_cache"),  # what lies in its cache or remote
    "evaluate": ("ragline.evaluation",),
    "hydra": ("flows",),  # what DVC reads overrides with
    "faiss": ("ragline.retrieval",),
    "jinja2": ("ragline.reporting",),
    "mlflow": ("ragline.tracking",),
    "networkx": ("flows",),
    "openai": ("ragline.llm",),
    "openvino": ("ragline.inference",),
    "prefect": ("flows",),
    "psutil": ("ragline.runtime", "flows"),
    "py3langid": ("ragline.evaluation",),
    "pyarrow": ("ragline.io",),
    "rouge_score": ("ragline.evaluation",),
    "peft": ("ragline.generation", "ragline.retrieval"),
    "ruamel": ("ragline.runtime", "tools"),
    "sacrebleu": ("ragline.evaluation",),
    "semantic_text_splitter": ("ragline.corpus",),
    "sentence_transformers": ("ragline.retrieval", "ragline.inference"),
    "yaml": ("ragline.runtime", "flows"),
}
"""Libraries that only one place may import."""

TYPES_ONLY = {}
"""Modules that name a library's types in signatures, without using it."""

FILES = [path for top in ("ragline", "stages", "flows", "tools") for path in sorted((ROOT / top).rglob("*.py"))]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def within(module: str, layer: str) -> bool:
    return module == layer or module.startswith(layer + ".")


def forbidden(module: str, names: set[str]) -> list[str]:
    """The imports that this module may not have."""
    layer = next(name for name in MAY_IMPORT if within(module, name))
    allowed = MAY_IMPORT[layer] | {layer}
    ours = {name for name in names if name != "ragline" and module_file(".".join(name.split(".")[:2]))}
    theirs = {name.split(".")[0] for name in names} - {name for own, name in TYPES_ONLY if own == module}
    return sorted(
        [name for name in ours if not any(within(name, other) for other in allowed)]
        + [name for name in theirs & OWNERS.keys() if not any(within(module, owner) for owner in OWNERS[name])]
    )


@pytest.mark.parametrize("path", [path for path in FILES if module_name(path) != "ragline"], ids=module_name)
def test_imports_point_down(path):
    module = module_name(path)
    assert any(within(module, layer) for layer in MAY_IMPORT), f"{module} belongs to no layer: give it one"
    assert forbidden(module, imported_names(path)) == []


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("ragline.retrieval.train", "ragline.evaluation.retrieval"),
        ("ragline.corpus.files", "ragline.runtime.params"),
        ("ragline.io", "ragline.corpus"),
        ("ragline.qa", "stages.chunk"),
        ("stages.chunk", "flows.pipeline"),
        ("flows.pipeline", "ragline.io"),
        ("stages.report", "yaml"),
        ("ragline.qa", "faiss"),
        ("ragline.runtime.stage", "prefect.flows"),
    ],
)
def test_the_check_sees_an_import_that_points_up_or_sideways(module, name):
    assert forbidden(module, {name}) == [name if name.split(".")[0] not in OWNERS else name.split(".")[0]]


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.name == "__init__.py" and "ragline" in p.parts], ids=module_name
)
def test_packages_hold_no_code(path):
    """Deps in dvc.yaml leave out `__init__.py`, so nothing there may decide an output."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        version = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__"
        assert docstring or version, f"{path}:{node.lineno}: move this into a module"


def test_closure_follows_imports_inside_functions_and_through_others(tmp_path):
    for name, content in {
        "a.py": "import os\ndef f():\n    from ragline.b import g\n",
        "b.py": "from ragline import c\n",
        "c.py": "from ragline import a\n",
        "d.py": "",
    }.items():
        (tmp_path / "ragline").mkdir(exist_ok=True)
        (tmp_path / "ragline" / name).write_text(content)
    found = closure(tmp_path / "ragline" / "a.py", tmp_path)
    assert sorted(path.name for path in found) == ["a.py", "b.py", "c.py"]


def test_relative_imports_are_refused(tmp_path):
    (tmp_path / "a.py").write_text("import os\nfrom . import b\n")
    with pytest.raises(ValueError, match=r"a\.py:2: relative import"):
        closure(tmp_path / "a.py", tmp_path)
