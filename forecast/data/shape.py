"""Tables whose times stand in several columns, given one column of times: found at the fit, repeated at prediction."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from ..errors import DataError, UsageError
from .parts import find_parts, join_parts
from .spread import find_spread, melt
from .table import Table
from .times import Rules

HEAD = 1000  # rows that show what a column holds
_TIME = ("ds", "timestamp", "datetime", "_time")
_VALUE = ("y", "value", "target", "_value")


@dataclass(frozen=True)
class Shape:
    """How the time is told: by `columns` in their `roles`, by the columns' names (`spread`), or both."""

    time: str  # the column of times that is made
    columns: tuple[str, ...] = ()  # that tell a part of it each
    roles: tuple[str, ...] = ()  # which part: "date", "clock", "year", "month", …
    spread: str | None = None  # what the names of columns tell: "time", "year", "quarter", "month", "hour", "clock"
    rules: Rules = field(default_factory=Rules)

    @property
    def parts(self) -> dict[str, str]:
        """The column of each role."""
        return dict(zip(self.roles, self.columns, strict=True))


def find_shape(table: Table, time_col: str | None, taken: set[str | None], dates: str | None) -> Shape | None:
    """How the time of a table is told if not by one column; None for all other tables.

    `time_col` may name several columns, "Date,Time". `taken` columns are something else. Raises UsageError for
    columns that are not there or tell no time together.
    """
    named = _named(table, time_col)
    head = _head(table)
    spread = None if named else find_spread(head, taken, dates)
    if spread is not None and time_col in (None, *spread.parts.values()):
        return _shape(table, spread.parts, spread.tells, dates)
    if time_col is not None and not named:
        return None
    parts = find_parts(head, named, taken)
    return None if parts is None else _shape(table, parts, None, dates)


def _shape(table: Table, parts: Mapping[str, str], spread: str | None, dates: str | None) -> Shape:
    time = _free_name(_TIME, [name for name in table.schema if name not in parts.values()])
    return Shape(time, tuple(parts.values()), tuple(parts), spread, Rules(dates))


def reshape(table: Table, shape: Shape, ids: Collection[str]) -> tuple[Table, Rules]:
    """The table with one column of times, made once; and how its dates were read.

    Columns in `ids` (names in lower case) stay beside text columns where the times are spread over columns; other
    numbers are left out. Enters `dates-joined` or `reshaped` in the ledger. A table that has the made column of times
    already, and not what it is made of, is given back as it is. Raises DataError where a column is missing, or the
    parts of a row make no time.
    """
    key = ("shape", shape)
    if key not in table.cache:
        found = _joined(table, shape) if shape.spread is None else _melted(table, shape, ids)
        table.cache[key] = table.cache["shape", replace(shape, rules=found[1])] = found
    made: tuple[Table, Rules] = table.cache[key]
    return made


def _joined(table: Table, shape: Shape) -> tuple[Table, Rules]:
    absent = [name for name in shape.columns if name not in table.schema]
    if absent and shape.time in table.schema and shape.time not in shape.columns:
        return table, shape.rules
    if absent:
        raise DataError(f'{table.origin}: the table has no column "{absent[0]}", a part of the time.', _LIKE_FIT)
    columns = table.collect(*shape.columns)
    joined = join_parts(columns, shape.parts, table.where, shape.rules)
    times = joined.times.alias(shape.time)
    names = _listed(list(shape.columns))
    detail = f"{names} became the time{'; hour 24 is 00:00 of the next day' if joined.late else ''}"
    table.ledger.repair("dates-joined", table.rows, f"{table.line(0)}, {times[0]}", detail)
    data = table.data.drop(shape.columns).with_columns(times)
    schema = {name: kind for name, kind in table.schema.items() if name not in shape.columns}
    made = replace(table, data=data, schema={**schema, shape.time: times.dtype}, cache={})
    return made, joined.dates.rules if joined.dates is not None else shape.rules


def _melted(table: Table, shape: Shape, ids: Collection[str]) -> tuple[Table, Rules]:
    head = _head(table)
    spread = find_spread(head, set(), shape.rules.dates, shape.spread)
    if spread is None:
        if shape.time in table.schema:
            return table, shape.rules
        raise DataError(f"{table.origin}: no columns are times by their names.", _LIKE_FIT)
    rest = [name for name in table.schema if name not in (*spread.columns, *spread.parts.values())]
    keep = [name for name in rest if not table.schema[name].is_numeric() or name.strip().lower() in ids]
    columns = table.collect(*table.schema)
    if not keep and not spread.parts and table.rows > 1:
        columns, keep = columns.with_columns(pl.Series("series", np.arange(table.rows))), ["series"]
    value = _free_name(_VALUE, keep)
    long, rows, rules = melt(columns, spread, tuple(keep), (shape.time, value), table.where, shape.rules)
    lines = table.lines if table.lines is not None else np.arange(table.rows) + table.first_line
    first, last = spread.columns[0], spread.columns[-1]
    detail = f'a row a time: columns "{first}" to "{last}" became "{shape.time}" and "{value}"'
    table.ledger.repair("reshaped", len(spread.columns), f'column "{first}"', detail)
    for name in (name for name in rest if name not in keep):
        table.ledger.repair("column-dropped", 1, name, "a number beside columns of times")
    made = replace(table, data=long.lazy(), schema=dict(long.schema), rows=long.height, lines=lines[rows], cache={})
    return made, rules


_LIKE_FIT = "Give the table in the form that the model was trained on, or with a column of times."


def _named(table: Table, time_col: str | None) -> tuple[str, ...]:
    """The columns that were named as parts of the time."""
    if time_col is None or time_col in table.schema or "," not in time_col:
        return ()
    named = tuple(dict.fromkeys(name.strip() for name in time_col.split(",")))
    absent = next((name for name in named if name not in table.schema), None)
    if absent is not None:
        raise UsageError(
            f'{table.origin}: there is no column "{absent}".', f"The columns are: {', '.join(list(table.schema)[:8])}."
        )
    return named


def _head(table: Table) -> pl.DataFrame:
    return table.collect(pl.col([c for c, t in table.schema.items() if not t.is_nested()]).head(HEAD))


def _free_name(names: tuple[str, ...], taken: Collection[str]) -> str:
    return next(name for name in names if name not in taken)


def _listed(names: list[str]) -> str:
    quoted = [f'"{name}"' for name in names]
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"
