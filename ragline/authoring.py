"""Questions before they are vetted, and the language models that write and check them: settings, ledger, endpoint.

Stands beside `assessment`; the stage generates through it, `ragline estimate` looks ahead through it.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tokenizers import Tokenizer

from ragline import io, vetting
from ragline.artifacts import LEDGER
from ragline.builtin import tokenizer_file
from ragline.errors import ConfigError, DataError
from ragline.llm.calls import FILTER, Caller, Decoding, Prices, Purse, machine
from ragline.llm.ledger import Ledger
from ragline.question_params import ImportFiles, LlmParams, ModelParams, QuestionParams
from ragline.questions import llm, llm_filters, localrqa
from ragline.questions.filters import PAID
from ragline.questions.human import human_questions
from ragline.questions.plan import Item, plan
from ragline.questions.rules import generate
from ragline.types import SPLITS, Drop, QAExample
from ragline.vetting import Corpus

log = logging.getLogger(__name__)

COUNTED_BY = "builtin:minilm"
"""Its tokenizer counts what a prompt will cost; the ledger's figures correct it for the endpoint's own."""
SHOWN = 20
"""Of a user's own questions, those that the model is shown."""
LENGTH = 20
"""Words of a question, and of an answer, that is not written yet."""


@dataclass(frozen=True)
class Models:
    """Whom a run asks; None where its params name nobody."""

    author: Caller | None
    reader: llm_filters.Model | None


@contextmanager
def models(params: QuestionParams, root: Path) -> Iterator[Models]:
    """The author of questions and whom the filters ask, while the ledger is open."""
    paid = any(name in PAID for name in params.filters)
    if params.llm is None and not paid:
        yield Models(None, None)
        return
    ledger = Ledger(root / LEDGER)
    count = _counter(root)
    try:
        author = _caller(params.llm, params.seed, ledger, count) if params.llm else None
        reader = None
        if paid and params.filter_model is not None:
            asked = params.filter_model
            caller = replace(_caller(asked, params.seed, ledger, count), environment=FILTER)
            reader = llm_filters.Model(caller, asked.attempts, asked.max_failed, "generate_qa.filter_model")
        elif paid and params.llm is not None and author is not None:
            caller = replace(_caller(params.llm, params.seed, ledger, count), purse=author.purse)
            caller.how = replace(caller.how, temperature=0.0)
            reader = llm_filters.Model(caller, params.llm.attempts, params.llm.max_failed, llm.SETTINGS)
        yield Models(author, reader)
    finally:
        ledger.close()


def candidates(
    params: QuestionParams, corpus: Corpus, author: Caller | None, root: Path
) -> tuple[list[QAExample], list[Drop]]:
    """Questions of every source that the params name, and what was left out on the way.

    Raises:
        ConfigError: no endpoint is set, or a prompt lacks a place.
        DataError: a file of questions is not what it should be.
        ServiceError: the endpoint fails, or the budget is spent.
    """
    if params.llm is not None and author is not None:
        items, prompts, examples = _prepared(params.llm, corpus, root)
        found, drops = llm.generate(
            items, corpus.documents, prompts, examples, params.llm.attempts, params.llm.max_failed, author
        )
    elif params.files is not None:
        found, drops = _imported(params.files, _by_name(corpus), root)
    else:
        found, drops = generate(
            corpus.documents, corpus.passages, params.max_per_document, params.max_per_passage, params.seed
        )
    asked, left_out = _of_people(params, corpus, root)
    return asked + found, left_out + drops  # of two that ask the same the person's stays


def _of_people(params: QuestionParams, corpus: Corpus, root: Path) -> tuple[list[QAExample], list[Drop]]:
    examples: list[QAExample] = []
    drops: list[Drop] = []
    for file in params.human or ():
        found, left_out = _by_people(file, corpus, root)
        examples, drops = examples + found, drops + left_out
    return examples, drops


