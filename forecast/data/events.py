"""Event tables: who met whom, and when; read, checked and numbered for the networks of `graphs`.

Repairs go to the ledger of the table; what would change the meaning of the events is kept, with a warning.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from ..errors import DataError, UsageError
from . import catalogue
from .cards import PARTS, Card, EventCard
from .event_columns import EventColumns, event_columns
from .frame import refuse_repairs
from .nodes import Nodes, nodes_of, plain_ids, two_kinds
from .schema import require_share
from .table import Ledger, Table, read
from .ticks import read_ticks, said
from .times import Rules, TimeType, quoted

if TYPE_CHECKING:
    from graphs.events import EventStore


@dataclass(frozen=True, kw_only=True)
class EventData:
    """How an event table is read; columns that are not named are found."""

    kind: Literal["events"] = "events"  # of data, for who asks a reader of several
    task: Literal["link", "node"] = "link"  # what is told: who meets whom, or the state of sources from their labels
    src_col: str | None = None
    dst_col: str | None = None
    time_col: str | None = None
    label_col: str | None = None  # a number that belongs to the event, as the state of its source; "none": no column
    features: tuple[str, ...] | None = None  # columns of numbers; all further ones if not given, () for none
    directed: bool = True  # whether (a, b) and (b, a) are two pairs
    bipartite: Literal["auto", "yes", "no"] = "auto"  # whether sources and destinations have ids of their own
    split: tuple[float, float, float] = (0.70, 0.15, 0.15)  # training and validation end at these quantiles of time
    dates: Literal["day-first", "month-first"] | None = None
    strict: bool = False  # refuse tables that need a repair
    max_repaired: float = 0.5  # refuse to leave out a larger share of the rows


@dataclass(frozen=True, eq=False)
class EventTable:
    """A checked stream of E events, its nodes under the ids of the caller, and what was found on the way."""

    store: "EventStore"  # sorted by time; `order` is the row of the table that each event came from
    nodes: Nodes
    columns: EventColumns
    time_type: TimeType  # how times were given; `ticks.give_ticks` gives them back alike
    borders: tuple[int, int]  # positions in the store where validation and test begin
    directed: bool
    table: Table

    @property
    def labels(self) -> np.ndarray | None:
        """(E,) float32 in the order of the store, NaN where there is none; None without a column of labels."""
        return None if self.columns.label is None else self.store.labels[:, 0].numpy()

    @property
    def ledger(self) -> Ledger:
        """Repairs and warnings."""
        return self.table.ledger

    @cached_property
    def pairs(self) -> np.ndarray:
        """A number for the pair of each event: (E,) int64; both directions are one pair unless `directed`."""
        src, dst = self.store.src.numpy(), self.store.dst.numpy()
        if not self.directed:
            src, dst = np.minimum(src, dst), np.maximum(src, dst)
        return src * np.int64(len(self.nodes)) + dst

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The `data` part of a fit's document.

        `repeats` is the share of events whose pair has met before, `surprise` the share of test events whose pair
        does not occur in training (Poursafaei et al., Towards Better Evaluation for Dynamic Link Prediction, 2022).
        """
        store, columns = self.store, self.columns
        edges = (0, *self.borders, len(store))
        parts = dict(zip(PARTS, pairwise(edges), strict=True))
        distinct = len(np.unique(self.pairs))
        known = np.isin(self.pairs[self.borders[1] :], self.pairs[: self.borders[0]])
        return {
            "kind": "events",
            "rows": self.table.rows,
            "events": len(store),
            "nodes": len(self.nodes),
            "sources": len(store.src.unique()),
            "destinations": len(store.dst.unique()),
            "bipartite": self.nodes.bipartite,
            "directed": self.directed,
            "columns": {
                "src": columns.src,
                "dst": columns.dst,
                "time": columns.time,
                "label": columns.label,
                "features": list(columns.features),
                "left_out": list(columns.left_out),
            },
            "span": self.span(0, len(store)),
            "times": len(store.time.unique()),
            "pairs": distinct,
            "repeats": round(1 - distinct / len(store), 4),
            "surprise": round(1 - float(known.mean()), 4),
            "source": self.table.origin,
            **self.ledger.to_dict(),
            "split_by": "quantiles",
            "split": {part: self.span(*ends) for part, ends in parts.items()},
            "parts": {part: end - begin for part, (begin, end) in parts.items()},
        }

    def span(self, begin: int, end: int) -> list[str]:
        """The first and the last time of events `begin` … `end`-1, as documents say them."""
        return [said(self.store.time[place].item(), self.time_type) for place in (begin, end - 1)]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of the events and of how they are read: columns, ids, times, features, labels."""
        nodes, store = self.nodes, self.store
        spaces = [nodes.sources] if nodes.destinations is None else [nodes.sources, nodes.destinations]
        about = {
            "columns": asdict(self.columns),
            "times": [str(self.time_type.dtype), self.time_type.format, self.time_type.zone],
            "ids": [[str(ids.dtype), *ids.cast(pl.String)] for ids in spaces],
            "shape": [list(store.features.shape), list(store.labels.shape)],
            "directed": self.directed,
        }
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        for part in (store.src, store.dst, store.time, store.features, store.labels):
            digest.update(np.ascontiguousarray(part.numpy()).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()


def read_events(source: Any, data: EventData | None = None) -> EventTable:
    """The events of a path, a frame, a catalogued set or a `Table`: sorted by time, numbered, and split.

    The card of a catalogued set says which columns its file has, whether nodes are of two kinds, whether links have a
    direction, and where parts end, where `data` leaves that open.
    Rows without source, destination or time are left out and rows out of order are sorted, both noted in the ledger;
    repeated rows and self-loops are kept, with a warning. Raises UsageError for a column that is named and not there;
    DataError, naming the row, for a time below 0 or not finite, a feature that is no finite number, and ids that are
    neither whole numbers nor text; and for ends or a time that are not found, a single node, and so few distinct times
    that a part is empty.
    """
    data = data or EventData()
    if not all(share > 0 for share in data.split) or abs(sum(data.split) - 1) > 1e-6:
        raise UsageError(
            f"data.split is {list(data.split)}; its three shares must be positive and sum to 1.",
            "E.g. --set data.split=[0.7,0.15,0.15].",
        )
    card = _event_card(source)
    table = read(source if card is None else catalogue.locate(card))
    if card is not None:
        data = _as_published(card, table, data)
    columns = event_columns(table, data)
    frame, rows = _complete(table, columns, data.max_repaired)

    def where(row: int) -> str:
        return table.where(int(rows[row]))

    times, time_type = read_ticks(frame[columns.time], where, Rules(data.dates))
    src, dst = (plain_ids(frame[name], where) for name in (columns.src, columns.dst))
    nodes = _nodes(table, columns, src, dst, data.bipartite)
    features = _features(frame, columns.features, where)
    labels = None if columns.label is None else frame[columns.label].cast(pl.Float32).to_numpy()
    _note_order(table, frame[columns.time], times, rows)
    del frame

    # Only now: torch takes a second to import, and what is wrong with a table can be told without it.
    import torch

    from graphs.events import EventStore, split_at_quantiles

    store = EventStore.of(nodes.source_nodes(src), nodes.destination_nodes(dst), times, features, labels, len(nodes))
    store = replace(store, order=torch.from_numpy(rows)[store.order])
    borders = split_at_quantiles(store, *data.split[:2])
    _require_parts(table, store, borders, time_type)
    found = EventTable(store, nodes, columns, time_type, borders, data.directed, table)
    _note_kept(found)
    if data.strict:
        refuse_repairs(table)
    return found


def _event_card(source: Any) -> EventCard | None:
    """The card that `source` names, if any. Raises UsageError for a card of series."""
    card = catalogue.named(source)
    if isinstance(card, Card):
        raise UsageError(f"{card.name} holds series, and no events.", f"forecast fit {card.name} --model itransformer")
    return card


def _as_published(card: EventCard, table: Table, data: EventData) -> EventData:
    """How the file of a card is read: as the card says where `data` has its defaults."""
    told: dict[str, Any] = {
        "bipartite": "yes" if card.bipartite else "no",
        "directed": card.directed,
        "split": card.split,
    }
    columns = {"src_col": card.src, "dst_col": card.dst, "time_col": card.time}
    if all(name in table.schema for name in columns.values()):  # other files of the set name them otherwise
        told |= columns
    usual = EventData()
    return replace(data, **{key: value for key, value in told.items() if getattr(data, key) == getattr(usual, key)})


def _complete(table: Table, columns: EventColumns, limit: float) -> tuple[pl.DataFrame, np.ndarray]:
    """The used columns of rows that have both ends and a time, and which rows of the table these are."""
    needed = (columns.src, columns.dst, columns.time)
    frame = table.collect(*needed, *columns.features, *([] if columns.label is None else [columns.label]))
    floats = [name for name in needed if frame.schema[name].is_float()]
    lacking = frame.select(needed).with_columns(pl.col(floats).fill_nan(None)).select(pl.all().is_null())
    absent = lacking.select(pl.any_horizontal(pl.all())).to_series()
    rows = np.arange(frame.height)
    if not absent.any():
        return frame, rows
    first, count = int(absent.arg_max() or 0), int(absent.sum())
    which = " or ".join(quoted(name) for name in needed if lacking[name].any())
    what = f"{count:,} of {frame.height:,} rows have no {which}, first {table.line(first)}"
    if count == frame.height:
        raise DataError(
            f"{table.origin}: {what}; no event is left.",
            "Name the columns: --set data.src_col=… --set data.dst_col=… --set data.time_col=…",
        )
    require_share(table, limit, count, frame.height, what, "Fill the rows in.")
    table.ledger.repair("rows-dropped", count, table.line(first), f"rows without {which} were left out")
    return frame.filter(~absent), rows[~absent.to_numpy()]


def _nodes(table: Table, columns: EventColumns, src: pl.Series, dst: pl.Series, bipartite: str) -> Nodes:
    """The nodes of both ends. Raises DataError where there are too few to choose between."""
    two = bipartite == "yes" or (bipartite == "auto" and two_kinds(src, dst, named=columns.kinds))
    if not two and src.dtype != dst.dtype:
        raise DataError(
            f'{table.origin}: the ids in "{columns.src}" are {src.dtype}, those in "{columns.dst}" {dst.dtype}; '
            "they are not of one kind.",
            "Write both alike, or have them as two kinds: --set data.bipartite=yes",
        )
    nodes = nodes_of(src, dst, bipartite=two)
    if len(nodes) < 2 or (nodes.destinations is not None and len(nodes.destinations) < 2):
        what = "the graph has one node" if len(nodes) < 2 else "every event has the same destination"
        raise DataError(
            f"{table.origin}: {what}, {quoted(dst[0])}: there is nothing to choose between.",
            "Name other columns: --set data.src_col=… --set data.dst_col=…",
        )
    return nodes


def _features(frame: pl.DataFrame, names: tuple[str, ...], where: Callable[[int], str]) -> np.ndarray | None:
    """The features: (E, F) float32. Raises DataError for a cell that is missing or not finite."""
    if not names:
        return None
    values = np.empty((frame.height, len(names)), np.float32)
    for place, name in enumerate(names):
        values[:, place] = frame[name].cast(pl.Float32).to_numpy()
    fine = np.isfinite(values)
    if not fine.all():
        row = int((~fine.all(axis=1)).argmax())
        name = names[int((~fine[row]).argmax())]
        raise DataError(
            f"{where(row)}: the feature {quoted(name)} is {frame[name][row]}, no finite number.",
            "Correct it, or choose features without it: --set data.features=a,b, or [] for none.",
        )
    return values


def _note_order(table: Table, column: pl.Series, times: np.ndarray, rows: np.ndarray) -> None:
    back = times[1:] < times[:-1]
    if back.any():
        first = int(back.argmax()) + 1
        detail = "rows were put in order of time; those of one time stay in the order of the file"
        table.ledger.repair("sorted", int(back.sum()), f"{table.line(int(rows[first]))}, {column[first]}", detail)


def _require_parts(table: Table, store: "EventStore", borders: tuple[int, int], time_type: TimeType) -> None:
    """Raise DataError for a part without an event, naming the time that holds what should have been in it."""
    for part, (begin, end) in zip(PARTS, pairwise((0, *borders, len(store))), strict=True):
        if begin < end:
            continue
        last = store.time[begin - 1]  # training, the first part, always has the first event
        first = int(store.before(last))
        raise DataError(
            f"{table.where(int(store.order[first]))}: the {part} part has no event; "
            f"{begin - first:,} of {len(store):,} events are at {said(last.item(), time_type)}.",
            "Give more events or finer times, or other shares: --set data.split=[0.6,0.2,0.2]",
        )


def _note_kept(found: EventTable) -> None:
    """Warn of self-loops and of events that are told twice."""
    store, table = found.store, found.table
    order = store.order.numpy()
    loops = (store.src == store.dst).numpy()
    if loops.any():
        value = f"from a node to itself, first {table.line(int(order[loops].min()))}; kept"
        found.ledger.caution("self-loops", "", value, int(loops.sum()))
    # By pair and, as the sort is stable, time: events alike in both stand side by side. Features are compared of these
    # alone, as there may be hundreds.
    place = np.argsort(found.pairs, kind="stable")
    pairs, times = found.pairs[place], store.time.numpy()[place]
    beside = (pairs[1:] == pairs[:-1]) & (times[1:] == times[:-1])
    alike = np.sort(place[np.append(beside, False) | np.append(False, beside)])
    ends = {name: column.numpy()[alike] for name, column in (("src", store.src), ("dst", store.dst), ("t", store.time))}
    rest = np.concatenate([store.features.numpy()[alike], store.labels.numpy()[alike]], axis=1)
    told = pl.DataFrame(ends | {str(number): column for number, column in enumerate(rest.T)})
    again = alike[~told.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()]
    if len(again):
        value = f"source, destination, time and features as before, first {table.line(int(order[again].min()))}; kept"
        found.ledger.caution("repeated-events", "", value, len(again))
