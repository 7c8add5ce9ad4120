"""The ids and times of a table's rows: which series each belongs to, when it was, and in what order they go."""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from ..errors import DataError
from .calendar import Frequency, floor_to, infer
from .forms import MIDNIGHT
from .table import Table
from .times import COUNTS, Rules, TimeType, end_of_day, parse_times, spoken
from .week import DAY

PART = 1 << 21  # rows of ids that are read at once


@dataclass(frozen=True)
class Axis:
    """Ids and times of every row, and the order that sorts them by id and time."""

    keys: pl.Series  # (S,) ids, sorted; a single "" without an id column
    codes: np.ndarray  # (R,) which key, in sorted order
    times: np.ndarray  # (R,) int64, in sorted order
    time_type: TimeType
    order: np.ndarray | None  # (R,) table row of each sorted row; None: the table is sorted
    backwards: int  # rows whose time is before that of the row above, in the same series
    first_backwards: int  # the first such row
    fresh: np.ndarray  # (R,) bool, in sorted order: not the same id and time as the row above

    def row(self, position: int) -> int:
        """The table row at a sorted position."""
        return position if self.order is None else int(self.order[position])

    def offsets(self) -> np.ndarray:
        """(S + 1,) int64: series s is fresh rows offsets[s] to offsets[s + 1]."""
        _, codes = self.distinct()
        # Sorted codes are searched in their own small type: counting them would first make them eight bytes each.
        return np.append(np.searchsorted(codes, np.arange(len(self.keys), dtype=codes.dtype)), len(codes))

    def distinct(self) -> tuple[np.ndarray, np.ndarray]:
        """(U,) times and (U,) codes of the fresh rows."""
        if self.fresh.all():
            return self.times, self.codes
        return self.times[self.fresh], self.codes[self.fresh]


def axis_of(
    table: Table,
    identity: str | None,
    time: str | None,
    rules: Rules,
    *,
    steps: bool,
    resample: Frequency | None = None,
) -> Axis:
    """Ids, times and order of the rows, worked out once. Raises DataError for missing ids and bad times.

    `rules` are how times are read; `resample` moves each time to the start of its step.
    """
    key = ("axis", identity, time, rules, steps, resample)
    if key not in table.cache:
        axis = _axis(table, identity, time, rules, steps, resample)
        # Asked for again by the rules that the column settled, as a schema holds them, it is the same axis.
        settled = rules.settled(axis.time_type.rules)
        table.cache[key] = table.cache["axis", identity, time, settled, steps, resample] = axis
    found: Axis = table.cache[key]
    return found


def infer_step(table: Table, axis: Axis) -> Frequency:
    """The step of an axis, from all rows."""
    return infer(*_told_short(axis.distinct()[0], axis.offsets(), axis.time_type), axis.time_type, table.origin)[0]


def _told_short(times: np.ndarray, offsets: np.ndarray, time_type: TimeType) -> tuple[np.ndarray, np.ndarray]:
    """Times and offsets of which the same step is inferred: two rows a series where every step of all is the same.

    Else they are given back as they are. Looked at in parts, as the steps of 20 million rows at once cost more than all
    the rest. Months are no steps of one length, and clocks of a zone change: these are inferred from all rows.
    """
    if len(times) < 2 or time_type.zone is not None:
        return times, offsets
    first = int(np.argmax(np.diff(offsets) > 1))
    step = times[offsets[first] + 1] - times[offsets[first]]
    if not 0 < step < 27 * DAY or offsets[first + 1] - offsets[first] < 2:
        return times, offsets
    for begin in range(0, len(times) - 1, PART):
        other = np.flatnonzero(np.diff(times[begin : begin + PART + 1]) != step) + begin + 1
        if len(other) > len(offsets) or not np.isin(other, offsets, assume_unique=True).all():
            return times, offsets
    rows = np.minimum(np.diff(offsets), 2)
    kept = np.stack([offsets[:-1], np.minimum(offsets[:-1] + 1, len(times) - 1)], axis=1)[np.arange(2) < rows[:, None]]
    return times[kept], np.append(0, np.cumsum(rows))


