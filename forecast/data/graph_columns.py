"""Columns of lists, one list a graph, as flat arrays: nested lists and lists written row by row alike."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import polars as pl

from ..errors import DataError
from .table import Table

# Names by which others store the parts of a graph, the preferred first.
NODES = ("node_feat", "x", "node_attr", "node_features", "nodes")
EDGES = ("edge_index", "edges")
EDGE_FEATURES = ("edge_feat", "edge_attr", "edge_features")
TARGETS = ("y", "label", "labels", "target", "targets")
SPLIT = ("split", "part", "set", "subset")
NODE_COUNTS = ("num_nodes", "n_nodes")
EDGE_COUNTS = ("num_edges", "n_edges")
IDS = ("graph_id", "id", "mol_id", "name")


def found(table: Table, names: tuple[str, ...]) -> str | None:
    """The column of the table that goes by one of `names`, whatever its case."""
    plain = {column.lower(): column for column in reversed(list(table.schema))}
    return next((plain[name] for name in names if name in plain), None)


class Lists(NamedTuple):
    """A column of R lists: all values, how many each row has, and of nested lists how many each inner one has."""

    name: str
    values: np.ndarray
    counts: np.ndarray  # (R,) of inner lists, or of values
    inner: np.ndarray | None  # (sum of counts,) values of each inner list
    absent: np.ndarray  # (R,) bool: rows without a list

    @property
    def lengths(self) -> np.ndarray:
        """How many values each row has, (R,)."""
        if self.inner is None:
            return self.counts
        return np.add.reduceat(np.append(self.inner, 0), _starts(self.counts)) * (self.counts > 0)


def _starts(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)


def lists_of(table: Table, name: str) -> Lists:
    """The lists of a column. Raises DataError for a column of no lists, or lists of no numbers."""
    column = table.collect(name).to_series()
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    if not isinstance(column.dtype, pl.List):
        hint = "Write the table as Parquet, whose cells can be lists." if column.dtype == pl.String else "Give lists."
        raise DataError(f'{table.origin}: column "{name}" holds {column.dtype}, not a list for each graph.', hint)
    absent = column.is_null().to_numpy()
    counts, values = _opened(column)
    inner = None
    if isinstance(values.dtype, pl.Array):
        values = values.arr.to_list()
    if isinstance(values.dtype, pl.List):
        inner, values = _opened(values)
    if not (values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Null)):
        raise DataError(
            f'{table.origin}: the lists of column "{name}" hold {values.dtype}, not numbers.', "Code them as numbers."
        )
    if values.dtype in (pl.Boolean, pl.Null):
        values = values.cast(pl.Int8)
    return Lists(name, values.to_numpy(), counts, inner, absent)


def _opened(column: pl.Series) -> tuple[np.ndarray, pl.Series]:
    """How many entries each list has, and all entries; an absent list has none."""
    counts = column.list.len().fill_null(0).cast(pl.Int64).to_numpy()
    return counts, column.filter(pl.Series(counts > 0)).explode()


def node_rows(table: Table, lists: Lists, given: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Features of all nodes (N, C) and the number of nodes of each graph; `given` counts them in flat lists.

    Raises DataError for ragged features, and for flat lists without `given`.
    """
    if lists.inner is None and given is None:
        raise DataError(
            f'{table.origin}: column "{lists.name}" holds flat lists, and no column says how many nodes they are of.',
            "Add a column num_nodes, or give a list for each node.",
        )
    counts = lists.counts if lists.inner is not None else given
    assert counts is not None
    if given is not None and lists.inner is not None:
        _refuse(table, given != counts, lambda row: f'"{lists.name}" has {counts[row]} nodes, not {given[row]}')
    _refuse(table, counts < 1, lambda row: "the graph has no nodes")
    return _wide(table, lists, counts, "nodes"), counts


def edge_rows(table: Table, lists: Lists) -> tuple[np.ndarray, np.ndarray]:
    """All edges (2, E) and the number of edges of each graph, from lists of sources, then targets.

    Raises DataError for lists of other shapes and for numbers of nodes that are absent or not whole.
    """
    _refuse(table, lists.absent, lambda row: f'"{lists.name}" is empty')
    if lists.inner is not None:
        _refuse(
            table,
            (lists.counts != 2) & (lists.counts > 0),
            lambda row: f'"{lists.name}" has {lists.counts[row]} lists, not the sources and the targets',
        )
        pairs = lists.inner.reshape(-1, 2)
        counts = np.zeros(len(lists.counts), dtype=np.int64)
        counts[lists.counts == 2] = pairs[:, 0]
        lengths = lists.lengths
    else:
        counts, lengths = lists.counts // 2, lists.counts
    _refuse(
        table,
        lengths != 2 * counts,
        lambda row: f'"{lists.name}" has {lengths[row]} numbers, not as many sources as targets',
    )
    values = lists.values
    if values.dtype.kind == "f":
        bad = ~np.isfinite(values) | (values != np.floor(values))
        rows = np.repeat(np.arange(len(counts)), lengths)
        broken = np.bincount(rows[bad], minlength=len(counts)) > 0
        _refuse(table, broken, lambda row: f'"{lists.name}" has a number that is absent or not whole')
        values = values.astype(np.int64)
    # Row by row: the sources of a graph, then its targets.
    source = np.arange(counts.sum()) + np.repeat(_starts(counts), counts)
    return np.stack((values[source], values[source + np.repeat(counts, counts)])), counts


