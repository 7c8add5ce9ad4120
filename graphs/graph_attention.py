"""Attention among the nodes of each graph: along all pairs, or along edges. Queries and keys come from two sources.

Both kinds give the outputs of their heads before the output map, so that a head can be taken out at no cost: `heads`,
then `join`. Weights are made only where they are asked for.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .graph_context import GraphContext
from .segments import segment_softmax


class DenseAttention(nn.Module):
    """Multi-head attention among all nodes of a graph, which costs n² a graph of n nodes."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.count, self.rate = heads, dropout
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        for linear in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(linear.weight)

    def heads(self, query: Tensor, source: Tensor, context: GraphContext) -> Tensor:
        """What each head finds, (N, H, c), for queries of `query` to keys and values of `source`, (N, D) both."""
        queries, keys, values = (
            self._padded(linear(states), context)
            for linear, states in ((self.query, query), (self.key, source), (self.value, source))
        )
        mask = None if bool(context.present.all()) else context.present[:, None, None, :]
        rate = self.rate if self.training else 0.0
        found = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=rate)
        return found.transpose(1, 2).flatten(0, 1).index_select(0, context.place)

    def weights(self, query: Tensor, source: Tensor, context: GraphContext) -> Tensor:
        """Attention weights (G, H, n, n), without dropout: graph, head, query, key; 0 where either is absent."""
        queries, keys = self._padded(self.query(query), context), self._padded(self.key(source), context)
        scores = queries @ keys.transpose(2, 3) * queries.shape[-1] ** -0.5
        absent = ~context.present
        shares = scores.masked_fill(absent[:, None, None, :], -torch.inf).softmax(dim=-1)
        return shares.masked_fill(absent[:, None, :, None], 0.0)

    def join(self, heads: Tensor) -> Tensor:
        """The output map of the heads (..., H, c) side by side: (..., D)."""
        joined: Tensor = self.out(heads.flatten(-2))
        return joined

    def _padded(self, states: Tensor, context: GraphContext) -> Tensor:
        """States (N, D) as (G, H, n, c)."""
        graphs, longest = context.present.shape
        padded = states.new_zeros(graphs * longest, states.shape[1]).index_copy(0, context.place, states)
        return padded.view(graphs, longest, self.count, -1).transpose(1, 2)


class SparseAttention(nn.Module):
    """Attention of a node to the sources of its incoming edges; a node without any gets the output map's bias.

    As published the query is the layer's input itself, cut into heads; with `project` it has a map of its own.
    """

    def __init__(self, width: int, heads: int, dropout: float, *, project: bool = False) -> None:
        super().__init__()
        self.count = heads
        self.query = nn.Linear(width, width) if project else None
        self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def heads(self, query: Tensor, source: Tensor, context: GraphContext) -> Tensor:
        """What each head finds, (N, H, c), for queries of `query` to keys and values of `source`, (N, D) both."""
        shares = self.dropout(self.weights(query, source, context))
        values = self._cut(self.value(source)).index_select(0, context.attention_edges[0])
        found = torch.zeros_like(self._cut(source))
        return found.index_add(0, context.attention_edges[1], values * shares[..., None])

    def weights(self, query: Tensor, source: Tensor, context: GraphContext) -> Tensor:
        """Attention weights (P, H), without dropout, a row an attention edge."""
        queries = self._cut(query if self.query is None else self.query(query))
        keys = self._cut(self.key(source))
        key, target = context.attention_edges
        scores = (queries.index_select(0, target) * keys.index_select(0, key)).sum(dim=-1) * keys.shape[-1] ** -0.5
        if context.attention_bias is not None:
            scores = scores + context.attention_bias[:, None]
        return segment_softmax(scores, target, len(query))

    def join(self, heads: Tensor) -> Tensor:
        """The output map of the heads (..., H, c) side by side: (..., D)."""
        joined: Tensor = self.out(heads.flatten(-2))
        return joined

    def _cut(self, states: Tensor) -> Tensor:
        return states.view(len(states), self.count, -1)
