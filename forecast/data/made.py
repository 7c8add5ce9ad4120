"""Benchmarks of graphs that are made, not fetched: PATTERN and CLUSTER as tables of one graph a row."""

from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa

from ..errors import UsageError
from .cards import PARTS

Made = Literal["pattern", "cluster"]
_SHARES = {"pattern": (10, 2, 2), "cluster": (10, 1, 1)}  # of train, validation and test, as published


def made(name: Made, graphs: int, seed: int) -> pl.DataFrame:
    """Graphs of PATTERN or CLUSTER, made anew: num_nodes, node_feat, edge_index, y of each node, split.

    Features and edges are flat lists, written row by row. The parts follow each other in the published shares. Dwivedi
    et al. 2020, arXiv:2003.00982. Raises UsageError for fewer graphs than parts need.
    """
    from graphs import sbm

    if graphs < 12:
        raise UsageError(f"{graphs} graphs cannot be parted; 12 are the fewest.", "E.g. --graphs 1000.")
    store = (sbm.pattern if name == "pattern" else sbm.cluster)(graphs, seed)
    nodes, links = store.node_offsets.numpy(), store.edge_offsets.numpy()
    # Of each graph its sources, then its targets.
    place = np.arange(links[-1]) + np.repeat(links[:-1], np.diff(links))
    ends = np.empty(2 * links[-1], dtype=np.int32)
    ends[place], ends[place + np.repeat(np.diff(links), np.diff(links))] = store.edges.numpy()
    shares = np.cumsum(_SHARES[name]) / sum(_SHARES[name])
    part = np.searchsorted(np.round(shares * graphs), np.arange(graphs), side="right")
    return pl.DataFrame(
        {
            "num_nodes": np.diff(nodes),
            "node_feat": _lists(store.nodes.numpy().astype(np.int8).ravel(), nodes * store.nodes.shape[1]),
            "edge_index": _lists(ends, 2 * links),
            "y": _lists(store.targets.numpy().astype(np.int8), nodes),
            "split": np.array(PARTS)[part],
        }
    )


def _lists(values: np.ndarray, offsets: np.ndarray) -> pl.Series:
    """A column of lists, each of which ends where the next begins."""
    return pl.Series(pl.from_arrow(pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))))
