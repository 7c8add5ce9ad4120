"""Tables as users bring them: CSV, Parquet, polars or pandas, read into columns beside a ledger.

Parquet stays lazy and is never loaded whole; text files are read by `text.py`.
"""

import contextlib
import glob
import io
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import tzinfo
from difflib import get_close_matches
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from ..errors import DataError, NoRowsError, UsageError
from .numbers import Decimal
from .parquet import MAGIC, SUFFIXES, guarded, scan_parts
from .text import read_text, refuse_repeated_names
from .times import fixed_zone

if TYPE_CHECKING:
    import pandas

Library = Literal["path", "polars", "pandas"]


@dataclass(frozen=True)
class Repair:
    """One kind of change made to the data: how often, where first."""

    kind: str
    count: int
    first: str
    detail: str


@dataclass(frozen=True)
class Caution:
    """Something odd that was left as it is."""

    kind: str
    column: str
    value: str
    count: int


class Ledger:
    """All repairs and cautions of a table, in the order they were made; the same entry is kept once."""

    def __init__(self) -> None:
        self._repairs: list[Repair] = []
        self._cautions: list[Caution] = []

    def repair(self, kind: str, count: int, first: str, detail: str) -> None:
        """Note that `count` rows or columns were changed, the first at `first`."""
        entry = Repair(kind, count, first, detail)
        if entry not in self._repairs:
            self._repairs.append(entry)

    def caution(self, kind: str, column: str, value: str, count: int) -> None:
        """Note something odd that was not changed."""
        entry = Caution(kind, column, value, count)
        if entry not in self._cautions:
            self._cautions.append(entry)

    @property
    def repairs(self) -> tuple[Repair, ...]:
        return tuple(self._repairs)

    @property
    def cautions(self) -> tuple[Caution, ...]:
        return tuple(self._cautions)

    def to_dict(self) -> dict[str, list[dict[str, Any]]]:
        """`{"repairs": […], "warnings": […]}` as `--json` prints them."""
        return {
            "repairs": [asdict(r) for r in self._repairs],
            "warnings": [asdict(c) for c in self._cautions],
        }


@dataclass(frozen=True)
class Table:
    """Named columns of `rows` rows, as given but for missing marks, with what is needed to speak of them."""

    data: pl.LazyFrame
    schema: Mapping[str, pl.DataType]
    rows: int
    origin: str  # the path as given, or "<frame>"
    library: Library  # what results are returned in
    format: dict[str, Any]  # CSV: delimiter, encoding, decimal, thousands, header_row; else: kind
    first_line: int  # number of the first data row in messages
    ledger: Ledger
    lines: np.ndarray | None = None  # (R,) line of each row where blank rows were left out
    behind: "Table | None" = None  # another table, whose rows are the last of these
    cache: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)  # columns parsed once
    decimal: Decimal | None = None  # what settles "1,234" in a text column, where anything does
    marked: Mapping[str, int] = field(default_factory=dict)  # column -> values read as missing for a mark such as "-"

    def line(self, row: int) -> str:
        """Where a row stands, as "line 14" of a text file or "row 12" (from 0) of anything else."""
        table, row = self._of(row)
        if "delimiter" not in table.format:
            return f"row {row}"
        return f"line {int(table.lines[row]) if table.lines is not None else table.first_line + row}"

    def where(self, row: int) -> str:
        """Where a row stands, with the origin: "sales.csv, line 14"."""
        return f"{self._of(row)[0].origin}, {self.line(row)}"

    def _of(self, row: int) -> "tuple[Table, int]":
        """The table that a row was read from, and its number there."""
        if self.behind is None or row < self.rows - self.behind.rows:
            return self, row
        return self.behind, row - (self.rows - self.behind.rows)

    def collect(self, *columns: str | pl.Expr) -> pl.DataFrame:
        """The columns in memory. A damaged file or part raises DataError."""
        stored = self.format.get("kind") == "parquet"
        return guarded(lambda: self.data.select(*columns).collect(), self.origin, bytes_read=stored)


