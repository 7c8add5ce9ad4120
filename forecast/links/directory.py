"""Which node an id means: those of the fit, and those that events since then brought."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from ..data.nodes import Nodes

STRANGER = 2**40  # the node of every id that no event has shown yet


@dataclass(frozen=True, eq=False)
class Directory:
    """Ids and nodes of both ends; new nodes are numbered in the order in which events showed them.

    So what comes later changes no number, and no score of a query before it.
    """

    sources: pl.DataFrame  # id, node; the same table as `destinations` where there is one kind of nodes
    destinations: pl.DataFrame
    known: int  # nodes of the fit; from here on new ones
    shown: np.ndarray  # (new,) int64, ascending: the event that showed each new node first

    @classmethod
    def of(cls, nodes: Nodes) -> "Directory":
        numbers = np.arange(len(nodes))
        sources = pl.DataFrame({"id": nodes.sources, "node": numbers[: len(nodes.sources)]})
        if nodes.destinations is None:
            return cls(sources, sources, len(nodes), np.zeros(0, np.int64))
        destinations = pl.DataFrame({"id": nodes.destinations, "node": numbers[len(nodes.sources) :]})
        return cls(sources, destinations, len(nodes), np.zeros(0, np.int64))

    def __len__(self) -> int:
        return self.known + len(self.shown)

    def source_nodes(self, ids: pl.Series) -> np.ndarray:
        """The nodes of ids of sources: (R,) int64, STRANGER for an id that was never shown."""
        return _found(self.sources, ids)

    def destination_nodes(self, ids: pl.Series) -> np.ndarray:
        """The nodes of ids of destinations, likewise."""
        return _found(self.destinations, ids)

    def grown(self, src: pl.Series, dst: pl.Series, first: int) -> "Directory":
        """This directory of the fit, and the nodes that the events `first` … of these ids, by time, show first."""
        event = first + np.arange(len(src))
        if self.sources is self.destinations:
            both = pl.concat([src, dst.alias(src.name)]).gather(np.arange(2 * len(src)).reshape(2, -1).T.reshape(-1))
            new = [_new(self.sources, both, np.repeat(event, 2))]
        else:
            new = [_new(self.sources, src, event), _new(self.destinations, dst, event)]
        shown = np.concatenate([frame["event"].to_numpy() for frame in new])
        order = np.argsort(shown, kind="stable")
        numbers = np.empty(len(order), np.int64)
        numbers[order] = self.known + np.arange(len(order))
        ends, begin = [], 0
        for table, frame in zip((self.sources, self.destinations), new, strict=False):
            node = pl.Series("node", numbers[begin : begin + frame.height])
            ends.append(pl.concat([table, frame.select("id").with_columns(node)]))
            begin += frame.height
        return Directory(ends[0], ends[-1], self.known, shown[order])


def _new(table: pl.DataFrame, ids: pl.Series, event: np.ndarray) -> pl.DataFrame:
    """Ids that the table lacks, each once, with the event that shows it first."""
    unknown = _found(table, ids) == STRANGER
    frame = pl.DataFrame({"id": ids.cast(table.schema["id"]).filter(unknown), "event": event[unknown]})
    return frame.unique("id", keep="first", maintain_order=True)


def _found(table: pl.DataFrame, ids: pl.Series) -> np.ndarray:
    asked = pl.DataFrame({"id": ids.cast(table.schema["id"], strict=False)})
    found = asked.join(table, on="id", how="left", maintain_order="left")["node"]
    return found.fill_null(STRANGER).to_numpy()
