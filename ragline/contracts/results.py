"""What Great Expectations says of a table, one outcome for each rule of its suite."""

import gc
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ragline import io
from ragline.contracts.suite import KINDS, SUITES, TEXT, Rule, to_library
from ragline.contracts.tables import ids_of
from ragline.contracts.verdict import EXAMPLES, Broken, Example, Held, shortened, shown
from ragline.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

_BATCH_CHARACTERS = 20_000_000


def outcomes(
    rules: Sequence[Rule],
    suite: str,
    frame: "pd.DataFrame",
    texts: Iterable[str | None] | None,
    parameters: Mapping[str, float],
) -> list[Broken | Held]:
    """One outcome for each rule, in their order."""
    ids = ids_of(frame, io.SCHEMAS[KINDS[suite]].names[0])
    others = [rule for rule in rules if TEXT not in rule.columns]
    seen = frame[sorted(frozenset[str]().union(*(rule.columns for rule in others)))]
    found: dict[Rule, Broken | Held] = {}
    for rule, result in _validated(suite, others, seen, parameters):
        found[rule] = as_held(rule) if result.success else _broken(rule, result.result, ids)
    about_texts = [rule for rule in rules if TEXT in rule.columns]
    start = 0
    for batch in _batches(texts or ()) if about_texts else ():
        here = ids[start : start + len(batch)].reset_index(drop=True)
        start += len(batch)
        for rule, result in _validated(suite, about_texts, batch, parameters):
            outcome = as_held(rule) if result.success else _broken(rule, result.result, here)
            found[rule] = _joined(found.get(rule), outcome, len(ids))
        gc.collect()  # Great Expectations' objects hold each other, and the batch
    return [found[rule] for rule in rules]


def _batches(texts: Iterable[str | None]) -> Iterator["pd.DataFrame"]:
    """The column of texts, piece by piece; one empty piece where there are none."""
    import pandas as pd

    batch: list[str | None] = []
    room = _BATCH_CHARACTERS
    for text in texts:
        batch.append(text)
        room -= len(text or "")
        if room < 0:
            yield pd.DataFrame({TEXT: pd.Series(batch, dtype="str")})
            batch, room = [], _BATCH_CHARACTERS
    yield pd.DataFrame({TEXT: pd.Series(batch, dtype="str")})


def _joined(before: Broken | Held | None, outcome: Broken | Held, rows: int) -> Broken | Held:
    """What two batches say together."""
    if isinstance(outcome, Held):
        return before or outcome
    if not isinstance(before, Broken):
        return replace(outcome, rows=rows)
    examples = (*before.examples, *outcome.examples)[:EXAMPLES]
    return replace(before, count=before.count + outcome.count, examples=examples)


def _validated(
    name: str, rules: Sequence[Rule], frame: "pd.DataFrame", parameters: Mapping[str, float]
) -> Iterator[tuple[Rule, Any]]:
    """Each rule with what Great Expectations says of it."""
    import great_expectations as gx

    path = SUITES / f"{name}.json"
    context: Any = gx.get_context(mode="ephemeral")  # one for each frame, as it holds on to those it has seen
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    suite = context.suites.add(to_library(name, rules, path))
    asset = context.data_sources.add_pandas("tables").add_dataframe_asset(name)
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name=name, data=asset.add_batch_definition_whole_dataframe("all"), suite=suite)
    )
    results: list[Any] = definition.run(
        batch_parameters={"dataframe": frame},
        expectation_parameters=dict(parameters),
        result_format={"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLES},
    ).results
    if len(results) != len(rules):
        raise ConfigError(f"{path}: expected {len(rules)} results, Great Expectations gave {len(results)}")
    for result in results:
        rule = rules[result.expectation_config.meta["rule"]]
        if (result.exception_info or {}).get("raised_exception"):
            reason = " ".join(str(result.exception_info["exception_message"]).split())
            raise ConfigError(f"{path}: {rule.type}: {rule.says}: cannot be checked: {reason}; mend its kwargs")
        yield rule, result


def as_held(rule: Rule) -> Held:
    """The rule as one that is met, or was not checked."""
    return Held(rule.severity, rule.says, _about(rule))


def _about(rule: Rule) -> str:
    return rule.column or str(rule.kwargs.get("column", ""))


def _broken(rule: Rule, result: Mapping[str, Any], ids: "pd.Series[str]") -> Broken:
    if "unexpected_count" not in result:  # about the table as a whole
        return Broken(rule.severity, rule.says, _about(rule), int(result["observed_value"]), len(ids), (), rule.do)
    show: Callable[[Any], str] = shown
    if rule.type == "expect_column_values_to_not_match_regex":
        show = partial(_matched, pattern=re.compile(rule.kwargs["regex"]))
    elif rule.type == "expect_column_values_to_be_null":
        show = _explained
    values, rows = result["partial_unexpected_list"], result["partial_unexpected_index_list"]
    examples = tuple(Example(ids[row], show(value)) for row, value in list(zip(rows, values, strict=False))[:EXAMPLES])
    count, held_against = int(result["unexpected_count"]), int(result["element_count"])
    return Broken(rule.severity, rule.says, _about(rule), count, held_against, examples, rule.do)


def _explained(fault: str) -> str:
    """The text of a derived column, on one line."""
    return shortened("".join(char if char.isprintable() else repr(char)[1:-1] for char in fault))


def _matched(text: str, pattern: re.Pattern[str]) -> str:
    """The place in a text where a pattern matches, with some of what stands around it."""
    found = pattern.search(text)
    start, end = found.span() if found else (0, 0)
    return shown(text[max(start - 20, 0) : min(end, start + 40) + 20])
