"""What nodes and pairs did up to any point of a stream: one sorted index, searched, no loop and no state.

Everything is asked *as of a cut*, a number or a tensor of positions in the store: only events before it count, whatever
follows. `EventStore.before` makes cuts of times.
"""

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from .events import EventStore


class GroupedEvents:
    """The events of each group in ascending order, as sorted keys `group × (E + 1) + event`. Memory: 16 bytes an entry.

    `group` (M,) int64 in 0 … groups-1 and `event` (M,) int64 positions below `events` are the entries; an event may
    belong to several groups, though to none twice.
    """

    def __init__(self, group: Tensor, event: Tensor, groups: int, events: int) -> None:
        self.groups = groups
        self.step = events + 1
        self.keys = (group * self.step + event).sort().values  # (M,)
        self.event = self.keys % self.step  # (M,)
        starts = torch.arange(groups + 1) * self.step
        self.offsets = torch.searchsorted(self.keys, starts)  # (groups + 1,)

    def span(self, group: Tensor, cut: Tensor | int) -> tuple[Tensor, Tensor]:
        """First and end row in `event` of what each group did before `cut`, shaped as `group` and `cut` broadcast.

        The two are equal where there is nothing, groups that do not exist included.
        """
        group, ends = torch.broadcast_tensors(group, torch.as_tensor(cut))
        if group.numel():
            low, high = group.aminmax()
            if low < 0 or high >= self.groups:
                group = torch.where(
                    (group >= 0) & (group < self.groups), group, self.groups
                )  # one past the last: no entry has it
        first = self.offsets[group]
        end = torch.searchsorted(self.keys, group * self.step + ends.clamp(0, self.step - 1))
        return first, end

    def count(self, group: Tensor, cut: Tensor | int) -> Tensor:
        """How many events each group had before `cut`."""
        first, end = self.span(group, cut)
        return end - first

    def counts(self, group: Tensor, cut: Tensor) -> Tensor:
        """How many events each group (K,) had before each cut (C,): (C, K) int64.

        The same as `count` of all pairs of the two, and much faster: only the first cut is searched for, from there on
        events are added up.
        """
        groups, column = torch.unique(group, return_inverse=True)
        cuts, row = torch.unique(cut, return_inverse=True)
        if not cuts.numel():
            return torch.zeros(0, len(group), dtype=torch.int64)
        events, owners = self._by_event
        between = slice(*torch.searchsorted(events, cuts[[0, -1]]).tolist())
        place = torch.searchsorted(groups, owners[between]).clamp(max=max(len(groups) - 1, 0))
        asked = groups[place] == owners[between] if len(groups) else torch.zeros_like(place, dtype=torch.bool)
        number = torch.zeros(len(cuts), len(groups), dtype=torch.int64)
        number[0] = self.count(groups, cuts[0])
        after = torch.searchsorted(cuts, events[between][asked], right=True)  # the first cut that the event is before
        one = torch.ones(1, dtype=torch.int64)
        number.index_put_((after, place[asked]), one, accumulate=True)
        number = number.cumsum(0).index_select(0, row)
        return number if torch.equal(groups, group) else number[:, column]

    def nth(self, group: Tensor, number: Tensor) -> Tensor:
        """The position of the `number`-th event, from 1, of each group, shaped as both broadcast; -1 for the 0th."""
        place = self.offsets[group.clamp(max=self.groups)] + number - 1
        return torch.where(number > 0, self.event[place.clamp(min=0)], -1) if len(self.event) else number - 1

    @cached_property
    def _by_event(self) -> tuple[Tensor, Tensor]:
        """All entries in ascending order of events: the event and the group of each."""
        order = torch.argsort(self.event)
        return self.event[order], (self.keys // self.step)[order]

    def last(self, group: Tensor, cut: Tensor | int) -> Tensor:
        """The position of the latest event of each group before `cut`; -1 where there is none."""
        first, end = self.span(group, cut)
        if not len(self.event):
            return torch.full_like(first, -1)
        return torch.where(end > first, self.event[(end - 1).clamp(min=0)], -1)


class Meetings(NamedTuple):
    """What pairs had done, of the shape that was asked for."""

    number: Tensor  # int64: how often they met
    last: Tensor  # int64: position of the latest event; -1 where they never met


class PairHistory:
    """Counts and latest meetings of pairs as of any cut; `directed` keeps (u, v) and (v, u) apart.

    Searching a pair costs O(log P), and O(log E) more for the P pairs that ever meet. Memory: 16 bytes an event, 32
    bytes a pair.
    """

    def __init__(self, store: EventStore, *, directed: bool = True) -> None:
        self.store, self.nodes, self.directed = store, store.nodes, directed
        self.pairs, pair = torch.unique(self._keys(store.src, store.dst), return_inverse=True)  # (P,), (E,)
        self.events = GroupedEvents(pair, torch.arange(len(store)), len(self.pairs), len(store))
        self._ended = torch.cat((self.pairs, torch.tensor([torch.iinfo(torch.int64).max])))
        first = self.events.event[self.events.offsets[:-1]]  # (P,) where each pair meets first
        self.first, self.arrivals = first.sort()  # (P,) each: when pairs arrive, and which, in the order of arrival
        self.arrival = torch.empty_like(self.arrivals)  # (P,) the place of each pair in that order
        self.arrival[self.arrivals] = torch.arange(len(self.pairs))

    def arrived(self, cut: Tensor | int) -> Tensor:
        """How many distinct pairs met before `cut`, shaped as it."""
        return torch.searchsorted(self.first, torch.as_tensor(cut))

    def members(self, pair: Tensor) -> tuple[Tensor, Tensor]:
        """Source and destination of pairs by their numbers; undirected, the smaller id first."""
        return self.pairs[pair] // self.nodes, self.pairs[pair] % self.nodes

    def find(self, src: Tensor, dst: Tensor) -> Tensor:
        """The number of each pair in `pairs`, -1 where it never meets; shaped as `src` and `dst` broadcast."""
        at, pair, shape = self._hits(src, dst)
        found = torch.full(shape, -1)
        found[at] = pair
        return found

    def meetings(self, src: Tensor, dst: Tensor, cut: Tensor | int) -> Meetings:
        """How often each pair met before `cut`, and its latest event; shaped as `src` and `dst` broadcast.

        A tensor `cut` broadcasts to that shape.
        """
        at, pair, shape = self._hits(src, dst)
        first, end = self.events.span(pair, cut.expand(shape)[at] if isinstance(cut, Tensor) else cut)
        number, last = torch.zeros(shape, dtype=torch.int64), torch.full(shape, -1)
        number[at] = end - first
        if len(pair):
            last[at] = torch.where(end > first, self.events.event[(end - 1).clamp(min=0)], -1)
        return Meetings(number, last)

    def _hits(self, src: Tensor, dst: Tensor) -> tuple[tuple[Tensor, ...], Tensor, torch.Size]:
        """Which of the pairs ever meet, and their numbers: of many candidates few, so only they are worked on."""
        src, dst = torch.broadcast_tensors(src, dst)
        keys = self._keys(src, dst)
        place = torch.searchsorted(self.pairs, keys)
        at = (self._ended[place] == keys).nonzero(as_tuple=True)
        low, high = torch.minimum(src[at], dst[at]), torch.maximum(src[at], dst[at])
        inside = (low >= 0) & (high < self.nodes)  # ids that the store does not know have keys of other pairs
        at = tuple(axis[inside] for axis in at)
        return at, place[at], keys.shape

    def _keys(self, src: Tensor, dst: Tensor) -> Tensor:
        if self.directed:
            return src * self.nodes + dst
        return torch.minimum(src, dst) * self.nodes + torch.maximum(src, dst)
