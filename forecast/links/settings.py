"""How a network of links is trained and judged: the sections of a configuration for events."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..data.events import EventData
from ..errors import UsageError

CONTROL = "-no-encoder"  # behind the name of the model: the same decoder, trained as long without the encoder
METRICS = ("mrr", "ap", "auc", "hits@10")  # of all, more is better


@dataclass(frozen=True, kw_only=True)
class LinkTrain:
    """How a network of links is trained."""

    epochs: int = 5
    batch_size: int = 200  # consecutive events that share one window, in training and scoring alike
    loss: Literal["softmax", "binary"] = "softmax"  # binary: the published one, best with negatives: 1
    negatives: int = 30  # destinations drawn for each event
    partners: int = 10  # latest partners of the source that are negatives, too; softmax only
    min_history: int = 1  # batches whose window holds fewer events are not trained on
    learning_rate: float = 2e-3  # the first; it falls to 0 by half a cosine over the steps of all epochs
    patience: int = 2  # epochs without a better validation MRR before training stops
    averaging: float = 0.0  # decay of the running average of the weights that is kept; 0: the last weights
    validation_batches: int | None = None  # as many, spread evenly, rank the epochs; null: all of them
    seed: int = 2023
    precision: Literal["fp32"] = "fp32"  # sums over messages want one type throughout
    device: Literal["cpu"] = "cpu"  # the meetings of pairs are searched where the events are
    time_limit: float | None = None  # seconds of training, half of them for the network without its encoder


@dataclass(frozen=True, kw_only=True)
class LinkTrack:
    """Where the run is kept and what it is judged by."""

    experiment: str = "forecast"
    metric: Literal["mrr", "ap", "auc", "hits@10"] = "mrr"


SECTIONS: Mapping[str, Any] = {"data": EventData, "train": LinkTrain, "track": LinkTrack}


def check(data: EventData, train: LinkTrain, track: LinkTrack) -> None:
    """Refuse values that no type can: raises UsageError."""
    least = {"epochs": 1, "batch_size": 1, "negatives": 1, "partners": 0, "min_history": 0, "patience": 1}
    for name, floor in {**least, "validation_batches": 1}.items():
        value = getattr(train, name)
        if value is not None and value < floor:
            raise UsageError(f"train.{name} is {value}; it must be at least {floor}.", f"Set train.{name}={floor}.")
    for name in ("learning_rate", "time_limit"):
        value = getattr(train, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"train.{name} is {value}; it must be above 0.", f"Set train.{name} to a positive value.")
    if not 0 <= train.averaging < 1:
        raise UsageError(f"train.averaging is {train.averaging}; it must be from 0 to below 1.", "E.g. 0.99.")
    if not 0 <= train.seed < 2**43:
        raise UsageError(f"train.seed is {train.seed}; it must be from 0 to below 2^43.", "E.g. --seed 1.")
