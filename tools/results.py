"""Write the results of the last run into README.md: `python -m tools.results [--check]`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ragline.artifacts import COMPARISONS, METRICS

README = Path("README.md")
START, END = "<!-- results -->\n", "<!-- /results -->\n"
SETS = {"test": "test questions (by rule)", "gold": "gold questions (by hand)"}
RETRIEVAL, ANSWERS = ("recall@1", "recall@5", "mrr@10"), ("answer_em", "answer_f1", "rouge_l")


def tables(metrics: dict[str, Any], comparisons: dict[str, Any]) -> str:
    """Both tables as Markdown: means with 95 % intervals, and what was compared on the same questions."""
    lines: list[str] = []
    for name, title in SETS.items():
        intervals = comparisons["intervals"][name]
        first = next(iter(intervals["retrieval"].values()))[RETRIEVAL[0]]
        lines += [f"**{title}**, n = {first['n']} in {first['n_clusters']} clusters of documents", ""]
        for family, wanted in (("retrieval", RETRIEVAL), ("answers", ANSWERS)):
            lines += [f"| {family} | {' | '.join(wanted)} |", f"|---|{'---|' * len(wanted)}"]
            for system, found in intervals[family].items():
                cells = [f"{found[m]['mean']:.3f} [{found[m]['low']:.3f}, {found[m]['high']:.3f}]" for m in wanted]
                lines.append(f"| {system} | {' | '.join(cells)} |")
            lines.append("")
        said = [
            f"{row['a']} - {row['b']} {row['metric']} {row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
            for row in comparisons["paired"]
            if row["set"] == name and (row["a"], row["b"]) in {("tuned", "base"), ("generator", "extractive")}
            and row["metric"] in {"recall@5", "mrr@10", "answer_f1"}
        ]  # fmt: skip
        lines += [f"Paired on the same questions: {'; '.join(said)}.", ""]
        if apart := metrics[name].get("unseen"):
            row = next(r for r in comparisons["paired"] if (r["set"], r["metric"]) == (f"{name}-unseen", "recall@5"))
            lines += [
                f"On the {apart['n_answerable']} of them whose documents training never saw: tuned - base recall@5 "
                f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}].",
                "",
            ]
    if found := metrics.get("gold", {}).get("abstention"):
        lines.append(
            f"Of {found['n_answerable']} gold questions with an answer {found['answered_answerable']:.0%} are "
            "answered; "
            f"of {found['n_unanswerable']} without, {found['refused_unanswerable']:.0%} are refused."
        )
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Rewrite the block between the marks, or say that it is out of date."""
    parser = argparse.ArgumentParser(prog="python -m tools.results", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when out of date")
    check = parser.parse_args().check
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    made = tables(json.loads(METRICS.read_text()), json.loads(COMPARISONS.read_text()))
    new = before + START + made + END + after
    if check and new != text:
        print("README.md: its results are not those of the last run; run `python -m tools.results`", file=sys.stderr)
        return 1
    if not check:
        README.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
