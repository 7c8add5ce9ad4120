"""Which column of a table is what: id, time and values, found by name and content; and the row order.

Everything found can be named instead. What stays ambiguous is refused; what is left out goes to the ledger.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np
import polars as pl

from ..errors import DataError, UsageError
from .calendar import Frequency, floor_to, infer, parse, positions
from .forms import MIDNIGHT
from .keys import NEARLY, find_keys, joined, joined_name
from .kinds import require_series
from .numbers import MISSING, Decimal, Numbers, numbers_of
from .parts import restated
from .shape import Shape, find_shape, reshape
from .table import Table
from .text import parsed_entries
from .times import EPOCH_NAMES, Rules, TimeType, end_of_day, looks_like_times, parse_times, quoted, spoken
from .week import DAY

# In order of preference; names are compared in lower case, spaces and hyphens as underscores.
TIME_NAMES: tuple[str, ...] = ("ds", "timestamp", "datetime", "date_time", "date", "time", "ts", "t")
CLEAR = 8  # these name the time even of integers that repeat; a "month" may as well be a feature
TIME_NAMES += ("period", "quarter", "month", "week", "day", "year", "hour", "step", "index", "row")
SURE_ID_NAMES = ("unique_id", "item_id", "series_id")
ID_NAMES: tuple[str, ...] = (
    "id",
    "series",
    "key",
    "item",
    "symbol",
    "ticker",
    "name",
    "sensor",
    "sensor_id",
    "store",
    "store_id",
)
ID_NAMES += (
    "product",
    "product_id",
    "sku",
    "station",
    "location",
    "region",
    "country",
    "group",
    "zone",
    "meter",
)
ALL_ID_NAMES = SURE_ID_NAMES + ID_NAMES
TARGET_NAMES = ("y", "target", "value")
COUNTERS = ("id", "index", "no", "nr", "row")  # columns of these names may only number the rows
HEAD = 1000  # rows that show what a column holds
PART = 1 << 21  # rows of ids that are read at once
CATEGORIES = 50  # different texts of one column; more are names
MANY = 1 / 3  # share of repeated times that one series cannot have by accident


@dataclass(frozen=True)
class Schema:
    """How a table is read as series: fixed at the fit, stored with the model, applied again at prediction.

    `layout` is "wide" (a time and one column a variate), "panel" (long; the ids share one time axis and
    become the variates) or "channels" (long; every id is a series of its own, each value column a variate).
    `understand` gives "long" for the last two; `frame_series` decides between them.
    """

    layout: str
    id: str | None  # id column of a long table; with `keys` the name of their joined column
    time: str | None  # None: the rows are the time axis
    values: tuple[str, ...]  # wide, channels: a column a variate, targets first; panel: the one value column
    targets: int  # how many variates are forecast; a panel forecasts all
    freq: str  # pandas offset alias, or "1" for an integer axis
    dates: str | None = None  # "day-first" | "month-first" where dates were written with slashes or dashes
    known: tuple[str, ...] = ()  # covariates whose future is known when a forecast is made
    time_parts: tuple[str, ...] = ()  # columns that tell the time together; `time` is then what they become
    time_roles: tuple[str, ...] = ()  # which part each tells: "date", "clock", "year", "month", …
    spread: str | None = None  # what the names of columns tell of the time: "time", "year", "month", …
    century: int | None = None  # first of the hundred years that two-digit years are read in
    epoch: str | None = None  # "s" | "ms" | "us" | "ns": integers that count from 1970
    resample: bool = False  # the values are means over each step of `freq`
    decimal: Decimal | None = None  # settles "1,234" in a column that does not tell
    missing_codes: tuple[float, ...] = ()  # numbers that stand for a missing value
    max_repaired: float = 0.5  # largest share of rows that one repair may add or take away
    keys: tuple[str, ...] = ()  # columns that tell the series apart together, where no single one does

    @property
    def rules(self) -> Rules:
        """How what a time leaves open is read."""
        return Rules(self.dates, self.century, self.epoch)

    @property
    def ids(self) -> tuple[str, ...]:
        """The columns of the table that tell its series apart; () for a wide one."""
        return self.keys or (() if self.id is None else (self.id,))


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


def understand(
    table: Table,
    *,
    id_col: str | None = None,
    time_col: str | None = None,
    target: Sequence[str] = (),
    variates: Sequence[str] = (),
    freq: str | None = None,
    dates: str | None = None,
    known: Sequence[str] = (),
    resample: str | None = None,
    missing_codes: Sequence[float] = (),
    ignored: Sequence[str] = (),
    max_repaired: float = 0.5,
) -> Schema:
    """The schema of a table, from what is named and otherwise from column names and contents.

    `target` columns are forecast; `variates`, if given, are the only further values used. Without either,
    every number column is a value, and all are forecast unless one is called y, target or value. `known` are
    covariates whose future is known; they are no values. `time_col` may name several columns, "Date,Time"; without it
    a date and a time of day in two columns, or times spread over columns, are found. `resample` is the step whose means
    replace the values. `id_col` may name several columns, "Region,State"; without it the fewest that tell the series
    apart are found. `ignored` columns are none of all this. `missing_codes` are numbers that stand for a missing value.
    Columns left out, and constant ones, are noted in the table's ledger. Raises UsageError for an unknown name or
    frequency, DataError for ambiguous times and numbers, text in a number column, no value at all, targets that never
    change, and irregular times.
    """
    given_ids = _given_ids(table, id_col)
    shape = find_shape(table, time_col, {*target, *variates, *known, *ignored, *given_ids}, dates)
    rules = Rules(dates)
    if shape is not None:
        table, rules = reshape(table, shape, {*ALL_ID_NAMES, *(name.lower() for name in given_ids)})
        time_col, dates = shape.time, rules.dates
    for name in (*given_ids, time_col, *target, *variates, *known):
        if name is not None and name not in table.schema:
            raise UsageError(f'{table.origin}: there is no column "{name}".', _nearest(name, table))
    if time_col in given_ids:
        raise UsageError(f'{table.origin}: "{time_col}" cannot be both id and time.', "Name two columns.")
    head = table.collect(pl.col([c for c, t in table.schema.items() if not t.is_nested()]).head(HEAD))
    named: set[str | None] = {*target, *variates, *known, *ignored, *given_ids}
    time = time_col or _find_time(table, head, named)
    if not (named - {None}) and time_col is None and shape is None:
        require_series(table, head, time, ALL_ID_NAMES)
    taken = {*target, *variates, *known, *ignored, time}
    ids = given_ids or _find_id(table, head, time, taken)
    _check_known(table, known, {*ids, time, *target, *variates})
    if time is None:
        table.ledger.caution("irregular", "", "no time column: the rows are the steps", table.rows)
    wanted = resample or freq
    given = parse(wanted) if wanted is not None else None
    steps = given is not None and given.unit == "step"
    if len(ids) == 1 and time is not None and not given_ids:
        repeated = int((~axis_of(table, ids[0], time, dates, steps=steps).fresh).sum())
        if repeated > NEARLY * table.rows:
            ids = find_keys(table, time, *_key_candidates(table, head, taken)) or ids
    keys = ids if len(ids) > 1 else ()
    identity = joined_name(keys) if keys else ids[0] if ids else None
    again = _told_again(table, head, time, {*ids, *target, *variates, *known, *ignored})
    values, targets = _find_values(table, head, {time, *known, *ignored, *again}, ids, tuple(target), tuple(variates))
    axis = axis_of(joined(table, keys), identity, time, dates, steps=steps, resample=given if resample else None)
    if given is not None and axis.time_type.steps != (given.unit == "step"):
        kind = "counts steps" if axis.time_type.steps else "tells the time"
        raise UsageError(
            f'{table.origin}: the frequency "{freq}" does not fit a time axis that {kind}.',
            "Leave out --freq, or name the column of the times with --time-col.",
        )
    step = given or infer_step(table, axis)
    _note_constants(table, head, values, targets)
    return Schema(
        "wide" if identity is None else "long",
        identity,
        time,
        values,
        targets,
        step.alias,
        axis.time_type.rules.dates or dates,
        tuple(dict.fromkeys(known)),
        time_parts=shape.columns if shape else (),
        time_roles=shape.roles if shape else (),
        spread=shape.spread if shape else None,
        century=axis.time_type.century or rules.century,
        epoch=axis.time_type.epoch,
        resample=resample is not None,
        decimal=table.decimal,
        missing_codes=tuple(dict.fromkeys(float(code) for code in missing_codes)),
        max_repaired=max_repaired,
        keys=keys,
    )


def shaped(table: Table, schema: Schema) -> Table:
    """The table with the columns of time and id that a schema has, made from several where the fit made them so."""
    if schema.time_parts or schema.spread is not None:
        shape = Shape(schema.time or "", schema.time_parts, schema.time_roles, schema.spread, schema.rules)
        table = reshape(table, shape, {*ALL_ID_NAMES, *(name.lower() for name in schema.ids)})[0]
    return joined(table, schema.keys)


def _given_ids(table: Table, id_col: str | None) -> tuple[str, ...]:
    """The id columns that were named: one, or several as `a,b`."""
    if id_col is None:
        return ()
    if id_col in table.schema or "," not in id_col:
        return (id_col,)
    return tuple(dict.fromkeys(name.strip() for name in id_col.split(",")))


def _check_known(table: Table, known: Sequence[str], taken: set[str | None]) -> None:
    for name in known:
        if name in taken:
            raise UsageError(
                f'{table.origin}: "{name}" cannot be known in advance and be the id, the time or a value as well.',
                "Name covariates alone with --known-future.",
            )
        if not (_is_number(table.schema[name]) or table.schema[name] in (pl.Boolean, pl.String)):
            raise DataError(
                f'{table.origin}: "{name}" of type {table.schema[name]} holds no numbers.',
                "Write a covariate as numbers, for example 0 and 1.",
            )


def columns_present(table: Table, schema: Schema) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Of a table to forecast: the trained values it has (in their order), those it lacks, and new ones.

    For a wide table a network whose variates may number differently takes `found + new`: replace `values` of
    the schema by them before `frame_series`. New columns come last, so they are never among the targets of a
    model that forecasts only some. Raises DataError where the id or time column, or a target of such a model,
    or every value, or any value of a long table is missing: nothing could be forecast without them.
    """
    table = shaped(table, schema)
    found = tuple(name for name in schema.values if name in table.schema)
    absent = tuple(name for name in schema.values if name not in table.schema)
    some = schema.targets < len(schema.values)
    needed = schema.values if schema.layout != "wide" else schema.values[: schema.targets] if some else ()
    require_columns(table, [c for c in (*schema.ids, schema.time, *schema.known) if c is not None] + list(needed))
    if not found:
        raise DataError(f"{table.origin}: none of the trained columns is there.", _nearest(schema.values[0], table))
    if schema.layout != "wide":
        return found, absent, ()
    trained = {*schema.values, *schema.ids, schema.time, *schema.known}
    new = tuple(n for n, t in table.schema.items() if n not in trained and _is_number(t))
    return found, absent, new


