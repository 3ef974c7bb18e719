"""Suites of expectations: JSON files of Great Expectations under `suites/`.

The meta of each expectation says in plain words what is expected (`says`), what to do where it is not so (`do`), and
the column to name where it looks at a derived one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragline import io
from ragline.contracts.derive import DERIVED
from ragline.contracts.verdict import SEVERITIES, Severity
from ragline.errors import ConfigError, DataError, MissingArtifact
from ragline.types import Document, Passage, QAExample

KINDS: Mapping[str, type] = {"documents": Document, "passages": Passage, "questions": QAExample}
SUITES = Path(__file__).parent / "suites"
FILE = "file"
"""A column added to every table: the stem of the file that a row is from."""
TEXT = "text"
"""The column that is read a batch at a time, for it is as large as the corpus."""

_TEXT_RULES = frozenset(
    "expect_column_values_to_not_be_null expect_column_values_to_match_regex "
    "expect_column_values_to_not_match_regex expect_column_value_lengths_to_be_between".split()
)
"""What can be said of a batch by itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One expectation of a suite, as its file has it."""

    type: str
    kwargs: Mapping[str, Any]
    severity: Severity
    says: str
    do: str
    column: str

    @property
    def columns(self) -> frozenset[str]:
        """Columns that Great Expectations looks at."""
        named = [self.kwargs.get(key) for key in ("column", "column_A", "column_B")]
        return frozenset([name for name in named if name] + self.kwargs.get("column_list", []))


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite that Great Expectations has accepted whole."""

    name: str
    parameters: Mapping[str, float]
    """Values for `$PARAMETER` in the file, where the caller gives none."""
    rules: tuple[Rule, ...]


def load_suite(path: Path) -> Suite:
    """Read a suite, and make sure that Great Expectations takes every expectation of it: it drops what it cannot read.

    Raises:
        MissingArtifact: no such file.
        ConfigError: not a suite of a known table; names the expectation that is misspelt, has wrong arguments, looks at
            a column that there is not, or lacks `severity`, `says` or `do`.
    """
    try:
        spec = io.read_json(path)
        name, entries = spec["name"], spec["expectations"]
        parameters = dict(spec["meta"]["parameters"])
        kind = KINDS[name]
    except (DataError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, MissingArtifact):
            raise
        raise ConfigError(
            f"{path}: not a suite: {error}; expected JSON with name ({', '.join(KINDS)}), meta.parameters, expectations"
        ) from None
    known = {*io.SCHEMAS[kind].names, *DERIVED[name], FILE}
    rules = tuple(_rule(entry, known, f"{path}: expectations[{number}]") for number, entry in enumerate(entries))
    accepted = to_library(name, rules, path).expectations
    if [expectation.expectation_type for expectation in accepted] != [rule.type for rule in rules]:
        raise ConfigError(f"{path}: expected {len(rules)} expectations, Great Expectations kept {len(accepted)}")
    for number, rule in enumerate(rules):
        if TEXT in rule.columns and (rule.type not in _TEXT_RULES or "mostly" in rule.kwargs or len(rule.columns) > 1):
            raise ConfigError(
                f"{path}: expectations[{number}]: {rule.type}: {TEXT!r} is read in batches, of which this cannot be "
                "said; derive a column and look at that"
            )
    return Suite(name, parameters, rules)


def _rule(entry: Mapping[str, Any], known: set[str], place: str) -> Rule:
    try:
        meta = entry["meta"]
        rule = Rule(entry["type"], entry["kwargs"], entry["severity"], meta["says"], meta["do"], meta.get("column", ""))
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{place}: expected type, kwargs, severity, meta.says and meta.do; mend {error}") from None
    if rule.severity not in SEVERITIES:
        raise ConfigError(f"{place}: severity: expected {', '.join(SEVERITIES)}, got {rule.severity!r}")
    if strange := sorted(rule.columns - known):
        raise ConfigError(f"{place}: {rule.type}: no column {strange[0]!r}; expected one of {', '.join(sorted(known))}")
    return rule


def to_library(name: str, rules: Iterable[Rule], path: Path) -> Any:
    """Great Expectations' own suite; the place of a rule goes with it, for results come in another order."""
    import great_expectations as gx
    from great_expectations.exceptions.exceptions import GreatExpectationsError
    from great_expectations.expectations import registry

    suite = gx.ExpectationSuite(name=name)
    for number, rule in enumerate(rules):
        if rule.type not in registry.list_registered_expectation_implementations():
            raise ConfigError(
                f"{path}: expectations[{number}]: Great Expectations {gx.__version__} has no {rule.type!r}; "
                "mend its name"
            )
        entry = {"type": rule.type, "kwargs": dict(rule.kwargs), "severity": rule.severity, "meta": {"rule": number}}
        try:
            suite.expectations += gx.ExpectationSuite(name=name, expectations=[entry]).expectations
        except (GreatExpectationsError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"{path}: expectations[{number}]: {rule.type}: {reason}; mend its kwargs") from None
    return suite
