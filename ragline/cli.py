"""`ragline ask`, `summary`, `estimate`, `audit`, `convert`, `fetch`, `doctor`: what a person types."""

import argparse
import logging
import os
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ragline.runtime.environment import apply_defaults

apply_defaults()

from ragline import io  # noqa: E402
from ragline.artifacts import (  # noqa: E402
    CHUNK_COUNTS,
    COMPARISONS,
    DOCUMENTS,
    INGEST_COUNTS,
    METRICS,
    PARAMS,
    PASSAGES,
    QUESTION_COUNTS,
    QUESTIONS_DEV,
    QUESTIONS_TEST,
    QUESTIONS_TRAIN,
    REPORT,
    RETRIEVER_SUMMARY,
)
from ragline.errors import RaglineError  # noqa: E402
from ragline.questions.convert import formats  # noqa: E402
from ragline.questions.convert.formats import FORMATS  # noqa: E402
from ragline.runtime.params import load_section  # noqa: E402
from ragline.types import SPLITS, Document, Passage, QAExample  # noqa: E402

log = logging.getLogger("ragline")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; a known error is one line on stderr and a non-zero exit."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    options = _parser().parse_args(arguments)
    try:
        lines = options.run(options)
    except RaglineError as error:
        sys.stderr.write(f"ragline: {type(error).__name__}: {error}\n")
        sys.exit(error.exit_code)
    sys.stdout.write("\n".join(lines) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ragline", description="Question answering over your own documents.")
    parser.add_argument("--root", type=Path, default=Path(), help="the project's folder (default: this one)")
    commands = parser.add_subparsers(dest="command", required=True)
    ask = commands.add_parser("ask", help="answer a question from the documents, and say where it stands")
    ask.add_argument("question", nargs="+", help="the question; quotes are optional")
    ask.add_argument("-k", type=_count, default=5, help="passages to show (default: 5)")
    ask.add_argument("--answerer", choices=("generator", "extractive"), help="default: the better one on dev")
    ask.add_argument(
        "--where", action="append", default=[], help="search only there: doc_id=, source=, title=, heading=, pages=3-7"
    )
    ask.add_argument("--champion", action="store_true", help="ask what is served, not what the last run made")
    ask.set_defaults(run=_ask)
    estimate = commands.add_parser("estimate", help="what questions by a language model would cost; asks nobody")
    estimate.set_defaults(run=_estimate)
    audit = commands.add_parser("audit", help="what training questions give away of the others; exit 1 if anything")
    for split in ("train", "dev", "test"):
        audit.add_argument(f"--{split}", type=Path, help="LocalRQA's JSONL instead of the pipeline's own questions")
    audit.add_argument("--encoder", action="store_true", help="compare questions by their vectors, too (slower)")
    audit.add_argument("--json", type=Path, help="write the figures there, too")
    audit.set_defaults(run=_audit)
    convert = commands.add_parser("convert", help="question sets from one format into another")
    convert.add_argument("source_format", metavar="FROM", help="format to read")
    convert.add_argument("source", type=Path, metavar="SOURCE", help="path to read")
    convert.add_argument("target_format", metavar="TO", help="format to write")
    convert.add_argument("target", type=Path, metavar="TARGET", help="path to write")
    convert.epilog = f"formats: {', '.join(FORMATS)}; see docs/formats.md"
    convert.set_defaults(run=_convert)
    fetch = commands.add_parser("fetch", help="a web site's pages into data/raw, as its robots.txt allows")
    fetch.add_argument("name", help="folder under data/raw")
    fetch.add_argument("address", nargs="+", help="a sitemap (.xml), a robots.txt that names some, or pages")
    fetch.add_argument("--pages", type=_positive, default=1000, help="pages requested at most (default: 1000)")
    fetch.add_argument("--delay", type=float, default=1.0, help="seconds between two requests (default: 1)")
    fetch.set_defaults(run=_fetch)
    promote = commands.add_parser("promote", help="weigh the last run against the champion; serve it if it is better")
    promote.add_argument("--anyway", action="store_true", help="without weighing: you have looked")
    promote.set_defaults(run=_promote)
    rollback = commands.add_parser("rollback", help="serve the champion before this one again")
    rollback.set_defaults(run=_rollback)
    champion = commands.add_parser("champion", help="what is served, and why; exit 4 if it is damaged")
    champion.set_defaults(run=_champion)
    publish = commands.add_parser("publish", help="tell MLflow what the last run made; a second time changes nothing")
    publish.set_defaults(run=_publish)
    doctor = commands.add_parser("doctor", help="whether everything is fit to run tonight; exit 1 if anything is not")
    doctor.set_defaults(run=_doctor)
    last = commands.add_parser("summary", help="the last run in ten lines")
    last.set_defaults(run=lambda options: summary(options.root))
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, got {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 50:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 50, got {text!r}")
    return int(text)


def _ask(options: Any) -> list[str]:
    from ragline import qa  # torch takes seconds to import: not for `ragline --help`
    from ragline.retrieval import where
    from ragline.retrieval.search import check_question

    question, wanted = " ".join(options.question), where.parse(options.where)
    check_question(question)
    root = _served(options.root) if options.champion else options.root
    system = qa.load(root, options.root)
    answer = system.ask([question], options.k, options.answerer, wanted)[0]
    sources = system.retriever.sources
    width = min(100, shutil.get_terminal_size().columns)
    lines = ["", *textwrap.wrap(answer.text, width), ""]
    if not answer.retrieved:
        return [*lines, f"(no passage fits --where {' '.join(options.where)})"]
    if answer.abstained:
        lines += [_reason(answer.confidence, system.settings.abstain_below), "", "Closest passages:"]
    cited = {hit.passage.passage_id for hit in answer.citations}
    for rank, hit in enumerate(answer.retrieved, start=1):
        passage = hit.passage
        mark = "*" if passage.passage_id in cited else " "
        heading = f" > {passage.heading}" if passage.heading else ""
        place = f"{sources.get(passage.doc_id, '')}{f', page {passage.page}' if passage.page else ''}"
        lines.append(f"{mark}[{rank}] {hit.score:.2f}  {passage.title}{heading}  ({place})")
        lines.append("       " + textwrap.shorten(passage.text, width - 7, placeholder=" …"))
    if cited:
        lines += ["", "* the answer rests on this passage"]
    return lines


def _reason(confidence: float, floor: float) -> str:
    if confidence < floor:
        return f"(best match {confidence:.2f}, below the {floor:.2f} that answers need)"
    return f"(best match {confidence:.2f}, which is enough, but no answer was found in the passages)"


def _served(root: Path) -> Path:
    from ragline.promotion import bundles

    return bundles.serving(root)


def _estimate(options: Any) -> list[str]:
    from ragline import authoring, vetting
    from ragline.question_params import QuestionParams

    params = load_section("generate_qa", QuestionParams, options.root / PARAMS)
    documents = io.read_table(Document, io.require(DOCUMENTS, options.root))
    passages = io.read_table(Passage, io.require(PASSAGES, options.root))
    corpus = vetting.Corpus(documents, passages, params.language)
    found = authoring.look_ahead(params, corpus, options.root)
    if not found:
        return ["nothing in params.yaml asks a language model: $0.00"]
    asked = {"questions": params.llm, "filters": params.filter_model or params.llm}
    return [line for part, one in found.items() if (whom := asked[part]) for line in _foreseen(part, one, whom)]


def _foreseen(part: str, found: Any, params: Any) -> list[str]:
    minutes, seconds = divmod(round(found.seconds), 60)
    grounds = (
        f"tokens and pace of {found.history:,} earlier calls of this model"
        if found.history
        else "no earlier call of this model: rough; a run with few `passages` first makes it exact"
    )
    cost = "under $0.01" if 0 < found.usd < 0.005 else f"${found.usd:.2f}"
    stops = ", which stops there" if found.usd > params.budget_usd else ""
    return [
        f"model       {params.model}",
        f"{part:<11} {found.items:,} to ask {'for' if part == 'questions' else 'at most'}",
        f"calls       {found.calls:,} to pay for, {found.cached:,} answered by the ledger",
        f"tokens      {found.prompt_tokens:,} in prompts, {found.answer_tokens:,} in answers",
        f"cost        {cost} of a budget of ${params.budget_usd:g} a run{stops}",
        f"time        {minutes} min {seconds} s",
        f"grounds     {grounds}",
    ]


def _audit(options: Any) -> list[str]:
    from ragline.evaluation import leaks

    files = {split: path for split in SPLITS if (path := getattr(options, split))}
    if files:
        rows = ((split, path, io.read_jsonl(path)) for split, path in files.items())
        items = [item for split, path, row in rows for item in leaks.items_of_localrqa(row, split, path.name)]
    else:
        tables = (QUESTIONS_TRAIN, QUESTIONS_DEV, QUESTIONS_TEST)
        examples = [q for table in tables for q in io.read_table(QAExample, io.require(table, options.root))]
        passages = {p.passage_id: p for p in io.iter_table(Passage, io.require(PASSAGES, options.root))}
        items = leaks.items_of_examples(examples, passages)
    encode = None
    if options.encoder:
        from ragline.retrieval import encoder

        model = encoder.load("builtin:minilm", options.root)
        encode = lambda texts: encoder.encode_questions(model, texts)  # noqa: E731
    report = leaks.audit(items, encode=encode)
    if options.json:
        io.write_json(report.as_dict(), options.json)
    if not report.clean:
        sys.stdout.write("\n".join(report.lines()) + "\n")
        sys.exit(1)
    return report.lines()


def _convert(options: Any) -> list[str]:
    place, target = options.target, options.target_format
    lost = formats.write(target, formats.read(options.source_format, options.source), place)
    kept = [f"{count:>7,}  {what}" for what, count in lost.items()]
    return [f"{place}: written as {target}", *(["not kept:", *kept] if kept else ["nothing was lost"])]


def _fetch(options: Any) -> list[str]:
    from ragline.corpus.site import Pace, fetch_site

    first = options.address[0].lower()
    listed = len(options.address) == 1 and (first.endswith((".xml", ".xml.gz", "/robots.txt")) or "sitemap" in first)
    start = options.address[0] if listed else options.address
    path, pages, drops = fetch_site(start, options.name, options.pages, root=options.root, pace=Pace(options.delay))
    left_out = Counter(drop.reason for drop in drops)
    source = f"{{kind: jsonl, path: {path}}}"
    return [
        f"{path}: {pages:,} pages",
        *(f"{count:>7,}  left out: {reason}" for reason, count in sorted(left_out.items())),
        f"name it in params.yaml: ingest.sources: [{source}]",
    ]


def _promote(options: Any) -> list[str]:
    from ragline.promotion.gate import gate

    decision = gate(options.root, options.anyway)
    return [*decision.table.splitlines(), decision.reason, f"champion: {decision.version or 'none'}"]


def _rollback(options: Any) -> list[str]:
    from ragline.promotion import bundles

    now = bundles.rollback(options.root)
    return [f"champion: {now.version}, {now.reason}"]


def _champion(options: Any) -> list[str]:
    from ragline.promotion import bundles

    now = bundles.crowned(options.root)
    manifest = bundles.verify(bundles.folder(options.root, now.version))
    return [
        f"champion   {now.version}, {now.reason}",
        f"files      {len(manifest.files)}, all as they were written",
        f"earlier    {', '.join(reversed(now.line[:-1])) or 'none'}",
        f"withdrawn  {', '.join(now.withdrawn) or 'none'}",
    ]


def _doctor(options: Any) -> list[str]:
    from ragline import doctor

    findings = doctor.examine(options.root)
    if any(finding.mark == "bad" for finding in findings):
        sys.stdout.write("\n".join(finding.line for finding in findings) + "\n")
        sys.exit(1)
    return [finding.line for finding in findings]


def _publish(options: Any) -> list[str]:
    from ragline import tracking

    done = tracking.publish(options.root)
    aliases = (f"{name}: version {version}" for name, version in done.aliases.items())
    return [f"{done.uri}: run {done.run_id}, {'new' if done.new else 'published before'}", *aliases]


def summary(root: Path) -> list[str]:
    """The last run in ten lines, the report's path at the end."""
    found, chunks = io.read_json(root / INGEST_COUNTS), io.read_json(root / CHUNK_COUNTS)
    asked, trained = io.read_json(root / QUESTION_COUNTS), io.read_json(root / RETRIEVER_SUMMARY)
    metrics, compared = io.read_json(root / METRICS), io.read_json(root / COMPARISONS)
    lines = [
        f"documents   {found['documents']:,} in {found['clusters']:,} near-duplicate clusters",
        f"passages    {chunks['passages']:,}, {chunks['tokens_mean']:.0f} tokens on average",
        f"questions   {asked['train']:,} train, {asked['dev']:,} dev, {asked['test']:,} test",
        f"retriever   {trained['reason']}",
    ]
    for name, table in metrics.items():
        shares = ", ".join(f"{system} {table['retrieval'][system]['recall@5']:.3f}" for system in table["retrieval"])
        lines.append(f"{name:<11} recall@5: {shares} (n = {table['n_answerable']})")
        for row in compared["paired"]:
            if (row["set"], row["a"], row["b"], row["metric"]) == (name, "tuned", "base", "recall@5"):
                lines.append(
                    f"{'':<11} tuned - base: {row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}], 95 %"
                )
        f1 = ", ".join(f"{who} {scores['answer_f1']:.3f}" for who, scores in table["answers"].items())
        lines.append(f"{'':<11} answer F1: {f1}")
    return [*lines, f"report      {os.path.relpath(io.require(REPORT, root))}"]


if __name__ == "__main__":
    main()
