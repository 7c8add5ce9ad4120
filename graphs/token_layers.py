"""The two layers that Todyformer alternates: messages within patches, attention within the tokens of a node."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .patches import Sequences
from .segments import segment_softmax


class Messages(NamedTuple):
    """Who sends what to whom: T tokens, m messages, w events. The code of a message is

    `event_code[event] + message_inputs @ mix.T`; in two parts, so that the wide one is projected once an event.
    """

    source: Tensor  # (m,) int64 token that sends
    target: Tensor  # (m,) int64 token that receives
    event: Tensor  # (m,) int64
    event_code: Tensor  # (w, D)
    message_inputs: Tensor  # (m, C)
    mix: Tensor  # (D, C)


class LocalLayer(nn.Module):
    """One layer of messages: each token attends to the senders of its messages (§6 of DyG2Vec's figure).

    The query is the token's own state, keys and values are maps of [sender's state, code of the message]; heads are
    concatenated. `residual`: the norm comes first and the result is added, ours; without, h <- relu(W h + z) as
    published. `share_edge_projection` uses one map of the code for keys and values, as PyG's `TransformerConv` does.
    """

    def __init__(
        self, width: int, heads: int, dropout: float, *, residual: bool = True, share_edge_projection: bool = False
    ) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width) if residual else None
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.skip = nn.Linear(width, width)
        self.edge_key = nn.Linear(width, width, bias=False)
        self.edge_value = None if share_edge_projection else nn.Linear(width, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, messages: Messages) -> Tensor:
        """The tokens, informed of their neighbours in their patch: (T, D) in and out."""
        states = tokens if self.norm is None else self.norm(tokens)
        heads = (-1, self.heads, states.shape[1] // self.heads)
        edge_key = _project(self.edge_key, messages)
        edge_value = edge_key if self.edge_value is None else _project(self.edge_value, messages)
        keys = self.key(states).index_select(0, messages.source) + edge_key  # (m, D)
        values = self.value(states).index_select(0, messages.source) + edge_value
        queries = self.query(states).index_select(0, messages.target)
        logits = (queries * keys).view(heads).sum(-1) * heads[2] ** -0.5  # (m, A)
        shares = self.dropout(segment_softmax(logits, messages.target, len(tokens)))
        mixed = torch.zeros_like(states).index_add(
            0, messages.target, (values.view(heads) * shares[..., None]).flatten(1)
        )
        out = torch.relu(self.skip(states) + mixed)
        return out if self.norm is None else tokens + self.dropout(out)


def _project(linear: nn.Linear, messages: Messages) -> Tensor:
    """`linear` of the code of each message, (m, D)."""
    by_event: Tensor = linear(messages.event_code)
    return by_event.index_select(0, messages.event) + messages.message_inputs @ (linear.weight @ messages.mix).T


class GlobalLayer(nn.Module):
    """One Transformer layer over the tokens of each node; nodes exchange nothing.

    Norms come first, GELU, feed-forward width 2 D: ours. Only attention sees tokens as sequences, everything else
    runs on the (T, D) tokens, so that padding costs no products with weights.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.rate = dropout
        self.norm_attention = nn.LayerNorm(width)
        self.inputs = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 2 * width)
        self.contract = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, sequences: Sequence[Sequences]) -> Tensor:
        """The tokens, informed of those of the same node: (T, D) in and out."""
        inputs = self.inputs(self.norm_attention(tokens))  # (T, 3 D)
        tokens = tokens + self.dropout(self.out(self._attend(inputs, sequences)))
        hidden = self.dropout(F.gelu(self.expand(self.norm_feed_forward(tokens))))
        informed: Tensor = tokens + self.dropout(self.contract(hidden))
        return informed

    def _attend(self, inputs: Tensor, sequences: Sequence[Sequences]) -> Tensor:
        parts = []
        for table in sequences:
            packed = pack(inputs, table)  # (nodes, length, 3 D)
            nodes, length, _ = packed.shape
            if length == 1:  # attention to oneself alone
                parts.append(packed[..., -inputs.shape[1] // 3 :])
                continue
            query, key, value = packed.view(nodes, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            seen = F.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=table.present[:, None, None, :],
                dropout_p=self.rate if self.training else 0.0,
            )
            parts.append(seen.transpose(1, 2).flatten(2))
        return unpack(parts, sequences, len(inputs))


def pack(tokens: Tensor, table: Sequences) -> Tensor:
    """Tokens (T, D) as sequences (nodes, length, D); what stands where a node is absent is to be masked."""
    return tokens.index_select(0, table.place.flatten()).view(*table.place.shape, -1)


def unpack(parts: Sequence[Tensor], sequences: Sequence[Sequences], tokens: int) -> Tensor:
    """The (T, D) tokens out of sequences (nodes, length, D) each; where a node is absent nothing is read."""
    found = torch.cat([part[table.present] for part, table in zip(parts, sequences, strict=True)])
    return found.new_zeros(tokens, found.shape[1]).index_copy(
        0, torch.cat([table.tokens for table in sequences]), found
    )
