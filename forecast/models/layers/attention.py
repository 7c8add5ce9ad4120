"""Attention between tokens, with its projections.

Source: Vaswani et al., "Attention Is All You Need", https://arxiv.org/abs/1706.03762, §3.2.
"""

import math

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class FullAttention(nn.Module):
    """Every query attends to every token of a context: (B, Q, D) and (B, C, D) give (B, Q, D).

    `heads` A divides `d_model` D. Dropout falls on the attention weights, in training only. Each query sees
    the whole context; self-attention passes the same tokens twice. Source: §3.2.1, equation 1, and §3.2.2.
    """

    def __init__(self, d_model: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        """Mix the context's values for each query: (B, Q, D)."""
        mixed = scaled_dot_product_attention(  # (B, A, Q, D / A)
            self._split(self.query(queries)),
            self._split(self.key(context)),
            self._split(self.value(context)),
            dropout_p=self.dropout if self.training else 0.0,
        )
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))  # (B, Q, D)
        return out

    def weights(self, queries: Tensor, context: Tensor) -> Tensor:
        """The share each query takes from each context token, no dropout: (B, A, Q, C), rows sum to 1."""
        query, key = self._split(self.query(queries)), self._split(self.key(context))
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])  # (B, A, Q, C)
        return scores.softmax(dim=-1)

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)  # (B, A, tokens, D / A)
