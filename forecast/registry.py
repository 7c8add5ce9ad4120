"""The models that `forecast` knows: one literal row each, imported only when built."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from .errors import UsageError


@dataclass(frozen=True)
class ModelSpec:
    """One model: its name on the command line, in configs and in the registry, and where its code is."""

    name: str
    task: str  # what it forecasts: "series", or "links" between nodes
    network: str  # "module:Class", imported when built; within this package from a dot on
    paper: str  # address; "" for baselines
    summary: str

    @property
    def baseline(self) -> bool:
        return not self.paper


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
    ),
    ModelSpec(
        "todyformer",
        "links",
        "graphs.todyformer:Todyformer",
        "https://arxiv.org/abs/2402.05944",
        "who meets whom next: messages in patches of events, attention over them (Biparva et al., TMLR 2024)",
    ),
    ModelSpec("naive", "series", ".models.naive:Naive", "", "the last value, repeated"),
    ModelSpec("seasonal-naive", "series", ".models.naive:SeasonalNaive", "", "the last period, repeated"),
    ModelSpec("linear", "series", ".models.naive:Linear", "", "one least-squares map from lookback to horizon"),
)
MODELS: Mapping[str, ModelSpec] = MappingProxyType({spec.name: spec for spec in _TABLE})
TASKS = tuple(dict.fromkeys(spec.task for spec in _TABLE))
BASELINES = tuple(spec.name for spec in _TABLE if spec.baseline)


def find(name: str) -> ModelSpec:
    """Give the model called `name`; raises UsageError with the nearest name."""
    if name in MODELS:
        return MODELS[name]
    near = get_close_matches(name.replace("_", "-").lower(), MODELS, n=1)
    raise UsageError(
        f"There is no model called {name!r}.",
        f"Did you mean {near[0]}?" if near else f"Choose one of: {', '.join(MODELS)}.",
    )


def network_class(spec: ModelSpec) -> Any:
    """Import the network of `spec`."""
    return _imported(spec.network)


def config_class(spec: ModelSpec) -> Any:
    """Import the settings dataclass of `spec`: named like its network, with `Config` behind."""
    return _imported(f"{spec.network}Config")


def _imported(place: str) -> Any:
    module, name = place.split(":")
    return getattr(importlib.import_module(module, __package__), name)
