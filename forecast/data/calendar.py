"""The time axis: what step a series has, which times follow, and what the calendar says of them.

Times are (…,) int64: microseconds UTC, or the steps of an integer axis. Steps of whole days, months and years
follow the local calendar where a zone is given: a day of a clock change is still one day.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from ..errors import DataError, UsageError
from .times import TimeType
from .week import DAY, FULL, HOUR, MINUTE, WEEK, WEEKDAYS, find_slots, read_alias, slot_index, slot_time, write_alias

SECOND = 1_000_000
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
CHUNK = 1 << 18  # rows whose calendar is worked out at once

_CLOCK_UNITS = (("W", WEEK), ("D", DAY), ("h", HOUR), ("min", MINUTE), ("s", SECOND), ("ms", 1000), ("us", 1))
_MONTH_UNITS = {"MS": 1, "ME": 1, "QS": 3, "QE": 3, "YS": 12, "YE": 12}
_OLD_SPELLINGS = {"H": "h", "T": "min", "S": "s", "L": "ms", "U": "us", "d": "D", "w": "W"}
_OLD_SPELLINGS |= {"M": "ME", "Q": "QE", "Y": "YE", "A": "YE", "AS": "YS"}


@dataclass(frozen=True)
class Frequency:
    """One step of a regular axis: `count` microseconds, months or integer steps."""

    alias: str  # pandas offset alias: "h", "15min", "D", "B", "W-TUE", "MS", "ME", "QS", "YS", …; "1" for integers
    unit: str  # "us" | "month" | "step"
    count: int
    end: bool = False  # month ends rather than a fixed day of the month
    slots: tuple[int, ...] = ()  # microseconds from Monday 00:00: the only times that a week has (`week.py`)

    @property
    def local(self) -> bool:
        """Whether steps follow the local calendar rather than elapsed time."""
        return self.unit == "month" or bool(self.slots) or (self.unit == "us" and self.count % DAY == 0)


def parse(alias: str) -> Frequency:
    """The frequency of a pandas offset alias such as "h", "15min", "B", "W-MON", "MS", or of "1" (integers).

    Opening hours follow an @, as in "h@MON-FRI/09:00-17:00" (`week.py`). Old spellings (H, T, M, …) are understood.
    Raises UsageError for anything else.
    """
    if weekly := read_alias(alias.strip()):
        return Frequency(write_alias(weekly[1], weekly[0]), "us", weekly[0], slots=weekly[1])
    match = re.fullmatch(r"(\d*)([A-Za-z]*)(?:-([A-Z]{3}))?", alias.strip())
    count = int(match[1] or 1) if match else 0
    if match and count:
        unit, anchor = _OLD_SPELLINGS.get(match[2], match[2]), match[3]
        written = f"{match[1] if count > 1 else ''}{unit}" + (f"-{anchor}" if anchor else "")
        if unit in _MONTH_UNITS and (anchor is None or (anchor in MONTHS and _MONTH_UNITS[unit] > 1)):
            return Frequency(written, "month", count * _MONTH_UNITS[unit], end=unit.endswith("E"))
        if (clock := dict(_CLOCK_UNITS).get(unit)) and (anchor is None or (unit == "W" and anchor in WEEKDAYS)):
            return Frequency(written, "us", count * clock)
        if not unit and match[1] and anchor is None:
            return Frequency(str(count), "step", count)
    raise UsageError(
        f'"{alias}" is not a frequency.',
        "Use for example h, 15min, D, B, W, MS, QS, YS, or 1 for integer steps.",
    )


def infer(
    times: np.ndarray, offsets: np.ndarray, time_type: TimeType, origin: str = "The time axis"
) -> tuple[Frequency, float]:
    """The step of sorted series without duplicates, from all their rows, and the share equal to it.

    `times` is (R,), series `s` its rows `offsets[s]` to `offsets[s + 1]`. Every step counts: the step found
    is the one that all are multiples of (a few rows off the grid aside), and gaps lower the share. Where part of the
    week never occurs, as weekends or nights, the step is that to the next time of the week that does. Raises
    DataError where no series has two rows or no step fits.
    """
    starts = offsets[1:-1]
    inner = np.ones(max(len(times) - 1, 0), bool)
    inner[starts[(starts > 0) & (starts < len(times))] - 1] = False
    if not inner.any():
        raise DataError(
            f"{origin}: no series has two rows, so there is no step.",
            "Give more rows, or check --id-col and --time-col.",
        )
    if time_type.steps:
        count, share = _common_step(np.diff(times)[inner], origin)
        return Frequency(str(count), "step", count), share
    if time_type.zone is not None and not _midnights(times) and _midnights(wall := _wall(times, time_type.zone)):
        times = wall
    steps = np.diff(times)[inner]
    if (steps > 27.5 * DAY).mean() > 0.5 and (monthly := _monthly(times, inner, origin)):
        return monthly
    if weekly := _weekly(times, steps, offsets, inner, time_type.zone):
        return weekly
    count, share = _common_step(steps, origin)
    unit, size = next((u, s) for u, s in _CLOCK_UNITS if count % s == 0)
    alias = f"{count // size if count > size else ''}{unit}"
    if unit == "W":
        days = np.unique((times // DAY + 3) % 7)
        alias = f"{alias}-{WEEKDAYS[days[0]]}" if len(days) == 1 else f"{count // DAY}D"
    return Frequency(alias, "us", count), share


def _weekly(
    times: np.ndarray, steps: np.ndarray, offsets: np.ndarray, inner: np.ndarray, zone: str | None
) -> tuple[Frequency, float] | None:
    """Business days or opening hours, where the times keep to part of the week."""
    common = int(np.gcd.reduce(steps))
    if common == 0 or (steps == common).mean() >= FULL:
        return None
    wall = times if zone in (None, "UTC") or _midnights(times) else _wall(times, zone or "UTC")
    filled = np.flatnonzero(np.diff(offsets))
    starts, ends = offsets[filled], offsets[filled + 1] - 1
    step = int(np.gcd.reduce(np.diff(wall)[inner]))
    slots = find_slots(wall, starts, ends, step)
    if slots is None:
        return None
    frequency = Frequency(write_alias(slots, step), "us", step, slots=slots)
    rest = wall[0] % DAY if step == DAY else 0
    return frequency, float((np.diff(slot_index(wall - rest, slots))[inner] == 1).mean())


def _midnights(times: np.ndarray) -> bool:
    return bool((times % DAY == 0).all())


def _common_step(steps: np.ndarray, origin: str) -> tuple[int, float]:
    """The step that all others are multiples of, or the usual one where a few rows are off the grid."""
    if (steps == steps[0]).all():
        return int(steps[0]), 1.0
    common = int(np.gcd.reduce(steps))
    share = float((steps == common).mean())
    if share >= 0.5 or steps.sum() <= 2 * common * len(steps):
        return common, share
    values, counts = np.unique(steps, return_counts=True)
    usual = int(values[counts.argmax()])
    share = float(counts.max() / len(steps))
    if share >= 0.5 or (steps % usual == 0).mean() >= 0.9:
        return usual, share
    raise DataError(
        f"{origin}: the times are irregular, the most usual step makes up {share:.0%} of all.",
        f"Give the step with --freq, for example --freq h; or take the mean of every step with --resample "
        f"{_next_step(steps)}.",
    )


def _next_step(steps: np.ndarray) -> str:
    """A usual step that is about as long as these, or longer."""
    usual = {"s": SECOND, "10s": 10 * SECOND, "min": MINUTE, "5min": 5 * MINUTE, "15min": 15 * MINUTE}
    usual |= {"h": HOUR, "6h": 6 * HOUR, "D": DAY, "W": WEEK}
    middle = float(np.median(steps))
    return next((alias for alias, size in usual.items() if size >= middle), "MS")


def _monthly(times: np.ndarray, inner: np.ndarray, origin: str) -> tuple[Frequency, float] | None:
    """Months, quarters or years, if nearly all times keep their day of the month or are ends of months."""
    months, rest = _split_months(times)
    following, past = _split_months(times + DAY)
    end = bool((past < DAY).mean() >= 0.95)  # 31 December keeps its day of the month, but is an end all the same
    if end:
        months, rest = following - 1, past
    if (rest[1:] == rest[:-1])[inner].mean() < 0.95:
        return None
    steps = np.diff(months)[inner]
    count, share = _common_step(steps[steps > 0] if (steps <= 0).any() else steps, origin)
    letter = "E" if end else "S"
    size, unit = next((s, u) for s, u in ((12, "Y"), (3, "Q"), (1, "M")) if count % s == 0)
    alias = f"{count // size if count > size else ''}{unit}{letter}"
    phases = np.unique(months % size) if size > 1 else np.zeros(1, np.int64)
    usual = size - 1 if end else 0  # pandas ends a quarter in December and starts one in January
    if len(phases) == 1 and phases[0] != usual:
        alias += f"-{MONTHS[phases[0] + (9 if end and size == 3 else 0)]}"
    return Frequency(alias, "month", count, end=end), share


def _split_months(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Months since 1970, and microseconds since the start of the month."""
    months = times.astype("M8[us]").astype("M8[M]")
    return months.astype(np.int64), times - months.astype("M8[us]").astype(np.int64)


