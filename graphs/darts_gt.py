"""DARTS-GT: a graph transformer whose attention asks with features and answers with structure.

Paper: "DARTS-GT: Differentiable Architecture Search for Graph Transformers with Quantifiable Instance-Specific
Interpretability Analysis", 2025, https://arxiv.org/abs/2510.14336. Code: https://github.com/shrutiOx/DARTS_GT, commit
41e59de, whose layers, search layers, whole models and head ablations the ones here equal.

The paper's and the code's:
- queries come from a layer's input, keys and values from a message-passing operator on it (`graph_operators`); there
  is no branch of messages beside the attention;
- three flavours of the layer: plain; edge, with a gated stream of edge features after the first norm; qproj, with a
  network on the query and a tenth of the input added to keys and values;
- attention along all pairs of a graph, or along its edges, where the query has no map and a node does not see itself;
- every layer sees the edge features as encoded; CustomGatedGCN's update of them is thrown away;
- which operator stands in which layer is searched (`darts_search`), and heads are taken out one at a time to see what
  a prediction rests on (`interpretability`).

Ours:
- `attention_self_loops` and `query_projection_sparse`; with the latter, qproj uses its query network and its dropout of
  keys and values in sparse attention, too;
- the head "forecast", which keeps magnitudes, and the last seen value added to its outputs (`shape.last`);
- `norm="layer"`, LayerNorm a node; the code's is over a graph;
- the operator "None", and LapPE signs for each graph;
- edges of the same features are one row to what looks at edges alone, the edge stream's dropout included.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor, nn

from .graph_attention import DenseAttention, SparseAttention
from .graph_batch import GraphBatch, GraphError
from .graph_context import GraphContext
from .graph_encoders import (
    EdgeFeatures,
    LaplacianEncoder,
    NodeFeatures,
    Positions,
    RandomWalkEncoder,
    Signs,
    edge_encoder,
    edge_states,
    node_encoder,
)
from .graph_heads import OF_GRAPHS, Head, Pooling, head_network, pool
from .graph_operators import OPERATORS, check_operators

Flavour = Literal["plain", "edge", "qproj"]
Attention = Literal["dense", "sparse"]
Norm = Literal["batch", "layer"]

INPUT_SHARE = 0.1  # of the layer's input in keys and values, qproj
SOURCE_DROPOUT = 0.2  # of keys and values, qproj, single operators only
OPEN_GATE = 0.1  # the edge stream's gate at the start, before the sigmoid


@dataclass(frozen=True, kw_only=True)
class DartsGTConfig:
    """Sizes and parts of the network. Raises `GraphError` for values that no network can be built from."""

    architecture: str | tuple[str, ...] = "GINE"  # operator of each layer, or one for all
    layers: int = 4
    width: int = 64  # of a node's state
    heads: int = 4
    flavour: Flavour = "edge"
    attention: Attention = "sparse"
    attention_self_loops: bool = False  # sparse: a node attends to itself, too
    query_projection_sparse: bool = False  # sparse: queries have a map
    dropout: float = 0.0
    attention_dropout: float = 0.5
    norm: Norm = "batch"
    node_features: NodeFeatures = "linear"
    edge_features: EdgeFeatures = "dummy"
    positions: Positions = "none"
    position_width: int = 16  # of a node's state, where there are positions
    signs: Signs = "batch"  # how LapPE flips eigenvectors in training
    head: Head = "graph"
    head_layers: int = 1  # of the heads "graph" and "inductive_node"
    pooling: Pooling = "mean"

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads", "position_width", "head_layers"):
            if getattr(self, name) < 1:
                raise GraphError(
                    f"darts-gt: model.{name} is {getattr(self, name)}; it must be at least 1.", f"Set model.{name}=1."
                )
        if self.width % self.heads:
            raise GraphError(
                f"darts-gt: model.width {self.width} is not a multiple of model.heads {self.heads}.",
                f"Set model.width={-(-self.width // self.heads) * self.heads}, or another number of heads.",
            )
        for name in ("dropout", "attention_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise GraphError(
                    f"darts-gt: model.{name} is {getattr(self, name)}; it must be at least 0 and below 1.",
                    f"Set model.{name}=0.1, or 0 for none.",
                )
        for name, kinds in CHOICES.items():
            if getattr(self, name) not in get_args(kinds):
                raise GraphError(
                    f'darts-gt: model.{name} "{getattr(self, name)}" is not known.',
                    f"Set model.{name} to {' or '.join(get_args(kinds))}.",
                )
        if self.positions != "none" and self.position_width >= self.width:
            raise GraphError(
                f"darts-gt: model.position_width {self.position_width} leaves nothing of model.width {self.width}.",
                f"Set model.position_width={max(1, self.width // 4)}.",
            )
        check_operators(self.operators, "darts-gt: model.architecture")
        if len(self.operators) != self.layers:
            raise GraphError(
                f"darts-gt: model.architecture names {len(self.operators)} operators; model.layers is {self.layers}.",
                f"Set model.layers={len(self.operators)}, or name one operator a layer.",
            )

    @property
    def operators(self) -> tuple[str, ...]:
        """The operator of each layer."""
        if isinstance(self.architecture, str):
            return (self.architecture,) * self.layers
        return tuple(self.architecture)

    @property
    def projects(self) -> bool:
        """Whether queries go through maps of their own."""
        return self.attention == "dense" or self.query_projection_sparse


CHOICES = {
    "flavour": Flavour,
    "attention": Attention,
    "norm": Norm,
    "node_features": NodeFeatures,
    "edge_features": EdgeFeatures,
    "positions": Positions,
    "signs": Signs,
    "head": Head,
    "pooling": Pooling,
}


class GraphDataShape(NamedTuple):
    """What a network must know of the data."""

    node_features: int  # columns of `nodes`; the number of types for "type_dict"
    outputs: int  # numbers a graph, or a node
    edge_features: int = 0  # columns of `edge_features`; the number of types for "type_dict"
    walks: int = 0
    last: int | None = None  # the column of `nodes` with the last seen value: head "forecast" adds it to its outputs


def norm(kind: Norm, width: int) -> nn.Module:
    """The norm of a layer."""
    return nn.BatchNorm1d(width) if kind == "batch" else nn.LayerNorm(width)


class SingleOperator(nn.Module):
    """Structure for the keys and values of a layer: one operator, then a norm."""

    def __init__(self, name: str, config: DartsGTConfig) -> None:
        super().__init__()
        self.operator = OPERATORS[name](config.width, config.heads, config.dropout)
        self.norm = norm(config.norm, config.width)

    def forward(self, nodes: Tensor, context: GraphContext) -> Tensor:
        """Structure around each node, (N, D)."""
        structure: Tensor = self.norm(self.operator(nodes, context.edges, context.edge_states))
        return structure


class DartsLayer(nn.Module):
    """One layer: attention of the nodes to `structure` of them, edge stream (flavour edge), feed-forward.

    `source_dropout` is the share of keys and values dropped in training (flavour qproj).
    """

    def __init__(self, config: DartsGTConfig, structure: nn.Module, source_dropout: float = 0.0) -> None:
        super().__init__()
        width, rate = config.width, config.attention_dropout
        self.structure = structure
        self.attention: DenseAttention | SparseAttention
        if config.attention == "dense":
            self.attention = DenseAttention(width, config.heads, rate)
        else:
            self.attention = SparseAttention(width, config.heads, rate, project=config.query_projection_sparse)
        self.query_network: nn.Sequential | None = None
        self.input_share = 0.0
        self.projects = config.projects
        if config.flavour == "qproj":
            # Sparse as published it is never used; it is made all the same, as the authors' weights have it.
            self.query_network = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            self.input_share = INPUT_SHARE
        self.source_dropout = nn.Dropout(source_dropout if config.flavour == "qproj" and config.projects else 0.0)
        self.dropout = nn.Dropout(config.dropout)
        self.norm_attention = norm(config.norm, width)
        self.edge_network: nn.Sequential | None = None
        if config.flavour == "edge":
            self.edge_network = nn.Sequential(
                nn.Linear(width, width),
                nn.ReLU(),
                nn.Dropout(config.dropout),
                nn.Linear(width, width),
                nn.Dropout(config.dropout),
            )
            self.edge_gate = nn.Parameter(torch.tensor(OPEN_GATE))
        self.expand = nn.Linear(width, 2 * width)
        self.contract = nn.Linear(2 * width, width)
        self.norm_out = norm(config.norm, width)

    def forward(
        self, nodes: Tensor, context: GraphContext, mask: Tensor | None = None, stream: Tensor | None = None
    ) -> Tensor:
        """New states of the nodes, (N, D) in and out; `mask` (H,), or (G, H) by graph, multiplies what heads find.

        `stream` is what `edge_stream` gives, where it is known already.
        """
        heads = self.attention.heads(*self.query_and_source(nodes, context), context)
        if mask is not None:
            heads = heads * (mask if mask.dim() == 1 else mask[context.graph])[..., None]
        return self.finish(nodes, self.attention.join(heads), self.edge_stream(context) if stream is None else stream)

    def query_and_source(self, nodes: Tensor, context: GraphContext) -> tuple[Tensor, Tensor]:
        """What queries, and what keys and values are made from, (N, D) both."""
        source = self.structure(nodes, context)
        if self.input_share:
            source = source + self.input_share * nodes
        query = self.query_network(nodes) if self.query_network is not None and self.projects else nodes
        return query, self.source_dropout(source)

    def edge_stream(self, context: GraphContext) -> Tensor | None:
        """What the edges of each node bring it by themselves, gated, (N, D); flavour edge alone has it."""
        if self.edge_network is None:
            return None
        messages = context.edge_states.each(self.edge_network)
        stream = messages.new_zeros(len(context.graph), messages.shape[1])
        return torch.sigmoid(self.edge_gate) * stream.index_add(0, context.edges[1], messages)

    def finish(self, nodes: Tensor, attended: Tensor, stream: Tensor | None) -> Tensor:
        """The layer's output, (N, D), from its input, what attention brought and the edge stream."""
        hidden = self.norm_attention(nodes + self.dropout(attended))
        if stream is not None:
            hidden = hidden + stream
        forward = self.dropout(self.contract(self.dropout(torch.relu(self.expand(hidden)))))
        out: Tensor = self.norm_out(hidden + forward)
        return out


