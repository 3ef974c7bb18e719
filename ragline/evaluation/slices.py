"""Which part of a set does worse than the rest of it, and can that be chance?

Many parts are looked at, so the worst of them looks bad by luck alone: p is corrected over all of a set (Holm). Parts
come from few documents, so errors are those of clusters, with what little a few of them can say:

- Difference to the rest: cluster-robust variance with the bias reduction CR2 (each cluster's residuals are scaled up by
  what it had to say in its own mean), against Student's t with the Bell-McCaffrey degrees of freedom, which fall
  towards 1 where few clusters or one large one carry the part.
- What few clusters cannot rule out, as in `significance`: ten right answers of ten do not make 100 %. The interval is
  the wider of both at each end, and p the larger.

Simulated sets of 300 questions, 600 of each of 12 settings (means 0.5, 0.8 and 0.95; correlation within clusters 0.1
and 0.5; the slice whole clusters, or half the questions of clusters); lowest and highest share of the sets in which p
fell to 5 % although nothing differed, in which the 95 % interval held the truth (no difference, or 0.3), and in which
p showed those 0.3 (of 6 settings, the slice whole clusters):

    clusters of the slice     p below 5 %    interval holds      0.3 seen
                        2             0 %      99 to 100 %      0 to   5 %
                        3             0 %      99 to 100 %      0 to  11 %
                        5        0 to 1 %      98 to 100 %      0 to  30 %
                       10        0 to 8 %      92 to 100 %     34 to  77 %
                       30        0 to 6 %      92 to 100 %     75 to 100 %

Source: Bell and McCaffrey 2002; Imbens and Kolesár 2016, section 4.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ragline.errors import DataError
from ragline.evaluation import power, scorecard, significance

Floats = NDArray[np.float64]

LEAST = 10
"""Questions below which a slice is not looked at, nor held against its rest."""
MOST = 20
"""Slices that are told of each property and metric: the worst."""
SURE = 0.5
"""Probability below which a language is not named."""
UNKNOWN = "und"
"""ISO 639's code of a language that was not determined."""
SMALLEST_P = 1e-12

WORDS = ((4, "1-4"), (9, "5-9"), (19, "10-19"))
"""Most words of each bucket of reference answers, and its name."""
MANY_WORDS = "20+"


