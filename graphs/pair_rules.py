"""Rules that rank by what a pair did before: how often it met, how recently, and popularity where it never did.

Ours, not a paper's. On streams whose pairs recur they are stronger than EdgeBank, and stronger than most published
networks: a network has to beat the best of them.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .evaluation import LinkRule
from .events import LinkBatch
from .history import PairHistory


def pair_count(history: PairHistory) -> LinkRule:
    """The more often a pair met, the higher."""

    def rule(batch: LinkBatch) -> Tensor:
        return history.meetings(*batch.candidates(), batch.cut).number.double()

    return rule


def pair_recency(history: PairHistory) -> LinkRule:
    """The later a pair last met, the higher: 0 for never, equal for equal times."""
    # Not the time itself: whole numbers up to E are exact as floats, nanoseconds are not. The 0 at the end is of -1.
    moment = torch.cat((history.store.before(history.store.time) + 1, torch.zeros(1, dtype=torch.int64))).double()

    def rule(batch: LinkBatch) -> Tensor:
        return moment[history.meetings(*batch.candidates(), batch.cut).last]

    return rule


def recency_then_popularity(history: PairHistory, number: Tensor, decay: float = 0.94) -> LinkRule:
    """`pair_recency`, and below all pairs that met, the others by how often their destination was met lately.

    `number` (E,) counts the batches that the stream comes in (`batch_numbers`); a meeting weighs `decay` less, as a
    factor, with each batch since.
    """
    store = history.store
    recency = pair_recency(history)
    # Weights below 1e-16 of the latest are lost in the sum anyway: so far back, and not to the start, goes the count.
    reach = int(math.log(1e-16) / math.log(decay)) + 1 if decay < 1 else len(store)

    def rule(batch: LinkBatch) -> Tensor:
        scores = recency(batch)
        if not batch.cut:
            return scores
        begin = int(torch.searchsorted(number, number[batch.cut - 1] - reach))
        age = number[batch.cut - 1] - number[begin : batch.cut]
        popularity = torch.bincount(store.dst[begin : batch.cut], decay ** age.double(), minlength=store.nodes)
        _, dst = batch.candidates()
        known = (dst >= 0) & (dst < store.nodes)
        below = popularity / (1 + popularity.max())  # below 1, the least that recency gives
        return torch.where(scores > 0, scores, torch.where(known, below[torch.where(known, dst, 0)], 0.0))

    return rule


def batch_numbers(borders: Sequence[int], size: int = 200) -> Tensor:
    """The batch of each event: (E,) int64. Batches of `size` begin anew at each of `borders`, from 0 to E."""
    numbers = torch.zeros(borders[-1], dtype=torch.int64)
    begun = 0
    for first, end in itertools.pairwise(borders):
        numbers[first:end] = begun + torch.arange(end - first) // size
        begun += -(-(end - first) // size)
    return numbers
