"""Changes of the clock in local times without a zone: the hour that is told twice, and the one that never is."""

from math import comb
from typing import NamedTuple

import numpy as np
import polars as pl

from .week import DAY, HOUR

# One zone for each rule of when and at which hour clocks change.
_ZONES = ("America/New_York", "Europe/Berlin", "Europe/London", "Europe/Athens", "Australia/Sydney", "Pacific/Auckland")
_SHARE = 0.5  # of a zone's changes in the span of the data that must show
_BY_CHANCE = 0.1  # odds, at most, that other gaps and repeats fall on that many changes of any zone


class Changes(NamedTuple):
    """Which repeated times and which gaps of one hour are changes of the clock in `zone`."""

    zone: str
    repeated: np.ndarray  # bool, of the repeated times
    missing: np.ndarray  # bool, of the gaps


def find_changes(repeated: np.ndarray, missing: np.ndarray, span: tuple[int, int], step: int) -> Changes | None:
    """The zone whose clock changes explain most of the repeated times and of the gaps of one hour, if it does so well.

    Times are wall-clock microseconds: `repeated` of rows told again, `missing` the first of each gap of one hour,
    `span` the first and last of all, `step` the distance of two rows. A time may name the start or the end of its
    step. An hour that clocks show twice may be absent as well: some sources leave it out.
    """
    if not len(repeated) and not len(missing):
        return None
    best: tuple[int, Changes] | None = None
    for zone in _ZONES:
        for shift in (0, step):
            twice, _ = _odd_hours(repeated - shift, zone)
            ambiguous, skipped = _odd_hours(missing - shift, zone)
            found = Changes(zone, twice, ambiguous | skipped)
            days = len(np.unique(np.concatenate([repeated[found.repeated], missing[found.missing]]) // DAY))
            if days and (best is None or days > best[0]):
                best = days, found
    if best is None:
        return None
    shown, found = best
    changes = _changes_between(*span, found.zone)
    others = len(np.unique(np.concatenate([repeated, missing]) // HOUR)) - shown
    rate = min((max(others, 0) + 0.5) / max((span[1] - span[0]) // HOUR, 1), 1.0)
    tail = sum(comb(changes, k) * rate**k * (1 - rate) ** (changes - k) for k in range(shown, changes + 1))
    by_chance = 2 * len(_ZONES) * tail
    return found if shown >= _SHARE * changes and by_chance < _BY_CHANCE else None


def _odd_hours(wall: np.ndarray, zone: str) -> tuple[np.ndarray, np.ndarray]:
    """Which times clocks in a zone show twice, and which never."""
    clock = pl.Series(wall, dtype=pl.Int64).cast(pl.Datetime("us"))
    never = clock.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").is_null().to_numpy()
    either = clock.dt.replace_time_zone(zone, ambiguous="null", non_existent="null").is_null().to_numpy()
    return either & ~never, never


def _changes_between(first: int, last: int, zone: str) -> int:
    """How often clocks in a zone change from one time to another, by an hour within the first four of a day."""
    days = np.arange(first // DAY, last // DAY + 1) * DAY
    hours = (days[:, None] + np.arange(4) * HOUR).reshape(-1)
    twice, never = _odd_hours(hours[(hours >= first) & (hours <= last)], zone)
    return int(twice.sum() + never.sum())
