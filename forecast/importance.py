"""Permutation importance: how much a network's error rises when one input is exchanged between windows.

Source: Leo Breiman, "Random Forests", Machine Learning 45, 2001, section 10; for any model and any loss, Aaron Fisher,
Cynthia Rudin, Francesca Dominici, "All Models are Wrong, but Many are Useful", JMLR 20(177), 2019.

It says what a model uses, not what causes what. Inputs that carry the same information share their importance.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .data.scale import Scaler
from .data.windows import Example, Window, WindowDataset

MEASURES = ("mse", "mae")  # on the scaled axis; in the units of the table
_BANDS = 24  # into which the steps of a longer horizon are put
_BATCH = 256  # windows at once; fewer where they are wide

Forecaster = Callable[[Window], Tensor]


class Source(NamedTuple):
    """An input that is exchanged: a variate's past, a covariate, or all calendar features together."""

    kind: str  # "variate", "known", "static" or "calendar"
    name: str
    number: int  # of its column; 0 for the calendar

    @property
    def label(self) -> str:
        """The name, with the kind where it is not a variate's."""
        return f"{self.name} ({self.kind})" if self.kind in ("known", "static") else self.name


@dataclass(frozen=True)
class Importance:
    """Errors of `P` sources by target, summed over windows, steps and the `R` repeats apart.

    `error` and `rise` hold sums by measure: squared on the scaled axis ("mse"), absolute in the units of the table
    ("mae"). `seen` (V_out,) counts the answers that they are sums over. Sums by step, over all targets, are of squared
    errors.
    """

    sources: tuple[Source, ...]
    targets: tuple[str, ...]
    windows: int
    seen: np.ndarray
    error: Mapping[str, np.ndarray]  # (V_out,), with nothing exchanged
    rise: Mapping[str, np.ndarray]  # (R, P, V_out)
    step_error: np.ndarray  # (H,)
    step_rise: np.ndarray  # (R, P, H)

    def base(self, measure: str) -> float:
        """Give the error over all targets with nothing exchanged."""
        return float(self.error[measure].sum() / self.seen.sum())

    def overall(self, measure: str) -> tuple[np.ndarray, np.ndarray]:
        """Give mean and standard deviation over repeats of the rise over all targets: (P,) each."""
        return _spread(self.rise[measure].sum(2) / self.seen.sum())

    def by_target(self, measure: str) -> tuple[np.ndarray, np.ndarray]:
        """Give mean and standard deviation over repeats of each target's rise: (P, V_out), NaN where none was seen."""
        return _spread(self.rise[measure] / _counts(self.seen))

    def relative(self) -> np.ndarray:
        """Give each target's rise in per cent of its own MSE: (P, V_out); NaN where that is 0 or nothing was seen."""
        error = self.error["mse"]
        return np.divide(
            100 * self.rise["mse"].mean(0), error, out=np.full(self.rise["mse"].shape[1:], np.nan), where=error > 0
        )

    def bands(self) -> list[str]:
        """Give the names of the bands of steps, as many as steps up to 24: "3", or "5 to 8"."""
        parts = _bands(len(self.step_error))
        return [f"{part[0] + 1}" if len(part) == 1 else f"{part[0] + 1} to {part[-1] + 1}" for part in parts]

    def by_band(self) -> np.ndarray:
        """Give the rise at each band of steps in per cent of the MSE there, over all targets: (P, bands); NaN for 0."""
        first = [part[0] for part in _bands(len(self.step_error))]
        error = np.add.reduceat(self.step_error, first)
        rise = np.add.reduceat(self.step_rise.mean(0), first, axis=1)
        return np.divide(100 * rise, error, out=np.full(rise.shape, np.nan), where=error > 0)

    def share(self) -> np.ndarray:
        """Give each source's share of the rises in MSE that are above 0: (P,)."""
        positive = self.overall("mse")[0].clip(min=0)
        return positive / positive.sum() if positive.sum() > 0 else positive

    def used_others(self) -> np.ndarray:
        """Say which targets gain from another variate: (V_out,) bool.

        They do when exchanging one raises their MSE by more than 1 % and more than two standard deviations.
        """
        mean, sd = self.by_target("mse")
        raised = (mean > 0.01 * self.error["mse"] / _counts(self.seen)) & (mean > 2 * sd)
        other = np.array([source.kind == "variate" for source in self.sources])[:, None]
        other = other & (np.array([source.number for source in self.sources])[:, None] != np.arange(len(self.targets)))
        return (raised & other).any(0)


def sources_of(fitted: Any, variates: Sequence[str]) -> tuple[Source, ...]:
    """Give the inputs of a fitted model that can be exchanged: `variates`, covariates, and the calendar as one.

    A model that an older version stored may lack covariates.
    """
    static = [
        feature.column if feature.category is None else f"{feature.column}={feature.category}"
        for feature in getattr(fitted, "features", ())
    ]
    named = {"variate": variates, "known": getattr(fitted.schema, "known", ()), "static": static}
    found = [Source(kind, name, number) for kind, names in named.items() for number, name in enumerate(names)]
    return (*found, *([Source("calendar", "calendar", 0)] if fitted.marks else []))


