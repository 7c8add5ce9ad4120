"""Which columns of a table tell events: two ends, a time, perhaps a label and features; by name and by content."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from ..errors import DataError, UsageError
from .columns import CLEAR, HEAD, TIME_NAMES, nearest
from .table import Table
from .times import looks_like_times

if TYPE_CHECKING:
    from .events import EventData

# In order of preference; names are compared in lower case, spaces and hyphens as underscores.
SOURCES = ("src", "source", "from", "sender", "u", "user", "user_id", "head", "caller", "rater", "author")
SOURCES += ("src_id", "source_id", "from_id", "sender_id", "userid", "from_node", "source_node", "initiator")
DESTINATIONS = ("dst", "destination", "dest", "to", "receiver", "recipient", "v", "i", "item", "item_id", "target")
DESTINATIONS += ("dst_id", "destination_id", "to_id", "receiver_id", "target_id", "itemid", "to_node", "target_node")
DESTINATIONS += ("tail", "callee", "ratee", "page", "product", "product_id")
TIMES = ("t", "ts", "timestamp", "time", *TIME_NAMES[:CLEAR], "unixts", "unix_time", "unixtime", "unix_timestamp")
LABELS = ("label", "state_label", "y")
# Columns of these two names hold nodes of two kinds.
KINDS = {"user", "user_id", "userid"}, {"item", "item_id", "itemid", "page", "product", "product_id"}
_QUANTITIES = {"u", "v", "i", "target", "from", "to"}  # names of winds and forecasts too: floats there are no ids
_UNIX = 315_532_800, 4_102_444_800  # 1980 and 2100, in seconds


@dataclass(frozen=True)
class EventColumns:
    """The columns of an event table: what each is, and which are not used."""

    src: str
    dst: str
    time: str
    label: str | None
    features: tuple[str, ...]
    left_out: tuple[str, ...]
    kinds: bool  # the two ends are named as nodes of two kinds


def tells_events(table: Table) -> bool:
    """Whether a table has the two ends and the time of events, going by names and contents alone."""
    head = _head(table)
    ends = _ends(head, None, None, None)
    return ends is not None and _time(head, ends) is not None


def event_columns(table: Table, data: "EventData") -> EventColumns:
    """The columns of an event table: those that `data` names, others as their names and contents tell.

    A further column of numbers is a feature, unless it only counts the rows. Text that is neither is left out, noted
    in the table's ledger. Raises UsageError for a column that is named and not there, DataError for ends or a time
    that are not found and for a label or a feature that holds no numbers.
    """
    label = None if data.label_col == "none" else data.label_col
    named = [name for name in (data.src_col, data.dst_col, data.time_col, label) if name is not None]
    for name in (*named, *(data.features or ())):
        if name not in table.schema:
            raise UsageError(f'{table.origin}: there is no column "{name}".', nearest(name, table))
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise UsageError(f'{table.origin}: "{twice}" is named for two things.', "Name a column for each.")
    head = _head(table)
    ends = _ends(head, data.src_col, data.dst_col, data.time_col)
    if ends is None:
        raise DataError(
            f"{table.origin}: no two columns are the source and the destination of events.",
            "Name them: --set data.src_col=… --set data.dst_col=…. " + _listed(table),
        )
    time = data.time_col or _time(head, ends)
    if time is None:
        raise DataError(
            f'{table.origin}: "{ends[0]}" and "{ends[1]}" are the two ends of events, and no column is their time.',
            "Name it: --set data.time_col=…; a graph without times is no stream of events. " + _listed(table),
        )
    taken = {*ends, time}
    found = data.label_col or next((n for a in LABELS for n in head.columns if _plain(n) == a and n not in taken), None)
    label = None if data.label_col == "none" else found
    taken |= {label} if label is not None else set()
    if label is not None and not _numeric(table, label):
        raise DataError(
            f'{table.origin}: the label "{label}" holds no numbers.', "Name another: --set data.label_col=…"
        )
    features = _features(table, head, data, taken)
    left_out = tuple(name for name in table.schema if name not in {*taken, *features})
    kinds = _plain(ends[0]) in KINDS[0] and _plain(ends[1]) in KINDS[1]
    return EventColumns(*ends, time, label, features, left_out, kinds)


def _head(table: Table) -> pl.DataFrame:
    return table.collect(pl.col([c for c, t in table.schema.items() if not t.is_nested()]).head(HEAD))


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _listed(table: Table) -> str:
    names = list(table.schema)
    return f"The columns are: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}."


def _ends(head: pl.DataFrame, src: str | None, dst: str | None, time: str | None) -> tuple[str, str] | None:
    """The columns of source and destination, or None."""
    taken = {src, dst, time}
    free = {name: column for name, column in zip(head.columns, head.get_columns(), strict=True) if name not in taken}
    if src is None and dst is None and _unnamed(head):
        return ("0", "1") if all(_names_nodes(head[name], "0") for name in ("0", "1")) else None
    src = src or next(
        (n for alias in SOURCES for n, c in free.items() if _plain(n) == alias and _names_nodes(c, alias)), None
    )
    dst = dst or next(
        (n for a in DESTINATIONS for n, c in free.items() if _plain(n) == a and n != src and _names_nodes(c, a)), None
    )
    if src is None or dst is None:
        return None
    if _plain(dst) == "target" and dst in free and head[src].dtype.is_integer() != head[dst].dtype.is_integer():
        return None  # shops and what they sold, not two ends
    return src, dst


def _names_nodes(column: pl.Series, alias: str) -> bool:
    """Whether a column names things: whole numbers, also as floats, or text that is no time."""
    if column.dtype.is_float():
        given = column.drop_nulls().drop_nans()
        return alias not in _QUANTITIES and len(given) > 0 and bool((given == given.floor()).all())
    text = column.dtype in (pl.String, pl.Categorical, pl.Enum)
    return column.dtype.is_integer() or (text and not looks_like_times(column))


def _unnamed(head: pl.DataFrame) -> bool:
    """Whether columns are called by their numbers, as those of a text without a header."""
    return head.width >= 3 and head.columns == [str(number) for number in range(head.width)]


def _time(head: pl.DataFrame, ends: tuple[str, str]) -> str | None:
    """The column that tells when events were: one of dates, else numbers under a clear name."""
    free = [column for column in head.get_columns() if column.name not in ends]
    if _unnamed(head):
        return next((c.name for c in free if looks_like_times(c) or _unix(c)), None)
    rank = {alias: place for place, alias in reversed(list(enumerate(TIMES)))}
    dated = [(rank.get(_plain(c.name), len(TIMES)), c.name) for c in free if looks_like_times(c)]
    counted = [(rank[_plain(c.name)], c.name) for c in free if _plain(c.name) in rank and c.dtype.is_numeric()]
    return min(dated or counted, default=(0, None))[1]


def _unix(column: pl.Series) -> bool:
    """Whether numbers are seconds since 1970."""
    given = column.drop_nulls()
    return column.dtype.is_numeric() and len(given) > 0 and bool(given.is_between(*_UNIX).all())


def _numeric(table: Table, name: str) -> bool:
    return table.schema[name].is_numeric() or table.schema[name] == pl.Boolean


def _features(table: Table, head: pl.DataFrame, data: "EventData", taken: set[str]) -> tuple[str, ...]:
    if data.features is not None:
        for name in data.features:
            if name in taken:
                raise UsageError(f'{table.origin}: "{name}" is no feature as well.', "Leave it out of data.features.")
            if not _numeric(table, name):
                raise DataError(f'{table.origin}: the feature "{name}" holds no numbers.', "Write it as numbers.")
        return tuple(dict.fromkeys(data.features))
    found = []
    for name in table.schema:
        if name in taken:
            continue
        if not _numeric(table, name):
            table.ledger.caution("text-column", name, "left out: it holds no numbers", table.rows)
        elif not _counts(head[name]) and _plain(name) not in LABELS:
            found.append(name)
    return tuple(found)


def _counts(column: pl.Series) -> bool:
    """Whether a column numbers the rows one by one."""
    return column.dtype.is_integer() and len(column) > 1 and bool((column.diff().drop_nulls() == 1).all())
