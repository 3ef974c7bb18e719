"""Variants side by side on dev: figures by hand, the choice, and what is said of it."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from ragline import sweeps
from ragline.builds import Asked, Build
from ragline.errors import ConfigError, MissingArtifact
from ragline.sweeps import Test, Variant
from tests.conftest import ROOT

METRIC = "recall@5"
QUESTIONS = [f"q{number}" for number in range(10)]


def build(found: str, name: str = "dev", skip: int = 0) -> Build:
    """Ten questions, two of each document; `1` where a question is found. The first `skip` are other ones."""
    keys = [f"new {question}" if at < skip else question for at, question in enumerate(QUESTIONS)]
    asked = {key: Asked(name, key, key, f"d{at // 2}") for at, key in enumerate(keys)}
    values = dict(zip(keys, map(float, found), strict=True))
    return Build("label", {}, asked, {(name, METRIC): values}, {})


def variant(name: str, *overrides: str) -> Variant:
    return Variant(name, overrides, "Completed", "ran: evaluate", 2.4)


BUILDS = {
    "base": build("1111100000"),  # 5 of 10
    "more": build("1111111000"),  # 7 of 10: +0.2
    "same": build("0000011111"),  # 5 of 10
    "other": build("1111111111", skip=3),  # all found, but three are other questions: 7 of 10 in common
    "none": build("1111111111", skip=10),
}
TRIED = [variant("base"), *(variant(name, f"chunk.max_tokens={n}") for n, name in enumerate(list(BUILDS)[1:]))]


def read(one: Variant) -> Build:
    if one.name not in BUILDS:
        raise MissingArtifact(f"{one.name}: gone")
    return BUILDS[one.name]


def measured(*tried: Variant) -> list[Variant]:
    return sweeps.measured(tried, read, METRIC)


def test_figures_by_hand():
    base, more, same, other, none = measured(*TRIED)
    assert (base.value, base.n, base.paired) == (0.5, 10, None)
    assert more.value == 0.7 and more.paired
    assert (more.paired.difference, more.paired.wins, more.paired.losses, more.paired.n) == (0.2, 2, 0, 10)
    assert same.paired and (same.paired.difference, same.paired.wins, same.paired.losses) == (0, 5, 5)
    # The base finds questions 3 and 4 of the seven in common: 2/7 → 1.
    assert (
        other.value == 1
        and other.paired
        and (other.paired.n, other.paired.difference) == (7, pytest.approx(5 / 7, abs=1e-6))
    )
    assert none.value == 1 and none.paired is None


def test_the_greatest_gain_over_the_same_questions_wins():
    assert sweeps.choose(measured(*TRIED)).name == "more"  # `other` and `none` share fewer than eight questions with it
    assert sweeps.choose(measured(TRIED[0], TRIED[2])).name == "base"  # nothing gains
    twin = replace(TRIED[1], overrides=("chunk.max_tokens=9",))
    assert sweeps.choose(measured(TRIED[0], twin, TRIED[1])).overrides == ("chunk.max_tokens=9",)  # the earlier of two


def test_what_fails_is_a_row_and_is_not_chosen():
    failed = replace(variant("bad", "chunk.max_tokens=0"), ended="Failed", did="failed: no | luck")
    found = measured(TRIED[0], failed, variant("lost", "chunk.max_tokens=7"), TRIED[1])
    assert [one.ended for one in found] == ["Completed", "Failed", "Failed", "Completed"]
    assert found[2].did == "failed: lost: gone" and sweeps.choose(found).name == "more"
    rows = sweeps.table(found, METRIC)
    assert rows[2] == "| base | 0.500 | 10 |  |  |  |  |  | 2 | ran: evaluate |"
    assert rows[3] == "| chunk.max_tokens=0 |  |  |  |  |  |  |  | 2 | failed: no \\| luck |"
    assert rows[5].startswith("| chunk.max_tokens=0 | 0.700 | 10 | +0.200 | [")
    assert rows[5].endswith("] | 10 | 2 | 0 | 2 | ran: evaluate |")


def test_without_a_base_nothing_is_chosen():
    failed = replace(TRIED[0], ended="Failed", did="failed: no luck")
    with pytest.raises(ConfigError, match="base: the base itself, expected to run, failed: no luck; mend it with"):
        sweeps.choose(measured(failed, TRIED[1]))


def test_what_is_said():
    found = measured(*TRIED)
    whole = [variant("w-base"), variant("w-more", "chunk.max_tokens=0")]
    made = {"w-base": build("1111000000", "test"), "w-more": build("1111110000", "test")}
    test = sweeps.read_test(whole, lambda one: made[one.name], METRIC)
    few, chosen, read, adopt = sweeps.verdict(found, sweeps.choose(found), METRIC, test)
    assert few == (
        "not to be chosen, under 80% of the base's questions in common: chunk.max_tokens=2, chunk.max_tokens=3"
    )
    assert chosen.startswith("chosen on dev among 5 variants: chunk.max_tokens=0.") and "optimistic" in chosen
    assert read.startswith("recall@5 on test: base 0.400, chosen 0.600, change +0.200 [")
    assert read.endswith("n = 10 in 5 clusters of documents")
    assert adopt == "look at it: ragline compare w-more; adopt it: dvc exp apply w-more"
    assert sweeps.verdict(found[:1], found[0], METRIC, sweeps.read_test([], read_nothing, METRIC)) == [
        "chosen on dev among 1 variants: base; nothing gains in recall@5. Test was not read."
    ]


def read_nothing(_: Variant) -> Build:
    pytest.fail("test was read")


def test_a_test_that_cannot_be_read_is_said():
    whole = [variant("w-base"), replace(variant("w", "a=1"), ended="Failed", did="failed: disk full")]
    assert sweeps.read_test(whole, read_nothing, METRIC) == Test("w", None, "failed: disk full")
    apart = {"w-base": build("1" * 10, "test"), "w": build("1" * 10, "test", skip=10)}
    found = sweeps.read_test([variant("w-base"), variant("w", "a=1")], lambda one: apart[one.name], METRIC)
    assert found == Test("w", None, "no question in common with the base")


@pytest.mark.parametrize("stores", ["", "/project"])
def test_a_copy_uses_the_stores_of_the_project(stores):
    script = "from ragline.artifacts import LEDGER, VECTOR_STORE; print(LEDGER, VECTOR_STORE)"
    environment = {**os.environ, "RAGLINE_STORES": stores}
    found = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, cwd=ROOT)
    root = f"{stores}/" if stores else ""
    assert found.stdout.split() == [f"{root}.ragline/calls.sqlite", f"{root}.cache/vectors"]