@torch.inference_mode()
def permutation_importance(
    forecaster: Forecaster,
    data: WindowDataset,
    scaler: Scaler,
    sources: Sequence[Source],
    targets: Sequence[str],
    *,
    repeats: int = 5,
    seed: int = 0,
) -> Importance:
    """Measure the importance of each of `sources` on all windows of `data`, of which there are at least two.

    In each repeat every window gets the source's values of another window, as they stand there: a variate's past
    keeps its own course and its gaps, a covariate its whole lookback and horizon. Which window gives to which is drawn
    once a repeat, the same for all sources, so that they are compared on the same exchanges.
    """
    std = torch.from_numpy(scaler.std[:, : data.targets])
    draw = torch.Generator().manual_seed(seed)
    givers = [_round_robin(len(data), draw) for _ in range(repeats)]
    variates = _round_robin(data.buffer.values.shape[1], draw)
    error = torch.zeros(2, data.targets, dtype=torch.float64)
    seen = torch.zeros(data.targets, dtype=torch.float64)
    exchanged = torch.zeros(repeats, len(sources), 2, data.targets, dtype=torch.float64)
    steps = torch.zeros(data.horizon, dtype=torch.float64)
    step_exchanged = torch.zeros(repeats, len(sources), data.horizon, dtype=torch.float64)
    for index in data.numbers(_BATCH):
        example = data[index]
        seen += example.target.seen.sum((0, 1))
        base, base_steps = _errors(forecaster(example.window), example, std)
        error += base
        steps += base_steps
        for repeat, giver in enumerate(givers):
            other = data[giver[index]].window
            for place, source in enumerate(sources):
                window = _exchanged(example.window, other, source, variates)
                # Of each batch apart: the difference of two equal sums is then exactly 0.
                found, found_steps = _errors(forecaster(window), example, std)
                exchanged[repeat, place] += found - base
                step_exchanged[repeat, place] += found_steps - base_steps
    return Importance(
        sources=tuple(sources),
        targets=tuple(targets),
        windows=len(data),
        seen=seen.numpy(),
        error=dict(zip(MEASURES, error.numpy(), strict=True)),
        rise=dict(zip(MEASURES, exchanged.permute(2, 0, 1, 3).numpy(), strict=True)),
        step_error=steps.numpy(),
        step_rise=step_exchanged.numpy(),
    )


@torch.inference_mode()
def seconds_of_a_pass(forecaster: Forecaster, data: WindowDataset) -> float:
    """Give the seconds of one forecast of all windows; importance takes one for each source and repeat."""
    forecaster(data[torch.zeros(1, dtype=torch.int64)].window)  # what is loaded or compiled at first is not counted
    start = time.perf_counter()
    for index in data.numbers(_BATCH):
        forecaster(data[index].window)
    return time.perf_counter() - start


def _round_robin(count: int, draw: torch.Generator) -> Tensor:
    """Give for each of `count` another one: a random order in which each takes from the next, (count,) int64."""
    order = torch.randperm(count, generator=draw)
    giver = torch.empty_like(order)
    giver[order] = order.roll(-1)
    return giver


def _exchanged(window: Window, other: Window, source: Source, variates: Tensor) -> Window:
    """Give `window` with one source taken from `other`; a static feature also from another variate, `variates` (V,)."""
    if source.kind == "calendar":
        return window._replace(past_time=other.past_time, future_time=other.future_time)
    column = source.number
    if source.kind == "variate":
        return window._replace(
            past=_with_column(window.past, other.past[..., column], column),
            seen=_with_column(window.seen, other.seen[..., column], column),
        )
    if source.kind == "known":
        return window._replace(known=_with_column(window.known, other.known[..., column], column))
    given = other.static[..., column]  # (B, V or 1)
    if given.shape[1] > 1:
        given = given[:, variates]
    return window._replace(static=_with_column(window.static, given, column))


def _with_column(values: Tensor, given: Tensor, column: int) -> Tensor:
    values = values.clone()
    values[..., column] = given
    return values


def _errors(forecast: Tensor, example: Example, std: Tensor) -> tuple[Tensor, Tensor]:
    """Sum squared errors, scaled, and absolute errors in units of the table: (2, V_out); squared ones by step: (H,)."""
    error = ((forecast - example.target.values) * example.target.seen).double()  # (B, H, V_out)
    units = error.abs() * std[example.series, None]
    squares = error.square().sum(0)  # (H, V_out)
    return torch.stack((squares.sum(0), units.sum((0, 1)))), squares.sum(1)


def _bands(steps: int) -> list[np.ndarray]:
    return np.array_split(np.arange(steps), min(steps, _BANDS))


def _counts(seen: np.ndarray) -> np.ndarray:
    return np.where(seen > 0, seen, np.nan)


def _spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give mean and sample standard deviation over the first axis; the latter is 0 where there is one repeat."""
    return values.mean(0), values.std(0, ddof=min(1, len(values) - 1))
