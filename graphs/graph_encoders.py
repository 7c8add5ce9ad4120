"""First states of nodes and edges from what the data say: codes, features, and statistics of position.

The tables of atoms and bonds are those of the Open Graph Benchmark. The statistics themselves are made with the data
(`GraphBatch.walks`, `eigenvectors`, `eigenvalues`); what is learned of them is here.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .graph_batch import GraphBatch, GraphError
from .graph_context import EdgeStates

ATOM_TABLES = (119, 5, 12, 12, 10, 6, 6, 2, 2)
BOND_TABLES = (5, 6, 2)
FEW_KINDS = 256  # of edges: up to as many, each is encoded once

NodeFeatures = Literal["atom", "type_dict", "linear", "pre_layer"]
EdgeFeatures = Literal["bond", "type_dict", "linear", "dummy"]
Positions = Literal["none", "rwse", "lappe"]
Signs = Literal["batch", "graph"]


class CodeEncoder(nn.Module):
    """The sum of one embedding a column of codes: (rows, columns) int64 to (rows, width)."""

    def __init__(self, tables: tuple[int, ...], width: int) -> None:
        super().__init__()
        embeddings = [nn.Embedding(size, width) for size in tables]
        if len(tables) > 1:  # a single table, of types, starts as embeddings do
            for embedding in embeddings:
                nn.init.xavier_uniform_(embedding.weight)
        self.tables = nn.ModuleList(embeddings)
        self.sizes = tables

    def forward(self, codes: Tensor) -> Tensor:
        """The embeddings' sum; further columns are not read."""
        return torch.stack([table(codes[:, column].long()) for column, table in enumerate(self.tables)]).sum(dim=0)

    def kinds(self, codes: Tensor) -> tuple[Tensor, Tensor | None]:
        """All rows of codes that there can be, and which one each of `codes` is; the codes themselves if not few.

        Raises `GraphError` for a code that its table does not have.
        """
        sizes = self.sizes
        if math.prod(sizes) > FEW_KINDS:
            return codes, None
        limits = torch.tensor(sizes, device=codes.device)
        codes = codes[:, : len(sizes)].long()
        beyond = ((codes < 0) | (codes >= limits)).nonzero()
        if len(beyond):
            row, column = beyond[0].tolist()
            raise GraphError(
                f"Edge {row} of the batch has code {int(codes[row, column])} in column {column}; "
                f"there are codes 0 … {sizes[column] - 1}.",
                "Use the last code for what has none of its own.",
            )
        steps = torch.tensor([math.prod(sizes[column + 1 :]) for column in range(len(sizes))], device=codes.device)
        every = torch.cartesian_prod(*(torch.arange(size, device=codes.device) for size in sizes))
        return every.view(-1, len(sizes)), (codes * steps).sum(dim=1)


class LinearEncoder(nn.Module):
    """A linear map of features (rows, columns), converted to its precision."""

    def __init__(self, columns: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(columns, width)

    def forward(self, features: Tensor) -> Tensor:
        """The map, (rows, width)."""
        out: Tensor = self.linear(features.to(self.linear.weight.dtype))
        return out


class PreLayer(nn.Module):
    """MalNet-Tiny's layer on degree profiles: linear without bias, batch norm, ReLU, rows of length 1 (or 0)."""

    def __init__(self, columns: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(columns, width, bias=False)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, features: Tensor) -> Tensor:
        """The encoding, (rows, width)."""
        hidden = self.norm(self.linear(features.to(self.linear.weight.dtype)))
        return F.normalize(torch.relu(hidden), dim=1)


class DummyEncoder(nn.Module):
    """One learned vector for all edges."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(1, width)])

    def forward(self, features: Tensor) -> Tensor:
        """The vector in every row, (rows, width)."""
        vector: Tensor = self.tables[0](torch.zeros(1, dtype=torch.int64, device=features.device))
        return vector.expand(len(features), -1)

    def kinds(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """One row, which each edge is."""
        return features.new_zeros(1, 0), torch.zeros(len(features), dtype=torch.int64, device=features.device)


class RandomWalkEncoder(nn.Module):
    """RWSE: batch norm of the chances to be back after each number of random steps, then a linear map.

    Dwivedi et al. 2022, https://arxiv.org/abs/2110.07875.
    """

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(steps)
        self.linear = nn.Linear(steps, width)

    def forward(self, batch: GraphBatch) -> Tensor:
        """The encoding, (N, width)."""
        out: Tensor = self.linear(self.norm(batch.walks.to(self.linear.weight.dtype)))
        return out


class LaplacianEncoder(nn.Module):
    """LapPE: a small network on each pair (entry of an eigenvector, its eigenvalue), summed over eigenvectors.

    An eigenvector's sign means nothing, so in training each is flipped at random: once for the whole batch as
    published, or for each graph by itself. In evaluation signs are as given. Kreuzer et al. 2021,
    https://arxiv.org/abs/2106.03893.
    """

    def __init__(self, width: int, signs: Signs) -> None:
        super().__init__()
        self.signs = signs
        self.expand = nn.Linear(2, 2 * width)
        self.contract = nn.Linear(2 * width, width)

    def forward(self, batch: GraphBatch) -> Tensor:
        """The encoding, (N, width)."""
        dtype = self.expand.weight.dtype
        vectors, values = batch.eigenvectors.to(dtype), batch.eigenvalues.to(dtype)
        absent = torch.isnan(vectors)
        if self.training:
            signs = torch.randint(0, 2, (len(batch.offsets) - 1, vectors.shape[1]), device=vectors.device) * 2 - 1
            vectors = vectors * (signs[:1] if self.signs == "batch" else signs[batch.graph])
        pairs = torch.stack((vectors, values), dim=2).masked_fill(absent[..., None], 0.0)  # (N, M, 2)
        hidden = torch.relu(self.contract(torch.relu(self.expand(pairs))))
        return hidden.masked_fill(absent[..., None], 0.0).sum(dim=1)


def node_encoder(kind: NodeFeatures, columns: int, width: int) -> nn.Module:
    """An encoder of `nodes` to `width`; `columns` counts their columns, or their types for "type_dict"."""
    if kind == "atom":
        return CodeEncoder(ATOM_TABLES, width)
    if kind == "type_dict":
        return CodeEncoder((columns,), width)
    return LinearEncoder(columns, width) if kind == "linear" else PreLayer(columns, width)


def edge_encoder(kind: EdgeFeatures, columns: int, width: int) -> nn.Module:
    """An encoder of `edge_features` to `width`; `columns` counts their columns, or their types for "type_dict"."""
    if kind == "bond":
        return CodeEncoder(BOND_TABLES, width)
    if kind == "type_dict":
        return CodeEncoder((columns,), width)
    return LinearEncoder(columns, width) if kind == "linear" else DummyEncoder(width)


def edge_states(encoder: nn.Module, batch: GraphBatch) -> EdgeStates:
    """What `encoder` makes of the edges of a batch; edges of few kinds, or of the same row, are encoded once."""
    features, kind = batch.edge_features, None
    if isinstance(encoder, CodeEncoder | DummyEncoder):
        features, kind = encoder.kinds(features)
    if batch.edge_rows is not None:
        kind = batch.edge_rows if kind is None else kind[batch.edge_rows]
    return EdgeStates(encoder(features), kind)
