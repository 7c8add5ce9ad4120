"""Scores over every window: scaled as in the papers, and in original units beside the baselines."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from .calibrate import Calibration
from .data.frame import owner_of_rows
from .data.scale import Scaler
from .data.windows import Target, Window, WindowBuffer, WindowDataset, WindowShape
from .models.naive import SeasonalNaive, SeasonalNaiveConfig

_TINY = torch.finfo(torch.float64).tiny
_ZERO = 1e-3  # an answer below, in original units, has no percentage error
METRICS = {  # what a model may be judged by: where it stands in Scores
    "mse": "scaled",
    "mae": "original",
    "rmse": "original",
    "mase": "original",
    "smape": "original",
}


@dataclass(frozen=True)
class Scores:
    """Errors of one forecaster over every window, horizon step and variate whose answer was seen.

    `scaled` holds mse and mae on the scaled axis, `original` mae and rmse in units of the table, mase, and smape: the
    mean of 200 |y - f| / (|y| + |f|) in per cent, 0 where both are 0, as in the M4 competition. `by_step` (H,) is
    scaled MSE, `by_variate` (V_out,) MAE in original units. `steps` holds mae, rmse and mape (per cent, of answers that
    are not about 0) in original units at single steps, counted from 1. NaN where nothing was seen.
    """

    windows: int
    scaled: Mapping[str, float]
    original: Mapping[str, float]
    by_step: np.ndarray
    by_variate: np.ndarray
    coverage: Mapping[int, float]
    steps: Mapping[int, Mapping[str, float]] = field(default_factory=dict)

    def metric(self, name: str) -> float:
        """Give one of `METRICS`: mse on the scaled axis, the others in original units."""
        return float(getattr(self, METRICS[name])[name])


@torch.inference_mode()
def score(
    forecaster: Callable[[Window], Tensor],
    data: WindowDataset,
    scaler: Scaler,
    naive_error: np.ndarray,
    *,
    batch_size: int = 64,
    calibration: Calibration | None = None,
    levels: tuple[int, ...] = (),
    reference: Scaler | None = None,
    steps: tuple[int, ...] = (),
) -> Scores:
    """Sum errors over all windows and divide once, so that the result does not depend on the batch size.

    `naive_error` (S, V_out) is the in-sample error that MASE divides by, on the scaled axis (`seasonal_error`); a
    variate whose naive error is 0 takes no part in MASE. With a `calibration`, the share of answers inside each
    interval of `levels` is measured too. Scaled errors refer to `reference` where the windows are scaled by another.
    `steps` are those of the horizon, from 1, that are also scored by themselves.
    """
    targets = data.targets
    tally = Tally(data.horizon, targets, scaler, naive_error, reference, steps)
    widths = {}
    if calibration:
        widths = {level: calibration.half_width(level, np.arange(targets)) for level in levels}
    inside = dict.fromkeys(widths, 0)
    for window, target, series, _ in data.batches(batch_size):
        error = tally.add(forecaster(window), target, series)
        for level, width in widths.items():
            inside[level] += int(((error <= torch.from_numpy(width)) & target.seen).sum())
    return tally.scores(len(data), {level: _share(count, tally.seen) for level, count in inside.items()})


class Tally:
    """Sums of errors, divided once at the end, so that the result does not depend on how windows came in batches."""

    _NAMES = ("absolute", "absolute_units", "ratio", "squared", "squared_units", "seen", "comparable", "relative")

    def __init__(
        self,
        horizon: int,
        targets: int,
        scaler: Scaler,
        naive_error: np.ndarray,
        reference: Scaler | None = None,
        steps: tuple[int, ...] = (),
    ) -> None:
        """Begin with nothing; the arguments are those of `score`, forecasts are on the axis of `scaler`."""
        std, mean = torch.from_numpy(scaler.std[:, :targets]), torch.from_numpy(scaler.mean[:, :targets])
        factor = std / torch.from_numpy((reference or scaler).std[:, :targets])
        divisor = torch.from_numpy(naive_error)
        self._compared = divisor > 0
        self._zero = -mean / std  # of the units, on the axis of `scaler`
        # What an error of each series counts for, (S, V_out): on the scaled axis, in units, beside the naive error.
        self._linear = torch.stack([factor, std, torch.where(self._compared, 1 / divisor, 0.0)], dim=-1)
        self._squared = self._linear[..., :2].square()
        self._sums = torch.zeros(len(self._NAMES), horizon, targets, dtype=torch.float64)
        self._steps, self._smallest = steps, _ZERO / std
        self._percent = torch.zeros(2, len(steps), dtype=torch.float64)  # shares of the answers, and how many

    @property
    def seen(self) -> float:
        """How many answers were seen."""
        return self._sums[5].sum().item()

    def add(self, forecast: Tensor, target: Target, series: Tensor) -> Tensor:
        """Add forecasts (B, H, V_out) of `series` (B,); give their absolute errors, 0 where nothing was seen."""
        error = ((forecast - target.values) * target.seen).double().abs_()  # (B, H, V_out)
        zero = self._zero[series, None]
        answer = (target.values - zero).abs_()
        if self._steps:
            rows = [step - 1 for step in self._steps]
            counted = target.seen[:, rows] & (answer[:, rows] >= self._smallest[series, None])
            self._percent[0] += torch.where(counted, error[:, rows] / answer[:, rows], 0.0).sum((0, 2))
            self._percent[1] += counted.sum((0, 2))
        size = (forecast - zero).abs_() + answer
        sums = self._sums
        sums[:3] += torch.einsum("bhv,bvk->khv", error, self._linear[series])
        sums[3:5] += torch.einsum("bhv,bvk->khv", error.square(), self._squared[series])
        sums[5] += target.seen.sum(0)
        sums[6] += (target.seen & self._compared[series, None]).sum(0)
        sums[7] += (error / size.clamp_(min=_TINY)).sum(0)
        return error

    def scores(self, windows: int, coverage: Mapping[int, float]) -> Scores:
        """Divide."""
        by = dict(zip(self._NAMES, self._sums, strict=True))
        total = {name: part.sum().item() for name, part in by.items()}
        return Scores(
            windows=windows,
            scaled={
                "mse": _share(total["squared"], total["seen"]),
                "mae": _share(total["absolute"], total["seen"]),
            },
            original={
                "mae": _share(total["absolute_units"], total["seen"]),
                "rmse": _share(total["squared_units"], total["seen"]) ** 0.5,
                "mase": _share(total["ratio"], total["comparable"]),
                "smape": 200 * _share(total["relative"], total["seen"]),
            },
            by_step=(by["squared"].sum(1) / by["seen"].sum(1)).numpy(),
            by_variate=(by["absolute_units"].sum(0) / by["seen"].sum(0)).numpy(),
            coverage=coverage,
            steps={step: self._at(number, step - 1, by) for number, step in enumerate(self._steps)},
        )

    def _at(self, number: int, row: int, by: Mapping[str, Tensor]) -> dict[str, float]:
        """Give the errors in units at one of the single steps."""
        absolute, squared, seen = (by[name][row].sum().item() for name in ("absolute_units", "squared_units", "seen"))
        shares, counted = self._percent[:, number].tolist()
        return {
            "mae": _share(absolute, seen),
            "rmse": _share(squared, seen) ** 0.5,
            "mape": 100 * _share(shares, counted),
        }


def finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """Give the values as JSON can hold them, which has no NaN: a score of nothing is None."""
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def on_device(network: nn.Module) -> Callable[[Window], Tensor]:
    """Give `network` as a forecaster that takes and gives tensors of the host, wherever its weights are."""
    weights = next(network.parameters(), None)
    if weights is None or weights.device.type == "cpu":
        return network
    return lambda window: network(Window(*(part.to(weights.device) for part in window))).cpu()


def seasonal_error(buffer: WindowBuffer, train_end: np.ndarray, season: int) -> np.ndarray:
    """Give the mean absolute seasonal difference of the training rows per series and variate: (S, V).

    This is the scale of MASE (Hyndman and Koehler, 2006); pairs with a missing value do not count, and it is 0 where no
    pair of rows one season apart was seen.
    """
    values, offsets = buffer.values.numpy(), buffer.offsets.numpy()
    total, count = (np.zeros((len(offsets) - 1, values.shape[1])) for _ in range(2))
    step = max(1, 4_000_000 // values.shape[1])
    for first in range(season, len(values), step):
        rows = np.arange(first, min(first + step, len(values)))
        owner = owner_of_rows(offsets, rows[0], rows[-1] + 1)
        inside = (rows - season >= offsets[owner]) & (rows < train_end[owner])
        if not inside.any():
            continue
        rows, owner = rows[inside], owner[inside]
        difference = np.abs(values[rows].astype(np.float64) - values[rows - season])
        seen = np.ones_like(difference, dtype=bool)
        if buffer.seen is not None:
            seen = buffer.seen.numpy()[rows] & buffer.seen.numpy()[rows - season]
        starts = np.flatnonzero(np.diff(owner, prepend=-1))
        total[owner[starts]] += np.add.reduceat(np.where(seen, difference, 0), starts)
        count[owner[starts]] += np.add.reduceat(seen, starts, dtype=np.float64)
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0)


def best_season(train: WindowDataset, candidates: tuple[int, ...]) -> int:
    """Choose the period with which seasonal naive does best on training windows; 1 where the last value does better.

    Compared on at most 500 evenly spaced windows that reach back one of the longest of `candidates`; a candidate longer
    than most of the training windows reach back is not considered, and one that gains less than 2 % is chance.
    """
    shape = WindowShape(train.lookback, train.horizon, train.buffer.values.shape[1], train.targets, 0)
    errors: dict[int, float] = {}
    for longest in sorted(candidates, reverse=True):
        windows = train.with_lookback(max(longest, train.lookback))
        if 2 * len(windows) < len(train):
            continue
        windows = windows.thinned(500)
        for season in {1, *(season for season in candidates if season <= longest)}:
            naive = SeasonalNaive(shape, SeasonalNaiveConfig(season=season))
            total = count = 0.0
            for window, target, *_ in windows.batches(64):
                total += ((naive(window) - target.values) * target.seen).abs().sum().item()
                count += target.seen.sum().item()
            errors[season] = total / max(count, 1)
        break
    return min(sorted(errors), key=lambda season: errors[season] * (0.98 if season == 1 else 1.0), default=1)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
