"""Calendars that repeat every week: business days, and opening hours whose nights and weekends are no gaps.

Such a calendar is its `slots`: the microseconds from Monday 00:00 at which a week has a time. Written as an alias they
follow a step and an @, as in "D@MON-SAT" or "30min@MON-FRI/09:00-17:30,SAT/10:00-13:00"; "B" is "D@MON-FRI".
"""

import re

import numpy as np

MINUTE, HOUR, DAY, WEEK = 60_000_000, 3_600_000_000, 86_400_000_000, 604_800_000_000
WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
BUSINESS = tuple(DAY * day for day in range(5))
_MONDAY = 3 * DAY  # 1970 began on a Thursday
_UNITS = {"D": DAY, "h": HOUR, "min": MINUTE}
FULL = 0.97  # share of equal steps above which no weekly pattern is looked for
_ABSENT = 0.1  # share of a week that must never occur
_COVERED = 0.7  # share of the slots that must have a row
_BY_CHANCE = 1e-3  # odds, at most, that gaps strewn at random leave out the rest of the week


def slot_index(times: np.ndarray, slots: tuple[int, ...]) -> np.ndarray:
    """Number of the slot of each time, counted through all weeks; of the slot before it where it is on none."""
    weeks, within = np.divmod(times + _MONDAY, WEEK)
    index: np.ndarray = weeks * len(slots) + np.searchsorted(slots, within, side="right") - 1
    return index


def slot_time(index: np.ndarray, slots: tuple[int, ...]) -> np.ndarray:
    """The time of a slot: `slot_index` undone."""
    weeks, slot = np.divmod(index, len(slots))
    times: np.ndarray = weeks * WEEK + np.asarray(slots, np.int64)[slot] - _MONDAY
    return times


def find_slots(times: np.ndarray, starts: np.ndarray, ends: np.ndarray, step: int) -> tuple[int, ...] | None:
    """The slots of times (R,) that occur in part of the week only, each nearly every week; else None.

    `step` divides every distance of two times of a series, which are rows `starts` to `ends` (S,), both included.
    Days are told by their date alone, whatever the time of day.
    """
    if not MINUTE <= step <= DAY or DAY % step:
        return None
    rest = int(times[0] % step)
    if (step < DAY and rest % MINUTE) or ((times - rest) % step).any():
        return None
    used = np.flatnonzero(np.bincount((times + _MONDAY) % WEEK // step, minlength=WEEK // step))
    cells = WEEK // step
    weeks = float((times[ends] - times[starts]).max() / WEEK)
    if len(used) > (1 - _ABSENT) * cells or len(used) < 2 or weeks < 2:
        return None
    slots = tuple(int(slot) for slot in used * step + (rest if step < DAY else 0))
    shift = rest if step == DAY else 0
    spanned = slot_index(times[ends] - shift, slots) - slot_index(times[starts] - shift, slots) + 1
    covered = len(times) / int(spanned.sum())
    by_chance = cells * (1 - covered) ** weeks
    return slots if covered >= _COVERED and by_chance < _BY_CHANCE else None


def write_alias(slots: tuple[int, ...], step: int) -> str:
    """The alias of a weekly calendar; `read_alias` undoes it."""
    if step == DAY and slots == BUSINESS:
        return "B"
    unit, size = next((unit, size) for unit, size in _UNITS.items() if step % size == 0)
    base = f"{step // size if step > size else ''}{unit}"
    by_day: dict[int, list[int]] = {}
    for slot in slots:
        by_day.setdefault(slot // DAY, []).append(slot % DAY)
    groups: dict[tuple[int, ...], list[int]] = {}
    for day, clock in by_day.items():
        groups.setdefault(tuple(clock), []).append(day)
    parts = []
    for hours_of_day, days in groups.items():
        named = "+".join(_joined(WEEKDAYS[a], WEEKDAYS[b]) for a, b in _runs(days, 1))
        hours = "+".join(_joined(_clock(a), _clock(b)) for a, b in _runs(hours_of_day, step))
        parts.append(named if step == DAY else f"{named}/{hours}")
    return f"{base}@{','.join(parts)}"


def read_alias(alias: str) -> tuple[int, tuple[int, ...]] | None:
    """The step and the slots of an alias such as "B" or "h@MON-FRI/09:00-17:00"; None where it is none."""
    if alias in ("B", "b"):
        return DAY, BUSINESS
    match = re.fullmatch(r"(\d*)(D|h|min)@(.+)", alias)
    step = int(match[1] or 1) * _UNITS[match[2]] if match else 0
    if match is None or step == 0 or DAY % step:
        return None
    slots: set[int] = set()
    for part in match[3].split(","):
        days, slash, hours = part.partition("/")
        if bool(slash) == (step == DAY):
            return None
        for first, last in (_ends(run) for run in days.split("+")):
            if first not in WEEKDAYS or last not in WEEKDAYS:
                return None
            for day in range(WEEKDAYS.index(first), WEEKDAYS.index(last) + 1):
                for begin, end in (_ends(run) for run in (hours or "00:00").split("+")):
                    if not (_is_clock(begin) and _is_clock(end)):
                        return None
                    slots.update(range(day * DAY + _micros(begin), day * DAY + _micros(end) + 1, step))
    return (step, tuple(sorted(slots))) if slots else None


def _runs(values: "tuple[int, ...] | list[int]", step: int) -> list[tuple[int, int]]:
    """First and last of each stretch of values that are `step` apart."""
    runs: list[tuple[int, int]] = []
    for value in values:
        if runs and value == runs[-1][1] + step:
            runs[-1] = (runs[-1][0], value)
        else:
            runs.append((value, value))
    return runs


def _joined(first: str, last: str) -> str:
    return first if first == last else f"{first}-{last}"


def _ends(run: str) -> tuple[str, str]:
    first, _, last = run.partition("-")
    return first, last or first


def _clock(micros: int) -> str:
    return f"{micros // HOUR:02d}:{micros % HOUR // MINUTE:02d}"


def _is_clock(text: str) -> bool:
    return re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text) is not None


def _micros(clock: str) -> int:
    return int(clock[:2]) * HOUR + int(clock[3:]) * MINUTE
