"""Answer metrics: overlap with the references, what is cited, and how long the answers are.

Every metric lies in [0, 1], corpus BLEU included. Questions map to values, so that means, intervals and paired tests
all use the same table.
"""

import re
import string
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from statistics import mean, median
from typing import Any

import sacrebleu

from ragline.errors import DataError

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ROUGE = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}


def normalize(text: str) -> str:
    """Lower case, no ASCII punctuation, no articles, single blanks: the rules of SQuAD, in its order.

    Punctuation is removed, not replaced: `df.sort_values()` becomes `dfsortvalues`, so a call matches only as a whole.

    Source: Rajpurkar et al. 2016, official evaluation script of SQuAD 1.1.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """1 if the prediction equals a reference after `normalize`, else 0; never above `token_f1`.

    Raises:
        DataError: no reference.
    """
    return float(any(normalize(prediction) == normalize(reference) for reference in _given(references)))


def token_f1(prediction: str, references: Sequence[str]) -> float:
    """Overlap of words as multisets after `normalize`, the best over the references.

    Two texts without words agree (1, as for `exact_match`); if only one has words, they share nothing (0).

    Raises:
        DataError: no reference.
    """
    words = Counter(normalize(prediction).split())
    return max(_f1(words, Counter(normalize(reference).split())) for reference in _given(references))


def _f1(predicted: Counter[str], reference: Counter[str]) -> float:
    size = predicted.total() + reference.total()
    return 2 * (predicted & reference).total() / size if size else 1.0


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """F-measure of the longest common subsequence, the best over the references; see `rouge`."""
    return rouge(prediction, references)["rouge_l"]


def rouge(prediction: str, references: Sequence[str]) -> dict[str, float]:
    """F-measures of common words (rouge_1), pairs of words (rouge_2) and longest common subsequence (rouge_l).

    Each is the best over the references; no stemming. Only a–z and 0–9 count as text: two texts without them score 0,
    even if they are equal, and two equal texts of one word have rouge_2 0.

    Raises:
        DataError: no reference.

    Source: Lin 2004, as in the rouge-score library.
    """
    best = _rouge().score_multi(list(_given(references)), prediction)
    return {name: best[theirs].fmeasure for name, theirs in _ROUGE.items()}


@cache
def _rouge() -> Any:
    # Imported here: rouge-score brings in all of nltk, 1.5 s or more.
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(_ROUGE.values()), use_stemmer=False)


def score(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> dict[str, dict[str, float]]:
    """Score every question that has references; one without a prediction scores 0.

    Args:
        predictions: question_id → what the system says.
        references: question_id → reference answers, at least one; answerable questions only.

    Returns:
        answer_em, answer_f1, rouge_1, rouge_2, rouge_l → question_id → value in [0, 1], in order of question_id.

    Raises:
        DataError: a prediction for a question without references, or an empty list of references.
    """
    if stray := sorted(predictions.keys() - references.keys()):
        raise DataError(f"answers: {_some(stray)} have no references; expected predictions for judged questions only")
    if bare := sorted(question for question, given in references.items() if not given):
        raise DataError(f"answers: {_some(bare)} have an empty list of references; leave unanswerable questions out")
    rows = {
        question: _row(predictions[question], references[question]) if question in predictions else {}
        for question in sorted(references)
    }
    return {
        name: {question: row.get(name, 0.0) for question, row in rows.items()}
        for name in ("answer_em", "answer_f1", *_ROUGE)
    }


def _row(prediction: str, references: Sequence[str]) -> dict[str, float]:
    return {
        "answer_em": exact_match(prediction, references),
        "answer_f1": token_f1(prediction, references),
        **rouge(prediction, references),
    }


def lengths(predictions: Mapping[str, str]) -> dict[str, float]:
    """How long answers are: words_p50 and words_mean, of words between blanks, and empty, the share without any.

    Raises:
        DataError: no answer.
    """
    if not predictions:
        raise DataError("answers: no answer to measure, expected at least one; check the question files")
    words = [len(text.split()) for text in predictions.values()]
    return {"words_mean": mean(words), "words_p50": float(median(words)), "empty": words.count(0) / len(words)}


def corpus_bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """BLEU of all predictions together, in [0, 1] like every other metric here (sacrebleu prints 0 to 100).

    Counts are pooled over the corpus, so there is no value for a single question. sacrebleu's defaults: 4-grams, case
    kept, tokenizer 13a, exponential smoothing.

    Args:
        predictions: (n_questions,) answers, at least one; an empty one counts.
        references: (n_questions,) lists in the same order, of one reference or more each.

    Raises:
        DataError: no question, sides of different length, or an empty list of references.

    Source: Papineni et al. 2002; Post 2018 (sacrebleu).
    """
    if not predictions or len(predictions) != len(references):
        raise DataError(
            f"answers: {len(predictions)} predictions and {len(references)} lists of references; "
            f"expected as many of both, at least one; check the question files"
        )
    most = max(len(_given(given)) for given in references)
    # sacrebleu wants the i-th references of all questions together; None marks a question with fewer of them.
    streams = [[given[i] if i < len(given) else None for given in references] for i in range(most)]
    return sacrebleu.corpus_bleu(predictions, streams).score / 100  # type: ignore[arg-type]  # None is documented


def citation_precision(cited: Mapping[str, Collection[str]], gold: Mapping[str, Collection[str]]) -> dict[str, float]:
    """Share of the cited passages that are gold, for each question that cites something.

    A question without citations has no precision and is left out: report the length of the result as n. A passage
    cited twice counts once. A question with no gold passages (the corpus cannot answer it) scores 0 if it cites any.

    Args:
        cited: question_id → cited passage_ids.
        gold: question_id → passage_ids that hold the answer, possibly none; every question of `cited`.

    Raises:
        DataError: a question with citations that `gold` lacks.
    """
    if stray := sorted(cited.keys() - gold.keys()):
        raise DataError(f"citations: {_some(stray)} have no judgement; expected an entry in gold for each")
    return {
        question: len(set(cited[question]) & set(gold[question])) / len(set(cited[question]))
        for question in sorted(cited)
        if cited[question]
    }


def abstention(abstained: Mapping[str, bool], answerable: Mapping[str, bool]) -> dict[str, float]:
    """How well the system tells what it can answer from what it cannot.

    Returns:
        answered_answerable and refused_unanswerable, shares in [0, 1]; balanced_accuracy, their mean;
        n_answerable and n_unanswerable. A share of nothing is not there, nor is a mean that needs it.

    Raises:
        DataError: the two do not hold the same questions, or hold none.
    """
    if abstained.keys() != answerable.keys():
        odd = sorted(abstained.keys() ^ answerable.keys())
        raise DataError(f"abstention: {_some(odd)} are on one side only; expected the same questions on both")
    if not answerable:
        raise DataError("abstention: no question, expected at least one; check the question files")
    answered = [not abstained[question] for question in answerable if answerable[question]]
    refused = [abstained[question] for question in answerable if not answerable[question]]
    figures: dict[str, float] = {"n_answerable": len(answered), "n_unanswerable": len(refused)}
    if answered:
        figures["answered_answerable"] = sum(answered) / len(answered)
    if refused:
        figures["refused_unanswerable"] = sum(refused) / len(refused)
    if answered and refused:
        figures["balanced_accuracy"] = (figures["answered_answerable"] + figures["refused_unanswerable"]) / 2
    return figures


def _given(references: Sequence[str]) -> Sequence[str]:
    if isinstance(references, str) or not references:
        raise DataError(f"answers: expected a list of one reference or more, got {references!r}; score answerable ones")
    return references


def _some(questions: Sequence[str]) -> str:
    return f"{len(questions)} questions (first {list(questions[:3])})"
