"""Times as users write them: read into microseconds (UTC) or integer steps, and given back alike."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from ..errors import DataError
from .forms import HIGHEST, LOWEST, TURNED, candidates, read_form, twin, written_form
from .months import in_english, in_words

Dates = Literal["day-first", "month-first"]

SAMPLE = 64  # values that choose the formats worth trying on the whole column
PIVOT = 30  # two-digit years from here on begin in the 1900s, as spreadsheets read them
# Digits that tell a time, the numbers they may be, and what completes them to a whole time.
_DIGITS = (
    ("%Y", 1500, 2200, "0101"),
    ("%Y%m", 150001, 220012, "01"),
    ("%Y%m%d", 15000101, 22001231, ""),
    ("%Y%m%d%H", 1900010100, 2100123123, "0000"),
    ("%Y%m%d%H%M", 190001010000, 210012312359, "00"),
    ("%Y%m%d%H%M%S", 19000101000000, 21001231235959, ""),
)
_DAY = 86_400_000_000  # microseconds
_EPOCHS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # units in a second
# What numbers count, as the ledger says it.
COUNTS = {"s": "seconds since 1970", "ms": "milliseconds since 1970", "us": "microseconds since 1970"}
COUNTS |= {"ns": "nanoseconds since 1970", "serial": "days since 1899-12-30, as spreadsheets store dates"}
COUNTS |= {"month": "decimal years, read as months", "day": "decimal years, read as days"}
_SERIAL = 25_569  # days from 1899-12-30 to 1970
_SERIALS = (20_000, 60_000)  # 1954 to 2064
_DATED = ("date", "datetime", "time", "timestamp", "ds", "datum", "fecha", "data")
_YEARLY = (*_DATED, "year", "yr", "years", "decimal", "decdate", "decyear")
_SINCE, _UNTIL = 315_532_800, 4_102_444_800  # 1980 and 2100: what counts from 1970 is told from other numbers
_EPOCH_WORDS = ("epoch", "unix", "posix", "timestamp", "time", "ts", "date", "ds")


@dataclass(frozen=True)
class Rules:
    """What a column of times may leave open, as it was found at the fit: applied again at prediction."""

    dates: str | None = None  # "day-first" | "month-first"
    century: int | None = None  # first of the hundred years that two-digit years are read in
    epoch: str | None = None  # what numbers count: one of `COUNTS`

    def settled(self, found: "Rules") -> "Rules":
        """These rules once a column was read and `found` says how: what it decided, else what was given."""
        return Rules(found.dates or self.dates, found.century or self.century, found.epoch)


@dataclass(frozen=True)
class TimeType:
    """How times were given, so that forecasts come back alike."""

    dtype: pl.DataType  # of the column as given
    format: str | None = None  # strftime pattern of a text column, or of integers such as 2004 or 20040131
    zone: str | None = None  # IANA zone of an aware column
    century: int | None = None  # first of the hundred years that two-digit years are read in
    epoch: str | None = None  # what numbers count: one of `COUNTS`
    midnight: str | None = None  # how the end of a day is written: "24:00", or as 00:00 of the same day, "before"
    case: str | None = None  # "upper" | "lower": names of months that are not written as in "Jan"
    months: tuple[str, ...] | None = None  # the twelve names where they are not English
    digits: int = 0  # behind the point of days and decimal years
    within: float = 0.0  # how far into its month or day a decimal year stands, in such

    @property
    def steps(self) -> bool:
        """Whether the axis counts steps instead of telling the time."""
        return self.dtype.is_numeric() and self.format is None and self.epoch is None

    @property
    def rules(self) -> Rules:
        """What the column left open and how it was read, also where the column itself decided."""
        form = (self.format or "").replace("-", "")
        first = "day-first" if form.startswith(("%d/%m", "%d%m")) else None
        first = "month-first" if form.startswith(("%m/%d", "%m%d")) else first
        return Rules(first, self.century, self.epoch)


def parse_times(
    column: pl.Series,
    where: Callable[[int], str],
    dates: str | None = None,
    *,
    steps: bool = False,
    rules: Rules | None = None,
) -> tuple[np.ndarray, TimeType]:
    """Times of a column, (R,) int64: microseconds UTC or integer steps; and how they were given.

    `where(row)` names a row in messages. `dates` is "day-first" or "month-first" for dates such as 03/04/2021
    that the column does not decide; `rules` are all that was found so at a fit. `steps` keeps integers such as 2004
    as steps instead of taking them for years. Two-digit years are read so that the column spans less than a century
    and begins in 1930 to 2029. Integers count from 1970 only where their size, and their step or the column's name,
    say so. Raises DataError for a missing, unreadable or ambiguous time, naming its row and value.
    """
    rules = rules or Rules(dates)
    if column.null_count():
        row = int(column.is_null().arg_max() or 0)
        raise DataError(
            f'{where(row)}: the time in column "{column.name}" is missing.',
            "Fill the time in, or remove the row.",
        )
    dtype = column.dtype
    if isinstance(dtype, pl.Datetime):
        zone = dtype.time_zone
        return _within(_microseconds(column), column.name, where), TimeType(dtype, zone=zone)
    if dtype == pl.Date:
        moments = column.cast(pl.Datetime("us"))
        return _within(_microseconds(moments), column.name, where), TimeType(dtype)
    if dtype.is_numeric():
        return _numbered(column, where, steps, rules)
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return _written(column.cast(pl.String), where, rules)
    raise DataError(
        f'Column "{column.name}" of type {dtype} holds no times.',
        "Name the column of the times with --time-col.",
    )


def looks_like_times(column: pl.Series) -> bool:
    """Whether a column's type, or most of a sample of its text, reads as times. Integers do not count."""
    if column.dtype in (pl.String, pl.Categorical, pl.Enum):
        sample = _sample(column.cast(pl.String).drop_nulls())
        return any(unread <= 0.1 * len(sample) for _, unread in candidates(sample))
    return column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime)


