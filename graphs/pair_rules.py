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
        cut = torch.as_tensor(batch.cut).view(-1, 1)  # (1, 1) or (B, 1)
        least, most = int(cut.min()), int(cut.max())
        if not most:
            return scores
        now = number[(cut - 1).clamp(min=0)]
        # What all cuts share is summed once, what comes between the least and each is counted on top.
        start = now.min()
        begin = int(torch.searchsorted(number, start - reach))
        weight = decay ** (start - number[begin:least]).double()
        shared = torch.bincount(store.dst[begin:least], weight, minlength=store.nodes)
        met, column = torch.unique(store.dst[least:most], return_inverse=True)
        since = torch.zeros(len(cut), len(met) + 1, dtype=torch.float64)  # the last column is for all that are not met
        for batch_number in number[least:most].unique():
            events = torch.zeros(most - least + 1, len(met) + 1, dtype=torch.int64)
            there = (number[least:most] == batch_number).nonzero().squeeze(1)
            events[there + 1, column[there]] = 1
            since += decay ** (now - batch_number).double() * events.cumsum(0)[(cut - least).squeeze(1)]
        place = torch.full((store.nodes,), len(met)).index_copy(0, met, torch.arange(len(met)))
        _, dst = batch.candidates()
        known = (dst >= 0) & (dst < store.nodes)
        dst = torch.where(known, dst, 0)
        popularity = shared[dst] * decay ** (now - start).double() + since.expand(len(dst), -1).gather(1, place[dst])
        below = popularity / (1 + cut)  # below 1, the least that recency gives
        return torch.where(scores > 0, scores, torch.where(known, below, 0.0))

    return rule


def batch_numbers(borders: Sequence[int], size: int = 200) -> Tensor:
    """The batch of each event: (E,) int64. Batches of `size` begin anew at each of `borders`, from 0 to E."""
    numbers = torch.zeros(borders[-1], dtype=torch.int64)
    begun = 0
    for first, end in itertools.pairwise(borders):
        numbers[first:end] = begun + torch.arange(end - first) // size
        begun += -(-(end - first) // size)
    return numbers
