"""Several columns that tell the series apart together: found by content, joined into one id, and given back."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ..errors import DataError, UsageError
from .table import Table
from .times import quoted

if TYPE_CHECKING:
    from .schema import Schema

BETWEEN = "/"  # of the parts of a joined id
NEARLY = 0.05  # share of rows that may repeat an id and time: such duplicates are merged
_SAMPLE = 100_000  # rows of whole times on which sets of columns are compared
_MOST, _CANDIDATES = 4, 8  # columns of one id; columns that are tried
_LEAST = 3  # mean rows of a series: a column that is new in every row is a value


def joined_name(keys: Sequence[str]) -> str:
    """The column that holds the joined id of `keys`."""
    return BETWEEN.join(keys)


def joined(table: Table, keys: Sequence[str]) -> Table:
    """The table with its keys joined into one further text column, `a/b`; as it is where there are no keys.

    A table that has the joined column instead of its parts is taken as it is. Raises DataError for a missing part,
    and where two different ids read the same once joined.
    """
    name, absent = joined_name(keys), [key for key in keys if key not in table.schema]
    if not keys or (absent and name in table.schema):
        return table
    if absent:
        raise DataError(
            f'{table.origin}: the table has no column "{absent[0]}", which is part of the id {name}.',
            f'Give the columns {", ".join(keys)}, or one column "{name}".',
        )
    if name in table.schema:
        if table.schema[name] == pl.String and table.collect((pl.col(name) == _text(keys)).all()).item():
            return table
        raise UsageError(
            f'{table.origin}: "{name}" would be the name of the joined id, and is a column already.',
            f'Name it: --id-col "{name}", or rename it.',
        )
    if ("joined", *keys) not in table.cache:
        _require_told_apart(table, keys)
        table.cache["joined", *keys] = True
    data = table.data.with_columns(_text(keys).alias(name))
    return replace(table, data=data, schema={**table.schema, name: pl.String()})


def _require_told_apart(table: Table, keys: Sequence[str]) -> None:
    parts = table.collect(*keys)
    for part in parts:
        if part.null_count():
            row = int(part.is_null().arg_max() or 0)
            raise DataError(
                f'{table.where(row)}: the id in column "{part.name}" is missing.',
                "Fill the id in, or remove the row.",
            )
    ids = parts.unique().select(_text(keys)).to_series()
    if ids.is_duplicated().any():
        raise DataError(
            f"{table.origin}: two different ids of {', '.join(keys)} are both "
            f"{quoted(ids.filter(ids.is_duplicated())[0])} once joined.",
            f'Write the columns without "{BETWEEN}", or join them yourself into one column.',
        )


def with_parts(forecast: pl.DataFrame, table: Table, schema: "Schema", owners: pl.Series) -> pl.DataFrame:
    """The forecast with the parts of its joined ids as last columns, in their types.

    `owners` are the joined ids in the order of the forecast's blocks of rows. A table that was given with ids that are
    joined already has no parts to give back; a part that has the name of a column of the forecast is called `NAME_key`.
    """
    if not schema.keys or schema.id is None or not all(key in table.schema for key in schema.keys):
        return forecast
    parts = joined(table, schema.keys).collect(pl.struct(schema.id, *schema.keys).unique().alias("")).unnest("")
    taken = {name: f"{name}_key" for name in schema.keys if name in forecast.columns}
    found = owners.to_frame("").join(parts, left_on="", right_on=schema.id, how="left", maintain_order="left")
    rows = np.repeat(np.arange(len(owners)), len(forecast) // max(1, len(owners)))
    return forecast.hstack(found.select(schema.keys).rename(taken)[rows])


def find_keys(table: Table, time: str, columns: Sequence[str], likely: Sequence[str]) -> tuple[str, ...]:
    """The fewest of `columns` that leave nearly no row with the id and time of another; () where none do.

    `likely` are those that are ids by their name or type; the others, whole numbers, count only where these do not
    do. Among sets of one size the fewest repeats win, then the fewest series.
    """
    tried = [*(name for name in columns if name in likely), *(name for name in columns if name not in likely)]
    tried = tried[:_CANDIDATES]
    sample = _coded(table, time, tried)
    for among in (tuple(name for name in tried if name in likely), tuple(tried)):
        if not among or _repeats(sample, [time, *among]) > NEARLY * sample.height:
            continue
        floor = _repeats(sample, [time, *among])
        for size in range(1, min(_MOST, len(among)) + 1):
            found = []
            for names in combinations(among, size):
                repeats = _repeats(sample, [time, *names])
                if repeats - floor > 0.001 * sample.height:
                    continue
                series = table.collect(pl.struct(names).n_unique()).item()
                if _LEAST * series <= table.rows:
                    found.append((repeats, series, names))
            if found:
                return min(found)[2]
    return ()


def _text(keys: Sequence[str]) -> pl.Expr:
    return pl.concat_str([pl.col(key).cast(pl.String) for key in keys], separator=BETWEEN)


def _coded(table: Table, time: str, names: Sequence[str]) -> pl.DataFrame:
    """Some rows, whole times only, so that repeats of an id and time are all there; every column as dense codes."""
    rows = table.data.select(time, *names)
    if table.rows > _SAMPLE:
        times = table.collect(pl.col(time).unique(maintain_order=True)).to_series()
        kept = times.gather_every(-(-table.rows // _SAMPLE)).implode()
        rows = rows.filter(pl.col(time).is_in(kept))
    codes = [pl.col(name).rank("dense").cast(pl.Int64).fill_null(0) for name in (time, *names)]
    return Table(rows, table.schema, 0, table.origin, "polars", {}, 0, table.ledger).collect(*codes)


def _repeats(codes: pl.DataFrame, names: Sequence[str]) -> int:
    """Rows whose values in `names` all stood in a row before."""
    return codes.height - codes.select(pl.struct(names).n_unique()).item()
