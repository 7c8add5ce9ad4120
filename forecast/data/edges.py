"""The file of `--edges`: who is linked with whom among the variates of a table of series, and how strongly."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ..errors import DataError
from .columns import CLEAR, TIME_NAMES, nearest
from .kinds import ENDS
from .table import Table, read
from .times import looks_like_times

if TYPE_CHECKING:
    from graphs.sensor_graph import SensorGraph

_WEIGHTS = ("weight", "w", "edge_weight", "strength")
_PERIODS = (
    "month",
    "week",
    "day",
    "year",
    "hour",
    "quarter",
)  # times in a file of edges, whatever they may be elsewhere


def read_edges(source: Any, variates: Sequence[str], *, add_reverse: bool = True) -> tuple["SensorGraph", Table]:
    """The graph of the variates, numbered in their order, and the table it came from, whose ledger has the repairs.

    The table (a path or a frame) has a row for each directed edge: two ends, named as the variates, and perhaps a
    weight. Repeated rows are merged. Raises DataError for a graph that changes over time, ends that are no variate,
    variates that no edge names, a pair with two weights, and weights that are no finite numbers.
    """
    from graphs.sensor_graph import SensorGraph

    table = source if isinstance(source, Table) else read(source)
    plain = {name.strip().lower().replace(" ", "_"): name for name in reversed(list(table.schema))}
    ends = next(((plain[a], plain[b]) for a, b in ENDS if a in plain and b in plain), None)
    if ends is None:
        raise DataError(f'{table.origin}: no columns "src" and "dst".', nearest("src", table))
    weight = next((plain[name] for name in _WEIGHTS if name in plain), None)
    for name in table.schema:
        if name not in (*ends, weight):
            _refuse_time(table, name)
            table.ledger.repair("column-dropped", 1, name, "neither an end of an edge nor its weight")
    edges = np.stack([_numbered(table, name, variates) for name in ends])
    _require_all(table, edges, variates)
    weights = None if weight is None else _weights(table, weight)
    edges, weights = _merged(table, edges, weights, variates)
    return SensorGraph.of(len(variates), edges, weights, add_reverse=add_reverse), table


def _refuse_time(table: Table, name: str) -> None:
    """Raise DataError where a column tells different times: the graph is taken for one that stays."""
    kind, plain = table.schema[name], name.strip().lower().replace(" ", "_")
    if kind.is_nested():
        return
    column = table.collect(name).to_series()
    told = kind.is_temporal() or plain in (*TIME_NAMES[:CLEAR], *_PERIODS)
    if (told or (kind == pl.String and looks_like_times(column))) and (times := column.n_unique()) > 1:
        raise DataError(
            f'{table.origin}: "{name}" has {times} different values: this graph changes over time, '
            "and the model needs one that stays.",
            f'Write each pair once, from one "{name}" or with the mean weight over all.',
        )


def _numbered(table: Table, name: str, variates: Sequence[str]) -> np.ndarray:
    """The number of the variate that each row of a column names."""
    column = table.collect(name).to_series()
    whole = column.dtype.is_float() and bool((column.drop_nulls() == column.drop_nulls().floor()).all())
    texts = (column.cast(pl.Int64) if whole else column).cast(pl.String).str.strip_chars()
    numbers = texts.replace_strict(list(variates), list(range(len(variates))), default=None, return_dtype=pl.Int64)
    unknown = numbers.is_null()
    if unknown.any():
        row = int(unknown.arg_max() or 0)
        if texts[row] is None:
            raise DataError(f'{table.where(row)}: "{name}" is empty.', "Name the variate, or leave the row out.")
        others = texts.filter(unknown).n_unique() - 1
        more = f" (and {others} more)" if others else ""
        near = get_close_matches(texts[row], variates, n=1, cutoff=0.6)
        listed = ", ".join(variates[:5]) + (", …" if len(variates) > 5 else "")
        raise DataError(
            f'{table.where(row)}: "{texts[row]}"{more} in column "{name}" is no variate of the series.',
            f'Did you mean "{near[0]}"?' if near else f"The variates are {listed}.",
        )
    return numbers.to_numpy()


def _require_all(table: Table, edges: np.ndarray, variates: Sequence[str]) -> None:
    named = np.bincount(edges.ravel(), minlength=len(variates)) > 0
    if not named.all():
        absent = [variates[number] for number in np.flatnonzero(~named).tolist()]
        listed = ", ".join(f'"{name}"' for name in absent[:5]) + (" …" if len(absent) > 5 else "")
        raise DataError(
            f"{table.origin}: no edge names {len(absent)} of the {len(variates)} variates: {listed}.",
            f'Add their edges; one without neighbours is a row "{absent[0]}", "{absent[0]}".',
        )


def _weights(table: Table, name: str) -> np.ndarray:
    kind = table.schema[name]
    if not kind.is_numeric():
        raise DataError(f'{table.origin}: the weight "{name}" holds {kind}, not numbers.', "Give numbers.")
    weights = table.collect(pl.col(name).cast(pl.Float32)).to_series().to_numpy()
    bad = ~np.isfinite(weights)
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f'{table.where(row)}: the weight "{name}" is empty or not finite.', "Correct it or leave the row out."
        )
    return weights


def _merged(
    table: Table, edges: np.ndarray, weights: np.ndarray | None, variates: Sequence[str]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Each pair once, in the order of the rows. Raises DataError for a pair that comes with two weights."""
    key = edges[0] * len(variates) + edges[1]
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    if weights is not None and (other := weights != weights[first[group]]).any():
        row = int(other.argmax())
        a, b = (variates[end] for end in edges[:, row])
        earlier = weights[first[group[row]]]
        raise DataError(
            f'{table.where(row)}: "{a}" to "{b}" weighs {weights[row]:g}, in an earlier row {earlier:g}.',
            "Write each pair once.",
        )
    again = np.setdiff1d(np.arange(len(key)), first)
    if len(again):
        table.ledger.repair("duplicates-merged", len(again), table.line(int(again[0])), "edges were there already")
    kept = np.sort(first)
    return edges[:, kept], None if weights is None else weights[kept]
