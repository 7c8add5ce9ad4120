"""What a column is: id, time, value or none of these, by its name and by what it holds."""

from collections.abc import Sequence
from difflib import get_close_matches

import polars as pl

from ..errors import DataError, UsageError
from .keys import NEARLY, find_keys
from .numbers import MISSING, Decimal, Numbers, numbers_of
from .parts import restated
from .table import Table
from .text import parsed_entries
from .times import Rules, dated_numbers, looks_like_times, parse_times, quoted

# In order of preference; names are compared in lower case, spaces and hyphens as underscores.
TIME_NAMES: tuple[str, ...] = ("ds", "timestamp", "datetime", "date_time", "date", "time", "ts", "t")
CLEAR = 8  # these name the time even of integers that repeat; a "month" may as well be a feature
TIME_NAMES += ("period", "quarter", "month", "week", "day", "year", "hour", "step", "index", "row")
TIME_NAMES += ("decimal_date", "decimal_year", "year_decimal")
SURE_ID_NAMES = ("unique_id", "item_id", "series_id")
ID_NAMES: tuple[str, ...] = (
    "id",
    "series",
    "key",
    "item",
    "symbol",
    "ticker",
    "name",
    "sensor",
    "sensor_id",
    "store",
    "store_id",
)
ID_NAMES += (
    "product",
    "product_id",
    "sku",
    "station",
    "location",
    "region",
    "country",
    "group",
    "zone",
    "meter",
)
ALL_ID_NAMES = SURE_ID_NAMES + ID_NAMES
TARGET_NAMES = ("y", "target", "value")
COUNTERS = ("id", "index", "no", "nr", "row")  # columns of these names may only number the rows
HEAD = 1000  # rows that show what a column holds
CATEGORIES = 50  # different texts of one column; more are names
MANY = 1 / 3  # share of repeated times that one series cannot have by accident


def require_columns(table: Table, names: Sequence[str]) -> None:
    """Raise DataError naming the columns that are not in the table."""
    absent = [name for name in names if name not in table.schema]
    if absent:
        listed = ", ".join(f'"{name}"' for name in absent[:5]) + (" …" if len(absent) > 5 else "")
        raise DataError(f"{table.origin}: the table has no column {listed}.", nearest(absent[0], table))


def told_again(table: Table, head: pl.DataFrame, time: str | None, asked: set[str | None]) -> list[str]:
    """Columns of numbers that only tell a part of the time again; noted as left out."""
    free = [name for name in head.columns if name not in asked]
    if time is None or not any(head[name].dtype.is_integer() for name in free):
        return []
    try:
        moments, time_type = parse_times(head[time], table.where)
    except DataError:
        return []  # told of later, with the whole column at hand
    again = [] if time_type.steps else restated(head.select(free), time, moments)
    for name in again:
        table.ledger.repair("column-dropped", 1, name, "a part of the time, told again")
    return again


def nearest(name: str, table: Table) -> str:
    near = get_close_matches(name, table.schema, n=1, cutoff=0.4)
    if near:
        return f'Did you mean "{near[0]}"?'
    listed = ", ".join(list(table.schema)[:8]) + (", …" if len(table.schema) > 8 else "")
    return f"The columns are: {listed}."


def _alias(name: str, aliases: tuple[str, ...]) -> int:
    """How preferred a column's name is among aliases; their number where it is none."""
    plain = name.strip().lower().replace(" ", "_").replace("-", "_")
    return aliases.index(plain) if plain in aliases else len(aliases)


def find_time(table: Table, head: pl.DataFrame, taken: set[str | None]) -> str | None:
    none = len(TIME_NAMES)
    free = [c for c in head.get_columns() if c.name not in taken]
    dated = [(-c.n_unique(), _alias(c.name, TIME_NAMES), c.name) for c in free if looks_like_times(c)]
    if dated:
        dated.sort()
        if len(dated) > 1 and dated[0][:2] == dated[1][:2] and dated[0][1] == none:
            raise DataError(
                f'{table.origin}: both "{dated[0][2]}" and "{dated[1][2]}" can be the time.',
                f'Name it: --time-col "{dated[0][2]}".',
            )
        return dated[0][2]
    aliased = sorted((_alias(c.name, TIME_NAMES), c.name) for c in free if _alias(c.name, TIME_NAMES) < none)
    for _, name in aliased:
        if table.schema[name] == pl.String:
            return name  # unreadable: the error that follows names the value
    has_id = any(_alias(c.name, ALL_ID_NAMES) < len(ALL_ID_NAMES) for c in free) or any(taken)
    for rank, name in aliased:
        sure = rank < CLEAR or has_id
        if table.schema[name].is_integer() and (sure or _distinct(table, name) == table.rows):
            return name
        if table.schema[name].is_float() and dated_numbers(head[name].drop_nulls(), Rules()):
            return name
    return None