def restore(times: np.ndarray, time_type: TimeType, name: str = "ds") -> pl.Series:
    """The times, microseconds UTC or steps, as a column in the type, zone and text format they came in."""
    column = pl.Series(name, times, dtype=pl.Int64)
    if time_type.steps:
        return column.cast(time_type.dtype)
    if time_type.epoch in ("serial", "month", "day"):
        return _counted(column.cast(pl.Datetime("us")), time_type).alias(name).cast(time_type.dtype)
    if time_type.epoch is not None:
        units = _EPOCHS[time_type.epoch]
        column = column * (units // 10**6) if units > 10**6 else column // (10**6 // units)
        return column.cast(time_type.dtype)
    moments = column.cast(pl.Datetime("us"))
    if time_type.zone is not None:
        moments = moments.dt.replace_time_zone("UTC").dt.convert_time_zone(time_type.zone)
    ends = (moments.dt.hour() == 0) & (moments.dt.minute() == 0) & (moments.dt.second() == 0)
    if time_type.midnight is not None:
        moments = moments.zip_with(~ends, moments.dt.offset_by("-1d"))
    if time_type.format is None:
        return moments.cast(time_type.dtype)
    text = moments.dt.strftime(time_type.format)
    if time_type.midnight == "24:00":
        late = time_type.format.replace("%-H", "24").replace("%H", "24")
        text = text.zip_with(~ends, moments.dt.strftime(late))
    if time_type.months is not None:
        text = in_words(text, time_type.months)
    if time_type.case is not None:
        text = text.str.to_uppercase() if time_type.case == "upper" else text.str.to_lowercase()
    return text.cast(time_type.dtype)


def spoken(time: int, time_type: TimeType) -> str:
    """One time as it is said in messages, in the form it was given."""
    value = restore(np.array([time]), time_type)[0]
    return str(value).removesuffix(" 00:00:00")


def quoted(value: object) -> str:
    """A value as messages show it: on one line, in quotes, cut where it is long."""
    plain = " ".join(str(value).split())
    return f'"{plain[:57]}…"' if len(plain) > 58 else f'"{plain}"'


def _microseconds(moments: pl.Series) -> np.ndarray:
    return moments.dt.cast_time_unit("us").to_physical().to_numpy()


def _within(times: np.ndarray, name: str, where: Callable[[int], str]) -> np.ndarray:
    """The times. Raises DataError for one so far off that reckoning with it would overflow."""
    far = (times < LOWEST) | (times > HIGHEST)
    if far.any():
        row = int(far.argmax())
        raise DataError(
            f'{where(row)}: the time in column "{name}" is outside of the years 1000 to 9999.',
            "Correct the time, or name the column of the times with --time-col.",
        )
    return times


def _sample(column: pl.Series) -> pl.Series:
    return column.gather_every(max(1, len(column) // SAMPLE)) if len(column) > SAMPLE else column


def _numbered(column: pl.Series, where: Callable[[int], str], steps: bool, rules: Rules) -> tuple[np.ndarray, TimeType]:
    """An integer axis; years (1950), months (195001), days (19500131) and counts become times."""
    if not steps and len(column) and (dated := dated_numbers(column, rules)):
        return dated
    whole = column.cast(pl.Int64, strict=False)
    odd = (whole.is_null() | (whole.cast(pl.Float64) != column.cast(pl.Float64))).fill_null(True)
    if odd.any():
        row = int(odd.arg_max() or 0)
        raise DataError(
            f'{where(row)}: {column[row]} in column "{column.name}" is no time.',
            "Give dates, or whole numbers that count the steps.",
        )
    if not steps and len(whole) and (found := _told_by_digits(whole, column, rules)):
        return found
    return _within(whole.to_numpy(), column.name, where), TimeType(column.dtype)


def dated_numbers(column: pl.Series, rules: Rules) -> tuple[np.ndarray, TimeType] | None:
    """Dates as spreadsheets store them, days since 1899-12-30, or decimal years such as 2010.25; else None.

    The name of the column must tell of dates, unless the fit found it so. Decimal years are the months in which they
    are if they are at least a month apart, else days.
    """
    numbers = column.cast(pl.Float64).to_numpy()
    if rules.epoch not in (None, "serial", "month", "day") or not np.isfinite(numbers).all():
        return None
    low, high = numbers.min(), numbers.max()
    words = column.name.lower().replace("_", " ").replace("-", " ").split()
    digits = next((d for d in range(13) if (np.abs(numbers.round(d) - numbers) < 1e-12 * high).all()), 13)
    named = rules.epoch == "serial" or any(word in _DATED for word in words)
    if rules.epoch in (None, "serial") and named and _SERIALS[0] <= low and high <= _SERIALS[1]:
        seconds = np.round((numbers - _SERIAL) * 86_400).astype(np.int64)
        return seconds * 10**6, TimeType(column.dtype, epoch="serial", digits=digits)
    named = rules.epoch in ("month", "day") or any(word in _YEARLY for word in words)
    if rules.epoch == "serial" or not digits or not named or low < 1500 or high > 2200:
        return None
    apart = float(np.median(np.diff(np.unique(numbers)))) if low < high else 0.0
    unit = rules.epoch or ("month" if apart > 0.9 / 12 else "day")
    if unit == "day" and (digits < 3 or apart < 0.9 / 366):
        return None
    years = np.floor(numbers).astype(np.int64)
    starts = (years - 1970).astype("M8[Y]")
    sizes = (starts + 1).astype("M8[D]").astype(np.int64) - starts.astype("M8[D]").astype(np.int64)
    exact = (numbers - years) * (12 if unit == "month" else sizes)
    rounding = 10.0**-digits * (12 if unit == "month" else 366) / 2 + 1e-6  # "2010.083" is meant for a twelfth
    whole = np.floor(exact + rounding).astype(np.int64)
    times = starts.astype("M8[M]") + whole if unit == "month" else starts.astype("M8[D]") + whole
    within = max(0.0, float(np.median(exact - whole)))
    within = 0.0 if within <= rounding else within
    return times.astype("M8[us]").astype(np.int64), TimeType(column.dtype, epoch=unit, digits=digits, within=within)


def _counted(moments: pl.Series, time_type: TimeType) -> pl.Series:
    """Moments as the days or decimal years that `dated_numbers` reads."""
    if time_type.epoch == "serial":
        return (moments.to_physical() / _DAY + _SERIAL).round(time_type.digits)
    years = moments.dt.year().cast(pl.Float64)
    if time_type.epoch == "month":
        part = (moments.dt.month().cast(pl.Float64) - 1 + time_type.within) / 12
    else:
        sizes = 365 + moments.dt.is_leap_year().cast(pl.Float64)
        part = (moments.dt.ordinal_day().cast(pl.Float64) - 1 + time_type.within) / sizes
    return (years + part).round(time_type.digits)


def _told_by_digits(whole: pl.Series, column: pl.Series, rules: Rules) -> tuple[np.ndarray, TimeType] | None:
    """Integers as years (1950), months (195001), days (19500131) or finer, or as counts from 1970; else None."""
    low, high = int(whole.min()), int(whole.max())  # type: ignore[arg-type]
    for form, lowest, highest, rest in _DIGITS if rules.epoch is None else ():
        if lowest <= low and high <= highest:
            full = "%Y%m%d%H%M%S" if "%H" in form else "%Y%m%d"
            moments, _ = read_form(whole.cast(pl.String) + rest, full)
            if moments.null_count() == 0:
                return _microseconds(moments), TimeType(column.dtype, format=form)
    for unit, size in _EPOCHS.items():
        if rules.epoch not in (None, unit) or not _SINCE * size <= low <= high <= _UNTIL * size:
            continue
        words = column.name.lower().replace("_", " ").replace("-", " ").split()
        named = any(word.startswith(_EPOCH_WORDS[:4]) or word in _EPOCH_WORDS for word in words)
        apart = whole.unique().sort().diff().drop_nulls()
        paced = len(apart) > 0 and bool((apart % (60 if unit == "s" else size) == 0).all())
        if rules.epoch is not None or named or paced:
            times = whole * (10**6 // size) if size < 10**6 else whole // (size // 10**6)
            return times.to_numpy(), TimeType(column.dtype, epoch=unit)
    return None


def _written(text: pl.Series, where: Callable[[int], str], rules: Rules) -> tuple[np.ndarray, TimeType]:
    refused = frozenset({"day-first": TURNED.values(), "month-first": TURNED}.get(rules.dates or "", ()))
    sample = _sample(text)
    if (digits := text.head(1).str.contains(r"^\d{4,}$")).all() and len(digits):
        whole = text.cast(pl.Int64, strict=False)
        if whole.null_count() == 0 and (found := _told_by_digits(whole, text, rules)):
            return found
    fitting = candidates(sample, refused)
    readings: list[tuple[str, pl.Series, int]] = []
    nearest: pl.Series | None = None
    for form in (f for f, unread in fitting if unread == fitting[0][1]):
        if readings and form != twin(readings[0][0]):
            continue
        moments, late = read_form(text, form)
        if moments.null_count() == 0:
            readings.append((form, moments, late))
        elif nearest is None or moments.null_count() < nearest.null_count():
            nearest = moments
    if not readings:
        row = int(nearest.is_null().arg_max() or 0) if nearest is not None else 0
        raise DataError(
            f'{where(row)}: {quoted(text[row])} in column "{text.name}" is not a time that can be read.',
            "Write every time in one form, for example 2024-01-31 18:00.",
        )
    if len(readings) == 2 and (differ := readings[0][1] != readings[1][1]).any():
        row = int(differ.arg_max() or 0)
        one, two = (f"{m[row].day} {m[row]:%B}" for _, m, _ in readings)
        raise DataError(
            f"{where(row)}: {quoted(text[row])[1:-1]} can be {one} or {two}, and no other line decides.",
            "Add --dates day-first or --dates month-first.",
        )
    form, moments, late = readings[0]
    century = None
    if "%y" in form:
        century = rules.century or first_year(moments.dt.year() % 100)
        moments = _in_century(moments, century)
    zone = _zone(text) if form.endswith(("Z", "z", "UTC", "GMT")) else None
    months = None
    if "%b" in form or "%B" in form:
        sample, months = in_english(sample)
        form = form.replace("%B", "%b") if months else form
    pattern, case = written_form(_sample(moments), sample, form, zone)
    midnight = "24:00" if late else None
    return _microseconds(moments), TimeType(text.dtype, pattern, zone, century, None, midnight, case, months)


def end_of_day(times: np.ndarray, codes: np.ndarray) -> np.ndarray | None:
    """Which times (R,) are midnights at the end of the day that they name, in the order given; None where none are.

    They follow the last time of that day and come before the first of the next: one step apart once they are moved
    to the next day. All midnights of the table but a few must stand so, and most rows that ran backwards run forwards
    then: in a shuffled table a midnight stands anywhere. `codes` tell the series apart.
    """
    same = codes[1:] == codes[:-1]
    steps = np.diff(times)
    usual, counts = np.unique(steps[same & (steps > 0)], return_counts=True)
    midnight = times % _DAY == 0
    if not len(usual) or (step := int(usual[counts.argmax()])) >= _DAY:
        return None
    follows, leads = np.zeros((2, len(times)), bool)
    follows[1:] = same & (steps == step - _DAY)
    leads[:-1] = same & (steps == step + _DAY)
    moved = midnight & (follows | leads)
    placed = midnight.copy()
    placed[1:] &= same  # the first row of a series has no day before it
    if not follows.any() or moved[placed].mean() < 0.95:
        return None
    backwards = (same & (np.diff(part) < 0) for part in (times, times + moved * _DAY))
    before, after = (int(part.sum()) for part in backwards)
    return moved if 2 * after <= before else None


def first_year(short: pl.Series) -> int:
    """The first of the hundred years that two-digit years are read in: they begin after their widest gap.

    So 98, 99, 00, 01 are 1998 to 2001. The first one is in 1930 to 2029, as spreadsheets have it.
    """
    years = short.unique().sort().to_numpy().astype(np.int64)
    gaps = np.diff(years, prepend=years[-1] - 100)
    first = int(years[gaps.argmax()])
    return first + (1900 if first >= PIVOT else 2000)


def _in_century(moments: pl.Series, first: int) -> pl.Series:
    years = moments.dt.year().cast(pl.Int64)
    shift = first + (years - first) % 100 - years
    for centuries in shift.unique().to_list():
        if centuries:
            moments = moments.zip_with(shift != centuries, moments.dt.offset_by(f"{centuries}y"))
    return moments


def fixed_zone(seconds: int) -> str:
    """The IANA zone of an offset from UTC; UTC itself where there is none, as for half hours."""
    hours, rest = divmod(seconds, 3600)
    # POSIX counts hours west of Greenwich: +01:00 is Etc/GMT-1.
    return f"Etc/GMT{-hours:+d}" if hours and not rest and -12 <= hours <= 14 else "UTC"


def _zone(text: pl.Series) -> str:
    """The zone of written offsets: one offset keeps its own, several are told in UTC."""
    offsets = text.str.extract(r"([+-]\d\d(?::?\d\d)?)$").unique()
    if len(offsets) > 1 or offsets[0] is None:
        return "UTC"
    sign, digits = offsets[0][0], offsets[0][1:].replace(":", "")
    return fixed_zone(int(f"{sign}1") * (3600 * int(digits[:2]) + 60 * int(digits[2:] or 0)))
