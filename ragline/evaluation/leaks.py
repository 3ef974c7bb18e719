"""Does a question set leak: do train and the splits that measure share documents, gold passages or questions?

Four kinds, each counted per evaluation question, always between train and a split that measures:

- shared source: the same document (or near-duplicate cluster) stands behind both questions;
- shared gold: the same passage is gold for both;
- near-duplicate passage: the gold texts have a Jaccard similarity of character 5-grams of at least 0.8, case,
  punctuation and white space left aside: copies, re-wrapped text, small edits;
- near-duplicate question: the same question again, in the same or in other words.

The last one is the hard one, for questions made from templates look alike and ask different things. What they have in
common are the frequent words, so words weigh by their inverse document frequency; and what tells two of them apart is
grounded in their evidence: a word that only one of them has and that stands in its answer or title, not in the other's.
"What does axis of DataFrame.max do?" and "What does axis of DataFrame.min do?" are two questions, "How do I remove a
row?" and "Is there a way to delete rows?" with the same answer are one. Where nearly all words agree, one question is
assumed unless the answers differ; a question repeated word by word is always reported.

Source: A. Broder, On the resemblance and containment of documents, 1997 (shingles, MinHash).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import Stemmer
from numpy.typing import NDArray

from ragline.errors import DataError
from ragline.io import Vectors, digest
from ragline.text import word_tokens
from ragline.types import SPLITS, Passage, QAExample, Split

if TYPE_CHECKING:
    from datasketch import MinHash

Kind = Literal["shared_source", "shared_gold", "near_passage", "near_question"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Encode = Callable[[Sequence[str]], Vectors]

PASSAGE_JACCARD = 0.8
"""Of character 5-grams: one word in 20 replaced leaves about 0.85."""
SHINGLE_CHARACTERS = 5
PERMUTATIONS = 128
BANDING = (21, 6)
"""(bands, rows): a pair at 0.8 is overlooked with probability (1 - 0.8^6)^21 = 0.002, one at 0.9 with 1e-7; of pairs
at 0.3, as those that share a template are, 1.5 % are looked at."""
ESTIMATE_MARGIN = 0.15
"""Of MinHash's own estimate below the true similarity: four standard deviations at 0.8."""

SAME_WORDS = 0.9
"""Weighted Jaccard of the words of two questions from which they are one, unless their answers speak against it."""
SIMILAR_WORDS = 0.4
"""The same from which they are one if their answers agree."""
SIMILAR_COSINE = 0.8
"""Cosine from which they are one if their answers agree."""
SAME_COSINE = 0.93
"""Cosine from which they are one where nothing is known of their answers."""
ANSWERS_AGREE = 0.6
"""Jaccard of the words of two answers."""
ANSWERS_DIFFER = 0.3
ANSWERS_COSINE = 0.85
RARE = 2
"""Questions with a word, at most, for it to be taken as mistyped."""
NEIGHBOURS = 20
"""Train questions looked at closely for each evaluation question, by words and by cosine each."""

_LABELS: dict[Kind, str] = {
    "shared_source": "share a document with train",
    "shared_gold": "share a gold passage with train",
    "near_passage": "have a gold passage nearly copied in train",
    "near_question": "are asked in train, too",
}


@dataclass(frozen=True, slots=True)
class Item:
    """What the audit needs to know of a question; an empty field says nothing and leaks nothing."""

    id: str
    split: Split
    question: str
    sources: tuple[str, ...] = ()
    """The documents, or their near-duplicate clusters: equal where the texts come from one place."""
    title: str = ""
    """What the documents are about or are called."""
    gold_ids: tuple[str, ...] = ()
    gold_texts: tuple[str, ...] = ()
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Leak:
    """An evaluation question and what in train gives it away most."""

    kind: Kind
    split: Split
    question_id: str
    train_id: str
    score: float
    """1 for what is shared; else the similarity, in [0, 1]."""
    question: str
    train_question: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest share of a split's questions that may be affected, per kind, in [0, 1]."""

    shared_source: float = 0.0
    shared_gold: float = 0.0
    near_passage: float = 0.0
    near_question: float = 0.0

    def of(self, kind: Kind) -> float:
        """The limit of one kind."""
        limit: float = getattr(self, kind)
        return limit


