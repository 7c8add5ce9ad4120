"""Standardisation with statistics of the training rows alone."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from .frame import SeriesFrame, owner_of_rows, rows_before

_BLOCK = 4_000_000  # values scaled at once: bounds the float64 copy to 32 MB


@dataclass(frozen=True)
class Scaler:
    """Mean and population standard deviation per series and variate, in the units of the table: (S, V) float64.

    A constant variate, and one without a single training value, gets standard deviation 1 (and mean 0 where nothing
    was seen), so that scaling never divides by zero. `known` are mean and standard deviation of each known covariate,
    (2, C), over all series: a price of 3 means the same in each.
    """

    mean: np.ndarray
    std: np.ndarray
    known: np.ndarray = field(default_factory=lambda: np.empty((2, 0)))

    @classmethod
    def fit(cls, frame: SeriesFrame, train_end: np.ndarray, *, pooled: bool = False) -> "Scaler":
        """Take statistics of the rows before `train_end` (S,), the buffer row where each series' training part ends.

        With `pooled`, where a series tells no spread it takes that of the others (the root mean square of theirs), and
        where it tells no level the mean of all values: else its errors, in units of 1, could outweigh all others.
        """
        series, variates = len(frame.keys), frame.values.shape[1]
        edges = np.unique(np.concatenate([frame.offsets[:-1], train_end]))
        owner = np.searchsorted(frame.offsets, edges, side="right") - 1
        training = edges < train_end[np.minimum(owner, series - 1)]
        count, total = np.zeros((series, variates)), np.zeros((series, variates))
        for rows, starts, segment in _blocks(frame, edges):
            keep = training[segment]
            seen = ~np.isnan(rows)
            np.add.at(count, owner[segment][keep], np.add.reduceat(seen, starts, dtype=np.float64)[keep])
            np.add.at(total, owner[segment][keep], np.add.reduceat(np.where(seen, rows, 0), starts)[keep])
        mean = total / np.maximum(count, 1)
        squares = np.zeros((series, variates))
        for rows, starts, segment in _blocks(frame, edges):
            keep = training[segment]
            lengths = np.diff(np.append(starts, len(rows)))
            centred = np.nan_to_num(rows - np.repeat(mean[owner[segment]], lengths, axis=0))
            np.add.at(squares, owner[segment][keep], np.add.reduceat(centred**2, starts)[keep])
        std = np.sqrt(squares / np.maximum(count, 1))
        # Rounding alone gives a constant column a spread of a few float32 steps of its mean.
        moving = std > 1e-6 * np.abs(mean)
        usual = np.ones(variates)
        if pooled and series > 1:
            mean = np.where(count > 0, mean, total.sum(0) / np.maximum(count.sum(0), 1))
            others = np.sqrt(np.where(moving, std**2, 0.0).sum(0) / np.maximum(moving.sum(0), 1))
            usual = np.where(others > 0, others, 1.0)
        return cls(mean, np.where(moving, std, usual), _of_known(frame, train_end))

    def apply_(self, frame: SeriesFrame) -> SeriesFrame:
        """Scale `frame` in its own memory (a second copy would double what a fit needs) and give the scaled frame."""
        for start in range(0, len(frame.values), self._rows(frame)):
            rows = slice(start, min(start + self._rows(frame), len(frame.values)))
            at = slice(0, 1) if len(frame.keys) == 1 else owner_of_rows(frame.offsets, rows.start, rows.stop)
            frame.values[rows] = (frame.values[rows] - self.mean[at]) / self.std[at]
            frame.known[rows] = (frame.known[rows] - self.known[0]) / self.known[1]
        return replace(frame)

    def _rows(self, frame: SeriesFrame) -> int:
        return max(1, _BLOCK // max(1, frame.values.shape[1]))

    def invert(self, scaled: np.ndarray, series: np.ndarray) -> np.ndarray:
        """Bring forecasts (B, H, V_out) of `series` (B,) back to the units of the table, in float64."""
        targets = scaled.shape[-1]
        return scaled * self.std[series, None, :targets] + self.mean[series, None, :targets]


def _of_known(frame: SeriesFrame, train_end: np.ndarray) -> np.ndarray:
    """Give mean and standard deviation of each known covariate over the training rows: (2, C)."""
    found = np.zeros((2, frame.known.shape[1]))
    if not found.size:
        return found
    training = rows_before(frame.offsets, train_end)
    for number, column in enumerate(frame.known.T):
        seen = column[training & ~np.isnan(column)].astype(np.float64)
        mean, std = (seen.mean(), seen.std()) if len(seen) else (0.0, 0.0)
        found[:, number] = mean, std if std > 1e-6 * abs(mean) else 1.0
    return found


def _blocks(frame: SeriesFrame, edges: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Cut the buffer into float64 blocks; give each with the starts of its segments and the segments' numbers."""
    step = max(1, _BLOCK // max(1, frame.values.shape[1]))
    for first in range(0, len(frame.values), step):
        rows = frame.values[first : first + step].astype(np.float64)
        inner = edges[(edges > first) & (edges < first + len(rows))]
        starts = np.concatenate([[first], inner])
        yield rows, starts - first, np.searchsorted(edges, starts, side="right") - 1
