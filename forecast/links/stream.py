"""The stream that a stored model of nodes or links continues: its last events, its nodes, and how tables tell them.

This module is inference code that travels inside registered models.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from torch import Tensor

from graphs.events import EventStore

from ..data import table
from ..data.nodes import Nodes, plain_ids
from ..data.ticks import read_ticks, said
from ..data.times import TimeType, quoted
from ..errors import DataError, NoRowsError
from .answers import Past
from .directory import Directory

_WORDS = {"src": "source", "dst": "destination", "time": "time"}


@dataclass(frozen=True)
class Ends:
    """The columns that events and queries are in, as they were called at the fit."""

    src: str
    dst: str
    time: str
    features: tuple[str, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Stream:
    """The events that queries look back on, under the ids of the fit.

    `past` holds them without features; `features` (w, F) are those of the last w.
    """

    nodes: Nodes
    ends: Ends
    time_type: TimeType
    past: EventStore
    features: Tensor

    @staticmethod
    def kept(store: EventStore, window: int, nodes: int, *, entire: bool) -> dict[str, Any]:
        """`past` and `features` of a stream that ends with `store`: if not `entire`, of `window` events and one.

        The one before the window tells whether the window begins within events of one time.
        """
        events = store if entire else store[max(0, len(store) - window - 1) :]
        past = _bare(events.src.clone(), events.dst.clone(), events.time.clone(), nodes)
        return {"past": past, "features": store.features[max(0, len(store) - window) :]}

    def described(self) -> dict[str, Any]:
        """What `model.json` says of the stream."""
        return {
            "ends": dataclasses.asdict(self.ends),
            "time": {**dataclasses.asdict(self.time_type), **_described(self.time_type.dtype)},
            "ids": {
                "src": str(self.nodes.sources.dtype),
                "dst": None if self.nodes.destinations is None else str(self.nodes.destinations.dtype),
            },
        }

    def tensors(self) -> dict[str, Tensor]:
        """What `model.safetensors` holds of it."""
        tensors = {f"past.{name}": getattr(self.past, name) for name in ("src", "dst", "time")}
        tensors |= {"past.features": self.features, **_packed("ids.src", self.nodes.sources)}
        if self.nodes.destinations is not None:
            tensors |= _packed("ids.dst", self.nodes.destinations)
        return tensors

    @staticmethod
    def read(described: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """The fields of a stream from what `described` and `tensors` gave."""
        dtypes, ends, time = described["ids"], described["ends"], dict(described["time"])
        time["dtype"] = _dtype(time["dtype"], time.pop("unit"), time["zone"])
        nodes = Nodes(
            _unpacked("ids.src", dtypes["src"], tensors),
            None if dtypes["dst"] is None else _unpacked("ids.dst", dtypes["dst"], tensors),
        )
        return {
            "nodes": nodes,
            "ends": Ends(**{**ends, "features": tuple(ends["features"])}),
            "time_type": TimeType(**time),
            "past": _bare(tensors["past.src"], tensors["past.dst"], tensors["past.time"], len(nodes)),
            "features": tensors["past.features"],
        }

    def columns(self, read: table.Table, wanted: tuple[str, ...]) -> dict[str, str]:
        """Where the table has what is `wanted`: under the name of the fit, or as src, dst, t."""
        usual = {"src": "src", "dst": "dst", "time": "t"}
        found = {}
        for part in wanted:
            own = getattr(self.ends, part)
            found[part] = own if own in read.schema else usual[part]
            if found[part] not in read.schema:
                best = "; or ask for the best ones with --top-k 10" if part == "dst" else ""
                raise DataError(
                    f'{read.origin}: there is no column "{own}", the {_WORDS[part]} of the events at the fit.',
                    f"Name it so, or {usual[part]}; the columns are: {', '.join(list(read.schema)[:8])}{best}.",
                )
        return found

    def times(self, column: pl.Series, where: Callable[[int], str]) -> np.ndarray:
        """The times of a column as the store has them."""
        times, _ = read_ticks(column, where, self.time_type.rules, self.time_type)
        return np.ascontiguousarray(times)

    def require_later(self, times: np.ndarray, where: Callable[[int], str]) -> None:
        """Raise DataError for a query that is not later than the last stored event: its past is not stored whole."""
        early = times <= self.past.time[-1].item()
        if early.any():
            row, last = int(early.argmax()), said(self.past.time[-1].item(), self.time_type)
            raise DataError(
                f"{where(row)}: the query at {said(times[row].item(), self.time_type)} is not later than the last "
                f"event that the model knows, at {last}.",
                "Ask for later times; earlier ones need a model that was fitted on fewer events.",
            )

    def with_history(self, history: Any) -> Past:
        """The stored events followed by those of `history`, which may have no row."""
        directory = Directory.of(self.nodes)
        nothing_since = Past(self.past, self.features, directory)
        if history is None:
            return nothing_since
        try:
            read = table.read(history)
        except NoRowsError:
            return nothing_since
        names = self.columns(read, ("src", "dst", "time"))
        for name in self.ends.features:
            if name not in read.schema:
                raise DataError(
                    f'{read.origin}: there is no column "{name}", a feature of the events at the fit.',
                    f"Give it: the model was trained with {len(self.ends.features)} features.",
                )
        frame, where = whole(read, [*names.values(), *self.ends.features])
        times = self.times(frame[names["time"]], where)
        order = np.argsort(times, kind="stable")
        if times[order[0]] < self.past.time[-1].item():
            row, last = int(order[0]), said(self.past.time[-1].item(), self.time_type)
            raise DataError(
                f"{where(row)}: the event at {said(times[row].item(), self.time_type)} is before the last event that "
                f"the model knows, at {last}.",
                "Give only events since then.",
            )
        src, dst = (
            _like(plain_ids(frame[names[end]], where), known["id"].dtype, where).gather(order)
            for end, known in (("src", directory.sources), ("dst", directory.destinations))
        )
        directory = directory.grown(src, dst, len(self.past))
        values = np.empty((frame.height, len(self.ends.features)), np.float32)
        for place, name in enumerate(self.ends.features):
            values[:, place] = frame[name].cast(pl.Float32, strict=False).to_numpy()
        bad = ~np.isfinite(values)
        if bad.any():
            row, column = (int(axis[0]) for axis in np.nonzero(bad))
            name = self.ends.features[column]
            raise DataError(
                f"{where(row)}: the feature {quoted(name)} is {frame[name][row]}, no finite number.", "Correct it."
            )
        later = EventStore.of(
            directory.source_nodes(src), directory.destination_nodes(dst), times[order], nodes=len(directory)
        )
        features = torch.cat((self.features, torch.from_numpy(values[order])))
        return Past(self.past.append(later), features, directory)


def _bare(src: Tensor, dst: Tensor, time: Tensor, nodes: int) -> EventStore:
    """Events in order of time, without features, numbered from 0."""
    none = torch.zeros(len(time), 0)
    return EventStore(src, dst, time, features=none, labels=none, order=torch.arange(len(time)), nodes=nodes)


def whole(read: table.Table, names: list[str]) -> tuple[pl.DataFrame, Callable[[int], str]]:
    """The columns, none of whose cells may be missing, and how rows are spoken of."""
    frame = read.collect(*names)
    for name in names:
        lacking = frame[name].is_null()
        if lacking.any():
            raise DataError(
                f"{read.where(int(lacking.arg_max() or 0))}: there is no {quoted(name)}.",
                "Fill it in, or leave the row out.",
            )
    return frame, read.where


def _like(ids: pl.Series, dtype: pl.DataType, where: Callable[[int], str]) -> pl.Series:
    """Ids in the type of those of the fit. Raises DataError for one that cannot be."""
    alike = ids.cast(dtype, strict=False)
    odd = alike.is_null()
    if odd.any():
        row = int(odd.arg_max() or 0)
        raise DataError(
            f'{where(row)}: {quoted(ids[row])} in column "{ids.name}" is no id as at the fit, where they were '
            "whole numbers.",
            "Give ids as they were then.",
        )
    return alike


def _described(dtype: pl.DataType) -> dict[str, str | None]:
    """A type of times as JSON can hold it."""
    return {"dtype": str(dtype.base_type()), "unit": getattr(dtype, "time_unit", None)}


def _dtype(name: str, unit: str | None, zone: str | None) -> pl.DataType:
    kind = getattr(pl, name)
    return kind(unit, zone) if unit is not None else kind()


def _packed(name: str, ids: pl.Series) -> dict[str, Tensor]:
    """Ids as tensors: whole numbers as they are, text as its bytes and where each begins."""
    if ids.dtype != pl.String:
        return {name: torch.from_numpy(ids.cast(pl.Int64, wrap_numerical=True).to_numpy().copy())}
    _, offsets, content = pa.array(ids.to_list(), pa.large_string()).buffers()
    return {
        name: torch.from_numpy(np.frombuffer(content, np.uint8).copy()),
        f"{name}.offsets": torch.from_numpy(np.frombuffer(offsets, np.int64).copy()),
    }


def _unpacked(name: str, dtype: str, tensors: Mapping[str, Tensor]) -> pl.Series:
    values = tensors[name].numpy()
    if dtype != "String":
        return pl.Series("id", values).cast(pl.UInt64 if dtype == "UInt64" else pl.Int64, wrap_numerical=True)
    offsets = tensors[f"{name}.offsets"].numpy()
    content = pa.py_buffer(values.tobytes())
    text = pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets.tobytes()), content)
    return pl.Series("id", text)
