"""How a network of node states is trained and judged: the sections of a configuration for labelled events."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..data.events import EventData
from ..errors import UsageError
from ..links.settings import CONTROL, LinkTrack, LinkTrain
from ..links.settings import check as check_links

__all__ = ["CONTROL", "METRICS", "SECTIONS", "NodeTrack", "NodeTrain", "check"]

METRICS = ("auc", "ap")  # of both, more is better


@dataclass(frozen=True, kw_only=True)
class NodeTrain(LinkTrain):
    """How the encoder is trained on links, and then, frozen, a head on states; the head's settings begin with it."""

    encoder: str | None = None  # a stored model of links whose encoder is taken; null: one is trained first
    head_epochs: int = 60
    head_batch_size: int = 1024  # labels a step, of any time
    head_learning_rate: float = 3e-3  # the first; it falls to 0 by half a cosine over the steps of all epochs
    head_patience: int = 15  # epochs without a better validation AUC before training stops


@dataclass(frozen=True, kw_only=True)
class NodeTrack:
    """Where the run is kept and what it is judged by."""

    experiment: str = "forecast"
    metric: Literal["auc", "ap"] = "auc"


SECTIONS: Mapping[str, Any] = {"data": EventData, "train": NodeTrain, "track": NodeTrack}


def check(data: EventData, train: NodeTrain, track: NodeTrack) -> None:
    """Refuse values that no type can: raises UsageError."""
    check_links(data, train, LinkTrack())
    for name in ("head_epochs", "head_batch_size", "head_patience"):
        if getattr(train, name) < 1:
            value = getattr(train, name)
            raise UsageError(f"train.{name} is {value}; it must be at least 1.", f"Set train.{name}=1.")
    if not 0 < train.head_learning_rate < math.inf:
        raise UsageError(f"train.head_learning_rate is {train.head_learning_rate}; it must be above 0.", "E.g. 0.003.")