@dataclass(frozen=True)
class LeakReport:
    """What leaks from train into each split that measures."""

    questions: Mapping[Split, int]
    """Number of questions of every split that has some."""
    leaks: tuple[Leak, ...]
    """At most one per kind and evaluation question, the strongest; by kind, split, falling score, id."""
    limits: Limits = field(default_factory=Limits)

    @cached_property
    def counts(self) -> dict[Split, dict[Kind, int]]:
        """Affected questions per evaluation split and kind."""
        found = Counter((leak.split, leak.kind) for leak in self.leaks)
        return {split: {kind: found[split, kind] for kind in KINDS} for split in self.questions if split != "train"}

    def share(self, split: Split, kind: Kind) -> float:
        """Share of a split's questions that are affected."""
        return self.counts[split][kind] / self.questions[split]

    def affected(self, split: Split) -> frozenset[str]:
        """Ids of the split's questions that leak in any way: what to leave out for a clean measurement."""
        return frozenset(leak.question_id for leak in self.leaks if leak.split == split)

    @property
    def clean(self) -> bool:
        """Whether no kind exceeds its limit in any split."""
        return not any(self._exceeds(split, kind) for split in self.counts for kind in KINDS)

    def examples(self, split: Split, kind: Kind, most: int) -> tuple[Leak, ...]:
        """The strongest leaks of one kind."""
        return tuple(leak for leak in self.leaks if (leak.split, leak.kind) == (split, kind))[:most]

    def lines(self, examples: int = 3) -> list[str]:
        """The report for a terminal."""
        lines = ["questions: " + ", ".join(f"{count:,} {split}" for split, count in self.questions.items())]
        for split in self.counts:
            lines += ["", f"{split}, of {self.questions[split]:,} questions"]
            for kind in KINDS:
                mark = "LEAK" if self._exceeds(split, kind) else "ok"
                count = self.counts[split][kind]
                limit = f"limit {self.limits.of(kind):.1%}"
                lines.append(f"  {mark:<5}{count:>7,} {self.share(split, kind):>6.1%}  {_LABELS[kind]} ({limit})")
                for leak in self.examples(split, kind, examples):
                    lines.append(f"         {leak.score:.2f}  {leak.question_id}: {_short(leak.question)}")
                    lines.append(f"               {leak.train_id}: {_short(leak.train_question)}")
        verdict = "clean: no split exceeds its limits" if self.clean else "not clean: see LEAK above"
        return [*lines, "", verdict]

    def as_dict(self, examples: int = 20) -> dict[str, Any]:
        """The report for `io.write_json`."""
        splits: dict[str, Any] = {}
        for split in self.counts:
            splits[split] = {"questions": self.questions[split], "affected": len(self.affected(split))}
            for kind in KINDS:
                splits[split][kind] = {
                    "questions": self.counts[split][kind],
                    "share": round(self.share(split, kind), 6),
                    "limit": self.limits.of(kind),
                    "examples": [
                        {
                            "question_id": leak.question_id,
                            "train_id": leak.train_id,
                            "score": round(leak.score, 4),
                            "question": leak.question,
                            "train_question": leak.train_question,
                        }
                        for leak in self.examples(split, kind, examples)
                    ],
                }
        return {"clean": self.clean, "train_questions": self.questions.get("train", 0), "splits": splits}

    def _exceeds(self, split: Split, kind: Kind) -> bool:
        return self.share(split, kind) > self.limits.of(kind)


