"""Windows on a series: what a network may know (`Window`) and the answer (`Target`), gathered a batch at once.

A window is an index into one contiguous buffer, never a copy: batch `b` of origins is one gather of
`(B, L + H, V)`. `Window` holds only what is known at the forecast origin, so a network that receives `Window` alone
cannot read the future.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

_BATCH_VALUES = 4_000_000  # of one evaluation batch: 16 MB, and a few times that while it is scored


@dataclass(frozen=True)
class WindowShape:
    """What a network must know of the data: `L`, `H`, `V`, `V_out` (the first variates, forecast), `K`, `C`, `C_S`."""

    lookback: int
    horizon: int
    variates: int
    targets: int
    time_features: int
    known: int = 0  # covariates whose future is known
    static: int = 0  # features that never change


class Window(NamedTuple):
    """All that is known at the origin."""

    past: Tensor  # (B, L, V) float32, scaled, 0 where unseen
    seen: Tensor  # (B, L, V) bool
    past_time: Tensor  # (B, L, K) calendar features in [-0.5, 0.5]
    future_time: Tensor  # (B, H, K)
    known: Tensor  # (B, L + H, C) scaled covariates whose future is known at the origin
    static: Tensor  # (B, V or 1, C_S) scaled features of each variate, or of the series

    @classmethod
    def of(cls, past: Tensor, seen: Tensor, past_time: Tensor, future_time: Tensor) -> "Window":
        """Give a window without covariates."""
        steps = past.shape[1] + future_time.shape[1]
        known, static = (past.new_empty(past.shape[0], rows, 0) for rows in (steps, 1))
        return cls(past, seen, past_time, future_time, known, static)


class Target(NamedTuple):
    """The answer; steps that were not seen carry no loss."""

    values: Tensor  # (B, H, V_out) float32, scaled, 0 where unseen
    seen: Tensor  # (B, H, V_out) bool


class Example(NamedTuple):
    """A batch: windows, answers, and where they stand."""

    window: Window
    target: Target
    series: Tensor  # (B,) int64: which series
    origin: Tensor  # (B,) int64: buffer row of the last known value


@dataclass(frozen=True)
class WindowBuffer:
    """The scaled rows that windows index: `R` rows of `V` variates, missing values 0, and their calendar.

    `seen` is None when every value is present, so that complete data pay no memory for a mask. Calendar features are
    kept as int16 codes; the feature is `code / divisor - 0.5`.
    """

    values: Tensor  # (R, V) float32
    seen: Tensor | None  # (R, V) bool
    codes: Tensor  # (R, K) int16
    divisor: Tensor  # (K,) float32
    offsets: Tensor  # (S + 1,) int64
    known: Tensor  # (R, C) float32
    static: Tensor  # (S, V or 1, C_S) float32

    def __post_init__(self) -> None:
        if not all(part.is_contiguous() for part in (self.values, self.codes, self.known)):
            raise ValueError("windows are blocks of consecutive rows: the buffer must be row-major")


def origins(offsets: Tensor, targets: Tensor, lookback: int, horizon: int) -> Tensor:
    """Give every origin whose targets lie inside `targets` and whose lookback lies inside its series: (N,) int64.

    `targets` is (S, 2): per series the half-open rows that may be forecast. An origin is the buffer row of the last
    known value; series too short for one window give none.
    """
    first = torch.maximum(targets[:, 0], offsets[:-1] + lookback) - 1
    count = (targets[:, 1] - horizon - first).clamp(min=0)
    first, count = first[count > 0], count[count > 0]
    at = torch.ones(int(count.sum()), dtype=torch.int64)
    if len(first):
        # Ones but for the leaps between series, summed where they stand: an origin is all that a window costs.
        leap = first.clone()
        leap[1:] -= first[:-1] + count[:-1] - 1
        at[count.cumsum(0) - count] = leap
    return at.cumsum_(0)


class WindowDataset(torch.utils.data.Dataset[Example]):
    """Windows of one part of the data; indexed with a whole batch of window numbers at once."""

    def __init__(self, buffer: WindowBuffer, origins: Tensor, lookback: int, horizon: int, targets: int) -> None:
        self.buffer, self.origins = buffer, origins
        self.lookback, self.horizon, self.targets = lookback, horizon, targets
        self._divisor = buffer.divisor.repeat(lookback + horizon)  # (n K,): of every step of a window

    def __len__(self) -> int:
        return len(self.origins)

    def __getitem__(self, index: Tensor) -> Example:
        """Gather the windows numbered `index` (B,)."""
        origin = self.origins.index_select(0, index)
        length, split = self.lookback + self.horizon, self.lookback
        first = origin - (split - 1)
        values = _rows(self.buffer.values, first, length)
        if self.buffer.seen is None:
            seen = torch.ones((), dtype=torch.bool).expand(values.shape)
        else:
            seen = _rows(self.buffer.seen, first, length)
        calendar = _rows(self.buffer.codes, first, length).float()
        # Over whole windows at once: broadcasting over the few features of a step would cost ten times as much.
        calendar.view(len(first), -1).div_(self._divisor).sub_(0.5)
        series = torch.searchsorted(self.buffer.offsets, origin, right=True) - 1
        window = Window(
            past=values[:, :split],
            seen=seen[:, :split],
            past_time=calendar[:, :split],
            future_time=calendar[:, split:],
            known=_rows(self.buffer.known, first, length),
            static=self.buffer.static.index_select(0, series),
        )
        answer = Target(values[:, split:, : self.targets], seen[:, split:, : self.targets])
        return Example(window, answer, series, origin)

    def with_lookback(self, lookback: int) -> "WindowDataset":
        """Give the same forecasts seen with another lookback, without those whose window would leave its series."""
        origins = self.origins
        if lookback > self.lookback:
            kept = []
            for part in origins.split(1_000_000):  # all at once would be several times the windows
                series = torch.searchsorted(self.buffer.offsets, part, right=True) - 1
                kept.append(part[part - self.buffer.offsets[series] + 1 >= lookback])
            origins = torch.cat(kept)
        return WindowDataset(self.buffer, origins, lookback, self.horizon, self.targets)

    def thinned(self, most: int) -> "WindowDataset":
        """Give at most `most` windows, evenly spaced, the first and the last among them."""
        index = torch.linspace(0, len(self) - 1, min(most, len(self)), dtype=torch.float64).round().long()
        return WindowDataset(self.buffer, self.origins[index], self.lookback, self.horizon, self.targets)

    def numbers(self, batch_size: int) -> tuple[Tensor, ...]:
        """Give every window number once, in order, in batches that are smaller where windows are very wide."""
        values = (self.lookback + self.horizon) * max(1, self.buffer.values.shape[1])
        return torch.arange(len(self)).split(max(1, min(batch_size, _BATCH_VALUES // values)))

    def batches(self, batch_size: int) -> Iterator[Example]:
        """Give every window once, in order."""
        return (self[index] for index in self.numbers(batch_size))


def _rows(buffer: Tensor, first: Tensor, length: int) -> Tensor:
    """Gather `length` rows from each of `first`: (B, length, C).

    Overlapping windows of a row-major buffer are one strided matrix of `length * C` columns, so that a window is one
    block copy instead of `length` small ones.
    """
    rows, columns = buffer.shape
    if columns == 0:
        return buffer.new_empty((len(first), length, 0))
    overlapping = buffer.as_strided((rows - length + 1, length * columns), (columns, 1))
    return overlapping.index_select(0, first).view(-1, length, columns)
