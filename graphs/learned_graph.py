"""Neighbours of sensors that are learned with the network, where no graph is known or the known one may not be all.

Every pair of sensors has a number that says how well the one serves the other; the sources that serve a sensor best
are its neighbours, and how well they do weighs the attention to them, which is how the numbers learn. Graph WaveNet
(Wu et al. 2019, https://arxiv.org/abs/1906.00121) learns who is linked with whom, MTGNN (Wu et al. 2020,
https://arxiv.org/abs/2005.11650) keeps the best of it. Ours: a number for each pair rather than codes of sensors,
attention weighed by it, and neighbours drawn at random in training, better ones more often, so that each is tried.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .graph_batch import GraphBatch

PACE = 10.0  # how much faster the numbers move than other weights: a pair is seldom tried
LEAST = 1e-6  # weight, whose logarithm attention needs


class LearnedNeighbours(nn.Module):
    """The `neighbours` sources of each of N sensors, or all others where there are fewer."""

    def __init__(self, sensors: int, neighbours: int) -> None:
        super().__init__()
        self.neighbours = min(neighbours, sensors - 1)
        self.service = nn.Parameter(torch.zeros(sensors, sensors))  # target, source

    def forward(self) -> tuple[Tensor, Tensor]:
        """Edges (2, N k), source and target, and the weight of each, (N k,) above 0 and at most 1."""
        scores = PACE * self.service
        fit = scores.detach().clone().fill_diagonal_(-torch.inf)
        if self.training:
            # The best of scores with Gumbel noise are a draw without replacement by softmax(scores).
            fit = fit - torch.empty_like(fit).exponential_().log()
        source = fit.topk(self.neighbours, dim=1).indices
        target = torch.arange(len(fit), device=fit.device)[:, None].expand_as(source)
        weights = torch.sigmoid(scores.gather(1, source)).clamp(min=LEAST)
        return torch.stack((source.flatten(), target.flatten())), weights.flatten()

    def beside(self, batch: GraphBatch) -> GraphBatch:
        """The batch of windows with the learned edges added, whose features are marked in a further column.

        Features of edges that were there are (weight, reverse, 0), or (1, 0, 0) without weights.
        """
        edges, weights = self()
        windows, given = len(batch.offsets) - 1, batch.edge_features
        if not given.shape[1]:
            given = F.pad(given.new_ones(len(given), 1), (0, 1))
        learned = torch.stack((weights, torch.zeros_like(weights), torch.ones_like(weights)), dim=1)
        repeated = (edges[:, None] + batch.offsets[:-1, None]).flatten(1)
        rows = torch.arange(len(weights), device=weights.device) + len(given)
        before = torch.arange(len(given), device=rows.device) if batch.edge_rows is None else batch.edge_rows
        return batch._replace(
            edges=torch.cat((batch.edges, repeated), dim=1),
            edge_features=torch.cat((F.pad(given, (0, 1)).to(learned.dtype), learned)),
            edge_rows=torch.cat((before, rows.repeat(windows))),
            edge_weights=torch.cat((weights.new_ones(batch.edges.shape[1]), weights.repeat(windows))),
        )
