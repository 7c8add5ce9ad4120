"""Times told in parts: a date and a time of day in two columns, or year, month, day and hour in a column each."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from ..errors import DataError, UsageError
from .calendar import SECOND
from .forms import MIDNIGHT, candidates, read_form
from .times import Rules, TimeType, parse_times, quoted
from .week import DAY, HOUR, MINUTE

ORDER = ("date", "year", "quarter", "month", "week", "yearday", "day", "clock", "hhmm", "hour", "minute", "second")
_NAMES: Mapping[str, tuple[str, ...]] = {
    "year": ("year", "yr", "yyyy", "jahr", "annee", "ano", "anno", "jaar"),
    "quarter": ("quarter", "qtr", "q", "quartal"),
    "month": ("month", "mon", "mo", "mm", "mnth", "monat", "mois", "mes"),
    "week": ("week", "wk", "isoweek", "iso_week", "week_number", "weeknum", "woche"),
    "yearday": ("yearday", "doy", "day_of_year", "yday", "julian_day"),
    "day": ("day", "dd", "dom", "mday", "day_of_month", "tag"),
    "hour": ("hour", "hr", "hh", "hours", "time", "hour_ending", "he", "hour_of_day", "hod", "stunde", "heure", "hora"),
    "minute": ("minute", "min", "minutes", "mi"),
    "second": ("second", "sec", "seconds"),
}
_RANGES = {"year": (1500, 2200), "quarter": (1, 4), "month": (1, 12), "week": (1, 53), "yearday": (1, 366)}
_RANGES |= {"day": (1, 31), "hour": (0, 24), "minute": (0, 59), "second": (0, 59)}
_DATE_NAMES = ("date", "ds", "day", "datum", "yyyymmdd", "fecha", "data")
_NUMBERED = {"hhmm", *_DATE_NAMES, *(name for names in _NAMES.values() for name in names)}
_CLOCK = r"^\s*([01]?\d|2[0-4])(?:[:.h][0-5]\d(?:[:.][0-5]\d(?:[.,]\d+)?)?|[0-5]\d)(?: ?[AaPp][Mm])?\s*$"
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
LONG_MONTHS: tuple[str, ...] = ("january", "february", "march", "april", "may", "june", "july", "august", "september")
LONG_MONTHS += ("october", "november", "december")
_STATISTICS = ("max", "mean", "avg", "maximum", "average", "med", "median", "std")  # beside them "min" is no minute


@dataclass(frozen=True)
class Joined:
    """The times of rows that tell them in parts, and how they were read."""

    times: pl.Series  # Date, or Datetime where a part tells the time of day
    dates: TimeType | None  # of the date, where one is written out
    late: int  # rows whose hour 24 is 00:00 of the next day


def plain(name: str) -> str:
    """A column's name in lower case, words joined by underscores."""
    return re.sub(r"[\s\-.]+", "_", name.strip().lower())


def role_of(column: pl.Series) -> str | None:
    """Which part of a time a column tells, by its name and content; None where it tells none."""
    name, seen = plain(column.name), column.drop_nulls()
    if len(seen) == 0:
        return None
    if column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime):
        whole = column.dtype == pl.Date or bool((seen.dt.cast_time_unit("us").to_physical() % DAY == 0).all())
        return "date" if whole and getattr(column.dtype, "time_zone", None) is None else None
    if column.dtype == pl.Time:
        return "clock"
    if column.dtype.is_numeric():
        return _number_role(name, seen)
    if column.dtype not in (pl.String, pl.Categorical, pl.Enum):
        return None
    text = seen.cast(pl.String)
    if float(text.str.contains(_CLOCK).mean()) >= 0.9:  # type: ignore[arg-type]
        # "0012" is a time of day only where the column says so: it may as well be a code.
        marked = bool(text.str.contains(r"[:.hHmM]").any())
        return "clock" if marked or name in (*_NAMES["hour"], "hhmm", "clock") else None
    for role, read in (("month", months_of), ("quarter", quarters_of)):
        if name in _NAMES[role] and read(text).null_count() == 0:
            return role
    return "date" if _are_dates(text) else None


