"""DARTS-GT on a graph of sensors: each variate is a node, each window one graph.

Paper: "DARTS-GT: Differentiable Architecture Search for Graph Transformers with Quantifiable Instance-Specific
Interpretability Analysis", 2025, https://arxiv.org/abs/2510.14336, whose tasks are graphs and nodes with labels; that
its network forecasts series is ours. `graphs.darts_gt` holds the network and says what it shares with the authors'
code.

Ours, for series:
- a node's features are its window, which of its steps are unseen, its last seen value, sine and cosine of the
  calendar features at the origin, its static features and the covariates whose future is known;
- edges run back, too, and a node attends to itself through a query map, as nothing but attention moves information;
- neighbours may be learned, instead of those of a graph or besides them (`graphs.learned_graph`);
- the output of a node is the change from its last seen value, at every step of the horizon.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from graphs.darts_gt import Attention, DartsGT, DartsGTConfig, GraphDataShape, GraphTransformer, Norm
from graphs.darts_search import Supernet
from graphs.graph_batch import GraphBatch
from graphs.graph_operators import OPERATORS
from graphs.learned_graph import LearnedNeighbours
from graphs.sensor_graph import SensorGraph

from ..data.windows import Window, WindowShape
from ..errors import UsageError
from .darts_gt_search import SEARCH, SearchedConfig
from .layers.instance_norm import zero_unseen

DENSE_SENSORS = 512  # above, attention between all pairs takes too much memory


@dataclass(frozen=True, kw_only=True)
class SensorDartsGTConfig(SearchedConfig):
    """Sizes of the network and of its search. Raises `UsageError` for a value that no network can be built from."""

    width: int = 32  # of a sensor's state
    heads: int = 4
    attention: Attention = "sparse"  # along edges, or "dense": among all sensors
    dropout: float = 0.1
    attention_dropout: float = 0.1
    norm: Norm = "batch"  # over the sensors of all windows of a batch, or "layer": over each state
    position_width: int = 8  # of a state, for the place of the sensor in the graph
    node_embedding: int = 0  # width of a code learned for each sensor; 0: other sensors may be forecast
    learned_neighbours: int = 0  # of each sensor, besides those that the graph gives it
    search_epochs: int = 6
    search_stride: int = 3  # every so many-th training window is searched on; the choice learns on later ones
    search_warmup: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("node_embedding", 0), ("learned_neighbours", 0), ("search_stride", 1)):
            if getattr(self, name) < least:
                raise UsageError(
                    f"darts-gt: model.{name} is {getattr(self, name)}; it must be at least {least}.",
                    f"Set model.{name}={least}.",
                )
        if self.learned_neighbours and self.attention == "dense":
            raise UsageError(
                "darts-gt: dense attention goes to all sensors; it has no use for learned neighbours.",
                "Set model.learned_neighbours=0, or model.attention=sparse.",
            )

    def network(self, *, weighted: bool = True) -> DartsGTConfig:
        """The settings of the network behind; `weighted` says whether the edges have weights."""
        return DartsGTConfig(
            architecture=self.operators or next(iter(OPERATORS)),
            layers=self.layers,
            width=self.width,
            heads=self.heads,
            flavour="edge",
            attention=self.attention,
            attention_self_loops=self.attention == "sparse",
            query_projection_sparse=True,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            norm=self.norm,
            edge_features="linear" if weighted else "dummy",
            positions="rwse",
            position_width=self.position_width,
            head="forecast",
        )


class SensorEncoder(nn.Module):
    """First states of sensors: a linear map of what is known of each, and of the code learned for it, if any."""

    def __init__(self, columns: int, width: int, sensors: int, code: int, flags: slice) -> None:
        super().__init__()
        self.linear = nn.Linear(columns + code, width)
        self.codes = nn.Embedding(sensors, code) if code else None
        with torch.no_grad():
            # Where training had nothing unseen these weights are never trained; unseen then reads as the mean.
            self.linear.weight[:, flags] = 0.0

    def forward(self, features: Tensor) -> Tensor:
        """The states (B N, width) of features (B N, columns), the sensors of a window one after the other."""
        if self.codes is not None:
            codes = self.codes.weight
            features = torch.cat((features, codes.repeat(len(features) // len(codes), 1)), dim=1)
        states: Tensor = self.linear(features)
        return states


class SensorDartsGT(nn.Module):
    """Forecasts all sensors of a graph together: `Window` in, (B, H, V_out) out.

    The V variates are the nodes of `graph`, in its order. With `architecture="search"` every layer is the mixture of
    all candidates (`graphs.darts_search`), to be searched and not to forecast with. The weights suit any graph whose
    edges have weights or not, as here, unless each sensor has a code (`node_embedding`).

    Raises `UsageError` for an architecture that is not settled, and for dense attention among too many sensors.
    """

    any_variates = False
    transformer: GraphTransformer

    def __init__(self, shape: WindowShape, config: SensorDartsGTConfig, graph: SensorGraph) -> None:
        super().__init__()
        self.shape, self.config, self.graph = shape, config, graph
        if config.operators is None and config.architecture != SEARCH:
            raise UsageError(
                f"darts-gt: model.architecture {config.architecture!r} does not name operators yet.",
                f"Set it to {SEARCH}, to {', '.join(OPERATORS)} or to one of these a layer.",
            )
        if config.attention == "dense" and graph.sensors > DENSE_SENSORS:
            raise UsageError(
                f"darts-gt: dense attention among {graph.sensors} sensors; {DENSE_SENSORS} are the most.",
                "Set model.attention=sparse.",
            )
        learns = config.learned_neighbours > 0
        network = config.network(weighted=learns or graph.edge_features.shape[1] > 0)
        columns = 2 * shape.lookback + 1 + 2 * shape.time_features + shape.static
        columns += (shape.lookback + shape.horizon) * shape.known
        data = GraphDataShape(
            columns,
            shape.horizon,
            edge_features=3 if learns else graph.edge_features.shape[1],
            walks=graph.walks.shape[1],
            last=2 * shape.lookback,
        )
        if config.architecture == SEARCH:
            self.transformer = Supernet(data, network, config.search)
        else:
            self.transformer = DartsGT(data, network)
        self.transformer.node_features = SensorEncoder(
            columns,
            config.width - config.position_width,
            graph.sensors,
            config.node_embedding,
            slice(shape.lookback, 2 * shape.lookback),
        )
        # Inside the transformer, as the encoder is, since a search trains what it finds there.
        if learns:
            self.transformer.add_module("learned", LearnedNeighbours(graph.sensors, config.learned_neighbours))

    def forward(self, window: Window) -> Tensor:
        """Forecast every target over the horizon: (B, H, V_out), on the scale of `window.past`."""
        steps = self.transformer(self.batch(window))  # (B V, H)
        forecast: Tensor = steps.view(len(window.past), self.graph.sensors, -1).transpose(1, 2)  # (B, H, V)
        return forecast[..., : self.shape.targets]

    def batch(self, window: Window) -> GraphBatch:
        """The windows as graphs, with the learned edges among the others."""
        batch = self.graph.batch(self.features(window))
        learned = self.learned
        return batch if learned is None else learned.beside(batch)

    @property
    def learned(self) -> LearnedNeighbours | None:
        """The neighbours that are learned, if any."""
        if not self.config.learned_neighbours:
            return None
        return cast(LearnedNeighbours, self.transformer.get_submodule("learned"))

    def last(self, window: Window) -> Tensor:
        """The last seen values of the targets, which forecasts begin from: (B, 1, V_out)."""
        return self.features(window)[:, None, : self.shape.targets, 2 * self.shape.lookback]

    def features(self, window: Window) -> Tensor:
        """What is known of each sensor at the origin: (B, V, C), its window first."""
        past = zero_unseen(window)  # (B, L, V)
        batch, lookback, sensors = past.shape
        step = torch.arange(lookback, device=past.device)[:, None] * window.seen
        last = past.gather(1, step.amax(dim=1, keepdim=True))  # (B, 1, V): 0, the mean, where nothing was seen
        angle = 2 * math.pi * window.past_time[:, -1]  # (B, K)
        shared = torch.cat((angle.sin(), angle.cos(), window.known.flatten(1)), dim=1)
        own = torch.cat((past, (~window.seen).to(past.dtype), last), dim=1).transpose(1, 2)
        return torch.cat(
            (own, shared[:, None].expand(-1, sensors, -1), window.static.expand(batch, sensors, -1)), dim=2
        )
