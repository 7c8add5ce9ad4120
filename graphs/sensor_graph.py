"""The fixed graph of sensors whose series are forecast together: one window of all sensors is one graph.

Edges and positions are the same for all windows, so a batch of windows repeats them, which is done once a batch size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .graph_batch import GraphBatch, GraphError
from .graph_store import GraphStore
from .positions import with_walks

NEIGHBOURS = 8
STEPS = range(1, 17)
EARTH = 6371.0  # kilometres, mean radius


@dataclass(frozen=True, eq=False)
class SensorGraph:
    """N sensors and E directed edges without self-loops; made by `SensorGraph.of`, which checks."""

    sensors: int
    edges: Tensor  # (2, E) int64: source, target
    edge_features: (
        Tensor  # (E, 2) float32: weight, and 1 where the edge is the reverse of one given; (E, 0) without weights
    )
    walks: Tensor  # (N, K) float32: random-walk statistics of the graph without directions and weights
    _repeated: dict[tuple[int, torch.device], GraphBatch] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, sensors: int, edges: Any, weights: Any = None, *, add_reverse: bool = True, steps: Sequence[int] = STEPS
    ) -> "SensorGraph":
        """The graph of `edges` (2, E) between 0 … `sensors`-1, with `weights` (E,) or without.

        Self-loops are taken out. With `add_reverse` every edge also runs back, marked as such, since messages go from
        source to target alone; without weights nothing could be marked, so an edge that runs back already is not
        repeated. Raises `GraphError` for edges out of range and weights that are not finite or of another number.
        """
        # One graph of a store: its checks and its statistics.
        edges = _tensor(edges)
        count = edges.shape[-1]
        given = GraphStore.of(torch.zeros(sensors, 0), edges, [sensors], [count], weights).edge_features
        if given.shape[1] > 1:
            raise GraphError(f"Weights have shape {tuple(given.shape)}.", "Give one weight for each edge.")
        edges = edges.long()
        apart = edges[0] != edges[1]
        edges, given = edges[:, apart], given[apart].float()
        both = torch.cat((edges, edges.flip(0)), dim=1)
        plain = both.unique(dim=1)
        if given.shape[1]:
            there, back = (torch.cat((given, torch.full_like(given, flag)), dim=1) for flag in (0.0, 1.0))
            features = torch.cat((there, back)) if add_reverse else there
            edges = both if add_reverse else edges
        else:
            edges = plain if add_reverse else edges.unique(dim=1)
            features = torch.zeros(edges.shape[1], 0)
        alone = GraphStore.of(torch.zeros(sensors, 0), plain, [sensors], [plain.shape[1]])
        return cls(sensors, edges, features, with_walks(alone, steps).walks)

    def batch(self, nodes: Tensor) -> GraphBatch:
        """Windows (B, N, C) of all sensors as a batch of B graphs, on the device of the windows.

        Raises `GraphError` for another number of sensors.
        """
        if nodes.shape[1] != self.sensors:
            raise GraphError(
                f"A window has {nodes.shape[1]} sensors, the graph {self.sensors}.", "Give the graph of these sensors."
            )
        key = len(nodes), nodes.device
        if key not in self._repeated:
            self._repeated[key] = self._repeat(*key)
        return self._repeated[key]._replace(nodes=nodes.flatten(0, 1))

    def _repeat(self, windows: int, device: torch.device) -> GraphBatch:
        """A batch of as many graphs, whose nodes have no features yet."""
        count = windows * self.sensors
        offsets = torch.arange(windows + 1) * self.sensors
        batch = GraphBatch(
            nodes=torch.zeros(count, 0),
            edges=(self.edges[:, None] + offsets[:-1, None]).flatten(1),
            edge_features=self.edge_features,
            offsets=offsets,
            walks=self.walks.repeat(windows, 1),
            eigenvectors=torch.zeros(count, 0),
            eigenvalues=torch.zeros(count, 0),
            edge_rows=torch.arange(self.edges.shape[1]).repeat(windows),
        )
        return batch.to(device)


# Graphs where none is given


def nearest_by_distance(distances: Any, neighbours: int = NEIGHBOURS) -> tuple[Tensor, Tensor]:
    """Edges (2, E) to each sensor from its nearest, and their weights (E,), of distances (N, N).

    A weight is exp(-(d / s)²), the kernel of DCRNN (Li et al. 2018, arXiv:1707.01926), here with s the mean length of
    these edges. A sensor has no more neighbours than there are others; equals are taken in their order.
    """
    away = _tensor(distances).double()
    edges = _nearest(-away, neighbours)
    lengths = away[edges[1], edges[0]]
    scale = lengths.mean().clamp(min=torch.finfo(torch.float64).tiny)  # all in one place: weights of 1
    return edges, torch.exp(-(lengths / scale).square()).float()


def nearest_by_correlation(values: Any, neighbours: int = NEIGHBOURS) -> tuple[Tensor, Tensor]:
    """Edges (2, E) to each sensor from those it correlates with most, and the correlations (E,), of `values` (T, N).

    Give the training part alone. Values that are NaN are left out pair by pair; sensors that never change, or are never
    seen together, are no neighbours.
    """
    related = correlations(_tensor(values).double())
    edges = _nearest(related, neighbours)
    return edges, related[edges[1], edges[0]].float()


def correlations(values: Tensor) -> Tensor:
    """Pearson correlations (N, N) of the columns of `values` (T, N), over the rows where both are seen; else NaN."""
    seen = ~values.isnan()
    there = seen.double()
    centred = torch.where(seen, values - values.nanmean(dim=0), 0.0)
    both = there.T @ there
    sums = centred.T @ there  # of a column's values where the other is seen
    squares = centred.square().T @ there
    spread = squares - sums.square() / both
    # Rounding leaves a little spread in what does not change.
    rounding = 1e-24 * torch.where(seen, values, 0.0).square().T @ there
    spread = torch.where(spread > rounding, spread, torch.nan)
    return (centred.T @ centred - sums * sums.T / both) / (spread * spread.T).sqrt()


def great_circle(latitude: Any, longitude: Any) -> Tensor:
    """Distances (N, N) in kilometres along the earth between places (N,) given in degrees."""
    north, east = (_tensor(one).double().deg2rad() for one in (latitude, longitude))
    across = torch.sin((north[:, None] - north) / 2).square()
    along = north.cos()[:, None] * north.cos() * torch.sin((east[:, None] - east) / 2).square()
    return 2 * EARTH * torch.asin((across + along).clamp(max=1).sqrt())


def _nearest(closeness: Tensor, neighbours: int) -> Tensor:
    """Edges (2, E) to each sensor from those closest to it; NaN is no neighbour."""
    if neighbours < 1:
        raise GraphError(f"{neighbours} is no number of neighbours.", "Give a number from 1.")
    others = closeness.nan_to_num(nan=-torch.inf, neginf=-torch.inf).clone()
    others.fill_diagonal_(-torch.inf)
    order = others.argsort(dim=1, descending=True, stable=True)[:, : min(neighbours, len(others) - 1)]
    target = torch.arange(len(others)).repeat_interleave(order.shape[1])
    source = order.flatten()
    known = others[target, source] > -torch.inf
    return torch.stack((source[known], target[known]))


def _tensor(values: Any) -> Tensor:
    return values if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