def _month_starts(months: np.ndarray) -> np.ndarray:
    return months.astype("M8[M]").astype("M8[us]").astype(np.int64)


def _wall(times: np.ndarray, zone: str) -> np.ndarray:
    """What clocks in the zone show, as microseconds."""
    utc = pl.Series(times.ravel()).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    local = utc.dt.convert_time_zone(zone).dt.replace_time_zone(None)
    return local.to_physical().to_numpy().reshape(times.shape)


def _instants(wall: np.ndarray, zone: str) -> np.ndarray:
    """The moment (UTC) at which clocks in the zone first show `wall`, or an hour more if they never do."""

    def read(clock: pl.Series) -> pl.Series:
        return clock.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")

    clock = pl.Series(wall.ravel()).cast(pl.Datetime("us"))
    moments = read(clock)
    if moments.null_count():
        moments = moments.zip_with(moments.is_not_null(), read(clock.dt.offset_by("1h")))
    return moments.to_physical().to_numpy().reshape(wall.shape)


def _on_calendar(times: np.ndarray, frequency: Frequency, zone: str | None) -> np.ndarray:
    return _wall(times, zone) if zone is not None and zone != "UTC" and frequency.local else times


def _time_of_day(start: np.ndarray, frequency: Frequency) -> np.ndarray | int:
    """What days of a weekly calendar begin with: a daily series may be told at 16:00."""
    return start % DAY if frequency.count == DAY else 0


