"""Prediction intervals by split-conformal calibration: widths are quantiles of absolute validation residuals.

For level 1 - a and n calibration windows the half-width is the ceil((n + 1)(1 - a))-th smallest absolute residual of
that step and variate (Lei et al., 2018, "Distribution-Free Predictive Inference for Regression", section 2.2). The
guarantee is for exchangeable windows; overlapping windows of a changing series are not, so coverage is always measured
on test.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .data.windows import Window, WindowDataset
from .errors import UsageError

LEVELS = (50, 60, 70, 80, 90, 95, 98, 99)  # stored with the model; between them widths are interpolated
_BYTES = 64 << 20  # residuals held at once; more windows than fit are thinned evenly


@dataclass(frozen=True)
class Calibration:
    """Half-widths on the scaled axis: `widths` (Q, H, V_out), and `pooled` (Q, H) over variates for unseen ones."""

    levels: tuple[int, ...]
    widths: np.ndarray
    pooled: np.ndarray

    def half_width(self, level: int, variates: np.ndarray) -> np.ndarray:
        """Give half-widths (H, len(variates)) for `level` per cent; a variate numbered -1 gets the pooled width.

        Raises UsageError for a level that was not calibrated.
        """
        if not self.levels[0] <= level <= self.levels[-1]:
            raise UsageError(
                f"Level {level} is outside what this model was calibrated for.",
                f"Choose levels from {self.levels[0]} to {self.levels[-1]}.",
            )
        table = np.concatenate([self.widths, self.pooled[..., None]], axis=2)[..., variates]
        above = int(np.searchsorted(self.levels, level))
        if self.levels[above] == level:
            return table[above]
        low, high = self.levels[above - 1], self.levels[above]
        return table[above - 1] + (table[above] - table[above - 1]) * (level - low) / (high - low)


@torch.inference_mode()
def calibrate(forecaster: Callable[[Window], Tensor], data: WindowDataset, batch_size: int) -> Calibration:
    """Measure absolute residuals of `forecaster` on the validation windows and keep their quantiles."""
    chosen = data.thinned(max(100, _BYTES // (data.horizon * data.targets * 4)))
    residuals = np.empty((len(chosen), data.horizon, data.targets), dtype=np.float32)
    done = 0
    for window, target, *_ in chosen.batches(batch_size):
        error = (forecaster(window) - target.values).abs().masked_fill(~target.seen, torch.nan)
        residuals[done : done + len(error)] = error.numpy()
        done += len(error)
    widths = np.empty((len(LEVELS), data.horizon, data.targets), dtype=np.float32)
    pooled = np.empty((len(LEVELS), data.horizon), dtype=np.float32)
    for step in range(data.horizon):
        widths[:, step] = _quantiles(residuals[:, step])
        pooled[:, step] = _quantiles(residuals[:, step].reshape(-1, 1))[:, 0]
    return Calibration(LEVELS, widths, pooled)


def _quantiles(residuals: np.ndarray) -> np.ndarray:
    """Give the conformal order statistic of (N, V) for each of `LEVELS`: (Q, V), NaN left out.

    Where there are too few residuals for a level it is the largest one, and the largest of all where there is none.
    """
    ordered = np.sort(residuals, axis=0)  # NaN sorts last
    count = (~np.isnan(ordered)).sum(axis=0)
    share = np.array(LEVELS)[:, None] / 100
    rank = np.minimum(np.ceil((count + 1) * share).astype(np.int64), count)  # (Q, V)
    value = np.take_along_axis(ordered, np.maximum(rank - 1, 0), axis=0)
    return np.where(count > 0, value, np.nanmax(ordered, initial=0.0))
