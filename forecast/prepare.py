"""From a table to scaled windows: what a fit, a registration and a backtest share.

`read` checks and splits with numpy and polars alone; torch is imported once the data have been accepted.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .config import RunConfig
from .data import calendar, catalogue, split, table
from .data.cards import Card, EventCard
from .data.covariates import Feature, only_history, read_static
from .data.frame import SeriesFrame, fingerprint, frame_series, owner_of_rows, refuse_repairs, understand
from .data.holdout import HeldOut, find_holdout, held_out
from .data.scale import Scaler
from .data.schema import Schema, axis_for, shaped
from .data.short import note_short, padded, rows_needed
from .errors import DataError, UsageError
from .registry import build, find
from .sensors import sensor_graph, with_named_operators

if TYPE_CHECKING:
    from graphs.sensor_graph import SensorGraph

    from .data.windows import WindowDataset, WindowShape
    from .fitted import Fitted

_SERVED = 0.95  # share of the series that a lookback leaves a training window
_USUAL = {
    "h": 24,
    "D": 14,
    "B": 10,
    "W": 13,
    "month": 12,
    "quarter": 8,
    "year": 6,
}  # horizons of the forecasting competitions


@dataclass(frozen=True)
class Understood:
    """A table as series, before anything is decided about a fit."""

    config: RunConfig
    card: Card | None
    table: table.Table
    whole: SeriesFrame  # with the rows behind the history, which known covariates may have
    frame: SeriesFrame
    features: tuple[Feature, ...]  # how static features are encoded
    split_col: str | None = None  # the column that marks a published hold-out


@dataclass(frozen=True)
class Read:
    """A checked frame in the units of the table, its split, and the configuration with every length filled in."""

    config: RunConfig
    frame: SeriesFrame
    split: split.Split
    marks: tuple[str, ...]  # calendar features of each step
    seasons: tuple[int, ...]  # candidate periods, in steps
    facts: Mapping[str, Any]  # the `data` part of a fit's document
    fingerprint: str
    features: tuple[Feature, ...]  # how static features are encoded
    graph: "SensorGraph | None" = None  # of the variates, for a model that takes one


@dataclass(frozen=True)
class Prepared:
    """Scaled windows of the three parts, and what scoring needs."""

    read: Read
    scaler: Scaler
    season: int
    naive_error: np.ndarray  # (S, V_out): the divisor of MASE, on the scaled axis
    shape: "WindowShape"
    train: "WindowDataset"
    validation: "WindowDataset"
    test: "WindowDataset"


def locate(config: RunConfig, source: Any) -> tuple[RunConfig, Any, Card | None]:
    """Find the data: `source` may be a table, a path, the name of a card, or None where the configuration names one."""
    if source is None and config.data.dataset is None:
        raise UsageError("No data were given.", "Name a file, or one of `forecast datasets`.")
    card = _series_card(catalogue.card(config.data.dataset)) if config.data.dataset else None
    if source is None:
        assert card is not None
        return config, catalogue.read(card), card
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        if (found := catalogue.named(text)) is not None:
            named = _series_card(found)
            if card is not None and card.name != named.name:
                raise UsageError(
                    f"{named.name} was asked for, but the configuration belongs to {card.name}.",
                    f"Use --set data.dataset={named.name}, or another --config.",
                )
            config = replace(config, data=replace(config.data, dataset=named.name))
            return config, catalogue.read(named), named
        if card is not None:
            return config, catalogue.read(card, Path(text)), card
    return config, source, card


def _series_card(card: Card | EventCard) -> Card:
    """The card of a set of series. Raises UsageError for one of events."""
    if isinstance(card, EventCard):
        raise UsageError(f"{card.name} holds events, and no series.", f"forecast fit {card.name} --model todyformer")
    return card


def read(config: RunConfig, source: Any) -> Read:
    """Read and check the data, and split them by time. Raises DataError or UsageError."""
    understood = interpret(config, source)
    found = plan(understood)
    return on_graph(found, understood.table.ledger) if find(config.name, "series").on_graph else found


def on_graph(found: Read, ledger: table.Ledger) -> Read:
    """Add the graph of the variates and what is told of it, and name the operators that a file or chance decides.

    Raises DataError and UsageError.
    """
    if found.config.train.precision != "fp32":
        raise UsageError(
            f"{found.config.name} is trained in fp32 alone: its sums along edges do not mix precisions.",
            "Leave out --precision.",
        )
    end = int(found.split.train_end[0])
    config = found.config
    graph, told = sensor_graph(config.data, found.frame, found.features, end, ledger, found.facts["source"])
    sha256 = told["sha256"]  # a fit on the same series and another graph is another fit
    return replace(
        found,
        config=with_named_operators(found.config),
        graph=graph,
        facts={**found.facts, **ledger.to_dict(), "graph": told},
        fingerprint=hashlib.sha256(f"{found.fingerprint}{sha256}".encode()).hexdigest()
        if sha256
        else found.fingerprint,
    )


def interpret(config: RunConfig, source: Any) -> Understood:
    """Read the data and make series of them. Raises DataError or UsageError."""
    config, found, card = locate(config, source)
    read_table = table.read(found, config.data.decimal)
    data = config.data
    named = {data.id_col, data.time_col, *data.target, *data.variates, *data.known_future}
    split_col = (
        None if data.split_col == "none" or card is not None else find_holdout(read_table, data.split_col, named)
    )
    schema = understand(
        read_table,
        id_col=data.id_col,
        time_col=data.time_col,
        target=data.target,
        variates=data.variates,
        freq=data.freq or (card.freq if card and card.time else None),
        dates=data.dates,
        known=data.known_future,
        resample=data.resample,
        missing_codes=data.missing_codes,
        ignored=() if split_col is None else (split_col,),
        max_repaired=data.max_repaired,
    )
    whole = frame_series(read_table, schema, strict=data.strict)
    frame = only_history(whole)
    features: tuple[Feature, ...] = ()
    if data.static is not None:
        static, features = read_static(table.read(data.static), frame)
        frame = replace(frame, static=static)
    _note_unknown(read_table, frame)
    return Understood(config, card, read_table, whole, frame, features, split_col)


def plan(found: Understood) -> Read:
    """Choose the lengths that are not given, and split by time. Raises DataError where a part has no window."""
    config, card, read_table, frame, features = found.config, found.card, found.table, found.frame, found.features
    data, schema, split_col = config.data, frame.schema, found.split_col
    seasons = calendar.seasons(frame.frequency)
    held = None if split_col is None else held_out(read_table, frame, split_col)
    horizon = data.horizon or _horizon(frame, seasons, held)

    def cut(lookback: int) -> split.Split:
        if card is not None:
            return _published(card, read_table, frame, lookback)
        return split.by_fraction(frame, data.split, horizon) if held is None else held.split(frame, horizon)

    lookback = data.lookback or _lookback(cut(1).train_end - frame.offsets[:-1], horizon, seasons)
    data = replace(data, horizon=horizon, lookback=lookback)
    if data.short_series == "pad":
        shares = data.split if held is None else (1.0, 0.0, 0.0)
        frame = padded(frame, rows_needed(lookback, horizon, shares), read_table.ledger)
    parts = cut(lookback)
    note_short(frame, parts, lookback, horizon, read_table.ledger)
    if data.strict:
        refuse_repairs(read_table)
    marks = data.marks
    if marks == "auto":
        marks = frame.frequency.alias if card is None or card.marks else "none"
    spans = [span(frame, part) for part in (parts.train, parts.validation, parts.test)]
    facts = {
        "kind": "series",
        "layout": frame.schema.layout,
        "rows": read_table.rows,
        "series": len(frame.keys),
        "variates": frame.values.shape[1],
        "targets": frame.schema.targets,
        "forecasts": [str(name) for name in frame.names[: frame.schema.targets]],
        "known_future": list(schema.known),
        "static": list(dict.fromkeys(feature.column for feature in features)),
        "lookback": lookback,
        "horizon": horizon,
        "freq": frame.frequency.alias,
        "span": span(frame, np.stack([frame.offsets[:-1], frame.offsets[1:]], axis=1)),
        "source": read_table.origin,
        "left_out": left_out(read_table, schema),
        **read_table.ledger.to_dict(),
        "split_by": card.name if card is not None else "shares" if split_col is None else split_col,
        "split": dict(zip(("train", "validation", "test"), spans, strict=True)),
    }
    result = Read(
        config=replace(config, data=data),
        frame=frame,
        split=parts,
        marks=() if marks == "none" else calendar.mark_names(marks),
        seasons=seasons,
        facts=facts,
        fingerprint=fingerprint(frame),
        features=features,
    )
    _require_windows(result)
    return result


def left_out(read_table: table.Table, schema: Schema) -> list[str]:
    """Give the columns of a table that are not used."""
    used = (*schema.ids, schema.id, schema.time, *schema.values, *schema.known)
    return [name for name in shaped(read_table, schema).schema if name not in used]


def prepare(read: Read, champion: "Fitted | None" = None) -> Prepared:
    """Scale the frame, in its own memory, and index the windows of each part.

    With a `champion` they are its windows: its scaler, marks and lookback, at the same origins. Raises UsageError when
    the champion does not fit these data.
    """
    import torch

    from .data.windows import WindowDataset, origins
    from .fitted import window_buffer
    from .scoring import best_season, seasonal_error

    frame, data = read.frame, read.config.data
    assert data.horizon is not None and data.lookback is not None
    targets = frame.schema.targets
    offsets = torch.from_numpy(frame.offsets)
    at = [
        origins(offsets, torch.from_numpy(part), data.lookback, data.horizon)
        for part in (read.split.train, read.split.validation, read.split.test)
    ]
    scaler = fit_scaler(read)
    if champion is not None:
        scaler, _ = champion.scaler_for(frame, scaler_ends(read))
    marks = read.marks if champion is None else champion.marks
    buffer = window_buffer(scaler.apply_(frame), marks)
    parts = [WindowDataset(buffer, part, data.lookback, data.horizon, targets) for part in at]
    season = best_season(parts[0], read.seasons)
    shape = replace(window_shape(read), time_features=len(marks))
    if champion is not None:
        shape = replace(shape, lookback=champion.shape.lookback)
        test = parts[2].with_lookback(shape.lookback)
        if len(test) < len(parts[2]):
            raise UsageError(f"needs {shape.lookback} rows before each forecast", "Register under another name.")
        parts[2] = test
    in_sample = read.split.train_end if read.split.in_sample is None else read.split.in_sample
    naive_error = seasonal_error(buffer, in_sample, usual_season(frame, in_sample))[:, :targets]
    return Prepared(read, scaler, season, naive_error, shape, *parts)


def scaler_ends(read: Read) -> np.ndarray:
    """Where the rows end that scaling may look at, (S,): with the training part.

    A series whose training part is shorter than one lookback is scaled by its first `lookback` rows: they stand before
    the origin of each of its windows, so that no forecast is scaled by what it forecasts.
    """
    offsets, lookback = read.frame.offsets, read.config.data.lookback
    assert lookback is not None
    ends: np.ndarray = np.minimum(np.maximum(read.split.train_end, offsets[:-1] + lookback), offsets[1:])
    return ends


def fit_scaler(read: Read) -> Scaler:
    """Give the scaler of a frame that is not scaled yet."""
    return Scaler.fit(read.frame, scaler_ends(read), pooled=True)


def usual_season(frame: SeriesFrame, in_sample: np.ndarray) -> int:
    """The season of MASE: the calendar's first, as in the M competitions; 1 where most series are shorter than it."""
    season = (*calendar.seasons(frame.frequency), 1)[0]
    return season if np.median(in_sample - frame.offsets[:-1]) > season else 1


