"""The audit of a series model: the forecast that the rows before an origin give, beside those with a changed future.

The first is what a batch job would have written on that day: later rows are not there. The others see windows as a fit
and its scores do, cut from one buffer that goes on behind the origin, whose table was changed there and read anew. All
must be the same, bit for bit; both forecast the same series in one batch, so that the order of sums is the same too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import torch

from .audited import Audit, Check, Leak
from .data import table
from .data.calendar import times_at
from .data.covariates import history_ends, only_history
from .data.frame import SeriesFrame
from .data.times import spoken
from .data.windows import WindowDataset
from .errors import DataError
from .fitted import long_table, window_buffer
from .hindsight import NEVER, Hindsight, framed, last_seen
from .scaler_audit import check_scaler

_BATCH = 256  # series forecast at once, as predict does
_LAGS = 50_000  # rows of a series in which a covariate is looked for that repeats a target
_SAME = 0.9999  # correlation from which it is said to

_WAYS = {
    "as they are": "later values as they are, beside a table that ends at the origin",
    "missing": "later values missing",
    "huge": "later values ±1e30",
    "random": "later values drawn anew, up to ±1e6",
    "shuffled": "later rows out of order, their values dealt out anew",
    "not forecast": "later values ±1e30 of the columns that are not forecast",
}
_BLANKED = "beside known covariates"  # the way a batch job gets rows of the future
_HINT = "Scores of such a model mean nothing: find what reads rows after the origin, and fit again."
_NOTES = (
    "Known-future covariates ({}) keep their later rows: a forecast may use them.",
    "An audit shows what a forecast reads, not what its weights were trained on: score it on later data.",
)


@dataclass(frozen=True)
class _Origin:
    """One day: the last row of each series that has one, and that row's time."""

    rows: np.ndarray  # (S,) buffer rows of the frame as given; -1 for a series that has none
    cutoff: np.ndarray  # (S,) times; NEVER for such a series
    told: str


def audit_series(
    fitted: Any, read: table.Table, origins: int, seed: int, static: Any, told: Callable[[str], None]
) -> Audit:
    """Audit a fitted series model on a table; see `forecast.audit`."""
    random = np.random.default_rng(seed)
    frame = framed(fitted, read, static)
    past = Hindsight.of(read, frame.schema)
    days = _origins(fitted, frame, origins, random, read.origin)
    ways = [way for way in _WAYS if way != "not forecast" or len(frame.schema.values) > frame.schema.targets]
    counts = dict.fromkeys(ways, (0, 0))
    if frame.schema.known:
        counts[_BLANKED] = (0, 0)
    leaks: dict[str, Leak] = {}
    told(f"forecasting from {len(days)} origins with {len(counts)} changes of what follows")
    for day in days:
        expected = fitted.predict(past.until(day.cutoff), **({} if static is None else {"static": static}))
        for way, forecast in _forecasts(fitted, frame, past, day, ways, static, random, read):
            moved, leak = _compared(expected, forecast, way, day, frame, fitted.name, read.origin)
            compared, before = counts[way]
            counts[way] = (compared + len(expected), before + moved)
            if leak is not None:
                leaks.setdefault(way, leak)
    checks = [Check(way, _what(way, frame), *count) for way, count in counts.items()]
    scaler, foul = check_scaler(fitted, only_history(frame), read.origin)
    known = ", ".join(frame.schema.known)
    return Audit(
        model=fitted.name,
        kind="series",
        source=read.origin,
        about={
            "rows": read.rows,
            "series": len(frame.keys),
            "variates": len(frame.names),
            "lookback": fitted.shape.lookback,
            "horizon": fitted.shape.horizon,
        },
        origins=[day.told for day in days],
        seed=seed,
        checks=[*checks, scaler],
        leaks=[*leaks.values(), *([foul] if foul is not None else [])],
        warnings=_repeated_targets(frame, fitted.shape.horizon),
        notes=[note.format(known) for note in _NOTES[0 if known else 1 :]],
    )


def _what(way: str, frame: SeriesFrame) -> str:
    if way == _BLANKED:
        return f"later rows with {', '.join(frame.schema.known)} alone, other columns that are not forecast ±1e30"
    return _WAYS[way]


# Origins