def audit(items: Iterable[Item], limits: Limits | None = None, encode: Encode | None = None) -> LeakReport:
    """Find what train gives away of every other split.

    Args:
        items: questions of train and of at least one other split; ids are unique within a split.
        limits: what `clean` tolerates; nothing by default.
        encode: texts → (n, d) float32, rows of unit length, to find rewordings that share few words.
            Without it, questions are compared by their words alone.

    Raises:
        DataError: no question in train or none elsewhere, or an id twice in a split.
    """
    of_split: dict[Split, list[Item]] = {split: [] for split in SPLITS}
    for item in items:
        of_split[item.split].append(item)
    _check(of_split)
    train = sorted(of_split["train"], key=lambda item: item.id)
    tests = [item for split in SPLITS[1:] for item in sorted(of_split[split], key=lambda item: item.id)]
    found: dict[Kind, Iterator[tuple[int, int, float]]] = {
        "shared_source": _shared([t.sources for t in tests], [t.sources for t in train]),
        "shared_gold": _shared([t.gold_ids for t in tests], [t.gold_ids for t in train]),
        "near_passage": _near_passages(tests, train),
        "near_question": _near_questions(tests, train, encode),
    }
    leaks = []
    for kind, rows in found.items():
        strongest = [
            Leak(kind, t.split, t.id, b.id, score, t.question, b.question)
            for t, b, score in ((tests[row], train[other], score) for row, other, score in rows)
        ]
        leaks += sorted(strongest, key=lambda leak: (SPLITS.index(leak.split), -leak.score, leak.question_id))
    counts = {split: len(members) for split, members in of_split.items() if members}
    return LeakReport(counts, tuple(leaks), limits or Limits())


def items_of_examples(examples: Iterable[QAExample], passages: Mapping[str, Passage]) -> list[Item]:
    """The pipeline's own questions.

    Args:
        examples: questions of any splits.
        passages: by passage_id; holds every gold passage.

    Raises:
        DataError: a gold passage is missing.
    """
    items = []
    for example in examples:
        if missing := [name for name in example.gold_passage_ids if name not in passages]:
            raise DataError(
                f"{example.question_id}: gold passage {missing[0]!r} is not among the {len(passages)} passages; "
                "expected the passages the questions were made with; run `dvc repro generate_qa`"
            )
        gold = [passages[name] for name in example.gold_passage_ids]
        items.append(
            Item(
                id=example.question_id,
                split=example.split,
                question=example.question,
                sources=tuple(filter(None, [example.cluster or example.doc_id])),
                title=" ".join(dict.fromkeys([example.doc_id, *(p.title for p in gold)])),
                gold_ids=example.gold_passage_ids,
                gold_texts=tuple(p.text for p in gold),
                answer=example.answers[0] if example.answers else "",
            )
        )
    return items


def items_of_localrqa(rows: Iterable[tuple[int, Mapping[str, Any]]], split: Split, name: str = "") -> list[Item]:
    """Questions in LocalRQA's format.

    Args:
        rows: (line number, row), as `io.read_jsonl` yields them; the id of a question is `id`, else `name:line`.
        split: the split all of them belong to.
        name: of the file, for ids and messages; the split where it is not given.

    Raises:
        DataError: names the line that has no question, or gold_docs of another form.
    """
    items = []
    for number, row in rows:
        place = f"{name or split}:{number}"
        match row:
            case {"question": str(question), "gold_docs": list(docs)}:
                gold = [_gold_doc(doc, place) for doc in docs]
            case _:
                raise DataError(
                    f"{place}: expected question as text and gold_docs as a list, got {sorted(row)}; mend the line"
                )
        items.append(
            Item(
                id=str(row.get("id") or place),
                split=split,
                question=question,
                sources=tuple(dict.fromkeys(source for source, _, _ in gold)),
                title=" ".join(dict.fromkeys(title for _, title, _ in gold)),
                gold_ids=tuple(digest(source, text) for source, _, text in gold),
                gold_texts=tuple(text for _, _, text in gold),
                answer=str(row.get("gold_answer") or ""),
            )
        )
    return items