def _distinct(table: Table, *names: str) -> int:
    return int(table.collect(pl.struct(names).n_unique() if len(names) > 1 else pl.col(names[0]).n_unique()).item())


def find_id(table: Table, head: pl.DataFrame, time: str | None, taken: set[str | None]) -> tuple[str, ...]:
    """The column that tells the series apart, or several that do so together; () for one series."""
    free = [c for c in head.columns if c not in taken and not table.schema[c].is_float()]
    sure = sorted((_alias(c, SURE_ID_NAMES), c) for c in free if _alias(c, SURE_ID_NAMES) < len(SURE_ID_NAMES))
    if sure:
        return (sure[0][1],)
    if time is None or (repeated := table.rows - _distinct(table, time)) == 0:
        return ()
    many = repeated >= MANY * table.rows
    candidates = []
    for name in free:
        rank, dtype = _alias(name, ID_NAMES), table.schema[name]
        label = _is_label(dtype) and many and not looks_like_times(head[name])
        if rank < len(ID_NAMES) or label:
            candidates.append((table.rows - _distinct(table, name, time), rank, name))
    best = min(candidates, default=None)
    if best is not None and best[0] <= NEARLY * table.rows and best[0] < repeated:
        return (best[2],)
    if many:
        if keys := find_keys(table, time, *key_candidates(table, head, taken)):
            return keys
        several = ", ".join(f'"{name}"' for *_, name in candidates)
        raise DataError(
            f'{table.origin}: {repeated} of {table.rows} rows repeat a time of "{time}", '
            f"and no columns tell the series apart{f' ({several} do not)' if several else ''}.",
            "Name the id with --id-col, several columns as --id-col A,B.",
        )
    return ()


def _is_label(dtype: pl.DataType) -> bool:
    return dtype in (pl.String, pl.Categorical, pl.Enum)


