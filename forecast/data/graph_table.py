"""Tables of graphs, one a row, as users of OGB and PyG store them; or lists of PyG's `Data`: read into a graph store.

Columns: `edge_index`, `node_feat`, and perhaps `edge_feat`, `y`, `split`, `num_nodes`, `graph_id`, or their names
elsewhere. Lists may be nested or written row by row. Where there are no edges, molecules under `smiles` are read.
Repairs go to the ledger of the table.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import polars as pl

from ..errors import DataError, UsageError
from . import graph_columns as gc
from .cards import PARTS
from .columns import nearest
from .molecules import SMILES, with_graphs
from .table import Ledger, Table, read

if TYPE_CHECKING:
    from graphs.graph_store import GraphStore
    from graphs.graph_tasks import GraphTask

_PART_NAMES = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True, kw_only=True)
class GraphData:
    """How a table of graphs is read; what is not named is found."""

    kind: Literal["graphs"] = "graphs"  # of data, for a model that serves several
    task: (
        Literal["graph_regression", "graph_binary", "graph_multiclass", "graph_multilabel", "node_classification"]
        | None
    ) = None
    target: tuple[str, ...] = ()  # columns of numbers, or one of lists
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)  # shares of the graphs, drawn where no column tells the parts
    split_col: str | None = None  # a column of train, validation (or valid, val) and test; "none": draw them
    split_seed: int = 0  # of that draw


@dataclass(frozen=True, eq=False)
class GraphTable:
    """Checked graphs with their task and parts, and what was found on the way."""

    store: "GraphStore"
    task: "GraphTask | None"  # None where targets were not asked for
    targets: tuple[str, ...]  # their names, as many as columns; () without
    parts: Mapping[str, np.ndarray]  # train, validation, test: numbers of graphs in the store, ascending
    ids: pl.Series  # (G,) of the column graph_id, else the row of each graph
    origin: str
    ledger: Ledger
    split_col: str | None = None  # the column that told the parts; None where they were drawn

    def __len__(self) -> int:
        return len(self.store)


def read_graphs(
    source: Any, data: GraphData | None = None, *, labelled: bool = True, parted: bool = True
) -> GraphTable:
    """The graphs of a table (a path or a frame) or of a list of PyG's `Data`.

    With `labelled`, graphs without any target are left out, which the ledger tells, and the task is that of the others;
    without, targets are not looked at, as for a prediction. Without `parted` there are no parts. Raises DataError for a
    column that is missing or of another form, the first row with a fault, no target at all, and parts that are empty;
    UsageError for an unknown column.
    """
    data = data or GraphData()
    if isinstance(source, Sequence) and not isinstance(source, str):
        return _from_data(source, data, labelled=labelled, parted=parted)
    table = source if isinstance(source, Table) else read(source)
    smiles = gc.found(table, SMILES)
    if smiles is not None and gc.found(table, gc.EDGES) is None:
        table = with_graphs(table, smiles)
    columns = _columns(table, data, labelled=labelled, parted=parted)
    store = _store(table, columns, data)
    given = None if columns.split is None else _given_parts(table, columns.split)
    ids = table.collect(columns.id).to_series() if columns.id else pl.Series("graph_id", np.arange(table.rows))
    found = _Found(store, given, columns.split, ids, columns.targets, table.ledger, table.origin, table.where)
    return _labelled(found, data, parted=parted) if labelled else _unlabelled(found)


@dataclass(frozen=True)
class _Columns:
    """Which column holds what."""

    nodes: str
    edges: str
    edge_features: str | None
    node_counts: str | None
    targets: tuple[str, ...]
    split: str | None
    id: str | None


def _columns(table: Table, data: GraphData, *, labelled: bool, parted: bool) -> _Columns:
    """The columns by their names; those left out go to the ledger."""
    for name in (*data.target, data.split_col):
        if name not in (None, "none") and name not in table.schema:
            raise UsageError(f'{table.origin}: there is no column "{name}".', nearest(str(name), table))
    required = {}
    for names in (gc.EDGES, gc.NODES):
        column = gc.found(table, names)
        if column is None:
            raise DataError(
                f'{table.origin}: no column "{names[0]}" (or {", ".join(names[1:])}).',
                f"{nearest(names[0], table)} One graph a row: edge_index, node_feat, edge_feat, y.",
            )
        required[names] = column
    targets = data.target or tuple(one for one in [gc.found(table, gc.TARGETS)] if one)
    if labelled and not targets:
        raise DataError(
            f"{table.origin}: no column of targets ({', '.join(gc.TARGETS)}).", nearest(gc.TARGETS[0], table)
        )
    split = gc.found(table, gc.SPLIT) if data.split_col is None else data.split_col
    columns = _Columns(
        required[gc.NODES],
        required[gc.EDGES],
        gc.found(table, gc.EDGE_FEATURES),
        gc.found(table, gc.NODE_COUNTS),
        targets if labelled else (),
        split if labelled and parted and split != "none" else None,
        gc.found(table, gc.IDS),
    )
    told = (gc.found(table, names) for names in (gc.EDGE_COUNTS, gc.SPLIT, SMILES))
    known = {*vars(columns).values(), *targets, *told}
    for name in table.schema:
        if name not in known:
            table.ledger.repair("column-dropped", 1, name, "no part of a graph")
    return columns


def _store(table: Table, columns: _Columns, data: GraphData) -> "GraphStore":
    from graphs.graph_store import GraphStore

    given = None
    if columns.node_counts is not None:
        given = table.collect(pl.col(columns.node_counts).cast(pl.Int64).fill_null(0)).to_series().to_numpy()
    nodes, node_counts = gc.node_rows(table, gc.lists_of(table, columns.nodes), given)
    edges, edge_counts = gc.edge_rows(table, gc.lists_of(table, columns.edges))
    features = targets = None
    if columns.edge_features is not None:
        features = gc.edge_feature_rows(table, gc.lists_of(table, columns.edge_features), edge_counts)
    if columns.targets:
        of_nodes = None if data.task is None else data.task == "node_classification"
        targets = gc.target_rows(table, columns.targets, node_counts, of_nodes=of_nodes)
    with _told_by(table.where, table.origin):
        return GraphStore.of(nodes, edges, node_counts, edge_counts, features, targets)


def _from_data(graphs: Sequence[Any], data: GraphData, *, labelled: bool, parted: bool) -> GraphTable:
    """The same of PyG's `Data`; the list has no split."""
    from graphs.graph_store import GraphStore

    def where(graph: int) -> str:
        return f"<list>, graph {graph}"

    odd = next((graph for graph, one in enumerate(graphs) if not hasattr(one, "edge_index")), None)
    if odd is not None:
        raise DataError(f"{where(odd)}: a {type(graphs[odd]).__name__} is no graph.", "Give PyG's Data.")
    with _told_by(where, "<list>"):
        store = GraphStore.from_data(graphs)
    ids = pl.Series("graph_id", np.arange(len(graphs)))
    found = _Found(store, None, None, ids, ("y",), Ledger(), "<list>", where)
    return _labelled(found, data, parted=parted) if labelled else _unlabelled(found)