def _gold_doc(doc: Any, place: str) -> tuple[str, str, str]:
    """Source, title and text of one gold document."""
    match doc:
        case {"page_content": str(text), "metadata": {"source": str(source), **rest}}:
            return source, str(rest.get("title") or ""), text
    raise DataError(f"{place}: 'gold_docs': expected page_content and metadata.source as text, got {doc!r:.80}")


def _check(of_split: Mapping[Split, Sequence[Item]]) -> None:
    if not of_split["train"] or not any(of_split[split] for split in SPLITS[1:]):
        counts = ", ".join(f"{len(members)} {split}" for split, members in of_split.items())
        raise DataError(f"audit: expected questions in train and in dev or test, got {counts}; name both files")
    for split, members in of_split.items():
        name, count = Counter(item.id for item in members).most_common(1)[0] if members else ("", 0)
        if count > 1:
            raise DataError(f"audit: expected unique ids in {split}, got {name!r} {count} times; rename all but one")


def _short(text: str, most: int = 88) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


# --- what is shared by name ------------------------------------------------------------------------


def _shared(tests: Sequence[Sequence[str]], train: Sequence[Sequence[str]]) -> Iterator[tuple[int, int, float]]:
    """(row, first row of train with the same name, 1) of every evaluation question that shares a name."""
    owner: dict[str, int] = {}
    for row, names in enumerate(train):
        for name in names:
            owner.setdefault(name, row)
    for row, names in enumerate(tests):
        if owners := [owner[name] for name in names if name in owner]:
            yield row, min(owners), 1.0


# --- passages --------------------------------------------------------------------------------------

_WORD = re.compile(r"\w+")


def _near_passages(tests: Sequence[Item], train: Sequence[Item]) -> Iterator[tuple[int, int, float]]:
    """(row, row of train, similarity) of every evaluation question with a gold text close to one of train."""
    ours, theirs = _owners(tests), _owners(train)
    best: dict[str, tuple[float, int]] = {text: (1.0, theirs[text][0]) for text in ours if text in theirs}
    open_texts = [text for text in ours if text not in best]
    for text, other, score in _close_pairs(open_texts, [text for text in theirs if text not in ours]):
        best[text] = min(best.get(text, (0.0, 0)), (score, theirs[other][0]), key=lambda pair: (-pair[0], pair[1]))
    strongest: dict[int, tuple[float, int]] = {}
    for text, found in best.items():
        for row in ours[text]:
            strongest[row] = min(strongest.get(row, found), found, key=lambda pair: (-pair[0], pair[1]))
    for row, (score, train_row) in sorted(strongest.items()):
        yield row, train_row, score


def _owners(items: Sequence[Item]) -> dict[str, list[int]]:
    """Plain gold text → rows that have it, ascending."""
    owners: dict[str, list[int]] = {}
    for row, item in enumerate(items):
        for text in dict.fromkeys(map(_plain, item.gold_texts)):
            if text:
                owners.setdefault(text, []).append(row)
    return owners


def _plain(text: str) -> str:
    """Lower-cased words with one blank between them."""
    return " ".join(_WORD.findall(text.lower()))


