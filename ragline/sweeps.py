"""Variants of one build, side by side on dev: which is chosen, and what test says of it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ragline import comparing
from ragline.builds import Build
from ragline.comparing import Paired
from ragline.errors import ConfigError, RaglineError

DEV, TEST = "dev", "test"
ENOUGH = 0.8
"""Share of the base's questions that a variant must have been asked, too, to be chosen."""

Ended = Literal["Completed", "Failed"]


@dataclass(frozen=True, slots=True)
class Variant:
    """One setting of params, and what became of it."""

    name: str
    """Of its experiment, for `dvc exp` and `ragline compare`."""
    overrides: tuple[str, ...]
    """As `dvc exp run -S` takes them; empty for the base."""
    ended: Ended
    did: str
    """What its stages did, or why it failed; one line."""
    seconds: float
    value: float | None = None
    """Mean of the metric over all its dev questions; None where it failed."""
    n: int = 0
    """Dev questions that have a value."""
    paired: Paired | None = None
    """Against the base, over the questions both were asked; None for the base, and where there are none."""

    @property
    def label(self) -> str:
        """What was set."""
        return " ".join(self.overrides) or "base"


@dataclass(frozen=True, slots=True)
class Test:
    """What test says of the variant that dev chose."""

    __test__ = False  # for pytest: no test of its own

    name: str
    """Of the experiment that was built whole."""
    paired: Paired | None
    """Against the base."""
    missing: str = ""
    """Why there is none."""


def measured(tried: Sequence[Variant], build: Callable[[Variant], Build], metric: str) -> list[Variant]:
    """The variants with their figures on dev; one whose files are not to be had counts as failed.

    Args:
        tried: the base first.
        build: reads what a variant has made.
    """
    found: dict[str, Build] = {}
    variants = []
    for variant in tried:
        try:
            if variant.ended == "Completed":
                found[variant.name] = build(variant)
        except RaglineError as error:
            variant = replace(variant, ended="Failed", did=f"failed: {error}")
        variants.append(_figures(variant, found.get(tried[0].name), found.get(variant.name), metric))
    return variants


def _figures(variant: Variant, base: Build | None, own: Build | None, metric: str) -> Variant:
    values = own.values.get((DEV, metric), {}) if own else {}
    if not values or base is None or own is None:
        return variant
    paired = _row(base, own, DEV, metric) if variant.overrides else None
    return replace(variant, value=math.fsum(values.values()) / len(values), n=len(values), paired=paired)


def _row(base: Build, own: Build, name: str, metric: str) -> Paired | None:
    rows = comparing.compare("base", base, own).paired
    return next((row for row in rows if (row.set, row.metric) == (name, metric)), None)


def read_test(whole: Sequence[Variant], build: Callable[[Variant], Build], metric: str) -> Test | None:
    """The one reading of test.

    Args:
        whole: base and chosen variant, built with every stage; empty where the base stays.
    """
    if not whole:
        return None
    base, own = whole
    if failed := [one for one in whole if one.ended == "Failed"]:
        return Test(own.name, None, failed[0].did)
    found = _row(build(base), build(own), TEST, metric)
    return Test(own.name, found, "" if found else "no question in common with the base")


def choose(variants: Sequence[Variant]) -> Variant:
    """The variant that dev prefers: the greatest gain over the base on the questions both were asked.

    The base stays where nothing gains, and the earlier of two equals. A variant that shares too few questions with it,
    as other passages can make other questions, is not chosen: its gain would be one over other questions.

    Args:
        variants: the base first.

    Raises:
        ConfigError: the base failed, so there is nothing to compare with.
    """
    base, *others = variants
    if base.ended == "Failed":
        raise ConfigError(f"{base.name}: the base itself, expected to run, {base.did}; mend it with `dvc repro`")
    best, gain = base, 0.0
    for variant in others:
        if variant.paired and comparable(variant, base) and variant.paired.difference > gain:
            best, gain = variant, variant.paired.difference
    return best


def comparable(variant: Variant, base: Variant) -> bool:
    """Whether a variant was asked enough of the base's questions to be chosen."""
    return variant.paired is not None and variant.paired.n >= ENOUGH * base.n


def table(variants: Sequence[Variant], metric: str) -> list[str]:
    """Markdown: a row a variant, the base first, each against it on dev."""
    rows = [
        f"| variant | {metric} on dev | n | change | 95 % interval | in common | won | lost | seconds | what ran |",
        "|---|---:|---:|---:|---|---:|---:|---:|---:|---|",
    ]
    for variant in variants:
        own = ("", "") if variant.value is None else (f"{variant.value:.3f}", str(variant.n))
        cells = [variant.label, *own, *_against_base(variant), f"{variant.seconds:.0f}", variant.did]
        rows.append(f"| {' | '.join(map(_cell, cells))} |")
    return rows


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _against_base(variant: Variant) -> tuple[str, str, str, str, str]:
    found = variant.paired
    if found is None:
        return ("", "", "no question in common" if variant.overrides and variant.value is not None else "", "", "")
    return (f"{found.difference:+.3f}", _interval(found), str(found.n), str(found.wins), str(found.losses))


def _interval(found: Paired) -> str:
    return f"[{found.low:+.3f}, {found.high:+.3f}]"


def verdict(variants: Sequence[Variant], chosen: Variant, metric: str, test: Test | None) -> list[str]:
    """What was chosen, among how many, what that makes of dev's figure, and what test says.

    Args:
        test: chosen against base; None where the base stays.
    """
    base = variants[0]
    failed = sum(variant.ended == "Failed" for variant in variants)
    tried = f"{len(variants)} variants" + (f", of which {failed} failed" if failed else "")
    few = [v.label for v in variants[1:] if v.ended == "Completed" and not comparable(v, base)]
    lines = [f"not to be chosen, under {ENOUGH:.0%} of the base's questions in common: {', '.join(few)}"] if few else []
    if test is None:
        return [*lines, f"chosen on dev among {tried}: base; nothing gains in {metric}. Test was not read."]
    return [
        *lines,
        f"chosen on dev among {tried}: {chosen.label}. As the best of them on dev, its dev figure is optimistic, and "
        f"no interval above is corrected for the choice. Test is read once, for it and the base alone:",
        f"{metric} on test: {_said(test)}",
        f"look at it: ragline compare {test.name}; adopt it: dvc exp apply {test.name}",
    ]


def _said(test: Test) -> str:
    found = test.paired
    if found is None:
        return test.missing
    return (
        f"base {found.before:.3f}, chosen {found.after:.3f}, change {found.difference:+.3f} {_interval(found)}, "
        f"n = {found.n} in {found.n_clusters} clusters of documents"
    )
