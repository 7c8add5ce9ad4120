"""How a table is read as series: found by `understand`, stored with the model, applied again at prediction.

Everything found can be named instead. What stays ambiguous is refused; what is left out goes to the ledger.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from ..errors import DataError, UsageError
from .axis import Axis, axis_of, infer_step
from .calendar import parse, positions
from .columns import (
    ALL_ID_NAMES,
    HEAD,
    find_id,
    find_time,
    find_values,
    key_candidates,
    nearest,
    note_constants,
    require_columns,
    told_again,
)
from .keys import NEARLY, find_keys, joined, joined_name
from .kinds import require_series
from .numbers import Decimal
from .shape import Shape, find_shape, reshape
from .table import Table
from .times import Rules


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
    epoch: str | None = None  # what numbers count from when: seconds since 1970, days, decimal years
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
    if "edge_index" in table.schema:
        raise DataError(
            f"{table.origin}: each row holds a graph, and none a series.",
            "Use --model darts-gt, without what is of series, as --edges, --lookback and --horizon.",
        )
    given_ids = _given_ids(table, id_col)
    shape = find_shape(table, time_col, {*target, *variates, *known, *ignored, *given_ids}, dates)
    rules = Rules(dates)
    if shape is not None:
        table, rules = reshape(table, shape, {*ALL_ID_NAMES, *(name.lower() for name in given_ids)})
        time_col = shape.time
    for name in (*given_ids, time_col, *target, *variates, *known):
        if name is not None and name not in table.schema:
            raise UsageError(f'{table.origin}: there is no column "{name}".', nearest(name, table))
    if time_col in given_ids:
        raise UsageError(f'{table.origin}: "{time_col}" cannot be both id and time.', "Name two columns.")
    head = table.collect(pl.col([c for c, t in table.schema.items() if not t.is_nested()]).head(HEAD))
    named: set[str | None] = {*target, *variates, *known, *ignored, *given_ids}
    time = time_col or find_time(table, head, named)
    if not (named - {None}) and time_col is None and shape is None:
        require_series(table, head, time, ALL_ID_NAMES)
    taken = {*target, *variates, *known, *ignored, time}
    ids = given_ids or find_id(table, head, time, taken)
    _check_known(table, known, {*ids, time, *target, *variates})
    if time is None:
        table.ledger.caution("irregular", "", "no time column: the rows are the steps", table.rows)
    wanted = resample or freq
    given = parse(wanted) if wanted is not None else None
    steps = given is not None and given.unit == "step"
    if len(ids) == 1 and time is not None and not given_ids:
        repeated = int((~axis_of(table, ids[0], time, rules, steps=steps).fresh).sum())
        if repeated > NEARLY * table.rows:
            ids = find_keys(table, time, *key_candidates(table, head, taken)) or ids
    keys = ids if len(ids) > 1 else ()
    identity = joined_name(keys) if keys else ids[0] if ids else None
    again = told_again(table, head, time, {*ids, *target, *variates, *known, *ignored})
    values, targets = find_values(table, head, {time, *known, *ignored, *again}, ids, tuple(target), tuple(variates))
    axis = axis_of(joined(table, keys), identity, time, rules, steps=steps, resample=given if resample else None)
    if given is not None and axis.time_type.steps != (given.unit == "step"):
        kind = "counts steps" if axis.time_type.steps else "tells the time"
        raise UsageError(
            f'{table.origin}: the frequency "{freq}" does not fit a time axis that {kind}.',
            "Leave out --freq, or name the column of the times with --time-col.",
        )
    step = given or infer_step(table, axis)
    settled = rules.settled(axis.time_type.rules)
    note_constants(table, head, values, targets)
    return Schema(
        "wide" if identity is None else "long",
        identity,
        time,
        values,
        targets,
        step.alias,
        settled.dates,
        tuple(dict.fromkeys(known)),
        time_parts=shape.columns if shape else (),
        time_roles=shape.roles if shape else (),
        spread=shape.spread if shape else None,
        century=settled.century,
        epoch=settled.epoch,
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
        if not (table.schema[name].is_numeric() or table.schema[name] in (pl.Boolean, pl.String)):
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
        raise DataError(f"{table.origin}: none of the trained columns is there.", nearest(schema.values[0], table))
    if schema.layout != "wide":
        return found, absent, ()
    trained = {*schema.values, *schema.ids, schema.time, *schema.known}
    new = tuple(n for n, t in table.schema.items() if n not in trained and t.is_numeric())
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


def axis_for(table: Table, schema: Schema) -> Axis:
    """The axis of a table that is `shaped`, as a schema says it is read."""
    frequency = parse(schema.freq)
    return axis_of(
        table,
        schema.id,
        schema.time,
        schema.rules,
        steps=frequency.unit == "step",
        resample=frequency if schema.resample else None,
    )


def share_on_step(table: Table, schema: Schema) -> float:
    """The share of rows that follow the one before, of the same series, by exactly one step."""
    axis = axis_for(shaped(table, schema), schema)
    (times, codes), bounds, frequency = axis.distinct(), axis.offsets(), parse(schema.freq)
    steps = np.diff(positions(times, times[bounds[:-1]][codes], frequency, axis.time_type.zone))
    same = codes[1:] == codes[:-1]
    return float((steps[same] == 1).mean()) if same.any() else 1.0
