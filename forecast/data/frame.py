"""SeriesFrame: regular, typed, checked series on one contiguous buffer."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace

import numpy as np
import polars as pl

from ..errors import DataError
from .axis import PART, Axis
from .calendar import Frequency, off_grid, parse, positions, times_at
from .clocks import find_changes
from .codes import caution_codes, without_codes
from .columns import bad_cell, first_bad, numbers_in, require_columns
from .numbers import missing_marks
from .schema import Schema, axis_for, columns_present, require_share, shaped, understand
from .table import Table
from .times import TimeType, quoted, spoken
from .week import HOUR

__all__ = [
    "Schema",
    "SeriesFrame",
    "TimeType",
    "columns_present",
    "fingerprint",
    "frame_series",
    "owner_of_rows",
    "refuse_repairs",
    "rows_before",
    "understand",
]

BLOCK = 1 << 26  # bytes of values, as float64, that are read at once
RELAX = "Leave out --strict, or"


@dataclass(frozen=True)
class SeriesFrame:
    """`S` regular series of `V` variates, one after the other; row r of each is `start` + r steps."""

    keys: pl.Series  # (S,) ids in the type they were given; a single "" for wide and panel
    offsets: np.ndarray  # (S + 1,) int64: series s is rows offsets[s] to offsets[s + 1]
    start: np.ndarray  # (S,) int64: first time, microseconds UTC, or the first step of an integer axis
    values: np.ndarray  # (R, V) float32, units of the table, NaN where missing
    names: pl.Series  # (V,) variates, targets first; a panel's ids keep their type
    frequency: Frequency
    time_type: TimeType
    schema: Schema
    known: np.ndarray  # (R, C) float32 covariates whose future is known, units of the table, NaN where missing
    static: np.ndarray  # (S, V or 1, C_S) float32 features of each variate, or of each series


@dataclass(frozen=True)
class _Grid:
    """Where the sorted rows of a table go in the buffer."""

    start: np.ndarray  # (S,) int64
    steps: np.ndarray  # (U,) int32 or int64: position of each fresh row in its series
    codes: np.ndarray  # (U,) series of each fresh row
    lengths: np.ndarray  # (S,) int64: steps from the first row to the last, both counted
    gaps: int  # steps without a row


def frame_series(table: Table, schema: Schema, *, strict: bool = False) -> SeriesFrame:
    """The series of a table: sorted, on a regular axis, NaN where a value or a whole row is missing.

    Sorting, merging of repeated times (by the mean of what was seen) and gaps go to the ledger; `strict`
    refuses them. A "long" schema becomes "panel" if it has several ids but no more than steps, one value column, one
    common time axis and no known covariates, else "channels". A stored "panel" stays one whatever the ids: all end
    at the last time of any, and an id is NaN where it has no rows. Raises DataError for absent columns, rows off the
    grid, repairs of more than `schema.max_repaired` of the rows, infinite or unreadable numbers.
    """
    table = shaped(table, schema)
    require_columns(table, [c for c in (schema.id, schema.time, *schema.values, *schema.known) if c is not None])
    frequency = parse(schema.freq)
    axis = axis_for(table, schema)
    if axis.time_type.steps != (frequency.unit == "step"):
        raise DataError(
            f'{table.origin}: the times do not fit the frequency "{schema.freq}".',
            "Give times as the model was trained on, or name their column with --time-col.",
        )
    grid = _grid(table, schema, axis, frequency)
    _note_repairs(table, schema, axis, grid, frequency)
    if strict:
        refuse_repairs(table)
    layout = _layout(schema, grid)
    if layout == "panel":
        return _panel(table, schema, axis, grid, frequency)
    offsets = np.concatenate([[0], np.cumsum(grid.lengths)])
    rows = int(offsets[-1])
    values, known = (np.empty((rows, len(names)), np.float32) for names in (schema.values, schema.known))
    plain = axis.order is None and grid.gaps == 0 and bool(axis.fresh.all())
    places = slice(None) if plain else offsets[grid.codes] + grid.steps
    for names, buffer in ((schema.values, values), (schema.known, known)):
        if grid.gaps and names:
            buffer[_unvisited(rows, places)] = np.nan
        for columns, block in _blocks(table, names, axis, schema):
            buffer[places, columns] = block
    final = replace(schema, layout=layout)
    return SeriesFrame(
        axis.keys,
        offsets,
        grid.start,
        values,
        pl.Series(schema.values, dtype=pl.String),
        frequency,
        axis.time_type,
        final,
        known,
        np.empty((len(axis.keys), 1, 0), np.float32),
    )


def refuse_repairs(table: Table) -> None:
    """Raise DataError naming the first repair of a table that was to need none."""
    if not table.ledger.repairs:
        return
    repair = table.ledger.repairs[0]
    what = "sort the file by time" if repair.kind == "sorted" else "correct the file"
    raise DataError(
        f"{table.origin}, {repair.first}: {repair.kind} ({repair.detail}), refused by --strict.",
        f"{RELAX} {what}.",
    )


def rows_before(offsets: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Say which buffer rows stand before `ends` (S,) of their series: (R,) bool."""
    lengths = np.stack([ends - offsets[:-1], offsets[1:] - ends], axis=1)
    return np.repeat(np.tile([True, False], len(ends)), lengths.reshape(-1))