def window_shape(read: Read) -> "WindowShape":
    """What a network for these data is built from."""
    from .data.windows import WindowShape

    frame, data = read.frame, read.config.data
    assert data.horizon is not None and data.lookback is not None
    return WindowShape(
        data.lookback,
        data.horizon,
        frame.values.shape[1],
        frame.schema.targets,
        len(read.marks),
        known=len(frame.schema.known),
        static=frame.static.shape[2],
    )


def require_buildable(config: RunConfig, shape: "WindowShape", graph: "SensorGraph | None" = None) -> None:
    """Raise UsageError for settings that the network refuses for windows of this shape, on this graph."""
    import torch

    with torch.device("meta"):  # the network is not kept: its weights need no memory
        build(find(config.name, "series"), shape, config.model, graph)


def _published(card: Card, read_table: table.Table, frame: SeriesFrame, lookback: int) -> split.Split:
    """Cut where the card says: its borders are rows of the file, which a repair moves, so they are found by time."""
    borders = np.array(catalogue.borders(card, read_table.rows, lookback))
    if len(frame.keys) == 1 and len(frame.values) != read_table.rows:
        axis = axis_for(read_table, frame.schema)
        last = calendar.positions(axis.times[borders - 1], frame.start[0], frame.frequency, frame.time_type.zone)
        borders = last + 1
    return split.published(frame, borders, card.name)


