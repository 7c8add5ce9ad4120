"""Times as users write them: read into microseconds (UTC) or integer steps, and given back alike."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Literal

import numpy as np
import polars as pl

from ..errors import DataError

Dates = Literal["day-first", "month-first"]

SAMPLE = 64  # values that choose the formats worth trying on the whole column
# Microseconds of the years 1000 to 9999: chrono reads the 49 of 01.02.49 as year 49, Python ends at 9999.
LOWEST, HIGHEST = -30_610_224_000_000_000, 253_402_300_799_999_999
_PLAIN_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d.%m.%Y")
_TURNED = {"%d/%m/%Y": "%m/%d/%Y", "%d-%m-%Y": "%m-%d-%Y"}  # day first: the same month first
_NAMED_DATES = ("%b %d %Y", "%b %d, %Y", "%B %d %Y", "%B %d, %Y", "%d %b %Y", "%d %B %Y", "%d-%b-%Y")
_MONTHS = ("%Y-%m", "%Y/%m", "%b %Y", "%B %Y", "%b-%Y")
_QUARTERS = ("%Y Q%q", "%Y-Q%q", "%YQ%q", "Q%q %Y", "Q%q-%Y")
_CLOCKS = ("%H:%M", "%H:%M:%S", "%H:%M:%S%.f")
_HALF_DAYS = (" %I:%M %p", " %I:%M:%S %p")
_DAYS = (*_PLAIN_DATES, *_TURNED, *_TURNED.values(), *_NAMED_DATES)
_TAILS = (*(j + c + z for j, c, z in product((" ", "T"), _CLOCKS, ("", "Z", "%z", " %z"))), *_HALF_DAYS)
_SHAPES = {"%Y": r"\d{4}", "%b": "[A-Za-z]{3}", "%B": "[A-Za-z]{3,9}", "%q": "[1-4]", "%p": "[AaPp][Mm]"}
_DIGIT = re.compile(r"\d")
_SHAPES |= {"%f": r"(?:\.\d+)?", "%z": r"(?:Z|[+-]\d\d:?\d\d)"} | {f"%{c}": r"\d{1,2}" for c in "mdHIMS"}


@dataclass(frozen=True)
class TimeType:
    """How times were given, so that forecasts come back alike."""

    dtype: pl.DataType  # of the column as given
    format: str | None = None  # strftime pattern of a text column, or of integers such as 2004 or 20040131
    zone: str | None = None  # IANA zone of an aware column

    @property
    def steps(self) -> bool:
        """Whether the axis counts steps instead of telling the time."""
        return self.dtype.is_numeric() and self.format is None


def parse_times(
    column: pl.Series, where: Callable[[int], str], dates: str | None = None, *, steps: bool = False
) -> tuple[np.ndarray, TimeType]:
    """Times of a column, (R,) int64: microseconds UTC or integer steps; and how they were given.

    `where(row)` names a row in messages. `dates` is "day-first" or "month-first" for dates such as 03/04/2021
    that the column does not decide. `steps` keeps integers such as 2004 as steps instead of taking them for
    years. Raises DataError for a missing, unreadable or ambiguous time, naming its row and value.
    """
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
        return _numbered(column, where, steps)
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return _written(column.cast(pl.String), where, dates)
    raise DataError(
        f'Column "{column.name}" of type {dtype} holds no times.',
        "Name the column of the times with --time-col.",
    )


def looks_like_times(column: pl.Series) -> bool:
    """Whether a column's type, or most of a sample of its text, reads as times. Integers do not count."""
    if column.dtype in (pl.String, pl.Categorical, pl.Enum):
        sample = _sample(column.cast(pl.String).drop_nulls())
        return any(unread <= 0.1 * len(sample) for _, unread in _fitting(sample, frozenset()))
    return column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime)


def restore(times: np.ndarray, time_type: TimeType, name: str = "ds") -> pl.Series:
    """The times, microseconds UTC or steps, as a column in the type, zone and text format they came in."""
    column = pl.Series(name, times, dtype=pl.Int64)
    if time_type.steps:
        return column.cast(time_type.dtype)
    moments = column.cast(pl.Datetime("us"))
    if time_type.zone is not None:
        moments = moments.dt.replace_time_zone("UTC").dt.convert_time_zone(time_type.zone)
    if time_type.format is not None:
        return moments.dt.strftime(time_type.format).cast(time_type.dtype)
    return moments.cast(time_type.dtype)


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


def _numbered(column: pl.Series, where: Callable[[int], str], steps: bool) -> tuple[np.ndarray, TimeType]:
    """An integer axis; years (1950), months (195001) and days (19500131) become times."""
    whole = column.cast(pl.Int64, strict=False)
    odd = (whole.is_null() | (whole.cast(pl.Float64) != column.cast(pl.Float64))).fill_null(True)
    if odd.any():
        row = int(odd.arg_max() or 0)
        raise DataError(
            f'{where(row)}: {column[row]} in column "{column.name}" is no time.',
            "Give dates, or whole numbers that count the steps.",
        )
    if not steps and len(whole):
        low, high = int(whole.min()), int(whole.max())  # type: ignore[arg-type]
        for form, lowest, highest in (
            ("%Y", 1500, 2200),
            ("%Y%m", 150001, 220012),
            ("%Y%m%d", 15000101, 22001231),
        ):
            if lowest <= low and high <= highest:
                text = whole.cast(pl.String)
                moments = _read(text + "01", "%Y%m%d") if form == "%Y%m" else None
                moments = _read(text + "0101", "%Y%m%d") if form == "%Y" else moments
                moments = _read(text, form) if moments is None else moments
                if moments.null_count() == 0:
                    return _microseconds(moments), TimeType(column.dtype, format=form)
    return _within(whole.to_numpy(), column.name, where), TimeType(column.dtype)


