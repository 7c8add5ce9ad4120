"""Times of events: whole numbers and floats as they are, times of a calendar as microseconds; and given back alike.

Unlike the axis of a series, events need no step, so a count is never taken for a year or for seconds since 1970.
"""

from collections.abc import Callable

import numpy as np
import polars as pl

from ..errors import DataError
from .times import Rules, TimeType, parse_times, restore


def read_ticks(
    column: pl.Series, where: Callable[[int], str], rules: Rules, like: TimeType | None = None
) -> tuple[np.ndarray, TimeType]:
    """Times (R,) that EventStore takes, and how they were given: int64, or float64 where the column is of floats.

    `where(row)` names a row in messages; `like` is how times of the same stream were given before, whose type the
    result then has. Raises DataError for times that cannot be read, are not finite or below 0 (before 1970), or are
    numbers where `like` is of a calendar, or the other way round.
    """
    dtype = column.dtype
    if dtype.is_float():
        times, given = column.cast(pl.Float64).to_numpy(), TimeType(dtype)
        _refuse(~np.isfinite(times), column, where, "is not finite")
    elif dtype.is_integer():
        whole = column.cast(pl.Int64, strict=False)
        _refuse(whole.is_null().to_numpy(), column, where, "does not fit in 63 bits")
        times, given = whole.to_numpy(), TimeType(dtype)
    else:
        times, given = parse_times(column, where, rules=rules)
    _refuse(times < 0, column, where, "is below 0" if given.steps else "is before 1970")
    if like is None:
        return times, given
    if like.steps != given.steps:
        kinds = {True: "numbers", False: "times of a calendar"}
        raise DataError(
            f'{where(0)}: column "{column.name}" has {kinds[given.steps]}; before, the times were {kinds[like.steps]}.',
            "Give times in the form that the model was trained on.",
        )
    if like.dtype.is_float():
        return times.astype(np.float64), like
    _refuse(times != np.floor(times), column, where, "is a fraction, where the times before were whole numbers")
    return times.astype(np.int64), like


def give_ticks(times: np.ndarray, time_type: TimeType, name: str = "t") -> pl.Series:
    """The times as a column in the type, zone and text format that they came in."""
    if time_type.dtype.is_float():
        return pl.Series(name, times, dtype=pl.Float64).cast(time_type.dtype)
    return restore(times, time_type, name)


def said(time: float, time_type: TimeType) -> str:
    """One time as documents say it: ISO 8601 of a calendar, in UTC where there is a zone; else the number."""
    if time_type.steps:
        return str(time)
    moment = np.datetime64(int(time), "us")
    whole = moment.astype("M8[s]")
    return str(whole if whole == moment else moment)


def _refuse(bad: np.ndarray, column: pl.Series, where: Callable[[int], str], why: str) -> None:
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f'{where(row)}: the time {column[row]} in column "{column.name}" {why}.',
            "Correct the row, or leave it out.",
        )