class _Found(NamedTuple):
    """Checked graphs before anything is left out."""

    store: "GraphStore"
    parts: np.ndarray | None  # (G,) of their numbers in PARTS, where a column tells them
    split_col: str | None  # that column
    ids: pl.Series
    targets: tuple[str, ...]
    ledger: Ledger
    origin: str
    where: Callable[[int], str]  # of a graph, for messages


def _unlabelled(found: _Found) -> GraphTable:
    return GraphTable(found.store, None, (), {}, found.ids, found.origin, found.ledger)


def _labelled(found: _Found, data: GraphData, *, parted: bool) -> GraphTable:
    """The graphs that have a target, with their task and, if `parted`, parts."""
    from graphs.graph_tasks import task_of

    store, given, split_col, ids, names, ledger, origin, where = found
    _caution_one_way(store, ledger)
    with _told_by(where, origin):
        task = task_of(store, data.task)
    seen = ~store.targets.isnan().numpy()
    there = np.logical_or.reduceat(seen, store.node_offsets[:-1].numpy()) if store.of_nodes else seen.any(axis=1)
    if not there.all():
        row = int(there.argmin())
        ledger.repair("graphs-dropped", int((~there).sum()), where(row).rpartition(", ")[2], "without a target")
        kept = np.flatnonzero(there)
        store, ids, given = store.select(kept), ids[kept], None if given is None else given[kept]
    parts = {}
    if parted and given is None:
        parts = _drawn_parts(len(store), data)
    elif given is not None:
        parts = {part: np.flatnonzero(given == number) for number, part in enumerate(PARTS)}
    empty = next((part for part, rows in parts.items() if not len(rows)), None)
    if empty is not None:
        drawn = "other shares: --set data.split=[0.6,0.2,0.2]"
        raise DataError(
            f"{origin}: no graph is for {empty}; there are {len(store)} with targets.",
            f"Give more graphs, or {drawn if given is None else 'leave the split to --set data.split_col=none'}.",
        )
    width = 1 if store.of_nodes else store.targets.shape[1]
    names = names if len(names) == width else tuple(f"{names[0]}_{number}" for number in range(width))
    _caution_classes(store, task, names, parts, ledger)
    return GraphTable(store, task, names, parts, ids, origin, ledger, split_col)


