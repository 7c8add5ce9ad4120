"""The settings of DARTS-GT on graphs with labels: sizes, encoders, head and the search for its operators.

The network is `graphs.darts_gt.DartsGT`. What the data decide is "auto" until `settled` fills it in.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from graphs.darts_gt import Attention, DartsGTConfig, Flavour, Norm
from graphs.graph_encoders import EdgeFeatures, NodeFeatures, Positions, Signs
from graphs.graph_heads import Pooling
from graphs.graph_operators import OPERATORS

from ..errors import UsageError
from .darts_gt_search import SearchedConfig


@dataclass(frozen=True, kw_only=True)
class LabelDartsGTConfig(SearchedConfig):
    """Sizes of the network and of its search. Raises `UsageError` for a value that no network can be built from."""

    layers: int = 3
    width: int = 32  # of a node's state
    heads: int = 4
    flavour: Flavour = "edge"
    attention: Attention = "sparse"  # along edges, or "dense": among all nodes of a graph
    attention_self_loops: bool = False  # sparse: a node attends to itself, too
    query_projection_sparse: bool = False  # sparse: queries have a map
    dropout: float = 0.05
    attention_dropout: float = 0.2
    norm: Norm = "batch"  # over the nodes of a batch, or "layer": over each state
    node_features: Literal["auto"] | NodeFeatures = "auto"
    edge_features: Literal["auto"] | EdgeFeatures = "auto"
    positions: Positions = "rwse"
    position_count: int = 16  # steps of the random walks, or eigenvectors
    position_width: int = 8  # of a node's state, where there are positions
    signs: Signs = "batch"  # how LapPE flips eigenvectors in training
    head: Literal["auto", "san_graph", "graph", "inductive_node"] = "auto"
    head_layers: int = 3  # of the heads "graph" and "inductive_node"
    pooling: Pooling = "mean"
    search_nan_labels: Literal["masked", "negative"] = "masked"  # "negative": a missing label counts as 0 in the
    # search, as in the authors' code

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.position_count < 1:
            raise UsageError(
                f"darts-gt: model.position_count is {self.position_count}; it must be at least 1.",
                "Set model.position_count=16, or model.positions=none.",
            )

    def network(self) -> DartsGTConfig:
        """The settings of the network behind; what is still "auto" is as for plain features of graphs."""
        return DartsGTConfig(
            architecture=self.operators or next(iter(OPERATORS)),
            layers=self.layers,
            width=self.width,
            heads=self.heads,
            flavour=self.flavour,
            attention=self.attention,
            attention_self_loops=self.attention_self_loops,
            query_projection_sparse=self.query_projection_sparse,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            norm=self.norm,
            node_features="linear" if self.node_features == "auto" else self.node_features,
            edge_features="dummy" if self.edge_features == "auto" else self.edge_features,
            positions=self.positions,
            position_width=self.position_width,
            signs=self.signs,
            head="graph" if self.head == "auto" else self.head,
            head_layers=self.head_layers,
            pooling=self.pooling,
        )

    def settled(self, node_features: str, edge_features: str, head: str) -> Mapping[str, Any]:
        """What stands in place of "auto", by the names of the settings."""
        found = {"node_features": node_features, "edge_features": edge_features, "head": head}
        return {name: value for name, value in found.items() if getattr(self, name) == "auto"}
