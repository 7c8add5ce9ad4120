"""Series too short for a window: said in the ledger, or padded in front with steps that were not seen."""

from dataclasses import replace

import numpy as np

from .calendar import times_at
from .frame import SeriesFrame, rows_before
from .split import Split
from .table import Ledger
from .times import quoted


def rows_needed(lookback: int, horizon: int, shares: tuple[float, float, float]) -> int:
    """Rows of a series from which it has a window in each part, whichever way its split is rounded."""
    train, validation, test = shares
    window = lookback + horizon
    needed = (
        window + 2 * horizon,
        window / train,
        (window + horizon) / (1 - test),
        (window + horizon) / (1 - validation),
    )
    return int(np.ceil(max(needed))) + 1


def padded(frame: SeriesFrame, needed: int, ledger: Ledger) -> SeriesFrame:
    """The frame with missing values in front of each series of fewer than `needed` rows; the series begin earlier."""
    lengths = np.diff(frame.offsets)
    front = np.maximum(needed - lengths, 0)
    if not front.any():
        return frame
    offsets = np.concatenate([[0], np.cumsum(lengths + front)])
    given = ~rows_before(offsets, offsets[:-1] + front)
    values, known = (np.full((len(given), part.shape[1]), np.nan, np.float32) for part in (frame.values, frame.known))
    values[given], known[given] = frame.values, frame.known
    detail = f"series of fewer than {needed} rows were padded in front with missing values, as asked for"
    ledger.repair("gap-filled", int(front.sum()), _named(frame, front > 0), detail)
    start = times_at(frame.start, -front, frame.frequency, frame.time_type.zone)
    return replace(frame, offsets=offsets, start=start, values=values, known=known)


def note_short(frame: SeriesFrame, split: Split, lookback: int, horizon: int, ledger: Ledger) -> None:
    """Enter in the ledger which series have no window at all, and which have none to learn from."""
    has = [
        np.maximum(part[:, 0], frame.offsets[:-1] + lookback) + horizon <= part[:, 1]
        for part in (split.train, split.validation, split.test)
    ]
    none = ~np.logical_or.reduce(has)
    if none.any():
        detail = f"too short for a window of lookback {lookback} + horizon {horizon} in any part"
        ledger.repair("series-dropped", int(none.sum()), _named(frame, none), detail)
    scored_only = ~has[0] & ~none
    if scored_only.any():
        detail = f"{_named(frame, scored_only)}: no window to learn from, scored all the same"
        ledger.caution("short-series", "", detail, int(scored_only.sum()))


def _named(frame: SeriesFrame, which: np.ndarray) -> str:
    key = frame.keys[int(which.argmax())]
    return quoted(key) if key != "" else "the series"