def look_ahead(params: QuestionParams, corpus: Corpus, root: Path) -> dict[str, llm.Estimate]:
    """What a run would pay for now: for `questions`, and for the `filters` that ask; asks nobody.

    Questions that are not written yet are taken to pass every filter.
    """
    found: dict[str, llm.Estimate] = {}
    with models(params, root) as asked:
        known: list[QAExample] = []
        expected: list[QAExample] = []
        if params.llm is not None and asked.author is not None:
            items, prompts, examples = _prepared(params.llm, corpus, root)
            found["questions"] = llm.estimate(items, prompts, examples, params.llm.attempts, asked.author)
            if asked.reader is None:
                return found
            known, waiting = llm.written(items, corpus.documents, prompts, examples, params.llm.attempts, asked.author)
            expected = [_expected(item) for item in waiting]
            known += _of_people(params, corpus, root)[0]
        elif asked.reader is not None:
            known, _ = candidates(params, corpus, None, root)
        if asked.reader is not None:
            free = [name for name in params.filters if name not in PAID]
            vetted = vetting.vet(known, corpus, free, "drop" if params.leaks == "drop" else "report")
            asks = vetting.to_ask([*vetted.examples, *expected], corpus, params.filters)
            found["filters"] = llm_filters.estimate(asks, asked.reader)
    return found


def _by_name(corpus: Corpus) -> localrqa.Corpus:
    return localrqa.Corpus(corpus.documents, corpus.passages)


def _expected(item: Item) -> QAExample:
    """A question of the usual length that is not written yet."""
    first = item.passages[0]
    words = " ".join(first.text.split()[:LENGTH])  # of the passage, so that a search finds as much as it will
    ids = tuple(passage.passage_id for passage in item.passages)
    answerable = item.kind != "unanswerable"
    answers, gold = ((words,), ids) if answerable else ((), ())
    return QAExample(
        item.name,
        words,
        answers,
        first.doc_id,
        first.start,
        first.start,
        gold,
        item.kind,
        "train",
        first.cluster,
        answerable,
    )


def _imported(files: ImportFiles, corpus: localrqa.Corpus, root: Path) -> tuple[list[QAExample], list[Drop]]:
    examples: list[QAExample] = []
    drops: list[Drop] = []
    for split in SPLITS:
        for file in files.of(split):
            found, left_out = localrqa.import_questions(io.read_jsonl(root / file), file, split, corpus)
            log.info("%s: %d questions for %s, %d dropped", file, len(found), split, len(left_out))
            examples += found
            drops += left_out
    return examples, drops


def _by_people(file: str, corpus: Corpus, root: Path) -> tuple[list[QAExample], list[Drop]]:
    rows, drops = human_questions(root / file, corpus.documents)
    examples: list[QAExample] = []
    by_name = _by_name(corpus)
    for split, found in rows.items():
        asked, left_out = localrqa.import_questions(found, file, split, by_name)
        examples += [replace(q, kind="human") for q in asked]
        drops += left_out
    log.info("%s: %d questions by people, %d dropped", file, len(examples), len(drops))
    return examples, drops


def _prepared(params: LlmParams, corpus: Corpus, root: Path) -> tuple[list[Item], llm.Prompts, list[str]]:
    prompts = llm.load_prompts(*(_text(path, root) for path in (params.prompts.question, params.prompts.answer)))
    examples: list[str] = []
    if params.examples is not None:
        for number, row in io.read_jsonl(root / params.examples):
            if not isinstance(row.get("question"), str):
                raise DataError(f"{params.examples}:{number}: expected the key 'question', got {sorted(row)}; add it")
            examples.append(row["question"])
    return plan(corpus.documents, corpus.passages, params.kinds, params.passages), prompts, examples[:SHOWN]


def _text(path: str | None, root: Path) -> str | None:
    if path is None:
        return None
    try:
        return (root / path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a readable prompt: {error}; mend generate_qa.llm.prompts") from None


def _caller(params: ModelParams, seed: int, ledger: Ledger, count_tokens: Callable[[str], int]) -> Caller:
    return Caller(
        ledger=ledger,
        how=Decoding(params.model, params.temperature, params.max_answer_tokens, seed, params.structured),
        prices=Prices(params.prices.prompt, params.prices.answer),
        purse=Purse(params.budget_usd),
        at_most=machine(),
        count_tokens=count_tokens,
    )


def _counter(root: Path) -> Callable[[str], int]:
    tokenizer = Tokenizer.from_file(str(tokenizer_file(COUNTED_BY, root)))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
