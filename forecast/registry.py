"""The models that `forecast` knows: one literal row each, imported only when built.

A model that serves two kinds of data has a row, and a network, for each.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from .errors import UsageError


@dataclass(frozen=True)
class ModelSpec:
    """One model: its name on the command line, in configs and in the registry, and where its code is."""

    name: str
    task: str  # what it forecasts: "series", "links" between nodes, or what is told of "graphs"
    network: str  # "module:Class", imported when built; within this package from a dot on
    paper: str  # address; "" for baselines
    summary: str
    on_graph: bool = False  # its network takes a graph of the variates, too
    static: bool = False  # it reads features that never change
    settings: str = ""  # "module:Class" of its settings, where they are not beside the network
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by section, where they are not everyone's

    @property
    def baseline(self) -> bool:
        return not self.paper

    @property
    def unread(self) -> Mapping[str, str]:
        """Settings of the data that the model has no use for, and what they give."""
        graph = {} if self.on_graph else dict.fromkeys(("edges", "graph", "neighbours"), "graph")
        return graph if self.static else {**graph, "static": "static features"}


_TABLE = (
    ModelSpec(
        "itransformer",
        "series",
        ".models.itransformer:ITransformer",
        "https://arxiv.org/abs/2310.06625",
        "attention between variates, each window one token (Liu et al., ICLR 2024)",
    ),
    ModelSpec(
        "informer",
        "series",
        ".models.informer:Informer",
        "https://arxiv.org/abs/2012.07436",
        "few queries attend over time steps, the horizon in one pass (Zhou et al., AAAI 2021)",
    ),
    ModelSpec(
        "s-mamba",
        "series",
        ".models.s_mamba:SMamba",
        "https://arxiv.org/abs/2403.11144",
        "selective scans over variates in both directions; column order matters (Wang et al., 2024)",
    ),
    ModelSpec(
        "tsm2",
        "series",
        ".models.tsm2:TSM2",
        "https://arxiv.org/abs/2403.19888",
        "selective scans over time and over variates; column order matters (Behrouz et al., 2024)",
        static=True,
    ),
    ModelSpec(
        "darts-gt",
        "series",
        ".models.darts_gt:SensorDartsGT",
        "https://arxiv.org/abs/2510.14336",
        "a graph transformer on series of sensors; what each layer asks of the graph is searched (2025)",
        on_graph=True,
        static=True,
        defaults={
            "train": {
                "batch_size": 16,
                "loss": "mae",
                "units": "original",
                "learning_rate": 2e-3,
                "weight_decay": 1e-4,
                "averaging": 0.0,  # the running statistics of batch norm belong to the weights they were taken with
            }
        },
    ),
    ModelSpec(
        "darts-gt",
        "graphs",
        "graphs.darts_gt:DartsGT",
        "https://arxiv.org/abs/2510.14336",
        "the same on graphs: what is told of each graph, or of each of its nodes",
        settings=".models.darts_gt_labels:LabelDartsGTConfig",
    ),
    ModelSpec(
        "todyformer",
        "links",
        "graphs.todyformer:Todyformer",
        "https://arxiv.org/abs/2402.05944",
        "who meets whom next: messages in patches of events, attention over them (Biparva et al., TMLR 2024)",
    ),
    ModelSpec(
        "todyformer",
        "nodes",
        "graphs.todyformer:Todyformer",
        "https://arxiv.org/abs/2402.05944",
        "the same of states: an encoder of links, frozen, and a head that tells the state of a node",
        defaults={"model": {"pair_history": "none"}},  # what pairs did, the head cannot see: the encoder has to tell it
    ),
    ModelSpec("naive", "series", ".models.naive:Naive", "", "the last value, repeated"),
    ModelSpec("seasonal-naive", "series", ".models.naive:SeasonalNaive", "", "the last period, repeated"),
    ModelSpec("linear", "series", ".models.naive:Linear", "", "one least-squares map from lookback to horizon"),
)
MODELS: Mapping[str, ModelSpec] = MappingProxyType(  # by name, with the first row of each
    {name: next(spec for spec in _TABLE if spec.name == name) for name in dict.fromkeys(spec.name for spec in _TABLE)}
)
HOMES: Mapping[str, str] = {  # packages of the tasks other than series
    "links": ".links",
    "nodes": ".nodes",
    "graphs": ".graph_labels",
}
TASKS = tuple(dict.fromkeys(spec.task for spec in _TABLE))
BASELINES = tuple(spec.name for spec in _TABLE if spec.baseline)


def find(name: str, task: str | None = None) -> ModelSpec:
    """Give the model called `name`, for `task` or else the first it has; raises UsageError with the nearest name."""
    for spec in _TABLE:
        if spec.name == name and task in (None, spec.task):
            return spec
    near = get_close_matches(name.replace("_", "-").lower(), MODELS, n=1)
    raise UsageError(
        f"There is no model called {name!r}.",
        f"Did you mean {near[0]}?" if near else f"Choose one of: {', '.join(MODELS)}.",
    )


def tasks_of(name: str) -> tuple[str, ...]:
    """Give the tasks of the model called `name`; raises UsageError as `find` does."""
    return tuple(spec.task for spec in _TABLE if spec.name == find(name).name)


def network_class(spec: ModelSpec) -> Any:
    """Import the network of `spec`."""
    return _imported(spec.network)


def build(spec: ModelSpec, shape: Any, config: Any, graph: Any = None) -> Any:
    """Build the network of `spec`; `graph` is that of the variates, for a model that takes one."""
    return network_class(spec)(shape, config, graph) if spec.on_graph else network_class(spec)(shape, config)


def config_class(spec: ModelSpec) -> Any:
    """Import the settings dataclass of `spec`: named like its network, with `Config` behind, if not told otherwise."""
    return _imported(spec.settings or f"{spec.network}Config")


def _imported(place: str) -> Any:
    module, name = place.split(":")
    return getattr(importlib.import_module(module, __package__), name)
