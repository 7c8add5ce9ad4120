"""What kind of data a table holds: series, events or graphs; and tables that hold none of these."""

from collections.abc import Sequence
from typing import Literal

import polars as pl

from ..errors import DataError
from .event_columns import tells_events
from .table import Table
from .times import looks_like_times

Kind = Literal["series", "events", "graphs"]

ENDS = (("src", "dst"), ("source", "destination"), ("source", "target"), ("from", "to"), ("head", "tail"))


def looks_like(table: Table) -> Kind:
    """The kind of data that a table holds, by names and contents of its columns.

    "graphs" has a graph in each row, under `edge_index`; "events" has a source, a destination and a time in each row;
    all else is taken for "series", whose reader says what is wrong with a table of none.
    """
    if "edge_index" in table.schema:
        return "graphs"
    return "events" if tells_events(table) else "series"


def require_series(table: Table, head: pl.DataFrame, time: str | None, id_names: Sequence[str]) -> None:
    """Raise DataError for a table that is an edge list, or that has a row for each of its ids and no time.

    `head` is its first rows, `id_names` what an id column is called.
    """
    plain = {name.strip().lower().replace(" ", "_"): name for name in head.columns}
    for one, other in ENDS:
        if one in plain and other in plain and _label(head[plain[one]]) and _label(head[plain[other]]):
            if tells_events(table):
                raise DataError(
                    f"{table.origin}: each row is an event between two nodes; this is no table of series.",
                    "Use --model todyformer, without what is of series, as --horizon and --lookback.",
                )
            raise DataError(
                f'{table.origin}: "{plain[one]}" and "{plain[other]}" are the two ends of an edge; '
                "this is a graph, not a table of series.",
                f"Give the table of the series, and this one beside it: --edges {table.origin}.",
            )
    named = next((plain[name] for name in id_names if name in plain), None)
    if time is not None or named is None or table.schema[named].is_float():
        return
    if any(name[:1].isdigit() for name in head.columns):
        return  # years or dates may be columns
    ids = table.collect(named).to_series()
    counted = ids.dtype.is_integer() and bool((ids.diff().drop_nulls() == 1).all())  # the rows themselves
    if ids.n_unique() == table.rows and not counted:
        raise DataError(
            f'{table.origin}: every row has a "{named}" of its own and none a time; '
            "this tells of series, and is no table of them.",
            f"Give the table of the series, and this one beside it: --static {table.origin}; or name --time-col.",
        )


def _label(column: pl.Series) -> bool:
    """Whether a column names things: whole numbers or text, but no times."""
    text = column.dtype in (pl.String, pl.Categorical, pl.Enum)
    return column.dtype.is_integer() or (text and not looks_like_times(column))
