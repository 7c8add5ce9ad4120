"""Most recent neighbours and degrees of nodes, strictly before a time.

One index by (node, event) answers all: a node's events lie side by side in time order, so that a search finds where the
past of a query ends, and the k entries before that place are its neighbours.
"""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .events import EventStore
from .history import GroupedEvents


class Neighbors(NamedTuple):
    """The k most recent neighbours of each query, latest at the right; absent ones, at the left, are -1 (time 0)."""

    nodes: Tensor  # (B, k) int64
    events: Tensor  # (B, k) int64: positions in the store
    times: Tensor  # (B, k) as in the store


class NeighborIndex:
    """The neighbours of every node through its events.

    `ends` says which events are a node's: those it sends ("src"), those it receives ("dst"), or "both", where a
    self-loop is one event. Events of one time keep the order of the store.
    """

    def __init__(self, store: EventStore, ends: Literal["both", "src", "dst"] = "both") -> None:
        self.store = store
        position = torch.arange(len(store))
        if ends == "both":
            other = store.src != store.dst
            node, event = torch.cat((store.src, store.dst[other])), torch.cat((position, position[other]))
        else:
            node, event = getattr(store, ends), position
        self.entries = GroupedEvents(node, event, store.nodes, len(store))

    def degree(self, nodes: Tensor, times: Any) -> Tensor:
        """How many events each node had strictly before its time; 0 for nodes that the store does not know."""
        return self.entries.count(nodes, self.store.before(times))

    def recent(self, nodes: Tensor, times: Any, k: int) -> Neighbors:
        """The `k` latest neighbours of `nodes` (B,) strictly before `times` (B,) or one time."""
        return self.recent_at(nodes, self.store.before(times), k)

    def recent_at(self, nodes: Tensor, cut: Tensor | int, k: int) -> Neighbors:
        """The same as of cuts (B,), positions in the store, or of one cut for all."""
        first, end = self.entries.span(nodes, cut)
        row = end[:, None] + torch.arange(-k, 0)  # (B, k)
        absent = row < first[:, None]
        if not len(self.store):
            nothing = torch.full_like(row, -1)
            return Neighbors(nothing, nothing, torch.zeros_like(row, dtype=self.store.time.dtype))
        event = self.entries.event[row.clamp(min=0)]
        neighbor = self.store.src[event] + self.store.dst[event] - nodes[:, None]
        return Neighbors(
            neighbor.masked_fill(absent, -1),
            event.masked_fill(absent, -1),
            self.store.time[event].masked_fill(absent, 0),
        )
