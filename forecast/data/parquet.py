"""Parquet in one file or in parts, scanned lazily; whatever polars does on damaged bytes becomes a DataError."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import polars as pl

from ..errors import DataError

SUFFIXES = (".parquet", ".pq")
MAGIC = b"PAR1"
T = TypeVar("T")


def scan_parts(parts: Sequence[Path], name: str) -> tuple[pl.LazyFrame, Mapping[str, pl.DataType], int]:
    """A lazy frame over all parts, in the column order of the first, its schema, and its rows.

    Raises DataError for damage, and for a part whose columns differ from those of the first.
    """
    scans = [_guarded_scan(part, name if len(parts) == 1 else str(part)) for part in parts]
    first, schema = scans[0]
    same = True
    for (_, other), part in zip(scans[1:], parts[1:], strict=True):
        if other != schema:
            _refuse_other_columns(schema, other, parts[0], part)
        same = same and list(other) == list(schema)
    if not same:
        data = pl.concat([scan.select(*schema) for scan, _ in scans])
    else:
        data = first if len(parts) == 1 else pl.scan_parquet(list(parts), glob=False)
    return data, schema, guarded(lambda: int(data.select(pl.len()).collect().item()), name)


def guarded(action: Callable[[], T], origin: str, *, bytes_read: bool = True) -> T:
    """The result of a polars call; whatever polars throws at damaged input becomes a DataError.

    `bytes_read`: the call reads a file, so that polars may panic, which it also tells on standard error.
    """
    try:
        with _without_panics() if bytes_read else contextlib.nullcontext():
            return action()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, MemoryError, OverflowError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise DataError(f"{origin}: cannot be read: {reason}", "The file may be damaged: write it again.") from error


def _guarded_scan(part: Path, name: str) -> tuple[pl.LazyFrame, dict[str, pl.DataType]]:
    scan = guarded(lambda: pl.scan_parquet(part, glob=False), name)
    return scan, dict(guarded(scan.collect_schema, name))


def _refuse_other_columns(
    schema: Mapping[str, pl.DataType], other: Mapping[str, pl.DataType], first: Path, part: Path
) -> None:
    hint = "Write all parts with the same columns, or give the parts that belong together."
    for name in schema:
        if name not in other:
            raise DataError(f'{part}: the part has no column "{name}", which {first.name} has.', hint)
        if other[name] != schema[name]:
            raise DataError(
                f'{part}: column "{name}" holds {other[name]}, in {first.name} it holds {schema[name]}.', hint
            )
    new = next((name for name in other if name not in schema), None)
    if new is not None:
        raise DataError(f'{part}: the part has a column "{new}", which {first.name} has not.', hint)


@contextlib.contextmanager
def _without_panics() -> Iterator[None]:
    """Keep what polars prints on a panic from standard error, where an error has two lines; pass on all else."""
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (OSError, AttributeError, ValueError):  # there is no standard error
        yield
        return
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            said.seek(0)
            lines = said.read()
            if lines and b"panicked at" not in lines:
                os.write(2, lines)
