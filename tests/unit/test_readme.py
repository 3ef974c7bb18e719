"""The README's figures are those of the committed metrics."""

import json

import pytest

from ragline.artifacts import METRICS
from tests.conftest import ROOT

METRICS_OF = {"retrieval": ("recall@1", "recall@5", "mrr@10"), "answers": ("answer_em", "answer_f1", "rouge_l")}
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["test", "gold"])
def test_results_table(name):
    metrics = json.loads((ROOT / METRICS).read_text(encoding="utf-8"))[name]
    block = TEXT.split(f"**{name} questions")[1].split("Paired on the same questions")[0]
    assert f"n = {metrics['n_answerable']} " in block
    for family, wanted in METRICS_OF.items():
        for system, means in metrics[family].items():
            (row,) = [line for line in block.splitlines() if line.startswith(f"| {system} |")]
            shown = [cell.split()[0] for cell in row.strip("|").split("|")[1:]]
            assert shown == [f"{means[metric]:.3f}" for metric in wanted], system


@pytest.mark.parametrize("target", ["run", "test", "ask", "flow"])
def test_every_target_named_exists(target):
    assert f"make {target}" in TEXT
    assert f"\n{target}:" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_every_place_in_the_tree_exists():
    tree = TEXT.split("## The tree")[1].split("## Licence")[0]
    rows = [line.split("|")[1] for line in tree.splitlines() if line.startswith("| `")]
    places = [name for row in rows for name in row.split("`")[1::2]]
    assert len(places) > 15
    for place in set(places) - {"dvc.lock"}:
        assert (ROOT / place).exists(), place
