"""Contrastive losses as functions of vectors: no model, no text, no files.

A batch has b questions, each with one positive and the same number of negatives; its candidates are all of them, the
positives first, in the order of the questions.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from ragline.types import Passage, QAExample

Loss = Callable[[Tensor, Tensor], Tensor]
"""Vectors of the batch's questions (b, d) and candidates (n, d), any length, to a scalar."""


def info_nce(anchors: Tensor, candidates: Tensor, own: Tensor, hidden: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of each anchor over all candidates that are not hidden from it.

    Args:
        anchors: (m, d), rows of unit length.
        candidates: (n, d), rows of unit length.
        own: (m,) int64, place of each anchor's positive.
        hidden: (m, n) bool, True where a candidate may not count as a negative.

    Source: in-batch negatives as in Karpukhin et al., DPR, EMNLP 2020, section 3.2.
    """
    scores = anchors @ candidates.T / temperature
    return cross_entropy(scores.masked_fill(hidden, float("-inf")), own)


def masked(hidden: Tensor, rows: slice, temperature: float, symmetric: bool) -> Loss:
    """The loss of some rows of a batch over all of its candidates, by cosine.

    Args:
        hidden: (b, n) bool of the whole batch.
        rows: the questions that this process answers for; all of them where there is one process.
        symmetric: take the mean with the other direction, each positive over all questions that it does not answer.

    Source: for the other direction Radford et al., CLIP, ICML 2021, figure 3.
    """

    def loss(questions: Tensor, candidates: Tensor) -> Tensor:
        asked, offered = normalize(questions, dim=-1), normalize(candidates, dim=-1)
        own = torch.arange(len(asked), device=asked.device)[rows]
        forward = info_nce(asked[rows], offered, own, hidden[rows], temperature)
        if not symmetric:
            return forward
        positives = offered[: len(asked)]
        backward = info_nce(positives[rows], asked, own, hidden[:, : len(asked)].T[rows], temperature)
        return (forward + backward) / 2

    return loss


def matryoshka(loss: Loss, dims: Sequence[int]) -> Loss:
    """The sum of a loss over the first `dims` numbers of every vector, all of weight 1; no dims, the loss itself.

    Source: Kusupati et al., Matryoshka Representation Learning, NeurIPS 2022, equation 1 with c_m = 1.
    """
    if not dims:
        return loss

    def nested(questions: Tensor, candidates: Tensor) -> Tensor:
        return torch.stack([loss(questions[:, :d], candidates[:, :d]) for d in dims]).sum()

    return nested


def localrqa(questions: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """LocalRQA's contrastive loss as it was published: inner products of vectors of any length, nothing hidden.

    Args:
        questions: (b, d).
        keys: (b + negatives, d), the questions' positives first.

    Source: local_rqa/trainers/retriever/retriever_trainer.py, `compute_loss`; Yu et al., LocalRQA, ACL 2024 (demos).
    """
    return cross_entropy((questions / temperature) @ keys.T, torch.arange(len(questions), device=questions.device))


def unlabelled(questions: Sequence[QAExample], candidates: Sequence[Passage]) -> Tensor:
    """Where a candidate may not count as a negative, as it probably answers the question, too.

    Those are passages that are also gold for the question, the text of its positive again, and what belongs to a
    near-duplicate of its document. The question's own positive, at its own place, is never hidden.

    Args:
        candidates: n of them; the first b are the questions' positives.

    Returns:
        (b, n) bool.
    """
    asked = len(questions)
    ids, texts = _codes([p.passage_id for p in candidates]), _codes([p.text for p in candidates])
    homes = _codes([q.doc_id for q in questions] + [p.doc_id for p in candidates])
    clusters = _codes([q.cluster for q in questions] + [p.cluster for p in candidates])
    number = {p.passage_id: code for p, code in zip(candidates, ids.tolist(), strict=True)}
    gold = [torch.tensor([number[p] for p in q.gold_passage_ids if p in number], dtype=torch.int64) for q in questions]
    labelled = torch.stack([torch.isin(ids, codes) for codes in gold])
    repeated = texts[:asked, None] == texts
    related = (clusters[:asked, None] == clusters[asked:]) & (homes[:asked, None] != homes[asked:])
    return (labelled | repeated | related).fill_diagonal_(False)


def _codes(names: Sequence[str]) -> Tensor:
    """(n,) int64: equal numbers for equal names."""
    number: dict[str, int] = {}
    return torch.tensor([number.setdefault(name, len(number)) for name in names], dtype=torch.int64)
