"""Covariates beside the series: rows of the future that are given with the past, and features that never change."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from ..errors import DataError
from .calendar import times_at
from .columns import require_columns
from .frame import SeriesFrame, rows_before
from .keys import joined
from .numbers import MISSING
from .schema import Schema, axis_for, shaped
from .table import Table
from .times import quoted, spoken

_CATEGORIES = 50  # of one text column of static features; more are no categories but names


@dataclass(frozen=True)
class Feature:
    """One static feature: a number column, or one value of a text column (1 where it holds, else 0)."""

    column: str
    category: str | None
    mean: float
    std: float


# Known future


def with_future(past: Table, future: Table, schema: Schema) -> Table:
    """Give the past with the rows of `future` behind it, in which nothing but ids, times and known covariates counts.

    Raises DataError where `future` lacks one of these columns or holds them in another type.
    """
    past, future = shaped(past, schema), shaped(future, schema)
    columns = (*schema.ids, schema.id, schema.time, *schema.known)
    names = [name for name in dict.fromkeys(columns) if name is not None]
    require_columns(future, names)
    require_columns(past, names)
    rows = future.collect(*names)
    for name in names:
        kind = past.schema[name]
        if rows.schema[name] == kind or (kind.is_numeric() and rows.schema[name].is_numeric()):
            rows = rows.with_columns(pl.col(name).cast(kind))
            continue
        raise DataError(
            f'{future.origin}: column "{name}" holds {rows.schema[name]}, in {past.origin} it holds {kind}.',
            "Write the future rows as the past ones are written.",
        )
    # Read once alone, so that a time that is wrong is told of this table.
    axis_for(future, schema)
    together = pl.concat([past.data, rows.lazy()], how="diagonal")
    return replace(past, data=together, rows=past.rows + future.rows, behind=future, cache={})


def history_ends(frame: SeriesFrame) -> np.ndarray:
    """Where the history of each series ends, (S,) buffer rows: behind the last row with a seen target.

    Without known covariates every row is history, and so it is where no target of a series was seen.
    """
    ends = frame.offsets[1:].copy()
    if not frame.schema.known:
        return ends
    seen = np.isfinite(frame.values[:, : frame.schema.targets]).any(axis=1)
    last = np.maximum.reduceat(np.where(seen, np.arange(len(seen)) + 1, 0), frame.offsets[:-1])
    return np.where(last > 0, last, ends)


def only_history(frame: SeriesFrame) -> SeriesFrame:
    """Give the frame without the rows behind its history; they are of no use to a fit."""
    ends = history_ends(frame)
    if (ends == frame.offsets[1:]).all():
        return frame
    kept = rows_before(frame.offsets, ends)
    lengths = ends - frame.offsets[:-1]
    return replace(
        frame,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        values=frame.values[kept],
        known=frame.known[kept],
    )


def require_known(frame: SeriesFrame, ends: np.ndarray, horizon: int, origin: str) -> None:
    """Raise DataError naming ids and times where a known covariate is missing in the `horizon` rows after `ends`."""
    if not frame.schema.known:
        return
    after = ends[:, None] + np.arange(horizon)  # (S, H)
    there = after < frame.offsets[1:, None]
    missing = np.ones((*after.shape, len(frame.schema.known)), bool)
    missing[there] = np.isnan(frame.known[after[there]])
    if not missing.any():
        return
    series, step, column = (index[:3] for index in np.nonzero(missing))
    steps = after[series, step] - frame.offsets[series]
    times = times_at(frame.start[series], steps, frame.frequency, frame.time_type.zone)
    some = []
    for number, (one, time) in enumerate(zip(series, times, strict=True)):
        place = f"{quoted(frame.keys[int(one)])}, " if frame.schema.id is not None else ""
        some.append(f'({place}{spoken(int(time), frame.time_type)}, "{frame.schema.known[int(column[number])]}")')
    count = int(missing.sum())
    raise DataError(
        f"{origin}: {count} {'value' if count == 1 else 'values'} of known-future columns are missing: "
        f"{', '.join(some)}{', …' if count > len(some) else ''}.",
        f"Give {horizon} rows after the last known value of each series, with {', '.join(frame.schema.known)}: "
        "--future FILE, or behind the past with an empty target.",
    )


# Static features


def read_static(table: Table, frame: SeriesFrame) -> tuple[np.ndarray, tuple[Feature, ...]]:
    """Encode the static features of the frame's series, or of its variates: (S, V or 1, C_S) float32, and how.

    Numbers are standardised over the series; a text column becomes one feature a value. Raises DataError where a
    series has no row or a number is missing.
    """
    rows, owner = _rows_of(table, frame)
    features: list[Feature] = []
    for name in rows.columns:
        column = rows[name]
        if column.dtype.is_numeric() or column.dtype == pl.Boolean:
            numbers = column.cast(pl.Float64).to_numpy()
            std = float(np.nanstd(numbers))
            features.append(Feature(name, None, float(np.nanmean(numbers)), std if std > 0 else 1.0))
            continue
        values = column.cast(pl.String).unique().drop_nulls().sort().to_list()
        if len(values) > _CATEGORIES:
            raise DataError(
                f'{table.origin}: column "{name}" has {len(values)} different texts; static features have at most '
                f"{_CATEGORIES}.",
                "Leave the column out, or write numbers or fewer categories.",
            )
        features += [Feature(name, value, 0.0, 1.0) for value in values if value not in MISSING]
    return _encoded(table, rows, owner, frame, features), tuple(features)


def encode_static(table: Table, frame: SeriesFrame, features: Sequence[Feature]) -> np.ndarray:
    """Encode as `read_static` did at the fit: (S, V or 1, C_S); a value not met there is none of the categories."""
    rows, owner = _rows_of(table, frame)
    require_columns(table, list(dict.fromkeys(feature.column for feature in features)))
    return _encoded(table, rows, owner, frame, features)


def owners(frame: SeriesFrame) -> list[str]:
    """Whose static features they are: the ids of a long table, else the variates."""
    return [str(name) for name in (frame.keys if frame.schema.layout == "channels" else frame.names)]


def _rows_of(table: Table, frame: SeriesFrame) -> tuple[pl.DataFrame, list[str]]:
    """One row of features for each owner, in order; the id is the schema's id column, or else the first."""
    keys = frame.schema.keys
    if keys and all(key in table.schema for key in keys):
        table = joined(table, keys)
    name = next(iter(table.schema))
    if frame.schema.id in table.schema:
        name = str(frame.schema.id)
    given = table.collect(*(column for column in table.schema if column not in keys))
    ids = given[name].cast(pl.String)
    if ids.is_duplicated().any():
        twice = ids.filter(ids.is_duplicated())[0]
        raise DataError(f"{table.origin}: {quoted(twice)} has more than one row.", "Give one row a series.")
    owner = owners(frame)
    wanted = pl.DataFrame({"": owner}, schema={"": pl.String})
    rows = wanted.join(given.with_columns(ids.alias("")), on="", how="left", maintain_order="left")
    absent = [one for one in owner if one not in set(ids)]
    if absent:
        raise DataError(
            f"{table.origin}: {quoted(absent[0])} has no row ({len(absent)} of {len(owner)} have none); "
            f'ids are taken from column "{name}".',
            "Give one row of static features for each series.",
        )
    return rows.drop("", name), owner


def _encoded(
    table: Table, rows: pl.DataFrame, owner: list[str], frame: SeriesFrame, features: Sequence[Feature]
) -> np.ndarray:
    columns = np.empty((len(owner), len(features)), np.float32)
    for number, feature in enumerate(features):
        column = rows[feature.column]
        if feature.category is not None:
            columns[:, number] = (column.cast(pl.String) == feature.category).fill_null(False).to_numpy()
            continue
        numbers = column.cast(pl.Float64, strict=False).to_numpy()
        if np.isnan(numbers).any():
            raise DataError(
                f'{table.origin}: "{feature.column}" of {quoted(owner[int(np.isnan(numbers).argmax())])} is no number.',
                "Fill the value in, or leave the column out.",
            )
        columns[:, number] = (numbers - feature.mean) / feature.std
    return columns[:, None] if frame.schema.layout == "channels" else columns[None]
