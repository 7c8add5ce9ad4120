"""What a node is before any event: a learned row, a code of its id, its given features, or the same for all."""

from typing import Literal

import torch
from torch import Tensor, nn

from .events import EventError, EventStore

NodeInputs = Literal["features", "zeros", "random", "embedding"]


class NodeInput(nn.Module):
    """Inputs of nodes by their ids; given features, if there are any, are projected and added to each kind.

    "features": these alone. "zeros": one learned vector for all nodes. "random": fixed Gaussian codes of the ids, so
    that two nodes can be told apart and none has to be learned. "embedding": a learned row for each node that the
    training part has (`introduce`) and one for all others, in whose place a share `unknown` of the nodes is put in
    training.
    """

    known: Tensor  # (N,) bool: which nodes have a row of their own
    features: Tensor  # (N, F)

    def __init__(self, nodes: int, features: int, width: int, kind: NodeInputs, unknown: float) -> None:
        super().__init__()
        if kind == "features" and not features:
            raise EventError(
                'todyformer: model.node_input is "features", and the nodes have none.',
                "Give features of the nodes, or set model.node_input=embedding.",
            )
        self.width, self.unknown = width, unknown
        self.bias = nn.Parameter(torch.randn(width) * width**-0.5)
        self.register_buffer("known", torch.ones(nodes, dtype=torch.bool))
        self.register_buffer("features", torch.zeros(nodes, features))
        self.project = nn.Linear(features, width, bias=False) if features else None
        self.codes = nn.Linear(width, width, bias=False) if kind == "random" else None
        self.table: nn.Embedding | None = None
        if kind == "embedding":
            self.table = nn.Embedding(nodes + 1, width)  # the last row is the unknown node
            nn.init.normal_(self.table.weight, std=width**-0.5)

    def introduce(self, training: EventStore, features: Tensor | None = None) -> None:
        """Takes note of which nodes the training part has, and of the features of all nodes, (N, F)."""
        self.known.fill_(False)
        self.known[torch.cat((training.src, training.dst))] = True
        if features is not None:
            self.features.copy_(features)

    def forward(self, ids: Tensor) -> Tensor:
        """The inputs of nodes: ids of any shape -> (…, D). An id that is not below N is an unknown node."""
        nodes = len(self.known)
        inside = ids < nodes
        states = self.bias.expand(*ids.shape, -1)
        if self.project is not None:
            given = self.features[torch.where(inside, ids, 0)] * inside.unsqueeze(-1)
            states = states + self.project(given.to(states.dtype))
        if self.codes is not None:
            states = states + self.codes(random_codes(ids, self.width).to(states.dtype))
        if self.table is not None:
            known = inside & self.known[torch.where(inside, ids, 0)]
            if self.training and self.unknown:
                known = known & (torch.rand(ids.shape, device=ids.device) >= self.unknown)
            states = states + self.table(torch.where(known, ids, nodes))
        return states


def random_codes(ids: Tensor, width: int) -> Tensor:
    """Gaussian codes of variance 1 / `width`, a function of the id alone: (…) -> (…, width) float32."""
    mixed = ids.unsqueeze(-1) * width + torch.arange(width, device=ids.device) + 1
    for factor in (-0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15):
        # The bits of a counter, stirred: products wrap around, the shift is made an unsigned one.
        mixed = mixed * factor
        mixed = mixed ^ ((mixed >> 32) & 0xFFFFFFFF)
    uniform = ((mixed >> 41) & 0x7FFFFF).float().add(0.5) / 2**23  # never 0 or 1
    return torch.erfinv(2 * uniform - 1) * (2 / width) ** 0.5
