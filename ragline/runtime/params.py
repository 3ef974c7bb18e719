"""params.yaml, one typed section a stage."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from ragline.artifacts import PARAMS, RAW, SETTINGS, STAGES
from ragline.errors import ConfigError


class Section(BaseModel):
    """Base of every section: frozen, unknown keys refused, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    borrows: ClassVar[dict[str, str]] = {}
    """Fields that stand in another stage's section, as `section.key`: said once, read by both."""


S = TypeVar("S", bound=Section)


def _watched(path: str) -> str:
    if not Path(path).is_relative_to(RAW) or ".." in Path(path).parts:
        raise ValueError(f"sources must stand in {RAW}, where DVC sees them change; copy or link them there")
    return path


Watched = Annotated[str, AfterValidator(_watched)]
"""A path under data/raw."""


def read_params(path: Path) -> dict[str, Any]:
    """The whole file as plain data, its section names checked.

    Raises:
        ConfigError: the file is missing, is not YAML, or names a section no stage has.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: not found; run this in the project's root") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected sections, one a stage, got {type(content).__name__}")
    if unknown := sorted(str(name) for name in content.keys() - {*STAGES, *SETTINGS}):
        known = ", ".join((*STAGES, *SETTINGS))
        raise ConfigError(f"{path}: no stage reads {', '.join(unknown)}; expected sections among {known}")
    return content


def load_section(name: str, schema: type[S], path: Path = PARAMS) -> S:
    """Validate one section; every fault is reported at once.

    Raises:
        ConfigError: one line naming each wrong key, what was expected and what came.
    """
    content = read_params(path)
    values = content.get(name)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: section {name!r} is missing or empty; expected keys {', '.join(_own(schema))}")
    borrowed = {}
    for field, place in schema.borrows.items():
        section, _, key = place.partition(".")
        if key not in (content.get(section) or {}):
            raise ConfigError(f"{path}: {place} is missing; stage {name} reads it, too")
        borrowed[field] = content[section][key]
    try:
        return schema.model_validate(values | borrowed)
    except ValidationError as error:
        raise ConfigError(f"{path}: " + "; ".join(_fault(name, schema, fault) for fault in error.errors())) from None


def _fault(section: str, schema: type[Section], fault: Any) -> str:
    place = ".".join(str(part) for part in (section, *fault["loc"]))
    if fault["loc"] and fault["loc"][0] in schema.borrows:
        place = schema.borrows[fault["loc"][0]]
    if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1:
        return f"{place}: unknown key; expected one of {', '.join(_own(schema))}"
    got = "" if fault["type"] == "missing" else f", got {fault['input']!r}"
    return f"{place}: {fault['msg'].removeprefix('Value error, ')}{got}"


def _own(schema: type[Section]) -> list[str]:
    return [field.alias or name for name, field in schema.model_fields.items() if name not in schema.borrows]