def require_share(table: Table, limit: float, repaired: int, whole: int, what: str, advice: str) -> None:
    """Raise DataError where a repair would touch `repaired` of `whole` rows or values, a larger share than `limit`.

    `what` says what is wrong, `advice` what else to do than to allow it.
    """
    share = repaired / whole if whole else 0.0
    if share <= limit:
        return
    enough = min(0.99, np.ceil(share * 100) / 100)
    raise DataError(
        f"{table.origin}: {what}; that is {share:.0%}, and at most {limit:.0%} are repaired.",
        f"{advice} To have it repaired all the same: --set data.max_repaired={enough:g}",
    )


def require_columns(table: Table, names: Sequence[str]) -> None:
    """Raise DataError naming the columns that are not in the table."""
    absent = [name for name in names if name not in table.schema]
    if absent:
        listed = ", ".join(f'"{name}"' for name in absent[:5]) + (" …" if len(absent) > 5 else "")
        raise DataError(f"{table.origin}: the table has no column {listed}.", _nearest(absent[0], table))


def axis_of(
    table: Table,
    identity: str | None,
    time: str | None,
    dates: str | None,
    *,
    steps: bool,
    rules: Rules | None = None,
    resample: Frequency | None = None,
) -> Axis:
    """Ids, times and order of the rows, worked out once. Raises DataError for missing ids and bad times.

    `rules` say more than `dates` of how times are read; `resample` moves each time to the start of its step.
    """
    rules = rules or Rules(dates)
    key = ("axis", identity, time, rules, steps, resample)
    if key not in table.cache:
        table.cache[key] = _axis(table, identity, time, rules, steps, resample)
    axis: Axis = table.cache[key]
    return axis


