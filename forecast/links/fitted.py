"""FittedLinks: a trained network of links with the events it looks back on, as a folder of JSON and safetensors.

This module and what it imports is inference code that travels inside registered models: neither Lightning nor MLflow,
and everything of this package relatively.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from torch import Tensor

from graphs.events import EventStore
from graphs.todyformer import GraphShape, History, Todyformer, TodyformerConfig

from ..data import table
from ..data.nodes import Nodes, plain_ids
from ..data.ticks import read_ticks, said
from ..data.times import TimeType, quoted
from ..errors import DataError, UsageError
from ..folder import not_as_said, read_folder, write_folder
from .answers import Past, Ranker, groups
from .directory import STRANGER, Directory

_WORDS = {"src": "source", "dst": "destination", "time": "time"}


@dataclass(frozen=True)
class Ends:
    """The columns that events and queries are in, as they were called at the fit."""

    src: str
    dst: str
    time: str
    features: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class FittedLinks:
    """A network called `name`, the ids of its nodes, and the stream it continues.

    `past` holds the stored events without features: all of them where the network knows the whole past of a pair, else
    its window and one. `features` (w, F) are those of the last w. `facts` are plain values about the making.
    """

    name: str
    network: Todyformer
    nodes: Nodes
    ends: Ends
    time_type: TimeType
    past: EventStore
    features: Tensor
    facts: Mapping[str, Any]

    @property
    def options(self) -> dict[str, Any]:
        """What `predict` takes beside data, as MLflow passes it, with the defaults."""
        return {"top_k": 0}

    @classmethod
    def of(
        cls,
        name: str,
        network: Todyformer,
        nodes: Nodes,
        ends: Ends,
        time_type: TimeType,
        store: EventStore,
        facts: Mapping[str, Any],
    ) -> "FittedLinks":
        """A trained network and as much of `store`, the stream to continue, as its predictions need."""
        window = network.config.window
        kept = store if network.config.pair_history == "all" else store[max(0, len(store) - window - 1) :]
        features = store.features[max(0, len(store) - window) :]
        return cls(name, network.eval(), nodes, ends, time_type, _bare(kept), features, facts)

    def save(self, folder: Path) -> None:
        """Write `model.json` and `model.safetensors` into `folder`."""
        described = {
            "task": "links",
            "model": {"name": self.name, **dataclasses.asdict(self.network.config)},
            "shape": self.network.shape._asdict(),
            "ends": dataclasses.asdict(self.ends),
            "time": {**dataclasses.asdict(self.time_type), **_described(self.time_type.dtype)},
            "ids": {
                "src": str(self.nodes.sources.dtype),
                "dst": None if self.nodes.destinations is None else str(self.nodes.destinations.dtype),
            },
            "facts": dict(self.facts),
        }
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"past.{name}": getattr(self.past, name) for name in ("src", "dst", "time")}
        tensors |= {"past.features": self.features, **_packed("ids.src", self.nodes.sources)}
        if self.nodes.destinations is not None:
            tensors |= _packed("ids.dst", self.nodes.destinations)
        write_folder(folder, described, tensors)

    @classmethod
    def load(cls, folder: Path | str) -> "FittedLinks":
        """Read what `save` wrote; raises ArtifactError when a file is missing, damaged or of a newer format."""
        folder = Path(folder)
        described, tensors = read_folder(folder)
        try:
            return cls._of(described, tensors)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:  # RuntimeError: weights of another shape
            raise not_as_said(folder, error) from error

    @classmethod
    def _of(cls, described: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "FittedLinks":
        model = dict(described["model"])
        name = model.pop("name")
        network = Todyformer(GraphShape(**described["shape"]), TodyformerConfig(**model))
        network.load_state_dict(
            {key.removeprefix("network."): value for key, value in tensors.items() if key.startswith("network.")}
        )
        dtypes, ends, time = described["ids"], described["ends"], dict(described["time"])
        time["dtype"] = _dtype(time["dtype"], time.pop("unit"), time["zone"])
        nodes = Nodes(
            _unpacked("ids.src", dtypes["src"], tensors),
            None if dtypes["dst"] is None else _unpacked("ids.dst", dtypes["dst"], tensors),
        )
        past = EventStore(
            *(tensors[f"past.{column}"] for column in ("src", "dst", "time")),
            features=torch.zeros(len(tensors["past.time"]), 0),
            labels=torch.zeros(len(tensors["past.time"]), 0),
            order=torch.arange(len(tensors["past.time"])),
            nodes=len(nodes),
        )
        return cls(
            name,
            network.eval(),
            nodes,
            Ends(**{**ends, "features": tuple(ends["features"])}),
            TimeType(**time),
            past,
            tensors["past.features"],
            described["facts"],
        )

    def rule(self, store: EventStore) -> Ranker:
        """The network as a rule on batches of another stream, whose nodes have the numbers of this model."""
        return Ranker(self.network, History(store, self.network.config))

    def predict(
        self,
        data: Any,
        *,
        top_k: int = 0,
        history: Any = None,
        told: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> Any:
        """Score the links that `data` (path, polars or pandas) asks about, or rank the destinations of its sources.

        Without `top_k`, each row (src, dst, t) comes back with its `score`, all columns and the order kept. With it,
        each row (src, t) gives `top_k` rows: src, t, `rank` from 1, dst, `score`; of equal scores the destination with
        the smaller id first, those that came since the fit behind. A score is a logit: of two destinations of one query
        the higher is the likelier, by exp(difference) where the network was trained with the softmax loss. All comes
        back in the frame library that was given, polars for a path.

        A query is answered from the events strictly before its time: those stored with the model and those of
        `history`, a table of what happened since, which must not begin before the stored ones end and may go on
        behind the queries. An answer depends on no other row. An id that no such event has shown is a stranger: it
        scores as a node without a past, which a popular destination may still beat others with; it is never among
        the ranked ones. Raises DataError, naming the row, for a query that is not later than the last stored event and
        for cells that are missing or of another type; UsageError for a `top_k` below 0. `told` is called with what was
        read: source, rows, repairs, warnings, and the ids that are strangers as `unseen`.
        """
        if top_k < 0:
            raise UsageError(f"Of each ranking {top_k} were asked for.", "Ask for --top-k 1 or more.")
        read = table.read(data)
        names = self._columns(read, ("src", "time") if top_k else ("src", "dst", "time"))
        frame, where = _whole(read, list(names.values()))
        times = self._times(frame[names["time"]], where)
        self._require_later(times, where)
        past = self._with(history)
        directory = past.directory
        src = directory.source_nodes(plain_ids(frame[names["src"]], where))
        nodes = {"src": src}
        if not top_k:
            dst = nodes["dst"] = directory.destination_nodes(plain_ids(frame[names["dst"]], where))
        if told is not None:
            unseen = [frame[names[end]].filter(pl.Series(found == STRANGER)) for end, found in nodes.items()]
            strangers = pl.concat([ids.cast(pl.String).alias("id") for ids in unseen]).unique(maintain_order=True)
            read_facts = {"source": read.origin, "rows": read.rows, **read.ledger.to_dict()}
            told({**read_facts, "events": len(past.store) - len(self.past), "unseen": strangers.to_list()})
        if not top_k:
            scores = np.empty(len(times), np.float32)
            with torch.inference_mode():
                for rows, group in groups(self.network, past, torch.from_numpy(times)):
                    scores[rows] = group.pairs(src[rows], dst[rows], torch.from_numpy(times[rows]))
            answer = read.data.collect().with_columns(pl.Series("score", scores))
        else:
            answer = self._ranked(past, frame, names, src, times, top_k)
        return table.to_library(answer, read.library)

    def _ranked(
        self, past: Past, frame: pl.DataFrame, names: Mapping[str, str], src: np.ndarray, times: np.ndarray, top_k: int
    ) -> pl.DataFrame:
        """The first `top_k` destinations of every query, in the order of the queries."""
        query, rank, score, ids = [], [], [], []
        with torch.inference_mode():
            for rows, group in groups(self.network, past, torch.from_numpy(times)):
                found = group.best(src[rows], torch.from_numpy(times[rows]), top_k)
                query.append(rows[found.query])
                rank.append(found.rank)
                score.append(found.score)
                ids.append(group.ids.gather(found.place))
        order = np.lexsort((np.concatenate(rank), np.concatenate(query)))
        usual = "dst" if names["src"] == "src" else self.ends.dst
        return frame.select(names["src"], names["time"])[np.concatenate(query)[order]].with_columns(
            pl.Series("rank", np.concatenate(rank)[order], dtype=pl.Int64),
            pl.concat(ids).gather(order).alias(usual),
            pl.Series("score", np.concatenate(score)[order]),
        )

    def _columns(self, read: table.Table, wanted: tuple[str, ...]) -> dict[str, str]:
        """Where the table has what is `wanted`: under the name of the fit, or as src, dst, t."""
        usual = {"src": "src", "dst": "dst", "time": "t"}
        found = {}
        for part in wanted:
            own = getattr(self.ends, part)
            found[part] = own if own in read.schema else usual[part]
            if found[part] not in read.schema:
                raise DataError(
                    f'{read.origin}: there is no column "{own}", the {_WORDS[part]} of the events at the fit.',
                    f"Name it so, or {usual[part]}; the columns are: {', '.join(list(read.schema)[:8])}.",
                )
        return found

    def _times(self, column: pl.Series, where: Callable[[int], str]) -> np.ndarray:
        times, _ = read_ticks(column, where, self.time_type.rules, self.time_type)
        return np.ascontiguousarray(times)

    def _require_later(self, times: np.ndarray, where: Callable[[int], str]) -> None:
        """Raise DataError for a query that is not later than the last stored event: its past is not stored whole."""
        early = times <= self.past.time[-1].item()
        if early.any():
            row, last = int(early.argmax()), said(self.past.time[-1].item(), self.time_type)
            raise DataError(
                f"{where(row)}: the query at {said(times[row].item(), self.time_type)} is not later than the last "
                f"event that the model knows, at {last}.",
                "Ask for later times; earlier ones need a model that was fitted on fewer events.",
            )

    def _with(self, history: Any) -> Past:
        """The stored events followed by those of `history`."""
        directory = Directory.of(self.nodes)
        if history is None:
            return Past(self.past, self.features, directory)
        read = table.read(history)
        names = self._columns(read, ("src", "dst", "time"))
        for name in self.ends.features:
            if name not in read.schema:
                raise DataError(
                    f'{read.origin}: there is no column "{name}", a feature of the events at the fit.',
                    f"Give it: the model was trained with {len(self.ends.features)} features.",
                )
        frame, where = _whole(read, [*names.values(), *self.ends.features])
        times = self._times(frame[names["time"]], where)
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


def _bare(store: EventStore) -> EventStore:
    """The ends and times of events, numbered anew from 0, in memory of their own."""
    columns = (column.clone() for column in (store.src, store.dst, store.time))
    none = torch.zeros(len(store), 0)
    return EventStore(*columns, features=none, labels=none, order=torch.arange(len(store)), nodes=store.nodes)


def _whole(read: table.Table, names: list[str]) -> tuple[pl.DataFrame, Callable[[int], str]]:
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
