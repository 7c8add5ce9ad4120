"""What the forecasts of a model of series use: inputs, where attention goes, and heads where there is a graph."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .attention import attention_maps, profiles
from .data import table
from .data.calendar import times_at
from .data.covariates import only_history
from .data.frame import SeriesFrame
from .data.times import spoken
from .data.windows import WindowDataset, origins
from .errors import DataError, UsageError
from .explained import Explanation
from .fitted import window_buffer
from .heads import Ranking
from .hindsight import framed, trained_until
from .importance import permutation_importance, seconds_of_a_pass, sources_of
from .sensor_heads import sensor_heads

_WINDOWS = (8, 200)  # fewest and most that are used unless a number is given
_WORK = 2_000_000_000  # values that pass through the network at most, where that leaves enough windows
_MANY = 64  # inputs, above which two repeats are made instead of five


def explain(
    fitted: Any,
    data: Any,
    told: Callable[[str], None],
    *,
    windows: int | None = None,
    repeats: int | None = None,
    seed: int = 0,
    static: Any = None,
    ranking: Ranking | None = None,
) -> Explanation:
    """Explain a fitted model of series as `forecast.explain` says; `told` is called with what is being done."""
    for name, number in (("windows", windows), ("repeats", repeats)):
        if number is not None and number < 2:
            raise UsageError(f"{number} {name}: importance needs at least 2.", f"Ask for 2 {name} or more.")
    graph = getattr(fitted, "graph", None)  # an older version stored none
    if ranking is not None and graph is None:
        raise UsageError(f"{fitted.name} has no heads to take out, so no ranking of them.", "Leave out --ranking.")
    read = table.read(data, fitted.schema.decimal)
    frame = only_history(framed(fitted, read, static))
    variates = tuple(str(name) for name in frame.names)
    tokens = (*variates, *fitted.marks, *frame.schema.known)
    sources = sources_of(fitted, variates)
    scaler, _ = fitted.scaler_for(frame)
    every, unseen = _windows(fitted, scaler.apply_(frame))
    repeats = repeats or (5 if len(sources) <= _MANY else 2)
    if windows is None:
        work = len(sources) * repeats * (every.lookback + every.horizon) * len(tokens)
        windows = min(max(_WORK // work, _WINDOWS[0]), _WINDOWS[1])
    data = every.thinned(windows)
    seconds = seconds_of_a_pass(fitted.network, data) * (1 + repeats * len(sources))
    took = f"{seconds:,.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min (less with fewer windows)"
    told(f"exchanging {len(sources):,} inputs on {len(data):,} windows, {repeats} times: about {took}")
    importance = permutation_importance(
        fitted.network, data, scaler, sources, variates[: data.targets], repeats=repeats, seed=seed
    )
    if not importance.seen.sum():
        raise DataError(
            f"{read.origin}: no value to forecast is known in its {len(every):,} windows.",
            "Give data in which the targets were measured.",
        )
    found = None
    if graph is not None:
        told(f"taking out the heads of {len(data):,} windows")
        found = sensor_heads(fitted.network, data, scaler, variates, ranking or "robust")
    return Explanation(
        model=fitted.name,
        source=read.origin,
        span=_span(frame, data),
        unseen=unseen,
        repeats=repeats,
        seed=seed,
        importance=importance,
        attention=attention_maps(fitted.network, data, tokens),
        profiles=profiles(fitted.network, data),
        library=read.library,
        sensors=found,
    )


def _windows(fitted: Any, frame: SeriesFrame) -> tuple[WindowDataset, bool]:
    """Give the windows of a scaled frame that forecast nothing of the training part, or all if these are below two."""
    lookback, horizon = fitted.shape.lookback, fitted.shape.horizon
    every = fitted.shape.targets == fitted.shape.variates
    offsets = torch.from_numpy(frame.offsets)
    parts = torch.stack((offsets[:-1], offsets[1:]), dim=1)
    found = origins(offsets, parts, lookback, horizon)
    if len(found) < 2:
        name = "The longest series" if len(frame.keys) > 1 else "The series"
        raise DataError(
            f"{name} has {np.diff(frame.offsets).max()} rows; two windows of lookback {lookback} + horizon {horizon} "
            f"need {lookback + horizon + 1}.",
            "Give more of the past: explaining needs windows whose answers are known.",
        )
    until = trained_until(fitted)  # without times of its own a table has none to compare it with
    first = _times(frame, found.numpy() + 1)
    unseen = torch.from_numpy(np.zeros(len(first), bool) if until is None else first > until)
    apart = int(unseen.sum()) >= 2
    return WindowDataset(
        window_buffer(frame, fitted.marks),
        found[unseen] if apart else found,
        lookback,
        horizon,
        frame.values.shape[1] if every else fitted.shape.targets,
    ), apart


def _times(frame: SeriesFrame, rows: np.ndarray) -> np.ndarray:
    """Give the times of buffer rows (N,), the rows after the end of a series too."""
    series = np.searchsorted(frame.offsets, rows - 1, side="right") - 1
    steps = rows - frame.offsets[series]
    return times_at(frame.start[series], steps, frame.frequency, frame.time_type.zone)


def _span(frame: SeriesFrame, data: WindowDataset) -> tuple[str, str]:
    origin = data.origins.numpy()
    first, last = _times(frame, origin + 1).min(), _times(frame, origin + data.horizon).max()
    return spoken(int(first), frame.time_type), spoken(int(last), frame.time_type)
