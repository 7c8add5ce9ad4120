"""What the forecasts of DARTS-GT on sensors rest on: heads, and the sensors that helpful heads look at.

One window is one graph. The error is that of the forecasts of all targets and steps which were measured, absolute, in
the units of the table.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from graphs.graph_batch import GraphBatch
from graphs.head_removal import Removal
from graphs.interpretability import Errors

from .data.scale import Scaler
from .data.windows import Example, WindowDataset
from .heads import Heads, Ranking, measure

_CELLS = 2**13  # sensors and edges of the windows that go through the network at once


class SensorHeads(NamedTuple):
    """Heads over windows, and the mean over windows of the attention of helpful heads to each sensor, (V,)."""

    heads: Heads
    attended: np.ndarray  # adds up to 1, or less where no head helps


def sensor_heads(network: Any, data: WindowDataset, scaler: Scaler, ranking: Ranking = "robust") -> SensorHeads:
    """Take each head of `network`, a `SensorDartsGT`, out of all windows of `data` in which anything was measured."""
    std = torch.from_numpy(scaler.std[:, : data.targets])
    found = measure(network.transformer, _batches(network, data, std), ranking)
    net, size = network.transformer, float(found.errors.mean())
    heads = found.heads(net, "windows", "the MAE", "in units of the table", size, labelled=True)
    return SensorHeads(heads, found.joined("importance").reshape(len(found.errors), -1).mean(0))


def cells(network: Any) -> int:
    """Give the sensors and edges of one window."""
    return int(network.graph.sensors + network.graph.edges.shape[1])


def _batches(
    network: Any, data: WindowDataset, std: Tensor
) -> Iterator[tuple[GraphBatch, Callable[[Removal], Errors]]]:
    for index in data.numbers(max(1, _CELLS // cells(network))):
        measured = index[data[index].target.seen.flatten(1).any(dim=1)]
        if len(measured):
            example = data[measured]
            with torch.inference_mode():
                batch = network.graph.batch(network.features(example.window))
            yield batch, partial(_error_of, example, std)


def _error_of(example: Example, std: Tensor, removal: Removal) -> Errors:
    """The errors of the rows of `removal`, sensor by sensor of each window: their mean is that over what was seen."""
    seen = example.target.seen.double()  # (B, H, V_out)
    sensors = len(removal.outputs) // len(seen)
    weight = seen * std[example.series, None] * (sensors / seen.sum((1, 2), keepdim=True))
    weight, target = (
        torch.nn.functional.pad(part.transpose(1, 2), (0, 0, 0, sensors - seen.shape[2])).flatten(0, 1)
        for part in (weight, example.target.values.double())
    )  # (B V, H): variates that are no target weigh nothing
    return lambda outputs: ((outputs - target).abs() * weight).sum(dim=-1)
