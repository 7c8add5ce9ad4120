"""CSV text of any delimiter, encoding and decimal mark, read as columns of numbers, truth values and text.

polars splits the lines and converts the columns. A column becomes numbers only if every value is a number or
a missing mark, so that one bad cell deep in a file stays visible, with its line, instead of becoming a gap.
"""

import gzip
import zlib
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from ..errors import DataError

MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "<NA>", "NaT")
TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
DELIMITERS = (",", ";", "\t", "|")
SAMPLE = 200  # values looked at before a whole column is converted


class TextTable(NamedTuple):
    """The columns of a text file, and what is needed to speak of its lines."""

    frame: pl.DataFrame
    format: dict[str, Any]  # delimiter, encoding, decimal, thousands, header_row
    first_line: int  # line of the first row
    lines: np.ndarray | None  # (R,) line of each row where blank rows were left out
    repairs: list[tuple[str, int, str, str]]  # kind, count, first, detail


def read_text(raw: bytes, name: str) -> TextTable:
    """The columns of CSV text of any usual delimiter and encoding, gzip or not; `name` is for messages.

    Numbers and truth values become typed columns, all else stays text. Raises DataError.
    """
    data, encoding = _decoded(_unpacked(raw, name), name)
    # Only what has blank ends is copied.
    begun = data.lstrip(b"\r\n ") if data[:1] in b"\r\n " else data
    header_row = data[: len(data) - len(begun)].count(b"\n")
    body = begun.rstrip(b"\r\n ") if begun[-2:].strip(b"\r\n ") == b"" else begun
    if not body:
        raise DataError(f"{name}: the file is empty.", "Give a table with a header line and rows.")
    head = body[: 1 << 16].decode("utf-8", errors="replace").split("\n")[:50]
    delimiter = _delimiter(head)
    headless = all(_is_number(cell) for cell in head[0].split(delimiter))
    try:
        text = pl.read_csv(body, separator=delimiter, has_header=not headless, infer_schema=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise _unreadable(body, delimiter, name, header_row, error) from error
    if headless:
        text = text.rename({column: str(i) for i, column in enumerate(text.columns)})
    first_line = header_row + (1 if headless else 2)
    if text.height == 0:
        raise DataError(f"{name}: there is a header but no row.", "Give a table with a row for each time.")
    if not headless:
        refuse_repeated_names([cell.strip() for cell in _cells(head[0], delimiter)], name)
        plain = [" ".join(column.split("\n")).strip() or column for column in text.columns]
        refuse_repeated_names(plain, name)
        text.columns = plain
    _refuse_short_rows(text, body, delimiter, name, header_row)
    lines = _lines(text, first_line) if b'"' in body else None
    repairs = []
    if encoding != "utf-8":
        repairs.append(("encoding", 1, "line 1", f"read as {encoding}"))
    if text.width > 1 and text.to_series(0).null_count():
        blank = text.select(pl.all_horizontal(pl.all().is_null())).to_series()
    else:
        blank = pl.Series([False])
    if blank.any():
        every = np.arange(text.height) + first_line if lines is None else lines
        lines = every[~blank.to_numpy()]
        first = f"line {every[int(blank.arg_max() or 0)]}"
        repairs.append(("footer-dropped", int(blank.sum()), first, "blank rows were left out"))
        text = text.filter(~blank)
        if text.height == 0:
            raise DataError(f"{name}: every row is blank.", "Give a table with a row for each time.")
    typed, decimals = [], set()
    for column in text.get_columns():
        values, decimal = _typed(column, comma=delimiter == ";")
        typed.append(values)
        decimals.add(decimal)
    frame = pl.DataFrame(typed)
    form = {
        "delimiter": delimiter,
        "encoding": encoding,
        "decimal": "," if "," in decimals else ".",
        "thousands": None,
        "header_row": None if headless else header_row,
    }
    return TextTable(frame, form, first_line, lines, repairs)


def _lines(text: pl.DataFrame, first_line: int) -> np.ndarray | None:
    """The line on which each row begins, where quoted fields hold line breaks."""
    breaks = text.select(pl.sum_horizontal(pl.all().str.count_matches("\n", literal=True))).to_series()
    if not (breaks > 0).any():
        return None
    starts: np.ndarray = first_line + np.arange(text.height) + breaks.cum_sum().to_numpy() - breaks.to_numpy()
    return starts


def _unpacked(raw: bytes, name: str) -> bytes:
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: the gzip file is damaged ({error}).", "Fetch or write the file again.") from error


def _decoded(raw: bytes, name: str) -> tuple[bytes, str]:
    """UTF-8 bytes with lines that end in a line feed, and the encoding they came in."""
    encoding = "utf-8"
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif b"\x00" in raw:
        raise DataError(f"{name}: this is not text.", "Give CSV, or Parquet with the suffix .parquet.")
    elif not raw.isascii():
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError:
            # Five bytes have no meaning in Windows-1252; Latin-1, its subset elsewhere, reads any byte.
            encoding = "latin-1" if any(byte in raw for byte in b"\x81\x8d\x8f\x90\x9d") else "windows-1252"
    if encoding != "utf-8":
        try:
            raw = raw.decode(encoding).encode("utf-8")
        except UnicodeDecodeError as error:
            message = f"{name}: byte {error.start} is not {encoding.upper()}."
            raise DataError(message, "Save the file as UTF-8.") from error
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    if b"\r" in raw[: 1 << 16] and b"\n" not in raw:
        raw = raw.replace(b"\r", b"\n")
    return raw, encoding


def _cells(line: str, delimiter: str) -> list[str]:
    """The fields of one line; a delimiter within quotes separates nothing."""
    pieces = line.split('"')
    pieces[::2] = [piece.replace(delimiter, "\x1f") for piece in pieces[::2]]
    return "".join(pieces).split("\x1f")


def _delimiter(head: list[str]) -> str:
    """The mark that splits most of the first lines as it splits the header; a comma where none does."""
    lines = [line for line in head if line.strip()]

    def fit(mark: str) -> tuple[bool, float, int]:
        widths = [len(_cells(line, mark)) for line in lines]
        return widths[0] > 1, sum(w == widths[0] for w in widths) / len(widths), widths[0]

    return max(DELIMITERS, key=fit)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def refuse_repeated_names(names: list[str], name: str) -> None:
    repeated, times = Counter(filter(None, names)).most_common(1)[0] if any(names) else ("", 1)
    if times > 1:
        raise DataError(f'{name}: two columns are named "{repeated}".', "Give each column a name of its own.")


def _widths(body: bytes, delimiter: str) -> pl.Series:
    """Fields of every line of the file, counted outside of quotes."""
    lines = pl.Series(body.decode("utf-8").removesuffix("\n").split("\n"))
    if b'"' in body:
        lines = lines.str.replace_all(r'"[^"]*"', "")
    return lines.str.count_matches(delimiter, literal=True) + 1


def _unreadable(body: bytes, delimiter: str, name: str, header_row: int, error: BaseException) -> DataError:
    """What makes polars refuse a text: most often a line that is too wide, or a quote never closed."""
    widths = _widths(body, delimiter)
    wide = (widths > widths[0]).arg_max() if (widths > widths[0]).any() else None
    if wide is not None:
        return DataError(
            f"{name}, line {wide + 1 + header_row}: {widths[wide]} fields where the header has {widths[0]}.",
            f"Delimiter read as {delimiter!r}. Quote a field that contains it, or name every column.",
        )
    if body.count(b'"') % 2:
        lines = pl.Series(body.decode("utf-8").split("\n"))
        odd = (lines.str.count_matches('"', literal=True) % 2 == 1).arg_max() or 0
        return DataError(f"{name}, line {odd + 1 + header_row}: a quote is never closed.", "Close or remove the quote.")
    reason = str(error).strip().splitlines()[0][:200]
    return DataError(f"{name}: cannot be read as CSV: {reason}", "Give CSV with a header line, or Parquet.")


def _refuse_short_rows(text: pl.DataFrame, body: bytes, delimiter: str, name: str, header_row: int) -> None:
    """Raise for a line that ends early: polars would take its absent fields for missing values."""
    if text.width == 1 or text.to_series(-1).null_count() == 0:
        return
    widths = _widths(body, delimiter)
    if len(widths) != text.height + (widths[0] == text.width):
        return  # fields with line breaks: lines and rows do not match
    empty = pl.Series(body.removesuffix(b"\n").split(b"\n")).bin.size() <= 1  # one byte: a carriage return
    short = (widths < text.width) & ~empty
    if short.any():
        line = int(short.arg_max() or 0)
        raise DataError(
            f"{name}, line {line + 1 + header_row}: {widths[line]} fields where the header has {text.width}.",
            "Complete the line, or remove it.",
        )


def _typed(text: pl.Series, *, comma: bool) -> tuple[pl.Series, str | None]:
    """A text column as numbers or truth values if all of it is, otherwise as given; and its decimal mark."""
    sample = text.drop_nulls().head(SAMPLE)
    sample = sample.filter(~sample.is_in(MISSING))
    if len(sample) and sample.is_in(list(TRUTH)).all() and text.drop_nulls().is_in([*TRUTH, *MISSING]).all():
        return text.replace_strict(TRUTH, default=None, return_dtype=pl.Boolean), None
    for decimal in (".", ",") if comma else (".",):
        sampled = as_numbers(sample, decimal)
        if sampled is None:
            continue
        # Fractions in the sample: the column holds no integers, so it need not be tried.
        numbers = as_numbers(text, decimal, fractions=len(sample) > 0 and sampled.dtype == pl.Float64)
        if numbers is not None:
            return numbers, decimal if numbers.dtype == pl.Float64 else None
    return text, None


def as_numbers(text: pl.Series, decimal: str = ".", *, fractions: bool = False) -> pl.Series | None:
    """Integers or floats if every value is one or a missing mark; None otherwise.

    Digits with a leading zero, as in "007", are a code and stay text. `fractions`: known not to be integers.
    """
    if not fractions:
        integers = text.cast(pl.Int64, strict=False)
        if integers.null_count() == text.null_count() and len(integers) > text.null_count():
            return None if text.str.contains(r"^\s*[+-]?0\d").any() else integers
    numbers = loose_numbers(text, decimal)
    unread = numbers.is_null() & text.is_not_null()
    if not unread.any():
        return numbers
    if not text.filter(unread).str.strip_chars().is_in(MISSING).all():
        return None
    if fractions or numbers.null_count() == len(numbers):
        return numbers
    whole = text.set(unread, None).str.strip_chars()
    if whole.cast(pl.Int64, strict=False).null_count() == whole.null_count():
        return as_numbers(whole, decimal)
    return numbers


def loose_numbers(text: pl.Series, decimal: str = ".") -> pl.Series:
    """Float64 where a value reads as a number, null elsewhere."""
    if decimal == ",":
        text = text.str.replace(",", ".", literal=True)
    numbers = text.cast(pl.Float64, strict=False)
    if numbers.null_count() > text.null_count():
        numbers = text.str.strip_chars().cast(pl.Float64, strict=False)
    return numbers.fill_nan(None)
