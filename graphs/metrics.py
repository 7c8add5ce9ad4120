"""How well links are told from others: ranks with ties, hits, average precision and area under the curve.

Ties are never broken: a positive among equals gets the middle of their ranks, and equal scores are one step of a curve.
"""

import torch
from torch import Tensor


def ranks(positive: Tensor, negative: Tensor) -> Tensor:
    """The rank of each positive score (B,) among its negatives (B, N), from 1: (B,) float64.

    Half-way between the rank if it came first of its equals and the rank if it came last (TGB). A negative that is
    -inf stands below all and takes no part.
    """
    above = (negative > positive[:, None]).sum(dim=1)
    beside = (negative == positive[:, None]).sum(dim=1)
    return 1 + above + beside / torch.tensor(2.0, dtype=torch.float64)


def reciprocal_rank(places: Tensor) -> float:
    """The mean of 1 / rank (MRR); not a number of no ranks."""
    return float((1 / places.double()).mean())


def hits(places: Tensor, k: int) -> float:
    """The share of ranks that are at most `k`."""
    return float((places <= k).double().mean())


def average_precision(positive: Tensor, negative: Tensor) -> float:
    """The area under precision over recall, step by step, of scores of any shape.

    The mean over the positives of the precision at their score, where all of the same score count as found.
    """
    found, wrong = _thresholds(positive, negative)
    precision = found / (found + wrong)
    return float((precision * found.diff(prepend=found.new_zeros(1))).sum() / found[-1])


def area_under_curve(positive: Tensor, negative: Tensor) -> float:
    """The chance that a positive scores above a negative, equal scores as one half (ROC AUC); scores of any shape."""
    found, wrong = _thresholds(positive, negative)
    zero = found.new_zeros(1)
    return float(torch.trapezoid(torch.cat((zero, found)), torch.cat((zero, wrong))) / (found[-1] * wrong[-1]))


def _thresholds(positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """How many positives and negatives score at least as much as each distinct score, from the highest down."""
    scores = torch.cat((positive.flatten(), negative.flatten()))
    true = torch.zeros(len(scores), dtype=torch.float64)
    true[: positive.numel()] = 1
    distinct, place = torch.unique(-scores, return_inverse=True)
    found = torch.zeros(len(distinct), dtype=torch.float64).index_add_(0, place, true)
    wrong = torch.zeros(len(distinct), dtype=torch.float64).index_add_(0, place, 1 - true)
    return found.cumsum(0), wrong.cumsum(0)
