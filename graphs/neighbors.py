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
    """The latest neighbours of every node through its events.

    `ends` says which events are a node's: those it sends ("src"), those it receives ("dst"), or "both", where a
    self-loop is one event. Events of one time keep the order of the store. Memory: 16 bytes an event of a node, 40 once
    neighbours were asked for (with both ends, an event of the store is two), and 8 a node.
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
        self._absent = torch.tensor([-1, -1, 0])  # node, event and time; all bits 0 are 0.0 as well
        self._rows = torch.zeros(0, 3, dtype=torch.int64)

    def degree(self, nodes: Tensor, times: Any) -> Tensor:
        """How many events each node had strictly before its time; 0 for nodes that the store does not know."""
        return self.entries.count(nodes, self.store.before(times))

    def recent(self, nodes: Tensor, times: Any, k: int) -> Neighbors:
        """The `k` latest neighbours of `nodes` (B,) strictly before `times` (B,) or one time.

        A node that the store does not know has none.
        """
        return self.recent_at(nodes, self.store.before(times), k)

    def recent_at(self, nodes: Tensor, cut: Tensor | int, k: int) -> Neighbors:
        """The same as of cuts (B,), positions in the store, or of one cut for all."""
        first, end = self.entries.span(nodes, cut)
        found = self._before(k)[end].view(-1, k, 3)
        few = (end - first < k).nonzero()[:, 0]
        part = found[few]
        part[torch.arange(-k, 0) < (first - end)[few, None]] = self._absent
        found[few] = part  # most have k, and need no mask
        neighbor, event, time = found.unbind(dim=2)
        return Neighbors(neighbor, event, time.view(self.store.time.dtype))

    def _before(self, k: int) -> Tensor:
        """The `k` entries before each place, as a view (M + 1, 3k): a query copies what lies side by side in memory.

        Neighbour, event and time are three numbers of one row; as many absent rows as the largest k come first.
        """
        event, lead = self.entries.event, len(self._rows) - len(self.entries.event)
        if lead < k:
            neighbor = self.store.src[event] + self.store.dst[event] - self.entries.keys // self.entries.step
            rows = torch.stack((neighbor, event, self.store.time[event].view(torch.int64)), dim=1)
            self._rows, lead = torch.cat((self._absent.expand(k, 3), rows)), k
        return self._rows[lead - k :].flatten().unfold(0, 3 * k, 3)
