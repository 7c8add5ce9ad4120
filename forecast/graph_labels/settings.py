"""How a network of graphs is trained and judged: the sections of a configuration for graphs with labels."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..data.graph_table import GraphData
from ..errors import UsageError


@dataclass(frozen=True, kw_only=True)
class GraphTrain:
    """How a network of graphs is trained, in the search and after it."""

    epochs: int = 30
    batch_size: int = 64  # graphs
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5  # of matrices, with AdamW
    warmup_epochs: int = 3  # over which the rate rises; from then on it falls to 0 by half a cosine
    clip: float | None = 1.0  # norm of the gradients; null: none
    patience: int = 10  # epochs without a better validation metric before training stops
    averaging: float = 0.0  # decay of the running average of the weights that is kept; it does not suit batch norms
    seed: int = 2023  # of the search; the network is trained with the next one
    precision: Literal["fp32"] = "fp32"  # sums over edges want one type throughout
    device: str = "auto"  # "cpu", "cuda", "cuda:1"; "auto": an accelerator where there is one
    time_limit: float | None = None  # seconds of training, shared evenly by search, network and controls


@dataclass(frozen=True, kw_only=True)
class GraphTrack:
    """Where the run is kept and what it is judged by."""

    experiment: str = "forecast"
    metric: Literal["auto", "mae", "r2", "auc", "ap", "accuracy", "accuracy_sbm"] = "auto"  # "auto": that of the task


SECTIONS: Mapping[str, Any] = {"data": GraphData, "train": GraphTrain, "track": GraphTrack}


def check(data: GraphData, train: GraphTrain, track: GraphTrack) -> None:
    """Refuse values that no type can: raises UsageError."""
    for name, least in {"epochs": 1, "batch_size": 1, "warmup_epochs": 0, "patience": 1}.items():
        value = getattr(train, name)
        if value < least:
            raise UsageError(f"train.{name} is {value}; it must be at least {least}.", f"Set train.{name}={least}.")
    for name in ("learning_rate", "clip", "time_limit"):
        value = getattr(train, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"train.{name} is {value}; it must be above 0.", f"Set train.{name} to a positive value.")
    if not 0 <= train.weight_decay < math.inf:
        raise UsageError(f"train.weight_decay is {train.weight_decay}; it must be at least 0.", "E.g. 1e-5.")
    if not 0 <= train.averaging < 1:
        raise UsageError(f"train.averaging is {train.averaging}; it must be from 0 to below 1.", "E.g. 0.99.")
    for key, seed in (("train.seed", train.seed), ("data.split_seed", data.split_seed)):
        if not 0 <= seed < 2**43 - 1:
            raise UsageError(f"{key} is {seed}; it must be from 0 to below 2^43 - 1.", f"E.g. --set {key}=1.")
    if not re.fullmatch(r"auto|cpu|mps|(cuda|gpu)(:\d+)?", train.device):
        raise UsageError(f"train.device is {train.device!r}.", "Use auto, cpu, cuda or cuda:0.")
    if not all(share > 0 for share in data.split) or abs(sum(data.split) - 1) > 1e-6:
        raise UsageError(
            f"data.split is {list(data.split)}; its three shares must be positive and sum to 1.",
            "E.g. --set data.split=[0.8,0.1,0.1].",
        )
