"""From the states of nodes to answers: a row a graph, or a row a node."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .graph_context import GraphContext

Head = Literal["san_graph", "graph", "inductive_node", "forecast"]
Pooling = Literal["mean", "sum", "max"]
OF_GRAPHS = ("san_graph", "graph")  # the others answer for each node


def pool(nodes: Tensor, context: GraphContext, kind: Pooling) -> Tensor:
    """One row a graph, (G, D), from the states of its nodes (N, D)."""
    sizes, where = context.sizes, context.graph
    none = nodes.new_zeros(len(sizes), nodes.shape[1])
    if kind == "max":
        return none.scatter_reduce(0, where[:, None].expand_as(nodes), nodes, "amax", include_self=False)
    total = none.index_add(0, where, nodes)
    return total if kind == "sum" else total / sizes[:, None]


class NormedMLP(nn.Module):
    """Linear maps; each hidden row goes through ReLU and is scaled to length 1, as in GraphGym's heads."""

    def __init__(self, width: int, outputs: int, layers: int) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(layers - 1))
        self.out = nn.Linear(width, outputs)

    def forward(self, rows: Tensor) -> Tensor:
        """The outputs, (rows, outputs)."""
        for linear in self.hidden:
            rows = F.normalize(torch.relu(linear(rows)), dim=1, eps=1e-12)
        out: Tensor = self.out(rows)
        return out


def halving_mlp(width: int, outputs: int) -> nn.Sequential:
    """SAN's read-out: width, half of it, a quarter of it, outputs, with ReLU between."""
    return nn.Sequential(
        nn.Linear(width, width // 2),
        nn.ReLU(),
        nn.Linear(width // 2, width // 4),
        nn.ReLU(),
        nn.Linear(width // 4, outputs),
    )


def forecast_mlp(width: int, outputs: int, dropout: float) -> nn.Sequential:
    """Ours, for values of nodes: one hidden layer, whose magnitude is kept."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, outputs))


def head_network(kind: Head, width: int, outputs: int, layers: int, dropout: float) -> nn.Module:
    """The network of a head, on pooled rows or on nodes."""
    if kind == "san_graph":
        return halving_mlp(width, outputs)
    return forecast_mlp(width, outputs, dropout) if kind == "forecast" else NormedMLP(width, outputs, layers)
