"""Baselines: last value, seasonal naive and a linear map; the bar that every network must clear.

They see the same `Window` as the networks and are scored on the same windows. None is trained by gradients: each
`solve`s itself from the training windows in one pass, which for the naive two is nothing at all.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..data.windows import Example, Window, WindowShape
from ..errors import UsageError


@dataclass(frozen=True, kw_only=True)
class NaiveConfig:
    """The last value has no settings."""


class Naive(nn.Module):
    """Repeats the last seen value of each variate; 0 on the scaled axis (the training mean) where none was seen."""

    any_variates = True

    def __init__(self, shape: WindowShape, config: NaiveConfig) -> None:
        super().__init__()
        self.shape, self.config, self.targets = shape, config, _forecast_of(shape)

    def solve(self, batches: Iterable[Example]) -> None:
        """Nothing to learn."""

    def forward(self, window: Window) -> Tensor:
        """Forecast every target over the horizon: (B, H, V_out)."""
        last = _last_seen(window.past, window.seen)[..., : self.targets]  # (B, V_out)
        return last[:, None].expand(-1, self.shape.horizon, -1)


@dataclass(frozen=True, kw_only=True)
class SeasonalNaiveConfig:
    season: int | None = None  # steps of one period; the best on training windows if not given

    def __post_init__(self) -> None:
        if self.season is not None and self.season < 1:
            raise UsageError(f"seasonal-naive: model.season is {self.season}; it must be at least 1.", "E.g. 24.")


class SeasonalNaive(nn.Module):
    """Repeats the last period; a missing value is taken from the period before it, or else is the last seen value."""

    any_variates = True

    def __init__(self, shape: WindowShape, config: SeasonalNaiveConfig) -> None:
        super().__init__()
        self.shape, self.config, self.targets = shape, config, _forecast_of(shape)
        self.season = config.season or 1

    def solve(self, batches: Iterable[Example]) -> None:
        """Nothing to learn: the period is chosen before, on the training part."""

    def forward(self, window: Window) -> Tensor:
        """Forecast every target over the horizon: (B, H, V_out)."""
        front = (0, 0, -window.past.shape[1] % self.season, 0)  # unseen steps that make whole periods
        past = pad(window.past[..., : self.targets], front)
        seen = pad(window.seen[..., : self.targets], front)
        fold = (len(past), past.shape[1] // self.season, self.season, past.shape[2])
        phase = _last_seen(past.reshape(fold), seen.reshape(fold), default=_last_seen(past, seen)[:, None])
        steps = torch.arange(self.shape.horizon, device=past.device) % self.season
        return phase[:, steps]


@dataclass(frozen=True, kw_only=True)
class LinearConfig:
    ridge: float = 1e-4  # penalty, as a share of the mean squared input: keeps collinear lags solvable


class Linear(nn.Module):
    """One least-squares map from the lookback to the horizon, shared by all variates (the LTSF-Linear of Zeng et al.,
    2023, arXiv 2205.13504, solved exactly instead of trained).

    Every complete training window of every variate is one equation; at most a million, evenly spaced. Missing inputs
    count as 0, the training mean.
    """

    any_variates = True

    def __init__(self, shape: WindowShape, config: LinearConfig) -> None:
        super().__init__()
        self.shape, self.config, self.targets = shape, config, _forecast_of(shape)
        self.register_buffer("weight", torch.zeros(shape.lookback + 1, shape.horizon))
        self.weight: Tensor

    def solve(self, batches: Iterable[Example]) -> None:
        """Accumulate the normal equations over `batches` in float64 and solve them."""
        lookback, horizon = self.shape.lookback, self.shape.horizon
        gram = torch.zeros(lookback + 1 + horizon, lookback + 1 + horizon, dtype=torch.float64)
        for window, target, *_ in batches:
            past = window.past[..., : self.targets].transpose(1, 2).flatten(0, 1)  # (B V_out, L)
            future = target.values.transpose(1, 2).flatten(0, 1)  # (B V_out, H)
            complete = target.seen.all(dim=1).flatten()
            rows = torch.cat([past, past.new_ones(len(past), 1), future], dim=1)[complete].double()
            gram += rows.T @ rows
        inputs = gram[: lookback + 1, : lookback + 1]
        penalty = self.config.ridge * inputs.diagonal()[:-1].mean() * torch.eye(lookback + 1, dtype=torch.float64)
        penalty[-1, -1] = 0.0  # the intercept is free
        solution = torch.linalg.lstsq(inputs + penalty, gram[: lookback + 1, lookback + 1 :], driver="gelsd")
        self.weight.copy_(solution.solution)

    def forward(self, window: Window) -> Tensor:
        """Forecast every target over the horizon: (B, H, V_out)."""
        past = window.past[..., : self.targets].transpose(1, 2)  # (B, V_out, L)
        return (past @ self.weight[:-1] + self.weight[-1]).transpose(1, 2)


def _forecast_of(shape: WindowShape) -> int | None:
    """How many variates of a window are forecast; None: all that are given, which may be others than in training."""
    return None if shape.targets == shape.variates else shape.targets


def _last_seen(values: Tensor, seen: Tensor, default: Tensor | float = 0.0) -> Tensor:
    """Give the value at the last seen position along dimension 1, `default` where there is none."""
    position = torch.arange(1, values.shape[1] + 1, device=values.device).view(-1, *[1] * (values.dim() - 2))
    last = (seen * position).amax(dim=1, keepdim=True)
    value = values.gather(1, (last - 1).clamp(min=0)).squeeze(1)
    return torch.where(last.squeeze(1) > 0, value, default)