def _close_pairs(indexed: Sequence[str], streamed: Sequence[str]) -> Iterator[tuple[str, str, float]]:
    """(indexed text, streamed text, Jaccard) for all pairs at `PASSAGE_JACCARD` or above.

    Only the first side is held in the index: the smaller one, as evaluation splits are.
    """
    from datasketch import MinHashLSH

    lsh = MinHashLSH(num_perm=PERMUTATIONS, params=BANDING)
    signatures = np.empty((len(indexed), PERMUTATIONS), dtype=np.uint32)
    for row, (sketch, _) in enumerate(_sketched(indexed)):
        lsh.insert(row, sketch)
        signatures[row] = sketch.hashvalues
    for text, (sketch, mine) in zip(streamed, _sketched(streamed), strict=True):
        rows = np.asarray(sorted(lsh.query(sketch)), dtype=np.int64)
        estimates = (signatures[rows] == sketch.hashvalues).mean(axis=1)
        for row in rows[estimates >= PASSAGE_JACCARD - ESTIMATE_MARGIN].tolist():
            score = _jaccard(mine, _shingles(indexed[row]))
            if score >= PASSAGE_JACCARD:
                yield indexed[row], text, score


def _shingles(plain: str) -> NDArray[np.uint64]:
    """Hashes of the character 5-grams, sorted and unique; a shorter text is filled up with blanks."""
    codes = np.frombuffer(plain.ljust(SHINGLE_CHARACTERS).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    hashes = np.zeros(len(codes) - SHINGLE_CHARACTERS + 1, dtype=np.uint64)
    for place in range(SHINGLE_CHARACTERS):  # wraps around at 2^64, as a hash may
        hashes = (hashes ^ codes[place : place + len(hashes)]) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return np.unique(hashes)


def _sketched(texts: Iterable[str]) -> Iterator[tuple["MinHash", NDArray[np.uint64]]]:
    """MinHash and shingles of each text; the library takes hashes of 32 bits."""
    from datasketch import MinHash

    empty = MinHash(num_perm=PERMUTATIONS, seed=1, hashfunc=int, scheme="affine32")
    for text in texts:
        grams, sketch = _shingles(text), empty.copy()
        sketch.update_batch((grams & np.uint64(0xFFFFFFFF)).tolist())
        yield sketch, grams


def _jaccard(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> float:
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / (len(a) + len(b) - shared)


# --- questions -------------------------------------------------------------------------------------

_TOKEN = re.compile(r"[^\W_]\w*")
_CODE = re.compile(r"\d|_|[a-z][A-Z]")
_POSSESSIVE = re.compile(r"(?<=\w)['’]s\b")
_MISTYPED = re.compile(r"[a-z]{6,}")
_STOP = frozenset(
    "a able about actually also am an and approach are as at be been being best but by can could did do does doing "
    "exactly explain explained explanation for from had happen happens has have how i if in into is it its just "
    "kindly know let like may me meaning might must my need needs of on one ones or our out please possible purpose "
    "quickly really say shall should so some somehow someone something tell than that the their them then there these "
    "they thing things this those to us want wants was way ways we were what whats when where which while who whom "
    "whose why will wish with wonder wondering would you your".split()
)
"""Words that ask, rather than say about what. `not` and `no` are not among them."""
_IDIOMS = (
    (r"(?:get|gets|got|getting|give|gives|gave|giving) (?:\w+ )?back", "return"),
    (r"(?:get|gets|getting) rid of|take out|throw away", "remove"),
    (r"(?:make|making) sure|find out|figure out", "check"),
    (r"break (?:\w+ )?(?:up|down|apart)", "split"),
    (r"change the name of", "rename"),
    (r"make a copy of", "copy"),
    (r"work out", "compute"),
    (r"put together", "join"),
    (r"get hold of|look up|look for", "get"),
    (r"set up", "create"),
)
"""Several words that say what one says."""
_SYNONYMS = (
    "get obtain retrieve fetch receive gain acquire find lookup see",
    "remove delete drop erase discard eliminate",
    "make create build construct generate produce form",
    "change modify alter edit update adjust",
    "show display print view present",
    "start begin commence",
    "end finish stop conclude terminate",
    "use employ utilize utilise apply",
    "allow permit enable let",
    "give provide supply pass specify set",
    "choose select pick",
    "buy purchase",
    "help assist aid",
    "fix repair solve resolve",
    "send ship deliver dispatch",
    "check verify test determine confirm examine tell",
    "convert transform turn cast",
    "join merge combine unite",
    "split divide separate",
    "compute calculate",
    "return yield",
    "replace substitute swap",
    "read load import open",
    "write save store export",
    "mean signify denote represent",
    "function method call routine",
    "argument parameter option setting",
    "cost price fee charge",
    "big large huge",
    "small little tiny",
    "quick fast rapid",
    "same identical equal",
    "distinct unique",
    "duplicate repeated duplicated",
    "missing absent na",
    "provided given certain particular specified",
    "whether if",
    "type dtype kind",
    "number count amount quantity",
    "error exception",
    "cause reason trigger",
    "customer client shopper buyer",
    "require demand",
)
"""Words that ask for the same thing."""


@dataclass(frozen=True, slots=True)
class _Wording:
    """A question as the comparison sees it."""

    words: tuple[str, ...]
    """Folded, in order, without the words that only ask."""
    code: frozenset[str]
    """Those written like a name in a program."""


class _Folding:
    """Maps words of one meaning onto one: endings, slips of the finger, synonyms."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._idioms = [(re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE), word) for pattern, word in _IDIOMS]
        self._stem = Stemmer.Stemmer("english").stemWord
        self._same = {self._stem(word): group.split()[0] for group in _SYNONYMS for word in group.split()}
        self._mended = _mended(Counter(chain.from_iterable(set(_TOKEN.findall(text.lower())) for text in texts)))
        self._known: dict[str, str] = {}

    def word(self, word: str) -> str:
        """The word that stands for this lower-cased one."""
        folded = self._known.get(word)
        if folded is None:
            stem = self._stem(self._mended.get(word, word))
            folded = self._known[word] = self._stem(self._same.get(stem, stem))
        return folded

    def question(self, text: str) -> _Wording:
        text = " ".join(text.split())
        for pattern, word in self._idioms:
            text = pattern.sub(word, text)
        tokens = [token for token in _TOKEN.findall(_POSSESSIVE.sub("", text)) if token.lower() not in _STOP]
        tokens = tokens or _TOKEN.findall(text)  # "What is it?" has no other words
        folded = tuple(self.word(token.lower()) for token in tokens)
        names = zip(tokens, folded, strict=True)
        return _Wording(folded, frozenset(word for token, word in names if _CODE.search(token)))

    def text(self, *texts: str) -> frozenset[str]:
        return frozenset(self.word(token) for text in texts for token in _TOKEN.findall(text.lower()))


def _mended(frequency: Mapping[str, int]) -> dict[str, str]:
    """Rare word → the most frequent word one slip away that starts with the same letter.

    A slip is two letters swapped, or a letter more, less or other; as words differ by one letter for better reasons,
    too (`quarter`, `quarters`), that needs a word twice as frequent. Words one slip apart share a form with at most one
    letter left out.
    """
    plain = [word for word in sorted(frequency) if _MISTYPED.fullmatch(word)]
    forms: dict[str, list[str]] = {}
    for word in plain:
        for form in _deletions(word):
            forms.setdefault(form, []).append(word)
    rank = {word: (-frequency[word], word) for word in plain}
    mended = {}
    for word in (word for word in plain if frequency[word] <= RARE):
        near = {other for form in _deletions(word) for other in forms[form] if rank[other] < rank[word]}
        meant = [
            other
            for other in near
            if _swapped(word, other) or (frequency[other] > 2 * frequency[word] and _one_letter_off(word, other))
        ]
        if meant:
            mended[word] = min(meant, key=lambda other: rank[other])
    return mended


def _deletions(word: str) -> set[str]:
    """The word, and what is left of it without one letter, the first one aside."""
    return {word, *(word[:at] + word[at + 1 :] for at in range(1, len(word)))}


def _swapped(a: str, b: str) -> bool:
    x, y = _unlike(a, b)
    return x[2:] == y[2:] and x[:2] == y[1::-1]


def _one_letter_off(a: str, b: str) -> bool:
    x, y = _unlike(a, b)
    return x[1:] == y or x == y[1:] or x[1:] == y[1:]


def _unlike(a: str, b: str) -> tuple[str, str]:
    """Both words from the first letter that differs."""
    start = next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[start:], b[start:]


def _near_questions(
    tests: Sequence[Item], train: Sequence[Item], encode: Encode | None
) -> Iterator[tuple[int, int, float]]:
    """(row, row of train, similarity) of every evaluation question that is asked in train, too."""
    folding = _Folding(item.question for item in chain(tests, train))
    ours = [folding.question(item.question) for item in tests]
    theirs = [folding.question(item.question) for item in train]
    pairs: dict[tuple[int, int], tuple[float, float]] = {
        (row, other): (score, 0.0) for row, other, score in _alike_by_words(ours, theirs)
    }
    if encode is not None:
        for row, other, cosine in _alike_by_cosine(tests, train, encode):
            pairs[row, other] = (pairs.get((row, other), (0.0, 0.0))[0], cosine)
    judge = _Judge(folding, _answer_cosines(pairs, tests, train, encode))
    best: dict[int, tuple[float, int]] = {}
    for (row, other), (by_words, cosine) in pairs.items():
        if judge.one_question(tests[row], train[other], ours[row], theirs[other], by_words, cosine):
            found = (max(by_words, cosine), other)
            best[row] = min(best.get(row, found), found, key=lambda pair: (-pair[0], pair[1]))
    for row, (score, other) in sorted(best.items()):
        yield row, other, min(1.0, score)


def _alike_by_words(ours: Sequence[_Wording], theirs: Sequence[_Wording]) -> Iterator[tuple[int, int, float]]:
    """The closest of train to each question, from `SIMILAR_WORDS`: weighted Jaccard of the sets of words.

    One row of (n_train,) sums is made at a time, from the lists of questions that have a word.
    """
    sets = [sorted(set(wording.words)) for wording in chain(ours, theirs)]
    frequency = Counter(chain.from_iterable(sets))
    weight = {word: float(np.log1p(len(sets) / count)) for word, count in frequency.items()}
    holders: dict[str, list[int]] = {}
    for row, words in enumerate(sets[len(ours) :]):
        for word in words:
            holders.setdefault(word, []).append(row)
    rows_of = {word: np.asarray(rows, dtype=np.int64) for word, rows in holders.items()}
    totals = np.asarray([sum(weight[word] for word in words) for words in sets[len(ours) :]])
    for row, words in enumerate(sets[: len(ours)]):
        known = [word for word in words if word in rows_of]
        if not known:
            continue
        places = np.concatenate([rows_of[word] for word in known])
        weights = np.repeat([weight[word] for word in known], [len(rows_of[word]) for word in known])
        shared = np.bincount(places, weights, len(theirs))
        union = totals + sum(weight[word] for word in words) - shared
        jaccard = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
        for other in _strongest(jaccard, SIMILAR_WORDS):
            yield row, other, float(jaccard[other])


def _alike_by_cosine(tests: Sequence[Item], train: Sequence[Item], encode: Encode) -> Iterator[tuple[int, int, float]]:
    """The closest of train to each question, from `SIMILAR_COSINE`; 256 rows of (n_train,) cosines at a time."""
    ours, theirs = encode([item.question for item in tests]), encode([item.question for item in train])
    for start in range(0, len(tests), 256):
        for row, cosines in enumerate(ours[start : start + 256] @ theirs.T, start=start):
            for other in _strongest(cosines, SIMILAR_COSINE):
                yield row, other, float(cosines[other])


def _strongest(scores: NDArray[Any], least: float) -> list[int]:
    """At most `NEIGHBOURS` places with a score of at least `least`, best first, ties by place."""
    (places,) = np.nonzero(scores >= least)
    order: list[int] = places[np.argsort(-scores[places], kind="stable")][:NEIGHBOURS].tolist()
    return order


def _answer_cosines(
    pairs: Iterable[tuple[int, int]], tests: Sequence[Item], train: Sequence[Item], encode: Encode | None
) -> dict[tuple[str, str], float]:
    """(answer, answer of train) → cosine, for the pairs in question only."""
    if encode is None:
        return {}
    asked = {(tests[row].answer, train[other].answer) for row, other in pairs}
    texts = sorted({text for pair in asked for text in pair if text})
    if not texts:
        return {}
    row_of = {text: row for row, text in enumerate(texts)}
    vectors = encode(texts)
    return {(a, b): float(vectors[row_of[a]] @ vectors[row_of[b]]) for a, b in asked if a and b}


class _Judge:
    """Decides whether two questions that look alike are one."""

    def __init__(self, folding: _Folding, answer_cosines: Mapping[tuple[str, str], float]) -> None:
        self._folding, self._cosines = folding, answer_cosines
        self._words: dict[tuple[str, ...], frozenset[str]] = {}

    def one_question(self, a: Item, b: Item, ours: _Wording, theirs: _Wording, by_words: float, cosine: float) -> bool:
        if ours.words == theirs.words:
            return True
        if self._told_apart(a, b, ours, theirs):
            return False
        agreement = self._agreement(a, b)
        if agreement is None:
            return by_words >= SAME_WORDS or cosine >= SAME_COSINE
        if by_words >= SAME_WORDS and agreement >= ANSWERS_DIFFER:
            return True
        return agreement >= ANSWERS_AGREE

    def _told_apart(self, a: Item, b: Item, ours: _Wording, theirs: _Wording) -> bool:
        """Whether a word of only one question names what that one is about, and the other is not.

        It stands in its answer and not in the other's; or in its title and in neither title nor answer of the other;
        or both questions have one that stands in their own evidence alone, or is written like a name in a program.
        """
        mine, other = set(ours.words) - set(theirs.words), set(theirs.words) - set(ours.words)
        if mine & ours.code and other & theirs.code:
            return True
        said_a, said_b = self._of(a.answer), self._of(b.answer)
        named_a, named_b = self._names(a.title), self._names(b.title)
        if said_a and said_b and (mine & (said_a - said_b) or other & (said_b - said_a)):
            return True
        if named_a and named_b and (mine & (named_a - named_b - said_b) or other & (named_b - named_a - said_a)):
            return True
        about_a, about_b = self._of(a.title, a.answer, *a.gold_texts), self._of(b.title, b.answer, *b.gold_texts)
        return bool(mine & (about_a - about_b) and other & (about_b - about_a))

    def _agreement(self, a: Item, b: Item) -> float | None:
        """How far the answers agree, in [0, 1]; of the gold texts where there is no answer; None where nothing is."""
        if a.answer and b.answer:
            if _plain(a.answer) == _plain(b.answer):
                return 1.0
            if self._cosines.get((a.answer, b.answer), 0.0) >= ANSWERS_COSINE:
                return self._cosines[a.answer, b.answer]
            mine, other = self._of(a.answer), self._of(b.answer)
            return len(mine & other) / len(mine | other) if mine | other else None
        if set(a.gold_ids) & set(b.gold_ids):
            return 1.0
        scores = [_jaccard(_shingles(_plain(x)), _shingles(_plain(y))) for x in a.gold_texts for y in b.gold_texts]
        return max(scores, default=None)

    def _names(self, title: str) -> frozenset[str]:
        """Words of a title, and those that its names are made of: `read_stata` gives three."""
        return self._of(title, " ".join(word_tokens(title)))

    def _of(self, *texts: str) -> frozenset[str]:
        if texts not in self._words:
            self._words[texts] = self._folding.text(*texts)
        return self._words[texts]