def axis_for(table: Table, schema: Schema) -> Axis:
    """The axis of a table that is `shaped`, as a schema says it is read."""
    frequency = parse(schema.freq)
    return axis_of(
        table,
        schema.id,
        schema.time,
        schema.dates,
        steps=frequency.unit == "step",
        rules=schema.rules,
        resample=frequency if schema.resample else None,
    )


def share_on_step(table: Table, schema: Schema) -> float:
    """The share of rows that follow the one before, of the same series, by exactly one step."""
    axis = axis_for(shaped(table, schema), schema)
    (times, codes), bounds, frequency = axis.distinct(), axis.offsets(), parse(schema.freq)
    steps = np.diff(positions(times, times[bounds[:-1]][codes], frequency, axis.time_type.zone))
    same = codes[1:] == codes[:-1]
    return float((steps[same] == 1).mean()) if same.any() else 1.0


def infer_step(table: Table, axis: Axis) -> Frequency:
    """The step of an axis, from all rows."""
    return infer(*_told_short(axis.distinct()[0], axis.offsets(), axis.time_type), axis.time_type, table.origin)[0]


def _told_short(times: np.ndarray, offsets: np.ndarray, time_type: TimeType) -> tuple[np.ndarray, np.ndarray]:
    """Times and offsets of which the same step is inferred: two rows a series where every step of all is the same.

    Else they are given back as they are. Looked at in parts, as the steps of 20 million rows at once cost more than all
    the rest. Months are no steps of one length, and clocks of a zone change: these are inferred from all rows.
    """
    if len(times) < PART or time_type.zone is not None:
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
        times, time_type = np.where(moved, times + 24 * 3_600_000_000, times), replace(time_type, midnight="before")
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
    if time_type.century is None and time_type.epoch is None and time_type.midnight is None:
        return
    years = [str(np.datetime64(int(time), "us").astype("M8[Y]")) for time in (times.min(), times.max())]
    if time_type.century is not None:
        table.ledger.caution("time-reading", column.name, "two-digit years: {} to {}".format(*years), table.rows)
    if time_type.epoch is not None:
        text = f"{EPOCH_NAMES[time_type.epoch]} since 1970: years {{}} to {{}}".format(*years)
        table.ledger.caution("time-reading", column.name, text, table.rows)
    if time_type.midnight == "24:00":
        late = column.cast(pl.String).str.contains(MIDNIGHT)
        row = int(late.arg_max() or 0)
        detail = "24:00 is 00:00 of the next day"
        table.ledger.repair("dates-joined", int(late.sum()), f"{table.line(row)}, {column[row]}", detail)


