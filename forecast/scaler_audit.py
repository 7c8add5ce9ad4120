"""Whether the statistics that a stored model scales by are of its training part alone.

A mean and a deviation say from which rows they are: the check goes through the beginnings of each series and finds the
one whose statistics are the stored ones. It must end with the training part; one that ends later has seen answers.
"""

from typing import Any

import numpy as np
import polars as pl

from .audited import Check, Leak
from .data.calendar import positions, times_at
from .data.frame import SeriesFrame, fingerprint, owner_of_rows
from .data.scale import Scaler
from .data.times import spoken
from .hindsight import told_time, trained_until

_NAME = "scaler"
_WHAT = "mean and deviation of each series beside those of its training part"
_CLOSE = 1e-7  # in deviations: one row more among a million moves them by more


def check_scaler(fitted: Any, history: SeriesFrame, source: str) -> tuple[Check, Leak | None]:
    """Compare the scaler of a model with the rows of `history`, the frame without rows of the future.

    Gives a check that was not made, with the reason, where the data do not hold the training part.
    """
    begin, until = told_time(fitted, fitted.facts.get("trained_on"), 0), trained_until(fitted)
    if begin is None or until is None:
        return _left("the model does not say when its training part was"), None
    several = history.schema.layout == "channels"
    whole = told_time(fitted, fitted.facts.get("span"), 1)
    needed = whole if several and whole is not None else until  # each of many series ends its part for itself
    first, last = _reach(history)
    if first > begin or last < needed:
        here, there = ([spoken(time, history.time_type) for time in span] for span in ((first, last), (begin, needed)))
        return _left(f"the data reach from {here[0]} to {here[1]}, the fit from {there[0]} to {there[1]}"), None
    series, variates = _numbers(history.keys, fitted.keys), _numbers(history.names, fitted.variates)
    trained = np.flatnonzero(series >= 0)
    if not len(trained) or (variates < 0).any():
        return _left("the model was fitted on other series"), None
    zone = history.time_type.zone
    skipped = np.zeros(len(history.keys), np.int64)
    if not several:
        skipped += positions(np.array(begin), history.start, history.frequency, zone)
    limit = history.offsets[:-1] + np.maximum(positions(np.array(until), history.start, history.frequency, zone) + 1, 0)
    limit = np.maximum(limit, history.offsets[:-1] + skipped + fitted.shape.lookback)
    if several:  # a fit leaves a horizon of rows of each series for its scores
        left = np.maximum(history.offsets[1:] - fitted.shape.horizon, history.offsets[:-1] + fitted.shape.lookback)
        limit = np.minimum(limit, left)
    limit = np.minimum(limit, history.offsets[1:])
    agrees = _agreeing(
        history, fitted.scaler.mean[series][:, variates], fitted.scaler.std[series][:, variates], skipped
    )
    found = _first(agrees, history.offsets[:-1], history.offsets[1:])[trained]  # rows that the statistics are of
    count = len(trained) * len(variates)
    late, lost = found > limit[trained], found < 0
    if not (late | lost).any():
        known = fitted.scaler.known
        if known.shape[1] and not several and skipped[0] == 0:
            count += known.shape[1]
            if not np.allclose(known, Scaler.fit(history, limit).known, rtol=_CLOSE, atol=_CLOSE):
                hint = f"Fit the model again: forecast fit {source} --model {fitted.name}"
                message = f"{source}: {fitted.name} scales its known covariates by other rows than its training part."
                return Check(_NAME, _WHAT, count, known.shape[1]), Leak(_NAME, "", "", message, hint)
        return Check(_NAME, _WHAT, count), None
    if not late.any() and fingerprint(history) != fitted.facts.get("fingerprint"):
        return _left(f"these are not the data of the fit; {int(lost.sum()):,} of its series have other values"), None
    wrong = int((late if late.any() else lost).argmax())
    number = int(trained[wrong])
    name = str(history.keys[number]) or "the series"
    edge = spoken(_time(history, number, limit[number] - 1), history.time_type)
    where = spoken(_time(history, number, found[wrong] - 1), history.time_type) if late.any() else edge
    rows = f"up to {where}" if late.any() else "of no beginning of the data"
    return Check(_NAME, _WHAT, count, int((late | lost).sum()) * len(variates)), Leak(
        _NAME,
        name,
        edge,
        f"{source}: {fitted.name} scales {name} by rows {rows}; its training part ends by {edge}.",
        f"Fit the model again: forecast fit {source} --model {fitted.name}",
    )


def _left(reason: str) -> Check:
    return Check(_NAME, _WHAT, not_checked=reason)


def _agreeing(frame: SeriesFrame, mean: np.ndarray, std: np.ndarray, skipped: np.ndarray) -> np.ndarray:
    """Say after which rows all variates of a series have had, since its first row, these means and deviations: (R,).

    A variate that was not seen yet agrees, as what it is scaled by comes from elsewhere; so does the deviation of one
    that did not move.
    """
    owner = owner_of_rows(frame.offsets, 0, len(frame.values))
    agrees = np.ones(len(owner), bool)
    begin = frame.offsets[:-1] + skipped
    used = np.arange(len(owner)) >= begin[owner]
    for number in range(frame.values.shape[1]):  # a column at a time bounds the memory
        scaled = (frame.values[:, number].astype(np.float64) - mean[owner, number]) / std[owner, number]
        seen = np.isfinite(scaled) & used
        scaled[~seen] = 0.0
        sums = [np.cumsum(part) for part in (seen.astype(np.float64), scaled, scaled**2)]
        before = [np.concatenate([[0.0], part])[frame.offsets[:-1]][owner] for part in sums]
        count, total, squares = (part - offset for part, offset in zip(sums, before, strict=True))
        count = np.maximum(count, 1)
        level = total / count
        spread = np.maximum(squares / count - level**2, 0.0)
        still = np.sqrt(spread) * std[owner, number] <= 1e-6 * np.abs(mean[owner, number]) + 1e-12
        unseen = before[0] == sums[0]
        agrees &= unseen | ((np.abs(level) < _CLOSE) & (still | (np.abs(spread - 1) < _CLOSE)))
    return agrees & used


def _first(agrees: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Give where the first agreeing beginning of each series ends, (S,) buffer rows, -1 where none agrees."""
    rows = np.flatnonzero(agrees)
    place = np.searchsorted(rows, begin)
    row = np.append(rows, -1)[place]
    found: np.ndarray = np.where((row >= begin) & (row < end), row + 1, -1)
    return found


def _reach(frame: SeriesFrame) -> tuple[int, int]:
    lengths = np.diff(frame.offsets)
    last = times_at(frame.start, lengths - 1, frame.frequency, frame.time_type.zone)
    return int(frame.start.min()), int(last.max())


def _time(frame: SeriesFrame, series: int, row: int) -> int:
    zone = frame.time_type.zone
    return int(times_at(frame.start[series], row - frame.offsets[series], frame.frequency, zone))


def _numbers(names: pl.Series, trained: tuple[str, ...]) -> np.ndarray:
    place = {name: number for number, name in enumerate(trained)}
    return np.array([place.get(str(name), -1) for name in names])