def _axis(
    table: Table, identity: str | None, time: str | None, rules: Rules, steps: bool, resample: Frequency | None
) -> Axis:
    if identity is None:
        keys, codes = pl.Series([""]), np.zeros(table.rows, np.uint16)
    else:
        keys, codes = _coded(table, identity)
    order = None if (codes[1:] >= codes[:-1]).all() else np.argsort(codes, kind="stable")
    codes = codes if order is None else codes[order]
    if time is None:
        first = np.searchsorted(codes, np.arange(len(keys)))
        times, time_type = np.arange(table.rows) - first[codes], TimeType(pl.Int64())
    else:
        column = table.collect(time).to_series()
        times, time_type = parse_times(column, table.where, steps=steps, rules=rules)
        _note_reading(table, column, times, time_type)
        del column
        times = times if order is None else times[order]
    back = (times[1:] < times[:-1]) & (codes[1:] == codes[:-1])
    if back.any() and (moved := end_of_day(times, codes)) is not None:
        place = int(moved.argmax())
        line = table.line(place if order is None else int(order[place]))
        told = f"{line}, {spoken(int(times[place]), time_type)}"
        table.ledger.repair("dates-joined", int(moved.sum()), told, _MIDNIGHT_BEFORE)
        times, time_type = np.where(moved, times + DAY, times), replace(time_type, midnight="before")
        back = (times[1:] < times[:-1]) & (codes[1:] == codes[:-1])
    if resample is not None:
        times = floor_to(times, resample, time_type.zone)
    backwards, first_backwards = int(back.sum()), -1
    if backwards:
        below = np.flatnonzero(back) + 1
        first_backwards = int((below if order is None else order[below]).min())
        sort = np.lexsort((times, codes))
        order, codes, times = sort if order is None else order[sort], codes[sort], times[sort]
    fresh = np.ones(table.rows, bool)
    fresh[1:] = (times[1:] != times[:-1]) | (codes[1:] != codes[:-1])
    return Axis(keys, codes, times, time_type, order, backwards, first_backwards, fresh)


def _coded(table: Table, name: str) -> tuple[pl.Series, np.ndarray]:
    """The distinct ids of a column, sorted, in their type; and for every row which one it is.

    Read in parts: the ids of 20 million rows as text would be the largest thing that a fit ever holds.
    """
    heads, lengths = [], []  # ids mostly stand in blocks: far fewer to rank
    for first in range(0, table.rows, PART):
        ids = table.collect(pl.col(name).slice(first, PART)).to_series()
        if ids.null_count():
            row = first + int(ids.is_null().arg_max() or 0)
            raise DataError(
                f'{table.where(row)}: the id in column "{name}" is missing.',
                "Fill the id in, or remove the row.",
            )
        blocks = (ids.cast(pl.String) if ids.dtype in (pl.Categorical, pl.Enum) else ids).rle().struct
        heads.append(blocks.field("value"))
        lengths.append(blocks.field("len").to_numpy())
    every = pl.concat(heads)
    keys = every.unique().sort()
    # Sixteen bits let numpy sort by counting instead of comparing.
    numbers = (every.rank("dense").to_numpy() - 1).astype(np.uint16 if len(keys) < 1 << 16 else np.int32)
    return keys.cast(table.schema[name]), np.repeat(numbers, np.concatenate(lengths))


_MIDNIGHT_BEFORE = "00:00 at the end of a day is 00:00 of the next day"


def _note_reading(table: Table, column: pl.Series, times: np.ndarray, time_type: TimeType) -> None:
    """Enter in the ledger how times were read that leave it open."""
    if (time_type.format or "").startswith("FY"):
        table.ledger.caution("time-reading", column.name, "fiscal years, read as years of the calendar", table.rows)
    if time_type.century is None and time_type.epoch is None and time_type.midnight is None:
        return
    years = [str(np.datetime64(int(time), "us").astype("M8[Y]")) for time in (times.min(), times.max())]
    if time_type.century is not None:
        table.ledger.caution("time-reading", column.name, "two-digit years: {} to {}".format(*years), table.rows)
    if time_type.epoch is not None:
        text = f"{COUNTS[time_type.epoch]}: years {{}} to {{}}".format(*years)
        table.ledger.caution("time-reading", column.name, text, table.rows)
    if time_type.midnight == "24:00":
        late = column.cast(pl.String).str.contains(MIDNIGHT)
        row = int(late.arg_max() or 0)
        detail = "24:00 is 00:00 of the next day"
        table.ledger.repair("dates-joined", int(late.sum()), f"{table.line(row)}, {column[row]}", detail)