def read(
    source: "str | Path | pl.DataFrame | pl.LazyFrame | pandas.DataFrame | Table", decimal: Decimal | None = None
) -> Table:
    """A table from a path (CSV, Parquet, folder or glob of Parquet parts, "-" for standard input) or a frame.

    A `Table` is given back. `decimal` settles whether "1,234" has a decimal or a thousands mark, where the column does
    not tell. Raises DataError for what is missing, empty, ragged, damaged or no table at all.
    """
    table = _read(source, decimal)
    return table if decimal is None else replace(table, decimal=decimal)


def _read(source: Any, decimal: Decimal | None) -> Table:
    if isinstance(source, Table):
        return source
    if isinstance(source, pl.DataFrame):
        return _framed(source.lazy(), source.height, "polars")
    if isinstance(source, pl.LazyFrame):
        rows = guarded(lambda: source.select(pl.len()).collect().item(), "<frame>")
        return _framed(source, rows, "polars")
    if isinstance(source, str | Path):
        return _read_path(str(source), decimal)
    if type(source).__module__.partition(".")[0] == "pandas" and hasattr(source, "columns"):
        frame = _from_pandas(source)
        return _framed(frame.lazy(), frame.height, "pandas")
    raise DataError(
        f"A {type(source).__name__} is not a table.",
        "Give a path, a polars frame or a pandas DataFrame.",
    )


def _framed(data: pl.LazyFrame, rows: int, library: Library) -> Table:
    schema = guarded(data.collect_schema, "<frame>")
    if rows == 0:
        raise NoRowsError("The frame has no rows.", "Give a frame with a row for each time.")
    return Table(data, dict(schema), rows, "<frame>", library, {"kind": "frame"}, 0, Ledger())


def _read_path(name: str, decimal: Decimal | None) -> Table:
    if name == "-":
        return _from_bytes(sys.stdin.buffer.read(), "-", decimal)
    path = Path(name)
    if path.is_dir():
        parts = sorted(p for s in SUFFIXES for p in path.rglob(f"*{s}") if not p.name.startswith((".", "_")))
        if not parts:
            raise DataError(f"{name}: the folder holds no Parquet file.", "Give a folder of .parquet parts.")
        return _scan_parquet(parts, name)
    if not path.exists():
        found = sorted(glob.glob(name, recursive=True)) if glob.has_magic(name) else []
        if not found:
            raise _missing(path)
        if len(found) == 1:
            return _read_path(found[0], decimal)
        odd = next((f for f in found if not f.lower().endswith(SUFFIXES)), None)
        if odd is not None:
            raise DataError(f"{name}: {odd} is not a Parquet file.", "Several parts are read from Parquet only.")
        return _scan_parquet([Path(f) for f in found], name)
    try:
        if path.stat().st_size == 0 and path.is_file():
            raise DataError(f"{name}: the file is empty.", "Give a table with a header line and rows.")
        with path.open("rb") as file:
            if file.peek(4)[:4] == MAGIC or path.suffix.lower() in SUFFIXES:
                return _scan_parquet([path], name)
            return _text_table(file.read(), name, decimal)
    except OSError as error:
        raise DataError(f"{name}: {error.strerror or error}.", "Check the path and its permissions.") from error


def _missing(path: Path) -> DataError:
    folder = path.parent
    if not folder.is_dir():
        return DataError(f"{path}: no such file or folder.", f"The folder {folder} does not exist.")
    near = get_close_matches(path.name, sorted(p.name for p in folder.iterdir()), n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(str(folder / n) for n in near)}?" if near else "Check the path."
    return DataError(f"{path}: no such file or folder.", hint)


def _scan_parquet(parts: list[Path], name: str) -> Table:
    data, schema, rows = scan_parts(parts, name)
    if rows == 0:
        raise NoRowsError(f"{name}: the file has no rows.", "Give a table with a row for each time.")
    return Table(data, schema, rows, name, "path", {"kind": "parquet"}, 0, Ledger())


def _from_bytes(raw: bytes, name: str, decimal: Decimal | None) -> Table:
    """A table from standard input."""
    if not raw.startswith(MAGIC):
        return _text_table(raw, name, decimal)
    frame = guarded(lambda: pl.read_parquet(io.BytesIO(raw)), name)
    if frame.height == 0:
        raise NoRowsError(f"{name}: there are no rows.", "Give a table with a row for each time.")
    return Table(frame.lazy(), dict(frame.schema), frame.height, name, "path", {"kind": "parquet"}, 0, Ledger())