def _told_again(table: Table, head: pl.DataFrame, time: str | None, asked: set[str | None]) -> list[str]:
    """Columns of numbers that only tell a part of the time again; noted as left out."""
    free = [name for name in head.columns if name not in asked]
    if time is None or not any(head[name].dtype.is_integer() for name in free):
        return []
    try:
        moments, time_type = parse_times(head[time], table.where)
    except DataError:
        return []  # told of later, with the whole column at hand
    again = [] if time_type.steps else restated(head.select(free), time, moments)
    for name in again:
        table.ledger.repair("column-dropped", 1, name, "a part of the time, told again")
    return again


def _nearest(name: str, table: Table) -> str:
    near = get_close_matches(name, table.schema, n=1, cutoff=0.4)
    if near:
        return f'Did you mean "{near[0]}"?'
    listed = ", ".join(list(table.schema)[:8]) + (", …" if len(table.schema) > 8 else "")
    return f"The columns are: {listed}."


def _alias(name: str, aliases: tuple[str, ...]) -> int:
    """How preferred a column's name is among aliases; their number where it is none."""
    plain = name.strip().lower().replace(" ", "_").replace("-", "_")
    return aliases.index(plain) if plain in aliases else len(aliases)


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric()


def _find_time(table: Table, head: pl.DataFrame, taken: set[str | None]) -> str | None:
    none = len(TIME_NAMES)
    free = [c for c in head.get_columns() if c.name not in taken]
    dated = [(-c.n_unique(), _alias(c.name, TIME_NAMES), c.name) for c in free if looks_like_times(c)]
    if dated:
        dated.sort()
        if len(dated) > 1 and dated[0][:2] == dated[1][:2] and dated[0][1] == none:
            raise DataError(
                f'{table.origin}: both "{dated[0][2]}" and "{dated[1][2]}" can be the time.',
                f'Name it: --time-col "{dated[0][2]}".',
            )
        return dated[0][2]
    aliased = sorted((_alias(c.name, TIME_NAMES), c.name) for c in free if _alias(c.name, TIME_NAMES) < none)
    for _, name in aliased:
        if table.schema[name] == pl.String:
            return name  # unreadable: the error that follows names the value
    has_id = any(_alias(c.name, ALL_ID_NAMES) < len(ALL_ID_NAMES) for c in free) or any(taken)
    for rank, name in aliased:
        sure = rank < CLEAR or has_id
        if table.schema[name].is_integer() and (sure or _distinct(table, name) == table.rows):
            return name
    return None


