"""Is the challenger better than the champion? Decided by paired intervals on the questions both were asked.

The challenger wins when the interval of the target's difference lies above 0, and no guarded measure's interval reaches
below minus its margin (non-inferiority). Every condition has to hold at once, so no correction for their number is due:
each further guard makes a wrong promotion rarer (Berger 1982, intersection-union tests).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ragline.evaluation import significance

Values = Mapping[str, float]
"""question → value in [0, 1], higher is better."""


@dataclass(frozen=True)
class Measure:
    """What is compared, and how much of it may be lost."""

    set: str
    metric: str
    margin: float
    """A regression up to this size is accepted; of the target's too, where no gain is asked for."""

    @property
    def name(self) -> str:
        """As the reasons say it."""
        return f"{self.metric} on {self.set}"


@dataclass(frozen=True)
class Rules:
    """When a challenger wins."""

    min_questions: int
    """Questions in common below which nothing is decided, for every measure."""
    level: float
    """Of every interval."""
    resamples: int
    seed: int
    gain_asked: bool = True
    """Whether the target has to gain, or only must not lose."""


@dataclass(frozen=True)
class Scored:
    """One measure of both systems."""

    measure: Measure
    challenger: Values
    champion: Values


@dataclass(frozen=True)
class Decision:
    """What the gate decided, in words and figures."""

    promoted: bool
    reason: str
    table: str = ""
    """The comparisons in Markdown; empty where none was made."""
    version: str = ""
    """The champion from now on; empty where there is none."""


def decide(scored: Sequence[Scored], clusters: Mapping[str, str], rules: Rules) -> Decision:
    """Weigh a challenger against the champion.

    Args:
        scored: the target first, then the guards. Questions that only one system was asked are left out.
        clusters: question → document cluster, of the challenger's questions.
    """
    for one in scored:
        if fault := _unfit(one, rules.min_questions):
            return Decision(False, f"kept: {fault}")
    compared = [(one.measure, _paired(one, clusters, rules)) for one in scored]
    table = _table(scored, compared)
    (target, gain), *guarded = compared
    if not rules.gain_asked:
        guarded = compared
    for measure, found in guarded:
        if found.low < -measure.margin:
            return Decision(
                False, f"kept: a loss of more than {measure.margin:g} is not excluded: {_said(measure, found)}", table
            )
    if rules.gain_asked and gain.low <= 0:
        return Decision(False, f"kept: no gain is shown: {_said(target, gain)}", table)
    why = "better" if rules.gain_asked else "not worse, over other documents"
    return Decision(True, f"promoted: {why}: {_said(target, gain)}; no guarded measure fell beyond its margin", table)


def unusable(values: Values) -> str:
    """What is wrong with one system's values; empty if nothing is."""
    odd = sorted(q for q, value in values.items() if not (math.isfinite(value) and 0 <= value <= 1))
    return f"{len(odd)} of {len(values)} values are no numbers in [0, 1], first {values[odd[0]]}" if odd else ""


def _unfit(one: Scored, least: int) -> str:
    """Why this measure cannot be compared; empty if it can."""
    for system, values in (("challenger", one.challenger), ("champion", one.champion)):
        if fault := unusable(values):
            return f"{one.measure.name}: the {system}'s {fault}; run `dvc repro evaluate`"
    common = len(one.challenger.keys() & one.champion.keys())
    if not common:
        return (
            f"{one.measure.name}: challenger and champion have no question in common: another corpus or other "
            f"questions; look at both, then `ragline promote --anyway`"
        )
    if common < least:
        return (
            f"{one.measure.name}: too few questions: {common} in common, of {len(one.challenger)}; expected at least "
            f"{least}: ask more, or lower promotion.min_questions"
        )
    return ""


def _paired(one: Scored, clusters: Mapping[str, str], rules: Rules) -> significance.Paired:
    common = sorted(one.challenger.keys() & one.champion.keys())
    first, second = ({q: values[q] for q in common} for values in (one.challenger, one.champion))
    return significance.paired(first, second, clusters, rules.resamples, rules.seed, rules.level)


def _said(measure: Measure, found: significance.Paired) -> str:
    return (
        f"{measure.name} {found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}], "
        f"n = {found.n} in {found.n_clusters} clusters"
    )


def _table(scored: Sequence[Scored], compared: Sequence[tuple[Measure, significance.Paired]]) -> str:
    lines = [
        "| measure | champion | challenger | difference | interval | margin | n |",
        "|---|---|---|---|---|---|---|",
    ]
    for one, (measure, found) in zip(scored, compared, strict=True):
        common = one.challenger.keys() & one.champion.keys()
        old = math.fsum(one.champion[q] for q in common) / len(common)
        lines.append(
            f"| {measure.name} | {old:.3f} | {old + found.difference:.3f} | {found.difference:+.3f} | "
            f"[{found.low:+.3f}, {found.high:+.3f}] | {measure.margin:g} | {found.n} |"
        )
    return "\n".join(lines)
