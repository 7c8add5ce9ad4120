"""The table that a frame stands for: what `forecast doctor --fix` writes, and where its rows came from."""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from .data.calendar import positions, times_at
from .data.columns import numbers_in
from .data.frame import SeriesFrame
from .data.keys import joined
from .data.schema import axis_for, shaped
from .data.table import Table
from .data.times import restore


@dataclass(frozen=True)
class Origin:
    """Which rows of a table stand where on the regular axes of its frame, one id after the other, `N` rows in all.

    They are the rows of the frame, but for a panel: there each variate has the rows of all.
    """

    rows: np.ndarray  # (U,) first table row of each id and time
    places: np.ndarray  # (U,) where it stands
    merged: np.ndarray  # places where several rows became one, a place for each row too many
    offsets: np.ndarray  # (ids + 1,) int64: where each id begins


def origin(table: Table, frame: SeriesFrame) -> Origin:
    """Where the rows of the table stand in the frame."""
    table, panel = joined(shaped(table, frame.schema), frame.schema.keys), frame.schema.layout == "panel"
    axis = axis_for(table, frame.schema)
    offsets = np.arange(len(frame.names) + 1) * len(frame.values) if panel else frame.offsets
    begin = frame.start if panel else frame.start[axis.codes]
    steps = positions(axis.times, begin, frame.frequency, axis.time_type.zone)
    places = offsets[axis.codes] + steps
    rows = np.arange(table.rows) if axis.order is None else axis.order
    if axis.fresh.all():
        return Origin(rows, places, places[:0], offsets)
    merged = places[:0] if frame.schema.resample else places[~axis.fresh]
    return Origin(rows[axis.fresh], places[axis.fresh], merged, offsets)


def step_share(found: Origin) -> tuple[float, int]:
    """The share of steps between rows of one id that are one step of the frame, and how many are longer."""
    inner = np.ones(max(len(found.places) - 1, 0), bool)
    heads = np.searchsorted(found.places, found.offsets[1:-1])
    inner[heads[(heads > 0) & (heads < len(found.places))] - 1] = False
    steps = np.diff(found.places)[inner]
    longer = int((steps > 1).sum())
    return (1 - longer / len(steps) if len(steps) else 1.0), longer


def clean_table(table: Table, frame: SeriesFrame, split_col: str | None = None) -> pl.DataFrame:
    """The table as it would be without a fault: sorted, regular, a row for every step, numbers where numbers are.

    Ids, times and numbers keep their type where every value could, and a number that no repair touched all its digits.
    Columns that are not used are left out, but for `split_col`, which marks the hold-out: a step that had no row has
    the mark of the row before it. A file without a header gets names. A long table stays long.
    """
    schema, found = frame.schema, origin(table, frame)
    table = joined(shaped(table, schema), schema.keys)
    panel = schema.layout == "panel"
    owner = np.repeat(np.arange(len(found.offsets) - 1), np.diff(found.offsets))
    steps = np.arange(found.offsets[-1]) - found.offsets[owner]
    start = frame.start if panel else frame.start[owner]
    times = times_at(start, steps, frame.frequency, frame.time_type.zone)
    source = np.full(len(owner), -1)
    source[found.places] = found.rows
    nameless = table.format.get("header_row", 0) is None  # a header of numbers would be read as a row
    columns = {}
    if schema.time is not None or nameless:
        name = schema.time if schema.time is not None and not nameless else "ds"
        # 24:00, or 00:00 of the day before, would have to be repaired again.
        columns[schema.time or "ds"] = restore(times, replace(frame.time_type, midnight=None), name)
    if schema.id is not None:
        ids = frame.names if panel else frame.keys
        first = found.rows[np.searchsorted(found.places, found.offsets[:-1])]
        for part in schema.keys:
            columns[part] = table.collect(part).to_series().gather(first[owner])
        columns[schema.id] = ids.gather(owner).alias("unique_id" if nameless else schema.id)
    for names, block in ((schema.values, frame.values), (schema.known, frame.known)):
        for number, name in enumerate(names):
            values = block.T.reshape(-1) if panel else block[:, number]
            columns[name] = _exact(table, name, values, source)
    if split_col is not None:
        marks = pl.DataFrame({split_col: _gathered(table.collect(split_col).to_series(), source)})
        columns[split_col] = marks.select(pl.all().forward_fill().backward_fill().over(pl.Series(owner))).to_series()
    if schema.keys:
        del columns[str(schema.id)]
    return pl.DataFrame([columns[name] for name in dict.fromkeys((*table.schema, *columns)) if name in columns])


def _exact(table: Table, name: str, values: np.ndarray, source: np.ndarray) -> pl.Series:
    """The values (N,) of a frame, with digits and type of the table rows `source` (-1: none) where they agree."""
    rounded = pl.Series(name, values, dtype=pl.Float32).fill_nan(None)
    given = table.collect(name).to_series()
    if not (given.dtype.is_numeric() or given.dtype == pl.Boolean):
        numbers = numbers_in(table, given.cast(pl.String))
        given = numbers.values.alias(name) if numbers is not None else given.cast(pl.Float64, strict=False)
        if ((given % 1 == 0) & (given.abs() < 2**53)).all():
            given = given.cast(pl.Int64)
    exact = _gathered(given, source)
    if exact.dtype.is_float():
        exact = exact.fill_nan(None)
    same = exact.cast(pl.Float32).eq_missing(rounded)
    if same.all():
        return exact
    if rounded.filter(~same).null_count() == int((~same).sum()):
        return exact.set(~same, None)
    # Through text: 0.1 as float32 is 0.10000000149 as float64.
    return exact.cast(pl.Float64).zip_with(same, rounded.cast(pl.String).cast(pl.Float64))


def _gathered(given: pl.Series, source: np.ndarray) -> pl.Series:
    """The values of the table rows `source` (N,), null for -1."""
    return given.gather(pl.Series(source).set(pl.Series(source < 0), None))
