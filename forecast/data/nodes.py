"""Nodes of a graph under the ids of the caller: numbered once, found again, and given back in their type."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from ..errors import DataError
from .times import quoted


@dataclass(frozen=True, eq=False)
class Nodes:
    """Which id each of the N nodes has.

    In a bipartite graph sources and destinations have ids of their own, so that user 7 and item 7 are two nodes:
    sources come first, destinations follow. Else all ids are one space and `destinations` is None. Ids are sorted, of
    type Int64, UInt64 or String.
    """

    sources: pl.Series  # (S,) ids of sources; of all nodes where the graph is not bipartite
    destinations: pl.Series | None  # (D,)

    def __len__(self) -> int:
        return len(self.sources) + (0 if self.destinations is None else len(self.destinations))

    @property
    def bipartite(self) -> bool:
        return self.destinations is not None

    def source_nodes(self, ids: pl.Series) -> np.ndarray:
        """The nodes of ids of sources: (R,) int64, -1 for an id that is not known."""
        return _found(self.sources, ids)

    def destination_nodes(self, ids: pl.Series) -> np.ndarray:
        """The nodes of ids of destinations: (R,) int64, -1 for an id that is not known."""
        if self.destinations is None:
            return _found(self.sources, ids)
        nodes = _found(self.destinations, ids)
        return np.where(nodes < 0, nodes, nodes + len(self.sources))

    def source_ids(self, nodes: np.ndarray, name: str = "src") -> pl.Series:
        """The ids of nodes that are sources, as they were given."""
        return self.sources.gather(nodes).alias(name)

    def destination_ids(self, nodes: np.ndarray, name: str = "dst") -> pl.Series:
        """The ids of nodes that are destinations, as they were given."""
        if self.destinations is None:
            return self.sources.gather(nodes).alias(name)
        return self.destinations.gather(np.asarray(nodes) - len(self.sources)).alias(name)


def nodes_of(src: pl.Series, dst: pl.Series, *, bipartite: bool) -> Nodes:
    """The nodes of two columns of `plain_ids`; of one type where the graph is not bipartite."""
    if bipartite:
        return Nodes(_sorted(src), _sorted(dst))
    return Nodes(_sorted(pl.concat([src.unique(), dst.unique().alias(src.name)])), None)


def two_kinds(src: pl.Series, dst: pl.Series, *, named: bool) -> bool:
    """Whether sources and destinations of a graph are nodes of two kinds.

    They are if no id is both. Where ids meet, they are if the columns are `named` so, as users and items are, unless
    whole numbers show one numbering: with gaps on either side that the other side fills.
    """
    if src.dtype != dst.dtype:
        return True
    sources, destinations = src.unique(), dst.unique()
    every = pl.concat([sources, destinations.alias(src.name)]).unique()
    if len(every) == len(sources) + len(destinations):
        return True
    gapless = [src.dtype.is_integer() and _gapless(ids) for ids in (sources, destinations, every)]
    return named and not (gapless[2] and not (gapless[0] and gapless[1]))


def plain_ids(column: pl.Series, where: Callable[[int], str]) -> pl.Series:
    """Ids as whole numbers or text, none of them missing. Raises DataError for ids of another kind."""
    dtype = column.dtype
    if dtype == pl.UInt64:
        return column
    if dtype.is_integer():
        return column.cast(pl.Int64)
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return column.cast(pl.String)
    if dtype.is_float():  # what pandas makes of whole numbers where one is missing
        whole = column.cast(pl.Int64, strict=False)
        odd = whole.is_null() | (whole.cast(dtype) != column)
        if not odd.any():
            return whole
        row = int(odd.arg_max() or 0)
        raise DataError(
            f'{where(row)}: {quoted(column[row])} in column "{column.name}" is no id of a node.',
            "Give ids as whole numbers or text.",
        )
    raise DataError(f'Column "{column.name}" of type {dtype} holds no ids.', "Give ids as whole numbers or text.")


def _gapless(ids: pl.Series) -> bool:
    return int(ids.max()) - int(ids.min()) + 1 == len(ids)  # type: ignore[arg-type]


def _sorted(ids: pl.Series) -> pl.Series:
    return ids.unique().sort()


def _found(known: pl.Series, ids: pl.Series) -> np.ndarray:
    """Positions of `ids` in `known`, -1 where they are not; numbers and their text are the same id."""
    asked = pl.DataFrame({"id": ids.cast(known.dtype, strict=False)})
    table = pl.DataFrame({"id": known, "node": np.arange(len(known), dtype=np.int64)})
    found = asked.join(table, on="id", how="left", maintain_order="left")["node"]
    return found.fill_null(-1).to_numpy()