def _text_table(raw: bytes, name: str, decimal: Decimal | None) -> Table:
    text = read_text(raw, name, decimal)
    ledger = Ledger()
    for repair in text.repairs:
        ledger.repair(*repair)
    frame = text.frame
    return Table(
        frame.lazy(),
        dict(frame.schema),
        frame.height,
        name,
        "path",
        text.format,
        text.first_line,
        ledger,
        text.lines,
        decimal=text.decimal,
        marked=text.marked,
    )


# Frames at the border


def _from_pandas(frame: "pandas.DataFrame") -> pl.DataFrame:
    """A polars copy; a named or dated index becomes the first columns."""
    import pandas

    if isinstance(frame.index, pandas.DatetimeIndex | pandas.PeriodIndex) or any(frame.index.names):
        plain = [name or ("ds" if i == 0 else f"level_{i}") for i, name in enumerate(frame.index.names)]
        frame = frame.reset_index(names=plain)
    names = [str(column) for column in frame.columns]
    refuse_repeated_names(names, "<frame>")
    columns = []
    for i, name in enumerate(names):
        column = frame.iloc[:, i]
        zone = None
        if isinstance(column.dtype, pandas.PeriodDtype):
            column = column.dt.to_timestamp()
        elif isinstance(column.dtype, pandas.DatetimeTZDtype):
            zone, column = _zone_name(column.dtype.tz), column.dt.tz_convert(None)
        try:
            values = pl.from_pandas(column.rename(name), nan_to_null=True)
        except (
            ValueError,
            TypeError,
            pl.exceptions.PolarsError,
        ) as error:  # pyarrow's errors are of these kinds
            reason = str(error).splitlines()[0][:160]
            raise DataError(
                f'<frame>: column "{name}" mixes types or has one that is not supported: {reason}',
                f'Give it one type, for example frame["{name}"].astype(str).',
            ) from error
        columns.append(values.dt.replace_time_zone("UTC").dt.convert_time_zone(zone) if zone else values)
    return pl.DataFrame(columns)


def _zone_name(zone: tzinfo) -> str:
    """The IANA name of a zone, also of one that is only an offset."""
    offset = zone.utcoffset(None)
    return fixed_zone(int(offset.total_seconds())) if offset is not None else str(zone)


def to_library(frame: pl.DataFrame, library: Library) -> Any:
    """The frame in the library that the input came in: pandas for pandas, polars for polars and paths."""
    return frame.to_pandas() if library == "pandas" else frame


def require_writable(path: str | Path, *further: str) -> Path:
    """Give `path` if a table, or a file of `further` suffixes, can be written there: a long job asks before it starts.

    Raises UsageError.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (*further, ".csv", *SUFFIXES):
        known = f"Use {', '.join((*further, '.csv'))} or .parquet."
        raise UsageError(f"{path}: {suffix or 'no suffix'} is not a format to write.", known)
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} does not exist.", f"mkdir -p {path.parent}")
    return path


def write(frame: pl.DataFrame, path: str | Path) -> None:
    """Write CSV or Parquet, by the suffix; the path holds the old file or the whole new one.

    Raises UsageError for another suffix, a missing folder, or a place that cannot be written.
    """
    path = require_writable(path)
    with replacing(path) as file:
        if path.suffix.lower() == ".csv":
            _written_times(frame).write_csv(file)
        else:
            frame.write_parquet(file)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Give a file to write that takes the place of `path` once it is whole and on disk.

    Raises UsageError for a place that cannot be written.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with part.open("xb") as file:
            yield file
            _to_disk(file)
        os.replace(part, path)
    except (OSError, pl.exceptions.PolarsError) as error:  # polars wraps what the system says
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: {reason}.", "Choose another place for the output.") from error
    finally:
        part.unlink(missing_ok=True)


def _to_disk(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _written_times(frame: pl.DataFrame) -> pl.DataFrame:
    """Times as ISO text without idle fractions: polars would write six zeros after every second."""
    texts = []
    for column in frame.get_columns():
        if isinstance(column.dtype, pl.Datetime):
            whole = (column.dt.nanosecond().fill_null(0) == 0).all()
            zone = "%:z" if column.dtype.time_zone else ""
            texts.append(column.dt.strftime(f"%Y-%m-%d %H:%M:%S{'' if whole else '%.f'}{zone}"))
    return frame.with_columns(texts)
