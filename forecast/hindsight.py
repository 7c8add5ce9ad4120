"""Data whose answers are known, as a model would have met them on an earlier day.

`Hindsight.until` gives the rows that were there at an origin; what came after is gone, but for known-future covariates.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from .data import table
from .data.frame import Schema, SeriesFrame, frame_series
from .data.schema import axis_for, shaped
from .errors import DataError, UsageError

NEVER = np.iinfo(np.int64).min  # the time of an origin that a series does not have


@dataclass(frozen=True)
class Hindsight:
    """The columns of a table that a model uses, with the series and the time of every row.

    Only `rows` change between days; `owner` counts the ids of the table, which are the series of a long frame and the
    variates of a panel.
    """

    rows: pl.DataFrame
    schema: Schema
    owner: np.ndarray  # (R,) int64: which id, in the order of the frame
    time: np.ndarray  # (R,) int64: microseconds UTC, or the step

    @classmethod
    def of(cls, read: table.Table, schema: Schema) -> "Hindsight":
        """Find out where the rows of `read` belong; raises DataError where a row holds several times."""
        if schema.spread is not None:
            raise DataError(
                f"{read.origin}: its times are spread over columns, so no row belongs to one time.",
                f"Write it with a row a time first: forecast doctor {read.origin} --fix long.csv",
            )
        axis = axis_for(shaped(read, schema), schema)
        owner, time = axis.codes.astype(np.int64), axis.times
        if axis.order is not None:
            owner, time = np.empty_like(owner), np.empty_like(time)
            owner[axis.order], time[axis.order] = axis.codes, axis.times
        times = schema.time_parts if schema.time_parts and schema.time_parts[0] in read.schema else (schema.time,)
        used = (*schema.ids, *times, *schema.values, *schema.known)
        columns = [name for name in dict.fromkeys(used) if name is not None]
        return cls(read.collect(*columns), schema, owner, time)

    def after(self, cutoff: np.ndarray) -> np.ndarray:
        """Say which rows stand behind the `cutoff` (S,) of their series: (R,) bool."""
        late: np.ndarray = self.time > (cutoff[self.owner] if len(cutoff) > 1 else cutoff[0])
        return late

    def until(self, cutoff: np.ndarray) -> pl.DataFrame:
        """Give the rows up to the `cutoff` (S,); later ones keep id, time and known covariates where there are any.

        A series whose cutoff is `NEVER` is left out.
        """
        after = self.after(cutoff)
        if not self.schema.known:
            return self.rows.filter(~after)
        there = (cutoff[self.owner] if len(cutoff) > 1 else np.broadcast_to(cutoff, self.owner.shape)) > NEVER
        blank = pl.when(pl.lit(pl.Series(after))).then(None)
        emptied = [blank.otherwise(pl.col(name)).alias(name) for name in self.schema.values]
        return self.rows.with_columns(emptied).filter(there)


def framed(fitted: Any, read: table.Table, static: Any = None) -> SeriesFrame:
    """Read a table with the columns of a fit; raises DataError where they, or the ids of a panel, are others."""
    schema = Schema(**dataclasses.asdict(fitted.schema))  # this version's: a stored model has a class of its own
    frame = frame_series(read, schema)
    names = tuple(str(name) for name in frame.names)
    if not getattr(fitted.network, "any_variates", False) and names != tuple(fitted.variates):
        raise DataError(
            f"{fitted.name} was trained on {len(fitted.variates)} variates in a fixed order; {read.origin} differs: "
            f"{', '.join(sorted(set(names) ^ set(fitted.variates))) or 'the order'}.",
            "Give the same series as at the fit.",
        )
    if not getattr(fitted, "features", ()):
        if static is not None:
            raise UsageError("Static features were given, but the model has none.", "Leave out --static.")
        return frame
    return dataclasses.replace(frame, static=fitted.static_of(frame, static))


def last_seen(frame: SeriesFrame, nominal: np.ndarray, targets: int) -> np.ndarray:
    """Give the last buffer row up to `nominal` (S,) in which a target of the series was seen; -1 where there is none.

    A forecast made on that day starts behind it; nothing that came later is looked at.
    """
    seen = np.isfinite(frame.values[:, :targets]).any(axis=1)
    last = np.maximum.accumulate(np.where(seen, np.arange(len(seen)), -1))
    row = last[np.maximum(nominal, 0)]
    found: np.ndarray = np.where((nominal >= frame.offsets[:-1]) & (row >= frame.offsets[:-1]), row, -1)
    return found


def trained_until(fitted: Any) -> int | None:
    """Give the last time of the training part; None where the model does not tell it, or its rows had no time."""
    return told_time(fitted, fitted.facts.get("trained_on"), 1)


def told_time(fitted: Any, span: Any, edge: int) -> int | None:
    """Give the first (0) or last (1) time of a span among the facts of a model, as frames count time."""
    if not span or fitted.schema.time is None:
        return None
    if fitted.schema.freq == "1":
        return int(span[edge])
    return int(np.datetime64(span[edge], "us").astype(np.int64))
