"""Scores over every window: scaled as in the papers, and in original units beside the baselines."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from .calibrate import Calibration
from .data.frame import owner_of_rows
from .data.scale import Scaler
from .data.windows import Window, WindowBuffer, WindowDataset, WindowShape
from .models.naive import SeasonalNaive, SeasonalNaiveConfig

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
    std, mean = torch.from_numpy(scaler.std[:, :targets]), torch.from_numpy(scaler.mean[:, :targets])
    unit = torch.from_numpy((reference or scaler).std[:, :targets])
    divisor = torch.from_numpy(naive_error)
    widths = {}
    if calibration:
        widths = {level: calibration.half_width(level, np.arange(targets)) for level in levels}
    names = (
        *("seen", "squared", "absolute", "squared_units", "absolute_units"),
        *("ratio", "comparable", "relative", "percent", "not_zero"),
    )
    sums = {name: torch.zeros(data.horizon, targets, dtype=torch.float64) for name in names}
    inside = dict.fromkeys(widths, 0)
    for window, target, series, _ in data.batches(batch_size):
        forecast = forecaster(window)
        error = ((forecast - target.values) * target.seen).double()  # (B, H, V_out)
        units = error * std[series, None]
        scaled = units / unit[series, None]
        naive = divisor[series, None]
        centre = mean[series, None]
        answer = (target.values * std[series, None] + centre).abs()
        size = (forecast * std[series, None] + centre).abs() + answer
        sums["relative"] += torch.where(size > 0, units.abs() / size, 0.0).sum(0)
        sums["percent"] += torch.where(answer >= _ZERO, 100 * units.abs() / answer, 0.0).sum(0)
        sums["not_zero"] += (target.seen & (answer >= _ZERO)).sum(0)
        sums["seen"] += target.seen.sum(0)
        sums["squared"] += scaled.square().sum(0)
        sums["absolute"] += scaled.abs().sum(0)
        sums["squared_units"] += units.square().sum(0)
        sums["absolute_units"] += units.abs().sum(0)
        sums["ratio"] += torch.where(naive > 0, error.abs() / naive, 0.0).sum(0)
        sums["comparable"] += (target.seen & (naive > 0)).sum(0)
        for level, width in widths.items():
            inside[level] += int(((error.abs() <= torch.from_numpy(width)) & target.seen).sum())
    total = {name: part.sum().item() for name, part in sums.items()}
    return Scores(
        windows=len(data),
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
        by_step=(sums["squared"].sum(1) / sums["seen"].sum(1)).numpy(),
        by_variate=(sums["absolute_units"].sum(0) / sums["seen"].sum(0)).numpy(),
        coverage={level: _share(count, total["seen"]) for level, count in inside.items()},
        steps={step: _at({name: part[step - 1].sum().item() for name, part in sums.items()}) for step in steps},
    )


def _at(sums: Mapping[str, float]) -> dict[str, float]:
    """Give the errors in original units at one step, from its sums."""
    return {
        "mae": _share(sums["absolute_units"], sums["seen"]),
        "rmse": _share(sums["squared_units"], sums["seen"]) ** 0.5,
        "mape": _share(sums["percent"], sums["not_zero"]),
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