def _origins(fitted: Any, frame: SeriesFrame, count: int, random: np.random.Generator, origin: str) -> list[_Origin]:
    """Draw a day from each of `count` equal parts of every series that has a horizon of rows behind it."""
    lookback, horizon = fitted.shape.lookback, fitted.shape.horizon
    begin, end = frame.offsets[:-1], history_ends(frame)
    last = end - horizon - 1  # the horizon of answers and of known covariates is there
    first = np.minimum(begin + lookback - 1, last)
    if frame.schema.layout == "panel":  # before an id has rows it is no variate of what a batch job reads
        first = np.maximum(first, int(np.isfinite(frame.values).argmax(axis=0).max()))
    longest = int((end - begin).max())
    if (last < begin).all() or (first > last).all():
        raise DataError(
            f"{origin}: the longest series has {longest} rows; an audit changes what follows an origin and needs "
            f"more than the horizon, {horizon}.",
            "Give more of the past.",
        )
    found: dict[str, _Origin] = {}
    for share in (np.arange(count) + random.random(count)) / count:
        nominal = np.where(last >= begin, first + np.floor(share * (last - first + 1)).astype(np.int64), -1)
        rows = last_seen(frame, nominal, frame.schema.targets)
        if (rows < 0).all():
            continue
        steps = np.maximum(rows, begin) - begin
        times = times_at(frame.start, steps, frame.frequency, frame.time_type.zone)
        cutoff = np.where(rows >= 0, times, NEVER)
        words = spoken(int(cutoff[rows >= 0].min()), frame.time_type)
        found.setdefault(words, _Origin(rows, cutoff, words))
    if not found:
        raise DataError(f"{origin}: no value to forecast is known.", "Give data in which the targets were measured.")
    return list(found.values())


# Forecasts


