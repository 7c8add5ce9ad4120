"""Rules that tell the state of a node without learning: how common it is, what the node did and was before.

Ours, not a paper's. A network has to beat the best of them.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .events import EventStore
from .history import GroupedEvents
from .neighbors import NeighborIndex


class NodeBatch(NamedTuple):
    """Nodes whose states are asked together, given the events before `cut`."""

    event: Tensor  # (B,) int64: position of the event that the state belongs to
    node: Tensor  # (B,) int64
    time: Tensor  # (B,) as in the store
    cut: int  # position in the store: history is what comes before


NodeRule = Callable[[NodeBatch], Tensor]  # scores (B,) of the state, the higher the likelier


class LabelHistory:
    """What the labels of each source told up to any point of a stream.

    `labels` (E,) are 0 or 1, NaN for an event that has none.
    """

    def __init__(self, store: EventStore, labels: Tensor) -> None:
        event = (~labels.isnan()).nonzero().squeeze(1)
        self.entries = GroupedEvents(store.src[event], event, store.nodes, len(store))
        self.labels = labels[self.entries.event].double()  # by node, then time
        self.positives = torch.cat((self.labels.new_zeros(1), self.labels.cumsum(0)))

    def counts(self, nodes: Tensor, cut: int) -> tuple[Tensor, Tensor]:
        """How many labels each node had before `cut`, and how many of them were 1: (B,) each."""
        first, end = self.entries.span(nodes, cut)
        return end - first, self.positives[end] - self.positives[first]

    def last(self, nodes: Tensor, cut: int) -> Tensor:
        """The latest label of each node before `cut`, (B,), NaN where there is none."""
        first, end = self.entries.span(nodes, cut)
        found = torch.full(end.shape, torch.nan, dtype=torch.float64)
        there = end > first
        found[there] = self.labels[end[there] - 1]
        return found


def constant(share: float) -> NodeRule:
    """The same for all: `share`, how common the state is."""
    return lambda batch: torch.full(batch.node.shape, share, dtype=torch.float64)


def last_label(history: LabelHistory, share: float) -> NodeRule:
    """The node's latest label; `share` where it had none."""
    return lambda batch: history.last(batch.node, batch.cut).nan_to_num(nan=share)


def positive_rate(history: LabelHistory, share: float) -> NodeRule:
    """The share of the node's labels that were 1, with one more label that is 1 to `share`."""

    def rule(batch: NodeBatch) -> Tensor:
        labels, positives = history.counts(batch.node, batch.cut)
        return (positives + share) / (labels + 1)

    return rule


def activity(index: NeighborIndex, sign: int) -> NodeRule:
    """How many events the node had, times `sign`: 1 where the busy are the likelier ones, else -1."""
    return lambda batch: sign * index.entries.count(batch.node, batch.cut).double()