def _written(text: pl.Series, where: Callable[[int], str], dates: str | None) -> tuple[np.ndarray, TimeType]:
    refused = frozenset({"day-first": _TURNED.values(), "month-first": _TURNED}.get(dates or "", ()))
    sample = _sample(text)
    fitting = _fitting(sample, refused)
    readings: list[tuple[str, pl.Series]] = []
    nearest: pl.Series | None = None
    for form in (f for f, unread in fitting if unread == fitting[0][1]):
        if readings and form != _other(readings[0][0]):
            continue
        moments = _read(text, form)
        if moments.null_count() == 0:
            readings.append((form, moments))
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
        one, two = (f"{m[row].day} {m[row]:%B}" for _, m in readings)
        raise DataError(
            f"{where(row)}: {quoted(text[row])[1:-1]} can be {one} or {two}, and no other line decides.",
            "Add --dates day-first or --dates month-first.",
        )
    form, moments = readings[0]
    zone = _zone(text) if form.endswith(("Z", "%z")) else None
    return _microseconds(moments), TimeType(text.dtype, _output_format(_sample(moments), sample, form, zone), zone)


def _other(form: str) -> str | None:
    """The format with day and month exchanged, where a form has such a twin."""
    for day, month in _TURNED.items():
        for one, two in ((day, month), (month, day)):
            if form.startswith(one):
                return form.replace(one, two, 1)
    return None


def _read(text: pl.Series, form: str) -> pl.Series:
    """Moments in microseconds, null where the text has another form or the year no four digits."""
    if "%q" in form:
        pattern = "^" + form.replace("%Y", r"(?P<year>\d{4})").replace("%q", "(?P<quarter>[1-4])") + "$"
        parts = text.str.extract_groups(pattern).struct.unnest()
        month = (parts["quarter"].cast(pl.Int8) * 3 - 2).cast(pl.String).str.zfill(2)
        text, form = parts["year"] + month + "01", "%Y%m%d"
    moments = text.str.to_datetime(form, strict=False, time_unit="us", cache=False)
    if moments.dtype.time_zone is not None:  # type: ignore[attr-defined]
        moments = moments.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    stamps = moments.to_physical()
    low, high = stamps.min(), stamps.max()
    if isinstance(low, int) and isinstance(high, int) and not (low >= LOWEST and high <= HIGHEST):
        moments = moments.set(~stamps.is_between(LOWEST, HIGHEST), None)
    return moments


def _fitting(sample: pl.Series, refused: frozenset[str]) -> list[tuple[str, int]]:
    """Formats that read any of the sample, best first, and how many values each leaves unread.

    `refused` dates are passed over. What a value looks like is asked first: that is far quicker than parsing.
    """
    values = set(sample.to_list())
    looks = {_DIGIT.sub("0", value): value for value in values}.values()
    shaped = []
    for day in (*_DAYS, *_MONTHS, *_QUARTERS):
        found = [match for match in map(_shape(day).match, looks) if match] if day not in refused else []
        ends = {match.string[match.end() :] for match in found}
        shaped += [day] if "" in ends else []
        if day in _DAYS:
            shaped += [day + tail for tail in _TAILS if any(_shape(tail).fullmatch(end) for end in ends if end)]
    unread = [(form, _read(sample, form).null_count()) for form in shaped]
    return sorted((pair for pair in unread if pair[1] < len(sample)), key=lambda pair: pair[1])


@cache
def _shape(form: str) -> re.Pattern[str]:
    """What text in a format looks like."""
    pattern = re.escape(form).replace(r"\ ", " ").replace(r"%\.f", "%f")
    for code, looks in _SHAPES.items():
        pattern = pattern.replace(code, looks)
    return re.compile(pattern)


def fixed_zone(seconds: int) -> str:
    """The IANA zone of an offset from UTC; UTC itself where there is none, as for half hours."""
    hours, rest = divmod(seconds, 3600)
    # POSIX counts hours west of Greenwich: +01:00 is Etc/GMT-1.
    return f"Etc/GMT{-hours:+d}" if hours and not rest and -12 <= hours <= 14 else "UTC"


def _zone(text: pl.Series) -> str:
    """The zone of written offsets: one offset keeps its own, several are told in UTC."""
    offsets = text.str.extract(r"([+-]\d\d:?\d\d)$").unique()
    if len(offsets) > 1 or offsets[0] is None:
        return "UTC"
    sign, digits = offsets[0][0], offsets[0][1:].replace(":", "")
    return fixed_zone(int(f"{sign}1") * (3600 * int(digits[:2]) + 60 * int(digits[2:])))


def _output_format(moments: pl.Series, sample: pl.Series, form: str, zone: str | None) -> str:
    """The strftime pattern that writes the sample as it stood: leading zeros, digits of a second."""
    if zone is not None:
        moments = moments.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    for variant in _variants(form):
        if (moments.dt.strftime(variant) == sample).all():
            return variant
    return form.replace("%z", "%:z")


def _variants(form: str) -> Iterable[str]:
    for day, hour, fraction, offset in product(
        (False, True), (False, True), ("%.f", "%.3f", "%.6f"), ("%:z", "%z", "Z")
    ):
        variant = form.replace("%z", offset).replace("%.f", fraction)
        if day:
            variant = variant.replace("%d", "%-d").replace("%m", "%-m")
        if hour:
            variant = variant.replace("%H", "%-H").replace("%I", "%-I")
        yield variant