def owner_of_rows(offsets: np.ndarray, first: int, end: int) -> np.ndarray:
    """The series of each buffer row from `first` to before `end`: (end - first,) int64."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(np.clip(offsets, first, end)))


def fingerprint(frame: SeriesFrame) -> str:
    """SHA-256, in hex, of everything a frame holds: schema, time axis, names, ids and values."""
    later = {field.name: field.default for field in fields(Schema) if field.name != "dates"}
    about = {
        # What a table does not have stays out, so that data keep their fingerprint when a schema learns to say more.
        "schema": {
            key: value for key, value in asdict(frame.schema).items() if key not in later or value != later[key]
        },
        "frequency": {key: value for key, value in asdict(frame.frequency).items() if key != "slots" or value},
        "times": [str(frame.time_type.dtype), frame.time_type.format, frame.time_type.zone],
        "names": [str(frame.names.dtype), *(str(n) for n in frame.names.to_list())],
        "keys": [str(frame.keys.dtype), *(str(k) for k in frame.keys.to_list())],
        "shape": frame.values.shape,
    }
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for part in (frame.offsets, frame.start, frame.values, frame.known, frame.static):
        digest.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _grid(table: Table, schema: Schema, axis: Axis, frequency: Frequency) -> _Grid:
    """Positions of the rows on the regular axis. Raises DataError for rows off it and gaps beyond reason."""
    (times, codes), bounds = axis.distinct(), axis.offsets()
    start = times[bounds[:-1]]
    zone = axis.time_type.zone
    steps: np.ndarray = np.empty(len(times), np.int32)
    for first in range(0, len(times), PART):  # all at once would hold several columns of eight bytes
        part = slice(first, first + PART)
        begin = start[codes[part]] if len(start) > 1 else start
        off = off_grid(times[part], begin, frequency, zone)
        if off.any():
            place = first + int(off.argmax())
            row = axis.row(int(np.flatnonzero(axis.fresh)[place]))
            begins = spoken(int(start[codes[place]]), axis.time_type)
            raise DataError(
                f"{table.where(row)}: {spoken(int(times[place]), axis.time_type)} is not a whole number of steps "
                f"({frequency.alias}) from the start of its series, {begins}.",
                f"Give the step with --freq, correct the time, or take means over steps: --resample {frequency.alias}.",
            )
        found = positions(times[part], begin, frequency, zone)
        if found.max() >= 1 << 31:
            steps = steps.astype(np.int64)
        steps[part] = found
    lengths = steps[bounds[1:] - 1].astype(np.int64) + 1
    gaps = int(lengths.sum()) - len(times)
    require_share(
        table,
        schema.max_repaired,
        gaps,
        gaps + len(times),
        f"at step {frequency.alias} {gaps} rows are missing, of {len(times)} given",
        "Give the right step with --freq, or forecast the parts between the gaps separately.",
    )
    again = 0 if schema.resample else len(axis.fresh) - len(times)  # means over steps were asked for
    require_share(
        table,
        schema.max_repaired,
        again,
        len(axis.fresh),
        f"{again} of {len(axis.fresh)} rows repeat the id and time of another row",
        "Name the columns that tell the series apart with --id-col A,B.",
    )
    return _Grid(start, steps, codes, lengths, gaps)


def _note_repairs(table: Table, schema: Schema, axis: Axis, grid: _Grid, frequency: Frequency) -> None:
    """Enter in the ledger what framing changes."""
    ledger = table.ledger

    def place(series: int, time: int) -> str:
        told = spoken(time, axis.time_type)
        return told if len(axis.keys) == 1 else f"{quoted(axis.keys[series])}, {told}"

    again = np.flatnonzero(~axis.fresh)
    times, _ = axis.distinct()
    leap = steps = np.zeros(0, np.int64)
    if grid.gaps:
        leap = np.flatnonzero((np.diff(grid.steps) > 1) & (grid.codes[1:] == grid.codes[:-1]))
        steps = np.diff(grid.steps)[leap] - 1
    known = np.zeros(0, np.int64)  # times told twice by a change of the clock
    change: tuple[int, str, str] | None = None
    local = axis.time_type.zone is None and frequency.unit == "us" and HOUR % frequency.count == 0
    if local and not schema.resample and (len(again) or len(leap)):
        hours = steps.astype(np.int64) * frequency.count == HOUR  # counts of steps are small integers
        missing = times[leap[hours]] + frequency.count
        span = int(axis.times.min()), int(axis.times.max())
        changes = find_changes(axis.times[again], missing, span, frequency.count)
        if changes is not None:
            known = axis.times[again][changes.repeated]
            count = len(known) + int(changes.missing.sum()) * (HOUR // frequency.count)
            first = int(np.concatenate([known, missing[changes.missing]]).min())
            detail = f"clocks as in {changes.zone}: an hour told twice became its mean, one never told is missing"
            change = count, spoken(first, axis.time_type), detail
            again = again[~changes.repeated]
            kept = np.ones(len(leap), bool)
            kept[np.flatnonzero(hours)[changes.missing]] = False
            leap, steps = leap[kept], steps[kept]
    backwards, row = _backwards(axis, known, frequency)
    if backwards:
        position = row if axis.order is None else int(np.flatnonzero(axis.order == row)[0])
        told = spoken(int(axis.times[position]), axis.time_type)
        ledger.repair("sorted", backwards, f"{table.line(row)}, {told}", "rows were put in order of time")
    if change is not None:
        ledger.repair("clock-change", *change)
    if schema.resample:
        detail = f"resampled to {schema.freq}: {table.rows} rows became the means of {len(grid.steps)} steps"
        ledger.repair("reshaped", table.rows, table.line(axis.row(0)), detail)
    elif len(again):
        told = spoken(int(axis.times[again[0]]), axis.time_type)
        detail = "rows of one id and time became their mean"
        ledger.repair("duplicates-merged", len(again), f"{table.line(axis.row(int(again[0])))}, {told}", detail)
    if len(leap):
        before = int(leap[0])
        series = int(grid.codes[before])
        absent = times_at(grid.start[series], grid.steps[before] + 1, frequency, axis.time_type.zone)
        detail = "steps without a row became missing values"
        ledger.repair("gap-filled", int(steps.sum()), place(series, int(absent)), detail)


def _backwards(axis: Axis, known: np.ndarray, frequency: Frequency) -> tuple[int, int]:
    """How many rows stand behind a later time, but for hours `known` to be told twice; and the first such row."""
    if not axis.backwards or not len(known) or axis.order is None or frequency.count == HOUR:
        return axis.backwards, axis.first_backwards
    given = np.lexsort((axis.order, axis.codes))  # as the rows of each series stand in the table
    times, codes, rows = axis.times[given], axis.codes[given], axis.order[given]
    back = (times[1:] < times[:-1]) & (codes[1:] == codes[:-1])
    back &= ~(np.isin(times[1:], known) & (np.diff(times) > -HOUR))
    return int(back.sum()), int(rows[1:][back].min()) if back.any() else -1


def _layout(schema: Schema, grid: _Grid) -> str:
    if schema.layout != "long":
        return schema.layout
    # A covariate of each id has no place in a panel, where the ids are the variates of one series; and more variates
    # than steps leave a panel a handful of windows to learn from, where series by series there are thousands.
    several = 1 < len(grid.start) <= grid.lengths[0] and len(schema.values) == 1 and not schema.known
    aligned = several and bool((grid.start == grid.start[0]).all() and (grid.lengths == grid.lengths[0]).all())
    return "panel" if aligned else "channels"


def _panel(table: Table, schema: Schema, axis: Axis, grid: _Grid, frequency: Frequency) -> SeriesFrame:
    """Ids as variates on the axis from the first time of any to the last of any."""
    start = grid.start.min()
    zone = axis.time_type.zone
    off = off_grid(grid.start, start, frequency, zone)
    if off.any():
        series = int(off.argmax())
        told = spoken(int(grid.start[series]), axis.time_type)
        raise DataError(
            f"{table.origin}: series {quoted(axis.keys[series])} starts at {told}, not a whole number of "
            f"steps ({frequency.alias}) from {spoken(int(start), axis.time_type)}.",
            "Give all series the same time axis.",
        )
    shift = positions(grid.start, start, frequency, zone)
    rows, variates = int((shift + grid.lengths).max()), len(axis.keys)
    values = np.empty((rows, variates), np.float32)
    for _, block in _blocks(table, schema.values, axis, schema):
        if len(block) == rows * variates:  # sorted and complete: one series after the other
            values[:] = block.reshape(variates, rows).T
        else:
            values.fill(np.nan)
            values[shift[grid.codes] + grid.steps, grid.codes] = block[:, 0]
    final = replace(schema, layout="panel", targets=variates)
    offsets = np.array([0, rows])
    return SeriesFrame(
        pl.Series([""]),
        offsets,
        np.array([start]),
        values,
        axis.keys,
        frequency,
        axis.time_type,
        final,
        np.empty((rows, 0), np.float32),
        np.empty((1, 1, 0), np.float32),
    )


def _unvisited(rows: int, places: np.ndarray | slice) -> np.ndarray:
    empty = np.ones(rows, bool)
    empty[places] = False
    return np.flatnonzero(empty)


def _blocks(table: Table, names: tuple[str, ...], axis: Axis, schema: Schema) -> Iterator[tuple[slice, np.ndarray]]:
    """A few columns at a time, (U, k) float32, sorted and without repeated rows; and which they are."""
    width = max(1, BLOCK // (8 * table.rows))
    for begin in range(0, len(names), width):
        part = names[begin : begin + width]
        block = _numbers(table, part, schema)
        if axis.order is not None:
            block = block[axis.order]
        yield slice(begin, begin + len(part)), _merged(block, axis.fresh)


def _numbers(table: Table, names: tuple[str, ...], schema: Schema) -> np.ndarray:
    """(R, k) float32, NaN for missing. Raises DataError for text and infinite values."""
    texts = [n for n in names if not (table.schema[n].is_numeric() or table.schema[n] == pl.Boolean)]
    frame = table.collect(*(pl.col(n) if n in texts else pl.col(n).cast(pl.Float32) for n in names))
    for name in texts:
        text = frame[name].cast(pl.String)
        found = numbers_in(table, text, schema.decimal, codes=True)
        if found is None and not (missing_marks(text) | text.is_null()).all():
            raise bad_cell(table, name, first_bad(None, text), text)
        if found is not None and found.bad is not None:
            raise bad_cell(table, name, found.bad, text)
        if found is not None and found.marks:
            _require_numbers(table, schema, name, int(found.marked.sum()))
        numbers = pl.repeat(None, table.rows, dtype=pl.Float32, eager=True) if found is None else found.values
        frame = frame.with_columns(numbers.cast(pl.Float32).alias(name))
    for name in names:
        _require_numbers(table, schema, name, table.marked.get(name, 0))
    block = frame.to_numpy()
    if schema.missing_codes:
        block = without_codes(table, names, block, schema.missing_codes)
    caution_codes(table, names, block)
    seen = np.isfinite(block)
    if not seen.all():
        if np.isinf(block).any():
            row, column = (int(i) for i in np.argwhere(np.isinf(block))[0])
            value = table.collect(pl.col(names[column]).slice(row, 1)).item()
            raise DataError(
                f'{table.where(row)}: {value} in column "{names[column]}" is too large for a float32.',
                "Correct the value or leave it empty.",
            )
        # One bit pattern for every NaN: equal tables must have equal fingerprints.
        block = np.where(seen, block, np.float32(np.nan))
    return block


def _require_numbers(table: Table, schema: Schema, name: str, marked: int) -> None:
    """Raise DataError where a missing mark stands in too many rows of a column. Codes that were named are asked for."""
    require_share(
        table,
        schema.max_repaired,
        marked,
        table.rows,
        f'in column "{name}" {marked} of {table.rows} values are marks that stand for a missing number',
        "Name the columns to use with --target and --variates, or leave the cells empty.",
    )


def _merged(block: np.ndarray, fresh: np.ndarray) -> np.ndarray:
    """Rows of one id and time, which stand together, as the mean of their seen values."""
    if fresh.all():
        return block
    heads = np.flatnonzero(fresh)
    sizes = np.diff(np.append(heads, len(fresh)))
    repeated = sizes > 1
    rows = block[np.repeat(repeated, sizes)].astype(np.float64)
    seen = ~np.isnan(rows)
    groups = np.concatenate([[0], np.cumsum(sizes[repeated])[:-1]])
    counts = np.add.reduceat(seen, groups, dtype=np.int64)
    sums = np.add.reduceat(np.where(seen, rows, 0), groups)
    merged = block[heads]
    merged[repeated] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return merged