def positions(times: np.ndarray, start: np.ndarray | int, frequency: Frequency, zone: str | None = None) -> np.ndarray:
    """Steps from `start` to `times`, int64, rounded down where a time is off the grid (`off_grid` tells)."""
    times, start = np.broadcast_arrays(np.asarray(times, np.int64), np.asarray(start, np.int64))
    times, start = _on_calendar(times, frequency, zone), _on_calendar(start, frequency, zone)
    if frequency.slots:
        rest = _time_of_day(start, frequency)
        between: np.ndarray = slot_index(times - rest, frequency.slots) - slot_index(start - rest, frequency.slots)
        return between
    if frequency.unit == "month":
        shift = DAY if frequency.end else 0
        apart: np.ndarray = _split_months(times + shift)[0] - _split_months(start + shift)[0]
    else:
        apart = times - start
    steps: np.ndarray = apart // frequency.count
    return steps


def times_at(
    start: np.ndarray | int, steps: np.ndarray | int, frequency: Frequency, zone: str | None = None
) -> np.ndarray:
    """The times `steps` after `start` (broadcast), int64: in the unit of `start`. Months are exact."""
    start, steps = np.broadcast_arrays(np.asarray(start, np.int64), np.asarray(steps, np.int64))
    begin = _on_calendar(start, frequency, zone)
    if frequency.slots:
        over = _time_of_day(begin, frequency)
        result = slot_time(slot_index(begin - over, frequency.slots) + steps, frequency.slots) + over
    elif frequency.unit == "month":
        shift = DAY if frequency.end else 0
        months, rest = _split_months(begin + shift)
        result = _month_starts(months + steps * frequency.count) + rest - shift
    else:
        result = begin + steps * frequency.count
    return _instants(result, zone) if begin is not start and zone is not None else result


def off_grid(times: np.ndarray, start: np.ndarray | int, frequency: Frequency, zone: str | None = None) -> np.ndarray:
    """Bool: which times no whole number of steps from `start` reaches."""
    reached: np.ndarray = times_at(start, positions(times, start, frequency, zone), frequency, zone)
    missed: np.ndarray = reached != times
    return missed


