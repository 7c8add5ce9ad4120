"""Decoders on node embeddings and their losses: how likely a link is, and what state a node is in.

The paper on Todyformer leaves the decoder to a small network on two embeddings; `PublishedLinkDecoder` is that.
Everything else is ours: the times since both nodes' last events and up to the query enter here and not in the encoder,
which is thus free of the query; the product of both sides lets codes of identity say "these two met"; what is told of
pairs and of the activity of nodes (`pairs.py`) and the softmax loss are for ranking.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .pairs import PairFeatures
from .time_code import TimeCode

HIDDEN_AT_ONCE = 2**12  # pairs scored together outside of training: their hidden layer stays in the cache


class Ends(NamedTuple):
    """Nodes as one side of links, R of them."""

    state: Tensor  # (R, D) embedding
    gap: Tensor  # (R,) time since the node's last event, in spans of the window
    seen: Tensor  # (R,) 1 where the node has an event in the window, else 0
    activity: Tensor  # (R, F) what it did before, F is 0 where that is not told; (B, K, F) told pair by pair


class Side(nn.Module):
    """What the decoder reads of one side: x + W relu(x), x a linear map of [embedding, code of gap, seen, activity]."""

    def __init__(self, width: int, window: int, activity: int) -> None:
        super().__init__()
        self.state = nn.Linear(width, width)
        self.gap = TimeCode(width, window)  # its projection is this map's part for the gap
        self.seen = nn.Parameter(torch.empty(width).uniform_(-(width**-0.5), width**-0.5))
        self.activity = nn.Linear(activity, width, bias=False) if activity else None
        self.mix = nn.Linear(width, width)

    def forward(self, ends: Ends, place: Tensor | None = None) -> Tensor:
        """The map, (R, D); (B, K, D) where activity is told pair by pair, of the ends at `place` (B, K) or of all."""
        x: Tensor = self.state(ends.state) + self.gap(ends.gap) + ends.seen.unsqueeze(-1) * self.seen
        if self.activity is not None:
            told = self.activity(ends.activity)
            x = (x if place is None or told.dim() == 2 else x[place]) + told
        mixed: Tensor = x + self.mix(torch.relu(x))
        return mixed


class LinkDecoder(nn.Module):
    """Scores links from both sides a, b: w · relu(a + b + lead) + (v ⊙ a) · b + c.

    `lead` is the code of the time from the window's end to the query. The product goes straight to the score, and not
    through the hidden layer: ranking is then one matrix product and one sum a pair. Pairs that met have W (pair
    features) in their sum, too, and a second network scores their hidden layer h in addition: w' · relu(W' h). Both
    are for few of all candidates. Undirected, both sides share their weights, and a score does not depend on which
    node is called the source.
    """

    def __init__(
        self, width: int, window: int, pair_features: int = 0, activity: int = 0, directed: bool = True
    ) -> None:
        super().__init__()
        self.source = Side(width, window, activity)
        self.destination = Side(width, window, activity) if directed else None
        self.lead = TimeCode(width, window)
        self.product = nn.Parameter(torch.randn(width) / width)
        self.score = nn.Linear(width, 1)
        self.pairs = nn.Linear(pair_features, width, bias=False) if pair_features else None
        self.met = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)) if pair_features else None

    def forward(
        self, source: Ends, destination: Ends, lead: Tensor, place: Tensor | None, pairs: PairFeatures | None
    ) -> Tensor:
        """Scores (B, K) of `source` (B rows) at `lead` (B,) with some of `destination` (R rows).

        `place` (B, K) says which, None stands for all of them; `pairs` tells of those that met.
        """
        a, b = self.source(source), (self.destination or self.source)(destination, place)
        early, weighed = a + self.lead(lead), a * self.product
        scores = _scores(early, b, place, self.score)
        if pairs is not None and self.pairs is not None and self.met is not None:
            hidden = _hidden(early, b, place, self.pairs, pairs)
            told = self.score(hidden) + self.met(hidden)
            scores = scores.index_put((pairs.row, pairs.column), told.squeeze(-1))
        if b.dim() == 3:
            return scores + (b @ weighed[:, :, None]).squeeze(2)
        if place is None:
            return torch.addmm(scores, weighed, b.T)
        return scores + (weighed[:, None] * b[place]).sum(dim=2)


class PublishedLinkDecoder(nn.Module):
    """Scores links by a two-layer network on both embeddings, and on pair features where there are some."""

    def __init__(self, width: int, hidden: int, pair_features: int = 0) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * width, hidden)
        self.pairs = nn.Linear(pair_features, hidden, bias=False) if pair_features else None
        self.score = nn.Linear(hidden, 1)

    def forward(
        self, source: Ends, destination: Ends, lead: Tensor, place: Tensor | None, pairs: PairFeatures | None
    ) -> Tensor:
        """Scores (B, K) of `source` (B rows) with some of `destination` (R rows), as `LinkDecoder`; no `lead`."""
        left, right = self.hidden.weight.chunk(2, dim=1)
        a, b = F.linear(source.state, left, self.hidden.bias), F.linear(destination.state, right)
        scores = _scores(a, b, place, self.score)
        if pairs is None or self.pairs is None:
            return scores
        told = self.score(_hidden(a, b, place, self.pairs, pairs))
        return scores.index_put((pairs.row, pairs.column), told.squeeze(-1))


def _scores(a: Tensor, b: Tensor, place: Tensor | None, score: nn.Linear) -> Tensor:
    """score(relu(a + b)) of rows (B, D) with columns (R, D), those of `place`, or their own (B, K, D): (B, K)."""
    columns = b.shape[-2] if place is None else place.shape[1]
    rows = max(1, len(a) if torch.is_grad_enabled() else HIDDEN_AT_ONCE // max(1, columns))
    parts = []
    for i in range(0, len(a), rows):
        some = slice(i, i + rows)
        column = b[some] if b.dim() == 3 else b if place is None else b[place[some]]
        hidden = a[some, None] + column  # (rows, K, D)
        parts.append(score(torch.relu_(hidden)).squeeze(-1))
    return torch.cat(parts)


def _hidden(a: Tensor, b: Tensor, place: Tensor | None, linear: nn.Linear, pairs: PairFeatures) -> Tensor:
    """The hidden layer of pairs that met, (P, D)."""
    if b.dim() == 3:
        column = b[pairs.row, pairs.column]
    else:
        column = b[pairs.column if place is None else place[pairs.row, pairs.column]]
    return torch.relu(a[pairs.row] + column + linear(pairs.values))


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
        """Scores (R, classes) before a softmax, or before a sigmoid where there is one class."""
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
