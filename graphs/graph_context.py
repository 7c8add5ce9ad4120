"""What every layer of a graph transformer needs of a batch besides the states of its nodes, worked out once."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .graph_batch import GraphBatch, GraphError


class EdgeStates(NamedTuple):
    """States of E edges, of which only U differ: bonds are of few kinds, windows of sensors repeat the same edges.

    What a layer makes of edges alone it makes of each kind once.
    """

    rows: Tensor  # (U, D)
    kind: Tensor | None = None  # (E,) int64 row of each edge; None: each edge has its own

    def each(self, change: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The state of each edge, (E, D), after `change`, which maps rows one by one: (U, D) to (U, D')."""
        rows = self.rows if change is None else change(self.rows)
        return rows if self.kind is None else rows.index_select(0, self.kind)

    def repeat(self, copies: int) -> "EdgeStates":
        """The states of `copies` copies of the edges, one after the other."""
        kind = torch.arange(len(self.rows), device=self.rows.device) if self.kind is None else self.kind
        return EdgeStates(self.rows, kind.repeat(copies))


class GraphContext(NamedTuple):
    """The fixed part of a batch of G graphs, N nodes and E edges; n is the size of the largest graph.

    Places and presence are for dense attention alone, and empty without it.
    """

    edge_states: EdgeStates  # of E edges
    edges: Tensor  # (2, E) source, target
    attention_edges: Tensor  # (2, P) key, query; dense attention has none
    attention_bias: Tensor | None  # (P,) added to the scores of all heads
    graph: Tensor  # (N,)
    sizes: Tensor  # (G,) nodes
    place: Tensor  # (N,) where each node stands when graphs are padded to n
    present: Tensor  # (G, n) bool

    @classmethod
    def of(cls, batch: GraphBatch, edge_states: EdgeStates, *, dense: bool, self_loops: bool) -> "GraphContext":
        """The context of a batch. `self_loops`: attention runs along one loop a node as well.

        Raises `GraphError` for a graph without nodes.
        """
        sizes, graph = batch.offsets.diff(), batch.graph
        if bool((sizes < 1).any()):
            raise GraphError(
                f"Graph {int((sizes < 1).nonzero()[0, 0])} of the batch has no nodes.", "Leave such graphs out."
            )
        nodes = torch.arange(len(graph), device=graph.device)
        none = graph.new_zeros(0)
        if dense:
            longest = int(sizes.max()) if len(sizes) else 0
            place = graph * longest + nodes - batch.offsets[graph]
            present = torch.arange(longest, device=graph.device) < sizes[:, None]
            return cls(edge_states, batch.edges, none.view(2, 0), None, graph, sizes, place, present)
        attention_edges, bias = batch.edges, None if batch.edge_weights is None else batch.edge_weights.log()
        if self_loops:
            others = batch.edges[0] != batch.edges[1]
            attention_edges = torch.cat((batch.edges[:, others], nodes.expand(2, -1)), dim=1)
            bias = None if bias is None else torch.cat((bias[others], bias.new_zeros(len(nodes))))
        return cls(edge_states, batch.edges, attention_edges, bias, graph, sizes, none, none.bool().view(0, 0))

    def repeat(self, copies: int) -> "GraphContext":
        """The context of `copies` copies of the batch, one after the other."""
        nodes, slots = len(self.graph), self.present.numel()
        shift = torch.arange(copies, device=self.graph.device)
        return GraphContext(
            self.edge_states.repeat(copies),
            _shifted(self.edges, shift * nodes),
            _shifted(self.attention_edges, shift * nodes),
            None if self.attention_bias is None else self.attention_bias.repeat(copies),
            _shifted(self.graph, shift * len(self.sizes)),
            self.sizes.repeat(copies),
            _shifted(self.place, shift * slots),
            self.present.repeat(copies, 1),
        )


def _shifted(numbers: Tensor, shifts: Tensor) -> Tensor:
    """Numbers (..., n) once for each shift, side by side, the shift added: (..., n copies)."""
    return (numbers[..., None, :] + shifts[:, None]).flatten(-2)