def floor_to(times: np.ndarray, frequency: Frequency, zone: str | None = None) -> np.ndarray:
    """The start of the step that each time is in: weeks begin on Monday or their anchor, the rest at its zero.

    Raises UsageError for ends of months and for business days, whose steps begin nowhere.
    """
    if frequency.end or frequency.slots:
        raise UsageError(
            f"Values cannot be resampled to {frequency.alias}.", "Use for example 15min, h, D, W-MON, MS or QS."
        )
    if frequency.unit == "step":
        return times // frequency.count * frequency.count
    wall = _on_calendar(times, frequency, zone)
    if frequency.unit == "month":
        months = _split_months(wall)[0]
        anchor = MONTHS.index(frequency.alias[-3:]) if "-" in frequency.alias else 0
        begun = _month_starts((months - anchor) // frequency.count * frequency.count + anchor)
    else:
        weekly = frequency.count % WEEK == 0
        day = WEEKDAYS.index(frequency.alias[-3:]) if weekly and "-" in frequency.alias else 0
        zero = (day - 3) * DAY if weekly else 0  # 1970 began on a Thursday
        begun = (wall - zero) // frequency.count * frequency.count + zero
    return begun if wall is times or zone is None else _instants(begun, zone)


# Calendar marks: series_models §1.4 of the papers' protocol, `timeF`. A feature is code / divisor - 0.5.

_DIVISORS = {
    "second": 59,
    "minute": 59,
    "hour": 23,
    "weekday": 6,
    "day": 30,
    "yearday": 365,
    "month": 11,
    "week": 52,
}


def mark_names(alias: str) -> tuple[str, ...]:
    """The calendar features that vary at a frequency, as the papers order them; () for integer axes."""
    frequency = parse(alias)
    if frequency.unit == "step":
        return ()
    if frequency.unit == "month":
        return () if frequency.count % 12 == 0 else ("month",)
    if frequency.count % WEEK == 0:
        return ("day", "week")
    days = ("weekday", "day", "yearday")
    finer = ((DAY, ()), (HOUR, ("hour",)), (MINUTE, ("minute", "hour")))
    return (*next((n for s, n in finer if frequency.count % s == 0), ("second", "minute", "hour")), *days)


def mark_scale(names: Sequence[str]) -> np.ndarray:
    """(K,) float32 divisors: a feature is code / divisor - 0.5, in [-0.5, 0.5]."""
    return np.array([_DIVISORS[name] for name in names], np.float32)


def mark_codes(times: np.ndarray, names: Sequence[str], zone: str | None = None) -> np.ndarray:
    """(R, K) int16 codes, from 0, of the named features at `times` (UTC), in the local time of `zone`."""
    codes = np.empty((len(times), len(names)), np.int16)
    for begin in range(0, len(times) if names else 0, CHUNK):
        part = times[begin : begin + CHUNK]
        part = part if zone in (None, "UTC") else _wall(part, zone or "UTC")
        for k, name in enumerate(names):
            codes[begin : begin + CHUNK, k] = _MARKS[name](part)
    return codes


def _yearday(days: np.ndarray) -> np.ndarray:
    """Days since 1 January, from days since 1970."""
    return days - days.astype("M8[D]").astype("M8[Y]").astype("M8[D]").astype(np.int64)


def _week(times: np.ndarray) -> np.ndarray:
    """ISO week from 0: a week belongs to the year of its Thursday."""
    days = times // DAY
    return _yearday(days - (days + 3) % 7 + 3) // 7


_MARKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "second": lambda times: times // SECOND % 60,
    "minute": lambda times: times // MINUTE % 60,
    "hour": lambda times: times // HOUR % 24,
    "weekday": lambda times: (times // DAY + 3) % 7,  # 1970 began on a Thursday
    "day": lambda times: _split_months(times)[1] // DAY,
    "yearday": lambda times: _yearday(times // DAY),
    "month": lambda times: _split_months(times)[0] % 12,
    "week": _week,
}


def seasons(frequency: Frequency) -> tuple[int, ...]:
    """Candidate seasonal periods in steps, the most usual first; () where the calendar suggests none."""
    if frequency.unit == "step":
        return ()
    if frequency.unit == "month":
        return (12 // frequency.count,) if 12 % frequency.count == 0 and frequency.count < 12 else ()
    if frequency.slots:
        week = len(frequency.slots)
        if frequency.count == DAY:
            return (week, round(week * 365.25 / 7))
        sizes = np.unique(np.bincount(np.asarray(frequency.slots) // DAY))
        return (int(sizes[-1]), week) if len(sizes[sizes > 0]) == 1 and 1 < sizes[-1] < week else (week,)
    if frequency.count == WEEK:
        return (52,)
    if frequency.count == DAY:
        return (7, 365)
    if frequency.count >= 15 * MINUTE:
        cycles: tuple[int, ...] = (DAY, WEEK)
    elif frequency.count >= 5 * MINUTE:
        cycles = (DAY,)
    else:
        cycles = (HOUR, DAY) if frequency.count >= MINUTE else (MINUTE, HOUR)
    return tuple(c // frequency.count for c in cycles if c % frequency.count == 0 and c > frequency.count)
