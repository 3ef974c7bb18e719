"""Self-supervised lessons for the reader, made of one package's passages.

Four tasks: answer a question that the rules ask; write the sentence that some key words belong to; mend a sentence
whose words were dropped and swapped; decline where no passage holds the answer. In all but the last the answer stands
in one of the passages, among those that BM25 takes for it, so that what is learnt is to find and to copy.

Sources: Lewis et al., PAQ: 65 Million Probably-Asked Questions, TACL 2021 (questions made of the text itself); Lewis et
al., BART, ACL 2020, section 2.2 (token deletion, permutation); Zhang et al., RAFT, COLM 2024, section 3 (distractors).
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ragline.generation.prompts import ABSTENTION
from ragline.generation.train import Lesson, choose_passages
from ragline.questions import rules
from ragline.questions.english import content_words
from ragline.retrieval import lexical
from ragline.text import sentences, word_tokens
from ragline.types import Passage, QAExample
from tools.reader_pretraining.texts import Texts

Task = Literal["rules", "key words", "denoising", "absent"]
TASKS: tuple[Task, ...] = ("rules", "key words", "denoising", "absent")

MAX_PER_DOCUMENT = 8
"""Questions by rule; a document whose every parameter is asked for would drown the others."""
ABSENT = 1 / 16
"""Share of the questions by rule whose gold passage is held back."""
SENTENCES = {"key words": 0.35, "denoising": 0.15}
"""Lessons of a task for each passage of the package, each from a passage of its own."""
SHOWN = (1, 2, 2, 2, 3)
"""Passages of a lesson are as many as one of these; the default pipeline reads two."""
SEARCHED = 12
MIN_WORDS, MAX_WORDS = 5, 40
DROPPED, SWAPPED = 0.3, 0.15
"""Shares of the words of a sentence that denoising drops, and of neighbours that it swaps."""
_PROSE = re.compile(r"[A-Z][^\n>=|]*[a-z][^>=|]*[.!?]", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z]+[,.;:]?")


@dataclass(frozen=True, slots=True)
class Taught:
    """A lesson and where it comes from."""

    task: Task
    package: str
    lesson: Lesson


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked of which passage."""

    task: Task
    question: str
    answer: str
    gold: tuple[str, ...]


def make(texts: Texts, seed: int) -> list[Taught]:
    """Every lesson of a package, ordered by task.

    Args:
        seed: decides wordings, sentences, noise, and how many passages are shown and in which order.
    """
    by_rule = questions(texts, seed)
    rng = random.Random(f"{seed}|absent|{texts.package}")
    absent = set(rng.sample(range(len(by_rule)), round(ABSENT * len(by_rule))))
    asked = [
        _Asked("absent" if row in absent else "rules", q.question, q.answers[0], q.gold_passage_ids)
        for row, q in enumerate(by_rule)
    ]
    for task in ("key words", "denoising"):
        asked += _sentence_lessons(task, texts.passages, random.Random(f"{seed}|{task}|{texts.package}"))
    found = _with_passages(asked, texts.passages, random.Random(f"{seed}|passages|{texts.package}"))
    return sorted(
        (Taught(task, texts.package, lesson) for task, lesson in found), key=lambda taught: TASKS.index(taught.task)
    )


def questions(texts: Texts, seed: int) -> list[QAExample]:
    """What the rules ask about a package, answers whole inside one of its passages."""
    found, _ = rules.generate(texts.documents, texts.passages, MAX_PER_DOCUMENT, None, seed)
    return found


def counts(taught: Iterable[Taught]) -> dict[str, dict[str, int]]:
    """Package → task → lessons."""
    found = Counter((one.package, one.task) for one in taught)
    packages = dict.fromkeys(package for package, _ in found)
    return {package: {task: found[package, task] for task in TASKS} for package in packages}


def sample(taught: Sequence[Taught], most: int, seed: int) -> list[Taught]:
    """At most `most` lessons, drawn without regard to package and task, in random order."""
    return random.Random(f"{seed}|sample").sample(list(taught), min(most, len(taught)))


def key_words(sentence: str, title: str, rng: random.Random) -> str:
    """Two to five telling words of a sentence in any order, half the time with the name of what it is about.

    Empty where the sentence has fewer than four: too little would stay to be written.
    """
    words = sorted(set(content_words(sentence)))
    if len(words) < 4:
        return ""
    chosen = rng.sample(words, min(rng.randint(2, 5), len(words) - 1))
    return " ".join([title.rpartition(".")[2], *chosen] if rng.random() < 0.5 else chosen)


def noisy(sentence: str, rng: random.Random) -> str:
    """The sentence with words dropped and neighbours swapped; at least one word is left."""
    words = sentence.split()
    kept = [word for word in words if rng.random() >= DROPPED] or [rng.choice(words)]
    for place in range(len(kept) - 1):
        if rng.random() < SWAPPED:
            kept[place], kept[place + 1] = kept[place + 1], kept[place]
    return " ".join(kept)


def prose_sentences(text: str) -> list[str]:
    """Sentences that read as prose: a capital, a full stop, mostly plain words; no code, no field of a docstring."""
    found = []
    for span in sentences(text):
        sentence = text[span.start : span.end]
        words = sentence.split()
        plain = sum(_PLAIN.fullmatch(word) is not None for word in words)
        if MIN_WORDS <= len(words) <= MAX_WORDS and _PROSE.fullmatch(sentence) and plain >= 0.7 * len(words):
            found.append(sentence)
    return found


def _sentence_lessons(task: Task, passages: Sequence[Passage], rng: random.Random) -> Iterator[_Asked]:
    """A lesson from each of some passages, drawn at random; passages without prose give none."""
    for row in sorted(rng.sample(range(len(passages)), round(SENTENCES[task] * len(passages)))):
        passage = passages[row]
        if not (choice := prose_sentences(passage.text)):
            continue
        sentence = rng.choice(choice)
        question = key_words(sentence, passage.title, rng) if task == "key words" else noisy(sentence, rng)
        if question:
            yield _Asked(task, question, sentence, (passage.passage_id,))


def _with_passages(
    asked: Sequence[_Asked], passages: Sequence[Passage], rng: random.Random
) -> Iterator[tuple[Task, Lesson]]:
    """Show the gold passage among what BM25 finds, or only the latter; none but gold passages hold the answer."""
    index = lexical.build(passages)
    texts = {passage.passage_id: passage.encoded_text for passage in passages}
    words = [f" {' '.join(word_tokens(passage.text))} " for passage in passages]
    for one, hits in zip(asked, lexical.search(index, [one.question for one in asked], SEARCHED), strict=True):
        answer = f" {' '.join(word_tokens(one.answer))} "
        gold = set(one.gold)
        held = {passages[row].passage_id for row, _ in hits if answer in words[row]}
        ranked = [passages[row].passage_id for row, _ in hits if passages[row].passage_id not in held - gold]
        count = rng.choice(SHOWN)
        if one.task == "absent":
            shown = [place for place in ranked if place not in gold][:count]
            rng.shuffle(shown)
        else:
            shown = choose_passages(ranked, one.gold, count, rng)
        if shown:
            answer_text = ABSTENTION if one.task == "absent" else " ".join(one.answer.split())
            yield one.task, Lesson(one.question, tuple(texts[place] for place in shown), answer_text)