class GraphTransformer(nn.Module):
    """Encoders, one `DartsLayer` on each of `structures`, and a head."""

    def __init__(
        self, shape: GraphDataShape, config: DartsGTConfig, structures: Iterable[nn.Module], source_dropout: float
    ) -> None:
        super().__init__()
        self.shape, self.config = shape, config
        width = config.width - (config.position_width if config.positions != "none" else 0)
        self.node_features = node_encoder(config.node_features, shape.node_features, width)
        self.edge_features = edge_encoder(config.edge_features, shape.edge_features, config.width)
        self.positions: RandomWalkEncoder | LaplacianEncoder | None = None
        if config.positions == "rwse":
            self.positions = RandomWalkEncoder(shape.walks, config.position_width)
        elif config.positions == "lappe":
            self.positions = LaplacianEncoder(config.position_width, config.signs)
        self.layers = nn.ModuleList(DartsLayer(config, structure, source_dropout) for structure in structures)
        self.head = head_network(config.head, config.width, shape.outputs, config.head_layers, config.dropout)
        self.normed_over_batch = any(isinstance(module, nn.BatchNorm1d) for module in self.modules())

    def forward(self, batch: GraphBatch, mask: Tensor | None = None) -> Tensor:
        """Outputs of each graph (G, outputs), or of each node (N, outputs), as the head says.

        `mask` (L, H), or (L, G, H) by graph, multiplies what each head finds: 0 takes it out. Raises `GraphError` as
        `encode` does.
        """
        nodes, context = self.encode(batch)
        for number, layer in enumerate(self.layers):
            nodes = layer(nodes, context, None if mask is None else mask[number])
        return self.read_out(nodes, context, self.last_value(batch))

    def each_layer(self) -> list[DartsLayer]:
        """The layers, from the first to the last."""
        return [cast(DartsLayer, layer) for layer in self.layers]

    def encode(self, batch: GraphBatch) -> tuple[Tensor, GraphContext]:
        """First states of the nodes (N, D), and what the layers need besides.

        Raises `GraphError` where a statistic that an encoder needs is missing, for a graph without nodes, and in
        training for a batch of a single node where there are batch norms.
        """
        check_statistics(batch, self.shape, self.config)
        if self.training and self.normed_over_batch and len(batch.nodes) < 2:
            raise GraphError(
                "A batch of a single node cannot be trained on: batch norm needs two.",
                "Train on another number of graphs at once, so that the last batch has more than one node.",
            )
        nodes = self.node_features(batch.nodes)
        if self.positions is not None:
            nodes = torch.cat((nodes, self.positions(batch)), dim=1)
        context = GraphContext.of(
            batch,
            edge_states(self.edge_features, batch),
            dense=self.config.attention == "dense",
            self_loops=self.config.attention_self_loops,
        )
        return nodes, context

    def read_out(self, nodes: Tensor, context: GraphContext, last: Tensor | None = None) -> Tensor:
        """Outputs from the last layer's states, as `forward` gives them; `last` (N, 1) is added to them."""
        if self.config.head in OF_GRAPHS:
            nodes = pool(nodes, context, self.config.pooling)
        outputs: Tensor = self.head(nodes)
        return outputs if last is None else outputs + last.to(outputs.dtype)

    def last_value(self, batch: GraphBatch) -> Tensor | None:
        """The last seen value of each node, (N, 1), where the head adds it."""
        if self.config.head != "forecast" or self.shape.last is None:
            return None
        return batch.nodes[:, self.shape.last, None]

    def attention(self, batch: GraphBatch) -> list[Tensor]:
        """Attention weights of each layer: dense (G, H, n, n) graph, head, query, key; sparse (P, H).

        The rows of sparse weights are the attention edges of `encode(batch)`: the edges of the batch, or with self
        loops those between different nodes and then one loop a node.
        """
        nodes, context = self.encode(batch)
        weights = []
        for layer in self.each_layer():
            weights.append(layer.attention.weights(*layer.query_and_source(nodes, context), context))
            nodes = layer(nodes, context)
        return weights


class DartsGT(GraphTransformer):
    """The network with one operator a layer, `config.architecture`: `GraphBatch` in, outputs of graphs or nodes out."""

    def __init__(self, shape: GraphDataShape, config: DartsGTConfig) -> None:
        structures = [SingleOperator(name, config) for name in config.operators]
        super().__init__(shape, config, structures, SOURCE_DROPOUT)


def check_statistics(batch: GraphBatch, shape: GraphDataShape, config: DartsGTConfig) -> None:
    """Raises `GraphError` where the batch lacks the statistic that the encoder of positions reads."""
    if config.positions == "rwse" and (not shape.walks or batch.walks.shape[1] != shape.walks):
        raise GraphError(
            f"darts-gt: rwse needs {shape.walks or 'some'} random-walk statistics; there are {batch.walks.shape[1]}.",
            "Make them with the graphs, or set model.positions=none.",
        )
    if config.positions == "lappe" and not batch.eigenvectors.shape[1]:
        raise GraphError(
            "darts-gt: lappe needs eigenvectors of the graphs; there are none.",
            "Make them with the graphs, or set model.positions=none.",
        )