def _distinct(table: Table, *names: str) -> int:
    return int(table.collect(pl.struct(names).n_unique() if len(names) > 1 else pl.col(names[0]).n_unique()).item())


def _find_id(table: Table, head: pl.DataFrame, time: str | None, taken: set[str | None]) -> tuple[str, ...]:
    """The column that tells the series apart, or several that do so together; () for one series."""
    free = [c for c in head.columns if c not in taken and not table.schema[c].is_float()]
    sure = sorted((_alias(c, SURE_ID_NAMES), c) for c in free if _alias(c, SURE_ID_NAMES) < len(SURE_ID_NAMES))
    if sure:
        return (sure[0][1],)
    if time is None or (repeated := table.rows - _distinct(table, time)) == 0:
        return ()
    many = repeated >= MANY * table.rows
    candidates = []
    for name in free:
        rank, dtype = _alias(name, ID_NAMES), table.schema[name]
        label = _is_label(dtype) and many and not looks_like_times(head[name])
        if rank < len(ID_NAMES) or label:
            candidates.append((table.rows - _distinct(table, name, time), rank, name))
    best = min(candidates, default=None)
    if best is not None and best[0] <= NEARLY * table.rows and best[0] < repeated:
        return (best[2],)
    if many:
        if keys := find_keys(table, time, *_key_candidates(table, head, taken)):
            return keys
        several = ", ".join(f'"{name}"' for *_, name in candidates)
        raise DataError(
            f'{table.origin}: {repeated} of {table.rows} rows repeat a time of "{time}", '
            f"and no columns tell the series apart{f' ({several} do not)' if several else ''}.",
            "Name the id with --id-col, several columns as --id-col A,B.",
        )
    return ()


