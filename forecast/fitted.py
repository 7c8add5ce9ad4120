"""Fitted: a trained model with all that a forecast needs, as a folder of JSON and safetensors.

This module and what it imports is the inference code that travels inside every registered model, so it imports neither
Lightning nor MLflow, and everything of this package relatively.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from graphs.sensor_graph import SensorGraph

from .calibrate import Calibration
from .data import calendar, table
from .data.covariates import Feature, encode_static, history_ends, owners, require_known, with_future
from .data.frame import Schema, SeriesFrame, columns_present, frame_series, owner_of_rows
from .data.keys import with_parts
from .data.scale import Scaler
from .data.times import restore
from .data.windows import WindowBuffer, WindowDataset, WindowShape
from .errors import DataError, UsageError
from .folder import not_as_said, read_folder, write_folder
from .registry import build, config_class, find

_BATCH = 256  # series or windows forecast at once
_GRAPH = ("edges", "edge_features", "walks")  # what a graph of sensors is stored as


def window_buffer(frame: SeriesFrame, marks: Sequence[str]) -> WindowBuffer:
    """Make a scaled frame ready for windows: missing values become 0 and are remembered, marks are computed.

    Works in the frame's own memory.
    """
    seen, step = None, max(1, 4_000_000 // frame.values.shape[1])
    blocks = [frame.values[first : first + step] for first in range(0, len(frame.values), step)]
    if any(np.isnan(block).any() for block in blocks):
        seen = torch.from_numpy(~np.isnan(frame.values))
        for block in blocks:
            np.nan_to_num(block, copy=False)
    np.nan_to_num(frame.known, copy=False)
    return WindowBuffer(
        values=torch.from_numpy(frame.values),
        seen=seen,
        codes=torch.from_numpy(_mark_codes(frame, marks)),
        divisor=torch.from_numpy(calendar.mark_scale(marks)),
        offsets=torch.from_numpy(frame.offsets),
        known=torch.from_numpy(frame.known),
        static=torch.from_numpy(frame.static),
    )


def _mark_codes(frame: SeriesFrame, marks: Sequence[str]) -> np.ndarray:
    """Give the calendar features of every row, (R, K); where many series share an axis, worked out once for all."""
    codes = np.empty((len(frame.values), len(marks)), dtype=np.int16)
    if not marks:
        return codes
    frequency, zone, lengths = frame.frequency, frame.time_type.zone, np.diff(frame.offsets)
    first = frame.start.min()
    shift = calendar.positions(frame.start, first, frequency, zone)
    span = int((shift + lengths).max())
    shared = None
    if 2 * span <= len(codes) and (calendar.times_at(first, shift, frequency, zone) == frame.start).all():
        shared = calendar.mark_codes(calendar.times_at(first, np.arange(span), frequency, zone), marks, zone)
    step = 1_000_000
    for begin in range(0, len(codes), step):
        end = min(begin + step, len(codes))
        series = owner_of_rows(frame.offsets, begin, end)
        steps = np.arange(begin, end) - frame.offsets[series]
        if shared is not None:
            codes[begin:end] = shared[shift[series] + steps]
        else:
            codes[begin:end] = calendar.mark_codes(
                calendar.times_at(frame.start[series], steps, frequency, zone), marks, zone
            )
    return codes


@dataclass(frozen=True)
class Fitted:
    """A model called `name` with its settings, data schema, scaler, calibration and trained network.

    `keys` and `variates` say, as text, which series and variate each row and column of the scaler belongs to. `facts`
    are plain values about its making: data fingerprint, span, scores. `static` (owners, C_S) holds the `features` of
    each trained series, or of each variate where ids are the variates.
    """

    name: str
    config: Any
    shape: WindowShape
    schema: Schema
    marks: tuple[str, ...]
    keys: tuple[str, ...]
    variates: tuple[str, ...]
    scaler: Scaler
    calibration: Calibration
    network: torch.nn.Module
    facts: Mapping[str, Any]
    features: tuple[Feature, ...] = ()
    static: np.ndarray = dataclasses.field(default_factory=lambda: np.empty((0, 0), np.float32))
    graph: SensorGraph | None = None  # of the variates, where the network takes one

    @property
    def task(self) -> str:
        """What it forecasts, as the registry says it."""
        return "series"

    @property
    def options(self) -> dict[str, Any]:
        """What `predict` takes beside data, as MLflow passes it, with the defaults."""
        return {"horizon": self.shape.horizon, "levels": [], "wide": False}

    def save(self, folder: Path) -> None:
        """Write `model.json` and `model.safetensors` into `folder`."""
        described = {
            "task": self.task,
            "model": {"name": self.name, **dataclasses.asdict(self.config)},
            "shape": dataclasses.asdict(self.shape),
            "schema": dataclasses.asdict(self.schema),
            "marks": self.marks,
            "keys": self.keys,
            "variates": self.variates,
            "levels": self.calibration.levels,
            "features": [dataclasses.asdict(feature) for feature in self.features],
            "facts": dict(self.facts),
        }
        arrays = {
            "scaler.mean": self.scaler.mean,
            "scaler.std": self.scaler.std,
            "scaler.known": self.scaler.known,
            "static": self.static,
            "calibration.widths": self.calibration.widths,
            "calibration.pooled": self.calibration.pooled,
        }
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        if self.graph is not None:
            tensors |= {f"graph.{part}": getattr(self.graph, part) for part in _GRAPH}
        tensors |= {f"network.{key}": value for key, value in self.network.state_dict().items()}
        write_folder(folder, described, tensors)

    @classmethod
    def load(cls, folder: Path | str) -> "Fitted":
        """Read what `save` wrote; raises ArtifactError when a file is missing, damaged or of a newer format."""
        folder = Path(folder)
        described, tensors = read_folder(folder)
        try:
            return cls._of(described, tensors)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:  # RuntimeError: weights of another shape
            raise not_as_said(folder, error) from error

    @classmethod
    def _of(cls, described: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> "Fitted":
        model = dict(described["model"])
        spec = find(model.pop("name"), "series")
        shape = WindowShape(**described["shape"])
        config = config_class(spec)(**model)
        graph = _graph_of(tensors) if spec.on_graph else None
        network = build(spec, shape, config, graph)
        network.load_state_dict(
            {key.removeprefix("network."): value for key, value in tensors.items() if key.startswith("network.")}
        )
        schema: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in described["schema"].items()
        }
        return cls(
            name=spec.name,
            config=config,
            shape=shape,
            schema=Schema(**schema),
            marks=tuple(described["marks"]),
            keys=tuple(described["keys"]),
            variates=tuple(described["variates"]),
            scaler=Scaler(*(tensors[f"scaler.{part}"].numpy() for part in ("mean", "std", "known"))),
            calibration=Calibration(
                tuple(described["levels"]),
                tensors["calibration.widths"].numpy(),
                tensors["calibration.pooled"].numpy(),
            ),
            network=network.eval(),
            facts=described["facts"],
            features=tuple(Feature(**feature) for feature in described["features"]),
            static=tensors["static"].numpy(),
            graph=graph,
        )

    def predict(
        self,
        data: Any,
        *,
        horizon: int | None = None,
        levels: Sequence[int] = (),
        wide: bool = False,
        future: Any = None,
        static: Any = None,
        told: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> Any:
        """Forecast the steps after the end of `data` (path, polars or pandas), in the units of the table.

        A model with known-future covariates needs their rows for the whole trained horizon: as a table `future`, or
        behind the past in `data` itself, with empty targets. Static features of the trained series are stored in the
        model; `static`, a table, gives them for others.

        Returns `unique_id, ds, yhat` and `yhat_lo_80, yhat_hi_80` … for each level, in the frame library that was given
        (polars for a path); `wide` gives a time column and one column a variate instead. A horizon shorter than the
        trained one is a slice; a longer one is refused with UsageError. A series shorter than the lookback is padded in
        front as unseen; a series or variate that the model was not trained on is scaled by its own values and gets
        intervals pooled over the trained variates. `told` is called with what was read: rows, series, repairs,
        warnings, what is new to the model as `unseen`, and `span`, the first and the last time of the forecast.
        Raises DataError when the table does not fit the model.
        """
        steps = self.shape.horizon if horizon is None else horizon
        if not 1 <= steps <= self.shape.horizon:
            raise UsageError(
                f"Horizon {steps} was asked for; this model forecasts 1 to {self.shape.horizon} steps.",
                f"Ask for at most {self.shape.horizon}, or fit with --horizon {steps}.",
            )
        read = table.read(data, self.schema.decimal)
        if future is not None:
            if not self.schema.known:
                raise UsageError(
                    "Rows of the future were given, but the model knows no covariate of the future.",
                    "Leave out --future, or fit with --known-future COLUMNS.",
                )
            read = with_future(read, table.read(future, self.schema.decimal), self.schema)
        frame = frame_series(read, self._schema_for(read))
        ends = history_ends(frame)
        require_known(frame, ends, self.shape.horizon, read.origin)
        frame = replace(frame, static=self.static_of(frame, static))
        recent = _recent(frame, ends, self.shape.lookback, self.shape.horizon)
        if told is not None:
            told({**self._facts_of(read, frame), "span": self._span(recent, steps)})
        forecast = self._forecast(recent, steps, levels, wide)
        if not wide:
            names = frame.names[: len(frame.names) if self.shape.targets == self.shape.variates else self.shape.targets]
            forecast = with_parts(
                forecast, read, self.schema, frame.keys if frame.schema.layout == "channels" else names
            )
        return table.to_library(forecast, read.library)

    def _facts_of(self, read: table.Table, frame: SeriesFrame) -> dict[str, Any]:
        """What was read to forecast: source, rows, series, repairs, warnings, and what the model has not met."""
        names = ((frame.keys, self.keys), (frame.names, self.variates))
        unseen = [
            str(name)
            for given, trained in names
            for name in given.filter(pl.Series(_numbers(given, trained) < 0, dtype=pl.Boolean))
        ]
        series = len(frame.names) if frame.schema.layout == "panel" else len(frame.keys)
        return {
            "source": read.origin,
            "rows": read.rows,
            "series": series,
            **read.ledger.to_dict(),
            "unseen": unseen,
        }

    def _span(self, recent: SeriesFrame, steps: int) -> list[str]:
        """The first and the last time of a forecast, as its table writes them."""
        after = self.shape.lookback + np.array([0, steps - 1])
        times = calendar.times_at(recent.start[:, None], after, recent.frequency, recent.time_type.zone)
        return [str(time) for time in restore(np.array([times.min(), times.max()]), recent.time_type)]

    def static_of(self, frame: SeriesFrame, given: Any) -> np.ndarray:
        """Give the static features of the frame's series, (S, V or 1, C_S), from a table or as they were at the fit.

        Raises DataError for a series that neither knows, UsageError for features that the model does not take.
        """
        if given is not None and not self.features:
            raise UsageError("Static features were given, but the model has none.", "Leave out --static.")
        if given is not None:
            return encode_static(table.read(given), frame, self.features)
        per_series = frame.schema.layout == "channels"
        owner = owners(frame)
        if not self.features:
            return np.empty((len(frame.keys), 1, 0), np.float32)
        number = _numbers(pl.Series(owner, dtype=pl.String), self.keys if per_series else self.variates)
        if (number < 0).any():
            raise DataError(
                f"The model knows no static features of {owner[int((number < 0).argmax())]!r}, which it was not "
                f"trained on ({int((number < 0).sum())} such).",
                "Give them with --static FILE, one row a series.",
            )
        rows = self.static[number]
        return rows[:, None] if per_series else rows[None]

    def _schema_for(self, read: table.Table) -> Schema:
        """Give the schema with the columns that a wide table has, where the network takes any number of variates.

        Columns that were left out at the fit stay left out. Raises DataError for a column that is no sensor of the
        graph that the model was trained on.
        """
        schema, fixed = self.schema, not getattr(self.network, "any_variates", False)
        if schema.layout != "wide" or (fixed and self.graph is None):
            return schema
        found, _, new = columns_present(read, schema)
        new = tuple(name for name in new if name not in self.facts.get("left_out", ()))
        if self.graph is not None:
            if new:
                raise DataError(
                    f"{read.origin}: {len(new)} column(s), first {new[0]!r}, are no sensors of the model's graph.",
                    "Leave them out, or fit again with their edges.",
                )
            return schema
        values = (*found, *new)
        every = schema.targets == len(schema.values)
        return replace(schema, values=values, targets=len(values) if every else schema.targets)

    def _forecast(self, recent: SeriesFrame, steps: int, levels: Sequence[int], wide: bool) -> pl.DataFrame:
        variates = recent.names.cast(pl.String).to_list()
        if not getattr(self.network, "any_variates", False) and tuple(variates) != self.variates:
            raise DataError(
                f"{self.name} was trained on {len(self.variates)} variates in a fixed order; the table differs: "
                f"{', '.join(sorted(set(variates) ^ set(self.variates))) or 'the order'}.",
                "Give the same columns as at the fit.",
            )
        scaler, column = self.scaler_for(recent)
        targets = len(variates) if self.shape.targets == self.shape.variates else self.shape.targets
        length = self.shape.lookback + self.shape.horizon
        series = np.arange(len(recent.keys))
        data = WindowDataset(
            window_buffer(scaler.apply_(recent), self.marks),
            torch.from_numpy(series * length + self.shape.lookback - 1),
            self.shape.lookback,
            self.shape.horizon,
            targets,
        )
        with torch.inference_mode():
            scaled = torch.cat([self.network(window) for window, *_ in data.batches(_BATCH)])
        values = scaler.invert(scaled.double().numpy(), series)[:, :steps]  # (S, H, V_out)
        columns = {"yhat": values}
        for level in levels:
            half = self.calibration.half_width(level, column[:targets])[:steps] * scaler.std[:, None, :targets]
            columns[f"yhat_lo_{level}"], columns[f"yhat_hi_{level}"] = values - half, values + half
        after = np.arange(steps) + self.shape.lookback
        times = calendar.times_at(recent.start[:, None], after, recent.frequency, recent.time_type.zone)  # (S, H)
        return long_table(recent, targets, times, columns) if not wide else _wide(recent, targets, times, columns)

    def scaler_for(self, frame: SeriesFrame, end: np.ndarray | None = None) -> tuple[Scaler, np.ndarray]:
        """Give the scaler of `frame`'s series and variates, and the trained number of each variate (-1: unseen).

        What the model was not trained on is scaled by its own seen values in `frame`, up to `end` (S,) where given.
        """
        series = _numbers(frame.keys, self.keys)
        variates = _numbers(frame.names, self.variates)
        own = Scaler.fit(frame, frame.offsets[1:] if end is None else end)
        trained = (series[:, None] >= 0) & (variates >= 0)
        mean, std = self.scaler.mean[series][:, variates], self.scaler.std[series][:, variates]
        scaler = Scaler(np.where(trained, mean, own.mean), np.where(trained, std, own.std), self.scaler.known)
        return scaler, variates


def _graph_of(tensors: Mapping[str, torch.Tensor]) -> SensorGraph:
    """Give the graph of the variates that `Fitted.save` stored."""
    edges, features, walks = (tensors[f"graph.{part}"] for part in _GRAPH)
    return SensorGraph(len(walks), edges, features, walks)


def _numbers(names: pl.Series, trained: Sequence[str]) -> np.ndarray:
    """Find each of `names` among `trained`: its number, or -1."""
    number = pl.DataFrame(
        {"name": list(trained), "number": np.arange(len(trained))}, schema_overrides={"name": pl.String}
    )
    found = pl.DataFrame({"name": names.cast(pl.String)}).join(number, on="name", how="left", maintain_order="left")
    return found["number"].fill_null(-1).to_numpy()


def _recent(frame: SeriesFrame, ends: np.ndarray, lookback: int, horizon: int) -> SeriesFrame:
    """Give the `lookback` rows before `ends` (S,) of each series, NaN before a shorter one, and `horizon` NaN rows.

    Known covariates have the rows of the horizon too.
    """
    length = ends - frame.offsets[:-1]
    rows = ends[:, None] - lookback + np.arange(lookback + horizon)  # (S, L + H)
    there = (rows >= frame.offsets[:-1, None]) & (rows < frame.offsets[1:, None])
    values, known = (np.full((*rows.shape, part.shape[1]), np.nan, np.float32) for part in (frame.values, frame.known))
    known[there] = frame.known[rows[there]]
    there[:, lookback:] = False
    values[there] = frame.values[rows[there]]
    return replace(
        frame,
        offsets=np.arange(len(length) + 1) * (lookback + horizon),
        start=calendar.times_at(frame.start, length - lookback, frame.frequency, frame.time_type.zone),
        values=np.concatenate(values),
        known=np.concatenate(known),
    )


def long_table(frame: SeriesFrame, targets: int, times: np.ndarray, columns: Mapping[str, np.ndarray]) -> pl.DataFrame:
    """One row a series, variate and step: `unique_id, ds` and the columns (S, H, V_out)."""
    series, steps = times.shape
    names = frame.names[:targets]
    if targets == 1 and frame.schema.layout == "channels":
        names_of = frame.keys
    elif frame.schema.layout != "channels":
        names_of = names
    else:  # several value columns in several series: both belong into the id
        names_of = frame.keys.gather(np.repeat(np.arange(series), targets)).cast(pl.String) + "/"
        names_of = names_of + names.cast(pl.String).gather(np.tile(np.arange(targets), series))
    stamps = np.repeat(times[:, None], targets, axis=1).reshape(-1)
    return pl.DataFrame(
        {
            "unique_id": names_of.gather(np.repeat(np.arange(series * targets), steps)),
            "ds": restore(stamps, frame.time_type),
            **{name: values.transpose(0, 2, 1).reshape(-1) for name, values in columns.items()},
        }
    )


def _wide(frame: SeriesFrame, targets: int, times: np.ndarray, columns: Mapping[str, np.ndarray]) -> pl.DataFrame:
    """One row a step and one column a variate, named as in the table; intervals are `NAME_lo_80`, `NAME_hi_80`."""
    if len(frame.keys) > 1:
        raise UsageError("Series that do not share one time axis cannot be written wide.", "Leave out --wide.")
    names = frame.names[:targets].cast(pl.String).to_list()
    time = frame.schema.time or "ds"
    wide: dict[str, Any] = {time: restore(times[0], frame.time_type)}
    for column, values in columns.items():
        suffix = column.removeprefix("yhat")
        wide |= {f"{name}{suffix}": values[0, :, number] for number, name in enumerate(names)}
    return pl.DataFrame(wide)