def _horizon(frame: SeriesFrame, seasons: tuple[int, ...], held: HeldOut | None) -> int:
    """The horizon that is usual for the step; less for a short table.

    A hold-out of a few usual horizons is forecast at once, from the last row before it, as competitions do.
    """
    unit = {3: "quarter", 12: "year"}.get(frame.frequency.count, "month")
    usual = unit if frame.frequency.unit == "month" else frame.frequency.alias.partition("-")[0]
    horizon = _USUAL.get(usual, min(seasons[0], 96) if seasons else 6)
    horizon = max(1, min(horizon, int(np.diff(frame.offsets).max()) // 5))  # three and a lookback must find room
    return held.usual if held is not None and held.usual <= 4 * horizon else horizon


def _lookback(rows: np.ndarray, horizon: int, seasons: tuple[int, ...]) -> int:
    """The lookback for series of which `rows` (S,) may be learned from: two horizons or four seasons, where they fit.

    They fit where half of all training windows remain, and one to nearly every series that can have one; but a season,
    or a horizon where there is none, is not given up for the shortest series. Whole seasons where it is more than one.
    """
    room = rows - horizon  # the longest lookback that leaves a window
    room = room[room > 0]
    if not len(room):
        return 1
    wanted, least = (max(2 * horizon, 4 * seasons[0]), seasons[0]) if seasons else (2 * horizon, horizon)
    nearly_all = int(np.quantile(room, 1 - _SERVED, method="lower"))
    lookback = max(1, min(wanted, max(nearly_all, least), int(room.mean()) // 2))
    return lookback // seasons[0] * seasons[0] or lookback if seasons else lookback


def _note_unknown(read_table: table.Table, frame: SeriesFrame) -> None:
    """Caution for known covariates with missing values: networks read those as the training mean."""
    for number, name in enumerate(frame.schema.known):
        missing = int(np.isnan(frame.known[:, number]).sum())
        if missing:
            read_table.ledger.caution("missing-covariate", name, "read as its mean", missing)


def span(frame: SeriesFrame, rows: np.ndarray) -> list[str]:
    """Give the first and the last time of buffer rows [a, b) of each series, over all series."""
    rows = rows[rows[:, 1] > rows[:, 0]]
    if not len(rows):
        return []
    series = np.searchsorted(frame.offsets, rows[:, 0], side="right") - 1
    edges = [
        calendar.times_at(frame.start[series], step - frame.offsets[series], frame.frequency, frame.time_type.zone)
        for step in (rows[:, 0], rows[:, 1] - 1)
    ]
    ends = np.array([edges[0].min(), edges[1].max()])
    if frame.frequency.unit == "step":
        return [str(end) for end in ends]
    texts: list[str] = [str(np.datetime64(int(end), "us").astype("datetime64[s]")) for end in ends]
    return texts


def _require_windows(read: Read) -> None:
    """Raise DataError when a part has no window, before anything heavy is imported; counted as `origins` does."""
    data = read.config.data
    assert data.horizon is not None and data.lookback is not None
    parts = {"training": read.split.train, "validation": read.split.validation, "test": read.split.test}
    for name, part in parts.items():
        first = np.maximum(part[:, 0], read.frame.offsets[:-1] + data.lookback)
        has = first + data.horizon <= part[:, 1]
        if not has.any():
            raise _too_short(read, name)
        if not _any_seen(read.frame, np.where(has, first, part[:, 1]), part[:, 1]):
            raise DataError(
                f"{read.facts['source']}: every value to forecast in the {name} part is missing: no score.",
                "Give the values, or move the borders: --set data.split=[0.7,0.1,0.2].",
            )


def _any_seen(frame: SeriesFrame, first: np.ndarray, end: np.ndarray) -> bool:
    """Whether any target was seen in the rows [first, end), (S,) each, of any series."""
    step = max(1, 4_000_000 // frame.values.shape[1])
    for begin in range(0, len(frame.values), step):
        stop = min(begin + step, len(frame.values))
        owner, rows = owner_of_rows(frame.offsets, begin, stop), np.arange(begin, stop)
        inside = (rows >= first[owner]) & (rows < end[owner])
        if inside.any() and np.isfinite(frame.values[begin:stop, : frame.schema.targets][inside]).any():
            return True
    return False


def _too_short(read: Read, part: str) -> DataError:
    data, length = read.config.data, np.diff(read.frame.offsets)
    longest = int(length.argmax())
    key = read.frame.keys[longest]
    name = f"Series {key!r}" if key != "" else "The series"
    needed = (data.lookback or 0) + (data.horizon or 0)
    return DataError(
        f"{name} has {length[longest]} rows; the {part} part has none with lookback {data.lookback} + horizon "
        f"{data.horizon} = {needed} rows for a window.",
        "Shorten --horizon or --lookback, or give more rows.",
    )