def _given_parts(table: Table, name: str) -> np.ndarray:
    """The part of each row, (R,) of its number in PARTS. Raises DataError for another word."""
    words = table.collect(pl.col(name).cast(pl.String).str.strip_chars().str.to_lowercase()).to_series()
    numbers = words.replace_strict(_PART_NAMES, default=None, return_dtype=pl.String)
    if numbers.null_count():
        row = int(numbers.is_null().arg_max() or 0)
        raise DataError(
            f'{table.where(row)}: "{words[row]}" in column "{name}" is no part.', f"Use {', '.join(PARTS)}."
        )
    return numbers.replace_strict(list(PARTS), list(range(3)), return_dtype=pl.Int64).to_numpy()


def _drawn_parts(count: int, data: GraphData) -> dict[str, np.ndarray]:
    """Parts of the given shares, drawn by the seed; validation and test are rounded up."""
    order = np.random.default_rng(data.split_seed).permutation(count)
    test, validation = (int(np.ceil(share * count - 1e-9)) for share in (data.split[2], data.split[1]))
    train = max(0, count - validation - test)
    cut = np.split(order, [train, count - test])
    return {part: np.sort(rows) for part, rows in zip(PARTS, cut, strict=True)}


def _caution_one_way(store: "GraphStore", ledger: Ledger) -> None:
    """Caution where no edge of the first graphs has one that runs back: an undirected graph needs both."""
    source, target = store[:1000].batch(range(min(1000, len(store)))).edges.numpy()
    there = source != target
    count = int(source.max(initial=0)) + int(target.max(initial=0)) + 1
    keys, back = (one[there] for one in (source * count + target, target * count + source))
    if len(keys) and not np.isin(back, keys).any():
        told = "no edge has one that runs back; store undirected edges both ways"
        ledger.caution("one-way-edges", "edge_index", told, len(store.edges[0]))


def _caution_classes(
    store: "GraphStore", task: "GraphTask", names: Sequence[str], parts: Mapping[str, np.ndarray], ledger: Ledger
) -> None:
    """Caution where a part has not every class, and where numbers look like two classes."""
    targets = store.targets.numpy().reshape(-1, len(names))
    if task.name == "graph_regression":
        for name, column in zip(names, targets.T, strict=True):
            values = np.unique(column[~np.isnan(column)])
            if len(values) == 2:
                told = f"only {values[0]:g} and {values[1]:g}, read as numbers; two classes are written 0 and 1"
                ledger.caution("two-values", name, told, len(column))
        return
    graph = np.repeat(np.arange(len(store)), store.sizes.numpy()) if store.of_nodes else np.arange(len(store))
    classes = np.arange(2 if task.name == "graph_multilabel" else max(2, task.outputs))
    for part, rows in parts.items():
        for name, column in zip(names, targets[np.isin(graph, rows)].T, strict=True):
            absent = [str(one) for one in np.setdiff1d(classes, column).astype(int)]
            if absent:
                told = f"class {', '.join(absent[:8])}{', …' if len(absent) > 8 else ''} is not in the {part} part"
                ledger.caution("class-absent", name, told, len(absent))


@contextlib.contextmanager
def _told_by(where: Callable[[int], str], origin: str) -> Iterator[None]:
    """Inside, what graphs refuse is a DataError that says where the graph stands."""
    from graphs.graph_batch import GraphError
    from graphs.graph_store import GraphFaultError

    try:
        yield
    except GraphFaultError as error:
        raise DataError(f"{where(error.graph)}: {error.fault}", error.hint) from error
    except GraphError as error:
        raise DataError(f"{origin}: {error.message}", error.hint) from error
