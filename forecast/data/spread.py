"""Times spread over columns: a column a year, month or hour, turned into one row a time."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from .forms import candidates
from .parts import LONG_MONTHS, MONTHS, join_parts, plain, role_of
from .times import Rules, looks_like_times, parse_times

FEWEST = 3  # columns that are times by their names
_YEAR = re.compile(r"(?:x|y|yr|year|fy)?[ _]?(\d{4})(?: \[yr\d{4}\])?")
_HOUR = re.compile(r"(?:h|hr|hour|he|hour_ending)_?0?(\d{1,2})")  # a bare number may be any column
_QUARTER = re.compile(r"(?:q|qtr|quarter)?_?([1-4])q?")
# What the columns tell: which part of the time their rows tell.
_COMPLEMENT: Mapping[str, tuple[str, ...]] = {"month": ("year",), "quarter": ("year",), "hour": ("date",)}
_COMPLEMENT = {**_COMPLEMENT, "clock": ("date",), "year": ("month", "quarter")}


@dataclass(frozen=True)
class Spread:
    """Columns that are times by their names: `tells` says which part of the time, "time" for all of it."""

    tells: str  # "time" | "year" | "quarter" | "month" | "hour" | "clock"
    columns: tuple[str, ...]
    labels: tuple[str, ...]  # what each name tells, as `join_parts` reads it
    parts: Mapping[str, str]  # role and column of what the rows tell


def find_spread(
    head: pl.DataFrame, taken: set[str | None], dates: str | None = None, tells: str | None = None
) -> Spread | None:
    """The columns of a table that are times by their names, or None. `tells` is what was found so at the fit.

    Raises DataError for names that are dates and can be read day first and month first, unless `dates` decides.
    """
    free = [column for column in head.get_columns() if column.name not in taken and not column.dtype.is_nested()]
    if tells is None and len(free) < FEWEST:
        return None
    found = _named(free)
    for kind, names in found.items():
        for column in free if tells in (None, kind) else ():
            if column.name not in names and (role := role_of(column)) in _COMPLEMENT[kind]:
                return Spread(kind, tuple(names), tuple(names.values()), {role: column.name})
    names = (found.get("year") or _times(free, dates)) if tells in (None, "time") else {}
    if names and (tells or not any(looks_like_times(column) for column in free if column.name not in names)):
        moments = parse_times(pl.Series(names.values()), str, dates)[0]
        ordered = list(names) if moments[0] < moments[-1] else list(reversed(names))
        return Spread("time", tuple(ordered), tuple(names[name] for name in ordered), {})
    return None


def _named(free: list[pl.Series]) -> dict[str, dict[str, str]]:
    """Columns by what their names tell: {kind: {column: label}}, for each kind that enough of them tell."""
    simple = {name: plain(name) for name in _numbered(free)}
    found: dict[str, dict[str, str]] = {}
    for spelt in (MONTHS, LONG_MONTHS, tuple(map(str, range(1, 13)))):
        months = {name: str(spelt.index(word) + 1) for name, word in simple.items() if word in spelt}
        if len(months) == 12:
            found["month"] = months
    quarters = {name: match[1] for name, word in simple.items() if (match := _QUARTER.fullmatch(word))}
    if sorted(quarters.values()) == ["1", "2", "3", "4"]:
        found["quarter"] = quarters
    hours = {name: match[1] for name, word in simple.items() if (match := _HOUR.fullmatch(word))}
    if sorted(map(int, hours.values())) in (list(range(24)), list(range(1, 25))):
        found["hour"] = hours
    clocks = {name: word for name, word in simple.items() if re.fullmatch(r"(?:[01]?\d|2[0-4]):[0-5]\d(?::00)?", word)}
    if len(clocks) >= 24:
        found["clock"] = clocks
    years = {name: match[1] for name in simple if (match := _YEAR.fullmatch(name.strip().lower()))}
    steps = np.diff([int(year) for year in years.values()])
    if len(years) >= FEWEST and (steps == steps[0]).mean() >= 0.9 and abs(int(steps[0])) in (1, 2, 5, 10):
        found["year"] = years
    return found


def _numbered(free: list[pl.Series]) -> list[str]:
    """Names of columns that can hold values."""
    return [c.name for c in free if c.dtype.is_numeric() or c.dtype in (pl.String, pl.Null)]


def _times(free: list[pl.Series], dates: str | None) -> dict[str, str]:
    """Names that are times of one form and in order, if there are enough of them."""
    shapes = {
        name: re.sub(r"[A-Za-z]+", "a", re.sub(r"\d+", "0", name.strip()))
        for name in _numbered(free)
        if re.search(r"\d.*[^\d]|[^\d].*\d", name)
    }
    usual = Counter(shapes.values()).most_common(1)
    told = [name for name, shape in shapes.items() if shape == usual[0][0]]
    if len(told) < FEWEST:
        return {}
    column = pl.Series("column names", [name.strip() for name in told], dtype=pl.String)
    if not any(unread == 0 for _, unread in candidates(column)):
        return {}
    apart = np.diff(parse_times(column, lambda row: f'column "{told[row]}"', dates)[0])
    return dict(zip(told, column, strict=True)) if (apart > 0).all() or (apart < 0).all() else {}


def melt(
    columns: pl.DataFrame,
    spread: Spread,
    keep: tuple[str, ...],
    names: tuple[str, str],
    where: Callable[[int], str],
    rules: Rules,
) -> tuple[pl.DataFrame, np.ndarray, Rules]:
    """One row for each row and time: `keep`, the time and the value, called `names`; and the row each came from.

    Times before the first and after the last value of all are left out. The rules say how dates were read.
    """
    count, width = columns.height, len(spread.columns)
    order = np.arange(count * width)
    if spread.tells == "year" and spread.parts:  # the columns move more slowly than the rows
        order = order.reshape(count, width).T.reshape(-1)
    rows, places = order // width, order % width
    given = columns.select(spread.columns)
    text = any(column.dtype == pl.String for column in given.get_columns())
    given = given.cast(pl.String if text else pl.Float64)
    value = given.select(pl.concat_list(pl.all()).alias(names[1])).to_series().explode().gather(order)
    labels = pl.Series(names[0], spread.labels)
    if spread.tells == "time":
        time = labels.cast(pl.Int64) if labels.str.contains(r"^\d{4}$").all() else labels
        time = time.gather(places)
        rules = parse_times(labels, lambda row: f'column "{spread.columns[row]}"', rules=rules)[1].rules
    else:
        told = columns.select(spread.parts.values()).select(pl.all().gather(rows))
        told = told.with_columns(labels.gather(places).alias("\0"))
        if spread.tells != "clock":
            told = told.with_columns(pl.col("\0").cast(pl.Int64))
        joined = join_parts(told, {**spread.parts, spread.tells: "\0"}, lambda row: where(int(rows[row])), rules)
        time = joined.times.alias(names[0])
        rules = joined.dates.rules if joined.dates is not None else rules
    beside = columns.select(keep).select(pl.all().gather(rows)).get_columns() if keep else []
    long = pl.DataFrame([*beside, time.alias(names[0]), value])
    seen = long[names[1]].is_not_null()
    if seen.any() and not seen.all():
        moments = pl.Series(parse_times(long[names[0]], lambda row: where(int(rows[row])), rules=rules)[0])
        low, high = moments.filter(seen).min(), moments.filter(seen).max()
        inside = moments.is_between(low, high)
        long, rows = long.filter(inside), rows[inside.to_numpy()]
    return long, rows, rules
