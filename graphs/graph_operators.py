"""Message-passing operators for the keys and values of a graph transformer, by name.

An operator is a module made by `OPERATORS[name](width, heads, dropout)` whose `forward(nodes, edges, states)` takes
(N, D), (2, E) int64 and the states of the edges to (N, D); `states.each()` is (E, D). It applies dropout itself, since
CustomGatedGCN does so inside its residual; the others drop out their result. Another operator is another row of the
table.

Sources: GINE, Hu et al. 2020, https://arxiv.org/abs/1905.12265; gated GCN, Bresson and Laurent 2017,
https://arxiv.org/abs/1711.07553; GATv2, Brody et al. 2022, https://arxiv.org/abs/2105.14491.
"""

import difflib
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .graph_batch import GraphError
from .graph_context import EdgeStates
from .segments import segment_softmax


class GINE(nn.Module):
    """W2 ReLU(W1 s + b1) + b2 of s_i = (1 + eps) x_i + sum over j -> i of ReLU(x_j + e_ji); eps stays 0."""

    eps: Tensor

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("eps", torch.zeros(1))
        self.nn = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, nodes: Tensor, edges: Tensor, states: EdgeStates) -> Tensor:
        """New states of the nodes, (N, D)."""
        source, target = edges
        messages = torch.relu(nodes.index_select(0, source) + states.each())  # (E, D)
        out: Tensor = self.dropout(self.nn(((1 + self.eps) * nodes).index_add(0, target, messages)))
        return out


class CustomGatedGCN(nn.Module):
    """x_i + Dropout(ReLU(BN(A x_i + m_i))), m_i the mean of B x_j weighted by gates sigmoid(D x_i + E x_j + C e_ji).

    The authors' layers update the edge features too and throw the result away; here it is not computed. The norm that
    it would go through, `bn_edge_e`, is kept so that their weights load and their parameter counts hold.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.A, self.B, self.C, self.D, self.E = (nn.Linear(width, width) for _ in range(5))
        self.bn_node_x = nn.BatchNorm1d(width)
        self.bn_edge_e = nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, nodes: Tensor, edges: Tensor, states: EdgeStates) -> Tensor:
        """New states of the nodes, (N, D)."""
        source, target = edges
        gates = torch.sigmoid(
            self.D(nodes).index_select(0, target) + self.E(nodes).index_select(0, source) + states.each(self.C)
        )  # (E, D)
        none = torch.zeros_like(nodes)
        total = none.index_add(0, target, gates * self.B(nodes).index_select(0, source))
        mean = total / (none.index_add(0, target, gates) + 1e-6)
        return nodes + self.dropout(torch.relu(self.bn_node_x(self.A(nodes) + mean)))


class GATV2(nn.Module):
    """Attention of a node to its neighbours and itself, H heads side by side.

    g_ji = LeakyReLU(W_l x_j + W_r x_i + W_e e_ji), shares softmax over j of att · g_ji, values W_l x_j. Loops of the
    input are replaced by one a node, which has the mean of the node's incoming edge features.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.lin_l, self.lin_r = nn.Linear(width, width), nn.Linear(width, width)
        self.lin_edge = nn.Linear(width, width, bias=False)
        self.att = nn.Parameter(torch.empty(1, heads, width // heads))
        self.bias = nn.Parameter(torch.zeros(width))
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.att)
        for linear in (self.lin_l, self.lin_r, self.lin_edge):
            nn.init.xavier_uniform_(linear.weight)
        for linear in (self.lin_l, self.lin_r):
            nn.init.zeros_(linear.bias)

    def forward(self, nodes: Tensor, edges: Tensor, states: EdgeStates) -> Tensor:
        """New states of the nodes, (N, D)."""
        others = edges[0] != edges[1]
        source, target = edges[:, others]
        each = torch.arange(len(nodes), device=nodes.device)
        codes = states.each(self.lin_edge)[others]  # W_e has no bias: the mean may be taken after it
        degree = torch.bincount(target, minlength=len(nodes)).clamp(min=1)
        means = torch.zeros_like(nodes).index_add(0, target, codes) / degree[:, None]
        source, target = torch.cat((source, each)), torch.cat((target, each))
        codes = torch.cat((codes, means))  # (E + N, D)

        heads = (-1, self.att.shape[1], self.att.shape[2])
        left = self.lin_l(nodes).index_select(0, source)
        mixed = F.leaky_relu(left + self.lin_r(nodes).index_select(0, target) + codes, 0.2)
        logits = (mixed.view(heads) * self.att).sum(dim=-1)  # (E + N, H)
        shares = segment_softmax(logits, target, len(nodes))
        values = (left.view(heads) * shares[..., None]).flatten(1)
        out: Tensor = self.dropout(torch.zeros_like(nodes).index_add(0, target, values) + self.bias)
        return out


class NoGraph(nn.Module):
    """A linear map of the node alone: lets a search say that a depth needs no graph. Ours."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, nodes: Tensor, edges: Tensor, states: EdgeStates) -> Tensor:
        """New states of the nodes, (N, D)."""
        out: Tensor = self.dropout(self.linear(nodes))
        return out


OPERATORS: dict[str, Callable[[int, int, float], nn.Module]] = {
    "GINE": GINE,
    "CustomGatedGCN": CustomGatedGCN,
    "GATV2": GATV2,
    "None": NoGraph,
}
PUBLISHED = ("GINE", "CustomGatedGCN", "GATV2")  # the candidates of the published searches


def check_operators(names: Iterable[str], where: str) -> None:
    """Raises `GraphError` with the nearest name for one that is no operator."""
    for name in names:
        if name not in OPERATORS:
            near = difflib.get_close_matches(name.lower(), [known.lower() for known in OPERATORS], 1, 0.4)
            meant = next((known for known in OPERATORS if known.lower() in near), None)
            hint = f"Did you mean {meant}? " if meant else ""
            raise GraphError(f'{where}: "{name}" is no operator.', f"{hint}Known: {', '.join(OPERATORS)}.")
