"""What the forecasts of DARTS-GT on sensors rest on: heads, and the sensors that helpful heads look at.

One window is one graph. The error is that of the forecasts of all targets and steps which were measured, absolute, in
the units of the table. The same removals tell it for each step of the horizon and for each sensor.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from graphs.graph_batch import GraphBatch
from graphs.head_removal import Removal
from graphs.interpretability import Errors

from . import report
from .data.scale import Scaler
from .data.windows import Example, WindowDataset
from .heads import Heads, Ranking, measure
from .scoring import finite

_CELLS = 2**13  # sensors and edges of the windows that go through the network at once
_LISTED = 15  # learned neighbours on the page
_BY_STEP = "The same at single steps of the horizon, in per cent of the MAE at the step."
_BY_SENSOR = "And in the forecasts of single sensors, in per cent of the MAE of each."


@dataclass(frozen=True)
class SensorHeads:
    """Heads over windows: what they do to all forecasts, to steps and to sensors, and where helpful ones look."""

    heads: Heads
    attended: np.ndarray  # (V,) attention of helpful heads, mean over windows; adds up to 1, or less where none helps
    names: tuple[str, ...]  # of the variates, the targets first
    learned: tuple[tuple[int, int, float], ...]  # neighbours: target, source, weight; none where none are learned
    step_errors: np.ndarray  # (H_out,) MAE of each step of the horizon; NaN where nothing was measured
    by_step: np.ndarray  # (L, H, H_out) rise of it without the head
    sensor_errors: np.ndarray  # (V_out,) MAE of each target
    by_sensor: np.ndarray  # (L, H, V_out) rise of it without the head

    def labels(self) -> list[str]:
        """Name all heads, layer after layer."""
        return [self.heads.label(number) for number in range(self.heads.relative().size)]

    def steps(self) -> list[str]:
        """Name the steps of the horizon."""
        return [f"step {step}" for step in range(1, len(self.step_errors) + 1)]

    def targets(self) -> tuple[str, ...]:
        """Name the sensors that are forecast."""
        return self.names[: len(self.sensor_errors)]

    def neighbours(self) -> dict[str, dict[str, float]]:
        """Give the learned neighbours of each sensor and their weights, the heaviest first."""
        found: dict[str, dict[str, float]] = {}
        for target, source, weight in sorted(self.learned, key=lambda edge: (edge[0], -edge[2])):
            found.setdefault(self.names[target], {})[self.names[source]] = weight
        return found

    def document(self) -> dict[str, Any]:
        """Give the numbers as plain values, None where nothing was measured."""
        found = self.heads.document()
        by_step, by_sensor = (part.reshape(-1, part.shape[2]) for part in (self.by_step, self.by_sensor))
        for head, steps, sensors in zip(found["heads"], by_step, by_sensor, strict=True):
            head["steps"] = finite(dict(zip(self.steps(), steps.tolist(), strict=True)))
            head["sensors"] = finite(dict(zip(self.targets(), sensors.tolist(), strict=True)))
        return found

    def section(self) -> str:
        """Give heat maps of the heads as HTML: over everything, by step, by sensor."""
        parts = [self.heads.section()]
        for told, rows, errors, rises in (
            (_BY_STEP, self.steps(), self.step_errors, self.by_step),
            (_BY_SENSOR, list(self.targets()), self.sensor_errors, self.by_sensor),
        ):
            with np.errstate(invalid="ignore", divide="ignore"):
                relative = 100 * rises.reshape(-1, len(errors)) / errors
            relative[~np.isfinite(relative)] = np.nan
            drawn = report.heat_map(report.Heat("taken out", rows, self.labels(), relative.T))
            parts.append(f"<p>{report.escaped(told)}</p>\n{drawn}")
        return "".join(parts) + self._learned()

    def _learned(self) -> str:
        """Give the learned neighbours that weigh most, as HTML."""
        rows = []
        for target, source, weight in sorted(self.learned, key=lambda edge: -edge[2])[:_LISTED]:
            sensor, neighbour = (report.escaped(self.names[number]) for number in (target, source))
            cells = f'<td class="name">{neighbour}</td><td>{report.aligned([weight])[0]}</td>'
            rows.append(f'<tr><th class="name" scope="row">{sensor}</th>{cells}</tr>\n')
        if not rows:
            return ""
        return report.table("<tr><th>sensor</th><th>learned neighbour</th><th>weight</th></tr>", rows)


def sensor_heads(
    network: Any, data: WindowDataset, scaler: Scaler, names: tuple[str, ...], ranking: Ranking = "robust"
) -> SensorHeads:
    """Take each head of `network`, a `SensorDartsGT`, out of all windows of `data` in which anything was measured.

    `names` are those of the variates.
    """
    std, net = torch.from_numpy(scaler.std[:, : data.targets]), network.transformer
    parts: list[Parts] = []
    found = measure(net, _batches(network, data, std, parts), ranking)
    heads = found.heads(net, "windows", "the MAE", "in units of the table", float(found.errors.mean()), labelled=True)
    attended = found.joined("importance").reshape(len(found.errors), -1).mean(0)
    seen, error, rise = (torch.stack(column).sum(0) for column in zip(*parts, strict=True))
    by_step, by_sensor = (
        ((error.sum(over) / seen.sum(over)).numpy(), (rise.sum(over) / seen.sum(over)).numpy()) for over in (-2, -1)
    )
    return SensorHeads(heads, attended, tuple(names), _learned(network), *by_step, *by_sensor)


@torch.no_grad()
def _learned(network: Any) -> tuple[tuple[int, int, float], ...]:
    if network.learned is None:
        return ()
    (source, target), weights = network.learned()
    return tuple(zip(target.tolist(), source.tolist(), weights.tolist(), strict=True))


def cells(network: Any) -> int:
    """Give the sensors and edges of one window."""
    sensors = network.graph.sensors
    return int(sensors * (1 + network.config.learned_neighbours) + network.graph.edges.shape[1])


class Parts(NamedTuple):
    """What some windows add to the errors of targets and steps."""

    seen: Tensor  # (V_out, H_out) how many were measured
    error: Tensor  # (V_out, H_out) sum of absolute errors with all heads
    rise: Tensor  # (L, H, V_out, H_out) by how much it rises without each


def _batches(
    network: Any, data: WindowDataset, std: Tensor, parts: list[Parts]
) -> Iterator[tuple[GraphBatch, Callable[[Removal], Errors]]]:
    """Give the windows as graphs, and the errors of their removals, of which `parts` gets the sums."""
    for index in data.numbers(max(1, _CELLS // cells(network))):
        measured = index[data[index].target.seen.flatten(1).any(dim=1)]
        if len(measured):
            example = data[measured]
            with torch.inference_mode():
                batch = network.batch(example.window)
            yield batch, partial(_error_of, example, std, parts)


def _error_of(example: Example, std: Tensor, parts: list[Parts], removal: Removal) -> Errors:
    """The errors of the rows of `removal`, sensor by sensor of each window: their mean is that over what was seen."""
    target, seen = (part.double().transpose(1, 2) for part in example.target)  # (B, V_out, H)
    weight = seen * std[example.series][..., None]
    sensors = len(removal.outputs) // len(seen)

    def absolute(outputs: Tensor) -> Tensor:  # (…, B V, H) to (…, B, V_out, H)
        return (outputs.unflatten(-2, (len(seen), -1))[..., : seen.shape[1], :] - target).abs() * weight

    def rows(outputs: Tensor) -> Tensor:  # variates that are no target weigh nothing
        errors = absolute(outputs).sum(dim=-1) * (sensors / seen.sum((1, 2)))[:, None]
        return torch.nn.functional.pad(errors, (0, sensors - seen.shape[1])).flatten(-2)

    error = absolute(removal.outputs).sum(dim=-3)
    parts.append(Parts(seen.sum(dim=0), error, absolute(removal.without).sum(dim=-3) - error))
    return rows