def edge_feature_rows(table: Table, lists: Lists, counts: np.ndarray) -> np.ndarray:
    """Features of all edges (E, F). Raises DataError for another number of edges than `counts`, and ragged ones."""
    if lists.inner is not None:
        _refuse(
            table,
            lists.counts != counts,
            lambda row: f'"{lists.name}" has {lists.counts[row]} edges, edge_index {counts[row]}',
        )
    return _wide(table, lists, counts, "edges")


def _wide(table: Table, lists: Lists, counts: np.ndarray, what: str) -> np.ndarray:
    """The values as (rows, width), one width for all. Raises DataError for the first graph that has another."""
    lengths = lists.lengths
    full = np.flatnonzero(counts > 0)
    width = int(lengths[full[0]] // counts[full[0]]) if len(full) else 0
    ragged = lengths != width * counts
    if lists.inner is not None:
        rows = np.repeat(np.arange(len(counts)), lists.counts)
        ragged |= np.bincount(rows[lists.inner != width], minlength=len(counts)) > 0
    _refuse(
        table,
        ragged,
        lambda row: f'"{lists.name}" has {lengths[row]} numbers for {counts[row]} {what}, not {width} for each',
    )
    return lists.values.reshape(-1, width) if width else np.zeros((int(counts.sum()), 0), dtype=np.float32)


def target_rows(table: Table, names: tuple[str, ...], nodes: np.ndarray, *, of_nodes: bool | None) -> np.ndarray:
    """Targets (R, T) of graphs, or (N,) of their nodes, float32, NaN where there is none.

    A column of numbers is a target; a column of lists holds all targets of a graph, or one for each node: found from
    their lengths, or told by `of_nodes`. Raises DataError for lists of other lengths and for text.
    """
    if len(names) == 1 and table.schema[names[0]].is_nested():
        return _listed_targets(table, lists_of(table, names[0]), nodes, of_nodes)
    columns = []
    for name in names:
        kind = table.schema[name]
        if not (kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
            raise DataError(
                f'{table.origin}: the target "{name}" holds {kind}, not numbers.',
                "Number the classes from 0, and give several targets as columns or as one list.",
            )
        columns.append(table.collect(pl.col(name).cast(pl.Float32)).to_series().to_numpy())
    return np.stack(columns, axis=1)


def _listed_targets(table: Table, lists: Lists, nodes: np.ndarray, of_nodes: bool | None) -> np.ndarray:
    lengths, there = lists.lengths, ~lists.absent
    values = lists.values.astype(np.float32)
    width = int(lengths[there][0]) if there.any() else 0
    alike = bool((lengths[there] == width).all())
    as_nodes = bool((lengths[there] == nodes[there]).all()) and bool((nodes > 1).any())
    if of_nodes is None and alike and as_nodes:
        raise DataError(
            f'{table.origin}: every "{lists.name}" has {width} numbers, and every graph {width} nodes.',
            "Say whose targets these are: task node_classification, or another.",
        )
    if of_nodes or (of_nodes is None and as_nodes):
        _refuse(
            table,
            there & (lengths != nodes),
            lambda row: f'"{lists.name}" has {lengths[row]} targets for {nodes[row]} nodes',
        )
        filled = np.full(int(nodes.sum()), np.nan, dtype=np.float32)
        filled[np.repeat(there, nodes)] = values
        return filled
    _refuse(table, there & (lengths != width), lambda row: f'"{lists.name}" has {lengths[row]} targets, others {width}')
    wide = np.full((len(nodes), width), np.nan, dtype=np.float32)
    wide[there] = values.reshape(-1, width)
    return wide


def _refuse(table: Table, bad: np.ndarray, fault: Callable[[int], str]) -> None:
    """Raise DataError for the first row that is bad."""
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"{table.where(row)}: {fault(row)}.", "Correct the row or leave it out.")
