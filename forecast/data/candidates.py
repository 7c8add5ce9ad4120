"""Published candidates: the destinations that each event of a part is to be ranked among, read from a file.

The files of TGB are pickles, which can run any program and are never opened. Their content is read from Parquet, with
a row for each event and a list of ids, or from an .npz of plain arrays.
"""

from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np
import polars as pl

from ..errors import DataError
from .event_columns import EventColumns
from .events import EventTable
from .nodes import plain_ids
from .table import read
from .ticks import read_ticks
from .times import Rules

Part = Literal["validation", "test"]
_PARTS: tuple[Part, Part] = ("validation", "test")
_WORDS = {"validation": "val", "test": "test"}
_SUFFIXES = (".parquet", ".npz")


def find_candidates(events: Path, part: Part) -> Path | None:
    """The file of candidates beside a file of events, or None: `NAME_val_ns….parquet` or `.npz`, `NAME_test_ns…`.

    NAME is what the name of the events' file has before `_edgelist`, or its stem.
    """
    name = events.name.removesuffix(".gz").rpartition(".")[0].partition("_edgelist")[0]
    found = [path for path in sorted(events.parent.glob(f"{name}_{_WORDS[part]}_ns*")) if path.suffix in _SUFFIXES]
    return found[0] if found else None


def listed_candidates(events: EventTable) -> np.ndarray | None:
    """The nodes that all events of validation and test are ranked among, (Q, N) int64, by the files beside the events.

    None where there are no such files. Raises DataError where one of the parts has none, where an event has no
    candidate, and as `read_candidates`.
    """
    origin = Path(events.table.origin)
    paths = [find_candidates(origin, part) for part in _PARTS] if origin.is_file() else [None, None]
    given = [(part, path) for part, path in zip(_PARTS, paths, strict=True) if path is not None]
    if not given:
        return None
    if len(given) < len(_PARTS):
        (lacking,) = set(_PARTS) - {part for part, _ in given}
        raise DataError(
            f"{given[0][1]}: there are candidates of the {given[0][0]} part, and none of the {lacking} part.",
            f"Put the file of the other part beside it, {_WORDS[lacking]} in its name, or take this one away.",
        )
    lists = [read_candidates(path, events, part) for part, path in given]
    width = max(found.shape[1] for found in lists)
    for (part, path), found in zip(given, lists, strict=True):
        if not (found >= 0).any(axis=1).all():
            raise DataError(
                f"{path}: an event of the {part} part has no candidate.",
                "List at least one other destination for each.",
            )
    return np.concatenate([np.pad(found, ((0, 0), (0, width - found.shape[1])), constant_values=-1) for found in lists])


def read_candidates(path: Path, events: EventTable, part: Part) -> np.ndarray:
    """The nodes that each event of a part is ranked among, (Q, N) int64 in the order of the store.

    The file has the columns of source, destination and time that the events have, or `src`, `dst` and `t`, and
    `negatives`: a list of destinations in each row, under the ids of the event file. Lists shorter than N end in -1.
    Raises DataError for a file of another form, an event of the part that it does not list, and an id that no event
    has.
    """
    table = _arrays(path) if path.suffix == ".npz" else _frame(path, events.columns)

    def where(row: int) -> str:
        return f"{path}, row {row}"

    nodes, lists = events.nodes, table["negatives"]
    listed = pl.DataFrame(
        {
            "src": nodes.source_nodes(plain_ids(table["src"], where)),
            "dst": nodes.destination_nodes(plain_ids(table["dst"], where)),
            "time": read_ticks(table["t"], where, Rules(), events.time_type)[0],
        }
    ).with_row_index("row")
    first, end = events.borders if part == "validation" else (events.borders[1], len(events.store))
    store = events.store[first:end]
    asked = pl.DataFrame({"src": store.src.numpy(), "dst": store.dst.numpy(), "time": store.time.numpy()})
    keys = ["src", "dst", "time"]
    rows = asked.join(listed.unique(keys, keep="first"), on=keys, how="left", maintain_order="left")["row"]
    if rows.null_count():
        event = int(store.order[int(rows.is_null().arg_max() or 0)])
        raise DataError(
            f"{path}: it lists no candidates for the event at {events.table.where(event)}, of the {part} part; "
            f"{rows.null_count():,} of {len(rows):,} events lack them.",
            "Give the candidates of this table and split, under the ids and times of the event file.",
        )
    lengths = lists.list.len().cast(pl.Int64).to_numpy()
    flat = lists.explode(empty_as_null=False, keep_nulls=False)
    found = nodes.destination_nodes(plain_ids(flat, where))
    owner = np.repeat(np.arange(len(lengths)), lengths)
    if (found < 0).any():
        place = int((found < 0).argmax())
        raise DataError(
            f'{where(int(owner[place]))}: the candidate "{flat[place]}" is the destination of no event.',
            "Write candidates under the ids of the event file.",
        )
    candidates = np.full((len(lengths), int(lengths.max(initial=0))), -1)
    candidates[owner, np.arange(len(found)) - np.repeat(np.cumsum(lengths) - lengths, lengths)] = found
    return candidates[rows.to_numpy()]


def _frame(path: Path, columns: EventColumns) -> pl.DataFrame:
    """The columns of a Parquet file as `src`, `dst`, `t` and `negatives`."""
    table = read(path)
    own = {columns.src: "src", columns.dst: "dst", columns.time: "t"}
    names = own if all(name in table.schema for name in own) else {name: name for name in own.values()}
    absent = [name for name in (*names, "negatives") if name not in table.schema]
    if absent:
        raise DataError(f'{path}: there is no column "{absent[0]}".', "Give src, dst, t and negatives.")
    if not isinstance(table.schema["negatives"], pl.List | pl.Array):
        raise DataError(
            f"{path}: negatives is {table.schema['negatives']}, no list.", "Give a list of ids in each row."
        )
    frame = table.collect(*names, "negatives").rename(names)
    return frame.with_columns(pl.col("negatives").cast(pl.List(frame.schema["negatives"].inner)))  # type: ignore[attr-defined]


def _arrays(path: Path) -> pl.DataFrame:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("src", "dst", "t", "negatives")}
            negatives = arrays["negatives"]
            if negatives.ndim != 2 or any(len(values) != len(negatives) for values in arrays.values()):
                raise ValueError(f"negatives has shape {negatives.shape}")
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise DataError(
            f"{path}: no archive of plain arrays src, dst, t of (Q,) and negatives of (Q, N): {error}.",
            "Write it with numpy.savez, without objects.",
        ) from error
    plain = {name: pl.Series(name, values) for name, values in arrays.items() if name != "negatives"}
    return pl.DataFrame([*plain.values(), pl.Series("negatives", negatives).arr.to_list()])
