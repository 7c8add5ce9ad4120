"""Chronological split: which rows are forecast in training, validation and test."""

from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from .frame import SeriesFrame


@dataclass(frozen=True)
class Split:
    """Half-open buffer rows (S, 2) whose values are forecast in each part; lookbacks may reach back over a border.

    `train_end` (S,) is where the training part ends: the scaler sees no row from there on.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    in_sample: np.ndarray | None = None  # (S,) where the rows end that MASE divides by, if not with the training part

    @property
    def train_end(self) -> np.ndarray:
        return self.train[:, 1]


def by_fraction(frame: SeriesFrame, fractions: tuple[float, float, float], horizon: int) -> Split:
    """Cut each series at the given shares of its rows, as the published loaders do: train and test rounded down.

    Validation and test get at least one horizon of rows where the series has them, so that short series are scored.
    """
    length = np.diff(frame.offsets)
    test = np.maximum((length * fractions[2] + 1e-9).astype(np.int64), horizon)
    train = (length * fractions[0] + 1e-9).astype(np.int64)
    validation = np.maximum(length - train - test, horizon)
    train = np.maximum(length - validation - test, 0)
    return _absolute(frame, train, np.minimum(train + validation, length), length)


def published(frame: SeriesFrame, borders: np.ndarray, name: str) -> Split:
    """Cut a single series at the borders (3, 2) of a data card.

    Raises DataError when the table is shorter than the published split needs or holds several series.
    """
    rows = len(frame.values)
    if len(frame.keys) != 1 or rows < borders[-1, 1]:
        raise DataError(
            f"The published split of {name} needs {borders[-1, 1]} rows in one series; "
            f"the table has {rows} rows in {len(frame.keys)} series.",
            "Give the published file, or fit without --config and data.dataset for a split by share.",
        )
    return Split(*(part[None].astype(np.int64) for part in borders))


def _absolute(frame: SeriesFrame, train: np.ndarray, validation: np.ndarray, test: np.ndarray) -> Split:
    start = frame.offsets[:-1]
    edges = [start, start + train, start + validation, start + test]
    return Split(*(np.stack([edges[i], edges[i + 1]], axis=1) for i in range(3)))
