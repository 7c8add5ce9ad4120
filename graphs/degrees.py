"""Degrees as features, for graphs whose nodes have none."""

from dataclasses import replace

import torch
from torch import Tensor

from .graph_store import GraphStore


def with_degree_profile(store: GraphStore) -> GraphStore:
    """The store with features (N, 5) in place of its own: the degree; least, most, mean and deviation of neighbours'.

    Degrees count the edges that leave a node, neighbours are where they go, the deviation is over all of them; a node
    without edges has zeros. The local degree profile of Cai and Wang 2018, arXiv:1811.03508.
    """
    source, target = store.edges.long() + torch.repeat_interleave(store.node_offsets[:-1], store.edge_offsets.diff())
    count = len(store.nodes)
    degree = torch.bincount(source, minlength=count).double()
    theirs = degree[target]

    def over(how: str, values: Tensor = theirs) -> Tensor:
        return torch.zeros(count, dtype=torch.float64).scatter_reduce_(0, source, values, how, include_self=False)

    mean = over("mean")
    deviation = over("mean", (theirs - mean[source]).square()).sqrt()
    profile = torch.stack((degree, over("amin"), over("amax"), mean, deviation), dim=1)
    return replace(store, nodes=profile.float())
