"""`ragline ask`, `chat`, `summary`, `compare` and the other commands: what a person types."""

import argparse
import logging
import os
import shutil
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from ragline.runtime.environment import apply_defaults

apply_defaults()

from ragline import io  # noqa: E402
from ragline.artifacts import (  # noqa: E402
    CHUNK_COUNTS,
    COMPARISONS,
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
from ragline.errors import ConfigError, RaglineError  # noqa: E402
from ragline.questions.convert import formats  # noqa: E402
from ragline.questions.convert.formats import FORMATS  # noqa: E402
from ragline.runtime.params import load_section  # noqa: E402
from ragline.types import SPLITS, Passage, QAExample  # noqa: E402

log = logging.getLogger("ragline")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; a known error is one line on stderr and a non-zero exit."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        options = _parser().parse_args(arguments)
        lines = options.run(options)
    except RaglineError as error:
        sys.stderr.write(f"ragline: {type(error).__name__}: {error}\n")
        sys.exit(error.exit_code)
    _say("\n".join(lines) + "\n")


class _Parser(argparse.ArgumentParser):
    """A wrong word is one line, as every other error: no usage above it."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message.removeprefix('argument ')}; see `{self.prog} --help`")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="ragline", description="Question answering over your own documents.")
    parser.add_argument("--root", type=Path, default=Path(), help="the project's folder (default: this one)")
    commands = parser.add_subparsers(dest="command", required=True)
    ask = commands.add_parser("ask", help="answer a question from the documents, and say where it stands")
    ask.add_argument("question", nargs="+", help="the question; quotes are optional")
    ask.set_defaults(run=_ask)
    chat = commands.add_parser("chat", help="a conversation: answers as they are written, follow-ups; Ctrl-D ends it")
    for command in (ask, chat):
        command.add_argument("-k", type=_count, default=5, help="passages to answer from (default: 5)")
        command.add_argument("--answerer", choices=("generator", "extractive"), help="default: the better one on dev")
        command.add_argument(
            "--where",
            action="append",
            default=[],
            help="search only there: doc_id=, source=, title=, heading=, pages=3-7",
        )
        command.add_argument("--champion", action="store_true", help="ask what is served, not what the last run made")
    chat.set_defaults(run=_chat)
    estimate = commands.add_parser(
        "estimate", help="what language models would cost: questions, filters, answers, the judge; asks nobody"
    )
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
    compare = commands.add_parser("compare", help="two runs on the same questions: what is better, what was changed")
    run = "`workspace`, `champion`, a folder, a git revision or an experiment"
    compare.add_argument("a", nargs="?", metavar="A", help=f"{run} (default: the last commit with other predictions)")
    compare.add_argument("b", nargs="?", metavar="B", default="workspace", help="another one (default: workspace)")
    compare.add_argument("--json", type=Path, help="write the comparison there, every question in it")
    compare.add_argument("--markdown", action="store_true", help="a table for a pull request")
    compare.add_argument(
        "--fail-on-worse", action="store_true", help="exit 1 if what `promotion` guards in params.yaml got worse"
    )
    compare.set_defaults(run=_compare)
    promote = commands.add_parser("promote", help="weigh the last run against the champion; serve it if it is better")
    promote.add_argument("--anyway", action="store_true", help="without weighing: you have looked")
    promote.set_defaults(run=_promote)
    rollback = commands.add_parser("rollback", help="serve the champion before this one again")
    rollback.set_defaults(run=_rollback)
    champion = commands.add_parser("champion", help="what is served, and why; exit 4 if it is damaged")
    champion.set_defaults(run=_champion)
    publish = commands.add_parser("publish", help="tell MLflow what the last run made; a second time changes nothing")
    publish.set_defaults(run=_publish)
    clean = commands.add_parser("clean", help="delete what `retention` in params.yaml does not keep")
    clean.add_argument("--dry-run", action="store_true", help="only say what would go")
    clean.add_argument("--prefect", metavar="ADDRESS", help="Prefect's API (default: PREFECT_API_URL, or here)")
    clean.set_defaults(run=_clean)
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
    from ragline import conversation, terminal  # torch takes seconds to import: not for `ragline --help`
    from ragline.retrieval import where
    from ragline.retrieval.search import check_question

    question, wanted = " ".join(options.question), where.parse(options.where)
    check_question(question)
    assistant = conversation.load(_asked(options), options.root)
    (reply,) = assistant.ask([question], [()], options.k, options.answerer, wanted)
    return ["", *terminal.answer_lines(reply, assistant.system, _width())]


def _chat(options: Any) -> list[str]:
    from ragline import conversation, terminal
    from ragline.retrieval import where

    wanted = where.parse(options.where)
    talk = conversation.Conversation(conversation.load(_asked(options), options.root))
    if sys.stdin.isatty():
        sys.stdout.write(f"{terminal.HELP}\n")
    terminal.chat(talk, _typed(terminal.PROMPT), _say, options.k, options.answerer, wanted, _width())
    return []


def _typed(prompt: str) -> Iterator[str]:
    """What is typed, line by line, with the keys of readline where there is somebody to press them."""
    if sys.stdin.isatty():
        import readline  # noqa: F401 - `input` then knows the arrows
    while True:
        try:
            yield input(prompt if sys.stdin.isatty() else "")
        except EOFError:
            return
        except KeyboardInterrupt:
            sys.stdout.write("\n")


def _say(text: str) -> None:
    """Print text of documents, models and people without what would steer the terminal."""
    sys.stdout.write("".join(char for char in text if char in "\n\t" or unicodedata.category(char)[0] != "C"))
    sys.stdout.flush()


def _width() -> int:
    return min(100, shutil.get_terminal_size().columns)


def _asked(options: Any) -> Path:
    """The folder of what is asked."""
    return _served(options.root) if options.champion else Path(options.root)


def _served(root: Path) -> Path:
    from ragline.promotion import bundles

    return bundles.serving(root)


def _estimate(options: Any) -> list[str]:
    from ragline import foresight

    return foresight.lines(options.root)


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
        _say("\n".join(report.lines()) + "\n")
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


def _compare(options: Any) -> list[str]:
    from ragline import builds, comparing, side_by_side

    guarded = _guarded(options.root) if options.fail_on_worse else []
    metrics = list(dict.fromkeys([*builds.HEADLINE, *(metric for _, metric in guarded)]))
    after = builds.named(options.root, options.b, metrics)
    if options.a:
        before = builds.named(options.root, options.a, metrics)
    else:
        before = builds.previous(options.root, after, metrics)
    found = comparing.compare(options.a or "previous commit", before, after)
    if options.json:
        io.write_json(asdict(found), options.json)
    width = shutil.get_terminal_size().columns
    lines = side_by_side.markdown(found) if options.markdown else side_by_side.lines(found, width)
    if unknown := sorted(set(guarded) - {(row.set, row.metric) for row in found.paired}):
        names = ", ".join(f"{metric} on {name}" for name, metric in unknown)
        sys.stderr.write(f"ragline: guarded, and not compared, as no question is in common: {names}\n")
    if fallen := comparing.worse(found, guarded):
        _say("\n".join(lines) + "\n")
        names = ", ".join(f"{row.metric} on {row.set}" for row in fallen)
        sys.stderr.write(f"ragline: guarded, and worse: {names}\n")
        sys.exit(1)
    return lines


def _guarded(root: Path) -> list[tuple[str, str]]:
    """Sets and metrics that the gate watches."""
    from ragline.promotion.gate import PromotionParams

    params = load_section("promotion", PromotionParams, root / PARAMS)
    return [(measure.set, measure.metric) for measure in (params.target, *params.guards)]


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


def _clean(options: Any) -> list[str]:
    from ragline import doctor
    from ragline.retention import clean, disk

    api = doctor.reachable(options.prefect or os.environ.get("PREFECT_API_URL"))
    parts = clean.clean(options.root, options.dry_run, api)
    freed = sum(part.bytes or 0 for part in parts if not part.left)
    return [
        *(part.line for part in parts),
        f"{'would free' if options.dry_run else 'freed':<12}{disk.gigabytes(freed)}",
        f"{'space':<12}{disk.total(disk.taken(options.root))}",
    ]


def _doctor(options: Any) -> list[str]:
    from ragline import doctor

    findings = doctor.examine(options.root)
    if any(finding.mark == "bad" for finding in findings):
        _say("\n".join(finding.line for finding in findings) + "\n")
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