def _is_label(dtype: pl.DataType) -> bool:
    return dtype in (pl.String, pl.Categorical, pl.Enum)


def _key_candidates(
    table: Table, head: pl.DataFrame, taken: set[str | None]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Columns that may be part of an id, and those of them that are so by name or type."""
    columns, likely = [], []
    for name, dtype in table.schema.items():
        if (
            name in taken
            or _alias(name, TIME_NAMES) < len(TIME_NAMES)
            or _alias(name, TARGET_NAMES) < len(TARGET_NAMES)
        ):
            continue
        if (_is_label(dtype) and not looks_like_times(head[name])) or dtype.is_integer():
            columns.append(name)
            if _is_label(dtype) or _alias(name, ALL_ID_NAMES) < len(ALL_ID_NAMES):
                likely.append(name)
    return tuple(columns), tuple(likely)


def _find_values(
    table: Table,
    head: pl.DataFrame,
    taken: set[str | None],
    ids: tuple[str, ...],
    target: tuple[str, ...],
    variates: tuple[str, ...],
) -> tuple[tuple[str, ...], int]:
    """Value columns, targets first, and how many are targets."""
    taken = {*taken, *ids}
    asked = tuple(dict.fromkeys((*target, *variates)))
    if clash := [name for name in asked if name in taken]:
        raise UsageError(
            f'{table.origin}: "{clash[0]}" is the id or the time, it cannot be a value as well.',
            "Name the id with --id-col and the time with --time-col.",
        )
    found = list(asked)
    for name, dtype in table.schema.items():
        if (
            name in taken
            or (name in asked and (_is_number(dtype) or dtype == pl.Boolean))
            or (variates and name not in asked)
        ):
            continue
        if name in asked and dtype != pl.String:
            raise DataError(f'{table.origin}: "{name}" of type {dtype} holds no numbers.', "Name a number column.")
        reason = _not_a_value(table, head, name, dtype, name in asked)
        if reason is None and name not in asked:
            found.append(name)
        elif reason is not None:
            if reason == "text":
                reason = _use_of_text(table, name, ids)
            table.ledger.repair("column-dropped", 1, name, reason)
    if not found:
        raise DataError(f"{table.origin}: no column holds numbers.", "Name the values with --target.")
    if asked:
        return tuple(found), len(dict.fromkeys(target)) or len(found)
    aliased = [name for name in found if _alias(name, TARGET_NAMES) < len(TARGET_NAMES)]
    if len(aliased) == 1:
        found.sort(key=lambda name: name != aliased[0])
        return tuple(found), 1
    return tuple(found), len(found)


def _not_a_value(table: Table, head: pl.DataFrame, name: str, dtype: pl.DataType, asked: bool) -> str | None:
    """Why a column is left out, or None. Raises DataError for text in a column of numbers."""
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object, pl.Time, pl.Duration, pl.Null):
        return f"holds no numbers but {dtype}"
    if dtype.is_temporal():
        return "a further column of times"
    if dtype == pl.Boolean:
        return "truth values; to use it: --variates, or --known-future where its future is known"
    if head[name].null_count() == head.height and table.collect(pl.col(name).null_count()).item() == table.rows:
        return "holds no value"
    if _is_number(dtype):
        counts = name in ("", "0") or name.startswith("Unnamed") or _alias(name, COUNTERS) < len(COUNTERS)
        return "numbers the rows" if counts and dtype.is_integer() and _counts_rows(table, name) else None
    if not asked and looks_like_times(head[name]):
        return "a further column of times"
    text = table.collect(name).to_series().cast(pl.String)
    found = numbers_in(table, text, codes=asked)
    if found is not None and found.bad is None:
        for entry in parsed_entries([(name, found)], table.line):
            table.ledger.repair(*entry)
        if not (found.marks or found.dressed.any()):
            table.ledger.repair("numbers-parsed", 1, name, "text was read as numbers")
        return None
    if found is not None or asked:
        raise bad_cell(table, name, first_bad(found, text), text)
    missing = text.is_in(MISSING) | text.is_null()
    table.ledger.caution("text-column", name, quoted(text.filter(~missing).first())[1:-1], int((~missing).sum()))
    return "text"


def _use_of_text(table: Table, name: str, ids: tuple[str, ...]) -> str:
    """Why a text column is left out, and how it can be used."""
    if ids:
        last = pl.struct(ids) == pl.struct(ids).shift()
        moves = table.collect((last & (pl.col(name) != pl.col(name).shift())).any()).item()
        if not moves:  # in a block of rows of one id; an id may have several blocks
            pairs, series = (table.collect(pl.struct(names).n_unique()).item() for names in ((*ids, name), ids))
            if pairs == series:
                return "text, the same in all rows of a series: a static feature, to be given with --static FILE"
    few = table.collect(pl.col(name).n_unique()).item()
    if few <= CATEGORIES:
        return (
            f"text of {few} categories: to use them, write them as columns of 0 and 1 for --known-future or --variates"
        )
    return "text"


def _counts_rows(table: Table, name: str) -> bool:
    column = pl.col(name)
    span = table.collect((column.diff().drop_nulls() == 1).all() & column.first().is_in([0, 1]))
    return bool(span.item())


def numbers_in(table: Table, text: pl.Series, decimal: Decimal | None = None, *, codes: bool = False) -> Numbers | None:
    """Text as numbers if more than half of its values are; `codes`: digits with a leading zero are numbers as well.

    Raises DataError where "1,234" can have a decimal or a thousands mark and neither the column, nor `decimal`, nor
    the rest of the file decides.
    """
    usual: Decimal | None = "comma" if table.format.get("delimiter") == ";" else None
    found = numbers_of(text, decimal or table.decimal or usual, codes=codes)
    if found is None or found.decided or found.bad is not None:
        return found
    row = int(text.str.contains(",", literal=True).fill_null(False).arg_max() or 0)
    written = str(text[row]).strip()
    raise DataError(
        f'{table.where(row)}: {quoted(written)} in column "{text.name}" can be {written.replace(",", "")} or '
        f"{written.replace(',', '.')}, and nothing else in the file decides.",
        "Add --decimal point or --decimal comma.",
    )


def first_bad(found: Numbers | None, text: pl.Series) -> int:
    """The first row of a column that is no number, missing values aside."""
    if found is not None and found.bad is not None:
        return found.bad
    given = text.is_not_null() & ~text.str.strip_chars().is_in(MISSING)
    return int((given & text.cast(pl.Float64, strict=False).is_null()).arg_max() or 0)


def bad_cell(table: Table, name: str, row: int, text: pl.Series) -> DataError:
    """The error for a value that should be a number."""
    return DataError(
        f'{table.where(row)}: {quoted(text[row])} in column "{name}" is not a number.',
        "Correct the value or leave it empty; or name the columns to use with --target and --variates.",
    )


def _note_constants(table: Table, head: pl.DataFrame, values: tuple[str, ...], targets: int) -> None:
    """Note columns whose value never changes; raise DataError if that is so of every target."""
    still = [n for n in values if _is_number(table.schema[n]) and head[n].drop_nulls().n_unique() <= 1]
    if not still:
        return
    low, high = table.collect(pl.col(still).min()).row(0), table.collect(pl.col(still).max()).row(0)
    constant = {n: a for n, a, b in zip(still, low, high, strict=True) if a == b or (a is None and b is None)}
    for name, value in constant.items():
        table.ledger.caution("constant-column", name, str(value), table.rows)
    if all(name in constant for name in values[:targets]):
        name = values[0]
        raise DataError(
            f'{table.origin}: "{name}" is {constant[name]} in every row; a constant cannot be forecast.',
            "Name a column that changes with --target.",
        )
