"""What a person sees in a terminal: an answer with its passages, and a conversation."""

import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from ragline import qa
from ragline.conversation import Conversation, Reply
from ragline.errors import DataError, ServiceError
from ragline.retrieval.where import Where
from ragline.types import Answer, Hit

PROMPT = "> "
HELP = """\
Ask a question; a follow-up may lean on the one before. Commands:
  /sources   the passages found for the last answer, and their scores
  /reset     forget the conversation
  /help      this list
Ctrl-C stops an answer, Ctrl-D ends the conversation."""


def answer_lines(reply: Reply, system: qa.System, width: int) -> list[str]:
    """An answer, why there is none, what guards say, and the passages found, those that it rests on with a star."""
    answer = reply.answer
    lines = [*wrapped(answer.text, width), *_remarks(reply)]
    if answer.retrieved:
        lines += ["", *passage_lines(answer, system, width)]
    return lines


def passage_lines(answer: Answer, system: qa.System, width: int) -> list[str]:
    """The passages found, best first, and what their scores are."""
    title = "Closest passages" if answer.abstained else "Passages"
    lines = [f"{title}, best first, with the {scored_by(system)}:"]
    cited = {hit.passage.passage_id for hit in answer.citations}
    for rank, hit in enumerate(answer.retrieved, start=1):
        mark = "*" if hit.passage.passage_id in cited else " "
        lines.append(f"{mark}[{rank}] {hit.score:.2f}  {_place(hit, system)}")
        lines.append("       " + textwrap.shorten(hit.passage.text, width - 7, placeholder=" …"))
    return [*lines, "", "* the answer rests on this passage"] if cited else lines


def scored_by(system: qa.System) -> str:
    """What the scores of passages are: no confidence, which decides whether there is an answer at all."""
    if system.retriever.rerank is not None:
        return "reranker's score (0 to 1; less than 0: not read by it)"
    if system.settings.hybrid_weight is None:
        return "score of both searches' ranks"
    return "score of both searches together (0 to 1 within this list)"


def wrapped(text: str, width: int) -> list[str]:
    """The text's own lines, long ones broken at blanks; those of code stay as they are: indented ones, or fenced."""
    lines: list[str] = []
    fenced = False
    for line in text.splitlines():
        fence = line.lstrip().startswith("```")
        kept = fenced or fence or line.startswith(("    ", "\t"))
        lines += [line] if kept else textwrap.wrap(line, width, break_long_words=False) or [""]
        fenced = fenced != fence
    return lines


def chat(
    conversation: Conversation,
    lines: Iterator[str],
    say: Callable[[str], None],
    k: int = 5,
    answerer: qa.Answerer | None = None,
    where: Where | None = None,
    width: int = 80,
) -> None:
    """Answer one line after the other until there are no more; a question that fails leaves the conversation as it was.

    Args:
        say: takes text as it comes, line ends among it.

    Raises:
        ConfigError, ModelError: no question could be answered.
    """
    system, last = conversation.assistant.system, None
    for line in lines:
        question = line.strip()
        if question == "/reset":
            conversation.turns.clear()
            last = None
            say("(the conversation is forgotten)\n")
        elif question == "/sources":
            say("\n".join(_sources(last, system, width)) + "\n")
        elif question.startswith("/"):
            say(f"{HELP}\n")
        elif question:
            last = _turn(partial(conversation.stream, question, k, answerer, where), system, say) or last


def _turn(stream: Callable[[], Iterator[str | Reply]], system: qa.System, say: Callable[[str], None]) -> Answer | None:
    """Say an answer as it comes, then what it rests on; None where there is none."""
    try:
        for piece in stream():
            if isinstance(piece, Reply):
                ends = [*_understood(piece), *_remarks(piece), *_rests_on(piece.answer, system)]
                say("\n".join(["", *ends, ""]) + "\n")
                return piece.answer
            say(piece)
    except KeyboardInterrupt:
        say("\n(stopped)\n\n")
    except (DataError, ServiceError) as error:
        say(f"\n(no answer: {error})\n\n")
    return None


def _understood(reply: Reply) -> list[str]:
    """What was searched for, where that is not what was typed."""
    turn = reply.turn
    return [f"(searched for: {turn.standalone})"] if turn is not None and turn.standalone != turn.asked else []


def _rests_on(answer: Answer, system: qa.System) -> list[str]:
    ranks = {hit.passage.passage_id: rank for rank, hit in enumerate(answer.retrieved, start=1)}
    return [f"[{ranks[hit.passage.passage_id]}] {_place(hit, system)}" for hit in answer.citations]


def _sources(answer: Answer | None, system: qa.System, width: int) -> Sequence[str]:
    if answer is None:
        return ["(no answer yet)"]
    return passage_lines(answer, system, width) if answer.retrieved else ["(no passage was found)"]


def _remarks(reply: Reply) -> list[str]:
    answer = reply.answer
    notes = [f"({note})" for note in reply.notes]
    if not answer.abstained:
        return notes
    if not answer.retrieved:
        return [*notes, "(no passage fits --where)"]
    if answer.confidence < answer.needed:
        return [*notes, f"(confidence {answer.confidence:.2f}, below the {answer.needed:.2f} that answers need)"]
    return [*notes, f"(confidence {answer.confidence:.2f}, which is enough, but no answer was found in the passages)"]


def _place(hit: Hit, system: qa.System) -> str:
    passage = hit.passage
    heading = f" > {passage.heading}" if passage.heading else ""
    page = f", page {passage.page}" if passage.page else ""
    return f"{passage.title}{heading}  ({system.retriever.sources.get(passage.doc_id, '')}{page})"
