"""What a series is like before any model: the strength of its seasons and trend, and values that stand apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from .data.frame import SeriesFrame

_SAMPLE = 100  # series and variates whose strengths are measured
_CELLS = 2_000_000  # values that are looked at for it, the most recent of each series
_FAR = 2.0  # an outlier is farther from the rest than so many times the range of the rest
_DISTINCT = 8  # values that the rest must have for its range to say anything
_MOST = 100  # outliers of one series


class Strength(NamedTuple):
    """Shares from 0 (none) to 1, as in Wang, Smith and Hyndman (2006): NaN where the rows are too few to tell."""

    seasons: dict[int, float]  # period in steps -> how much of the variance around the trend it holds
    trend: float  # how much of the variance beside the season the trend holds


@dataclass(frozen=True)
class Outlier:
    """Values of one column that stand far from all others."""

    name: str
    series: int
    value: float  # the farthest
    count: int  # over all series


def strength(values: np.ndarray, periods: Sequence[int]) -> Strength:
    """Strengths of each candidate period and of the trend of one series (T,), NaN where nothing was seen.

    The trend is a centred moving average over one period (over a tenth of the rows without a period), the season the
    mean of what remains at each phase. Three full periods are needed. The shares are corrected for the number of means
    that were fitted, so that noise has no strength.
    """
    seen, trend = np.isfinite(values), np.nan
    values = _unitless(values, seen)
    seasons: dict[int, float] = {}
    for period in periods:
        parts = _decomposed(values, seen, period) if len(values) >= 3 * period else None
        if parts is None:
            continue
        detrended, season, rest, degrees = parts
        seasons[period] = _share(rest, detrended, degrees, len(rest) - 1)
        if seasons[period] == max(seasons.values()):
            level = _averaged(values, seen, period)
            trend = _trend_share(values, level, season, period)
    if not seasons and len(values) >= 10:
        width = max(5, len(values) // 10 | 1)
        trend = _trend_share(values, _averaged(values, seen, width), np.zeros(len(values)), width)
    return Strength(seasons, trend)


def _unitless(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The values about their mean, the farthest at 1; all 0 where they differ by rounding alone."""
    if not seen.any():
        return values
    mean = values[seen].mean()
    apart = values - mean
    most = np.abs(apart[seen]).max()
    return apart / most if most > 1e-9 * abs(mean) else apart * 0.0


def _averaged(values: np.ndarray, seen: np.ndarray, width: int) -> np.ndarray:
    """The centred moving average of what was seen, (T,): NaN at the ends and where less than half was seen.

    An even width takes half of the value at either end, so that each phase weighs the same.
    """
    half = width // 2
    kernel = [(0, width)] if width % 2 else [(0, width), (1, width + 1)]
    sums, counts = (np.concatenate([[0.0], np.cumsum(part)]) for part in (np.where(seen, values, 0.0), seen))
    reach = kernel[-1][1]
    places = np.arange(len(values) - reach + 1)
    total = sum(sums[places + end] - sums[places + begin] for begin, end in kernel)
    count = sum(counts[places + end] - counts[places + begin] for begin, end in kernel)
    level = np.full(len(values), np.nan)
    enough = count >= len(kernel) * max(1.0, width / 2)
    level[half : half + len(places)] = np.where(enough, total / np.maximum(count, 1), np.nan)
    return level


def _decomposed(
    values: np.ndarray, seen: np.ndarray, period: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int] | None:
    """What remains beside the trend (N,), the season (T,), what remains beside both (N,), its degrees of freedom."""
    apart = values - _averaged(values, seen, period)
    known = np.isfinite(apart)
    phase = np.arange(len(values)) % period
    counts = np.bincount(phase[known], minlength=period)
    degrees = int(known.sum()) - period
    if degrees < period // 2 or (counts == 0).any():
        return None
    season = np.bincount(phase[known], weights=apart[known], minlength=period) / counts
    season = (season - season.mean())[phase]
    return apart[known], season, (apart - season)[known], degrees


def _share(rest: np.ndarray, whole: np.ndarray, rest_degrees: int, whole_degrees: int) -> float:
    """One minus the variance of the rest over that of the whole, at least 0; 0 where nothing varies."""
    spread = float(((whole - whole.mean()) ** 2).sum()) / max(whole_degrees, 1)
    if spread <= 1e-12:  # of values that reach 1
        return 0.0
    left = float(((rest - rest.mean()) ** 2).sum()) / max(rest_degrees, 1)
    return max(0.0, 1.0 - left / spread)


