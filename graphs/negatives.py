"""Who was not met: negatives for batches of events, drawn by a seed or all there are.

A draw depends on the seed, the batch and the events before it alone, not on the batches drawn earlier: batches can be
made in any order, on any worker, and come out the same.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .events import EventStore, LinkBatch, Stretch
from .history import GroupedEvents, PairHistory

Seed = int | Sequence[int]


def random_negatives(store: EventStore, stretch: Stretch, pool: Tensor, count: int, seed: Seed) -> LinkBatch:
    """The events of `stretch`, each with `count` destinations drawn from `pool` (P,), evenly and with replacement.

    As in the published protocols, a draw may hit a true destination.
    """
    batch = store[stretch.first : stretch.end]
    drawn = _generator(seed, stretch).integers(len(pool), size=(len(batch), count))
    return _batch(batch, stretch, batch.src[:, None].expand(-1, count), pool[torch.from_numpy(drawn)])


def historical_negatives(
    history: PairHistory, stretch: Stretch, pool: Tensor, count: int, seed: Seed, *, since: int = 0
) -> LinkBatch:
    """The events of `stretch`, each with `count` pairs that met before its cut and do not meet in it.

    The pairs are drawn evenly without replacement, sources included, among those whose first meeting is event `since`
    or later; of too few, all are taken, and the rest are `pool` destinations for the batch's own sources.
    """
    batch = history.store[stretch.first : stretch.end]
    generator = _generator(seed, stretch)
    begin, end = int(history.arrived(since)), int(history.arrived(stretch.cut))
    present = history.arrival[history.find(batch.src, batch.dst).unique()]
    present = present[(present >= begin) & (present < end)].sort().values - begin
    wanted, there = len(batch) * count, max(0, end - begin - len(present))
    drawn = torch.from_numpy(generator.choice(there, size=min(wanted, there), replace=False))
    # The d-th pair of those left over: d, moved on by one for each present pair that stands before it.
    drawn = drawn + torch.searchsorted(present - torch.arange(len(present)), drawn, side="right") + begin
    src, dst = history.members(history.arrivals[drawn])
    lacking = wanted - len(drawn)
    own = batch.src.repeat_interleave(count)[:lacking]
    src = torch.cat((own, src))
    dst = torch.cat((pool[torch.from_numpy(generator.integers(max(1, len(pool)), size=lacking))], dst))
    return _batch(batch, stretch, src.view(-1, count), dst.view(-1, count))


def inductive_negatives(
    history: PairHistory, stretch: Stretch, pool: Tensor, count: int, seed: Seed, *, trained: int
) -> LinkBatch:
    """`historical_negatives` among pairs that first met after the first `trained` events, those of training."""
    return historical_negatives(history, stretch, pool, count, seed, since=trained)


class AllDestinations:
    """Every destination of `pool` (P,), distinct and ascending, as a negative of every event, its true ones left out.

    True ones are all whom the source meets at the event's time, as in TGB's protocol.
    """

    def __init__(self, store: EventStore, pool: Tensor) -> None:
        self.store, self.pool, self.width = store, pool, len(pool)
        moments = torch.stack((store.before(store.time), store.src), dim=1)
        _, self._moment = torch.unique(moments, dim=0, return_inverse=True)
        groups = int(self._moment.max()) + 1 if len(store) else 0
        self._events = GroupedEvents(self._moment, torch.arange(len(store)), groups, len(store))

    def __call__(self, stretch: Stretch) -> LinkBatch:
        """The events of `stretch`, each with N = P negatives, -1 in the place of true destinations."""
        batch = self.store[stretch.first : stretch.end]
        first, end = self._events.span(self._moment[stretch.first : stretch.end], len(self.store))
        size = end - first
        row = torch.repeat_interleave(size)
        event = self._events.event[torch.arange(len(row)) - (size.cumsum(0) - size - first)[row]]
        true = self.store.dst[event]
        column = torch.searchsorted(self.pool, true).clamp(max=len(self.pool) - 1)
        inside = self.pool[column] == true
        negatives = self.pool.repeat(len(batch), 1)
        negatives[row[inside], column[inside]] = -1
        return _batch(batch, stretch, batch.src[:, None].expand_as(negatives), negatives)


class ListedDestinations:
    """The negatives that a published set lists for its events: `listed` (Q, N) from event `first` on, -1 for none."""

    def __init__(self, store: EventStore, first: int, listed: Tensor) -> None:
        self.store, self.first, self.listed, self.width = store, first, listed, listed.shape[1]

    def __call__(self, stretch: Stretch) -> LinkBatch:
        """The events of `stretch`, each with its N negatives."""
        batch = self.store[stretch.first : stretch.end]
        negatives = self.listed[stretch.first - self.first : stretch.end - self.first]
        return _batch(batch, stretch, batch.src[:, None].expand_as(negatives), negatives)


def _generator(seed: Seed, stretch: Stretch) -> np.random.Generator:
    return np.random.default_rng([*([seed] if isinstance(seed, int) else seed), stretch.first])


def _batch(batch: EventStore, stretch: Stretch, negative_src: Tensor, negatives: Tensor) -> LinkBatch:
    return LinkBatch(batch.src, batch.dst, batch.time, negatives, negative_src, stretch.cut)
