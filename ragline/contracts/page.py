"""A verdict as a page that loads nothing from elsewhere."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfb; --panel: #f4f4f0; --ink: #1b1d21; --soft: #565b64; --rule: #d9d9d2;
  --good: #1a6b3c; --critical: #a5302a; --warning: #8a5200; --info: #1c5a96; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181c; --panel: #1e2126; --ink: #e6e6e1; --soft: #a3a8b1;
  --rule: #33373e; --good: #7fd0a0; --critical: #f19a92; --warning: #e8b45c; --info: #8cc0f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 1.6rem; } h2 { margin: 2.2rem 0 .6rem; font-size: 1.15rem; }
h3 { margin: 0; font-size: 1rem; } p { margin: .3rem 0; }
.soft { color: var(--soft); } .good { color: var(--good); } .critical { color: var(--critical); }
.warning { color: var(--warning); } .info { color: var(--info); }
.verdict { font-size: 1.15rem; font-weight: 600; }
article { margin: .8rem 0; padding: .8rem 1rem; background: var(--panel); border-left: .25rem solid currentColor; }
article > * { color: var(--ink); } article .severity { color: inherit; font-weight: 600; }
dl { margin: .5rem 0; } dt { font-family: ui-monospace, monospace; font-size: .9rem; }
dd { margin: 0 0 .4rem 1rem; color: var(--soft); font-size: .9rem; }
table { width: 100%; border-collapse: collapse; } caption { text-align: left; }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top; }
@media (max-width: 34rem) { thead { display: none; } tr, td { display: block; } td { padding: 0; border: 0; }
  tr { padding: .4rem 0; border-bottom: 1px solid var(--rule); } td:empty { display: none; } }
"""


def page(record: Mapping[str, Any]) -> str:
    """The whole page as HTML.

    Args:
        record: suite, table, rows, broken, held and unchecked, as `enforce` writes them to JSON.
    """
    broken, held, unchecked = record["broken"], record["held"], record["unchecked"]
    critical = sum(entry["severity"] == "critical" for entry in broken)
    summary = f"{len(held):,} expectations hold, {len(broken):,} broken"
    summary += f", {len(unchecked):,} not checked" if unchecked else ""
    verdict = "Stops the pipeline" if critical else "Holds, with remarks" if broken else "Holds"
    tone = "critical" if critical else "warning" if broken else "good"
    title = f"Contract: {record['suite']}"
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>",
            f"<h1>{escape(title)}</h1>",
            f'<p class="soft">{escape(record["table"])}, {record["rows"]:,} rows</p>',
            f'<p class="verdict {tone}">{verdict}</p>\n<p>{summary}.</p>',
            *(["<h2>Broken</h2>", *map(_card, broken)] if broken else []),
            *(["<h2>Not checked</h2>", _table(unchecked, "They need a column with a fault.")] if unchecked else []),
            *(["<h2>Holds</h2>", _table(held, "")] if held else []),
            "</main>\n</body>\n</html>\n",
        ]
    )


def _card(entry: Mapping[str, Any]) -> str:
    severity = entry["severity"]
    examples = "".join(
        f"<dt>{escape(example['row_id'])}</dt><dd>{escape(example['value'])}</dd>" for example in entry["examples"]
    )
    count = f"{entry['count']:,} of {entry['rows']:,} rows otherwise" if examples else f"{entry['count']:,} found"
    place = f"{escape(entry['column'])}: " if entry["column"] else ""
    return (
        f'<article class="{severity}"><p class="severity">{severity}</p>'
        f"<h3>{place}expected {escape(entry['expectation'])}</h3><p>{count}</p>"
        f"{f'<dl>{examples}</dl>' if examples else ''}<p>To do: {escape(entry['do'])}</p></article>"
    )


def _table(entries: Iterable[Mapping[str, Any]], caption: str) -> str:
    rows = "\n".join(
        f"<tr><td>{escape(entry['column'])}</td><td>{escape(entry['expectation'])}</td>"
        f'<td class="{entry["severity"]}">{entry["severity"]}</td></tr>'
        for entry in entries
    )
    said = f'<caption class="soft">{escape(caption)}</caption>' if caption else ""
    return (
        f"<table>{said}<thead><tr><th>Column</th><th>Expected</th><th>Severity</th></tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody></table>"
    )