def _forecasts(
    fitted: Any,
    frame: SeriesFrame,
    past: Hindsight,
    day: _Origin,
    ways: list[str],
    static: Any,
    random: np.random.Generator,
    read: table.Table,
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Give the forecasts of one day under each change of what follows it."""
    steps = np.where(day.rows >= 0, day.rows - frame.offsets[:-1], -1)
    after = past.after(day.cutoff)
    orderly = frame.schema.time is None or frame.time_type.midnight is not None  # the order of rows tells their times
    for way in ways:
        seen = frame
        if way != "as they are":
            changed = table.read(_changed(past, after, way, random, orderly), past.schema.decimal)
            seen = framed(fitted, replace(changed, origin=read.origin), static)
        yield way, _from_window(fitted, _around(seen, steps, fitted.shape.lookback, fitted.shape.horizon))
    if frame.schema.known:
        blank = past.until(day.cutoff)
        others = frame.schema.values[frame.schema.targets :]
        if others:
            kept = after if len(day.cutoff) == 1 else after[(day.cutoff > NEVER)[past.owner]]
            blank = _replaced(blank, others, kept, _signs(len(blank), random) * 1e30)
        yield _BLANKED, fitted.predict(blank, **({} if static is None else {"static": static}))


def _changed(past: Hindsight, after: np.ndarray, way: str, random: np.random.Generator, orderly: bool) -> pl.DataFrame:
    """Give the table with its rows `after` an origin changed."""
    rows, names = past.rows, past.schema.values
    if way == "missing":
        blank = pl.when(pl.lit(pl.Series(after))).then(None)
        return rows.with_columns(blank.otherwise(pl.col(name)).alias(name) for name in names)
    if way == "random":
        return _replaced(rows, names, after, random.integers(-(10**6), 10**6, len(rows)))
    if way == "shuffled":
        dealt = rows.with_columns(rows[name].gather(_mixed(after, random)) for name in names)
        return dealt if orderly else dealt[_mixed(after, random)]
    others = names[past.schema.targets if way == "not forecast" else 0 :]
    return _replaced(rows, others, after, _signs(len(rows), random) * 1e30)


def _replaced(rows: pl.DataFrame, names: tuple[str, ...], after: np.ndarray, by: np.ndarray) -> pl.DataFrame:
    """Put the numbers `by` (R,) into rows `after` of the columns, as text where these are text."""
    where, number = pl.lit(pl.Series(after)), pl.lit(pl.Series(by))
    made = []
    for name in names:
        if rows.schema[name].is_numeric() or rows.schema[name] == pl.Boolean:
            made.append(pl.when(where).then(number).otherwise(pl.col(name).cast(pl.Float64)).alias(name))
        else:  # whole numbers without any mark read the same under every custom
            digits = number.cast(pl.Decimal(38, 0)).cast(pl.String)
            made.append(pl.when(where).then(digits).otherwise(pl.col(name).cast(pl.String)).alias(name))
    return rows.with_columns(made)


def _signs(count: int, random: np.random.Generator) -> np.ndarray:
    signs: np.ndarray = random.choice([-1.0, 1.0], count)
    return signs


def _mixed(after: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Row numbers in which those `after` have changed places."""
    index = np.arange(len(after))
    index[after] = random.permutation(index[after])
    return index


def _around(frame: SeriesFrame, steps: np.ndarray, lookback: int, horizon: int) -> SeriesFrame:
    """Give the rows of one window of each series, those of the horizon too; `steps` (S,) is the origin's, -1 for none.

    Rows outside a series are missing, as predict pads a short one.
    """
    chosen = np.flatnonzero(steps >= 0)
    rows = (frame.offsets[:-1] + steps)[chosen, None] - lookback + 1 + np.arange(lookback + horizon)
    there = (rows >= frame.offsets[chosen, None]) & (rows < frame.offsets[chosen + 1, None])
    values, known = (np.full((*rows.shape, part.shape[1]), np.nan, np.float32) for part in (frame.values, frame.known))
    values[there], known[there] = frame.values[rows[there]], frame.known[rows[there]]
    zone = frame.time_type.zone
    return replace(
        frame,
        keys=frame.keys.gather(chosen),
        offsets=np.arange(len(chosen) + 1) * (lookback + horizon),
        start=times_at(frame.start[chosen], steps[chosen] + 1 - lookback, frame.frequency, zone),
        values=np.concatenate(values),
        known=np.concatenate(known),
        static=frame.static[chosen],
    )


def _from_window(fitted: Any, around: SeriesFrame) -> pl.DataFrame:
    """Forecast from windows in a buffer that holds their answers, in the units of the table."""
    lookback, horizon, variates = fitted.shape.lookback, fitted.shape.horizon, len(around.names)
    series = np.arange(len(around.keys))
    at = series * (lookback + horizon) + lookback
    scaler, _ = fitted.scaler_for(around, at)
    targets = variates if fitted.shape.targets == fitted.shape.variates else fitted.shape.targets
    buffer = window_buffer(scaler.apply_(around), fitted.marks)
    data = WindowDataset(buffer, torch.from_numpy(at - 1), lookback, horizon, targets)
    with torch.inference_mode():
        scaled = torch.cat([fitted.network(window) for window, *_ in data.batches(_BATCH)])
    values = scaler.invert(scaled.double().numpy(), series)
    steps = lookback + np.arange(horizon)
    times = times_at(around.start[:, None], steps, around.frequency, around.time_type.zone)
    return long_table(around, targets, times, {"yhat": values})


def _compared(
    expected: pl.DataFrame, forecast: pl.DataFrame, way: str, day: _Origin, frame: SeriesFrame, model: str, source: str
) -> tuple[int, Leak | None]:
    """Give how many forecasts differ in any bit, and the first of them."""
    step = (pl.int_range(pl.len()).over("unique_id") + 1).alias("step")
    sides = [side.select("unique_id", step, "yhat") for side in (expected, forecast)]
    both = sides[0].join(sides[1], on=["unique_id", "step"], how="left", maintain_order="left")
    one, other = both["yhat"].to_numpy(), both["yhat_right"].to_numpy()
    differ = (one != other) & ~(np.isnan(one) & np.isnan(other))
    if not differ.any():
        return 0, None
    first = int(differ.argmax())
    series, steps = both["unique_id"][first], both["step"][first]
    before, after = (float(side[first]) for side in (one, other))
    chosen = np.flatnonzero(day.rows >= 0)
    origin = spoken(int(day.cutoff[chosen[first * len(chosen) // len(both)]]), frame.time_type)
    by = f"moves by {abs(after - before):.3g} ({before:.6g}, then {after:.6g})"
    if np.isnan(after):
        by = f"moves ({before:.6g}, then no number)"
    name = series if series is not None and series != "" else "the series"
    message = (
        f"{source}: {model} knows the future: with {_what(way, frame)}, step {steps} of {name} from {origin} {by}."
    )
    finite = [value if np.isfinite(value) else None for value in (before, after)]
    return int(differ.sum()), Leak(way, str(name), origin, message, _HINT, int(steps), *finite)


# Known covariates


def _repeated_targets(frame: SeriesFrame, horizon: int) -> list[str]:
    """Name the known-future covariates that repeat a target, now or less than a horizon away: they hold the answer."""
    longest = int(np.diff(frame.offsets).argmax())
    rows = slice(max(frame.offsets[longest], frame.offsets[longest + 1] - _LAGS), frame.offsets[longest + 1])
    targets = frame.values[rows, : frame.schema.targets].astype(np.float64)
    found = []
    for number, name in enumerate(frame.schema.known):
        known = frame.known[rows, number].astype(np.float64)
        for lag in sorted(range(1 - horizon, horizon), key=abs):
            early, late = (
                known[max(0, lag) : len(known) + min(0, lag)],
                targets[max(0, -lag) : len(known) - max(0, lag)],
            )
            share = _correlations(early, late)
            if len(share) and np.nanmax(share, initial=0.0) > _SAME:
                target = frame.names[int(np.nanargmax(share))]
                when = "at the same time" if not lag else f"{abs(lag)} steps {'later' if lag > 0 else 'earlier'}"
                found.append(
                    f"known-future column {name} repeats {target} {when} (correlation {np.nanmax(share):.5f}): "
                    "a forecast may read the answer there"
                )
                break
    return found


def _correlations(column: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Correlate a column (N,) with others (N, V) where both are known: (V,) without sign, NaN for a constant."""
    both = np.isfinite(column)[:, None] & np.isfinite(others)
    count = np.maximum(both.sum(0), 1)
    x, y = np.where(both, column[:, None], 0.0), np.where(both, others, 0.0)
    x, y = np.where(both, x - x.sum(0) / count, 0.0), np.where(both, y - y.sum(0) / count, 0.0)
    spread = np.sqrt((x**2).sum(0) * (y**2).sum(0))
    return np.divide(np.abs((x * y).sum(0)), spread, out=np.full(len(spread), np.nan), where=spread > 0)
