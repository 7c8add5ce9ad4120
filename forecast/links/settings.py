"""How a network of links is trained and judged: the sections `train` and `track` of a run on events."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from ..errors import UsageError

METRICS = ("mrr", "ap", "auc", "hits@10")  # of all, more is better


@dataclass(frozen=True, kw_only=True)
class LinkTrain:
    """How a network of links is trained. Raises UsageError for a value that no training can have."""

    epochs: int = 5
    batch_size: int = 200  # consecutive events that share one window, in training, scoring and prediction alike
    loss: Literal["softmax", "binary"] = "softmax"  # binary: the published one, best with negatives: 1
    negatives: int = 30  # destinations drawn for each event
    partners: int = 10  # latest partners of the source that are negatives, too; softmax only
    min_history: int = 1  # batches whose window holds fewer events are not trained on
    learning_rate: float = 2e-3  # the first; it falls to 0 by half a cosine over the steps of all epochs
    patience: int = 2  # epochs without a better validation MRR before training stops
    averaging: float = 0.0  # decay of the running average of the weights that is kept; 0: the last weights
    validation_batches: int | None = None  # as many, spread evenly, rank the epochs; null: all of them
    seed: int = 2023
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "auto"  # "cpu", "cuda", "cuda:1"; "auto": an accelerator where there is one
    time_limit: float | None = None  # seconds of training, half of them for the network without its encoder

    def __post_init__(self) -> None:
        least = {"epochs": 1, "batch_size": 1, "negatives": 1, "partners": 0, "min_history": 0, "patience": 1}
        for name, floor in least.items():
            if getattr(self, name) < floor:
                raise UsageError(
                    f"train.{name} is {getattr(self, name)}; it must be at least {floor}.", f"Set train.{name}={floor}."
                )
        for name in ("learning_rate", "time_limit", "validation_batches"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"train.{name} is {value}; it must be above 0.", f"Set train.{name} to more.")
        if not 0 <= self.averaging < 1:
            raise UsageError(f"train.averaging is {self.averaging}; it must be from 0 to below 1.", "E.g. 0.99.")
        if not 0 <= self.seed < 2**43:
            raise UsageError(f"train.seed is {self.seed}; it must be from 0 to below 2^43.", "E.g. --seed 1.")
        if not re.fullmatch(r"auto|cpu|mps|(cuda|gpu)(:\d+)?", self.device):
            raise UsageError(f"train.device is {self.device!r}.", "Use auto, cpu, cuda or cuda:0.")


@dataclass(frozen=True, kw_only=True)
class LinkTrack:
    """Where the run is kept and what it is judged by."""

    experiment: str = "forecast"
    metric: Literal["mrr", "ap", "auc", "hits@10"] = "mrr"