@dataclass(frozen=True)
class Cut:
    """One property of the questions, and one metric to compare along it."""

    by: str
    metric: str
    value_of: Mapping[str, str]
    """question_id → value of the property, at least for the questions that are scored."""
    scores: Mapping[str, float]
    """question_id → value in [0, 1]."""
    within: bool = False
    """The property names the cluster itself, as the document does: the slice then speaks of this very cluster, and what
    is drawn of it are questions."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The questions that share a value, against all others of the set."""

    by: str
    value: str
    metric: str
    n: int
    n_clusters: int
    mean: float
    low: float
    high: float
    rest: float
    """Mean of the others."""
    difference: float
    """`mean` less `rest`."""
    difference_low: float
    difference_high: float
    p_holm: float
    """Two-sided, corrected for all slices of the set."""

    @property
    def worse(self) -> bool:
        """Whether it is shown to do worse than the rest."""
        return self.p_holm <= scorecard.ALPHA and self.difference < 0

    @property
    def sentence(self) -> str:
        """What it comes to."""
        return (
            f"{self.metric} is {self.mean:.3f} where {self.by} is {self.value}, {self.rest:.3f} elsewhere "
            f"({self.difference:+.3f} [{self.difference_low:+.3f}, {self.difference_high:+.3f}], n = {self.n})"
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean less that of the rest."""

    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, slots=True)
class _Part:
    """What a cut gives one value: indices into its questions."""

    value: str
    inside: NDArray[np.bool_]
    found: Difference


def cuts(rows: Iterable[Mapping[str, Any]], recall: Mapping[str, float], f1: Mapping[str, float]) -> list[Cut]:
    """What the questions of a set are told apart by: `BY`, each with both metrics where that makes sense.

    The place of the first gold passage is not held against recall@5, which follows from it. `answerable` compares with
    what has no answer, where to decline is right and counts 1, any answer 0 (as in SQuAD 2.0, Rajpurkar et al. 2018);
    all else is about questions that have one.

    Args:
        rows: of the table of predictions, one for each question of the set.
        recall: question_id → recall@5 of the search that is served, answerable questions alone.
        f1: question_id → F1 of the answer as written by the answerer that is served, answerable questions alone. It
            counts 0 where the system keeps quiet.
    """
    by_id = {row["question_id"]: row for row in rows}
    served = {q: 0.0 if by_id[q]["abstained"] else value for q, value in f1.items()}
    every = served | {q: float(row["abstained"]) for q, row in by_id.items() if not row["answerable"]}
    scores = {"recall@5": recall, "answer_f1": served}
    found = [
        Cut(by, metric, {q: of(row) for q, row in by_id.items()}, scores[metric], within=by == "document")
        for by, of in BY.items()
        for metric in scores
        if (by, metric) != ("gold_position", "recall@5")
    ]
    answerable = {q: "yes" if row["answerable"] else "no" for q, row in by_id.items()}
    return [*found, Cut("answerable", "answer_f1", answerable, every)]


def slices(cuts: Sequence[Cut], clusters: Mapping[str, str], how: scorecard.Bootstrap) -> list[Slice]:
    """The slices of at least ten questions, beside at least ten others; those shown to be worse come first.

    The others follow by difference. p counts every slice that was looked at; of each cut the `MOST` lowest differences
    are given.

    Args:
        clusters: question_id → document cluster, of all questions.

    Raises:
        DataError: a score outside [0, 1], NaN among them.
    """
    parts = [list(_parts(cut, clusters)) for cut in cuts]
    p_holm = iter(significance.holm([part.found.p for of_cut in parts for part in of_cut]))
    corrected = [[(part, next(p_holm)) for part in of_cut] for of_cut in parts]
    found = [
        _slice(cut, part, p, clusters, how)
        for cut, of_cut in zip(cuts, corrected, strict=True)
        for part, p in sorted(of_cut, key=lambda one: (one[0].found.difference, one[0].value))[:MOST]
    ]
    return sorted(found, key=lambda s: (not s.worse, s.difference, s.by, s.value, s.metric))


def too_small(cuts: Sequence[Cut]) -> dict[str, int]:
    """How many values each property has that too few scored questions share, or all but too few; the most of its cuts.

    A value that all of them share is none of these: there is nothing to tell it apart from.
    """
    found: dict[str, int] = {}
    for cut in cuts:
        sizes, whole = Counter(cut.value_of[question] for question in cut.scores).values(), len(cut.scores)
        few = sum(size != whole and not _enough(size, whole) for size in sizes)
        found[cut.by] = max(found.get(cut.by, 0), few)
    return found


def row(found: Slice) -> dict[str, Any]:
    """As comparisons.json holds it, six decimals."""
    plain = {name: round(v, 6) if isinstance(v, float) else v for name, v in asdict(found).items()}
    return {**plain, "worse": found.worse}


def _enough(size: int, whole: int) -> bool:
    """Whether there are ten questions in the slice, and ten others."""
    return LEAST <= size <= whole - LEAST


def _parts(cut: Cut, clusters: Mapping[str, str]) -> Iterator[_Part]:
    questions = sorted(cut.scores)
    scores = np.array([cut.scores[q] for q in questions], dtype=np.float64)
    if odd := [q for q in questions if not 0 <= cut.scores[q] <= 1]:
        raise DataError(f"slices: {cut.metric} of {odd[0]!r} is {cut.scores[odd[0]]}, expected a value in [0, 1]")
    member = _numbered(clusters[q] for q in questions)[1]
    values, value_of = _numbered(cut.value_of[q] for q in questions)
    for number, size in enumerate(np.bincount(value_of).tolist()):
        if _enough(size, len(questions)):
            inside = value_of == number
            # questions of the slice become clusters of their own where the slice is about one cluster
            apart = np.where(inside, len(questions) + np.arange(len(questions)), member) if cut.within else member
            yield _Part(values[number], inside, difference(scores, inside, apart))


def _numbered(names: Iterable[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The different names in order, and the number of each name given, (n,)."""
    given = list(names)
    distinct = sorted(set(given))
    number = {name: at for at, name in enumerate(distinct)}
    return distinct, np.array([number[name] for name in given], dtype=np.int64)


def _slice(cut: Cut, part: _Part, p_holm: float, clusters: Mapping[str, str], how: scorecard.Bootstrap) -> Slice:
    questions = [q for q, inside in zip(sorted(cut.scores), part.inside.tolist(), strict=True) if inside]
    members = {q: q for q in questions} if cut.within else clusters
    scores = {q: cut.scores[q] for q in questions}
    level = significance.interval(scores, members, how.resamples, how.seed)
    found = part.found
    return Slice(
        cut.by,
        part.value,
        cut.metric,
        level.n,
        len({clusters[q] for q in questions}),
        level.mean,
        level.low,
        level.high,
        level.mean - found.difference,
        found.difference,
        found.low,
        found.high,
        p_holm,
    )


def difference(
    values: Floats, inside: NDArray[np.bool_], clusters: NDArray[np.int64], level: float = 0.95
) -> Difference:
    """Mean inside less mean outside, with an interval in [-1, 1] and a two-sided p.

    Where one side comes from a single cluster, nothing is known of how such clusters differ: [-1, 1], p 1.

    Args:
        values: (n,) in [0, 1].
        inside: (n,), some True and some not.
        clusters: (n,) numbers from 0; a cluster may lie on both sides.
    """
    ours, others = _Side.of(values, inside, clusters), _Side.of(values, ~inside, clusters)
    gap = ours.mean - others.mean
    if min(ours.n_clusters, others.n_clusters) < 2:
        return Difference(gap, -1.0, 1.0, 1.0)
    error, dof = _robust(ours, others)
    reach = float(special.stdtrit(dof, (1 + level) / 2)) * error
    p = 2 * float(special.stdtr(dof, -abs(gap) / error)) if error else float(gap == 0)
    down, up = _hidden(ours, others, 1 - level)
    low, high = max(-1.0, gap - max(reach, down)), min(1.0, gap + max(reach, up))
    return Difference(gap, low, high, max(p, _hidden_p(ours, others)))


@dataclass(frozen=True, slots=True)
class _Side:
    """Questions inside of a slice, or outside, by cluster."""

    sizes: Floats
    """(n_clusters of both sides,)."""
    sums: Floats
    """(n_clusters of both sides,)."""
    n: float
    mean: float
    n_clusters: int
    """Of this side."""

    @classmethod
    def of(cls, values: Floats, chosen: NDArray[np.bool_], clusters: NDArray[np.int64]) -> "_Side":
        most, ours = int(clusters.max()) + 1, clusters[chosen]
        sizes = np.bincount(ours, minlength=most).astype(np.float64)
        sums = np.bincount(ours, values[chosen], most).astype(np.float64)
        n = float(sizes.sum())
        return cls(sizes, sums, n, float(sums.sum()) / n, int(np.count_nonzero(sizes)))

    def weights(self) -> Floats:
        """(n_clusters,): what CR2 multiplies the residuals of each cluster by; 1 / n, scaled up by its share."""
        return 1 / (self.n * np.sqrt(1 - self.sizes / self.n))


def _robust(inside: _Side, outside: _Side) -> tuple[float, float]:
    """Standard error of the difference by CR2, and the Bell-McCaffrey degrees of freedom.

    The regression has two regressors, inside and outside, which never meet: the hat matrix is 1 / n between questions
    of one side and 0 elsewhere, so that all matrices reduce to sums over clusters. With weights v of the residuals and
    sizes s, the matrix whose eigenvalues give the degrees of freedom is diag(Σ s v²) - Σ a aᵀ, a = s v / √n, the sums
    over both sides.
    """
    scores, diagonal = np.zeros(len(inside.sizes)), np.zeros(len(inside.sizes))
    lows = []
    for side, sign in ((inside, 1.0), (outside, -1.0)):
        weights = side.weights()
        scores += sign * weights * (side.sums - side.mean * side.sizes)
        diagonal += side.sizes * weights**2
        lows.append(side.sizes * weights / np.sqrt(side.n))
    a, b = lows
    trace = diagonal.sum() - a @ a - b @ b
    square = (diagonal**2).sum() - 2 * (diagonal * (a**2 + b**2)).sum() + (a @ a) ** 2 + (b @ b) ** 2 + 2 * (a @ b) ** 2
    return float(np.sqrt(np.square(scores).sum())), float(trace**2 / square)


def _hidden(inside: _Side, outside: _Side, alpha: float) -> tuple[float, float]:
    """How far below and above what was seen the difference may lie, for kinds of clusters that were not drawn."""
    ours, theirs = (power.unseen_share(side.n_clusters, 1 - alpha) for side in (inside, outside))
    down = inside.mean * ours + (1 - outside.mean) * theirs
    return down, (1 - inside.mean) * ours + outside.mean * theirs


def _hidden_p(inside: _Side, outside: _Side) -> float:
    """The alpha at which `_hidden` just reaches no difference; found by halving, as it grows while alpha falls."""
    gap = inside.mean - outside.mean
    towards = 0 if gap > 0 else 1

    def hides(alpha: float) -> bool:
        return _hidden(inside, outside, alpha)[towards] >= abs(gap)

    low, high = np.log(SMALLEST_P), 0.0
    if hides(1 - SMALLEST_P):
        return 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if hides(float(np.exp(middle))) else (low, middle)
    return float(np.exp(high))


def levels(
    value_of: Mapping[str, str], scores: Mapping[str, float], clusters: Mapping[str, str], how: scorecard.Bootstrap
) -> dict[str, dict[str, Any]]:
    """value → n, mean, low, high of the questions that share it, however few, values in order; six decimals."""
    members: dict[str, dict[str, float]] = {}
    for question, score in scores.items():
        members.setdefault(value_of[question], {})[question] = score
    found = {}
    for value in sorted(members):
        level = significance.interval(members[value], clusters, how.resamples, how.seed)
        low, high = round(level.low, 6), round(level.high, 6)
        found[value] = {"n": level.n, "mean": round(level.mean, 6), "low": low, "high": high}
    return found


def words(reference: str) -> str:
    """Bucket of a reference answer by its words between blanks."""
    length = len(reference.split())
    return next((name for most, name in WORDS if length <= most), MANY_WORDS)


def language(question: str, reference: str = "") -> str:
    """ISO 639 code of a question's language; where its words do not tell, of question and reference; else `und`.

    On the 416 questions of the default corpus, all English and full of identifiers: the question alone leaves 61
    undetermined, both together 14, none is called another language; 0.1 ms each.
    """
    code = _identified(question)
    return _identified(f"{question} {reference}") if code == UNKNOWN else code


def _identified(text: str) -> str:
    code: str = _identifier().classify(text)[0]
    return code


@cache
def _identifier() -> Any:
    # Imported here: the model takes a second to load.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=SURE)


BY: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "kind": lambda row: str(row["kind"]),
    "document": lambda row: str(row["document"]),
    "answer_words": lambda row: words(next(iter(row["answers"]), "")),
    "gold_position": lambda row: str(row["gold_position"]),
    "language": lambda row: str(row["language"]),
}
"""Property of a question → its value, from a row of the table of predictions."""
