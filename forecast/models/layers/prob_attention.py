"""ProbSparse attention, which spares most queries, beside full attention of the same form.

Source: Haoyi Zhou et al., "Informer: Beyond Efficient Transformer for Long Sequence Time-Series Forecasting",
AAAI 2021, https://arxiv.org/abs/2012.07436; constants from the authors' code,
https://github.com/zhouhaoyi/Informer2020.

Shapes: B batch, A heads, Q queries, C context steps, E width of a head.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


def sparse_count(factor: int, length: int) -> int:
    """How many of `length` positions are looked at: factor * ln(length), at most all of them.

    The logarithm is rounded up before it is multiplied, as in the authors' code. For length 1 it counts as 1:
    their code takes 0 positions there, and fails.
    """
    return min(factor * max(1, math.ceil(math.log(length))), length)


def _scrambled(numbers: Tensor) -> Tensor:
    """Numbers of 32 bits that look random, each a function of its own number; int64 in and out.

    Source: the last step of MurmurHash3 (Austin Appleby, public domain).
    """
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        numbers = ((numbers ^ (numbers >> shift)) * factor) & 0xFFFFFFFF
    return numbers ^ (numbers >> 16)


def draw_keys(queries: int, keys: int, count: int, seed: int) -> Tensor:
    """For each query the numbers of `count` keys, drawn with replacement: (Q, count) int64.

    A hash rather than a generator: the same on every device and in every version of torch, so that a stored
    network keeps its forecasts, and no draw of weights is moved.
    """
    first = _scrambled(torch.tensor(seed & 0xFFFFFFFF))
    return (_scrambled(torch.arange(queries * count) + first) % keys).view(queries, count)


class TopQueries(nn.Module):
    """Finds the queries whose attention is furthest from uniform, from a sample of the keys.

    The measure of a query is its largest sampled score less the sum of the sampled scores over the number of
    all keys, scores being unscaled dot products (the paper's max-mean measurement, with the authors' constant).
    In training each pass samples anew from torch's generator; otherwise the sample is `sample`, (Q, n), which
    `seed` decides, so that the same input always selects the same queries.
    """

    sample: Tensor

    def __init__(self, queries: int, keys: int, factor: int, seed: int) -> None:
        super().__init__()
        self.keys = keys
        self.count = sparse_count(factor, queries)
        sample = draw_keys(queries, keys, sparse_count(factor, keys), seed)
        self.register_buffer("sample", sample, persistent=False)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """The selected positions in ascending order, (B, A, u) int64, of (B, A, Q, E) and (B, A, C, E)."""
        if self.count == query.shape[2]:
            return torch.arange(self.count, device=query.device).expand(*query.shape[:2], -1)
        sample = torch.randint_like(self.sample, self.keys) if self.training else self.sample
        with torch.no_grad():  # the choice has no gradient, and this saves keeping the scores for one
            query, key = query.transpose(1, 2), key.transpose(1, 2)  # (B, Q, A, E): rows of all heads lie together
            # One sampled key of every query at a time: all of them at once would be the largest tensor of the
            # network, and slower.
            first, *others = sample.unbind(1)
            largest = total = torch.linalg.vecdot(query, key.index_select(1, first))  # (B, Q, A)
            for picked in others:
                score = torch.linalg.vecdot(query, key.index_select(1, picked))
                largest, total = torch.maximum(largest, score), total + score
            measure = (largest - total / self.keys).transpose(1, 2)  # (B, A, Q)
            return measure.topk(self.count, dim=2, sorted=False).indices.sort(dim=2).values


class ProbHeads(nn.Module):
    """ProbSparse attention of each head: only the `top` queries attend, with scaled scores, to all of the context.

    The other queries get the mean of the values or, where `causal`, the sum of the values up to their own
    position: a sum, not a mean, as in the authors' code. Causal attention needs as many queries as keys.
    """

    def __init__(self, queries: int, keys: int, factor: int, seed: int, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.top = TopQueries(queries, keys, factor, seed)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Values mixed for each query: (B, A, Q, E), of (B, A, Q, E), (B, A, C, E) and (B, A, C, E)."""
        chosen = self.top(query, key)  # (B, A, u)
        rows = chosen[..., None].expand(-1, -1, -1, query.shape[3])  # (B, A, u, E)
        if self.causal:
            visible = torch.arange(key.shape[2], device=chosen.device) <= chosen[..., None]  # (B, A, u, C)
            lazy = value.cumsum(2)
        else:
            visible = None
            lazy = value.mean(2, keepdim=True).expand_as(query)
        mixed = scaled_dot_product_attention(query.gather(2, rows), key, value, attn_mask=visible)
        return lazy.scatter(2, rows, mixed.to(lazy.dtype))

    def weights(self, query: Tensor, key: Tensor) -> Tensor:
        """The share each query takes from each context step, (B, A, Q, C), rows sum to 1; for attention not causal."""
        chosen = self.top(query, key)
        rows = chosen[..., None].expand(-1, -1, -1, query.shape[3])
        shares = _shares(query.gather(2, rows), key)  # (B, A, u, C)
        even = shares.new_full((*query.shape[:3], key.shape[2]), 1 / key.shape[2])
        return even.scatter(2, chosen[..., None].expand_as(shares), shares)


class FullHeads(nn.Module):
    """Attention of each head in which every query attends to all of the context or, `causal`, to what is not later."""

    def __init__(self, dropout: float, *, causal: bool) -> None:
        super().__init__()
        self.dropout = dropout
        self.causal = causal

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Values mixed for each query: (B, A, Q, E), of (B, A, Q, E), (B, A, C, E) and (B, A, C, E)."""
        dropout = self.dropout if self.training else 0.0
        return scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=self.causal)

    def weights(self, query: Tensor, key: Tensor) -> Tensor:
        """The share each query takes from each context step, (B, A, Q, C), rows sum to 1; for attention not causal."""
        return _shares(query, key)


def _shares(query: Tensor, key: Tensor) -> Tensor:
    return (query @ key.transpose(2, 3) / math.sqrt(query.shape[3])).softmax(dim=3)


class HeadedAttention(nn.Module):
    """The projections around attention by `inner`: (B, Q, D) and (B, C, D) give (B, Q, D); `heads` divides D.

    With `mix` the heads are laid out one after the other, (B, A, Q, E) read as (B, Q, D), so that a row holds
    several steps of few heads instead of one step of all; causal attention is then no longer causal. That is
    what the authors publish with.
    """

    def __init__(self, d_model: int, heads: int, inner: ProbHeads | FullHeads, *, mix: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.mix = mix
        self.inner = inner
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        """Mix the context's values for each query: (B, Q, D)."""
        query, key = self._split(self.query(queries)), self._split(self.key(context))
        mixed = self.inner(query, key, self._split(self.value(context)))  # (B, A, Q, E)
        if not self.mix:
            mixed = mixed.transpose(1, 2)  # (B, Q, A, E)
        out: Tensor = self.out(mixed.reshape(queries.shape))  # (B, Q, D)
        return out

    def weights(self, queries: Tensor, context: Tensor) -> Tensor:
        """The share each query takes from each context step, no dropout: (B, A, Q, C), rows sum to 1."""
        return self.inner.weights(self._split(self.query(queries)), self._split(self.key(context)))

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)  # (B, A, tokens, E)
