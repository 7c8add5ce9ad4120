"""Decoders on node embeddings and their losses: how likely a link is, and what state a node is in.

The paper on Todyformer leaves the decoder to a small network on two embeddings; `PublishedLinkDecoder` is that.
Everything else is ours: the times since both nodes' last events enter here and not in the encoder, which is thus
free of the query; the product of both sides lets codes of identity say "these two met"; the pair channel and the
softmax loss are for ranking.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .time_code import TimeCode


class Ends(NamedTuple):
    """Nodes as one side of links, at the times of their queries: R rows, K a row."""

    state: Tensor  # (R, K, D) embedding; R may be 1 where all rows have the same nodes
    gap: Tensor  # (R, K) time since the node's last event, in spans of the window
    seen: Tensor  # (R, K) 1 where the node has an event in the window, else 0


class Side(nn.Module):
    """What the decoder reads of one side: a linear map of [embedding, code of the gap, whether it was seen]."""

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.state = nn.Linear(width, width)
        self.gap = TimeCode(width, window)  # its projection is this map's part for the gap
        self.seen = nn.Parameter(torch.empty(width).uniform_(-(width**-0.5), width**-0.5))

    def forward(self, ends: Ends) -> Tensor:
        """The map, (R, K, D)."""
        mapped: Tensor = self.state(ends.state) + self.gap(ends.gap) + ends.seen.unsqueeze(-1) * self.seen
        return mapped

    def parts(self, ends: Ends) -> tuple[Tensor, Tensor, Tensor]:
        """The same in parts that need not be as many: x (R or 1, K, D), y (R, K, I), matrix (D, I): x + y matrix^T."""
        state = self.state(ends.state) + self.gap.project.bias
        inputs = torch.cat((self.gap.inputs(ends.gap), ends.seen.unsqueeze(-1)), dim=2)
        return state, inputs, torch.cat((self.gap.project.weight, self.seen[:, None]), dim=1)


class LinkDecoder(nn.Module):
    """Scores links from both sides a, b and their product: w · relu(W [a, b, a ⊙ b, pair features] + c) + c'.

    Undirected, both sides share their weights, and a score does not depend on which node is called the source.
    """

    def __init__(self, width: int, window: int, pair_features: int = 0, directed: bool = True) -> None:
        super().__init__()
        self.source = Side(width, window)
        self.destination = Side(width, window) if directed else None
        self.from_source = nn.Linear(width, width)
        self.from_destination = nn.Linear(width, width, bias=False) if directed else None
        self.from_product = nn.Linear(width, width, bias=False)
        self.from_pairs = nn.Linear(pair_features, width, bias=False) if pair_features else None
        self.score = nn.Linear(width, 1)

    def forward(self, source: Ends, destination: Ends, pairs: Tensor | None = None) -> Tensor:
        """Scores (B, K) of `source` (B, 1) with each of `destination` (B or 1, K); `pairs` (B, K, features)."""
        a = self.source(source)  # (B, 1, D)
        state, inputs, matrix = (self.destination or self.source).parts(destination)
        # W_b b + W_ab (a ⊙ b) is one matrix a query, and b is linear in few inputs a pair: nothing of width D is made
        # for a pair but the hidden layer, and embeddings that all queries share are mapped by one product.
        mixed = (self.from_destination or self.from_source).weight + self.from_product.weight * a  # (B, D out, D in)
        if len(state) == 1:
            hidden = (mixed.flatten(0, 1) @ state[0].T).view(len(a), -1, state.shape[1])  # (B, D, K)
        else:
            hidden = mixed @ state.transpose(1, 2)
        weights = mixed @ matrix  # (B, D, I)
        if self.from_pairs is not None and pairs is not None:
            inputs = torch.cat((inputs, pairs), dim=2)
            weights = torch.cat((weights, self.from_pairs.weight.expand(len(a), -1, -1)), dim=2)
        hidden = torch.baddbmm(hidden, weights, inputs.transpose(1, 2)) + self.from_source(a).transpose(1, 2)
        scores: Tensor = (self.score.weight @ torch.relu(hidden)).squeeze(1) + self.score.bias
        return scores


class PublishedLinkDecoder(nn.Module):
    """Scores links by a two-layer network on both embeddings, and on pair features where there are some."""

    def __init__(self, width: int, hidden: int, pair_features: int = 0) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * width + pair_features, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, source: Ends, destination: Ends, pairs: Tensor | None = None) -> Tensor:
        """Scores (B, K) of `source` (B, 1) with each of `destination` (B or 1, K); `pairs` (B, K, features)."""
        width = source.state.shape[-1]
        parts = self.hidden.weight.split((width, width, self.hidden.in_features - 2 * width), dim=1)
        hidden = F.linear(source.state, parts[0], self.hidden.bias) + F.linear(destination.state, parts[1])
        if pairs is not None:
            hidden = hidden + F.linear(pairs, parts[2])
        scores: Tensor = self.score(torch.relu(hidden)).squeeze(-1)
        return scores


class NodeDecoder(nn.Module):
    """Class scores of nodes: a two-layer network on [embedding, code of the gap, features of the event].

    `event_features` is how many features of the very event whose label is asked may be read; 0 for none.
    """

    def __init__(self, width: int, window: int, classes: int, event_features: int = 0, dropout: float = 0.1) -> None:
        super().__init__()
        self.gap = TimeCode(width, window)
        self.hidden = nn.Linear(2 * width + event_features, width)
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Linear(width, classes)

    def forward(self, ends: Ends, features: Tensor | None = None) -> Tensor:
        """Scores (R, K, classes) before a softmax, or before a sigmoid where there is one class."""
        parts = [ends.state, self.gap(ends.gap)]
        if features is not None:
            parts.append(features)
        scores: Tensor = self.score(self.dropout(torch.relu(self.hidden(torch.cat(parts, dim=-1)))))
        return scores


def binary_loss(scores: Tensor) -> Tensor:
    """Mean of both binary cross-entropies, of the links (column 0) and of the negatives (the others): (B, 1 + N)."""
    links, negatives = scores[:, 0], scores[:, 1:]
    return (F.softplus(-links).mean() + F.softplus(negatives).mean()) / 2


def softmax_loss(scores: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of the link (column 0) among itself and its negatives: scores (B, 1 + N).

    Each negative stands for `weight` (B, N) candidates: 1 where negatives are the candidates that matter, 0 where one
    is the link's own destination or absent, and more where few are drawn from many.
    """
    rivals = scores[:, 1:] + torch.log(weight)
    return (torch.logsumexp(torch.cat((scores[:, :1], rivals), dim=1), dim=1) - scores[:, 0]).mean()