def _trend_share(values: np.ndarray, level: np.ndarray, season: np.ndarray, width: int) -> float:
    smooth = values - season
    known = np.isfinite(smooth - level)
    if known.sum() < 3:
        return np.nan
    # A mean of `width` values takes 1/width of the variance of noise with it.
    return _share((smooth - level)[known], smooth[known], int(known.sum() * (1 - 1 / width)), int(known.sum()) - 1)


def typical(frame: SeriesFrame, periods: Sequence[int]) -> Strength:
    """The median strength over the targets of a sample of series."""
    targets = frame.schema.targets
    every = len(frame.keys) * targets
    chosen = np.unique(np.linspace(0, every - 1, min(every, _SAMPLE)).round().astype(np.int64))
    rows = max(_CELLS // len(chosen), 3 * max(periods, default=1))
    found = []
    for series, variate in zip(chosen // targets, chosen % targets, strict=True):
        end = frame.offsets[series + 1]
        begin = max(frame.offsets[series], end - rows)
        found.append(strength(frame.values[begin:end, variate].astype(np.float64), periods))
    seasons = {}
    for period in periods:
        each = [one.seasons[period] for one in found if period in one.seasons]
        if each:
            seasons[period] = float(np.median(each))
    trends = [one.trend for one in found if np.isfinite(one.trend)]
    return Strength(seasons, float(np.median(trends)) if trends else np.nan)


def outliers(frame: SeriesFrame, codes: Mapping[str, float]) -> list[Outlier]:
    """Values that stand apart: few, and farther from all others of their series than twice the range of the others.

    `codes` are values by column that are already suspected of meaning "missing". Few are at most one in a thousand,
    but ten in any case, and never more than a tenth of the rows; the others must have eight values of their own.
    """
    found: list[Outlier] = []
    columns = frame.names.cast(pl.String).to_list()
    width = max(1, _CELLS // len(frame.values))
    for begin in range(0, len(columns), width):
        names = columns[begin : begin + width]
        block = frame.values[:, begin : begin + width]
        if any(name in codes for name in names):
            suspected = np.array([codes.get(name, np.nan) for name in names], np.float32)
            block = np.where(block == suspected, np.float32(np.nan), block)
        found += _apart_in(block, names, frame.offsets)
    return found


def _apart_in(block: np.ndarray, names: Sequence[str], offsets: np.ndarray) -> list[Outlier]:
    """Outliers of some columns (R, k), at most one entry a column."""
    if len(offsets) == 2:
        ordered = np.sort(block, axis=0).T.reshape(-1)
        first = np.arange(len(names)) * len(block)
        held, farness, value = _apart(ordered, first, np.isfinite(block).sum(axis=0))
        return [Outlier(names[k], 0, float(value[k]), int(held[k])) for k in np.flatnonzero(held).tolist()]
    found = []
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    for name, column in zip(names, block.T, strict=True):
        counts = np.add.reduceat(np.isfinite(column), offsets[:-1], dtype=np.int64)
        held, farness, value = _apart(column[np.lexsort((column, owner))], offsets[:-1], counts)
        if held.any():
            worst = int(farness.argmax())
            found.append(Outlier(name, worst, float(value[worst]), int(held.sum())))
    return found


def _apart(ordered: np.ndarray, first: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of sorted segments (S,): how many values stand apart, how many ranges the farthest is away, and that value.

    A segment begins at `first` with its `count` seen values; NaN stands behind them.
    """
    held, farness, value = np.zeros(len(first), np.int64), np.zeros(len(first)), np.zeros(len(first))
    most = np.minimum(np.maximum(10, count // 1000), np.minimum(count // 10, _MOST))
    at = np.flatnonzero((most > 0) & (count > 2 * most + _DISTINCT))
    if not len(at):
        return held, farness, value
    low, high, most = first[at], first[at] + count[at] - 1, most[at]
    rises = np.concatenate([[0], np.cumsum(ordered[1:] > ordered[:-1])])
    varied = rises[high - most] - rises[low + most] + 1 >= _DISTINCT
    for sign, edge, other in ((1, high, low), (-1, low, high)):
        ends = ordered[edge].astype(np.float64)
        number = np.zeros(len(at), np.int64)
        ranges = np.zeros(len(at))
        for tried in range(1, int(most.max()) + 1):
            inside = ordered[edge - sign * tried].astype(np.float64)
            across = np.abs(inside - ordered[other + sign * most])
            gap = np.abs(ordered[edge - sign * (tried - 1)] - inside)
            far = varied & (tried <= most) & (across > 0) & (gap > _FAR * across)
            number[far] = tried
            ranges[far] = np.abs(ends - inside)[far] / across[far]
        held[at] += number
        farther = ranges > farness[at]
        farness[at[farther]], value[at[farther]] = ranges[farther], ends[farther]
    return held, farness, value