def key_candidates(table: Table, head: pl.DataFrame, taken: set[str | None]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Columns that may be part of an id, and those of them that are so by name or type."""
    columns, likely = [], []
    for name, dtype in table.schema.items():
        if (
            name in taken
            or _alias(name, TIME_NAMES) < len(TIME_NAMES)
            or _alias(name, TARGET_NAMES) < len(TARGET_NAMES)
        ):
            continue
        if (_is_label(dtype) and not looks_like_times(head[name])) or dtype.is_integer():
            columns.append(name)
            if _is_label(dtype) or _alias(name, ALL_ID_NAMES) < len(ALL_ID_NAMES):
                likely.append(name)
    return tuple(columns), tuple(likely)


def find_values(
    table: Table,
    head: pl.DataFrame,
    taken: set[str | None],
    ids: tuple[str, ...],
    target: tuple[str, ...],
    variates: tuple[str, ...],
) -> tuple[tuple[str, ...], int]:
    """Value columns, targets first, and how many are targets."""
    taken = {*taken, *ids}
    asked = tuple(dict.fromkeys((*target, *variates)))
    if clash := [name for name in asked if name in taken]:
        raise UsageError(
            f'{table.origin}: "{clash[0]}" is the id or the time, it cannot be a value as well.',
            "Name the id with --id-col and the time with --time-col.",
        )
    found = list(asked)
    for name, dtype in table.schema.items():
        if (
            name in taken
            or (name in asked and (dtype.is_numeric() or dtype == pl.Boolean))
            or (variates and name not in asked)
        ):
            continue
        if name in asked and dtype != pl.String:
            raise DataError(f'{table.origin}: "{name}" of type {dtype} holds no numbers.', "Name a number column.")
        reason = _not_a_value(table, head, name, dtype, name in asked)
        if reason is None and name not in asked:
            found.append(name)
        elif reason is not None:
            if reason == "text":
                reason = _use_of_text(table, name, ids)
            table.ledger.repair("column-dropped", 1, name, reason)
    if not found:
        raise DataError(f"{table.origin}: no column holds numbers.", "Name the values with --target.")
    if asked:
        return tuple(found), len(dict.fromkeys(target)) or len(found)
    aliased = [name for name in found if _alias(name, TARGET_NAMES) < len(TARGET_NAMES)]
    if len(aliased) == 1:
        found.sort(key=lambda name: name != aliased[0])
        return tuple(found), 1
    return tuple(found), len(found)


def _not_a_value(table: Table, head: pl.DataFrame, name: str, dtype: pl.DataType, asked: bool) -> str | None:
    """Why a column is left out, or None. Raises DataError for text in a column of numbers."""
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object, pl.Time, pl.Duration, pl.Null):
        return f"holds no numbers but {dtype}"
    if dtype.is_temporal():
        return "a further column of times"
    if dtype == pl.Boolean:
        return "truth values; to use it: --variates, or --known-future where its future is known"
    if head[name].null_count() == head.height and table.collect(pl.col(name).null_count()).item() == table.rows:
        return "holds no value"
    if dtype.is_numeric():
        counts = name in ("", "0") or name.startswith("Unnamed") or _alias(name, COUNTERS) < len(COUNTERS)
        return "numbers the rows" if counts and dtype.is_integer() and _counts_rows(table, name) else None
    if not asked and looks_like_times(head[name]):
        return "a further column of times"
    text = table.collect(name).to_series().cast(pl.String)
    found = numbers_in(table, text, codes=asked)
    if found is not None and found.bad is None:
        for entry in parsed_entries([(name, found)], table.line):
            table.ledger.repair(*entry)
        if not (found.marks or found.dressed.any()):
            table.ledger.repair("numbers-parsed", 1, name, "text was read as numbers")
        return None
    if found is not None or asked:
        raise bad_cell(table, name, first_bad(found, text), text)
    missing = text.is_in(MISSING) | text.is_null()
    table.ledger.caution("text-column", name, quoted(text.filter(~missing).first())[1:-1], int((~missing).sum()))
    return "text"


def _use_of_text(table: Table, name: str, ids: tuple[str, ...]) -> str:
    """Why a text column is left out, and how it can be used."""
    if ids:
        last = pl.struct(ids) == pl.struct(ids).shift()
        moves = table.collect((last & (pl.col(name) != pl.col(name).shift())).any()).item()
        if not moves:  # in a block of rows of one id; an id may have several blocks
            pairs, series = (table.collect(pl.struct(names).n_unique()).item() for names in ((*ids, name), ids))
            if pairs == series:
                return "text, the same in all rows of a series: a static feature, to be given with --static FILE"
    few = table.collect(pl.col(name).n_unique()).item()
    if few <= CATEGORIES:
        return (
            f"text of {few} categories: to use them, write them as columns of 0 and 1 for --known-future or --variates"
        )
    return "text"


def _counts_rows(table: Table, name: str) -> bool:
    column = pl.col(name)
    span = table.collect((column.diff().drop_nulls() == 1).all() & column.first().is_in([0, 1]))
    return bool(span.item())


def numbers_in(table: Table, text: pl.Series, decimal: Decimal | None = None, *, codes: bool = False) -> Numbers | None:
    """Text as numbers if more than half of its values are; `codes`: digits with a leading zero are numbers as well.

    Raises DataError where "1,234" can have a decimal or a thousands mark and neither the column, nor `decimal`, nor
    the rest of the file decides.
    """
    usual: Decimal | None = "comma" if table.format.get("delimiter") == ";" else None
    found = numbers_of(text, decimal or table.decimal or usual, codes=codes)
    if found is None or found.decided or found.bad is not None:
        return found
    row = int(text.str.contains(",", literal=True).fill_null(False).arg_max() or 0)
    written = str(text[row]).strip()
    raise DataError(
        f'{table.where(row)}: {quoted(written)} in column "{text.name}" can be {written.replace(",", "")} or '
        f"{written.replace(',', '.')}, and nothing else in the file decides.",
        "Add --decimal point or --decimal comma.",
    )


def first_bad(found: Numbers | None, text: pl.Series) -> int:
    """The first row of a column that is no number, missing values aside."""
    if found is not None and found.bad is not None:
        return found.bad
    given = text.is_not_null() & ~text.str.strip_chars().is_in(MISSING)
    return int((given & text.cast(pl.Float64, strict=False).is_null()).arg_max() or 0)


def bad_cell(table: Table, name: str, row: int, text: pl.Series) -> DataError:
    """The error for a value that should be a number."""
    return DataError(
        f'{table.where(row)}: {quoted(text[row])} in column "{name}" is not a number.',
        "Correct the value or leave it empty; or name the columns to use with --target and --variates.",
    )


def note_constants(table: Table, head: pl.DataFrame, values: tuple[str, ...], targets: int) -> None:
    """Note columns whose value never changes; raise DataError if that is so of every target."""
    still = [n for n in values if table.schema[n].is_numeric() and head[n].drop_nulls().n_unique() <= 1]
    if not still:
        return
    low, high = table.collect(pl.col(still).min()).row(0), table.collect(pl.col(still).max()).row(0)
    constant = {n: a for n, a, b in zip(still, low, high, strict=True) if a == b or (a is None and b is None)}
    for name, value in constant.items():
        table.ledger.caution("constant-column", name, str(value), table.rows)
    if all(name in constant for name in values[:targets]):
        name = values[0]
        raise DataError(
            f'{table.origin}: "{name}" is {constant[name]} in every row; a constant cannot be forecast.',
            "Name a column that changes with --target.",
        )