def _number_role(name: str, seen: pl.Series) -> str | None:
    if name not in _NUMBERED:
        return None
    whole = seen.cast(pl.Int64, strict=False)
    if whole.null_count() or (whole.cast(pl.Float64) != seen.cast(pl.Float64)).any():
        return None
    low, high = int(whole.min()), int(whole.max())  # type: ignore[arg-type]
    for role, names in _NAMES.items():
        # A few values that no such part can have are told of with their row, once the parts are joined.
        if name in names and float(whole.is_between(*_RANGES[role]).mean()) >= 0.95:  # type: ignore[arg-type]
            return role
    if name in (*_NAMES["hour"], "hhmm") and low >= 0 and 100 <= high <= 2400 and bool((whole % 100 < 60).all()):
        return "hhmm"
    if name in _DATE_NAMES and low >= 15000101 and high <= 22001231:
        return "date" if read_form(whole.cast(pl.String), "%Y%m%d")[0].null_count() == 0 else None
    return None


def _are_dates(text: pl.Series) -> bool:
    """Whether text reads as dates, without a time of day but perhaps midnight."""
    sample = text.gather_every(max(1, len(text) // 64))
    best = candidates(sample)
    if not best or best[0][1] > 0.1 * len(sample) or best[0][0].endswith(("z", "Z", "UTC", "GMT")):
        return False
    form = best[0][0]
    if "%d" not in form and "%u" not in form:
        return False
    return not ("%H" in form or "%I" in form) or bool((read_form(text, form)[0].to_physical() % DAY == 0).all())


def months_of(text: pl.Series) -> pl.Series:
    """Numbers of months written as names, whole or by their first three letters, or as digits; null for others."""
    names = text.str.to_lowercase().str.strip_chars(" .").replace({"sept": "sep"})
    numbers = {month: i + 1 for i, month in enumerate(MONTHS)} | {month: i + 1 for i, month in enumerate(LONG_MONTHS)}
    numbers |= {str(i): i for i in range(1, 13)} | {f"{i:02d}": i for i in range(1, 13)}
    return names.replace_strict(numbers, default=None, return_dtype=pl.Int64)


def quarters_of(text: pl.Series) -> pl.Series:
    """Numbers of quarters written as Q1, 1Q or Qtr 1; null for others."""
    return text.str.extract(r"(?i)^\s*(?:q|qtr|quarter)?[ _.]*([1-4])q?\s*$").cast(pl.Int64)


def find_parts(head: pl.DataFrame, named: tuple[str, ...], taken: set[str | None]) -> dict[str, str] | None:
    """Which column tells which part of the time (role: column), in order; None where one column tells it all.

    `head` shows what the columns hold. `named` columns are the parts, whatever else could be; raises UsageError for
    one that tells none, or parts that make no time. `taken` columns are something else.
    """
    if named:
        return _named_parts(head, named)
    free = [column for column in head.get_columns() if column.name not in taken and not column.dtype.is_nested()]
    roles: dict[str, list[pl.Series]] = {}
    for column in free:
        if role := role_of(column):
            roles.setdefault(role, []).append(column)
        elif column.dtype in (pl.Date, pl.Datetime) or _tells_it_all(column):
            return None
    if {plain(column.name) for column in free} & set(_STATISTICS):
        roles["minute"] = [column for column in roles.get("minute", []) if plain(column.name) != "min"]
    first = {role: columns[0] for role, columns in roles.items() if columns}
    if "date" in first:
        first["date"] = max(roles["date"], key=lambda column: column.n_unique())
        chosen = ["date", *_time_of_day(first)]
        if len(chosen) == 1 or not _belongs(head, [first[role].name for role in chosen], free):
            return None
    elif "year" in first:
        finer = next((role for role in ("month", "quarter", "week", "yearday") if role in first), None)
        if finer is None:
            return None
        chosen = ["year", finer] + (["day"] if finer == "month" and "day" in first else [])
        if all(first[role].n_unique() == 1 for role in chosen[1:]):
            return None
        if chosen[-1] in ("day", "yearday"):
            chosen += _time_of_day(first)
    else:
        return None
    return {role: first[role].name for role in ORDER if role in chosen}


def _named_parts(head: pl.DataFrame, named: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in named:
        role = role_of(head[name])
        if role is None or role in found:
            what = "tells no part of a time" if role is None else f'tells the {role}, as "{found[role]}" does'
            raise UsageError(f'Column "{name}" {what}.', "Name columns such as --time-col Date,Time or year,month,day.")
        found[role] = name
    roles = set(found)
    if not (
        "date" in roles or {"year", "month"} <= roles or (roles & {"quarter", "week", "yearday"} and "year" in roles)
    ):
        raise UsageError(
            f"Columns {', '.join(map(quoted, named))} tell no date together.",
            "Name a date and a time of day, or a year and its months, weeks or quarters.",
        )
    return {role: found[role] for role in ORDER if role in found}


def _tells_it_all(column: pl.Series) -> bool:
    """Whether a text column has dates with a time of day, or months and the like without one."""
    if column.dtype not in (pl.String, pl.Categorical, pl.Enum):
        return False
    text = column.drop_nulls().cast(pl.String)
    sample = text.gather_every(max(1, len(text) // 64))
    return any(unread <= 0.1 * len(sample) for _, unread in candidates(sample))


def _time_of_day(first: Mapping[str, pl.Series]) -> list[str]:
    if clock := next((role for role in ("clock", "hhmm") if role in first), None):
        return [clock]
    chosen = []
    for role in ("hour", "minute", "second"):
        if role not in first:
            break
        chosen.append(role)
    return chosen


def _belongs(head: pl.DataFrame, names: list[str], free: list[pl.Series]) -> bool:
    """Whether dates repeat for want of the time of day, or all have the same one.

    In a table of several series dates repeat anyway: there every day has most of the times of day that there are.
    """
    dates, times, both = (head.select(pl.struct(part).n_unique()).item() for part in (names[:1], names[1:], names))
    labels = [c for c in free if c.name not in names and c.dtype in (pl.String, pl.Categorical, pl.Enum)]
    if both == dates:
        return times == 1 and not labels
    return (both == head.height and not labels) or 2 * both >= dates * times


def join_parts(columns: pl.DataFrame, parts: Mapping[str, str], where: Callable[[int], str], rules: Rules) -> Joined:
    """The times that the columns tell together. Raises DataError naming the row where they make no time."""
    for name in parts.values():
        if columns[name].null_count():
            row = int(columns[name].is_null().arg_max() or 0)
            raise DataError(
                f'{where(row)}: "{name}", a part of the time, is missing.', "Fill it in, or remove the row."
            )
    time_type = None
    if "date" in parts:
        times, time_type = parse_times(columns[parts["date"]], where, rules=rules)
        moments = pl.Series(times, dtype=pl.Int64)
    else:
        moments = _calendar_days(columns, parts, where)
    late = 0
    for role, size in (("hour", HOUR), ("minute", MINUTE), ("second", SECOND)):
        if role in parts:
            count = _whole(columns[parts[role]], role, where)
            late += int((count == 24).sum()) if role == "hour" else 0
            moments = moments + count * size
    if "hhmm" in parts:
        count = columns[parts["hhmm"]].cast(pl.Int64)
        late = int((count == 2400).sum())
        moments = moments + count // 100 * HOUR + count % 100 * MINUTE
    if "clock" in parts:
        clock, late = _clock_times(columns[parts["clock"]], where)
        moments = moments + clock
    fine = {"clock", "hhmm", "hour"} & set(parts)
    whole = moments.cast(pl.Datetime("us"))
    return Joined(whole if fine else whole.cast(pl.Date), time_type, late)


def _whole(column: pl.Series, role: str, where: Callable[[int], str]) -> pl.Series:
    """The numbers of one part. Raises DataError for one that it cannot have."""
    if column.dtype in (pl.String, pl.Categorical, pl.Enum):
        text = column.cast(pl.String)
        reader = {"month": months_of, "quarter": quarters_of}.get(role)
        count = reader(text) if reader else text.cast(pl.Int64, strict=False)
    else:
        count = column.cast(pl.Int64, strict=False)
    low, high = _RANGES[role]
    bad = count.is_null() | (count < low) | (count > high)
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise DataError(
            f'{where(row)}: {quoted(column[row])} in column "{column.name}" is no {role} from {low} to {high}.',
            "Correct the value, or name the columns of the time with --time-col.",
        )
    return count


def _calendar_days(columns: pl.DataFrame, parts: Mapping[str, str], where: Callable[[int], str]) -> pl.Series:
    years = _whole(columns[parts["year"]], "year", where).cast(pl.String).str.zfill(4)

    def digits(role: str, width: int = 2) -> pl.Series:
        return _whole(columns[parts[role]], role, where).cast(pl.String).str.zfill(width)

    if "month" in parts:
        day = digits("day") if "day" in parts else "01"
        text, form = years + "-" + digits("month") + "-" + day, "%Y-%m-%d"
    elif "quarter" in parts:
        text, form = years + " Q" + digits("quarter", 1), "%Y Q%q"
    elif "week" in parts:
        text, form = years + "-W" + digits("week"), "%G-W%V"
    else:
        text, form = years + "-01-01", "%Y-%m-%d"
    moments = read_form(text, form)[0]
    if moments.null_count():
        row = int(moments.is_null().arg_max() or 0)
        raise DataError(f"{where(row)}: there is no day {text[row]}.", "Correct the date, or remove the row.")
    if "yearday" not in parts:
        return moments.to_physical()
    return moments.to_physical() + (_whole(columns[parts["yearday"]], "yearday", where) - 1) * DAY


def _clock_times(column: pl.Series, where: Callable[[int], str]) -> tuple[pl.Series, int]:
    """Microseconds since midnight, and how many were written as 24:00."""
    if column.dtype == pl.Time:
        return column.cast(pl.Int64) // 1000, 0
    text = column.cast(pl.String).str.strip_chars().str.replace("h", ":", literal=True)
    day = pl.Series(column.name, "2000-01-01 " + text)
    try:
        times, _ = parse_times(day, where)
    except DataError as error:
        raise DataError(
            error.message.replace("2000-01-01 ", ""), "Write every time of day in one form: 18:00."
        ) from None
    late = int(day.str.contains(MIDNIGHT).sum())
    return pl.Series(times - np.datetime64("2000-01-01", "us").astype(np.int64), dtype=pl.Int64), late


def restated(head: pl.DataFrame, time: str, moments: np.ndarray) -> list[str]:
    """Columns that only tell a part of the time again, as the hour does, perhaps that of another zone."""
    clock = pl.Series(moments).cast(pl.Datetime("us")).dt
    tellers = {"year": (clock.year, 10_000), "quarter": (clock.quarter, 4), "month": (clock.month, 12)}
    tellers |= {"week": (clock.week, 53), "yearday": (clock.ordinal_day, 366), "day": (clock.day, 31)}
    tellers |= {"hour": (clock.hour, 24), "minute": (clock.minute, 60)}
    found = []
    for column in head.get_columns():
        role = role_of(column) if column.dtype.is_integer() and column.name != time else None
        if role not in tellers or column.null_count():
            continue
        tell, period = tellers[role]
        apart = (column.cast(pl.Int64) - tell().cast(pl.Int64)) % period
        # A zone with clock changes has two distances; a constant column tells nothing of a time that moves.
        if apart.n_unique() < min(3, column.n_unique()):
            found.append(column.name)
    return found
