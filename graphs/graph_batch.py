"""A batch of graphs: one disconnected graph of all their nodes, and where each graph begins."""

from typing import NamedTuple

import torch
from torch import Tensor


class GraphBatch(NamedTuple):
    """G graphs side by side: N nodes, E directed edges; features that a data set lacks have width 0."""

    nodes: Tensor  # (N, C) float32, or int64 codes
    edges: Tensor  # (2, E) int64: row 0 the source, row 1 the target, both counted over the batch
    edge_features: Tensor  # (E, F) float32, or int64 codes
    offsets: Tensor  # (G + 1,) int64: the first node of each graph, then N
    walks: Tensor  # (N, K) float32: random-walk statistics; K may be 0
    eigenvectors: Tensor  # (N, M) float32 of the Laplacian, NaN beyond the size of the graph; M may be 0
    eigenvalues: Tensor  # (N, M) float32, the same for all nodes of a graph

    @property
    def graph(self) -> Tensor:
        """The graph of each node, (N,) int64."""
        sizes = self.offsets.diff()
        return torch.repeat_interleave(
            torch.arange(len(sizes), device=sizes.device), sizes, output_size=len(self.nodes)
        )
