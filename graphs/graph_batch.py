"""Many graphs as one: the disjoint union that networks on graphs are given."""

from typing import NamedTuple

import torch
from torch import Tensor


class GraphError(ValueError):
    """Graphs or settings that cannot be used. The message names what is wrong and where, the hint what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}\n{hint}")
        self.message = message
        self.hint = hint


class GraphBatch(NamedTuple):
    """G graphs one after the other: N nodes and E directed edges in all; undirected ones stand in both directions."""

    nodes: Tensor  # (N, C) float32 features, or int64 codes
    edges: Tensor  # (2, E) int64: row 0 sources, row 1 targets, numbered through the batch
    edge_features: Tensor  # (E, F) float32, or int64 codes; F may be 0; fewer rows where `edge_rows` says which
    offsets: Tensor  # (G + 1,) int64 first node of each graph, then N
    walks: Tensor  # (N, K) float32 chances to be back after each number of random steps; K may be 0
    eigenvectors: Tensor  # (N, M) float32 of the Laplacian, smallest eigenvalues first, NaN beyond N; M may be 0
    eigenvalues: Tensor  # (N, M) float32, the same for all nodes of a graph, NaN beyond N
    edge_rows: Tensor | None = None  # (E,) int64 row of `edge_features` of each edge; None: each edge has its own
    edge_weights: Tensor | None = None  # (E,) above 0, weigh sparse attention along the edges; None: all alike

    @property
    def graph(self) -> Tensor:
        """The graph of each node, (N,) int64."""
        sizes = self.offsets.diff()
        return torch.repeat_interleave(
            torch.arange(len(sizes), device=sizes.device), sizes, output_size=len(self.nodes)
        )

    def to(self, device: torch.device | str) -> "GraphBatch":
        """The batch on another device."""
        columns = {name: column for name, column in self._asdict().items() if column is not None}
        return self._replace(**{name: column.to(device) for name, column in columns.items()})
