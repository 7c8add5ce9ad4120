"""What a backtest forecasts: the origins of each window, and the settings of its fits or of those beside a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .config import RunConfig, flags, resolve
from .data import calendar, table
from .data.covariates import only_history
from .data.frame import SeriesFrame
from .data.times import spoken
from .errors import DataError, UsageError
from .hindsight import NEVER, Hindsight, framed, last_seen, told_time, trained_until
from .prepare import interpret, locate, plan, read, require_buildable, window_shape

_SPLIT = (0.85, 0.14, 0.01)  # of the rows before a cutoff: their test is a horizon, as the windows are the test


@dataclass(frozen=True)
class Plan:
    """What is forecast, and by which settings: those of a fit, or of the baselines beside a stored model."""

    config: RunConfig
    model: Any  # the fitted model, None for one that is fitted here
    read: table.Table
    frame: SeriesFrame  # in the units of the table
    rows: Hindsight
    horizon: int
    lookback: int
    targets: int
    step: int  # rows between two cutoffs
    origins: np.ndarray  # (windows, S) buffer rows, -1 where a series has none

    @property
    def cutoffs(self) -> np.ndarray:
        """(windows, S) times of the origins."""
        frame = self.frame
        steps = np.maximum(self.origins - frame.offsets[:-1], 0)
        times = calendar.times_at(frame.start, steps, frame.frequency, frame.time_type.zone)
        found: np.ndarray = np.where(self.origins >= 0, times, NEVER)
        return found

    def spoken(self, window: int) -> str:
        """Give the cutoff of a window, the last one of many series, as the table writes times."""
        return spoken(int(self.cutoffs[window].max()), self.frame.time_type)

    def seen(self, window: int) -> str:
        """Say whether the fit of a stored model had seen what is forecast: in "training", at the "fit" at all, "no".

        "unknown" where the model does not tell, as for series that end at different times, each with its own part.
        """
        if self.model is None:
            return "no"
        until, last = trained_until(self.model), told_time(self.model, self.model.facts.get("span"), 1)
        if until is None or last is None:
            return "unknown"
        cutoff = self.cutoffs[window]
        first = cutoff[cutoff > NEVER].min()
        if first >= until:
            return "fit" if first < last else "no"
        frame = self.frame
        ends = calendar.times_at(frame.start, np.diff(frame.offsets), frame.frequency, frame.time_type.zone)
        return "training" if len(np.unique(ends)) == 1 else "unknown"  # the model tells the last end of all parts


def plan_fits(
    data: Any,
    model: str | None,
    windows: int,
    step: int | None,
    file: Any,
    settings: Sequence[str],
    options: Mapping[str, Any],
) -> Plan:
    """Resolve the settings of a fit and read its data; the lengths are those of a fit on all rows."""
    config = resolve(model, file=str(file) if file else None, settings=settings, flags=flags(**options), series=True)
    _ = config.model  # its settings are checked before anything is read
    found = interpret(config, data)
    whole = plan(found)
    schema, given, card = found.frame.schema, whole.config.data, found.card
    pinned = replace(
        given,
        dataset=None,  # published borders are for the whole file
        split=given.split if ("data", "split") in config.places else _SPLIT,
        split_col="none",
        freq=schema.freq,
        dates=schema.dates,
        marks=given.marks if card is None or card.marks or given.marks != "auto" else "none",
    )
    assert given.horizon is not None and given.lookback is not None
    require_buildable(whole.config, window_shape(whole))
    return _checked(
        Plan(
            config=replace(whole.config, data=pinned),
            model=None,
            read=found.table,
            frame=found.frame,
            rows=Hindsight.of(found.table, schema),
            horizon=given.horizon,
            lookback=given.lookback,
            targets=schema.targets,
            step=step or given.horizon,
            origins=_origins(
                found.frame, given.horizon, given.lookback, windows, step, schema.targets, found.table.origin
            ),
        )
    )


def plan_stored(
    data: Any, fitted: Any, windows: int, step: int | None, horizon: int | None, static: Any, track: Mapping[str, Any]
) -> Plan:
    """Read the data as a stored model does; the baselines get its lengths and columns."""
    longest, lookback = fitted.shape.horizon, fitted.shape.lookback
    steps = longest if horizon is None else horizon
    if not 1 <= steps <= longest:
        raise UsageError(
            f"Horizon {steps} was asked for; this model forecasts 1 to {longest} steps.",
            f"Ask for at most {longest}, or name a model to fit.",
        )
    _, source, _ = locate(resolve("naive"), data)
    read_table = table.read(source, fitted.schema.decimal)
    frame = only_history(framed(fitted, read_table, static))
    schema = frame.schema
    every = schema.targets == len(schema.values) or schema.layout == "panel"
    chosen = {
        **track,
        "horizon": steps,
        "lookback": lookback,
        "target": () if every else schema.values[: schema.targets],
        "variates": schema.values if every else schema.values[schema.targets :],
        "known_future": schema.known,
        "id_col": ",".join(schema.ids) or None,
        "time_col": ",".join(schema.time_parts) or schema.time,
        "freq": schema.freq,
        "dates": schema.dates,
        "decimal": schema.decimal,
        "resample": schema.freq if schema.resample else None,
        "missing_codes": schema.missing_codes,
        "max_repaired": schema.max_repaired,
        "split": _SPLIT,
        "split_col": "none",
    }
    config = resolve("naive", flags=flags(**{key: value for key, value in chosen.items() if value != ()}))
    targets = len(frame.names) if fitted.shape.targets == fitted.shape.variates else fitted.shape.targets
    return _checked(
        Plan(
            config=config,
            model=fitted,
            read=read_table,
            frame=frame,
            rows=Hindsight.of(read_table, schema),
            horizon=steps,
            lookback=lookback,
            targets=targets,
            step=step or steps,
            origins=_origins(frame, steps, lookback, windows, step, targets, read_table.origin),
        )
    )


def _checked(found: Plan) -> Plan:
    """Refuse what the first fit would refuse: raises DataError where too little stands before the first cutoff."""
    try:
        read(found.config, found.rows.until(found.cutoffs[0]))
    except DataError as error:
        raise DataError(
            f"{found.read.origin}, up to the first cutoff, {found.spoken(0)}: {error.message}",
            "Ask for fewer --windows, a smaller --step, or a shorter --horizon or --lookback.",
        ) from None
    return found


def _origins(
    frame: SeriesFrame, horizon: int, lookback: int, windows: int, step: int | None, targets: int, source: str
) -> np.ndarray:
    """Give the last known row of each series at each cutoff, the first cutoff first: (windows, S), -1 where none.

    Raises DataError where the earliest window leaves no series its lookback.
    """
    every = horizon if step is None else step
    back = horizon + every * np.arange(windows - 1, -1, -1)
    nominal = frame.offsets[None, 1:] - 1 - back[:, None]
    rows = np.stack([last_seen(frame, row, targets) for row in nominal])
    rows[rows - frame.offsets[:-1] + 1 < lookback] = -1
    if (rows < 0).all(axis=1).any():
        longest = int(np.diff(frame.offsets).max())
        raise DataError(
            f"{source}: {windows} windows of {horizon} steps, one every {every}, and a lookback of {lookback} need "
            f"{back[0] + lookback} rows; the longest series has {longest}.",
            "Ask for fewer --windows, a smaller --step, or a shorter --horizon or --lookback.",
        )
    return rows
